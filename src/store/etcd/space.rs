//! Where this cluster's records stand in etcd, and what a txn looks like there.
//!
//! Each record stands under `PREFIX` + its key. Beside them stands the *head*, which every txn
//! that writes writes too, with a number of its own: so each change has an event that a watch
//! will bring, a read can tell the last change, and a txn whose answer got lost can be found.

use std::sync::Arc;

use etcd_client::{
    Compare as TheirCompare, CompareOp, DeleteOptions, GetOptions, GetResponse, PutOptions,
    Txn as TheirTxn, TxnOp, TxnOpResponse,
};
use sengu_core::kv::{Compare, Key, KeyValue, LIST_MAX, Op, OpResult, Revision, Txn};

/// The head's name: no record's key begins so.
const HEAD: &str = ".head";

/// Which list of a txn was done, in what the head holds.
const THEN: u8 = 1;
const OTHERWISE: u8 = 0;

/// A cluster's part of etcd.
#[derive(Debug, Clone)]
pub(super) struct Space {
    prefix: String,
}

/// A number of one txn.
pub(super) type Attempt = [u8; 16];

impl Space {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The head's key in etcd.
    pub(super) fn head(&self) -> String {
        format!("{}{HEAD}", self.prefix)
    }

    fn at(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A record's key; `None` for the head and for what is not sengu's.
    pub(super) fn key(&self, theirs: &[u8]) -> Option<Key> {
        let key = std::str::from_utf8(theirs).ok()?.strip_prefix(&self.prefix)?;
        (!key.is_empty() && key != HEAD).then(|| key.into())
    }

    /// A record; `None` for what is not one.
    pub(super) fn entry(&self, theirs: &etcd_client::KeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.key(theirs.key())?,
            value: theirs.value().into(),
            created: number(theirs.create_revision()),
            modified: number(theirs.mod_revision()),
            version: number(theirs.version()),
            lease: number(theirs.lease()),
        })
    }

    /// A txn as etcd takes it, with the head in each list that has room for it.
    pub(super) fn txn(&self, txn: &Txn, attempt: Attempt) -> TheirTxn {
        let when: Vec<_> = txn.when.iter().map(|compare| self.compare(compare)).collect();
        let list = |ops: &[Op], branch: u8| {
            let mut list: Vec<_> = ops.iter().map(|op| self.op(op)).collect();
            if list.len() < LIST_MAX {
                let head = self.head();
                list.push(if writes(ops) {
                    TxnOp::put(head, mark(attempt, branch), None)
                } else {
                    TxnOp::get(head, None)
                });
            }
            list
        };
        let (then, otherwise) = (list(&txn.then, THEN), list(&txn.otherwise, OTHERWISE));
        TheirTxn::new().when(when).and_then(then).or_else(otherwise)
    }

    fn compare(&self, compare: &Compare) -> TheirCompare {
        match compare {
            Compare::Modified(key, revision) => {
                TheirCompare::mod_revision(self.at(key), CompareOp::Equal, signed(*revision))
            }
            Compare::Present(key) => {
                TheirCompare::create_revision(self.at(key), CompareOp::Greater, 0)
            }
            Compare::Value(key, value) => {
                TheirCompare::value(self.at(key), CompareOp::Equal, &**value)
            }
        }
    }

    fn op(&self, op: &Op) -> TxnOp {
        match op {
            Op::Put { key, value, lease } => {
                let options = PutOptions::new().with_lease(signed(*lease));
                TxnOp::put(self.at(key), &**value, Some(options))
            }
            Op::Delete(key) => TxnOp::delete(self.at(key), None),
            Op::DeletePrefix(key) => {
                TxnOp::delete(self.at(key), Some(DeleteOptions::new().with_prefix()))
            }
            Op::Get(key) => TxnOp::get(self.at(key), None),
            Op::GetPrefix(key) => TxnOp::get(self.at(key), Some(GetOptions::new().with_prefix())),
        }
    }

    /// What the operations did; the head's own is left out, and its revision told.
    pub(super) fn results(
        &self,
        ops: &[Op],
        theirs: Vec<TxnOpResponse>,
    ) -> (Vec<OpResult>, Option<Revision>) {
        let mut head = None;
        if theirs.len() > ops.len()
            && let Some(TxnOpResponse::Get(found)) = theirs.last()
        {
            head = found.kvs().first().map(|entry| number(entry.mod_revision()));
        }
        let results = theirs.into_iter().take(ops.len()).map(|response| match response {
            TxnOpResponse::Put(_) => OpResult::Put,
            TxnOpResponse::Delete(gone) => OpResult::Deleted(number(gone.deleted())),
            TxnOpResponse::Get(found) => OpResult::Got(self.entries(&found)),
            // Never asked for.
            TxnOpResponse::Txn(_) => OpResult::Got(Vec::new()),
        });
        (results.collect(), head)
    }

    fn entries(&self, found: &GetResponse) -> Vec<KeyValue> {
        found.kvs().iter().filter_map(|entry| self.entry(entry)).collect()
    }

    /// Reads that tell what a txn of these operations did at a revision; `None` if reads after it
    /// cannot tell (one of its own reads stands before a write).
    pub(super) fn retold(&self, ops: &[Op], at: Revision) -> Option<TheirTxn> {
        let read = |op: &Op| matches!(op, Op::Get(_) | Op::GetPrefix(_));
        let first_read = ops.iter().position(read).unwrap_or(ops.len());
        if ops[first_read..].iter().any(|op| !read(op)) {
            return None;
        }
        let then = |revision: Revision| GetOptions::new().with_revision(signed(revision));
        let before = at.checked_sub(1)?;
        let reads = ops.iter().map(|op| match op {
            Op::Put { key, .. } => TxnOp::get(self.at(key), Some(then(at).with_count_only())),
            Op::Delete(key) => TxnOp::get(self.at(key), Some(then(before).with_count_only())),
            Op::DeletePrefix(key) => {
                TxnOp::get(self.at(key), Some(then(before).with_prefix().with_count_only()))
            }
            Op::Get(key) => TxnOp::get(self.at(key), Some(then(at))),
            Op::GetPrefix(key) => TxnOp::get(self.at(key), Some(then(at).with_prefix())),
        });
        Some(TheirTxn::new().and_then(reads.collect::<Vec<_>>()))
    }

    /// The answers to [`Space::retold`] as the txn would have answered.
    pub(super) fn retell(&self, ops: &[Op], theirs: Vec<TxnOpResponse>) -> Option<Vec<OpResult>> {
        let results = ops.iter().zip(theirs).map(|(op, response)| {
            let TxnOpResponse::Get(found) = response else { return None };
            Some(match op {
                Op::Put { .. } => OpResult::Put,
                Op::Delete(_) | Op::DeletePrefix(_) => OpResult::Deleted(number(found.count())),
                Op::Get(_) | Op::GetPrefix(_) => OpResult::Got(self.entries(&found)),
            })
        });
        results.collect()
    }
}

/// What the head holds after a txn: its number, and which list was done.
fn mark(attempt: Attempt, branch: u8) -> Vec<u8> {
    attempt.iter().copied().chain([branch]).collect()
}

/// Was the head written by this txn, and had its conditions held then?
pub(super) fn marked(value: &[u8], attempt: Attempt) -> Option<bool> {
    let branch = value.strip_prefix(&attempt[..])?;
    Some(branch == [THEN])
}

/// Does one of them write?
pub(super) fn writes(ops: &[Op]) -> bool {
    ops.iter().any(|op| match op {
        Op::Put { .. } | Op::Delete(_) | Op::DeletePrefix(_) => true,
        Op::Get(_) | Op::GetPrefix(_) => false,
    })
}

/// The keys that a txn compares with a revision and writes: once it is done it can never be done
/// again, because a key never has an old revision again. None if it writes when they do not hold.
pub(super) fn guards(txn: &Txn) -> impl Iterator<Item = (&Key, Revision)> {
    let when = if writes(&txn.otherwise) { &[][..] } else { &txn.when[..] };
    when.iter().filter_map(|compare| match compare {
        Compare::Modified(key, revision) if *revision > 0 => {
            let written = txn.then.iter().any(|op| match op {
                Op::Put { key: put, .. } => put == key,
                Op::Delete(gone) => gone == key,
                Op::DeletePrefix(prefix) => key.starts_with(&**prefix),
                Op::Get(_) | Op::GetPrefix(_) => false,
            });
            written.then_some((key, *revision))
        }
        Compare::Modified(..) | Compare::Present(_) | Compare::Value(..) => None,
    })
}

/// Reads the keys of these records now.
pub(super) fn read_keys<'a>(space: &Space, keys: impl Iterator<Item = &'a Key>) -> TheirTxn {
    let reads: Vec<_> = keys.map(|key| TxnOp::get(space.at(key), None)).collect();
    TheirTxn::new().and_then(reads)
}

/// etcd's numbers are never negative.
pub(super) fn number(theirs: i64) -> u64 {
    u64::try_from(theirs).unwrap_or_default()
}

/// A number as etcd takes it.
pub(super) fn signed(ours: u64) -> i64 {
    i64::try_from(ours).unwrap_or(i64::MAX)
}

/// A shared record.
pub(super) fn shared(space: &Space, theirs: &etcd_client::KeyValue) -> Option<Arc<KeyValue>> {
    space.entry(theirs).map(Arc::new)
}
