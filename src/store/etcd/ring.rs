//! The members of the cluster: one is asked, and the next in parallel when it is late.
//!
//! The one that answered last is asked first the next time. What may be sent twice is; a write
//! may not, unless its own comparison lets it be done only once (`write.rs`). Every wait is
//! bounded by the caller's time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ResponseHeader};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sengu_core::kv::Revision;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::endpoint::Endpoint;
use super::fault::Fault;

/// A pause before members that all failed are asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// The members.
#[derive(Debug)]
pub(super) struct Ring {
    all: Vec<Endpoint>,
    /// Which is asked first.
    current: AtomicUsize,
    /// After so long the next one is asked too.
    pub(super) late: Duration,
    /// The newest revision that any answer told.
    seen: AtomicU64,
    /// The cluster's id, once one has told it; 0: not yet.
    cluster: AtomicU64,
    /// It was seen to be older than before: whatever it writes from then on, it is not believed.
    set_back: AtomicBool,
    /// A member failed since this was last waited for.
    disturbed: Notify,
}

impl Ring {
    pub(super) fn new(all: Vec<Endpoint>, late: Duration) -> Self {
        Self {
            all,
            current: AtomicUsize::new(0),
            late,
            seen: AtomicU64::new(0),
            cluster: AtomicU64::new(0),
            set_back: AtomicBool::new(false),
            disturbed: Notify::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Endpoint] {
        &self.all
    }

    /// One of them, counted round.
    pub(super) fn at(&self, index: usize) -> &Endpoint {
        &self.all[index % self.all.len()]
    }

    /// Which is asked first now.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// It answered: it is asked first from now on.
    pub(super) fn good(&self, index: usize) {
        self.current.store(index % self.all.len(), Ordering::Relaxed);
    }

    /// It is late or does not answer: the next one is asked first, if this one was.
    pub(super) fn bad(&self, index: usize) {
        self.disturbed.notify_one();
        let (from, to) = (index % self.all.len(), (index + 1) % self.all.len());
        // Another has chosen already if it is not there any more.
        let _ = self.current.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Waits until a member was late or failed since the last time that this was waited for.
    pub(super) async fn disturbed(&self) {
        self.disturbed.notified().await;
    }

    /// It failed so.
    pub(super) fn failed(&self, index: usize, fault: &Fault) {
        if fault.why().contains("auth store is old") {
            // Accounts were changed since the login.
            self.at(index).forget();
        }
        self.bad(index);
    }

    /// The newest revision that any answer told.
    pub(super) fn seen(&self) -> Revision {
        self.seen.load(Ordering::SeqCst)
    }

    /// What an earlier life of the agent had seen: answers count from there.
    pub(super) fn recall(&self, cluster: u64, revision: Revision) {
        self.cluster.store(cluster, Ordering::SeqCst);
        self.seen.fetch_max(revision, Ordering::SeqCst);
    }

    /// The cluster's id and the newest revision, unless nothing answered yet. What was set back
    /// adds nothing to it.
    pub(super) fn known(&self) -> Option<(u64, Revision)> {
        let cluster = self.cluster.load(Ordering::SeqCst);
        (cluster != 0).then(|| (cluster, self.seen()))
    }

    /// Takes note of an answer's header; its revision.
    ///
    /// # Errors
    /// If it comes from another cluster than those before, or the store was set back.
    pub(super) fn note(&self, header: Option<&ResponseHeader>) -> Result<Revision, Fault> {
        let Some(header) = header else {
            return Err(Fault::Lost("an answer without a header".to_owned()));
        };
        let id = header.cluster_id();
        let known = self.cluster.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst);
        if let Err(known) = known
            && known != id
        {
            return Err(Fault::Lost(format!(
                "it belongs to etcd cluster {id:x}, and this agent went by {known:x} before: the \
                 endpoints in [store] must all be members of one cluster; for another one, stop \
                 all agents, and start them on a new `prefix`"
            )));
        }
        if self.set_back.load(Ordering::SeqCst) {
            return Err(self.older());
        }
        let revision = u64::try_from(header.revision()).unwrap_or_default();
        self.seen.fetch_max(revision, Ordering::SeqCst);
        Ok(revision)
    }

    /// Takes note of the header of an answer to a question that was sent when `seen` was the newest
    /// revision; its own.
    ///
    /// # Errors
    /// As [`Ring::note`]; and if it is older than that, which no linearizable answer can be.
    pub(super) fn note_after(
        &self,
        header: Option<&ResponseHeader>,
        seen: Revision,
    ) -> Result<Revision, Fault> {
        let told = self.note(header)?;
        if told < seen {
            // Its own writes would soon bring it beyond what was seen.
            self.set_back.store(true, Ordering::SeqCst);
            return Err(self.older());
        }
        Ok(told)
    }

    fn older(&self) -> Fault {
        Fault::Lost(format!(
            "the store was older than revision {}, which it had before: it was restored from a \
             copy; stop all agents, and start them on a new `prefix`",
            self.seen()
        ))
    }

    /// Asks what changes nothing, or nothing more the second time: the first answer counts.
    ///
    /// # Errors
    /// What a member refused, or why none answered in time.
    pub(super) async fn ask<T, F>(
        &self,
        within: Duration,
        ask: impl Fn(Client) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let deadline = Instant::now() + within;
        let (mut failed, mut before) = (Vec::new(), Vec::new());
        loop {
            match self.round(deadline, &ask, &mut failed).await {
                Ok(answer) => return Ok(answer),
                Err(Some(fault)) => return Err(fault),
                Err(None) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                // The last round may have had no time to learn anything.
                let known = [failed, before].into_iter().find(|round| !round.is_empty());
                let why = known.map(|round: Vec<String>| round.join("; "));
                let silent = || format!("no answer within {} ms", within.as_millis());
                return Err(Fault::Lost(why.unwrap_or_else(silent)));
            }
            before = std::mem::take(&mut failed);
            sleep(PAUSE).await;
        }
    }

    /// Each member once; `Err(None)`: none of them could.
    async fn round<T, F>(
        &self,
        deadline: Instant,
        ask: &impl Fn(Client) -> F,
        failed: &mut Vec<String>,
    ) -> Result<T, Option<Fault>>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let first = self.current();
        let mut next = first;
        let mut running = FuturesUnordered::new();
        loop {
            if running.is_empty() && next >= first + self.len() {
                return Err(None);
            }
            let more = next < first + self.len();
            if more {
                let index = next;
                next += 1;
                running.push(async move {
                    let asked = match self.at(index).client().await {
                        Ok(client) => ask(client).await,
                        Err(fault) => Err(fault),
                    };
                    (index, asked)
                });
            }
            let late = if next < first + self.len() {
                (Instant::now() + self.late).min(deadline)
            } else {
                deadline
            };
            tokio::select! {
                Some((index, asked)) = running.next() => match asked {
                    Ok(answer) => {
                        self.good(index);
                        return Ok(answer);
                    }
                    Err(fault) if fault.is_final() => return Err(Some(fault)),
                    Err(fault) => {
                        self.failed(index, &fault);
                        failed.push(self.at(index).said(fault.why()));
                    }
                },
                () = sleep_until(late) => {
                    if late >= deadline {
                        return Err(None);
                    }
                    self.bad(next - 1);
                }
            }
        }
    }
}
