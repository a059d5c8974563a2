//! Requests and other verbs against a small agent on a real unix socket: what is sent, how long
//! is waited, and how the command ends.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use axum::extract::{Path as Segments, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use sengu_core::name::{InstanceName, Term};
use sengu_core::record::FORMAT;
use sengu_core::report::TermReport;
use sengu_core::time::Wall;
use serde_json::{Value, json};

use super::*;
use crate::cli::fixture;

/// An agent that was told its answers.
#[derive(Clone, Default)]
struct Told {
    /// Where the request stands at each look; the last one stays.
    stands: Arc<Mutex<Vec<Stand>>>,
    /// What was sent, newest last.
    sent: Arc<Mutex<Vec<Value>>>,
}

fn record(stand: Stand) -> RequestRecord {
    RequestRecord {
        format: FORMAT,
        ask: Ask::Switchover { to: None },
        term: Some(Term(1)),
        by: "root@db1".into(),
        comment: String::new(),
        at: Wall(0),
        until: Wall(0),
        stand,
        hooks: std::collections::BTreeMap::new(),
        warning: None,
        unknown: serde_json::Map::new(),
    }
}

async fn posted(
    State(told): State<Told>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    told.sent.lock().expect("alone").push(body);
    if told.stands.lock().expect("alone").is_empty() {
        let error = json!({"error": "replica cache3 is 41 s behind (limit 10 s)"});
        return Err((StatusCode::CONFLICT, Json(error)));
    }
    if told.sent.lock().expect("alone").last().is_some_and(|sent| sent["dry_run"] == true) {
        return Ok(Json(
            json!({"service": "foo", "dry_run": true, "to": "cache2", "refused": null}),
        ));
    }
    Ok(Json(json!({"id": "r1", "revision": 7})))
}

async fn looked(State(told): State<Told>) -> Json<Value> {
    let stand = {
        let mut stands = told.stands.lock().expect("alone");
        if stands.len() > 1 { stands.remove(0) } else { stands[0].clone() }
    };
    if stand == Stand::Asked {
        // As the real one: nothing new within what the asker waits.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Json(json!({"id": "r1", "request": record(stand), "index": 8}))
}

async fn withdrawn(
    State(told): State<Told>,
    Segments((_, id)): Segments<(String, String)>,
) -> Json<Value> {
    told.sent.lock().expect("alone").push(json!(id));
    Json(json!({}))
}

/// Runs a command line against such an agent.
fn run(told: &Told, line: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let server = serve(&socket, told.clone());
    let socket = socket.display().to_string();
    let words = ["sengu", "--socket", &socket].into_iter().chain(line.split(' '));
    let code = crate::cli::run(words.map(Into::into));
    server.shutdown_background();
    format!("{code:?}")
}

fn serve(socket: &Path, told: Told) -> tokio::runtime::Runtime {
    let reports = vec![fixture::well()];
    let routes = Router::new()
        .route("/v1/sengu/request/{service}", post(posted))
        .route("/v1/sengu/request/{service}/{id}", get(looked))
        .route("/v1/sengu/request/{service}/{id}", delete(withdrawn))
        .route("/v1/sengu/status", get(move || async { Json(reports) }))
        .route(
            "/v1/sengu/history/{service}",
            get(|| async {
                Json(vec![TermReport {
                    term: Term(8),
                    record: fixture::failover(),
                    told: Vec::new(),
                }])
            }),
        )
        .route(
            "/v1/sengu/explain/{service}",
            get(|| async { Json(fixture::explained(fixture::well())) }),
        )
        .with_state(told);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = {
        let _entered = runtime.enter();
        tokio::net::UnixListener::bind(socket).expect("bound")
    };
    runtime.spawn(async { axum::serve(listener, routes).await });
    runtime
}

fn told(stands: impl IntoIterator<Item = Stand>) -> Told {
    let told = Told::default();
    told.stands.lock().expect("alone").extend(stands);
    told
}

fn code(exit: Exit) -> String {
    format!("{:?}", ExitCode::from(exit))
}

#[test]
fn a_request_is_waited_for_until_it_is_done() {
    let to = InstanceName::new("cache3").expect("good");
    let told = told([
        Stand::Asked,
        Stand::Agreed { to: to.clone() },
        Stand::Prepared { to },
        Stand::Done("foo: master is cache3 (term 2)".into()),
    ]);
    let line = "switchover foo --to cache3 --comment why --wait 30";
    assert_eq!(run(&told, line), code(Exit::Done));
    let sent = told.sent.lock().expect("alone").remove(0);
    assert_eq!(sent["ask"], json!({"switchover": {"to": "cache3"}}));
    assert_eq!(sent["comment"], "why");
    assert_eq!(sent["within_secs"], 30);
    assert_eq!(sent["dry_run"], false);
    assert_eq!(sent["by"], asker());
}

#[test]
fn refusals_fail_whether_they_come_at_once_or_later() {
    let late = told([Stand::Asked, Stand::Refused("nobody can take over".into())]);
    assert_eq!(run(&late, "failover foo --lossy"), code(Exit::Failed));
    assert_eq!(run(&told([]), "adopt foo"), code(Exit::Failed));
}

#[test]
fn what_goes_on_longer_is_left_going() {
    let told = told([Stand::Asked]);
    assert_eq!(run(&told, "release foo --wait 1"), code(Exit::StillWaiting));
}

#[test]
fn standing_requests_are_not_waited_for() {
    let told = told([Stand::Standing]);
    assert_eq!(run(&told, "pause foo --for 30m"), code(Exit::Done));
    assert_eq!(run(&told, "drain foo cache3"), code(Exit::Done));
    assert_eq!(run(&told, "resume foo"), code(Exit::Done));
    assert_eq!(run(&told, "undrain foo cache3"), code(Exit::Done));
    let sent = told.sent.lock().expect("alone");
    assert_eq!((&sent[0]["ask"], &sent[0]["within_secs"]), (&json!("pause"), &json!(1800)));
    assert_eq!(sent[1]["ask"], json!({"drain": {"instance": "cache3"}}));
    assert_eq!(sent[1].get("within_secs"), None, "a drain stands until it is ended");
    assert_eq!(sent[2..], [json!("pause"), json!("drain-cache3")]);
}

#[test]
fn a_freeze_is_waited_for_until_it_stands() {
    let good = told([Stand::Asked, Stand::Standing]);
    assert_eq!(run(&good, "freeze foo --for 10m"), code(Exit::Done));
    assert_eq!(run(&good, "thaw foo"), code(Exit::Done));
    let sent = good.sent.lock().expect("alone");
    assert_eq!((&sent[0]["ask"], &sent[0]["within_secs"]), (&json!("freeze"), &json!(600)));
    assert_eq!(sent[1..], [json!("freeze")]);
    let late = told([Stand::Asked]);
    assert_eq!(run(&late, "freeze foo bar --wait 1"), code(Exit::StillWaiting));
    let refused = told([Stand::Refused("no".into())]);
    assert_eq!(run(&refused, "freeze foo"), code(Exit::Failed));
}

#[test]
fn a_rehearsal_only_asks() {
    let told = told([Stand::Asked]);
    assert_eq!(run(&told, "switchover foo --dry-run"), code(Exit::Done));
    let sent = told.sent.lock().expect("alone");
    assert_eq!((sent.len(), &sent[0]["dry_run"]), (1, &json!(true)));
}

#[test]
fn reports_come_through_in_both_forms() {
    let told = told([]);
    for line in ["status", "status foo-redis --json", "explain foo-redis", "history foo-redis"] {
        assert_eq!(run(&told, line), code(Exit::Done), "{line}");
    }
    assert_eq!(run(&told, "status other"), code(Exit::Failed));
}

#[test]
fn waits_are_seconds_or_durations_within_a_day() {
    for (text, wanted) in [("5", 5), ("2m", 120), ("24h", 86_400)] {
        assert_eq!(seconds(text), Ok(Duration::from_secs(wanted)));
    }
    for text in ["0", "25h", "x", "500ms"] {
        assert!(seconds(text).is_err(), "{text} passed");
    }
}
