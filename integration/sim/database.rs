//! A database as Redis behaves, seen from outside: processes with sessions, each with a queue.
//!
//! Commands of one session run in order; across sessions in any order, which is seen after a
//! stall. What lies in a socket when the process is stopped runs when it wakes, whoever has given
//! up waiting. `serve.rs` runs commands, `life.rs` starts and ends processes; the model's own
//! tests repeat what was tried on Redis 7.0.15. Replication is beside it, in `replication.rs`, and
//! what MySQL does otherwise in `sql.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use sengu_core::name::{BootId, Term};
use sengu_core::observation::{InstanceState, Role, Settings, Verdict};
use sengu_core::position::{Ancestor, Position, RedisPosition};

use super::deed::Orders;
use super::fact::Id;
use super::replication::{Copy, Link};
use super::schedule::Micros;
use super::sql::{Entry, Family, Sql};
use super::world::World;

mod life;
mod serve;

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
    /// It takes writes since its own file or somebody's hand opened it, not a term.
    pub(crate) outside: bool,
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
    /// The number that a MySQL or MariaDB server writes under.
    pub(crate) server: usize,
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
    /// Its clients' account stands above read-only from then to then (MariaDB).
    pub(crate) above: (Micros, Micros),
    /// A transaction stays open on it until then.
    pub(crate) obstructed_until: Micros,
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
    /// Sessions of an account above read-only: what was granted when they began, they keep.
    above: BTreeSet<u64>,
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
    /// To a fence: read-only does not bind an account here; nothing was done.
    Unbound,
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
            server: id.number,
            log: Vec::new(),
            relay: Vec::new(),
            saved_source: None,
            id,
            host,
            address,
            starts_fenced,
            outside: false,
            priority,
            process: None,
            lives: 0,
            disk: Vec::new(),
            opened: Term(0),
            misobeys: None,
            troubled_until: 0,
            unkillable_until: 0,
            above: (0, 0),
            obstructed_until: 0,
            told_writable: false,
        }
    }

    /// Takes writes now, or will on waking.
    pub(crate) fn writable(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.open() && !process.doomed)
    }

    /// Does an account of its clients stand above read-only? MySQL's `super_read_only` binds all.
    pub(crate) fn is_above(&self, now: Micros) -> bool {
        self.family == Family::Mariadb && (self.above.0..self.above.1).contains(&now)
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
            above: BTreeSet::new(),
            working: false,
            queued: 0,
            source,
            link: Link::Down,
            copy,
            sql: None,
        }
    }

    /// Does this session write in spite of read-only?
    pub(crate) fn passes(&self, session: u64) -> bool {
        self.above.contains(&session)
    }

    /// Is anybody there who writes in spite of read-only?
    pub(crate) fn has_above(&self) -> bool {
        !self.above.is_empty()
    }

    /// Takes writes.
    fn open(&self) -> bool {
        self.sql.as_ref().map_or_else(|| self.source.is_none(), |sql| !sql.read_only)
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
            filtered: false,
            denied: false,
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
            bound: Verdict::Good,
        };
        let mut state = match &process.sql {
            Some(sql) => {
                let clients = self.acknowledging_to(db);
                process.sql_state(sql, self.now, (database.priority, clients), settings)
            }
            None => process.state(self.now, database.priority, settings),
        };
        if self.branch_stands(db) {
            state.obstacles.push("1 prepared XA branches".to_owned());
        }
        if self.now < database.obstructed_until {
            state.obstacles.push("a transaction is open for long".to_owned());
        }
        Some((state, process.boot_id.clone()))
    }
}

#[cfg(test)]
mod tests;
