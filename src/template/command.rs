//! The command of a template: runs after the file changed, once for each content, until it
//! succeeds.
//!
//! It runs beside the rendering, never in its way: a master's line leaves the file on time even
//! while a slow reload runs. Content that changes during a run is commanded after it.

use std::time::Duration;

use sengu_core::time::{Now, Time, Wall};
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::memory::Memory;
use super::status::CommandStatus;
use crate::config::TemplateConfig;
use crate::hook::program::{Ended, Program, Run};

/// So much of what programs print is kept, in bytes.
pub(crate) const OUTPUT_KEPT: usize = 64 << 10;

/// A program of a template.
pub(crate) fn program(argv: &[String], deadline: Duration) -> Program {
    Program {
        argv: argv.to_vec(),
        environment: Vec::new(),
        deadline,
        keep: OUTPUT_KEPT,
        user: None,
        folder: "/".into(),
    }
}

/// A template's command, and where it stands.
#[derive(Debug)]
pub(crate) struct Command {
    program: Option<Program>,
    running: JoinSet<(u64, Run)>,
    backoff: Backoff,
    attempts: u64,
}

impl Command {
    pub(crate) fn new(config: &TemplateConfig) -> Self {
        let program = config.command.as_ref().map(|argv| program(argv, config.timeout));
        Self { program, running: JoinSet::new(), backoff: Backoff::default(), attempts: 0 }
    }

    /// The file has other bytes now: earlier failures say nothing about them.
    pub(crate) fn anew(&mut self) {
        self.backoff.clear();
        self.attempts = 0;
    }

    /// That it will run for what is in the file now; nothing new while a run for earlier content
    /// goes on.
    pub(crate) fn waiting(&self, memory: &Memory, now: Now) -> Option<CommandStatus> {
        self.program.as_ref().filter(|_| self.running.is_empty())?;
        memory.printed.filter(|printed| memory.commanded != Some(*printed))?;
        Some(self.status("waiting", now.wall, None, String::new(), None))
    }

    /// When it is tried again.
    pub(crate) fn retry(&self) -> Option<Time> {
        self.backoff.at()
    }

    /// Starts it if it is owed and its time has come.
    pub(crate) fn start(&mut self, memory: &Memory, now: Now) -> Option<CommandStatus> {
        let program = self.program.as_ref()?;
        let owed = memory.printed.filter(|printed| memory.commanded != Some(*printed))?;
        let waits = self.backoff.at().is_some() && !self.backoff.due(now.time);
        if waits || !self.running.is_empty() {
            return None;
        }
        self.attempts += 1;
        let program = program.clone();
        self.running.spawn(async move { (owed, program.run().await) });
        Some(self.status("running", now.wall, None, String::new(), None))
    }

    /// Waits for the end of the run; for ever if none runs.
    pub(crate) async fn ended(&mut self) -> (u64, Run) {
        while let Some(ended) = self.running.join_next().await {
            if let Ok(ended) = ended {
                return ended;
            }
        }
        std::future::pending().await
    }

    /// Notes how a run for some content ended.
    pub(crate) fn note(
        &mut self,
        memory: &mut Memory,
        (printed, run): (u64, Run),
        now: Now,
    ) -> CommandStatus {
        match run.ended {
            Ended::Well => {
                memory.commanded = Some(printed);
                self.backoff.clear();
                self.status("done", now.wall, None, run.output, None)
            }
            Ended::Badly(how) => {
                // Newer content does not wait for what befell the older.
                let mut retry = None;
                if memory.printed == Some(printed) {
                    self.backoff.failed(now.time);
                    retry = self.backoff.at().map(|at| wall(at, now));
                }
                let name = self.program.as_ref().map_or("", Program::name);
                let error = format!("command {name} {how}");
                self.status("failed", now.wall, Some(error), run.output, retry)
            }
        }
    }

    fn status(
        &self,
        state: &str,
        at: Wall,
        error: Option<String>,
        output: String,
        retry: Option<Wall>,
    ) -> CommandStatus {
        CommandStatus { state: state.to_owned(), at, error, output, attempts: self.attempts, retry }
    }
}

/// A time ahead, for people.
pub(crate) fn wall(at: Time, now: Now) -> Wall {
    let ahead = i64::try_from(at.since(now.time).as_millis()).unwrap_or(i64::MAX);
    Wall(now.wall.0.saturating_add(ahead))
}
