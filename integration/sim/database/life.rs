//! Processes of databases: how they come to be from what stands on disk, stand still, and end.

use sengu_core::name::{BootId, Term};

use super::super::deed::Back;
use super::super::fact::Fact;
use super::super::replication::Copy;
use super::super::schedule::{MILLI, SECOND};
use super::super::sql::{Family, Sql};
use super::super::world::{Happening, World, note, say};
use super::{Process, Reply, closed};

impl World {
    /// A process comes to be, from what stands on disk.
    pub(crate) fn start_process(&mut self, db: usize) {
        if self.databases[db].process.is_some() || !self.host_up(self.databases[db].host) {
            return;
        }
        let history = self.random.database.any();
        let now = self.now;
        let storm = !self.calm;
        let database = &mut self.databases[db];
        database.lives += 1;
        let life = database.lives;
        let boot_id = BootId(format!("boot{}:{}:{}", database.host, db * 100, life).into());
        let id = database.id;
        database.trouble(now);
        if database.family == Family::Redis {
            let source = database.starts_fenced.then(closed);
            let copy = Copy::from_disk(&database.disk, history, now);
            database.process = Some(Process::new(life, boot_id, source, copy));
        } else {
            let serials: Vec<u64> = database.log.iter().map(|entry| entry.serial).collect();
            let copy = Copy::from_disk(&serials, history, now);
            let mut process = Process::new(life, boot_id, database.saved_source, copy);
            let (log, relay) = (database.log.clone(), database.relay.clone());
            let fenced = database.starts_fenced;
            process.sql = Some(Sql::new(database.family, database.server, fenced, log, relay));
            database.process = Some(process);
        }
        let open = database.writable();
        if open {
            database.opened = Term(0);
        }
        database.outside = open && storm;
        note!(self, "{id} starts, {}", if open { "taking writes" } else { "fenced" });
        self.liven();
        self.tell(Fact::Started { instance: id, open });
        self.tell_writable(db);
        if self.databases[db].family != Family::Redis {
            self.apply_relay(db);
        }
        self.plan(100 * MILLI, Happening::ReplicaCron { db, life });
        self.plan(10 * SECOND, Happening::Ping { db, life });
    }

    /// The process ends; nothing of it runs any more.
    pub(crate) fn end_process(&mut self, db: usize, why: &str) {
        let Some(process) = self.databases[db].process.take() else { return };
        let id = self.databases[db].id;
        note!(self, "{id} exits: {why}");
        self.liven();
        if let Some(sql) = &process.sql {
            self.databases[db].relay.clone_from(&sql.relay);
        }
        let waiting = process.sql.as_ref().map(Sql::waiting_calls).unwrap_or_default();
        let held = process.held.into_iter().map(|(_, queued)| queued.call);
        let queued = process.sessions.into_values().flatten().map(|queued| queued.call);
        if self.host_up(self.databases[db].host) {
            for call in held.chain(queued).chain(waiting).collect::<Vec<_>>() {
                self.answer(call, Reply::Reset);
            }
        }
        self.tell(Fact::Exited { instance: id });
        self.tell_writable(db);
        self.source_gone(db, process.life);
        self.exit_seen(db, process.boot_id);
    }

    /// SIGSTOP, or SIGCONT.
    pub(crate) fn stop_process(&mut self, db: usize, stopped: bool) {
        let id = self.databases[db].id;
        let Some(process) = self.databases[db].process.as_mut() else { return };
        if process.stopped == stopped {
            return;
        }
        process.stopped = stopped;
        self.databases[db].trouble(self.now);
        let process = self.databases[db].process.as_mut().expect("looked up above");
        if !stopped && process.doomed {
            self.end_process(db, "it wakes, and was killed");
            self.plan_restart(db, Back::Somehow);
            return;
        }
        let process = self.databases[db].process.as_mut().expect("looked up above");
        process.frozen &= stopped;
        say!(self, "{id} {}", if stopped { "is stopped" } else { "goes on" });
        self.tell(Fact::Stopped { instance: id, stopped });
        if !stopped {
            self.pause_over(db);
            self.plan_work(db);
            if self.databases[db].family != Family::Redis {
                self.apply_relay(db);
            }
            self.feed(db);
        }
    }

    /// A kill was sent to a process that hangs in the kernel.
    pub(crate) fn doom_process(&mut self, db: usize) {
        if let Some(process) = self.databases[db].process.as_mut() {
            process.doomed = true;
            let id = self.databases[db].id;
            say!(self, "{id} is killed, and will be gone when it wakes");
            self.tell_writable(db);
        }
    }

    /// Tells the invariants when an instance began or ceased to take writes.
    pub(crate) fn tell_writable(&mut self, db: usize) {
        let database = &mut self.databases[db];
        let writable = database.writable();
        if writable != database.told_writable {
            database.told_writable = writable;
            let fact = Fact::Writable { instance: database.id, term: database.opened, writable };
            self.tell(fact);
        }
    }
}
