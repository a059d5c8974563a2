//! The process behind the server: verified when it answers, remembered when it does not.
//!
//! A process stays known until another one is verified in its place, so that a server that no
//! longer answers can still be watched, judged and killed.

use std::sync::Arc;

use sengu_core::name::BootId;

use super::{Shared, lock};
use crate::process::{FindError, Process, find};

/// A server that never answered is taken for one if its program is named like this.
const PROGRAMS: [&str; 3] = ["redis", "valkey", "keydb"];

/// A verified process.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) process: Arc<Process>,
    /// Pid and run id that the server told of itself, if it did.
    server: Option<(u32, String)>,
}

impl Shared {
    /// The process of a server that told its pid and run id.
    pub(super) fn identify(&self, pid: u32, run_id: &str) -> Result<Arc<Process>, FindError> {
        let server = Some((pid, run_id.to_owned()));
        if let Some(known) = &*self.known.borrow()
            && known.server == server
            && !known.process.is_gone()
        {
            return Ok(Arc::clone(&known.process));
        }
        let found = find(self.address, Some(pid), &PROGRAMS)?;
        Ok(self.publish(found, server))
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
        let found = find(self.address, None, &PROGRAMS).ok()?;
        Some(self.publish(found, None))
    }

    /// Remembers a process; one already known keeps its handle, and with it what it was seen
    /// to do.
    fn publish(&self, found: Process, server: Option<(u32, String)>) -> Arc<Process> {
        let mut process = Arc::new(found);
        self.known.send_if_modified(|known| {
            if let Some(known) = known
                && known.process.boot_id() == process.boot_id()
            {
                process = Arc::clone(&known.process);
                known.server = server.or_else(|| known.server.take());
                return false;
            }
            *known = Some(Known { process: Arc::clone(&process), server });
            true
        });
        process
    }

    /// Waits for the exit of the process as last verified; tells each life once.
    pub(super) async fn exited(&self) -> BootId {
        let mut changes = self.known.subscribe();
        loop {
            let process = changes.borrow_and_update().as_ref().map(|k| Arc::clone(&k.process));
            let told = lock(&self.exit_told).clone();
            let untold = process.filter(|process| Some(process.boot_id()) != told.as_ref());
            // The sender lives in `self`: a change that never comes is waited for, not an end.
            let Some(process) = untold else {
                let _changed = changes.changed().await;
                continue;
            };
            process.exited().await;
            let boot_id = process.boot_id().clone();
            *lock(&self.exit_told) = Some(boot_id.clone());
            return boot_id;
        }
    }
}
