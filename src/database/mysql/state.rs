//! One consistent question to a server about itself, and the state read from the answer.
//!
//! The position is read before the replication status: what was received in between then counts
//! as received and not yet applied, never the other way round. The question changes nothing and
//! names no table of anybody.

use std::net::{IpAddr, SocketAddr};

use sengu_core::gtid::{GtidSet, GtidState};
use sengu_core::observation::{InstanceState, Role, SemiSync, Settings};
use sengu_core::position::{MariadbPosition, MysqlPosition, Position};

use super::connection::Row;
use super::fault::{Fault, shortened};
use super::features::{CLONE, Features, HEARTBEATS};
use super::server::{Flavour, Server};

/// A server has no word of its own on promotion: all are equal.
const PRIORITY: u32 = 100;

/// Longest trouble that is told: characters.
const MAX_TROUBLE: usize = 300;

/// Errors with which a receiver tries again: with one of these it stands only because it was
/// stopped. Connection refused, lost or not let in, server full or going down, TLS.
const RETRIED: [u32; 18] = [
    1040, 1045, 1053, 1129, 1130, 1158, 1159, 1160, 1161, 1203, 1226, 2002, 2003, 2005, 2006, 2013,
    2026, 3159,
];

/// What a server told of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Its state; `settings`, `obstacles` and `silent_for` are not filled in.
    pub(super) state: InstanceState,
    /// Where it replicates from, as far as the first of its channels tells.
    pub(super) channel: Option<Channel>,
    /// So many channels.
    pub(super) channels: usize,
    /// The strongest read-only setting is on: `super_read_only`, or MariaDB's `read_only`.
    pub(super) closed: bool,
    /// `offline_mode` is on (MySQL).
    pub(super) offline: bool,
    /// The event scheduler runs.
    pub(super) events: bool,
    /// Acknowledging is switched on, whether or not the receiver runs with it yet.
    pub(super) acknowledges_set: bool,
    /// Moves on with each sign of life from the source.
    pub(super) heard: String,
}

/// One replication source, as a server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Channel {
    /// Its name; empty for the ordinary one.
    pub(super) name: String,
    /// Host and port, as configured.
    pub(super) host: (String, u16),
    /// What receives.
    pub(super) receiver: Receiver,
    /// The number of its last error; 0: none.
    pub(super) receiver_error: u32,
    /// What applies runs.
    pub(super) applier_runs: bool,
    /// It goes on from what was applied, by transaction ids.
    pub(super) by_gtid: bool,
}

/// What a receiver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiver {
    /// It receives.
    Running,
    /// It tries to connect.
    Connecting,
    /// It stands.
    Stopped,
}

impl Channel {
    /// Does it go on by itself, or was it stopped by an error that it does not mend itself? Only
    /// a receiver that was stopped on purpose follows nobody.
    pub(super) fn follows(&self) -> bool {
        self.receiver != Receiver::Stopped
            || (self.receiver_error != 0 && !RETRIED.contains(&self.receiver_error))
    }

    /// Its source, where it is told as an address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.0.parse().ok()?;
        Some(SocketAddr::new(ip, self.host.1))
    }
}

/// The statements of the question, for one server.
pub(super) fn question(server: &Server, features: &Features) -> Vec<String> {
    let mut columns = match server.flavour {
        Flavour::Mysql => vec![
            "@@GLOBAL.server_uuid AS server",
            "@@GLOBAL.gtid_executed AS executed",
            "@@GLOBAL.super_read_only AS super_read_only",
            "@@GLOBAL.offline_mode AS offline",
        ],
        Flavour::Mariadb => vec![
            "@@GLOBAL.server_id AS server",
            "@@GLOBAL.gtid_binlog_state AS executed",
            "@@GLOBAL.gtid_slave_pos AS copied",
        ],
    };
    columns.extend(["@@GLOBAL.read_only AS read_only", "@@GLOBAL.event_scheduler AS events"]);
    let mut select = format!("SELECT {}", columns.join(", "));
    let semi = features.semi_sync;
    if let Some(source) = semi.source {
        select.push_str(&format!(", @@GLOBAL.rpl_semi_sync_{source}_enabled AS waits"));
        if let Some(count) = semi.count_variable().filter(|_| !server.is_mariadb()) {
            select.push_str(&format!(", @@GLOBAL.{count} AS wait_count"));
        }
    }
    if let Some(replica) = semi.replica {
        select.push_str(&format!(", @@GLOBAL.rpl_semi_sync_{replica}_enabled AS acknowledges"));
    }
    let mut statements = vec![select, server.show_sources().to_owned()];
    if semi.source.or(semi.replica).is_some() {
        statements.push("SHOW GLOBAL STATUS LIKE 'rpl_semi_sync_%'".to_owned());
    }
    if features.heartbeats {
        statements.push(HEARTBEATS.to_owned());
    }
    if features.clone {
        statements.push(CLONE.to_owned());
    }
    statements
}

/// Reads the answers to [`question`]; what follows them stays in `sets`.
///
/// # Errors
/// [`Fault::Odd`] if something is missing or makes no sense.
pub(super) fn read(
    server: &Server,
    features: &Features,
    sets: &mut std::vec::IntoIter<Vec<Row>>,
) -> Result<Told, Fault> {
    let mut next = || sets.next().ok_or_else(|| Fault::Odd("too few answers".to_owned()));
    let own = Fields(next()?.into_iter().next().unwrap_or_default());
    let sources = next()?;
    let semi = features.semi_sync;
    let status = if semi.source.or(semi.replica).is_some() { next()? } else { Vec::new() };
    let beats = if features.heartbeats { next()? } else { Vec::new() };
    let clone = if features.clone { next()? } else { Vec::new() };

    let mut sources: Vec<Fields> = sources.into_iter().map(Fields).collect();
    // Those of group replication are no source that anybody set.
    sources.retain(|row| !row.any(["channel_name"]).starts_with("group_replication_"));
    let (received, applied) = positions(server, &own, &sources)?;
    let channel = sources.first().map(channel);
    let role = if channel.is_some() { Role::Replica } else { Role::Master };
    let offline = own.is_on("offline");
    let read_only = own.is_on("read_only") || own.is_on("super_read_only");
    let receives = |channel: &Channel| channel.receiver == Receiver::Running;
    let state = InstanceState {
        role,
        writable: !read_only && !offline,
        source: channel.as_ref().filter(|channel| channel.follows()).and_then(Channel::address),
        link_up: channel.as_ref().is_some_and(|it| receives(it) && it.applier_runs),
        syncing: clone.iter().any(|row| row.get("state") == Some(&Some("In Progress".to_owned()))),
        never_synced: false,
        received,
        applied,
        trouble: trouble(&sources),
        filtered: sources.iter().any(|row| row.filters().next().is_some()),
        denied: sources.iter().any(denied),
        applier_stopped: channel.as_ref().is_some_and(|channel| !channel.applier_runs),
        semi_sync: semi_sync(features, &own, &status),
        obstacles: Vec::new(),
        silent_for: None,
        priority: PRIORITY,
        version: server.shown(),
        settings: Settings::default(),
    };
    let beats = beats.iter().filter_map(|row| row.get("beats").cloned().flatten());
    let heard = sources.iter().map(Fields::progress).chain(beats).collect::<Vec<_>>().join("/");
    let channels = sources.len();
    Ok(Told {
        state,
        channel,
        channels,
        closed: if server.is_mariadb() { read_only } else { own.is_on("super_read_only") },
        offline,
        events: own.is_on("events"),
        acknowledges_set: own.is_on("acknowledges"),
        heard,
    })
}

fn positions(
    server: &Server,
    own: &Fields,
    sources: &[Fields],
) -> Result<(Position, Position), Fault> {
    let odd = |error: sengu_core::gtid::NoGtid| Fault::Odd(error.to_string());
    match server.flavour {
        Flavour::Mysql => {
            let uuid = own.any(["server"]).to_ascii_lowercase();
            let applied: GtidSet = own.any(["executed"]).parse().map_err(odd)?;
            let mut received = applied.clone();
            for row in sources {
                received = received.union(&row.any(["retrieved_gtid_set"]).parse().map_err(odd)?);
            }
            let position = |set| Position::Mysql(MysqlPosition { server: uuid.clone(), set });
            Ok((position(received), position(applied)))
        }
        Flavour::Mariadb => {
            let number = own.any(["server"]).parse();
            let id: u32 = number.map_err(|_| Fault::Odd("no server_id".to_owned()))?;
            let binlog: GtidState = own.any(["executed"]).parse().map_err(odd)?;
            // What a backup brought stands only there.
            let applied = binlog.union(&own.any(["copied"]).parse().map_err(odd)?);
            let mut received = applied.clone();
            for row in sources {
                received = received.union(&row.any(["gtid_io_pos"]).parse().map_err(odd)?);
            }
            let position = |state| Position::Mariadb(MariadbPosition { server: id, state });
            Ok((position(received), position(applied)))
        }
    }
}

fn channel(row: &Fields) -> Channel {
    Channel {
        name: row.any(["channel_name", "connection_name"]).to_owned(),
        host: (
            row.any(["source_host", "master_host"]).to_owned(),
            row.any(["source_port", "master_port"]).parse().unwrap_or(0),
        ),
        receiver: match row.any(["replica_io_running", "slave_io_running"]) {
            "Yes" => Receiver::Running,
            "No" => Receiver::Stopped,
            // `Connecting`, and MariaDB's `Preparing`.
            _ => Receiver::Connecting,
        },
        receiver_error: row.any(["last_io_errno"]).parse().unwrap_or(0),
        applier_runs: row.any(["replica_sql_running", "slave_sql_running"]) == "Yes",
        by_gtid: row.any(["auto_position"]) == "1" || row.any(["using_gtid"]) == "Slave_Pos",
    }
}

/// Why replication does not go on although it should, or leaves out something.
fn trouble(sources: &[Fields]) -> Option<String> {
    let mut troubles = Vec::new();
    if sources.len() > 1 {
        let count = sources.len();
        troubles.push(format!("it replicates from {count} sources: only one is supported"));
    }
    for row in sources {
        let channel = channel(row);
        let receiver = row.any(["last_io_error"]);
        let failed = channel.receiver == Receiver::Stopped && channel.follows();
        if failed && !receiver.is_empty() {
            troubles.push(format!("receiver: {}", without_data(receiver)));
        }
        let applier = row.any(["last_sql_error"]);
        if !channel.applier_runs && !applier.is_empty() {
            troubles.push(format!("applier: {}", without_data(applier)));
        }
        let filters: Vec<String> = row.filters().map(|name| format!("`{name}`")).collect();
        if !filters.is_empty() {
            let filters = filters.join(", ");
            troubles.push(format!("it leaves out some of what it receives: {filters} is set"));
        }
    }
    (!troubles.is_empty()).then(|| shortened(&troubles.join("; "), MAX_TROUBLE))
}

/// Does something with this name, of settings or of a source, leave out events that a copy
/// receives? (MySQL 9.x, section 19.2.5; MariaDB, "Replication Filters".)
pub(super) fn is_filter(name: &str) -> bool {
    const OTHERS: [&str; 3] = [
        "replicate_annotate_row_events",
        "replicate_events_marked_for_skip",
        // What comes back to its origin in a ring.
        "replicate_ignore_server_ids",
    ];
    name.starts_with("replicate_") && !OTHERS.contains(&name)
}

/// Did its source refuse it, because it has transactions that the source lacks? Error 1236 says so
/// only in words: MariaDB's 1945 and 1955, MySQL's `ER_REPLICA_HAS_MORE_GTIDS_THAN_SOURCE`.
fn denied(row: &Fields) -> bool {
    const WORDS: [&str; 3] = [
        "which is not in the master's binlog",
        "more GTIDs than the source has",
        "more GTIDs than the master has",
    ];
    let told = row.any(["last_io_error"]);
    channel(row).receiver == Receiver::Stopped && WORDS.iter().any(|words| told.contains(words))
}

/// An error of replication without the statement and the key that it may quote.
fn without_data(text: &str) -> &str {
    let cut = ["Query:", "Duplicate entry", "Error_code:"]
        .into_iter()
        .filter_map(|word| text.find(word))
        .filter(|at| *at > 0)
        .min();
    text[..cut.unwrap_or(text.len())].trim_end_matches([' ', ';', ',', '.', '\''])
}

fn semi_sync(features: &Features, own: &Fields, status: &[Row]) -> Option<SemiSync> {
    let names = features.semi_sync;
    names.source.or(names.replica)?;
    let value = |side: Option<&str>, name: &str| {
        let wanted = format!("rpl_semi_sync_{}_{name}", side?);
        status.iter().find_map(|row| {
            let told = row.get("variable_name").cloned().flatten()?;
            told.eq_ignore_ascii_case(&wanted).then(|| row.get("value").cloned().flatten())?
        })
    };
    let is_on = |side, name| value(side, name).is_some_and(|value| value == "ON");
    let number = |name| value(names.source, name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let waits = own.is_on("waits") && is_on(names.source, "status");
    let count = own.any(["wait_count"]).parse().unwrap_or(1);
    Some(SemiSync {
        awaits: if waits { count } else { 0 },
        acknowledges: own.is_on("acknowledges") && is_on(names.replica, "status"),
        clients: number("clients"),
        waiting: number("wait_sessions"),
    })
}

/// A row, asked for fields that servers name differently.
struct Fields(Row);

impl Fields {
    /// The first of these that is there; empty if none.
    fn any<const N: usize>(&self, names: [&str; N]) -> &str {
        names.into_iter().find_map(|name| self.0.get(name)?.as_deref()).unwrap_or("")
    }

    fn is_on(&self, name: &str) -> bool {
        matches!(self.any([name]), "1" | "ON")
    }

    /// The filters of a source.
    fn filters(&self) -> impl Iterator<Item = &str> {
        let set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
        let named = self.0.iter().filter(move |(_, value)| set(value));
        named.map(|(name, _)| name.as_str()).filter(|name| is_filter(name))
    }

    /// What moves on with each event and heartbeat.
    fn progress(&self) -> String {
        let fields = [
            self.any(["slave_received_heartbeats"]),
            self.any(["read_source_log_pos", "read_master_log_pos"]),
            self.any(["source_log_file", "master_log_file"]),
        ];
        fields.join(" ")
    }
}
