//! **proven-before-promoted**: when an instance opens under a new term, no other instance of the
//! service can acknowledge a write any more.
//!
//! Stricter than W, which needs a client to come by: here two instances that *could* take writes
//! are enough. A stopped process counts as able, since what lies in its sockets runs on waking.

use std::collections::BTreeMap;

use sengu_core::name::Term;

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::Micros;
use super::watched::Watched;
use super::{Breach, Invariant};

/// Who takes writes now.
pub(crate) struct ProvenBeforePromoted {
    open: BTreeMap<Id, Term>,
    watched: Watched,
}

impl ProvenBeforePromoted {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { open: BTreeMap::new(), watched: Watched::new(layout) }
    }
}

impl Invariant for ProvenBeforePromoted {
    fn slug(&self) -> &'static str {
        "proven-before-promoted"
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        self.watched.take(at, fact);
        match *fact {
            Fact::Writable { instance, term, writable: true } => {
                self.open.insert(instance, term);
            }
            Fact::Writable { instance, writable: false, .. } => {
                self.open.remove(&instance);
            }
            Fact::Promoted { instance, term, .. } => {
                let other = self
                    .open
                    .iter()
                    .find(|(other, _)| other.service == instance.service && **other != instance);
                if let Some((other, older)) = other {
                    return Err(Breach {
                        limit: self.watched.limit(at, *other),
                        text: format!(
                            "{instance} was promoted in term {term} while {other} still takes \
                             writes of term {older}"
                        ),
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{feed, layout, r};
    use super::*;

    fn writable(n: usize, term: u64, writable: bool) -> Fact {
        Fact::Writable { instance: r(n), term: Term(term), writable }
    }

    fn promoted(n: usize, term: u64) -> Fact {
        Fact::Promoted { instance: r(n), term: Term(term), decided: 0, holds: [].into() }
    }

    #[test]
    fn a_promotion_after_the_fence_holds() {
        let history = [(1, writable(1, 1, true)), (5, writable(1, 1, false)), (6, promoted(2, 2))];
        assert_eq!(feed(ProvenBeforePromoted::new(&layout()), history), Ok(()));
    }

    #[test]
    fn a_promotion_beside_a_live_master_breaks_it() {
        let history = [(1, writable(1, 1, true)), (6, promoted(2, 2))];
        assert!(feed(ProvenBeforePromoted::new(&layout()), history).is_err());
    }
}
