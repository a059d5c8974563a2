//! The process behind an address on this host: found by its listening socket, held by a pidfd.
//!
//! A pid alone says nothing: it may be another's by the time it is used. Here a process is one
//! *life* of a pid, told apart by its start ticks and held by a pidfd, which never comes to mean
//! another process. It is gone when the pidfd says so and not before: a port that refuses, a
//! missing pid file or an answer that does not come prove nothing.
//!
//! Reads `/proc` only; asks no service, starts nothing, and signals only by pidfd.

mod listener;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
use sengu_core::name::BootId;
use sengu_core::observation;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use listener::{FindError, find};

/// Children looked at for one [`Process::activity`]; a database forks one at a time.
const MAX_CHILDREN: usize = 16;

/// One life of a process, held by a pidfd.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    boot_id: BootId,
    pidfd: OwnedFd,
    /// CPU ticks of it and of its children at the last look.
    ticks_seen: Mutex<BTreeMap<u32, u64>>,
}

/// Waits until exactly this life of a process has ended; at once if it is not there.
pub async fn ended(boot_id: &BootId) {
    let mut parts = boot_id.0.split(':');
    let (host, pid) = (parts.next(), parts.next().and_then(|pid| pid.parse().ok()));
    if host_boot_id().is_ok_and(|own| host != Some(&*own)) {
        return; // The host has booted since.
    }
    let Some(pid) = pid else { return };
    loop {
        match Process::open(pid) {
            Ok(process) if process.boot_id() == boot_id => return process.exited().await,
            Ok(_) => return, // Another life has the pid.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if error.raw_os_error() == Some(3) => return, // ESRCH
            // Out of descriptors, or not permitted: what is not known is not said.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Process {
    /// Takes hold of a running process.
    ///
    /// # Errors
    /// If there is none with this pid, if it ended meanwhile, or without `/proc` or pidfds
    /// (Linux before 5.3).
    pub fn open(pid: u32) -> io::Result<Self> {
        let before = Stat::read(pid)?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = pidfd_open(raw.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
        // The pid may have changed hands between the two calls; the ticks would tell.
        if Stat::read(pid)?.started != before.started {
            return Err(io::ErrorKind::NotFound.into());
        }
        let boot_id = BootId(format!("{}:{pid}:{}", host_boot_id()?, before.started).into());
        Ok(Self { pid, boot_id, pidfd, ticks_seen: Mutex::default() })
    }

    /// Its pid, as this host numbers it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Which life it is: the host's boot id, pid and start ticks.
    #[must_use]
    pub fn boot_id(&self) -> &BootId {
        &self.boot_id
    }

    /// Has it exited, all its threads with it? By the pidfd, at once.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ready = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        ready.is_ok_and(|count| count > 0)
    }

    /// Waits until it has exited; needs a tokio runtime with I/O.
    pub async fn exited(&self) {
        // A copy, because one descriptor can be registered only once and there may be several
        // who wait.
        if let Ok(waiter) = self.pidfd.try_clone().and_then(watched) {
            while !self.is_gone() {
                match waiter.readable().await {
                    Ok(mut ready) if !self.is_gone() => ready.clear_ready(),
                    Ok(_) => return,
                    Err(_) => break,
                }
            }
        }
        // Out of descriptors: look often instead.
        while !self.is_gone() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// May this agent signal it? Asked with signal 0, which does nothing.
    ///
    /// # Errors
    /// `PermissionDenied`, or `NotFound` once it is gone.
    pub fn killable(&self) -> io::Result<()> {
        let raw = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        test_kill_process(raw.ok_or(io::ErrorKind::InvalidInput)?)?;
        // Not gone now, so the pid was its own when it was asked about.
        if self.is_gone() { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    /// Sends SIGKILL, by pidfd. Once sent, the process runs no more of its own code, even if it
    /// waits for a disk and its exit comes late.
    ///
    /// # Errors
    /// `PermissionDenied`, or `NotFound` once it is gone.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::KILL)?)
    }

    /// What it does now, against the last time this was asked.
    #[must_use]
    pub fn activity(&self) -> observation::Process {
        if self.is_gone() {
            return observation::Process::Gone;
        }
        let Ok(stat) = Stat::read(self.pid) else { return observation::Process::Unknown };
        let mut ticks = BTreeMap::from([(self.pid, stat.ticks)]);
        let mut works = stat.state == 'R';
        for child in children(self.pid) {
            let Ok(stat) = Stat::read(child) else { continue };
            works |= matches!(stat.state, 'R' | 'D');
            ticks.insert(child, stat.ticks);
        }
        let mut seen = self.ticks_seen.lock().unwrap_or_else(PoisonError::into_inner);
        works |= ticks.iter().any(|(pid, now)| seen.get(pid).is_some_and(|before| now > before));
        *seen = ticks;
        match stat.state {
            'T' | 't' => observation::Process::Stopped,
            _ if works => observation::Process::Running,
            'D' => observation::Process::DiskWait,
            'S' | 'I' => observation::Process::Sleeping,
            _ => observation::Process::Unknown,
        }
    }

    /// The arguments it was started with. A process may write over them (Redis does, unless
    /// `set-proc-title` is `no`); then they are a single title.
    ///
    /// # Errors
    /// If `/proc` does not tell.
    pub fn arguments(&self) -> io::Result<Vec<String>> {
        let raw = fs::read(format!("/proc/{}/cmdline", self.pid))?;
        let text = String::from_utf8_lossy(&raw);
        Ok(text.trim_end_matches('\0').split('\0').map(str::to_owned).collect())
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe because a type could lie about its descriptor; an owned \
              descriptor stays open and the same for as long as it is watched"
)]
fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
struct Stat {
    /// Field 3.
    state: char,
    /// Field 4.
    parent: u32,
    /// Fields 14 and 15: user and system time of all threads, in clock ticks.
    ticks: u64,
    /// Field 22: start, in clock ticks since the host booted.
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in field 2 may hold blanks and brackets of its own.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(4)?).ok()?,
            ticks: number(14)?.saturating_add(number(15)?),
            started: number(22)?,
        })
    }
}

fn children(pid: u32) -> Vec<u32> {
    // Forks of a database come from its main thread. Absent on kernels without checkpointing.
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let numbers = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    numbers.take(MAX_CHILDREN).collect()
}

pub(crate) fn host_boot_id() -> io::Result<Arc<str>> {
    static BOOT_ID: OnceLock<Arc<str>> = OnceLock::new();
    if let Some(known) = BOOT_ID.get() {
        return Ok(Arc::clone(known));
    }
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(Arc::clone(BOOT_ID.get_or_init(|| text.trim().into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep starts")
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 0 0 0 11 22 0 0 20 0 1 0 998877 1 2";
        let stat = Stat::parse(text).expect("parses");
        assert_eq!((stat.state, stat.parent), ('S', 7));
        assert_eq!((stat.ticks, stat.started), (33, 998_877));
    }

    #[tokio::test]
    async fn a_killed_process_is_gone_at_once_and_its_next_life_is_another() {
        let mut fastest = Duration::MAX;
        let mut lives = Vec::new();
        // The machine may be busy with something else: the best of three counts.
        for _ in 0..3 {
            let mut child = sleeper();
            let process = Process::open(child.id()).expect("opens");
            assert!(!process.is_gone());
            process.killable().expect("our own child");
            let waiting = async {
                tokio::join!(process.exited(), process.exited());
                Instant::now()
            };
            let killing = async {
                process.kill().expect("kills");
                Instant::now()
            };
            let (exited, killed) = tokio::join!(waiting, killing);
            fastest = fastest.min(exited.saturating_duration_since(killed));
            assert_eq!(process.activity(), observation::Process::Gone);
            child.wait().expect("reaped");
            assert!(process.killable().is_err(), "gone");
            assert!(!lives.contains(process.boot_id()), "one life twice");
            lives.push(process.boot_id().clone());
        }
        assert!(fastest < Duration::from_millis(50), "took {fastest:?}");
    }

    #[test]
    fn a_stopped_process_is_stopped_and_a_busy_one_runs() {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh");
        let process = Process::open(child.id()).expect("opens");
        let until = Instant::now() + Duration::from_secs(5);
        while process.activity() != observation::Process::Running {
            assert!(Instant::now() < until, "never seen to run");
            std::thread::yield_now();
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("fits")).expect("a pid");
        rustix::process::kill_process(pid, Signal::STOP).expect("stops");
        while process.activity() != observation::Process::Stopped {
            assert!(Instant::now() < until, "never seen stopped");
            std::thread::yield_now();
        }
        process.kill().expect("kills");
        child.wait().expect("reaped");
    }
}
