//! What sengu can ask of a database and do to it: one trait, one contract suite, one file each.
//!
//! A driver is for one instance. It keeps one ordered control connection for all changes; the
//! fence has a connection of its own, opened before it is needed.

mod ladder;
mod lane;
mod life;
pub mod mysql;
pub mod redis;
#[cfg(test)]
mod suite;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::event::{Command, ControlOutcome, LookOutcome};
use sengu_core::name::{BootId, InstanceName};
use sengu_core::observation::Observation;
use sengu_core::policy::DatabaseKind;
use tokio::runtime::Handle;

use crate::config::ServiceConfig;

/// One instance, as its agent deals with it.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// Looks at the instance once: role, position, process.
    async fn observe(&self, within: Duration) -> Observation;

    /// Carries out one command, then reads the state back. [`Command::Fence`] goes over the
    /// fence's own connection and makes sure that nothing sent earlier over the control
    /// connection can still run. Never returns later than `within` (plus scheduling).
    async fn control(&self, command: Command, within: Duration) -> ControlOutcome;

    /// Opens what a fence needs beforehand and checks that each rung is possible.
    ///
    /// # Errors
    /// What is missing, in words for an operator.
    async fn rehearse(&self) -> Result<(), String>;

    /// Waits until the process behind the instance, as last seen by [`Database::observe`],
    /// exits, and tells which life it was. Pending while none was seen.
    async fn exited(&self) -> BootId;

    /// Looks at another instance of the same service, wherever it is, with the same credentials.
    async fn look(&self, address: SocketAddr, within: Duration) -> LookOutcome;

    /// SIGKILL by pidfd to the process as last verified, at once and from any thread: what is left
    /// when a fence did not come back. Waits for nothing.
    ///
    /// # Errors
    /// Why there was nothing to kill, or why it was not permitted.
    fn kill_now(&self) -> Result<BootId, String>;
}

/// A driver for a configured instance; changes and fences run on `fences`. Connects to nothing
/// yet.
///
/// # Errors
/// There is no such instance, or a certificate file cannot be read.
pub fn open(
    service: &ServiceConfig,
    instance: &InstanceName,
    fences: Handle,
) -> Result<Arc<dyn Database>, String> {
    let place = service.instances.get(instance).ok_or("it is not configured here")?;
    let (name, address) = (instance.clone(), place.address);
    let (credentials, tls) = (service.credentials.clone(), service.tls.clone());
    let fence_runtime = Some(fences);
    Ok(match service.kind {
        DatabaseKind::Redis => {
            let config = redis::RedisConfig { name, address, credentials, tls, fence_runtime };
            Arc::new(redis::RedisDatabase::new(config)?)
        }
        DatabaseKind::Mysql => {
            let config = mysql::MysqlConfig { name, address, credentials, tls, fence_runtime };
            Arc::new(mysql::MysqlDatabase::new(config)?)
        }
    })
}
