//! The engine that forgets: the pure machine behind a lock.
//!
//! For tests and for trying sengu out; it passes the same suite as the others. Nothing is ever
//! written to a disk. It needs a tokio runtime, which ends its leases.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::kv::{KeyValue, Kv, LeaseId, Revision, Txn, TxnReply};

use super::ask::{self, Answer, Ask, Effect};
use super::published::Published;
use super::{Store, StoreError, Watch};
use crate::clock;

/// The longest sleep between two looks at the leases: a suspended host wakes late.
const LOOK: Duration = Duration::from_secs(1);

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    published: Published,
    /// A task that ends leases is there.
    expiring: AtomicBool,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that holds this.
    #[must_use]
    pub fn restore(kv: Kv) -> Self {
        let shared = Shared { published: Published::new(kv), expiring: AtomicBool::new(false) };
        Self { shared: Arc::new(shared) }
    }

    fn ask(&self, ask: &Ask) -> Result<Answer, StoreError> {
        self.shared.turn(|kv, effect| ask.perform(kv, clock::time(), effect))
    }
}

impl Shared {
    /// Ends what is over, then does what is asked, as one.
    fn turn<T>(&self, act: impl FnOnce(&mut Kv, &mut Effect) -> T) -> T {
        self.published.change(|kv| {
            let mut effect = Effect::default();
            ask::expire(kv, clock::time(), &mut effect);
            let outcome = act(kv, &mut effect);
            (outcome, effect.changes)
        })
    }
}

async fn end_leases(shared: Weak<Shared>) {
    loop {
        let wait = {
            let Some(shared) = shared.upgrade() else { return };
            let next = shared.turn(|kv, _| {
                // Under the lock: a grant after this finds the task gone and starts another.
                shared.expiring.store(kv.next_expiry().is_some(), Ordering::SeqCst);
                kv.next_expiry()
            });
            let Some(next) = next else { return };
            next.since(clock::time()).min(LOOK)
        };
        tokio::time::sleep(wait).await;
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        let Answer::Txn(reply) = self.ask(&Ask::Txn(txn))? else {
            unreachable!("a txn is answered as a txn")
        };
        Ok(reply)
    }

    async fn load(&self) -> Result<(Revision, Vec<Arc<KeyValue>>), StoreError> {
        Ok(self.shared.published.load())
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        self.shared.published.watch(after)
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        let Answer::Granted(id, ttl) = self.ask(&Ask::Grant(ttl))? else {
            unreachable!("a grant is answered as a grant")
        };
        if !self.shared.expiring.swap(true, Ordering::SeqCst) {
            tokio::spawn(end_leases(Arc::downgrade(&self.shared)));
        }
        Ok((id, ttl))
    }

    async fn keep(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let Answer::Kept(kept) = self.ask(&Ask::Keep(lease))? else {
            unreachable!("a keep is answered as a keep")
        };
        Ok(kept)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(&Ask::Revoke(lease)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite;

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract() {
        suite::run(|| Arc::new(MemoryStore::new())).await;
    }

    #[tokio::test]
    async fn forgets_old_changes() {
        let store = MemoryStore::new();
        suite::forgets_old_changes(&store, suite::overrun(&store)).await;
    }
}
