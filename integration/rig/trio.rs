//! The usual scene: one service of three servers on one host, its agent, adopted.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::agent::{Agent, Told};
use super::place::Place;
use super::redis::{Redis, Setup};

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

/// Servers and their agent. The first server is the first master.
#[derive(Debug)]
pub struct Trio {
    // Ends before the servers do.
    /// The agent.
    pub agent: Agent,
    /// The servers.
    pub servers: Vec<Redis>,
    /// The configuration as it was written.
    pub config: String,
    /// Where all this is.
    pub place: Place,
}

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
        let servers = Self::servers(&place, settings);
        servers[0].open();
        for replica in &servers[1..] {
            replica.follow(servers[0].address);
        }
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
        config += &format!("[service.{SERVICE}]\nkind = \"redis\"\n{}\n", settings.service);
        for (index, server) in servers.iter().enumerate() {
            let (name, address) = (&server.name, server.address);
            let lines = settings.instances.get(index).cloned().unwrap_or_default();
            config +=
                &format!("[service.{SERVICE}.instance.{name}]\naddress = \"{address}\"\n{lines}\n");
        }
        config + &settings.outputs
    }

    /// Adopts and waits until the name answers.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn adopt(&self) {
        self.agent.sengu(&["adopt", SERVICE, "--wait", "15"]).good();
        self.until_master(&self.servers[0], Duration::from_secs(2));
    }

    /// A server by its name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn server(&self, name: &str) -> &Redis {
        let found = self.servers.iter().find(|server| server.name == name);
        found.unwrap_or_else(|| panic!("there is no server {name}"))
    }

    /// Who is named as master now.
    #[must_use]
    pub fn named(&self) -> Option<&Redis> {
        match self.agent.addresses(MASTER)[..] {
            [one] => self.servers.iter().find(|server| server.address.ip() == one),
            _ => None,
        }
    }

    /// Waits until somebody else than this one is named.
    ///
    /// # Panics
    /// If nobody is in time.
    #[track_caller]
    pub fn until_other(&self, than: &Redis, within: Duration) -> &Redis {
        self.until(&format!("another than {} is named", than.name), within, || {
            self.named().filter(|named| named.address != than.address)
        })
    }

    /// Waits until this one is named as the master.
    #[track_caller]
    pub fn until_master(&self, server: &Redis, within: Duration) {
        self.agent.until_name(MASTER, &[server.address.ip()], within);
    }

    /// Waits until all others that run follow this one.
    ///
    /// # Panics
    /// If they do not in time.
    #[track_caller]
    pub fn until_followed(&self, master: &Redis, within: Duration) {
        let others = self.servers.iter().filter(|other| other.address != master.address);
        for other in others.filter(|other| !other.exited()) {
            let what = format!("{} follows {}", other.name, master.name);
            self.until(&what, within, || other.follows(master.address).then_some(()));
        }
    }

    /// Exactly one takes writes, and it is the one that is named.
    #[must_use]
    pub fn writable(&self) -> Vec<SocketAddr> {
        let open = self.servers.iter().filter(|server| server.is_master());
        open.map(|server| server.address).collect()
    }

    /// Their addresses, without ports.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        self.servers.iter().map(|server| server.address.ip()).collect()
    }

    /// Waits until the agent has seen all others that run follow the one that is named, and
    /// nothing is asked, under way or wrong.
    ///
    /// # Panics
    /// If it has not in time.
    #[track_caller]
    pub fn until_settled(&self, within: Duration) {
        self.agent.until_status(SERVICE, "nothing is wrong or under way", within, settled);
    }

    /// Waits for something, and shows what the agent thinks if it does not come.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until<T>(&self, what: &str, within: Duration, look: impl FnMut() -> Option<T>) -> T {
        super::soon(within, look).unwrap_or_else(|| {
            panic!(
                "waited {} s in vain until {what}:\n{}\n{}",
                within.as_secs_f64(),
                self.agent.sengu(&["explain", SERVICE]).all(),
                self.agent.tail()
            )
        })
    }

    /// Who was master, term by term, as the history tells it.
    #[must_use]
    #[track_caller]
    pub fn masters(&self) -> Vec<SocketAddr> {
        let told = self.agent.sengu(&["history", SERVICE, "--json", "--limit", "1000"]).good();
        let told = told.json();
        let terms = told.as_array().into_iter().flatten().rev();
        let names = terms.filter_map(|entry| entry["to"].as_str());
        names.map(|name| self.server(name).address).collect()
    }

    /// The steady state: one named, it alone takes writes, all others follow it, nothing is
    /// under way and nothing is wrong.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn until_steady(&self, within: Duration) -> &Redis {
        self.until("all is steady", within, || {
            let settled = settled(&self.agent.status(SERVICE));
            let master = self.named().filter(|_| settled)?;
            let others = self.servers.iter().filter(|other| other.address != master.address);
            let mut others = others.filter(|other| !other.exited());
            let steady = self.writable() == [master.address]
                && others.all(|other| other.follows(master.address));
            steady.then_some(master)
        })
    }

    /// Asks for a switchover.
    #[track_caller]
    pub fn switchover(&self, words: &[&str]) -> Told {
        self.agent.sengu(&[&["switchover", SERVICE, "--wait", "15"], words].concat())
    }
}

/// Nothing is asked, under way or wrong.
fn settled(status: &serde_json::Value) -> bool {
    let none = |key: &str| status[key].as_array().is_some_and(Vec::is_empty);
    none("problems") && none("requests") && status["doing"].is_null()
}
