//! How a world comes to be: who is configured, who serves, and what an earlier life of the agent
//! left in the store.
//!
//! A story begins with one of these and changes what it tells otherwise. None of them leaves an
//! event waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sengu_core::event::LookOutcome;
use sengu_core::kv::Kv;
use sengu_core::lease::promise;
use sengu_core::machine::Machine;
use sengu_core::name::{HostName, Term};
use sengu_core::policy::{
    Config, DatabaseKind, Failover, InstanceConfig, Judge, Loss, Policy, Rejoin, ServiceConfig,
};
use sengu_core::position::Position;
use sengu_core::record::{FORMAT, Holder, HookOutcome, MasterRecord, MasterState, Promise, key};

use super::{
    BEGIN, Database, Store, World, address, boot_id, instance, position, service, transactions,
};

/// One agent judges.
pub(crate) fn alone() -> Judge {
    Judge::Alone { lease: Duration::from_secs(6) }
}

/// Several agents share the store.
pub(crate) fn shared() -> Judge {
    Judge::Shared { lease: Duration::from_secs(6), fence: Duration::from_secs(2) }
}

fn configuration<'a>(
    failover: Failover,
    judge: Judge,
    names: impl Iterator<Item = &'a str>,
) -> Config {
    let configured =
        |name: &str| InstanceConfig { address: address(name), zone: None, priority: 100 };
    let settings = ServiceConfig {
        kind: DatabaseKind::Redis,
        policy: Policy { failover, ..Policy::default() },
        instances: names.map(|name| (instance(name), configured(name))).collect(),
        hooks: BTreeMap::new(),
    };
    Config {
        host: HostName::new("db1").expect("a good name"),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        agent: "agent".to_owned(),
        start: "start".to_owned(),
        judge,
        services: BTreeMap::from([(service(), settings)]),
        remembered: BTreeSet::from([service()]),
    }
}

/// How a world comes to be.
impl World {
    /// These instances, as they are; the agent has not started.
    pub(crate) fn new(failover: Failover, judge: Judge, databases: &[(&str, Database)]) -> Self {
        let databases: BTreeMap<String, Database> = databases
            .iter()
            .map(|(name, database)| ((*name).to_owned(), database.clone()))
            .collect();
        Self {
            machine: Machine::new(),
            kv: Kv::new(),
            config: configuration(failover, judge, databases.keys().map(String::as_str)),
            databases,
            clock: BEGIN,
            events: VecDeque::new(),
            late: Vec::new(),
            store_does: Store::Answers,
            refused: Vec::new(),
            exits_unseen: false,
            dead_unseen: false,
            txns_take: Duration::ZERO,
            under_way: Vec::new(),
            hooks_take: Duration::ZERO,
            hooks_end: HookOutcome::Done { warnings: Vec::new(), output: String::new() },
            look_shows: LookOutcome::Unknown,
            looks_take: Duration::ZERO,
            armed: Vec::new(),
            actions: 0,
            commands: Vec::new(),
            log: Vec::new(),
            looked: BTreeMap::new(),
        }
    }

    /// `cache1` serves term 1; `cache2` and so on, `replicas` of them, follow it. Under one judge,
    /// looked at and quiet.
    pub(crate) fn serving(failover: Failover, replicas: usize) -> Self {
        let at = || position("first", 100);
        let mut databases = vec![("cache1", Database::master(1, at()))];
        for name in ["cache2", "cache3"].into_iter().take(replicas) {
            databases.push((name, Database::replica(1, "cache1", at())));
        }
        let mut world = Self::new(failover, alone(), &databases);
        world.adopted(1, MasterState::Serving, "cache1", &[position("first", 0)]);
        world.start_agent();
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.master().state, MasterState::Serving, "{}", world.tell());
        world.forget();
        world
    }

    /// `db1` serves term 1 with MySQL, its copies follow it; all have the same 100 transactions.
    pub(crate) fn mysql(loss: Loss, copies: usize) -> Self {
        let at = |name| transactions(name, &[("db1", 100)]);
        let mut databases = vec![("db1", Database::master(1, at("db1")))];
        for name in ["db2", "db3"].into_iter().take(copies) {
            databases.push((name, Database::replica(1, "db1", at(name))));
        }
        let mut world = Self::new(Failover::Auto, alone(), &databases);
        let settings = world.config.services.get_mut(&service()).expect("it is configured");
        settings.kind = DatabaseKind::Mysql;
        settings.policy.loss = loss;
        settings.policy.rejoin = Rejoin::Ask;
        world.adopted(1, MasterState::Serving, "db1", &[transactions("db1", &[])]);
        world.start_agent();
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.master().state, MasterState::Serving, "{}", world.tell());
        world.forget();
        world
    }

    /// `db2` here, a copy of `db1` on another host, which serves term 1 with so many transactions.
    pub(crate) fn mysql_held_elsewhere(count: u64) -> Self {
        let copy = Database::replica(1, "db1", transactions("db2", &[("db1", count)]));
        let mut world = Self::new(Failover::Auto, shared(), &[("db2", copy)]);
        let settings = world.config.services.get_mut(&service()).expect("it is configured");
        settings.kind = DatabaseKind::Mysql;
        world.adopted(1, MasterState::Serving, "db1", &[transactions("db1", &[])]);
        let mut record = world.master();
        record.holder.host = HostName::new("db9").expect("a good name");
        record.promise = Promise::None; // Its agent is not of this story, and beats not.
        world.put_record(key::master(&service()), &record);
        world.start_agent();
        world.run_for(Duration::from_secs(3));
        world.forget();
        world
    }

    /// `cache1` and two replicas.
    pub(crate) fn trio(failover: Failover) -> Self {
        Self::serving(failover, 2)
    }

    /// `cache1` alone under a shared store; `cache9` of host `db2` serves term 1; the agent has not
    /// started.
    pub(crate) fn held_elsewhere() -> Self {
        let mut world = Self::single_shared();
        let mut record = world.master();
        record.holder.host = HostName::new("db2").expect("a good name");
        record.holder.instance = instance("cache9");
        world.put_record(key::master(&service()), &record);
        world
    }

    /// `cache1` alone under a shared store, serving term 1; the agent has not started.
    pub(crate) fn single_shared() -> Self {
        let master = Database::master(1, position("first", 100));
        let mut world = Self::new(Failover::Auto, shared(), &[("cache1", master)]);
        world.adopted(1, MasterState::Serving, "cache1", &[position("first", 0)]);
        world
    }

    /// The record as an earlier life of the agent left it; it learns of it at its next start.
    pub(crate) fn adopted(
        &mut self,
        term: u64,
        state: MasterState,
        holder: &str,
        origins: &[Position],
    ) {
        self.write_master(term, state, holder, origins);
        self.events.clear();
    }

    /// Writes a master record held by the first life of an instance.
    pub(crate) fn write_master(
        &mut self,
        term: u64,
        state: MasterState,
        holder: &str,
        origins: &[Position],
    ) {
        let record = MasterRecord {
            format: FORMAT,
            term: Term(term),
            state,
            holder: Holder {
                instance: instance(holder),
                host: HostName::new("db1").expect("a good name"),
                agent: "agent".to_owned(),
                boot_id: boot_id(&instance(holder), 1),
                address: address(holder),
            },
            promise: promise(self.config.judge),
            unproven: Vec::new(),
            origins: origins.to_vec(),
            failed: Vec::new(),
            unkept: Vec::new(),
            failovers: Vec::new(),
            external: None,
            frozen: None,
            since: self.now().wall,
            unknown: serde_json::Map::new(),
        };
        self.put_record(key::master(&service()), &record);
    }
}
