//! `/v1/health`, and the answers for balancers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::name::{InstanceId, InstanceName, Term};
use sengu_core::observation::{Answer, InstanceState, Observation, Process, Role, Settings};
use sengu_core::position::{Position, RedisPosition};
use sengu_core::record::{BeatRecord, FORMAT, Health, Lag, MasterState, Promise, Record, key};
use serde_json::{Map, Value, json};

use crate::board::Seen;
use crate::clock;
use crate::http::testing::{Rig, instance, master, service};

fn name(text: &str) -> InstanceName {
    InstanceName::new(text).expect("a name")
}

fn beat(keeps: bool) -> Arc<[u8]> {
    let keeps = if keeps { BTreeMap::from([(service(), Term(7))]) } else { BTreeMap::new() };
    let unknown = Map::new();
    BeatRecord {
        format: FORMAT,
        counter: 1,
        start: "s".to_owned(),
        keeps,
        vetoes: BTreeMap::new(),
        sent: None,
        unknown,
    }
    .encode()
}

fn statuses(rows: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().expect("rows");
    rows.iter().map(|row| (text(&row["CheckID"]), text(&row["Status"]))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, status)| ((*id).to_owned(), (*status).to_owned())).collect()
}

#[tokio::test]
async fn instances_have_checks_with_reasons() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let mut silent = instance("cache2", Role::Replica);
    silent.health = Health::Silent("no answer for 3 s".to_owned());
    rig.put(key::instance(&service(), &name("cache2")), silent.encode()).await;
    let server = rig.server().await;
    let rows = server.get("/v1/health/service/foo-redis").await.json();
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    assert_eq!(
        statuses(&rows[0]["Checks"]),
        pairs(&[("serfHealth", "passing"), ("service:foo-redis-cache1", "passing")])
    );
    assert_eq!(rows[1]["Checks"][1]["Status"], "critical");
    assert_eq!(rows[1]["Checks"][1]["Output"], "no answer for 3 s");
    assert_eq!(rows[1]["Service"]["Tags"], json!([]), "a silent copy is no replica to use");
    let passing = server.get("/v1/health/service/foo-redis?passing=1").await.json();
    assert_eq!(passing.as_array().map(Vec::len), Some(1));
    assert_eq!(passing[0]["Service"]["ID"], "foo-redis-cache1");
    assert_eq!(server.get("/v1/health/service/foo-redis?passing=x").await.status, 400);
    assert_eq!(server.get("/v1/health/service/none").await.json(), json!([]));

    let critical = server.get("/v1/health/state/critical").await.json();
    assert_eq!(statuses(&critical), pairs(&[("service:foo-redis-cache2", "critical")]));
    let any = server.get("/v1/health/state/any").await.json();
    assert_eq!(any.as_array().map(Vec::len), Some(4));
    assert_eq!(server.get("/v1/health/state/odd").await.status, 400);
    let checks = server.get("/v1/health/checks/foo-redis").await.json();
    assert_eq!(checks.as_array().map(Vec::len), Some(2));
    let node = server.get("/v1/health/node/db1").await.json();
    assert_eq!(node[0]["Name"], "Serf Health Status");
    assert_eq!(node[1]["ServiceName"], "foo-redis");
}

#[tokio::test]
async fn registered_checks_count_for_their_service_and_their_node() {
    let rig = Rig::new();
    let server = rig.server().await;
    let body = |service: &str, node: &str| {
        json!({
            "node": "w", "address": "10.0.1.1", "service": {"service": "web"},
            "checks": [
                {"name": "alive", "serviceid": "web", "status": service, "output": "o"},
                {"checkid": "disk", "status": node},
            ],
        })
        .to_string()
    };
    for (service, node, found) in
        [("passing", "passing", 1), ("warning", "passing", 0), ("passing", "critical", 0)]
    {
        let put = server.put("/v1/catalog/register", body(service, node).as_bytes()).await;
        assert_eq!(put.json(), true);
        let rows = server.get("/v1/health/service/web?passing").await.json();
        assert_eq!(rows.as_array().map(Vec::len), Some(found), "{service} {node}");
    }
    let rows = server.get("/v1/health/service/web").await.json();
    assert_eq!(statuses(&rows[0]["Checks"]), pairs(&[("disk", "critical"), ("alive", "passing")]));
    assert_eq!(rows[0]["Checks"][1]["ServiceID"], "web");
    assert_eq!(rows[0]["Checks"][1]["Output"], "o");
}

#[tokio::test]
async fn a_check_on_an_agents_host_bears_on_its_instances() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    let body = |status: &str| {
        json!({"Node": "db1", "Address": "10.0.0.1", "Check": {"Name": "disk", "Status": status}})
            .to_string()
    };
    server.put("/v1/catalog/register", body("passing").as_bytes()).await;
    let first = server.get("/v1/health/service/foo-redis?passing").await;
    assert_eq!(first.json().as_array().map(Vec::len), Some(2));
    let path = format!("/v1/health/service/foo-redis?passing&index={}&wait=30s", first.index());
    let body = body("critical");
    let change = server.put("/v1/catalog/register", body.as_bytes());
    let (woken, _) = tokio::join!(server.get(&path), change);
    assert_eq!(woken.json().as_array().map(Vec::len), Some(1));
    assert!(woken.index() > first.index());
}

#[tokio::test]
async fn a_blocked_reader_sees_the_master_move() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    let first = server.get("/v1/health/service/foo-redis?tag=master").await;
    let path = format!("/v1/health/service/foo-redis?tag=master&index={}&wait=30s", first.index());
    let mut lapsed = master(Promise::None);
    lapsed.state = MasterState::Lapsed;
    let moved = rig.put(key::master(&service()), lapsed.encode());
    let (woken, revision) = tokio::join!(server.get(&path), moved);
    assert_eq!(woken.json(), json!([]));
    assert_eq!(woken.index(), revision);
}

#[tokio::test]
async fn a_lease_that_runs_out_wakes_readers_and_withdraws_everywhere() {
    let rig = Rig::new();
    rig.with_service(Promise::Fence { lease_ms: 1000 }).await;
    let server = rig.server().await;
    rig.put("beats/db1".into(), beat(true)).await;
    let first = server.get("/v1/health/service/foo-redis?tag=master").await;
    assert_eq!(first.json().as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/master/foo-redis").await.status, 200);
    // No record changes: only time passes.
    let path = format!("/v1/health/service/foo-redis?tag=master&index={}&wait=30s", first.index());
    let woken = server.get(&path).await;
    assert_eq!(woken.json(), json!([]));
    assert!(woken.index() >= first.index());
    let master = server.get("/master/foo-redis").await;
    assert_eq!(master.status, 503);
    assert_eq!(master.json()["error"], "no beat of the master's host came for the lease");
    rig.put("beats/db1".into(), beat(true)).await;
    let again = server.get("/v1/health/service/foo-redis?tag=master").await;
    assert!(again.index() >= woken.index(), "an index never goes back");
    assert_eq!(again.json().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_silent_host_fails_its_node_check() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    rig.put("beats/db2".into(), beat(false)).await;
    let now = server.get("/v1/health/node/db2").await.json();
    assert_eq!(now[0]["Status"], "passing");
    let catalog = rig.context.view.catalog().expect("a catalog");
    let later = clock::time() + Duration::from_secs(7);
    let directory =
        sengu_core::consul::directory::Directory::new(&catalog, later, &rig.context.place);
    let rows = serde_json::to_value(directory.health_node("db2").body).expect("JSON");
    assert_eq!(rows[0]["Status"], "critical");
    assert_eq!(rows[0]["Output"], "no beat of this host came for 7 s");
    let own = serde_json::to_value(directory.health_node("db1").body).expect("JSON");
    assert_eq!(own[0]["Status"], "passing");
}

#[tokio::test]
async fn balancers_are_told_the_master() {
    let rig = Rig::new();
    let server = rig.server().await;
    let none = server.get("/master/foo-redis").await;
    assert_eq!(none.status, 503);
    assert!(none.json()["error"].as_str().is_some_and(|error| error.contains("no such service")));
    rig.with_service(Promise::None).await;
    let master = server.get("/master/foo-redis").await;
    assert_eq!(master.status, 200);
    assert_eq!(
        master.json(),
        json!({"service": "foo-redis", "instance": "cache1", "address": "10.0.0.1",
               "port": 6379, "term": 7})
    );
    assert_eq!(server.get("/master/foo-redis?local").await.status, 200);
    rig.valid_until(clock::time());
    let stale = server.get("/master/foo-redis").await;
    assert_eq!(stale.status, 503);
    assert_eq!(stale.json()["error"], "the store has not answered for a lease");
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json()["fresh"]), (200, &json!(false)));
}

#[tokio::test]
async fn the_master_on_another_host_is_not_local() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let mut moved = instance("cache1", Role::Master);
    moved.host = sengu_core::name::HostName::new("db3").expect("a name");
    rig.put(key::instance(&service(), &name("cache1")), moved.encode()).await;
    let server = rig.server().await;
    assert_eq!(server.get("/master/foo-redis").await.status, 200);
    let local = server.get("/master/foo-redis?local").await;
    assert_eq!(local.status, 503);
    assert_eq!(local.json()["error"], "the master is cache1 on db3");
}

fn look(role: Role) -> Observation {
    let position = Position::Redis(RedisPosition { id: "x".to_owned(), offset: 1, second: None });
    Observation {
        boot_id: None,
        process: Process::Running,
        answer: Answer::State(InstanceState {
            role,
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
            silent_for: None,
            priority: 100,
            version: "7".to_owned(),
            settings: Settings::default(),
        }),
    }
}

#[tokio::test]
async fn balancers_are_told_a_replica_in_good_standing() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let mut here = instance("cache2", Role::Replica);
    here.host = rig.context.place.host.clone();
    let key = key::instance(&service(), &name("cache2"));
    rig.put(key.clone(), here.encode()).await;
    let server = rig.server().await;
    let asked = |query: &'static str| {
        let server = &server;
        async move { server.get(&format!("/replica/foo-redis{query}")).await }
    };
    let reason = asked("").await;
    assert_eq!(reason.status, 503);
    assert!(reason.text().contains("not looked at yet"), "{}", reason.text());
    let id = InstanceId { service: service(), instance: name("cache2") };
    let old =
        Seen { sent: clock::time() - Duration::from_secs(6), observation: look(Role::Replica) };
    rig.context.board.put(id.clone(), old);
    assert!(asked("").await.text().contains("6 s old"));
    let fresh = Seen { sent: clock::time(), observation: look(Role::Replica) };
    rig.context.board.put(id, fresh);
    assert_eq!(asked("").await.status, 200);
    assert_eq!(asked("?max_lag=2s").await.status, 200);
    assert_eq!(asked("?max_lag=1s").await.status, 400);
    assert_eq!(asked("?max_lag=soon").await.status, 400);
    here.lag = Lag::Some;
    rig.put(key.clone(), here.encode()).await;
    assert_eq!(asked("").await.status, 200, "under the policy's bound");
    assert_eq!(asked("?max_lag=10").await.status, 200, "seconds without a unit");
    assert_eq!(asked("?max_lag=5s").await.status, 503);
    here.lag = Lag::Far;
    rig.put(key.clone(), here.encode()).await;
    assert!(asked("").await.text().contains("too far behind"));
    here.lag = Lag::None;
    here.link_up = false;
    rig.put(key, here.encode()).await;
    assert!(asked("").await.text().contains("no replica in good standing"));
}
