//! **named-is-serving**: every answer of any agent's outputs, at any time, names only a *serving*
//! term whose last beat that agent was given within the lease, from a catalog whose last answered
//! request was sent within the lease; and per agent, terms never go back.
//!
//! The ages are taken by the simulator at the agent's door, not from the catalog. A term is
//! written *serving* only for an instance that takes writes under it.

use std::collections::{BTreeMap, BTreeSet};

use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, MasterState};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{MILLI, Micros};
use super::{Breach, Invariant, Often};

/// The newest term that each agent's life named, and who takes writes.
pub(crate) struct NamedIsServing {
    lease: Micros,
    newest: BTreeMap<(usize, u64, usize), Term>,
    open: BTreeMap<Id, Term>,
    /// When each was last closed.
    closed: BTreeMap<Id, Micros>,
    look: Micros,
    opened: BTreeSet<(Id, Term)>,
    states: BTreeMap<usize, (Term, &'static str)>,
}

impl NamedIsServing {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            lease: layout.lease,
            newest: BTreeMap::new(),
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            look: layout.look,
            opened: BTreeSet::new(),
            states: BTreeMap::new(),
        }
    }

    fn named(&mut self, fact: &Fact) -> Result<(), String> {
        let Fact::Named { host, life, instance, term, serving, beat_age, fresh_age } = *fact else {
            return Ok(());
        };
        let who = || format!("the agent of h{} named {instance} (term {term})", host + 1);
        if !serving {
            return Err(format!("{}, which is not serving in what it was given", who()));
        }
        if let Some(age) = beat_age.filter(|age| *age >= self.lease) {
            return Err(format!("{} {} ms after the last beat it was given", who(), age / MILLI));
        }
        if fresh_age >= self.lease {
            return Err(format!(
                "{} {} ms after the send of its last answered request",
                who(),
                fresh_age / MILLI
            ));
        }
        let newest = self.newest.entry((host, life, instance.service)).or_insert(term);
        if *newest > term {
            return Err(format!("{} after it had named one of term {newest}", who()));
        }
        *newest = term;
        Ok(())
    }

    /// A term becomes serving: does its holder take writes?
    fn serving(
        &self,
        at: Micros,
        service: usize,
        holder: Option<Id>,
        record: &MasterRecord,
    ) -> Result<(), String> {
        let Some(holder) = holder else { return Ok(()) };
        let term = record.term;
        // Another tool opens it before there is a term.
        let external = record.external.is_some();
        let adopted = self.states.get(&service).is_none_or(|(_, state)| *state == "unmanaged");
        let good = if adopted || external {
            // It is taken as it was last looked at; an agent's double may have closed it since.
            let closed = self.closed.get(&holder);
            self.open.contains_key(&holder) || closed.is_some_and(|then| at < then + self.look)
        } else {
            self.opened.contains(&(holder, term))
        };
        if good { Ok(()) } else { Err(format!("{holder} serves term {term} and was never opened")) }
    }
}

impl Invariant for NamedIsServing {
    fn slug(&self) -> &'static str {
        "named-is-serving"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Named]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        match fact {
            Fact::Writable { instance, term, writable: true } => {
                self.open.insert(*instance, *term);
                self.opened.insert((*instance, *term));
            }
            Fact::Writable { instance, writable: false, .. } => {
                let was_open = self.open.remove(instance);
                self.closed.extend(was_open.map(|_| (*instance, at)));
            }
            Fact::Promoted { instance, term, .. } => {
                self.opened.insert((*instance, *term));
            }
            Fact::Master { service, record: Some(record) } => {
                let now = (record.term, record.state.word());
                let before = self.states.get(service).copied();
                let holder = Id::named(*service, &record.holder.instance);
                let judged = if record.state == MasterState::Serving && before != Some(now) {
                    self.serving(at, *service, holder, record)
                } else {
                    Ok(())
                };
                self.states.insert(*service, now);
                judged.map_err(Breach::firm)?;
            }
            Fact::Named { .. } => self.named(fact).map_err(Breach::firm)?,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::record::Cause;

    use super::super::tests::{feed, layout, master, r};
    use super::*;

    fn named(n: usize, term: u64) -> Fact {
        Fact::Named {
            host: 1,
            life: 1,
            instance: r(n),
            term: Term(term),
            serving: true,
            beat_age: Some(1000 * MILLI),
            fresh_age: 1000 * MILLI,
        }
    }

    fn check(history: impl IntoIterator<Item = (Micros, Fact)>) -> Result<(), String> {
        feed(NamedIsServing::new(&layout()), history).map_err(|breach| breach.text)
    }

    #[test]
    fn fresh_answers_of_growing_terms_hold() {
        assert_eq!(check([(1, named(1, 1)), (2, named(1, 1)), (9, named(2, 2))]), Ok(()));
    }

    #[test]
    fn stale_unserving_and_older_answers_break_it() {
        let with = |change: fn(&mut Fact)| {
            let mut fact = named(1, 1);
            change(&mut fact);
            check([(1, fact)])
        };
        assert!(
            with(|fact| {
                if let Fact::Named { beat_age, .. } = fact {
                    *beat_age = Some(4000 * MILLI);
                }
            })
            .expect_err("old beat")
            .contains("last beat")
        );
        assert!(
            with(|fact| {
                if let Fact::Named { fresh_age, .. } = fact {
                    *fresh_age = 4000 * MILLI;
                }
            })
            .is_err()
        );
        assert!(
            with(|fact| {
                if let Fact::Named { serving, .. } = fact {
                    *serving = false;
                }
            })
            .is_err()
        );
        assert!(check([(1, named(2, 2)), (2, named(1, 1))]).is_err());
    }

    #[test]
    fn an_adoption_goes_by_the_last_look_and_no_older_one() {
        let writable = |writable| Fact::Writable { instance: r(2), term: Term(0), writable };
        let serving = || master(1, 2, MasterState::Serving);
        let look = layout().look / MILLI;
        let at = |then| [(1, writable(true)), (2, writable(false)), (then, serving())];
        assert_eq!(check(at(1 + look)), Ok(()));
        assert!(check(at(2 + look)).is_err());
        assert!(check([(0, serving())]).is_err());
    }

    #[test]
    fn serving_before_it_was_opened_breaks_it() {
        let taken = || master(2, 2, MasterState::Taken { cause: Cause::Lapsed });
        let serving = || master(2, 2, MasterState::Serving);
        let promoted =
            Fact::Promoted { instance: r(2), term: Term(2), decided: 0, holds: [].into() };
        assert_eq!(check([(0, taken()), (1, promoted), (2, serving())]), Ok(()));
        assert!(check([(0, taken()), (2, serving())]).is_err());
    }
}
