//! Clients that are slow, or many: each way to hold a connection has an end, and those who wait
//! leave room for others.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::config::HttpLimits;
use crate::http::testing::{Answer, Rig, Running};

const SHORT: Duration = Duration::from_millis(150);

/// All that comes until it is closed, however that is.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 * 1024];
    let read = async {
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            bytes.extend_from_slice(&part[..count]);
        }
    };
    timeout(Duration::from_secs(20), read).await.expect("it is closed");
    bytes
}

async fn connect(server: &Running) -> TcpStream {
    TcpStream::connect(server.address).await.expect("it accepts")
}

#[tokio::test]
async fn silence_and_a_header_byte_by_byte_are_cut() {
    let rig = Rig::new();
    let limits = HttpLimits { header: SHORT, ..HttpLimits::default() };
    let server = rig.server_within(limits).await;
    assert!(rest(&mut connect(&server).await).await.is_empty(), "silent");
    // A byte now and then is no way to live on.
    let stream = connect(&server).await;
    let (mut reads, mut writes) = stream.into_split();
    let drip = async {
        for byte in b"GET /health HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if writes.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut bytes = Vec::new();
    let read = reads.read_to_end(&mut bytes);
    tokio::select! {
        () = drip => {}
        ended = timeout(Duration::from_secs(20), read) => drop(ended.expect("it is closed")),
    }
    assert!(!bytes.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_used_one_does_not() {
    let rig = Rig::new();
    let limits = HttpLimits { idle: SHORT, header: SHORT * 100, ..HttpLimits::default() };
    let server = rig.server_within(limits).await;
    let mut stream = connect(&server).await;
    let began = tokio::time::Instant::now();
    // Longer in all than it may be idle.
    while began.elapsed() < SHORT * 3 {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("open");
        let mut part = [0; 4096];
        assert!(stream.read(&mut part).await.expect("answered") > 0);
        tokio::time::sleep(SHORT / 5).await;
    }
    assert!(rest(&mut stream).await.is_empty());
}

#[tokio::test]
async fn a_slow_body_is_told_and_cut() {
    let rig = Rig::new();
    let limits = HttpLimits { body: SHORT, ..HttpLimits::default() };
    let server = rig.server_within(limits).await;
    let mut stream = connect(&server).await;
    let head = b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf";
    stream.write_all(head).await.expect("sent");
    let answer = Answer::parse(&rest(&mut stream).await);
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert_eq!(answer.text(), "the request's body did not come within 150ms");
    assert_eq!(server.get("/v1/kv/a").await.status, 404, "nothing was written");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let rig = Rig::new();
    let limits = HttpLimits { stall: SHORT, ..HttpLimits::default() };
    let server = rig.server_within(limits).await;
    // More than the buffers between the two take in.
    let value = vec![b'x'; 500 * 1024];
    for number in 0..24 {
        assert_eq!(server.put(&format!("/v1/kv/big/{number}"), &value).await.status, 200);
    }
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut stream = socket.connect(server.address).await.expect("it accepts");
    let cut = || crate::metrics::get().http_cut.get_or_create(&[("reason", "stall")]).get();
    let before = cut();
    stream.write_all(b"GET /v1/kv/big/?recurse HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let seen = async {
        while cut() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), seen).await.expect("it was cut");
    let all = 24 * 500 * 1024 * 4 / 3;
    assert!(rest(&mut stream).await.len() < all, "not the whole answer");
}

#[tokio::test]
async fn those_who_wait_leave_room_for_others() {
    let rig = Rig::new();
    let limits = HttpLimits { waiting: 3, ..HttpLimits::default() };
    let server = rig.server_within(limits).await;
    server.put("/v1/kv/k", b"1").await;
    let index = server.get("/v1/kv/k").await.index();
    let path = format!("/v1/kv/k?index={index}&wait=60s");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&server).await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        waiting.push(stream);
    }
    let full = async {
        loop {
            let short = server.get(&format!("/v1/kv/k?index={index}&wait=1ms")).await;
            if short.status == 429 {
                return short;
            }
        }
    };
    let refused = timeout(Duration::from_secs(10), full).await.expect("all three wait");
    assert!(refused.text().starts_with("too many reads wait already"), "{}", refused.text());
    // Who does not wait is served, and writes wake those who do.
    assert_eq!(server.get("/v1/kv/k").await.status, 200);
    assert_eq!(server.put("/v1/kv/k", b"2").await.status, 200);
    for stream in &mut waiting {
        assert_eq!(Answer::parse(&rest(stream).await).status, 200);
    }
}

#[tokio::test]
async fn two_thousand_wait_with_the_defaults() {
    let rig = Rig::new();
    let server = rig.server().await;
    server.put("/v1/kv/k", b"1").await;
    let index = server.get("/v1/kv/k").await.index();
    let request = format!(
        "GET /v1/kv/k?index={index}&wait=60s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    );
    let mut waiting = Vec::new();
    for _ in 0..2000 {
        let mut stream = connect(&server).await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        waiting.push(stream);
    }
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.put("/v1/kv/k", b"2").await.status, 200);
    for stream in &mut waiting {
        let answer = Answer::parse(&rest(stream).await);
        assert_eq!((answer.status, answer.index() > index), (200, true));
    }
}
