//! What the newest picture shows, as gauges: made when they are asked for, and thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sengu_core::catalog::{Catalog, Named, ServiceView};
use sengu_core::health::Status;
use sengu_core::name::{InstanceId, InstanceName, ServiceName};
use sengu_core::record::{Health, InstanceRecord};
use sengu_core::time::Now;

use super::{Number, Open, register};
use crate::board::Board;
use crate::probe::CheckReport;

/// What the gauges are made of.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The newest catalog, if anything was ever read.
    pub catalog: Option<Arc<Catalog>>,
    /// The last looks.
    pub board: Arc<Board>,
    /// Every check with its last result.
    pub checks: Vec<CheckReport>,
    /// This host.
    pub host: String,
    /// How long an answer of the store counts.
    pub lease: std::time::Duration,
}

/// The gauges under construction.
#[derive(Default)]
struct Gauges {
    plain: BTreeMap<&'static str, f64>,
    one: BTreeMap<&'static str, Family<Open<1>, Number>>,
    two: BTreeMap<&'static str, Family<Open<2>, Number>>,
    three: BTreeMap<&'static str, Family<Open<3>, Number>>,
}

impl Gauges {
    fn service(&mut self, name: &'static str, service: &ServiceName, value: f64) {
        let labels = [("service", service.to_string())];
        self.one.entry(name).or_default().get_or_create(&labels).set(value);
    }

    fn instance(
        &mut self,
        name: &'static str,
        (service, instance): (&ServiceName, &InstanceName),
        value: f64,
    ) {
        let labels = [("service", service.to_string()), ("instance", instance.to_string())];
        self.two.entry(name).or_default().get_or_create(&labels).set(value);
    }

    fn registry(self) -> Registry {
        let mut registry = Registry::default();
        for (name, value) in self.plain {
            let gauge = Number::default();
            gauge.set(value);
            register(&mut registry, name, &gauge);
        }
        self.one.iter().for_each(|(name, family)| register(&mut registry, name, family));
        self.two.iter().for_each(|(name, family)| register(&mut registry, name, family));
        self.three.iter().for_each(|(name, family)| register(&mut registry, name, family));
        registry
    }
}

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts and ages stay far below 2^52")]
fn number(value: u64) -> f64 {
    value as f64
}

/// The state at this moment.
#[must_use]
pub fn registry(scene: &Scene, now: Now) -> Registry {
    let mut gauges = Gauges::default();
    let labels = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("host", scene.host.clone())];
    gauges.two.entry("sengu_build").or_default().get_or_create(&labels).set(1.0);
    if let Some(catalog) = &scene.catalog {
        whole(&mut gauges, catalog, scene, now);
        for (name, view) in catalog.services() {
            service(&mut gauges, catalog, name, view, now);
            for (instance, at) in &view.instances {
                one(&mut gauges, scene, (name, instance), &at.record, now);
            }
        }
    } else {
        gauges.plain.insert("sengu_catalog_fresh", 0.0);
    }
    for check in &scene.checks {
        let labels = [
            ("check", check.name.clone()),
            ("service", check.service.to_string()),
            ("instance", check.instance.to_string()),
        ];
        let value = match check.status {
            Status::Passing => 0.0,
            Status::Warning => 1.0,
            Status::Critical => 2.0,
            Status::Unknown => 3.0,
        };
        let family = gauges.three.entry("sengu_check_status").or_default();
        family.get_or_create(&labels).set(value);
    }
    process(&mut gauges);
    gauges.registry()
}

fn whole(gauges: &mut Gauges, catalog: &Catalog, scene: &Scene, now: Now) {
    let fresh = now.time < catalog.valid_until;
    gauges.plain.insert("sengu_catalog_revision", number(catalog.revision));
    gauges.plain.insert("sengu_catalog_fresh", truth(fresh));
    let age = now.time.since(catalog.valid_until - scene.lease);
    gauges.plain.insert("sengu_catalog_age_seconds", age.as_secs_f64());
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for entry in catalog.range("") {
        let kind = entry.key.split('/').next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    for (kind, count) in kinds {
        let family = gauges.one.entry("sengu_catalog_records").or_default();
        family.get_or_create(&[("kind", kind)]).set(number(count));
    }
}

fn service(
    gauges: &mut Gauges,
    catalog: &Catalog,
    name: &ServiceName,
    view: &ServiceView,
    now: Now,
) {
    let record = view.master.as_ref().map(|at| &at.record);
    let term = record.map_or(0, |record| record.term.0);
    gauges.service("sengu_service_term", name, number(term));
    let state = record.map_or("not-adopted", |record| record.state.word());
    let labels = [("service", name.to_string()), ("state", state.to_owned())];
    gauges.two.entry("sengu_service_state").or_default().get_or_create(&labels).set(1.0);
    let named = matches!(catalog.master(name, now.time), Named::Master(..));
    gauges.service("sengu_service_named", name, truth(named));
    if let Some(record) = record {
        let since = u64::try_from(now.wall.0.saturating_sub(record.since.0)).unwrap_or_default();
        gauges.service("sengu_service_since_seconds", name, number(since) / 1000.0);
    }
    gauges.service("sengu_service_replicas", name, number(view.replicas().count() as u64));
    if view.kept_until().is_some() {
        let age = now.time.since(view.beat_received).as_secs_f64();
        gauges.service("sengu_service_beat_age_seconds", name, age);
    }
    let open = view.requests.values().filter(|at| !at.record.stand.ended()).count();
    gauges.service("sengu_service_requests", name, number(open as u64));
}

fn one(
    gauges: &mut Gauges,
    scene: &Scene,
    at: (&ServiceName, &InstanceName),
    record: &InstanceRecord,
    now: Now,
) {
    if let Some(role) = record.role {
        let labels = [
            ("service", at.0.to_string()),
            ("instance", at.1.to_string()),
            ("role", role.to_string()),
        ];
        let family = gauges.three.entry("sengu_instance_role").or_default();
        family.get_or_create(&labels).set(1.0);
    }
    gauges.instance("sengu_instance_writable", at, truth(record.writable));
    gauges.instance("sengu_instance_up", at, truth(record.health == Health::Up));
    gauges.instance("sengu_instance_link_up", at, truth(record.link_up));
    gauges.instance("sengu_instance_syncing", at, truth(record.syncing));
    let id = InstanceId { service: at.0.clone(), instance: at.1.clone() };
    let Some(seen) = scene.board.get(&id) else { return };
    let age = now.time.since(seen.sent).as_secs_f64();
    gauges.instance("sengu_instance_look_age_seconds", at, age);
    if let Some(silent) = seen.observation.answer.state().and_then(|state| state.silent_for) {
        gauges.instance("sengu_instance_silent_seconds", at, silent.as_secs_f64());
    }
}

/// This process, by `/proc`; what cannot be read is left out.
fn process(gauges: &mut Gauges) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(kib) = kib {
        gauges.plain.insert("sengu_process_resident_bytes", number(kib * 1024));
    }
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let whole = u64::try_from(spent.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(spent.tv_nsec).unwrap_or_default();
    gauges.plain.insert("sengu_process_cpu_seconds", number(whole) + number(nanos) / 1e9);
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // The one that reads the folder is among them.
        let open = files.count().saturating_sub(1) as u64;
        gauges.plain.insert("sengu_process_open_files", number(open));
    }
}
