//! Tokens on real sockets: who may what, in which words, and what is written down of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sengu_core::record::Promise;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::audit::{self, Audit, Bounds};
use crate::config::{HttpConfig, TokenConfig};
use crate::http::Gate;
use crate::http::testing::{Answer, Rig, Running};
use crate::operator::tests::Fixed;
use crate::token::{Hash, Scope};

const READER: &str = "reader-0123456789abcdef";
const WRITER: &str = "writer-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";

fn tokens() -> BTreeMap<String, TokenConfig> {
    let all = [
        ("grafana", Scope::Read, READER),
        ("deploy", Scope::Write, WRITER),
        ("anna", Scope::Operate, OPERATOR),
    ];
    let token = |scope, text| TokenConfig { scope, hashes: vec![Hash::of(text)] };
    all.map(|(name, scope, text)| (name.to_owned(), token(scope, text))).into()
}

async fn server(rig: &Rig, config: HttpConfig) -> Running {
    rig.server_with(config, tokens(), Some(Arc::new(Fixed))).await
}

/// One request with a header line of its own.
async fn ask(server: &Running, method: &str, path: &str, header: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address).await.expect("it accepts");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\
         {header}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("answered");
    Answer::parse(&bytes)
}

fn with(token: &str) -> String {
    format!("X-Consul-Token: {token}\r\n")
}

#[tokio::test]
async fn each_scope_has_what_it_is_for() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = server(&rig, HttpConfig::default()).await;
    // What is asked, and the status for a reader, a writer and an operator.
    for (method, path, body, statuses) in [
        ("GET", "/v1/kv/?recurse", "", [404, 404, 404]),
        ("PUT", "/v1/kv/a", "1", [403, 200, 200]),
        ("GET", "/v1/kv/a", "", [200, 200, 200]),
        ("DELETE", "/v1/kv/a", "", [403, 200, 200]),
        ("GET", "/v1/catalog/nodes", "", [200, 200, 200]),
        ("PUT", "/v1/session/create", "{}", [403, 200, 200]),
        ("PUT", "/v1/agent/service/register", "{\"Name\":\"web\"}", [403, 200, 200]),
        ("PUT", "/v1/txn", "[]", [403, 200, 200]),
        ("GET", "/metrics", "", [200, 200, 200]),
        ("GET", "/v1/sengu/services", "", [200, 200, 200]),
        ("GET", "/v1/sengu/status", "", [200, 200, 200]),
        ("GET", "/v1/sengu/records", "", [403, 403, 200]),
        ("POST", "/v1/sengu/reload", "", [403, 403, 422]),
        ("GET", "/nothing", "", [404, 404, 404]),
    ] {
        for (token, status) in [READER, WRITER, OPERATOR].into_iter().zip(statuses) {
            let answer = ask(&server, method, path, &with(token), body).await;
            assert_eq!(answer.status, status, "{method} {path} {token}: {}", answer.text());
            if status == 403 {
                assert!(
                    answer.text().starts_with("Permission denied: token "),
                    "{}",
                    answer.text()
                );
                assert!(!answer.text().contains(token));
            }
        }
        let stranger = ask(&server, method, path, "", body).await;
        assert_eq!(stranger.status, 403, "{method} {path}");
        assert!(stranger.text().starts_with("Permission denied: this needs a token"));
        let unknown = ask(&server, method, path, &with("not-a-token-of-anybody"), body).await;
        assert_eq!((unknown.status, unknown.text().as_str()), (403, "ACL not found"), "{path}");
    }
}

#[tokio::test]
async fn a_token_comes_in_three_ways() {
    let rig = Rig::new();
    let server = server(&rig, HttpConfig::default()).await;
    let bearer = format!("Authorization: Bearer {READER}\r\n");
    let nodes = "/v1/catalog/nodes";
    assert_eq!(ask(&server, "GET", nodes, &bearer, "").await.status, 200);
    assert_eq!(ask(&server, "GET", nodes, &with(READER), "").await.status, 200);
    let answer = ask(&server, "GET", &format!("{nodes}?token={READER}"), "", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-consul-default-acl-policy"), "deny");
    assert_eq!(ask(&server, "GET", nodes, &with(&"x".repeat(9000)), "").await.status, 403);
}

#[tokio::test]
async fn health_answers_are_open_unless_said_otherwise() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let open = server(&rig, HttpConfig::default()).await;
    for (path, status) in [
        ("/health", 200),
        ("/master/foo-redis", 200),
        ("/replica/foo-redis", 503),
        ("/check/x", 404),
    ] {
        assert_eq!(ask(&open, "GET", path, "", "").await.status, status, "{path}");
    }
    assert_eq!(ask(&open, "PUT", "/health", "", "").await.status, 403);
    let closed = HttpConfig { health_without_token: false, ..HttpConfig::default() };
    let closed = server(&rig, closed).await;
    assert_eq!(ask(&closed, "GET", "/health", "", "").await.status, 403);
    assert_eq!(ask(&closed, "GET", "/master/foo-redis", &with(READER), "").await.status, 200);
}

#[tokio::test]
async fn this_host_may_go_without_where_that_is_said() {
    let rig = Rig::new();
    let config = HttpConfig { loopback_without_token: true, ..HttpConfig::default() };
    let server = server(&rig, config).await;
    assert_eq!(ask(&server, "PUT", "/v1/kv/a", "", "1").await.status, 200);
    // Who shows a token is held to it.
    assert_eq!(ask(&server, "PUT", "/v1/kv/a", &with(READER), "1").await.status, 403);
    assert_eq!(
        ask(&server, "GET", "/v1/kv/a", &with("not-a-token-of-anybody"), "").await.status,
        403
    );
    // What the socket is for needs a token even so.
    let refused = ask(&server, "POST", "/v1/sengu/reload", "", "").await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("the agent's socket takes it"), "{}", refused.text());
}

#[tokio::test]
async fn without_any_token_all_is_as_it_was() {
    let rig = Rig::new();
    let server =
        rig.server_with(HttpConfig::default(), BTreeMap::new(), Some(Arc::new(Fixed))).await;
    assert_eq!(ask(&server, "PUT", "/v1/kv/a", "", "1").await.status, 200);
    let read = ask(&server, "GET", "/v1/kv/a", &with("whatever"), "").await;
    assert_eq!((read.status, read.header("x-consul-default-acl-policy")), (200, "allow"));
    assert_eq!(ask(&server, "GET", "/v1/sengu/status", "", "").await.status, 403);
    assert_eq!(ask(&server, "POST", "/v1/sengu/reload", "", "").await.status, 403);
}

#[tokio::test]
async fn tokens_change_while_it_runs() {
    let rig = Rig::new();
    let server = server(&rig, HttpConfig::default()).await;
    let mut later = tokens();
    later.remove("grafana");
    let deploy = later.get_mut("deploy").expect("there");
    deploy.hashes.push(Hash::of("another-0123456789abcdef"));
    server.gate.change(Gate::prepare(&HttpConfig::default(), &later).expect("good"));
    for (token, status) in [(READER, 403), (WRITER, 200), ("another-0123456789abcdef", 200)] {
        assert_eq!(ask(&server, "PUT", "/v1/kv/a", &with(token), "1").await.status, status);
    }
}

#[tokio::test]
async fn the_audit_names_the_token_and_never_shows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rig = Rig::new();
    let audit = Arc::new(Audit::open(folder.path(), Bounds::default()).expect("opened"));
    Arc::get_mut(&mut rig.context).expect("not shared yet").audit = Arc::clone(&audit);
    let server = server(&rig, HttpConfig::default()).await;
    ask(&server, "PUT", "/v1/kv/a", &with(WRITER), "1").await;
    ask(&server, "PUT", &format!("/v1/kv/b?token={READER}"), "", "1").await;
    ask(&server, "PUT", "/v1/kv/c", &with("not-a-token-of-anybody"), "1").await;
    ask(&server, "POST", "/v1/sengu/reload", &with(OPERATOR), "").await;
    audit.end();
    let lines = audit::read(folder.path()).expect("read");
    let told: Vec<(Option<&str>, &str, bool)> =
        lines.iter().map(|l| (l.who.token.as_deref(), l.what.as_str(), l.good)).collect();
    assert_eq!(
        told,
        [
            (Some("deploy"), "PUT /v1/kv/a (1 bytes)", true),
            (Some("grafana"), "PUT /v1/kv/b (1 bytes)", false),
            (None, "PUT /v1/kv/c (1 bytes)", false),
            (Some("anna"), "POST /v1/sengu/reload", false),
        ]
    );
    assert!(lines[0].who.words().starts_with("token deploy (127.0.0.1:"));
    for file in audit::FILES {
        let text = std::fs::read_to_string(audit::folder(folder.path()).join(file));
        let text = text.unwrap_or_default();
        for secret in [READER, WRITER, OPERATOR, "not-a-token"] {
            assert!(!text.contains(secret), "{file}: {text}");
        }
    }
}

#[tokio::test]
async fn programs_of_clients_are_an_operators_right() {
    let rig = Rig::scripted();
    let server = server(&rig, HttpConfig::default()).await;
    let check = "{\"Name\":\"c\",\"Interval\":\"10s\",\"Args\":[\"true\"]}";
    let path = "/v1/agent/check/register";
    assert_ne!(ask(&server, "PUT", path, &with(WRITER), check).await.status, 200);
    assert_eq!(ask(&server, "PUT", path, &with(OPERATOR), check).await.status, 200);
}

#[tokio::test]
async fn an_operators_request_tells_whose_token_it_was() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = server(&rig, HttpConfig::default()).await;
    let asking = "{\"ask\":\"pause\",\"within_secs\":600}";
    let path = "/v1/sengu/request/foo-redis";
    let denied = ask(&server, "POST", path, &with(WRITER), asking).await;
    assert_eq!(denied.status, 403);
    let placed = ask(&server, "POST", path, &with(OPERATOR), asking).await;
    assert_eq!(placed.status, 200, "{}", placed.text());
    let id = placed.json()["id"].as_str().expect("an id").to_owned();
    let told = ask(&server, "GET", &format!("{path}/{id}"), &with(READER), "").await;
    assert!(told.text().contains("token anna@db1"), "{}", told.text());
}
