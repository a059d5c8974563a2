//! Consul's sessions, and the locks on keys that they hold.
//!
//! A session with a TTL is a record under a lease of the store of twice that TTL, as Consul's is
//! in effect; the records of its locks, and with `Behavior = "delete"` the locked entries, stand
//! under the same lease. So when nobody renews it all of them go at one revision, by the store
//! alone. A second lease, longer by the lock-delay, keeps what says that a key was just lost.
//!
//! Records: `sessions/id/ID`, `sessions/lock/KEY`, `sessions/delay/KEY`. Beside `[]` only the check
//! `serfHealth` may be bound to, which a session of a living store always passes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::directory::Directory;
use super::duration;
use super::json::{Nullable, decode};
use super::{Found, Refusal};
use crate::catalog::Catalog;
use crate::kv::{Compare, Key, KeyValue, LeaseId, Op, Revision, Txn};
use crate::record::{FORMAT, Record};

/// The shortest TTL that is taken, as Consul's `session_ttl_min`.
pub const TTL_MIN: Duration = Duration::from_secs(10);
/// The longest.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest lock-delay, and the one that holds if none is given.
const DELAY_MAX: Duration = Duration::from_secs(60);
const DELAY_DEFAULT: Duration = Duration::from_secs(15);
/// A lock-delay below this is none: the store's leases are no shorter.
pub const DELAY_MIN: Duration = crate::kv::TTL_MIN;
/// The one check that can be bound to.
const SERF: &str = "serfHealth";
/// Locks that one txn lets go.
const BATCH: usize = 40;

/// What an entry's lock does when its session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// The entry stays.
    #[default]
    Release,
    /// The entry goes.
    Delete,
}

/// `sessions/id/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// Its id, a UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The node that it belongs to.
    pub node: String,
    /// How long its keys cannot be locked after it ended, in milliseconds.
    pub delay_ms: u64,
    /// What becomes of its entries.
    pub behavior: Behavior,
    /// Its TTL as it was given; empty: none.
    pub ttl: String,
    /// The checks that it is bound to.
    pub checks: Vec<String>,
    /// The lease that ends it; 0: none.
    pub lease: LeaseId,
    /// The lease that ends its lock-delays; 0: none.
    pub delay_lease: LeaseId,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// `sessions/lock/KEY` and `sessions/delay/KEY`: whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// The session's id.
    pub session: String,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

crate::record::formatted!(SessionRecord, LockRecord);

/// `sessions/id/ID`.
#[must_use]
pub fn id_key(id: &str) -> Key {
    format!("sessions/id/{id}").into()
}

/// `sessions/lock/KEY`.
#[must_use]
pub fn lock_key(name: &str) -> Key {
    format!("sessions/lock/{name}").into()
}

/// `sessions/delay/KEY`.
#[must_use]
pub fn delay_key(name: &str) -> Key {
    format!("sessions/delay/{name}").into()
}

/// The body of `session/create`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    name: Nullable<String>,
    node: Nullable<String>,
    lockdelay: Option<Value>,
    behavior: Nullable<String>,
    ttl: Nullable<String>,
    checks: Option<Vec<String>>,
    nodechecks: Option<Vec<String>>,
    servicechecks: Option<Vec<Value>>,
}

/// Reads and checks what is to be created; leases are granted by the shell.
///
/// # Errors
/// [`Refusal::Bad`] for a body that cannot be read, [`Refusal::Invalid`] (Consul's 500) for what
/// its servers refuse, in their words.
pub fn wanted(
    directory: &Directory<'_>,
    body: &[u8],
    id: String,
) -> Result<(SessionRecord, Option<Duration>), Refusal> {
    let wanted: Wanted =
        if body.trim_ascii().is_empty() { Wanted::default() } else { decode(body)? };
    let invalid = |text: String| Refusal::Invalid(text);
    let ttl = match wanted.ttl.0.as_str() {
        "" => None,
        text => {
            let ttl = duration::parse(text).ok_or_else(|| {
                Refusal::Bad(format!("Request TTL decode failed: {text:?} is no duration"))
            })?;
            if !ttl.is_zero() && !(TTL_MIN..=TTL_MAX).contains(&ttl) {
                return Err(invalid(format!(
                    "Invalid Session TTL '{}', must be between [10s=24h0m0s]",
                    ttl.as_nanos()
                )));
            }
            (!ttl.is_zero()).then_some(ttl)
        }
    };
    let node = match wanted.node.0.as_str() {
        "" => directory.place.host.to_string(),
        name => match directory.find_node(name) {
            Some(node) => node.node,
            None => return Err(invalid("Missing node registration".to_owned())),
        },
    };
    let checks = wanted.nodechecks.or(wanted.checks).unwrap_or_else(|| vec![SERF.to_owned()]);
    if let Some(other) = checks.iter().find(|check| *check != SERF) {
        return Err(invalid(format!(
            "Missing check '{other}' registration: sessions of this agent are bound to {SERF} or \
             to nothing"
        )));
    }
    if wanted.servicechecks.is_some_and(|checks| !checks.is_empty()) {
        let text = "sessions of this agent are not bound to service checks: use a TTL";
        return Err(invalid(text.to_owned()));
    }
    let behavior = match wanted.behavior.0.as_str() {
        "" | "release" => Behavior::Release,
        "delete" => Behavior::Delete,
        other => return Err(invalid(format!("Invalid Behavior setting '{other}'"))),
    };
    let delay = delay(wanted.lockdelay.as_ref())?;
    let record = SessionRecord {
        format: FORMAT,
        id,
        name: wanted.name.0,
        node,
        delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        behavior,
        ttl: if ttl.is_some() { wanted.ttl.0 } else { String::new() },
        checks,
        lease: 0,
        delay_lease: 0,
        unknown: Map::new(),
    };
    Ok((record, ttl))
}

/// A Go duration, nanoseconds, or a number below 1000, which is seconds.
fn delay(value: Option<&Value>) -> Result<Duration, Refusal> {
    let bad = || Refusal::Bad("Request LockDelay decode failed: it is no duration".to_owned());
    let delay = match value {
        None | Some(Value::Null) => return Ok(DELAY_DEFAULT),
        Some(Value::String(text)) => duration::parse(text).ok_or_else(bad)?,
        Some(Value::Number(number)) => match number.as_u64().ok_or_else(bad)? {
            seconds @ 0..1000 => Duration::from_secs(seconds),
            nanos => Duration::from_nanos(nanos),
        },
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return Err(bad()),
    };
    Ok(delay.min(DELAY_MAX))
}

/// A session as Consul's clients read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionRow {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// In nanoseconds.
    pub lock_delay: u64,
    /// What becomes of its entries.
    pub behavior: Behavior,
    /// Its TTL.
    #[serde(rename = "TTL")]
    pub ttl: String,
    /// The checks that it is bound to.
    pub node_checks: Vec<String>,
    /// None.
    pub service_checks: Vec<String>,
    /// The revision at which it came to be.
    pub create_index: Revision,
    /// The revision of its last change.
    pub modify_index: Revision,
}

fn row(entry: &KeyValue) -> Option<SessionRow> {
    let record = SessionRecord::decode(&entry.value).ok()?;
    Some(SessionRow {
        id: record.id,
        name: record.name,
        node: record.node,
        lock_delay: record.delay_ms.saturating_mul(1_000_000),
        behavior: record.behavior,
        ttl: record.ttl,
        node_checks: record.checks,
        service_checks: Vec::new(),
        create_index: entry.created,
        modify_index: entry.modified,
    })
}

/// The record of a session that stands.
#[must_use]
pub fn get(catalog: &Catalog, id: &str) -> Option<SessionRecord> {
    SessionRecord::decode(&catalog.get(&id_key(id))?.value).ok()
}

/// One session, as a list of one; an unknown one is an empty list.
#[must_use]
pub fn info(catalog: &Catalog, id: &str) -> Found<Vec<SessionRow>> {
    let body = catalog.get(&id_key(id)).and_then(|entry| row(entry)).into_iter().collect();
    Found { index: catalog.changed("sessions"), body }
}

/// All sessions, or those of a node.
#[must_use]
pub fn list(catalog: &Catalog, node: Option<&str>) -> Found<Vec<SessionRow>> {
    let rows = catalog.range("sessions/id/").filter_map(|entry| row(entry));
    let of_node = |row: &SessionRow| node.is_none_or(|node| row.node.eq_ignore_ascii_case(node));
    Found { index: catalog.changed("sessions"), body: rows.filter(of_node).collect() }
}

/// Who holds a key's lock.
#[must_use]
pub fn holder(catalog: &Catalog, name: &str) -> Option<String> {
    LockRecord::decode(&catalog.get(&lock_key(name))?.value).ok().map(|lock| lock.session)
}

/// The index of a key's lock: its last change, or the last end of any lock or session.
#[must_use]
pub fn lock_index(catalog: &Catalog, name: &str) -> Revision {
    let own = catalog.get(&lock_key(name)).map_or(0, |entry| entry.modified);
    own.max(catalog.removed("sessions"))
}

fn lock(session: &str) -> std::sync::Arc<[u8]> {
    let (format, unknown) = (FORMAT, Map::new());
    LockRecord { format, session: session.to_owned(), unknown }.encode()
}

fn revision(catalog: &Catalog, key: &Key) -> Revision {
    catalog.get(key).map_or(0, |entry| entry.modified)
}

/// How a session may take a key's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take {
    /// It is free: with these conditions, by these writes, beside that of the entry; the entry
    /// stands under this lease.
    Free {
        /// Conditions.
        when: Vec<Compare>,
        /// Writes.
        then: Vec<Op>,
        /// The entry's lease.
        lease: LeaseId,
    },
    /// It is its own already: under this condition.
    Own {
        /// Conditions.
        when: Vec<Compare>,
        /// The entry's lease.
        lease: LeaseId,
    },
    /// Another holds it, or held it a moment ago.
    Held,
}

/// May this session lock this key?
///
/// # Errors
/// [`Refusal::Invalid`] if there is no such session.
pub fn take(catalog: &Catalog, name: &str, id: &str) -> Result<Take, Refusal> {
    let short: String = id.chars().take(80).collect();
    let session =
        get(catalog, id).ok_or_else(|| Refusal::Invalid(format!("invalid session {short:?}")))?;
    let lease = if session.behavior == Behavior::Delete { session.lease } else { 0 };
    let (at, lock_at, delay_at) = (id_key(id), lock_key(name), delay_key(name));
    let mut when = vec![
        Compare::Modified(at.clone(), revision(catalog, &at)),
        Compare::Modified(lock_at.clone(), revision(catalog, &lock_at)),
    ];
    match holder(catalog, name) {
        Some(holder) if holder == id => return Ok(Take::Own { when, lease }),
        Some(_) => return Ok(Take::Held),
        None => {}
    }
    if catalog.get(&delay_at).is_some() {
        return Ok(Take::Held);
    }
    when.push(Compare::Modified(delay_at.clone(), 0));
    let mut then = vec![Op::Put { key: lock_at, value: lock(id), lease: session.lease }];
    if session.delay_lease != 0 {
        then.push(Op::Put { key: delay_at, value: lock(id), lease: session.delay_lease });
    }
    Ok(Take::Free { when, then, lease })
}

/// What lets a lock go without a delay, if this session holds it.
#[must_use]
pub fn give(catalog: &Catalog, name: &str, id: &str) -> Option<(Vec<Compare>, Vec<Op>)> {
    (holder(catalog, name)? == id).then(|| {
        let (lock_at, delay_at) = (lock_key(name), delay_key(name));
        let when = vec![Compare::Modified(lock_at.clone(), revision(catalog, &lock_at))];
        (when, vec![Op::Delete(lock_at), Op::Delete(delay_at)])
    })
}

/// The keys that a session holds.
#[must_use]
pub fn held(catalog: &Catalog, id: &str) -> Vec<String> {
    catalog
        .range("sessions/lock/")
        .filter(|entry| LockRecord::decode(&entry.value).is_ok_and(|lock| lock.session == id))
        .filter_map(|entry| entry.key.strip_prefix("sessions/lock/").map(str::to_owned))
        .collect()
}

/// The txns that end a session, in order: its locks go, its entries if it deletes them, and the
/// keys stand under a lock-delay's lease, if there is one.
#[must_use]
pub fn end(catalog: &Catalog, session: &SessionRecord, delay: LeaseId) -> Vec<Txn> {
    let keys = held(catalog, &session.id);
    let mut txns: Vec<Txn> = keys
        .chunks(BATCH)
        .map(|names| {
            let mut txn = Txn::default();
            for name in names {
                let at = lock_key(name);
                txn.when.push(Compare::Modified(at.clone(), revision(catalog, &at)));
                txn.then.push(Op::Delete(at));
                txn.then.push(if delay == 0 {
                    Op::Delete(delay_key(name))
                } else {
                    Op::Put { key: delay_key(name), value: lock(&session.id), lease: delay }
                });
                if session.behavior == Behavior::Delete {
                    txn.then.push(Op::Delete(super::record::key::kv(name)));
                }
            }
            txn
        })
        .collect();
    let last = vec![Op::Delete(id_key(&session.id))];
    txns.push(Txn { when: Vec::new(), then: last, otherwise: Vec::new() });
    txns
}
