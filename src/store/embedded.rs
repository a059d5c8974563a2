//! The engine for one machine: the pure machine on a SQLite file that one agent has to itself.
//!
//! Reads and watches come from memory and never touch the disk; every write is on the disk, by
//! SQLite's log with `synchronous=FULL`, before anybody sees it. The agent must end when
//! [`EmbeddedStore::broken`] says so: then the disk failed, and what it holds is known only to
//! the next start. Leases get their full time again at each start.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::kv::{KeyValue, Kv, LeaseId, Revision, Txn, TxnReply};
use tokio::sync::{Semaphore, oneshot, watch};

use super::ask::{Answer, Ask};
pub use super::file::OpenError;
use super::file::{self, Image};
use super::lock::Lock;
use super::published::Published;
use super::writer::{Job, Writer};
use super::{Store, StoreError, Watch};
use crate::clock;

/// Requests that may wait for the disk.
const WAITING_MAX: usize = 1024;
/// Bytes of these.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// A store in `data_dir/store.db`. Dropping it waits for what was asked, then frees the folder.
#[derive(Debug)]
pub struct EmbeddedStore {
    /// `None` only while it is dropped.
    jobs: Option<SyncSender<Job>>,
    room: Arc<Semaphore>,
    published: Arc<Published>,
    broken: watch::Receiver<Option<String>>,
    store_id: String,
    incarnation: u64,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the folder's store, or makes one. Reads the whole file, so it may take a second.
    ///
    /// # Errors
    /// [`OpenError`]; a file that is refused is left byte for byte as it was.
    pub fn open(data_dir: &Path) -> Result<Self, OpenError> {
        let lock = Lock::take(data_dir)?;
        let path = file::path(data_dir);
        let image = read_or_create(&path)?;
        if image.imported {
            return Err(OpenError::Imported { path });
        }
        let connection = file::open_to_write(&path)?;
        let (broken, broken_seen) = watch::channel(None);
        let Image { store_id, incarnation, .. } = &image;
        let (store_id, incarnation) = (store_id.clone(), *incarnation);
        let published = Arc::new(Published::new(restore(image, &path)?));
        let writer = Writer::new(connection, path.clone(), lock, published.clone(), broken);
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("store".to_owned());
        let writer = thread
            .spawn(move || writer.run(&waiting))
            .map_err(OpenError::io("start a thread for", &path))?;
        Ok(Self {
            jobs: Some(jobs),
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            published,
            broken: broken_seen,
            store_id,
            incarnation,
            writer: Some(writer),
        })
    }

    /// Random, given once when the store was made, kept by an import.
    #[must_use]
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Grows each time that a person lets a restored store count; sorts above every revision.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The reason, once the disk failed: nothing is written any more, and the agent must end.
    #[must_use]
    pub fn broken(&self) -> watch::Receiver<Option<String>> {
        self.broken.clone()
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, StoreError> {
        if let Some(why) = self.broken.borrow().clone() {
            return Err(StoreError::Broken(why));
        }
        let too_many = || StoreError::Refused("too many writes wait for the disk".to_owned());
        let bytes = u32::try_from(ask.bytes()).map_err(|_| too_many())?;
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| too_many())?;
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().expect("it is taken by drop only");
        jobs.try_send(Job { ask, answer, _room: room }).map_err(|error| match error {
            TrySendError::Full(_) => too_many(),
            TrySendError::Disconnected(_) => StoreError::Broken("its writer ended".to_owned()),
        })?;
        let ended = |_| Err(StoreError::Unknown("its writer ended before it answered".to_owned()));
        answered.await.unwrap_or_else(ended)
    }
}

fn read_or_create(path: &Path) -> Result<Image, OpenError> {
    let exists = path.try_exists().map_err(OpenError::io("look for", path))?;
    if exists {
        return file::inspect(path);
    }
    let log = file::beside(path, "-wal");
    if log.exists() {
        return Err(OpenError::lone_log(path, &log));
    }
    let image = Image::new().map_err(OpenError::io("draw an id for", path))?;
    file::create(path, &image)?;
    Ok(image)
}

fn restore(image: Image, path: &Path) -> Result<Kv, OpenError> {
    let mut kv = Kv::restore(image.revision, image.entries);
    let now = clock::time();
    for (id, ttl) in image.leases {
        kv.grant(id, ttl, now).map_err(|refused| OpenError::Damaged {
            path: path.to_owned(),
            what: format!("lease {id}: {refused}"),
        })?;
    }
    Ok(kv)
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // If it panicked, it has said so.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        txn.check()?;
        if txn.only_reads() {
            // What readers see is on the disk, and is the newest that anybody was told of.
            return Ok(self.published.kv().apply(&txn)?.reply);
        }
        let answer = self.ask(Ask::Txn(txn)).await?;
        let Answer::Txn(reply) = answer else { unreachable!("a txn is answered as a txn") };
        Ok(reply)
    }

    async fn load(&self) -> Result<(Revision, Vec<Arc<KeyValue>>), StoreError> {
        Ok(self.published.load())
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        self.published.watch(after)
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        let Answer::Granted(id, ttl) = self.ask(Ask::Grant(ttl)).await? else {
            unreachable!("a grant is answered as a grant")
        };
        Ok((id, ttl))
    }

    async fn keep(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let Answer::Kept(kept) = self.ask(Ask::Keep(lease)).await? else {
            unreachable!("a keep is answered as a keep")
        };
        Ok(kept)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(Ask::Revoke(lease)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests;
