//! **starts-fenced**: no instance of a service that sengu holds takes writes for longer than a
//! bound while its agent runs and it is not the one that holds the term.
//!
//! The bound is the layout's patience, counted from the last moment at which anything hindered
//! its agent: its own start, a stall, a cut from the store, a stopped database. An instance that
//! a person took out of its host's file is nobody's to fence until it is back there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sengu_core::record::{MasterRecord, MasterState};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{MILLI, Micros};
use super::{Breach, Invariant, Often};

/// Who takes writes without the term, and since when nothing excuses it.
pub(crate) struct StartsFenced {
    layout: Layout,
    open: BTreeSet<Id>,
    stopped: BTreeSet<Id>,
    /// Instances that are in no file.
    unconfigured: BTreeSet<Id>,
    /// Hosts whose agent does not run (or has not read the store since), and that are cut off.
    down: BTreeSet<usize>,
    cut: BTreeSet<usize>,
    since: BTreeMap<Id, Micros>,
    /// Until when each host's loop hangs.
    stalled: BTreeMap<usize, Micros>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
    /// Whom its agent may not signal, until when.
    unkillable: BTreeMap<Id, Micros>,
    /// Whom read-only does not bind, until when: only its end fences it.
    unbound: BTreeMap<Id, Micros>,
}

impl StartsFenced {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            open: BTreeSet::new(),
            stopped: BTreeSet::new(),
            unconfigured: BTreeSet::new(),
            down: BTreeSet::new(),
            cut: BTreeSet::new(),
            since: BTreeMap::new(),
            stalled: BTreeMap::new(),
            records: BTreeMap::new(),
            unkillable: BTreeMap::new(),
            unbound: BTreeMap::new(),
        }
    }

    fn wrong(&self, id: Id) -> bool {
        let Some(record) = self.records.get(&id.service) else { return false };
        let holds = record.holder.instance == id.name()
            && matches!(
                record.state,
                MasterState::Taken { .. } | MasterState::Serving | MasterState::Giving { .. }
            );
        let host = self.layout.hosts.get(&id);
        // Where another tool promotes, nothing is fenced on sight.
        record.state != MasterState::Unmanaged
            && record.external.is_none()
            && !holds
            && !self.stopped.contains(&id)
            && !self.unconfigured.contains(&id)
            && host.is_some_and(|host| !self.down.contains(host) && !self.cut.contains(host))
    }

    /// Starts the time of a host's instances anew.
    fn restart(&mut self, host: usize) {
        let hosts = &self.layout.hosts;
        self.since.retain(|id, _| hosts.get(id) != Some(&host));
    }

    fn note(&mut self, at: Micros, fact: &Fact) {
        match fact {
            Fact::Writable { instance, writable: true, .. } => {
                self.open.insert(*instance);
            }
            Fact::Writable { instance, writable: false, .. } => {
                self.open.remove(instance);
            }
            Fact::Stopped { instance, stopped: true } => {
                self.stopped.insert(*instance);
            }
            Fact::Stopped { instance, stopped: false } | Fact::Started { instance, .. } => {
                self.stopped.remove(instance);
                self.since.remove(instance);
            }
            Fact::Configured { instance, configured: false } => {
                self.unconfigured.insert(*instance);
            }
            Fact::Configured { instance, configured: true } => {
                self.unconfigured.remove(instance);
                self.since.remove(instance);
            }
            Fact::Agent { host, running: false } => {
                self.down.insert(*host);
            }
            Fact::Loaded { host } => {
                self.down.remove(host);
                self.restart(*host);
            }
            Fact::Reach { host, reach: false } => {
                self.cut.insert(*host);
            }
            Fact::Reach { host, reach: true } => {
                self.cut.remove(host);
                self.restart(*host);
            }
            Fact::Agent { host, running: true } => self.restart(*host),
            Fact::Stalled { host, span } => {
                self.stalled.insert(*host, at + span);
                let hosts = &self.layout.hosts;
                for (_, since) in
                    self.since.iter_mut().filter(|(id, _)| hosts.get(id) == Some(host))
                {
                    *since = at + span;
                }
            }
            Fact::Unbound { instance, until } => {
                self.unbound.insert(*instance, *until);
            }
            Fact::Unkillable { instance, until } => {
                self.unkillable.insert(*instance, *until);
            }
            Fact::Master { service, record: Some(record) } => {
                self.records.insert(*service, Rc::clone(record));
            }
            _ => {}
        }
    }
}

/// May this fact put an instance in the wrong?
fn matters(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::Writable { .. }
            | Fact::Master { .. }
            | Fact::Agent { .. }
            | Fact::Loaded { .. }
            | Fact::Reach { .. }
            | Fact::Stopped { .. }
            | Fact::Started { .. }
            | Fact::Configured { .. }
            | Fact::Moment
    )
}

impl Invariant for StartsFenced {
    fn slug(&self) -> &'static str {
        "starts-fenced"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Moment]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        self.note(at, fact);
        if self.since.is_empty() && !matters(fact) {
            return Ok(());
        }
        let wrong: BTreeSet<Id> = self.open.iter().copied().filter(|id| self.wrong(*id)).collect();
        self.since.retain(|id, _| wrong.contains(id));
        for id in wrong {
            let host = self.layout.hosts.get(&id);
            let stalled = host.and_then(|host| self.stalled.get(host)).copied().unwrap_or(0);
            // What read-only does not bind, and nobody may end, is the limit that it is.
            let until = |of: &BTreeMap<Id, Micros>| of.get(&id).copied().unwrap_or(0);
            let kept = until(&self.unkillable).min(until(&self.unbound));
            let since = *self.since.entry(id).or_insert_with(|| at.max(stalled));
            let since = since.max(kept);
            if at > since + self.layout.patience {
                self.since.insert(id, at);
                return Err(Breach::firm(format!(
                    "{id} has taken writes for {} ms without holding the term, although its \
                     agent runs",
                    (at - since) / MILLI
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::name::Term;

    use super::super::tests::{feed, layout, master, r};
    use super::*;

    fn open(n: usize) -> Fact {
        Fact::Writable { instance: r(n), term: Term(1), writable: true }
    }

    #[test]
    fn the_holder_may_and_nobody_may_before_adoption() {
        let serving = master(1, 1, MasterState::Serving);
        let history = [(0, open(1)), (5000, serving), (9000, Fact::Moment)];
        assert_eq!(feed(StartsFenced::new(&layout()), history), Ok(()));
    }

    #[test]
    fn an_open_instance_without_the_term_breaks_it_in_the_end() {
        let serving = || master(1, 1, MasterState::Serving);
        let soon = [(0, serving()), (10, open(2)), (2900, Fact::Moment)];
        assert_eq!(feed(StartsFenced::new(&layout()), soon), Ok(()));
        let late = [(0, serving()), (10, open(2)), (3100, Fact::Moment)];
        assert!(feed(StartsFenced::new(&layout()), late).is_err());
    }

    #[test]
    fn who_is_in_no_file_is_nobodys_to_fence() {
        let configured = |configured| Fact::Configured { instance: r(2), configured };
        let history = |last| {
            let out = [(0, master(1, 1, MasterState::Serving)), (10, configured(false))];
            let back = [(20, open(2)), (9000, configured(true)), (last, Fact::Moment)];
            out.into_iter().chain(back)
        };
        assert_eq!(feed(StartsFenced::new(&layout()), history(11_900)), Ok(()));
        assert!(feed(StartsFenced::new(&layout()), history(12_100)).is_err());
    }

    #[test]
    fn a_hindered_agent_is_given_its_time() {
        let history = [
            (0, master(1, 1, MasterState::Serving)),
            (10, open(2)),
            (20, Fact::Agent { host: 1, running: false }),
            (9000, Fact::Agent { host: 1, running: true }),
            (9500, Fact::Loaded { host: 1 }),
            (12_400, Fact::Moment),
        ];
        assert_eq!(feed(StartsFenced::new(&layout()), history), Ok(()));
    }
}
