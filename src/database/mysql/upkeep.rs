//! Connections that are open before they are needed, and settings that are judged aside.
//!
//! The control and the fence connections go to the server's second port where it has one: it
//! answers when all ordinary connections are in use. Every connection is tied to the process that
//! listens; one that leads to another process is not used.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sengu_core::name::BootId;
use sengu_core::observation::Verdict;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::connection::Session;
use super::fault::Fault;
use super::settings::{Judge, Subject, above_read_only};
use crate::process::{Process, find};

/// Names of the fence's connections, as the server's session attributes show them.
const FENCE_NAMES: [&str; 2] = ["sengu-fence-set", "sengu-fence-end"];

/// Opening or checking a connection in the background.
const UPKEEP_WAIT: Duration = Duration::from_secs(1);

/// The second port is tried for so long before the ordinary one.
const SPARE_WAIT: Duration = Duration::from_millis(300);

/// Name of the connection over which settings are judged.
const JUDGE_NAME: &str = "sengu-judge";

/// Settings are judged again so often.
const JUDGE_AGAIN: Duration = Duration::from_secs(5);

/// How long judging may take.
const JUDGE_WAIT: Duration = Duration::from_secs(3);

/// Who judges the settings, over which connection, and when last.
#[derive(Default)]
pub(super) struct Judging {
    judge: Judge,
    session: Option<Session>,
    last: Option<(Option<BootId>, Instant)>,
}

/// Opens a connection that may change something, at the second port if there is one.
pub(super) async fn open(
    shared: &Shared,
    purpose: &str,
    deadline: Instant,
) -> Result<(Session, Arc<Process>), Fault> {
    let spare = shared.remembered().spare;
    if let Some(address) = spare {
        let soon = (Instant::now() + SPARE_WAIT).min(deadline);
        if let Ok(session) = shared.dialer.open(address, purpose, soon).await
            && let Ok(process) = shared.lives.listener()
            && find(address, Some(process.pid()), &[])
                .is_ok_and(|found| found.boot_id() == process.boot_id())
        {
            session.leads_to(Arc::clone(&process));
            return Ok((session, process));
        }
    }
    let session = shared.dialer.open(shared.address, purpose, deadline).await?;
    shared.remembered().spare = session.server().spare_address(shared.address);
    let process = shared.lives.listener();
    let process = process.map_err(|error| Fault::Odd(error.to_string()))?;
    session.leads_to(Arc::clone(&process));
    Ok((session, process))
}

/// One of the fence's connections, opened if there is none that may live.
pub(super) async fn fence_session(
    shared: &Shared,
    which: usize,
    deadline: Instant,
) -> Result<Session, Fault> {
    let kept = shared.sessions().fence[which].clone();
    if let Some(session) = kept.filter(Session::may_live) {
        return Ok(session);
    }
    let (session, _) = open(shared, FENCE_NAMES[which], deadline).await?;
    shared.sessions().fence[which] = Some(session.clone());
    Ok(session)
}

/// Opens the fence's connections, or finds them open and answering.
pub(super) async fn keep_fence(shared: &Shared, deadline: Instant) -> Result<Session, Fault> {
    let mut last = None;
    for which in 0..FENCE_NAMES.len() {
        let session = fence_session(shared, which, deadline).await?;
        let session = match session.exec("DO 0", deadline).await {
            Ok(()) => session,
            Err(_) => {
                // Its slot may have been given to a newer one meanwhile.
                if let Some(kept) = &mut shared.sessions().fence.get_mut(which)
                    && kept.as_ref().is_some_and(|kept| kept.is(&session))
                {
                    **kept = None;
                }
                fence_session(shared, which, deadline).await?
            }
        };
        last = Some(session);
    }
    last.ok_or(Fault::Silent)
}

/// Keeps the control and the fence connections open and the verdicts fresh, in the background, one
/// attempt at a time.
pub(super) fn spawn(shared: &Arc<Shared>) {
    if shared.upkeep.swap(true, Ordering::AcqRel) {
        return;
    }
    let kept = Arc::clone(shared);
    let work = async move {
        let until = Instant::now() + UPKEEP_WAIT;
        let _late = timeout(UPKEEP_WAIT, keep_fence(&kept, until)).await;
        if let Ok(_lane) = kept.lane.try_lock() {
            let epoch = kept.sessions().epoch;
            let until = Instant::now() + UPKEEP_WAIT;
            let _late = timeout(UPKEEP_WAIT, kept.control_session(epoch, until)).await;
        }
        kept.upkeep.store(false, Ordering::Release);
    };
    match &shared.fence_runtime {
        Some(handle) => drop(handle.spawn(work)),
        None => drop(tokio::spawn(work)),
    }
}

/// Judges the settings, in the background and over a connection of its own: a statement that
/// waits or a disk that hangs leaves the last verdicts, and no second reader.
pub(super) fn spawn_judging(shared: &Arc<Shared>, process: Option<Arc<Process>>) {
    let Ok(mut judging) = Arc::clone(&shared.judging).try_lock_owned() else { return };
    let life = process.as_ref().map(|process| process.boot_id().clone());
    let fresh = |(judged, at): &(Option<BootId>, Instant)| {
        *judged == life && at.elapsed() < JUDGE_AGAIN
    };
    if judging.last.as_ref().is_some_and(fresh) {
        return;
    }
    judging.last = Some((life, Instant::now()));
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let deadline = Instant::now() + JUDGE_WAIT;
        let kept = judging.session.take().filter(Session::may_live);
        let session = match kept {
            Some(session) => session,
            None => match shared.dialer.open(shared.address, JUDGE_NAME, deadline).await {
                Ok(session) => session,
                Err(_) => return,
            },
        };
        let subject = Subject {
            name: &shared.name,
            replication_user: shared.replication.as_ref().map(|login| login.user.as_str()),
        };
        let verdicts = judging.judge.judge(&subject, &session, process.as_ref(), deadline).await;
        let above = above_read_only(&session, deadline).await;
        let mut remembered = shared.remembered();
        let keep = |last: &mut Verdict, verdict: Verdict| {
            if verdict != Verdict::Unknown {
                *last = verdict;
            }
        };
        keep(&mut remembered.settings.starts_fenced, verdicts.starts_fenced);
        keep(&mut remembered.settings.replication, verdicts.replication);
        keep(&mut remembered.settings.lossless, verdicts.lossless);
        if let Ok(above) = above {
            let told = above.iter().map(|it| format!("{}, {}: {}", it.account, it.why, it.revoke));
            remembered.above = told.collect();
        }
        drop(remembered);
        judging.session = Some(session);
    });
}
