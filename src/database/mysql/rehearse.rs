//! The rehearsal: is every rung of the fence possible, before it is needed?
//!
//! Each statement is really sent, in a form that the server permits or forbids like the real one
//! and that changes nothing: with a value that it refuses after it has looked at the account's
//! privileges, or for a channel that does not exist.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::fault::{Fault, code};
use super::{Shared, upkeep};

/// The whole rehearsal, at most.
const REHEARSAL_WAIT: Duration = Duration::from_secs(5);

/// A channel that nobody has.
const NO_CHANNEL: &str = "sengu-rehearsal";

/// A statement in its harmless form, and the privilege that the real one needs.
struct Rung {
    sql: String,
    privilege: &'static str,
}

fn rungs(mariadb: bool) -> Vec<Rung> {
    let rung = |sql: String, privilege| Rung { sql, privilege };
    if mariadb {
        vec![
            rung("SET GLOBAL read_only='neither'".to_owned(), "READ_ONLY ADMIN"),
            rung("SET GLOBAL max_connections='neither'".to_owned(), "CONNECTION ADMIN"),
            rung("SELECT 1 FROM information_schema.INNODB_TRX LIMIT 0".to_owned(), "PROCESS"),
            rung("SHOW ALL SLAVES STATUS".to_owned(), "SLAVE MONITOR"),
            rung("SET GLOBAL slave_net_timeout='neither'".to_owned(), "REPLICATION SLAVE ADMIN"),
            rung(format!("RESET SLAVE '{NO_CHANNEL}' ALL"), "RELOAD"),
        ]
    } else {
        let admins = "SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN";
        vec![
            rung("SET GLOBAL super_read_only='neither'".to_owned(), "SYSTEM_VARIABLES_ADMIN"),
            rung("SET GLOBAL offline_mode='neither'".to_owned(), admins),
            rung("SELECT 1 FROM information_schema.INNODB_TRX LIMIT 0".to_owned(), "PROCESS"),
            rung("SHOW REPLICA STATUS".to_owned(), "REPLICATION CLIENT"),
            rung(format!("RESET REPLICA ALL FOR CHANNEL '{NO_CHANNEL}'"), "RELOAD"),
        ]
    }
}

/// Opens what a fence needs and goes through its rungs.
pub(super) async fn rehearse(shared: &Arc<Shared>) -> Result<(), String> {
    let deadline = Instant::now() + REHEARSAL_WAIT;
    let work = {
        let shared = Arc::clone(shared);
        async move { run(&shared, deadline).await }
    };
    let result = match shared.fence_runtime.run(work).await {
        Some(result) => result,
        None => Err("the runtime of the fence is gone".to_owned()),
    };
    result.map_err(|error| format!("{} at {}: {error}", shared.name, shared.address))
}

async fn run(shared: &Arc<Shared>, deadline: Instant) -> Result<(), String> {
    let session = upkeep::keep_fence(shared, deadline).await.map_err(|fault| fault.to_string())?;
    let process = session.process().ok_or("no process was found")?;
    process.killable().map_err(|error| {
        format!("process {} cannot be signalled ({error}): run the agent as root", process.pid())
    })?;
    let mut missing = Vec::new();
    for rung in rungs(session.server().is_mariadb()) {
        match session.exec(&rung.sql, deadline).await {
            // Refused for its value, or done: it was permitted.
            Ok(()) => {}
            Err(fault) if fault.is(code::ACCESS_DENIED) => missing.push(rung.privilege),
            Err(Fault::Server { .. }) => {}
            Err(fault) => return Err(fault.to_string()),
        }
    }
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!("the agent's account lacks privileges: GRANT {missing} ON *.* to it"));
    }
    if let Ok(_lane) = shared.lane.try_lock() {
        let epoch = shared.sessions().epoch;
        shared.control_session(epoch, deadline).await?;
    }
    Ok(())
}
