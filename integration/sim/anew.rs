//! A store that was set back is refused by all who saw more of it; a person ends that as the
//! operations page says: all agents are stopped, an empty store is given to them, one instance is
//! open and all others follow it, and each service is adopted again.
//!
//! Terms begin at 1 again, and so do the rules: what they knew of the store before is over.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use sengu_core::kv::Kv;
use sengu_core::name::Term;

use super::deed::{Back, Data, Wish};
use super::fact::Fact;
use super::layout::lay_out;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{Happening, World, note};

/// The agents are started again after so long, and adopted after as much again.
const PAUSE: Micros = 2 * SECOND;
/// The person looks again so often while a service is not adopted, and so often in all.
const AGAIN: Micros = 25 * SECOND;
const TRIES: usize = 8;

impl World {
    /// All agents are stopped and start on an empty store.
    pub(crate) fn begin_anew(&mut self) {
        for host in 0..self.agents.len() {
            self.kill_agent(host, "stopped by a person");
            let agent = &mut self.agents[host];
            agent.highest = 0;
            agent.believes = None;
            agent.forsaken = agent.lives;
            self.plan(PAUSE, Happening::AgentStart { host });
        }
        self.store.kv = Kv::new();
        self.store.masters.clear();
        self.store.beats.clear();
        self.store.snapshots = VecDeque::new();
        self.restored = false;
        self.anew = true;
        self.last_master.clear();
        for database in &mut self.databases {
            database.opened = Term(0);
        }
        let layout = lay_out(&self.options, &self.databases);
        self.judges.begin_anew(&layout);
        self.tell_all();
        self.plan(2 * PAUSE, Happening::PersonAdopts { tries: TRIES });
        note!(self, "the store is empty");
    }

    /// What is true now, for rules that know nothing yet.
    fn tell_all(&mut self) {
        let until = (self.now + 2 * PAUSE).max(self.store.slow_until).max(self.store.late_until);
        self.tell(Fact::Hindered { host: None, instance: None, until });
        for host in 0..self.hosts() {
            self.tell(Fact::Agent { host, running: false });
            if self.store_cut.contains(&host) {
                self.tell(Fact::Reach { host, reach: false });
            }
            if self.agents[host].clock.is_paused() {
                self.tell(Fact::Guest { host, paused: true });
            }
        }
        for hosts in self.cut.clone() {
            self.tell(Fact::Path { hosts, cut: true });
        }
        for db in 0..self.databases.len() {
            let database = &self.databases[db];
            let (instance, until) = (database.id, database.unkillable_until);
            let writable = database.writable();
            let process = database.process.as_ref();
            let source = process.and_then(|process| process.source);
            let source = source.and_then(|address| self.addresses.get(&address).copied());
            let stopped = process.is_some_and(|process| process.stopped);
            self.tell(Fact::Unkillable { instance, until });
            self.tell(Fact::Writable { instance, term: Term(0), writable });
            if let Some(source) = source {
                let source = Some(self.databases[source].id);
                self.tell(Fact::Followed { instance, source });
            }
            if stopped {
                self.tell(Fact::Stopped { instance, stopped });
            }
        }
    }

    /// The same once more when the storm is over, with time for what it makes happen.
    pub(crate) fn adopt_what_is_left(&mut self) {
        if !self.anew || (0..self.options.services).all(|it| self.managed(it).is_some()) {
            return;
        }
        // What was broken a moment ago is seen to run first.
        self.run_until(self.now + AGAIN / 5);
        self.adopt_again(0);
        self.run_until(self.now + AGAIN);
    }

    /// The person sees to it that one is open and all follow it, and adopts.
    pub(crate) fn person_adopts(&mut self, tries: usize) {
        if !self.calm {
            self.adopt_again(tries);
        }
    }

    fn adopt_again(&mut self, tries: usize) {
        let waiting: Vec<usize> =
            (0..self.options.services).filter(|it| self.managed(*it).is_none()).collect();
        for service in &waiting {
            self.arrange(*service);
            self.wish(*service, &Wish::Adopt(None));
        }
        if !waiting.is_empty() && tries > 0 {
            self.plan(AGAIN, Happening::PersonAdopts { tries: tries - 1 });
        }
    }

    /// The open one stays so, or the one with the most data is opened; all others follow it.
    fn arrange(&mut self, service: usize) {
        let runs = |world: &Self, db: usize| {
            world.databases[db].process.as_ref().is_some_and(|process| !process.stopped)
        };
        let all = self.of_service(service);
        let most = |db: &usize| {
            let process = self.databases[*db].process.as_ref();
            let data = process.map_or(0, |it| it.copy.data.len());
            (self.databases[*db].writable(), data, Reverse(*db))
        };
        let Some(chosen) = all.iter().copied().filter(|db| runs(self, *db)).max_by_key(most) else {
            return;
        };
        // One that takes writes and does not answer is ended first; where that cannot be now, the
        // person waits.
        let hangs = |world: &Self, db: usize| {
            db != chosen && !runs(world, db) && world.databases[db].writable()
        };
        for db in all.iter().copied().filter(|db| hangs(self, *db)).collect::<Vec<_>>() {
            if self.now < self.databases[db].unkillable_until {
                return;
            }
            self.end_process(db, "a person ends what does not answer");
            self.plan_restart(db, Back::After(200 * MILLI, Data::Kept));
        }
        self.give_up_others(&all, chosen);
        self.open_by_hand(chosen);
        let address = self.databases[chosen].address;
        for db in all {
            let follows = self.databases[db].process.as_ref().and_then(|it| it.source);
            if db != chosen && runs(self, db) && follows != Some(address) {
                let instance = self.databases[db].id;
                self.tell(Fact::Hand { instance, open: false });
                self.point_to(db, address);
            }
        }
    }

    /// What the others hold, and the one that is chosen does not, is the person's loss.
    fn give_up_others(&mut self, all: &[usize], chosen: usize) {
        let mine: BTreeSet<u64> = self.data_of(chosen).into_iter().collect();
        let lost = all.iter().flat_map(|db| self.data_of(*db)).filter(|it| !mine.contains(it));
        let lost: Vec<u64> = lost.collect();
        self.outside.extend(lost);
    }
}
