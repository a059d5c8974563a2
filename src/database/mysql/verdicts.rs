//! When a server's set-up is judged: in the background of the role probe, over a connection of
//! its own that is closed again, every few seconds and once in each new life.
//!
//! The last word stands until the next one; what could not be judged unsays nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sengu_core::observation::Verdict;
use tokio::time::Instant;

use super::Shared;
use super::settings::{Subject, Verdicts};

/// The name of the connection.
const NAME: &str = "sengu-settings";

/// So often.
const EVERY: Duration = Duration::from_secs(5);

/// A judgement takes so long at most, the files aside.
const WAIT: Duration = Duration::from_secs(3);

/// Judges, if it is time to, one judgement at a time.
pub(super) fn spawn(shared: &Arc<Shared>) {
    let life = shared.lives.process_unasked().map(|process| process.boot_id().clone());
    let due = match &shared.remembered().judged {
        Some((judged, at)) => *judged != life || at.elapsed() >= EVERY,
        None => true,
    };
    if !due || shared.judging.swap(true, Ordering::AcqRel) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let deadline = Instant::now() + WAIT;
        if let Some(verdicts) = judge(&shared, deadline).await {
            keep(&shared, verdicts);
        }
        shared.remembered().judged = Some((life, Instant::now()));
        shared.judging.store(false, Ordering::Release);
    });
}

async fn judge(shared: &Shared, deadline: Instant) -> Option<Verdicts> {
    let session = shared.dialer.open(shared.address, NAME, deadline).await.ok()?;
    let process = shared.lives.listener().ok();
    let subject = Subject {
        name: &shared.name,
        replication_user: shared.replication.as_ref().map(|login| login.user.as_str()),
    };
    Some(shared.judge.judge(&subject, &session, process.as_ref(), deadline).await)
}

fn keep(shared: &Shared, verdicts: Verdicts) {
    let mut remembered = shared.remembered();
    let Verdicts { starts_fenced, replication, lossless, bound, events, above } = verdicts;
    let settings = &mut remembered.settings;
    for (kept, new) in [
        (&mut settings.starts_fenced, starts_fenced),
        (&mut settings.replication, replication),
        (&mut settings.lossless, lossless),
        (&mut settings.bound, bound),
    ] {
        if new != Verdict::Unknown {
            *kept = new;
        }
    }
    remembered.events = events.or(remembered.events);
    drop(remembered);
    if let Some(above) = above {
        shared.remember_above(&above);
    }
}
