//! An etcd of three members, each with an address of its own and etcd's own ports.
//!
//! The release is 3.5, from the tree that `integration/servers` has installed. A member can be
//! killed, stopped and started again; the data is on a real disk with real syncs.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::place::Place;
use super::process::{Process, Supervision};
use super::{soon, tree, until};

/// Variable with the tree that etcd 3.5 is installed in.
pub const TREE: &str = "SENGU_ETCD_TREE";
/// The address of the first member in its block; the others follow.
const FIRST: u8 = 101;
/// How many there are.
const MEMBERS: u8 = 3;

/// A cluster.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Process>,
    urls: Vec<String>,
}

impl Etcd {
    /// Starts three members and waits until they have a leader. `election` is the election
    /// time-out, in milliseconds.
    ///
    /// # Panics
    /// If they do not come up.
    #[must_use]
    #[track_caller]
    pub fn start(place: &Place, election: u32) -> Self {
        let etcd = Self::launch(place, election, |_, start| start());
        etcd.wait_led();
        etcd
    }

    /// Starts three members and waits for nothing; each of them, by its number from 0 on, where
    /// `within` starts it.
    ///
    /// # Panics
    /// If they cannot be started.
    #[must_use]
    #[track_caller]
    pub fn launch(
        place: &Place,
        election: u32,
        within: impl Fn(u8, &dyn Fn() -> Process) -> Process,
    ) -> Self {
        let program = tree::find(TREE, "etcd", "usr/bin/etcd").join("usr/bin/etcd");
        let numbers = 0..MEMBERS;
        let url = |number: u8, port: u16| format!("http://{}", place.socket(FIRST + number, port));
        let all: Vec<_> = numbers.clone().map(|at| format!("m{at}={}", url(at, 2380))).collect();
        let urls: Vec<_> = numbers.clone().map(|at| url(at, 2379)).collect();
        let members = numbers.map(|at| {
            let folder = place.path(&format!("etcd{at}"));
            std::fs::create_dir_all(&folder).expect("a member's folder can be made");
            let (client, peer) = (url(at, 2379), url(at, 2380));
            let command = vec![
                program.display().to_string(),
                format!("--name=m{at}"),
                format!("--data-dir={}", folder.join("data").display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", all.join(",")),
                format!("--heartbeat-interval={}", (election / 10).max(10)),
                format!("--election-timeout={election}"),
                "--logger=zap".into(),
            ];
            within(at, &|| Process::start(&folder, command.clone(), empty))
        });
        Self { members: members.collect(), urls }
    }

    /// Waits until there is a leader.
    ///
    /// # Panics
    /// If there is none in time.
    #[track_caller]
    pub fn wait_led(&self) {
        until("etcd has a leader", Duration::from_secs(30), || self.leader());
    }

    /// How agents reach it, as a list of TOML.
    #[must_use]
    pub fn endpoints(&self) -> String {
        format!("{:?}", self.urls)
    }

    /// The same by names, and whose they are.
    #[must_use]
    pub fn named(place: &Place) -> (String, Vec<(String, IpAddr)>) {
        let names = (0..MEMBERS).map(|at| (format!("m{at}.etcd.test"), place.address(FIRST + at)));
        let names: Vec<_> = names.collect();
        let urls = names.iter().map(|(name, _)| format!("http://{name}:2379"));
        (format!("{:?}", urls.collect::<Vec<_>>()), names)
    }

    /// Which member leads; none: nobody, or nobody says so.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let told = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.urls.join(",")))
            .args(["--command-timeout=1s", "--dial-timeout=500ms"])
            .args(["endpoint", "status", "--write-out=json"])
            .stdin(Stdio::null())
            .output()
            .expect("etcdctl runs");
        let told: Value = serde_json::from_slice(&told.stdout).ok()?;
        let leads = |one: &&Value| {
            let status = &one["Status"];
            status["leader"] != 0 && status["leader"] == status["header"]["member_id"]
        };
        let leading: Vec<_> = told.as_array()?.iter().filter(leads).collect();
        // A leader that was just stopped or is behind still thinks it leads.
        let newest = leading.iter().max_by_key(|one| one["Status"]["raftTerm"].as_u64())?;
        let url = newest["Endpoint"].as_str()?;
        self.urls.iter().position(|own| own == url)
    }

    /// The keys that begin so.
    ///
    /// # Panics
    /// If etcd does not answer.
    #[must_use]
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let told = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.urls.join(",")))
            .args(["get", "--prefix", "--keys-only", prefix])
            .stdin(Stdio::null())
            .output()
            .expect("etcdctl runs");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// SIGKILL to one member.
    pub fn kill(&self, member: usize) {
        self.members[member].kill();
    }

    /// Stops one member as it is.
    pub fn stop(&self, member: usize) {
        self.members[member].signal(Signal::STOP);
    }

    /// Lets a stopped one go on.
    pub fn resume(&self, member: usize) {
        self.members[member].signal(Signal::CONT);
    }

    /// Starts a killed one again, and waits for nothing.
    pub fn revive(&self, member: usize) {
        self.members[member].restart();
    }

    /// Starts a killed one again, and waits until there is a leader that knows it.
    ///
    /// # Panics
    /// If there is none in time.
    #[track_caller]
    pub fn restart(&self, member: usize) {
        self.members[member].restart();
        until("etcd has a leader again", Duration::from_secs(20), || self.leader());
    }

    /// Starts all members again after all were killed, and waits until one of them leads.
    ///
    /// # Panics
    /// If none does in time.
    #[track_caller]
    pub fn restart_all(&self) {
        self.members.iter().for_each(Process::restart);
        self.wait_led();
    }

    /// Waits until another member than this one leads.
    ///
    /// # Panics
    /// If none does in time.
    #[track_caller]
    pub fn until_led_by_another(&self, than: usize) -> usize {
        let other = || self.leader().filter(|leader| *leader != than);
        let found = soon(Duration::from_secs(20), other);
        found.expect("another member of etcd leads")
    }

    /// What happens to members that end.
    pub fn supervise(&self, supervision: Supervision) {
        self.members.iter().for_each(|member| member.supervise(supervision));
    }

    /// How many there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }
}

fn empty(folder: &Path) {
    // What is not there needs no removal.
    let _ = std::fs::remove_dir_all(folder.join("data"));
}
