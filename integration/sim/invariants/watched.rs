//! Whether a host's agent was there to do its duty: what tells a documented limit from a fault.
//!
//! A host is *unwatched* from the moment its agent died or was stopped, until an agent has run
//! there, with the store read, for the patience that the layout grants; an agent that cannot read
//! the store is given the lease on top, since it fences then, and one whose loop hangs before
//! that, as long as it hangs. This is no rule of its own.

use std::collections::BTreeMap;

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::Micros;

/// What explains a breach on an unwatched host.
const LIMIT: &str = "an agent was dead or stopped while its database ran";
/// What explains a breach of an instance that was not made ready for sengu.
const OPEN: &str = "an instance came back taking writes, since its own file starts it so";
/// What explains a breach of an instance that somebody opened.
const HAND: &str = "a person opened an instance by hand";
/// What explains a breach of an account that read-only does not bind.
pub(super) const ABOVE: &str = "an account above read-only wrote in spite of it";
/// What explains a breach where a store that was set back was believed.
pub(super) const KEPT_ID: &str = "the store was set back and kept its id";
/// What explains a breach on a host that stood still.
const GUEST: &str = "a guest stood still and went on";

#[derive(Debug, Default)]
struct Host {
    down: bool,
    /// Ran again since, and has not read the store since.
    up: Option<Micros>,
    /// Has read the store since it ran again.
    loaded: Option<Micros>,
    /// Its guest stood still.
    guest: bool,
}

/// All hosts' agents.
#[derive(Debug)]
pub(crate) struct Watched {
    hosts: BTreeMap<usize, Host>,
    /// Instances that were opened without sengu and are open since, and by what.
    opened: BTreeMap<Id, &'static str>,
    layout: Layout,
}

impl Watched {
    /// Nobody is missing at the beginning.
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { hosts: BTreeMap::new(), opened: BTreeMap::new(), layout: layout.clone() }
    }

    /// Takes one fact; others are ignored.
    pub(crate) fn take(&mut self, at: Micros, fact: &Fact) {
        match *fact {
            Fact::Agent { host, running: false } => {
                self.hosts.insert(host, Host { down: true, ..Host::default() });
            }
            Fact::Agent { host, running: true } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.down = false;
                    host.up = Some(at);
                }
            }
            Fact::Guest { host, paused: true } => {
                let guest = Host { down: true, guest: true, ..Host::default() };
                self.hosts.insert(host, guest);
            }
            Fact::Guest { host, paused: false } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.down = false;
                    host.up = Some(at);
                    host.loaded = Some(at);
                }
            }
            Fact::Started { instance, open: true } => {
                self.opened.insert(instance, OPEN);
            }
            Fact::Hand { instance, open: true } => {
                self.opened.insert(instance, HAND);
            }
            Fact::Above { instance, known: false } => {
                self.opened.insert(instance, ABOVE);
            }
            Fact::Writable { instance, writable: false, .. }
            | Fact::Promoted { instance, .. }
            | Fact::Exited { instance } => {
                self.opened.remove(&instance);
            }
            Fact::Stalled { host, span } => {
                let patience = self.layout.patience;
                let Some(host) = self.hosts.get_mut(&host) else { return };
                let settled = host.loaded.is_some_and(|loaded| at >= loaded + patience);
                if let Some(up) = host.up.as_mut().filter(|_| !settled) {
                    *up = at + span;
                }
            }
            Fact::Loaded { host } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.loaded = Some(at);
                }
            }
            _ => {}
        }
    }

    /// The limit that explains what this instance did, if one does.
    pub(crate) fn limit(&self, at: Micros, instance: Id) -> Option<&'static str> {
        if let Some(why) = self.opened.get(&instance) {
            return Some(why);
        }
        let host = self.hosts.get(self.layout.hosts.get(&instance)?)?;
        let unwatched = host.down
            || host.up.is_some_and(|up| match host.loaded {
                Some(loaded) => at < loaded.max(up) + self.layout.patience,
                None => at < up + self.layout.lease + self.layout.patience,
            });
        unwatched.then_some(if host.guest { GUEST } else { LIMIT })
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::name::Term;

    use super::super::super::schedule::SECOND;
    use super::super::tests::{layout, r};
    use super::*;

    #[test]
    fn an_instance_that_its_own_file_opens_is_told_apart_for_a_while() {
        let mut watched = Watched::new(&layout());
        watched.take(SECOND, &Fact::Started { instance: r(3), open: true });
        watched.take(SECOND, &Fact::Started { instance: r(2), open: false });
        assert_eq!(watched.limit(2 * SECOND, r(3)), Some(OPEN));
        assert_eq!(watched.limit(2 * SECOND, r(2)), None);
        let closed = Fact::Writable { instance: r(3), term: Term(0), writable: false };
        watched.take(5 * SECOND, &closed);
        assert_eq!(watched.limit(5 * SECOND, r(3)), None);
    }

    #[test]
    fn a_host_is_unwatched_from_death_until_its_agent_had_time() {
        let mut watched = Watched::new(&layout());
        assert_eq!(watched.limit(0, r(1)), None);
        watched.take(SECOND, &Fact::Agent { host: 0, running: false });
        assert_eq!(watched.limit(99 * SECOND, r(1)), Some(LIMIT));
        assert_eq!(watched.limit(99 * SECOND, r(2)), None, "another host's agent runs");
        watched.take(100 * SECOND, &Fact::Agent { host: 0, running: true });
        assert_eq!(watched.limit(106 * SECOND, r(1)), Some(LIMIT), "it could not read the store");
        assert_eq!(watched.limit(108 * SECOND, r(1)), None, "then it must have fenced");
        watched.take(100 * SECOND, &Fact::Stalled { host: 0, span: 10 * SECOND });
        assert_eq!(watched.limit(116 * SECOND, r(1)), Some(LIMIT), "its loop hung");
        watched.take(101 * SECOND, &Fact::Agent { host: 0, running: true });
        watched.take(101 * SECOND, &Fact::Loaded { host: 0 });
        assert_eq!(watched.limit(103 * SECOND, r(1)), Some(LIMIT));
        assert_eq!(watched.limit(105 * SECOND, r(1)), None);
    }
}
