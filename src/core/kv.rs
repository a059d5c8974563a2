//! The store as a pure machine: what a transaction does, and nothing about disks or networks.
//!
//! The words are etcd's (revision, txn, lease, watch), and so is what they do. The embedded store
//! wraps [`Kv`] with SQLite, the simulator wraps it with faults, and one suite proves both equal
//! to etcd. A clone is cheap: maps are persistent, values are shared. It reads no clock, keeps a
//! bounded history, and a txn that it refuses has changed nothing.

mod bounds;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};

use crate::time::Time;

pub use bounds::{
    KEY_BYTES_MAX, LEASES_MAX, LIST_MAX, STORE_BYTES_MAX, TTL_MAX, TTL_MIN, TXN_BYTES_MAX,
    VALUE_BYTES_MAX,
};

/// A record's key, as `master/foo-redis`.
pub type Key = Arc<str>;

/// Grows by one with each txn that changes something; 0 is before everything.
pub type Revision = u64;

/// One stored record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Its key.
    pub key: Key,
    /// Its bytes: JSON, except under `kv/`.
    pub value: Arc<[u8]>,
    /// The revision at which it came to be.
    pub created: Revision,
    /// The revision of its last change.
    pub modified: Revision,
    /// Changes since it came to be; 1 when new.
    pub version: u64,
    /// The lease that ends it, or 0.
    #[serde(default)]
    pub lease: LeaseId,
}

/// A store lease; 0 is none. Mastership never hangs on one.
pub type LeaseId = u64;

/// A condition of a txn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Compare {
    /// The key's revision of last change; 0 holds for a key that is absent.
    Modified(Key, Revision),
    /// The key is there.
    Present(Key),
    /// The key's value is exactly this.
    Value(Key, Arc<[u8]>),
}

/// One operation of a txn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Write.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Arc<[u8]>,
        /// The lease that ends it, or 0.
        lease: LeaseId,
    },
    /// Remove one key.
    Delete(Key),
    /// Remove all keys that start so.
    DeletePrefix(Key),
    /// Read one key.
    Get(Key),
    /// Read all keys that start so, in order.
    GetPrefix(Key),
}

/// If all of `when` hold: `then`, else `otherwise`; as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Txn {
    /// Conditions.
    pub when: Vec<Compare>,
    /// Done if all hold. At most one write for each key.
    pub then: Vec<Op>,
    /// Done if one does not.
    pub otherwise: Vec<Op>,
}

/// What a txn did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnReply {
    /// Did all conditions hold?
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: Revision,
    /// One for each operation done, in order.
    pub results: Vec<OpResult>,
}

/// What one operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// Written.
    Put,
    /// So many removed.
    Deleted(u64),
    /// What was read.
    Got(Vec<KeyValue>),
}

/// One change of one key, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision that made it.
    pub revision: Revision,
    /// Which key.
    pub key: Key,
    /// What it is now; `None`: removed.
    pub now: Option<Arc<KeyValue>>,
}

/// What a txn did, and what watchers must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer for the one who asked.
    pub reply: TxnReply,
    /// What changed, in order; empty if nothing did, and then the revision stood still.
    pub changes: Vec<Change>,
}

/// Why a txn or a lease was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A list of the txn is too long.
    #[error("{count} entries in one list of a txn; at most {LIST_MAX} may stand there")]
    ListTooLong {
        /// How many there are.
        count: usize,
    },
    /// A key is empty.
    #[error("an empty key")]
    KeyEmpty,
    /// A key is too long.
    #[error("a key of {bytes} bytes; at most {KEY_BYTES_MAX} are stored: {start}...")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// How it starts.
        start: String,
    },
    /// A value is too long.
    #[error("the value of {key} has {bytes} bytes; at most {VALUE_BYTES_MAX} are stored")]
    ValueTooLong {
        /// Whose.
        key: Key,
        /// Its length.
        bytes: usize,
    },
    /// The txn is too large as a whole.
    #[error("a txn of {bytes} bytes; at most {TXN_BYTES_MAX} are done at once: split it")]
    TxnTooLarge {
        /// Its size, as the store counts it.
        bytes: usize,
    },
    /// One list writes a key twice.
    #[error("{key} would be written twice in one txn")]
    WrittenTwice {
        /// The key or the prefix.
        key: Key,
    },
    /// The lease of a put is not there.
    #[error("lease {0} does not exist, or has ended")]
    LeaseUnknown(LeaseId),
    /// The id of a new lease is 0 or taken.
    #[error("lease id {0} cannot be granted")]
    LeaseTaken(LeaseId),
    /// A lease is too short or too long.
    #[error("a lease of {ttl:?}; {TTL_MIN:?} to {TTL_MAX:?} can be granted")]
    TtlOutOfBounds {
        /// What was asked for.
        ttl: Duration,
    },
    /// Too many leases stand already.
    #[error("{LEASES_MAX} leases stand already; end some")]
    LeasesFull,
    /// Too many bytes are stored already.
    #[error("the store would hold {bytes} bytes; at most {STORE_BYTES_MAX} fit: delete some keys")]
    StoreFull {
        /// What it would hold.
        bytes: usize,
    },
}

/// What was asked for is older than the history that is kept: load again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes after revision {after} are not known any more; the oldest known follow {known}")]
pub struct Compacted {
    /// What was asked for.
    pub after: Revision,
    /// The oldest revision that can be asked for.
    pub known: Revision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    ttl: Duration,
    ends: Time,
}

/// The store: what it holds, and what every request does to it.
#[derive(Debug, Clone, Default)]
pub struct Kv {
    revision: Revision,
    entries: OrdMap<Key, Arc<KeyValue>>,
    /// Bytes of all keys and values.
    bytes: usize,
    leases: OrdMap<LeaseId, Lease>,
    ends: OrdSet<(Time, LeaseId)>,
    held: OrdSet<(LeaseId, Key)>,
    history: Vector<Change>,
    history_bytes: usize,
    /// Changes up to and with this revision are not in `history`.
    compacted: Revision,
}

impl Kv {
    /// An empty store at revision 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a disk or a snapshot held. Its history starts here; leases are granted again after
    /// ([`Kv::grant`]), each with its full time, and find the keys that name them.
    #[must_use]
    pub fn restore(revision: Revision, entries: impl IntoIterator<Item = Arc<KeyValue>>) -> Self {
        let mut kv = Self { revision, compacted: revision, ..Self::default() };
        for entry in entries {
            kv.bytes += bounds::weight(&entry.key, &entry.value);
            if entry.lease != 0 {
                kv.held.insert((entry.lease, entry.key.clone()));
            }
            kv.entries.insert(entry.key.clone(), entry);
        }
        kv
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is nothing stored?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One record.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<KeyValue>> {
        self.entries.get(key)
    }

    /// All records, by key.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<KeyValue>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// All records whose key starts so, by key.
    pub fn prefixed<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<KeyValue>> {
        self.entries
            .range::<_, str>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }

    /// Does a txn, whole or not at all.
    ///
    /// # Errors
    /// [`Refused`] if it is out of bounds, writes a key twice, or puts under a lease that is not
    /// there; nothing was changed then. Conditions that do not hold are no error.
    pub fn apply(&mut self, txn: &Txn) -> Result<Applied, Refused> {
        txn.check()?;
        let succeeded = txn.when.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        self.admit(ops)?;
        let next = self.revision + 1;
        let mut changes = Vec::new();
        let results = ops.iter().map(|op| self.perform(op, next, &mut changes)).collect();
        self.record(next, &changes);
        Ok(Applied { reply: TxnReply { succeeded, revision: self.revision, results }, changes })
    }

    /// All changes after a revision, in order.
    ///
    /// # Errors
    /// [`Compacted`] if the history that is kept starts later.
    pub fn changes_since(&self, after: Revision) -> Result<Vec<Change>, Compacted> {
        if after < self.compacted {
            return Err(Compacted { after, known: self.compacted });
        }
        let newest_first = self.history.iter().rev();
        let mut changes: Vec<_> =
            newest_first.take_while(|change| change.revision > after).cloned().collect();
        changes.reverse();
        Ok(changes)
    }

    /// Forgets the changes up to and with a revision, as an operator of etcd would.
    pub fn compact(&mut self, upto: Revision) {
        while self.history.front().is_some_and(|change| change.revision <= upto) {
            self.forget();
        }
        self.compacted = self.compacted.max(upto.min(self.revision));
    }

    /// Gives a lease, from now for `ttl`.
    ///
    /// # Errors
    /// [`Refused`] if the id is 0 or taken, the time out of bounds, or too many stand already.
    pub fn grant(&mut self, id: LeaseId, ttl: Duration, now: Time) -> Result<(), Refused> {
        if id == 0 || self.leases.contains_key(&id) {
            return Err(Refused::LeaseTaken(id));
        }
        if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
            return Err(Refused::TtlOutOfBounds { ttl });
        }
        if self.leases.len() >= LEASES_MAX {
            return Err(Refused::LeasesFull);
        }
        self.leases.insert(id, Lease { ttl, ends: now + ttl });
        self.ends.insert((now + ttl, id));
        Ok(())
    }

    /// Starts a lease's time anew; `false` if it is gone or its time is over.
    pub fn keep(&mut self, id: LeaseId, now: Time) -> bool {
        let Some(lease) = self.leases.get(&id).copied() else { return false };
        if lease.ends <= now {
            return false;
        }
        self.ends.remove(&(lease.ends, id));
        self.ends.insert((now + lease.ttl, id));
        self.leases.insert(id, Lease { ttl: lease.ttl, ends: now + lease.ttl });
        true
    }

    /// Ends a lease and removes its keys, at one revision. Nothing happens if it is gone.
    pub fn revoke(&mut self, id: LeaseId) -> Vec<Change> {
        let Some(lease) = self.leases.remove(&id) else { return Vec::new() };
        self.ends.remove(&(lease.ends, id));
        let first: Key = "".into();
        let keys: Vec<Key> = self
            .held
            .range((id, first)..)
            .take_while(|(lease, _)| *lease == id)
            .map(|(_, key)| key.clone())
            .collect();
        let next = self.revision + 1;
        let changes: Vec<_> = keys.iter().filter_map(|key| self.remove(key, next)).collect();
        self.record(next, &changes);
        changes
    }

    /// The leases whose time is over.
    #[must_use]
    pub fn expired(&self, now: Time) -> Vec<LeaseId> {
        self.ends.iter().take_while(|(ends, _)| *ends <= now).map(|(_, id)| *id).collect()
    }

    /// Revokes all leases whose time is over; each that had keys makes a revision.
    pub fn expire(&mut self, now: Time) -> Vec<Change> {
        self.expired(now).into_iter().flat_map(|id| self.revoke(id)).collect()
    }

    /// When the next lease ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Time> {
        self.ends.get_min().map(|(ends, _)| *ends)
    }

    /// All leases with their time to live.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, Duration)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Modified(key, revision) => {
                self.get(key).map_or(0, |entry| entry.modified) == *revision
            }
            Compare::Present(key) => self.get(key).is_some(),
            Compare::Value(key, value) => self.get(key).is_some_and(|entry| entry.value == *value),
        }
    }

    /// Refuses what can still fail, before anything is changed.
    fn admit(&self, ops: &[Op]) -> Result<(), Refused> {
        let (mut added, mut replaced) = (0, 0);
        for op in ops {
            let Op::Put { key, value, lease } = op else { continue };
            if *lease != 0 && !self.leases.contains_key(lease) {
                return Err(Refused::LeaseUnknown(*lease));
            }
            added += bounds::weight(key, value);
            replaced += self.get(key).map_or(0, |old| bounds::weight(key, &old.value));
        }
        let bytes = (self.bytes + added).saturating_sub(replaced);
        if added > replaced && bytes > STORE_BYTES_MAX {
            return Err(Refused::StoreFull { bytes });
        }
        Ok(())
    }

    fn perform(&mut self, op: &Op, next: Revision, changes: &mut Vec<Change>) -> OpResult {
        let before = changes.len();
        match op {
            Op::Put { key, value, lease } => {
                changes.push(self.put(key, value, *lease, next));
                OpResult::Put
            }
            Op::Delete(key) => {
                changes.extend(self.remove(key, next));
                OpResult::Deleted(count(changes.len() - before))
            }
            Op::DeletePrefix(prefix) => {
                let keys: Vec<Key> = self.prefixed(prefix).map(|e| e.key.clone()).collect();
                changes.extend(keys.iter().filter_map(|key| self.remove(key, next)));
                OpResult::Deleted(count(changes.len() - before))
            }
            Op::Get(key) => {
                OpResult::Got(self.get(key).map(|e| (**e).clone()).into_iter().collect())
            }
            Op::GetPrefix(prefix) => {
                OpResult::Got(self.prefixed(prefix).map(|e| (**e).clone()).collect())
            }
        }
    }

    fn put(&mut self, key: &Key, value: &Arc<[u8]>, lease: LeaseId, next: Revision) -> Change {
        let old = self.entries.get(&**key).cloned();
        self.bytes += bounds::weight(key, value);
        if let Some(old) = &old {
            self.bytes -= bounds::weight(key, &old.value);
            if old.lease != 0 {
                self.held.remove(&(old.lease, key.clone()));
            }
        }
        if lease != 0 {
            self.held.insert((lease, key.clone()));
        }
        let entry = Arc::new(KeyValue {
            key: key.clone(),
            value: value.clone(),
            created: old.as_ref().map_or(next, |old| old.created),
            modified: next,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease,
        });
        self.entries.insert(key.clone(), entry.clone());
        Change { revision: next, key: key.clone(), now: Some(entry) }
    }

    fn remove(&mut self, key: &Key, next: Revision) -> Option<Change> {
        let old = self.entries.remove(&**key)?;
        self.bytes -= bounds::weight(key, &old.value);
        if old.lease != 0 {
            self.held.remove(&(old.lease, key.clone()));
        }
        Some(Change { revision: next, key: key.clone(), now: None })
    }

    /// Takes changes into the history, and the revision with them.
    fn record(&mut self, next: Revision, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.revision = next;
        for change in changes {
            self.history_bytes += bounds::change_weight(change);
            self.history.push_back(change.clone());
        }
        while self.history.len() > bounds::HISTORY_MAX
            || self.history_bytes > bounds::HISTORY_BYTES_MAX
        {
            let Some(oldest) = self.history.front().map(|change| change.revision) else { break };
            // Half a revision is worse than none: a watcher would take it for the whole.
            self.compact(oldest);
        }
    }

    fn forget(&mut self) {
        if let Some(change) = self.history.pop_front() {
            self.history_bytes -= bounds::change_weight(&change);
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
