//! Another tool that moves masters (`failover = "external"`): its words to sengu, written as the
//! operator's endpoint writes them. What it does to the servers is done by the `hand` of scenarios.
//!
//! It may be late, come twice, or never say more: it is not part of sengu, and promises nothing.

use std::collections::BTreeMap;

use sengu_core::kv::{Compare, Op, Txn};
use sengu_core::record::{Announced, Ask, FORMAT, Record, RequestRecord, Stand, key};
use sengu_core::time::Wall;

use super::agent::service_name;
use super::fact::Id;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::World;

/// How long the tool waits for the answer to its last word.
const ANSWER: Micros = 20 * SECOND;

impl World {
    /// `sengu hook generic before`.
    pub(crate) fn tool_announces(&mut self, keep: Micros, fence: bool) {
        self.tool_says(Ask::Before(Announced { fence, ..Announced::default() }), keep);
    }

    /// `sengu hook generic after`.
    pub(crate) fn tool_tells(&mut self, to: Id) {
        self.tool_says(Ask::After { to: to.name(), epoch: None }, ANSWER);
    }

    fn tool_says(&mut self, ask: Ask, keep: Micros) {
        if self.now < self.store.away_until || self.now < self.store.full_until {
            return;
        }
        let Some(held) = self.managed(0) else { return };
        let id = format!("t{}", self.number());
        let Wall(at) = self.agents[0].clock.now(self.now).wall;
        let keep = i64::try_from(keep / MILLI).unwrap_or(i64::MAX);
        let record = RequestRecord {
            format: FORMAT,
            term: matches!(ask, Ask::Before(_)).then_some(held),
            ask,
            by: "tool@h1".to_owned(),
            comment: String::new(),
            at: Wall(at),
            until: Wall(at.saturating_add(keep)),
            stand: Stand::Asked,
            hooks: BTreeMap::new(),
            warning: None,
            unknown: serde_json::Map::new(),
        };
        let key = key::request(&service_name(0), &id);
        let txn = Txn {
            when: vec![Compare::Modified(key.clone(), 0)],
            then: vec![Op::Put { key, value: record.encode(), lease: 0 }],
            otherwise: Vec::new(),
        };
        // A store that refuses is a call that failed; the tool may come again.
        let _ = self.commit(&txn, "a tool");
    }
}
