//! What clients beyond this host get: no more than their share, and nothing to aim at others.

use std::net::SocketAddr;

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RecordType;

use super::fixture::*;
use crate::config::DnsConfig;
use crate::dns::handler::Handler;
use crate::dns::tcp;

fn stranger() -> SocketAddr {
    "192.0.2.7:5353".parse().expect("an address")
}

/// A question from that address, and what is sent there.
async fn asked(handler: &Handler, kind: RecordType, protocol: Protocol) -> Option<Message> {
    let bytes = query(MASTER, kind).to_vec().expect("encodes");
    let answer = tcp::answer_over(protocol, bytes, stranger(), handler).await?;
    Some(Message::from_vec(&answer).expect("well formed"))
}

async fn handler(config: &DnsConfig) -> Handler {
    crate::dns::handler_of(config, "dc1", published())
}

#[tokio::test]
async fn a_flood_is_sent_to_tcp_or_dropped() {
    let handler = handler(&DnsConfig { responses_per_second: 4, ..config() }).await;
    let (mut whole, mut cut, mut dropped) = (0, 0, 0);
    // Within one second, or two if it turns meanwhile.
    for _ in 0..40 {
        match asked(&handler, RecordType::A, Protocol::Udp).await {
            Some(answer) if answer.metadata.truncation => {
                assert!(answer.answers.is_empty() && answer.additionals.is_empty());
                assert_eq!(answer.queries.len(), 1);
                cut += 1;
            }
            Some(answer) => {
                assert_eq!(addresses(&answer), ["10.0.0.1"]);
                whole += 1;
            }
            None => dropped += 1,
        }
    }
    assert!((4..=8).contains(&whole), "{whole}");
    assert!(cut >= 15 && dropped >= 15, "{cut} {dropped}");
    // TCP has a bound of its own.
    let answer = asked(&handler, RecordType::A, Protocol::Tcp).await.expect("answered");
    assert_eq!(addresses(&answer), ["10.0.0.1"]);
}

#[tokio::test]
async fn any_is_one_kind_of_record_over_udp() {
    let handler = handler(&config()).await;
    let over_udp = asked(&handler, RecordType::ANY, Protocol::Udp).await.expect("answered");
    assert_eq!(over_udp.answers.len(), 1, "{over_udp:?}");
    assert!(over_udp.additionals.is_empty());
    let over_tcp = asked(&handler, RecordType::ANY, Protocol::Tcp).await.expect("answered");
    assert_eq!(over_tcp.answers.len(), 2, "{over_tcp:?}");
}

#[tokio::test]
async fn names_of_others_are_refused_to_strangers() {
    let recursors = vec!["192.0.2.53:53".parse().expect("an address")];
    let handler = handler(&DnsConfig { recursors, ..config() }).await;
    let bytes = query("example.org", RecordType::A).to_vec().expect("encodes");
    let length = bytes.len();
    let answer = tcp::answer_over(Protocol::Udp, bytes, stranger(), &handler).await;
    let answer = answer.expect("answered");
    assert!(answer.len() <= length, "a refusal is no larger than what was asked");
    let answer = Message::from_vec(&answer).expect("well formed");
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert!(!answer.metadata.recursion_available);
}
