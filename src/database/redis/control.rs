//! The ordered lane: every change of a server but the fence goes through here, one at a time,
//! down one connection.
//!
//! A command looks first (is this the server that was meant?), sends its change and the
//! question for the state in one go, and believes only what it reads back. A change that was
//! sent and not answered leaves its session *unsure*; unsure sessions are ended on the server
//! before anything else is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Cmd, Pipeline};
use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::{InstanceState, Role};
use tokio::time::{Instant, timeout_at};

use super::connection::Session;
use super::reply::{Fault, checked};
use super::state::{Told, killed, question, read};
use super::{Shared, closed_port, observe};
use crate::database::lane::{Failure, check_life, outcome};
use crate::process::Process;

/// Name of the control connection in `CLIENT LIST`.
const CONTROL_NAME: &str = "sengu-control";

/// What a command sends, and what the server must read like after.
struct Change {
    commands: Vec<Cmd>,
    /// Which of them changes the role: if the server refused it, nothing was done.
    main: usize,
    expected: Expected,
}

enum Expected {
    Anything,
    Master,
    ReplicaOf(SocketAddr),
    /// A copy of a closed port, with nothing received that is not applied.
    Detached(SocketAddr),
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
        async move {
            let sent = AtomicBool::new(false);
            match timeout_at(deadline, run(&shared, &command, epoch, &sent)).await {
                Ok(result) => result,
                Err(_) if sent.load(Ordering::Acquire) => {
                    shared.abandon_control();
                    Err(Failure::unsure("no answer in time; it may still be carried out"))
                }
                Err(_) => Err(Failure::untouched("no answer in time; nothing was sent")),
            }
        }
    };
    outcome(&shared.name, shared.fence_runtime.run(work).await)
}

async fn run(
    shared: &Arc<Shared>,
    command: &Command,
    epoch: u64,
    sent: &AtomicBool,
) -> Result<(Arc<Process>, InstanceState), Failure> {
    let _lane = shared.lane.lock().await;
    let (mut session, process, before) = session_and_state(shared, epoch).await?;
    check_life(command, &process)?;
    let change = change(command, &before.state).await?;
    let mut pipeline = Pipeline::new();
    for command in &change.commands {
        pipeline.add_command(command.clone());
    }
    question(&mut pipeline);
    // Read back as late as can be. A fence that comes after this ends the session on the server.
    if shared.sessions().epoch != epoch {
        return Err(Failure::untouched("a fence came in between"));
    }
    sent.store(true, Ordering::Release);
    let replies = match shared.dialer.ask(&mut session.connection, &mut pipeline).await {
        Ok(replies) => replies,
        Err(fault) => {
            shared.abandon_control();
            return Err(Failure::unsure(format!("{fault}; it may still be carried out")));
        }
    };
    let (done, told) = replies.split_at(change.commands.len().min(replies.len()));
    if let Some(main) = done.get(change.main) {
        checked(main)
            .map_err(|fault| Failure { error: fault.to_string(), untouched: fault.is_refusal() })?;
    }
    let told = read(told).map_err(|fault| Failure::unsure(fault.to_string()))?;
    if matches!(command, Command::Follow { .. }) && before.state.writable {
        // Its sessions were ended, and with them the fence's connection: it is wanted again.
        shared.sessions().fence = None;
        observe::spawn_upkeep(shared);
    }
    change.expected.check(&told.state).map_err(Failure::unsure)?;
    let settings = observe::last_settings(shared, &process);
    Ok((process, InstanceState { settings, ..told.state }))
}

/// The control connection, found to answer, and what the server behind it is like.
async fn session_and_state(
    shared: &Shared,
    epoch: u64,
) -> Result<(Session, Arc<Process>, Told), Failure> {
    let mut retried = false;
    loop {
        let (mut session, process) =
            shared.control_session(epoch).await.map_err(Failure::untouched)?;
        let mut pipeline = Pipeline::new();
        question(&mut pipeline);
        match shared.dialer.ask(&mut session.connection, &mut pipeline).await {
            Ok(replies) => {
                let told = read(&replies).map_err(|fault| Failure::untouched(fault.to_string()))?;
                if session.server != Some((told.pid, told.run_id.clone())) {
                    shared.abandon_control();
                    return Err(Failure::untouched("another server answers than before"));
                }
                return Ok((session, process, told));
            }
            // Closed since it was last used; nothing was changed by asking.
            Err(Fault::Broken(_)) if !retried => {
                shared.abandon_control();
                retried = true;
            }
            Err(fault) => {
                shared.abandon_control();
                return Err(Failure::untouched(fault.to_string()));
            }
        }
    }
}

async fn change(command: &Command, before: &InstanceState) -> Result<Change, Failure> {
    let read_only = || words(&["CONFIG", "SET", "replica-read-only", "yes"]);
    Ok(match command {
        Command::Detach => {
            let closed = closed_port().await.map_err(Failure::untouched)?;
            Change {
                commands: vec![read_only(), replica_of(closed)],
                main: 1,
                expected: Expected::Detached(closed),
            }
        }
        Command::Promote { .. } => Change {
            commands: vec![read_only(), words(&["REPLICAOF", "NO", "ONE"])],
            main: 1,
            expected: Expected::Master,
        },
        Command::Follow { source } => {
            let mut commands = vec![read_only(), replica_of(*source)];
            if before.writable {
                for kind in ["normal", "pubsub"] {
                    commands.push(words(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]));
                }
            }
            Change { commands, main: 1, expected: Expected::ReplicaOf(*source) }
        }
        Command::Pause { hold } => {
            let hold = hold.as_millis().max(1).to_string();
            let commands = vec![words(&["CLIENT", "PAUSE", &hold, "WRITE"])];
            Change { commands, main: 0, expected: Expected::Anything }
        }
        Command::Unpause => Change {
            commands: vec![words(&["CLIENT", "UNPAUSE"])],
            main: 0,
            expected: Expected::Anything,
        },
        Command::Read => Change { commands: Vec::new(), main: 0, expected: Expected::Anything },
        Command::Acknowledge { .. } | Command::Await { .. } => {
            return Err(Failure::untouched("redis has no semi-synchronous replication"));
        }
        Command::Fence { .. } => {
            return Err(Failure::untouched("a fence does not go over the control connection"));
        }
    })
}

impl Expected {
    fn check(&self, state: &InstanceState) -> Result<(), String> {
        let held = match self {
            Self::Anything => true,
            Self::Master => state.role == Role::Master && state.writable,
            Self::ReplicaOf(source) => is_copy_of(state, *source),
            Self::Detached(source) => {
                is_copy_of(state, *source) && !state.link_up && state.received == state.applied
            }
        };
        if held {
            return Ok(());
        }
        let source = state.source.map_or_else(|| "nobody".to_owned(), |source| source.to_string());
        let writes = if state.writable { "takes writes" } else { "takes none" };
        let (received, applied) = (&state.received, &state.applied);
        Err(format!(
            "it reads back as a {} of {source} that {writes}, received {received}, applied {applied}",
            state.role
        ))
    }
}

/// A copy of just this source that takes no writes from clients.
pub(super) fn is_copy_of(state: &InstanceState, source: SocketAddr) -> bool {
    state.role == Role::Replica && !state.writable && state.source == Some(source)
}

/// A command from its words.
pub(super) fn words(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

/// `REPLICAOF` an address.
pub(super) fn replica_of(source: SocketAddr) -> Cmd {
    words(&["REPLICAOF", &source.ip().to_string(), &source.port().to_string()])
}

impl Shared {
    /// The control connection, opened if there is none. Only for the holder of the lane.
    ///
    /// # Errors
    /// If a fence came since `epoch`, if it cannot be opened, or if the process that it leads to
    /// is not verified.
    pub(super) async fn control_session(
        &self,
        epoch: u64,
    ) -> Result<(Session, Arc<Process>), String> {
        let fenced = || "a fence came in between".to_owned();
        let unsure = {
            let sessions = self.sessions();
            if sessions.epoch != epoch {
                return Err(fenced());
            }
            if let Some(session) = &sessions.control
                && let Some(process) = &session.process
                && !process.is_gone()
            {
                return Ok((session.clone(), Arc::clone(process)));
            }
            sessions.unsure.clone()
        };
        let opened = Session::open(&self.dialer, self.address, CONTROL_NAME).await;
        let mut session = opened.map_err(|fault| fault.to_string())?;
        let Some((pid, run_id)) = session.server.clone() else {
            return Err(Fault::Busy.to_string());
        };
        let process = self.identify(pid, &run_id).map_err(|error| error.to_string())?;
        session.process = Some(Arc::clone(&process));
        let mut ending = Pipeline::new();
        for id in unsure.of_life(Some(process.boot_id())) {
            ending.add_command(words(&["CLIENT", "KILL", "ID", &id.to_string()]));
        }
        if !ending.is_empty() {
            let replies = self.dialer.ask(&mut session.connection, &mut ending).await;
            for reply in replies.map_err(|fault| fault.to_string())? {
                killed(&reply).map_err(|fault| format!("an older session lives on: {fault}"))?;
            }
        }
        let mut sessions = self.sessions();
        if sessions.epoch != epoch {
            return Err(fenced());
        }
        sessions.unsure.forget(&unsure);
        sessions.control = Some(session.clone());
        Ok((session, process))
    }

    /// Gives the control connection up: what was sent over it may still run.
    pub(super) fn abandon_control(&self) {
        let mut sessions = self.sessions();
        if let Some(session) = sessions.control.take() {
            sessions.remember_unsure(&session);
        }
    }
}

impl super::Sessions {
    /// Keeps in mind that something sent over this session may still run.
    pub(super) fn remember_unsure(&mut self, session: &Session) {
        if let (Some(process), Some(id)) = (&session.process, session.id) {
            self.unsure.remember(process.boot_id(), id);
        }
    }
}
