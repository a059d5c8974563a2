//! The engine for several hosts: etcd v3.
//!
//! Every record stands under one prefix, so that several clusters of sengu can share an etcd.
//! Reads are linearizable; a member that is late is passed over (`ring.rs`), a write whose answer
//! got lost is looked for (`write.rs`), a watch goes on across members (`watching.rs`). Whatever
//! is not certain is [`StoreError::Unknown`], never that somebody else has the role. Nothing here
//! waits without a bound, and no secret is ever shown.

mod endpoint;
mod fault;
mod lease;
mod load;
mod ring;
mod space;
mod version;
mod watching;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use sengu_core::kv::{KeyValue, LeaseId, Revision, Txn, TxnReply};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use self::endpoint::Endpoint;
use self::ring::Ring;
use self::space::Space;
pub use self::version::{Defect, Version};
use super::{Store, StoreError, Watch};
use crate::config::EtcdConfig;

/// The longest that one request may take; callers often wait less.
const WITHIN: Duration = Duration::from_secs(5);
/// The largest answer that is read at once.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long a member's state is waited for.
const MEMBER_WITHIN: Duration = Duration::from_secs(2);

/// A cluster's records in etcd. Nothing is connected before the first request.
pub struct EtcdStore {
    shared: Arc<Shared>,
    prefix: String,
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").field("ring", &self.shared.ring).finish_non_exhaustive()
    }
}

/// What requests and watches share.
struct Shared {
    ring: Ring,
    space: Space,
    /// The newest revision of an answered txn, which every watch is to bring.
    wanted: watch::Sender<Revision>,
}

impl Shared {
    /// A txn was answered: watches bring what it saw, from wherever it is to be had.
    fn answered(&self, revision: Revision) {
        self.wanted.send_if_modified(|wanted| {
            let newer = revision > *wanted;
            *wanted = revision.max(*wanted);
            newer
        });
    }
}

/// One member as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its endpoint, as configured.
    pub url: String,
    /// Its release, as it writes it; or why it did not answer.
    pub version: Result<String, String>,
}

impl Member {
    /// What is known to be wrong with its release.
    #[must_use]
    pub fn defect(&self) -> Option<Defect> {
        Version::parse(self.version.as_ref().ok()?)?.defect()
    }
}

/// What was seen of an etcd, which its agent keeps over its restarts: an older one, or another one
/// under the same prefix, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Under which its records stand; what was seen under another one tells nothing.
    prefix: String,
    /// The cluster's id.
    cluster: u64,
    /// The newest revision that any answer told.
    revision: Revision,
}

impl EtcdStore {
    /// What was seen so far; `None` before the first answer.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        let (cluster, revision) = self.shared.ring.known()?;
        Some(Seen { prefix: self.prefix.clone(), cluster, revision })
    }

    /// An earlier life of the agent had seen this. To be called before the first request.
    pub fn recall(&self, seen: &Seen) {
        if seen.prefix == self.prefix {
            self.shared.ring.recall(seen.cluster, seen.revision);
        }
    }

    /// A store on these members. `late`: after so long the next one is asked too.
    ///
    /// # Errors
    /// A certificate that cannot be read, by its path.
    pub fn new(config: &EtcdConfig, late: Duration) -> Result<Self, String> {
        if config.tls.is_some() {
            // Fails if one is installed already, which is as good.
            let _installed = rustls::crypto::ring::default_provider().install_default();
        }
        let options = endpoint::options(config)?;
        let endpoints = config.endpoints.iter();
        let all = endpoints.map(|url| Endpoint::new(url, options.clone())).collect();
        let shared = Shared {
            ring: Ring::new(all, late),
            space: Space::new(&config.prefix),
            wanted: watch::Sender::new(0),
        };
        Ok(Self { shared: Arc::new(shared), prefix: config.prefix.clone() })
    }

    /// Asks each member for its release, all at once, within two seconds.
    pub async fn members(&self) -> Vec<Member> {
        join_all(self.shared.ring.all().iter().map(|endpoint| self.member(endpoint))).await
    }

    /// Waits until a member was late or failed since the last time that this was waited for: it may
    /// be another one when it is back.
    pub async fn disturbed(&self) {
        self.shared.ring.disturbed().await;
    }

    async fn member(&self, endpoint: &Endpoint) -> Member {
        let asking = async {
            let client = endpoint.client().await?;
            let status = client.maintenance_client().status().await?;
            self.shared.ring.note(status.header())?;
            Ok::<_, fault::Fault>(status.version().to_owned())
        };
        let version = match timeout(MEMBER_WITHIN, asking).await {
            Ok(Ok(version)) => Ok(version),
            Ok(Err(fault)) => Err(fault.why().to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        Member { url: endpoint.url.clone(), version }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        txn.check()?;
        write::txn(&self.shared, &txn).await
    }

    async fn load(&self) -> Result<(Revision, Vec<Arc<KeyValue>>), StoreError> {
        load::load(&self.shared).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        watching::begin(&self.shared, after).await
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        lease::grant(&self.shared, ttl).await
    }

    async fn keep(&self, lease: LeaseId) -> Result<bool, StoreError> {
        lease::keep(&self.shared, lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        lease::revoke(&self.shared, lease).await
    }
}

#[cfg(test)]
mod tests;
