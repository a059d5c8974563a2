//! One run of an operator's program: bounded in time, in output and in what it leaves behind.
//!
//! A program is its argv, never a shell line. It gets a clean environment, no standard input and
//! a process group of its own. At its deadline the group gets SIGTERM and, one second later,
//! SIGKILL. What it prints is read all the time, so that it never blocks, and only the end is
//! kept. A program that exits in time may leave a daemon behind: its exit counts, and the pipe
//! that the daemon still holds is let go after 200 ms.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::account::Account;

/// From SIGTERM to SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How long a pipe is still read that a program's children hold open.
const DRAIN: Duration = Duration::from_millis(200);

/// A program that is being written is tried again so often, with this wait between.
const BUSY_TRIES: u32 = 5;
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// Where programs without a path are looked for, if the agent itself was not told.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run, and its bounds.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Beside PATH, LANG and HOME.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// It may run for so long.
    pub(crate) deadline: Duration,
    /// So many of the last bytes that it prints are kept.
    pub(crate) keep: usize,
    /// The `user` or `user:group` that it runs as; none: the agent's.
    pub(crate) user: Option<String>,
    /// The folder that it runs in.
    pub(crate) folder: PathBuf,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with 0.
    Well,
    /// Any other way: in words that follow the program's name.
    Badly(String),
}

/// A run, after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// How it ended.
    pub(crate) ended: Ended,
    /// The last of what it printed, standard output and error in the order they came.
    pub(crate) output: String,
}

/// Is there such a program, and may it be run? Without a path it is looked for as a start does.
///
/// # Errors
/// Why not, in words that follow its name.
pub(crate) fn found(program: &str) -> Result<(), String> {
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty());
    let path = path.unwrap_or_else(|| DEFAULT_PATH.to_owned());
    let places: Vec<PathBuf> = if program.contains('/') {
        vec![PathBuf::from(program)]
    } else {
        std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
    };
    let runs = |file: &PathBuf| {
        file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if places.iter().any(runs) {
        return Ok(());
    }
    Err(if places.iter().any(|file| file.is_file()) {
        "may not be run: make it executable (chmod +x)".to_owned()
    } else {
        "was not found: check its path".to_owned()
    })
}

impl Program {
    /// Its name in messages. Arguments are left out: they may hold what nobody should read.
    pub(crate) fn name(&self) -> &str {
        self.argv.first().map_or("(no program)", String::as_str)
    }

    /// Runs it. Dropping the future kills the group.
    pub(crate) async fn run(&self) -> Run {
        let mut started = self.start();
        for _ in 0..BUSY_TRIES {
            // Somebody has it open for writing this moment: an update of the program.
            if !started.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ExecutableFileBusy) {
                break;
            }
            sleep(BUSY_WAIT).await;
            started = self.start();
        }
        match started {
            Ok((child, pipe)) => self.watch(child, pipe).await,
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound if !self.folder.is_dir() => {
                        format!("cannot run in {}: there is no such folder", self.folder.display())
                    }
                    io::ErrorKind::NotFound => {
                        "was not found: check its path and the interpreter in its first line"
                            .to_owned()
                    }
                    io::ErrorKind::PermissionDenied => {
                        "may not be run: make it executable (chmod +x)".to_owned()
                    }
                    _ => format!("cannot be started: {error}"),
                };
                Run { ended: Ended::Badly(reason), output: String::new() }
            }
        }
    }

    fn start(&self) -> io::Result<(Child, pipe::Receiver)> {
        let [program, arguments @ ..] = self.argv.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its command is empty"));
        };
        let (reader, writer) = io::pipe()?;
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let inherited = |name: &str, default: &str| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .unwrap_or_else(|| default.to_owned())
        };
        let mut command = Command::new(program);
        // Another user has another home, which nobody asks the system for here.
        let mut home = inherited("HOME", "/");
        if let Some(user) = &self.user {
            let account = Account::find(user).map_err(io::Error::other)?;
            // Without a group of its own it has the user's number as one: no rights of the agent's.
            command.uid(account.user).gid(account.group.unwrap_or(account.user));
            home = "/".to_owned();
        }
        let child = command
            .args(arguments)
            .env_clear()
            .env("PATH", inherited("PATH", DEFAULT_PATH))
            .env("LANG", inherited("LANG", "C.UTF-8"))
            .env("HOME", home)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        // The command held the pipe's other end; it is gone here, so the end of all writers shows.
        Ok((child, reader))
    }

    async fn watch(&self, mut child: Child, mut pipe: pipe::Receiver) -> Run {
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let mut tail = Tail { kept: Vec::new(), keep: self.keep };
        let exit = {
            let reading = tail.read(&mut pipe);
            tokio::pin!(reading);
            let waiting = timeout(self.deadline, child.wait());
            tokio::pin!(waiting);
            let mut open = true;
            loop {
                tokio::select! {
                    exit = &mut waiting => break exit,
                    () = &mut reading, if open => open = false,
                }
            }
        };
        let ended = match exit {
            Ok(Ok(status)) => {
                // What it left running on purpose goes on.
                group.0 = None;
                ended(status)
            }
            Ok(Err(error)) => Ended::Badly(format!("cannot be waited for: {error}")),
            Err(_) => {
                group.end(&mut child, tail.read(&mut pipe)).await;
                Ended::Badly(format!(
                    "did not end within {:?} and was killed with its process group",
                    self.deadline
                ))
            }
        };
        let _ = timeout(DRAIN, tail.read(&mut pipe)).await;
        Run { ended, output: tail.text() }
    }
}

fn ended(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well,
        (Some(code), _) => Ended::Badly(format!("exited with {code}")),
        (None, Some(signal)) => Ended::Badly(format!("was ended by signal {signal}")),
        (None, None) => Ended::Badly("ended without a status".to_owned()),
    }
}

/// A process group that must not outlive its run.
struct Group(Option<Pid>);

impl Group {
    /// SIGTERM, at most [`GRACE`], SIGKILL; what it prints meanwhile is still read.
    async fn end(&mut self, child: &mut Child, reading: impl Future<Output = ()>) {
        let Some(pid) = self.0 else { return };
        let _ = kill_process_group(pid, Signal::TERM);
        let gone = async {
            let _ = child.wait().await;
            // Members that outlive the leader have the rest of the second.
            while test_kill_process_group(pid).is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let read_on = async {
            reading.await;
            std::future::pending().await
        };
        let in_time = timeout(GRACE, async {
            tokio::select! { () = gone => {}, () = read_on => {} }
        });
        if in_time.await.is_err() {
            let _ = kill_process_group(pid, Signal::KILL);
            // SIGKILL cannot be refused; only a process in the kernel's hands can be late.
            let _ = timeout(GRACE, child.wait()).await;
        }
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The last bytes of a stream.
struct Tail {
    kept: Vec<u8>,
    keep: usize,
}

impl Tail {
    /// Reads to the end of the stream; may be dropped and called again.
    async fn read(&mut self, pipe: &mut pipe::Receiver) {
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => self.put(&buffer[..count]),
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > self.keep.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let over = self.kept.len().saturating_sub(self.keep);
        self.kept.drain(..over);
    }

    fn text(mut self) -> String {
        self.cut();
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, deadline: Duration) -> Program {
        Program {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            environment: vec![("SENGU_PHASE", "before-failover".to_owned())],
            deadline,
            keep: 4096,
            user: None,
            folder: "/".into(),
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn output_and_exit_are_told() {
        let run = shell("echo out; echo err >&2; exit 3", LONG).run().await;
        assert_eq!(run.ended, Ended::Badly("exited with 3".to_owned()));
        assert_eq!(run.output, "out\nerr\n");
        let run = shell("kill -9 $$", LONG).run().await;
        assert_eq!(run.ended, Ended::Badly("was ended by signal 9".to_owned()));
        assert_eq!(shell("exit 0", LONG).run().await.ended, Ended::Well);
    }

    #[tokio::test]
    async fn the_environment_is_clean_and_there_is_no_input() {
        let run = shell("cat; pwd; env | sort", LONG).run().await;
        let names: Vec<&str> =
            run.output.lines().skip(1).map(|line| line.split('=').next().expect("=")).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH", "PWD", "SENGU_PHASE"]);
        assert!(run.output.starts_with("/\n"), "{}", run.output);
    }

    #[tokio::test]
    async fn a_missing_program_says_so() {
        let mut program = shell("", LONG);
        program.argv = vec!["/nowhere/announce".to_owned()];
        assert!(
            matches!(program.run().await.ended, Ended::Badly(why) if why.contains("not found"))
        );
        program.argv.clear();
        assert!(matches!(program.run().await.ended, Ended::Badly(why) if why.contains("empty")));
        let folder = tempfile::tempdir().expect("temp");
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "#!/bin/sh\n").expect("write");
        program.argv = vec![plain.to_str().expect("text").to_owned()];
        assert!(matches!(program.run().await.ended, Ended::Badly(why) if why.contains("chmod")));
    }

    #[tokio::test]
    async fn ten_megabytes_neither_block_nor_grow() {
        let run = shell("head -c 10000000 /dev/zero | tr '\\0' x; echo end", LONG).run().await;
        assert_eq!(run.ended, Ended::Well);
        assert_eq!(run.output.len(), 4096);
        assert!(run.output.ends_with("xxend\n"));
    }

    #[tokio::test]
    async fn output_without_end_is_ended_at_the_deadline() {
        let began = Instant::now();
        let run = shell("yes", Duration::from_millis(300)).run().await;
        assert!(matches!(run.ended, Ended::Badly(why) if why.contains("300ms")));
        assert!(run.output.len() <= 4096 && run.output.contains("y\ny\n"));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_pipe_does_not_hold_the_run() {
        let began = Instant::now();
        let run = shell("echo started; sleep 30 & echo $!", LONG).run().await;
        assert_eq!(run.ended, Ended::Well);
        assert!(began.elapsed() < Duration::from_secs(10));
        let pid: i32 = run.output.lines().nth(1).expect("pid").parse().expect("number");
        let pid = Pid::from_raw(pid).expect("pid");
        rustix::process::test_kill_process(pid).expect("the daemon goes on");
        rustix::process::kill_process(pid, Signal::KILL).expect("end it");
    }

    #[tokio::test]
    async fn the_whole_group_is_killed_even_if_it_ignores_the_first_signal() {
        let folder = tempfile::tempdir().expect("temp");
        let file = folder.path().join("pids");
        let script = format!(
            "trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & echo $! $$ >{}; \
             while :; do sleep 0.05; done",
            file.display()
        );
        let began = Instant::now();
        let run = shell(&script, Duration::from_millis(500)).run().await;
        assert!(matches!(run.ended, Ended::Badly(_)));
        assert!(began.elapsed() >= GRACE, "the grace was given");
        let pids = std::fs::read_to_string(&file).expect("pids");
        for pid in pids.split_whitespace() {
            gone(pid.parse().expect("number")).await;
        }
    }

    #[tokio::test]
    async fn a_dropped_run_leaves_nobody() {
        let folder = tempfile::tempdir().expect("temp");
        let file = folder.path().join("pids");
        let script =
            format!("sleep 60 & echo $! $$ >{0}.new; mv {0}.new {0}; wait", file.display());
        let program = shell(&script, LONG);
        let running = tokio::spawn(async move { program.run().await });
        while !file.exists() {
            sleep(Duration::from_millis(10)).await;
        }
        running.abort();
        let pids = std::fs::read_to_string(&file).expect("pids");
        for pid in pids.split_whitespace() {
            gone(pid.parse().expect("number")).await;
        }
    }

    /// Ended; an orphan may stay a zombie until init looks.
    async fn gone(pid: i32) {
        let ended = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")),
            Err(_) => true,
        };
        let wait = async {
            while !ended() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(Duration::from_secs(10), wait).await.is_ok(), "{pid} still runs");
    }
}
