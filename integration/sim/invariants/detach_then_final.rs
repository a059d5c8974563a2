//! **detach-then-final**: a final is final. After it was written, the same life of that copy
//! receives nothing until it follows the master of a later term, or is promoted; and a final is
//! written once.

use std::collections::BTreeMap;

use sengu_core::name::Term;

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{Micros, SECOND};
use super::{Breach, Invariant, Often};

/// The copies that have given a final and follow nobody newer yet.
pub(crate) struct DetachThenFinal {
    finals: BTreeMap<Id, (Term, u64)>,
    /// When a person's hand last pointed each somewhere.
    hands: BTreeMap<Id, Micros>,
    /// So long a final may be on its way after the last look before it.
    unseen: Micros,
    /// The newest term that each instance held.
    held: BTreeMap<Id, Term>,
}

/// A txn is given up after so long, and may be done until then.
const TXN: Micros = 5 * SECOND;

impl DetachThenFinal {
    pub(crate) fn new(layout: &Layout) -> Self {
        let unseen = layout.look + TXN;
        Self { finals: BTreeMap::new(), hands: BTreeMap::new(), unseen, held: BTreeMap::new() }
    }
}

impl Invariant for DetachThenFinal {
    fn slug(&self) -> &'static str {
        "detach-then-final"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Received]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        match fact {
            Fact::Master { service, record: Some(record) } => {
                if let Some(holder) = Id::named(*service, &record.holder.instance) {
                    self.held.insert(holder, record.term);
                }
            }
            Fact::Final { instance, term, again: true, .. } => {
                return Err(Breach::firm(format!(
                    "the final of {instance} for term {term} was written a second time"
                )));
            }
            Fact::Final { instance, term, life, again: false } => {
                // A hand that points it elsewhere between last look and final is seen later.
                let hand = self.hands.get(instance).is_some_and(|hand| at < *hand + self.unseen);
                if !hand {
                    self.finals.insert(*instance, (*term, *life));
                }
            }
            Fact::Followed { instance, source: Some(source) } => {
                let given = self.finals.get(instance).map(|(term, _)| *term);
                if self.held.get(source).copied() > given {
                    self.finals.remove(instance);
                }
            }
            Fact::Hand { instance, .. } => {
                self.hands.insert(*instance, at);
                self.finals.remove(instance);
            }
            Fact::Promoted { instance, .. } | Fact::Exited { instance } => {
                self.finals.remove(instance);
            }
            Fact::Received { instance, life } => {
                if let Some((term, of)) = self.finals.get(instance)
                    && of == life
                {
                    return Err(Breach::firm(format!(
                        "{instance} received more after its final for term {term}"
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
    use sengu_core::record::MasterState;

    use super::super::tests::{feed, layout, master, r};
    use super::*;

    fn last(again: bool) -> Fact {
        Fact::Final { instance: r(2), term: Term(1), life: 7, again }
    }

    const RECEIVED: Fact = Fact::Received { instance: Id { service: 0, number: 1 }, life: 7 };

    fn check(history: impl IntoIterator<Item = (Micros, Fact)>) -> Result<(), Breach> {
        feed(DetachThenFinal::new(&layout()), history)
    }

    #[test]
    fn following_a_later_master_holds() {
        let follow = Fact::Followed { instance: r(2), source: Some(r(3)) };
        let history = [
            (0, RECEIVED),
            (1, last(false)),
            (2, master(2, 3, MasterState::Serving)),
            (3, follow),
            (4, RECEIVED),
        ];
        assert_eq!(check(history), Ok(()));
    }

    #[test]
    fn receiving_from_the_old_master_after_the_final_breaks_it() {
        assert!(check([(1, last(false)), (2, RECEIVED)]).is_err());
        let back = Fact::Followed { instance: r(2), source: Some(r(1)) };
        let serving = master(1, 1, MasterState::Serving);
        assert!(check([(0, serving), (1, last(false)), (2, back), (3, RECEIVED)]).is_err());
    }

    #[test]
    fn a_hand_between_the_last_look_and_the_final_is_told_apart() {
        let hand = || Fact::Hand { instance: r(2), open: false };
        assert_eq!(check([(0, hand()), (500, last(false)), (900, RECEIVED)]), Ok(()));
        assert!(check([(0, hand()), (60_000, last(false)), (60_900, RECEIVED)]).is_err());
    }

    #[test]
    fn a_second_final_breaks_it() {
        assert!(check([(1, last(false)), (2, last(true))]).is_err());
    }
}
