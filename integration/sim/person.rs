//! A person who adopts services and asks for moves, pauses and drains; written as the operator's
//! endpoint writes them, for the term that stands.

use std::collections::BTreeMap;

use sengu_core::kv::{Compare, Op, Txn};
use sengu_core::name::Term;
use sengu_core::record::{Ask, FORMAT, MasterState, Record, RequestRecord, Stand, key};
use sengu_core::time::Wall;

use super::agent::service_name;
use super::schedule::{Micros, SECOND};
use super::world::{Happening, World, say};

impl World {
    /// Writes a request, if the store answers; gives its key.
    pub(crate) fn ask(&mut self, service: usize, ask: Ask, standing: bool) -> Option<String> {
        if self.now < self.store.away_until {
            return None;
        }
        let id = format!("p{}", self.number());
        let term = self.master(service).map(|record| record.term);
        let Wall(at) = self.agents[0].clock.now(self.now).wall;
        let record = RequestRecord {
            format: FORMAT,
            ask,
            term: if standing { None } else { term },
            by: "root@h1".to_owned(),
            comment: String::new(),
            at: Wall(at),
            until: Wall(at + 20_000),
            stand: if standing { Stand::Standing } else { Stand::Asked },
            hooks: BTreeMap::new(),
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

    /// A person comes by and wants something.
    pub(crate) fn person_acts(&mut self) {
        let next = self.random.person.between(3 * SECOND, 20 * SECOND);
        self.plan(next, Happening::PersonActs);
        if self.calm {
            return;
        }
        let random = &mut self.random.person;
        let service = random.index(self.options.services);
        let what = random.below(10);
        let named = random.permille(500);
        let number = random.index(self.options.instances);
        let keep = random.between(2 * SECOND, 10 * SECOND);
        if self.managed(service).is_none() {
            return;
        }
        let instance = super::fact::Id { service, number }.name();
        let to = named.then(|| instance.clone());
        match what {
            0..6 => drop(self.ask(service, Ask::Switchover { to }, false)),
            6..8 => drop(self.ask(service, Ask::Failover { to, lossy: false }, false)),
            8 => self.ask_for_a_while(service, Ask::Pause, keep),
            _ => self.ask_for_a_while(service, Ask::Drain { instance }, keep),
        }
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
