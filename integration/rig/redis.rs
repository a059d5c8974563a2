//! One Redis or Valkey server: its folder, its start-fenced configuration file and its process.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{Process, Supervision};
use super::resp::{self, Reply, Resp};
use super::scene::Server;
use super::tree;
use super::wait::{soon, until};
use super::writer::Writer;

/// Variable with the tree that Valkey is installed in.
pub const VALKEY_TREE: &str = "SENGU_VALKEY_TREE";

/// The line that makes a server start fenced.
pub const FENCED: &str = "replicaof 127.0.0.1 1";

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flavour {
    /// `redis-server` of this machine.
    Redis,
    /// `valkey-server` in a tree of its own, run there by `chroot`.
    Valkey(PathBuf),
}

impl Flavour {
    /// Valkey, from the tree that `integration/servers` has installed.
    ///
    /// # Panics
    /// If there is none: a missing server is a failure, not a reason to skip.
    #[must_use]
    pub fn valkey() -> Self {
        Self::Valkey(tree::find(VALKEY_TREE, "valkey", "usr/bin/valkey-server"))
    }

    /// Where folders of its servers may be.
    #[must_use]
    pub fn parent(&self) -> PathBuf {
        match self {
            Self::Redis => std::env::temp_dir(),
            Self::Valkey(tree) => tree.join("tmp"),
        }
    }

    /// A path as the server sees it.
    fn inside(&self, path: &Path) -> PathBuf {
        match self {
            Self::Redis => path.to_owned(),
            Self::Valkey(tree) => tree::inside(tree, path),
        }
    }

    fn command(&self, file: &Path) -> Vec<String> {
        let file = self.inside(file).display().to_string();
        match self {
            Self::Redis => vec!["redis-server".into(), file],
            Self::Valkey(tree) => {
                let tree = tree.display().to_string();
                vec!["chroot".into(), tree, "/usr/bin/valkey-server".into(), file]
            }
        }
    }
}

/// A server.
#[derive(Debug)]
pub struct Redis {
    /// The name of its instance.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its configuration file.
    pub file: PathBuf,
    process: Process,
}

fn empty(folder: &Path) {
    // What is not there needs no removal.
    let _ = fs::remove_dir_all(folder.join("appendonlydir"));
    let _ = fs::remove_file(folder.join("dump.rdb"));
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which server.
    pub flavour: Flavour,
    /// Does its disk have what it acknowledged?
    pub durable: bool,
    /// Does its file start it fenced?
    pub fenced: bool,
    /// More lines of its file.
    pub lines: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self { flavour: Flavour::Redis, durable: false, fenced: true, lines: String::new() }
    }
}

impl Redis {
    /// Starts a server in a new folder below this one, and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(parent: &Path, name: &str, address: SocketAddr, setup: &Setup) -> Self {
        let folder = parent.join(name);
        fs::create_dir_all(&folder).expect("the server's folder can be made");
        let file = folder.join("redis.conf");
        let (ip, port) = (address.ip(), address.port());
        let seen = setup.flavour.inside(&folder);
        let text = format!(
            "bind {ip}\nport {port}\nbind-source-addr {ip}\nprotected-mode no\ndir {}\n\
             save \"\"\nappendonly {}\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n\
             {}\n{}\n",
            seen.display(),
            if setup.durable { "yes" } else { "no" },
            if setup.fenced { FENCED } else { "" },
            setup.lines,
        );
        fs::write(&file, text).expect("the server's configuration can be written");
        let command = setup.flavour.command(&file);
        let process = Process::start(&folder, command, empty);
        let server = Self { name: name.to_owned(), address, file, process };
        server.wait_answering();
        server
    }

    /// Waits until it answers a ping, if only by asking for a password.
    ///
    /// # Panics
    /// If it does not within 10 s, with the end of its log.
    pub fn wait_answering(&self) {
        let up = soon(ANSWER, || self.answers().then_some(()));
        let stands = if self.process.exited() { "has ended" } else { "does not answer" };
        assert!(up.is_some(), "{} {stands}:\n{}", self.name, self.process.tail());
    }

    fn answers(&self) -> bool {
        let known = |reply: Reply| !reply.is_error() || reply.text().starts_with("NOAUTH");
        resp::ask(self.address, &["PING"]).is_ok_and(known)
    }

    /// What happens when its process ends.
    pub fn supervise(&self, supervision: Supervision) {
        self.process.supervise(supervision);
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.process.starts()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has its process exited?
    #[must_use]
    pub fn exited(&self) -> bool {
        self.process.exited()
    }

    /// SIGKILL. It is gone afterwards, unless a supervisor was faster.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// SIGSTOP; it stands still afterwards.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts it again after its end, with what its disk has, and waits until it answers.
    pub fn restart(&self) {
        self.process.restart();
        self.wait_answering();
    }

    /// The same, but that one which refuses its own file begins with nothing; whether it did.
    pub fn restart_or_begin_anew(&self) -> bool {
        self.process.restart();
        let refuses = || self.exited() && self.process.tail().contains("Bad file format");
        let refused = soon(ANSWER, || (refuses() || self.answers()).then(refuses)) == Some(true);
        if refused {
            self.process.restart_emptied();
        }
        self.wait_answering();
        refused
    }

    /// The same with nothing on its disk.
    pub fn restart_emptied(&self) {
        self.process.restart_emptied();
        self.wait_answering();
    }

    /// A new connection.
    ///
    /// # Panics
    /// If there is none to be had.
    #[must_use]
    pub fn connect(&self) -> Resp {
        Resp::connect(self.address, Duration::from_secs(2)).expect("the server accepts")
    }

    /// Asks once.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn ask(&self, words: &[&str]) -> Reply {
        self.connect().ask(words).expect("the server answers")
    }

    /// One field of `INFO`; empty if it is absent or nobody answers.
    #[must_use]
    pub fn info(&self, field: &str) -> String {
        let answer = resp::ask(self.address, &["INFO"]).map(|reply| reply.text());
        let answer = answer.unwrap_or_default();
        let found = answer.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    }

    /// Is it a replica of that one, in step?
    #[must_use]
    pub fn follows(&self, master: SocketAddr) -> bool {
        self.info("role") == "slave"
            && self.info("master_host") == master.ip().to_string()
            && self.info("master_port") == master.port().to_string()
            && self.info("master_link_status") == "up"
    }

    /// Does it take writes?
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.info("role") == "master"
    }

    /// The items of a list.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<String> {
        match self.ask(&["LRANGE", key, "0", "-1"]) {
            Reply::List(items) => items.iter().map(Reply::text).collect(),
            _ => Vec::new(),
        }
    }

    /// Makes it follow that one and waits until it is in step.
    ///
    /// # Panics
    /// If it is not within 10 s.
    pub fn follow(&self, master: SocketAddr) {
        let (host, port) = (master.ip().to_string(), master.port().to_string());
        self.ask(&["REPLICAOF", &host, &port]);
        let what = format!("{} follows {master}", self.name);
        until(&what, Duration::from_secs(10), || self.follows(master).then_some(()));
    }

    /// Makes it take writes.
    pub fn open(&self) {
        self.ask(&["REPLICAOF", "NO", "ONE"]);
    }
}

impl Server for Redis {
    const SERVICE: &'static str = super::trio::SERVICE;

    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn writable(&self) -> bool {
        self.is_master()
    }

    fn follows(&self, master: SocketAddr) -> bool {
        self.follows(master)
    }

    fn has_all_of(&self, other: &Self) -> bool {
        let copied = self.info("slave_repl_offset");
        !copied.is_empty() && copied == other.info("master_repl_offset")
    }

    fn restart(&self) {
        self.restart();
    }

    fn serials(&self, writer: &str) -> Vec<String> {
        self.list(writer)
    }

    fn pinned(key: &str, address: SocketAddr) -> Writer {
        Writer::pinned(key, address)
    }

    fn following(key: &str, dns: SocketAddr, name: &str) -> Writer {
        Writer::following(key, dns, name, super::trio::PORT)
    }
}
