//! The stream of events, as a reader sees it.

use std::time::Duration;

use sengu_core::time::Wall;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::config::HttpLimits;
use crate::http::testing::{Rig, Running, service};
use crate::journal::{KEPT, Kind};

fn keep(rig: &Rig, kind: Kind, text: &str) {
    let journal = &rig.context.journal;
    journal.keep(Wall(1), kind, Some(&service()), text.to_owned(), Map::new());
}

struct Stream {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _open: tokio::net::tcp::OwnedWriteHalf,
}

impl Stream {
    async fn open(running: &Running, query: &str, last: Option<&str>) -> Self {
        let stream = TcpStream::connect(running.address).await.expect("it accepts");
        let (read, mut write) = stream.into_split();
        let last = last.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let head = format!("GET /v1/sengu/events{query} HTTP/1.1\r\nhost: x\r\n{last}\r\n");
        write.write_all(head.as_bytes()).await.expect("sent");
        Self { lines: BufReader::new(read).lines(), _open: write }
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(Duration::from_secs(10), self.lines.next_line());
        line.await.expect("in time").expect("readable")
    }

    /// The data of the next event.
    async fn event(&mut self) -> Value {
        loop {
            let line = self.line().await.expect("the stream goes on");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }
}

#[tokio::test]
async fn a_reader_gets_what_is_kept_and_then_what_comes() {
    let rig = Rig::new();
    let running = rig.server().await;
    keep(&rig, Kind::Master, "first");
    let mut stream = Stream::open(&running, "", None).await;
    assert!(stream.line().await.expect("a head").starts_with("HTTP/1.1 200"));
    let first = stream.event().await;
    assert_eq!((&first["text"], &first["kind"]), (&"first".into(), &"master".into()));
    assert_eq!(first["service"], "foo-redis");
    keep(&rig, Kind::Named, "second");
    let second = stream.event().await;
    assert_eq!(second["text"], "second");

    keep(&rig, Kind::Named, "third");
    let id = second["id"].as_str().expect("an id");
    let mut resumed = Stream::open(&running, "", Some(id)).await;
    assert_eq!(resumed.event().await["text"], "third", "and nothing twice");
}

#[tokio::test]
async fn only_what_is_wanted_comes() {
    let rig = Rig::new();
    let running = rig.server().await;
    for (kind, text) in [(Kind::Master, "a"), (Kind::Named, "b"), (Kind::Hook, "c")] {
        keep(&rig, kind, text);
    }
    let mut stream = Stream::open(&running, "?kind=hook&service=foo-redis", None).await;
    assert_eq!(stream.event().await["text"], "c");
    let none = running.get("/v1/sengu/events?follow=false&service=other").await.json();
    assert_eq!(none, Value::Array(vec![]));
    let two = running.get("/v1/sengu/events?follow=false&limit=2").await.json();
    assert_eq!((&two[0]["text"], &two[1]["text"]), (&"b".into(), &"c".into()));
    let bad = running.get("/v1/sengu/events?kind=x").await;
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("master, named"), "{}", bad.text());
}

#[tokio::test]
async fn what_was_missed_is_told() {
    let rig = Rig::new();
    let running = rig.server().await;
    keep(&rig, Kind::Said, "gone");
    let id = rig.context.journal.id(rig.context.journal.end());
    for number in 0..KEPT + 5 {
        keep(&rig, Kind::Said, &format!("{number}"));
    }
    let mut stream = Stream::open(&running, "", Some(&id)).await;
    let missed = stream.event().await;
    assert_eq!((&missed["kind"], &missed["data"]["missed"]), (&"missed".into(), &5.into()));
    assert_eq!(stream.event().await["text"], "5");

    let mut other = Stream::open(&running, "?after=earlier-7", None).await;
    let missed = other.event().await;
    assert_eq!(missed["kind"], "missed");
    assert!(missed["text"].as_str().expect("text").contains("started again"), "{missed}");
    assert_eq!(other.event().await["text"], "5", "all that is kept follows");
}

#[tokio::test]
async fn readers_are_bounded_and_the_end_of_the_agent_ends_them() {
    let rig = Rig::new();
    let limits = HttpLimits { streams: 8, ..HttpLimits::default() };
    let running = rig.server_within(limits).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = Stream::open(&running, "?after=now", None).await;
        assert!(stream.line().await.expect("a head").starts_with("HTTP/1.1 200"));
        streams.push(stream);
    }
    let one_more = running.get("/v1/sengu/events").await;
    assert_eq!(one_more.status, 429);
    let stopped = tokio::time::timeout(Duration::from_secs(10), running.stop());
    stopped.await.expect("streams do not hold up the end");
    while streams[0].line().await.is_some() {}
}

#[tokio::test]
async fn metrics_are_answered_with_the_state_as_it_is() {
    let rig = Rig::new();
    rig.with_service(sengu_core::record::Promise::None).await;
    let running = rig.server().await;
    running.get("/v1/catalog/services").await;
    let answer = running.get("/metrics").await;
    assert_eq!(answer.header("content-type"), crate::metrics::CONTENT_TYPE);
    let text = answer.text();
    for line in [
        "sengu_service_term{service=\"foo-redis\"} 7.0",
        "sengu_service_named{service=\"foo-redis\"} 1.0",
        "sengu_instance_role{service=\"foo-redis\",instance=\"cache1\",role=\"master\"} 1.0",
        "sengu_service_state{service=\"foo-redis\",state=\"serving\"} 1.0",
    ] {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
    let route =
        "sengu_http_requests_total{method=\"GET\",route=\"/v1/catalog/services\",code=\"200\"}";
    assert!(text.contains(route), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}
