//! Writes: make a plan from the newest catalog, let the store do it, and answer once this
//! agent's own catalog has it, so that a client reads what it wrote.

use std::time::{Duration, Instant};

use sengu_core::consul::directory::Directory;
use sengu_core::consul::{Plan, Refusal, Verdict};
use sengu_core::kv::{Txn, TxnReply};

use super::Shell;
use super::answer::Trouble;
use crate::store::StoreError;
use crate::{clock, metrics};

/// How often a plan is made again because its picture was old.
const ATTEMPTS: u32 = 8;

/// How long the store may take.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// Carries a plan out.
pub(crate) async fn write(
    shell: &Shell,
    plan: impl Fn(&Directory<'_>) -> Result<Plan, Refusal>,
) -> Result<bool, Trouble> {
    for _ in 0..ATTEMPTS {
        let catalog = shell.catalog()?;
        let plan = plan(&Directory::new(&catalog, clock::time(), &shell.context.place))?;
        drop(catalog);
        let reply = send(shell, plan.txn.clone()).await?;
        shell.reached(reply.revision).await?;
        match plan.verdict(&reply) {
            Verdict::Answer(answer) => return Ok(answer),
            Verdict::Again => {}
        }
    }
    Err(Trouble::new(500, "rpc error: others change the same entry all the time; try again"))
}

/// Sends one txn and waits a bounded time for its answer.
pub(crate) async fn send(shell: &Shell, txn: Txn) -> Result<TxnReply, Trouble> {
    let (began, reads) = (Instant::now(), txn.only_reads());
    let answered = tokio::time::timeout(STORE_WAIT, shell.context.store.txn(txn)).await;
    if !reads {
        let outcome = match &answered {
            Ok(Ok(reply)) if reply.succeeded => "done",
            Ok(Ok(_)) => "compared",
            Ok(Err(StoreError::Refused(_))) => "refused",
            Ok(Err(_)) | Err(_) => "unknown",
        };
        metrics::get().stored(outcome, began.elapsed());
    }
    match answered {
        Ok(reply) => Ok(reply?),
        Err(_) => Err(Trouble::new(
            500,
            format!(
                "rpc error: the store has not answered within {} s; whether it did what was \
                 asked is not known",
                STORE_WAIT.as_secs()
            ),
        )),
    }
}
