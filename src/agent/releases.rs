//! What the members of etcd run, for as long as the agent does.
//!
//! A member can be replaced by another release under an agent that runs. So each is asked again
//! when one had failed, and now and then, and what changed is told: in the log, and to who asks for
//! the state of this host. An agent that runs is not ended by what it finds: that would take the
//! fence and the names from its masters. At its next start it is refused, as ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::store::etcd::{EtcdStore, Member};

/// Between two looks while each member answers.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Between two looks while one does not.
const LOOK_SOON: Duration = Duration::from_secs(5);
/// After a member failed: it may be starting.
const SETTLE: Duration = Duration::from_secs(1);

/// A release of etcd with a known defect, at one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaw {
    /// The member's endpoint, as configured.
    pub url: String,
    /// Its release, as it writes it.
    pub version: String,
    /// What is wrong with it.
    pub words: String,
    /// Is `failover = "auto"` refused on it at a start of the agent?
    pub refused: bool,
}

impl Flaw {
    /// The flaw of a member, if its release has any.
    pub(super) fn of(member: &Member) -> Option<Self> {
        let (version, defect) = (member.version.as_ref().ok()?, member.defect()?);
        Some(Self {
            url: member.url.clone(),
            version: version.clone(),
            words: defect.words.to_owned(),
            refused: defect.refused,
        })
    }
}

/// What each member ran when it was last asked.
#[derive(Debug, Default)]
pub(super) struct Releases {
    members: Mutex<Vec<Member>>,
}

impl Releases {
    /// As found at the start.
    pub(super) fn new(members: Vec<Member>) -> Self {
        members.iter().for_each(say);
        Self { members: Mutex::new(members) }
    }

    /// The members whose release has a known defect; one that does not answer keeps the release
    /// that it had.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        self.lock().iter().filter_map(Flaw::of).collect()
    }

    /// Asks again and again; never ends.
    pub(super) async fn keep(self: Arc<Self>, store: Arc<EtcdStore>) {
        let mut all = self.lock().iter().all(|member| member.version.is_ok());
        loop {
            let again = if all { LOOK_AGAIN } else { LOOK_SOON };
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = store.disturbed() => tokio::time::sleep(SETTLE).await,
            }
            let members = store.members().await;
            all = members.iter().all(|member| member.version.is_ok());
            self.note(members);
        }
    }

    /// Takes note of what changed, and tells it.
    fn note(&self, members: Vec<Member>) {
        let mut known = self.lock();
        for (known, now) in known.iter_mut().zip(members) {
            // One that is away for a while is told of by whoever needs it.
            if now.version.is_ok() && now.version != known.version {
                say(&now);
                *known = now;
            }
        }
    }

    /// It is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what a member runs.
fn say(member: &Member) {
    let url = &member.url;
    match (&member.version, member.defect()) {
        (Ok(version), None) => tracing::info!(url, version, "etcd answers"),
        (Ok(version), Some(defect)) if defect.refused => {
            tracing::error!(
                url,
                version,
                "this release of etcd is no judge for failover = \"auto\": {}; an agent that runs \
                 goes on, and none starts on it",
                defect.words
            );
        }
        (Ok(version), Some(defect)) => {
            tracing::warn!(
                url,
                version,
                "this release of etcd has a known defect: {}",
                defect.words
            );
        }
        (Err(why), _) => tracing::warn!(url, "etcd does not answer: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(version: Result<&str, &str>) -> Member {
        Member {
            url: "http://10.0.0.11:2379".to_owned(),
            version: version.map(str::to_owned).map_err(str::to_owned),
        }
    }

    #[test]
    fn a_release_is_known_until_another_is_told() {
        let releases = Releases::new(vec![member(Err("no answer in time"))]);
        assert_eq!(releases.flaws(), []);
        releases.note(vec![member(Ok("3.4.20"))]);
        let flaws = releases.flaws();
        assert!(flaws.len() == 1 && flaws[0].refused, "{flaws:?}");
        releases.note(vec![member(Err("connection refused"))]);
        assert_eq!(releases.flaws(), flaws, "it may come back as it was");
        releases.note(vec![member(Ok("3.4.23"))]);
        assert!(!releases.flaws()[0].refused);
        releases.note(vec![member(Ok("3.5.16"))]);
        assert_eq!(releases.flaws(), []);
    }
}
