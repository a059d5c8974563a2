//! A real socket, a fixed agent behind it, and the plans of requests.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sengu_core::explain::{Explanation, Inputs, Rehearsal};
use sengu_core::name::{InstanceName, ServiceName, Term};
use sengu_core::record::{
    Ask, Cause, FORMAT, HistoryRecord, Promise, Record, RequestRecord, Stand, key,
};
use sengu_core::report::{ServiceReport, TermReport};
use sengu_core::time::{Now, Wall};
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::{Agent, OperatorServer, SocketError, request, serve};
use crate::agent::Flaw;
use crate::guard::Standing;
use crate::http::testing::{Answer, Rig, call, service};
use crate::template::TemplateStatus;

/// Knows one service, and refuses to reload.
pub(crate) struct Fixed;

fn report() -> ServiceReport {
    ServiceReport {
        service: service(),
        state: "serving".to_owned(),
        term: Term(7),
        since: None,
        master: Some(InstanceName::new("cache1").expect("a name")),
        address: None,
        holder: None,
        withdrawn: None,
        policy: None,
        instances: vec![],
        problems: vec![],
        refusals: vec!["cooldown".to_owned()],
        ranking: vec![],
        doing: None,
        requests: vec![],
        last: None,
    }
}

#[async_trait]
impl Agent for Fixed {
    async fn reports(&self, _: Now) -> Vec<ServiceReport> {
        vec![report()]
    }
    async fn report(&self, name: &ServiceName, _: Now) -> Option<ServiceReport> {
        (*name == service()).then(report)
    }
    async fn explain(&self, name: &ServiceName, now: Now) -> Option<Explanation> {
        let report = self.report(name, now).await?;
        let inputs = Inputs {
            revision: 1,
            judge: "alone".to_owned(),
            lease_ms: 6000,
            store_answered_ms: 0,
            doubted_ms: None,
            beat_ms: None,
            record: None,
            sync: None,
            instances: BTreeMap::new(),
            finals: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        Some(Explanation { report, next: Rehearsal::default(), rules: vec![], inputs })
    }
    async fn would_switch(
        &self,
        _: &ServiceName,
        to: Option<&InstanceName>,
    ) -> Result<InstanceName, String> {
        to.cloned().ok_or_else(|| "there is no replica".to_owned())
    }
    async fn reload(&self) -> Result<String, String> {
        Err("sengu.toml line 3: unknown key".to_owned())
    }
    async fn checks(&self) -> Value {
        json!([{ "check": "redis-master" }])
    }
    async fn templates(&self) -> Vec<TemplateStatus> {
        vec![TemplateStatus { destination: "/etc/hosts".into(), ..TemplateStatus::default() }]
    }
    async fn guard(&self) -> Standing {
        Standing::default()
    }
    async fn flaws(&self) -> Vec<Flaw> {
        Vec::new()
    }
}

struct Running {
    rig: Rig,
    folder: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    server: OperatorServer,
}

impl Running {
    async fn start() -> Self {
        let rig = Rig::new();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/sengu.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = serve(&path, Arc::clone(&rig.context), Arc::new(Fixed), shutdown)
            .await
            .expect("it listens");
        Self { rig, folder, stop, server }
    }

    fn path(&self) -> PathBuf {
        self.server.path.clone()
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let stream = UnixStream::connect(&self.server.path).await.expect("it accepts");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        call(stream, method, path, body.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &Value::Null).await
    }

    async fn ask(&self, body: Value) -> Answer {
        self.call("POST", "/v1/sengu/request/foo-redis", &body).await
    }

    fn stored(&self, id: &str) -> Option<RequestRecord> {
        let catalog = self.rig.context.view.catalog().expect("a catalog");
        let entry = catalog.get(&key::request(&service(), id))?;
        Some(RequestRecord::decode(&entry.value).expect("a request"))
    }
}

fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().expect("an error").to_owned()
}

#[tokio::test]
async fn the_socket_is_roots_own_and_is_removed_at_the_end() {
    let running = Running::start().await;
    let path = running.path();
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second =
        serve(&path, Arc::clone(&running.rig.context), Arc::new(Fixed), std::future::pending())
            .await;
    assert!(matches!(second.expect_err("taken"), SocketError::Taken(_)));
    assert_eq!(running.get("/v1/sengu/status").await.status, 200, "the first goes on");
    drop(running.stop);
    running.server.ended().await;
    assert!(!path.exists());
    drop(running.folder);
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_a_file_is_not() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sengu.sock");
    // A std listener leaves its file behind when it ends.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());
    let server =
        serve(&path, Arc::clone(&rig.context), Arc::new(Fixed), std::future::ready(())).await;
    server.expect("it takes over").ended().await;
    assert!(!path.exists());
    std::fs::write(&path, "precious").expect("written");
    let refused =
        serve(&path, Arc::clone(&rig.context), Arc::new(Fixed), std::future::pending()).await;
    assert!(matches!(refused.expect_err("a file"), SocketError::NoSocket(_)));
    assert_eq!(std::fs::read_to_string(&path).expect("kept"), "precious");
}

#[tokio::test]
async fn what_the_agent_tells_is_passed_on() {
    let running = Running::start().await;
    running.rig.with_service(Promise::None).await;
    assert_eq!(running.get("/v1/sengu/status").await.json()[0]["state"], "serving");
    let one = running.get("/v1/sengu/explain/foo-redis").await.json();
    assert_eq!(one["refusals"], json!(["cooldown"]));
    let unknown = running.get("/v1/sengu/explain/bar").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(error(&unknown), "no service bar; known are: foo-redis");
    assert_eq!(running.get("/v1/sengu/explain/b%2Fr").await.status, 400);
    let checks = running.get("/v1/sengu/checks").await.json();
    assert_eq!(checks[0]["check"], "redis-master");
    let reload = running.call("POST", "/v1/sengu/reload", &Value::Null).await;
    assert_eq!((reload.status, error(&reload).as_str()), (422, "sengu.toml line 3: unknown key"));
    assert_eq!(running.get("/v1/sengu/reload").await.status, 405);
    assert_eq!(running.get("/v1/kv/x").await.status, 404);
}

#[tokio::test]
async fn history_is_newest_first_and_bounded() {
    let running = Running::start().await;
    running.rig.with_service(Promise::None).await;
    for term in 1..=12 {
        let record = HistoryRecord {
            format: FORMAT,
            cause: Cause::Hung,
            from: None,
            to: InstanceName::new("cache1").expect("a name"),
            steps: vec![],
            loss: "nothing".to_owned(),
            ranking: vec![],
            refusals: BTreeMap::new(),
            asked_by: None,
            hooks: BTreeMap::new(),
            unknown: Map::new(),
        };
        running.rig.put(key::history(&service(), Term(term)), record.encode()).await;
    }
    let all = running.get("/v1/sengu/history/foo-redis").await.json();
    let read: Vec<TermReport> = serde_json::from_value(all).expect("stories");
    assert_eq!(read.iter().map(|told| told.term.0).collect::<Vec<_>>()[..3], [12, 11, 10]);
    assert_eq!(read.len(), 12);
    let two = running.get("/v1/sengu/history/foo-redis?limit=2").await.json();
    assert_eq!(two.as_array().map(Vec::len), Some(2));
    assert_eq!(running.get("/v1/sengu/history/foo-redis?limit=x").await.status, 400);
}

#[tokio::test]
async fn a_switchover_is_asked_for_followed_and_not_asked_twice() {
    let running = Running::start().await;
    running.rig.with_service(Promise::None).await;
    let ask = json!({"ask": {"switchover": {"to": "cache2"}}, "comment": "kernel", "by": "anna"});
    let placed = running.ask(ask.clone()).await;
    assert_eq!(placed.status, 200, "{}", placed.text());
    let id = placed.json()["id"].as_str().expect("an id").to_owned();
    let mut record = running.stored(&id).expect("it stands in the store");
    assert_eq!(record.term, Some(Term(7)));
    assert_eq!(record.stand, Stand::Asked);
    assert_eq!(record.comment, "kernel");
    assert!(record.by.starts_with("anna (") && record.by.ends_with("@db1)"), "{}", record.by);
    assert_eq!(record.until.0 - record.at.0, 60_000);

    let twice = running.ask(ask).await;
    assert_eq!(twice.status, 409);
    assert!(error(&twice).starts_with("a switchover of foo-redis is open already"));

    let path = format!("/v1/sengu/request/foo-redis/{id}");
    let now = running.get(&path).await.json();
    assert_eq!(now["request"]["stand"], "asked");
    let waiting = format!("{path}?index={}&wait=30s", now["index"]);
    record.stand = Stand::Done("cache2 serves in term 8".to_owned());
    let write = running.rig.put(key::request(&service(), &id), record.encode());
    let (ended, revision) = tokio::join!(running.get(&waiting), write);
    assert_eq!(ended.json()["request"]["stand"]["done"], "cache2 serves in term 8");
    assert_eq!(ended.json()["index"], revision);
    assert_eq!(running.get("/v1/sengu/request/foo-redis/none").await.status, 404);
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let running = Running::start().await;
    running.rig.with_service(Promise::None).await;
    let before = running.rig.context.view.catalog().expect("a catalog").revision;
    let dry = |ask: Value| running.ask(json!({"ask": ask, "dry_run": true}));
    let shown = dry(json!({"switchover": {"to": "cache2"}})).await.json();
    assert_eq!((&shown["to"], &shown["refused"]), (&json!("cache2"), &Value::Null));
    let shown = dry(json!({"switchover": {}})).await.json();
    assert_eq!((&shown["to"], &shown["refused"]), (&Value::Null, &json!("there is no replica")));
    assert_eq!(dry(json!("release")).await.status, 400);
    assert_eq!(running.rig.context.view.catalog().expect("a catalog").revision, before);
}

#[tokio::test]
async fn pauses_and_drains_stand_until_they_are_ended() {
    let running = Running::start().await;
    running.rig.with_service(Promise::None).await;
    let pause = json!({"ask": "pause", "within_secs": 600});
    assert_eq!(running.ask(pause.clone()).await.json()["id"], "pause");
    let record = running.stored("pause").expect("stored");
    assert_eq!((record.term, record.stand), (None, Stand::Standing));
    assert!(record.by.ends_with("@db1") && !record.by.contains(' '), "{}", record.by);
    assert_eq!(running.ask(pause.clone()).await.status, 409);
    let drain = |instance: &str| json!({"ask": {"drain": {"instance": instance}}});
    assert_eq!(running.ask(drain("cache2")).await.json()["id"], "drain-cache2");
    assert_eq!(running.ask(drain("cache2")).await.status, 409);
    assert_eq!(running.ask(drain("cache1")).await.status, 200, "another is another");
    let unknown = running.ask(drain("cache9")).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(error(&unknown), "foo-redis has no instance cache9; known are: cache1, cache2");

    for id in ["pause", "drain-cache2"] {
        let path = format!("/v1/sengu/request/foo-redis/{id}");
        assert_eq!(running.call("DELETE", &path, &Value::Null).await.json()["id"], id);
        assert_eq!(running.stored(id), None);
        assert_eq!(running.call("DELETE", &path, &Value::Null).await.status, 404);
    }
    assert_eq!(running.ask(pause).await.status, 200);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() {
    let running = Running::start().await;
    let early = running.ask(json!({"ask": "pause"})).await;
    assert_eq!(
        (early.status, error(&early).as_str()),
        (503, "no instance of foo-redis was looked at yet; try again")
    );
    running.rig.with_service(Promise::None).await;
    for (body, status, text) in [
        (json!({"ask": "dance"}), 400, "the request cannot be read"),
        (json!({"ask": "pause", "witin_secs": 3}), 400, "the request cannot be read"),
        (json!({"ask": "pause", "within_secs": 0}), 400, "`within_secs` is from 1"),
        (json!({"ask": "pause", "comment": "x".repeat(1025)}), 400, "the comment is longer"),
        (json!({"ask": "pause", "by": "a\nb"}), 400, "`by` is at most"),
        (json!({"ask": {"adopt": {}}}), 409, "foo-redis is adopted already, in term 7"),
        (json!({"ask": {"failover": {"to": "cache9", "lossy": false}}}), 404, "foo-redis has no"),
    ] {
        let answer = running.ask(body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(error(&answer).starts_with(text), "{body}: {}", answer.text());
    }
}

fn past(rig: &Rig, number: u32, stand: Stand) -> (String, RequestRecord) {
    let wall = crate::clock::wall();
    let record = RequestRecord {
        format: FORMAT,
        ask: Ask::Failover { to: None, lossy: false },
        term: Some(Term(6)),
        by: format!("root@{}", rig.context.place.host),
        comment: String::new(),
        at: Wall(wall.0 - 100_000 + i64::from(number)),
        until: Wall(wall.0 - 50_000),
        stand,
        hooks: BTreeMap::new(),
        warning: None,
        unknown: Map::new(),
    };
    (format!("{number:013}-00000000"), record)
}

#[tokio::test]
async fn ended_requests_are_kept_for_a_while_only() {
    let running = Running::start().await;
    running.rig.with_service(Promise::None).await;
    for number in 0..20 {
        let stand = if number == 0 { Stand::Asked } else { Stand::Done("done".to_owned()) };
        let (id, record) = past(&running.rig, number, stand);
        running.rig.put(key::request(&service(), &id), record.encode()).await;
    }
    let failover = running.ask(json!({"ask": {"failover": {"lossy": false}}})).await;
    assert_eq!(failover.status, 200, "one that nobody took up in time is no obstacle");
    let catalog = running.rig.context.view.catalog().expect("a catalog");
    let view = catalog.service(&service()).expect("known");
    assert_eq!(view.requests.len(), 17, "sixteen and the new one");
    assert_eq!(running.stored("0000000000003-00000000"), None);
    assert!(running.stored("0000000000004-00000000").is_some());
}

#[tokio::test]
async fn open_requests_are_bounded_and_one_under_way_is_not_removed() {
    let running = Running::start().await;
    running.rig.with_service(Promise::None).await;
    let to = InstanceName::new("cache2").expect("a name");
    for number in 0..32 {
        let (id, record) = past(&running.rig, number, Stand::Agreed { to: to.clone() });
        running.rig.put(key::request(&service(), &id), record.encode()).await;
    }
    let more = running.ask(json!({"ask": "pause"})).await;
    assert_eq!(more.status, 409);
    assert!(error(&more).contains("32 open requests"), "{}", more.text());
    let path = "/v1/sengu/request/foo-redis/0000000000000-00000000";
    let removed = running.call("DELETE", path, &Value::Null).await;
    assert_eq!(removed.status, 409);
    assert!(error(&removed).contains("under way already"));
}

#[test]
fn ids_sort_by_time_and_differ() {
    let ask = Ask::Release;
    let (first, second) = (request::id(&ask, Wall(1)), request::id(&ask, Wall(2)));
    assert!(first < second);
    assert_ne!(request::id(&ask, Wall(1)), request::id(&ask, Wall(1)));
}
