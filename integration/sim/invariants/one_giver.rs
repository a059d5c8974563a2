//! **one-giver**: every change of `master/S` in the store's own log is a legal one.
//!
//! Terms are never reused and have one holder ever; a new term begins as *taken* (or *serving*,
//! by adoption); a lapsed term is never beaten back; *lapsed* is written only after no beat that
//! names the term was committed for the lease. The table is written here a second time, on
//! purpose, beside the core's own.

use std::collections::BTreeMap;
use std::rc::Rc;

use sengu_core::name::Term;
use sengu_core::record::{Cause, MasterRecord, MasterState, Promise};

use super::super::fact::{Fact, Layout};
use super::super::schedule::{MILLI, Micros};
use super::watched::KEPT_ID;
use super::{Breach, Invariant, Often};

/// The last record of each service, and the last beat of its term.
pub(crate) struct OneGiver {
    last: BTreeMap<usize, Rc<MasterRecord>>,
    /// Commit of the later of the record that began the term and its last beat.
    kept: BTreeMap<usize, Micros>,
    holders: BTreeMap<(usize, Term), String>,
    /// The store was set back under its old id, and an agent believes it.
    set_back: bool,
}

impl OneGiver {
    pub(crate) fn new(_layout: &Layout) -> Self {
        Self {
            last: BTreeMap::new(),
            kept: BTreeMap::new(),
            holders: BTreeMap::new(),
            set_back: false,
        }
    }

    fn judge(&mut self, at: Micros, service: usize, new: &MasterRecord) -> Result<(), String> {
        let holder = format!("{} {}", new.holder.instance, new.holder.boot_id);
        let had = self.holders.entry((service, new.term)).or_insert_with(|| holder.clone());
        if *had != holder {
            return Err(format!("term {} of {had} was given to {holder} too", new.term));
        }
        let Some(old) = self.last.get(&service) else {
            return match &new.state {
                MasterState::Serving | MasterState::Taken { cause: Cause::Adopted } => Ok(()),
                _ => Err(format!("the first record is {}", word(new))),
            };
        };
        if new.term == old.term {
            return self.within_a_term(at, service, old, new);
        }
        if new.term != old.term.next() {
            return Err(format!("term {} came after term {}", new.term, old.term));
        }
        between_terms(old, new)
    }

    fn within_a_term(
        &self,
        at: Micros,
        service: usize,
        old: &MasterRecord,
        new: &MasterRecord,
    ) -> Result<(), String> {
        let legal = match (word(old), word(new)) {
            (before, after) if before == after => true,
            ("taken", "serving" | "vacant" | "lapsed" | "fence-failed" | "unmanaged") => true,
            ("serving", "giving" | "vacant" | "lapsed" | "fence-failed" | "unmanaged") => true,
            ("giving", "vacant" | "lapsed" | "fence-failed" | "unmanaged") => true,
            ("lapsed", "vacant" | "fence-failed" | "unmanaged") => true,
            ("fence-failed", "vacant" | "lapsed" | "unmanaged") => true,
            ("vacant", "unmanaged") => true,
            ("serving" | "taken", "withdrawn") => new.external.is_some(),
            ("withdrawn", "unmanaged") => true,
            _ => false,
        };
        if !legal {
            return Err(format!("term {} went from {} to {}", new.term, word(old), word(new)));
        }
        if word(new) == "lapsed" && word(old) != "lapsed" {
            let Promise::Fence { lease_ms } = old.promise else {
                return Err(format!("term {} lapsed although it promised nothing", old.term));
            };
            let silent = at - self.kept.get(&service).copied().unwrap_or(0);
            // Waited on a clock that may be one percent fast.
            if silent < lease_ms * MILLI {
                return Err(format!(
                    "term {} was declared lapsed {} ms after its last beat, with a lease of \
                     {lease_ms} ms",
                    new.term,
                    silent / MILLI
                ));
            }
        }
        Ok(())
    }
}

fn between_terms(old: &MasterRecord, new: &MasterRecord) -> Result<(), String> {
    let same = old.holder.instance == new.holder.instance;
    let legal = match (word(old), word(new)) {
        ("unmanaged", "serving") => true,
        ("unmanaged", "taken") => new.state == MasterState::Taken { cause: Cause::Adopted },
        ("vacant" | "lapsed" | "giving", "taken") => true,
        ("serving" | "taken" | "fence-failed", "taken") => same,
        // Another tool moves it: one that takes writes already, or sengu's own fence undone.
        ("withdrawn", "serving") => new.external.is_some(),
        ("withdrawn", "taken") => same && new.external.is_some(),
        _ => false,
    };
    if legal {
        return Ok(());
    }
    Err(format!(
        "{} term {} of {} was followed by {} term {} of {}",
        word(old),
        old.term,
        old.holder.instance,
        word(new),
        new.term,
        new.holder.instance
    ))
}

fn word(record: &MasterRecord) -> &'static str {
    record.state.word()
}

impl Invariant for OneGiver {
    fn slug(&self) -> &'static str {
        "one-giver"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Beat]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        match fact {
            Fact::Master { service, record: None } => {
                Err(Breach::firm(format!("master record of service {service} was removed")))
            }
            Fact::Master { service, record: Some(new) } => {
                let judged = self.judge(at, *service, new);
                if self.last.get(service).is_none_or(|old| old.term != new.term) {
                    self.kept.insert(*service, at);
                }
                self.last.insert(*service, Rc::clone(new));
                let limit = self.set_back.then_some(KEPT_ID);
                judged.map_err(|text| Breach { limit, text })
            }
            Fact::Beat { service, term } => {
                if self.last.get(service).is_some_and(|last| last.term == *term) {
                    self.kept.insert(*service, at);
                }
                Ok(())
            }
            Fact::SetBack => {
                self.set_back = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::record::Proof;
    use sengu_core::time::Wall;

    use super::super::tests::{feed, layout, master};
    use super::*;

    const TAKEN: MasterState = MasterState::Taken { cause: Cause::Lapsed };
    const VACANT: MasterState = MasterState::Vacant {
        proof: Proof::Exited,
        cause: Cause::ProcessExited,
        noticed: Wall(0),
        seen: None,
    };

    fn check(history: impl IntoIterator<Item = (Micros, Fact)>) -> Result<(), String> {
        feed(OneGiver::new(&layout()), history).map_err(|breach| breach.text)
    }

    #[test]
    fn a_failover_and_a_return_hold() {
        let history = [
            (0, master(1, 1, MasterState::Serving)),
            (3000, Fact::Beat { service: 0, term: Term(1) }),
            (7100, master(1, 1, MasterState::Lapsed)),
            (7200, master(2, 2, TAKEN)),
            (7300, master(2, 2, MasterState::Serving)),
            (9000, master(2, 2, VACANT)),
            (9100, master(3, 1, TAKEN)),
        ];
        assert_eq!(check(history), Ok(()));
    }

    #[test]
    fn a_reused_term_breaks_it() {
        let history = [(0, master(1, 1, VACANT)), (1, master(1, 2, TAKEN))];
        assert!(check(history).is_err());
        let history = [(0, master(1, 1, MasterState::Serving)), (1, master(1, 2, VACANT))];
        assert!(check(history).expect_err("two holders").contains("given to"));
    }

    #[test]
    fn a_term_taken_from_a_serving_master_breaks_it() {
        let history = [(0, master(1, 1, MasterState::Serving)), (1, master(2, 2, TAKEN))];
        assert!(check(history).is_err());
    }

    #[test]
    fn a_lapse_declared_too_early_or_beaten_back_breaks_it() {
        let beat = Fact::Beat { service: 0, term: Term(1) };
        let serving = || master(1, 1, MasterState::Serving);
        let lapsed = || master(1, 1, MasterState::Lapsed);
        let early = [(0, serving()), (3000, beat), (6900, lapsed())];
        assert!(check(early).expect_err("early").contains("lapsed 3900 ms after"));
        let revived = [(0, serving()), (5000, lapsed()), (5100, serving())];
        assert!(check(revived).expect_err("revived").contains("from lapsed to serving"));
    }

    #[test]
    fn a_term_given_twice_after_a_store_was_set_back_under_its_id_is_told_apart() {
        let vacant = || master(1, 1, VACANT);
        let history = |between: Option<Fact>| {
            let before = [(0, master(1, 1, MasterState::Serving)), (1, vacant())];
            let lost = [(2, master(2, 2, TAKEN))];
            let after = [(5, master(2, 1, TAKEN))];
            before.into_iter().chain(lost).chain(between.map(|fact| (4, fact))).chain(after)
        };
        let limit = |between| {
            feed(OneGiver::new(&layout()), history(between)).expect_err("given twice").limit
        };
        assert_eq!(limit(Some(Fact::SetBack)), Some(KEPT_ID));
        assert_eq!(limit(None), None);
    }

    #[test]
    fn a_removed_record_breaks_it() {
        assert!(check([(0, Fact::Master { service: 0, record: None })]).is_err());
    }
}
