//! Several hosts with a network of their own between them: each has an agent, one server of the
//! same service, whatever database it is, and a member of the etcd that all share.
//!
//! The host with number n has the addresses n and 100 + n of its block, and nothing of it is
//! reached but by way of the network, where every link can be cut, each way for itself.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::Agent;
use super::disk::Disk;
use super::etcd::Etcd;
use super::member::Member;
use super::network::Network;
use super::place::Place;
use super::process::Supervision;
use super::scene::settled;
use super::soon;
use super::wait::soon_every;
use crate::checker::{HookStart, Loss, Term};

/// How many hosts there are.
pub const HOSTS: u8 = 3;
/// On a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether all is steady, which asks every server and agent.
const LOOK: Duration = Duration::from_millis(200);
/// Where the hook notes each of its starts.
const HOOKS: &str = "hooks";
/// While this is there, the hook does not end.
const HOLD: &str = "hold";
/// One that is set apart is made anew when two looks so far apart have seen it.
const APART: Duration = Duration::from_secs(1);

/// How long a term lasts without a beat, and how quick the store's elections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The lease.
    pub lease: Duration,
    /// etcd's election time-out, in milliseconds.
    pub election: u32,
}

impl Timing {
    /// As sengu and etcd come.
    pub const USUAL: Self = Self { lease: Duration::from_secs(6), election: 1000 };
    /// For many rounds in a short time.
    pub const SHORT: Self = Self { lease: Duration::from_secs(3), election: 500 };
}

/// One host.
#[derive(Debug)]
pub struct Node<S> {
    // Nobody can be ended who waits for it.
    /// The disk that its server has for itself, if any.
    pub disk: Option<Disk>,
    // Ends before its server does.
    /// Its agent.
    pub agent: Agent,
    /// Its server.
    pub server: S,
    /// Its number.
    pub number: u8,
    /// The file that its agent renders.
    pub file: PathBuf,
    /// Its server came back with older data, and was not made anew since.
    pub set_back: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Cluster<S: Member> {
    /// By number, from 1 on.
    pub nodes: Vec<Node<S>>,
    /// Their etcd, a member on each.
    pub etcd: Etcd,
    /// What is between them.
    pub network: Network,
    /// What they are.
    pub kind: S::Kind,
    /// Lease and elections.
    pub timing: Timing,
    // The last to go.
    place: Place,
}

impl<S: Member> Cluster<S> {
    /// Starts everything and adopts the service; the first host has the master.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn adopted(kind: S::Kind, timing: Timing) -> Self {
        Self::start(kind, timing, |_| None)
    }

    /// The same with a small disk for each server.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn on_disks(kind: S::Kind, timing: Timing) -> Self {
        Self::start(kind, timing, |folder| Some(Disk::fragile(folder, S::DISK)))
    }

    #[track_caller]
    fn start(kind: S::Kind, timing: Timing, disk: impl Fn(&Path) -> Option<Disk>) -> Self {
        let place = S::place(&kind);
        let numbers: Vec<u8> = (1..=HOSTS).collect();
        let network = Network::start(&place, &numbers);
        let etcd = Etcd::launch(&place, timing.election, |at, start| network.within(at + 1, start));
        network.within(1, || etcd.wait_led());
        let disks: Vec<Option<Disk>> =
            numbers.iter().map(|number| disk(&place.path(&S::instance(*number)))).collect();
        let servers: Vec<S> = numbers
            .iter()
            .map(|number| network.within(*number, || S::launch(&kind, &place, *number)))
            .collect();
        network.within(1, || servers[0].begin());
        let master = servers[0].address();
        for (number, server) in (2..).zip(&servers[1..]) {
            network.within(number, || server.replicate(master));
        }
        let nodes = servers.into_iter().zip(disks).zip(numbers).map(|((server, disk), number)| {
            let file = place.path(&format!("hosts{number}"));
            std::fs::write(&file, "127.0.0.1 localhost\n").expect("a file can be written");
            let config = config((&kind, timing), &place, &etcd, &server, number, &file);
            let agent = network.within(number, || Agent::launch_on(&place, number, &config));
            Node { disk, agent, server, number, file, set_back: false }
        });
        let mut nodes: Vec<Node<S>> = nodes.collect();
        for node in &mut nodes {
            // As every supervisor does; a fence may end a process that does not obey.
            node.server.supervise(Supervision::Restart);
            network.within(node.number, || node.agent.wait_answering());
        }
        let cluster = Self { nodes, etcd, network, kind, timing, place };
        cluster.adopt();
        cluster
    }

    #[track_caller]
    fn adopt(&self) {
        let agent = &self.nodes[0].agent;
        let up = |status: &Value| {
            let instances = status["instances"].as_array().map_or(&[][..], Vec::as_slice);
            instances.iter().filter(|at| at["health"] == "up").count() == self.nodes.len()
        };
        agent.until_status(S::SERVICE, "all instances were looked at", PATIENCE, up);
        let adopted = soon(PATIENCE, || {
            let told = agent.sengu(&["adopt", S::SERVICE, "--wait", "15"]);
            (told.code == Some(0)).then_some(())
        });
        assert!(adopted.is_some(), "not adopted: {}", self.explain());
        self.until_steady(PATIENCE);
    }

    /// Where it lives.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The name of the master.
    #[must_use]
    pub fn master_name() -> String {
        format!("master.{}.service.dc1.consul", S::SERVICE)
    }

    /// What every agent says of the service, for a test that fails.
    #[must_use]
    pub fn explain(&self) -> String {
        let told = self.nodes.iter().map(|node| {
            let told = node.agent.sengu(&["explain", S::SERVICE]).all();
            format!("--- host {}\n{told}\n{}\n", node.number, node.agent.tail())
        });
        told.collect()
    }

    /// The node with an address.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Option<usize> {
        self.nodes.iter().position(|node| node.server.address().ip() == ip)
    }

    /// Whom the agent of a node names as master.
    #[must_use]
    pub fn named_by(&self, node: usize) -> Option<usize> {
        let node = &self.nodes[node];
        let name = Self::master_name();
        match self.network.within(node.number, || node.agent.addresses(&name))[..] {
            [one] => self.at(one),
            _ => None,
        }
    }

    /// Does something with a server, on its own host.
    #[track_caller]
    pub fn on<T>(&self, node: usize, work: impl FnOnce(&S) -> T) -> T {
        let node = &self.nodes[node];
        self.network.within(node.number, || work(&node.server))
    }

    /// Waits until the agent of a node names another than this one.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until_other(&self, by: usize, than: usize, within: Duration) -> usize {
        let found = soon(within, || self.named_by(by).filter(|named| *named != than));
        found.unwrap_or_else(|| panic!("nobody else was named in time\n{}", self.explain()))
    }

    /// Who is master, if all is steady: every agent names the same one, it alone takes writes, all
    /// others follow it, no agent has anything to say, and where nothing may be lost each copy is
    /// known to hold everything.
    ///
    /// # Errors
    /// With what is missing.
    pub fn steady(&self) -> Result<usize, String> {
        let named: Vec<_> = (0..self.nodes.len()).map(|node| self.named_by(node)).collect();
        let Some(master) = named[0].filter(|_| named.windows(2).all(|pair| pair[0] == pair[1]))
        else {
            return Err(format!("named are {named:?}"));
        };
        let address = self.nodes[master].server.address();
        for node in 0..self.nodes.len() {
            let name = self.nodes[node].server.name();
            let writable = self.on(node, S::writable);
            if writable != (node == master) {
                return Err(format!("{name} takes writes: {writable}"));
            }
            if node != master && !self.on(node, |server| server.follows(address)) {
                return Err(format!("{name} does not follow"));
            }
        }
        for node in &self.nodes {
            let told = node.agent.sengu(&["status", S::SERVICE, "--json"]);
            let told: Value = serde_json::from_str(&told.out).unwrap_or_default();
            if !settled(&told[0]) {
                let (wrong, doing) = (&told[0]["problems"], &told[0]["doing"]);
                return Err(format!("host {} says {wrong}, does {doing}", node.number));
            }
        }
        if S::lossless(&self.kind) {
            self.in_sync(master)?;
        }
        Ok(master)
    }

    /// Every copy is known to hold every acknowledged write.
    fn in_sync(&self, master: usize) -> Result<(), String> {
        let told = self.nodes[master].agent.sengu(&["explain", S::SERVICE, "--json"]);
        let told: Value = serde_json::from_str(&told.out).unwrap_or_default();
        let (term, sync) = (&told["term"], &told["inputs"]["sync"][1]);
        let copies = sync["copies"]
            .as_object()
            .map_or(0, |copies| copies.values().filter(|standing| *standing == "member").count());
        let good = sync["term"] == *term && sync["complete"] == true;
        if good && copies + 1 == self.nodes.len() {
            return Ok(());
        }
        Err(format!("in sync in term {term} is {sync}"))
    }

    /// Waits until all is steady; who is master, if it is in time.
    pub fn soon_steady(&self, within: Duration) -> Option<usize> {
        soon_every(LOOK, within, || self.steady().ok())
    }

    /// Waits until all copies have applied what their master has, while nobody writes: one that was
    /// made anew begins with the first write there ever was.
    pub fn soon_applied(&self, master: usize, within: Duration) -> Option<()> {
        let last = &self.nodes[master].server;
        let applied = |node| node == master || self.on(node, |server| server.has_all_of(last));
        soon_every(LOOK, within, || (0..self.nodes.len()).all(applied).then_some(()))
    }

    /// Waits until all is steady, and does meanwhile what a person and a supervisor do: a copy that
    /// sengu has set apart is made anew, an agent that has ended is started again. `told` hears it.
    pub fn soon_mended(&mut self, within: Duration, mut told: impl FnMut(String)) -> Option<usize> {
        let (mut looked, mut apart) = (Instant::now(), Vec::new());
        soon_every(LOOK, within, || {
            let steady = self.steady().ok();
            if steady.is_none() && looked.elapsed() >= APART {
                let seen = self.set_apart();
                for node in seen.iter().filter(|node| apart.contains(*node)) {
                    let name = self.nodes[*node].server.name();
                    told(format!("{name} was set apart, and is made anew"));
                    self.on(*node, S::make_anew);
                    self.nodes[*node].set_back = false;
                }
                for node in &mut self.nodes {
                    if node.agent.wait_ended(Duration::ZERO).is_some() {
                        told(format!("the agent of host {} had ended", node.number));
                        self.network.within(node.number, || node.agent.relaunch());
                    }
                }
                (looked, apart) = (Instant::now(), seen);
            }
            steady
        })
    }

    /// What a person does with servers that came back with older data, once another is master: they
    /// get its data and a new identity, or could never be promoted again.
    pub fn renew_set_back(&mut self, master: usize) {
        for at in (0..self.nodes.len()).filter(|at| *at != master) {
            if std::mem::take(&mut self.nodes[at].set_back) && S::NUMBERS {
                self.on(at, S::make_anew);
            }
        }
    }

    /// The nodes whose servers a person has to make anew, as sengu says: they have what nobody
    /// else has, or were set back and never get what they had written themselves.
    #[must_use]
    pub fn set_apart(&self) -> Vec<usize> {
        let apart = |node: &usize| {
            let (node, name) = (&self.nodes[*node], self.nodes[*node].server.name());
            let told = node.agent.sengu(&["status", S::SERVICE, "--json"]).out;
            let lacks = node.set_back && told.contains(&format!("{name} is far behind"));
            lacks || told.contains(&format!("{name} is quarantined"))
        };
        (0..self.nodes.len()).filter(apart).collect()
    }

    /// The starts of the hook that runs after a failover, in their order.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookStart> {
        let text = std::fs::read_to_string(self.place.path(HOOKS)).unwrap_or_default();
        let start = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let term = words.next()?.parse().ok()?;
            Some(HookStart { term, phase: words.next()?, host: words.next()? })
        };
        text.lines().filter_map(start).collect()
    }

    /// From now on that hook does not end, until it may.
    ///
    /// # Panics
    /// If the disk is full.
    pub fn hold_hooks(&self) {
        std::fs::write(self.place.path(HOLD), "").expect("a file can be written");
    }

    /// It ends at once again.
    pub fn let_hooks_go(&self) {
        // It may not be there.
        let _ = std::fs::remove_file(self.place.path(HOLD));
    }

    /// How many histories of masters the master's record knows, as the first agent tells that
    /// answers.
    #[must_use]
    pub fn histories(&self) -> usize {
        let known = self.nodes.iter().find_map(|node| {
            let told = node.agent.sengu(&["explain", S::SERVICE, "--json"]);
            let told: Value = serde_json::from_str(&told.out).ok()?;
            told["inputs"]["record"][1]["origins"].as_array().map(Vec::len)
        });
        known.unwrap_or_default()
    }

    /// Waits until all is steady; who is master.
    ///
    /// # Panics
    /// If it is not in time.
    #[track_caller]
    pub fn until_steady(&self, within: Duration) -> usize {
        let found = self.soon_steady(within);
        found.unwrap_or_else(|| panic!("not steady: {:?}\n{}", self.steady(), self.explain()))
    }

    /// The terms of the service, as the first agent tells them that answers.
    ///
    /// # Panics
    /// If none does.
    #[must_use]
    #[track_caller]
    pub fn terms(&self) -> Vec<Term> {
        let words = ["history", S::SERVICE, "--json", "--limit", "1000"];
        let told = self.nodes.iter().map(|node| node.agent.sengu(&words));
        let told = told.into_iter().find(|told| told.code == Some(0));
        let told = told.unwrap_or_else(|| panic!("no agent tells of terms\n{}", self.explain()));
        let told = told.json();
        let mut terms: Vec<Term> = told.as_array().into_iter().flatten().map(term).collect();
        terms.sort_by_key(|term| term.term);
        terms
    }
}

/// A term as `history --json` tells it.
fn term(told: &Value) -> Term {
    let steps = told["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let time = |step: &Value| step["at"].as_i64().map(|millis| millis * 1000);
    let step = |name: &str| steps.iter().find(|step| step["name"] == name).and_then(time);
    let began = steps.first().and_then(time).unwrap_or_default();
    let cause = &told["cause"];
    Term {
        term: told["term"].as_u64().unwrap_or_default(),
        holder: told["to"].as_str().unwrap_or_default().to_owned(),
        began,
        taken: step("taken").unwrap_or(began),
        served: step("serving"),
        planned: cause == "switchover",
        forced: cause == "requested",
        loss: Loss::read(told["loss"].as_str().unwrap_or_default()),
    }
}

fn config<S: Member>(
    (kind, timing): (&S::Kind, Timing),
    place: &Place,
    etcd: &Etcd,
    server: &S,
    number: u8,
    file: &Path,
) -> String {
    let (folder, service) = (place.folder().display(), S::SERVICE);
    let hook = format!(
        "echo $SENGU_TERM $SENGU_PHASE $SENGU_HOST >> {folder}/{HOOKS}; \
         while [ -e {folder}/{HOLD} ]; do sleep 0.1; done"
    );
    format!(
        "host = \"db{number}\"\naddress = \"{}\"\ndata_dir = \"{folder}/data{number}\"\n\
         socket = \"{folder}/sengu{number}.sock\"\n[dns]\nlisten = [\"{}\"]\n\
         [http]\nlisten = [\"{}\"]\n[store]\nkind = \"etcd\"\nendpoints = {}\n\
         election = \"{}ms\"\nlease = \"{}ms\"\n\
         [service.{service}]\nfailover = \"auto\"\n{}\
         [service.{service}.cooldown]\nfailovers = 100\nwindow = \"1s\"\n\
         [service.{service}.instance.{}]\naddress = \"{}\"\n\
         [[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n\
         [[hook]]\nphase = \"after-failover\"\ncommand = [\"/bin/sh\", \"-c\", \"{hook}\"]\n\
         timeout = \"20s\"\n",
        place.address(number),
        place.socket(number, 8600),
        place.socket(number, 8500),
        etcd.endpoints(),
        timing.election,
        timing.lease.as_millis(),
        S::lines(kind, place),
        server.name(),
        server.address(),
        file.display(),
    )
}
