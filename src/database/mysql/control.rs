//! The ordered lane: every change of a server but the fence goes through here, one at a time,
//! down one connection.
//!
//! A command looks first (is this the server that was meant?), sends one statement after the
//! other, and believes only what it reads back. A statement that was sent and not answered leaves
//! its session *unsure*; unsure sessions are ended on the server, and seen to be gone, before
//! anything else is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sengu_core::event::{Command, ControlOutcome};
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::{Row, Session};
use super::fault::Fault;
use super::features::{Features, SemiSyncNames};
use super::state::Told;
use super::{MAX_UNSURE, Sessions, Shared, change, observe, sessions, upkeep};
use crate::process::Process;

/// Name of the control connection, as the server's session attributes show it.
const CONTROL_NAME: &str = "sengu-control";

/// Between two looks at something that is waited for.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Why a command was not carried out.
pub(super) struct Failure {
    pub(super) error: String,
    /// Certainly not done.
    pub(super) untouched: bool,
}

impl Failure {
    pub(super) fn untouched(error: impl Into<String>) -> Self {
        Self { error: error.into(), untouched: true }
    }

    pub(super) fn unsure(error: impl Into<String>) -> Self {
        Self { error: error.into(), untouched: false }
    }
}

/// One command at work.
pub(super) struct Work<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) session: Session,
    pub(super) process: Arc<Process>,
    /// What the server was like before anything was sent.
    pub(super) before: Told,
    pub(super) deadline: Instant,
    features: Features,
    epoch: u64,
    /// What was asked for may have been done from here on.
    begun: AtomicBool,
}

impl Work<'_> {
    /// Sends a statement that changes something.
    pub(super) async fn exec(&self, sql: &str) -> Result<(), Failure> {
        self.try_exec(sql).await?.map_err(|fault| self.failure(&fault.to_string()))
    }

    /// Sends a statement that changes something; an error of the server is for the caller.
    pub(super) async fn try_exec(&self, sql: &str) -> Result<Result<(), Fault>, Failure> {
        // Asked as late as can be. A fence that comes after this ends the session on the server.
        if self.shared.sessions().epoch != self.epoch {
            return Err(self.failure("a fence came in between"));
        }
        match self.session.exec(sql, self.deadline).await {
            Err(fault) if !fault.is_refusal() => {
                self.shared.abandon_control(&self.session);
                Err(self.failure(&format!("{fault}; it may still be carried out")))
            }
            answered => Ok(answered),
        }
    }

    /// Asks something that changes nothing; an error of the server is for the caller.
    pub(super) async fn rows(&self, sql: &str) -> Result<Result<Vec<Row>, Fault>, Failure> {
        match self.session.rows(sql, self.deadline).await {
            Err(fault) if !fault.is_refusal() => {
                self.shared.abandon_control(&self.session);
                Err(self.failure(&fault.to_string()))
            }
            answered => Ok(answered),
        }
    }

    /// Asks for its state.
    pub(super) async fn state(&self) -> Result<Told, Failure> {
        match observe::ask_state(&self.session, &self.features, self.deadline).await {
            Ok(told) => Ok(told),
            Err(fault) => {
                if !fault.is_refusal() {
                    self.shared.abandon_control(&self.session);
                }
                Err(self.failure(&fault.to_string()))
            }
        }
    }

    /// From here on what was asked for may have been done.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Not done; certainly so as long as nothing had begun.
    pub(super) fn failure(&self, error: &str) -> Failure {
        Failure { error: error.to_owned(), untouched: !self.begun.load(Ordering::Acquire) }
    }

    /// How its semi-sync is called.
    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    /// Is there less time left than this?
    pub(super) fn is_short_of(&self, time: Duration) -> bool {
        self.deadline.saturating_duration_since(Instant::now()) < time
    }
}

/// Carries out a command that is no fence.
pub(super) async fn control(
    shared: &Arc<Shared>,
    command: Command,
    within: Duration,
) -> ControlOutcome {
    let deadline = Instant::now() + within;
    let epoch = shared.sessions().epoch;
    let work = {
        let shared = Arc::clone(shared);
        async move { run(&shared, &command, epoch, deadline).await }
    };
    match shared.on_fence_runtime(work).await {
        Some(Ok((process, told))) => {
            let mut state = told.state;
            state.settings = observe::settings(shared, Some(&*process));
            ControlOutcome::Done { boot_id: process.boot_id().clone(), state }
        }
        Some(Err(Failure { error, untouched })) => {
            ControlOutcome::Failed { error: format!("{}: {error}", shared.name), untouched }
        }
        None => ControlOutcome::Failed {
            error: format!("{}: the runtime of the control connection is gone", shared.name),
            untouched: false,
        },
    }
}

async fn run(
    shared: &Arc<Shared>,
    command: &Command,
    epoch: u64,
    deadline: Instant,
) -> Result<(Arc<Process>, Told), Failure> {
    let Ok(_lane) = timeout_at(deadline, shared.lane.lock()).await else {
        return Err(Failure::untouched("an earlier command is still at work"));
    };
    let work = begin(shared, epoch, deadline).await?;
    if let Command::Promote { boot_id } = command
        && boot_id != work.process.boot_id()
    {
        let is = work.process.boot_id();
        return Err(Failure::untouched(format!(
            "it was restarted since it was judged (was {boot_id}, is {is})"
        )));
    }
    let told = change::carry_out(&work, command).await?;
    Ok((work.process, told))
}

/// The control connection, found to answer, and what the server behind it is like.
async fn begin(shared: &Arc<Shared>, epoch: u64, deadline: Instant) -> Result<Work<'_>, Failure> {
    let mut retried = false;
    loop {
        let (session, process) =
            shared.control_session(epoch, deadline).await.map_err(Failure::untouched)?;
        let asked = async {
            let features = shared.semi_sync_names(&session, deadline).await?;
            let told = observe::ask_state(&session, &features, deadline).await?;
            Ok((features, told))
        };
        match asked.await {
            Ok((features, before)) => {
                let begun = AtomicBool::new(false);
                return Ok(Work {
                    shared,
                    session,
                    process,
                    before,
                    deadline,
                    features,
                    epoch,
                    begun,
                });
            }
            // Closed since it was last used; nothing was changed by asking.
            Err(Fault::Broken(_)) if !retried => {
                shared.abandon_control(&session);
                retried = true;
            }
            Err(fault) => {
                shared.abandon_control(&session);
                return Err(Failure::untouched(fault.to_string()));
            }
        }
    }
}

impl Shared {
    /// What the state of semi-sync is asked by: as the last probe learned it.
    async fn semi_sync_names(
        &self,
        session: &Session,
        deadline: Instant,
    ) -> Result<Features, Fault> {
        let known = self.remembered().semi_sync;
        let semi_sync = match known {
            Some(names) => names,
            None => SemiSyncNames::learn(session, deadline).await?,
        };
        Ok(Features { semi_sync, ..Features::default() })
    }

    /// The control connection, opened if there is none. Only for the holder of the lane.
    ///
    /// # Errors
    /// If a fence came since `epoch`, if it cannot be opened, or if the process that it leads to
    /// is not verified.
    pub(super) async fn control_session(
        &self,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(Session, Arc<Process>), String> {
        let fenced = || "a fence came in between".to_owned();
        let unsure = {
            let sessions = self.sessions();
            if sessions.epoch != epoch {
                return Err(fenced());
            }
            if let Some(session) = sessions.control.clone().filter(Session::may_live)
                && let Some(process) = session.process()
            {
                return Ok((session, process));
            }
            sessions.unsure.clone()
        };
        let opened = upkeep::open(self, CONTROL_NAME, deadline).await;
        let (session, process) = opened.map_err(|fault| fault.to_string())?;
        // Those of an earlier life of the server ended with it.
        let ours = unsure.iter().filter(|(boot_id, _)| boot_id == process.boot_id());
        let older: Vec<u64> = ours.map(|(_, id)| *id).collect();
        end_older(&session, &older, deadline).await?;
        let mut sessions = self.sessions();
        if sessions.epoch != epoch {
            return Err(fenced());
        }
        sessions.unsure.retain(|session| !unsure.contains(session));
        sessions.control = Some(session.clone());
        Ok((session, process))
    }

    /// Gives a control connection up: what was sent over it may still run.
    pub(super) fn abandon_control(&self, session: &Session) {
        let mut sessions = self.sessions();
        if sessions.control.as_ref().is_some_and(|control| control.is(session)) {
            sessions.control = None;
        }
        sessions.remember_unsure(session);
    }
}

/// Ends older sessions and sees them gone.
async fn end_older(session: &Session, older: &[u64], deadline: Instant) -> Result<(), String> {
    let lives_on = |fault: Fault| format!("an older session lives on: {fault}");
    sessions::end(session, older, deadline).await.map_err(lives_on)?;
    while !sessions::present(session, older, deadline).await.map_err(lives_on)?.is_empty() {
        sleep(LOOK_PAUSE).await;
    }
    Ok(())
}

impl Sessions {
    /// Keeps in mind that something sent over this session may still run.
    pub(super) fn remember_unsure(&mut self, session: &Session) {
        if let Some(process) = session.process() {
            let unsure = (process.boot_id().clone(), session.id());
            self.unsure.retain(|known| *known != unsure);
            self.unsure.push(unsure);
            // A new control session ends all of these first, so they do not pile up; and a
            // fence ends every session of a client, known or not.
            let surplus = self.unsure.len().saturating_sub(MAX_UNSURE);
            self.unsure.drain(..surplus);
        }
    }
}
