//! `?filter=` at each endpoint that takes one in Consul.

use sengu_core::record::Promise;
use serde_json::{Value, json};

use crate::http::testing::{Rig, Running};

async fn register(server: &Running, body: Value) {
    let answer = server.put("/v1/catalog/register", body.to_string().as_bytes()).await;
    assert_eq!((answer.status, answer.text()), (200, "true".to_owned()));
}

/// Two nodes, each with `web` in another version, and a check.
async fn filled(server: &Running) {
    for (number, env, status) in [(1, "prod", "passing"), (2, "qa", "critical")] {
        let service = json!({
            "ID": format!("web-{number}"), "Service": "web", "Tags": [format!("v{number}")],
            "Port": 8000 + number, "Meta": {"a-b": format!("m{number}")},
        });
        register(
            server,
            json!({
                "Node": format!("web{number}"), "Address": format!("10.0.1.{number}"),
                "NodeMeta": {"env": env}, "Service": service,
                "Check": {"Name": "alive", "ServiceID": format!("web-{number}"),
                          "Status": status},
            }),
        )
        .await;
    }
}

/// The path with an expression, encoded.
fn asking(path: &str, filter: &str) -> String {
    let encode = percent_encoding::utf8_percent_encode;
    format!("{path}?filter={}", encode(filter, percent_encoding::NON_ALPHANUMERIC))
}

#[tokio::test]
async fn each_endpoint_keeps_what_the_expression_asks_for() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    filled(&server).await;
    let service = json!({"Name": "local", "Tags": ["blue"], "Check": {"TTL": "1h"}});
    let path = "/v1/agent/service/register";
    assert_eq!(server.put(path, service.to_string().as_bytes()).await.status, 200);
    // Path, expression, pointer to what identifies the rows that are left, and those.
    for (path, filter, at, wanted) in [
        ("/v1/catalog/nodes", "Meta.env == qa", "/0/Node", json!("web2")),
        ("/v1/catalog/nodes", "Address matches `^10\\.0\\.1\\.`", "/1/Node", json!("web2")),
        ("/v1/catalog/service/web", "ServicePort == 8001", "/0/ServiceID", json!("web-1")),
        ("/v1/catalog/service/web", "NodeMeta.env != prod", "/0/ServiceID", json!("web-2")),
        ("/v1/catalog/service/foo-redis", "master in ServiceTags", "/0/Node", json!("db1")),
        ("/v1/catalog/services", "ServiceMeta[\"a-b\"] == m2", "", json!({"web": ["v2"]})),
        ("/v1/catalog/node/web1", "v1 in Tags", "/Services/web-1/Port", json!(8001)),
        ("/v1/catalog/node/web1", "v2 in Tags", "/Services", json!({})),
        ("/v1/catalog/node-services/web1", "Port == 8001", "/Services/0/ID", json!("web-1")),
        ("/v1/health/service/web", "Checks.Status == critical", "/0/Service/ID", json!("web-2")),
        ("/v1/health/service/web", "Service.Tags is empty", "", json!([])),
        ("/v1/health/checks/web", "Status == passing", "/0/Node", json!("web1")),
        ("/v1/health/node/web2", "ServiceName != \"\"", "/0/CheckID", json!("alive")),
        (
            "/v1/health/state/any",
            "Name contains liv and not Node == web1",
            "/0/Node",
            json!("web2"),
        ),
        ("/v1/agent/services", "blue in Tags", "/local/Service", json!("local")),
        ("/v1/agent/services", "Service == none", "", json!({})),
        ("/v1/agent/checks", "ServiceName == local", "/service:local/Status", json!("critical")),
        ("/v1/agent/members", "Name == db2", "/0/Name", json!("db2")),
    ] {
        let answer = server.get(&asking(path, filter)).await;
        assert_eq!(answer.status, 200, "{path} {filter}: {}", answer.text());
        let found = answer.json();
        assert_eq!(found.pointer(at), Some(&wanted), "{path} {filter}: {found}");
    }
}

#[tokio::test]
async fn a_bad_expression_is_refused_in_consuls_words() {
    let rig = Rig::new();
    let server = rig.server().await;
    for path in [
        "/v1/catalog/nodes",
        "/v1/catalog/services",
        "/v1/catalog/service/none",
        "/v1/catalog/node/none",
        "/v1/health/service/none",
        "/v1/health/checks/none",
        "/v1/health/node/none",
        "/v1/health/state/any",
        "/v1/agent/services",
        "/v1/agent/checks",
        "/v1/agent/members",
    ] {
        for (filter, words) in [
            ("Nothing == x", "Selector \"Nothing\" is not valid"),
            ("Name ==", "no match found, expected"),
        ] {
            let answer = server.get(&asking(path, filter)).await;
            let text = answer.text();
            assert_eq!(answer.status, 400, "{path} {filter}: {text}");
            let begin = "Failed to create boolean expression evaluator: ";
            assert!(text.starts_with(begin) && text.contains(words), "{path}: {text}");
        }
    }
    assert_eq!(server.get("/v1/catalog/nodes?filter=").await.status, 200, "empty is none");
}

#[tokio::test]
async fn a_filtered_read_blocks_like_any_other() {
    let rig = Rig::new();
    let server = rig.server().await;
    filled(&server).await;
    let path = asking("/v1/health/service/web", "Checks.Status == critical");
    let index = server.get(&path).await.index();
    let check = json!({"Node": "web2", "Address": "10.0.1.2",
                       "Check": {"Name": "alive", "ServiceID": "web-2", "Status": "passing"}});
    let waiting = format!("{path}&index={index}&wait=30s");
    let (woken, ()) = tokio::join!(server.get(&waiting), register(&server, check));
    assert_eq!(woken.json(), json!([]));
    assert!(woken.index() > index);
}
