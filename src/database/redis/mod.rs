//! Redis and Valkey: one server, as its agent deals with it.
//!
//! Three connections: one to look, one ordered *control* connection for all changes, and one for
//! the fence, both of the latter opened before they are needed. A change that was sent and not
//! answered may still run: its session is ended on the server before anything newer is sent, and
//! a fence is done only when no such session is left and the server reads back as a read-only
//! copy of a closed local port.
//!
//! It never writes the server's configuration file (no `CONFIG REWRITE`), never uses the
//! server's own `FAILOVER`, never takes a pause for a fence, and does not touch `masterauth` or
//! `masteruser`: replication logs in with what the server was configured with.

mod connection;
mod control;
mod fence;
mod file;
mod observe;
mod rehearse;
mod reply;
mod state;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::event::{Command, ControlOutcome, LookOutcome};
use sengu_core::name::{BootId, InstanceName};
use sengu_core::observation::{Observation, Verdict};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use self::connection::{Dialer, Session};
use self::observe::Standing;
use super::Database;
use super::lane::{Runtime, Unsure, lock};
use super::life::Lives;
use crate::config::{Credentials, TlsConfig};
use crate::process::{FindError, Process};

/// Local ports that nothing is expected to listen on, the first choice first.
const CLOSED_PORTS: [u16; 7] = [1, 2, 3, 4, 5, 6, 8];

/// A local connection is accepted or refused within this.
const LOCAL_WAIT: Duration = Duration::from_millis(50);

/// A server that never answered is taken for one if its program is named like this.
const PROGRAMS: [&str; 3] = ["redis", "valkey", "keydb"];

/// How to reach one server.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// The instance's name, for messages.
    pub name: InstanceName,
    /// Its address, which must be this host's.
    pub address: SocketAddr,
    /// How to log in, if it must be.
    pub credentials: Option<Credentials>,
    /// TLS, if wanted. The certificate must name the IP address.
    pub tls: Option<TlsConfig>,
    /// Where the fence's and the control connection live and the fence runs: a runtime of the
    /// fence thread's own, with I/O and time. None: whichever runtime calls.
    pub fence_runtime: Option<Handle>,
}

/// One Redis or Valkey server.
pub struct RedisDatabase(Arc<Shared>);

/// What the parts of the driver share. No lock of it is held over a wait, but for `lane` and
/// `standing`, and the fence asks for neither.
struct Shared {
    name: InstanceName,
    address: SocketAddr,
    dialer: Dialer,
    fence_runtime: Runtime,
    /// The process behind the address, as last verified: by pid and run id, if the server told
    /// them.
    lives: Lives<(u32, String)>,
    sessions: Mutex<Sessions>,
    /// Held by the command that is at work: they go one after the other.
    lane: tokio::sync::Mutex<()>,
    standing: tokio::sync::Mutex<Standing>,
    starts_fenced: Mutex<Verdict>,
    judging: AtomicBool,
    upkeep: AtomicBool,
    /// The last source that was named by a host name, resolved.
    resolved: Mutex<Option<((String, u16), SocketAddr)>>,
}

/// The connections that can change something, and those that might still.
#[derive(Default)]
struct Sessions {
    /// Counts fences: a command that began before one sends nothing after it.
    epoch: u64,
    control: Option<Session>,
    fence: Option<Session>,
    unsure: Unsure,
}

impl RedisDatabase {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Names the certificate file that cannot be read.
    pub fn new(config: RedisConfig) -> Result<Self, String> {
        let dialer = Dialer::new(config.credentials.as_ref(), config.tls.as_ref())?;
        Ok(Self(Arc::new(Shared {
            name: config.name,
            address: config.address,
            dialer,
            fence_runtime: Runtime(config.fence_runtime),
            lives: Lives::new(config.address, &PROGRAMS),
            sessions: Mutex::default(),
            lane: tokio::sync::Mutex::default(),
            standing: tokio::sync::Mutex::default(),
            starts_fenced: Mutex::default(),
            judging: AtomicBool::new(false),
            upkeep: AtomicBool::new(false),
            resolved: Mutex::default(),
        })))
    }
}

impl std::fmt::Debug for RedisDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisDatabase")
            .field("name", &self.0.name)
            .field("address", &self.0.address)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Database for RedisDatabase {
    async fn observe(&self, within: Duration) -> Observation {
        observe::observe(&self.0, within).await
    }

    async fn control(&self, command: Command, within: Duration) -> ControlOutcome {
        match command {
            Command::Fence { kill } => fence::fence(&self.0, kill, within).await,
            command => control::control(&self.0, command, within).await,
        }
    }

    async fn rehearse(&self) -> Result<(), String> {
        rehearse::rehearse(&self.0).await
    }

    async fn exited(&self) -> BootId {
        self.0.lives.exited().await
    }

    async fn look(&self, address: SocketAddr, within: Duration) -> LookOutcome {
        observe::look(&self.0, address, within).await
    }

    fn kill_now(&self) -> Result<BootId, String> {
        self.0.lives.kill_now()
    }
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }

    /// The process of a server that told its pid and run id.
    fn identify(&self, pid: u32, run_id: &str) -> Result<Arc<Process>, FindError> {
        self.lives.identify(pid, (pid, run_id.to_owned()))
    }
}

/// A local port on which nothing listens now.
async fn closed_port() -> Result<SocketAddr, String> {
    for port in CLOSED_PORTS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Ok(Err(_)) = timeout(LOCAL_WAIT, TcpStream::connect(address)).await {
            return Ok(address);
        }
    }
    Err(format!("something listens on each of the local ports {CLOSED_PORTS:?}: free one of them"))
}
