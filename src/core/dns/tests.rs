//! Questions and answers, in tables, about one small catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::json;

use super::*;
use crate::kv::KeyValue;
use crate::name::{BootId, HostName, InstanceName, ServiceName, Term};
use crate::observation::{Process, Role, Verdict};
use crate::policy::{DatabaseKind, Policy};
use crate::record::{
    BeatRecord, Cause, FORMAT, Health, Holder, InstanceRecord, Lag, MasterRecord, MasterState,
    NodeRecord, Owner as RecordOwner, Promise, Proof, Record as _, key,
};
use crate::time::Wall;

const NOW: Time = Time(1_000_000_000);
const MASTER: &str = "10.0.0.1:6379";

/// Records by key, and until when the catalog made of them is valid.
struct Store {
    entries: BTreeMap<String, Arc<[u8]>>,
    valid: Duration,
}

impl Store {
    /// `foo-redis`: master `cache1` on db1, replicas `cache2` on db2 and `cache3`, which listens
    /// on another address than its node db2. Registered: `web` on web1 and on the node web2.
    fn new() -> Self {
        let mut store = Self { entries: BTreeMap::new(), valid: Duration::from_secs(6) };
        store.node("db1", "10.0.0.1", RecordOwner::Managed, &[]);
        store.node("db2", "10.0.0.2", RecordOwner::Managed, &[]);
        store.node("Web1", "10.1.0.1", RecordOwner::Catalog, &[("a b=", "c`"), ("rfc1035-x", "v")]);
        store.node("web2", "fd00::2", RecordOwner::Catalog, &[]);
        store.node("rack.web3", "10.1.0.3", RecordOwner::Catalog, &[]);
        store.instance("cache1", "db1", MASTER, Role::Master);
        store.instance("cache2", "db2", "10.0.0.2:6379", Role::Replica);
        store.instance("cache3", "db2", "10.9.0.2:6380", Role::Replica);
        store.master(MasterState::Serving, Promise::None);
        store.web("Web1", "web-1", "", 80, &["Blue", "v1.2"]);
        store.web("web2", "web-2", "", 80, &["green"]);
        store.web("Web1", "web-3", "10.1.0.9", 81, &["blue"]);
        store
    }

    fn put(&mut self, key: impl Into<String>, value: Arc<[u8]>) {
        self.entries.insert(key.into(), value);
    }

    fn json(&mut self, key: &str, value: &serde_json::Value) {
        self.put(key, serde_json::to_vec(value).expect("plain").into());
    }

    fn node(&mut self, name: &str, address: &str, owner: RecordOwner, meta: &[(&str, &str)]) {
        let record = NodeRecord {
            format: FORMAT,
            name: name.to_owned(),
            address: address.parse().expect("an address"),
            owner,
            id: None,
            meta: meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            unknown: serde_json::Map::new(),
        };
        self.put(crate::consul::record::key::node(name).to_string(), record.encode());
    }

    fn instance(&mut self, name: &str, host: &str, address: &str, role: Role) {
        let record = InstanceRecord {
            format: FORMAT,
            host: HostName::new(host).expect("good"),
            agent: "a".to_owned(),
            address: address.parse().expect("an address"),
            kind: DatabaseKind::Redis,
            zone: None,
            priority: 100,
            policy: Policy::default(),
            boot_id: None,
            version: None,
            role: Some(role),
            writable: role == Role::Master,
            source: (role == Role::Replica).then(|| MASTER.parse().expect("an address")),
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
        self.put(format!("instances/foo-redis/{name}"), record.encode());
    }

    fn master(&mut self, state: MasterState, promise: Promise) {
        let record = MasterRecord {
            format: FORMAT,
            term: Term(3),
            state,
            holder: Holder {
                instance: InstanceName::new("cache1").expect("good"),
                host: HostName::new("db1").expect("good"),
                agent: "a".to_owned(),
                boot_id: BootId("b:1:1".into()),
                address: MASTER.parse::<SocketAddr>().expect("an address"),
            },
            promise,
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
        self.put(key::master(&service()).as_ref(), record.encode());
    }

    fn web(&mut self, node: &str, id: &str, address: &str, port: u16, tags: &[&str]) {
        let value = json!({ "format": 1, "node": node, "id": id, "name": "Web", "tags": tags,
            "address": address, "port": port, "meta": {}, "owner": "catalog" });
        self.json(&crate::consul::record::key::service(node, id), &value);
    }

    fn check(&mut self, node: &str, service: Option<&str>, status: &str) {
        let value = json!({ "format": 1, "node": node, "id": "c", "name": "c",
            "service_id": service, "status": status });
        let id = format!("{}-c", service.unwrap_or("node"));
        self.json(&crate::consul::record::key::check(node, &id), &value);
    }

    fn picture(&self) -> Picture {
        let entries = self.entries.iter().map(|(key, value)| {
            let (key, value) = (key.as_str().into(), Arc::clone(value));
            Arc::new(KeyValue { key, value, created: 1, modified: 7, version: 1, lease: 0 })
        });
        let mut catalog = Catalog::default().load(NOW, 7, entries.collect());
        catalog.valid_until = NOW + self.valid;
        Picture::Known(Arc::new(catalog))
    }

    fn ask(&self, name: &str, kind: Kind) -> Answer {
        self.ask_at(name, kind, NOW)
    }

    fn ask_at(&self, name: &str, kind: Kind, now: Time) -> Answer {
        answer(&self.picture(), now, &settings(30), &Question::new(name, kind, 1))
    }

    /// The answers of a row, sorted, in one line; or what there is instead.
    fn row(&self, name: &str, kind: Kind) -> String {
        line(&self.ask(name, kind))
    }
}

fn service() -> ServiceName {
    ServiceName::new("foo-redis").expect("good")
}

fn settings(ttl: u64) -> Settings {
    let domains = ["Sengu.".to_owned(), "consul".to_owned(), "deep.sengu".to_owned()];
    Settings::new(&domains, "DC1", Duration::from_secs(ttl))
}

fn line(answer: &Answer) -> String {
    let reply = match answer {
        Answer::Unknown => return "unknown".to_owned(),
        Answer::Elsewhere => return "elsewhere".to_owned(),
        Answer::Ours(reply) => reply,
    };
    match (reply.exists, reply.answers.is_empty()) {
        (false, true) => return "no name".to_owned(),
        (true, true) => return "no data".to_owned(),
        (_, false) => assert!(reply.exists, "answers for a name that does not exist"),
    }
    let mut texts: Vec<String> = reply.answers.iter().map(|record| text(&record.data)).collect();
    texts.sort();
    texts.join(" ")
}

fn text(data: &Data) -> String {
    match data {
        Data::A(address) => address.to_string(),
        Data::Aaaa(address) => address.to_string(),
        Data::Srv { priority, weight, port, target } => {
            assert_eq!((*priority, *weight), (1, 1), "all alike");
            format!("{target}:{port}")
        }
        Data::Txt(text) | Data::Ptr(text) => text.clone(),
        Data::Ns(name) => format!("ns={name}"),
        Data::Soa { server, mailbox, serial, minimum } => {
            format!("soa={server},{mailbox},{serial},{minimum}")
        }
    }
}

fn check_rows(store: &Store, rows: &[(&str, Kind, &str)]) {
    let mut wrong = String::new();
    for (name, kind, want) in rows {
        let got = store.row(name, *kind);
        if got != *want {
            let _ = writeln!(wrong, "{name} {kind:?}\n  want {want}\n  got  {got}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn managed_services() {
    use Kind::{A, Aaaa, Any, Other, Srv, Txt};
    let (m, r) = ("10.0.0.1", "10.0.0.2 10.9.0.2");
    let all = "10.0.0.1 10.0.0.2 10.9.0.2";
    let (node1, node2) = ("db1.node.dc1.consul:6379", "db2.node.dc1.consul:6379");
    let hex = "0a090002.addr.dc1.consul:6380";
    let srv = format!("{hex} {node1} {node2}");
    check_rows(
        &Store::new(),
        &[
            ("foo-redis.service.consul", A, all),
            ("foo-redis.service.consul.", A, all),
            ("FOO-Redis.SERVICE.Consul", A, all),
            ("foo-redis.service.dc1.consul", A, all),
            ("foo-redis.service.DC1.sengu", A, all),
            ("foo-redis.service.deep.sengu", A, all),
            ("foo-redis.service.dc2.consul", A, "no name"),
            ("foo-redis.service.dc1.dc1.consul", A, "no name"),
            ("foo-redis.service.consul", Aaaa, "no data"),
            ("foo-redis.service.consul", Txt, "no data"),
            ("foo-redis.service.consul", Other, "no data"),
            ("foo-redis.service.consul", Srv, &srv),
            ("foo-redis.service.consul", Any, &format!("{hex} {all} {node1} {node2}")),
            ("master.foo-redis.service.consul", A, m),
            ("MASTER.foo-redis.service.consul", A, m),
            ("primary.foo-redis.service.dc1.sengu", A, m),
            ("master.foo-redis.service.consul", Srv, node1),
            ("master.foo-redis.service.consul", Aaaa, "no data"),
            ("replica.foo-redis.service.consul", A, r),
            ("slave.foo-redis.service.consul", A, r),
            ("replica.foo-redis.service.consul", Srv, &format!("{hex} {node2}")),
            ("other.foo-redis.service.consul", A, "no name"),
            ("a.master.foo-redis.service.consul", A, "no name"),
            ("_foo-redis._tcp.service.consul", Srv, &srv),
            ("_foo-redis._tcp.service.consul", A, all),
            ("_foo-redis._master.service.consul", Srv, node1),
            ("_foo-redis._slave.service.dc1.consul", A, r),
            ("_foo-redis._master.consul", Srv, node1),
            ("_foo-redis._tcp.dc1.consul", Srv, &srv),
            ("_foo-redis._master.consul", A, "no name"),
            ("_foo-redis._tcp.dc2.consul", Srv, "no name"),
            ("bar-redis.service.consul", A, "no name"),
            ("master.bar-redis.service.consul", A, "no name"),
            ("foo_redis!.service.consul", A, "no name"),
        ]
        .map(|(name, kind, want)| (name, kind, want.replace("consul", domain_of(name))))
        .iter()
        .map(|(name, kind, want)| (*name, *kind, want.as_str()))
        .collect::<Vec<_>>(),
    );
}

/// Targets stand in the domain that was asked.
fn domain_of(name: &str) -> &str {
    if name.ends_with("sengu") { "sengu" } else { "consul" }
}

#[test]
fn registered_services() {
    use Kind::{A, Aaaa, Srv};
    check_rows(
        &Store::new(),
        &[
            ("web.service.consul", A, "10.1.0.1 10.1.0.9"),
            ("web.service.consul", Aaaa, "fd00::2"),
            ("web.service.consul", Kind::Ptr, "no data"),
            ("blue.web.service.consul", A, "10.1.0.1 10.1.0.9"),
            ("v1.2.web.service.consul", A, "10.1.0.1"),
            ("v1.web.service.consul", A, "no name"),
            ("green.web.service.consul", A, "no data"),
            ("green.web.service.consul", Aaaa, "fd00::2"),
            ("master.web.service.consul", A, "no name"),
            ("_web._green._x.service.consul", A, "no name"),
            (
                "web.service.consul",
                Srv,
                "0a010009.addr.dc1.consul:81 Web1.node.dc1.consul:80 web2.node.dc1.consul:80",
            ),
        ],
    );
}

#[test]
fn critical_is_never_returned() {
    let mut store = Store::new();
    store.check("Web1", Some("web-1"), "critical");
    store.check("web2", Some("web-2"), "warning");
    assert_eq!(store.row("web.service.consul", Kind::A), "10.1.0.9");
    assert_eq!(store.row("web.service.consul", Kind::Aaaa), "fd00::2");
    store.check("web1", None, "critical");
    assert_eq!(store.row("web.service.consul", Kind::A), "no data", "the node's check counts");
    store.check("web2", Some("web-2"), "critical");
    assert_eq!(store.row("web.service.consul", Kind::A), "no name", "nobody healthy is no name");
    assert_eq!(store.row("web1.node.consul", Kind::A), "10.1.0.1", "a node has its address");
}

#[test]
fn a_managed_name_is_never_mixed_with_a_registered_one() {
    let mut store = Store::new();
    let value = json!({ "format": 1, "node": "web1", "id": "x", "name": "foo-redis",
        "tags": ["master"], "address": "10.6.6.6", "port": 6379, "owner": "catalog" });
    store.json("services/web1/x", &value);
    assert_eq!(store.row("master.foo-redis.service.consul", Kind::A), "10.0.0.1");
    store.master(MasterState::Lapsed, Promise::None);
    assert_eq!(store.row("master.foo-redis.service.consul", Kind::A), "no data");
}

#[test]
fn nodes_addresses_and_the_apex() {
    use Kind::{A, Aaaa, Any, Ns, Ptr, Soa, Srv, Txt};
    let soa = "soa=ns.consul,hostmaster.consul,7,1";
    let ns = "ns=db1.node.dc1.consul ns=db2.node.dc1.consul";
    check_rows(
        &Store::new(),
        &[
            ("db1.node.consul", A, "10.0.0.1"),
            ("DB1.node.dc1.consul", A, "10.0.0.1"),
            ("db1.node.dc2.consul", A, "no name"),
            ("db1.node.consul", Aaaa, "no data"),
            ("db1.node.consul", Txt, "no data"),
            ("db9.node.consul", A, "no name"),
            ("web2.node.consul", Aaaa, "fd00::2"),
            ("rack.web3.node.consul", A, "10.1.0.3"),
            ("web1.node.consul", Txt, "a` b`==c`` v"),
            ("web1.node.consul", Any, "10.1.0.1 a` b`==c`` v"),
            ("0a000001.addr.dc1.consul", A, "10.0.0.1"),
            ("0A00000F.addr.consul", A, "10.0.0.15"),
            ("0a000001.addr.dc1.consul", Aaaa, "no data"),
            ("0a000001.addr.dc2.consul", A, "no name"),
            ("0a00001.addr.dc1.consul", A, "no name"),
            ("+a000001.addr.dc1.consul", A, "no name"),
            ("x.0a000001.addr.dc1.consul", A, "no name"),
            ("fd000000000000000000000000000002.addr.dc1.consul", Aaaa, "fd00::2"),
            ("consul", Soa, soa),
            ("consul", Ns, ns),
            ("consul", Any, &format!("{ns} {soa}")),
            ("consul", A, "no data"),
            ("ns.consul", A, "10.0.0.1 10.0.0.2"),
            ("service.consul", A, "no data"),
            ("node.dc1.consul", A, "no data"),
            ("dc1.consul", Srv, "no data"),
            ("dc2.consul", A, "no name"),
            ("service.dc2.consul", A, "no name"),
            ("foo.query.consul", A, "no name"),
            ("what.consul", Ptr, "no name"),
            ("example.org", A, "elsewhere"),
            ("consul.example.org", A, "elsewhere"),
            ("notconsul", A, "elsewhere"),
            ("", A, "elsewhere"),
        ],
    );
}

#[test]
fn reverse_names() {
    use Kind::{A, Any, Ptr};
    let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa";
    check_rows(
        &Store::new(),
        &[
            ("1.0.0.10.in-addr.arpa", Ptr, "db1.node.dc1.sengu"),
            ("1.0.0.10.IN-ADDR.arpa", Any, "db1.node.dc1.sengu"),
            ("1.0.0.10.in-addr.arpa", A, "no data"),
            ("2.0.9.10.in-addr.arpa", Ptr, "foo-redis.service.dc1.sengu"),
            ("9.0.1.10.in-addr.arpa", Ptr, "web.service.dc1.sengu"),
            (v6, Ptr, "web2.node.dc1.sengu"),
            ("8.8.8.8.in-addr.arpa", Ptr, "elsewhere"),
            ("0.0.10.in-addr.arpa", Ptr, "elsewhere"),
            ("256.0.0.10.in-addr.arpa", Ptr, "elsewhere"),
            ("in-addr.arpa", Ptr, "elsewhere"),
            ("0.d.f.ip6.arpa", Ptr, "elsewhere"),
        ],
    );
}

#[test]
fn a_withdrawn_master_is_known_and_nobody() {
    let withdrawn = [
        MasterState::Taken { cause: Cause::Lapsed },
        MasterState::Vacant {
            proof: Proof::Fenced,
            cause: Cause::Hung,
            noticed: Wall(0),
            seen: None,
        },
        MasterState::Lapsed,
        MasterState::FenceFailed { error: "no".to_owned() },
        MasterState::Unmanaged,
    ];
    for state in withdrawn {
        let mut store = Store::new();
        store.master(state.clone(), Promise::None);
        for name in ["master.foo-redis", "primary.foo-redis", "_foo-redis._master"] {
            let name = format!("{name}.service.consul");
            for kind in [Kind::A, Kind::Srv, Kind::Any] {
                assert_eq!(store.row(&name, kind), "no data", "{state:?} {name}");
            }
        }
        assert_eq!(store.row("replica.foo-redis.service.consul", Kind::A), "10.0.0.2 10.9.0.2");
        let rest = store.row("foo-redis.service.consul", Kind::A);
        assert_eq!(rest, "10.0.0.2 10.9.0.2", "{state:?}: the bare name lost its master");
    }
}

#[test]
fn nobody_at_all_leaves_the_names_above_the_master() {
    let mut store = Store::new();
    store.master(MasterState::Lapsed, Promise::None);
    store.entries.retain(|key, _| !key.starts_with("instances/"));
    check_rows(
        &store,
        &[
            ("foo-redis.service.consul", Kind::A, "no data"),
            ("master.foo-redis.service.consul", Kind::A, "no data"),
            ("replica.foo-redis.service.consul", Kind::A, "no name"),
        ],
    );
}

#[test]
fn time_alone_withdraws() {
    let store = Store::new();
    let last = NOW + store.valid;
    let name = "master.foo-redis.service.consul";
    let just_before = last - Duration::from_micros(1);
    assert_eq!(line(&store.ask_at(name, Kind::A, just_before)), "10.0.0.1");
    assert_eq!(line(&store.ask_at(name, Kind::A, last)), "no data");

    let mut kept = Store::new();
    kept.master(MasterState::Serving, Promise::Fence { lease_ms: 2000 });
    assert_eq!(kept.row(name, Kind::A), "no data", "no beat was ever seen");
    let beat = BeatRecord {
        format: FORMAT,
        counter: 1,
        start: "s".to_owned(),
        keeps: [(service(), Term(3))].into(),
        vetoes: BTreeMap::new(),
        sent: None,
        unknown: serde_json::Map::new(),
    };
    kept.put("beats/db1", beat.encode());
    assert_eq!(kept.row(name, Kind::A), "10.0.0.1");
    let late = NOW + Duration::from_secs(2);
    assert_eq!(line(&kept.ask_at(name, Kind::A, late)), "no data");
}

#[test]
fn a_master_is_not_kept_longer_than_it_is_valid() {
    let store = Store::new();
    for (after, want) in [(0, 6), (1500, 4), (5500, 0)] {
        let now = NOW + Duration::from_millis(after);
        let Answer::Ours(reply) = store.ask_at("foo-redis.service.sengu", Kind::A, now) else {
            panic!("not ours");
        };
        assert_eq!(reply.answers.len(), 3);
        assert!(reply.answers.iter().all(|record| record.ttl == want), "{reply:?}");
    }
    let Answer::Ours(reply) = store.ask("replica.foo-redis.service.sengu", Kind::A) else {
        panic!("not ours");
    };
    assert!(reply.answers.iter().all(|record| record.ttl == 30), "{reply:?}");
}

#[test]
fn absences_carry_a_short_soa() {
    let store = Store::new();
    for (ttl, want) in [(0, 0), (1, 1), (3600, 1)] {
        for name in ["no.such.consul", "no.service.consul", "x.node.consul", "service.consul"] {
            let question = Question::new(name, Kind::A, 1);
            let answer = answer(&store.picture(), NOW, &settings(ttl), &question);
            let Answer::Ours(reply) = answer else { panic!("not ours") };
            let [soa] = reply.authority.as_slice() else { panic!("{name}: {reply:?}") };
            assert_eq!((&soa.owner, soa.ttl), (&Owner::Name("consul".to_owned()), want));
            let Data::Soa { minimum, .. } = &soa.data else { panic!("{soa:?}") };
            assert_eq!(*minimum, want);
        }
    }
}

#[test]
fn nothing_read_yet_is_no_absence() {
    for (name, want) in [
        ("master.foo-redis.service.consul", "unknown"),
        ("consul", "unknown"),
        ("1.0.0.10.in-addr.arpa", "elsewhere"),
        ("example.org", "elsewhere"),
    ] {
        let question = Question::new(name, Kind::A, 1);
        assert_eq!(line(&answer(&Picture::Unknown, NOW, &settings(0), &question)), want);
    }
}

#[test]
fn srv_targets_come_with_their_addresses() {
    let store = Store::new();
    let Answer::Ours(reply) = store.ask("foo-redis.service.consul", Kind::Srv) else {
        panic!("not ours");
    };
    for record in &reply.answers {
        let Data::Srv { target, .. } = &record.data else { panic!("{record:?}") };
        let glue = reply.additional.iter().find(|r| r.owner == Owner::Name(target.clone()));
        let glue = glue.expect("each target has its address");
        assert_eq!(store.row(target, Kind::A), text(&glue.data), "as the target itself says");
    }
}

#[test]
fn the_order_is_the_seeds() {
    let store = Store::new();
    let picture = store.picture();
    let mut first = BTreeSet::new();
    for seed in 0..64 {
        let question = Question::new("foo-redis.service.consul", Kind::A, seed);
        let one = answer(&picture, NOW, &settings(0), &question);
        assert_eq!(one, answer(&picture, NOW, &settings(0), &question));
        let Answer::Ours(reply) = one else { panic!("not ours") };
        assert_eq!(reply.answers.len(), 3);
        first.insert(text(&reply.answers[0].data));
    }
    assert_eq!(first.len(), 3, "each address comes first at times");
}

proptest::proptest! {
    #[test]
    fn no_name_upsets_it(
        labels in proptest::collection::vec(
            "(service|node|addr|consul|sengu|dc1|ns|_tcp|_x|in-addr|ip6|arpa|[0-9a-f]{8}|\\PC{0,9})",
            0..40,
        ),
        seed: u64,
    ) {
        let store = Store::new();
        let picture = store.picture();
        for kind in [Kind::A, Kind::Srv, Kind::Ptr, Kind::Any] {
            let question = Question { labels: labels.clone(), kind, seed };
            if let Answer::Ours(reply) = answer(&picture, NOW, &settings(0), &question) {
                proptest::prop_assert!(reply.exists || reply.answers.is_empty());
            }
        }
    }
}
