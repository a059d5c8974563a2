//! How large a txn, a record and the whole store may be, and the check of a txn against it.
//!
//! The bounds on a txn are those of etcd's defaults (`--max-txn-ops` 128, `--max-request-bytes`
//! 1.5 MiB), so that what one engine takes, all take. The check looks at the txn alone, never at
//! what is stored.

use std::time::Duration;

use super::{Change, Compare, Key, Op, Refused, Txn};

/// Entries in each list of a txn: conditions, `then`, `otherwise`.
pub const LIST_MAX: usize = 128;
/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a value: Consul's 512 KiB, and 4 KiB for what a record says about it.
pub const VALUE_BYTES_MAX: usize = 516 * 1024;
/// Bytes of a txn, with 64 for each entry.
pub const TXN_BYTES_MAX: usize = 1536 * 1024;
/// Bytes of all keys and values; they are kept in memory.
pub const STORE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Leases at one time.
pub const LEASES_MAX: usize = 65_536;
/// The shortest lease.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest lease: a week.
pub const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Changes that are kept for watchers who come late.
pub(super) const HISTORY_MAX: usize = 10_000;
/// Bytes of these.
pub(super) const HISTORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an entry of a txn costs beside its key and value: more than its frame on the wire.
const ENTRY_BYTES: usize = 64;

impl Txn {
    /// Is it within the bounds of every store, and does each list write each key at most once?
    /// Stricter than etcd in one thing: removing a key twice is writing it twice.
    ///
    /// # Errors
    /// [`Refused`], naming the key or the bound.
    pub fn check(&self) -> Result<(), Refused> {
        for count in [self.when.len(), self.then.len(), self.otherwise.len()] {
            if count > LIST_MAX {
                return Err(Refused::ListTooLong { count });
            }
        }
        self.when.iter().try_for_each(check_compare)?;
        self.then.iter().chain(&self.otherwise).try_for_each(check_op)?;
        let bytes = self.bytes();
        if bytes > TXN_BYTES_MAX {
            return Err(Refused::TxnTooLarge { bytes });
        }
        written_once(&self.then)?;
        written_once(&self.otherwise)
    }

    /// Does it write nothing, whether its conditions hold or not?
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.then.iter().chain(&self.otherwise).all(|op| match op {
            Op::Get(_) | Op::GetPrefix(_) => true,
            Op::Put { .. } | Op::Delete(_) | Op::DeletePrefix(_) => false,
        })
    }

    /// Its size, as [`TXN_BYTES_MAX`] counts it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let compares = self.when.iter().map(|compare| {
            ENTRY_BYTES
                + match compare {
                    Compare::Modified(key, _) | Compare::Present(key) => key.len(),
                    Compare::Value(key, value) => key.len() + value.len(),
                }
        });
        let ops = self.then.iter().chain(&self.otherwise).map(|op| {
            ENTRY_BYTES
                + match op {
                    Op::Put { key, value, .. } => key.len() + value.len(),
                    Op::Delete(key) | Op::DeletePrefix(key) | Op::Get(key) | Op::GetPrefix(key) => {
                        key.len()
                    }
                }
        });
        compares.chain(ops).sum()
    }
}

/// What a record costs of [`STORE_BYTES_MAX`].
pub(super) fn weight(key: &Key, value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

/// What a change costs of the history.
pub(super) fn change_weight(change: &Change) -> usize {
    weight(&change.key, change.now.as_ref().map_or(&[], |entry| &entry.value))
}

fn check_key(key: &Key) -> Result<(), Refused> {
    if key.is_empty() { Err(Refused::KeyEmpty) } else { check_prefix(key) }
}

fn check_prefix(key: &Key) -> Result<(), Refused> {
    if key.len() > KEY_BYTES_MAX {
        let start = key.chars().take(40).collect();
        return Err(Refused::KeyTooLong { bytes: key.len(), start });
    }
    Ok(())
}

fn check_value(key: &Key, value: &[u8]) -> Result<(), Refused> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Refused::ValueTooLong { key: key.clone(), bytes: value.len() });
    }
    Ok(())
}

fn check_compare(compare: &Compare) -> Result<(), Refused> {
    match compare {
        Compare::Modified(key, _) | Compare::Present(key) => check_key(key),
        Compare::Value(key, value) => check_key(key).and_then(|()| check_value(key, value)),
    }
}

fn check_op(op: &Op) -> Result<(), Refused> {
    match op {
        Op::Put { key, value, .. } => check_key(key).and_then(|()| check_value(key, value)),
        // Everything can be read at once, but is never removed at once.
        Op::Delete(key) | Op::Get(key) | Op::DeletePrefix(key) => check_key(key),
        Op::GetPrefix(key) => check_prefix(key),
    }
}

fn written_once(ops: &[Op]) -> Result<(), Refused> {
    let mut writes: Vec<(&Key, bool)> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Put { key, .. } | Op::Delete(key) => Some((key, false)),
            Op::DeletePrefix(key) => Some((key, true)),
            Op::Get(_) | Op::GetPrefix(_) => None,
        })
        .collect();
    // A prefix sorts before all that it covers, and what it covers follows it without a gap.
    writes.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
    for pair in writes.windows(2) {
        let ((first, prefix), (second, _)) = (pair[0], pair[1]);
        if first == second || (prefix && second.starts_with(&**first)) {
            return Err(Refused::WrittenTwice { key: second.clone() });
        }
    }
    Ok(())
}
