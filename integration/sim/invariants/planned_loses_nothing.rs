//! A switchover loses nothing: every write that the giver acknowledged in its term is on the
//! taker when the taker opens.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sengu_core::name::Term;
use sengu_core::record::{Cause, MasterRecord, MasterState};

use super::super::fact::{Fact, Id};
use super::super::schedule::Micros;
use super::{Breach, Invariant, Often};

/// What each service's newest master acknowledged, and the moves that were planned.
#[derive(Default)]
pub(crate) struct PlannedLosesNothing {
    acknowledged: BTreeMap<(Id, Term), Vec<u64>>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
    planned: BTreeMap<(usize, Term), (Id, Term)>,
}

impl PlannedLosesNothing {
    fn master(&mut self, service: usize, record: &Rc<MasterRecord>) {
        if let Some(old) = self.records.get(&service)
            && old.term != record.term
        {
            if let Some(giver) = Id::named(service, &old.holder.instance)
                && record.state == (MasterState::Taken { cause: Cause::Switchover })
            {
                self.planned.insert((service, record.term), (giver, old.term));
            }
            let oldest = old.term;
            self.acknowledged.retain(|(id, term), _| id.service != service || *term >= oldest);
        }
        self.records.insert(service, Rc::clone(record));
    }
}

impl Invariant for PlannedLosesNothing {
    fn slug(&self) -> &'static str {
        "planned-loses-nothing"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Acknowledged]
    }

    fn take(&mut self, _at: Micros, fact: &Fact) -> Result<(), Breach> {
        match fact {
            Fact::Acknowledged { instance, term, serial } => {
                self.acknowledged.entry((*instance, *term)).or_default().push(*serial);
            }
            Fact::Master { service, record: Some(record) } => self.master(*service, record),
            Fact::Promoted { instance, term, holds, .. } => {
                let Some(&(giver, given)) = self.planned.get(&(instance.service, *term)) else {
                    return Ok(());
                };
                let holds: BTreeSet<u64> = holds.iter().copied().collect();
                let had = self.acknowledged.get(&(giver, given)).map_or(&[][..], Vec::as_slice);
                let lost: Vec<u64> =
                    had.iter().copied().filter(|serial| !holds.contains(serial)).collect();
                if let Some(first) = lost.first() {
                    return Err(Breach::firm(format!(
                        "{instance} took term {term} by a switchover and lacks {} of {} writes \
                         that {giver} acknowledged in term {given}, the first is {first}",
                        lost.len(),
                        had.len()
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
    use super::super::tests::{feed, master, r};
    use super::*;

    fn check(holds: &[u64], cause: Cause) -> Result<(), Breach> {
        let ack = |serial| Fact::Acknowledged { instance: r(1), term: Term(1), serial };
        let promoted =
            Fact::Promoted { instance: r(2), term: Term(2), decided: 0, holds: holds.into() };
        let history = [
            (0, master(1, 1, MasterState::Serving)),
            (1, ack(10)),
            (2, ack(11)),
            (3, master(2, 2, MasterState::Taken { cause })),
            (4, promoted),
        ];
        feed(PlannedLosesNothing::default(), history)
    }

    #[test]
    fn a_taker_that_has_everything_holds() {
        assert_eq!(check(&[9, 10, 11], Cause::Switchover), Ok(()));
    }

    #[test]
    fn a_taker_that_lacks_a_write_breaks_it_only_if_it_was_planned() {
        assert!(check(&[9, 10], Cause::Switchover).is_err());
        assert_eq!(check(&[9, 10], Cause::Lapsed), Ok(()));
    }
}
