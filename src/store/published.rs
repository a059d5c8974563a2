//! What readers see of an engine: the machine as it stands on disk, and those who watch it.
//!
//! One lock covers both, so that a watch begins exactly where a picture ends: no change falls
//! between. A watcher that does not keep up is dropped, never waited for.

use std::sync::{Arc, Mutex, MutexGuard};

use sengu_core::kv::{Change, KeyValue, Kv, Revision};
use tokio::sync::mpsc;

use super::{Batch, StoreError, Watch};

/// Revisions that a watcher may be behind.
const BEHIND_MAX: usize = 1024;
/// Watches at one time.
const WATCHES_MAX: usize = 1024;

/// The last durable state and its watchers.
#[derive(Debug, Default)]
pub(super) struct Published {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kv: Kv,
    watchers: Vec<mpsc::Sender<Batch>>,
}

impl Published {
    pub(super) fn new(kv: Kv) -> Self {
        Self { state: Mutex::new(State { kv, watchers: Vec::new() }) }
    }

    /// A picture of it; cheap.
    pub(super) fn kv(&self) -> Kv {
        self.lock().kv.clone()
    }

    /// Everything, at one revision.
    pub(super) fn load(&self) -> (Revision, Vec<Arc<KeyValue>>) {
        let kv = self.kv();
        (kv.revision(), kv.entries().cloned().collect())
    }

    /// Puts the next state in place of the last and tells the watchers what changed.
    pub(super) fn publish(&self, kv: Kv, changes: &[Change]) {
        let mut state = self.lock();
        state.publish(kv, changes);
    }

    /// Changes the state under the lock; for an engine that has nothing to wait for.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Kv) -> (T, Vec<Change>)) -> T {
        let mut state = self.lock();
        let mut kv = state.kv.clone();
        let (outcome, changes) = change(&mut kv);
        state.publish(kv, &changes);
        outcome
    }

    /// All changes after a revision: those that are known, then those to come.
    pub(super) fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        let mut state = self.lock();
        if after > state.kv.revision() {
            return Err(StoreError::Refused(format!(
                "the store is at revision {}, before {after}: it is older than what was seen of it",
                state.kv.revision()
            )));
        }
        state.watchers.retain(|watcher| !watcher.is_closed());
        if state.watchers.len() >= WATCHES_MAX {
            return Err(StoreError::Refused(format!("{WATCHES_MAX} watches stand already")));
        }
        let known = state
            .kv
            .changes_since(after)
            .map_err(|compacted| StoreError::Refused(compacted.to_string()))?;
        let batches: Vec<_> = batches(&known).collect();
        let (sender, receiver) = mpsc::channel(batches.len() + BEHIND_MAX);
        for batch in batches {
            sender.try_send(batch).expect("the channel was made for them");
        }
        state.watchers.push(sender);
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this")
    }
}

impl State {
    fn publish(&mut self, kv: Kv, changes: &[Change]) {
        self.kv = kv;
        for batch in batches(changes) {
            self.watchers.retain(|watcher| watcher.try_send(batch.clone()).is_ok());
        }
    }
}

fn batches(changes: &[Change]) -> impl Iterator<Item = Batch> {
    changes
        .chunk_by(|a, b| a.revision == b.revision)
        .map(|same| Batch { revision: same[0].revision, changes: same.to_vec() })
}
