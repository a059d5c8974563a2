//! Every metric of the table is printed, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::health::Status;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::Promise;
use sengu_core::time::{Time, Wall};

use super::*;
use crate::board::Seen;
use crate::clock;
use crate::http::testing::Rig;
use crate::probe::{CheckReport, Of};

#[test]
fn the_page_is_current() {
    crate::cli::bless::check("docs/metrics.md", &page::markdown());
}

/// Every counter has counted something, so that its family is printed.
fn count_everything() {
    let (metrics, took) = (get(), Duration::from_millis(3));
    metrics.events.get_or_create(&[("kind", "said")]).inc();
    metrics.commanded("promote", true, took);
    metrics.hooked("before-failover", "done", took);
    metrics.rendered("/etc/hosts", "same", took);
    metrics.resolved("udp", "noerror", took);
    metrics.served("GET", "/metrics", 200, Some(took));
    metrics.stored("done", took);
    metrics.probed("passing");
    metrics.audit.get_or_create(&[("via", "socket")]).inc();
    let service = ServiceName::new("foo").expect("good");
    metrics.moved(&service, &crate::cli::failover_fixture());
}

#[tokio::test]
async fn the_table_has_every_metric_and_no_other() {
    count_everything();
    let rig = Rig::new();
    rig.with_service(Promise::Fence { lease_ms: 6000 }).await;
    let catalog = rig.context.view.catalog().expect("a catalog");
    let check = CheckReport {
        name: "redis-master".into(),
        service: ServiceName::new("foo-redis").expect("good"),
        instance: InstanceName::new("cache1").expect("good"),
        status: Status::Passing,
        output: String::new(),
        since: Wall(1),
        age_ms: None,
        probes: vec![],
        of: Of::Each,
        named: false,
    };
    let id = sengu_core::name::InstanceId {
        service: check.service.clone(),
        instance: check.instance.clone(),
    };
    rig.context.board.put(id, looked(Duration::from_secs(1)));
    let scene = state::Scene {
        catalog: Some(catalog),
        board: Arc::clone(&rig.context.board),
        checks: vec![check],
        host: "db1".into(),
        lease: Duration::from_secs(6),
    };
    let text = text(&state::registry(&scene, clock::now()));
    let printed: BTreeSet<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let known: BTreeSet<(&str, &str)> =
        page::TABLE.iter().map(|row| (row.name, row.kind)).collect();
    assert_eq!(printed, known);
    for row in page::TABLE {
        for label in row.labels {
            let labelled = text.lines().filter(|line| line.starts_with(row.name));
            let has = |line: &str| line.contains(&format!("{label}=\""));
            assert!(labelled.clone().any(has), "{} has no label {label}:\n{text}", row.name);
        }
    }
}

fn looked(silent: Duration) -> Seen {
    use sengu_core::observation::{Answer, InstanceState, Observation, Process, Role, Settings};
    use sengu_core::position::{Position, RedisPosition};
    let position = Position::Redis(RedisPosition { id: "a".into(), offset: 1, second: None });
    let state = InstanceState {
        role: Role::Replica,
        writable: false,
        source: None,
        link_up: true,
        syncing: false,
        never_synced: false,
        received: position.clone(),
        applied: position,
        trouble: None,
        filtered: false,
        denied: false,
        applier_stopped: false,
        semi_sync: None,
        obstacles: Vec::new(),
        silent_for: Some(silent),
        priority: 100,
        version: "7".into(),
        settings: Settings::default(),
    };
    let observation =
        Observation { boot_id: None, answer: Answer::State(state), process: Process::Sleeping };
    Seen { sent: Time(1), observation }
}
