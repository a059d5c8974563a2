//! The store's members, where the store is not a thing apart but runs on the databases' hosts: a
//! majority answers, under a leader; the loss of the leader is an election, the loss of the
//! majority is silence, and an agent whose own member is gone has lost its watch.

use std::collections::BTreeSet;

use super::fact::Fact;
use super::schedule::{Micros, SECOND};
use super::world::{World, say};

/// The members on hosts 0, 1, …; none: the store stands apart and never loses one.
#[derive(Debug, Default)]
pub(crate) struct Members {
    count: usize,
    leader: usize,
    /// Whose process is dead.
    dead: BTreeSet<usize>,
    /// Who was reachable when somebody last looked.
    up: BTreeSet<usize>,
    /// No majority: nobody is answered.
    pub(crate) silent: bool,
}

impl Members {
    /// So many members, all well.
    pub(crate) fn new(count: usize) -> Self {
        Self { count, up: (0..count).collect(), ..Self::default() }
    }
}

impl World {
    /// A member's process dies; its data is on disk and it comes back.
    pub(crate) fn lose_member(&mut self, host: usize) {
        if host < self.store.members.count {
            self.store.members.dead.insert(host);
            self.count_members();
        }
    }

    /// A member's process runs again.
    pub(crate) fn mend_member(&mut self, host: usize) {
        self.store.members.dead.remove(&host);
        self.count_members();
    }

    /// Can the other hosts reach this one at all?
    fn isolated(&self, host: usize) -> bool {
        (0..self.hosts()).all(|other| other == host || !self.reaches(host, other))
    }

    /// Something happened to a host: is there a leader, and a majority?
    pub(crate) fn count_members(&mut self) {
        let Members { count, leader, .. } = self.store.members;
        if count == 0 {
            return;
        }
        let dead = &self.store.members.dead;
        let well =
            |host: &usize| !dead.contains(host) && self.host_up(*host) && !self.isolated(*host);
        let up: BTreeSet<usize> = (0..count).filter(well).collect();
        let before = std::mem::replace(&mut self.store.members.up, up.clone());
        if up == before {
            return;
        }
        let silent = up.len() * 2 <= count;
        let was = std::mem::replace(&mut self.store.members.silent, silent);
        if silent {
            say!(self, "the store has no majority");
            self.hinder_all(1000 * SECOND);
        } else if was || !up.contains(&leader) {
            let away = self.random.store.between(SECOND, 3 * SECOND);
            let next = self.random.store.index(up.len());
            self.store.members.leader = up.iter().copied().nth(next).unwrap_or(leader);
            self.store.away_until = self.store.away_until.max(self.now + away);
            say!(self, "the store elects the member of h{}", self.store.members.leader + 1);
            self.hinder_all(away);
        }
        for host in before.difference(&up) {
            for slot in self.slots_of(*host) {
                self.lose_watch(slot);
            }
        }
    }

    fn hinder_all(&mut self, span: Micros) {
        let until = self.now + span;
        self.tell(Fact::Hindered { host: None, instance: None, until });
    }
}
