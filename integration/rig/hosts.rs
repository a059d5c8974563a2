//! Several hosts on one machine: each has an address, an agent and one Redis server of the same
//! service, and all share an etcd.
//!
//! The host with number n has the address n of its block; its agent answers DNS and HTTP there.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::etcd::Etcd;
use super::place::Place;
use super::redis::{Redis, Setup};
use super::trio::{MASTER, PORT, SERVICE};
use super::{soon, until};

/// What the hosts are made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many hosts.
    pub count: u8,
    /// Lines of `[store]`.
    pub store: String,
    /// Lines of the service.
    pub service: String,
    /// etcd's election time-out, in milliseconds.
    pub election: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            count: 3,
            store: String::new(),
            service: "failover = \"auto\"\n".into(),
            election: 1000,
        }
    }
}

/// One host.
#[derive(Debug)]
pub struct Host {
    // Ends before its server does.
    /// Its agent.
    pub agent: Agent,
    /// Its server.
    pub server: Redis,
}

/// All of them.
#[derive(Debug)]
pub struct Hosts {
    /// By number, from 1 on.
    pub hosts: Vec<Host>,
    /// Their etcd.
    pub etcd: Etcd,
    /// Where all this is.
    pub place: Place,
}

impl Hosts {
    /// Starts everything and adopts the service; the first host has the master.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn adopted(settings: &Settings) -> Self {
        let hosts = Self::start(settings);
        let within = Duration::from_secs(20);
        let agent = &hosts.hosts[0].agent;
        agent.until_status(SERVICE, "all instances were looked at", within, |status| {
            let instances = status["instances"].as_array().map_or(&[][..], Vec::as_slice);
            let up = instances.iter().filter(|instance| instance["health"] == "up").count();
            up == hosts.hosts.len()
        });
        let adopted = soon(Duration::from_secs(45), || {
            let told = agent.sengu(&["adopt", SERVICE, "--wait", "15"]);
            (told.code == Some(0)).then_some(())
        });
        assert!(
            adopted.is_some(),
            "not adopted: {}\n{}",
            agent.sengu(&["explain", SERVICE]).all(),
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
    pub fn start(settings: &Settings) -> Self {
        let place = Place::claim();
        let etcd = Etcd::start(&place, settings.election);
        let server = |number: u8| {
            let address = place.socket(number, PORT);
            Redis::start(place.folder(), &format!("cache{number}"), address, &Setup::default())
        };
        let servers: Vec<_> = (1..=settings.count).map(server).collect();
        servers[0].open();
        for replica in &servers[1..] {
            replica.follow(servers[0].address);
        }
        let mut agents: Vec<_> = (1..=settings.count)
            .zip(&servers)
            .map(|(number, server)| {
                let config = Self::config(&place, &etcd, settings, number, Some(server));
                Agent::launch_on(&place, number, &config)
            })
            .collect();
        agents.iter_mut().for_each(Agent::wait_answering);
        let hosts = agents.into_iter().zip(servers);
        let hosts = hosts.map(|(agent, server)| Host { agent, server }).collect();
        Self { hosts, etcd, place }
    }

    /// The configuration of one host; without a server, of one that only reads.
    #[must_use]
    pub fn config(
        place: &Place,
        etcd: &Etcd,
        settings: &Settings,
        number: u8,
        server: Option<&Redis>,
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
            config += &format!(
                "[service.{SERVICE}]\nkind = \"redis\"\n{}\n\
                 [service.{SERVICE}.instance.{}]\naddress = \"{}\"\n",
                settings.service, server.name, server.address
            );
        }
        config
    }

    /// Waits until an agent's names have another host's server as the master.
    ///
    /// # Panics
    /// If they have not in time.
    #[track_caller]
    pub fn until_named(&self, at: &Host, master: &Host, within: Duration) {
        at.agent.until_name(MASTER, &[master.server.address.ip()], within);
    }

    /// Waits until an agent names somebody else than this one; who, and when that was.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until_other(&self, at: &Host, than: &Host, within: Duration) -> (&Host, Instant) {
        let old = than.server.address.ip();
        let named = soon(within, || match at.agent.addresses(MASTER)[..] {
            [one] if one != old => Some((one, Instant::now())),
            _ => None,
        });
        let (address, when) = named.unwrap_or_else(|| {
            panic!(
                "waited {} s in vain until another than {} is named:\n{}\n{}",
                within.as_secs_f64(),
                than.server.name,
                at.agent.sengu(&["explain", SERVICE]).all(),
                at.agent.tail()
            )
        });
        (self.with(address), when)
    }

    fn with(&self, address: IpAddr) -> &Host {
        let found = self.hosts.iter().find(|host| host.server.address.ip() == address);
        found.expect("a named master is one of the hosts")
    }

    /// Waits until the servers of all other hosts that run follow this one's.
    ///
    /// # Panics
    /// If they do not in time.
    #[track_caller]
    pub fn until_followed(&self, master: &Host, within: Duration) {
        for other in &self.hosts {
            let server = &other.server;
            if server.address == master.server.address || server.exited() {
                continue;
            }
            until(&format!("{} follows {}", server.name, master.server.name), within, || {
                server.follows(master.server.address).then_some(())
            });
        }
    }

    /// The term of the service, as an agent has it.
    #[must_use]
    #[track_caller]
    pub fn term(&self, at: &Host) -> u64 {
        at.agent.status(SERVICE)["term"].as_u64().unwrap_or_default()
    }
}
