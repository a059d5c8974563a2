//! `/v1/txn`: several KV operations, all or none.
//!
//! Each operation becomes conditions and writes of one txn of the store, made from one catalog.
//! What already fails there is answered at once, with every operation that fails; what fails at
//! the store is planned again from a newer catalog. An operation sees the keys as they were before
//! the txn, so a key that one operation writes cannot stand in another: that is refused.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{Nullable, lowered};
use super::kv::{Pair, VALUE_MAX, check_key, pair};
use super::record::key;
use super::{Refusal, derived, kv, session};
use crate::catalog::Catalog;
use crate::kv::{Compare, KeyValue, Op, Revision, Txn};

/// The most operations of one txn, as Consul bounds it.
pub const OPERATIONS: usize = 128;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Operation {
    verb: String,
    #[serde(default)]
    key: Nullable<String>,
    #[serde(default)]
    value: Nullable<String>,
    #[serde(default)]
    flags: Nullable<u64>,
    #[serde(default)]
    index: Nullable<Revision>,
    #[serde(default)]
    session: Nullable<String>,
}

/// Why one operation fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failure {
    /// Its place, from 0.
    pub op_index: usize,
    /// Why.
    pub what: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// For the store.
    pub txn: Txn,
    /// What reads brought, in order.
    read: Vec<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// This entry.
    Pair(Pair),
    /// The entry of this key as it stands after the txn, without its value.
    Written(String),
}

/// Reads a body.
///
/// # Errors
/// [`Refusal::Bad`] for what cannot be read or is not taken, [`Refusal::TooLarge`] for too much.
pub fn operations(body: &[u8]) -> Result<Vec<Operation>, Refusal> {
    let bad = |text: String| Refusal::Bad(format!("Failed to parse body: {text}"));
    let value: Value = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    let Value::Array(items) = lowered(value) else { return Err(bad("not a list".to_owned())) };
    if items.len() > OPERATIONS {
        return Err(Refusal::TooLarge(format!(
            "Transaction contains too many operations ({} > {OPERATIONS})",
            items.len()
        )));
    }
    let mut operations = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let Value::Object(mut item) = item else { return Err(bad("not an object".to_owned())) };
        let Some(kv) = item.remove("kv").filter(|kv| !kv.is_null()) else {
            let kind = item.keys().next().cloned().unwrap_or_default();
            return Err(Refusal::Bad(format!(
                "operation {index}: only KV operations are taken by this agent, not {kind:?}"
            )));
        };
        operations.push(serde_json::from_value(kv).map_err(|error| bad(error.to_string()))?);
    }
    check_separate(&operations)?;
    Ok(operations)
}

/// No key that is written may stand in another operation.
fn check_separate(operations: &[Operation]) -> Result<(), Refusal> {
    let mut written: BTreeSet<&str> = BTreeSet::new();
    for (index, operation) in operations.iter().enumerate() {
        let name = operation.key.0.as_str();
        let tree = operation.verb.ends_with("-tree");
        let meets = |other: &&str| if tree { other.starts_with(name) } else { *other == name };
        if written.iter().any(meets) {
            return Err(Refusal::Bad(format!(
                "operation {index}: {name:?} is written by an earlier operation; this agent takes \
                 one operation for a key that a txn writes"
            )));
        }
        if writes(&operation.verb) {
            let before = operations[..index].iter().any(|earlier| earlier.key.0 == name);
            let guards = operations[..index]
                .iter()
                .filter(|earlier| earlier.key.0 == name)
                .all(|earlier| earlier.verb.starts_with("check-"));
            if before && !guards {
                return Err(Refusal::Bad(format!(
                    "operation {index}: {name:?} stands in an earlier operation; this agent takes \
                     one operation, and checks before it, for a key that a txn writes"
                )));
            }
            written.insert(name);
        }
    }
    Ok(())
}

fn writes(verb: &str) -> bool {
    matches!(verb, "set" | "cas" | "lock" | "unlock" | "delete" | "delete-tree" | "delete-cas")
}

/// Plans all of it from one catalog; the failures if some already fail.
///
/// # Errors
/// [`Refusal`] for what Consul answers with another status than 409.
pub fn plan(
    catalog: &Catalog,
    operations: &[Operation],
) -> Result<Result<Draft, Vec<Failure>>, Refusal> {
    let (mut draft, mut failures) = (Draft::default(), Vec::new());
    for (op_index, operation) in operations.iter().enumerate() {
        match one(catalog, operation, &mut draft) {
            Ok(()) => {}
            Err(Wrong::Fails(what)) => failures.push(Failure { op_index, what }),
            Err(Wrong::Refused(refusal)) => return Err(refusal),
        }
    }
    Ok(if failures.is_empty() { Ok(draft) } else { Err(failures) })
}

enum Wrong {
    Fails(String),
    Refused(Refusal),
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn fails<T>(what: String) -> Result<T, Wrong> {
    Err(Wrong::Fails(what))
}

fn one(catalog: &Catalog, operation: &Operation, draft: &mut Draft) -> Result<(), Wrong> {
    let name = operation.key.0.as_str();
    if operation.verb != "get-tree" && operation.verb != "delete-tree" {
        check_key(name)?;
    }
    if writes(&operation.verb) {
        derived::check_owner(name)?;
    }
    let entry = catalog.get(&key::kv(name));
    let at = entry.map_or(0, |entry| entry.modified);
    let seen = Compare::Modified(key::kv(name), at);
    match operation.verb.as_str() {
        "set" | "cas" | "lock" | "unlock" => return write(catalog, operation, draft),
        "get" => match entry {
            Some(entry) => draft.read(catalog, entry),
            None => return fails(format!("key {name:?} doesn't exist")),
        },
        "get-or-empty" => match entry {
            Some(entry) => draft.read(catalog, entry),
            None => draft.read.push(Outcome::Pair(empty(name))),
        },
        "get-tree" => {
            let found: Vec<_> = catalog.range(&key::kv(name)).cloned().collect();
            found.iter().for_each(|entry| draft.read(catalog, entry));
            return Ok(());
        }
        "check-index" if at == operation.index.0 && entry.is_some() => {}
        "check-index" if entry.is_none() => return fails(format!("key {name:?} doesn't exist")),
        "check-index" => {
            return fails(format!(
                "failed index check for key {name:?}, current modify index {at} != {}",
                operation.index.0
            ));
        }
        "check-not-exists" if entry.is_none() => {}
        "check-not-exists" => return fails(format!("key {name:?} exists")),
        "check-session" => {
            let holder = session::holder(catalog, name).unwrap_or_default();
            if entry.is_none() {
                return fails(format!("key {name:?} doesn't exist"));
            }
            if holder != operation.session.0 {
                return fails(format!(
                    "failed session check for key {name:?}, current session {holder:?} != {:?}",
                    operation.session.0
                ));
            }
            let lock = session::lock_key(name);
            let revision = catalog.get(&lock).map_or(0, |entry| entry.modified);
            draft.txn.when.push(Compare::Modified(lock, revision));
        }
        "delete" => return remove(draft, name),
        "delete-tree" => {
            draft.txn.then.extend(kv::delete_tree(name)?.txn.then);
            return Ok(());
        }
        "delete-cas" if entry.is_none() || at == operation.index.0 => {
            draft.txn.when.push(seen);
            return remove(draft, name);
        }
        "delete-cas" => return fails(format!("failed to delete key {name:?}, index is stale")),
        other => {
            return Err(Refusal::Bad(format!("unknown KV verb {other:?}")).into());
        }
    }
    draft.txn.when.push(seen);
    Ok(())
}

fn remove(draft: &mut Draft, name: &str) -> Result<(), Wrong> {
    draft.txn.then.extend(kv::delete(name, None)?.txn.then);
    Ok(())
}

fn write(catalog: &Catalog, operation: &Operation, draft: &mut Draft) -> Result<(), Wrong> {
    let name = operation.key.0.as_str();
    let value = STANDARD
        .decode(&operation.value.0)
        .map_err(|error| Refusal::Bad(format!("the value of {name:?} is not base64: {error}")))?;
    if value.len() > VALUE_MAX {
        let text =
            format!("value for key {name:?} is too large ({} > {VALUE_MAX} bytes)", value.len());
        return Err(Refusal::TooLarge(text).into());
    }
    let cas = (operation.verb == "cas").then_some(operation.index.0);
    let put = kv::Put { key: name, value: &value, flags: operation.flags.0, cas };
    let session = operation.session.0.as_str();
    let plan = match operation.verb.as_str() {
        "lock" => match kv::acquire(catalog, &put, session)? {
            Some(plan) => plan,
            None => {
                return fails(format!("failed to lock key {name:?}, lock is already held"));
            }
        },
        "unlock" => match kv::release(catalog, &put, session)? {
            Some(plan) => plan,
            None => {
                return fails(format!(
                    "failed to unlock key {name:?}, lock isn't held, or is held by another session"
                ));
            }
        },
        _ => kv::put(catalog, &put)?,
    };
    let at = catalog.get(&key::kv(name)).map_or(0, |entry| entry.modified);
    if cas.is_some_and(|cas| cas != at) {
        return fails(format!("failed to set key {name:?}, index is stale"));
    }
    draft.txn.when.extend(plan.txn.when);
    draft.txn.then.extend(plan.txn.then);
    draft.read.push(Outcome::Written(name.to_owned()));
    Ok(())
}

fn empty(name: &str) -> Pair {
    Pair {
        lock_index: 0,
        key: name.to_owned(),
        flags: 0,
        value: None,
        create_index: 0,
        modify_index: 0,
        session: None,
    }
}

impl Draft {
    fn read(&mut self, catalog: &Catalog, entry: &KeyValue) {
        self.read.push(Outcome::Pair(pair(catalog, entry)));
    }

    /// The answer, from a catalog that has the txn.
    #[must_use]
    pub fn results(&self, after: &Catalog) -> Vec<Pair> {
        let told = |outcome: &Outcome| match outcome {
            Outcome::Pair(pair) => Some(pair.clone()),
            Outcome::Written(name) => {
                let entry = after.get(&key::kv(name))?;
                Some(Pair { value: None, ..pair(after, entry) })
            }
        };
        self.read.iter().filter_map(told).collect()
    }

    /// Does it only read and check?
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.txn.then.iter().all(|op| matches!(op, Op::Get(_) | Op::GetPrefix(_)))
    }
}
