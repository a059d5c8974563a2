//! What the drivers share around their connections: the runtime that changes and fences run on, the
//! outcome of a command of the ordered lane, and the sessions of which it is not known whether what
//! they carried still runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sengu_core::event::{Command, ControlOutcome};
use sengu_core::name::{BootId, InstanceName};
use sengu_core::observation::InstanceState;
use tokio::runtime::Handle;

use crate::process::Process;

/// Sessions whose changes may still run that are kept in mind.
const MAX_UNSURE: usize = 32;

/// Locks; what a panicking holder left is still good, as each change is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the fence's and the control connection live: a runtime of the fence thread's own, or
/// whichever calls.
pub(super) struct Runtime(pub(super) Option<Handle>);

impl Runtime {
    /// Runs there, wherever it is called; none if that runtime is gone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match &self.0 {
            Some(handle) => handle.spawn(work).await.ok(),
            None => Some(work.await),
        }
    }

    /// Begins it there.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Some(handle) => drop(handle.spawn(work)),
            None => drop(tokio::spawn(work)),
        }
    }
}

/// Why a command was not carried out.
pub(super) struct Failure {
    pub(super) error: String,
    /// Certainly not done.
    pub(super) untouched: bool,
}

impl Failure {
    pub(super) fn untouched(error: impl Into<String>) -> Self {
        Self { error: error.into(), untouched: true }
    }

    pub(super) fn unsure(error: impl Into<String>) -> Self {
        Self { error: error.into(), untouched: false }
    }
}

/// What is told of a command; `ran` is none if the runtime that it ran on is gone.
pub(super) fn outcome(
    name: &InstanceName,
    ran: Option<Result<(Arc<Process>, InstanceState), Failure>>,
) -> ControlOutcome {
    let gone = || Failure::unsure("the runtime of the control connection is gone");
    match ran.unwrap_or_else(|| Err(gone())) {
        Ok((process, state)) => ControlOutcome::Done { boot_id: process.boot_id().clone(), state },
        Err(Failure { error, untouched }) => {
            ControlOutcome::Failed { error: format!("{name}: {error}"), untouched }
        }
    }
}

/// Is this the life of the server that the command was meant for?
///
/// # Errors
/// If a promotion was meant for another one: nothing was sent.
pub(super) fn check_life(command: &Command, process: &Process) -> Result<(), Failure> {
    let is = process.boot_id();
    match command {
        Command::Promote { boot_id } if boot_id != is => Err(Failure::untouched(format!(
            "it was restarted since it was judged (was {boot_id}, is {is})"
        ))),
        _ => Ok(()),
    }
}

/// Sessions with something unanswered in them, each by the life of its server.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsure(Vec<(BootId, u64)>);

impl Unsure {
    /// Keeps in mind that something sent over this session may still run.
    pub(super) fn remember(&mut self, boot_id: &BootId, id: u64) {
        let unsure = (boot_id.clone(), id);
        self.0.retain(|known| *known != unsure);
        self.0.push(unsure);
        // A new control session ends all of these first, so they do not pile up; and a fence ends
        // every session of a client, known or not.
        let surplus = self.0.len().saturating_sub(MAX_UNSURE);
        self.0.drain(..surplus);
    }

    /// Those of this life: those of an earlier one ended with it. Of all lives, if it is not known.
    pub(super) fn of_life(&self, life: Option<&BootId>) -> Vec<u64> {
        let of_life = self.0.iter().filter(|(boot_id, _)| life.is_none_or(|life| life == boot_id));
        of_life.map(|(_, id)| *id).collect()
    }

    /// Without those that are sure now.
    pub(super) fn forget(&mut self, sure: &Self) {
        self.0.retain(|session| !sure.0.contains(session));
    }

    /// Keeps those in mind, too.
    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}
