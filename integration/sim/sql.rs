//! MySQL and MariaDB as they look from outside: GTIDs, a binary log, a receiver and an applier
//! apart, read-only apart from the role, semi-synchronous commits.
//!
//! A commit is in the log before it is acknowledged; where it must wait, it waits until so many
//! copies said that they received it, or until somebody turns the waiting off. A killed session's
//! commit stays in the log and is acknowledged to nobody. Logs are durable; settings made at run
//! time are gone after a restart. Never models: filters, purged logs, several domains.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use sengu_core::observation::{InstanceState, Role, SemiSync, Settings, Verdict};
use sengu_core::position::{MariadbPosition, MysqlPosition, Position};

use super::database::{Ask, Reply};
use super::deed::{Back, Data};
use super::fact::Fact;
use super::replication::Link;
use super::schedule::{MILLI, Micros};
use super::world::{Happening, World, note, say};

/// Which database a world has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Redis or Valkey.
    Redis,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

/// One transaction of a binary log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Which server wrote it.
    server: usize,
    /// Its number: of that server (MySQL), or of the whole log (MariaDB).
    number: u64,
    /// The client's write.
    pub(crate) serial: u64,
}

/// A commit that waits for acknowledgements.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    session: u64,
    call: u64,
    serial: u64,
    /// The length of the log with it.
    upto: usize,
}

/// What a process has besides a Redis one.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    family: Family,
    /// Its own number as a server.
    server: usize,
    pub(crate) read_only: bool,
    /// Applied, in order: the binary log.
    pub(crate) log: Vec<Entry>,
    /// Received and not applied.
    pub(crate) relay: Vec<Entry>,
    /// The highest number of each server in the log.
    applied: BTreeMap<usize, u64>,
    received: BTreeMap<usize, u64>,
    /// How much of its source's log came over the link so far: order is kept.
    come: usize,
    /// Its source refused it, because it has what the source lacks: it does not ask again.
    pub(crate) denied: bool,
    /// The applier is stopped until then, or, if it is busy, works on one transaction.
    pub(crate) applies_nothing_until: Micros,
    pub(crate) applier_busy: bool,
    /// Commits wait for so many acknowledgements.
    awaits: u32,
    /// It acknowledges; takes effect when the receiver connects.
    acknowledges: bool,
    waiters: Vec<Waiter>,
    /// When an agent's fence last closed it, in this life.
    pub(crate) fenced: Option<Micros>,
    /// What copies said that they received: the length of this log.
    acknowledged: BTreeMap<usize, usize>,
}

/// The UUID of a server.
fn uuid(server: usize) -> String {
    format!("{:08x}-0000-0000-0000-000000000000", server + 1)
}

fn number_of(server: usize) -> u32 {
    u32::try_from(server + 1).unwrap_or(u32::MAX)
}

impl Sql {
    /// A fresh process with what its disk holds.
    pub(crate) fn new(
        family: Family,
        server: usize,
        read_only: bool,
        log: Vec<Entry>,
        relay: Vec<Entry>,
    ) -> Self {
        let mut applied = BTreeMap::new();
        for entry in &log {
            applied.insert(entry.server, entry.number);
        }
        let mut received = applied.clone();
        for entry in &relay {
            received.insert(entry.server, entry.number);
        }
        Self {
            family,
            server,
            read_only,
            log,
            relay,
            received,
            applied,
            come: 0,
            denied: false,
            applies_nothing_until: 0,
            applier_busy: false,
            awaits: 0,
            acknowledges: false,
            waiters: Vec::new(),
            fenced: None,
            acknowledged: BTreeMap::new(),
        }
    }

    fn position(&self, of: &BTreeMap<usize, u64>) -> Position {
        if self.family == Family::Mariadb {
            let state = of.iter().map(|(at, number)| ((0, number_of(*at)), *number)).collect();
            return Position::Mariadb(MariadbPosition { server: number_of(self.server), state });
        }
        let set = of.iter().map(|(at, number)| (uuid(*at), (1, *number))).collect();
        Position::Mysql(MysqlPosition { server: uuid(self.server), set })
    }

    /// What it received, in the words of its family: MariaDB names only the last of it, whoever
    /// wrote that (`Gtid_IO_Pos`), beside what it has applied.
    pub(crate) fn received(&self) -> Position {
        if self.family != Family::Mariadb {
            return self.position(&self.received);
        }
        let mut told = self.applied.clone();
        if let Some(last) = self.relay.last() {
            let known = told.entry(last.server).or_insert(0);
            *known = last.number.max(*known);
        }
        self.position(&told)
    }

    fn next(&self) -> Entry {
        let number = if self.family == Family::Mariadb {
            self.applied.values().copied().max().unwrap_or(0) + 1
        } else {
            self.applied.get(&self.server).copied().unwrap_or(0) + 1
        };
        Entry { server: self.server, number, serial: 0 }
    }

    /// The calls of commits that wait.
    pub(crate) fn waiting_calls(&self) -> Vec<u64> {
        self.waiters.iter().map(|waiter| waiter.call).collect()
    }

    fn has(&self, entry: &Entry) -> bool {
        self.received.get(&entry.server).is_some_and(|number| *number >= entry.number)
    }

    /// `gtid_strict_mode`: MariaDB's applier stops (error 1950) at a number that its domain has
    /// passed by a transaction of somebody else.
    fn stops_at(&self, entry: &Entry) -> bool {
        self.family == Family::Mariadb
            && self.applied.values().any(|number| *number >= entry.number)
    }

    /// What its applier says, if it stopped by itself.
    fn trouble(&self) -> Option<String> {
        let entry = self.relay.first().filter(|entry| self.stops_at(entry))?;
        let (server, number) = (number_of(entry.server), entry.number);
        Some(format!("the applier stopped: 0-{server}-{number} is out of order (1950)"))
    }

    fn apply(&mut self, entry: Entry) {
        self.applied.insert(entry.server, entry.number);
        let received = self.received.entry(entry.server).or_insert(0);
        *received = entry.number.max(*received);
        self.log.push(entry);
    }

    /// Does a copy have what this source lacks? MySQL looks for more under the source's own name,
    /// MariaDB for the last transaction that the copy has.
    fn denies(&self, copy: &Self) -> bool {
        match self.family {
            Family::Mariadb => {
                let last = copy.received.iter().max_by_key(|(_, number)| **number);
                last.is_some_and(|(server, number)| {
                    !self.log.iter().any(|it| (it.server, it.number) == (*server, *number))
                })
            }
            Family::Mysql | Family::Redis => {
                let of_it = |numbers: &BTreeMap<usize, u64>| numbers.get(&self.server).copied();
                of_it(&copy.received) > of_it(&self.applied)
            }
        }
    }

    /// How many commits may be acknowledged by now: up to this length of the log.
    fn released(&self) -> usize {
        let awaits = usize::try_from(self.awaits).unwrap_or(usize::MAX);
        if awaits == 0 {
            return self.log.len();
        }
        let mut reached: Vec<usize> = self.acknowledged.values().copied().collect();
        reached.sort_unstable_by(|a, b| b.cmp(a));
        reached.get(awaits - 1).copied().unwrap_or(0)
    }
}

impl super::database::Process {
    /// As a MySQL or MariaDB server tells it.
    pub(crate) fn sql_state(
        &self,
        sql: &Sql,
        at: Micros,
        (priority, clients): (u32, u32),
        settings: Settings,
    ) -> InstanceState {
        let source = self.source;
        let waiting = u32::try_from(sql.waiters.len()).unwrap_or(u32::MAX);
        InstanceState {
            role: if source.is_some() { Role::Replica } else { Role::Master },
            writable: !sql.read_only,
            source,
            link_up: self.link.is_up(),
            syncing: false,
            never_synced: false,
            received: sql.received(),
            applied: sql.position(&sql.applied),
            trouble: sql.trouble(),
            filtered: false,
            denied: sql.denied,
            applier_stopped: at < sql.applies_nothing_until && !sql.applier_busy
                || sql.trouble().is_some(),
            semi_sync: Some(SemiSync {
                awaits: sql.awaits,
                acknowledges: sql.acknowledges,
                clients,
                waiting,
            }),
            obstacles: Vec::new(),
            silent_for: source.map(|_| Duration::from_micros(at - self.copy.heard)),
            priority,
            version: "8.4.0".to_owned(),
            settings: Settings { replication: Verdict::Good, lossless: Verdict::Good, ..settings },
        }
    }
}

impl World {
    fn sql(&mut self, db: usize) -> &mut Sql {
        let process = self.databases[db].process.as_mut().expect("a process runs the command");
        process.sql.as_mut().expect("a MySQL world")
    }

    /// So many attached copies acknowledge to this one.
    pub(crate) fn acknowledging_to(&self, db: usize) -> u32 {
        let Some(life) = self.databases[db].process.as_ref().map(|it| it.life) else { return 0 };
        let replicas = self.replicas_of((db, life)).into_iter().filter(|replica| {
            let process = self.databases[*replica].process.as_ref();
            let sql = process.and_then(|process| process.sql.as_ref());
            sql.is_some_and(|sql| sql.acknowledges)
        });
        u32::try_from(replicas.count()).unwrap_or(u32::MAX)
    }

    /// A client's write: in the log at once, acknowledged when enough copies have it.
    pub(crate) fn commit_write(&mut self, db: usize, session: u64, call: u64, serial: u64) {
        let closed = self.sql(db).read_only;
        let passes = self.databases[db].process.as_ref().is_some_and(|it| it.passes(session));
        if closed && !passes {
            self.answer(call, Reply::ReadOnly);
            return;
        }
        if closed {
            self.tell_above(db);
        }
        let upto = self.log_entry(db, serial);
        self.sql(db).waiters.push(Waiter { session, call, serial, upto });
        if self.databases[db].outside || closed {
            // No term stands behind it, nor behind what its number hides from now on.
            self.outside.insert(serial);
            let hidden = self.hidden_by_last(db);
            self.outside.extend(hidden);
        }
        self.release_waiters(db);
        self.feed(db);
    }

    /// What others have under the number that this server just gave: one that was emptied, and is
    /// open without a term, gives numbers again, and never fetches what they stood for.
    fn hidden_by_last(&self, db: usize) -> Vec<u64> {
        let Some(last) = self.databases[db].log.last().copied() else { return Vec::new() };
        let others = self.databases.iter().flat_map(|database| &database.log);
        let same = others.filter(|it| (it.server, it.number) == (last.server, last.number));
        same.map(|it| it.serial).filter(|serial| *serial != last.serial).collect()
    }

    /// One more transaction of its own, in the log and in the data; gives the log's length.
    pub(crate) fn log_entry(&mut self, db: usize, serial: u64) -> usize {
        let sql = self.sql(db);
        let entry = Entry { serial, ..sql.next() };
        sql.apply(entry);
        let upto = sql.log.len();
        self.databases[db].log.push(entry);
        let process = self.databases[db].process.as_mut().expect("a process runs the command");
        process.copy.data.push(serial);
        upto
    }

    /// Acknowledges what may be acknowledged.
    fn release_waiters(&mut self, db: usize) {
        let sql = self.sql(db);
        let upto = sql.released();
        let (ready, waiting): (Vec<Waiter>, Vec<Waiter>) =
            std::mem::take(&mut sql.waiters).into_iter().partition(|waiter| waiter.upto <= upto);
        sql.waiters = waiting;
        for waiter in ready {
            let database = &self.databases[db];
            let fact = Fact::Acknowledged {
                instance: database.id,
                term: database.opened,
                serial: waiter.serial,
            };
            self.tell(fact);
            self.answer(waiter.call, Reply::Acknowledged);
        }
    }

    /// Sessions were ended: their commits stay in the log and are acknowledged to nobody.
    pub(crate) fn drop_waiters(&mut self, db: usize, except: u64) {
        let process = self.databases[db].process.as_mut().expect("a process runs the command");
        let Some(sql) = process.sql.as_mut() else { return };
        let (kept, ended): (Vec<Waiter>, Vec<Waiter>) = std::mem::take(&mut sql.waiters)
            .into_iter()
            .partition(|waiter| waiter.session == except);
        sql.waiters = kept;
        for waiter in ended {
            self.answer(waiter.call, Reply::Reset);
        }
    }

    /// Commits wait for so many acknowledgements from now on; 0 lets all go on that wait.
    pub(crate) fn set_awaits(&mut self, db: usize, count: u32) {
        self.sql(db).awaits = count;
        self.release_waiters(db);
    }

    /// The copy acknowledges from its next connection on, which is made at once; or no more.
    pub(crate) fn set_acknowledges(&mut self, db: usize, on: bool) {
        if self.sql(db).acknowledges != on {
            self.sql(db).acknowledges = on;
            self.relink(db);
        }
    }

    fn relink(&mut self, db: usize) {
        self.drop_link(db);
        let process = self.databases[db].process.as_ref().expect("a process runs the command");
        let life = process.life;
        self.plan(5 * MILLI, Happening::Connect { db, life });
    }

    /// What a copy lacks of its source's log, and ships it.
    pub(crate) fn ship(&mut self, source: usize, replica: usize, from: usize) {
        let process = self.databases[source].process.as_ref().expect("it feeds");
        let Some(sql) = process.sql.as_ref() else { return };
        let entries: Rc<[Entry]> = sql.log[from.min(sql.log.len())..].into();
        let (upto, at) = (sql.log.len(), (source, process.life));
        let local = self.databases[replica].host == self.databases[source].host;
        let latency = self.latency(local);
        let now = self.now;
        let process = self.databases[replica].process.as_mut().expect("it is linked");
        let Link::Up { epoch, arrives, .. } = process.link else { return };
        if entries.is_empty() {
            return;
        }
        let arrives = arrives.max(now + latency) + 1;
        process.link = Link::Up { source: at, epoch, sent: upto as u64, arrives };
        let life = process.life;
        let ask = Ask::Ship { epoch, entries, from, upto };
        let (wait, session) = (arrives - now, epoch);
        self.plan(wait, Happening::Arrive { db: replica, life, session, call: 0, ask });
    }

    /// A copy receives transactions, applies what it may, and acknowledges.
    pub(crate) fn take_shipment(
        &mut self,
        db: usize,
        epoch: u64,
        entries: &[Entry],
        (begin, upto): (usize, usize),
    ) {
        let now = self.now;
        let database = &mut self.databases[db];
        let process = database.process.as_mut().expect("a process runs the command");
        let Link::Up { source, epoch: current, .. } = process.link else { return };
        if current != epoch {
            return;
        }
        process.copy.heard = now;
        let sql = process.sql.as_mut().expect("a MySQL world");
        if begin != sql.come {
            // One that was held up was overtaken: the connection is made anew.
            self.relink(db);
            return;
        }
        sql.come = upto;
        for entry in entries {
            if !sql.has(entry) {
                sql.received.insert(entry.server, entry.number);
                sql.relay.push(*entry);
            }
        }
        let acknowledges = sql.acknowledges;
        let fact = Fact::Received { instance: database.id, life: process.life };
        self.tell(fact);
        self.apply_relay(db);
        if acknowledges {
            self.plan_acknowledgement(db, epoch, source, upto);
        }
        self.feed(db);
    }

    /// The applier works through what was received.
    pub(crate) fn apply_relay(&mut self, db: usize) {
        let now = self.now;
        let database = &mut self.databases[db];
        let Some(process) = database.process.as_mut() else { return };
        let Some(sql) = process.sql.as_mut() else { return };
        if now < sql.applies_nothing_until || process.stopped {
            return;
        }
        let relay = std::mem::take(&mut sql.relay);
        let mut entries = relay.into_iter();
        while let Some(entry) = entries.next() {
            if sql.stops_at(&entry) {
                sql.relay = std::iter::once(entry).chain(entries).collect();
                return;
            }
            sql.apply(entry);
            process.copy.data.push(entry.serial);
            database.log.push(entry);
        }
    }

    /// `RESET REPLICA ALL`, and a new start: what was received and not applied is gone.
    pub(crate) fn drop_relay(&mut self, db: usize) {
        note!(self, "a person drops what {} did not apply", self.databases[db].id);
        self.end_process(db, "a person starts it again");
        self.databases[db].relay.clear();
        self.databases[db].saved_source = None;
        self.plan_restart(db, Back::After(200 * MILLI, Data::Kept));
    }

    fn plan_acknowledgement(
        &mut self,
        db: usize,
        epoch: u64,
        (source, life): (usize, u64),
        upto: usize,
    ) {
        let local = self.databases[db].host == self.databases[source].host;
        let wait = self.latency(local);
        let happening = Happening::Acknowledgement { source, life, replica: db, epoch, upto };
        self.plan(wait, happening);
    }

    /// A copy's acknowledgement arrives at its source.
    pub(crate) fn acknowledgement(
        &mut self,
        (source, life): (usize, u64),
        replica: usize,
        epoch: u64,
        upto: usize,
    ) {
        let reaches = self.reaches(self.databases[replica].host, self.databases[source].host);
        let linked = self.databases[replica].process.as_ref();
        let linked = linked.is_some_and(|process| process.link.session() == Some(epoch));
        let Some(process) = self.databases[source].life(life).filter(|_| linked) else { return };
        if !reaches || process.stopped {
            let again = Happening::Acknowledgement { source, life, replica, epoch, upto };
            self.plan(50 * MILLI, again);
            return;
        }
        let sql = process.sql.as_mut().expect("a MySQL world");
        let reached = sql.acknowledged.entry(replica).or_insert(0);
        *reached = upto.max(*reached);
        self.release_waiters(source);
    }

    /// Read-only or not.
    pub(crate) fn set_read_only(&mut self, db: usize, read_only: bool) {
        self.sql(db).read_only = read_only;
        self.tell_writable(db);
    }

    /// A copy's link to its source stands: it gets what it lacks.
    pub(crate) fn link_sql(&mut self, db: usize, source: (usize, u64), epoch: u64) {
        let now = self.now;
        let (lacks, denied) = {
            let from = self.databases[source.0].process.as_ref().and_then(|it| it.sql.as_ref());
            let mine = self.databases[db].process.as_ref().and_then(|it| it.sql.as_ref());
            let (from, mine) = (from.expect("a MySQL world"), mine.expect("a MySQL world"));
            let lacks = from.log.iter().position(|entry| !mine.has(entry));
            (lacks.unwrap_or(from.log.len()), from.denies(mine))
        };
        let (id, from) = (self.databases[db].id, self.databases[source.0].id);
        if denied {
            self.sql(db).denied = true;
            say!(self, "{from} refuses {id}, which has what {from} lacks");
            return;
        }
        let process = self.databases[db].process.as_mut().expect("it asked");
        process.copy.heard = now;
        process.copy.provable = true;
        process.link = Link::Up { source, epoch, sent: lacks as u64, arrives: now };
        if let Some(sql) = &mut process.sql {
            sql.come = lacks;
        }
        say!(self, "{id} replicates from {from}, from {lacks} on");
        self.open_session(db, epoch);
        let acknowledges = self.sql(db).acknowledges;
        if acknowledges {
            // What it has of that log already it acknowledges by position.
            self.plan_acknowledgement(db, epoch, source, lacks);
        }
        self.ship(source.0, db, lacks);
    }
}
