//! A candidate whose promotion failed is passed over until a master serves again, unless a person
//! decides otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, MasterState};

use super::super::fact::{Fact, Id};
use super::super::schedule::Micros;
use super::{Breach, Invariant};

/// The last record of each service, and the terms that a failed candidate took.
#[derive(Default)]
pub(crate) struct FailedOnce {
    records: BTreeMap<usize, Rc<MasterRecord>>,
    again: BTreeSet<(Id, Term)>,
}

impl Invariant for FailedOnce {
    fn slug(&self) -> &'static str {
        "failed-once"
    }

    fn take(&mut self, _at: Micros, fact: &Fact) -> Result<(), Breach> {
        match fact {
            Fact::Master { service, record: Some(record) } => {
                let old = self.records.insert(*service, Rc::clone(record));
                let holder = &record.holder.instance;
                let again = old.is_some_and(|old| {
                    old.term != record.term
                        && matches!(old.state, MasterState::Vacant { .. } | MasterState::Lapsed)
                        && matches!(record.state, MasterState::Taken { .. })
                        && old.failed.contains(holder)
                });
                if let Some(id) = Id::named(*service, holder).filter(|_| again) {
                    self.again.insert((id, record.term));
                }
            }
            // Its history comes in the same txn, and says so.
            Fact::Asked { service, term } => {
                self.again.retain(|(id, taken)| id.service != *service || taken != term);
            }
            Fact::Promoted { instance, term, .. } if self.again.contains(&(*instance, *term)) => {
                return Err(Breach::firm(format!(
                    "{instance} was promoted again in term {term}, after it had failed in the \
                     same incident"
                )));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::record::{Cause, Proof};
    use sengu_core::time::Wall;

    use super::super::tests::{feed, r, record};
    use super::*;

    fn check(asked: bool, failed: usize) -> Result<(), Breach> {
        let proof = Proof::Fenced;
        let cause = Cause::PromotionFailed("a hook said no".to_owned());
        let vacant =
            MasterState::Vacant { proof, cause: cause.clone(), noticed: Wall(0), seen: None };
        let mut old = record(3, 2, vacant);
        old.failed = vec![r(failed).name()];
        let new = record(4, 1, MasterState::Taken { cause });
        let fact = |record| Fact::Master { service: 0, record: Some(Rc::new(record)) };
        let mut history = vec![(0, fact(old)), (1, fact(new))];
        if asked {
            history.push((1, Fact::Asked { service: 0, term: Term(4) }));
        }
        let (instance, term) = (r(1), Term(4));
        history.push((5, Fact::Promoted { instance, term, decided: 0, holds: [].into() }));
        feed(FailedOnce::default(), history)
    }

    #[test]
    fn only_a_person_tries_a_failed_one_again() {
        assert_eq!(check(false, 2), Ok(()));
        assert_eq!(check(true, 1), Ok(()));
        assert!(check(false, 1).is_err());
    }
}
