//! Looking at a server without changing it: the role probe, and the look at another instance.
//!
//! The probe keeps one standing connection. An answer that comes late does not close it, so a
//! stopped server is not buried under new ones; what the process does is told beside.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use sengu_core::event::LookOutcome;
use sengu_core::observation::{self, Answer, Observation, Role, Settings, Verdict};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::Session;
use super::file::{Start, verdict};
use super::reply::Fault;
use super::state::{Told, question, read, server};
use super::{Shared, lock};
use crate::process::{FindError, Process};

/// Unanswered probes on the standing connection before it is replaced.
const MAX_LATE: u32 = 8;

/// A name server or a disk may take this much of a probe, no more.
const SIDE_WAIT: Duration = Duration::from_millis(100);

/// A process that is ending is seen to be gone within this.
const ENDING: Duration = Duration::from_millis(50);

/// Opening or checking a connection in the background.
const UPKEEP_WAIT: Duration = Duration::from_secs(1);

/// The connection of the role probe.
#[derive(Default)]
pub(super) struct Standing {
    connection: Option<MultiplexedConnection>,
    late: u32,
}

/// The role probe.
pub(super) async fn observe(shared: &Arc<Shared>, within: Duration) -> Observation {
    let deadline = Instant::now() + within;
    let replies = timeout_at(deadline, ask(shared)).await.unwrap_or(Err(Fault::Silent));
    match replies.as_deref().map_err(Fault::clone).and_then(read) {
        Ok(mut told) => {
            let found = shared.identify(told.pid, &told.run_id);
            resolve(shared, &mut told, deadline).await;
            told.state.settings = settings(shared, &told, &found, deadline).await;
            spawn_upkeep(shared);
            let process = found.ok();
            if process.as_ref().is_some_and(|process| process.is_gone()) {
                // What was judged of a process that was ending is no word on the instance.
                let answer = Answer::Error("its process ended during the look".to_owned());
                return seen(process, answer);
            }
            seen(process, Answer::State(told.state))
        }
        Err(fault) => {
            let server = replies.ok().and_then(|replies| server(&replies));
            let process = match server.map(|(pid, run_id)| shared.identify(pid, &run_id)) {
                Some(found) => found.ok(),
                None => shared.lives.process_unasked(),
            };
            let answer = fault.answer();
            // Somebody answered, so it was not the one that has exited.
            seen(process.filter(|process| !(answer.alive() && process.is_gone())), answer)
        }
    }
}

/// A direct look at another instance, or at this one, with the same credentials.
pub(super) async fn look(
    shared: &Arc<Shared>,
    address: SocketAddr,
    within: Duration,
) -> LookOutcome {
    let asked = async {
        let mut connection = shared.dialer.dial(address).await?;
        let mut pipeline = redis::pipe();
        question(&mut pipeline);
        read(&shared.dialer.ask(&mut connection, &mut pipeline).await?)
    };
    match timeout(within, asked).await.unwrap_or(Err(Fault::Silent)) {
        // It would take writes if it had its replicas: neither a sign of life nor a fence.
        Ok(told) if told.short_of_replicas => LookOutcome::Unknown,
        Ok(told) if told.state.writable => LookOutcome::Writable,
        Ok(told) if told.state.role == Role::Replica => LookOutcome::NotWritable,
        Ok(_) | Err(_) => LookOutcome::Unknown,
    }
}

fn seen(process: Option<Arc<Process>>, answer: Answer) -> Observation {
    Observation {
        boot_id: process.as_ref().map(|process| process.boot_id().clone()),
        answer,
        process: process.map_or(observation::Process::Unknown, |process| process.activity()),
    }
}

async fn ask(shared: &Shared) -> Result<Vec<Value>, Fault> {
    let mut standing = shared.standing.lock().await;
    let mut pipeline = redis::pipe();
    question(&mut pipeline);
    loop {
        if standing.late >= MAX_LATE {
            standing.connection = None;
        }
        let (mut connection, reused) = match &standing.connection {
            Some(connection) => (connection.clone(), true),
            None => (shared.dialer.dial(shared.address).await?, false),
        };
        if !reused {
            *standing = Standing { connection: Some(connection.clone()), late: 0 };
        }
        // Taken back when the answer comes; stands if the deadline cuts in.
        standing.late += 1;
        match shared.dialer.ask(&mut connection, &mut pipeline).await {
            Ok(replies) => {
                standing.late = 0;
                return Ok(replies);
            }
            Err(fault) => {
                standing.connection = None;
                // It may have been closed since the last probe: that says nothing of now.
                if !(reused && matches!(fault, Fault::Broken(_))) {
                    return Err(shared.dialer.reason(shared.address, fault).await);
                }
            }
        }
    }
}

/// A source that the server names by a host name: its address, as last resolved.
async fn resolve(shared: &Shared, told: &mut Told, deadline: Instant) {
    let Some(name) = told.source_name.take() else { return };
    let wait = (Instant::now() + SIDE_WAIT).min(deadline);
    let looked_up = timeout_at(wait, tokio::net::lookup_host(name.clone())).await;
    if let Ok(Ok(mut addresses)) = looked_up
        && let Some(address) = addresses.next()
    {
        *lock(&shared.resolved) = Some((name.clone(), address));
    }
    let resolved = lock(&shared.resolved);
    told.state.source = resolved.as_ref().filter(|known| known.0 == name).map(|known| known.1);
}

async fn settings(
    shared: &Arc<Shared>,
    told: &Told,
    found: &Result<Arc<Process>, FindError>,
    deadline: Instant,
) -> Settings {
    judge_start(shared, told, found.as_ref().ok(), deadline).await;
    match found {
        Ok(process) => last_settings(shared, process),
        Err(error) => judged(shared, Verdict::Bad(error.to_string())),
    }
}

fn judged(shared: &Shared, killable: Verdict) -> Settings {
    Settings {
        starts_fenced: lock(&shared.starts_fenced).clone(),
        killable,
        replication: Verdict::Good,
        lossless: Verdict::Bad(
            "it acknowledges writes before any replica has them: use `loss = \"bounded\"`"
                .to_owned(),
        ),
        bound: Verdict::Good,
    }
}

/// What is known without a look at a disk: for the answers of commands, which have no time for
/// one and must not unsay what the last probe has found.
pub(super) fn last_settings(shared: &Shared, process: &Process) -> Settings {
    let killable = match process.killable() {
        Ok(()) => Verdict::Good,
        Err(error) => Verdict::Bad(format!(
            "process {} of {} cannot be signalled ({error}): run the agent as root",
            process.pid(),
            shared.name
        )),
    };
    judged(shared, killable)
}

/// Reads the configuration file, aside: a hung disk leaves the last verdict and no second
/// reader.
async fn judge_start(
    shared: &Arc<Shared>,
    told: &Told,
    process: Option<&Arc<Process>>,
    deadline: Instant,
) {
    if shared.judging.swap(true, Ordering::AcqRel) {
        return;
    }
    let (shared, file) = (Arc::clone(shared), told.config_file.clone());
    let process = process.map(Arc::clone);
    let reading = tokio::task::spawn_blocking(move || {
        let arguments = process.as_ref().and_then(|process| process.arguments().ok());
        let root =
            process.as_ref().map(|process| PathBuf::from(format!("/proc/{}/root", process.pid())));
        let judged = verdict(&Start {
            name: shared.name.as_str(),
            file: file.as_deref(),
            root: &root.unwrap_or_default(),
            arguments: &arguments.unwrap_or_default(),
        });
        // A process loses its files a moment before it is seen to be gone: a verdict that turns bad
        // counts only if the process is still there after that moment.
        let turned = !judged.is_good() && lock(&shared.starts_fenced).is_good();
        if turned {
            std::thread::sleep(ENDING);
        }
        if !(turned && process.is_some_and(|process| process.is_gone())) {
            *lock(&shared.starts_fenced) = judged;
        }
        shared.judging.store(false, Ordering::Release);
    });
    let wait = (Instant::now() + SIDE_WAIT).min(deadline);
    let _late = timeout_at(wait, reading).await;
}

/// Keeps the control and the fence connection open, in the background, one attempt at a time.
pub(super) fn spawn_upkeep(shared: &Arc<Shared>) {
    if shared.upkeep.swap(true, Ordering::AcqRel) {
        return;
    }
    let kept = Arc::clone(shared);
    let work = async move {
        let _late = timeout(UPKEEP_WAIT, keep_fence(&kept)).await;
        if let Ok(_lane) = kept.lane.try_lock() {
            let epoch = kept.sessions().epoch;
            let _late = timeout(UPKEEP_WAIT, kept.control_session(epoch)).await;
        }
        kept.upkeep.store(false, Ordering::Release);
    };
    match &shared.fence_runtime {
        Some(handle) => drop(handle.spawn(work)),
        None => drop(tokio::spawn(work)),
    }
}

/// Opens the fence's connection, or finds it open and answering.
pub(super) async fn keep_fence(shared: &Shared) -> Result<Session, Fault> {
    let kept = shared.sessions().fence.clone();
    if let Some(mut session) = kept.filter(Session::may_live) {
        let mut ping = redis::pipe();
        ping.cmd("PING");
        match shared.dialer.ask(&mut session.connection, &mut ping).await {
            Ok(_) => return Ok(session),
            // The deadline of the caller ends a wait; a late answer is no reason to close.
            Err(fault) => drop(fault),
        }
    }
    shared.open_fence().await
}
