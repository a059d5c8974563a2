//! Consul's key-value store over the catalog: views of `kv/…` and plans of its writes.
//!
//! Indexes. An entry that is there: its own. A key that is not, or a prefix with nothing under
//! it: the last change of any KV entry. A prefix: the newest entry under it or the last removal
//! under it, whichever is later; of removals a bounded number is remembered, and those before
//! count for every prefix. So an index never goes back, and a change elsewhere wakes nobody.
//!
//! Locks (`acquire`, `release`) are records beside the entry ([`super::session`]). An entry that
//! was ever locked has the index of its lock, too, so that the end of a lock wakes who waits.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Map;

use super::record::{KvMeta, key};
use super::{Found, Otherwise, Plan, Refusal, derived, session};
use crate::catalog::Catalog;
use crate::kv::{Compare, KeyValue, Op, Revision, Txn};
use crate::record::{FORMAT, Record};

/// The largest value, in bytes (Consul's `kv_max_value_size`).
pub const VALUE_MAX: usize = 512 * 1024;

/// The longest key, in bytes: what every store takes, less the prefix that it stands under.
pub const KEY_MAX: usize = 1000;

/// One entry, as Consul's clients read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pair {
    /// How often it was locked.
    pub lock_index: u64,
    /// Its key.
    pub key: String,
    /// The client's own number.
    pub flags: u64,
    /// Its value in base64; `null` if it is empty.
    pub value: Option<String>,
    /// The revision at which it came to be.
    pub create_index: Revision,
    /// The revision of its last change.
    pub modify_index: Revision,
    /// The session that holds its lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// One entry.
#[must_use]
pub fn get(catalog: &Catalog, name: &str) -> Found<Option<Pair>> {
    let found = find(catalog, name);
    Found { index: found.index, body: found.body.map(|entry| pair(catalog, &entry)) }
}

/// One entry's bytes.
#[must_use]
pub fn raw(catalog: &Catalog, name: &str) -> Found<Option<Arc<[u8]>>> {
    let found = find(catalog, name);
    Found { index: found.index, body: found.body.map(|entry| entry.value.clone()) }
}

fn find(catalog: &Catalog, name: &str) -> Found<Option<Arc<KeyValue>>> {
    let Some(entry) = catalog.get(&key::kv(name)) else {
        return Found { index: catalog.changed("kv"), body: None };
    };
    let lock = if meta(catalog, name).locks > 0 { session::lock_index(catalog, name) } else { 0 };
    Found { index: entry.modified.max(lock), body: Some(Arc::clone(entry)) }
}

/// All entries under a prefix, by key; `None` if there are none.
#[must_use]
pub fn recurse(catalog: &Catalog, prefix: &str) -> Found<Option<Vec<Pair>>> {
    let pairs: Vec<Pair> =
        catalog.range(&key::kv(prefix)).map(|entry| pair(catalog, entry)).collect();
    let newest = pairs.iter().map(|pair| pair.modify_index).max();
    let locked = pairs.iter().filter(|pair| pair.lock_index > 0);
    let newest = newest.max(locked.map(|pair| session::lock_index(catalog, &pair.key)).max());
    Found {
        index: prefix_index(catalog, prefix, newest),
        body: Some(pairs).filter(|p| !p.is_empty()),
    }
}

/// All keys under a prefix, each cut after the first separator that follows the prefix;
/// `None` if there are none, except under the empty prefix.
#[must_use]
pub fn keys(catalog: &Catalog, prefix: &str, separator: &str) -> Found<Option<Vec<String>>> {
    let mut keys: Vec<String> = Vec::new();
    let mut newest = None;
    for entry in catalog.range(&key::kv(prefix)) {
        newest = newest.max(Some(entry.modified));
        let name = name_of(entry);
        let rest = &name[prefix.len()..];
        let cut = match rest.find(separator) {
            Some(at) if !separator.is_empty() => prefix.len() + at + separator.len(),
            _ => name.len(),
        };
        // Keys come in order, so equal cuts are neighbours.
        if keys.last().is_none_or(|last| *last != name[..cut]) {
            keys.push(name[..cut].to_owned());
        }
    }
    let body = Some(keys).filter(|keys| !keys.is_empty() || prefix.is_empty());
    Found { index: prefix_index(catalog, prefix, newest), body }
}

fn prefix_index(catalog: &Catalog, prefix: &str, newest: Option<Revision>) -> Revision {
    match newest {
        Some(newest) => newest.max(catalog.removed_under(&key::kv(prefix))),
        None => catalog.changed("kv"),
    }
}

fn name_of(entry: &KeyValue) -> &str {
    entry.key.strip_prefix("kv/").unwrap_or(&entry.key)
}

pub(super) fn pair(catalog: &Catalog, entry: &KeyValue) -> Pair {
    let name = name_of(entry);
    let meta = meta(catalog, name);
    Pair {
        lock_index: meta.locks,
        key: name.to_owned(),
        flags: meta.flags,
        value: (!entry.value.is_empty()).then(|| STANDARD.encode(&entry.value)),
        create_index: entry.created,
        modify_index: entry.modified,
        session: session::holder(catalog, name),
    }
}

/// What belongs to an entry besides its value.
pub(super) fn meta(catalog: &Catalog, name: &str) -> KvMeta {
    let kept = catalog.get(&key::kv_meta(name));
    kept.and_then(|entry| KvMeta::decode(&entry.value).ok()).unwrap_or_else(|| KvMeta {
        format: FORMAT,
        flags: 0,
        locks: 0,
        unknown: Map::new(),
    })
}

/// Writes what belongs to an entry, where it is not what stands there; nothing where there is
/// nothing to tell.
pub(super) fn put_meta(catalog: &Catalog, name: &str, flags: u64, locks: u64) -> Option<Op> {
    let at = key::kv_meta(name);
    let stands = catalog.get(&at).is_some();
    let old = meta(catalog, name);
    if (flags, locks) == (0, 0) {
        return stands.then_some(Op::Delete(at));
    }
    if stands && (old.flags, old.locks) == (flags, locks) {
        return None;
    }
    let value = KvMeta { flags, locks, ..old }.encode();
    Some(Op::Put { key: at, value, lease: 0 })
}

/// A write of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put<'a> {
    /// Which.
    pub key: &'a str,
    /// Its new value.
    pub value: &'a [u8],
    /// The client's own number.
    pub flags: u64,
    /// Only if its index is this; 0: only if it is absent.
    pub cas: Option<Revision>,
}

/// Plans a write. Writing what is there already changes nothing, not even the index. A lock stays
/// with whoever holds it.
///
/// # Errors
/// [`Refusal::Bad`] for a key out of bounds, [`Refusal::TooLarge`] for such a value,
/// [`Refusal::Managed`] for a key of sengu's own.
pub fn put(catalog: &Catalog, put: &Put<'_>) -> Result<Plan, Refusal> {
    check_put(put)?;
    let at = key::kv(put.key);
    let seen = catalog.get(&at);
    let old = seen.map(|_| meta(catalog, put.key)).unwrap_or_else(|| meta(&Catalog::default(), ""));
    let same = seen
        .filter(|entry| *entry.value == *put.value && old.flags == put.flags)
        .filter(|entry| put.cas.is_none_or(|cas| cas == entry.modified));
    if let Some(entry) = same {
        let when = vec![Compare::Modified(at.clone(), entry.modified)];
        let otherwise = if put.cas.is_some() { Otherwise::False } else { Otherwise::Again };
        return Ok(Plan {
            txn: Txn { when, then: vec![Op::Get(at)], otherwise: vec![] },
            otherwise,
        });
    }
    let mut when: Vec<Compare> =
        put.cas.map(|cas| Compare::Modified(at.clone(), cas)).into_iter().collect();
    let lease = seen.map_or(0, |entry| entry.lease);
    let mut otherwise = Otherwise::False;
    if lease != 0 && put.cas.is_none() {
        // The lease, and what it ends, is the lock's; both must be those that were seen.
        when.push(Compare::Modified(at.clone(), seen.map_or(0, |entry| entry.modified)));
        otherwise = Otherwise::Again;
    }
    let mut then = vec![Op::Put { key: at, value: put.value.into(), lease }];
    then.extend(put_meta(catalog, put.key, put.flags, old.locks));
    Ok(Plan { txn: Txn { when, then, otherwise: vec![] }, otherwise })
}

fn check_put(put: &Put<'_>) -> Result<(), Refusal> {
    check_key(put.key)?;
    derived::check_owner(put.key)?;
    check_size(put.value.len())
}

/// Plans a write that takes the key's lock for a session; `None`: another holds it.
///
/// # Errors
/// As [`put`], and [`Refusal::Invalid`] if there is no such session.
pub fn acquire(catalog: &Catalog, put: &Put<'_>, id: &str) -> Result<Option<Plan>, Refusal> {
    check_put(put)?;
    let seen = catalog.get(&key::kv(put.key));
    let locks = seen.map_or(0, |_| meta(catalog, put.key).locks);
    let (when, mut then, locks, lease) = match session::take(catalog, put.key, id)? {
        session::Take::Held => return Ok(None),
        session::Take::Own { when, lease } => (when, Vec::new(), locks, lease),
        session::Take::Free { when, then, lease } => (when, then, locks + 1, lease),
    };
    then.push(Op::Put { key: key::kv(put.key), value: put.value.into(), lease });
    then.extend(put_meta(catalog, put.key, put.flags, locks));
    let txn = Txn { when, then, otherwise: vec![] };
    Ok(Some(Plan { txn, otherwise: Otherwise::Again }))
}

/// Plans a write that gives the key's lock back; `None`: this session does not hold it.
///
/// # Errors
/// As [`put`].
pub fn release(catalog: &Catalog, put: &Put<'_>, id: &str) -> Result<Option<Plan>, Refusal> {
    check_put(put)?;
    let Some((when, mut then)) = session::give(catalog, put.key, id) else { return Ok(None) };
    then.push(Op::Put { key: key::kv(put.key), value: put.value.into(), lease: 0 });
    let locks = meta(catalog, put.key).locks;
    then.extend(put_meta(catalog, put.key, put.flags, locks));
    let txn = Txn { when, then, otherwise: vec![] };
    Ok(Some(Plan { txn, otherwise: Otherwise::Again }))
}

/// Plans the removal of one entry. With `cas`, a missing key counts as removed and an index of
/// 0 removes nothing.
///
/// # Errors
/// [`Refusal::Bad`] for a key out of bounds.
pub fn delete(name: &str, cas: Option<Revision>) -> Result<Plan, Refusal> {
    check_key(name)?;
    derived::check_owner(name)?;
    let key = key::kv(name);
    let remove = vec![
        Op::Delete(key.clone()),
        Op::Delete(key::kv_meta(name)),
        Op::Delete(session::lock_key(name)),
        Op::Delete(session::delay_key(name)),
    ];
    let (when, then) = match cas {
        None => (vec![], remove),
        Some(0) => (vec![Compare::Modified(key.clone(), 0)], vec![Op::Get(key.clone())]),
        Some(cas) => (vec![Compare::Modified(key.clone(), cas)], remove),
    };
    let txn = Txn { when, then, otherwise: vec![Op::Get(key)] };
    Ok(Plan { txn, otherwise: Otherwise::TrueIfMissing })
}

/// Plans the removal of all entries under a prefix; the empty one removes all.
///
/// # Errors
/// [`Refusal::Bad`] for a prefix out of bounds.
pub fn delete_tree(prefix: &str) -> Result<Plan, Refusal> {
    if !prefix.is_empty() {
        check_key(prefix)?;
    }
    derived::check_owner(prefix)?;
    let under = [
        key::kv(prefix),
        key::kv_meta(prefix),
        session::lock_key(prefix),
        session::delay_key(prefix),
    ];
    let then = under.into_iter().map(Op::DeletePrefix).collect();
    Ok(Plan { txn: Txn { when: vec![], then, otherwise: vec![] }, otherwise: Otherwise::False })
}

/// Checks a value's size before it is read into memory.
///
/// # Errors
/// [`Refusal::TooLarge`] with both sizes.
pub fn check_size(bytes: usize) -> Result<(), Refusal> {
    if bytes <= VALUE_MAX {
        return Ok(());
    }
    Err(Refusal::TooLarge(format!(
        "Request body({bytes} bytes) too large, max size: {VALUE_MAX} bytes."
    )))
}

/// Checks a key's form.
///
/// # Errors
/// [`Refusal::Bad`] with what is wrong.
pub fn check_key(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::Bad("Missing key name".to_owned()));
    }
    if name.len() > KEY_MAX {
        return Err(Refusal::Bad(format!(
            "key name of {} bytes is too long, the most is {KEY_MAX}",
            name.len()
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Refusal::Bad("key name holds unprintable characters".to_owned()));
    }
    Ok(())
}
