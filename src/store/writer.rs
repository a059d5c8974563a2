//! The one thread that writes the embedded store's file.
//!
//! It takes what waits, does it on a copy of the machine, writes all of it in one SQLite
//! transaction (one sync of the disk), and only then lets readers see the copy and answers. No
//! space: the copy is thrown away, each request is tried alone, and those that fail are refused.
//! Any other failure: nobody knows what the disk holds, so nothing is ever written again. A sync
//! that failed is never tried again: the kernel may have dropped what it could not write.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use sengu_core::kv::{Key, KeyValue, Revision};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::StoreError;
use super::ask::{self, Answer, Ask, Effect};
use super::file;
use super::lock::Lock;
use super::published::Published;
use crate::clock;

/// Requests that are written as one.
const GROUP_MAX: usize = 256;
/// Bytes that are written as one, before the last request.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// Bytes and transactions after which the log is folded back into the file.
const LOG_BYTES_MAX: usize = 4 << 20;
const LOG_COMMITS_MAX: usize = 1000;
/// Between two looks at the leases: at most (a suspended host wakes late), and at least (they
/// could not be ended for lack of space).
const LOOK_MAX: Duration = Duration::from_secs(1);
const LOOK_MIN: Duration = Duration::from_millis(100);

type Outcome = Result<Answer, StoreError>;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<Outcome>,
    /// Its share of what may wait.
    pub(super) _room: OwnedSemaphorePermit,
}

/// Why a transaction of SQLite did not happen.
enum Fault {
    /// No space; certainly not done, and the store goes on.
    Space(String),
    /// Another program holds the file; certainly not done.
    Busy,
    /// Nobody knows.
    Broken(String),
}

/// The thread's state. The connection ends before the lock is let go.
pub(super) struct Writer {
    connection: Connection,
    published: Arc<Published>,
    broken: watch::Sender<Option<String>>,
    path: PathBuf,
    logged_bytes: usize,
    logged_commits: usize,
    _lock: Lock,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        path: PathBuf,
        lock: Lock,
        published: Arc<Published>,
        broken: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            connection,
            published,
            broken,
            path,
            logged_bytes: 0,
            logged_commits: 0,
            _lock: lock,
        }
    }

    /// Until all who could ask are gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let first = match self.wait(jobs) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let group = gather(first, jobs);
            self.turn(group);
        }
        self.close();
    }

    fn wait(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        let expiry = if self.is_broken() { None } else { self.published.kv().next_expiry() };
        let Some(next) = expiry else {
            return jobs.recv().map_err(|_| RecvTimeoutError::Disconnected);
        };
        jobs.recv_timeout(next.since(clock::time()).clamp(LOOK_MIN, LOOK_MAX))
    }

    fn turn(&mut self, group: Vec<Job>) {
        let (asks, waiting): (Vec<_>, Vec<_>) =
            group.into_iter().map(|job| (job.ask, (job.answer, job._room))).unzip();
        let outcomes = self.carry_out(&asks);
        for ((answer, _room), outcome) in waiting.into_iter().zip(outcomes) {
            // Who does not wait any more needs no answer.
            let _ = answer.send(outcome);
        }
        if !self.is_broken()
            && (self.logged_bytes > LOG_BYTES_MAX || self.logged_commits > LOG_COMMITS_MAX)
        {
            self.fold_log();
        }
    }

    /// One outcome for each request.
    fn carry_out(&mut self, asks: &[Ask]) -> Vec<Outcome> {
        match self.attempt(asks, true) {
            Ok(outcomes) => return outcomes,
            Err(Fault::Space(_)) => self.fold_log(),
            Err(fault) => {
                let error = self.judge(fault);
                return asks.iter().map(|_| Err(error.clone())).collect();
            }
        }
        // One of them was too much, or all are: each alone gets its own truth.
        if let Err(fault) = self.attempt(&[], true) {
            self.judge(fault);
        }
        asks.iter().map(|ask| self.carry_out_alone(ask)).collect()
    }

    fn carry_out_alone(&mut self, ask: &Ask) -> Outcome {
        match self.attempt(std::slice::from_ref(ask), false) {
            Ok(mut outcomes) => outcomes.pop().expect("one request has one outcome"),
            Err(fault) => Err(self.judge(fault)),
        }
    }

    /// Does all of it on a copy and on the disk, then publishes; or nothing of it.
    fn attempt(&mut self, asks: &[Ask], expire: bool) -> Result<Vec<Outcome>, Fault> {
        if let Some(why) = self.broken.borrow().clone() {
            return Err(Fault::Broken(why));
        }
        let mut kv = self.published.kv();
        let mut effect = Effect::default();
        let now = clock::time();
        if expire {
            ask::expire(&mut kv, now, &mut effect);
        }
        let outcomes = asks.iter().map(|ask| ask.perform(&mut kv, now, &mut effect)).collect();
        if !effect.is_empty() {
            commit(&self.connection, kv.revision(), &effect)?;
            self.logged_bytes += asks.iter().map(Ask::bytes).sum::<usize>();
            self.logged_commits += 1;
        }
        self.published.publish(kv, &effect.changes);
        Ok(outcomes)
    }

    /// What the one who asked is told; after a fault that nobody can judge, the end of writing.
    fn judge(&mut self, fault: Fault) -> StoreError {
        match fault {
            Fault::Space(error) => StoreError::Refused(format!(
                "no space left for {} ({error}); nothing was written",
                self.path.display()
            )),
            Fault::Busy => StoreError::Refused(format!(
                "another program holds {} locked; nothing was written",
                self.path.display()
            )),
            Fault::Broken(why) => {
                if !self.is_broken() {
                    tracing::error!(store = %self.path.display(), %why, "the store is broken");
                    self.broken.send_replace(Some(why.clone()));
                }
                StoreError::Broken(why)
            }
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.borrow().is_some()
    }

    /// Moves what the log holds into the file, so that the log can start anew. It syncs both.
    fn fold_log(&mut self) {
        (self.logged_bytes, self.logged_commits) = (0, 0);
        let folded = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        match folded.map_err(fault_of) {
            Ok(()) => {}
            // The log is whole, so nothing is lost; it grows until there is space, or is refused.
            Err(Fault::Space(error)) => {
                tracing::warn!(store = %self.path.display(), %error, "no space to fold the log");
            }
            Err(Fault::Busy) => {}
            Err(fault @ Fault::Broken(_)) => {
                self.judge(fault);
            }
        }
    }

    /// The connection itself closes when it is dropped, and folds the log if it may.
    fn close(self) {
        let keep_log = self.is_broken();
        let set = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = self.connection.set_db_config(set, keep_log) {
            tracing::warn!(store = %self.path.display(), %error, "cannot set how to close");
        }
    }
}

/// The first request and all that wait behind it, up to a bound.
fn gather(first: Option<Job>, jobs: &Receiver<Job>) -> Vec<Job> {
    let mut group: Vec<Job> = first.into_iter().collect();
    let mut bytes: usize = group.iter().map(|job| job.ask.bytes()).sum();
    while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
        let Ok(job) = jobs.try_recv() else { break };
        bytes += job.ask.bytes();
        group.push(job);
    }
    group
}

/// One transaction; when it returns, it is on the disk.
fn commit(connection: &Connection, revision: Revision, effect: &Effect) -> Result<(), Fault> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(fault_of)?;
    let written = write(connection, revision, effect)
        .and_then(|()| connection.execute_batch("COMMIT"))
        .map_err(fault_of);
    // SQLite has rolled back by itself after some errors, not after others.
    if written.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(|error| {
            Fault::Broken(format!("a write failed and could not be undone: {error}"))
        })?;
    }
    written
}

fn write(connection: &Connection, revision: Revision, effect: &Effect) -> rusqlite::Result<()> {
    // A key that changed twice is written once, as it is in the end.
    let last: BTreeMap<&Key, Option<&Arc<KeyValue>>> =
        effect.changes.iter().map(|change| (&change.key, change.now.as_ref())).collect();
    for (key, now) in last {
        match now {
            Some(entry) => file::put_record(connection, entry)?,
            None => file::delete_record(connection, key)?,
        }
    }
    for (id, ttl) in &effect.leases {
        match ttl {
            Some(ttl) => file::put_lease(connection, *id, *ttl)?,
            None => file::delete_lease(connection, *id)?,
        }
    }
    file::put_meta(connection, "revision", revision)
}

/// `SQLITE_FULL` comes only of a write that wanted space before the commit was whole. A sync that
/// fails for want of space comes as an I/O error, and counts as one.
fn fault_of(error: rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Space(error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Busy,
        _ => Fault::Broken(error.to_string()),
    }
}

impl Drop for Writer {
    /// A writer that ends by a panic leaves a store that nobody may trust.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.broken.send_replace(Some("its writer ended by a bug".to_owned()));
        }
    }
}
