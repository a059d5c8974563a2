//! What `status` and `explain` print: data, made by the very code that decides.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::catalog::ServiceView;
use crate::name::{InstanceName, ServiceName, Term};
use crate::observation::Role;
use crate::policy::Policy;
use crate::record::{HistoryRecord, RequestRecord, ToldEntry};
use crate::time::Wall;

/// One service at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Its name.
    pub service: ServiceName,
    /// The master record's state in one word; `not adopted` without one; `unknown` before the store
    /// was read.
    pub state: String,
    /// Its term; 0 before the first.
    pub term: Term,
    /// Since when the state stands.
    pub since: Option<Wall>,
    /// Who is named as master now.
    pub master: Option<InstanceName>,
    /// Its address.
    pub address: Option<SocketAddr>,
    /// Who holds, or last held, the term; named or not.
    #[serde(default)]
    pub holder: Option<InstanceName>,
    /// Why nobody is named, if so.
    pub withdrawn: Option<String>,
    /// The policy on this host, or of the first instance known.
    pub policy: Option<Policy>,
    /// All instances known.
    pub instances: Vec<InstanceReport>,
    /// What needs somebody's attention, worst first; empty if all is well.
    pub problems: Vec<String>,
    /// What sengu does not do, or would not do if the master failed now, and why.
    pub refusals: Vec<String>,
    /// The order in which copies would be tried if the master failed now, best first.
    pub ranking: Vec<InstanceName>,
    /// What sengu is doing for this service, if anything.
    pub doing: Option<String>,
    /// Requests that have not ended, and standing ones (pauses, drains), by id.
    pub requests: Vec<RequestReport>,
    /// The newest history.
    pub last: Option<TermReport>,
}

/// Why nothing is said of a service before the store was read.
const UNREAD: &str = "the store was not read since the agent started; the agent's log says why";

impl ServiceReport {
    /// Does it wait for its adoption? What was not read may well be adopted.
    #[must_use]
    pub fn unadopted(&self) -> bool {
        matches!(self.state.as_str(), "not adopted" | "unmanaged")
    }

    /// The same before the store was read: that there are no records is no fact then.
    pub(crate) fn unread(self) -> Self {
        Self {
            state: "unknown".to_owned(),
            withdrawn: Some(UNREAD.to_owned()),
            problems: vec![UNREAD.to_owned()],
            ..self
        }
    }
}

/// A request with its id; in JSON one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReport {
    /// Its id.
    pub id: String,
    /// The request.
    #[serde(flatten)]
    pub request: RequestRecord,
}

/// The story of a term; in JSON one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermReport {
    /// Which.
    pub term: Term,
    /// Its story.
    #[serde(flatten)]
    pub record: HistoryRecord,
    /// How the hooks ended that each host told itself in this term.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<ToldReport>,
}

/// How hooks ended that a host told itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldReport {
    /// The host.
    pub host: String,
    /// Which, and how they ended.
    #[serde(flatten)]
    pub entry: ToldEntry,
}

impl TermReport {
    /// A term of a service as its records tell it.
    #[must_use]
    pub fn of(view: &ServiceView, term: Term, record: &HistoryRecord) -> Self {
        let told = view.told.iter().flat_map(|(host, at)| {
            let of_term = at.record.told.iter().filter(move |entry| entry.term == term);
            of_term.map(|entry| ToldReport { host: host.clone(), entry: entry.clone() })
        });
        Self { term, record: record.clone(), told: told.collect() }
    }
}

/// One instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Its name.
    pub instance: InstanceName,
    /// Its host.
    pub host: String,
    /// Its address.
    pub address: SocketAddr,
    /// Its role, as it told it.
    pub role: Option<Role>,
    /// Takes writes.
    pub writable: bool,
    /// `up`, or what is wrong, in words.
    pub health: String,
    /// In step with its source, behind, copying, ...; in words.
    pub replication: String,
    /// Where it stands in its history, if this agent knows.
    pub position: Option<String>,
    /// Why it would not be promoted, if so.
    pub unfit: Option<String>,
}
