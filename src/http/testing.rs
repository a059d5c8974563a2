//! What tests of servers share: a store in memory, a loop that folds its changes into the view,
//! a client that sends bytes and reads bytes, and records to put there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::catalog::Catalog;
use sengu_core::consul::directory::Place;
use sengu_core::kv::{
    Change, Compare, Key, KeyValue, LeaseId, Op, OpResult, Revision, Txn, TxnReply,
};
use sengu_core::name::{BootId, HostName, InstanceName, ServiceName, Term};
use sengu_core::observation::{Process, Role, Verdict};
use sengu_core::policy::{DatabaseKind, Policy};
use sengu_core::record::{
    FORMAT, Health, Holder, InstanceRecord, Lag, MasterRecord, MasterState, Promise, Record, key,
};
use sengu_core::time::{Time, Wall};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::{Context, Gate, HttpServer, serve};
use crate::audit::Audit;
use crate::board::Board;
use crate::clock;
use crate::config::{HttpConfig, HttpLimits, TokenConfig};
use crate::journal::Journal;
use crate::operator;
use crate::probe::{Registered, Scripts};
use crate::store::{Batch, Store, StoreError, Watch};
use crate::view::View;

/// Txns over a map; each revision goes to the pump.
#[derive(Debug)]
pub(crate) struct MapStore {
    state: Mutex<(Revision, BTreeMap<Key, KeyValue>)>,
    batches: mpsc::UnboundedSender<Batch>,
    failure: Mutex<Option<StoreError>>,
    /// Leases that stand, with their time; they end when a test says so.
    leases: Mutex<BTreeMap<LeaseId, Duration>>,
}

impl MapStore {
    pub(crate) fn fail(&self, error: Option<StoreError>) {
        *self.failure.lock().expect("no panic") = error;
    }

    /// The newest revision.
    pub(crate) fn txn_revision(&self) -> Revision {
        self.state.lock().expect("no panic").0
    }

    /// The leases that stand.
    pub(crate) fn leases(&self) -> BTreeMap<LeaseId, Duration> {
        self.leases.lock().expect("no panic").clone()
    }

    /// A lease runs out: its keys go, at one revision.
    pub(crate) fn run_out(&self, lease: LeaseId) {
        self.leases.lock().expect("no panic").remove(&lease);
        let mut state = self.state.lock().expect("no panic");
        let (revision, map) = &mut *state;
        let keys: Vec<Key> =
            map.values().filter(|entry| entry.lease == lease).map(|e| e.key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        *revision += 1;
        let mut changes = Vec::new();
        for key in keys {
            map.remove(&key);
            changes.push(Change { revision: *revision, key, now: None });
        }
        self.batches.send(Batch { revision: *revision, changes }).expect("the pump runs");
    }
}

fn holds(map: &BTreeMap<Key, KeyValue>, compare: &Compare) -> bool {
    match compare {
        Compare::Modified(key, revision) => map.get(key).map_or(0, |e| e.modified) == *revision,
        Compare::Present(key) => map.contains_key(key),
        Compare::Value(key, value) => map.get(key).is_some_and(|e| e.value == *value),
    }
}

#[async_trait]
impl Store for MapStore {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        if let Some(error) = self.failure.lock().expect("no panic").clone() {
            return Err(error);
        }
        let mut state = self.state.lock().expect("no panic");
        let (revision, map) = &mut *state;
        let succeeded = txn.when.iter().all(|compare| holds(map, compare));
        let (next, mut changes, mut results) = (*revision + 1, Vec::new(), Vec::new());
        for op in if succeeded { txn.then } else { txn.otherwise } {
            results.push(do_op(map, op, next, &mut changes));
        }
        if !changes.is_empty() {
            *revision = next;
            self.batches.send(Batch { revision: next, changes }).expect("the pump runs");
        }
        Ok(TxnReply { succeeded, revision: *revision, results })
    }

    async fn load(&self) -> Result<(Revision, Vec<Arc<KeyValue>>), StoreError> {
        let state = self.state.lock().expect("no panic");
        Ok((state.0, state.1.values().cloned().map(Arc::new).collect()))
    }

    async fn watch(&self, _: Revision) -> Result<Watch, StoreError> {
        Err(StoreError::Refused("not in this test".to_owned()))
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        let mut leases = self.leases.lock().expect("no panic");
        let id = leases.keys().next_back().map_or(1, |last| last + 1);
        leases.insert(id, ttl);
        Ok((id, ttl))
    }

    async fn keep(&self, lease: LeaseId) -> Result<bool, StoreError> {
        Ok(self.leases.lock().expect("no panic").contains_key(&lease))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.run_out(lease);
        Ok(())
    }
}

fn do_op(
    map: &mut BTreeMap<Key, KeyValue>,
    op: Op,
    revision: Revision,
    changes: &mut Vec<Change>,
) -> OpResult {
    let mut remove = |map: &mut BTreeMap<Key, KeyValue>, keys: Vec<Key>| {
        for key in &keys {
            map.remove(key);
            changes.push(Change { revision, key: Arc::clone(key), now: None });
        }
        OpResult::Deleted(keys.len() as u64)
    };
    let under = |map: &BTreeMap<Key, KeyValue>, prefix: &str| -> Vec<Key> {
        map.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    };
    match op {
        Op::Put { key, value, lease } => {
            let old = map.get(&key);
            let entry = KeyValue {
                key: Arc::clone(&key),
                value,
                created: old.map_or(revision, |old| old.created),
                modified: revision,
                version: old.map_or(1, |old| old.version + 1),
                lease,
            };
            map.insert(Arc::clone(&key), entry.clone());
            changes.push(Change { revision, key, now: Some(Arc::new(entry)) });
            OpResult::Put
        }
        Op::Delete(key) => {
            let keys = if map.contains_key(&key) { vec![key] } else { vec![] };
            remove(map, keys)
        }
        Op::DeletePrefix(prefix) => {
            let keys = under(map, &prefix);
            remove(map, keys)
        }
        Op::Get(key) => OpResult::Got(map.get(&key).cloned().into_iter().collect()),
        Op::GetPrefix(prefix) => {
            OpResult::Got(under(map, &prefix).iter().map(|key| map[key].clone()).collect())
        }
    }
}

/// A store, a view that follows it, and what a server needs besides.
pub(crate) struct Rig {
    pub(crate) store: Arc<MapStore>,
    pub(crate) context: Arc<Context>,
    catalog: Arc<Mutex<Catalog>>,
}

impl Rig {
    /// Host `db1` at 10.0.0.1; the store counts as fresh for an hour.
    pub(crate) fn new() -> Self {
        Self::with(Scripts { files: true, clients: false })
    }

    /// One whose clients may have programs run.
    pub(crate) fn scripted() -> Self {
        Self::with(Scripts { files: true, clients: true })
    }

    fn with(scripts: Scripts) -> Self {
        let (batches, mut incoming) = mpsc::unbounded_channel::<Batch>();
        let store = Arc::new(MapStore {
            state: Mutex::new((0, BTreeMap::new())),
            batches,
            failure: Mutex::new(None),
            leases: Mutex::default(),
        });
        let view = Arc::new(View::default());
        let mut empty = Catalog::default();
        empty.valid_until = clock::time() + Duration::from_secs(3600);
        let catalog = Arc::new(Mutex::new(empty));
        view.publish(Arc::new(catalog.lock().expect("no panic").clone()));
        let (folded, published) = (Arc::clone(&catalog), Arc::clone(&view));
        tokio::spawn(async move {
            while let Some(batch) = incoming.recv().await {
                let mut catalog = folded.lock().expect("no panic");
                catalog.apply(clock::time(), batch.revision, &batch.changes);
                published.publish(Arc::new(catalog.clone()));
            }
        });
        let place = Place {
            host: HostName::new("db1").expect("a name"),
            address: [10, 0, 0, 1].into(),
            datacenter: "dc1".to_owned(),
            lease: Duration::from_secs(6),
        };
        let writes = Arc::clone(&store) as Arc<dyn Store>;
        let registered =
            Registered::new(Arc::clone(&view), Arc::clone(&writes), place.clone(), scripts);
        let context = Arc::new(Context {
            view,
            store: writes,
            board: Arc::new(Board::default()),
            place,
            look_age: Duration::from_secs(5),
            journal: Arc::new(Journal::new("test")),
            audit: Arc::new(Audit::off()),
            registered: Arc::new(registered),
            checks: None,
            placing: tokio::sync::Mutex::default(),
        });
        Self { store, context, catalog }
    }

    /// Until when the store's last answer counts, without any change of a record.
    pub(crate) fn valid_until(&self, until: Time) {
        let mut catalog = self.catalog.lock().expect("no panic");
        catalog.valid_until = until;
        self.context.view.publish(Arc::new(catalog.clone()));
    }

    /// Writes one record and waits until the view has it.
    pub(crate) async fn put(&self, key: Key, value: Arc<[u8]>) -> Revision {
        let then = vec![Op::Put { key, value, lease: 0 }];
        let reply = self.store.txn(Txn { then, ..Txn::default() }).await.expect("it is done");
        self.context.view.reached(reply.revision).await;
        reply.revision
    }

    /// Service `foo-redis`: `cache1` on db1 serves in term 7, `cache2` on db2 follows it.
    pub(crate) async fn with_service(&self, promise: Promise) {
        for (name, role) in [("cache1", Role::Master), ("cache2", Role::Replica)] {
            let record = instance(name, role);
            let key = key::instance(&service(), &InstanceName::new(name).expect("a name"));
            self.put(key, record.encode()).await;
        }
        self.put(key::master(&service()), master(promise).encode()).await;
    }

    pub(crate) async fn server(&self) -> Running {
        self.server_within(HttpLimits::default()).await
    }

    pub(crate) async fn server_within(&self, limits: HttpLimits) -> Running {
        let config = HttpConfig { limits, ..HttpConfig::default() };
        self.server_with(config, BTreeMap::new(), None).await
    }

    /// On a free port, whatever the configuration says.
    pub(crate) async fn server_with(
        &self,
        mut config: HttpConfig,
        tokens: BTreeMap<String, TokenConfig>,
        agent: Option<Arc<dyn operator::Agent>>,
    ) -> Running {
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let gate = Arc::new(Gate::new(&config, &tokens).expect("good certificates"));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // Dropped or sent: both end the server.
            let _ = stopped.await;
        };
        let context = Arc::clone(&self.context);
        let server =
            serve(&config, Arc::clone(&gate), context, agent, shutdown).await.expect("it listens");
        Running { address: server.addresses[0], gate, stop, server }
    }
}

/// A server under test; it ends when this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    stop: oneshot::Sender<()>,
    server: HttpServer,
}

impl Running {
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.server.ended().await;
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, b"").await
    }

    pub(crate) async fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.call("PUT", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, b"").await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("it accepts");
        call(stream, method, path, body).await
    }
}

/// One request on a connection of its own.
pub(crate) async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    method: &str,
    path: &str,
    body: &[u8],
) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    stream.write_all(body).await.expect("the body is sent");
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("in time").expect("read");
    Answer::parse(&bytes)
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).expect("a readable head");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.parse().expect("a number"),
            headers: headers.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn index(&self) -> Revision {
        self.header("x-consul-index").parse().expect("an index")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.text());
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

pub(crate) fn service() -> ServiceName {
    ServiceName::new("foo-redis").expect("a name")
}

/// `cacheN` on `dbN` at 10.0.0.N:6379, following cache1 if it is a replica.
pub(crate) fn instance(name: &str, role: Role) -> InstanceRecord {
    let number = name.trim_start_matches("cache");
    InstanceRecord {
        format: FORMAT,
        host: HostName::new(&format!("db{number}")).expect("a name"),
        agent: "a".to_owned(),
        address: format!("10.0.0.{number}:6379").parse().expect("an address"),
        kind: DatabaseKind::Redis,
        zone: None,
        priority: 100,
        policy: Policy::default(),
        boot_id: None,
        version: None,
        role: Some(role),
        writable: role == Role::Master,
        source: (role == Role::Replica).then(|| "10.0.0.1:6379".parse().expect("an address")),
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
        unknown: Map::new(),
    }
}

/// `cache1` serves in term 7.
pub(crate) fn master(promise: Promise) -> MasterRecord {
    MasterRecord {
        format: FORMAT,
        term: Term(7),
        state: MasterState::Serving,
        holder: Holder {
            instance: InstanceName::new("cache1").expect("a name"),
            host: HostName::new("db1").expect("a name"),
            agent: "a".to_owned(),
            boot_id: BootId("b:1:1".into()),
            address: "10.0.0.1:6379".parse().expect("an address"),
        },
        promise,
        unproven: vec![],
        origins: vec![],
        failed: vec![],
        unkept: vec![],
        failovers: vec![],
        external: None,
        frozen: None,
        since: Wall(0),
        unknown: Map::new(),
    }
}
