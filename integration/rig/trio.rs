//! The usual scene of Redis: one service of three servers on one host, its agent, adopted.

use std::net::SocketAddr;

use super::agent::Agent;
use super::hosts::{Hosted, Told, judge_acks};
use super::place::Place;
use super::redis::{Redis, Setup};
use super::scene::Scene;

/// The service.
pub const SERVICE: &str = "foo-redis";
/// The name of its master.
pub const MASTER: &str = "master.foo-redis.service.dc1.consul";
/// The name of its replicas.
pub const REPLICAS: &str = "replica.foo-redis.service.dc1.consul";
/// The port of all its servers.
pub const PORT: u16 = 6379;

/// What a scene is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers.
    pub server: Setup,
    /// How many.
    pub count: u8,
    /// Lines of `[service.foo-redis]`.
    pub service: String,
    /// Lines of each instance, in order.
    pub instances: Vec<String>,
    /// Tables at the end of the file: templates, hooks.
    pub outputs: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Setup::default(),
            count: 3,
            service: "failover = \"auto\"\n".into(),
            instances: Vec::new(),
            outputs: String::new(),
        }
    }
}

impl Settings {
    /// Failovers as often as a test likes.
    pub const NO_COOLDOWN: &str =
        "[service.foo-redis.cooldown]\nfailovers = 100\nwindow = \"1s\"\n";

    /// The usual one with these lines in the service.
    #[must_use]
    pub fn service(lines: &str) -> Self {
        Self { service: lines.to_owned(), ..Self::default() }
    }
}

/// Servers and their agent.
pub type Trio = Scene<Redis>;

impl Trio {
    /// Starts everything and adopts the service.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn adopted(settings: &Settings) -> Self {
        let trio = Self::start(settings);
        trio.adopt();
        trio
    }

    /// Starts everything, replicating, not adopted.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn start(settings: &Settings) -> Self {
        let place = Place::claim_in(&settings.server.flavour.parent());
        let servers = Redis::replicating(&place, settings);
        let config = Self::config(&place, settings, &servers);
        let agent = Agent::start(&place, &config);
        Self { agent, servers, config, place }
    }

    /// Servers only, each fenced.
    #[must_use]
    pub fn servers(place: &Place, settings: &Settings) -> Vec<Redis> {
        let start = |number: u8| {
            let address = place.socket(number, PORT);
            Redis::start(place.folder(), &format!("cache{number}"), address, &settings.server)
        };
        (1..=settings.count).map(start).collect()
    }

    /// The agent's configuration for these servers.
    #[must_use]
    pub fn config(place: &Place, settings: &Settings, servers: &[Redis]) -> String {
        let mut config = Agent::head(place);
        config += &format!("[service.{SERVICE}]\n{}\n", Redis::service(place, settings));
        for (index, server) in servers.iter().enumerate() {
            let (name, address) = (&server.name, server.address);
            let lines = settings.instances.get(index).cloned().unwrap_or_default();
            config +=
                &format!("[service.{SERVICE}.instance.{name}]\naddress = \"{address}\"\n{lines}\n");
        }
        config + &settings.outputs
    }
}

impl Hosted for Redis {
    type Settings = Settings;

    fn place(settings: &Settings) -> Place {
        Place::claim_in(&settings.server.flavour.parent())
    }

    fn replicating(place: &Place, settings: &Settings) -> Vec<Self> {
        let servers = Trio::servers(place, settings);
        servers[0].open();
        for replica in &servers[1..] {
            replica.follow(servers[0].address);
        }
        servers
    }

    fn service(_: &Place, settings: &Settings) -> String {
        format!("kind = \"redis\"\n{}", settings.service)
    }

    fn instance(settings: &Settings, number: u8) -> String {
        let lines = settings.instances.get(usize::from(number) - 1);
        lines.cloned().unwrap_or_default()
    }

    fn judge(_: &[&Self], masters: &[SocketAddr], told: &[Told]) {
        judge_acks(masters, told);
    }
}
