//! The store's side of the loop: what it holds, what changes, and txns with their ends.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::event::{ActionId, Event, Outcome, TxnOutcome};
use sengu_core::kv::Txn;
use tokio::sync::mpsc;

use crate::clock;
use crate::store::{Store, StoreError};

/// How long after a failed load the next one waits.
const RETRY: Duration = Duration::from_millis(250);

/// Loads, then watches, for ever; loads again whenever the watch was lost. Ends with the loop.
pub async fn follow(store: Arc<dyn Store>, events: mpsc::Sender<Event>) {
    loop {
        let sent = clock::time();
        match store.load().await {
            Ok((revision, entries)) => {
                if events.send(Event::Loaded { sent, revision, entries }).await.is_err() {
                    return;
                }
                match store.watch(revision).await {
                    Ok(mut watch) => {
                        while let Some(batch) = watch.recv().await {
                            let revision = batch.revision;
                            let event = Event::Changed { revision, changes: batch.changes };
                            if events.send(event).await.is_err() {
                                return;
                            }
                        }
                        tracing::warn!("the watch on the store was lost; loading again");
                    }
                    Err(error) => tracing::warn!(%error, "the store gave no watch"),
                }
            }
            Err(error) => tracing::warn!(%error, "the store could not be read"),
        }
        if events.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Sends a txn; its end comes as an event.
pub fn send(
    store: &Arc<dyn Store>,
    events: &mpsc::Sender<Event>,
    id: ActionId,
    txn: Txn,
    within: Duration,
) {
    let (store, events) = (Arc::clone(store), events.clone());
    tokio::spawn(async move {
        let (sent, began) = (clock::time(), std::time::Instant::now());
        let outcome = match tokio::time::timeout(within, store.txn(txn)).await {
            Ok(Ok(reply)) => TxnOutcome::Answered { sent, reply },
            Ok(Err(StoreError::Refused(why))) => TxnOutcome::Refused(why),
            Ok(Err(StoreError::Unknown(why) | StoreError::Broken(why))) => TxnOutcome::Unknown(why),
            Err(_) => TxnOutcome::Unknown("it did not answer in time".to_owned()),
        };
        let word = match &outcome {
            TxnOutcome::Answered { reply, .. } if reply.succeeded => "done",
            TxnOutcome::Answered { .. } => "compared",
            TxnOutcome::Refused(_) => "refused",
            TxnOutcome::Unknown(_) => "unknown",
        };
        crate::metrics::get().stored(word, began.elapsed());
        // The loop has ended if nobody listens; then there is nothing to tell.
        let _ = events.send(Event::Done { id, outcome: Outcome::Txn(outcome) }).await;
    });
}
