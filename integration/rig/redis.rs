//! One Redis or Valkey server: its folder, its start-fenced configuration file, its process, and
//! a supervisor that starts it again at once, where a test wants one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;

use super::child::Child;
use super::resp::{self, Reply, Resp};
use super::wait::until;

/// Variable with the tree that Valkey is installed in.
pub const VALKEY_TREE: &str = "SENGU_VALKEY_TREE";

/// The line that makes a server start fenced.
pub const FENCED: &str = "replicaof 127.0.0.1 1";

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
        let tree = std::env::var_os(VALKEY_TREE).map_or_else(cached_tree, PathBuf::from);
        let program = tree.join("usr/bin/valkey-server");
        assert!(
            program.exists(),
            "valkey-server is missing in {}: run integration/servers, or set {VALKEY_TREE}",
            tree.display()
        );
        Self::Valkey(tree)
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
            Self::Valkey(tree) => Path::new("/").join(path.strip_prefix(tree).unwrap_or(path)),
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

/// Where `integration/servers` puts it.
fn cached_tree() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_default().join("sengu-servers/valkey")
}

/// What happens when the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// Nothing.
    None,
    /// It is started again at once, with what its disk has.
    Restart,
    /// It is started again at once, with nothing.
    RestartEmptied,
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
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    command: Vec<String>,
    child: Mutex<Child>,
    supervision: Mutex<Supervision>,
    starts: AtomicU32,
    over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed elsewhere does not matter here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn start(&self) -> Child {
        self.starts.fetch_add(1, Ordering::SeqCst);
        launch(&self.command, &self.folder)
    }

    fn empty(&self) {
        // What is not there needs no removal.
        let _ = fs::remove_dir_all(self.folder.join("appendonlydir"));
        let _ = fs::remove_file(self.folder.join("dump.rdb"));
    }
}

fn launch(command: &[String], folder: &Path) -> Child {
    Child::start(command, &folder.join("log"), &[]).expect("the server can be started")
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
        let child = Mutex::new(launch(&command, &folder));
        let shared = Arc::new(Shared {
            folder,
            command,
            child,
            supervision: Mutex::new(Supervision::None),
            starts: AtomicU32::new(1),
            over: AtomicBool::new(false),
        });
        let mut server = Self { name: name.to_owned(), address, file, shared, keeper: None };
        server.wait_answering();
        let shared = Arc::clone(&server.shared);
        server.keeper = Some(thread::spawn(move || keep(&shared)));
        server
    }

    /// Waits until it answers a ping, if only by asking for a password.
    ///
    /// # Panics
    /// If it does not within 10 s.
    pub fn wait_answering(&self) {
        until(&format!("{} answers", self.name), Duration::from_secs(10), || {
            let reply = resp::ask(self.address, &["PING"]).ok()?;
            (!reply.is_error() || reply.text().starts_with("NOAUTH")).then_some(())
        });
    }

    /// What happens when its process ends.
    pub fn supervise(&self, supervision: Supervision) {
        *locked(&self.shared.supervision) = supervision;
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::SeqCst)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        locked(&self.shared.child).pid()
    }

    /// Has its process exited?
    #[must_use]
    pub fn exited(&self) -> bool {
        locked(&self.shared.child).exited().is_some()
    }

    /// SIGKILL. It is gone afterwards, unless a supervisor was faster.
    pub fn kill(&self) {
        locked(&self.shared.child).kill();
    }

    /// SIGSTOP.
    pub fn stop(&self) {
        locked(&self.shared.child).signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        locked(&self.shared.child).signal(Signal::CONT);
    }

    /// Starts it again after its end, with what its disk has, and waits until it answers.
    pub fn restart(&self) {
        {
            let mut child = locked(&self.shared.child);
            child.kill();
            *child = self.shared.start();
        }
        self.wait_answering();
    }

    /// The same with nothing on its disk.
    pub fn restart_emptied(&self) {
        self.kill();
        self.shared.empty();
        self.restart();
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

fn keep(shared: &Shared) {
    while !shared.over.load(Ordering::SeqCst) {
        {
            let mut child = locked(&shared.child);
            let supervision = *locked(&shared.supervision);
            if supervision != Supervision::None && child.exited().is_some() {
                if supervision == Supervision::RestartEmptied {
                    shared.empty();
                }
                *child = shared.start();
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(keeper) = self.keeper.take() {
            // It panics only if a restart failed, which the test has seen.
            let _ = keeper.join();
        }
        self.kill();
    }
}
