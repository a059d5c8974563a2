//! `/v1/agent`: what clients register with the agent of their own host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sengu_core::record::Promise;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::testing::{Rig, Running};

/// Far more than any of it takes.
const LONG: Duration = Duration::from_secs(20);

/// A rig whose registered checks are kept.
async fn started() -> (Rig, Running) {
    let rig = Rig::new();
    tokio::spawn(Arc::clone(&rig.context.registered).run(std::future::pending()));
    let server = rig.server().await;
    (rig, server)
}

async fn put(server: &Running, path: &str, body: Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = server.put(path, body.as_bytes()).await;
    (answer.status, answer.text())
}

async fn done(server: &Running, path: &str, body: Value) {
    assert_eq!(put(server, path, body).await, (200, String::new()), "{path}");
}

/// How a check stands in the catalog, and what it says.
async fn check(server: &Running, id: &str) -> (String, String) {
    let rows = server.get("/v1/health/node/db1").await.json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let row = rows.into_iter().find(|row| row["CheckID"] == id).unwrap_or_default();
    let text = |key: &str| row[key].as_str().unwrap_or("absent").to_owned();
    (text("Status"), text("Output"))
}

async fn until(server: &Running, id: &str, status: &str) -> String {
    let began = Instant::now();
    loop {
        let (have, output) = check(server, id).await;
        if have == status {
            return output;
        }
        assert!(began.elapsed() < LONG, "{id} stays {have}: {output}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_service_is_registered_shown_everywhere_and_removed() {
    let (_rig, server) = started().await;
    let body = json!({"ID": "web/1", "Name": "web", "Tags": ["a"], "Port": 80,
        "Meta": {"k": "v"}, "Check": {"TTL": "10s", "Status": "passing"}});
    done(&server, "/v1/agent/service/register", body).await;
    let row = json!({"ID": "web/1", "Service": "web", "Tags": ["a"], "Meta": {"k": "v"},
        "Port": 80, "Address": "", "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": false, "Datacenter": "dc1"});
    assert_eq!(server.get("/v1/agent/services").await.json(), json!({"web/1": row}));
    let mut one = server.get("/v1/agent/service/web%2F1").await.json();
    assert!(one["ContentHash"].as_str().is_some_and(|hash| hash.len() == 16), "{one}");
    one.as_object_mut().expect("a row").remove("ContentHash");
    assert_eq!(one, row);
    let checks = server.get("/v1/agent/checks").await.json();
    let check = &checks["service:web/1"];
    assert_eq!((&check["Status"], &check["Type"]), (&json!("passing"), &json!("ttl")));
    assert_eq!(check["ServiceTags"], json!(["a"]));
    let rows = server.get("/v1/health/service/web?passing").await.json();
    assert_eq!(rows[0]["Service"]["Port"], 80);
    assert_eq!(rows[0]["Node"]["Node"], "db1");

    let unknown = server.get("/v1/agent/service/web").await;
    assert_eq!((unknown.status, unknown.text()), (404, "unknown service ID: web".to_owned()));
    let (code, text) = put(&server, "/v1/agent/service/deregister/web", Value::Null).await;
    assert!(code == 404 && text.contains("not the service name"), "{code} {text}");
    done(&server, "/v1/agent/service/deregister/web%2F1", Value::Null).await;
    assert_eq!(server.get("/v1/agent/services").await.json(), json!({}));
    assert_eq!(server.get("/v1/agent/checks").await.json(), json!({}));
    assert_eq!(server.get("/v1/health/service/web").await.json(), json!([]));
}

#[tokio::test]
async fn a_ttl_check_is_told_and_lapses() {
    let (rig, server) = started().await;
    let body = json!({"name": "alive", "ttl": "400ms", "notes": "for people"});
    done(&server, "/v1/agent/check/register", body).await;
    assert_eq!(check(&server, "alive").await, ("critical".to_owned(), String::new()));
    done(&server, "/v1/agent/check/pass/alive?note=all%20well", Value::Null).await;
    assert_eq!(check(&server, "alive").await, ("passing".to_owned(), "all well".to_owned()));
    // Told again and again, with other words each time: shown at once, and not written.
    let revision = || rig.context.view.catalog().expect("read").revision;
    let before = revision();
    for number in 0..8 {
        let path = format!("/v1/agent/check/pass/alive?note=beat%20{number}");
        done(&server, &path, Value::Null).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(check(&server, "alive").await.0, "passing", "beaten in time");
    assert_eq!(revision(), before);
    let shown = server.get("/v1/agent/checks").await.json();
    assert_eq!(shown["alive"]["Output"], "beat 7");
    let output = until(&server, "alive", "critical").await;
    assert_eq!(output, "TTL expired: not told for 400ms; the last was: beat 7");
    done(&server, "/v1/agent/check/warn/alive", Value::Null).await;
    assert_eq!(check(&server, "alive").await.0, "warning");
    let update = json!({"Status": "passing", "Output": "up"});
    done(&server, "/v1/agent/check/update/alive", update).await;
    assert_eq!(check(&server, "alive").await, ("passing".to_owned(), "up".to_owned()));
    until(&server, "alive", "critical").await;
    let bad = put(&server, "/v1/agent/check/update/alive", json!({"Status": "fine"})).await;
    assert_eq!(bad.0, 400);
    assert_eq!(put(&server, "/v1/agent/check/fail/none", Value::Null).await.0, 404);
    done(&server, "/v1/agent/check/deregister/alive", Value::Null).await;
    assert_eq!(check(&server, "alive").await.0, "absent");
}

#[tokio::test]
async fn looks_are_made_and_counted() {
    let (_rig, server) = started().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let body = json!({"Name": "db", "Checks": [
        {"CheckID": "port", "TCP": address, "Interval": "1s", "Timeout": "1s"},
        {"CheckID": "page", "HTTP": format!("http://{address}/"), "Interval": "1s", "Timeout": "100ms"},
        {"CheckID": "both", "AliasService": "db", "Name": "repeats"},
    ]});
    done(&server, "/v1/agent/service/register", body).await;
    let output = until(&server, "port", "passing").await;
    assert_eq!(output, format!("TCP connect {address}: Success"));
    let output = loop {
        let (_, output) = check(&server, "page").await;
        if !output.is_empty() {
            break output;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(output.starts_with("HTTP http://") && output.contains("slow"), "{output}");
    let output = until(&server, "both", "critical").await;
    assert!(output.contains("page is critical"), "{output}");
    drop(listener);
    let output = until(&server, "port", "critical").await;
    assert!(output.contains("refused"), "{output}");
    let health = server.get("/v1/agent/health/service/id/db").await;
    assert_eq!((health.status, &health.json()["AggregatedStatus"]), (503, &json!("critical")));
    let (code, text) = put(&server, "/v1/agent/check/pass/port", Value::Null).await;
    assert!(code == 500 && text.contains("does not have associated TTL"), "{code} {text}");
}

#[tokio::test]
async fn programs_of_clients_are_off_and_say_how_to_allow_them() {
    let (_rig, server) = started().await;
    let body = json!({"Name": "disk", "Args": ["/bin/true"], "Interval": "1s"});
    let (code, text) = put(&server, "/v1/agent/check/register", body).await;
    assert!(code == 400 && text.contains("http_scripts = true"), "{code} {text}");
    let body = json!({"Name": "s", "Checks": [{"GRPC": "x:1", "Interval": "1s"}]});
    let (code, text) = put(&server, "/v1/agent/service/register", body).await;
    assert!(code == 400 && text.contains("gRPC"), "{code} {text}");
    assert_eq!(server.get("/v1/agent/services").await.json(), json!({}), "nothing of it is kept");
}

#[tokio::test]
async fn health_is_told_by_code_and_text_and_maintenance_counts() {
    let (_rig, server) = started().await;
    for (id, status) in [("a", "passing"), ("b", "warning")] {
        let body = json!({"ID": id, "Name": "web", "Check": {"TTL": "60s", "Status": status}});
        done(&server, "/v1/agent/service/register", body).await;
    }
    let health = async |path: &str| {
        let path = format!("/v1/agent/health/service/{path}?format=text");
        let answer = server.get(&path).await;
        (answer.status, answer.text())
    };
    let told = |code: u16, text: &str| (code, text.to_owned());
    assert_eq!(health("id/a").await, told(200, "passing"));
    assert_eq!(health("id/b").await, told(429, "warning"));
    assert_eq!(health("name/web").await, told(429, "warning"));
    assert_eq!(health("id/none").await, told(404, "ServiceId none not found"));
    assert_eq!(health("name/none").await.0, 404);
    let rows = server.get("/v1/agent/health/service/name/web").await.json();
    assert_eq!(rows.as_array().map(Vec::len), Some(2));

    done(&server, "/v1/agent/service/maintenance/a?enable=true&reason=disks", Value::Null).await;
    assert_eq!(health("id/a").await, told(503, "maintenance"));
    assert_eq!(health("id/b").await, told(429, "warning"));
    let checks = server.get("/v1/agent/checks").await.json();
    let mark = &checks["_service_maintenance:a"];
    assert_eq!((&mark["Status"], &mark["Notes"]), (&json!("critical"), &json!("disks")));
    done(&server, "/v1/agent/service/maintenance/a?enable=false", Value::Null).await;
    done(&server, "/v1/agent/maintenance?enable=true", Value::Null).await;
    assert_eq!(health("id/a").await, told(503, "maintenance"));
    assert_eq!(server.get("/v1/health/service/web?passing").await.json(), json!([]));
    done(&server, "/v1/agent/maintenance?enable=false", Value::Null).await;
    assert_eq!(health("id/a").await, told(200, "passing"));
    for path in ["/v1/agent/maintenance", "/v1/agent/maintenance?enable=perhaps"] {
        assert_eq!(put(&server, path, Value::Null).await.0, 400, "{path}");
    }
    let (code, _) =
        put(&server, "/v1/agent/service/maintenance/none?enable=true", Value::Null).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn what_sengu_manages_is_refused_with_the_reason() {
    let (rig, server) = started().await;
    rig.with_service(Promise::None).await;
    let services = server.get("/v1/agent/services").await.json();
    assert_eq!(services["foo-redis-cache1"]["Service"], "foo-redis");
    let body = json!({"Name": "foo-redis", "Port": 1});
    let (code, text) = put(&server, "/v1/agent/service/register", body).await;
    assert!(code == 409 && text.contains("managed by sengu"), "{code} {text}");
    for path in [
        "/v1/agent/service/deregister/foo-redis-cache1",
        "/v1/agent/check/deregister/service:foo-redis-cache1",
        "/v1/agent/check/deregister/serfHealth",
    ] {
        assert_eq!(put(&server, path, Value::Null).await.0, 409, "{path}");
    }
    let path = "/v1/agent/service/maintenance/foo-redis-cache1?enable=true";
    let (code, text) = put(&server, path, Value::Null).await;
    assert!(code == 409 && text.contains("sengu drain"), "{code} {text}");
}
