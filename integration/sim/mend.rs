//! Mends what deeds broke: each at its own end, and everything at the end of a storm.

use std::collections::BTreeSet;

use sengu_core::position::Covering;

use super::converge::ForEver;
use super::deed::{Back, Data};
use super::fact::{Fact, Id};
use super::schedule::{MILLI, SECOND};
use super::sql::Sql;
use super::version::{Version, is_next};
use super::world::{Happening, Life, World, say};

/// What is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mend {
    /// A host reaches the store.
    Store(usize),
    /// Two hosts reach each other.
    Hosts(usize, usize),
    /// A host's watch is as quick as before.
    Watch(usize),
    /// A host's member of the store runs.
    Member(usize),
    /// A host's file says what the others' say.
    Policy(usize),
    /// A host's file says `loss` as the others' do.
    Loss(usize),
    /// A host has power.
    Power(usize),
    /// A stopped agent goes on.
    Agent(Life),
    /// A stopped process goes on.
    Process(usize, u64),
    /// A paused guest goes on.
    Guest(usize),
    /// The second agent of a host is gone.
    Double,
    /// An instance stands in its host's configuration again.
    Configuration(usize, Id),
}

impl World {
    /// Mends one thing; what is broken no more is left alone.
    pub(crate) fn mend(&mut self, what: Mend) {
        self.liven();
        match what {
            Mend::Store(host) => {
                if self.for_ever != ForEver::StoreCut(host) && self.store_cut.remove(&host) {
                    say!(self, "h{} can reach the store again", host + 1);
                    self.tell(Fact::Reach { host, reach: true });
                }
            }
            Mend::Hosts(one, other) => {
                if self.cut.remove(&(one, other)) {
                    self.count_members();
                    self.tell(Fact::Path { hosts: (one, other), cut: false });
                    say!(self, "h{} and h{} can reach each other again", one + 1, other + 1);
                    for db in 0..self.databases.len() {
                        self.feed(db);
                    }
                }
            }
            Mend::Watch(host) => self.agents[host].watch_late = 0,
            Mend::Member(host) => self.mend_member(host),
            Mend::Policy(host) => {
                if std::mem::take(&mut self.agents[host].manual) {
                    self.configure_again(host);
                }
            }
            Mend::Loss(host) => {
                if std::mem::take(&mut self.agents[host].bounded) {
                    self.configure_again(host);
                }
            }
            Mend::Power(host) => {
                self.return_host(host);
                self.count_members();
            }
            Mend::Agent(life) => self.agent_goes_on(life),
            Mend::Process(db, life) => {
                if self.databases[db].life(life).is_some() {
                    self.stop_process(db, false);
                }
            }
            Mend::Guest(host) => self.guest_goes_on(host),
            Mend::Double => self.end_double(),
            Mend::Configuration(host, id) => {
                if self.agents[host].forgotten.remove(&id) {
                    self.fill_anew(id);
                    self.tell(Fact::Configured { instance: id, configured: true });
                    self.configure_again(host);
                }
            }
        }
    }

    /// What comes back into the configuration with data that the master's numbers cover although it
    /// is not the master's: an emptied MariaDB server gives numbers again. No comparison tells, so
    /// the person who puts it back fills it anew, as the guide says.
    fn fill_anew(&mut self, id: Id) {
        let db = self.index_of(id);
        let Some(record) = self.master(id.service) else { return };
        let Some(holder) = Id::named(id.service, &record.holder.instance) else { return };
        let master = self.index_of(holder);
        let numbers =
            |db: usize| self.databases[db].process.as_ref()?.sql.as_ref().map(Sql::received);
        let (Some(mine), Some(its)) = (numbers(db), numbers(master)) else { return };
        let all: BTreeSet<u64> = self.data_of(master).into_iter().collect();
        let foreign = self.data_of(db).iter().any(|write| !all.contains(write));
        if db != master && foreign && matches!(its.covers(&mine), Covering::Covers(_)) {
            self.end_process(db, "a person fills it anew");
            self.plan_restart(db, Back::After(200 * MILLI, Data::Emptied));
        }
    }

    /// The second agent of a host ends, when it leaves nothing open behind.
    fn end_double(&mut self) {
        let double = self.hosts();
        // While the other one hangs nobody would fence what the double holds: the limit
        // of an agent that is dead beside its database.
        let host = self.place(double);
        let other = self.agents[host].life.as_ref();
        let hangs = other.map_or(0, |life| life.stalled_until).saturating_sub(self.now);
        // The same goes for what the other one's configuration lacks.
        let lacks = self.agents[host].forgotten.iter().any(|id| {
            let record = self.master(id.service);
            record.is_some_and(|record| record.holder.instance == id.name())
        });
        let wait = hangs.max(if lacks { SECOND } else { 0 });
        if wait > 0 && self.doubled && !self.calm {
            self.plan(wait, Happening::Mend(Mend::Double));
            return;
        }
        self.doubled = false;
        self.kill_agent(double, "the double ends");
    }

    /// An upgrade to another format is finished on every host, whether the newer agents wrote
    /// something by now or only may do so later.
    fn finish_upgrade(&mut self) {
        let begun = || self.agents.iter().any(|agent| agent.version == Version::Format);
        let written = || self.store.kv.entries().any(|entry| is_next(&entry.value));
        if !self.versions || !(begun() || written()) {
            return;
        }
        for host in 0..self.agents.len() {
            if self.agents[host].version != Version::Format {
                self.agents[host].version = Version::Format;
                self.kill_agent(host, "it is upgraded to another format");
            }
        }
    }

    fn guest_goes_on(&mut self, host: usize) {
        if !self.agents[host].clock.is_paused() {
            return;
        }
        say!(self, "guest h{} goes on", host + 1);
        self.agents[host].clock.go_on(self.now);
        for slot in self.slots_of(host) {
            if let Some(life) = self.agents[slot].life.as_mut() {
                life.stopped_until = 0;
            }
        }
        self.tell(Fact::Guest { host, paused: false });
        for db in self.on_host(host) {
            self.stop_process(db, false);
        }
    }

    /// Everything that is broken is mended, but what shall stay so.
    pub(crate) fn mend_all(&mut self) {
        self.calm = true;
        self.store.away_until = self.store.away_until.min(self.now);
        self.store.slow_until = 0;
        self.store.late_until = 0;
        self.store.full_until = 0;
        for host in self.store_cut.clone() {
            self.mend(Mend::Store(host));
        }
        for (one, other) in self.cut.clone() {
            self.mend(Mend::Hosts(one, other));
        }
        for host in self.dark.clone() {
            self.mend(Mend::Power(host));
        }
        self.mend(Mend::Double);
        self.finish_upgrade();
        for host in 0..self.hosts() {
            self.mend(Mend::Watch(host));
            self.mend(Mend::Member(host));
            self.mend(Mend::Policy(host));
            self.mend(Mend::Loss(host));
            self.mend(Mend::Guest(host));
            for id in self.agents[host].forgotten.clone() {
                self.mend(Mend::Configuration(host, id));
            }
            if let Some(life) = self.agents[host].life.as_mut() {
                life.stalled_until = 0;
                let life = Life { host, number: life.number };
                self.agent_goes_on(life);
            } else {
                self.plan(100 * MILLI, Happening::AgentStart { host });
            }
        }
        for db in 0..self.databases.len() {
            let database = &mut self.databases[db];
            database.misobeys = None;
            database.troubled_until = database.troubled_until.min(self.now);
            database.unkillable_until = 0;
            self.bind_accounts(db);
            let database = &mut self.databases[db];
            database.starts_fenced |= !self.options.stays_open(database.id);
            if let Some(process) = self.databases[db].process.as_mut() {
                process.busy_until = 0;
                self.stop_process(db, false);
            } else {
                self.plan(200 * MILLI, Happening::ProcessStart { db });
            }
        }
        self.end_standing_requests();
    }

    fn end_standing_requests(&mut self) {
        let keys: Vec<String> = self
            .store
            .kv
            .entries()
            .filter(|entry| entry.key.starts_with("requests/"))
            .filter(|entry| String::from_utf8_lossy(&entry.value).contains("\"standing\""))
            .map(|entry| entry.key.to_string())
            .collect();
        for key in keys {
            self.person_ends(&key);
        }
    }
}
