//! **fence-in-time**: at the deadline of the last acknowledged beat (its send plus the lease, on
//! the sender's clock) the holder's instance takes no writes, or its process is gone.
//!
//! A stopped process that would take writes on waking is not fenced. Terms that promise nothing
//! have no deadline.

use std::collections::BTreeMap;
use std::rc::Rc;

use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, MasterState, Promise};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{MILLI, Micros};
use super::watched::Watched;
use super::{Breach, Invariant, Often};

/// The deadlines that run, and who takes writes.
pub(crate) struct FenceInTime {
    deadlines: BTreeMap<Id, (Term, Micros)>,
    open: BTreeMap<Id, Term>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
    watched: Watched,
    /// Whom its agent may not signal, until when.
    unkillable: BTreeMap<Id, Micros>,
    /// The longest that a fence may take.
    budget: Micros,
}

/// What explains a fence whose last rung was taken away.
const KEPT: &str = "an agent was kept from ending a process that it could end before";

impl FenceInTime {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            deadlines: BTreeMap::new(),
            open: BTreeMap::new(),
            records: BTreeMap::new(),
            watched: Watched::new(layout),
            unkillable: BTreeMap::new(),
            budget: layout.fence,
        }
    }

    /// Judges the deadlines that have passed, before the world changes again.
    fn due(&mut self, at: Micros) -> Result<(), Breach> {
        let late = |(id, (term, deadline)): (&Id, &(Term, Micros))| {
            (*deadline < at).then_some((*id, *term, *deadline))
        };
        let Some((id, term, deadline)) = self.deadlines.iter().find_map(late) else {
            return Ok(());
        };
        self.deadlines.remove(&id);
        if self.open.get(&id) != Some(&term) || !self.promised(id, term) {
            return Ok(());
        }
        // At any time of the fence's budget: its last rung comes once.
        let kept = self.unkillable.get(&id).is_some_and(|until| deadline <= *until + self.budget);
        Err(Breach {
            limit: self.watched.limit(at, id).or_else(|| kept.then_some(KEPT)),
            text: format!(
                "{id} still took writes of term {term} at {} ms, the deadline of its last \
                 acknowledged beat",
                deadline / MILLI
            ),
        })
    }

    /// A promise that became shorter, as at the end of a freeze, counts from its txn at the latest;
    /// two clocks may be 1 % off.
    fn shortened(&mut self, at: Micros, service: usize, record: &MasterRecord) {
        let before = self.records.get(&service).filter(|old| old.term == record.term);
        let (Some(Promise::Fence { lease_ms: old }), Promise::Fence { lease_ms: new }) =
            (before.map(|old| &old.promise), &record.promise)
        else {
            return;
        };
        if new >= old {
            return;
        }
        let latest = at + new * MILLI * 102 / 100;
        for (id, (term, deadline)) in &mut self.deadlines {
            if id.service == service && *term == record.term {
                *deadline = (*deadline).min(latest);
            }
        }
    }

    fn promised(&self, id: Id, term: Term) -> bool {
        self.records.get(&id.service).is_none_or(|record| {
            record.term != term
                || (record.state != MasterState::Unmanaged
                    && matches!(record.promise, Promise::Fence { .. }))
        })
    }
}

impl Invariant for FenceInTime {
    fn slug(&self) -> &'static str {
        "fence-in-time"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Moment, Often::BeatAcknowledged]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        let judged = self.due(at);
        self.watched.take(at, fact);
        if let Fact::Unkillable { instance, until } = fact {
            self.unkillable.insert(*instance, *until);
        }
        match fact {
            Fact::Writable { instance, term, writable: true } => {
                self.open.insert(*instance, *term);
            }
            Fact::Writable { instance, writable: false, .. } => {
                self.open.remove(instance);
            }
            Fact::Master { service, record: Some(record) } => {
                self.shortened(at, *service, record);
                self.records.insert(*service, Rc::clone(record));
            }
            Fact::BeatAcknowledged { instance, term, deadline } => {
                let kept = self.deadlines.entry(*instance).or_insert((*term, *deadline));
                if *term > kept.0 || (*term == kept.0 && *deadline > kept.1) {
                    *kept = (*term, *deadline);
                }
            }
            _ => {}
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{feed, layout, master, r, record};
    use super::*;

    fn begin() -> Vec<(Micros, Fact)> {
        vec![
            (0, master(1, 1, MasterState::Serving)),
            (0, Fact::Writable { instance: r(1), term: Term(1), writable: true }),
            (10, Fact::BeatAcknowledged { instance: r(1), term: Term(1), deadline: 4000 * MILLI }),
        ]
    }

    #[test]
    fn a_fence_before_the_deadline_holds() {
        let mut history = begin();
        history.push((3900, Fact::Writable { instance: r(1), term: Term(1), writable: false }));
        history.push((4100, Fact::Moment));
        assert_eq!(feed(FenceInTime::new(&layout()), history), Ok(()));
    }

    #[test]
    fn a_later_beat_moves_the_deadline() {
        let mut history = begin();
        history.push((
            3900,
            Fact::BeatAcknowledged { instance: r(1), term: Term(1), deadline: 7000 * MILLI },
        ));
        history.push((4100, Fact::Moment));
        assert_eq!(feed(FenceInTime::new(&layout()), history), Ok(()));
    }

    #[test]
    fn an_open_instance_at_the_deadline_breaks_it() {
        let mut history = begin();
        history.push((4100, Fact::Moment));
        assert!(feed(FenceInTime::new(&layout()), history).is_err());
        let mut late = begin();
        late.push((4001, Fact::Writable { instance: r(1), term: Term(1), writable: false }));
        assert!(feed(FenceInTime::new(&layout()), late).is_err(), "a millisecond late is late");
    }

    #[test]
    fn one_that_could_not_be_killed_when_the_last_rung_came_is_told_apart() {
        let limit = |until: Micros| {
            let mut history = begin();
            history.push((3000, Fact::Unkillable { instance: r(1), until: until * MILLI }));
            history.push((4100, Fact::Moment));
            feed(FenceInTime::new(&layout()), history).expect_err("it is open").limit
        };
        assert_eq!(limit(3900), Some(KEPT));
        assert_eq!(limit(3100), None, "its fence began later");
    }

    #[test]
    fn a_term_that_promises_nothing_has_no_deadline() {
        let mut history = begin();
        let mut free = record(1, 1, MasterState::Serving);
        free.promise = Promise::None;
        history.push((20, Fact::Master { service: 0, record: Some(Rc::new(free)) }));
        history.push((4100, Fact::Moment));
        assert_eq!(feed(FenceInTime::new(&layout()), history), Ok(()));
    }
}
