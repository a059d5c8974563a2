//! The store's data: what a txn does to it, and the log of what changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use sengu_core::kv::{Change, Compare, Key, KeyValue, Op, OpResult, Revision, Txn, TxnReply};

/// Records, the revision, and every change since the beginning.
#[derive(Debug, Default)]
pub(crate) struct Kv {
    entries: BTreeMap<Key, Arc<KeyValue>>,
    revision: Revision,
    log: Vec<Change>,
}

impl Kv {
    /// The newest revision.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Everything.
    pub(crate) fn all(&self) -> Vec<Arc<KeyValue>> {
        self.entries.values().cloned().collect()
    }

    /// One record.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<KeyValue>> {
        self.entries.get(key)
    }

    /// Changes after one revision, up to and with another.
    pub(crate) fn changes(&self, after: Revision, until: Revision) -> Vec<Change> {
        let from = self.log.partition_point(|change| change.revision <= after);
        let to = self.log.partition_point(|change| change.revision <= until);
        self.log[from..to].to_vec()
    }

    /// Carries out a txn.
    pub(crate) fn apply(&mut self, txn: &Txn) -> TxnReply {
        let succeeded = txn.when.iter().all(|compare| self.holds(compare));
        let next = self.revision + 1;
        let before = self.log.len();
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let results = ops.iter().map(|op| self.operate(op, next)).collect();
        if self.log.len() > before {
            self.revision = next;
        }
        TxnReply { succeeded, revision: self.revision, results }
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Modified(key, revision) => {
                self.entries.get(key).map_or(0, |entry| entry.modified) == *revision
            }
            Compare::Present(key) => self.entries.contains_key(key),
            Compare::Value(key, value) => {
                self.entries.get(key).is_some_and(|entry| entry.value == *value)
            }
        }
    }

    fn operate(&mut self, op: &Op, revision: Revision) -> OpResult {
        match op {
            Op::Put { key, value, lease } => {
                let old = self.entries.get(key);
                let entry = Arc::new(KeyValue {
                    key: Arc::clone(key),
                    value: Arc::clone(value),
                    created: old.map_or(revision, |old| old.created),
                    modified: revision,
                    version: old.map_or(1, |old| old.version + 1),
                    lease: *lease,
                });
                self.entries.insert(Arc::clone(key), Arc::clone(&entry));
                self.log.push(Change { revision, key: Arc::clone(key), now: Some(entry) });
                OpResult::Put
            }
            Op::Delete(key) => OpResult::Deleted(self.delete(std::slice::from_ref(key), revision)),
            Op::DeletePrefix(prefix) => {
                let keys: Vec<Key> = self.prefixed(prefix).map(|e| Arc::clone(&e.key)).collect();
                OpResult::Deleted(self.delete(&keys, revision))
            }
            Op::Get(key) => {
                let found = self.entries.get(key).map(|entry| KeyValue::clone(entry));
                OpResult::Got(found.into_iter().collect())
            }
            Op::GetPrefix(prefix) => {
                OpResult::Got(self.prefixed(prefix).map(|entry| KeyValue::clone(entry)).collect())
            }
        }
    }

    fn prefixed(&self, prefix: &Key) -> impl Iterator<Item = &Arc<KeyValue>> {
        self.entries
            .range(Arc::clone(prefix)..)
            .take_while(|(key, _)| key.starts_with(prefix.as_ref()))
            .map(|(_, entry)| entry)
    }

    fn delete(&mut self, keys: &[Key], revision: Revision) -> u64 {
        let mut count = 0;
        for key in keys {
            if self.entries.remove(key).is_some() {
                count += 1;
                self.log.push(Change { revision, key: Arc::clone(key), now: None });
            }
        }
        count
    }
}
