//! What agents' outputs say, read between any two of their steps: the name that DNS and HTTP
//! answer with, and a hosts file that an agent writes and anybody reads.
//!
//! A name is judged against what its agent had been given, noted at its door. A file is read
//! whether its writer lives or not: it cannot withdraw itself.

use std::collections::BTreeMap;
use std::rc::Rc;

use sengu_core::catalog::Named;
use sengu_core::event::Event;
use sengu_core::kv::{Change, KeyValue, Revision};
use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, MasterState, Promise};
use sengu_core::time::Time;

use super::agent::micros;
use super::fact::{Fact, Id, SERVICES};
use super::schedule::MILLI;
use super::store::Store;
use super::words::host_of;
use super::world::{Happening, World};

/// What was given to a machine, noted at its door: the measure of what outputs may say.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// The revision of the last beat seen of each host.
    beats: BTreeMap<String, Revision>,
    /// When a beat of a host that keeps a term of a service last came.
    kept: BTreeMap<(usize, Term, usize), Time>,
    masters: BTreeMap<usize, Rc<MasterRecord>>,
    fresh: Time,
}

impl Door {
    /// Notes what an event brings; the store has read the records already.
    pub(crate) fn note(&mut self, now: Time, event: &Event, store: &Store) {
        match event {
            Event::Loaded { sent, entries, .. } => {
                self.fresh = self.fresh.max(*sent);
                self.masters.clear();
                for entry in entries {
                    self.entry(now, entry, store);
                }
            }
            Event::Changed { changes, .. } => {
                for Change { now: entry, .. } in changes {
                    if let Some(entry) = entry {
                        self.entry(now, entry, store);
                    }
                }
            }
            Event::Fresh { sent } => self.fresh = self.fresh.max(*sent),
            _ => {}
        }
    }

    fn entry(&mut self, now: Time, entry: &KeyValue, store: &Store) {
        if let Some(host) = entry.key.strip_prefix("beats/") {
            if self.beats.get(host) == Some(&entry.modified) {
                return;
            }
            self.beats.insert(host.to_owned(), entry.modified);
            let Some(beat) = store.beat_at(entry.modified) else { return };
            for (name, term) in &beat.keeps {
                if let Some(service) = service_of(name.as_str()) {
                    self.kept.insert((service, *term, host_of(host).unwrap_or(0)), now);
                }
            }
        } else if let Some(name) = entry.key.strip_prefix("master/")
            && let Some(service) = service_of(name)
            && let Some(record) = store.master_at(service, entry.modified)
        {
            self.masters.insert(service, record);
        }
    }
}

/// The number of a service.
pub(crate) fn service_of(name: &str) -> Option<usize> {
    SERVICES.iter().position(|known| *known == name)
}

impl World {
    /// Outputs are read on every host, at any time between two steps of its agent.
    pub(crate) fn sample(&mut self, turn: u64) {
        if turn != self.samples {
            return;
        }
        self.tell(Fact::Moment);
        for host in 0..self.agents.len() {
            for service in 0..self.options.services {
                let named = self.read_output(host, service);
                self.write_file(host, service, named);
            }
        }
        self.plan_sample();
    }

    /// The next reading of all outputs: soon where something happens.
    pub(crate) fn plan_sample(&mut self) {
        let (low, high) = if self.lively() { (20, 80) } else { (400, 800) };
        let wait = self.random.client.between(low * MILLI, high * MILLI);
        self.samples += 1;
        self.plan(wait, Happening::Sample { turn: self.samples });
    }

    /// The hosts file says what its agent would say now; without a running agent it stays.
    fn write_file(&mut self, host: usize, service: usize, named: Option<usize>) {
        let now = self.now;
        let agent = &mut self.agents[host];
        if agent.life.as_ref().is_none_or(|life| life.stopped_until > now) {
            return;
        }
        match named {
            Some(db) => agent.file.insert(service, db),
            None => agent.file.remove(&service),
        };
    }

    /// Whom a host's file names, whoever looks.
    pub(crate) fn read_file(&self, host: usize, service: usize) -> Option<usize> {
        self.agents[host].file.get(&service).copied()
    }

    /// Somebody asks an agent's outputs for a master, and notes what the agent had been given.
    pub(crate) fn read_output(&mut self, host: usize, service: usize) -> Option<usize> {
        let now = self.now;
        let local = self.clock(host).local(now);
        let alone = self.options.alone();
        let lease = self.options.judge_of(self.place(host)).lease();
        let life = self.agents[host].life.as_ref()?;
        if life.stopped_until > now {
            return None;
        }
        let catalog = life.machine.catalog();
        let Named::Master(instance, record) = catalog.master(&self.names[service], local) else {
            return None;
        };
        let (address, id) = (record.address, Id::named(service, instance)?);
        let given = life.door.masters.get(&service);
        let term = given.map_or(Term(0), |record| record.term);
        let serving = given.is_some_and(|record| {
            record.state == MasterState::Serving && record.holder.instance == *instance
        });
        let beats = |given: &MasterRecord| {
            let external = given.external.as_ref();
            given.promise != Promise::None || external.is_some_and(|it| it.lease_ms.is_some())
        };
        let beat_age = given.filter(|given| beats(given)).map(|given| {
            let host = host_of(given.holder.host.as_str()).unwrap_or(0);
            let came = life.door.kept.get(&(service, term, host)).copied();
            micros(local.since(came.unwrap_or(Time::ZERO)))
        });
        let fresh = if alone { catalog.valid_until - lease } else { life.door.fresh };
        let fresh_age = micros(local.since(fresh));
        let life = life.number;
        self.tell(Fact::Named { host, life, instance: id, term, serving, beat_age, fresh_age });
        self.addresses.get(&address).copied()
    }
}
