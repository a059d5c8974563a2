//! What is counted and measured, for `/metrics`.
//!
//! Counters and histograms live for as long as the process and are written where things happen,
//! through [`get`]; what can be read off the newest picture (roles, terms, ages) is made when it
//! is asked for (`state.rs`), so that it is never older than the answer. Every name stands in
//! [`page::TABLE`], from which `docs/metrics.md` is printed; a metric that is not there cannot be
//! registered. Labels are few and bounded: no key, no path of a client, no address.

pub mod page;
pub mod state;

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use sengu_core::name::ServiceName;
use sengu_core::record::{Cause, HistoryRecord};

/// Labels whose values are known beforehand.
pub type Fixed<const N: usize> = [(&'static str, &'static str); N];
/// Labels with names that an operator gave.
pub type Open<const N: usize> = [(&'static str, String); N];
/// A gauge of fractions.
pub type Number = Gauge<f64, AtomicU64>;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Upper ends of buckets, in seconds: from what memory takes to what people wait for.
const BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Events kept in the journal, by kind.
    pub events: Family<Fixed<1>, Counter>,
    /// Readers of the event stream now.
    pub event_readers: Gauge,
    /// Times that the loop was late.
    pub stalls: Counter,
    /// Times that the wall clock jumped.
    pub clock_jumps: Counter,
    commands: Histograms<Fixed<2>>,
    hooks: Histograms<Fixed<2>>,
    moves: Family<Open<2>, Counter>,
    move_steps: Histograms<Open<1>>,
    closed: Histograms<Open<1>>,
    renders: Family<Open<2>, Counter>,
    render_seconds: Histograms<Open<1>>,
    dns: Family<Fixed<2>, Counter>,
    dns_seconds: Histogram,
    /// Questions that went beyond a bound of the DNS server.
    pub dns_limited: Family<Fixed<1>, Counter>,
    http: Family<Open<3>, Counter>,
    http_seconds: Histograms<Open<2>>,
    /// Blocking reads that wait now.
    pub http_waiting: Gauge,
    /// Open connections of the HTTP server.
    pub http_connections: Gauge,
    /// What the HTTP server refused, by its reason.
    pub http_refused: Family<Fixed<1>, Counter>,
    /// Connections that the HTTP server cut off, by what was too slow.
    pub http_cut: Family<Fixed<1>, Counter>,
    /// Until when its certificate is valid, in seconds since 1970.
    pub http_certificate_until: Gauge,
    store: Histograms<Fixed<1>>,
    probes: Family<Fixed<1>, Counter>,
    /// Lines of the audit, by where they came from.
    pub audit: Family<Fixed<1>, Counter>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Registers a metric with the words of the table.
///
/// # Panics
/// If the table does not have it: what is not documented is not counted.
pub(crate) fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, metric: &M) {
    let row = page::TABLE.iter().find(|row| row.name == name);
    let row = row.unwrap_or_else(|| panic!("the metric {name} stands in the table"));
    registry.register(name, row.meaning.trim_end_matches('.'), metric.clone());
}

impl Metrics {
    fn new() -> Self {
        let measured = histogram as fn() -> Histogram;
        let mut metrics = Self {
            registry: Registry::default(),
            events: Family::default(),
            event_readers: Gauge::default(),
            stalls: Counter::default(),
            clock_jumps: Counter::default(),
            commands: Family::new_with_constructor(measured),
            hooks: Family::new_with_constructor(measured),
            moves: Family::default(),
            move_steps: Family::new_with_constructor(measured),
            closed: Family::new_with_constructor(measured),
            renders: Family::default(),
            render_seconds: Family::new_with_constructor(measured),
            dns: Family::default(),
            dns_seconds: histogram(),
            dns_limited: Family::default(),
            http: Family::default(),
            http_seconds: Family::new_with_constructor(measured),
            http_waiting: Gauge::default(),
            http_connections: Gauge::default(),
            http_refused: Family::default(),
            http_cut: Family::default(),
            http_certificate_until: Gauge::default(),
            store: Family::new_with_constructor(measured),
            probes: Family::default(),
            audit: Family::default(),
        };
        let mut registry = Registry::default();
        register(&mut registry, "sengu_events", &metrics.events);
        register(&mut registry, "sengu_event_readers", &metrics.event_readers);
        register(&mut registry, "sengu_loop_stalls", &metrics.stalls);
        register(&mut registry, "sengu_clock_jumps", &metrics.clock_jumps);
        register(&mut registry, "sengu_command_seconds", &metrics.commands);
        register(&mut registry, "sengu_hook_seconds", &metrics.hooks);
        register(&mut registry, "sengu_moves", &metrics.moves);
        register(&mut registry, "sengu_move_step_seconds", &metrics.move_steps);
        register(&mut registry, "sengu_write_closed_seconds", &metrics.closed);
        register(&mut registry, "sengu_renders", &metrics.renders);
        register(&mut registry, "sengu_render_seconds", &metrics.render_seconds);
        register(&mut registry, "sengu_dns_requests", &metrics.dns);
        register(&mut registry, "sengu_dns_request_seconds", &metrics.dns_seconds);
        register(&mut registry, "sengu_dns_limited", &metrics.dns_limited);
        register(&mut registry, "sengu_http_requests", &metrics.http);
        register(&mut registry, "sengu_http_request_seconds", &metrics.http_seconds);
        register(&mut registry, "sengu_http_waiting", &metrics.http_waiting);
        register(&mut registry, "sengu_http_connections", &metrics.http_connections);
        register(&mut registry, "sengu_http_refused", &metrics.http_refused);
        register(&mut registry, "sengu_http_cut", &metrics.http_cut);
        let until = &metrics.http_certificate_until;
        register(&mut registry, "sengu_http_certificate_until_seconds", until);
        register(&mut registry, "sengu_store_write_seconds", &metrics.store);
        register(&mut registry, "sengu_probes", &metrics.probes);
        register(&mut registry, "sengu_audit_lines", &metrics.audit);
        metrics.registry = registry;
        metrics
    }

    /// A command to a database ended.
    pub fn commanded(&self, word: &str, good: bool, took: Duration) {
        let words = ["fence", "detach", "promote", "follow", "pause", "unpause", "read"];
        let word = words.into_iter().find(|known| *known == word).unwrap_or("other");
        let outcome = if good { "done" } else { "failed" };
        let labels = [("command", word), ("outcome", outcome)];
        self.commands.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The hooks of a phase ended.
    pub fn hooked(&self, phase: &'static str, outcome: &'static str, took: Duration) {
        let labels = [("phase", phase), ("outcome", outcome)];
        self.hooks.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A new master serves.
    pub fn moved(&self, service: &ServiceName, record: &HistoryRecord) {
        let labels = [("service", service.to_string()), ("cause", cause(&record.cause).to_owned())];
        self.moves.get_or_create(&labels).inc();
        let seconds = |millis: i64| {
            Duration::from_millis(u64::try_from(millis).unwrap_or_default()).as_secs_f64()
        };
        for pair in record.steps.windows(2) {
            // Steps have names of the code, a handful in all.
            let labels = [("step", pair[1].name.chars().take(32).collect())];
            let took = seconds(pair[1].at.0 - pair[0].at.0);
            self.move_steps.get_or_create(&labels).observe(took);
        }
        if let (Some(_), Some(first), Some(last)) =
            (&record.from, record.steps.first(), record.steps.last())
        {
            let labels = [("service", service.to_string())];
            self.closed.get_or_create(&labels).observe(seconds(last.at.0 - first.at.0));
        }
    }

    /// A template was rendered, or not.
    pub fn rendered(&self, file: &str, outcome: &str, took: Duration) {
        let labels = [("file", file.to_owned()), ("outcome", outcome.to_owned())];
        self.renders.get_or_create(&labels).inc();
        let labels = [("file", file.to_owned())];
        self.render_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A DNS question was answered.
    pub fn resolved(&self, protocol: &'static str, code: &'static str, took: Duration) {
        self.dns.get_or_create(&[("protocol", protocol), ("code", code)]).inc();
        self.dns_seconds.observe(took.as_secs_f64());
    }

    /// An HTTP request was answered; `took` is none for one that waited as it was asked to.
    pub fn served(&self, method: &str, route: &str, code: u16, took: Option<Duration>) {
        let methods = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"];
        let method = methods.into_iter().find(|known| *known == method).unwrap_or("other");
        let (method, route) = (method.to_owned(), route.to_owned());
        if let Some(took) = took {
            let labels = [("method", method.clone()), ("route", route.clone())];
            self.http_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
        let labels = [("method", method), ("route", route), ("code", code.to_string())];
        self.http.get_or_create(&labels).inc();
    }

    /// The store answered a txn, or did not.
    pub fn stored(&self, outcome: &'static str, took: Duration) {
        self.store.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }

    /// A probe of a check ended.
    pub fn probed(&self, status: &'static str) {
        self.probes.get_or_create(&[("status", status)]).inc();
    }

    /// Everything counted, in the OpenMetrics text format, without its end.
    fn encode(&self, text: &mut String) {
        encode_registry(text, &self.registry).expect("writing to a string does not fail");
    }
}

/// The one set of this process.
#[must_use]
pub fn get() -> &'static Metrics {
    static ONE: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &ONE
}

/// The kind of the format, as HTTP tells it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All of it: what was counted, and the state as it is now.
#[must_use]
pub fn text(state: &Registry) -> String {
    let mut text = String::new();
    get().encode(&mut text);
    encode_registry(&mut text, state).expect("writing to a string does not fail");
    encode_eof(&mut text).expect("writing to a string does not fail");
    text
}

fn cause(cause: &Cause) -> &'static str {
    match cause {
        Cause::Adopted => "adopted",
        Cause::ProcessExited => "process-exited",
        Cause::Hung => "hung",
        Cause::Lapsed => "lapsed",
        Cause::NotWritable => "not-writable",
        Cause::Switchover => "switchover",
        Cause::Requested => "requested",
        Cause::HandOverFailed => "hand-over-failed",
        Cause::SwitchoverUndone(_) => "switchover-undone",
        Cause::PromotionFailed(_) => "promotion-failed",
        Cause::Reopened => "reopened",
        Cause::Announced => "announced",
        Cause::Told => "told",
        Cause::Seen => "seen",
        Cause::Unanswered => "unanswered",
        Cause::GivenUp => "given-up",
        Cause::TwoWritable => "two-writable",
    }
}

#[cfg(test)]
mod tests;
