//! Names of others, with small recursors that do what a test tells them.

use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_server::proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::fixture::{MASTER, Running, addresses, config, query, with_edns};

/// What a recursor sends for a query: any number of datagrams.
type Script = fn(&Message) -> Vec<Message>;

/// A recursor on UDP and TCP; over TCP it always has [`whole`].
struct Recursor {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Recursor {
    async fn start(script: Script) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let address = udp.local_addr().expect("bound");
            if let Ok(tcp) = TcpListener::bind(address).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut bytes = [0; 2000];
            loop {
                let (length, client) = udp.recv_from(&mut bytes).await.expect("received");
                count.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&bytes[..length]).expect("well formed");
                for answer in script(&query) {
                    let answer = answer.to_vec().expect("encodes");
                    udp.send_to(&answer, client).await.expect("sent");
                }
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.expect("accepted");
                let mut bytes = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
                stream.read_exact(&mut bytes).await.expect("a message");
                let query = Message::from_vec(&bytes).expect("well formed");
                let answer = whole(&query).to_vec().expect("encodes");
                let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
                let bytes = [&length, answer.as_slice()].concat();
                stream.write_all(&bytes).await.expect("sent");
            }
        });
        Self { address, asked, _tasks: tasks }
    }
}

fn reply(query: &Message) -> Message {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        answer.set_edns(edns);
    }
    answer
}

fn with_addresses(query: &Message, count: u8) -> Message {
    let mut answer = reply(query);
    for n in 1..=count {
        let address = RData::A(std::net::Ipv4Addr::new(192, 0, 2, n).into());
        answer.add_answer(Record::from_rdata(query.queries[0].name.clone(), 77, address));
    }
    answer
}

fn whole(query: &Message) -> Message {
    with_addresses(query, 200)
}

fn one(query: &Message) -> Vec<Message> {
    vec![with_addresses(query, 1)]
}

fn cut(query: &Message) -> Vec<Message> {
    let mut answer = with_addresses(query, 3);
    answer.metadata.truncation = true;
    vec![answer]
}

fn failing(query: &Message) -> Vec<Message> {
    let mut answer = reply(query);
    answer.metadata.response_code = ResponseCode::ServFail;
    vec![answer]
}

/// A wrong id, a wrong question and a question sent back; then the true answer.
fn forged(query: &Message) -> Vec<Message> {
    let mut id = with_addresses(query, 9);
    id.metadata.id = query.metadata.id.wrapping_add(1);
    let mut name = with_addresses(query, 9);
    name.queries[0].name = Name::from_ascii("other.example.org.").expect("a name");
    let mut kind = with_addresses(query, 9);
    kind.queries[0].query_type = RecordType::AAAA;
    let mut back = query.clone();
    back.metadata.message_type = MessageType::Query;
    vec![id, name, kind, back, with_addresses(query, 1)]
}

/// Holds a port that refuses: it takes only what comes from where it is connected to.
fn refusing() -> StdUdpSocket {
    let socket = StdUdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect("127.0.0.1:9").expect("a route");
    socket
}

async fn start(recursors: &[SocketAddr]) -> Running {
    let mut config = config();
    config.recursors = recursors.to_vec();
    Running::start(&config).await
}

#[tokio::test]
async fn allowed_clients_get_names_of_others() {
    let recursor = Recursor::start(one).await;
    let running = start(&[recursor.address]).await;
    let asked = query("wWw.Example.Org", RecordType::A);
    let (answer, _) = running.udp(&asked).await;
    assert_eq!(addresses(&answer), ["192.0.2.1"]);
    assert_eq!(answer.metadata.id, asked.metadata.id);
    assert_eq!(answer.queries, asked.queries, "in its own case");
    assert_eq!(answer.answers[0].ttl, 77);
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    assert!(answer.edns.is_none(), "none was sent");
    let (answer, _) = running.udp(&with_edns(asked.clone(), 4096)).await;
    assert_eq!(answer.edns.expect("it was sent").max_payload(), 1232);
    assert_eq!(recursor.asked.load(Ordering::SeqCst), 2);

    let own = running.ask(MASTER, RecordType::A).await;
    assert_eq!(addresses(&own), ["10.0.0.1"]);
    assert!(own.metadata.recursion_available && own.metadata.authoritative);
    assert_eq!(recursor.asked.load(Ordering::SeqCst), 2, "our names are never sent on");
}

#[tokio::test]
async fn unknown_reverse_names_are_sent_on_and_known_ones_are_not() {
    let recursor = Recursor::start(one).await;
    let running = start(&[recursor.address]).await;
    let answer = running.ask("1.2.0.192.in-addr.arpa", RecordType::PTR).await;
    assert!(!answer.metadata.authoritative);
    assert_eq!(recursor.asked.load(Ordering::SeqCst), 1);
    let answer = running.ask("1.0.0.10.in-addr.arpa", RecordType::PTR).await;
    let RData::PTR(name) = &answer.answers[0].data else { panic!("{answer:?}") };
    assert_eq!(name.0.to_ascii(), "foo-redis.service.dc1.sengu.");
    assert_eq!(recursor.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn others_are_refused() {
    let recursor = Recursor::start(one).await;
    let mut settings = config();
    settings.recursors = vec![recursor.address];
    settings.recursion_clients = vec![("192.0.2.0".parse().expect("an address"), 24)];
    let running = Running::start(&settings).await;
    let answer = running.ask("example.org", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert!(!answer.metadata.recursion_available, "not for this client");
    assert_eq!(addresses(&running.ask(MASTER, RecordType::A).await), ["10.0.0.1"]);

    let running = start(&[recursor.address]).await;
    let mut plain = query("example.org", RecordType::A);
    plain.metadata.recursion_desired = false;
    let (answer, _) = running.udp(&plain).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "recursion not desired");
    assert_eq!(recursor.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_next_recursor_is_asked_when_one_fails() {
    let refusing = refusing();
    let dead = refusing.local_addr().expect("bound");
    let (bad, good) = (Recursor::start(failing).await, Recursor::start(one).await);
    let running = start(&[dead, bad.address, good.address]).await;
    assert_eq!(addresses(&running.ask("example.org", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(bad.asked.load(Ordering::SeqCst), 1);

    let running = start(&[bad.address, dead]).await;
    let answer = running.ask("example.org", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "its own word");
    assert_eq!(bad.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_silent_recursor_costs_its_time_and_no_more() {
    let silent = Recursor::start(|_| Vec::new()).await;
    let good = Recursor::start(one).await;
    let running = start(&[silent.address, good.address]).await;
    let began = std::time::Instant::now();
    assert_eq!(addresses(&running.ask("example.org", RecordType::A).await), ["192.0.2.1"]);
    assert!(began.elapsed() >= Duration::from_secs(2), "it had its time");

    let running = start(&[silent.address]).await;
    let answer = running.ask("example.org", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn forged_answers_are_passed_over() {
    let recursor = Recursor::start(forged).await;
    let running = start(&[recursor.address]).await;
    assert_eq!(addresses(&running.ask("example.org", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn what_was_cut_is_fetched_whole_for_tcp() {
    let recursor = Recursor::start(cut).await;
    let running = start(&[recursor.address]).await;
    let asked = query("example.org", RecordType::A);
    let (answer, _) = running.udp(&asked).await;
    assert!(answer.metadata.truncation, "the client is told");
    assert_eq!(answer.answers.len(), 3);
    let answer = running.tcp(&asked).await;
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 200);
}

#[tokio::test]
async fn answers_of_recursors_are_cut_to_what_the_client_takes() {
    let recursor = Recursor::start(|query| vec![with_addresses(query, 100)]).await;
    let running = start(&[recursor.address]).await;
    let asked = query("example.org", RecordType::A);
    let (answer, length) = running.udp(&asked).await;
    assert!(answer.metadata.truncation && length <= 512, "{length}");
    let (answer, length) = running.udp(&with_edns(asked.clone(), 4096)).await;
    assert!(answer.metadata.truncation && answer.edns.is_some() && length <= 1232, "{length}");
    assert_eq!(running.tcp(&asked).await.answers.len(), 100);
}
