//! The process behind a server, life after life: verified when it answers, remembered when it does
//! not, found when it never did.
//!
//! A process stays known until another one is verified in its place, so that a server that no
//! longer answers can still be watched, judged and killed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sengu_core::name::BootId;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::process::{FindError, Process, find};

/// A local connection is accepted or refused within this.
const LOCAL_WAIT: Duration = Duration::from_millis(50);

/// The lives of the server at one address. `S` is what a server tells of itself that is another
/// in each life of it.
pub(super) struct Lives<S> {
    address: SocketAddr,
    /// A server that never told a pid is taken for one if its program is named like this.
    programs: &'static [&'static str],
    known: watch::Sender<Option<Known<S>>>,
    /// Whose exit was told last.
    exit_told: Mutex<Option<BootId>>,
}

/// A verified process.
struct Known<S> {
    process: Arc<Process>,
    told: Option<S>,
}

impl<S: PartialEq> Lives<S> {
    pub(super) fn new(address: SocketAddr, programs: &'static [&'static str]) -> Self {
        Self { address, programs, known: watch::Sender::new(None), exit_told: Mutex::default() }
    }

    /// The process of a server that told its pid, and what is another in each life of it.
    pub(super) fn identify(&self, pid: u32, told: S) -> Result<Arc<Process>, FindError> {
        if let Some(known) = &*self.known.borrow()
            && known.told.as_ref() == Some(&told)
            && !known.process.is_gone()
        {
            return Ok(Arc::clone(&known.process));
        }
        let found = find(self.address, Some(pid), self.programs)?;
        Ok(self.publish(found, Some(told)))
    }

    /// The process that listens now, for a server that tells no pid: the known one if it still
    /// does, else whoever does.
    pub(super) fn listener(&self) -> Result<Arc<Process>, FindError> {
        let known = self.process().filter(|process| !process.is_gone());
        if let Some(process) = known
            && let Ok(found) = find(self.address, Some(process.pid()), self.programs)
            && found.boot_id() == process.boot_id()
        {
            return Ok(process);
        }
        Ok(self.publish(find(self.address, None, self.programs)?, None))
    }

    /// The process as last verified, exited or not.
    pub(super) fn process(&self) -> Option<Arc<Process>> {
        self.known.borrow().as_ref().map(|known| Arc::clone(&known.process))
    }

    /// The process when the server tells nothing of itself: the one known if it lives, else a
    /// new one that listens in its place, else the exited one.
    pub(super) fn process_unasked(&self) -> Option<Arc<Process>> {
        let known = self.process();
        if known.as_ref().is_some_and(|process| !process.is_gone()) {
            return known;
        }
        // Looks at every process, but only if there is somebody who listens.
        self.search().or(known)
    }

    /// Looks for a process that listens on the address, without a hint.
    pub(super) fn search(&self) -> Option<Arc<Process>> {
        let found = find(self.address, None, self.programs).ok()?;
        Some(self.publish(found, None))
    }

    /// Remembers a process; one already known keeps its handle, and with it what it was seen
    /// to do.
    fn publish(&self, found: Process, told: Option<S>) -> Arc<Process> {
        let mut process = Arc::new(found);
        self.known.send_if_modified(|known| {
            if let Some(known) = known
                && known.process.boot_id() == process.boot_id()
            {
                process = Arc::clone(&known.process);
                known.told = told.or_else(|| known.told.take());
                return false;
            }
            *known = Some(Known { process: Arc::clone(&process), told });
            true
        });
        process
    }

    /// Waits for the exit of the process as last verified; tells each life once.
    pub(super) async fn exited(&self) -> BootId {
        let told = || self.exit_told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = self.known.subscribe();
        loop {
            let process = changes.borrow_and_update().as_ref().map(|k| Arc::clone(&k.process));
            let last = told().clone();
            let untold = process.filter(|process| Some(process.boot_id()) != last.as_ref());
            // The sender lives in `self`: a change that never comes is waited for, not an end.
            let Some(process) = untold else {
                let _changed = changes.changed().await;
                continue;
            };
            process.exited().await;
            let boot_id = process.boot_id().clone();
            *told() = Some(boot_id.clone());
            return boot_id;
        }
    }

    /// The process to fence: the known one, or what came in its place. `Err` if the known one has
    /// exited and nobody listens in its place.
    pub(super) async fn living(&self) -> Result<Option<Arc<Process>>, BootId> {
        match self.process() {
            Some(process) if !process.is_gone() => Ok(Some(process)),
            None => Ok(self.search()),
            Some(gone) => {
                if let Some(next) = self.search() {
                    return Ok(Some(next));
                }
                let connected = timeout(LOCAL_WAIT, TcpStream::connect(self.address)).await;
                if matches!(connected, Ok(Ok(_))) { Ok(None) } else { Err(gone.boot_id().clone()) }
            }
        }
    }

    /// The last rung without anything to wait for: only a process that is known, by a handle that
    /// is open.
    ///
    /// # Errors
    /// As [`Lives::kill`].
    pub(super) fn kill_now(&self) -> Result<BootId, String> {
        let Some(process) = self.process() else {
            return Err("no process was found to kill".to_owned());
        };
        signalled(&process)?;
        Ok(process.boot_id().clone())
    }

    /// The last rung of a fence: SIGKILL by pidfd. A signal that was *sent* counts; the exit is
    /// waited for no longer than until the deadline.
    ///
    /// # Errors
    /// Why there was nothing to kill, or why it was not permitted.
    pub(super) async fn kill(
        &self,
        process: Option<Arc<Process>>,
        deadline: Instant,
    ) -> Result<BootId, String> {
        let alive = |process: &Arc<Process>| !process.is_gone();
        let found = process.or_else(|| self.process().filter(alive)).or_else(|| self.search());
        let Some(process) = found else { return Err("no process was found to kill".to_owned()) };
        signalled(&process)?;
        let _late = timeout_at(deadline, process.exited()).await;
        Ok(process.boot_id().clone())
    }
}

/// Sends SIGKILL; good if the process is gone already.
fn signalled(process: &Process) -> Result<(), String> {
    match process.kill() {
        Err(error) if !process.is_gone() => {
            Err(format!("process {} cannot be killed: {error}", process.pid()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
