//! Several hosts on one machine: each has an address, an agent and one server of the same service,
//! whatever database it is, and all share an etcd.
//!
//! The host with number n has the address n of its block; its agent answers DNS and HTTP there.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::Agent;
use super::disk::Disk;
use super::etcd::Etcd;
use super::place::Place;
use super::redis::Redis;
use super::resolver::Resolver;
use super::scene::{Server, settled};
use super::soon;
use super::uptime;
use super::writer::{self, Ack, Writer};

/// What several hosts ask of a kind of server, beside what a scene does.
pub trait Hosted: Server + Sized {
    /// How its scene is described.
    type Settings;

    /// Where such servers can live.
    fn place(settings: &Self::Settings) -> Place;
    /// Servers that replicate, the first of them open.
    fn replicating(place: &Place, settings: &Self::Settings) -> Vec<Self>;
    /// Lines of the service, the same on every host.
    fn service(place: &Place, settings: &Self::Settings) -> String;
    /// Lines of the instance on the host with this number.
    fn instance(_: &Self::Settings, _: u8) -> String {
        String::new()
    }
    /// So long it may go on trying to reach a source that accepts connections and says nothing,
    /// before it can be detached.
    fn clings(&self) -> Duration {
        Duration::ZERO
    }

    /// Checks that no two of them took writes in turns across a move: by what clients were told,
    /// and by the servers' own logs where they have any. `masters` is the order in which they were
    /// masters.
    ///
    /// # Panics
    /// With what breaks it.
    #[track_caller]
    fn judge(servers: &[&Self], masters: &[SocketAddr], told: &[(String, Vec<Ack>)]);
}

/// What the hosts are made of.
#[derive(Debug, Clone)]
pub struct Settings<S: Hosted = Redis> {
    /// Servers and service.
    pub scene: S::Settings,
    /// Lines of `[store]`.
    pub store: String,
    /// etcd's election time-out, in milliseconds.
    pub election: u32,
    /// The first host's agent has its data and its log on a disk of their own.
    pub disk: bool,
    /// The first host's agent knows etcd by names, and has a resolver to itself.
    pub resolver: bool,
    /// Each host's agent has been up for [`LONGER`] than the one's before it.
    pub clocks: bool,
}

/// Seconds: some more than ten days.
pub const LONGER: u32 = 1_000_003;

impl<S: Hosted> Settings<S> {
    /// The usual ones around a scene.
    #[must_use]
    pub fn new(scene: S::Settings) -> Self {
        Self {
            scene,
            store: String::new(),
            election: 1000,
            disk: false,
            resolver: false,
            clocks: false,
        }
    }
}

impl Default for Settings<Redis> {
    fn default() -> Self {
        Self::new(super::trio::Settings::default())
    }
}

/// One host.
#[derive(Debug)]
pub struct Host<S = Redis> {
    // Ends before its server does.
    /// Its agent.
    pub agent: Agent,
    /// Its server.
    pub server: S,
}

/// All of them.
#[derive(Debug)]
pub struct Hosts<S = Redis> {
    // Ends before the agent does, which may wait for it.
    /// What the first host's agent writes to, if it is a disk of its own.
    pub disk: Option<Disk>,
    /// What the first host's agent asks for names, if it is a resolver of its own.
    pub resolver: Option<Resolver>,
    /// By number, from 1 on.
    pub hosts: Vec<Host<S>>,
    /// Their etcd.
    pub etcd: Etcd,
    /// Where all this is.
    pub place: Place,
}

/// What one client was told: its name and all acknowledgements.
pub type Told = (String, Vec<Ack>);

/// A client pinned to each server, and one that follows the name of the master.
#[derive(Debug)]
pub struct Clients {
    /// By number of the host.
    pub pinned: Vec<Writer>,
    /// Asks the agent of the host that is given.
    pub following: Writer,
}

impl Clients {
    /// Ends them: what each was told.
    #[must_use]
    pub fn end(self) -> Vec<Told> {
        let all = self.pinned.into_iter().chain([self.following]);
        all.map(|writer| (writer.key.clone(), writer.end())).collect()
    }
}

impl<S: Hosted> Hosts<S> {
    /// The name of the master.
    #[must_use]
    pub fn master_name() -> String {
        format!("master.{}.service.dc1.consul", S::SERVICE)
    }

    /// Starts everything and adopts the service; the first host has the master.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn adopted(settings: &Settings<S>) -> Self {
        let hosts = Self::start(settings);
        let within = Duration::from_secs(20);
        let agent = &hosts.hosts[0].agent;
        agent.until_status(S::SERVICE, "all instances were looked at", within, |status| {
            let instances = status["instances"].as_array().map_or(&[][..], Vec::as_slice);
            let up = instances.iter().filter(|instance| instance["health"] == "up").count();
            up == hosts.hosts.len()
        });
        let adopted = soon(Duration::from_secs(45), || {
            let told = agent.sengu(&["adopt", S::SERVICE, "--wait", "15"]);
            (told.code == Some(0)).then_some(())
        });
        assert!(
            adopted.is_some(),
            "not adopted: {}\n{}",
            agent.sengu(&["explain", S::SERVICE]).all(),
            agent.tail()
        );
        for host in &hosts.hosts {
            hosts.until_named(host, &hosts.hosts[0], Duration::from_secs(5));
        }
        hosts
    }

    /// Starts everything, replicating, not adopted.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn start(settings: &Settings<S>) -> Self {
        let place = S::place(&settings.scene);
        let disk = settings.disk.then(|| disk_of_the_first(&place));
        let etcd = Etcd::start(&place, settings.election);
        let servers = S::replicating(&place, &settings.scene);
        let (by_name, names) = Etcd::named(&place);
        let resolver = settings.resolver.then(|| Resolver::new(&place, &names));
        let mut agents: Vec<_> = (1..)
            .zip(&servers)
            .map(|(number, server)| {
                let config = Self::config(&place, &etcd, settings, number, Some(server));
                match resolver.as_ref().filter(|_| number == 1) {
                    Some(resolver) => {
                        let config = config.replace(&etcd.endpoints(), &by_name);
                        Agent::launch_behind(resolver.before(), &place, number, &config)
                    }
                    None if settings.clocks => {
                        let before = uptime::before(LONGER * u32::from(number - 1));
                        Agent::launch_behind(before, &place, number, &config)
                    }
                    None => Agent::launch_on(&place, number, &config),
                }
            })
            .collect();
        agents.iter_mut().for_each(Agent::wait_answering);
        let hosts = agents.into_iter().zip(servers);
        let hosts = hosts.map(|(agent, server)| Host { agent, server }).collect();
        Self { disk, resolver, hosts, etcd, place }
    }

    /// The configuration of one host; without a server, of one that only reads.
    #[must_use]
    pub fn config(
        place: &Place,
        etcd: &Etcd,
        settings: &Settings<S>,
        number: u8,
        server: Option<&S>,
    ) -> String {
        let folder = place.folder().display();
        let mut config = format!(
            "host = \"db{number}\"\naddress = \"{}\"\ndata_dir = \"{folder}/data{number}\"\n\
             socket = \"{folder}/sengu{number}.sock\"\n[dns]\nlisten = [\"{}\"]\n\
             [http]\nlisten = [\"{}\"]\n[store]\nkind = \"etcd\"\nendpoints = {}\n\
             election = \"{}ms\"\n{}\n",
            place.address(number),
            place.socket(number, 8600),
            place.socket(number, 8500),
            etcd.endpoints(),
            settings.election,
            settings.store,
        );
        if let Some(server) = server {
            let service = S::SERVICE;
            config += &format!(
                "[service.{service}]\n{}\n[service.{service}.instance.{}]\naddress = \"{}\"\n{}",
                S::service(place, &settings.scene),
                server.name(),
                server.address(),
                S::instance(&settings.scene, number)
            );
        }
        config
    }

    /// Waits until an agent's names have another host's server as the master.
    ///
    /// # Panics
    /// If they have not in time.
    #[track_caller]
    pub fn until_named(&self, at: &Host<S>, master: &Host<S>, within: Duration) {
        at.agent.until_name(&Self::master_name(), &[master.server.address().ip()], within);
    }

    /// Waits until an agent names somebody else than this one; who, and when that was.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until_other(
        &self,
        at: &Host<S>,
        than: &Host<S>,
        within: Duration,
    ) -> (&Host<S>, Instant) {
        let old = than.server.address().ip();
        let named = soon(within, || match at.agent.addresses(&Self::master_name())[..] {
            [one] if one != old => Some((one, Instant::now())),
            _ => None,
        });
        let (address, when) = named.unwrap_or_else(|| {
            panic!(
                "waited {} s in vain until another than {} is named:\n{}\n{}",
                within.as_secs_f64(),
                than.server.name(),
                at.agent.sengu(&["explain", S::SERVICE]).all(),
                at.agent.tail()
            )
        });
        (self.with(address), when)
    }

    /// The host whose server has this address.
    ///
    /// # Panics
    /// If it is none of theirs.
    #[must_use]
    #[track_caller]
    pub fn with(&self, address: IpAddr) -> &Host<S> {
        let found = self.hosts.iter().find(|host| host.server.address().ip() == address);
        found.expect("a named master is one of the hosts")
    }

    /// Waits until the servers of all other hosts that run follow this one's.
    ///
    /// # Panics
    /// If they do not in time.
    #[track_caller]
    pub fn until_followed(&self, master: &Host<S>, within: Duration) {
        for other in &self.hosts {
            let server = &other.server;
            let wanted = master.server.address();
            if server.address() == wanted || server.exited() {
                continue;
            }
            let followed = soon(within, || server.follows(wanted).then_some(()));
            assert!(
                followed.is_some(),
                "waited {} s in vain until {} follows {wanted}:\n{}\n{}",
                within.as_secs_f64(),
                server.name(),
                other.agent.sengu(&["explain", S::SERVICE]).all(),
                other.agent.tail()
            );
        }
    }

    /// The term of the service, as an agent has it.
    #[must_use]
    #[track_caller]
    pub fn term(&self, at: &Host<S>) -> u64 {
        at.agent.status(S::SERVICE)["term"].as_u64().unwrap_or_default()
    }

    /// Those who take writes.
    #[must_use]
    pub fn writable(&self) -> Vec<SocketAddr> {
        let servers = self.hosts.iter().map(|host| &host.server);
        servers.filter(|server| server.writable()).map(Server::address).collect()
    }

    /// Waits until each other server that runs could take over, and nothing is wrong.
    ///
    /// # Panics
    /// If that does not come in time.
    #[track_caller]
    pub fn until_ready(&self, at: &Host<S>, within: Duration) {
        let running = self.hosts.iter().filter(|host| !host.server.exited()).count();
        at.agent.until_status(S::SERVICE, "all others could take over", within, |status| {
            // An agent ranks only copies that it sees; of the others it knows whether they follow.
            let instances = status["instances"].as_array().map_or(&[][..], Vec::as_slice);
            let follows = |instance: &&Value| {
                let told = instance["replication"].as_str().unwrap_or_default();
                instance["unfit"].is_null() && told.starts_with("in step")
            };
            instances.iter().filter(follows).count() + 1 == running && settled(status)
        });
    }

    /// Starts clients, the one that follows asking this host's agent, and waits until they have
    /// written something to the first host's server.
    ///
    /// # Panics
    /// If they cannot.
    #[must_use]
    #[track_caller]
    pub fn writing(&self, reader: &Host<S>) -> Clients {
        let pin = |host: &Host<S>| S::pinned(host.server.name(), host.server.address());
        let pinned: Vec<_> = self.hosts.iter().map(pin).collect();
        let following = S::following("following", reader.agent.dns, &Self::master_name());
        let master = self.hosts[0].server.address();
        pinned[0].until_acked_by(master, 30);
        following.until_acked_by(master, 30);
        Clients { pinned, following }
    }

    /// Ends the clients and judges; whoever is down comes back first, so that its log can be read.
    ///
    /// # Panics
    /// If two took writes in turns.
    #[track_caller]
    pub fn judge(&self, clients: Clients, masters: &[SocketAddr]) -> Vec<Told> {
        let told = clients.end();
        for host in self.hosts.iter().filter(|host| host.server.exited()) {
            host.server.restart();
        }
        let servers: Vec<&S> = self.hosts.iter().map(|host| &host.server).collect();
        S::judge(&servers, masters, &told);
        told
    }
}

/// Data and log of the first host's agent, on a disk of their own.
fn disk_of_the_first(place: &Place) -> Disk {
    let disk = Disk::fragile(&place.path("data1"), 64);
    let log = place.path("agent1.log");
    std::os::unix::fs::symlink(place.path("data1").join("log"), log).expect("it can be linked");
    disk
}

/// By what clients were told: who wrote, in the order in which they were masters.
///
/// # Panics
/// With what breaks it.
#[track_caller]
pub fn judge_acks(masters: &[SocketAddr], told: &[Told]) {
    let all: Vec<Ack> = told.iter().flat_map(|(_, acks)| acks.iter().copied()).collect();
    let reigns = writer::reigns(&all);
    assert!(writer::is_within(&reigns, masters), "{reigns:?} wrote, {masters:?} were masters");
    let mut once = masters.to_vec();
    once.sort_unstable();
    once.dedup();
    if once.len() == masters.len() {
        writer::assert_one_master_at_a_time(masters, &all);
    }
}
