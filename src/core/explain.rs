//! What `sengu explain` prints: every input of a service's decisions, each safety rule with what
//! it says now, and a rehearsal of what would happen next.
//!
//! Data only, made by the very code that decides: the rehearsal is a copy of the machine that is
//! run on in a world where the master has just died (`machine/rehearse.rs`), the rules read the
//! same fields that the decisions read (`service/rules.rs`). Nothing here changes anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::kv::Revision;
use crate::name::{InstanceName, Term};
use crate::record::{FinalRecord, InstanceRecord, MasterRecord};
use crate::report::ServiceReport;
use crate::sync::SyncRecord;

/// Everything about one service; in JSON one object that begins as `status` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What `status` shows.
    #[serde(flatten)]
    pub report: ServiceReport,
    /// What would happen next.
    pub next: Rehearsal,
    /// Each safety rule, and what it says now.
    pub rules: Vec<RuleReport>,
    /// What decisions are made from.
    pub inputs: Inputs,
}

/// What one safety rule says at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReport {
    /// Its slug, as `starts-fenced`.
    pub rule: String,
    /// What it says.
    pub verdict: RuleVerdict,
    /// On which facts, in words.
    pub facts: String,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleVerdict {
    /// What it asks for is so.
    Holds,
    /// It keeps sengu from something now, or would if the master failed.
    Stops,
    /// It has nothing to judge now.
    Idle,
}

impl RuleVerdict {
    /// As it is printed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Stops => "stops",
            Self::Idle => "idle",
        }
    }
}

/// What a copy of the deciding machine did when it was run on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rehearsal {
    /// What was supposed, as `the process of cache1 ends now`.
    pub suppose: String,
    /// What followed, in order.
    pub steps: Vec<RehearsedStep>,
    /// Who would serve in the end; `None`: nobody.
    pub serves: Option<Serves>,
    /// What that would lose, as the history would say it.
    pub loss: Option<String>,
    /// Why nobody would serve.
    pub stays: Vec<String>,
    /// What the rehearsal took for granted.
    pub provided: Vec<String>,
}

/// One step of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsedStep {
    /// Waits that sengu itself would make up to here, in milliseconds; programs, disks and
    /// databases take no time in a rehearsal.
    pub after_ms: u64,
    /// What happens.
    pub text: String,
}

/// Who would serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serves {
    /// Which instance.
    pub instance: InstanceName,
    /// In which term.
    pub term: Term,
    /// Where.
    pub address: SocketAddr,
}

/// What decisions are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The store's revision that this agent has seen.
    pub revision: Revision,
    /// `alone` (embedded store) or `shared`.
    pub judge: String,
    /// The lease, in milliseconds.
    pub lease_ms: u64,
    /// So long ago the last linearizable answer of the store was asked for, in milliseconds.
    pub store_answered_ms: u64,
    /// So long ago this agent was late or its clock jumped, in milliseconds; `None`: never.
    pub doubted_ms: Option<u64>,
    /// A beat naming this term came so long ago, in milliseconds; `None`: none is asked for.
    pub beat_ms: Option<u64>,
    /// `master/S`, and the revision at which it stands.
    pub record: Option<(Revision, MasterRecord)>,
    /// `sync/S`, and the revision at which it stands; only with `loss = "none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<(Revision, SyncRecord)>,
    /// `instances/S/*`.
    pub instances: BTreeMap<InstanceName, InstanceInput>,
    /// `finals/S/TERM/*` of the current term.
    pub finals: BTreeMap<InstanceName, FinalRecord>,
    /// Records that cannot be read, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// What is known of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInput {
    /// Its record, as all agents see it.
    pub record: InstanceRecord,
    /// The revision at which that stands.
    pub revision: Revision,
    /// What this agent knows besides, of an instance here.
    pub own: Option<OwnInput>,
}

/// What only the agent of an instance knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnInput {
    /// The last look at it began so long ago, in milliseconds.
    pub looked_ms: u64,
    /// Looks in a row that brought no state, and the words for the last.
    pub failing: Option<(u32, String)>,
    /// How far it has received.
    pub received: Option<String>,
    /// How far it has applied.
    pub applied: Option<String>,
    /// It was in step with the master, or was it, in this life of its process.
    pub in_step: bool,
    /// This life of its process is acknowledged fenced, and was not opened since.
    pub fenced: bool,
    /// What is being done to it.
    pub under_way: Option<String>,
}
