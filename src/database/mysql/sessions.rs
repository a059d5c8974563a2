//! The sessions of others on a server, as its process list tells them: whom a fence ends, whom it
//! spares, and whether somebody it ended is still there.

use tokio::time::Instant;

use super::connection::{Row, Session};
use super::fault::{Fault, code};

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) id: u64,
    pub(super) user: String,
    /// It was told to end and cleans up: its client has been cut off.
    pub(super) ending: bool,
    /// Its commit waits for an acknowledgement of a copy.
    pub(super) waits_for_copy: bool,
}

/// Lists all sessions. Not asked of `performance_schema`, which may be off.
const LIST: &str = "SELECT ID AS id, USER AS user, COMMAND AS command, STATE AS state \
                    FROM information_schema.PROCESSLIST";

/// All sessions of clients: neither the server's own threads, nor copies that receive, nor
/// `spared` ones.
pub(super) async fn clients(
    session: &Session,
    spared: &[u64],
    deadline: Instant,
) -> Result<Vec<Other>, Fault> {
    let rows = session.rows(LIST, deadline).await?;
    Ok(rows.iter().filter_map(other).filter(|it| !spared.contains(&it.id)).collect())
}

fn other(row: &Row) -> Option<Other> {
    let text = |name: &str| row.get(name).and_then(Option::as_deref).unwrap_or("");
    let (user, command, state) = (text("user"), text("command"), text("state"));
    let of_the_server = matches!(user, "system user" | "event_scheduler")
        || matches!(command, "Daemon" | "Slave_IO" | "Slave_SQL" | "Slave_worker")
        || command.starts_with("Binlog Dump");
    (!of_the_server).then_some(Other {
        id: text("id").parse().ok()?,
        user: user.to_owned(),
        ending: command == "Killed",
        waits_for_copy: state.contains("semi-sync ACK"),
    })
}

/// Ends sessions; those that are gone already are as good as ended.
///
/// # Errors
/// The first that the server refuses to end, or that it does not answer.
pub(super) async fn end(session: &Session, ids: &[u64], deadline: Instant) -> Result<(), Fault> {
    let mut refused = None;
    for id in ids {
        match session.exec(&format!("KILL {id}"), deadline).await {
            Ok(()) | Err(Fault::Server { code: code::NO_SUCH_THREAD, .. }) => {}
            Err(fault @ Fault::Server { .. }) => {
                refused.get_or_insert(fault);
            }
            Err(fault) => return Err(fault),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Which of these sessions are still there, ending or not.
pub(super) async fn present(
    session: &Session,
    ids: &[u64],
    deadline: Instant,
) -> Result<Vec<u64>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let listed: Vec<String> = ids.iter().map(u64::to_string).collect();
    let sql = format!(
        "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE ID IN ({})",
        listed.join(",")
    );
    let rows = session.rows(&sql, deadline).await?;
    let ids = rows.into_iter().filter_map(|mut row| row.remove("id")??.parse().ok());
    Ok(ids.collect())
}
