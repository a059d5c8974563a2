//! A database as Redis behaves, seen from outside: processes with sessions, each with a queue.
//!
//! Commands of one session run in order; across sessions in any order, which is seen after a
//! stall. What lies in a socket when the process is stopped runs when it wakes, whoever has given
//! up waiting. The model's own tests repeat what was tried on Redis 7.0.15. Replication is beside
//! it, in `replication.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use sengu_core::name::{BootId, Term};
use sengu_core::observation::{InstanceState, Role, Settings, Verdict};
use sengu_core::position::{Ancestor, Position, RedisPosition};

use super::deed::{Back, Orders};
use super::fact::{Fact, Id};
use super::replication::{Copy, Link};
use super::schedule::{MILLI, Micros, SECOND};
use super::sql::{Entry, Family, Sql};
use super::world::{Happening, World, note, say};

/// Where a fence points an instance to: a local port that is closed and stays so.
fn closed() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// One instance: what outlives its processes.
#[derive(Debug)]
pub(crate) struct Database {
    /// Its name.
    pub(crate) id: Id,
    /// The host it runs on.
    pub(crate) host: usize,
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
    /// Its own file starts it fenced.
    pub(crate) starts_fenced: bool,
    /// Its own word on promotion.
    pub(crate) priority: u32,
    /// The process, while there is one.
    pub(crate) process: Option<Process>,
    /// How many processes there were.
    pub(crate) lives: u64,
    /// Which database it is.
    pub(crate) family: Family,
    /// The writes that a new process would read from disk.
    pub(crate) disk: Vec<u64>,
    /// The same of a MySQL server: its binary log, its relay log, its source.
    pub(crate) log: Vec<Entry>,
    pub(crate) relay: Vec<Entry>,
    pub(crate) saved_source: Option<SocketAddr>,
    /// The term under which it was last opened.
    pub(crate) opened: Term,
    /// Changing commands go wrong so, until then.
    pub(crate) misobeys: Option<(Orders, Micros)>,
    /// Something was wrong with it until then.
    pub(crate) troubled_until: Micros,
    /// Its agent may not signal it until then.
    pub(crate) unkillable_until: Micros,
    /// When the last [`Fact::Writable`] said that it takes writes.
    told_writable: bool,
}

/// One life of an instance.
#[derive(Debug)]
pub(crate) struct Process {
    /// Which life.
    pub(crate) life: u64,
    /// As agents know it.
    pub(crate) boot_id: BootId,
    /// Takes new connections.
    pub(crate) listening: bool,
    /// Stopped by a signal, or hanging in the kernel.
    pub(crate) stopped: bool,
    /// Hanging in the kernel: a kill takes effect when it wakes.
    pub(crate) frozen: bool,
    /// Killed while it hung: it runs nothing more.
    pub(crate) doomed: bool,
    /// A script that has written runs until then.
    pub(crate) busy_until: Micros,
    /// Writes are held back until then.
    paused_until: Micros,
    held: Vec<(u64, Queued)>,
    sessions: BTreeMap<u64, VecDeque<Queued>>,
    killed: BTreeSet<u64>,
    working: bool,
    /// Commands in all sessions' queues.
    queued: usize,
    /// Whom it follows.
    pub(crate) source: Option<SocketAddr>,
    /// The link to it.
    pub(crate) link: Link,
    /// Its data and history.
    pub(crate) copy: Copy,
    /// What a MySQL server has besides.
    pub(crate) sql: Option<Sql>,
}

/// What can be sent to a database.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Tell the state: probes, looks and reads over the control session.
    State,
    /// Refuse writes for good and end all other sessions.
    Fence,
    /// Stop receiving, keep the data.
    Detach,
    /// Take writes, if the process is still this one.
    Promote { boot_id: BootId, term: Term, decided: Micros },
    /// Replicate from there.
    Follow(SocketAddr),
    /// Hold writes back.
    Pause(Micros),
    /// End that.
    Unpause,
    /// Acknowledge to the source, or no more.
    Acknowledge(bool),
    /// Let commits wait for so many acknowledgements.
    Await(u32),
    /// A client's write.
    Write(u64),
    /// From the source, over the link of that epoch: entries after that offset.
    Feed { epoch: u64, after: u64, entries: Rc<[Option<u64>]> },
    /// The same of a MySQL source: transactions up to that length of its log.
    Ship { epoch: u64, entries: Rc<[Entry]>, from: usize, upto: usize },
}

/// A command in a session's queue, with the call that waits for its answer.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    call: u64,
    ask: Ask,
}

/// What comes back.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Done; this is the state after.
    State(Box<InstanceState>, BootId),
    /// The write is acknowledged.
    Acknowledged,
    /// The write is refused: read only.
    ReadOnly,
    /// A script runs.
    Busy,
    /// An error: nothing was done.
    Failed,
    /// Not this process.
    OtherLife,
    /// Nobody listens.
    Refused,
    /// The session is gone.
    Reset,
}

impl Ask {
    /// Is it an order of an agent that changes something?
    fn changes(&self) -> bool {
        match self {
            Self::Fence
            | Self::Detach
            | Self::Promote { .. }
            | Self::Follow(_)
            | Self::Acknowledge(_)
            | Self::Await(_) => true,
            Self::State
            | Self::Pause(_)
            | Self::Unpause
            | Self::Write(_)
            | Self::Feed { .. }
            | Self::Ship { .. } => false,
        }
    }
}

impl Database {
    /// An instance without a process yet.
    pub(crate) fn new(
        id: Id,
        host: usize,
        address: SocketAddr,
        family: Family,
        starts_fenced: bool,
        priority: u32,
    ) -> Self {
        Self {
            family,
            log: Vec::new(),
            relay: Vec::new(),
            saved_source: None,
            id,
            host,
            address,
            starts_fenced,
            priority,
            process: None,
            lives: 0,
            disk: Vec::new(),
            opened: Term(0),
            misobeys: None,
            troubled_until: 0,
            unkillable_until: 0,
            told_writable: false,
        }
    }

    /// Takes writes now, or will on waking.
    pub(crate) fn writable(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.open() && !process.doomed)
    }

    /// The process if it is of that life.
    pub(crate) fn life(&mut self, life: u64) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.life == life)
    }
}

impl Process {
    /// A fresh process.
    pub(crate) fn new(life: u64, boot_id: BootId, source: Option<SocketAddr>, copy: Copy) -> Self {
        Self {
            life,
            boot_id,
            listening: true,
            stopped: false,
            frozen: false,
            doomed: false,
            busy_until: 0,
            paused_until: 0,
            held: Vec::new(),
            sessions: BTreeMap::new(),
            killed: BTreeSet::new(),
            working: false,
            queued: 0,
            source,
            link: Link::Down,
            copy,
            sql: None,
        }
    }

    /// Takes writes.
    fn open(&self) -> bool {
        self.sql.as_ref().map_or(self.source.is_none(), |sql| !sql.read_only)
    }

    /// As it tells it.
    pub(crate) fn state(&self, at: Micros, priority: u32, settings: Settings) -> InstanceState {
        let position = Position::Redis(RedisPosition {
            id: history_name(self.copy.history),
            offset: self.copy.offset,
            second: self.copy.second.map(|(id, until)| Ancestor { id: history_name(id), until }),
        });
        let replica = self.source.is_some();
        InstanceState {
            role: if replica { Role::Replica } else { Role::Master },
            writable: !replica,
            source: self.source,
            link_up: matches!(self.link, Link::Up { .. }),
            syncing: matches!(self.link, Link::Copying { .. }),
            never_synced: replica
                && !matches!(self.link, Link::Up { .. })
                && !self.copy.provable
                && self.copy.data.is_empty(),
            received: position.clone(),
            applied: position,
            trouble: None,
            applier_stopped: false,
            semi_sync: None,
            obstacles: Vec::new(),
            silent_for: replica.then(|| Duration::from_micros(at - self.copy.heard)),
            priority,
            version: "7.0.15".to_owned(),
            settings,
        }
    }
}

/// A replication id as Redis spells it, shorter.
pub(crate) fn history_name(id: u64) -> String {
    format!("{id:016x}")
}

impl World {
    /// The database of that name.
    pub(crate) fn index_of(&self, id: Id) -> usize {
        let found = self.databases.iter().position(|database| database.id == id);
        found.expect("deeds name databases of their world")
    }

    /// The database of that name, to be changed.
    pub(crate) fn database_mut(&mut self, id: Id) -> &mut Database {
        let db = self.index_of(id);
        &mut self.databases[db]
    }

    /// The state of a database's process, as it would tell it now.
    pub(crate) fn state_of(&self, db: usize) -> Option<(InstanceState, BootId)> {
        let database = &self.databases[db];
        let process = database.process.as_ref()?;
        let verdict = |good: bool, text: &str| {
            if good { Verdict::Good } else { Verdict::Bad(text.to_owned()) }
        };
        let settings = Settings {
            starts_fenced: verdict(database.starts_fenced, "its file does not start it fenced"),
            killable: Verdict::Good,
            replication: Verdict::Good,
            lossless: Verdict::Good,
        };
        let state = match &process.sql {
            Some(sql) => {
                let clients = self.acknowledging_to(db);
                process.sql_state(sql, self.now, (database.priority, clients), settings)
            }
            None => process.state(self.now, database.priority, settings),
        };
        Some((state, process.boot_id.clone()))
    }

    /// A command reaches the database's host.
    pub(crate) fn arrive(&mut self, db: usize, life: u64, session: u64, call: u64, ask: Ask) {
        let reply = match self.databases[db].process.as_mut() {
            None => Some(Reply::Refused),
            Some(process) if process.life != life || process.killed.contains(&session) => {
                Some(Reply::Reset)
            }
            Some(process) if !process.listening && !process.sessions.contains_key(&session) => {
                Some(Reply::Refused)
            }
            // Nothing else waits: it runs at once.
            Some(process) if !process.stopped && !process.working && process.queued == 0 => {
                process.sessions.entry(session).or_default();
                self.execute(db, session, call, ask);
                return;
            }
            Some(process) => {
                let queue = process.sessions.entry(session).or_default();
                queue.push_back(Queued { call, ask });
                process.queued += 1;
                None
            }
        };
        match reply {
            Some(reply) => self.answer(call, reply),
            None => self.plan_work(db),
        }
    }

    /// Something may be waiting in a queue.
    pub(crate) fn plan_work(&mut self, db: usize) {
        let service_time = self.random.database.between(10, 60);
        let Some(process) = self.databases[db].process.as_mut() else { return };
        if process.working || process.stopped || process.queued == 0 {
            return;
        }
        process.working = true;
        let life = process.life;
        self.plan(service_time, Happening::Work { db, life });
    }

    /// One command of one session runs.
    pub(crate) fn work(&mut self, db: usize, life: u64) {
        let Some(process) = self.databases[db].life(life) else { return };
        process.working = false;
        if process.stopped {
            return;
        }
        let waiting: Vec<u64> = process
            .sessions
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|(session, _)| *session)
            .collect();
        if waiting.is_empty() {
            return;
        }
        let session = waiting[self.random.database.index(waiting.len())];
        let process = self.databases[db].life(life).expect("looked up above");
        let queue = process.sessions.get_mut(&session).expect("it is waiting");
        let Queued { call, ask } = queue.pop_front().expect("it is not empty");
        process.queued -= 1;
        self.execute(db, session, call, ask);
        self.plan_work(db);
    }

    fn execute(&mut self, db: usize, session: u64, call: u64, ask: Ask) {
        let now = self.now;
        let process = self.databases[db].process.as_ref().expect("a process runs the command");
        let stream = matches!(ask, Ask::Feed { .. } | Ask::Ship { .. });
        if process.busy_until > now && !stream {
            self.answer(call, Reply::Busy);
            return;
        }
        if let Some(orders) = self.databases[db].misobeys(now)
            && ask.changes()
        {
            self.misobey(db, call, &ask, orders);
            return;
        }
        let process = self.databases[db].process.as_mut().expect("a process runs the command");
        match ask {
            Ask::State => self.answer_state(db, call),
            Ask::Fence => {
                self.end_sessions(db, session);
                self.close(db);
                self.answer_state(db, call);
            }
            Ask::Detach => {
                self.detach(db);
                self.answer_state(db, call);
            }
            Ask::Acknowledge(on) => {
                if self.databases[db].family != Family::Redis {
                    self.set_acknowledges(db, on);
                }
                self.answer_state(db, call);
            }
            Ask::Await(count) => {
                if self.databases[db].family != Family::Redis {
                    self.set_awaits(db, count);
                }
                self.answer_state(db, call);
            }
            Ask::Ship { epoch, entries, from, upto } => {
                self.take_shipment(db, epoch, &entries, (from, upto));
            }
            Ask::Follow(source) => {
                self.point_to(db, source);
                self.answer_state(db, call);
            }
            Ask::Promote { boot_id, term, decided } => {
                if process.boot_id == boot_id {
                    self.promote(db, term, decided);
                    self.answer_state(db, call);
                } else {
                    self.answer(call, Reply::OtherLife);
                }
            }
            Ask::Pause(hold) => {
                process.paused_until = now + hold;
                let life = process.life;
                self.plan(hold, Happening::PauseOver { db, life });
                self.answer_state(db, call);
            }
            Ask::Unpause => {
                process.paused_until = 0;
                self.pause_over(db);
                self.answer_state(db, call);
            }
            Ask::Write(serial) => self.write(db, session, call, serial),
            Ask::Feed { epoch, after, entries } => self.take_feed(db, epoch, after, &entries),
        }
    }

    /// A changing command goes wrong.
    fn misobey(&mut self, db: usize, call: u64, ask: &Ask, orders: Orders) {
        match (orders, ask) {
            (Orders::Refuses, _) => self.answer(call, Reply::Failed),
            (Orders::Ignores, _) => self.answer_state(db, call),
            (Orders::Halves, Ask::Fence) => self.close(db),
            (Orders::Halves, Ask::Detach) => self.detach(db),
            (Orders::Halves, Ask::Follow(source)) => self.point_to(db, *source),
            (Orders::Halves | Orders::Loses, _) => {}
        }
    }

    fn answer_state(&mut self, db: usize, call: u64) {
        if let Some((state, boot_id)) = self.state_of(db) {
            self.answer(call, Reply::State(Box::new(state), boot_id));
        }
    }

    fn write(&mut self, db: usize, session: u64, call: u64, serial: u64) {
        let now = self.now;
        let database = &mut self.databases[db];
        let process = database.process.as_mut().expect("a process runs the command");
        if process.paused_until > now {
            process.held.push((session, Queued { call, ask: Ask::Write(serial) }));
            return;
        }
        if process.sql.is_some() {
            self.commit_write(db, session, call, serial);
            return;
        }
        if process.source.is_some() {
            self.answer(call, Reply::ReadOnly);
            return;
        }
        process.copy.append(Some(serial));
        database.disk.push(serial);
        let fact = Fact::Acknowledged { instance: database.id, term: database.opened, serial };
        self.tell(fact);
        self.answer(call, Reply::Acknowledged);
        self.feed(db);
    }

    /// A pause ran out: what was held back runs now.
    pub(crate) fn pause_over(&mut self, db: usize) {
        let now = self.now;
        let Some(process) = self.databases[db].process.as_mut() else { return };
        if process.paused_until > now || process.stopped {
            return;
        }
        for (session, queued) in std::mem::take(&mut process.held) {
            if !process.killed.contains(&session) {
                process.sessions.entry(session).or_default().push_back(queued);
                process.queued += 1;
            }
        }
        self.plan_work(db);
    }

    /// Ends all sessions but one: their queued commands never run.
    fn end_sessions(&mut self, db: usize, except: u64) {
        let process = self.databases[db].process.as_mut().expect("a process runs the command");
        let link = process.link.session();
        let ended: Vec<u64> = process
            .sessions
            .keys()
            .copied()
            .filter(|session| *session != except && Some(*session) != link)
            .collect();
        let mut calls = Vec::new();
        for session in ended {
            process.killed.insert(session);
            let queue = process.sessions.remove(&session).unwrap_or_default();
            process.queued -= queue.len();
            calls.extend(queue.into_iter().map(|queued| queued.call));
        }
        let held = std::mem::take(&mut process.held);
        calls.extend(held.into_iter().map(|(_, queued)| queued.call));
        for call in calls {
            self.answer(call, Reply::Reset);
        }
        self.drop_waiters(db, except);
    }

    /// Refuses writes for good.
    fn close(&mut self, db: usize) {
        if self.databases[db].family == Family::Redis {
            self.point_to(db, closed());
        } else {
            self.set_read_only(db, true);
        }
    }

    /// Stops receiving.
    fn detach(&mut self, db: usize) {
        if self.databases[db].family == Family::Redis {
            self.point_to(db, closed());
        } else {
            self.drop_link(db);
            let process = self.databases[db].process.as_mut().expect("a process runs the command");
            process.source = None;
        }
    }

    /// Opens a session ahead of its use, as an agent does for its fence.
    pub(crate) fn open_session(&mut self, db: usize, session: u64) {
        if let Some(process) = self.databases[db].process.as_mut()
            && process.listening
        {
            process.sessions.entry(session).or_default();
        }
    }

    /// A session that carries a replication stream.
    pub(crate) fn drop_session(&mut self, db: usize, session: u64) {
        if let Some(process) = self.databases[db].process.as_mut() {
            let queue = process.sessions.remove(&session).unwrap_or_default();
            process.queued -= queue.len();
            process.killed.insert(session);
        }
    }

    /// A process comes to be, from what stands on disk.
    pub(crate) fn start_process(&mut self, db: usize) {
        if self.databases[db].process.is_some() || !self.host_up(self.databases[db].host) {
            return;
        }
        let history = self.random.database.any();
        let now = self.now;
        let database = &mut self.databases[db];
        database.lives += 1;
        let life = database.lives;
        let boot_id = BootId(format!("boot{}:{}:{}", database.host, db * 100, life).into());
        let id = database.id;
        database.troubled_until = now;
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
            process.sql = Some(Sql::new(database.family, id, fenced, log, relay));
            database.process = Some(process);
        }
        let open = database.writable();
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
        self.databases[db].troubled_until = self.now;
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

#[cfg(test)]
mod tests;
