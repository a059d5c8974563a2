//! **W**, the invariant above all: once any host has acknowledged a write in term t+1, no other
//! host acknowledges one for that service.
//!
//! In real time and from the databases' own record of acknowledgements; not per term and not
//! with a lease, because those pass every split brain. The term of a write is the one under
//! which the instance that acknowledged it was last opened.

use std::collections::{BTreeMap, BTreeSet};

use sengu_core::name::Term;
use sengu_core::record::MasterState;

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::Micros;
use super::watched::Watched;
use super::{Breach, Invariant, Often};

/// The newest term in which each service acknowledged, and where.
pub(crate) struct W {
    newest: BTreeMap<usize, (Term, Id, Micros)>,
    /// The services that sengu holds: before adoption it fences nothing.
    held: BTreeSet<usize>,
    watched: Watched,
}

impl W {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { newest: BTreeMap::new(), held: BTreeSet::new(), watched: Watched::new(layout) }
    }
}

impl Invariant for W {
    fn slug(&self) -> &'static str {
        "w"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Acknowledged]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        self.watched.take(at, fact);
        if let Fact::Master { service, record } = fact {
            if record.as_ref().is_some_and(|record| record.state != MasterState::Unmanaged) {
                self.held.insert(*service);
            } else {
                self.held.remove(service);
            }
        }
        let Fact::Acknowledged { instance, term, serial } = *fact else { return Ok(()) };
        if !self.held.contains(&instance.service) {
            return Ok(());
        }
        match self.newest.get(&instance.service) {
            Some(&(newest, holder, since)) if holder != instance && term <= newest => Err(Breach {
                limit: self.watched.limit(at, instance),
                text: format!(
                    "{instance} acknowledged write {serial} of term {term}, {} ms after {holder} \
                     first acknowledged one of term {newest}",
                    (at - since) / 1000
                ),
            }),
            Some(&(newest, ..)) if term <= newest => Ok(()),
            _ => {
                self.newest.insert(instance.service, (term, instance, at));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{layout, master, r};
    use super::*;

    fn feed(rule: W, history: impl IntoIterator<Item = (Micros, Fact)>) -> Result<(), Breach> {
        let adopted = [(0, master(1, 1, MasterState::Serving))];
        super::super::tests::feed(rule, adopted.into_iter().chain(history))
    }

    fn ack(n: usize, term: u64) -> Fact {
        Fact::Acknowledged { instance: r(n), term: Term(term), serial: 1 }
    }

    #[test]
    fn a_clean_move_holds() {
        let history = [(1, ack(1, 1)), (2, ack(1, 1)), (9, ack(2, 2)), (20, ack(1, 3))];
        assert_eq!(feed(W::new(&layout()), history), Ok(()));
    }

    #[test]
    fn an_old_master_that_acknowledges_after_the_new_one_breaks_it() {
        let history = [(1, ack(1, 1)), (9, ack(2, 2)), (10, ack(1, 1))];
        let breach = feed(W::new(&layout()), history).expect_err("two masters");
        assert_eq!(breach.limit, None);
        assert!(breach.text.contains("r1 acknowledged"), "{}", breach.text);
    }

    #[test]
    fn two_hosts_in_one_term_break_it() {
        assert!(feed(W::new(&layout()), [(1, ack(1, 4)), (2, ack(2, 4))]).is_err());
    }

    #[test]
    fn a_dead_agent_explains_it_and_is_told_apart() {
        let dead = Fact::Agent { host: 0, running: false };
        let history = [(1, ack(1, 1)), (2, dead), (9, ack(2, 2)), (10, ack(1, 1))];
        assert!(feed(W::new(&layout()), history).expect_err("a breach").limit.is_some());
    }
}
