//! A failover that says it lost nothing lost nothing: every write that the master before
//! acknowledged in its term is on the one that opens.
//!
//! Said is what stands in `history/S/TERM` when the new master opens.

use std::collections::{BTreeMap, BTreeSet};

use sengu_core::name::Term;

use super::super::fact::{Fact, Id};
use super::super::schedule::{MILLI, Micros};
use super::{Breach, Invariant, Often};

/// A write, by whom it was acknowledged, and when.
type Write = (u64, Id, Micros);

/// What was acknowledged in which term, and which terms said that nothing was lost.
#[derive(Default)]
pub(crate) struct LossIsSaid {
    acknowledged: BTreeMap<(usize, Term), Vec<Write>>,
    said: BTreeSet<(usize, Term)>,
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
                self.acknowledged
                    .entry((instance.service, *term))
                    .or_default()
                    .push((*serial, *instance, at));
            }
            Fact::Said { service, term, nothing: true } => {
                self.said.insert((*service, *term));
            }
            Fact::Said { service, term, nothing: false } => {
                self.said.remove(&(*service, *term));
            }
            Fact::Promoted { instance, term, holds, .. } => {
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
            writes.iter().filter(|(serial, ..)| !holds.contains(serial)).collect();
        let Some((serial, by, at)) = lost.first() else { return Ok(()) };
        Err(Breach::firm(format!(
            "the history of term {term} says that nothing was lost, and {instance} lacks {} of {} \
             writes that the master before had acknowledged, the first is {serial}, acknowledged \
             by {by} at {} ms",
            lost.len(),
            writes.len(),
            at / MILLI
        )))
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
        assert!(check(true, &[1]).is_err());
    }
}
