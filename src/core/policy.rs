//! What the owner of a service decided, as each host's file has it.
//!
//! A policy stands in `instances/…` beside its instance. Files that differ between the hosts of
//! one service are a refusal; takers go by the promise in the master record, not by their file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{HostName, InstanceName, ServiceName};
use crate::record::Phase;

/// Who moves mastership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// Sengu, by itself, when the master fails.
    Auto,
    /// A person, through sengu.
    #[default]
    Manual,
    /// Another tool, which calls sengu's hooks.
    External,
}

/// What a failover may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// What no replica had received; said after each failover.
    #[default]
    Bounded,
    /// Nothing that was acknowledged.
    None,
}

/// What to do with an old master whose history cannot be proven part of the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Rejoin {
    /// Copy the new master's data over it; the loss stands in the history already.
    #[default]
    Resync,
    /// Keep it fenced until a person has decided.
    Ask,
}

/// The database family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// Redis or Valkey.
    Redis,
    /// MySQL or MariaDB; which of them, the server tells.
    Mysql,
}

/// The decisions of one service's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Who moves mastership.
    pub failover: Failover,
    /// What a failover may lose.
    pub loss: Loss,
    /// With `loss = "none"`: a commit waits for so many acknowledgements.
    pub acks: u32,
    /// What happens to an old master that cannot be proven clean.
    pub rejoin: Rejoin,
    /// May the agent kill a process that it cannot fence otherwise?
    pub kill: bool,
    /// The target of a switchover may lag so far behind.
    #[serde(rename = "max_lag_ms", with = "millis")]
    pub max_lag: Duration,
    /// A role probe silent for so long, with an idle process, is hung.
    #[serde(rename = "hung_after_ms", with = "millis")]
    pub hung_after: Duration,
    /// So long is waited for the final position of a copy, and for a candidate to take.
    #[serde(rename = "candidate_wait_ms", with = "millis")]
    pub candidate_wait: Duration,
    /// At most so many completed failovers ...
    pub cooldown_failovers: u32,
    /// ... within this window, before `auto` stops and asks.
    #[serde(rename = "cooldown_window_ms", with = "millis")]
    pub cooldown_window: Duration,
    /// Attempts to find a master in one incident.
    pub max_attempts: u32,
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failover: Failover::Manual,
            loss: Loss::Bounded,
            acks: 1,
            rejoin: Rejoin::Resync,
            kill: true,
            max_lag: Duration::from_secs(10),
            hung_after: Duration::from_secs(5),
            candidate_wait: Duration::from_secs(1),
            cooldown_failovers: 3,
            cooldown_window: Duration::from_secs(600),
            max_attempts: 5,
        }
    }
}

/// What one agent was configured with, as far as it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This host's name.
    pub host: HostName,
    /// The address that names of this host answer with.
    pub address: std::net::IpAddr,
    /// Random, kept in `data_dir`: tells two hosts of one name apart.
    pub agent: String,
    /// This life of the agent's process; random.
    pub start: String,
    /// One judge (embedded) or several (a shared store).
    pub judge: Judge,
    /// The services that have instances here.
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    /// The services that sengu held when this host's agent last ran ([`Remember`]): fenced at a
    /// start without an answer of the store.
    ///
    /// [`Remember`]: crate::event::Action::Remember
    pub remembered: BTreeSet<ServiceName>,
}

/// Whether other agents share the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The embedded store: this agent decides alone, mastership ends by decision, and nobody
    /// promises to fence. `lease` bounds how long an answer counts as fresh.
    Alone {
        /// How long after the last turn of the loop outputs still name a master.
        lease: Duration,
    },
    /// A shared store: mastership is kept by beats.
    Shared {
        /// How long a holder may go without an acknowledged beat.
        lease: Duration,
        /// How long before that its fence starts.
        fence: Duration,
    },
}

impl Judge {
    /// The lease, whoever judges.
    #[must_use]
    pub fn lease(self) -> Duration {
        match self {
            Self::Alone { lease } | Self::Shared { lease, .. } => lease,
        }
    }
}

/// One service on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The database family.
    pub kind: DatabaseKind,
    /// The owner's decisions.
    pub policy: Policy,
    /// The instances on this host.
    pub instances: BTreeMap<InstanceName, InstanceConfig>,
    /// The phases for which a hook is configured here, and what an unknown end of one means.
    pub hooks: BTreeMap<Phase, OnError>,
}

/// What a hook's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Go on; the failure stands in the history.
    #[default]
    Continue,
    /// Stop the move.
    Abort,
}

/// One instance on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceConfig {
    /// `address:port` that clients and replicas connect to.
    pub address: std::net::SocketAddr,
    /// Where it stands; for people and for later ranking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Lower is preferred between equals, as Redis's `replica-priority`; 0 is never promoted.
    pub priority: u32,
}
