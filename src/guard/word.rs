//! The agent's word to its guard: what it holds, until when, and that it turns.
//!
//! One small file beside the agent's socket, on the system's memory file system, replaced whole.
//! The agent writes it on a thread of its own and waits for nothing; the guard only reads it. It
//! outlives both, so that either may be started again. Its times are this boot's (CLOCK_BOOTTIME),
//! and it is worth nothing after another. A word that is missing takes nothing back.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sengu_core::name::{InstanceName, ServiceName, Term};
use sengu_core::time::Time;
use serde::{Deserialize, Serialize};

use crate::clock;

/// The format that this version writes and reads.
const FORMAT: u32 = 1;
/// The longest word that is read, in bytes: some 20,000 instances.
const MAX: u64 = 8 << 20;

/// All that an agent tells its guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    format: u32,
    /// The host's boot.
    boot: String,
    /// When the agent's loop turned last.
    pub(crate) turned: Time,
    /// What is to be fenced unless a later word says otherwise.
    pub(crate) duties: Vec<Duty>,
}

/// One instance that the agent holds under a promise to fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Duty {
    pub(crate) service: ServiceName,
    pub(crate) instance: InstanceName,
    pub(crate) address: SocketAddr,
    pub(crate) term: Term,
    /// The agent's own fence starts.
    pub(crate) at: Time,
    /// May it end in a kill?
    pub(crate) kill: bool,
}

impl Word {
    pub(crate) fn new(turned: Time, duties: Vec<Duty>) -> io::Result<Self> {
        Ok(Self {
            format: FORMAT,
            boot: crate::process::host_boot_id()?.to_string(),
            turned,
            duties,
        })
    }

    /// Reads it; none if there is none of this boot.
    ///
    /// # Errors
    /// It cannot be read, or not by this version.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::metadata(path) {
            Ok(meta) if meta.len() > MAX => return Err(io::Error::other("it is too long")),
            Ok(_) => fs::read(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let word: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if word.format != FORMAT {
            let found = word.format;
            return Err(io::Error::other(format!("format {found}, and this is {FORMAT}")));
        }
        Ok((word.boot == *crate::process::host_boot_id()?).then_some(word))
    }

    /// Puts it in the place of the last. Not synced: another boot has no use for it.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(self).expect("plain data"))?;
        fs::rename(&fresh, path)
    }
}

/// Where the word of an agent with this socket stands.
#[must_use]
pub(crate) fn path(socket: &Path) -> PathBuf {
    socket.with_extension("guard")
}

/// The writing thread; dropping it writes what was said last, and ends it.
pub(crate) struct Slate {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The word is written anew so often, if only to say that the loop turns.
    every: Duration,
    duties: Vec<Duty>,
    /// They are of an earlier life of the agent.
    inherited: bool,
    written: Time,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: Option<(Time, Vec<Duty>)>,
    over: bool,
}

impl Slate {
    /// Starts the thread. What an earlier life of the agent wrote stays until this one knows what
    /// it holds.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(path: PathBuf, every: Duration) -> io::Result<Self> {
        let duties = Word::read(&path).ok().flatten().map(|word| word.duties).unwrap_or_default();
        let shared = Arc::<Shared>::default();
        let writes = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("sengu-word".to_owned());
        let thread = Some(thread.spawn(move || writes.run(&path))?);
        Ok(Self { shared, thread, every, duties, inherited: true, written: Time::ZERO })
    }

    /// Other duties from now on; written at once.
    pub(crate) fn owes(&mut self, duties: Vec<Duty>) {
        (self.duties, self.inherited) = (duties, false);
        self.say(clock::time());
    }

    /// The loop has turned.
    pub(crate) fn turned(&mut self, now: Time) {
        if now.since(self.written) >= self.every {
            if self.inherited {
                // By then this life has judged what it found.
                self.duties.retain(|duty| now < duty.at + self.every * 8);
            }
            self.say(now);
        }
    }

    fn say(&mut self, now: Time) {
        self.written = now;
        self.shared.lock().next = Some((now, self.duties.clone()));
        self.shared.changed.notify_one();
    }
}

impl Drop for Slate {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What it guards is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, path: &Path) {
        let mut said = false;
        loop {
            let mut state = self.lock();
            while state.next.is_none() && !state.over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((turned, duties)) = state.next.take() else { return };
            drop(state);
            let written = Word::new(turned, duties).and_then(|word| word.write(path));
            match written {
                Ok(()) => said = false,
                Err(error) if !said => {
                    said = true;
                    tracing::warn!(path = %path.display(), %error, "the guard is told nothing");
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duty(at: u64) -> Duty {
        Duty {
            service: "foo".parse().expect("good"),
            instance: "a".parse().expect("good"),
            address: "127.0.0.1:6379".parse().expect("good"),
            term: Term(3),
            at: Time(at),
            kill: true,
        }
    }

    #[test]
    fn what_was_said_last_is_read_and_outlives_the_agent() {
        let ahead = (clock::time() + Duration::from_secs(9)).0;
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder.path().join("sengu.sock"));
        assert_eq!(Word::read(&path).expect("none is no error"), None);
        let mut slate = Slate::start(path.clone(), Duration::from_secs(60)).expect("started");
        slate.owes(vec![duty(ahead)]);
        slate.owes(vec![duty(ahead + 1)]);
        drop(slate);
        let word = Word::read(&path).expect("read").expect("of this boot");
        assert_eq!(word.duties, [duty(ahead + 1)]);
        // The next life of the agent says that it turns before it knows what it holds.
        let mut slate = Slate::start(path.clone(), Duration::from_secs(60)).expect("started");
        slate.turned(clock::time());
        drop(slate);
        let next = Word::read(&path).expect("read").expect("of this boot");
        assert_eq!(next.duties, [duty(ahead + 1)]);
        assert!(next.turned > word.turned);
        // What is long due is not handed on.
        let mut slate = Slate::start(path.clone(), Duration::from_secs(60)).expect("started");
        slate.owes(vec![duty(7)]);
        drop(slate);
        let mut slate = Slate::start(path.clone(), Duration::from_millis(1)).expect("started");
        slate.turned(clock::time());
        drop(slate);
        let last = Word::read(&path).expect("read").expect("of this boot");
        assert_eq!(last.duties, []);
    }

    #[test]
    fn the_word_of_another_boot_or_version_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sengu.guard");
        let mut word = Word::new(Time(5), vec![duty(7)]).expect("made");
        word.boot = "another".to_owned();
        word.write(&path).expect("written");
        assert_eq!(Word::read(&path).expect("read"), None);
        word.format = 2;
        word.write(&path).expect("written");
        let error = Word::read(&path).expect_err("not understood").to_string();
        assert!(error.contains("format 2"), "{error}");
    }
}
