//! The table of metrics: every name, its labels and its meaning. `docs/metrics.md` is printed from
//! it, and registering looks a name up here.

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, without the endings that its kind brings (`_total`, `_bucket`, …).
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells; units included.
    pub meaning: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Row {
    Row { name, kind: "counter", labels, meaning }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Row {
    Row { name, kind: "gauge", labels, meaning }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Row {
    Row { name, kind: "histogram", labels, meaning }
}

/// All of them, as they are shown.
pub const TABLE: &[Row] = &[
    gauge("sengu_build", &["version", "host"], "Always 1."),
    gauge("sengu_service_term", &["service"], "The term of the service; 0 before the first."),
    gauge("sengu_service_state", &["service", "state"], "1 for the state of the master record."),
    gauge("sengu_service_named", &["service"], "1 while this host names a master."),
    gauge(
        "sengu_service_since_seconds",
        &["service"],
        "How long the state has stood, by the wall clock.",
    ),
    gauge("sengu_service_replicas", &["service"], "Copies under the `replica` names."),
    gauge(
        "sengu_service_beat_age_seconds",
        &["service"],
        "Age of the last beat that keeps the term; only where the holder promised to beat.",
    ),
    gauge(
        "sengu_service_requests",
        &["service"],
        "Requests that have not ended, pauses and drains.",
    ),
    gauge("sengu_instance_role", &["service", "instance", "role"], "1 for the role that it told."),
    gauge("sengu_instance_writable", &["service", "instance"], "1 while it takes writes."),
    gauge("sengu_instance_up", &["service", "instance"], "1 while it answers with its state."),
    gauge(
        "sengu_instance_link_up",
        &["service", "instance"],
        "1 while it is in step with its source.",
    ),
    gauge("sengu_instance_syncing", &["service", "instance"], "1 while a full copy onto it runs."),
    gauge(
        "sengu_instance_silent_seconds",
        &["service", "instance"],
        "How long a replica on this host had not heard its source, at the last look.",
    ),
    gauge(
        "sengu_instance_look_age_seconds",
        &["service", "instance"],
        "Age of the last look at an instance on this host.",
    ),
    gauge("sengu_catalog_revision", &[], "The store's revision that this agent shows."),
    gauge(
        "sengu_catalog_age_seconds",
        &[],
        "How long ago the store's last answer was asked for; beyond the lease no master is named.",
    ),
    gauge("sengu_catalog_fresh", &[], "1 while masters may be named."),
    gauge("sengu_catalog_records", &["kind"], "Records by kind."),
    gauge(
        "sengu_check_status",
        &["check", "service", "instance"],
        "0 passing, 1 warning, 2 critical, 3 unknown.",
    ),
    gauge("sengu_process_resident_bytes", &[], "Memory of the agent."),
    gauge("sengu_process_cpu_seconds", &[], "Processor time of the agent since its start."),
    gauge("sengu_process_open_files", &[], "Open file descriptors of the agent."),
    counter(
        "sengu_moves",
        &["service", "cause"],
        "Terms that came to serve, as this agent saw it.",
    ),
    histogram("sengu_move_step_seconds", &["step"], "How long each step of a move took."),
    histogram(
        "sengu_write_closed_seconds",
        &["service"],
        "From the first sign of a move until the new master served.",
    ),
    histogram(
        "sengu_command_seconds",
        &["command", "outcome"],
        "Commands to databases on this host.",
    ),
    histogram("sengu_hook_seconds", &["phase", "outcome"], "Hooks of a phase, all together."),
    counter("sengu_renders", &["file", "outcome"], "Renders: `same`, `written` or `failed`."),
    histogram("sengu_render_seconds", &["file"], "One render, its validation and swap included."),
    counter("sengu_dns_requests", &["protocol", "code"], "Answers of the DNS server."),
    histogram("sengu_dns_request_seconds", &[], "From a question to its answer."),
    counter(
        "sengu_dns_limited",
        &["what"],
        "Beyond a bound: questions over UDP `sent-to-tcp` or `dropped`, connections over `tcp`.",
    ),
    counter(
        "sengu_http_requests",
        &["method", "route", "code"],
        "Answers of the HTTP server and the socket; `route` is the pattern, not the path.",
    ),
    histogram(
        "sengu_http_request_seconds",
        &["method", "route"],
        "From a request to its answer; reads that were asked to wait are left out.",
    ),
    gauge("sengu_http_waiting", &[], "Blocking reads that wait now."),
    gauge("sengu_http_connections", &[], "Open connections, those of the socket included."),
    counter(
        "sengu_http_refused",
        &["reason"],
        "Refused by the server itself: `connections`, `address` (its connections), `rate`, \
         `waiting`, `streams`; `token` (none, or unknown), `scope`; `tls` (a handshake failed).",
    ),
    counter(
        "sengu_http_cut",
        &["reason"],
        "Clients that were too slow: `header`, `body`, `stall` (took nothing of an answer), \
         `idle`, `tls`.",
    ),
    gauge(
        "sengu_http_certificate_until_seconds",
        &[],
        "Until when its certificate is valid, in seconds since 1970; 0 without TLS.",
    ),
    histogram(
        "sengu_store_write_seconds",
        &["outcome"],
        "Txns of this agent: `done`, `compared` (a condition did not hold), `refused`, `unknown`.",
    ),
    counter("sengu_probes", &["status"], "Ended looks of checks."),
    counter("sengu_events", &["kind"], "Events kept for `/v1/sengu/events`."),
    gauge("sengu_event_readers", &[], "Readers of the event stream now."),
    counter("sengu_audit_lines", &["via"], "Lines written to the audit."),
    counter("sengu_loop_stalls", &[], "Times that the agent was stopped or starved."),
    counter("sengu_clock_jumps", &[], "Times that the wall clock jumped."),
];

/// `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Printed from `src/metrics/page.rs`; a test compares. -->\n\n\
         `GET /metrics` on the HTTP server answers in the OpenMetrics text format, which \
         Prometheus reads.\n\
         Counters end in `_total`, histograms have `_bucket`, `_sum` and `_count`. Times are in \
         seconds.\n\
         Gauges are made when they are asked for and are never older than the answer; counters \
         begin at the agent's start.\n\
         A metric whose labels have no value yet is left out.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for row in TABLE {
        let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let ending = if row.kind == "counter" { "_total" } else { "" };
        text += &format!(
            "| `{}{ending}` | {} | {} | {} |\n",
            row.name,
            row.kind,
            labels.join(", "),
            row.meaning
        );
    }
    text += "\n## Alerts worth having\n\n\
             | expression | meaning |\n|---|---|\n\
             | `sengu_service_named == 0` for 1m | nobody is named as master |\n\
             | `sengu_catalog_fresh == 0` for 30s | the store does not answer |\n\
             | `sengu_check_status >= 2` for 1m | a check is critical or unknown |\n\
             | `increase(sengu_moves_total{cause!=\"switchover\",cause!=\"adopted\"}[1h]) > 0` | a \
             failover happened |\n\
             | `increase(sengu_renders_total{outcome=\"failed\"}[10m]) > 0` | a file is not as the \
             catalog is |\n\
             | `increase(sengu_loop_stalls_total[10m]) > 0` | the host starves the agent |\n";
    text
}
