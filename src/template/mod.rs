//! Templates: files made from the catalog, on this host, as it changes.
//!
//! Each template has a task of its own that waits for quiet, renders, validates, swaps the file
//! whole and runs its command. A master's line leaves its file on time, without waiting; all
//! other lines keep the last good content while the store is silent. Nothing is ever rendered
//! from a catalog that was never read, no file is replaced by an unexpectedly empty one, and no
//! failure touches the old file. See `docs/templates.md` for operators.

mod backoff;
mod block;
mod command;
mod compose;
mod error;
mod memory;
mod once;
mod order;
mod render;
mod scene;
#[cfg(test)]
pub(crate) mod stage;
mod status;
mod swap;
mod task;
#[cfg(test)]
mod tests;
pub(crate) mod watch;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::name::HostName;
use tokio::sync::{Mutex, Notify, watch as channel};
use tokio::task::JoinSet;

use crate::config::{Config, TemplateConfig};
use crate::probe::reachable;
use crate::view::View;
use task::Task;
use watch::{FileBell, Watched};

pub use compose::{difference, render_once};
pub use error::TemplateError;
pub use once::{once, patience, withdraw};
pub use render::{OUTPUT_LIMIT, RENDER_DEADLINE, SHIPPED, TEMPLATE_LIMIT};
pub use status::{CommandStatus, TemplateStatus};

/// What all templates of a host share.
#[derive(Debug, Clone)]
pub struct RenderContext {
    /// This host's name; `per-host` order hangs on it.
    pub host: HostName,
    /// The datacenter of names.
    pub datacenter: String,
    /// The domains of names, the first being the template value `domain`.
    pub domains: Vec<String>,
    /// Where this agent answers DNS; the template value `dns`.
    pub dns: Vec<SocketAddr>,
    /// The catalog.
    pub view: Arc<View>,
    /// Where what was done is kept over restarts.
    pub state_dir: PathBuf,
    /// How long an answer of the store counts.
    pub lease: Duration,
}

impl RenderContext {
    /// What the templates of a configuration are rendered from.
    #[must_use]
    pub fn of(config: &Config, view: Arc<View>) -> Self {
        Self {
            host: config.host.clone(),
            datacenter: config.datacenter.clone(),
            domains: config.dns.domains.clone(),
            dns: config.dns.listen.iter().copied().map(reachable).collect(),
            view,
            state_dir: config.data_dir.join("templates"),
            lease: config.lease,
        }
    }
}

/// The running templates. Dropping it ends them.
#[derive(Debug)]
pub struct Templates {
    statuses: Vec<channel::Receiver<TemplateStatus>>,
    tasks: JoinSet<()>,
}

impl Templates {
    /// Each template as it stands, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<TemplateStatus> {
        self.statuses.iter().map(|status| status.borrow().clone()).collect()
    }

    /// Waits until each has met the catalog once: it is rendered, with its command run, or it is
    /// told why not.
    pub async fn settled(&mut self) {
        for status in &mut self.statuses {
            let done = |status: &TemplateStatus| {
                let command = status.command.as_ref().map(|command| command.state.as_str());
                let error = status.error.as_ref();
                error.is_some_and(|error| *error != TemplateError::Unknown.to_string())
                    || (status.rendered.is_some()
                        && !matches!(command, Some("waiting" | "running")))
            };
            // It has ended otherwise, which is as settled.
            let _ = status.wait_for(done).await;
        }
    }

    /// Waits until all have ended after `shutdown`; at most as long as a file takes to be
    /// written, since programs that run are killed.
    pub async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The templates of a host while its configuration may change.
#[derive(Debug)]
pub struct Shelf {
    context: RenderContext,
    running: Mutex<(channel::Sender<bool>, Templates)>,
}

impl Shelf {
    /// Starts them. Must be called inside a runtime.
    #[must_use]
    pub fn start(configs: Vec<TemplateConfig>, context: RenderContext) -> Self {
        let running = Mutex::new(running(configs, &context));
        Self { context, running }
    }

    /// Each template as it stands, in the order of the configuration.
    pub async fn status(&self) -> Vec<TemplateStatus> {
        self.running.lock().await.1.status()
    }

    /// Other templates from now on. The old ones end first, so that no file has two writers; a
    /// command that is killed by that is still owed and run by the new one.
    pub async fn replace(&self, configs: Vec<TemplateConfig>) {
        let mut running_now = self.running.lock().await;
        end(&mut running_now).await;
        *running_now = running(configs, &self.context);
    }

    /// Ends them, and waits until they have.
    pub async fn end(&self) {
        end(&mut *self.running.lock().await).await;
    }
}

fn running(
    configs: Vec<TemplateConfig>,
    context: &RenderContext,
) -> (channel::Sender<bool>, Templates) {
    let (stop, stopped) = channel::channel(false);
    (stop, start(configs, context.clone(), stopped))
}

async fn end((stop, templates): &mut (channel::Sender<bool>, Templates)) {
    // Templates that have ended already need no word.
    let _ = stop.send(true);
    templates.ended().await;
}

/// Starts all templates of this host. Must be called inside a runtime.
///
/// They end when `shutdown` becomes true or its sender is dropped.
#[must_use]
pub fn start(
    configs: Vec<TemplateConfig>,
    context: RenderContext,
    shutdown: channel::Receiver<bool>,
) -> Templates {
    start_within(RENDER_DEADLINE, configs, context, &shutdown)
}

fn start_within(
    deadline: Duration,
    configs: Vec<TemplateConfig>,
    context: RenderContext,
    shutdown: &channel::Receiver<bool>,
) -> Templates {
    let context = Arc::new(context);
    let wakes: Vec<Arc<Notify>> = configs.iter().map(|_| Arc::default()).collect();
    let watched = configs.iter().zip(&wakes).flat_map(|(config, wake)| {
        let mut files = Watched::both(&config.destination, wake);
        if !SHIPPED.iter().any(|(name, _)| *name == config.source) {
            files.extend(Watched::both(config.source.as_ref(), wake));
        }
        files
    });
    let files = Arc::new(FileBell::new(watched.collect()));
    let mut templates = Templates { statuses: Vec::new(), tasks: JoinSet::new() };
    let mut destinations = BTreeSet::new();
    for (config, wake) in configs.into_iter().zip(wakes) {
        let destination = config.destination.clone();
        let first = destinations.insert(destination.clone());
        let error =
            if first { TemplateError::Unknown } else { TemplateError::Twice(destination.clone()) };
        let (sender, status) = channel::channel(TemplateStatus {
            source: config.source.clone(),
            destination,
            error: Some(error.to_string()),
            ..TemplateStatus::default()
        });
        templates.statuses.push(status);
        if first {
            let files = (Arc::clone(&files), wake);
            let task = Task::new(config, Arc::clone(&context), deadline, files, sender);
            templates.tasks.spawn(task.run(shutdown.clone()));
        }
    }
    templates
}
