//! A person who adopts services and asks for moves, pauses, freezes and drains; written as the
//! operator's endpoint writes them, for the term that stands.

use std::collections::BTreeMap;

use sengu_core::kv::{Compare, Op, Txn};
use sengu_core::name::Term;
use sengu_core::record::{Ask, FORMAT, MasterState, Record, RequestRecord, Stand, key};
use sengu_core::time::Wall;

use super::agent::service_name;
use super::deed::Wish;
use super::schedule::{MILLI, Micros};
use super::world::{Happening, World, say};

impl World {
    /// A person wants something of sengu.
    pub(crate) fn wish(&mut self, service: usize, wish: &Wish) {
        let managed = self.managed(service).is_some();
        match wish {
            Wish::Adopt(master) => {
                let master = master.map(super::fact::Id::name);
                self.ask(service, Ask::Adopt { master }, false);
            }
            // What is asked of a service that nobody holds is refused before it is written.
            _ if !managed => {}
            Wish::Release => drop(self.ask(service, Ask::Release, false)),
            Wish::Switchover(to) => {
                let to = to.map(super::fact::Id::name);
                self.ask(service, Ask::Switchover { to }, false);
            }
            Wish::Failover(to, lossy) => {
                let to = to.map(super::fact::Id::name);
                self.ask(service, Ask::Failover { to, lossy: *lossy }, false);
            }
            Wish::Pause(keep) => self.ask_for_a_while(service, Ask::Pause, *keep),
            Wish::Freeze(keep) => {
                let within = i64::try_from(*keep / MILLI).unwrap_or(i64::MAX);
                self.write_request(service, Ask::Freeze, None, Stand::Asked, within);
            }
            Wish::Drain(id, keep) => {
                self.ask_for_a_while(service, Ask::Drain { instance: id.name() }, *keep);
            }
        }
    }

    /// Writes a request, if the store answers; gives its key.
    pub(crate) fn ask(&mut self, service: usize, ask: Ask, standing: bool) -> Option<String> {
        let term = self.master(service).map(|record| record.term).filter(|_| !standing);
        let stand = if standing { Stand::Standing } else { Stand::Asked };
        self.write_request(service, ask, term, stand, 20_000)
    }

    /// The same for this term, standing so, and counting for so many milliseconds.
    fn write_request(
        &mut self,
        service: usize,
        ask: Ask,
        term: Option<Term>,
        stand: Stand,
        within: i64,
    ) -> Option<String> {
        if self.now < self.store.away_until || self.now < self.store.full_until {
            return None;
        }
        let id = format!("p{}", self.number());
        let Wall(at) = self.agents[0].clock.now(self.now).wall;
        let record = RequestRecord {
            format: FORMAT,
            ask,
            term,
            by: "root@h1".to_owned(),
            comment: String::new(),
            at: Wall(at),
            until: Wall(at + within),
            stand,
            hooks: BTreeMap::new(),
            warning: None,
            unknown: serde_json::Map::new(),
        };
        let key = key::request(&service_name(service), &id);
        let txn = Txn {
            when: vec![Compare::Modified(key.clone(), 0)],
            then: vec![Op::Put { key: key.clone(), value: record.encode(), lease: 0 }],
            otherwise: Vec::new(),
        };
        self.commit(&txn, "a person").ok()?;
        Some(key.to_string())
    }

    fn ask_for_a_while(&mut self, service: usize, ask: Ask, keep: Micros) {
        if let Some(key) = self.ask(service, ask, true) {
            self.plan(keep, Happening::PersonEnds { key });
        }
    }

    /// A pause or drain ends.
    pub(crate) fn person_ends(&mut self, key: &str) {
        if self.store.kv.get(key).is_some() {
            say!(self, "a person ends {key}");
            let txn = Txn { then: vec![Op::Delete(key.into())], ..Txn::default() };
            self.commit(&txn, "a person").expect("one small operation is within bounds");
        }
    }

    /// The term under which sengu holds a service, if it does.
    pub(crate) fn managed(&self, service: usize) -> Option<Term> {
        self.master(service)
            .filter(|record| record.state != MasterState::Unmanaged)
            .map(|record| record.term)
    }
}
