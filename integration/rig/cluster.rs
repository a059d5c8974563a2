//! Several hosts with a network of their own between them: each has an agent, one server of the
//! same service, whatever database it is, and a member of the etcd that all share.
//!
//! The host with number n has the addresses n and 100 + n of its block, and nothing of it is
//! reached but by way of the network, where every link can be cut, each way for itself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::agent::Agent;
use super::etcd::Etcd;
use super::mysql::{self, Mysql, PORT as SQL, binlog};
use super::mysql_trio::write_credentials;
use super::network::Network;
use super::place::Place;
use super::process::Supervision;
use super::redis::{self, Redis, Setup};
use super::scene::Server;
use super::soon;
use super::trio::PORT;
use super::writer::Writer;
use crate::checker::{Loss, Micros, Term};

/// How many hosts there are.
pub const HOSTS: u8 = 3;
/// etcd's election time-out, in milliseconds.
const ELECTION: u32 = 1000;
/// On a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// One row of a server's own log: who committed it first, writer, serial, and when it began there.
pub type Row = (u32, String, u64, Micros);

/// What a cluster asks of a kind of server, beside what a scene does.
pub trait Member: Server + Sized {
    /// Which server, and how its service is set up.
    type Kind: Clone;

    /// Its name, for people.
    fn title(kind: &Self::Kind) -> String;
    /// Where such servers can live.
    fn place(kind: &Self::Kind) -> Place;
    /// Starts the one with this number, and waits until it answers.
    fn launch(kind: &Self::Kind, place: &Place, number: u8) -> Self;
    /// Lines of the service.
    fn lines(kind: &Self::Kind, place: &Place) -> String;
    /// Does its service promise to lose nothing?
    fn lossless(kind: &Self::Kind) -> bool;
    /// Makes it take writes for the first time.
    fn begin(&self);
    /// Makes it replicate.
    fn replicate(&self, from: SocketAddr);
    /// SIGSTOP.
    fn stop(&self);
    /// SIGCONT.
    fn resume(&self);
    /// What happens when its process ends.
    fn supervise(&self, supervision: Supervision);
    /// Starts it again with nothing on its disk, and waits until it answers.
    fn restart_emptied(&self);
    /// Clients' rows in its own log, in order; none: it keeps no log.
    fn log(&self) -> Option<Vec<Row>>;
    /// A client that keeps the answer of a name.
    fn cached(key: &str, dns: SocketAddr, name: &str, keep: Duration) -> Writer;
}

impl Member for Redis {
    type Kind = redis::Flavour;

    fn title(kind: &Self::Kind) -> String {
        match kind {
            redis::Flavour::Redis => "redis".into(),
            redis::Flavour::Valkey(_) => "valkey".into(),
        }
    }

    fn place(kind: &Self::Kind) -> Place {
        Place::claim_in(&kind.parent())
    }

    fn launch(kind: &Self::Kind, place: &Place, number: u8) -> Self {
        let setup = Setup { flavour: kind.clone(), ..Setup::default() };
        let (name, address) = (format!("cache{number}"), place.socket(number, PORT));
        Self::start(place.folder(), &name, address, &setup)
    }

    fn lines(_: &Self::Kind, _: &Place) -> String {
        "kind = \"redis\"\n".into()
    }

    fn lossless(_: &Self::Kind) -> bool {
        false
    }

    fn begin(&self) {
        self.open();
    }

    fn replicate(&self, from: SocketAddr) {
        self.follow(from);
    }

    fn stop(&self) {
        self.stop();
    }

    fn resume(&self) {
        self.resume();
    }

    fn supervise(&self, supervision: Supervision) {
        self.supervise(supervision);
    }

    fn restart_emptied(&self) {
        self.restart_emptied();
    }

    fn log(&self) -> Option<Vec<Row>> {
        None
    }

    fn cached(key: &str, dns: SocketAddr, name: &str, keep: Duration) -> Writer {
        Writer::cached(key, dns, name, PORT, keep)
    }
}

/// MySQL or MariaDB, and whether their service loses nothing.
#[derive(Debug, Clone)]
pub struct Sql {
    /// Which server.
    pub flavour: mysql::Flavour,
    /// `loss = "none"`.
    pub lossless: bool,
}

impl Member for Mysql {
    type Kind = Sql;

    fn title(kind: &Sql) -> String {
        let loss = if kind.lossless { ", loss = none" } else { "" };
        format!("{}{loss}", kind.flavour.name())
    }

    fn place(kind: &Sql) -> Place {
        Place::claim_in(&kind.flavour.parent())
    }

    fn launch(kind: &Sql, place: &Place, number: u8) -> Self {
        let mut setup = mysql::Setup::new(kind.flavour.clone());
        setup.semisync = kind.lossless;
        let (name, address) = (format!("db{number}"), place.socket(number, SQL));
        Self::start(place.folder(), &name, number.into(), address, &setup)
    }

    fn lines(kind: &Sql, place: &Place) -> String {
        let file = place.path("credentials");
        write_credentials(&file, mysql::SENGU.password);
        let loss = if kind.lossless { "loss = \"none\"\n" } else { "" };
        format!("kind = \"mysql\"\ncredentials = \"{}\"\ntimeout = \"1s\"\n{loss}", file.display())
    }

    fn lossless(kind: &Sql) -> bool {
        kind.lossless
    }

    fn begin(&self) {
        self.open();
        self.write(0);
    }

    fn replicate(&self, from: SocketAddr) {
        self.follow(from);
    }

    fn stop(&self) {
        self.stop();
    }

    fn resume(&self) {
        self.resume();
    }

    fn supervise(&self, supervision: Supervision) {
        self.supervise(supervision);
    }

    fn restart_emptied(&self) {
        self.restart_emptied();
    }

    fn log(&self) -> Option<Vec<Row>> {
        let row = |commit: binlog::Commit| {
            let at = Micros::try_from(commit.at).unwrap_or(Micros::MAX);
            (commit.origin, commit.writer, commit.serial, at)
        };
        Some(binlog::commits(self).into_iter().map(row).collect())
    }

    fn cached(key: &str, dns: SocketAddr, name: &str, keep: Duration) -> Writer {
        Writer::sql_cached(key, dns, name, SQL, keep)
    }
}

/// One host.
#[derive(Debug)]
pub struct Node<S> {
    // Ends before its server does.
    /// Its agent.
    pub agent: Agent,
    /// Its server.
    pub server: S,
    /// Its number.
    pub number: u8,
    /// The file that its agent renders.
    pub file: PathBuf,
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
    pub fn adopted(kind: S::Kind) -> Self {
        let place = S::place(&kind);
        let numbers: Vec<u8> = (1..=HOSTS).collect();
        let network = Network::start(&place, &numbers);
        let etcd = Etcd::launch(&place, ELECTION, |at, start| network.within(at + 1, start));
        network.within(1, || etcd.wait_led());
        let servers: Vec<S> = numbers
            .iter()
            .map(|number| network.within(*number, || S::launch(&kind, &place, *number)))
            .collect();
        network.within(1, || servers[0].begin());
        let master = servers[0].address();
        for (number, server) in (2..).zip(&servers[1..]) {
            network.within(number, || server.replicate(master));
        }
        let nodes = servers.into_iter().zip(numbers).map(|(server, number)| {
            let file = place.path(&format!("hosts{number}"));
            std::fs::write(&file, "127.0.0.1 localhost\n").expect("a file can be written");
            let config = config(&kind, &place, &etcd, &server, number, &file);
            let agent = network.within(number, || Agent::launch_on(&place, number, &config));
            Node { agent, server, number, file }
        });
        let mut nodes: Vec<Node<S>> = nodes.collect();
        for node in &mut nodes {
            network.within(node.number, || node.agent.wait_answering());
        }
        let cluster = Self { nodes, etcd, network, kind, place };
        cluster.adopt();
        for node in &cluster.nodes {
            // As every supervisor does; a fence may end a process that does not obey.
            node.server.supervise(Supervision::Restart);
        }
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

    /// Who is master, if all is steady: every agent names the same one, it alone takes writes, and
    /// all others follow it.
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
        Ok(master)
    }

    /// Waits until all is steady; who is master.
    ///
    /// # Panics
    /// If it is not in time.
    #[track_caller]
    pub fn until_steady(&self, within: Duration) -> usize {
        let found = soon(within, || self.steady().ok());
        found.unwrap_or_else(|| panic!("not steady: {:?}\n{}", self.steady(), self.explain()))
    }

    /// The terms of the service, as an agent tells them.
    #[must_use]
    #[track_caller]
    pub fn terms(&self, by: usize) -> Vec<Term> {
        let agent = &self.nodes[by].agent;
        let told = agent.sengu(&["history", S::SERVICE, "--json", "--limit", "1000"]).good();
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
    kind: &S::Kind,
    place: &Place,
    etcd: &Etcd,
    server: &S,
    number: u8,
    file: &std::path::Path,
) -> String {
    let (folder, service) = (place.folder().display(), S::SERVICE);
    format!(
        "host = \"db{number}\"\naddress = \"{}\"\ndata_dir = \"{folder}/data{number}\"\n\
         socket = \"{folder}/sengu{number}.sock\"\n[dns]\nlisten = [\"{}\"]\n\
         [http]\nlisten = [\"{}\"]\n[store]\nkind = \"etcd\"\nendpoints = {}\n\
         election = \"{ELECTION}ms\"\n\
         [service.{service}]\nfailover = \"auto\"\n{}\
         [service.{service}.cooldown]\nfailovers = 100\nwindow = \"1s\"\n\
         [service.{service}.instance.{}]\naddress = \"{}\"\n\
         [[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n",
        place.address(number),
        place.socket(number, 8600),
        place.socket(number, 8500),
        etcd.endpoints(),
        S::lines(kind, place),
        server.name(),
        server.address(),
        file.display(),
    )
}
