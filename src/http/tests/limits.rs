//! Bounds of the server: who may connect, how many, how slowly, how much.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::{HttpConfig, HttpLimits as Limits};
use crate::http::testing::{Answer, Rig};
use crate::http::{Gate, HttpError, HttpServer, serve};

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    // A reset is an end too.
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is closed");
    bytes
}

/// Reads one answer with a length from a connection that stays open.
async fn one(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.expect("it answers");
        assert!(count > 0, "closed too early");
        bytes.extend_from_slice(&part[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let answer = Answer::parse(&bytes);
        let length: usize = answer.header("content-length").parse().expect("a length");
        if bytes.len() >= end + 4 + length {
            return answer;
        }
    }
}

async fn start(rig: &Rig, config: &HttpConfig) -> Result<HttpServer, HttpError> {
    let gate = Arc::new(Gate::new(config, &BTreeMap::new()).expect("no certificates"));
    serve(config, gate, Arc::clone(&rig.context), None, std::future::pending()).await
}

#[tokio::test]
async fn nothing_listens_beyond_loopback() {
    let rig = Rig::new();
    for address in ["0.0.0.0:0", "10.1.2.3:8500", "[::]:8500", "[::ffff:10.1.2.3]:8500"] {
        let listen = vec!["127.0.0.1:0".parse().expect("good"), address.parse().expect("good")];
        let config = HttpConfig { listen, ..HttpConfig::default() };
        let refused = start(&rig, &config).await;
        let error = refused.expect_err("refused");
        assert!(matches!(error, HttpError::BeyondLoopback(_)), "{error}");
        assert!(error.to_string().contains("set http.listen to 127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let rig = Rig::new();
    let server = rig.server().await;
    let config = HttpConfig { listen: vec![server.address], ..HttpConfig::default() };
    let refused = start(&rig, &config).await;
    let error = refused.expect_err("in use").to_string();
    assert!(error.contains(&server.address.to_string()), "{error}");
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let rig = Rig::new();
    let server = rig.server().await;
    let mut stream = TcpStream::connect(server.address).await.expect("it accepts");
    for _ in 0..3 {
        let request = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        assert_eq!(one(&mut stream).await.status, 200);
    }
}

#[tokio::test]
async fn a_slow_header_is_cut_off() {
    let rig = Rig::new();
    let limits = Limits { header: Duration::from_millis(200), ..Limits::default() };
    let server = rig.server_within(limits).await;
    let mut stream = TcpStream::connect(server.address).await.expect("it accepts");
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: ").await.expect("sent");
    let bytes = rest(&mut stream).await;
    assert!(!bytes.starts_with(b"HTTP/1.1 200"), "no answer to half a request");
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_blocked_read_outlives_the_header_time() {
    let rig = Rig::new();
    let limits = Limits { header: Duration::from_millis(100), ..Limits::default() };
    let server = rig.server_within(limits).await;
    server.put("/v1/kv/k", b"1").await;
    let index = server.get("/v1/kv/k").await.index();
    let same = server.get(&format!("/v1/kv/k?index={index}&wait=400ms")).await;
    assert_eq!((same.status, same.index()), (200, index));
}

#[tokio::test]
async fn a_large_header_is_refused() {
    let rig = Rig::new();
    let server = rig.server().await;
    let mut stream = TcpStream::connect(server.address).await.expect("it accepts");
    let large = "x".repeat(40 * 1024);
    let request = format!("GET /health HTTP/1.1\r\nhost: x\r\nx-large: {large}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    assert_eq!(one_or_rest(&mut stream).await, 431);
}

async fn one_or_rest(stream: &mut TcpStream) -> u16 {
    Answer::parse(&rest(stream).await).status
}

#[tokio::test]
async fn connections_have_a_cap() {
    let rig = Rig::new();
    let server = rig.server_within(Limits { connections: 3, ..Limits::default() }).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).await.expect("it accepts");
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        assert_eq!(one(&mut stream).await.status, 200);
        kept.push(stream);
    }
    let refused = server.get("/health").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text(), "this agent has too many open connections already");
    drop(kept.pop());
    let again = async {
        while server.get("/health").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("a seat became free");
}

#[tokio::test]
async fn the_end_answers_those_who_wait() {
    let rig = Rig::new();
    let server = rig.server().await;
    server.put("/v1/kv/k", b"1").await;
    let index = server.get("/v1/kv/k").await.index();
    let mut stream = TcpStream::connect(server.address).await.expect("it accepts");
    let path = format!("/v1/kv/k?index={index}&wait=300s");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    // Taken up before the end: a second request is answered after it was accepted.
    assert_eq!(server.get("/health").await.status, 200);
    let began = crate::clock::time();
    let (answer, ()) = tokio::join!(one(&mut stream), server.stop());
    assert_eq!((answer.status, answer.index()), (200, index));
    assert!(crate::clock::time().since(began) < Duration::from_secs(3));
}

#[tokio::test]
async fn before_the_first_read_nothing_is_known() {
    let mut rig = Rig::new();
    let context = Arc::get_mut(&mut rig.context).expect("not shared yet");
    context.view = Arc::default();
    let server = rig.server().await;
    for path in ["/v1/kv/k", "/v1/catalog/nodes", "/v1/health/state/any"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (500, "No cluster leader"), "{path}");
    }
    assert_eq!(server.get("/master/foo-redis").await.status, 503);
    assert_eq!(server.get("/health").await.status, 200);
}
