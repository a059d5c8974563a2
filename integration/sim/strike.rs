//! Carries out deeds: each breaks something now, and plans what mends it.

use sengu_core::event::Event;
use sengu_core::name::Term;
use sengu_core::record::{MasterRecord, MasterState};

use super::agent::service_name;
use super::deed::{Back, Data, Deed, Orders};
use super::fact::{Fact, Id};
use super::mend::Mend;
use super::schedule::{MILLI, Micros, SECOND};
use super::storm;
use super::version::Version;
use super::world::{Happening, Life, World, note, say};

/// So far apart are the numbers that one server has in its time.
const RENUMBERED: usize = 16;

impl World {
    /// A deed is done.
    pub(crate) fn strike(&mut self, deed: &Deed) {
        note!(self, "* {deed}");
        self.coverage.deed(deed.kind());
        self.liven();
        self.hinder(deed);
        match deed {
            Deed::Election(span) => {
                self.store.away_until = self.store.away_until.max(self.now + span);
            }
            Deed::SlowStore(span) => self.store.slow_until = self.now + span,
            Deed::LateStore(late, span) => {
                (self.store.late, self.store.late_until) = (*late, self.now + span);
            }
            Deed::FullStore(span) => self.store.full_until = self.now + span,
            Deed::Compaction => self.compact(),
            Deed::Restore(age, renamed) => self.restore_store(*age, *renamed),
            Deed::Anew => self.begin_anew(),
            Deed::CutStore(host, span) => self.cut_store(*host, *span),
            Deed::LateWatch(host, late, span) => {
                self.agents[*host].watch_late = *late;
                self.plan(*span, Happening::Mend(Mend::Watch(*host)));
            }
            Deed::LostWatch(host) => self.lose_watch(*host),
            Deed::LateLooks(host, span) => self.agents[*host].looks_end = self.now + span,
            Deed::Manual(host, span) => {
                self.agents[*host].manual = true;
                self.configure_again(*host);
                self.plan(*span, Happening::Mend(Mend::Policy(*host)));
            }
            Deed::Bounded(host, span) => {
                self.agents[*host].bounded = true;
                self.configure_again(*host);
                self.plan(*span, Happening::Mend(Mend::Loss(*host)));
            }
            Deed::LoseMember(host, span) => {
                self.lose_member(*host);
                self.plan(*span, Happening::Mend(Mend::Member(*host)));
            }
            Deed::CutHosts(one, other, span) => self.cut_hosts(*one, *other, *span),
            Deed::Isolate(host, span) => {
                self.cut_store(*host, *span);
                for other in 0..self.hosts() {
                    self.cut_hosts(*host, other, *span);
                }
                self.count_members();
            }
            Deed::PowerOff(host, span) => {
                self.darken(*host);
                self.count_members();
                self.plan(*span, Happening::Mend(Mend::Power(*host)));
            }
            Deed::PauseGuest(host, span) => self.pause_guest(*host, *span),
            Deed::JumpClock(host, by) => self.jump_clock(*host, *by),
            Deed::Ask(service, wish) => self.wish(*service, wish),
            Deed::Mend => self.mend_all(),
            Deed::Upgrade(host) => self.change_version(*host, Version::Fields, "it is upgraded"),
            Deed::NewFormat(host) => {
                self.change_version(*host, Version::Format, "it is upgraded to another format");
            }
            Deed::Downgrade(host) => {
                self.change_version(*host, Version::This, "its upgrade is taken back");
            }
            Deed::KillAgent(host, span) => self.restart_agent(*host, *span, "killed"),
            Deed::HangAgent(host, span) => self.hang_agent(*host, *span),
            Deed::StopAgent(host, span) => self.stop_agent(*host, *span),
            Deed::Double(host, span) => self.double_agent(*host, *span),
            other => self.strike_database(other),
        }
    }

    /// A wall clock is set, and its agent notices.
    fn jump_clock(&mut self, host: usize, by: i64) {
        self.agents[host].clock.jump(by);
        if let Some(life) = &self.agents[host].life {
            let life = Life { host, number: life.number };
            self.push(life, Event::ClockJumped);
        }
    }

    /// An agent is started again in another version.
    fn change_version(&mut self, host: usize, version: Version, told: &'static str) {
        self.versions |= version != Version::This;
        self.agents[host].version = version;
        self.restart_agent(host, 150 * MILLI, told);
    }

    /// Tells the invariants whom a deed may hinder, and until when.
    fn hinder(&mut self, deed: &Deed) {
        let (host, instance, span) = match deed {
            Deed::Election(span)
            | Deed::SlowStore(span)
            | Deed::LateStore(_, span)
            | Deed::FullStore(span) => (None, None, *span),
            Deed::Restore(..) => (None, None, 1000 * SECOND),
            Deed::LateWatch(host, late, span) => (Some(*host), None, span + late),
            Deed::LostWatch(host)
            | Deed::JumpClock(host, _)
            | Deed::Upgrade(host)
            | Deed::NewFormat(host)
            | Deed::Downgrade(host)
            | Deed::PowerOff(host, _)
            | Deed::Isolate(host, _)
            | Deed::CutStore(host, _) => (Some(*host), None, 0),
            Deed::Double(host, span) | Deed::LateLooks(host, span) => (Some(*host), None, *span),
            Deed::Busy(id, span)
            | Deed::Misobey(id, _, span)
            | Deed::End(id, span, _)
            | Deed::Freeze(id, span)
            | Deed::Stop(id, span) => (None, Some(*id), *span),
            Deed::Point(id, _) | Deed::Open(id) | Deed::Tool(id) => (None, Some(*id), 0),
            _ => return,
        };
        let until = self.now + span;
        self.tell(Fact::Hindered { host, instance, until });
    }

    fn strike_database(&mut self, deed: &Deed) {
        let until = |span: &Micros| self.now + span;
        match deed {
            Deed::Misobey(id, orders, span) => {
                let until = until(span);
                let database = self.database_mut(*id);
                database.misobeys = Some((*orders, until));
                database.trouble(until);
            }
            Deed::Unkillable(id, span) => {
                let until = until(span);
                self.database_mut(*id).unkillable_until = until;
                self.tell(Fact::Unkillable { instance: *id, until });
            }
            Deed::StopApplier(id, span) | Deed::BusyApplier(id, span) => {
                let (db, until) = (self.index_of(*id), until(span));
                let process = self.databases[db].process.as_mut();
                if let Some(sql) = process.and_then(|process| process.sql.as_mut()) {
                    sql.applies_nothing_until = until;
                    sql.applier_busy = matches!(deed, Deed::BusyApplier(..));
                    self.plan(*span, Happening::ApplierGoesOn { db });
                }
            }
            Deed::StopWaiting(id) => {
                let db = self.index_of(*id);
                if self.databases[db].process.as_ref().is_some_and(|it| it.sql.is_some()) {
                    self.tell(Fact::Hand { instance: *id, open: false });
                    self.set_awaits(db, 0);
                }
            }
            Deed::Announce(span, fence) => self.tool_announces(*span, *fence),
            Deed::Tell(id) => self.tool_tells(*id),
            Deed::Obstruct(id, span) => self.database_mut(*id).obstructed_until = until(span),
            Deed::Above(id, span) => self.lift_account(self.index_of(*id), *span),
            Deed::Branch(id, span) => self.prepare_branch(self.index_of(*id), *span),
            Deed::Renumber(id) => self.renumber(self.index_of(*id)),
            Deed::Tool(id) => self.move_by_tool(*id),
            Deed::Edit(id, fenced) => {
                self.database_mut(*id).starts_fenced = *fenced;
                self.tell(Fact::File { instance: *id, fenced: *fenced });
            }
            Deed::Forget(id, span) => self.forget(*id, *span),
            Deed::Open(id) => {
                let db = self.index_of(*id);
                if self.databases[db].process.is_some() {
                    self.open_by_hand(db);
                }
            }
            Deed::Point(id, to) => {
                let (db, to) = (self.index_of(*id), self.index_of(*to));
                if db != to && self.databases[db].process.is_some() {
                    self.tell(Fact::Hand { instance: *id, open: false });
                    let address = self.databases[to].address;
                    self.point_to(db, address);
                }
            }
            other => self.strike_process(other),
        }
    }

    fn strike_process(&mut self, deed: &Deed) {
        let id = match deed {
            Deed::Kill(id, _)
            | Deed::End(id, ..)
            | Deed::Stop(id, _)
            | Deed::Freeze(id, _)
            | Deed::Busy(id, _) => *id,
            other => unreachable!("{other:?} is no deed to a process"),
        };
        let (now, db) = (self.now, self.index_of(id));
        let Some(process) = self.databases[db].process.as_mut() else { return };
        let life = process.life;
        match deed {
            Deed::Kill(_, back) => {
                self.end_process(db, "killed");
                self.plan_restart(db, *back);
            }
            Deed::End(_, over, back) => {
                process.listening = false;
                self.plan(*over, Happening::ProcessEnd { db, life, back: *back });
            }
            Deed::Busy(_, span) => {
                process.busy_until = now + span;
                self.databases[db].trouble(now + span);
            }
            Deed::Stop(_, span) | Deed::Freeze(_, span) => {
                process.frozen = matches!(deed, Deed::Freeze(..));
                self.stop_process(db, true);
                self.plan(*span, Happening::Mend(Mend::Process(db, life)));
            }
            _ => {}
        }
    }

    /// A server is given another identity, and is started again with what it has.
    pub(crate) fn renumber(&mut self, db: usize) {
        self.databases[db].server += RENUMBERED;
        self.end_process(db, "a person gives it another number");
        self.plan_restart(db, Back::After(200 * MILLI, Data::Kept));
    }

    /// A supervisor starts a process that ended, or does not.
    pub(crate) fn plan_restart(&mut self, db: usize, back: Back) {
        let back = match back {
            Back::Somehow if self.calm => Back::After(200 * MILLI, Data::Kept),
            Back::Somehow => storm::back(&mut self.random.fault),
            back => back,
        };
        let Back::After(wait, data) = back else { return };
        self.databases[db].lose(data);
        self.plan(wait, Happening::ProcessStart { db });
    }

    fn cut_store(&mut self, host: usize, span: Micros) {
        if self.store_cut.insert(host) {
            self.tell(Fact::Reach { host, reach: false });
            self.plan(span, Happening::Mend(Mend::Store(host)));
        }
    }

    fn cut_hosts(&mut self, one: usize, other: usize, span: Micros) {
        let hosts = (one.min(other), one.max(other));
        if one != other && self.cut.insert(hosts) {
            self.tell(Fact::Path { hosts, cut: true });
            self.plan(span, Happening::Mend(Mend::Hosts(hosts.0, hosts.1)));
        }
    }

    /// An agent dies and is started again; databases and everything else go on.
    pub(crate) fn restart_agent(&mut self, host: usize, span: Micros, why: &str) {
        self.kill_agent(host, why);
        self.plan(span, Happening::AgentStart { host });
    }

    fn hang_agent(&mut self, host: usize, span: Micros) {
        let until = self.now + span;
        if let Some(life) = self.agents[host].life.as_mut() {
            life.stalled_until = until;
            self.tell(Fact::Stalled { host, span });
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
        self.tell(Fact::Agent { host, running: false });
        self.plan(span, Happening::Mend(Mend::Agent(life)));
    }

    /// Agent, databases and clocks of a host stand still together.
    fn pause_guest(&mut self, host: usize, span: Micros) {
        if self.agents[host].clock.is_paused() || !self.host_up(host) {
            return;
        }
        self.agents[host].clock.pause(self.now);
        self.tell(Fact::Guest { host, paused: true });
        for slot in self.slots_of(host) {
            if let Some(life) = self.agents[slot].life.as_mut() {
                life.stopped_until = self.now + span;
            }
        }
        for db in self.on_host(host) {
            self.stop_process(db, true);
        }
        self.plan(span, Happening::Mend(Mend::Guest(host)));
    }

    /// A second agent of the same host and folder.
    fn double_agent(&mut self, host: usize, span: Micros) {
        let double = self.hosts();
        if self.agents[double].life.is_some() || self.agents[host].life.is_none() {
            return;
        }
        self.agents[double].host = host;
        let remembered = self.agents[host].remembered.clone();
        self.agents[double].remembered = remembered;
        self.agents[double].highest = self.agents[host].highest;
        self.agents[double].believes = self.agents[host].believes;
        if self.agents[host].version == Version::Format {
            self.agents[double].version = Version::Format;
        }
        self.doubled = true;
        self.start_agent(double);
        self.plan(span, Happening::Mend(Mend::Double));
    }

    /// The configuration is read again without an instance; refused if it holds the term, as its
    /// agent knows the record.
    fn forget(&mut self, id: Id, span: Micros) {
        let host = self.databases[self.index_of(id)].host;
        let holds = |record: &MasterRecord| {
            record.holder.instance == id.name() && record.state != MasterState::Unmanaged
        };
        let holds = match &self.agents[host].life {
            Some(life) => {
                let view = life.machine.catalog().service(&service_name(id.service));
                view.and_then(|view| view.master.as_ref()).is_some_and(|at| holds(&at.record))
            }
            None => self.master(id.service).is_some_and(|record| holds(&record)),
        };
        if holds {
            say!(self, "{} refuses the new configuration: {id} holds the service", host + 1);
            return;
        }
        if self.agents[host].forgotten.insert(id) {
            self.part_from_forgotten(id.service);
            self.tell(Fact::Configured { instance: id, configured: false });
            self.configure_again(host);
            self.plan(span, Happening::Mend(Mend::Configuration(host, id)));
        }
    }

    /// Another tool moves mastership, knowing nothing of sengu: it opens one and points all
    /// others that it reaches there.
    fn move_by_tool(&mut self, id: Id) {
        let db = self.index_of(id);
        if self.databases[db].process.as_ref().is_none_or(|process| process.stopped) {
            return;
        }
        self.open_by_hand(db);
        let address = self.databases[db].address;
        for other in self.of_service(id.service) {
            if other != db && self.databases[other].process.as_ref().is_some_and(|it| !it.stopped) {
                let instance = self.databases[other].id;
                self.tell(Fact::Hindered { host: None, instance: Some(instance), until: self.now });
                self.tell(Fact::Hand { instance, open: false });
                self.point_to(other, address);
            }
        }
    }

    /// Somebody's `REPLICAOF NO ONE`.
    pub(crate) fn open_by_hand(&mut self, db: usize) {
        let id = self.databases[db].id;
        let stopped = self.databases[db].process.as_ref().is_none_or(|process| process.stopped);
        if stopped || self.databases[db].writable() {
            return;
        }
        self.tell(Fact::Hand { instance: id, open: true });
        // No term stands behind what it acknowledges.
        self.open(db, Term(0), None);
    }
}

impl super::database::Database {
    /// What its disk lost while no process ran.
    fn lose(&mut self, data: Data) {
        if self.family != super::sql::Family::Redis {
            // Its logs are durable, as a server that keeps promises must be; a disk may be lost.
            if data == Data::Emptied {
                self.log.clear();
                self.relay.clear();
                self.saved_source = None;
                if self.family == super::sql::Family::Mysql {
                    // Its UUID stood there, too: a server that begins anew draws another.
                    self.server += RENUMBERED;
                }
            }
            return;
        }
        match data {
            Data::Kept => {}
            Data::Emptied => self.disk.clear(),
            Data::Without(writes) => {
                let kept = self.disk.len().saturating_sub(writes);
                self.disk.truncate(kept);
            }
        }
    }

    /// It is in trouble until then, whatever short trouble comes and goes meanwhile: a server that
    /// does not do what it is told does not do it after a script or a restart either.
    pub(crate) fn trouble(&mut self, until: Micros) {
        self.troubled_until = self.troubled_until.max(until);
    }

    /// How changing commands go wrong now, if they do.
    pub(crate) fn misobeys(&self, now: Micros) -> Option<Orders> {
        self.misobeys.filter(|(_, until)| now < *until).map(|(orders, _)| orders)
    }
}
