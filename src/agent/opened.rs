//! The store of an agent, opened: the embedded one, or etcd.
//!
//! With the embedded store there is one judge and its id is the agent's. With etcd the agent has an
//! id of its own in its data folder, which it has to itself in the same way. An etcd that does not
//! answer is no reason not to start: what this host held is fenced then, which needs an agent.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sengu_core::policy::Failover;
use tokio::sync::watch;

use super::identity;
use super::releases::Releases;
use super::seen;
use crate::config::{Config, EtcdConfig, StoreConfig};
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::store::etcd::EtcdStore;
use crate::store::lock::Lock;

/// A store and what stands and falls with it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// Why the agent must end, once it must.
    pub(super) broken: watch::Receiver<Option<String>>,
    /// The agent's id.
    pub(super) agent: String,
    /// What the members of etcd run; empty with another store.
    pub(super) releases: Arc<Releases>,
    /// The data folder is this agent's as long as this lives.
    pub(super) _claim: Option<Claim>,
}

/// The data folder of an agent whose store is elsewhere.
pub(super) struct Claim {
    _lock: Lock,
    /// etcd never breaks for good.
    _sound: watch::Sender<Option<String>>,
}

impl Opened {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// The folder is another's or damaged, a certificate cannot be read, or a release of etcd is
    /// no judge for `failover = "auto"`.
    pub(super) async fn of(config: &Config) -> anyhow::Result<Self> {
        match &config.store {
            StoreConfig::Embedded => {
                let store = EmbeddedStore::open(&config.data_dir)?;
                let (broken, agent) = (store.broken(), store.store_id().to_owned());
                let (store, releases) = (Arc::new(store), Arc::default());
                Ok(Self { store, broken, agent, releases, _claim: None })
            }
            StoreConfig::Etcd(etcd) => shared(config, etcd).await,
        }
    }
}

/// How late a member of etcd may be before the next is asked too: well within a beat.
fn late(lease: Duration) -> Duration {
    (lease / 24).clamp(Duration::from_millis(50), Duration::from_millis(500))
}

async fn shared(config: &Config, etcd: &EtcdConfig) -> anyhow::Result<Opened> {
    let lock = Lock::take(&config.data_dir)?;
    let agent = own_id(&config.data_dir).with_context(|| {
        format!("the agent's id in {} cannot be read or made", config.data_dir.display())
    })?;
    let store = EtcdStore::new(etcd, late(config.lease)).map_err(|why| anyhow::anyhow!(why))?;
    if let Some(seen) = seen::recalled(&config.data_dir)? {
        store.recall(&seen);
    }
    let auto: Vec<_> = config
        .services
        .iter()
        .filter(|(_, service)| service.policy.failover == Failover::Auto)
        .map(|(name, _)| name.to_string())
        .collect();
    let members = store.members().await;
    let releases = Arc::new(Releases::new(members));
    if let Some(flaw) = releases.flaws().iter().find(|flaw| flaw.refused && !auto.is_empty()) {
        bail!(
            "{} runs etcd {}: {}; failover = \"auto\" (service {}) is refused on it: upgrade \
             etcd to the newest 3.5 or later, or set failover = \"manual\"",
            flaw.url,
            flaw.version,
            flaw.words,
            auto.join(", "),
        );
    }
    let store = Arc::new(store);
    // Until the agent ends.
    tokio::spawn(Arc::clone(&releases).keep(Arc::clone(&store)));
    tokio::spawn(seen::keep(Arc::clone(&store), config.data_dir.clone()));
    let (sound, broken) = watch::channel(None);
    let claim = Claim { _lock: lock, _sound: sound };
    Ok(Opened { store, broken, agent, releases, _claim: Some(claim) })
}

/// The id in the data folder; made at the first start.
fn own_id(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join("agent-id");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() == 32 => Ok(text.trim().to_owned()),
        Ok(_) => Err(io::Error::other(format!("{} is damaged; remove it", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = identity::random()?;
            identity::replace(&path, id.as_bytes())?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_keeps_its_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = own_id(folder.path()).expect("made");
        assert_eq!(own_id(folder.path()).expect("read"), id);
        fs::write(folder.path().join("agent-id"), "short").expect("written");
        own_id(folder.path()).expect_err("another id would be another agent");
    }

    #[test]
    fn a_member_is_late_well_within_a_beat() {
        for lease in [1, 2, 6, 60].map(Duration::from_secs) {
            assert!(late(lease) * 2 < lease / 8, "{lease:?}");
        }
    }
}
