//! The store: a linearizable key-value store with txns, leases and watches.
//!
//! One trait, one contract suite (`suite.rs`), several engines, one file each. Every error says
//! whether the write may have happened; an unknown error is "store unavailable", never "role lost".

pub mod archive;
mod ask;
pub mod embedded;
pub mod etcd;
mod file;
pub(crate) mod lock;
pub mod memory;
mod published;
pub mod suite;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::kv::{Change, KeyValue, LeaseId, Revision, Txn, TxnReply};
use tokio::sync::mpsc;

/// Why the store did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Certainly not done, and the store goes on (no space, too large, bad request).
    #[error("the store refused: {0}")]
    Refused(String),
    /// Nobody knows whether it was done.
    #[error("the store did not answer: {0}")]
    Unknown(String),
    /// The store must not be written any more (failed fsync, I/O error, damage).
    #[error("the store is broken: {0}")]
    Broken(String),
}

/// One revision's changes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The revision after them.
    pub revision: Revision,
    /// Each change.
    pub changes: Vec<Change>,
}

/// Ends with `None` when the watch was lost (compacted, overrun, engine gone): load again.
pub type Watch = mpsc::Receiver<Batch>;

/// A linearizable store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Does a txn. When it returns, it is durable.
    ///
    /// # Errors
    /// See [`StoreError`]. A txn whose conditions did not hold is no error.
    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError>;

    /// Everything, at one revision.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn load(&self) -> Result<(Revision, Vec<Arc<KeyValue>>), StoreError>;

    /// All changes after `after`, in order, without a gap.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if `after` is older than what the store still knows.
    async fn watch(&self, after: Revision) -> Result<Watch, StoreError>;

    /// A lease that ends its keys unless kept alive; the granted duration may be longer.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError>;

    /// Starts a lease's time anew; `false` if it is gone.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn keep(&self, lease: LeaseId) -> Result<bool, StoreError>;

    /// Ends a lease and its keys now.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}
