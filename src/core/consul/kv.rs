//! Consul's key-value store over the catalog: views of `kv/…` and plans of its writes.
//!
//! Indexes. An entry that is there: its own. A key that is not, or a prefix with nothing under
//! it: the last change of any KV entry. A prefix: the newest entry under it or the last removal
//! of any KV entry, whichever is later, since no tombstones are kept. So an index never goes
//! back and each change under a prefix wakes; a removal elsewhere wakes too, which Consul's
//! clients must bear ("spurious wake-ups").
//!
//! Locks (`acquire`, `release`) need sessions, which are not here: no session is known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Map;

use super::record::{KvMeta, key};
use super::{Found, Otherwise, Plan, Refusal, derived};
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
    /// How often it was locked: never.
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
    match catalog.get(&key::kv(name)) {
        Some(entry) => Found { index: entry.modified, body: Some(pair(catalog, entry)) },
        None => Found { index: catalog.changed("kv"), body: None },
    }
}

/// One entry's bytes.
#[must_use]
pub fn raw(catalog: &Catalog, name: &str) -> Found<Option<std::sync::Arc<[u8]>>> {
    match catalog.get(&key::kv(name)) {
        Some(entry) => Found { index: entry.modified, body: Some(entry.value.clone()) },
        None => Found { index: catalog.changed("kv"), body: None },
    }
}

/// All entries under a prefix, by key; `None` if there are none.
#[must_use]
pub fn recurse(catalog: &Catalog, prefix: &str) -> Found<Option<Vec<Pair>>> {
    let pairs: Vec<Pair> =
        catalog.range(&key::kv(prefix)).map(|entry| pair(catalog, entry)).collect();
    let newest = pairs.iter().map(|pair| pair.modify_index).max();
    Found { index: prefix_index(catalog, newest), body: Some(pairs).filter(|p| !p.is_empty()) }
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
    Found { index: prefix_index(catalog, newest), body }
}

fn prefix_index(catalog: &Catalog, newest: Option<Revision>) -> Revision {
    match newest {
        Some(newest) => newest.max(catalog.removed("kv")),
        None => catalog.changed("kv"),
    }
}

fn name_of(entry: &KeyValue) -> &str {
    entry.key.strip_prefix("kv/").unwrap_or(&entry.key)
}

fn pair(catalog: &Catalog, entry: &KeyValue) -> Pair {
    let name = name_of(entry);
    Pair {
        lock_index: 0,
        key: name.to_owned(),
        flags: flags(catalog, name),
        value: (!entry.value.is_empty()).then(|| STANDARD.encode(&entry.value)),
        create_index: entry.created,
        modify_index: entry.modified,
        session: None,
    }
}

fn flags(catalog: &Catalog, name: &str) -> u64 {
    catalog
        .get(&key::kv_meta(name))
        .and_then(|entry| KvMeta::decode(&entry.value).ok())
        .map_or(0, |meta| meta.flags)
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

/// Plans a write. Writing what is there already changes nothing, not even the index.
///
/// # Errors
/// [`Refusal::Bad`] for a key out of bounds, [`Refusal::TooLarge`] for such a value.
pub fn put(catalog: &Catalog, put: &Put<'_>) -> Result<Plan, Refusal> {
    check_key(put.key)?;
    derived::check_owner(put.key)?;
    check_size(put.value.len())?;
    let (key, meta) = (key::kv(put.key), key::kv_meta(put.key));
    let seen = catalog.get(&key);
    let same = seen
        .filter(|entry| *entry.value == *put.value && flags(catalog, put.key) == put.flags)
        .filter(|entry| put.cas.is_none_or(|cas| cas == entry.modified));
    if let Some(entry) = same {
        let when = vec![Compare::Modified(key.clone(), entry.modified)];
        let otherwise = if put.cas.is_some() { Otherwise::False } else { Otherwise::Again };
        return Ok(Plan {
            txn: Txn { when, then: vec![Op::Get(key)], otherwise: vec![] },
            otherwise,
        });
    }
    let meta = match put.flags {
        0 => Op::Delete(meta),
        flags => Op::Put {
            key: meta,
            value: KvMeta { format: FORMAT, flags, unknown: Map::new() }.encode(),
            lease: 0,
        },
    };
    let when = put.cas.map(|cas| Compare::Modified(key.clone(), cas)).into_iter().collect();
    let then = vec![Op::Put { key, value: put.value.into(), lease: 0 }, meta];
    Ok(Plan { txn: Txn { when, then, otherwise: vec![] }, otherwise: Otherwise::False })
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
    let remove = vec![Op::Delete(key.clone()), Op::Delete(key::kv_meta(name))];
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
    let then = vec![Op::DeletePrefix(key::kv(prefix)), Op::DeletePrefix(key::kv_meta(prefix))];
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
