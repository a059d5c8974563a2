//! Txns: sent once, unless their own comparison lets them be done only once.
//!
//! A txn that is guarded so is sent to the next member when the first is late. Whatever answer got
//! lost is looked for in the head's history (`space.rs`): a txn that is found there was done, at
//! that revision, and is told as such. Only what can still happen unseen is unknown.

use std::time::Duration;

use etcd_client::{Client, GetOptions, Txn as TheirTxn, TxnOpResponse, TxnResponse, WatchOptions};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sengu_core::kv::{Revision, Txn, TxnReply};
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::Fault;
use super::space::{Attempt, guards, marked, number, read_keys, signed, writes};
use super::{ANSWER_BYTES_MAX, Shared, WITHIN};
use crate::store::StoreError;

/// A pause before members that could not be reached are tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the search for a lost answer may take.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// What the head's history tells of a txn.
enum Found {
    /// It was done at this revision; did its conditions hold?
    Done(Revision, bool),
    /// It was not done so far, and it can never be done any more.
    Never,
    /// It was not done so far.
    NotYet,
}

/// Does a txn.
pub(super) async fn txn(shared: &Shared, txn: &Txn) -> Result<TxnReply, StoreError> {
    let reply = if txn.only_reads() {
        let read = |client: Client| async move {
            ask(shared, client, shared.space.txn(txn, Attempt::default())).await
        };
        let response = shared.ring.ask(WITHIN, read).await?;
        reply(shared, txn, response)?
    } else {
        Race::new(shared, txn)?.run().await?
    };
    shared.answered(reply.revision);
    Ok(reply)
}

/// One txn on its way.
struct Race<'a> {
    shared: &'a Shared,
    txn: &'a Txn,
    attempt: Attempt,
    /// Whatever it does, it does after this.
    since: Revision,
    guarded: bool,
    /// Copies that were sent and may have been done.
    copies: usize,
    /// The member that the next copy goes to, and the end of that.
    next: usize,
    end: usize,
    deadline: Instant,
    why: Vec<String>,
}

impl<'a> Race<'a> {
    fn new(shared: &'a Shared, txn: &'a Txn) -> Result<Self, StoreError> {
        let mut attempt = Attempt::default();
        getrandom::fill(&mut attempt)
            .map_err(|error| StoreError::Refused(format!("no random number: {error}")))?;
        let next = shared.ring.current();
        Ok(Self {
            shared,
            txn,
            attempt,
            since: shared.ring.seen(),
            guarded: guards(txn).next().is_some(),
            copies: 0,
            next,
            end: next + shared.ring.len(),
            deadline: Instant::now() + WITHIN,
            why: Vec::new(),
        })
    }

    async fn run(mut self) -> Result<TxnReply, StoreError> {
        let shared = self.shared;
        let mut running = FuturesUnordered::new();
        let mut another = true;
        loop {
            if another && self.next < self.end {
                running.push(send(shared, self.txn, self.attempt, self.next));
                self.next += 1;
                self.copies += 1;
            }
            another = false;
            if running.is_empty() {
                if let Some(ended) = self.all_failed().await {
                    return ended;
                }
                another = true;
                continue;
            }
            let more = self.next < self.end;
            let late = (Instant::now() + shared.ring.late).min(self.deadline);
            tokio::select! {
                Some((index, sent)) = running.next() => match sent {
                    Ok(response) => {
                        shared.ring.good(index);
                        if response.succeeded() || self.copies == 1 {
                            return reply(shared, self.txn, response);
                        }
                        match self.look().await? {
                            Found::Done(at, held) => return self.retell(at, held).await,
                            Found::Never => return reply(shared, self.txn, response),
                            // Another copy may still be done: its answer is waited for.
                            Found::NotYet => self.why.push("two answers differ".to_owned()),
                        }
                    }
                    Err(fault @ Fault::Elsewhere(_)) => {
                        self.failed(index, &fault);
                        self.copies -= 1;
                        another = true;
                    }
                    Err(fault @ (Fault::Refused(_) | Fault::Compacted(_))) => {
                        self.copies -= 1;
                        if self.copies == 0 {
                            return Err(fault.into());
                        }
                        self.why.push(fault.why().to_owned());
                    }
                    Err(fault @ (Fault::Lost(_) | Fault::TooLarge(_))) => {
                        self.failed(index, &fault);
                        another = self.guarded;
                    }
                },
                () = sleep_until(late) => {
                    if late >= self.deadline {
                        return Err(self.unknown());
                    }
                    if more {
                        shared.ring.bad(self.next - 1);
                        another = self.guarded;
                    }
                }
            }
        }
    }

    /// No copy is on its way: what came of it, or `None` to send another.
    async fn all_failed(&mut self) -> Option<Result<TxnReply, StoreError>> {
        if self.copies > 0 {
            match self.look().await {
                Ok(Found::Done(at, held)) => return Some(self.retell(at, held).await),
                Ok(Found::Never | Found::NotYet) if self.guarded => {}
                Ok(Found::Never | Found::NotYet) => return Some(Err(self.unknown())),
                Err(error) => return Some(Err(error)),
            }
        }
        if Instant::now() + PAUSE >= self.deadline {
            return Some(Err(self.unknown()));
        }
        if self.next >= self.end {
            sleep(PAUSE).await;
            self.why.clear();
            self.next = self.shared.ring.current();
            self.end = self.next + self.shared.ring.len();
        }
        None
    }

    fn failed(&mut self, index: usize, fault: &Fault) {
        self.shared.ring.failed(index, fault);
        self.why.push(self.shared.ring.at(index).said(fault.why()));
    }

    fn unknown(&self) -> StoreError {
        StoreError::Unknown(if self.why.is_empty() {
            format!("no answer within {} ms", WITHIN.as_millis())
        } else {
            self.why.join("; ")
        })
    }

    /// Was it done?
    async fn look(&self) -> Result<Found, StoreError> {
        let left = self.deadline.saturating_duration_since(Instant::now()).min(LOOK_WITHIN);
        let (shared, txn) = (self.shared, self.txn);
        let read = |client: Client| async move {
            let head = client.kv_client().get(shared.space.head(), None).await?;
            shared.ring.note_after(head.header(), self.since)?;
            let keys = guards(txn).map(|(key, _)| key);
            let kept = client.kv_client().txn(read_keys(&shared.space, keys)).await?;
            Ok((head, kept))
        };
        let (head, kept) = shared.ring.ask(left, read).await.map_err(unknown)?;
        let last = head.kvs().first().map_or(0, |entry| number(entry.mod_revision()));
        if last > self.since {
            let told = shared.ring.ask(left, |client| self.history(client, last));
            let found = told.await.map_err(unknown)?;
            if let Some((at, held)) = found {
                return Ok(Found::Done(at, held));
            }
        }
        let now = kept.op_responses();
        let over = guards(txn).zip(now).any(|((_, revision), response)| match response {
            TxnOpResponse::Get(found) => {
                found.kvs().first().map_or(0, |entry| number(entry.mod_revision())) != revision
            }
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => false,
        });
        Ok(if over { Found::Never } else { Found::NotYet })
    }

    /// Looks through what the head held, up to `last`.
    async fn history(
        &self,
        client: Client,
        last: Revision,
    ) -> Result<Option<(Revision, bool)>, Fault> {
        let options = WatchOptions::new().with_start_revision(signed(self.since + 1));
        let mut client = client.watch_client();
        let mut stream = client.watch(self.shared.space.head(), Some(options)).await?;
        while let Some(response) = stream.message().await? {
            if response.canceled() {
                return Err(Fault::Compacted("the changes since were compacted away".to_owned()));
            }
            for event in response.events() {
                let Some(entry) = event.kv() else { continue };
                let at = number(entry.mod_revision());
                if let Some(held) = marked(entry.value(), self.attempt) {
                    return Ok(Some((at, held)));
                }
                if at >= last {
                    return Ok(None);
                }
            }
        }
        Err(Fault::Lost("the history ended early".to_owned()))
    }

    /// The answer that got lost, read again as of that revision.
    async fn retell(&self, at: Revision, held: bool) -> Result<TxnReply, StoreError> {
        let lost = || StoreError::Unknown(format!("done at revision {at}; its answer got lost"));
        let ops = if held { &self.txn.then } else { &self.txn.otherwise };
        let space = &self.shared.space;
        if space.retold(ops, at).is_none() {
            return Err(lost());
        }
        let read = |client: Client| async move {
            let Some(reads) = space.retold(ops, at) else {
                return Err(Fault::Lost("it cannot be told again".to_owned()));
            };
            let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            Ok(kv.txn(reads).await?)
        };
        let response = self.shared.ring.ask(LOOK_WITHIN, read).await.map_err(unknown)?;
        let results = space.retell(ops, response.op_responses()).ok_or_else(lost)?;
        Ok(TxnReply { succeeded: held, revision: at, results })
    }
}

/// Whatever kept the search for an answer from its end: the txn itself may have been done.
fn unknown(fault: Fault) -> StoreError {
    StoreError::Unknown(format!("its answer got lost: {}", fault.why()))
}

async fn send(
    shared: &Shared,
    txn: &Txn,
    attempt: Attempt,
    index: usize,
) -> (usize, Result<TxnResponse, Fault>) {
    let sent = async {
        let client = shared.ring.at(index).client().await?;
        ask(shared, client, shared.space.txn(txn, attempt)).await
    };
    (index, sent.await)
}

/// One member's answer to a txn. A store that was set back answers too, and is not believed.
async fn ask(shared: &Shared, client: Client, txn: TheirTxn) -> Result<TxnResponse, Fault> {
    let seen = shared.ring.seen();
    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let response = kv.txn(txn).await?;
    shared.ring.note_after(response.header(), seen)?;
    Ok(response)
}

/// etcd's answer in the store's words. Its revision is one that a watch will bring: that of the
/// txn, or, if it wrote nothing, of the last change that it can have seen.
fn reply(shared: &Shared, txn: &Txn, response: TxnResponse) -> Result<TxnReply, StoreError> {
    let header = shared.ring.note(response.header())?;
    let succeeded = response.succeeded();
    let ops = if succeeded { &txn.then } else { &txn.otherwise };
    let (results, head) = shared.space.results(ops, response.op_responses());
    let revision = if writes(ops) {
        header
    } else {
        let read = results.iter().flat_map(|result| match result {
            sengu_core::kv::OpResult::Got(found) => found.as_slice(),
            sengu_core::kv::OpResult::Put | sengu_core::kv::OpResult::Deleted(_) => &[],
        });
        read.map(|entry| entry.modified).chain(head).max().unwrap_or_default()
    };
    Ok(TxnReply { succeeded, revision, results })
}

/// The head as of a revision, to find out whether it is still kept.
pub(super) fn as_of(revision: Revision) -> GetOptions {
    GetOptions::new().with_revision(signed(revision))
}

/// Sends a txn, throws its answer away and looks for it, as when the answer was lost.
#[cfg(test)]
pub(super) async fn trial(shared: &Shared, txn: &Txn) -> Result<TxnReply, StoreError> {
    let mut race = Race::new(shared, txn)?;
    race.copies = 1;
    let Found::NotYet = race.look().await? else { panic!("it was not sent yet") };
    let (_, sent) = send(shared, txn, race.attempt, race.next).await;
    drop(sent.map_err(StoreError::from)?);
    match race.look().await? {
        Found::Done(at, held) => race.retell(at, held).await,
        Found::Never | Found::NotYet => Err(StoreError::Unknown("it was not found".to_owned())),
    }
}
