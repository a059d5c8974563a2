//! A small catalog, a running server, and clients that speak raw packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::proto::op::{Edns, Message, Query};
use hickory_server::proto::rr::{Name, RData, RecordType};
use sengu_core::catalog::Catalog;
use sengu_core::kv::KeyValue;
use sengu_core::name::{BootId, HostName, InstanceName, Term};
use sengu_core::observation::{Process, Role, Verdict};
use sengu_core::policy::{DatabaseKind, Policy};
use sengu_core::record::{
    FORMAT, Health, Holder, InstanceRecord, Lag, MasterRecord, MasterState, Promise, Record,
};
use sengu_core::time::{Time, Wall};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::clock;
use crate::config::DnsConfig;
use crate::dns::{DnsServer, serve};
use crate::view::View;

/// Longest wait for anything in these tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const MASTER: &str = "master.foo-redis.service.consul";
pub(super) const MANY: &str = "many.service.consul";

fn entry(key: &str, value: Arc<[u8]>) -> Arc<KeyValue> {
    Arc::new(KeyValue { key: key.into(), value, created: 1, modified: 1, version: 1, lease: 0 })
}

/// `foo-redis` with one master, and `many` with so many endpoints.
pub(super) fn catalog(revision: u64, valid_until: Time, many: u8) -> Arc<Catalog> {
    let address: SocketAddr = "10.0.0.1:6379".parse().expect("an address");
    let master = MasterRecord {
        format: FORMAT,
        term: Term(1),
        state: MasterState::Serving,
        holder: Holder {
            instance: InstanceName::new("cache1").expect("good"),
            host: HostName::new("db1").expect("good"),
            agent: "a".to_owned(),
            boot_id: BootId("b:1:1".into()),
            address,
        },
        promise: Promise::None,
        unproven: Vec::new(),
        origins: Vec::new(),
        failed: Vec::new(),
        unkept: Vec::new(),
        failovers: Vec::new(),
        external: None,
        frozen: None,
        since: Wall(0),
        unknown: serde_json::Map::new(),
    };
    let instance = InstanceRecord {
        format: FORMAT,
        host: HostName::new("db1").expect("good"),
        agent: "a".to_owned(),
        address,
        kind: DatabaseKind::Redis,
        zone: None,
        priority: 100,
        policy: Policy::default(),
        boot_id: None,
        version: None,
        role: Some(Role::Master),
        writable: true,
        source: None,
        link_up: true,
        syncing: false,
        lag: Lag::None,
        received: None,
        health: Health::Up,
        process: Process::Running,
        starts_fenced: Verdict::Good,
        killable: Verdict::Good,
        in_step: None,
        trouble: None,
        replication: Verdict::Good,
        lossless: Verdict::Good,
        bound: Verdict::Good,
        semi_sync: None,
        quarantine: None,
        unknown: serde_json::Map::new(),
    };
    let mut entries = vec![
        entry("master/foo-redis", master.encode()),
        entry("instances/foo-redis/cache1", instance.encode()),
    ];
    for n in 0..many {
        let value = json!({ "format": 1, "node": "n", "id": format!("m{n}"), "name": "many",
            "tags": [], "address": format!("10.7.0.{n}"), "port": 1000 + u16::from(n), "owner": "catalog" });
        let value = serde_json::to_vec(&value).expect("plain");
        entries.push(entry(&format!("services/n/m{n}"), value.into()));
    }
    let mut catalog = Catalog::default().load(clock::time(), revision, entries);
    catalog.valid_until = valid_until;
    Arc::new(catalog)
}

/// One free port of 127.0.0.1, the default domains, no recursors.
pub(super) fn config() -> DnsConfig {
    DnsConfig {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        domains: vec!["sengu".to_owned(), "consul".to_owned()],
        ttl: Duration::ZERO,
        recursors: Vec::new(),
        recursion_clients: vec![("127.0.0.0".parse().expect("an address"), 8)],
        ..DnsConfig::default()
    }
}

/// A view of the catalog, with 100 endpoints of `many`, good for an hour.
pub(super) fn published() -> Arc<View> {
    let view = Arc::new(View::default());
    view.publish(catalog(1, clock::time() + Duration::from_secs(3600), 100));
    view
}

/// A server that stops when this is dropped.
pub(super) struct Running {
    pub(super) server: DnsServer,
    pub(super) view: Arc<View>,
    pub(super) stop: oneshot::Sender<()>,
}

impl Running {
    pub(super) async fn start(config: &DnsConfig) -> Self {
        Self::start_with(config, published()).await
    }

    pub(super) async fn start_with(config: &DnsConfig, view: Arc<View>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let server =
            serve(config, "dc1", Arc::clone(&view), shutdown).await.expect("the server starts");
        Self { server, view, stop }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.addresses[0]
    }

    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.udp(&query(name, kind)).await.0
    }

    /// The response and its length.
    pub(super) async fn udp(&self, query: &Message) -> (Message, usize) {
        let bytes = self.datagram(&query.to_vec().expect("encodes")).await;
        (Message::from_vec(&bytes).expect("well formed"), bytes.len())
    }

    pub(super) async fn datagram(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        socket.connect(self.address()).await.expect("a route");
        socket.send(bytes).await.expect("sent");
        let mut answer = vec![0; 65_535];
        let length = timeout(PATIENCE, socket.recv(&mut answer)).await.expect("an answer");
        answer.truncate(length.expect("received"));
        answer
    }

    pub(super) async fn tcp(&self, query: &Message) -> Message {
        let mut stream = TcpStream::connect(self.address()).await.expect("connected");
        exchange(&mut stream, query).await
    }
}

pub(super) async fn exchange(stream: &mut TcpStream, query: &Message) -> Message {
    let bytes = query.to_vec().expect("encodes");
    let length = u16::try_from(bytes.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await.expect("sent");
    let answer = timeout(PATIENCE, async {
        let mut answer = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut answer).await.expect("a message");
        answer
    });
    Message::from_vec(&answer.await.expect("an answer")).expect("well formed")
}

pub(super) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), kind));
    message
}

pub(super) fn with_edns(mut query: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    query.set_edns(edns);
    query
}

/// The addresses in the answers.
pub(super) fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.to_string()),
            RData::AAAA(address) => Some(address.to_string()),
            _ => None,
        })
        .collect()
}
