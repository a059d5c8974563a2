//! That a guard runs, seen from outside: a lock beside the agent's socket, let go by the kernel
//! when its holder ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// A guard that is looked for takes the lock again after so long at most.
const PATIENCE: Duration = Duration::from_millis(500);
/// The agent looks for its guard so often.
const LOOK: Duration = Duration::from_secs(1);

/// Held as long as it lives.
pub(super) struct Claim {
    _file: File,
}

fn path(socket: &Path) -> PathBuf {
    socket.with_extension("guard-lock")
}

fn open(socket: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path(socket))
}

impl Claim {
    /// One guard for each agent.
    ///
    /// # Errors
    /// Another one runs, or the folder cannot be written.
    pub(super) fn take(socket: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = socket.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let shown = path(socket);
        let file = open(socket).with_context(|| format!("cannot open {}", shown.display()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                // Who looks for a guard has it for a moment.
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(PATIENCE / 20);
                }
                Err(TryLockError::WouldBlock) => {
                    bail!("another guard of this agent runs ({} is locked)", shown.display())
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", shown.display()));
                }
            }
        }
    }
}

/// How the guard stands, as the agent tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The configuration wants one.
    pub wanted: bool,
    /// One runs.
    pub runs: bool,
}

/// The agent's eye on its guard.
#[derive(Debug, Clone)]
pub struct Watch {
    wanted: bool,
    runs: Arc<AtomicBool>,
}

impl Watch {
    /// Looks for the guard of this socket's agent from now on, if there should be one. Must be
    /// called inside a runtime.
    #[must_use]
    pub fn start(wanted: bool, socket: &Path) -> Self {
        let watch = Self { wanted, runs: Arc::new(AtomicBool::new(is_held(socket))) };
        if wanted {
            let (runs, socket) = (Arc::clone(&watch.runs), socket.to_owned());
            tokio::spawn(follow(runs, socket));
        }
        watch
    }

    /// As last seen.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { wanted: self.wanted, runs: self.runs.load(Ordering::SeqCst) }
    }
}

/// Ends with the runtime.
async fn follow(runs: Arc<AtomicBool>, socket: PathBuf) {
    let mut said = None;
    loop {
        let held = is_held(&socket);
        runs.store(held, Ordering::SeqCst);
        if said != Some(held) {
            if held {
                tracing::info!("the guard runs");
            } else {
                tracing::warn!(
                    "the guard is missing: if this agent dies, nobody fences its masters; start \
                     it with `systemctl start sengu-guard`"
                );
            }
            said = Some(held);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Does somebody hold the lock?
fn is_held(socket: &Path) -> bool {
    // A file that nobody made is held by nobody, and looking makes none.
    let Ok(file) = File::open(path(socket)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_seen_while_it_lives_and_there_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("sengu.sock");
        assert!(!is_held(&socket));
        let claim = Claim::take(&socket).expect("taken");
        assert!(is_held(&socket));
        let error = Claim::take(&socket).err().expect("one is enough").to_string();
        assert!(error.contains("another guard"), "{error}");
        drop(claim);
        assert!(!is_held(&socket));
    }
}
