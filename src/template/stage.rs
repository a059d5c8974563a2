//! A catalog for tests, made of records as the store holds them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::catalog::Catalog;
use sengu_core::kv::{Change, KeyValue};
use sengu_core::name::{BootId, HostName, InstanceName, ServiceName, Term};
use sengu_core::observation::{Process, Role, Verdict};
use sengu_core::policy::DatabaseKind;
use sengu_core::record::{
    BeatRecord, Cause, FORMAT, Health, Holder, InstanceRecord, Lag, MasterRecord, MasterState,
    NodeRecord, Owner, Promise, Proof, Record, key,
};
use sengu_core::time::{Time, Wall};

/// How long a master is kept without a beat, where one is promised.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

/// A catalog that grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stage {
    /// As it stands.
    pub(crate) catalog: Catalog,
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("name")
}

fn instance(name: &str) -> InstanceName {
    InstanceName::new(name).expect("name")
}

fn holder(name: &str, address: &str) -> Holder {
    Holder {
        instance: instance(name),
        host: HostName::new(name).expect("name"),
        agent: "agent".to_owned(),
        boot_id: BootId("boot:1:1".into()),
        address: address.parse().expect("address"),
    }
}

impl Stage {
    /// Fresh for a lease after `now`.
    pub(crate) fn fresh(&mut self, now: Time) {
        self.catalog.valid_until = now + LEASE;
    }

    pub(crate) fn shared(&self) -> Arc<Catalog> {
        Arc::new(self.catalog.clone())
    }

    pub(crate) fn put(&mut self, now: Time, key: &str, value: Option<Arc<[u8]>>) {
        let revision = self.catalog.revision + 1;
        let now_is = value.map(|value| {
            Arc::new(KeyValue {
                key: key.into(),
                value,
                created: revision,
                modified: revision,
                version: 1,
                lease: 0,
            })
        });
        self.catalog.apply(now, revision, &[Change { revision, key: key.into(), now: now_is }]);
    }

    pub(crate) fn json(&mut self, key: &str, json: &str) {
        self.put(Time(1), key, Some(json.as_bytes().into()));
    }

    pub(crate) fn node(&mut self, name: &str, address: &str) {
        let record = NodeRecord {
            format: FORMAT,
            name: name.to_owned(),
            address: address.parse().expect("address"),
            owner: Owner::Managed,
            id: None,
            meta: Default::default(),
            unknown: Default::default(),
        };
        self.put(Time(1), &key::node(&name.to_lowercase()), Some(record.encode()));
    }

    /// An instance on the host of the same name; following `source`, or following nobody.
    pub(crate) fn instance(&mut self, of: &str, name: &str, address: &str, source: Option<&str>) {
        self.instance_with(of, name, address, source, Health::Up);
    }

    pub(crate) fn instance_with(
        &mut self,
        of: &str,
        name: &str,
        address: &str,
        source: Option<&str>,
        health: Health,
    ) {
        let source: Option<SocketAddr> = source.map(|text| text.parse().expect("address"));
        let record = InstanceRecord {
            format: FORMAT,
            host: HostName::new(name).expect("name"),
            agent: "agent".to_owned(),
            address: address.parse().expect("address"),
            kind: DatabaseKind::Redis,
            zone: None,
            priority: 100,
            policy: Default::default(),
            boot_id: None,
            version: None,
            role: Some(if source.is_some() { Role::Replica } else { Role::Master }),
            writable: source.is_none(),
            source,
            link_up: true,
            syncing: false,
            lag: Lag::None,
            received: None,
            health,
            process: Process::default(),
            starts_fenced: Verdict::Good,
            killable: Verdict::Good,
            in_step: None,
            trouble: None,
            replication: Verdict::Good,
            lossless: Verdict::Good,
            bound: Verdict::Good,
            semi_sync: None,
            quarantine: None,
            unknown: Default::default(),
        };
        let key = key::instance(&service(of), &instance(name));
        self.put(Time(1), &key, Some(record.encode()));
    }

    pub(crate) fn serving(&mut self, now: Time, of: &str, name: &str, address: &str, kept: bool) {
        self.master(now, of, name, address, kept, MasterState::Serving);
    }

    pub(crate) fn vacant(&mut self, now: Time, of: &str, name: &str, address: &str) {
        let state = MasterState::Vacant {
            proof: Proof::Exited,
            cause: Cause::ProcessExited,
            noticed: Wall(0),
            seen: None,
        };
        self.master(now, of, name, address, false, state);
    }

    fn master(
        &mut self,
        now: Time,
        of: &str,
        name: &str,
        address: &str,
        kept: bool,
        state: MasterState,
    ) {
        let lease_ms = u64::try_from(LEASE.as_millis()).expect("short");
        let record = MasterRecord {
            format: FORMAT,
            term: Term(1),
            state,
            holder: holder(name, address),
            promise: if kept { Promise::Fence { lease_ms } } else { Promise::None },
            unproven: Vec::new(),
            origins: Vec::new(),
            failed: Vec::new(),
            unkept: Vec::new(),
            failovers: Vec::new(),
            external: None,
            frozen: None,
            since: Wall(0),
            unknown: Default::default(),
        };
        self.put(now, &key::master(&service(of)), Some(record.encode()));
    }

    pub(crate) fn beat(&mut self, now: Time, host: &str, keeps: &str) {
        let record = BeatRecord {
            format: FORMAT,
            counter: now.0,
            start: "start".to_owned(),
            keeps: [(service(keeps), Term(1))].into(),
            vetoes: Default::default(),
            sent: None,
            unknown: Default::default(),
        };
        let host = HostName::new(host).expect("name");
        self.put(now, &key::beat(&host), Some(record.encode()));
    }
}
