//! What does not change in the model: names, addresses, the policy, the lease and the quantum.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sengu_core::kv::{Compare, Op, Txn};
use sengu_core::name::{HostName, InstanceId, InstanceName, ServiceName, Term};
use sengu_core::policy::{
    Config, DatabaseKind, Failover, InstanceConfig, Judge, Policy, ServiceConfig,
};
use sengu_core::record::{Ask, FORMAT, Record, RequestRecord, Stand, key};
use sengu_core::time::Wall;

/// The lease, the fence's budget, and how much time goes by at once.
const LEASE: Duration = Duration::from_secs(4);
const FENCE: Duration = Duration::from_secs(1);
pub(super) const QUANTUM: Duration = Duration::from_secs(1);

pub(super) fn service() -> ServiceName {
    ServiceName::new("foo").expect("a label")
}

pub(super) fn instance(host: usize) -> InstanceName {
    InstanceName::new(&format!("r{}", host + 1)).expect("a label")
}

pub(super) fn instance_id(host: usize) -> InstanceId {
    InstanceId { service: service(), instance: instance(host) }
}

pub(super) fn address(host: usize) -> SocketAddr {
    let octet = u8::try_from(host + 1).expect("two hosts");
    SocketAddr::from(([10, 0, 0, octet], 6379))
}

/// The configuration of one life of one host's agent.
pub(super) fn config(host: usize, life: u32, remembered: BTreeSet<ServiceName>) -> Config {
    let settings = ServiceConfig {
        kind: DatabaseKind::Redis,
        policy: Policy {
            failover: Failover::Auto,
            candidate_wait: QUANTUM / 2,
            cooldown_failovers: 1000,
            ..Policy::default()
        },
        instances: BTreeMap::from([(
            instance(host),
            InstanceConfig { address: address(host), zone: None, priority: 10 },
        )]),
        hooks: BTreeMap::new(),
    };
    Config {
        host: HostName::new(&format!("h{}", host + 1)).expect("a label"),
        address: address(host).ip(),
        agent: format!("agent-{}", host + 1),
        start: format!("start-{}-{life}", host + 1),
        judge: Judge::Shared { lease: LEASE, fence: FENCE },
        services: BTreeMap::from([(service(), settings)]),
        remembered,
    }
}

/// What a person may ask for.
pub(super) fn request_of(failover: bool) -> Ask {
    if failover { Ask::Failover { to: None, lossy: false } } else { Ask::Switchover { to: None } }
}

/// The txn that asks.
pub(super) fn request_txn(ask: Ask, term: Option<Term>, now: Wall) -> Txn {
    let id = format!("p{}", term.map_or(0, |term| term.0));
    let record = RequestRecord {
        format: FORMAT,
        ask,
        term,
        by: "root@h1".to_owned(),
        comment: String::new(),
        at: now,
        until: Wall(now.0 + 60_000),
        stand: Stand::Asked,
        hooks: BTreeMap::new(),
        warning: None,
        unknown: serde_json::Map::new(),
    };
    let key = key::request(&service(), &id);
    Txn {
        when: vec![Compare::Modified(key.clone(), 0)],
        then: vec![Op::Put { key, value: record.encode(), lease: 0 }],
        otherwise: Vec::new(),
    }
}
