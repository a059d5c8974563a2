//! What the service manager is told: ready, reloading, stopping, alive, and a line of status.
//!
//! The words are systemd's (sd_notify(3)). A thread of its own sends them, so that a service
//! manager that does not read holds up nobody; it has nothing to say of itself. The sign of life is
//! one turn of the loop that decides ([`Pulse`]): a loop that stands still is dead for the service
//! manager, whatever else of the process runs. Without `NOTIFY_SOCKET` nothing is told.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;
use sengu_core::time::Time;

/// Words that wait at most; more are dropped, since the service manager does not read.
const WAITING: usize = 32;
/// How long the last words may take.
const LAST: Duration = Duration::from_secs(1);
/// How often the line of status is made anew where nobody asks for signs of life.
const STATUS: Duration = Duration::from_secs(5);

/// One thing to tell.
enum Word {
    Ready,
    Reloading,
    Stopping,
    Status(String),
    Alive,
    End,
}

/// The sending thread; dropping it waits for the last words, for a bounded time.
#[derive(Debug)]
pub struct Notifier {
    voice: Voice,
    ended: Receiver<()>,
}

/// Tells, and waits for nothing.
#[derive(Debug, Clone, Default)]
pub struct Voice(Option<SyncSender<Word>>);

impl Notifier {
    /// For the service manager that this process's environment names, if any.
    #[must_use]
    pub fn of_environment() -> Self {
        let (done, ended) = sync_channel(0);
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self { voice: Voice::default(), ended };
        }
        let (words, heard) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("sengu-notify".to_owned());
        let started = thread.spawn(move || {
            send(&heard);
            drop(done);
        });
        match started {
            Ok(_) => Self { voice: Voice(Some(words)), ended },
            Err(error) => {
                tracing::warn!(%error, "the service manager is told nothing");
                Self { voice: Voice::default(), ended }
            }
        }
    }

    /// To tell it something.
    #[must_use]
    pub fn voice(&self) -> Voice {
        self.voice.clone()
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.voice.say(Word::End);
        // It lets go of the other end when all is said; a service manager that does not read is
        // not waited for any longer.
        let _ = self.ended.recv_timeout(LAST);
    }
}

impl Voice {
    /// It does its work from now on; also the end of a reload.
    pub fn ready(&self) {
        self.say(Word::Ready);
    }

    /// It reads its configuration anew; [`Voice::ready`] ends that.
    pub fn reloading(&self) {
        self.say(Word::Reloading);
    }

    /// It ends.
    pub fn stopping(&self) {
        self.say(Word::Stopping);
    }

    /// What it does, in a line.
    pub fn status(&self, line: String) {
        self.say(Word::Status(line));
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.0 {
            // Full or gone: the service manager does not read, and judges by that.
            let _ = words.try_send(word);
        }
    }
}

/// Sends until told to end, or until nobody could tell anything more.
fn send(words: &Receiver<Word>) {
    while let Ok(word) = words.recv() {
        let sent = match &word {
            Word::Ready => sd_notify::notify(&[NotifyState::Ready]),
            Word::Reloading => match NotifyState::monotonic_usec_now() {
                Ok(now) => sd_notify::notify(&[NotifyState::Reloading, now]),
                Err(_) => sd_notify::notify(&[NotifyState::Reloading]),
            },
            Word::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Word::Status(line) => sd_notify::notify(&[NotifyState::Status(line)]),
            Word::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
            Word::End => return,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// The sign of life of a loop, given by each of its turns, and rarely enough sent.
#[derive(Debug)]
pub struct Pulse {
    voice: Voice,
    /// The service manager asks for signs of life.
    watched: bool,
    every: Duration,
    next: Time,
    told: String,
}

impl Pulse {
    /// For the loop that proves that the process does its work: exactly one.
    #[must_use]
    pub fn new(voice: Voice) -> Self {
        // Of several chances within the time that it waits, two may be missed.
        let watched = sd_notify::watchdog_enabled().map(|within| within / 4);
        let every = watched.unwrap_or(STATUS);
        Self { voice, watched: watched.is_some(), every, next: Time::ZERO, told: String::new() }
    }

    /// The longest that the loop may wait for its next turn.
    #[must_use]
    pub fn pause(&self) -> Duration {
        if self.watched { self.every } else { Duration::MAX }
    }

    /// The loop has turned.
    pub fn turned(&mut self, now: Time, status: impl FnOnce() -> String) {
        if self.voice.0.is_none() || now < self.next {
            return;
        }
        self.next = now + self.every;
        if self.watched {
            self.voice.say(Word::Alive);
        }
        let status = status();
        if self.told != status {
            self.told.clone_from(&status);
            self.voice.status(status);
        }
    }
}
