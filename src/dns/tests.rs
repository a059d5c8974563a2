//! The server on real sockets, spoken to in raw packets.

mod exposed;
mod fixture;
mod forwarding;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_server::proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{DnsError, serve};
use crate::clock;
use crate::view::View;
use fixture::{
    MANY, MASTER, PATIENCE, Running, addresses, catalog, config, exchange, query, with_edns,
};

#[tokio::test]
async fn the_master_is_named_over_udp_and_tcp() {
    let running = Running::start(&config()).await;
    let query = query(MASTER, RecordType::A);
    for answer in [running.udp(&query).await.0, running.tcp(&query).await] {
        assert_eq!(addresses(&answer), ["10.0.0.1"]);
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert!(answer.metadata.authoritative, "our own name");
        assert!(answer.metadata.recursion_desired, "as asked");
        assert!(!answer.metadata.recursion_available, "there are no recursors");
        assert!(answer.edns.is_none(), "none was sent");
        assert_eq!(answer.answers[0].ttl, 0);
    }
}

#[tokio::test]
async fn one_connection_takes_several_requests() {
    let running = Running::start(&config()).await;
    let mut stream = TcpStream::connect(running.address()).await.expect("connected");
    for _ in 0..3 {
        let answer = exchange(&mut stream, &query(MASTER, RecordType::A)).await;
        assert_eq!(addresses(&answer), ["10.0.0.1"]);
    }
}

#[tokio::test]
async fn the_question_keeps_its_case() {
    let running = Running::start(&config()).await;
    let asked = "mAsTeR.FOO-redis.SERvice.cOnSuL";
    let query = query(asked, RecordType::A);
    for answer in [running.udp(&query).await.0, running.tcp(&query).await] {
        assert_eq!(addresses(&answer), ["10.0.0.1"]);
        assert_eq!(answer.queries[0].name.to_ascii(), format!("{asked}."));
        assert_eq!(answer.answers[0].name.to_ascii(), format!("{asked}."));
    }
}

#[tokio::test]
async fn absences_come_with_a_soa_of_no_time() {
    let running = Running::start(&config()).await;
    for (name, kind, code) in [
        (MASTER, RecordType::AAAA, ResponseCode::NoError),
        (MASTER, RecordType::MX, ResponseCode::NoError),
        ("no-such.service.consul", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = running.ask(name, kind).await;
        assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
        assert!(answer.metadata.authoritative && answer.answers.is_empty(), "{name} {kind}");
        let [soa] = answer.authorities.as_slice() else { panic!("no SOA: {answer:?}") };
        let RData::SOA(data) = &soa.data else { panic!("{soa:?}") };
        assert_eq!((soa.name.to_ascii().as_str(), soa.ttl, data.minimum), ("consul.", 0, 0));
    }
}

#[tokio::test]
async fn srv_and_any_name_port_and_address() {
    let running = Running::start(&config()).await;
    let answer = running.ask(MASTER, RecordType::SRV).await;
    let RData::SRV(srv) = &answer.answers[0].data else { panic!("{answer:?}") };
    assert_eq!((srv.priority, srv.weight, srv.port), (1, 1, 6379));
    assert_eq!(srv.target.to_ascii(), "0a000001.addr.dc1.consul.");
    let [glue] = answer.additionals.as_slice() else { panic!("{answer:?}") };
    assert_eq!((&glue.name, &glue.data), (&srv.target, &RData::A("10.0.0.1".parse().expect("ip"))));
    let any = running.ask(MASTER, RecordType::ANY).await;
    assert_eq!((addresses(&any), any.answers.len()), (vec!["10.0.0.1".to_owned()], 2));
}

#[tokio::test]
async fn time_alone_withdraws_the_master() {
    let view = Arc::new(View::default());
    let running = Running::start_with(&config(), view).await;
    let answer = running.ask(MASTER, RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "nothing was read yet");

    let until = clock::time() + Duration::from_millis(50);
    running.view.publish(catalog(1, until, 0));
    let mut named = 0;
    loop {
        let before = clock::time();
        let answer = running.ask(MASTER, RecordType::A).await;
        let after = clock::time();
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "the name is known");
        if addresses(&answer).is_empty() {
            assert!(after >= until, "withdrawn {:?} early", until.since(after));
            break;
        }
        assert!(before < until, "named {:?} too late", before.since(until));
        named += 1;
    }
    assert!(named > 0, "it was named before");
    running.view.publish(catalog(1, clock::time() + Duration::from_secs(3600), 0));
    assert_eq!(addresses(&running.ask(MASTER, RecordType::A).await), ["10.0.0.1"]);
}

#[tokio::test]
async fn a_change_of_registered_services_is_seen() {
    let running = Running::start(&config()).await;
    for (revision, many) in [(2, 3), (3, 0), (4, 1)] {
        let until = clock::time() + Duration::from_secs(3600);
        running.view.publish(catalog(revision, until, many));
        let answer = running.ask(MANY, RecordType::A).await;
        assert_eq!(addresses(&answer).len(), usize::from(many));
    }
}

#[tokio::test]
async fn large_answers_are_cut_to_size_and_whole_over_tcp() {
    let running = Running::start(&config()).await;
    for kind in [RecordType::A, RecordType::SRV, RecordType::ANY] {
        let plain = query(MANY, kind);
        let (cut, length) = running.udp(&plain).await;
        assert!(length <= 512 && cut.metadata.truncation, "{kind}: {length}");
        assert!(!cut.answers.is_empty(), "{kind}: some fit");
        for (payload, limit) in [(100, 512), (512, 512), (600, 600), (1232, 1232), (65_535, 1232)] {
            let (cut, length) = running.udp(&with_edns(plain.clone(), payload)).await;
            assert!(length <= limit && cut.metadata.truncation, "{kind} {payload}: {length}");
            assert!(cut.edns.is_some(), "{kind} {payload}: EDNS was cut off");
            // One more would not have fitted: a record is 16 bytes at least, a long one under 80.
            assert!(length > limit - 80, "{kind} {payload}: only {length} bytes");
        }
        let whole = running.tcp(&plain).await;
        let want = if kind == RecordType::ANY { 200 } else { 100 };
        assert!(!whole.metadata.truncation && whole.answers.len() == want, "{kind}: {whole:?}");
    }
    let mut first = BTreeSet::new();
    for _ in 0..20 {
        first.insert(addresses(&running.ask(MANY, RecordType::A).await)[0].clone());
    }
    assert!(first.len() > 5, "the order changes from answer to answer: {first:?}");
}

#[tokio::test]
async fn additional_records_are_left_out_without_a_word() {
    let running = Running::start(&config()).await;
    running.view.publish(catalog(2, clock::time() + Duration::from_secs(60), 10));
    let (answer, length) = running.udp(&query(MANY, RecordType::SRV)).await;
    assert_eq!(answer.answers.len(), 10);
    assert!(!answer.metadata.truncation && length <= 512, "{length}");
    assert!(answer.additionals.len() < 10, "not all addresses fit");
}

#[tokio::test]
async fn edns_is_answered_in_kind() {
    let running = Running::start(&config()).await;
    let mut asked = with_edns(query(MASTER, RecordType::A), 4096);
    let edns = asked.edns.as_mut().expect("set");
    edns.set_dnssec_ok(true);
    let subnet = ClientSubnet::new("198.51.100.0".parse().expect("ip"), 24, 0);
    edns.options_mut().insert(EdnsOption::Subnet(subnet));
    let answer = running.udp(&asked).await.0;
    assert_eq!(addresses(&answer), ["10.0.0.1"]);
    let edns = answer.edns.as_ref().expect("it was sent");
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, 1232, true));
    assert_eq!(edns.option(EdnsCode::Subnet), Some(&EdnsOption::Subnet(subnet)));

    asked.edns.as_mut().expect("set").set_version(1);
    let answer = running.udp(&asked).await.0;
    // BADVERS and BADSIG are one number, which hickory reads as the latter.
    assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert_eq!(answer.edns.expect("the code needs it").version(), 0);
    assert!(answer.answers.is_empty(), "the version is not spoken");
}

#[tokio::test]
async fn what_is_not_done_is_said() {
    let running = Running::start(&config()).await;
    let plain = query(MASTER, RecordType::A);
    let mut notify = plain.clone();
    notify.metadata.op_code = OpCode::Notify;
    let mut chaos = query("version.bind", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    let mut two = plain.clone();
    two.add_query(Query::query(Name::from_ascii("a.consul.").expect("a name"), RecordType::A));
    let mut none = plain.clone();
    none.queries.clear();
    for (what, asked, code) in [
        ("notify", notify, ResponseCode::NotImp),
        ("axfr", query("consul", RecordType::AXFR), ResponseCode::NotImp),
        ("ixfr", query("example.org", RecordType::IXFR), ResponseCode::NotImp),
        ("chaos", chaos, ResponseCode::Refused),
        ("two questions", two, ResponseCode::FormErr),
        ("no question", none, ResponseCode::FormErr),
        ("another's name", query("example.org", RecordType::A), ResponseCode::Refused),
    ] {
        for answer in [running.udp(&asked).await.0, running.tcp(&asked).await] {
            assert_eq!(answer.metadata.response_code, code, "{what}");
            assert!(answer.answers.is_empty(), "{what}");
        }
    }
}

/// Numbers that look random, the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("64 bits") % below
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).expect("a byte")
    }
}

/// Malformed packets: noise, noise behind a header, good queries cut or with bits turned, names
/// that point at themselves, at each other and beyond the end.
fn garbage() -> Vec<Vec<u8>> {
    let mut numbers = Numbers(0x5eed_5eed_5eed_5eed);
    let good = with_edns(query(MASTER, RecordType::SRV), 1232).to_vec().expect("encodes");
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let mut packets: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    for tail in [
        &[0xc0, 0x0c, 0, 1, 0, 1][..],
        &[0xc0, 0x0e, 0xc0, 0x0c, 0, 1, 0, 1],
        &[1, b'a', 0xc0, 0x0c, 0, 1, 0, 1],
        &[0xff, 0xff, 0, 1, 0, 1],
        &[0x3f, b'a'],
        &[0x40, b'a', 0, 0, 1, 0, 1],
        &[0x80, b'a', 0, 0, 1, 0, 1],
    ] {
        packets.push([&header[..], tail].concat());
    }
    // Counts that promise 65535 of everything, and a name of the longest length and beyond.
    packets.push([&[0, 1, 1, 0][..], &[0xff; 8]].concat());
    packets.push([&header[..], &[1, b'a'].repeat(200), &[0, 0, 1, 0, 1]].concat());
    while packets.len() < 1000 {
        let packet = match numbers.next(3) {
            0 => (0..numbers.next(600)).map(|_| numbers.byte()).collect(),
            1 => {
                let tail: Vec<u8> = (0..numbers.next(100)).map(|_| numbers.byte()).collect();
                [&header[..], &tail].concat()
            }
            _ => {
                let mut packet = good.clone();
                for _ in 0..=numbers.next(4) {
                    let at = numbers.next(packet.len());
                    packet[at] ^= 1 << numbers.next(8);
                }
                packet
            }
        };
        packets.push(packet);
    }
    packets
}

#[tokio::test]
async fn garbage_does_not_stop_it() {
    let running = Running::start(&config()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(running.address()).await.expect("a route");
    for (n, packet) in garbage().iter().enumerate() {
        socket.send(packet).await.expect("sent");
        if n % 50 == 0 {
            assert_eq!(addresses(&running.ask(MASTER, RecordType::A).await), ["10.0.0.1"]);
        }
    }
    for packet in garbage().iter().step_by(10) {
        let mut stream = TcpStream::connect(running.address()).await.expect("connected");
        let length = u16::try_from(packet.len()).expect("short");
        // It may close before all is written.
        let _ = stream.write_all(&[&length.to_be_bytes(), packet.as_slice()].concat()).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection was left open");
    }
    let good = query(MASTER, RecordType::A);
    assert_eq!(addresses(&running.udp(&good).await.0), ["10.0.0.1"]);
    assert_eq!(addresses(&running.tcp(&good).await), ["10.0.0.1"]);
    assert!(!running.server.task.is_finished(), "it still runs");
}

#[tokio::test]
async fn malformed_requests_are_told_so_and_responses_are_not_answered() {
    let running = Running::start(&config()).await;
    let looped = [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0, 0x0c, 0, 1, 0, 1]].concat();
    let answer = Message::from_vec(&running.datagram(&looped).await).expect("well formed");
    assert_eq!(answer.metadata.id, 0x0707);
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);

    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(running.address()).await.expect("a route");
    let mut response = query(MASTER, RecordType::A);
    response.metadata.message_type = MessageType::Response;
    socket.send(&response.to_vec().expect("encodes")).await.expect("sent");
    let asked = query(MASTER, RecordType::A);
    socket.send(&asked.to_vec().expect("encodes")).await.expect("sent");
    let mut bytes = [0; 1500];
    let length = timeout(PATIENCE, socket.recv(&mut bytes)).await.expect("in time").expect("one");
    let answer = Message::from_vec(&bytes[..length]).expect("well formed");
    assert_eq!(answer.metadata.id, asked.metadata.id, "only the question is answered");
}

#[tokio::test]
async fn connections_are_capped() {
    let running = Running::start(&config()).await;
    let mut open = Vec::new();
    for _ in 0..config().connections {
        let mut stream = TcpStream::connect(running.address()).await.expect("connected");
        exchange(&mut stream, &query(MASTER, RecordType::A)).await;
        open.push(stream);
    }
    let mut late = TcpStream::connect(running.address()).await.expect("connected");
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, late.read_to_end(&mut rest)).await.expect("closed at once");
    assert_eq!(read.unwrap_or(0), 0, "one too many is closed without a word");
    drop(open);
    // A free slot comes when the server sees the ends.
    let served = async {
        let bytes = query(MASTER, RecordType::A).to_vec().expect("encodes");
        let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
        loop {
            let mut stream = TcpStream::connect(running.address()).await.expect("connected");
            // It may be closed before this is written.
            let _ = stream.write_all(&[&length, bytes.as_slice()].concat()).await;
            if stream.read_u16().await.is_ok() {
                break;
            }
        }
    };
    timeout(PATIENCE, served).await.expect("served again");
}

#[tokio::test]
async fn a_port_in_use_is_said_with_the_way_out() {
    // Addresses of its own: no other test may come by between two looks at a port.
    let taken = StdUdpSocket::bind("127.0.8.1:0").expect("a socket");
    let address = taken.local_addr().expect("bound");
    let listener = TcpListener::bind("127.0.8.2:0").await.expect("a socket");
    for (address, protocol) in [(address, "udp"), (listener.local_addr().expect("bound"), "tcp")] {
        let error = refusal(address, &[]).await;
        let DnsError::Listen { address: at, protocol: over, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((*at, *over), (address, protocol));
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("ss -ln"), "{text}");
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let own = "127.0.8.3:8600".parse().expect("an address");
    let error = refusal(own, &[own]).await;
    assert!(matches!(error, DnsError::Circle { .. }), "{error}");
    for domain in ["", ".", "a..b", "with space", &"x".repeat(64), &"a.".repeat(60)] {
        let mut config = config();
        config.domains.push(domain.to_owned());
        let view = Arc::default();
        let error = serve(&config, "dc1", view, async {}).await.expect_err("refused");
        assert!(matches!(error, DnsError::Name { what: "domain", .. }), "{error}");
    }
    let view = Arc::default();
    let error = serve(&config(), "dc.1", view, async {}).await.expect_err("refused");
    assert!(matches!(error, DnsError::Name { what: "datacenter", .. }), "{error}");
}

async fn refusal(listen: SocketAddr, recursors: &[SocketAddr]) -> DnsError {
    let mut config = config();
    config.listen = vec![listen];
    config.recursors = recursors.to_vec();
    let view = Arc::default();
    serve(&config, "dc1", view, async {}).await.expect_err("refused")
}

#[tokio::test]
async fn the_end_frees_the_port() {
    let mut config = config();
    config.listen = ["127.0.8.4:0", "127.0.8.5:0"].map(|a| a.parse().expect("an address")).into();
    let running = Running::start(&config).await;
    let addresses = running.server.addresses.clone();
    assert_eq!(addresses.len(), 2);
    let mut stream = TcpStream::connect(addresses[1]).await.expect("connected");
    exchange(&mut stream, &query(MASTER, RecordType::A)).await;
    drop(running.stop);
    let ended = timeout(PATIENCE, running.server.task).await.expect("ends").expect("no panic");
    ended.expect("an end that was asked for");
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed");
    assert_eq!(read.unwrap_or(0), 0, "open connections are closed");
    for address in addresses {
        UdpSocket::bind(address).await.expect("free");
    }
}

#[tokio::test]
async fn nothing_listens_where_nothing_is_set() {
    let mut config = config();
    config.listen.clear();
    let running = Running::start(&config).await;
    assert!(running.server.addresses.is_empty());
    assert!(!running.server.task.is_finished());
    drop(running.stop);
    let ended = timeout(PATIENCE, running.server.task).await.expect("ends").expect("no panic");
    ended.expect("an end that was asked for");
}
