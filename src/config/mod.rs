//! What was meant: the configuration after parsing, with every default filled in.
//!
//! `file.rs` holds what was written and `keys.rs` what may be written; nothing else of sengu ever
//! sees those. Reading is a function of the text and of the machine (`machine.rs`); all mistakes
//! of a file are told together. A secret is read here and never shown.

mod blot;
mod credentials;
mod diff;
mod file;
mod http;
pub mod keys;
mod machine;
mod meant;
mod outputs;
pub mod page;
mod parts;
mod problem;
pub mod schema;
mod services;
mod store;
mod suggest;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sengu_core::name::{HostName, InstanceName, ServiceName};
pub use sengu_core::policy::OnError;
use sengu_core::policy::{self, DatabaseKind, InstanceConfig, Judge, Policy};
use sengu_core::record::Phase;

use crate::token::{Hash, Scope};

pub(crate) use http::is_loopback;
pub use machine::{Elsewhere, Here, Machine};
pub use parts::folder;
pub(crate) use problem::count;
pub use problem::{ConfigError, Problem};

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/sengu/sengu.toml";

/// The agent's socket, unless the file names another.
pub const DEFAULT_SOCKET: &str = "/run/sengu/sengu.sock";

/// Where the store is kept, unless the file names another folder.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/sengu";

/// Everything an agent was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This host's name.
    pub host: HostName,
    /// The address its names answer with.
    pub address: IpAddr,
    /// Where the store and the agent's id are kept.
    pub data_dir: PathBuf,
    /// The unix socket of the operator's verbs, root only.
    pub socket: PathBuf,
    /// The datacenter of names and of Consul's dialect.
    pub datacenter: String,
    /// Does a guard run beside the agent? Default no.
    pub guard: bool,
    /// How long a holder may go without a beat; how long an answer counts as fresh.
    pub lease: Duration,
    /// Where records are kept.
    pub store: StoreConfig,
    /// The DNS server.
    pub dns: DnsConfig,
    /// The HTTP server.
    pub http: HttpConfig,
    /// Who may use it, by the name of the token.
    pub tokens: BTreeMap<String, TokenConfig>,
    /// Services with instances on this host.
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    /// Files to render.
    pub templates: Vec<TemplateConfig>,
    /// Programs to run.
    pub hooks: Vec<HookConfig>,
    /// Checks.
    pub checks: ChecksConfig,
}

/// Where records are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StoreConfig {
    /// One file in the data folder, one agent.
    #[default]
    Embedded,
    /// etcd, which the agents of several hosts share.
    Etcd(EtcdConfig),
}

/// etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Its members, as `http://address:port` or `https://name:port`.
    pub endpoints: Vec<String>,
    /// What all keys of this cluster of sengu begin with. Default `/sengu/`.
    pub prefix: String,
    /// etcd's election time-out. Default 1 s, which is etcd's.
    pub election: Duration,
    /// How long before the end of its lease a holder begins to fence itself. Default lease/4.
    pub fence: Duration,
    /// How agents log in, if they must.
    pub credentials: Option<Credentials>,
    /// TLS to the members.
    pub tls: Option<TlsConfig>,
}

/// The DNS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Where it listens, UDP and TCP; empty: nowhere. Default `127.0.0.1:8600`.
    pub listen: Vec<SocketAddr>,
    /// The domains it is authoritative for. Default `sengu`, `consul`.
    pub domains: Vec<String>,
    /// TTL of answers about services and hosts. Default 0.
    pub ttl: Duration,
    /// Where other names are asked; empty: refused. Default none.
    pub recursors: Vec<SocketAddr>,
    /// Who may ask other names, as networks (`127.0.0.0/8`). Default loopback.
    pub recursion_clients: Vec<(IpAddr, u8)>,
    /// Answers over UDP to one network beyond this host (IPv4 /24, IPv6 /56) in a second; beyond
    /// them clients are sent to TCP. Default 1000.
    pub responses_per_second: u32,
    /// TCP connections at a time. Default 256.
    pub connections: usize,
    /// Of one address beyond this host. Default 64.
    pub connections_per_address: usize,
}

/// The HTTP server: Consul's dialect, health answers for balancers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens; beyond loopback only with tokens. Default `127.0.0.1:8500`.
    pub listen: Vec<SocketAddr>,
    /// May it listen beyond loopback without TLS? Default no.
    pub plaintext: bool,
    /// Do the answers for balancers need no token? Default yes.
    pub health_without_token: bool,
    /// Does a client on this host need no token, though there are some? Default no.
    pub loopback_without_token: bool,
    /// The server's side of TLS.
    pub tls: Option<HttpTls>,
    /// Its bounds.
    pub limits: HttpLimits,
}

/// The server's side of TLS. PEM files; they are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTls {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whose certificates clients must have; none: no certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// Is TLS spoken on loopback addresses, too? Default no.
    pub loopback: bool,
}

/// Bounds of the HTTP server. Those for each address do not hold for clients on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Open connections at once. Default 8192.
    pub connections: usize,
    /// Of one address (IPv6: of one /64). Default 1024.
    pub connections_per_address: usize,
    /// Reads that wait for a change, at once. Default three quarters of `connections`.
    pub waiting: usize,
    /// Readers of the event stream. Default an eighth of `connections`.
    pub streams: usize,
    /// Requests of one address in a second, with as many on top at once. Default 1000.
    pub requests_per_second: u32,
    /// For a whole header, from its first byte or the connection's start. Default 10 s.
    pub header: Duration,
    /// Bytes of a request's line and header. Default 32 KiB.
    pub header_bytes: usize,
    /// For a whole body. Default 30 s.
    pub body: Duration,
    /// How long a client may take nothing of an answer. Default 30 s.
    pub stall: Duration,
    /// How long a connection may be idle between two requests. Default 2 min.
    pub idle: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connections: 8192,
            connections_per_address: 1024,
            waiting: 6144,
            streams: 1024,
            requests_per_second: 1000,
            header: seconds(10),
            header_bytes: 32 * 1024,
            body: seconds(30),
            stall: seconds(30),
            idle: seconds(120),
        }
    }
}

/// Who may use the HTTP server. Its name stands in the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// For what.
    pub scope: Scope,
    /// What is kept of the token; several while it is changed.
    pub hashes: Vec<Hash>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The database family.
    pub kind: DatabaseKind,
    /// The owner's decisions.
    pub policy: Policy,
    /// How the agent logs in, if it must.
    pub credentials: Option<Credentials>,
    /// TLS to the database, if wanted.
    pub tls: Option<TlsConfig>,
    /// How often an instance is asked for its role. Default 1 s.
    pub interval: Duration,
    /// How long it may take to answer. Default 500 ms.
    pub timeout: Duration,
    /// The instances on this host.
    pub instances: BTreeMap<InstanceName, InstanceConfig>,
}

/// A user and password, from a file or the environment. Never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The user. Redis without one: the default user; MySQL and MariaDB always have one.
    pub user: Option<String>,
    /// Its password.
    pub password: String,
    /// MySQL and MariaDB: what a copy logs in to its source with.
    pub replication: Option<ReplicationLogin>,
}

/// What a copy logs in to its source with (MySQL, MariaDB). Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplicationLogin {
    /// The replication account's user.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("replication", &self.replication)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ReplicationLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicationLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

/// TLS towards a database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// CA certificates to trust (PEM file); none: the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate and key (PEM files).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A file to render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateConfig {
    /// The template: a shipped name (`hosts.tera`) or a path.
    pub source: String,
    /// The file that it becomes.
    pub destination: PathBuf,
    /// Run after the bytes changed; no shell.
    pub command: Option<Vec<String>>,
    /// Run on the staged file (`{}` is its path) before the swap; non-zero refuses it.
    pub validate: Option<Vec<String>>,
    /// Deadline of either program. Default 30 s.
    pub timeout: Duration,
    /// Quiet time before a render; withdrawals of a master do not wait. Default 100 ms.
    pub wait_min: Duration,
    /// Longest wait while changes go on. Default 1 s.
    pub wait_max: Duration,
    /// May it become empty? Default no.
    pub allow_empty: bool,
    /// Given fewer hosts and servers than this, the last good lines are kept. Default 0.
    pub min_records: usize,
    /// Only the lines between sengu's markers are sengu's; the rest of the file is kept. Default:
    /// yes for the shipped `hosts.tera`, no for others, which replace the whole file.
    pub block: bool,
    /// Written over instead of replaced, for mount points. Default no.
    pub in_place: bool,
    /// Is the file that was replaced kept as `NAME.bak`? Default no.
    pub backup: bool,
    /// Its `user` or `user:group`; none: the old file's, else the agent's.
    pub owner: Option<String>,
    /// Its mode; none: the old file's, else `0644`.
    pub mode: Option<u32>,
}

/// A program to run at a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookConfig {
    /// When.
    pub phase: Phase,
    /// For which services; empty: all.
    pub services: Vec<ServiceName>,
    /// What is called.
    pub call: HookCall,
    /// The `user` or `user:group` that a program runs as; none: the agent's.
    pub user: Option<String>,
    /// The folder that a program runs in. Default `/`.
    pub folder: PathBuf,
    /// Deadline. Default 10 s.
    pub timeout: Duration,
    /// Whether its failure stops the move (`before-` phases only). Default continue.
    pub on_error: OnError,
}

/// What a hook calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCall {
    /// Program and arguments; no shell.
    Program(Vec<String>),
    /// A URL, with POST.
    Http {
        /// Where.
        url: String,
        /// File with a token that is sent as `Authorization: Bearer …`; read at each call.
        token: Option<PathBuf>,
    },
}

/// Checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksConfig {
    /// Folder with the operator's own definitions, one TOML file each. Default `checks` beside
    /// the configuration file.
    pub folder: PathBuf,
    /// May checks of files on this host run programs? Default no.
    pub scripts: bool,
    /// May checks that clients register over HTTP run programs? Default no.
    pub http_scripts: bool,
    /// Folder with service and check definitions in Consul's JSON. Default `services` beside the
    /// configuration file.
    pub services: PathBuf,
}

impl Config {
    /// Reads and checks a file, those of the folder beside it, and the environment.
    ///
    /// # Errors
    /// [`ConfigError`]: one cannot be read, or everything that is wrong in them.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_on(path, &Here)
    }

    /// The same, as if on that machine.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_on(path: &Path, machine: &dyn Machine) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let path = std::path::absolute(path).map_err(unreadable)?;
        meant::config(parts::read(&path)?, &path, machine)
    }

    /// Reads and checks a text as if it stood in that file, on that machine.
    ///
    /// # Errors
    /// [`ConfigError::Bad`] with everything that is wrong.
    pub fn parse(text: &str, path: &Path, machine: &dyn Machine) -> Result<Self, ConfigError> {
        let part = parts::Part::of(path.display().to_string(), text.to_owned());
        meant::config(vec![part], path, machine)
    }

    /// What the core is told of it: one judge (the embedded store) or several (etcd). `agent` is
    /// the random id kept in the data folder, `start` this life of the process.
    #[must_use]
    pub fn core(&self, agent: String, start: String) -> policy::Config {
        policy::Config {
            host: self.host.clone(),
            address: self.address,
            agent,
            start,
            judge: match &self.store {
                StoreConfig::Embedded => Judge::Alone { lease: self.lease },
                StoreConfig::Etcd(etcd) => Judge::Shared { lease: self.lease, fence: etcd.fence },
            },
            services: self
                .services
                .iter()
                .map(|(name, service)| {
                    let config = policy::ServiceConfig {
                        kind: service.kind,
                        policy: service.policy.clone(),
                        instances: service.instances.clone(),
                        hooks: self.phases(name),
                    };
                    (name.clone(), config)
                })
                .collect(),
            remembered: BTreeSet::new(),
        }
    }

    /// The phases for which a hook of this service is configured; one that may stop the move
    /// decides for its phase.
    #[must_use]
    pub fn phases(&self, service: &ServiceName) -> BTreeMap<Phase, OnError> {
        let mut phases = BTreeMap::new();
        let moves = |hook: &&HookConfig| Phase::ALL.contains(&hook.phase);
        for hook in self.hooks.iter().filter(|hook| hook.applies(service)).filter(moves) {
            let phase = phases.entry(hook.phase).or_insert(OnError::Continue);
            if hook.on_error == OnError::Abort {
                *phase = OnError::Abort;
            }
        }
        phases
    }

    /// What `new` has other than this, one line for each difference; no secrets.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<String> {
        diff::lines(self, new)
    }

    /// How many instances it has.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.services.values().map(|service| service.instances.len()).sum()
    }
}

impl HookConfig {
    /// Does it run for this service?
    #[must_use]
    pub fn applies(&self, service: &ServiceName) -> bool {
        self.services.is_empty() || self.services.contains(service)
    }
}

/// The socket that a configuration names, for commands that only want to reach the agent: whatever
/// else is wrong in it, and if there is none, the default.
#[must_use]
pub fn socket(path: &Path) -> PathBuf {
    recovered(path, "socket").unwrap_or_else(|| DEFAULT_SOCKET.into())
}

/// The data folder that a configuration names, in the same way.
#[must_use]
pub fn data_dir(path: &Path) -> PathBuf {
    recovered(path, "data_dir").unwrap_or_else(|| DEFAULT_DATA_DIR.into())
}

/// A text at the top, from the variable or the last file that has it.
fn recovered(path: &Path, key: &str) -> Option<PathBuf> {
    let variable = format!("SENGU_{}", key.to_uppercase());
    if let Some(set) = Here.variable(&variable).filter(|set| !set.is_empty()) {
        return Some(set.into());
    }
    let files = parts::beside(path).unwrap_or_default();
    files.iter().rev().map(PathBuf::as_path).chain([path]).find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let (table, _) = toml::de::DeTable::parse_recoverable(&text);
        Some(table.get_ref().get(key)?.get_ref().as_str()?.into())
    })
}

#[cfg(test)]
mod tests;
