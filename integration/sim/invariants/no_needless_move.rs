//! **no-needless-move**: no process is killed that is well, and no term ends while its holder is
//! well and watched.
//!
//! *Well* is what the world knows: the holder's process runs and obeys, its host has power, its
//! agent runs and reaches the store. A term that ends so must have been asked for by a person, or
//! something must have hindered the holder within the lease and its agent's patience before.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sengu_core::record::{Cause, MasterRecord, MasterState};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{MILLI, Micros};
use super::{Breach, Invariant};

/// No world counts less as hung; a clock may be one percent off.
const HUNG: Micros = 1_900 * MILLI;
/// A fence that began while it hung may end in a kill when it has just woken: its rungs take so
/// long.
const LADDER: Micros = 1_500 * MILLI;

/// When each host and instance was last hindered, and the records.
pub(crate) struct NoNeedlessMove {
    layout: Layout,
    hosts: BTreeMap<usize, Micros>,
    instances: BTreeMap<Id, Micros>,
    /// Hindered now, whenever it began.
    down: BTreeSet<usize>,
    cut: BTreeSet<usize>,
    stopped: BTreeSet<Id>,
    /// When each process was last stopped, and until when.
    stops: BTreeMap<Id, (Micros, Micros)>,
    /// Until when each process last hung.
    hung: BTreeMap<Id, Micros>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
}

impl NoNeedlessMove {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            hosts: BTreeMap::new(),
            instances: BTreeMap::new(),
            down: BTreeSet::new(),
            cut: BTreeSet::new(),
            stopped: BTreeSet::new(),
            stops: BTreeMap::new(),
            hung: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    fn note(&mut self, at: Micros, fact: &Fact) {
        match *fact {
            Fact::Agent { host, running } => {
                if running {
                    self.down.remove(&host)
                } else {
                    self.down.insert(host)
                };
                later(&mut self.hosts, host, at);
            }
            Fact::Guest { host, paused } => {
                if paused {
                    self.down.insert(host)
                } else {
                    self.down.remove(&host)
                };
                later(&mut self.hosts, host, at);
            }
            Fact::Reach { host, reach } => {
                if reach {
                    self.cut.remove(&host)
                } else {
                    self.cut.insert(host)
                };
                later(&mut self.hosts, host, at);
            }
            Fact::Stalled { host, span } => {
                later(&mut self.hosts, host, at + span);
            }
            Fact::Hindered { host: Some(host), until, .. } => {
                later(&mut self.hosts, host, until.max(at));
            }
            Fact::Hindered { host: None, instance: None, until } => {
                for host in self.layout.hosts.values() {
                    later(&mut self.hosts, *host, until);
                }
            }
            Fact::Hindered { instance: Some(instance), until, .. } => {
                later(&mut self.instances, instance, until);
            }
            Fact::Stopped { instance, stopped } => {
                if stopped {
                    self.stopped.insert(instance);
                    self.stops.insert(instance, (at, Micros::MAX));
                } else {
                    self.stopped.remove(&instance);
                    self.goes_on(at, instance);
                }
                later(&mut self.instances, instance, at);
            }
            Fact::Exited { instance } | Fact::Started { instance, .. } => {
                self.stopped.remove(&instance);
                self.goes_on(at, instance);
                later(&mut self.instances, instance, at);
            }
            Fact::Hand { instance, .. } => {
                later(&mut self.instances, instance, at);
            }
            _ => {}
        }
    }

    fn goes_on(&mut self, at: Micros, id: Id) {
        if let Some((since, end)) = self.stops.get_mut(&id) {
            *end = at.min(*end);
            if *end - *since >= HUNG {
                self.hung.insert(id, *end);
            }
        }
    }

    /// A process that was ended because it hung: did it stand still for long?
    fn hung(&self, at: Micros, service: usize, new: &MasterRecord) -> Result<(), Breach> {
        let MasterState::Vacant { cause: Cause::Hung, .. } = new.state else { return Ok(()) };
        let Some(holder) = Id::named(service, &new.holder.instance) else { return Ok(()) };
        let stood = self.stops.get(&holder).map_or(0, |(since, end)| at.min(*end) - since);
        let woke = self.hung.get(&holder).is_some_and(|end| at <= *end + LADDER);
        if stood >= HUNG || woke {
            return Ok(());
        }
        Err(Breach::firm(format!(
            "{holder} was ended as hung, and its process had stood still for {} ms",
            stood / MILLI
        )))
    }

    /// How long ago anything last hindered it or its host; 0: now.
    fn quiet_for(&self, at: Micros, id: Id) -> Micros {
        let Some(host) = self.layout.hosts.get(&id) else { return 0 };
        if self.down.contains(host) || self.cut.contains(host) || self.stopped.contains(&id) {
            return 0;
        }
        let last = self.hosts.get(host).max(self.instances.get(&id)).copied().unwrap_or(0);
        at.saturating_sub(last)
    }

    fn ended(&self, at: Micros, service: usize, new: &MasterRecord) -> Result<(), Breach> {
        let Some(old) = self.records.get(&service) else { return Ok(()) };
        let served = old.state == MasterState::Serving && new.state != MasterState::Serving;
        let planned = match &new.state {
            MasterState::Giving { .. }
            | MasterState::Withdrawn { .. }
            | MasterState::Unmanaged
            | MasterState::Serving => true,
            MasterState::Vacant { cause, .. } | MasterState::Taken { cause } => {
                matches!(cause, Cause::Requested | Cause::SwitchoverUndone(_))
            }
            MasterState::Lapsed | MasterState::FenceFailed { .. } => false,
        };
        let Some(holder) = Id::named(service, &old.holder.instance) else { return Ok(()) };
        let quiet = self.quiet_for(at, holder);
        let long = 2 * self.layout.lease + self.layout.patience;
        if !self.layout.quiet || !served || planned || quiet < long {
            return Ok(());
        }
        Err(Breach::firm(format!(
            "term {} of {holder} became {} although nothing had hindered it for {} ms",
            old.term,
            new.state.word(),
            quiet / MILLI
        )))
    }
}

/// What hindered something until a time does so still, whatever else comes and goes before.
fn later<K: Ord>(times: &mut BTreeMap<K, Micros>, key: K, at: Micros) {
    let last = times.entry(key).or_insert(0);
    *last = at.max(*last);
}

impl Invariant for NoNeedlessMove {
    fn slug(&self) -> &'static str {
        "no-needless-move"
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        self.note(at, fact);
        match fact {
            Fact::Killed { instance, well: true } => {
                Err(Breach::firm(format!("{instance} was killed although it was well")))
            }
            Fact::Master { service, record: Some(record) } => {
                let judged =
                    self.ended(at, *service, record).and_then(|()| self.hung(at, *service, record));
                self.records.insert(*service, Rc::clone(record));
                judged
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{feed, layout, master, r};
    use super::*;

    fn check(history: impl IntoIterator<Item = (Micros, Fact)>) -> Result<(), Breach> {
        feed(NoNeedlessMove::new(&layout()), history)
    }

    #[test]
    fn a_move_with_a_reason_holds() {
        let serving = || master(1, 1, MasterState::Serving);
        let lapsed = || master(1, 1, MasterState::Lapsed);
        let cut = Fact::Reach { host: 0, reach: false };
        assert_eq!(check([(0, serving()), (50_000, cut), (60_000, lapsed())]), Ok(()));
        let exit = Fact::Exited { instance: r(1) };
        assert_eq!(check([(0, serving()), (50_000, exit), (52_000, lapsed())]), Ok(()));
    }

    #[test]
    fn a_move_out_of_nothing_breaks_it() {
        let serving = master(1, 1, MasterState::Serving);
        let lapsed = master(1, 1, MasterState::Lapsed);
        assert!(check([(0, serving), (60_000, lapsed)]).is_err());
    }

    #[test]
    fn a_kill_without_a_hang_breaks_it() {
        let killed = |well| [(1, Fact::Killed { instance: r(1), well })];
        assert_eq!(check(killed(false)), Ok(()));
        assert!(check(killed(true)).is_err());
    }
}
