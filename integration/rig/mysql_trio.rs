//! The usual scene of MySQL and MariaDB: one service of three servers on one host, its agent,
//! adopted.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::agent::Agent;
use super::hosts::{Hosted, Told, judge_acks};
use super::mysql::{Flavour, Login, Mysql, PORT, REPLICATION, SENGU, Setup, binlog};
use super::place::Place;
use super::scene::{Scene, Server, settled};
use super::writer::Ack;

/// The service.
pub const SERVICE: &str = Mysql::SERVICE;
/// The name of its master.
pub const MASTER: &str = "master.foo-mysql.service.dc1.consul";
/// The name of its replicas.
pub const REPLICAS: &str = "replica.foo-mysql.service.dc1.consul";

/// Tests run beside each other; the end of a process is seen whatever this is.
const PATIENT: &str = "timeout = \"1s\"\n";

/// What a scene is made of.
#[derive(Debug, Clone)]
pub struct MysqlSettings {
    /// The servers.
    pub server: Setup,
    /// How many.
    pub count: u8,
    /// Lines of `[service.foo-mysql]`.
    pub service: String,
    /// Lines of each instance, in order.
    pub instances: Vec<String>,
}

impl MysqlSettings {
    /// Failovers as often as a test likes.
    pub const NO_COOLDOWN: &str =
        "[service.foo-mysql.cooldown]\nfailovers = 100\nwindow = \"1s\"\n";

    /// The usual one.
    #[must_use]
    pub fn new(flavour: Flavour) -> Self {
        Self::service(flavour, "failover = \"auto\"\n")
    }

    /// The usual one with these lines in the service.
    #[must_use]
    pub fn service(flavour: Flavour, lines: &str) -> Self {
        let server = Setup::new(flavour);
        Self { server, count: 3, service: lines.to_owned(), instances: Vec::new() }
    }

    /// One that loses nothing: every commit is acknowledged by a replica first.
    #[must_use]
    pub fn lossless(flavour: Flavour) -> Self {
        let mut settings = Self::service(flavour, "failover = \"auto\"\nloss = \"none\"\n");
        settings.server.semisync = true;
        settings
    }

    /// The same with more lines in the service.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.service += lines;
        self
    }
}

/// Servers and their agent.
pub type MysqlTrio = Scene<Mysql>;

impl MysqlTrio {
    /// Starts everything and adopts the service.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn adopted(settings: &MysqlSettings) -> Self {
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
    pub fn start(settings: &MysqlSettings) -> Self {
        Self::start_in(Place::claim_in(&settings.server.flavour.parent()), settings)
    }

    /// The same in a place where something was prepared.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    #[track_caller]
    pub fn start_in(place: Place, settings: &MysqlSettings) -> Self {
        let servers = Mysql::replicating(&place, settings);
        let config = Self::config(&place, settings, &servers);
        let agent = Agent::start(&place, &config);
        Self { agent, servers, config, place }
    }

    /// Servers only, each fenced.
    #[must_use]
    pub fn servers(place: &Place, settings: &MysqlSettings) -> Vec<Mysql> {
        let start = |number: u8| {
            let (name, address) = (format!("db{number}"), place.socket(number, PORT));
            Mysql::launch(place.folder(), &name, number.into(), address, &settings.server)
        };
        let servers: Vec<_> = (1..=settings.count).map(start).collect();
        for server in &servers {
            server.wait_answering();
        }
        servers
    }

    /// The agent's configuration for these servers.
    #[must_use]
    pub fn config(place: &Place, settings: &MysqlSettings, servers: &[Mysql]) -> String {
        let mut config = Agent::head(place);
        config += &format!("[service.{SERVICE}]\n{}\n", Mysql::service(place, settings));
        for (index, server) in servers.iter().enumerate() {
            let (name, address) = (&server.name, server.address);
            let lines = settings.instances.get(index).cloned().unwrap_or_default();
            config +=
                &format!("[service.{SERVICE}.instance.{name}]\naddress = \"{address}\"\n{lines}\n");
        }
        config
    }

    /// Waits until each other server could take over, and nothing is wrong.
    ///
    /// # Panics
    /// If that does not come in time.
    #[track_caller]
    pub fn until_ready(&self, within: Duration) {
        self.agent.until_status(SERVICE, "all others could take over", within, |status| {
            let ranking = status["ranking"].as_array().map_or(0, Vec::len);
            ranking + 1 == self.servers.len() && settled(status)
        });
    }

    /// Waits until another could take over without loss, whatever else is still copied or replayed.
    ///
    /// # Panics
    /// If that does not come in time.
    #[track_caller]
    pub fn until_replaceable(&self, within: Duration) {
        self.agent.until_status(SERVICE, "another could take over", within, |status| {
            status["state"] == "serving" && !status["ranking"].as_array().is_none_or(Vec::is_empty)
        });
    }

    /// Asks for a switchover that must be done.
    ///
    /// # Panics
    /// If it is not, with what the agent says of it.
    #[track_caller]
    pub fn switched(&self, words: &[&str]) {
        let told = self.switchover(words);
        assert_eq!(
            told.code,
            Some(0),
            "{}\n{}\n{}",
            told.all(),
            self.agent.sengu(&["explain", SERVICE]).all(),
            self.agent.tail()
        );
    }
}

impl Hosted for Mysql {
    type Settings = MysqlSettings;

    fn place(settings: &MysqlSettings) -> Place {
        Place::claim_in(&settings.server.flavour.parent())
    }

    fn clings(&self) -> Duration {
        match self.flavour {
            Flavour::Mysql(_) => super::mysql::flavour::NET_TIMEOUT,
            Flavour::MariaDb => Duration::ZERO,
        }
    }

    fn replicating(place: &Place, settings: &MysqlSettings) -> Vec<Self> {
        let servers = MysqlTrio::servers(place, settings);
        servers[0].open();
        // A history that begins with something.
        servers[0].write(0);
        for replica in &servers[1..] {
            replica.follow(servers[0].address);
        }
        for replica in &servers[1..] {
            replica.until_has_all_of(&servers[0]);
        }
        servers
    }

    fn service(place: &Place, settings: &MysqlSettings) -> String {
        let file = place.path("credentials");
        write_credentials(&file, SENGU.password);
        let file = file.display();
        format!("kind = \"mysql\"\ncredentials = \"{file}\"\n{PATIENT}{}", settings.service)
    }

    fn judge(servers: &[&Self], masters: &[SocketAddr], told: &[Told]) {
        judge_acks(masters, told);
        let told: Vec<(&str, &[Ack])> =
            told.iter().map(|(name, acks)| (name.as_str(), acks.as_slice())).collect();
        binlog::assert_one_master_at_a_time(servers, masters, &told);
    }
}

/// Writes the agent's account, with this password, and the replicas' where the agent reads them.
///
/// # Panics
/// If that cannot be done.
pub fn write_credentials(file: &Path, password: &str) {
    let Login { user: replication, password: secret } = REPLICATION;
    let text = format!(
        "user = {}\npassword = {password}\nreplication_user = {replication}\n\
         replication_password = {secret}\n",
        SENGU.user
    );
    // In one step: agents of other hosts may read it now.
    let new = file.with_extension("new");
    fs::write(&new, text).expect("the credentials can be written");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&new, mode).expect("the credentials can be kept to their owner");
    fs::rename(&new, file).expect("the credentials can be put in place");
}
