//! Which server answers, and the words that it knows: MySQL and MariaDB say the same things
//! differently, and MySQL 8.4 and later know only the newer words.
//!
//! The flavour comes from the version string alone. Versions without what the driver relies on
//! (`CHANGE REPLICATION SOURCE TO` and its kin, semi-sync in the server) are refused by name.

use std::fmt;

use tokio::time::Instant;

use super::connection::{Wire, quoted, settings};
use super::fault::{Fault, code};

/// The oldest MySQL that has every statement used here.
const OLDEST_MYSQL: Version = (8, 0, 23);

/// The oldest MariaDB that has every privilege and status used here.
const OLDEST_MARIADB: Version = (10, 5, 2);

/// Since then `MASTER_DEMOTE_TO_SLAVE` exists.
const DEMOTE_SINCE: Version = (10, 10, 0);

/// Major, minor, patch.
pub(super) type Version = (u16, u16, u16);

/// One of the two families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// MySQL and what is built from it.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        })
    }
}

/// What a server told of itself when a connection was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) flavour: Flavour,
    pub(super) version: Version,
    /// As it told it.
    pub(super) version_text: String,
    /// A second address for when its connections are all in use: `admin_port` (MySQL) or
    /// `extra_port` (MariaDB); the host only where it has one of its own.
    pub(super) spare: Option<(Option<String>, u16)>,
}

impl Server {
    /// Sets a new connection up and asks who answers.
    ///
    /// # Errors
    /// [`Fault::Odd`] for a server that is too old or no such server.
    pub(super) async fn greet(wire: &Wire, deadline: Instant) -> Result<Self, Fault> {
        let mut sets =
            wire.ask(&format!("{}; SELECT @@version AS v", settings()), deadline).await?;
        let version = sets.pop().and_then(|rows| rows.into_iter().next()?.remove("v")?);
        let mut server = Self::of(&version.unwrap_or_default()).map_err(Fault::Odd)?;
        // Without the privilege nothing is lost: no statement of the driver is written there.
        match wire.ask("SET SESSION sql_log_bin=0", deadline).await {
            Ok(_) | Err(Fault::Server { code: code::ACCESS_DENIED, .. }) => {}
            Err(fault) => return Err(fault),
        }
        let asked = match server.flavour {
            Flavour::Mysql => "SELECT @@admin_address AS host, @@admin_port AS port",
            Flavour::Mariadb => "SELECT NULL AS host, @@extra_port AS port",
        };
        let mut sets = wire.ask(asked, deadline).await?;
        let told = sets.pop().and_then(|rows| rows.into_iter().next()).unwrap_or_default();
        let word = |name: &str| told.get(name).cloned().flatten().filter(|text| !text.is_empty());
        let port = word("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        let host = word("host");
        // MySQL tells a port even where it listens on none.
        let listens = server.flavour == Flavour::Mariadb || host.is_some();
        server.spare = port.filter(|_| listens).map(|port| (host, port));
        Ok(server)
    }

    fn of(text: &str) -> Result<Self, String> {
        let mariadb = text.to_ascii_lowercase().contains("mariadb");
        // Old MariaDB put this before its own version.
        let own = text.strip_prefix("5.5.5-").filter(|_| mariadb).unwrap_or(text);
        let mut numbers = own
            .split(|character: char| !character.is_ascii_digit())
            .map_while(|number| number.parse().ok());
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            return Err(format!("`{text}` is no version of MySQL or MariaDB"));
        };
        let version = (major, minor, numbers.next().unwrap_or(0));
        let (flavour, oldest) = if mariadb {
            (Flavour::Mariadb, OLDEST_MARIADB)
        } else {
            (Flavour::Mysql, OLDEST_MYSQL)
        };
        if version < oldest {
            let (major, minor, patch) = oldest;
            return Err(format!(
                "{flavour} {text} is too old: {major}.{minor}.{patch} or later is needed"
            ));
        }
        Ok(Self { flavour, version, version_text: own.to_owned(), spare: None })
    }

    /// Is it MariaDB?
    pub(super) fn is_mariadb(&self) -> bool {
        self.flavour == Flavour::Mariadb
    }

    /// For a state: flavour and version.
    pub(super) fn shown(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{} {major}.{minor}.{patch}", self.flavour)
    }

    /// Its own address for when its connections are all in use, if it has one, next to this one.
    pub(super) fn spare_address(&self, main: std::net::SocketAddr) -> Option<std::net::SocketAddr> {
        let (host, port) = self.spare.as_ref()?;
        let ip = match host {
            Some(host) => host.parse().ok()?,
            None => main.ip(),
        };
        Some(std::net::SocketAddr::new(ip, *port))
    }

    /// Asks for all replication sources, one row each.
    pub(super) fn show_sources(&self) -> &'static str {
        if self.is_mariadb() { "SHOW ALL SLAVES STATUS" } else { "SHOW REPLICA STATUS" }
    }

    /// Stops what of a channel's threads is meant, running or retrying.
    pub(super) fn stop(&self, channel: &str, threads: Threads) -> String {
        self.on_threads("STOP", channel, threads)
    }

    /// Starts what of a channel's threads is meant.
    pub(super) fn start(&self, channel: &str, threads: Threads) -> String {
        self.on_threads("START", channel, threads)
    }

    fn on_threads(&self, verb: &str, channel: &str, threads: Threads) -> String {
        let threads = match threads {
            Threads::Receiver => " IO_THREAD",
            Threads::Both => "",
        };
        if self.is_mariadb() {
            format!("{verb} SLAVE{}{threads}", named(channel))
        } else {
            format!("{verb} REPLICA{threads}{}", for_channel(channel))
        }
    }

    /// Forgets a channel and all that it received.
    pub(super) fn forget(&self, channel: &str) -> String {
        if self.is_mariadb() {
            format!("RESET SLAVE{} ALL", named(channel))
        } else {
            format!("RESET REPLICA ALL{}", for_channel(channel))
        }
    }

    /// Names a source for a channel, to go on from what was applied. `demoted`: it was a master,
    /// and goes on from what it wrote itself.
    pub(super) fn change_source(
        &self,
        channel: &str,
        source: &Source<'_>,
        demoted: bool,
    ) -> String {
        let word = if self.is_mariadb() { "MASTER" } else { "SOURCE" };
        let mut options = vec![
            format!("{word}_HOST={}", quoted(&source.address.ip().to_string())),
            format!("{word}_PORT={}", source.address.port()),
            format!("{word}_CONNECT_RETRY=1"),
            // Several within the shortest `replica_net_timeout`, which is a second.
            format!("{word}_HEARTBEAT_PERIOD=0.4"),
        ];
        if let Some((user, password)) = source.login {
            options.push(format!("{word}_USER={}", quoted(user)));
            options.push(format!("{word}_PASSWORD={}", quoted(password)));
        }
        if source.tls {
            options.push(format!("{word}_SSL=1"));
        }
        if self.is_mariadb() {
            options.push("MASTER_USE_GTID=slave_pos".to_owned());
            if demoted && self.version >= DEMOTE_SINCE {
                options.push("MASTER_DEMOTE_TO_SLAVE=1".to_owned());
            }
            format!("CHANGE MASTER{} TO {}", named(channel), options.join(", "))
        } else {
            options.push("SOURCE_AUTO_POSITION=1".to_owned());
            options.push("GET_SOURCE_PUBLIC_KEY=1".to_owned());
            // For ever: what ends the wait for a master is a word from here.
            options.push("SOURCE_RETRY_COUNT=0".to_owned());
            let (options, channel) = (options.join(", "), for_channel(channel));
            format!("CHANGE REPLICATION SOURCE TO {options}{channel}")
        }
    }

    /// What must come before [`Server::change_source`] where a server of this version has no
    /// option for it: a demoted master goes on from what it wrote.
    pub(super) fn before_demotion(&self) -> Option<&'static str> {
        (self.is_mariadb() && self.version < DEMOTE_SINCE)
            .then_some("SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos")
    }

    /// The name of the variable that is set last to be read-only for all, and first to take
    /// writes. Setting it sets the weaker ones.
    pub(super) fn read_only_variable(&self) -> &'static str {
        if self.is_mariadb() { "read_only" } else { "super_read_only" }
    }

    /// Makes it refuse writes.
    pub(super) fn close(&self) -> String {
        format!("SET GLOBAL {}=1", self.read_only_variable())
    }

    /// Makes it take writes.
    pub(super) fn open(&self) -> &'static [&'static str] {
        if self.is_mariadb() {
            &["SET GLOBAL read_only=0"]
        } else {
            &["SET GLOBAL super_read_only=0", "SET GLOBAL read_only=0"]
        }
    }
}

/// Threads of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// What receives.
    Receiver,
    /// What receives and what applies.
    Both,
}

/// A source to replicate from.
pub(super) struct Source<'a> {
    pub(super) address: std::net::SocketAddr,
    /// User and password; `None`: what the server was configured with.
    pub(super) login: Option<(&'a str, &'a str)>,
    pub(super) tls: bool,
}

fn named(channel: &str) -> String {
    if channel.is_empty() { String::new() } else { format!(" {}", quoted(channel)) }
}

fn for_channel(channel: &str) -> String {
    format!(" FOR CHANNEL {}", quoted(channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavour_is_told_by_the_version_string() {
        for (text, flavour, version) in [
            ("9.7.4-2", Flavour::Mysql, (9, 7, 4)),
            ("8.0.40", Flavour::Mysql, (8, 0, 40)),
            ("8.4.3-3-log", Flavour::Mysql, (8, 4, 3)),
            ("10.11.19-MariaDB-0+deb12u1-log", Flavour::Mariadb, (10, 11, 19)),
            ("5.5.5-10.6.20-MariaDB", Flavour::Mariadb, (10, 6, 20)),
            ("11.4.4-MariaDB", Flavour::Mariadb, (11, 4, 4)),
        ] {
            let server = Server::of(text).expect("known");
            assert_eq!((server.flavour, server.version), (flavour, version), "{text}");
        }
        for text in ["", "PostgreSQL", "5.7.44", "10.3.39-MariaDB", "8.0.22"] {
            Server::of(text).expect_err("too old, or another");
        }
    }

    #[test]
    fn each_flavour_is_spoken_to_in_its_own_words() {
        let source = Source {
            address: "127.0.0.5:3306".parse().expect("good"),
            login: Some(("repl", "it's")),
            tls: false,
        };
        let mysql = Server::of("9.7.4").expect("known");
        assert_eq!(mysql.stop("", Threads::Receiver), "STOP REPLICA IO_THREAD FOR CHANNEL ''");
        assert_eq!(mysql.forget(""), "RESET REPLICA ALL FOR CHANNEL ''");
        let change = mysql.change_source("", &source, true);
        assert!(change.contains("SOURCE_AUTO_POSITION=1") && change.contains("'it''s'"));
        let mariadb = Server::of("10.11.19-MariaDB").expect("known");
        assert_eq!(mariadb.stop("a", Threads::Receiver), "STOP SLAVE 'a' IO_THREAD");
        assert_eq!(mariadb.forget(""), "RESET SLAVE ALL");
        let change = mariadb.change_source("", &source, true);
        assert!(change.contains("slave_pos") && change.contains("MASTER_DEMOTE_TO_SLAVE=1"));
        assert!(!mariadb.change_source("", &source, false).contains("DEMOTE"));
        let older = Server::of("10.6.20-MariaDB").expect("known");
        assert!(!older.change_source("", &source, true).contains("DEMOTE"));
        assert!(older.before_demotion().is_some() && mariadb.before_demotion().is_none());
    }
}
