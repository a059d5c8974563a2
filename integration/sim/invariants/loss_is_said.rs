//! A failover that says it lost nothing lost nothing: every write that the master before
//! acknowledged in its term is on the one that opens.
//!
//! Said is what stands in `history/S/TERM` when the new master opens. What an account above
//! read-only wrote on one that takes no writes is a documented limit.

use std::collections::{BTreeMap, BTreeSet};

use sengu_core::name::Term;

use super::super::fact::{Fact, Id};
use super::super::schedule::{MILLI, Micros};
use super::watched::ABOVE;
use super::{Breach, Invariant, Often};

/// A write that was acknowledged.
struct Write {
    serial: u64,
    by: Id,
    at: Micros,
    /// In spite of read-only.
    above: bool,
}

/// What was acknowledged in which term, and which terms said that nothing was lost.
#[derive(Default)]
pub(crate) struct LossIsSaid {
    acknowledged: BTreeMap<(usize, Term), Vec<Write>>,
    said: BTreeSet<(usize, Term)>,
    /// Instances on which an account above read-only writes in spite of it.
    above: BTreeSet<Id>,
}

impl Invariant for LossIsSaid {
    fn slug(&self) -> &'static str {
        "loss-is-said"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Acknowledged]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        match fact {
            Fact::Acknowledged { instance, term, serial } => {
                let above = self.above.contains(instance);
                let write = Write { serial: *serial, by: *instance, at, above };
                self.acknowledged.entry((instance.service, *term)).or_default().push(write);
            }
            Fact::Above { instance, known: false } => {
                self.above.insert(*instance);
            }
            Fact::Writable { instance, .. } | Fact::Exited { instance } => {
                self.above.remove(instance);
            }
            Fact::Said { service, term, nothing: true } => {
                self.said.insert((*service, *term));
            }
            Fact::Said { service, term, nothing: false } => {
                self.said.remove(&(*service, *term));
            }
            Fact::Promoted { instance, term, holds, .. } => {
                self.above.remove(instance);
                return self.opens(*instance, *term, holds);
            }
            _ => {}
        }
        Ok(())
    }
}

impl LossIsSaid {
    fn opens(&mut self, instance: Id, term: Term, holds: &[u64]) -> Result<(), Breach> {
        let service = instance.service;
        let earlier = |(of, before): &(usize, Term)| *of == service && *before < term;
        let last = self.acknowledged.keys().copied().filter(earlier).max();
        let Some(writes) = last.and_then(|last| self.acknowledged.remove(&last)) else {
            return Ok(());
        };
        self.acknowledged.retain(|key, _| !earlier(key));
        if !self.said.contains(&(service, term)) {
            return Ok(());
        }
        let holds: BTreeSet<u64> = holds.iter().copied().collect();
        let lost: Vec<&Write> =
            writes.iter().filter(|write| !holds.contains(&write.serial)).collect();
        let Some(first) = lost.iter().find(|write| !write.above).or_else(|| lost.first()) else {
            return Ok(());
        };
        let text = format!(
            "the history of term {term} says that nothing was lost, and {instance} lacks {} of {} \
             writes that the master before had acknowledged, one is {}, acknowledged by {} at {} ms",
            lost.len(),
            writes.len(),
            first.serial,
            first.by,
            first.at / MILLI
        );
        Err(Breach { limit: first.above.then_some(ABOVE), text })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{feed, r};
    use super::*;

    fn check(nothing: bool, holds: &[u64]) -> Result<(), Breach> {
        let ack = |serial| Fact::Acknowledged { instance: r(1), term: Term(1), serial };
        let promoted =
            Fact::Promoted { instance: r(2), term: Term(2), decided: 0, holds: holds.into() };
        let history = [
            (0, ack(1)),
            (1, ack(2)),
            (2, Fact::Said { service: 0, term: Term(2), nothing }),
            (3, promoted),
        ];
        feed(LossIsSaid::default(), history)
    }

    #[test]
    fn what_is_said_holds() {
        assert_eq!(check(true, &[1, 2]), Ok(()));
        assert_eq!(check(false, &[1]), Ok(()));
    }

    #[test]
    fn a_loss_that_is_called_nothing_breaks_it() {
        assert_eq!(check(true, &[1]).expect_err("lost").limit, None);
    }

    #[test]
    fn what_an_account_above_read_only_wrote_is_a_limit_and_excuses_nothing_else() {
        let ack = |serial| Fact::Acknowledged { instance: r(1), term: Term(1), serial };
        let fenced = Fact::Writable { instance: r(1), term: Term(1), writable: false };
        let above = Fact::Above { instance: r(1), known: false };
        let said = Fact::Said { service: 0, term: Term(2), nothing: true };
        for (holds, limit) in [(vec![1], Some(ABOVE)), (vec![], None)] {
            let promoted =
                Fact::Promoted { instance: r(2), term: Term(2), decided: 0, holds: holds.into() };
            let facts = [ack(1), fenced.clone(), above.clone(), ack(2), said.clone(), promoted];
            let history = (0..).zip(facts);
            let breach = feed(LossIsSaid::default(), history).expect_err("lost");
            assert_eq!(breach.limit, limit, "{}", breach.text);
        }
    }
}
