//! What an agent sees of its own instances: the answer of one role probe and the process behind.
//!
//! Slow is not dead and refused is not dead: the ways of not answering are told apart here, once,
//! and everything that judges matches on them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::BootId;
use crate::position::{Covering, Position};

/// `master` follows nobody, `replica` has a replication source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Follows nobody.
    Master,
    /// Has a replication source, reachable or not.
    Replica,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Replica => "replica",
        })
    }
}

/// One look at an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The process behind the address, if it was found on this host.
    pub boot_id: Option<BootId>,
    /// What it answered.
    pub answer: Answer,
    /// What its process does.
    pub process: Process,
}

/// What a role probe brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It told its state.
    State(InstanceState),
    /// It reads its data from disk: alive.
    Loading,
    /// It runs a script: alive.
    Busy,
    /// Wrong or missing password: alive.
    AuthFailed(String),
    /// No connection left: alive.
    TooManyClients,
    /// Nobody listens. Refused is not dead.
    Refused,
    /// No answer in time. Slow is not dead.
    Silent,
    /// Anything else, without secrets.
    Error(String),
}

/// What the process behind an instance does, by `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Process {
    /// Not looked at, or not found on this host.
    #[default]
    Unknown,
    /// Running, or used CPU since the last look, or has a child that does (a saving fork).
    Running,
    /// Waits, idle.
    Sleeping,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Waits for a disk.
    DiskWait,
    /// Has exited.
    Gone,
}

/// The state of an instance, as it told it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceState {
    /// Follows somebody or not.
    pub role: Role,
    /// Takes writes from clients.
    pub writable: bool,
    /// Whom it follows. `None` also where a source is configured and the receiver was stopped on
    /// purpose (MySQL, MariaDB): it follows nobody until it is told to.
    pub source: Option<SocketAddr>,
    /// The link to its source is up and in step (Redis `connected`).
    pub link_up: bool,
    /// A full copy from its source is under way.
    pub syncing: bool,
    /// Its data came from no source and it is no master: nothing to promote.
    pub never_synced: bool,
    /// How far it has received; always includes what it has applied.
    pub received: Position,
    /// How far it has applied; what counts once it was detached.
    pub applied: Position,
    /// Why its replication does not go on although it should, in words: a receiver or an applier
    /// that stopped with an error; or what makes it no whole copy although it goes on.
    pub trouble: Option<String>,
    /// It leaves out some of what it receives, and its position says that it has all (MySQL,
    /// MariaDB: a replication filter). Its `trouble` says which.
    #[serde(default)]
    pub filtered: bool,
    /// Its source sends it nothing, because it has transactions that the source lacks (MySQL,
    /// MariaDB: error 1236). Only other data mends that.
    #[serde(default)]
    pub denied: bool,
    /// Its applier is stopped (MySQL, MariaDB): what it received stays unapplied.
    pub applier_stopped: bool,
    /// Semi-synchronous replication as it stands now, where the database has it.
    pub semi_sync: Option<SemiSync>,
    /// What would hold up or break a planned move now, in words: long transactions, prepared XA
    /// branches, table locks, running DDL. At most [`OBSTACLES`].
    pub obstacles: Vec<String>,
    /// Time since it last heard its source.
    pub silent_for: Option<Duration>,
    /// The server's own word on promotion (Redis `replica-priority`); 0 is never.
    pub priority: u32,
    /// Version, as it told it.
    pub version: String,
    /// Facts that change with its configuration only.
    pub settings: Settings,
}

/// So many obstacles are told at most.
pub const OBSTACLES: usize = 8;

/// Semi-synchronous replication on one server: both of its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct SemiSync {
    /// As a master: each commit waits for so many acknowledgements; 0: it does not wait.
    pub awaits: u32,
    /// As a copy: it acknowledges what it receives.
    pub acknowledges: bool,
    /// As a master: so many acknowledging copies are attached now.
    pub clients: u32,
    /// As a master: so many sessions wait for an acknowledgement now.
    pub waiting: u32,
}

/// What `auto` asks of an instance besides its role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Settings {
    /// Its own file starts it fenced.
    pub starts_fenced: Verdict,
    /// The agent may signal its process.
    pub killable: Verdict,
    /// It is set up so that mastership can move: GTIDs, binary log, no filters, grants (Redis:
    /// good).
    pub replication: Verdict,
    /// It is set up so that `loss = "none"` holds: semi-sync that never falls back, durable logs.
    pub lossless: Verdict,
    /// Read-only binds every account that could write there; if not, only the end of its process
    /// is a fence (Redis, MySQL: good).
    pub bound: Verdict,
}

impl Settings {
    /// The same, with what was judged before where nothing was looked at yet.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        let or = |now: Verdict, before| if now == Verdict::Unknown { before } else { now };
        Self {
            starts_fenced: or(self.starts_fenced, before.starts_fenced),
            killable: or(self.killable, before.killable),
            replication: or(self.replication, before.replication),
            lossless: or(self.lossless, before.lossless),
            bound: or(self.bound, before.bound),
        }
    }
}

/// Good, or what is wrong and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// As it should be.
    Good,
    /// Not so: the reason and the way out, for an operator.
    Bad(String),
}

impl Verdict {
    /// As it should be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        *self == Self::Good
    }
}

impl InstanceState {
    /// How far this copy has come once it receives nothing more: MySQL and MariaDB apply what they
    /// received, Redis throws away what it had not applied.
    #[must_use]
    pub fn held(&self) -> &Position {
        match &self.applied {
            Position::Redis(_) => &self.applied,
            Position::Mysql(_) | Position::Mariadb(_) => &self.received,
        }
    }

    /// What it received and has not applied, in words: "3 transactions"; none if that is nothing.
    #[must_use]
    pub fn unapplied(&self) -> Option<String> {
        match self.applied.covers(&self.received) {
            Covering::Covers(_) => None,
            Covering::Lacks(count) => Some(format!("{count} {}", self.applied.unit())),
            Covering::Incomparable => Some("something".to_owned()),
        }
    }
}

impl Answer {
    /// The state, if it told one.
    #[must_use]
    pub fn state(&self) -> Option<&InstanceState> {
        if let Self::State(state) = self { Some(state) } else { None }
    }

    /// Does this answer prove that the server is alive?
    #[must_use]
    pub fn alive(&self) -> bool {
        match self {
            Self::State(_)
            | Self::Loading
            | Self::Busy
            | Self::AuthFailed(_)
            | Self::TooManyClients => true,
            Self::Refused | Self::Silent | Self::Error(_) => false,
        }
    }
}
