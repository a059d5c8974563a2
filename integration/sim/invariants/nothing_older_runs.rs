//! **nothing-older-runs**: once a fence was reported done, no promotion of that instance takes
//! effect that was decided before the fence was.
//!
//! What counts is the moment of decision, not the term: a command may wait in a database's own
//! socket while its agent has long moved on.

use std::collections::BTreeMap;

use super::super::fact::{Fact, Id};
use super::super::schedule::{MILLI, Micros};
use super::{Breach, Invariant};

/// When the newest fence of each instance that was reported done had been decided.
#[derive(Default)]
pub(crate) struct NothingOlderRuns {
    fenced: BTreeMap<Id, Micros>,
}

impl Invariant for NothingOlderRuns {
    fn slug(&self) -> &'static str {
        "nothing-older-runs"
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
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::name::Term;

    use super::super::tests::{feed, r};
    use super::*;

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
