//! Asynchronous replication between the model databases, as Redis does it.
//!
//! Positions are (history, offset) with the history before it; a promotion begins a new history;
//! a replica asks for what it lacks, or gets a full copy that erases its own data. Replicas
//! reconnect by themselves; a source that is itself without a source gives nobody anything.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use sengu_core::name::Term;

use super::database::Ask;
use super::fact::Fact;
use super::schedule::{MILLI, Micros, SECOND};
use super::sql::Family;
use super::world::{Happening, World, note, say};

/// How many entries a source keeps for replicas that come back.
const BACKLOG: usize = 2000;
/// A silent link is given up after so long (`repl-timeout`).
const REPLICATION_TIMEOUT: Micros = 60 * SECOND;

/// A copy's data and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// The replication id.
    pub(crate) history: u64,
    /// How much of it.
    pub(crate) offset: u64,
    /// The history before, and the first offset not shared with it.
    pub(crate) second: Option<(u64, u64)>,
    /// All writes, in order.
    pub(crate) data: Vec<u64>,
    /// The newest entries; pings are `None`.
    backlog: VecDeque<Option<u64>>,
    /// Its data came from a source or it was opened, in this life.
    pub(crate) provable: bool,
    /// When it last heard its source.
    pub(crate) heard: Micros,
}

/// The link of a replica to its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// None.
    Down,
    /// A full copy is on its way.
    Copying {
        /// From which database, which life.
        source: (usize, u64),
        /// Of this attempt.
        epoch: u64,
    },
    /// Entries flow.
    Up {
        /// From which database, which life.
        source: (usize, u64),
        /// Of this link; also the session that it comes by.
        epoch: u64,
        /// What the source has sent.
        sent: u64,
        /// When the last of it arrives: order is kept.
        arrives: Micros,
    },
}

impl Link {
    /// The session that the stream comes by.
    pub(crate) fn session(&self) -> Option<u64> {
        match self {
            Self::Down => None,
            Self::Copying { epoch, .. } | Self::Up { epoch, .. } => Some(*epoch),
        }
    }

    /// Do entries flow?
    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }

    fn source(&self) -> Option<(usize, u64)> {
        match self {
            Self::Down => None,
            Self::Copying { source, .. } | Self::Up { source, .. } => Some(*source),
        }
    }
}

impl Copy {
    /// What a process reads from disk: the data, under a history of its own.
    pub(crate) fn from_disk(disk: &[u64], history: u64, now: Micros) -> Self {
        Self {
            history,
            offset: 0,
            second: None,
            data: disk.to_vec(),
            backlog: VecDeque::new(),
            provable: false,
            heard: now,
        }
    }

    /// One more entry.
    pub(crate) fn append(&mut self, entry: Option<u64>) {
        self.offset += 1;
        self.data.extend(entry);
        self.backlog.push_back(entry);
        if self.backlog.len() > BACKLOG {
            self.backlog.pop_front();
        }
    }

    /// Entries after an offset, if they are still kept.
    fn after(&self, offset: u64) -> Option<Vec<Option<u64>>> {
        let missing = usize::try_from(self.offset.checked_sub(offset)?).ok()?;
        let skip = self.backlog.len().checked_sub(missing)?;
        Some(self.backlog.iter().skip(skip).copied().collect())
    }

    /// May a copy that stands there go on from here, without a full copy?
    fn continues(&self, history: u64, offset: u64) -> bool {
        let known = self.history == history
            || self.second.is_some_and(|(second, until)| second == history && offset < until);
        known && self.after(offset).is_some()
    }
}

impl World {
    /// `REPLICAOF`: the link is dropped, and another is looked for.
    pub(crate) fn point_to(&mut self, db: usize, source: SocketAddr) {
        self.drop_link(db);
        let target = self.addresses.get(&source).copied();
        let database = &mut self.databases[db];
        let sql = database.family != Family::Redis;
        if sql {
            database.saved_source = Some(source);
        }
        let process = database.process.as_mut().expect("a process runs the command");
        process.source = Some(source);
        if let Some(sql) = &mut process.sql {
            sql.read_only = true;
            sql.denied = false;
        }
        process.copy.heard = self.now;
        let (instance, life) = (database.id, process.life);
        self.tell_writable(db);
        if let Some(target) = target {
            let source = Some(self.databases[target].id);
            self.tell(Fact::Followed { instance, source });
            self.plan(5 * MILLI, Happening::Connect { db, life });
        }
    }

    /// `REPLICAOF NO ONE`: a new history begins, and replicas must ask again.
    pub(crate) fn promote(&mut self, db: usize, term: Term, decided: Micros) {
        self.open(db, term, Some(decided));
    }

    /// The same, decided by an agent at a time, or by somebody's hand.
    pub(crate) fn open(&mut self, db: usize, term: Term, decided: Option<Micros>) {
        self.drop_link(db);
        let history = self.random.database.any();
        let database = &mut self.databases[db];
        let process = database.process.as_mut().expect("a process runs the command");
        let follower = process.source.take().is_some();
        let unknown = !process.copy.provable;
        if let Some(sql) = &mut process.sql {
            sql.read_only = false;
            process.copy.provable = true;
            database.saved_source = None;
        } else if follower {
            let copy = &mut process.copy;
            copy.second = Some((copy.history, copy.offset + 1));
            copy.history = history;
            copy.provable = true;
        }
        database.opened = term;
        database.outside = decided.is_none();
        let holds = process.copy.data.as_slice().into();
        let id = database.id;
        match decided {
            Some(decided) => {
                note!(self, "{id} is promoted (term {term})");
                self.tell_uncovered(db, term, unknown);
                self.tell(Fact::Promoted { instance: id, term, decided, holds });
            }
            None => note!(self, "{id} is opened by hand"),
        }
        self.tell_writable(db);
        if follower && self.databases[db].family == Family::Redis {
            self.drop_replicas(db);
        }
    }

    /// What its process holds, or its disk.
    pub(crate) fn data_of(&self, db: usize) -> Vec<u64> {
        let database = &self.databases[db];
        match &database.process {
            Some(process) => process.copy.data.clone(),
            None if database.family == Family::Redis => database.disk.clone(),
            None => database.log.iter().map(|entry| entry.serial).collect(),
        }
    }

    /// Does a copy of unknown history open although another one holds more?
    fn tell_uncovered(&mut self, db: usize, term: Term, unknown: bool) {
        let instance = self.databases[db].id;
        let mine: BTreeSet<u64> = self.data_of(db).into_iter().collect();
        if !unknown {
            return;
        }
        // No term stands behind what an instance acknowledged after its own file or somebody's
        // hand had opened it: that is told as the limit that it is. All else counts, wherever
        // it is, but for an instance that a person took out of the service.
        let counts = |write: &&u64| !mine.contains(write) && !self.outside.contains(write);
        let copy = |db: &usize| !self.parted.contains(&self.databases[*db].id);
        let copies = self.of_service(instance.service).into_iter().filter(copy);
        let more = copies.into_iter().find_map(|other| {
            let lacks = self.data_of(other).iter().filter(counts).count();
            (lacks > 0).then_some((self.databases[other].id, lacks))
        });
        if let Some((other, lacks)) = more {
            self.tell(Fact::Uncovered { instance, term, other, lacks });
        }
    }

    /// Each second a replica looks after its link.
    pub(crate) fn replica_cron(&mut self, db: usize, life: u64) {
        let jitter = self.random.database.between(900, 1100);
        if self.databases[db].life(life).is_none() {
            return;
        }
        self.plan(jitter * MILLI, Happening::ReplicaCron { db, life });
        let process = self.databases[db].life(life).expect("looked up above");
        if process.stopped {
            return;
        }
        let silent = self.now - process.copy.heard > REPLICATION_TIMEOUT;
        let lost = process.link.source().is_some_and(|(source, life)| {
            let alive = self.databases[source].process.as_ref().map(|process| process.life);
            // A reset comes back only if the source's host answers at all.
            self.reaches(self.databases[db].host, self.databases[source].host)
                && alive != Some(life)
        });
        if silent || lost {
            self.drop_link(db);
        }
        self.connect(db, life);
    }

    /// A replica without a link asks its source for one.
    pub(crate) fn connect(&mut self, db: usize, life: u64) {
        let Some(process) = self.databases[db].life(life) else { return };
        let denied = process.sql.as_ref().is_some_and(|sql| sql.denied);
        if process.stopped || process.link != Link::Down || denied {
            return;
        }
        let (history, offset) = (process.copy.history, process.copy.offset);
        let Some(source) = process.source.and_then(|address| self.addresses.get(&address)) else {
            return;
        };
        let source = *source;
        if source == db || !self.reaches(self.databases[db].host, self.databases[source].host) {
            return;
        }
        let now = self.now;
        let Some(from) = self.databases[source].process.as_ref() else { return };
        let sql = from.sql.is_some();
        let unlinked = !sql && from.source.is_some() && !from.link.is_up();
        if !from.listening || from.stopped || from.busy_until > now || unlinked {
            return;
        }
        let (at, partial) = ((source, from.life), from.copy.continues(history, offset));
        let renamed = from.copy.history;
        let epoch = self.number();
        if sql {
            self.link_sql(db, at, epoch);
        } else if partial {
            self.resume_link(db, at, epoch, renamed);
        } else {
            self.begin_copy(db, at, epoch);
        }
    }

    fn resume_link(&mut self, db: usize, source: (usize, u64), epoch: u64, renamed: u64) {
        let now = self.now;
        let id = self.databases[db].id;
        let process = self.databases[db].process.as_mut().expect("it asked");
        let copy = &mut process.copy;
        let changed = copy.history != renamed;
        if changed {
            copy.second = Some((copy.history, copy.offset + 1));
            copy.history = renamed;
        }
        copy.provable = true;
        copy.heard = now;
        process.link = Link::Up { source, epoch, sent: copy.offset, arrives: now };
        let from = self.databases[source.0].id;
        say!(self, "{id} goes on replicating from {from}");
        self.open_session(db, epoch);
        if changed {
            self.drop_replicas(db);
        }
        self.feed(source.0);
    }

    fn begin_copy(&mut self, db: usize, source: (usize, u64), epoch: u64) {
        let slow = if self.options.slow_copies { 12 * SECOND } else { SECOND };
        let wait = self.random.database.skewed(150 * MILLI, slow);
        let (id, from) = (self.databases[db].id, self.databases[source.0].id);
        let process = self.databases[db].process.as_mut().expect("it asked");
        process.link = Link::Copying { source, epoch };
        process.copy.heard = self.now;
        let life = process.life;
        say!(self, "{id} begins a full copy from {from}");
        self.plan(wait, Happening::CopyDone { db, life, epoch });
    }

    /// A full copy is complete, if its source is still there; else half of something is left.
    pub(crate) fn copy_done(&mut self, db: usize, life: u64, epoch: u64) {
        let halved = self.random.database.permille(300);
        let history = self.random.database.any();
        let now = self.now;
        let Some(process) = self.databases[db].life(life) else { return };
        let Link::Copying { source, epoch: current } = process.link else { return };
        if current != epoch {
            return;
        }
        let reaches = self.reaches(self.databases[db].host, self.databases[source.0].host);
        let from = self.databases[source.0].life(source.1).filter(|from| !from.stopped && reaches);
        let copy = from.map(|from| Copy {
            second: None,
            backlog: VecDeque::new(),
            provable: true,
            heard: now,
            ..from.copy.clone()
        });
        let id = self.databases[db].id;
        let database = &mut self.databases[db];
        let process = database.process.as_mut().expect("looked up above");
        let Some(copy) = copy else {
            process.link = Link::Down;
            if halved {
                process.copy = Copy::from_disk(&[], history, now);
                database.disk.clear();
            }
            say!(self, "{id} could not finish its full copy");
            return;
        };
        database.disk.clone_from(&copy.data);
        let sent = copy.offset;
        process.copy = copy;
        process.link = Link::Up { source, epoch, sent, arrives: now };
        note!(self, "{id} has a full copy of {}", self.databases[source.0].id);
        self.open_session(db, epoch);
        self.tell(Fact::Received { instance: id, life });
        self.drop_replicas(db);
        self.feed(source.0);
    }

    /// A source sends its replicas what they lack.
    pub(crate) fn feed(&mut self, source: usize) {
        let Some(from) = self.databases[source].process.as_ref() else { return };
        if from.stopped {
            return;
        }
        let at = (source, from.life);
        for db in self.replicas_of(at) {
            if !self.reaches(self.databases[db].host, self.databases[source].host) {
                continue;
            }
            if self.databases[source].family != Family::Redis {
                let process = self.databases[db].process.as_ref().expect("it is linked");
                if let Link::Up { sent, .. } = process.link {
                    self.ship(source, db, usize::try_from(sent).unwrap_or(usize::MAX));
                }
                continue;
            }
            let local = self.databases[db].host == self.databases[source].host;
            let latency = self.latency(local);
            let from = self.databases[source].process.as_ref().expect("looked up above");
            let offset = from.copy.offset;
            let process = self.databases[db].process.as_ref().expect("it is linked");
            let Link::Up { sent, epoch, arrives, .. } = process.link else { continue };
            let life = process.life;
            let Some(entries) = from.copy.after(sent) else {
                self.drop_link(db);
                continue;
            };
            if entries.is_empty() {
                continue;
            }
            let arrives = arrives.max(self.now + latency) + 1;
            let process = self.databases[db].process.as_mut().expect("it is linked");
            process.link = Link::Up { source: at, epoch, sent: offset, arrives };
            let ask = Ask::Feed { epoch, after: sent, entries: entries.into() };
            let wait = arrives - self.now;
            self.plan(wait, Happening::Arrive { db, life, session: epoch, call: 0, ask });
        }
    }

    /// May a feed that arrives now come through? It is sent again while the path is cut.
    pub(crate) fn feed_passes(&mut self, db: usize) -> Option<bool> {
        let process = self.databases[db].process.as_ref()?;
        let (source, _) = process.link.source()?;
        let from = self.databases[source].host;
        if !self.host_up(from) {
            return None;
        }
        Some(self.reaches(self.databases[db].host, from))
    }

    /// A replica takes entries from its source.
    pub(crate) fn take_feed(&mut self, db: usize, epoch: u64, after: u64, entries: &[Option<u64>]) {
        let now = self.now;
        let database = &mut self.databases[db];
        let process = database.process.as_mut().expect("a process runs the command");
        if process.link.session() != Some(epoch) {
            return;
        }
        if process.copy.offset != after {
            self.drop_link(db);
            return;
        }
        for entry in entries {
            process.copy.append(*entry);
            database.disk.extend(*entry);
        }
        process.copy.heard = now;
        let fact = Fact::Received { instance: database.id, life: process.life };
        self.tell(fact);
        self.feed(db);
    }

    /// A master with replicas sends something now and then.
    pub(crate) fn ping(&mut self, db: usize, life: u64) {
        let Some(process) = self.databases[db].life(life) else { return };
        let feeds = process.source.is_none() && !process.stopped && process.sql.is_none();
        if feeds && !self.replicas_of((db, life)).is_empty() {
            let process = self.databases[db].life(life).expect("looked up above");
            process.copy.append(None);
            self.feed(db);
        }
        self.plan(10 * SECOND, Happening::Ping { db, life });
    }

    /// A process ended: its replicas hear of it, if they can.
    pub(crate) fn source_gone(&mut self, source: usize, life: u64) {
        for db in self.replicas_of((source, life)) {
            if self.host_up(self.databases[source].host)
                && self.reaches(self.databases[db].host, self.databases[source].host)
            {
                self.lose_link(db);
            }
        }
    }

    /// A source closes the links of all its replicas; they ask again.
    fn drop_replicas(&mut self, source: usize) {
        let Some(process) = self.databases[source].process.as_ref() else { return };
        for db in self.replicas_of((source, process.life)) {
            self.lose_link(db);
        }
    }

    /// The end of a link arrives behind what was sent before it.
    fn lose_link(&mut self, db: usize) {
        let process = self.databases[db].process.as_ref().expect("it is linked");
        let arrives = match process.link {
            Link::Up { arrives, .. } => arrives,
            Link::Down | Link::Copying { .. } => 0,
        };
        let Some(epoch) = process.link.session() else { return };
        let life = process.life;
        let wait = arrives.max(self.now + MILLI) - self.now + 1;
        self.plan(wait, Happening::LinkLost { db, life, epoch });
    }

    /// The end of a link has arrived.
    pub(crate) fn link_lost(&mut self, db: usize, life: u64, epoch: u64) {
        let Some(process) = self.databases[db].life(life) else { return };
        if process.link.session() == Some(epoch) {
            self.drop_link(db);
        }
    }

    pub(crate) fn drop_link(&mut self, db: usize) {
        let process = self.databases[db].process.as_mut().expect("it has a link to drop");
        let session = process.link.session();
        process.link = Link::Down;
        if let Some(session) = session {
            self.drop_session(db, session);
        }
    }

    pub(crate) fn replicas_of(&self, source: (usize, u64)) -> Vec<usize> {
        let linked = |db: &usize| {
            let process = self.databases[*db].process.as_ref();
            process.is_some_and(|process| process.link.source() == Some(source))
        };
        (0..self.databases.len()).filter(linked).collect()
    }
}
