//! MySQL and MariaDB: one server, as its agent deals with it.
//!
//! Four connections: one to look, one ordered *control* connection for all changes, and two for
//! the fence, all but the first opened before they are needed and where the server has one on its
//! second port. A change that was sent and not answered may still run: its session is ended on the
//! server before anything newer is sent, and a fence is done only when no such session is left and
//! the server reads back as refusing writes.
//!
//! It never writes an open state to a file (no `SET PERSIST`), never throws away what a copy
//! received and did not apply, never falls back from waiting for acknowledgements by itself, and
//! never tells what stands in a statement.

mod applier;
mod change;
mod connection;
mod control;
mod fault;
mod features;
mod fence;
mod observe;
mod obstacles;
mod rehearse;
mod semi_sync;
mod server;
mod sessions;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod upkeep;
mod verdicts;
mod write;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use sengu_core::event::{Command, ControlOutcome, LookOutcome};
use sengu_core::name::{BootId, InstanceName};
use sengu_core::observation::{Observation, Settings};
use tokio::runtime::Handle;

use self::connection::{Dialer, Session};
use self::observe::Standing;
pub(crate) use self::write::{Writer, Wrote};
use super::Database;
use super::lane::{Runtime, Unsure, lock};
use super::life::Lives;
use crate::config::{Credentials, ReplicationLogin, TlsConfig};

/// A server that is not let speak is taken for one if its program is named like this.
const PROGRAMS: [&str; 2] = ["mariadbd", "mysqld"];

/// How to reach one server.
#[derive(Debug, Clone)]
pub struct MysqlConfig {
    /// The instance's name, for messages.
    pub name: InstanceName,
    /// Its address, which must be this host's.
    pub address: SocketAddr,
    /// How the agent logs in, and how a copy logs in at its master; if that is not told, as the
    /// agent does.
    pub credentials: Option<Credentials>,
    /// TLS, if wanted. The certificate must name the IP address.
    pub tls: Option<TlsConfig>,
    /// Where the fence's and the control connection live and the fence runs: a runtime of the
    /// fence thread's own, with I/O and time. None: whichever runtime calls.
    pub fence_runtime: Option<Handle>,
}

/// One MySQL or MariaDB server.
pub struct MysqlDatabase(Arc<Shared>);

/// What the parts of the driver share. No lock of it is held over a wait, but for `lane` and
/// `standing`, and the fence asks for neither.
struct Shared {
    name: InstanceName,
    address: SocketAddr,
    dialer: Dialer,
    /// How a copy logs in at its master.
    replication: Option<ReplicationLogin>,
    /// Copies use TLS towards their master.
    tls: bool,
    fence_runtime: Runtime,
    /// The process behind the address. A server tells no pid: whoever listens.
    lives: Lives<()>,
    sessions: Mutex<Sessions>,
    /// Held by the command that is at work: they go one after the other.
    lane: tokio::sync::Mutex<()>,
    standing: tokio::sync::Mutex<Standing>,
    /// The standing connection's own session, which a fence spares.
    looking: Mutex<Option<u64>>,
    remembered: Mutex<Remembered>,
    judge: settings::Judge,
    judging: AtomicBool,
    upkeep: AtomicBool,
}

/// What is kept between two looks.
#[derive(Default)]
struct Remembered {
    /// What was last judged of its settings.
    settings: Settings,
    /// Of which life that was, and when.
    judged: Option<(Option<BootId>, tokio::time::Instant)>,
    /// The last source that was named by a host name, resolved.
    resolved: Option<((String, u16), SocketAddr)>,
    /// How its semi-sync is called, as it was last learned.
    semi_sync: Option<features::SemiSyncNames>,
    /// Its second address, as it last told it.
    spare: Option<SocketAddr>,
    /// Accounts that write in spite of `read_only`, each with the statement that ends it, as last
    /// told by the server; `None` before it was asked.
    above: Option<Vec<String>>,
    /// The event scheduler is on by its files, as last read.
    events: Option<bool>,
    /// What was set at run time in this life, and must not be taken for the configuration.
    made: Option<(BootId, Made)>,
}

/// What the driver itself set in a server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Made {
    /// The last count of acknowledgements that commits were told to wait for.
    awaits: Option<u32>,
    /// The event scheduler was seen on.
    events_on: bool,
    /// A fence switched it off.
    events_off: bool,
    /// A fence switched the server offline, which was not (MySQL).
    offline: bool,
}

/// The connections that can change something, and those that might still.
#[derive(Default)]
struct Sessions {
    /// Counts fences: a command that began before one sends nothing after it.
    epoch: u64,
    control: Option<Session>,
    /// One to set, one to end sessions with.
    fence: [Option<Session>; 2],
    unsure: Unsure,
}

impl MysqlDatabase {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Names the certificate file that cannot be read.
    pub fn new(config: MysqlConfig) -> Result<Self, String> {
        let MysqlConfig { name, address, credentials, tls, fence_runtime } = config;
        let dialer = Dialer::new(credentials.as_ref(), tls.as_ref())?;
        let replication = credentials.map(|login| {
            let Credentials { user, password, replication } = login;
            let user = user.unwrap_or_else(|| connection::DEFAULT_USER.to_owned());
            replication.unwrap_or(ReplicationLogin { user, password })
        });
        Ok(Self(Arc::new(Shared {
            name,
            address,
            dialer,
            replication,
            tls: tls.is_some(),
            fence_runtime: Runtime(fence_runtime),
            lives: Lives::new(address, &PROGRAMS),
            sessions: Mutex::default(),
            lane: tokio::sync::Mutex::default(),
            standing: tokio::sync::Mutex::default(),
            looking: Mutex::default(),
            remembered: Mutex::default(),
            judge: settings::Judge::default(),
            judging: AtomicBool::new(false),
            upkeep: AtomicBool::new(false),
        })))
    }
}

impl std::fmt::Debug for MysqlDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlDatabase")
            .field("name", &self.0.name)
            .field("address", &self.0.address)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Database for MysqlDatabase {
    async fn observe(&self, within: std::time::Duration) -> Observation {
        observe::observe(&self.0, within).await
    }

    async fn control(&self, command: Command, within: std::time::Duration) -> ControlOutcome {
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

    async fn look(&self, address: SocketAddr, within: std::time::Duration) -> LookOutcome {
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

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        lock(&self.remembered)
    }

    fn remember_above(&self, above: &[settings::Above]) {
        let line = |above: &settings::Above| {
            format!("{} ({}): run `{}`", above.account, above.why, above.revoke)
        };
        self.remembered().above = Some(above.iter().map(line).collect());
    }

    /// The sessions that a driver never ends: its own that change nothing, and those that it needs
    /// to end the others.
    fn own_sessions(&self, session: &Session) -> Vec<u64> {
        let looking = *lock(&self.looking);
        let fences = self.sessions().fence.clone();
        let fences = fences.iter().flatten().map(Session::id);
        looking.into_iter().chain(fences).chain([session.id()]).collect()
    }

    /// What the driver set in this life of the server.
    fn made(&self, boot_id: &BootId) -> Made {
        let remembered = self.remembered();
        let made = remembered.made.as_ref().filter(|(life, _)| life == boot_id);
        made.map(|(_, made)| *made).unwrap_or_default()
    }

    /// Keeps what the driver sets in this life of the server.
    fn make(&self, boot_id: &BootId, change: impl FnOnce(&mut Made)) {
        let mut made = self.made(boot_id);
        change(&mut made);
        self.remembered().made = Some((boot_id.clone(), made));
    }

    /// Was the event scheduler, which is off now, switched off by a fence? By one of an agent that
    /// ran before this one, too: then it was never seen on here, and is on by the server's files.
    fn events_are_due(&self, boot_id: &BootId) -> bool {
        let (made, by_file) = (self.made(boot_id), self.remembered().events);
        made.events_off || (!made.events_on && by_file == Some(true))
    }
}
