//! The fence: makes the server refuse writes for good, or ends its process.
//!
//! First rung, in one go over a connection of its own: read-only, `REPLICAOF` a closed local
//! port, end every session whose changes could still run and every client's, then read back. A
//! busy script is asked to end. Last rung: SIGKILL by pidfd, for a server that is stopped, does
//! not answer, or runs a script that cannot be ended; what lies in the sockets of such a server
//! would be carried out and acknowledged when it wakes. A copy that reads its data is not
//! killed for it: it takes no writes, and would begin to read anew.
//!
//! A signal that was *sent* counts: the process runs no more of its own code, even if its exit
//! is held up by a disk. So [`ControlOutcome::Exited`] is told as soon as the exit is seen or
//! the time is over. It asks no store, no disk and no name server, and waits for no lock that is
//! held over a wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use sengu_core::event::ControlOutcome;
use sengu_core::observation::InstanceState;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Session;
use super::control::{is_copy_of, replica_of, words};
use super::reply::{Fault, checked};
use super::state::{killed, lists_clients, question, read};
use super::{LOCAL_WAIT, Shared, closed_port, observe};
use crate::database::ladder::{End, Rung, Terms, climb, while_it_lives};
use crate::database::lane::Unsure;
use crate::process::Process;

/// Name of the fence's connection in `CLIENT LIST`.
const FENCE_NAME: &str = "sengu-fence";

/// Between two attempts while there is time left.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Fences, within the time given.
pub(super) async fn fence(shared: &Arc<Shared>, kill: bool, within: Duration) -> ControlOutcome {
    let deadline = Instant::now() + within;
    let work = {
        let shared = Arc::clone(shared);
        async move { ladder(&shared, kill, deadline, within).await }
    };
    shared.fence_runtime.run(work).await.unwrap_or_else(|| ControlOutcome::Failed {
        error: format!("{}: the runtime of the fence is gone", shared.name),
        untouched: false,
    })
}

async fn ladder(
    shared: &Arc<Shared>,
    kill: bool,
    deadline: Instant,
    within: Duration,
) -> ControlOutcome {
    let unsure = shared.begin_fence();
    let terms = Terms { kill, deadline, within };
    let asked = &unsure;
    let end = climb(&shared.lives, terms, |process, until| async move {
        ask_to_refuse(shared, process.as_ref(), asked, kill, until).await
    });
    match end.await {
        End::Fenced(process, state) => {
            observe::spawn_upkeep(shared);
            let settings = observe::last_settings(shared, &process);
            let state = InstanceState { settings, ..state };
            ControlOutcome::Done { boot_id: process.boot_id().clone(), state }
        }
        End::Exited(boot_id) => ControlOutcome::Exited { boot_id: Some(boot_id) },
        End::Failed { reason, .. } => shared.give_up(&reason, unsure),
    }
}

/// The first rung, again and again until it is done, hopeless or out of time.
async fn ask_to_refuse(
    shared: &Shared,
    process: Option<&Arc<Process>>,
    unsure: &Unsure,
    kill: bool,
    until: Instant,
) -> Rung {
    let mut last = Fault::Silent;
    let attempts = async {
        let closed = match closed_port().await {
            Ok(closed) => closed,
            Err(error) => return Rung::Failed(error),
        };
        loop {
            // Half of what is left: a connection that leads nowhere must not cost the rung.
            let left = until.saturating_duration_since(Instant::now());
            let tried = timeout((left / 2).max(LOCAL_WAIT), attempt(shared, unsure, closed)).await;
            last = match tried {
                Ok(Ok((process, state))) => return Rung::Fenced(process, state),
                Ok(Err(fault)) => fault,
                Err(_) => {
                    shared.abandon_fence();
                    // Slow: what it told before says more than that.
                    continue;
                }
            };
            // An unkillable script may still end by itself, for which only somebody without a
            // better way waits.
            if matches!(last, Fault::Denied(_) | Fault::Server(_))
                || (kill && last == Fault::Unkillable)
            {
                return Rung::Failed(last.to_string());
            }
            sleep(RETRY_PAUSE).await;
        }
    };
    let ended = while_it_lives(process, until, attempts).await;
    ended.unwrap_or_else(|| match last {
        // It takes no writes and will take none, but cannot be told so while it reads its data.
        Fault::LoadingCopy => Rung::Spared(last.to_string()),
        _ => Rung::Failed(last.to_string()),
    })
}

/// One attempt of the first rung, believed only if it reads back.
async fn attempt(
    shared: &Shared,
    unsure: &Unsure,
    closed: SocketAddr,
) -> Result<(Arc<Process>, InstanceState), Fault> {
    let kept = shared.sessions().fence.clone().filter(Session::may_live);
    let mut session = match kept {
        Some(session) => session,
        None => shared.open_fence().await?,
    };
    let mut commands = Pipeline::new();
    commands.add_command(words(&["CONFIG", "SET", "replica-read-only", "yes"]));
    commands.add_command(replica_of(closed));
    for kind in ["normal", "pubsub"] {
        commands.add_command(words(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]));
    }
    let required = commands.len();
    let life = session.process.as_ref().map(|process| process.boot_id());
    let older = unsure.of_life(life).into_iter().filter(|id| session.id != Some(*id));
    let older: Vec<String> = older.map(|id| id.to_string()).collect();
    for verb in ["KILL", "LIST"] {
        for id in &older {
            commands.add_command(words(&["CLIENT", verb, "ID", id]));
        }
    }
    // Who was held back by a pause is refused now, not when it ends. Before Redis 6.2 an error.
    commands.add_command(words(&["CLIENT", "UNPAUSE"]));
    let sent = commands.len();
    question(&mut commands);
    let replies = match shared.dialer.ask(&mut session.connection, &mut commands).await {
        Ok(replies) if replies.len() > sent => replies,
        Ok(_) => return Err(Fault::Odd("too few replies".to_owned())),
        Err(fault) => {
            shared.sessions().fence = None;
            return Err(fault);
        }
    };
    let (done, told) = replies.split_at(sent);
    if let Err(Fault::Busy) = checked(&done[0]) {
        return Err(end_script(shared, &mut session).await);
    }
    for reply in &done[..required] {
        match checked(reply) {
            // Which kind of loading, it tells itself.
            Err(Fault::Loading) => return Err(read(told).err().unwrap_or(Fault::Loading)),
            other => other?,
        };
    }
    sessions_are_gone(&done[required..sent - 1], older.len())?;
    let told = read(told)?;
    if !is_copy_of(&told.state, closed) {
        return Err(Fault::Odd("it does not read back as fenced".to_owned()));
    }
    let process = shared.identify(told.pid, &told.run_id);
    let process = process.map_err(|error| Fault::Server(error.to_string()))?;
    session.process = Some(Arc::clone(&process));
    session.server = Some((told.pid, told.run_id));
    shared.sessions().fence = Some(session);
    Ok((process, told.state))
}

/// Each kill was carried out (of a session that was gone already too), and no list names one.
fn sessions_are_gone(replies: &[Value], count: usize) -> Result<(), Fault> {
    let (kills, lists) = replies.split_at(count);
    for reply in kills {
        killed(reply)?;
    }
    if lists.iter().any(|reply| lists_clients(reply) == Some(true)) {
        return Err(Fault::Odd("a session with an older change lives on".to_owned()));
    }
    Ok(())
}

/// Asks a script or a function to end; tells what stands in the way of the next attempt.
async fn end_script(shared: &Shared, session: &mut Session) -> Fault {
    let mut commands = Pipeline::new();
    commands.add_command(words(&["SCRIPT", "KILL"]));
    commands.add_command(words(&["FUNCTION", "KILL"]));
    match shared.dialer.ask(&mut session.connection, &mut commands).await {
        Ok(replies) => {
            let unkillable = |reply: &Value| checked(reply) == Err(Fault::Unkillable);
            if replies.iter().any(unkillable) { Fault::Unkillable } else { Fault::Busy }
        }
        Err(fault) => {
            shared.sessions().fence = None;
            fault
        }
    }
}

impl Shared {
    /// From here on no command that began earlier sends anything, and what is unanswered is
    /// known by session.
    fn begin_fence(&self) -> Unsure {
        let mut sessions = self.sessions();
        sessions.epoch += 1;
        if let Some(control) = sessions.control.take() {
            sessions.remember_unsure(&control);
        }
        std::mem::take(&mut sessions.unsure)
    }

    /// Opens the fence's connection. Its process is verified if the server tells its pid.
    pub(super) async fn open_fence(&self) -> Result<Session, Fault> {
        let mut session = Session::open(&self.dialer, self.address, FENCE_NAME).await?;
        if let Some((pid, run_id)) = &session.server {
            session.process = self.identify(*pid, run_id).ok();
        }
        self.sessions().fence = Some(session.clone());
        Ok(session)
    }

    /// Gives the fence's connection up: nothing came back over it.
    fn abandon_fence(&self) {
        let mut sessions = self.sessions();
        if let Some(session) = sessions.fence.take() {
            sessions.remember_unsure(&session);
        }
    }

    /// Not fenced, and what was sent may yet be carried out.
    fn give_up(&self, reason: &str, unsure: Unsure) -> ControlOutcome {
        let mut sessions = self.sessions();
        sessions.unsure.extend(unsure);
        if let Some(fence) = sessions.fence.clone() {
            // Or an old fence would undo what a later command has done.
            sessions.remember_unsure(&fence);
        }
        ControlOutcome::Failed {
            error: format!("{}: not fenced: {reason}", self.name),
            untouched: false,
        }
    }
}
