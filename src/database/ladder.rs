//! The rungs of a fence, whatever the database: ask the server to refuse writes, then end its
//! process.
//!
//! A server that is stopped is not asked: what lies in its sockets would be acknowledged before
//! anything that is sent now is read. Asking has half of the time where a kill is allowed. The exit
//! of the process ends it at any time, and a signal that was sent counts.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::name::BootId;
use sengu_core::observation::{self, InstanceState};
use tokio::time::{Instant, timeout_at};

use super::life::Lives;
use crate::process::Process;

/// How the first rung ended.
pub(super) enum Rung {
    /// It reads back as fenced.
    Fenced(Arc<Process>, InstanceState),
    /// Its process has exited.
    Exited(BootId),
    /// Not done; what was asked of the server may yet be carried out.
    Failed(String),
    /// Not done, and nothing was asked.
    Untouched(String),
    /// Not done either, and nothing that a kill would mend.
    Spared(String),
}

/// How the fence ended.
pub(super) enum End {
    Fenced(Arc<Process>, InstanceState),
    Exited(BootId),
    Failed { reason: String, untouched: bool },
}

/// May the process be killed, and within what time?
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) kill: bool,
    pub(super) deadline: Instant,
    pub(super) within: Duration,
}

/// Climbs them: `ask` is the first, with the process as far as it is known and until when.
pub(super) async fn climb<S: PartialEq, F: Future<Output = Rung>>(
    lives: &Lives<S>,
    Terms { kill, deadline, within }: Terms,
    ask: impl FnOnce(Option<Arc<Process>>, Instant) -> F,
) -> End {
    let process = match lives.living().await {
        Ok(process) => process,
        Err(gone) => return End::Exited(gone),
    };
    let stopped =
        process.as_ref().is_some_and(|process| process.activity() == observation::Process::Stopped);
    let rung = if kill && stopped {
        Rung::Failed("the process is stopped".to_owned())
    } else {
        ask(process.clone(), if kill { deadline - within / 2 } else { deadline }).await
    };
    match rung {
        Rung::Fenced(process, state) => End::Fenced(process, state),
        Rung::Exited(boot_id) => End::Exited(boot_id),
        Rung::Failed(reason) | Rung::Untouched(reason) if kill => {
            match lives.kill(process, deadline).await {
                Ok(boot_id) => End::Exited(boot_id),
                Err(why) => End::Failed { reason: format!("{reason}; {why}"), untouched: false },
            }
        }
        Rung::Failed(reason) | Rung::Spared(reason) => End::Failed { reason, untouched: false },
        Rung::Untouched(reason) => End::Failed { reason, untouched: true },
    }
}

/// Attempts, for no longer than this and than the process lives; none if that was too long.
pub(super) async fn while_it_lives(
    process: Option<&Arc<Process>>,
    until: Instant,
    attempts: impl Future<Output = Rung>,
) -> Option<Rung> {
    let exit = async {
        match process {
            Some(process) => {
                process.exited().await;
                process.boot_id().clone()
            }
            None => std::future::pending().await,
        }
    };
    let ended = timeout_at(until, async {
        tokio::select! {
            rung = attempts => rung,
            boot_id = exit => Rung::Exited(boot_id),
        }
    });
    ended.await.ok()
}
