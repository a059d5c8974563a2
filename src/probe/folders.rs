//! Follows the two folders of the operator: check files, and services in Consul's JSON.
//!
//! A change is taken up once nobody has written there for a moment; what a watcher misses is
//! found within a minute. What does not change runs on. A problem is logged when it is new.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, timeout};

use super::consul::{self, Files};
use super::{Checks, Registered, Target, folder};
use crate::config::ChecksConfig;
use crate::template::watch::{FileBell, Watched};

/// Nobody has written for so long: an editor may be in the middle.
const QUIET: Duration = Duration::from_millis(200);
/// Looked at so often even if nothing was seen.
const LOOK: Duration = Duration::from_secs(60);
/// Waited for quiet at most so often.
const WAITS: u32 = 10;

/// The folders, and what runs because of them.
#[derive(Debug)]
pub struct Folders {
    checks: Arc<Checks>,
    registered: Arc<Registered>,
    state: Mutex<State>,
    /// Another configuration may name other folders.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    config: ChecksConfig,
    targets: Vec<Target>,
    files: Files,
    told: Vec<String>,
}

impl Folders {
    /// Nothing is read before [`Folders::follow`] or [`Folders::replace`].
    #[must_use]
    pub fn new(
        checks: Arc<Checks>,
        registered: Arc<Registered>,
        config: ChecksConfig,
        targets: Vec<Target>,
    ) -> Self {
        let state = State { config, targets, files: Files::default(), told: Vec::new() };
        Self { checks, registered, state: Mutex::new(state), moved: Notify::new() }
    }

    /// Takes another configuration and other instances over; tells what is wrong with the files.
    pub async fn replace(&self, config: ChecksConfig, targets: Vec<Target>) -> Vec<String> {
        let mut state = self.state.lock().await;
        state.config = config;
        state.targets = targets;
        let problems = self.load(&mut state).await;
        drop(state);
        self.moved.notify_one();
        problems
    }

    /// Reads both and puts what they say in place.
    async fn load(&self, state: &mut State) -> Vec<String> {
        let config = state.config.clone();
        let read = tokio::task::spawn_blocking(move || {
            (folder::load(&config), consul::load(&config.services, config.scripts))
        });
        let ((definitions, problems), (defined, more)) =
            read.await.expect("reading files does not panic, and the runtime still stands");
        self.checks.replace(definitions, state.targets.clone());
        let mut told: Vec<String> = problems.iter().chain(&more).map(ToString::to_string).collect();
        told.extend(state.files.apply(&self.registered, defined).await);
        for problem in told.iter().filter(|problem| !state.told.contains(problem)) {
            tracing::warn!("{problem}");
        }
        state.told.clone_from(&told);
        told
    }

    /// Follows them until `shutdown`. Needs a tokio runtime.
    pub async fn follow(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        tokio::select! {
            () = self.turns() => {}
            () = &mut shutdown => {}
        }
    }

    async fn turns(&self) {
        self.registered.ready().await;
        loop {
            let config = self.state.lock().await.config.clone();
            let folders: [PathBuf; 2] = [config.folder, config.services];
            let wake = Arc::new(Notify::new());
            let watched = folders.iter().flat_map(|folder| Watched::folder(folder, &wake));
            let bell = FileBell::new(watched.collect());
            loop {
                {
                    let mut state = self.state.lock().await;
                    self.load(&mut state).await;
                }
                tokio::select! {
                    () = wake.notified() => {}
                    () = sleep(LOOK) => {}
                    () = self.moved.notified() => break,
                }
                for _ in 0..WAITS {
                    if timeout(QUIET, wake.notified()).await.is_err() {
                        break;
                    }
                }
                bell.again();
            }
        }
    }
}
