//! One watch that goes on whatever happens to the member that it runs on.
//!
//! A stream that ends is opened again behind the last revision that was passed on, on the member
//! that answers now. When a txn was answered whose revision the watch does not bring, the changes
//! are fetched from another member, in parallel. The watch ends when what it needs was compacted
//! away (the reader then loads again), or when nobody reads it any more.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryFutureExt, TryStreamExt};
use sengu_core::kv::{Change, Revision};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::fault::Fault;
use super::space::{number, signed};
use super::write::as_of;
use super::{ANSWER_BYTES_MAX, Shared, WITHIN};
use crate::store::{Batch, StoreError, Watch};

/// Revisions that wait for the reader; then etcd waits.
const WAITING_MAX: usize = 1024;
/// How long opening a stream may take.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
/// How long after the answer to a txn its changes are waited for, at first and at most.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_MAX: Duration = Duration::from_secs(2);
/// A pause before a stream is opened again.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Begins a watch; see [`crate::store::Store::watch`].
pub(super) async fn begin(shared: &Arc<Shared>, after: Revision) -> Result<Watch, StoreError> {
    let seen = shared.ring.seen();
    let ask = |client: etcd_client::Client| async move {
        let found = client.kv_client().get(shared.space.head(), None).await?;
        shared.ring.note_after(found.header(), seen)
    };
    let now = shared.ring.ask(WITHIN, ask).await?;
    if after > now {
        return Err(StoreError::Refused(format!(
            "the store is at revision {now}, before {after}: it is older than what was seen of it"
        )));
    }
    if after < now {
        let ask = |client: etcd_client::Client| async move {
            let head = shared.space.head();
            let found = client.kv_client().get(head, Some(as_of(after + 1))).await?;
            shared.ring.note(found.header())
        };
        shared.ring.ask(WITHIN, ask).await?;
    }
    let (out, receiver) = mpsc::channel(WAITING_MAX);
    let wanted = shared.wanted.subscribe();
    let watching = Watching { shared: Arc::clone(shared), seen: after, out, patience: PATIENCE };
    tokio::spawn(watching.run(wanted));
    Ok(receiver)
}

/// Why a stream is read no further.
enum End {
    /// Nobody reads, or it cannot go on.
    Over,
    /// It can be opened again.
    Broken(String),
}

/// What one member brings.
struct Source {
    /// Which member.
    index: usize,
    messages: BoxStream<'static, Result<WatchResponse, Fault>>,
}

impl Source {
    /// A stream of what comes after a revision. It is opened when it is first read, so that a
    /// member that does not answer holds up no other one.
    fn new(shared: &Arc<Shared>, index: usize, after: Revision) -> Self {
        let shared = Arc::clone(shared);
        let opened = async move {
            let late = || Fault::Elsewhere("no watch in time".to_owned());
            let opening = open(&shared, index, after);
            timeout(OPEN_WITHIN, opening).await.unwrap_or_else(|_| Err(late()))
        };
        let messages = opened.map_ok(|stream| stream.map_err(Fault::from)).try_flatten_stream();
        Self { index, messages: messages.boxed() }
    }

    async fn next(&mut self) -> Result<WatchResponse, End> {
        match self.messages.next().await {
            Some(Ok(response)) => Ok(response),
            Some(Err(fault)) => Err(End::Broken(fault.why().to_owned())),
            None => Err(End::Broken("the stream ended".to_owned())),
        }
    }
}

async fn open(shared: &Shared, index: usize, after: Revision) -> Result<WatchStream, Fault> {
    let options = WatchOptions::new().with_prefix().with_start_revision(signed(after + 1));
    let client = shared.ring.at(index).client().await?;
    let mut client = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok(client.watch(shared.space.prefix(), Some(options)).await?)
}

struct Watching {
    shared: Arc<Shared>,
    /// Everything up to this was passed on.
    seen: Revision,
    out: mpsc::Sender<Batch>,
    patience: Duration,
}

impl Watching {
    async fn run(mut self, mut wanted: watch::Receiver<Revision>) {
        let mut pause = PAUSE;
        loop {
            let before = self.seen;
            let mut main = self.source(self.shared.ring.current());
            let End::Broken(why) = self.follow(&mut main, &mut wanted).await else { return };
            self.shared.ring.bad(main.index);
            tracing::debug!(member = %self.shared.ring.at(main.index).url, %why, "a watch broke");
            pause = if self.seen > before { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.out.closed() => return,
            }
        }
    }

    /// A stream that begins behind what was passed on.
    fn source(&self, index: usize) -> Source {
        Source::new(&self.shared, index, self.seen)
    }

    /// Passes on what a stream brings, with the help of a second one when it is late, of one member
    /// after the other.
    async fn follow(&mut self, main: &mut Source, wanted: &mut watch::Receiver<Revision>) -> End {
        let mut spare: Option<Source> = None;
        let mut late = None;
        loop {
            let behind = *wanted.borrow_and_update() > self.seen;
            if !behind {
                (late, spare) = (None, None);
            } else if late.is_none() {
                late = Some(Instant::now() + self.patience);
            }
            let due = late.unwrap_or_else(|| Instant::now() + PATIENCE_MAX);
            tokio::select! {
                () = self.out.closed() => return End::Over,
                message = main.next() => match self.pass_on(message).await {
                    Ok(true) if spare.is_none() => self.patience = PATIENCE,
                    Ok(_) => {}
                    Err(end) => match (end, spare.take()) {
                        (End::Broken(_), Some(source)) => *main = source,
                        (end, _) => return end,
                    },
                },
                message = next(&mut spare) => match self.pass_on(message).await {
                    // It was faster: it is the one from now on.
                    Ok(true) => if let Some(source) = spare.take() {
                        *main = source;
                    },
                    Ok(false) => {}
                    Err(End::Broken(_)) => spare = None,
                    Err(End::Over) => return End::Over,
                },
                changed = wanted.changed() => if changed.is_err() { return End::Over },
                () = sleep_until(due), if late.is_some() => {
                    let last = spare.as_ref().map(|spare| spare.index);
                    spare = Some(self.source(self.another(main.index, last)));
                    self.patience = (self.patience * 2).min(PATIENCE_MAX);
                    late = Some(Instant::now() + self.patience);
                }
            }
        }
    }

    /// The member that answers now, or, if that one is late too, the next.
    fn another(&self, main: usize, last: Option<usize>) -> usize {
        let ring = &self.shared.ring;
        let chosen = last.map_or_else(|| ring.current(), |last| last + 1);
        let same = chosen % ring.len() == main % ring.len();
        (chosen + usize::from(same)) % ring.len()
    }

    /// Passes on the revisions of one message that were not yet; was there any?
    async fn pass_on(&mut self, message: Result<WatchResponse, End>) -> Result<bool, End> {
        let broken = |why: String| End::Broken(why);
        let response = message?;
        if response.canceled() {
            if response.compact_revision() > 0 {
                tracing::info!(
                    after = self.seen,
                    compacted = response.compact_revision(),
                    "changes were compacted away before they were read; loading again"
                );
                return Err(End::Over);
            }
            return Err(broken(format!("canceled: {}", response.cancel_reason())));
        }
        if let Err(fault) = self.shared.ring.note(response.header()) {
            return Err(broken(fault.why().to_owned()));
        }
        let mut moved = false;
        let events = response.events();
        let at =
            |event: &etcd_client::Event| event.kv().map_or(0, |entry| number(entry.mod_revision()));
        for same in events.chunk_by(|a, b| at(a) == at(b)) {
            let revision = at(&same[0]);
            if revision <= self.seen {
                continue;
            }
            let changes = same.iter().filter_map(|event| self.change(revision, event)).collect();
            if self.out.send(Batch { revision, changes }).await.is_err() {
                return Err(End::Over);
            }
            self.seen = revision;
            moved = true;
        }
        Ok(moved)
    }

    fn change(&self, revision: Revision, event: &etcd_client::Event) -> Option<Change> {
        let theirs = event.kv()?;
        let key = self.shared.space.key(theirs.key())?;
        let now = match event.event_type() {
            EventType::Put => Some(Arc::new(self.shared.space.entry(theirs)?)),
            EventType::Delete => None,
        };
        Some(Change { revision, key, now })
    }
}

/// The next message of a source that may not be there.
async fn next(source: &mut Option<Source>) -> Result<WatchResponse, End> {
    match source {
        Some(source) => source.next().await,
        None => std::future::pending().await,
    }
}
