//! Starts members of etcd as child processes on loopback. They end with the test.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sengu_core::kv::Txn;
use tempfile::TempDir;

use crate::config::EtcdConfig;
use crate::store::Store;
use crate::store::etcd::EtcdStore;

/// Longest wait for a cluster to come up, on a busy machine.
const START: Duration = Duration::from_secs(30);
/// A member that is late, for these tests.
pub(super) const LATE: Duration = Duration::from_millis(250);

/// Which etcd.
#[derive(Debug, Clone, Copy)]
pub(super) enum Release {
    /// Debian 12's, 3.4.
    Old,
    /// 3.5, in the tree that `integration/servers` has installed.
    New,
}

impl Release {
    fn program(self) -> PathBuf {
        match self {
            Self::Old => "etcd".into(),
            Self::New => {
                let cache = std::env::var_os("XDG_CACHE_HOME")
                    .map(PathBuf::from)
                    .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
                let cached = || cache.unwrap_or_default().join("sengu-servers/etcd");
                let tree = std::env::var_os("SENGU_ETCD_TREE").map_or_else(cached, PathBuf::from);
                let program = tree.join("usr/bin/etcd");
                assert!(
                    program.exists(),
                    "{} is missing: run integration/servers, or set SENGU_ETCD_TREE",
                    program.display()
                );
                program
            }
        }
    }
}

/// One member.
struct Member {
    words: Vec<String>,
    log: PathBuf,
    child: Child,
}

/// A cluster.
pub(super) struct Cluster {
    members: Vec<Member>,
    pub(super) urls: Vec<String>,
    pub(super) folder: TempDir,
    scheme: &'static str,
}

impl Cluster {
    /// Starts members and waits until they answer.
    pub(super) async fn start(release: Release, count: usize) -> Self {
        let cluster = Self::launch(release, count, "http", |_| Vec::new());
        cluster.until_answers(&cluster.store()).await;
        cluster
    }

    /// Starts members with more arguments, by their folder; not waited for.
    pub(super) fn launch(
        release: Release,
        count: usize,
        scheme: &'static str,
        more: impl Fn(&TempDir) -> Vec<String>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // All are held until each is drawn, so that no two are the same.
        let held: Vec<_> =
            (0..count * 2).map(|_| TcpListener::bind("127.0.0.1:0").expect("binds")).collect();
        let ports: Vec<_> =
            held.iter().map(|held| held.local_addr().expect("bound").port()).collect();
        drop(held);
        let peers: Vec<String> =
            (0..count).map(|at| format!("m{at}=http://127.0.0.1:{}", ports[count + at])).collect();
        let urls: Vec<_> =
            (0..count).map(|at| format!("{scheme}://127.0.0.1:{}", ports[at])).collect();
        let more = more(&folder);
        let members = (0..count).map(|at| {
            let peer = peers[at].split_once('=').expect("a name").1;
            let words = [
                release.program().display().to_string(),
                format!("--name=m{at}"),
                format!("--data-dir={}", folder.path().join(format!("m{at}")).display()),
                format!("--listen-client-urls={}", urls[at]),
                format!("--advertise-client-urls={}", urls[at]),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", peers.join(",")),
                "--logger=zap".to_owned(),
            ];
            let words: Vec<_> = words.into_iter().chain(more.iter().cloned()).collect();
            let log = folder.path().join(format!("m{at}.log"));
            let child = spawn(&words, &log);
            Member { words, log, child }
        });
        let members = members.collect();
        Self { members, urls, folder, scheme }
    }

    /// How to reach it.
    pub(super) fn config(&self) -> EtcdConfig {
        EtcdConfig {
            endpoints: self.urls.clone(),
            prefix: "/sengu/test/".to_owned(),
            election: Duration::from_secs(1),
            fence: Duration::from_millis(1500),
            credentials: None,
            tls: None,
        }
    }

    pub(super) fn store(&self) -> EtcdStore {
        assert_eq!(self.scheme, "http", "a store with certificates is made by the test");
        EtcdStore::new(&self.config(), LATE).expect("no files to read")
    }

    /// Waits until it answers a linearizable read.
    pub(super) async fn until_answers(&self, store: &dyn Store) {
        let began = Instant::now();
        loop {
            match store.txn(Txn::default()).await {
                Ok(_) => return,
                Err(error) => assert!(
                    began.elapsed() < START,
                    "etcd does not answer: {error}\n{}",
                    self.members.iter().map(Member::tail).collect::<Vec<_>>().join("\n")
                ),
            }
        }
    }

    pub(super) fn kill(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.child.kill().expect("it ran");
        member.child.wait().expect("it ended");
    }

    pub(super) fn restart(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.child = spawn(&member.words, &member.log);
    }

    /// Restores it, while it does not run, from what `snapshot save` wrote: the way that etcd's
    /// guide tells, with the names it had.
    pub(super) fn set_back(&self, at: usize, snapshot: &str) {
        std::fs::remove_dir_all(self.folder.path().join(format!("m{at}"))).expect("it was there");
        let of_its_own =
            ["--name=", "--data-dir=", "--initial-cluster=", "--initial-advertise-peer-urls="];
        let words = self.members[at].words.iter().map(String::as_str);
        let words = words.filter(|word| of_its_own.iter().any(|it| word.starts_with(it)));
        let words: Vec<&str> = ["snapshot", "restore", snapshot].into_iter().chain(words).collect();
        self.tool(&words);
    }

    /// Stops it, or lets it go on.
    pub(super) fn stop(&self, at: usize, stop: bool) {
        let pid = i32::try_from(self.members[at].child.id()).ok().and_then(Pid::from_raw);
        let signal = if stop { Signal::STOP } else { Signal::CONT };
        kill_process(pid.expect("a process id"), signal).expect("it runs");
    }

    /// Runs etcd's own tool on it; what it says.
    pub(super) fn tool(&self, words: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.urls.join(",")));
        let told = command.args(words).stdin(Stdio::null()).output().expect("etcdctl runs");
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let errors = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "etcdctl {words:?}: {text}{errors}");
        text
    }
}

impl Member {
    fn tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    }
}

fn spawn(words: &[String], log: &PathBuf) -> Child {
    let log = File::options().create(true).append(true).open(log).expect("a log");
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(words)
        // Debian's service settings are not these members'.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{words:?} cannot be started: {error}"))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Fails only if it has ended already.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}
