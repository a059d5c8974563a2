//! A child process that ends with its owner, and with the test's thread if that is ended hard.
//!
//! Signals go to the process that was started, never to a name.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::soon;

/// A running program.
#[derive(Debug)]
pub struct Child {
    process: Process,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts a program with its output appended to a file.
    ///
    /// # Errors
    /// If the file or the program cannot be opened.
    pub fn start(
        arguments: &[String],
        log: &Path,
        environment: &[(&str, &str)],
    ) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        // The kernel ends it if the starting thread ends without dropping it.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        Ok(Self { process, ended: None })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // It may have exited since; it is not reaped yet, so the id is still its own.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        soon(within, || self.exited())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            // Fails only if it has exited already.
            let _ = self.process.kill();
            self.ended = self.process.wait().ok();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
