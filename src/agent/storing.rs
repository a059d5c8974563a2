//! The store's side of the loop: what it holds, what changes, and txns with their ends.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::event::{ActionId, Event, Outcome, TxnOutcome};
use sengu_core::kv::Txn;
use tokio::sync::mpsc;

use crate::clock;
use crate::store::{Store, StoreError};
use crate::view::View;

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

/// Asks a shared store for nothing, at every eighth of the lease, for ever: that it answers is the
/// proof that this agent's picture is fresh as of the question. Hosts without databases beat
/// nothing, and still name masters only as long as this goes on. Ends with the loop.
pub async fn freshen(
    store: Arc<dyn Store>,
    view: Arc<View>,
    events: mpsc::Sender<Event>,
    lease: Duration,
) {
    let every = lease / 8;
    loop {
        let sent = clock::time();
        // Its answer counts only once the picture has what it saw.
        let fresh = async {
            let reply = store.txn(Txn::default()).await?;
            view.reached(reply.revision).await;
            Ok::<_, StoreError>(())
        };
        match tokio::time::timeout(every, fresh).await {
            Ok(Ok(())) => {
                if events.send(Event::Fresh { sent }).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "the store did not answer"),
            Err(_) => tracing::debug!("the store did not answer in time"),
        }
        if events.is_closed() {
            return;
        }
        clock::sleep_until(sent + every).await;
    }
}
