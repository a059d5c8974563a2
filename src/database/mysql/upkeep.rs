//! Connections that are open before they are needed, and settings that are judged aside.
//!
//! The control and the fence connections go to the server's second port where it has one: it
//! answers when all ordinary connections are in use. Every connection is tied to the process that
//! listens; one that leads to another process is not used.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Shared;
use super::connection::Session;
use super::fault::Fault;
use crate::process::{Process, find};

/// Names of the fence's connections, as the server's session attributes show them.
const FENCE_NAMES: [&str; 2] = ["sengu-fence-set", "sengu-fence-end"];

/// Opening or checking a connection in the background.
const UPKEEP_WAIT: Duration = Duration::from_secs(1);

/// The second port is tried for so long before the ordinary one.
const SPARE_WAIT: Duration = Duration::from_millis(300);

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
    shared.fence_runtime.spawn(work);
}
