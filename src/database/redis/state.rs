//! One consistent question to a Redis server about itself, and the state read from the answer.
//!
//! All that counts comes from one `INFO replication`, which the server fills in at one moment.
//! The question changes nothing and names no key.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use redis::{Pipeline, Value};
use sengu_core::observation::{InstanceState, Role, Settings};
use sengu_core::position::{Ancestor, Position, RedisPosition};

use super::reply::{Fault, Info, number, setting};

/// `slave_repl_offset` of a replica that holds neither a link nor what was left of one, nor its
/// own history as a master (Redis 7.0 `genRedisInfoString`).
const NO_HISTORY: u64 = 1;

/// `replica-priority` where the server does not say.
const DEFAULT_PRIORITY: u32 = 100;

/// What a server told of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Its state; `settings` are not filled in.
    pub(super) state: InstanceState,
    /// Its pid, as its own pid namespace numbers it.
    pub(super) pid: u32,
    /// Its random id, new with each start.
    pub(super) run_id: String,
    /// Its configuration file, as it names it.
    pub(super) config_file: Option<String>,
    /// The name of its source, if that is none of the addresses in `state.source`.
    pub(super) source_name: Option<(String, u16)>,
    /// A master that has too few replicas in step to take writes now (`min-replicas-to-write`).
    pub(super) short_of_replicas: bool,
}

/// Commands that [`question`] adds.
pub(super) const QUESTIONS: usize = 6;

/// Adds the question to a pipeline.
pub(super) fn question(pipeline: &mut Pipeline) {
    for section in ["server", "replication", "persistence", "keyspace"] {
        pipeline.cmd("INFO").arg(section);
    }
    for name in ["replica-priority", "min-replicas-to-write"] {
        pipeline.cmd("CONFIG").arg("GET").arg(name);
    }
}

/// Which server answered [`question`], if it told at least that: pid and run id.
pub(super) fn server(replies: &[Value]) -> Option<(u32, String)> {
    let mut info = Info::default();
    info.add(replies.first()?).ok()?;
    Some((info.number("process_id")?, info.text("run_id")?.to_owned()))
}

/// Reads the answers to [`question`].
///
/// # Errors
/// The first error reply, [`Fault::Loading`] or
/// [`Fault::LoadingCopy`] while it loads, [`Fault::Odd`] if it is no Redis.
pub(super) fn read(replies: &[Value]) -> Result<Told, Fault> {
    let [server, replication, persistence, keyspace, priority, min_replicas] = replies else {
        return Err(Fault::Odd(format!("{} replies, expected {QUESTIONS}", replies.len())));
    };
    let mut info = Info::default();
    for section in [server, replication, persistence, keyspace] {
        info.add(section)?;
    }
    if info.is_set("loading") {
        let copy = info.text("role") == Some("slave") && info.is_set("slave_read_only");
        return Err(if copy { Fault::LoadingCopy } else { Fault::Loading });
    }
    let missing = |key: &str| Fault::Odd(format!("no `{key}` in INFO"));
    let role = match info.text("role").ok_or_else(|| missing("role"))? {
        "master" => Role::Master,
        "slave" | "replica" => Role::Replica,
        other => return Err(Fault::Odd(format!("role `{other}`: neither master nor replica"))),
    };
    let mut told = Told {
        state: state(&info, role).ok_or_else(|| missing("master_replid"))?,
        pid: info.number("process_id").ok_or_else(|| missing("process_id"))?,
        run_id: info.text("run_id").ok_or_else(|| missing("run_id"))?.to_owned(),
        config_file: info.text("config_file").filter(|file| !file.is_empty()).map(str::to_owned),
        source_name: None,
        short_of_replicas: false,
    };
    let priority = setting(priority).or_else(|| info.number("slave_priority"));
    told.state.priority = priority.unwrap_or(DEFAULT_PRIORITY);
    if role == Role::Replica && told.state.source.is_none() {
        told.source_name = info
            .text("master_host")
            .zip(info.number("master_port"))
            .map(|(name, port)| (name.to_owned(), port));
    }
    // The line is there only where the setting is not 0.
    let in_step: Option<u64> = info.number("min_slaves_good_slaves");
    told.short_of_replicas =
        role == Role::Master && in_step < setting(min_replicas) && in_step.is_some();
    Ok(told)
}

fn state(info: &Info, role: Role) -> Option<InstanceState> {
    let replica = role == Role::Replica;
    let link_up = replica && info.text("master_link_status") == Some("up");
    let received = position(info, replica, "slave_read_repl_offset")?;
    let applied = position(info, replica, "slave_repl_offset")?;
    let silent_for = if link_up { "master_last_io_seconds_ago" } else { LINK_DOWN };
    Some(InstanceState {
        role,
        // A master that lacks replicas or disk space refuses writes only until that is mended,
        // which nobody decides: it counts as one that takes them.
        writable: !replica || info.text("slave_read_only") == Some("0"),
        source: source(info).filter(|_| replica),
        link_up,
        syncing: replica
            && (info.is_set("master_sync_in_progress") || info.is_set("async_loading")),
        never_synced: replica && !link_up && has_nothing(info),
        received,
        applied,
        trouble: None,
        filtered: false,
        denied: false,
        applier_stopped: false,
        semi_sync: None,
        obstacles: Vec::new(),
        silent_for: info.number(silent_for).map(Duration::from_secs).filter(|_| replica),
        priority: DEFAULT_PRIORITY,
        version: version(info),
        settings: Settings::default(),
    })
}

/// Seconds since the link ended; -1 if there never was one.
const LINK_DOWN: &str = "master_link_down_since_seconds";

/// Does a replica hold nothing that anybody could want? It has no history (its offset is the
/// one that Redis shows when it has neither a source, nor what was left of one, nor a history
/// of its own) *and* not a single key. A server that came back with data from an append-only
/// file has no history either, but it has keys: its position is then comparable to no other,
/// and whether it may be promoted is for a person to say.
fn has_nothing(info: &Info) -> bool {
    info.number("slave_repl_offset") == Some(NO_HISTORY) && !info.has_keys()
}

fn position(info: &Info, replica: bool, replica_offset: &str) -> Option<Position> {
    let own = || info.number("master_repl_offset");
    let offset = if replica {
        // `slave_read_repl_offset` came with Redis 7.
        info.number(replica_offset).or_else(|| info.number("slave_repl_offset")).or_else(own)?
    } else {
        own()?
    };
    let second = info
        .text("master_replid2")
        .filter(|id| id.bytes().any(|byte| byte != b'0'))
        .zip(info.number("second_repl_offset"))
        .map(|(id, until)| Ancestor { id: id.to_owned(), until });
    let id = info.text("master_replid")?.to_owned();
    Some(Position::Redis(RedisPosition { id, offset, second }))
}

fn source(info: &Info) -> Option<SocketAddr> {
    let ip: IpAddr = info.number("master_host")?;
    Some(SocketAddr::new(ip, info.number("master_port")?))
}

fn version(info: &Info) -> String {
    match (info.text("valkey_version"), info.text("redis_version")) {
        (Some(version), _) => format!("valkey {version}"),
        (None, version) => version.unwrap_or("unknown").to_owned(),
    }
}

/// Reads whether a server knows a client of this id from the reply to `CLIENT LIST ID`; `None`
/// where the server is too old to tell.
pub(super) fn lists_clients(reply: &Value) -> Option<bool> {
    super::reply::text(reply).ok().map(|text| !text.trim().is_empty())
}

/// Was a `CLIENT KILL` carried out? Its reply is the number of clients that it ended.
pub(super) fn killed(reply: &Value) -> Result<u64, Fault> {
    number(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9cc68148379a76b647076f9b45b9cf6493f26b90";

    fn told(replication: &str, keyspace: &str) -> Result<Told, Fault> {
        let bulk = |text: &str| Value::BulkString(text.replace('\n', "\r\n").into_bytes());
        let server = "redis_version:7.0.15\nprocess_id:42\nrun_id:abc\nconfig_file:\n";
        let replication = format!("{replication}master_replid:{ID}\n");
        let none = Value::Array(Vec::new());
        read(&[
            bulk(server),
            bulk(&replication),
            bulk("loading:0\n"),
            bulk(keyspace),
            none.clone(),
            none,
        ])
    }

    const FRESH: &str = "role:slave\nmaster_host:127.0.0.1\nmaster_port:1\nslave_read_only:1\n\
                         master_link_status:down\nslave_repl_offset:1\nmaster_repl_offset:0\n\
                         master_link_down_since_seconds:-1\n";

    #[test]
    fn a_fresh_empty_replica_never_synced_and_one_with_data_is_not_so() {
        let state = told(FRESH, "").expect("reads").state;
        assert!(state.never_synced && !state.writable && !state.link_up);
        assert_eq!(state.source, Some("127.0.0.1:1".parse().expect("good")));
        assert_eq!(state.silent_for, None);
        let loaded = told(FRESH, "db0:keys=3,expires=0,avg_ttl=0\n").expect("reads").state;
        assert!(!loaded.never_synced, "data from a file");
        let restored = FRESH.replace("slave_repl_offset:1\n", "slave_repl_offset:4711\n");
        assert!(!told(&restored, "").expect("reads").state.never_synced, "a history");
        let empty = FRESH.replace("slave_repl_offset:1\n", "slave_repl_offset:0\n");
        assert!(!told(&empty, "").expect("reads").state.never_synced, "an empty source's copy");
    }

    fn redis(position: &Position) -> &RedisPosition {
        let Position::Redis(position) = position else { panic!("of redis: {position}") };
        position
    }

    #[test]
    fn received_and_applied_are_told_apart() {
        let text = "role:slave\nmaster_host:db1\nmaster_port:6379\nslave_read_only:0\n\
                    master_link_status:up\nmaster_last_io_seconds_ago:3\n\
                    slave_read_repl_offset:120\nslave_repl_offset:100\nmaster_repl_offset:100\n\
                    master_replid2:aa00000000000000000000000000000000000000\n\
                    second_repl_offset:77\n";
        let told = told(text, "").expect("reads");
        let received = redis(&told.state.received);
        let applied = redis(&told.state.applied);
        assert_eq!((received.offset, applied.offset), (120, 100));
        assert_eq!(applied.second.as_ref().map(|second| second.until), Some(77));
        assert_eq!(told.state.silent_for, Some(Duration::from_secs(3)));
        assert!(told.state.writable, "replica-read-only is no");
        assert_eq!(told.source_name, Some(("db1".to_owned(), 6379)));
    }

    #[test]
    fn a_master_takes_writes_even_if_it_lacks_replicas_now() {
        let text = "role:master\nmaster_repl_offset:9\nsecond_repl_offset:-1\n\
                    master_replid2:0000000000000000000000000000000000000000\n";
        let told = told(text, "").expect("reads");
        let position = redis(&told.state.applied);
        assert!(told.state.writable && told.state.source.is_none());
        assert_eq!((position.offset, &position.second), (9, &None));
        assert!(!told.short_of_replicas);
    }
}
