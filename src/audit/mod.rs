//! The audit: every change that a person or a tool asked for, who asked, and how it ended.
//!
//! Lines of JSON in `data_dir/audit`, kept over restarts. What came over the socket, over HTTP and
//! by commands without the agent stands apart, so that a busy tool cannot push a person's deeds
//! out, and each file has one writer. Each is bounded: a file that is full becomes the one before
//! it, and the one before that goes. Writing is done by a thread of its own and holds up nobody;
//! lines that it could not keep are counted in the next. Values, tokens and secrets are never
//! written.

mod shelf;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use sengu_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::metrics;
use shelf::Shelf;
pub use shelf::{Bounds, Tail};

/// Lines that wait for the disk at most.
const WAITING: usize = 1024;

/// The way by which something was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The operator's socket.
    Socket,
    /// The HTTP server.
    Http,
    /// A command that works on this host's files without the agent.
    Command,
}

impl Via {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Http => "http",
            Self::Command => "command",
        }
    }
}

/// Who asked, as the system knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Who {
    /// The user's name, where it has one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The address and port that it asked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The name of the token that it showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Who {
    /// The user at the other end of a unix socket, and the process.
    #[must_use]
    pub fn user(uid: u32, pid: Option<i32>) -> Self {
        let program = pid.and_then(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some(name.trim().chars().take(32).collect())
        });
        let user = crate::operator::user_name(uid);
        Self { user, uid: Some(uid), pid, program, ..Self::default() }
    }

    /// This process and its user.
    #[must_use]
    pub fn own() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::user(rustix::process::getuid().as_raw(), Some(pid))
    }

    /// In words: `root (pid 812, curl)`, `token deploy (10.0.0.5:4711)`, or an address.
    #[must_use]
    pub fn words(&self) -> String {
        let uid = self.uid.map(|uid| format!("uid {uid}"));
        let name = self.user.clone().or(uid);
        let process = match (self.pid, &self.program) {
            (Some(pid), Some(program)) => format!(" (pid {pid}, {program})"),
            (Some(pid), None) => format!(" (pid {pid})"),
            (None, _) => String::new(),
        };
        if let Some(token) = &self.token {
            let address = self.address.map(|address| format!(" ({address})"));
            return format!("token {token}{}", address.unwrap_or_default());
        }
        match (name, self.address) {
            (Some(name), _) => format!("{name}{process}"),
            (None, Some(address)) => address.to_string(),
            (None, None) => "unknown".to_owned(),
        }
    }
}

/// Something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// When it came.
    pub at: Wall,
    /// By which way.
    pub via: Via,
    /// Who asked.
    pub who: Who,
    /// What, in words or as method and path.
    pub what: String,
    /// Was it done?
    pub good: bool,
    /// How it ended, in words.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Grows by one with each line of its file, over restarts.
    pub number: u64,
    /// When it came, by this host's wall clock, in milliseconds since 1970.
    pub at: Wall,
    /// By which way.
    pub via: Via,
    /// Who asked.
    pub who: Who,
    /// What.
    pub what: String,
    /// Was it done?
    pub good: bool,
    /// How it ended.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Lines before this one that could not be kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The files of a folder, in the order of [`Via`].
pub const FILES: [&str; 3] = ["socket.jsonl", "http.jsonl", "commands.jsonl"];

/// Where the audit of an agent stands.
#[must_use]
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("audit")
}

/// The writer.
#[derive(Debug)]
pub struct Audit {
    deeds: Mutex<Option<SyncSender<Deed>>>,
    lost: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// One that keeps nothing: for servers without a folder.
    #[must_use]
    pub fn off() -> Self {
        Self { deeds: Mutex::new(None), lost: AtomicU64::new(0), writer: Mutex::new(None) }
    }

    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// The system's, if it cannot be made or read; the agent goes on without an audit only if its
    /// owner takes that.
    pub fn open(data_dir: &Path, bounds: Bounds) -> std::io::Result<Self> {
        let folder = folder(data_dir);
        let mut shelves = Vec::new();
        // The last one is for commands alone.
        for file in &FILES[..2] {
            shelves.push(Shelf::open(&folder.join(file), bounds)?);
        }
        let (deeds, waiting) = sync_channel::<Deed>(WAITING);
        let write = move || {
            for deed in waiting {
                let shelf = usize::from(deed.via == Via::Http);
                metrics::get().audit.get_or_create(&[("via", deed.via.as_str())]).inc();
                shelves[shelf].write(deed);
            }
        };
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(write)?;
        Ok(Self {
            deeds: Mutex::new(Some(deeds)),
            lost: AtomicU64::new(0),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes one deed down, soon.
    pub fn note(&self, deed: Deed) {
        let deeds = self.deeds.lock().expect("nothing panics while it holds this");
        let Some(deeds) = &*deeds else { return };
        if let Err(TrySendError::Full(deed) | TrySendError::Disconnected(deed)) =
            deeds.try_send(deed)
        {
            let lost = self.lost.fetch_add(1, Ordering::SeqCst) + 1;
            if lost.is_power_of_two() {
                tracing::warn!(lost, "the audit cannot keep up; not kept: {}", deed.what);
            }
        }
    }

    /// Waits until everything is written.
    pub fn end(&self) {
        *self.deeds.lock().expect("nothing panics while it holds this") = None;
        let writer = self.writer.lock().expect("nothing panics while it holds this").take();
        if let Some(writer) = writer {
            // If it panicked, it has said so.
            let _ = writer.join();
        }
    }
}

/// Writes one deed of a command that works without the agent; a folder that cannot be written is
/// told, and does not stop the command.
pub fn note_alone(data_dir: &Path, deed: Deed) {
    let shelf = Shelf::open(&folder(data_dir).join(FILES[2]), Bounds::default());
    match shelf {
        Ok(mut shelf) => shelf.write(deed),
        Err(error) => tracing::warn!(%error, "this was not written to the audit"),
    }
}

/// All lines that are kept, oldest first; the files merged by time.
///
/// # Errors
/// The system's. Files that are not there are empty.
pub fn read(data_dir: &Path) -> std::io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in FILES {
        lines.extend(shelf::read(&folder(data_dir).join(file))?);
    }
    lines.sort_by_key(|line: &Line| line.at);
    Ok(lines)
}

#[cfg(test)]
mod tests;
