//! What must hold in every state that the search reaches.

use std::collections::BTreeMap;

use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, MasterState};
use sengu_core::transition;

use super::database::Database;

/// What was seen so far on the way to a state, as far as later states are judged by it.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Judge {
    /// Who ever held each term.
    holders: BTreeMap<Term, String>,
    /// The newest term in which a write was acknowledged, and on which host.
    acknowledged: Option<(u64, usize)>,
    /// All acknowledged writes that no failover was allowed to lose.
    pub(super) kept: Vec<u32>,
    /// The newest term that each agent's life named.
    named: [Option<Term>; 2],
    /// The first rule that broke.
    pub(super) broken: Option<String>,
}

impl Judge {
    pub(super) fn breach(&mut self, slug: &str, text: &str) {
        if self.broken.is_none() {
            self.broken = Some(format!("{slug}: {text}"));
        }
    }

    /// **one-giver**, over every change that the store saw.
    pub(super) fn master(&mut self, old: Option<&MasterRecord>, new: &MasterRecord) {
        let holder = format!("{} {}", new.holder.instance, new.holder.boot_id);
        let had = self.holders.entry(new.term).or_insert_with(|| holder.clone()).clone();
        if had != holder {
            self.breach("one-giver", &format!("term {} of {had}, given to {holder}", new.term));
        }
        if let Err(why) = transition::check(old, new) {
            self.breach("one-giver", &why);
        }
    }

    /// **W**, by the databases' own record of acknowledgements.
    pub(super) fn acknowledges(&mut self, host: usize, term: u64, number: u32) {
        match self.acknowledged {
            Some((newest, holder)) if holder != host && term <= newest => {
                let text =
                    format!("h{} in term {term}, after h{} in {newest}", host + 1, holder + 1);
                self.breach("w", &text);
            }
            Some((newest, _)) if term <= newest => {}
            _ => self.acknowledged = Some((term, host)),
        }
        self.kept.push(number);
    }

    /// One writable instance at most, at any moment.
    pub(super) fn databases(&mut self, databases: &[Database; 2]) {
        if databases.iter().all(Database::open) {
            self.breach("proven-before-promoted", "both instances take writes");
        }
    }

    /// **planned-loses-nothing**: a planned move opens only what has everything.
    pub(super) fn promoted(&mut self, planned: bool, database: &Database) {
        let lost = self.kept.iter().filter(|write| !database.data.contains(write)).count();
        if planned && lost > 0 {
            self.breach("planned-loses-nothing", &format!("{lost} acknowledged writes are gone"));
        }
        if !planned {
            self.kept.retain(|write| database.data.contains(write));
        }
    }

    /// **named-is-serving**: what an agent's outputs say, by the record in its own view.
    pub(super) fn named(&mut self, host: usize, instance: &str, record: Option<&MasterRecord>) {
        let Some(record) = record else {
            return self.breach("named-is-serving", "a master is named without a record");
        };
        if record.state != MasterState::Serving || record.holder.instance.as_str() != instance {
            let text = format!("h{} names {instance}, term {}", host + 1, record.term);
            self.breach("named-is-serving", &text);
        }
        if self.named[host] > Some(record.term) {
            self.breach(
                "named-is-serving",
                &format!("h{} went back to term {}", host + 1, record.term),
            );
        }
        self.named[host] = Some(record.term);
    }

    /// An agent's life ended: the next may begin with what it reads.
    pub(super) fn forget(&mut self, host: usize) {
        self.named[host] = None;
    }
}
