//! **proven-before-promoted**: when an instance opens under a new term, no other instance of the
//! service can acknowledge a write any more.
//!
//! Stricter than W, which needs a client to come by: here two instances that *could* take writes
//! are enough, and so is one that came back open after its exit had counted as proof.
//! A stopped process counts as able, since what lies in its sockets runs on waking.

use std::collections::{BTreeMap, BTreeSet};

use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, MasterState, Proof};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::Micros;
use super::watched::Watched;
use super::{Breach, Invariant};

/// Who takes writes now.
pub(crate) struct ProvenBeforePromoted {
    open: BTreeMap<Id, Term>,
    /// The holder that each service has exited, as its record says.
    exited: BTreeMap<usize, Id>,
    /// Counted as stopped for good because it had exited, and another took its place.
    counted: BTreeSet<Id>,
    /// Instances whose own file starts them open, since the beginning.
    files: BTreeSet<Id>,
    watched: Watched,
}

impl ProvenBeforePromoted {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            open: BTreeMap::new(),
            exited: BTreeMap::new(),
            counted: BTreeSet::new(),
            files: layout.files.clone(),
            watched: Watched::new(layout),
        }
    }

    fn master(&mut self, service: usize, record: &MasterRecord) {
        let Some(holder) = Id::named(service, &record.holder.instance) else { return };
        match &record.state {
            MasterState::Vacant { proof: Proof::Exited, .. } => {
                self.exited.insert(service, holder);
            }
            MasterState::Taken { .. } => {
                self.counted.extend(self.exited.remove(&service).filter(|id| *id != holder));
                self.counted.remove(&holder);
            }
            _ => {
                self.exited.remove(&service);
            }
        }
    }
}

impl Invariant for ProvenBeforePromoted {
    fn slug(&self) -> &'static str {
        "proven-before-promoted"
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        self.watched.take(at, fact);
        match *fact {
            Fact::Master { service, record: Some(ref record) } => self.master(service, record),
            Fact::Started { instance, open: true }
                if self.files.contains(&instance) && self.counted.contains(&instance) =>
            {
                return Err(Breach::firm(format!(
                    "{instance} came back taking writes, as its own file starts it, after its \
                     exit had counted as a fence"
                )));
            }
            // What somebody edits later is not what its agent went by.
            Fact::File { instance, fenced: true } => {
                self.files.remove(&instance);
            }
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
    use super::super::tests::{feed, layout, master, r};
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

    #[test]
    fn an_exit_proves_nothing_of_one_whose_file_starts_it_open() {
        let proof = Proof::Exited;
        let cause = sengu_core::record::Cause::ProcessExited;
        let noticed = sengu_core::time::Wall(0);
        let taken = MasterState::Taken { cause: cause.clone() };
        let vacant = MasterState::Vacant { proof, cause, noticed, seen: None };
        let check = |n: usize| {
            let back = Fact::Started { instance: r(n), open: true };
            let history =
                [(1, master(1, n, vacant.clone())), (2, master(2, 1, taken.clone())), (3, back)];
            feed(ProvenBeforePromoted::new(&layout()), history)
        };
        assert_eq!(check(2), Ok(()), "its file was changed since");
        assert!(check(3).is_err());
        let mended = Fact::File { instance: r(3), fenced: true };
        let back = Fact::Started { instance: r(3), open: true };
        let history = [
            (0, mended),
            (1, master(1, 3, vacant.clone())),
            (2, master(2, 1, taken.clone())),
            (3, back),
        ];
        let judged = feed(ProvenBeforePromoted::new(&layout()), history);
        assert_eq!(judged, Ok(()), "it was mended, and edited again later");
    }
}
