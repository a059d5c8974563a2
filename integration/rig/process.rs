//! The process of one database server, and a supervisor that starts it again at once, where a
//! test wants one. It knows nothing of the database: how to empty its folder is told to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::Child;
use super::mysql::template::copy;

/// A stopped process stands still by then.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What happens when the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// Nothing.
    None,
    /// It is started again at once, with what its disk has.
    Restart,
    /// The same after a while, as most supervisors do.
    RestartLate(Duration),
    /// It is started again at once, with nothing.
    RestartEmptied,
}

/// A process that ends at once is started again only so often.
const LOOPING: Duration = Duration::from_millis(100);

/// A process that can be started again in the same way; ended when this is dropped.
#[derive(Debug)]
pub struct Process {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    command: Vec<String>,
    empty: fn(&Path),
    child: Mutex<Child>,
    supervision: Mutex<Supervision>,
    starts: AtomicU32,
    over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed elsewhere does not matter here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn launch(command: &[String], folder: &Path) -> Child {
    Child::start(command, &folder.join("log"), &[]).expect("the server can be started")
}

impl Shared {
    fn start(&self) -> Child {
        self.starts.fetch_add(1, Ordering::SeqCst);
        launch(&self.command, &self.folder)
    }

    fn keep(&self) {
        // Of the life that it has looked at: when it began, and when it was seen to be over.
        let (mut life, mut ended) = ((0, Instant::now()), None);
        while !self.over.load(Ordering::SeqCst) {
            {
                let mut child = locked(&self.child);
                let supervision = *locked(&self.supervision);
                if life.0 != child.pid() {
                    (life, ended) = ((child.pid(), Instant::now()), None);
                }
                if supervision != Supervision::None && child.exited().is_some() {
                    let since = *ended.get_or_insert_with(Instant::now);
                    let late = match supervision {
                        Supervision::RestartLate(late) => since.elapsed() < late,
                        _ => life.1.elapsed() < LOOPING,
                    };
                    if !late {
                        if supervision == Supervision::RestartEmptied {
                            (self.empty)(&self.folder);
                        }
                        *child = self.start();
                    }
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Process {
    /// Starts it, with its output in the file `log` of its folder; `empty` takes its data out of
    /// that folder.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(folder: &Path, command: Vec<String>, empty: fn(&Path)) -> Self {
        let child = Mutex::new(launch(&command, folder));
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            command,
            empty,
            child,
            supervision: Mutex::new(Supervision::None),
            starts: AtomicU32::new(1),
            over: AtomicBool::new(false),
        });
        let kept = Arc::clone(&shared);
        Self { shared, keeper: Some(thread::spawn(move || kept.keep())) }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = fs::read(self.folder().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// What happens when it ends.
    pub fn supervise(&self, supervision: Supervision) {
        *locked(&self.shared.supervision) = supervision;
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::SeqCst)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        locked(&self.shared.child).pid()
    }

    /// Has it exited?
    #[must_use]
    pub fn exited(&self) -> bool {
        locked(&self.shared.child).exited().is_some()
    }

    /// SIGKILL. It is gone afterwards, unless a supervisor was faster.
    pub fn kill(&self) {
        locked(&self.shared.child).kill();
    }

    /// Any signal.
    pub fn signal(&self, signal: Signal) {
        locked(&self.shared.child).signal(signal);
    }

    /// SIGSTOP, and a wait until none of its threads runs: on a busy machine some go on for a while
    /// after the signal was sent.
    ///
    /// # Panics
    /// If it does not stand still in time.
    pub fn stop(&self) {
        let pid = {
            let mut child = locked(&self.shared.child);
            child.signal(Signal::STOP);
            child.pid()
        };
        super::soon(STOPS_WITHIN, || stands_still(pid).then_some(())).expect("it stands still");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again after its end, with what its disk has.
    pub fn restart(&self) {
        let mut child = locked(&self.shared.child);
        child.kill();
        *child = self.shared.start();
    }

    /// Copies this part of its folder aside, as it is at one moment: it stands still meanwhile.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn keep_aside(&self, part: &str) {
        let aside = self.aside();
        // What is not there needs no removal.
        let _ = fs::remove_dir_all(&aside);
        self.stop();
        let copied = copy(&self.shared.folder.join(part), &aside);
        self.resume();
        copied.expect("its data can be copied");
    }

    /// Puts that part of its folder back as it was kept aside. Only of one that has ended.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn put_back(&self, part: &str) {
        let (aside, data) = (self.aside(), self.shared.folder.join(part));
        fs::remove_dir_all(&data).expect("its data can be removed");
        copy(&aside, &data).expect("its data can be copied");
        fs::remove_dir_all(&aside).expect("the copy can be removed");
    }

    /// Beside its folder, which may be a disk of its own.
    fn aside(&self) -> PathBuf {
        self.shared.folder.with_extension("aside")
    }

    /// The same with nothing on its disk.
    pub fn restart_emptied(&self) {
        let mut child = locked(&self.shared.child);
        child.kill();
        (self.shared.empty)(&self.shared.folder);
        *child = self.shared.start();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(keeper) = self.keeper.take() {
            // It panics only if a restart failed, which the test has seen.
            let _ = keeper.join();
        }
        self.kill();
    }
}

/// Is every thread of a process stopped? (`/proc/PID/task/TID/stat`, proc_pid_stat(5))
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    let stats = threads.flatten().filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
    let state = |stat: &str| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    stats.into_iter().all(|stat| matches!(state(&stat), Some('T' | 'Z' | 'X')))
}
