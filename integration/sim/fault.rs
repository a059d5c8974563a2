//! What breaks, when, and how it is mended.
//!
//! Faults strike at random, of the kinds that the seed drew; most mend by themselves after a
//! while. An agent that dies alone is back within less than its lease less its fence budget,
//! unless the documented limits were asked for.

use super::agent::micros;
use super::options::Fault;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{Happening, Life, World, say};

impl World {
    /// One fault strikes, and the next is planned.
    pub(crate) fn fault_strikes(&mut self) {
        if self.calm {
            return;
        }
        let (low, high) = self.options.gap;
        let wait = self.random.fault.between(low, high);
        self.plan(wait, Happening::FaultStrikes);
        let kinds: Vec<Fault> = self.options.faults.iter().copied().collect();
        if kinds.is_empty() {
            return;
        }
        let fault = kinds[self.random.fault.index(kinds.len())];
        let host = self.random.fault.index(self.agents.len());
        let db = self.random.fault.index(self.databases.len());
        self.strike(fault, host, db);
    }

    fn strike(&mut self, fault: Fault, host: usize, db: usize) {
        let span = self.random.fault.skewed(100 * MILLI, 25 * SECOND);
        match fault {
            Fault::Election => {
                let away = self.random.fault.between(SECOND, 3 * SECOND);
                say!(self, "the store elects for {} ms", away / MILLI);
                self.store.away_until = self.now + away;
            }
            Fault::SlowStore => {
                say!(self, "the store is slow for {} ms", span / MILLI);
                self.store.slow_until = self.now + span;
            }
            Fault::CutStore => self.cut_store(host, span),
            Fault::LateWatch => {
                let late = self.random.fault.between(50 * MILLI, 3 * SECOND);
                say!(self, "h{} has its watch {} ms late", host + 1, late / MILLI);
                self.agents[host].watch_late = late;
                self.plan(span, Happening::WatchHeals { host });
            }
            Fault::LostWatch => self.lose_watch(host),
            Fault::CutReplication => {
                let other = self.random.fault.index(self.options.hosts);
                self.cut_replication(host.min(self.options.hosts - 1), other, span);
            }
            Fault::KillHost => {
                self.darken(host);
                let away = self.random.fault.between(SECOND, 30 * SECOND);
                self.plan(away, Happening::HostReturns { host });
            }
            Fault::KillAgent | Fault::LoseAgent | Fault::StallAgent | Fault::StopAgent => {
                self.strike_agent(fault, host);
            }
            Fault::JumpClock => {
                say!(self, "h{} has its wall clock set", host + 1);
                self.agents[host].clock.jump(3000);
                self.clock_jumped(host);
            }
            Fault::SlowCopy => {}
            Fault::KillDatabase
            | Fault::EndDatabase
            | Fault::StopDatabase
            | Fault::BusyDatabase => self.strike_database(fault, db, span),
        }
    }

    fn strike_agent(&mut self, fault: Fault, host: usize) {
        let lease = micros(self.options.judge.lease());
        let quick = (lease - micros(self.options.fence())) / 2;
        match fault {
            Fault::KillAgent => {
                let away = self.random.fault.between(10 * MILLI, quick);
                self.kill_agent(host, "killed");
                self.plan(away, Happening::AgentStart { host });
            }
            Fault::LoseAgent => {
                let away = self.random.fault.between(lease, 5 * lease);
                self.kill_agent(host, "killed, for long");
                self.plan(away, Happening::AgentStart { host });
            }
            Fault::StallAgent => {
                let until = self.now + self.random.fault.between(100 * MILLI, 3 * lease);
                if let Some(life) = self.agents[host].life.as_mut() {
                    life.stalled_until = until;
                    let span = until - self.now;
                    say!(self, "h{} agent's loop hangs for {} ms", host + 1, span / MILLI);
                    self.tell(super::fact::Fact::Stalled { host, span });
                }
            }
            _ => {
                let span = self.random.fault.between(100 * MILLI, 3 * lease);
                self.stop_agent(host, span);
            }
        }
    }

    fn stop_agent(&mut self, host: usize, span: Micros) {
        let now = self.now;
        let Some(life) = self.agents[host].life.as_mut() else { return };
        if life.stopped_until > 0 {
            return;
        }
        life.stopped_until = now + span;
        let life = Life { host, number: life.number };
        say!(self, "h{} agent is stopped for {} ms", host + 1, span / MILLI);
        self.tell(super::fact::Fact::Agent { host, running: false });
        self.plan(span, Happening::AgentGoesOn { life });
    }

    fn strike_database(&mut self, fault: Fault, db: usize, span: Micros) {
        let now = self.now;
        let id = self.databases[db].id;
        let Some(process) = self.databases[db].process.as_mut() else { return };
        let life = process.life;
        match fault {
            Fault::KillDatabase => {
                self.end_process(db, "killed");
                self.plan_restart(db);
            }
            Fault::EndDatabase => {
                process.listening = false;
                say!(self, "{id} is told to end: nobody listens any more");
                let wait = self.random.fault.skewed(MILLI, 3 * SECOND);
                self.plan(wait, Happening::ProcessEnd { db, life });
            }
            Fault::StopDatabase => {
                self.stop_process(db, true);
                let wait = self.random.fault.between(100 * MILLI, 15 * SECOND);
                self.plan(wait, Happening::ProcessGoesOn { db, life });
            }
            _ => {
                say!(self, "{id} runs a script for {} ms", span / MILLI);
                process.busy_until = now + span;
            }
        }
    }

    /// A supervisor starts a process that ended: soon, late or never; with its data, or less.
    pub(crate) fn plan_restart(&mut self, db: usize) {
        let random = &mut self.random.fault;
        let wait = match random.below(10) {
            0..5 => random.between(50 * MILLI, 500 * MILLI),
            5..9 => random.between(500 * MILLI, 5 * SECOND),
            _ => 60 * SECOND,
        };
        let (emptied, rolled) = (random.permille(100), random.permille(100));
        let back = random.index(30);
        let database = &mut self.databases[db];
        if emptied {
            database.disk.clear();
        } else if rolled {
            let kept = database.disk.len().saturating_sub(back);
            database.disk.truncate(kept);
        }
        self.plan(wait, Happening::ProcessStart { db });
    }

    fn cut_store(&mut self, host: usize, span: Micros) {
        if self.store_cut.insert(host) {
            say!(self, "h{} cannot reach the store for {} ms", host + 1, span / MILLI);
            self.tell(super::fact::Fact::Reach { host, reach: false });
            self.plan(span, Happening::StoreHeals { host });
        }
    }

    /// A host can reach the store again.
    pub(crate) fn heal_store(&mut self, host: usize) {
        if self.store_cut.remove(&host) {
            say!(self, "h{} can reach the store again", host + 1);
            self.tell(super::fact::Fact::Reach { host, reach: true });
        }
    }

    fn cut_replication(&mut self, one: usize, other: usize, span: Micros) {
        let hosts = (one.min(other), one.max(other));
        if one != other && self.cut.insert(hosts) {
            say!(self, "h{} and h{} cannot reach each other", hosts.0 + 1, hosts.1 + 1);
            self.plan(span, Happening::ReplicationHeals { hosts });
        }
    }

    /// Two hosts can reach each other again.
    pub(crate) fn heal_replication(&mut self, hosts: (usize, usize)) {
        if self.cut.remove(&hosts) {
            say!(self, "h{} and h{} can reach each other again", hosts.0 + 1, hosts.1 + 1);
            for db in 0..self.databases.len() {
                self.feed(db);
            }
        }
    }

    fn clock_jumped(&mut self, host: usize) {
        if let Some(life) = &self.agents[host].life {
            let life = Life { host, number: life.number };
            self.push(life, sengu_core::event::Event::ClockJumped);
        }
    }

    /// Faults begin.
    pub(crate) fn begin_storm(&mut self) {
        say!(self, "the storm begins");
        self.calm = false;
        self.plan(0, Happening::FaultStrikes);
        if self.options.person {
            self.plan(SECOND, Happening::PersonActs);
        }
    }

    /// Faults end, and everything that was broken is mended.
    pub(crate) fn end_storm(&mut self) {
        self.calm = true;
        say!(self, "the storm is over");
        self.store.away_until = self.store.away_until.min(self.now);
        self.store.slow_until = 0;
        for host in std::mem::take(&mut self.store_cut) {
            self.store_cut.insert(host);
            self.heal_store(host);
        }
        for hosts in std::mem::take(&mut self.cut) {
            self.cut.insert(hosts);
            self.heal_replication(hosts);
        }
        for host in self.dark.clone() {
            self.return_host(host);
        }
        for host in 0..self.agents.len() {
            self.agents[host].watch_late = 0;
            if let Some(life) = self.agents[host].life.as_mut() {
                life.stalled_until = 0;
                let life = Life { host, number: life.number };
                self.agent_goes_on(life);
            } else {
                self.plan(100 * MILLI, Happening::AgentStart { host });
            }
        }
        for db in 0..self.databases.len() {
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
