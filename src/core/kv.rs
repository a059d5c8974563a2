//! The store as a pure machine: what a transaction does, and nothing about disks or networks.
//!
//! The words are etcd's (revision, txn, lease, watch). The embedded store wraps this machine with
//! SQLite, the simulator wraps it with faults, and one suite proves both equal to etcd.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// The key's revision of last change; 0 holds for a key that is absent.
    Modified(Key, Revision),
    /// The key is there.
    Present(Key),
    /// The key's value is exactly this.
    Value(Key, Arc<[u8]>),
}

/// One operation of a txn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
