//! What applies the transactions that a copy received: waiting for it, and stopping it.
//!
//! What was received whole is always applied first. What was received in part, because its source
//! died in the middle of sending it, can never be: no copy counts it as received. MySQL's applier
//! would wait a minute for the rest before it stops, and answer no question about replication
//! meanwhile; so it is ended, which undoes that transaction, before it is asked to stop.

use std::time::Duration;

use tokio::time::sleep;

use super::connection::quoted;
use super::control::{Failure, LOOK_PAUSE, Work};
use super::fault::code;
use super::server::Threads;
use super::state::{Channel, Told};

/// Time left for what comes after a wait.
const RESERVE: Duration = Duration::from_millis(200);

/// What was received will be applied. Asked before a receiver is stopped, too: MariaDB throws away
/// what it received when it starts a channel of which both threads stood.
///
/// # Errors
/// If the applier does not run and something is left for it.
pub(super) fn check(work: &Work<'_>, told: &Told) -> Result<(), Failure> {
    match told.state.unapplied().filter(|_| told.state.applier_stopped) {
        None => Ok(()),
        Some(missing) => {
            let why = told.state.trouble.as_deref().unwrap_or("it was stopped");
            Err(work.failure(&format!(
                "{missing} that it received cannot be applied, its applier does not run: {why}"
            )))
        }
    }
}

/// Waits until everything that was received is applied.
///
/// # Errors
/// If it will not be, or not in time.
pub(super) async fn applied(work: &Work<'_>, mut told: Told) -> Result<Told, Failure> {
    while let Some(missing) = told.state.unapplied() {
        check(work, &told)?;
        if work.is_short_of(RESERVE) {
            return Err(work.failure(&format!("it still applies what it received: {missing}")));
        }
        sleep(LOOK_PAUSE).await;
        told = work.state().await?;
    }
    Ok(told)
}

/// Stops both threads of a channel whose receiver stands and all of whose received transactions
/// are applied.
///
/// # Errors
/// If that takes too long: nothing is lost by it.
pub(super) async fn stop(work: &Work<'_>, channel: &Channel) -> Result<(), Failure> {
    let server = work.session.server();
    if !server.is_mariadb() {
        end_in_the_middle(work, channel).await?;
    }
    work.exec(&server.stop(&channel.name, Threads::Both)).await
}

/// Ends an applier that is in the middle of a transaction of which nothing more will come.
async fn end_in_the_middle(work: &Work<'_>, channel: &Channel) -> Result<(), Failure> {
    let part = |column: &str| {
        format!(
            "{column} NOT IN ('', 'ANONYMOUS') \
             AND NOT GTID_SUBSET({column}, @@GLOBAL.gtid_executed)"
        )
    };
    // One that works alone, without a coordinator, is listed as a worker.
    let workers = "performance_schema.replication_applier_status_by_worker";
    let coordinators = "performance_schema.replication_applier_status_by_coordinator";
    let name = quoted(&channel.name);
    let sql = format!(
        "SELECT T.PROCESSLIST_ID AS id FROM performance_schema.threads T WHERE T.THREAD_ID = (\
         SELECT COALESCE((SELECT C.THREAD_ID FROM {coordinators} C WHERE C.CHANNEL_NAME = {name}), \
         (SELECT MIN(W.THREAD_ID) FROM {workers} W WHERE W.CHANNEL_NAME = {name}))) \
         AND (EXISTS (SELECT 1 FROM {coordinators} WHERE CHANNEL_NAME = {name} AND {}) \
         OR EXISTS (SELECT 1 FROM {workers} WHERE CHANNEL_NAME = {name} AND {}))",
        part("PROCESSING_TRANSACTION"),
        part("APPLYING_TRANSACTION")
    );
    // An account that may not look stops it without.
    let Ok(rows) = work.rows(&sql).await? else { return Ok(()) };
    let Some(id) = rows.into_iter().find_map(|mut row| row.remove("id")?) else { return Ok(()) };
    match work.try_exec(&format!("KILL {id}")).await? {
        Ok(()) => {}
        Err(fault) if fault.is(code::NO_SUCH_THREAD) => {}
        Err(fault) => return Err(work.failure(&fault.to_string())),
    }
    while work.state().await?.channel.is_some_and(|channel| channel.applier_runs) {
        if work.is_short_of(RESERVE) {
            return Err(work.failure("it still undoes a transaction that it received in part"));
        }
        sleep(LOOK_PAUSE).await;
    }
    Ok(())
}
