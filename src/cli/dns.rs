//! `sengu dns`: one question to a DNS server, sengu's own unless told otherwise.
//!
//! UDP first, TCP when the answer was cut short. Asks exactly what is written: no search list, no
//! cache, no resolver of the system.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use serde_json::json;

use super::client::{self, ClientError};
use super::print;
use super::{Exit, Global};
use crate::config::Config;

/// Where the agent listens by default.
const DNS_PORT: u16 = 8600;

/// Ask a DNS server, by default this host's agent
///
/// For example `sengu dns master.foo-redis.service.sengu srv`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The name
    name: String,
    /// Which records: A, AAAA, SRV, PTR, TXT, SOA, NS, ANY
    #[arg(value_name = "TYPE", default_value = "A", value_parser = record_type)]
    kind: RecordType,
    /// The server; else the first `dns.listen` of the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Option<SocketAddr>,
    /// Ask over TCP
    #[arg(long)]
    tcp: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "2s",
          value_parser = crate::duration::parse)]
    timeout: Duration,
}

fn record_type(text: &str) -> Result<RecordType, String> {
    text.to_ascii_uppercase().parse().map_err(|_| "no such type of record".to_owned())
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let server = options.server.unwrap_or_else(|| configured(global));
    let answer = asked(server, options)?;
    if global.json {
        print::json(&data(&answer));
    } else {
        print::text(&lines(&answer, &options.name, server));
    }
    let found =
        answer.metadata.response_code == ResponseCode::NoError && !answer.answers.is_empty();
    Ok(if found { Exit::Done } else { Exit::Failed })
}

/// One question to one server, within a time.
pub(super) fn ask(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    timeout: Duration,
) -> anyhow::Result<Message> {
    let name = name.to_owned();
    asked(server, &Options { name, kind, server: Some(server), tcp: false, timeout })
}

fn asked(server: SocketAddr, options: &Options) -> anyhow::Result<Message> {
    let question = question(&options.name, options.kind)?;
    let until = Instant::now() + options.timeout.max(Duration::from_millis(1));
    let unreachable = |error: std::io::Error| ClientError::Unreachable {
        place: server.to_string(),
        reason: match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                "no answer in time".to_owned()
            }
            _ => error.to_string(),
        },
    };
    let mut answer = None;
    if !options.tcp {
        answer = Some(over_udp(server, &question, until).map_err(unreachable)?);
    }
    match answer.filter(|answer| !answer.metadata.truncation) {
        Some(answer) => Ok(answer),
        None => Ok(over_tcp(server, &question, until).map_err(unreachable)?),
    }
}

/// Where the agent of this host listens; the default if its file cannot tell.
fn configured(global: &Global) -> SocketAddr {
    let listen = Config::load(&global.config).ok().and_then(|c| c.dns.listen.first().copied());
    client::reachable(listen, DNS_PORT)
}

fn question(name: &str, kind: RecordType) -> anyhow::Result<Message> {
    let mut name = Name::from_ascii(name).with_context(|| format!("{name:?} is no DNS name"))?;
    name.set_fqdn(true);
    let mut id = [0; 2];
    getrandom::fill(&mut id).context("the system has no random numbers")?;
    let mut message = Message::new(u16::from_ne_bytes(id), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut query = Query::query(name, kind);
    query.set_query_class(DNSClass::IN);
    message.add_query(query);
    Ok(message)
}

fn over_udp(server: SocketAddr, question: &Message, until: Instant) -> std::io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(&question.to_vec().map_err(std::io::Error::other)?)?;
    let mut buffer = [0; 4096];
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        let length = socket.recv(&mut buffer)?;
        // What does not answer this question is somebody else's, or a late one.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answer.metadata.id == question.metadata.id
            && answer.queries == question.queries
        {
            return Ok(answer);
        }
    }
}

fn over_tcp(server: SocketAddr, question: &Message, until: Instant) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    let question = question.to_vec().map_err(std::io::Error::other)?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat())?;
    let mut prefix = [0; 2];
    stream.set_read_timeout(Some(left(until)?))?;
    stream.read_exact(&mut prefix)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(prefix))];
    stream.set_read_timeout(Some(left(until)?))?;
    stream.read_exact(&mut answer)?;
    Message::from_vec(&answer).map_err(std::io::Error::other)
}

fn left(until: Instant) -> std::io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// One line a record, as zone files have them.
fn lines(answer: &Message, name: &str, server: SocketAddr) -> String {
    let code = answer.metadata.response_code;
    let mut text = String::new();
    if code == ResponseCode::NXDomain {
        text = format!("{name}: there is no such name, says {server}\n");
    } else if code != ResponseCode::NoError {
        text = format!("{name}: {code} from {server}\n");
    } else if answer.answers.is_empty() {
        text = format!("{name}: no such records at {server}\n");
    }
    for record in answer.answers.iter().chain(&answer.additionals) {
        text += &format!("{record}\n");
    }
    text
}

fn data(answer: &Message) -> serde_json::Value {
    let records = |records: &[hickory_proto::rr::Record]| {
        let record = |record: &hickory_proto::rr::Record| {
            json!({
                "name": record.name.to_string(),
                "ttl": record.ttl,
                "type": record.record_type().to_string(),
                "data": record.data.to_string(),
            })
        };
        records.iter().map(record).collect::<Vec<_>>()
    };
    json!({
        "code": answer.metadata.response_code.to_string(),
        "authoritative": answer.metadata.authoritative,
        "answers": records(&answer.answers),
        "additionals": records(&answer.additionals),
    })
}

#[cfg(test)]
mod tests;
