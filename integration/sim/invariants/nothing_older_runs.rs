//! **nothing-older-runs**: once a fence was reported done, no promotion of that instance takes
//! effect that was decided before the fence was.
//!
//! What counts is the moment of decision, not the term: a command may wait in a database's own
//! socket while its agent has long moved on. And a promotion under a promise is decided only with
//! more time left than it may take.

use std::collections::BTreeMap;
use std::rc::Rc;

use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, Promise};

use super::super::fact::{Fact, Id};
use super::super::schedule::{MILLI, Micros, SECOND};
use super::{Breach, Invariant, Often};

/// When the newest fence of each instance that was reported done had been decided.
#[derive(Default)]
pub(crate) struct NothingOlderRuns {
    fenced: BTreeMap<Id, Micros>,
    /// The newest acknowledged deadline of each term.
    deadlines: BTreeMap<(Id, Term), Micros>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
}

impl NothingOlderRuns {
    /// Was the time left at its decision more than a promotion may take?
    fn in_time(&self, instance: Id, term: Term, decided: Micros) -> Result<(), Breach> {
        let record = self.records.get(&instance.service).filter(|record| record.term == term);
        let Some(Promise::Fence { lease_ms }) = record.map(|record| &record.promise) else {
            return Ok(());
        };
        let deadline = self.deadlines.get(&(instance, term)).copied().unwrap_or(0);
        let left = deadline.saturating_sub(decided);
        if left >= (lease_ms * MILLI / 3).min(2 * SECOND) {
            return Ok(());
        }
        Err(Breach::firm(format!(
            "a promotion of {instance} in term {term} was decided with {} ms of its lease left",
            left / MILLI
        )))
    }
}

impl Invariant for NothingOlderRuns {
    fn slug(&self) -> &'static str {
        "nothing-older-runs"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::BeatAcknowledged]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        match *fact {
            Fact::Fenced { instance, decided } => {
                let newest = self.fenced.entry(instance).or_insert(decided);
                *newest = decided.max(*newest);
            }
            Fact::Promoted { instance, term, decided, .. } => {
                if let Some(&fenced) = self.fenced.get(&instance)
                    && decided < fenced
                {
                    return Err(Breach::firm(format!(
                        "a promotion of {instance} in term {term}, decided at {} ms, took effect \
                         at {} ms, after a fence decided at {} ms was reported done",
                        decided / MILLI,
                        at / MILLI,
                        fenced / MILLI
                    )));
                }
                return self.in_time(instance, term, decided);
            }
            Fact::BeatAcknowledged { instance, term, deadline } => {
                let newest = self.deadlines.entry((instance, term)).or_insert(deadline);
                *newest = deadline.max(*newest);
            }
            Fact::Master { service, record: Some(ref record) } => {
                self.records.insert(service, Rc::clone(record));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::record::{Cause, MasterState};

    use super::super::tests::{feed, master, r};
    use super::*;

    #[test]
    fn a_promotion_with_too_little_time_left_breaks_it() {
        let check = |deadline| {
            let taken = master(2, 1, MasterState::Taken { cause: Cause::Lapsed });
            let deadline = deadline * MILLI;
            let beat = Fact::BeatAcknowledged { instance: r(1), term: Term(2), deadline };
            let history = [(0, taken), (1, beat), (1005, promoted(1000 * MILLI))];
            feed(NothingOlderRuns::default(), history)
        };
        assert_eq!(check(4000), Ok(()));
        assert!(check(1500).is_err());
    }

    fn promoted(decided: Micros) -> Fact {
        Fact::Promoted { instance: r(1), term: Term(2), decided, holds: [].into() }
    }

    const FENCED: Fact =
        Fact::Fenced { instance: Id { service: 0, number: 0 }, decided: 5 * MILLI };

    #[test]
    fn a_promotion_decided_after_the_fence_holds() {
        let history = [(4, promoted(MILLI)), (6, FENCED), (9, promoted(8 * MILLI))];
        assert_eq!(feed(NothingOlderRuns::default(), history), Ok(()));
    }

    #[test]
    fn an_older_promotion_that_runs_after_the_fence_breaks_it() {
        let history = [(6, FENCED), (9, promoted(4 * MILLI))];
        assert!(feed(NothingOlderRuns::default(), history).is_err());
    }
}
