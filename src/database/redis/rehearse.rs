//! The rehearsal: is every rung of the fence possible, before it is needed?
//!
//! Each command is really sent, in a form that the server permits or forbids like the real one
//! and that changes nothing: with an argument that it refuses after it has looked at the user's
//! rights, or for a client that does not exist.

use std::sync::Arc;

use redis::{Pipeline, Value};
use tokio::time::{Duration, timeout};

use super::Shared;
use super::control::words;
use super::observe::keep_fence;
use super::reply::{Fault, checked, text};

/// The whole rehearsal, at most.
const REHEARSAL_WAIT: Duration = Duration::from_secs(3);

/// A client id that no server has given out.
const NO_CLIENT: &str = "9223372036854775807";

/// A command, and the harmless form of it. Each is refused for its argument, or does nothing.
const HARMLESS: [(&str, &[&str]); 9] = [
    ("CONFIG SET", &["CONFIG", "SET", "replica-read-only", "neither"]),
    ("CONFIG GET", &["CONFIG", "GET", "replica-read-only"]),
    ("REPLICAOF", &["REPLICAOF", "127.0.0.1", "no-port"]),
    ("CLIENT KILL", &["CLIENT", "KILL", "ID", NO_CLIENT]),
    ("CLIENT LIST", &["CLIENT", "LIST", "ID", NO_CLIENT]),
    ("CLIENT ID", &["CLIENT", "ID"]),
    ("CLIENT PAUSE", &["CLIENT", "PAUSE", "no-time", "WRITE"]),
    ("INFO", &["INFO", "replication"]),
    ("PING", &["PING"]),
];

/// Commands that have no harmless form: the server is asked whether the user may run them, where
/// it knows how to answer that (Redis 7.0).
const ASKED: [(&str, &[&str]); 3] = [
    ("SCRIPT KILL", &["SCRIPT", "KILL"]),
    ("FUNCTION KILL", &["FUNCTION", "KILL"]),
    ("CLIENT UNPAUSE", &["CLIENT", "UNPAUSE"]),
];

/// Opens what a fence needs and goes through its rungs.
pub(super) async fn rehearse(shared: &Arc<Shared>) -> Result<(), String> {
    let work = {
        let shared = Arc::clone(shared);
        async move { timeout(REHEARSAL_WAIT, run(&shared)).await }
    };
    let ended = shared.fence_runtime.run(work).await;
    let result = match ended {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err("no answer in time".to_owned()),
        None => Err("the runtime of the fence is gone".to_owned()),
    };
    result.map_err(|error| format!("{} at {}: {error}", shared.name, shared.address))
}

async fn run(shared: &Arc<Shared>) -> Result<(), String> {
    let mut session = keep_fence(shared).await.map_err(|fault| fault.to_string())?;
    let Some((pid, run_id)) = session.server.clone() else {
        return Err(Fault::Busy.to_string());
    };
    let process = shared.identify(pid, &run_id).map_err(|error| error.to_string())?;
    process.killable().map_err(|error| {
        format!("process {} cannot be signalled ({error}): run the agent as root", process.pid())
    })?;
    let mut pipeline = Pipeline::new();
    for (_, command) in HARMLESS {
        pipeline.add_command(words(command));
    }
    pipeline.add_command(words(&["ACL", "WHOAMI"]));
    let replies = shared.dialer.ask(&mut session.connection, &mut pipeline).await;
    let replies = replies.map_err(|fault| fault.to_string())?;
    for ((name, _), reply) in HARMLESS.iter().zip(&replies) {
        permitted(name, reply)?;
    }
    if let Some(user) = replies.last().and_then(|reply| text(reply).ok()) {
        let mut pipeline = Pipeline::new();
        for (_, command) in ASKED {
            let mut asked = words(&["ACL", "DRYRUN", &user]);
            for word in command {
                asked.arg(word);
            }
            pipeline.add_command(asked);
        }
        let replies = shared.dialer.ask(&mut session.connection, &mut pipeline).await;
        for ((name, _), reply) in ASKED.iter().zip(replies.map_err(|fault| fault.to_string())?) {
            if text(&reply).is_ok_and(|answer| answer.contains("no permissions")) {
                return Err(denied(name));
            }
        }
    }
    if let Ok(_lane) = shared.lane.try_lock() {
        let epoch = shared.sessions().epoch;
        shared.control_session(epoch).await?;
    }
    Ok(())
}

fn denied(name: &str) -> String {
    format!("the user may not run `{name}`, which a fence needs: allow it with ACL SETUSER")
}

/// A refusal of the argument comes after the rights were looked at: it means *permitted*.
fn permitted(name: &str, reply: &Value) -> Result<(), String> {
    match checked(reply) {
        Err(Fault::Denied(text)) if text.starts_with("NOPERM") => Err(denied(name)),
        Err(Fault::Server(text)) if text.contains("unknown command") => Err(format!(
            "the server has no `{name}`, which a fence needs: take its `rename-command` back"
        )),
        Err(Fault::Server(text)) if text.contains("not allowed in cluster mode") => {
            Err("cluster mode is on: its masters cannot be moved by `REPLICAOF`".to_owned())
        }
        Err(fault @ (Fault::Denied(_) | Fault::Loading | Fault::Busy)) => Err(fault.to_string()),
        _ => Ok(()),
    }
}
