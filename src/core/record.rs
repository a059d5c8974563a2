//! The stored facts: one type for each kind of record, and where it stands in the store.
//!
//! Records are JSON with a format version; fields that this version does not know are kept, so
//! that agents of two versions can share a store.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kv::Key;
use crate::name::{BootId, HostName, InstanceName, ServiceName, Term};
use crate::observation::{Process, Role, SemiSync, Verdict};
use crate::policy::{DatabaseKind, Policy};
use crate::position::Position;
use crate::sabotage::sabotaged;
use crate::time::{Time, Wall};

/// The format that this version writes.
pub const FORMAT: u32 = 1;

mod format;
pub mod key;

/// A record that stands in the store as JSON.
pub trait Record: Serialize + DeserializeOwned {
    /// Its bytes.
    #[must_use]
    fn encode(&self) -> Arc<[u8]> {
        serde_json::to_vec(self).expect("records hold only what JSON can say").into()
    }

    /// The format that it was written in. See [`FORMAT`].
    fn format(&self) -> u32;

    /// Reads it back.
    ///
    /// # Errors
    /// The parser's message if the bytes are not such a record; of one in a newer format, which may
    /// mean something else by the same words, that it is.
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice::<Self>(bytes) {
            Ok(record) if record.format() <= FORMAT || sabotaged!(NewerFormatRead) => Ok(record),
            Ok(record) => Err(newer(record.format())),
            Err(error) => Err(newer_format(bytes).map_or_else(|| error.to_string(), newer)),
        }
    }
}

pub use format::newer_format;
pub(crate) use format::{formatted, newer};

/// Who is master of a service: `master/S`. No clock ever deletes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// Grows with each new master.
    pub term: Term,
    /// Where this term stands.
    pub state: MasterState,
    /// Who has, or last had, this term.
    pub holder: Holder,
    /// What the holder does when its beats fail.
    pub promise: Promise,
    /// Earlier holders that were never proven stopped; looked at before each promotion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<Holder>,
    /// Where this term's history starts, and ids it changed to since; newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Position>,
    /// Candidates that failed in this incident.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<InstanceName>,
    /// Candidates whose term ran out in this incident before they were open: one for each try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unkept: Vec<InstanceName>,
    /// When the last failovers were completed; bounded by the policy's cooldown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failovers: Vec<Wall>,
    /// When this state was written, for people.
    pub since: Wall,
    /// Another tool moves this service; `None`: sengu does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// For as long as a freeze lasts the promise is a longer one; `None`: it is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What a freeze leaves as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The usual lease, in milliseconds: outputs name the holder for so long after its beat.
    pub lease_ms: u64,
    /// When the freeze ends, by the wall clock of who asked for it.
    pub until: Wall,
}

/// What stands with a term of a service that another tool moves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct External {
    /// Outputs name the holder for so long after a beat of its host; `None`: one agent judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// The tool said that this holder is the master; else it was only seen to be.
    #[serde(default)]
    pub told: bool,
    /// The highest number that the tool gave to a move of its own (Sentinel's config epoch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The announced move that was not answered in time, after which this term began: what is
    /// said of it later is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
}

/// Where a term stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MasterState {
    /// The holder won the term and is being promoted; not named anywhere.
    Taken {
        /// Why there had to be a new term.
        cause: Cause,
    },
    /// The holder was promoted and takes writes; named.
    Serving,
    /// The holder is fenced and hands over.
    Giving {
        /// To whom.
        to: InstanceName,
        /// All that was ever acknowledged.
        position: Position,
        /// The request that asked for it.
        request: String,
    },
    /// Nobody is master; the last holder is proven stopped.
    Vacant {
        /// How it is known.
        proof: Proof,
        /// Why.
        cause: Cause,
        /// When that was noticed.
        noticed: Wall,
        /// What its agent last saw the last holder have as the master, in the life that held the
        /// term; for a hand-over what was carried. A later life that lacks it lost data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Position>,
    },
    /// The holder's beats ran out.
    Lapsed,
    /// The holder could not be fenced; nobody may follow until it is, or exits.
    FenceFailed {
        /// What was tried.
        error: String,
    },
    /// Another tool moves this service, and nobody is named. Says nothing of the last holder: it
    /// may take writes.
    Withdrawn {
        /// Why.
        cause: Cause,
        /// The announced move that is waited for: a request's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        intent: Option<String>,
        /// The tool asked that the last holder be fenced: what sengu closed, it may open again.
        #[serde(default)]
        fenced: bool,
    },
    /// Sengu does not hold this service.
    Unmanaged,
}

/// Why a term ended or began.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// `sengu adopt`.
    Adopted,
    /// The master's process exited.
    ProcessExited,
    /// The master's process did not answer and was ended.
    Hung,
    /// No beat came for the lease.
    Lapsed,
    /// The master takes no writes although nobody asked for that.
    NotWritable,
    /// `sengu switchover`.
    Switchover,
    /// `sengu failover`.
    Requested,
    /// A hand-over in which nobody had everything.
    HandOverFailed,
    /// A switchover could not be completed; the giver goes on.
    SwitchoverUndone(String),
    /// The candidate of the term before could not be promoted.
    PromotionFailed(String),
    /// The holder's fence fired and its record was still its own.
    Reopened,
    /// Another tool announced a move (`sengu hook generic before`).
    Announced,
    /// Another tool said that it is done (`sengu hook generic after`), and it is so.
    Told,
    /// Nobody said anything, and exactly one takes writes.
    Seen,
    /// An announced move was not answered in time, and everything is as it was.
    Unanswered,
    /// The tool that announced a move said that the old master stays, and it is so.
    GivenUp,
    /// Two take writes, and no tool said which one counts.
    TwoWritable,
}

/// How a holder is known to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// It acknowledged the fence and read back not writable.
    Fenced,
    /// Its process exited, and its own file starts it fenced.
    Exited,
    /// It was never opened under its term.
    NeverPromoted,
}

/// Who holds a term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The instance.
    pub instance: InstanceName,
    /// Its host.
    pub host: HostName,
    /// The random id of that host's agent.
    pub agent: String,
    /// The life of the instance's process.
    pub boot_id: BootId,
    /// Where it takes writes.
    pub address: SocketAddr,
}

/// What a holder does when its beats fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Nothing: its term never lapses.
    None,
    /// It has fenced itself by the end of the lease.
    Fence {
        /// The lease, in milliseconds.
        lease_ms: u64,
    },
}

/// A host's sign of life: `beats/HOST`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// Grows with each beat.
    pub counter: u64,
    /// The life of the agent that wrote it.
    pub start: String,
    /// The terms that it keeps.
    pub keeps: BTreeMap<ServiceName, Term>,
    /// The terms that nobody keeps, and whose master this host sees taking writes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vetoes: BTreeMap<ServiceName, Term>,
    /// When it was sent, on the clock of its host's present boot: for the next life of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Time>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What an agent last saw of an instance: `instances/S/I`. Written on change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// Its host.
    pub host: HostName,
    /// The host's agent.
    pub agent: String,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Its database.
    pub kind: DatabaseKind,
    /// Zone, if one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The lower of the configured and the server's own; 0 is never promoted.
    pub priority: u32,
    /// The policy in its host's file.
    pub policy: Policy,
    /// The life of its process.
    pub boot_id: Option<BootId>,
    /// Its server's version, as it told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its role; `None` before the first answer.
    pub role: Option<Role>,
    /// Takes writes.
    pub writable: bool,
    /// Whom it follows.
    pub source: Option<SocketAddr>,
    /// In step with its source.
    pub link_up: bool,
    /// A full copy runs, or it never had one.
    pub syncing: bool,
    /// How far behind its source it is, in classes.
    pub lag: Lag,
    /// How far behind in receiving, where that is another class (MySQL, MariaDB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Lag>,
    /// Answers, in short: `up`, `down` and why.
    pub health: Health,
    /// What its process does, where that explains the health.
    pub process: Process,
    /// Its own file starts it fenced.
    pub starts_fenced: Verdict,
    /// Its agent may kill it.
    pub killable: Verdict,
    /// The life of its process in which it was last in step with the master, or was it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_step: Option<BootId>,
    /// What is wrong with its replication though it answers, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How it is set up for replication.
    #[serde(default)]
    pub replication: Verdict,
    /// Whether it can keep `loss = "none"`.
    #[serde(default)]
    pub lossless: Verdict,
    /// Whether read-only binds every account that could write.
    #[serde(default)]
    pub bound: Verdict,
    /// Semi-synchronous replication there, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semi_sync: Option<SemiSync>,
    /// Set apart: why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Lag in classes, so that the record changes only when somebody would care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lag {
    /// Under two seconds, or a master.
    None,
    /// Under the policy's `max_lag`.
    Some,
    /// Over it.
    Far,
    /// Not known.
    Unknown,
}

/// Whether an instance answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It answered with its state.
    Up,
    /// Alive, but it cannot tell its state: the reason.
    Troubled(String),
    /// It does not answer: the reason.
    Silent(String),
    /// Its process has exited.
    Exited,
}

/// The position of a copy after it was detached: `finals/S/TERM/I`, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// The life of its process; a restart voids the final.
    pub boot_id: BootId,
    /// Received.
    pub received: Position,
    /// Applied.
    pub applied: Position,
    /// Its data is no whole copy, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<Unfit>,
    /// It was in step with a master, or was it, in this life of its process.
    #[serde(default)]
    pub in_step: bool,
    /// 0: never promote. The lower is preferred.
    pub priority: u32,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Why a copy must not be promoted, as its own agent knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfit {
    /// A full copy was under way when it was detached: its data is half of something.
    Syncing,
    /// It never had a full copy.
    NeverSynced,
    /// Its priority is 0.
    NeverPromote,
    /// A person drained it.
    Drained,
    /// It is set apart.
    Quarantined,
    /// It received transactions that it does not apply: its applier is stopped.
    ApplierStopped,
    /// It left out some of what it received: its position says more than it has.
    Filtered,
}

/// What a person or a tool asked for: `requests/S/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// What is asked.
    pub ask: Ask,
    /// For which term; another term voids it. `None` for standing requests.
    pub term: Option<Term>,
    /// Who asked, as `root@db1`.
    pub by: String,
    /// Why, in the asker's words.
    #[serde(default)]
    pub comment: String,
    /// When it was asked.
    pub at: Wall,
    /// Until when it counts (wall clock of the asking host; a request that is late is refused).
    pub until: Wall,
    /// Where it stands.
    pub stand: Stand,
    /// Its own hooks (`before-switchover`): started, and how each ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<Phase, HookStand>,
    /// What went otherwise than asked, though it stands or is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Put the service under sengu.
    Adopt {
        /// On a cold start, where none is writable: this one becomes the master.
        master: Option<InstanceName>,
    },
    /// End that; change nothing on the databases.
    Release,
    /// Move mastership, planned.
    Switchover {
        /// To this one; else to the best.
        to: Option<InstanceName>,
    },
    /// Move mastership from a failed master.
    Failover {
        /// To this one; else to the best.
        to: Option<InstanceName>,
        /// Take a copy whose history cannot be compared, or that is known to lack something.
        lossy: bool,
    },
    /// Standing: decide nothing by yourself until it ends. Never stops fencing.
    Pause,
    /// Standing once the holder agreed: a pause, in which the holder may go without a beat for as
    /// long as the freeze lasts, and a lease. It fences by then as ever.
    Freeze,
    /// Standing: this instance is no candidate and leaves the `replica` names.
    Drain {
        /// Which.
        instance: InstanceName,
    },
    /// Another tool is about to move the master: name nobody until it says where to.
    Before(Announced),
    /// Another tool has moved the master.
    After {
        /// To this one.
        to: InstanceName,
        /// The tool's own number of the move, if it has one; grows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
}

/// A move that another tool announced.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announced {
    /// From this one, if the tool knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<InstanceName>,
    /// To this one, if the tool knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<InstanceName>,
    /// Close the old one for writes meanwhile.
    #[serde(default)]
    pub fence: bool,
    /// The tool's own number of the move, if it has one; grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stand {
    /// Nobody has acted on it yet.
    Asked,
    /// The holder agreed and chose.
    Agreed {
        /// The target.
        to: InstanceName,
    },
    /// The target's host has run its hooks and waits for the hand-over.
    Prepared {
        /// The target.
        to: InstanceName,
    },
    /// Standing requests: in force.
    Standing,
    /// Done.
    Done(String),
    /// Not done: the refusal, in words.
    Refused(String),
}

impl RequestRecord {
    /// Who asked, and why if they said so, as the history keeps it.
    #[must_use]
    pub fn asker(&self) -> String {
        if self.comment.is_empty() {
            self.by.clone()
        } else {
            format!("{}: {}", self.by, self.comment)
        }
    }
}

impl Stand {
    /// Is there nothing more to do?
    #[must_use]
    pub fn ended(&self) -> bool {
        match self {
            Self::Done(_) | Self::Refused(_) => true,
            Self::Asked | Self::Agreed { .. } | Self::Prepared { .. } | Self::Standing => false,
        }
    }
}

/// A step at which hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The new master was chosen and is not opened yet.
    BeforeFailover,
    /// The new master serves.
    AfterFailover,
    /// No master could be found.
    FailedFailover,
    /// Before the old master is closed.
    BeforeSwitchover,
    /// The new master serves.
    AfterSwitchover,
    /// The master was found lost. Told by each host to itself; the core never runs it.
    Detected,
    /// The own instance was fenced. Told as `Detected` is.
    Fenced,
    /// An own instance became master or replica. Told as `Detected` is.
    RoleChanged,
}

impl Phase {
    /// Those that are steps of a move, in order.
    pub const ALL: [Self; 5] = [
        Self::BeforeFailover,
        Self::AfterFailover,
        Self::FailedFailover,
        Self::BeforeSwitchover,
        Self::AfterSwitchover,
    ];

    /// Those that each host tells itself from the catalog, once.
    pub const TOLD: [Self; 3] = [Self::Detected, Self::Fenced, Self::RoleChanged];

    /// All of both.
    pub fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::TOLD)
    }

    /// As configuration and hooks spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Fenced => "fenced",
            Self::RoleChanged => "role-changed",
            Self::BeforeFailover => "before-failover",
            Self::AfterFailover => "after-failover",
            Self::FailedFailover => "failed-failover",
            Self::BeforeSwitchover => "before-switchover",
            Self::AfterSwitchover => "after-switchover",
        }
    }
}

/// The story of one term: `history/S/TERM`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// Why there was a new term.
    pub cause: Cause,
    /// Who was master before.
    pub from: Option<InstanceName>,
    /// Who took it.
    pub to: InstanceName,
    /// Each step with its time, in order.
    pub steps: Vec<Step>,
    /// What was lost, in words: `nothing`, or how much, or `unknown, at most since ...`.
    pub loss: String,
    /// The order in which the candidates stood, best first.
    #[serde(default)]
    pub ranking: Vec<InstanceName>,
    /// Who was passed over, and why.
    #[serde(default)]
    pub refusals: BTreeMap<InstanceName, String>,
    /// Who asked for it, where somebody did, and why: `root@db1: new disks`.
    #[serde(default)]
    pub asked_by: Option<String>,
    /// Hooks by phase: started, and how each ended.
    #[serde(default)]
    pub hooks: BTreeMap<Phase, HookStand>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// One step of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which, as `withdrawn`, `fenced`, `detached`, `taken`, `promoted`, `serving`.
    pub name: String,
    /// When.
    pub at: Wall,
}

/// Where the hooks of one phase stand. Written before they start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookStand {
    /// Started; without an outcome after a restart it is `unknown` and is not run again.
    Started {
        /// When.
        at: Wall,
        /// The agent's life that started it.
        start: String,
    },
    /// Ended.
    Ended {
        /// When it started.
        at: Wall,
        /// How long it ran, in milliseconds.
        ms: u64,
        /// Its outcome.
        outcome: HookOutcome,
    },
}

/// How the hooks of one phase ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookOutcome {
    /// All exited with 0, or failed and may.
    Done {
        /// What went wrong on the way, in words; empty if nothing.
        warnings: Vec<String>,
        /// The last bytes of what they printed.
        output: String,
    },
    /// One with `on_error = "abort"` failed.
    Abort {
        /// Which and how.
        error: String,
        /// The last bytes of what they printed.
        output: String,
    },
    /// Started, and nobody knows how it ended.
    Unknown,
}

/// How the hooks ended that a host told itself: `told/S/HOST`. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// The newest last; at most [`TOLD_KEPT`].
    pub told: Vec<ToldEntry>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// So many ends of hooks are kept for each host and service.
pub const TOLD_KEPT: usize = 32;

/// How the hooks of one phase ended on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldEntry {
    /// Which phase.
    pub phase: Phase,
    /// The term that it was told of.
    pub term: Term,
    /// The instance here and its new role, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<(InstanceName, Role)>,
    /// When it began, and how it ended.
    pub stand: HookStand,
}

/// A host: `nodes/HOST`. Consul's kind of record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// Its name as it was given.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// `sengu` for the host of an agent, `catalog` for one that a client registered.
    pub owner: Owner,
    /// Consul's node id, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Consul's metadata.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Who may change a record of Consul's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Sengu itself; refused to others.
    Managed,
    /// The last writer through the catalog.
    Catalog,
    /// A client of the agent on that host; the agent runs its checks.
    Agent,
}

formatted!(MasterRecord, BeatRecord, InstanceRecord, FinalRecord, RequestRecord, HistoryRecord);
formatted!(ToldRecord, NodeRecord);

impl InstanceRecord {
    /// The first number of its version.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        self.version.as_deref()?.split('.').next()?.parse().ok()
    }
}

impl MasterState {
    /// One word, as `status` and the diagram show it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "taken",
            Self::Serving => "serving",
            Self::Giving { .. } => "giving",
            Self::Vacant { .. } => "vacant",
            Self::Lapsed => "lapsed",
            Self::FenceFailed { .. } => "fence-failed",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Unmanaged => "unmanaged",
        }
    }
}
