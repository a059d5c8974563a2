//! **no-needless-move**, its veto: nobody takes a term while an earlier holder that was never
//! proven stopped takes writes where the taker's host can see it.
//!
//! This holds whatever happened to that holder's own agent: the look is another agent's. It is
//! judged where the holder took writes, ran and was reachable for long enough before.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sengu_core::record::{MasterRecord, MasterState};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{MILLI, Micros, SECOND};
use super::{Breach, Invariant};

/// A look counts for a second, and takes a third of one.
const SEEN: Micros = 2 * SECOND;

/// Since when each instance takes writes, and what last stood between hosts.
pub(crate) struct VetoStands {
    layout: Layout,
    open: BTreeMap<Id, Micros>,
    /// Until when something may have hindered a look at it.
    hindered: BTreeMap<Id, Micros>,
    stopped: BTreeSet<Id>,
    /// Pairs of hosts: cut now (`None`), or since when not.
    paths: BTreeMap<(usize, usize), Option<Micros>>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
}

impl VetoStands {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            open: BTreeMap::new(),
            hindered: BTreeMap::new(),
            stopped: BTreeSet::new(),
            paths: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// Could a look from this host have shown, for long enough, that it takes writes?
    fn visible(&self, at: Micros, id: Id, from: usize) -> bool {
        let Some(host) = self.layout.hosts.get(&id).copied() else { return false };
        let path = self.paths.get(&(host.min(from), host.max(from))).copied();
        let reached = path.unwrap_or(Some(0)).is_some_and(|since| at >= since + SEEN);
        let open = self.open.get(&id).is_some_and(|since| at >= since + SEEN);
        let hindered = self.hindered.get(&id).is_some_and(|until| at < until + SEEN);
        open && reached && !hindered && !self.stopped.contains(&id)
    }

    fn taken(&self, at: Micros, service: usize, new: &MasterRecord) -> Result<(), Breach> {
        let Some(taker) = Id::named(service, &new.holder.instance) else { return Ok(()) };
        let Some(from) = self.layout.hosts.get(&taker).copied() else { return Ok(()) };
        let seen = new
            .unproven
            .iter()
            .filter_map(|holder| Id::named(service, &holder.instance))
            .find(|id| *id != taker && self.visible(at, *id, from));
        let Some(seen) = seen else { return Ok(()) };
        Err(Breach::firm(format!(
            "{taker} took term {} while {seen}, never proven stopped, took writes in its sight for \
             {} ms",
            new.term,
            (at - self.open.get(&seen).copied().unwrap_or(at)) / MILLI
        )))
    }
}

impl Invariant for VetoStands {
    fn slug(&self) -> &'static str {
        "veto-stands"
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        match fact {
            Fact::Writable { instance, writable: true, .. } => {
                self.open.entry(*instance).or_insert(at);
            }
            Fact::Writable { instance, writable: false, .. } => {
                self.open.remove(instance);
            }
            Fact::Stopped { instance, stopped } => {
                if *stopped {
                    self.stopped.insert(*instance)
                } else {
                    self.stopped.remove(instance)
                };
                self.hindered.insert(*instance, at);
            }
            Fact::Started { instance, .. } => {
                self.stopped.remove(instance);
            }
            Fact::Hindered { host, instance, until } => {
                for (id, of) in &self.layout.hosts {
                    if host.is_none_or(|host| host == *of) && instance.is_none_or(|it| it == *id) {
                        let last = self.hindered.entry(*id).or_insert(0);
                        *last = (*last).max(*until);
                    }
                }
            }
            Fact::Path { hosts, cut } => {
                self.paths.insert(*hosts, (!cut).then_some(at));
            }
            Fact::Master { service, record: Some(record) } => {
                let old = self.records.insert(*service, Rc::clone(record));
                let begins = old.is_none_or(|old| old.term != record.term);
                if begins && matches!(record.state, MasterState::Taken { .. }) {
                    return self.taken(at, *service, record);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::name::Term;
    use sengu_core::record::Cause;

    use super::super::tests::{feed, layout, r, record};
    use super::*;

    fn taken() -> Fact {
        let mut taken = record(2, 2, MasterState::Taken { cause: Cause::Lapsed });
        taken.unproven = vec![record(1, 1, MasterState::Lapsed).holder];
        Fact::Master { service: 0, record: Some(Rc::new(taken)) }
    }

    fn check(history: Vec<(Micros, Fact)>) -> Result<(), Breach> {
        let open = Fact::Writable { instance: r(1), term: Term(1), writable: true };
        feed(VetoStands::new(&layout()), std::iter::once((0, open)).chain(history))
    }

    #[test]
    fn a_holder_in_sight_that_takes_writes_forbids_a_take() {
        assert!(check(vec![(9000, taken())]).is_err());
        let closed = Fact::Writable { instance: r(1), term: Term(1), writable: false };
        assert_eq!(check(vec![(8000, closed), (9000, taken())]), Ok(()));
    }

    #[test]
    fn one_that_nobody_could_see_does_not() {
        let cut = |cut| Fact::Path { hosts: (0, 1), cut };
        assert_eq!(check(vec![(8000, cut(true)), (9000, taken())]), Ok(()));
        assert!(check(vec![(5000, cut(true)), (6000, cut(false)), (9000, taken())]).is_err());
        let stopped = Fact::Stopped { instance: r(1), stopped: true };
        assert_eq!(check(vec![(2000, stopped), (9000, taken())]), Ok(()));
    }
}
