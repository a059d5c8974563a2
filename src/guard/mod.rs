//! The guard: a process of its own that fences this host's masters when their agent is dead or
//! stands still.
//!
//! The agent writes down what it holds and when its own fence would start (`word.rs`). The guard
//! arms the very same fence thread for a quarter of the fence's budget later, over connections of
//! its own that were opened before. An agent that lives moves that deadline with each acknowledged
//! beat; one that is started again in time does, too; one that is gone or stopped does not, and the
//! fence is over before anybody may take over. What the agent never promised is never fenced: with
//! the embedded store nobody else can take over, so there nothing is. When the agent was silent for
//! a lease, masters are taken out of the rendered files, which it cannot keep true any more.
//!
//! It decides nothing else: it reads no store, promotes nothing and never opens what it closed.

mod claim;
pub(crate) mod word;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sengu_core::event::{ControlOutcome, Event};
use sengu_core::name::InstanceId;
use sengu_core::time::Time;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::agent::fence::{self, Charge, FenceClock};
use crate::audit::{self, Deed, Via, Who};
use crate::config::{Config, StoreConfig, count};
use crate::database::{self, Database};
use crate::notify::{Notifier, Pulse};
use crate::{clock, template};
use claim::Claim;
pub use claim::{Standing, Watch};
use word::{Duty, Word};

/// The word is read so often at most, and at least.
const READ: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// The configuration is looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// Ends of fences that wait at most.
const EVENTS: usize = 256;

/// Guards until it is told to end.
///
/// # Errors
/// What keeps it from starting.
pub fn run(config: Config, file: PathBuf) -> anyhow::Result<()> {
    // One provider for every TLS client of this process; a second call finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let notifier = Notifier::of_environment();
    let fences = fence::runtime().context("the fence's thread could not be started")?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("sengu-guard")
        .build()
        .context("the guard's thread could not be started")?;
    let result = runtime.block_on(live(config, &file, fences.handle(), &notifier));
    notifier.voice().stopping();
    runtime.shutdown_timeout(Duration::from_secs(1));
    fences.shutdown_background();
    result
}

async fn live(
    mut config: Config,
    file: &Path,
    fences: &Handle,
    notifier: &Notifier,
) -> anyhow::Result<()> {
    let _claim = Claim::take(&config.socket)?;
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let mut pulse = Pulse::new(notifier.voice());
    let mut keeper = Keeper::new(config.clone(), fences, None)?;
    tracing::info!(
        host = %config.host,
        instances = keeper.databases.len(),
        word = %keeper.path.display(),
        "the guard runs"
    );
    let mut looked = clock::time();
    let mut ready = false;
    loop {
        keeper.turn().await;
        if !ready {
            notifier.voice().ready();
            ready = true;
        }
        let now = clock::time();
        pulse.turned(now, || keeper.status(now));
        if now.since(looked) >= LOOK {
            looked = now;
            if let Some(fresh) = changed(&config, file) {
                if fresh.socket != config.socket {
                    bail!("`socket` has changed: start the guard again");
                }
                tracing::info!("the configuration has changed");
                keeper = Keeper::new(fresh.clone(), fences, Some(keeper))?;
                config = fresh;
            }
        }
        if wait(&mut signals, keeper.pause.min(pulse.pause())).await {
            tracing::info!("the guard ends; nothing is fenced by that");
            return Ok(());
        }
    }
}

/// Another configuration than this, if it is good.
fn changed(config: &Config, file: &Path) -> Option<Config> {
    Config::load(file).ok().filter(|fresh| fresh != config)
}

/// Waits so long; true if a signal came.
async fn wait([terminate, interrupt]: &mut [Signal; 2], pause: Duration) -> bool {
    tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

/// What is guarded by one configuration.
struct Keeper {
    config: Config,
    path: PathBuf,
    databases: BTreeMap<InstanceId, Arc<dyn Database>>,
    /// Looks at each of them, so that their connections and processes are known.
    _looks: JoinSet<()>,
    /// None with the embedded store.
    clock: Option<FenceClock>,
    ends: mpsc::Receiver<Event>,
    /// What the agent's own fence has; the guard begins a quarter of it later.
    budget: Duration,
    pause: Duration,
    known: Option<Word>,
    /// The word could not be read, as it was said.
    unread: Option<String>,
    /// Masters were taken out of the files since the agent fell silent.
    withdrawn: bool,
}

impl Keeper {
    /// `before` is what it takes the place of: it is still armed until this one is.
    fn new(config: Config, fences: &Handle, before: Option<Self>) -> anyhow::Result<Self> {
        let (events, ends) = mpsc::channel(EVENTS);
        let budget = match &config.store {
            StoreConfig::Etcd(etcd) => etcd.fence,
            StoreConfig::Embedded => config.lease / 4,
        };
        let clock = match config.store {
            StoreConfig::Embedded => None,
            StoreConfig::Etcd(_) => {
                let left = budget - budget / 4;
                let clock = FenceClock::start(fences.clone(), events, left);
                Some(clock.context("no fence can be kept in time")?)
            }
        };
        let mut databases = BTreeMap::new();
        let mut looks = JoinSet::new();
        for (name, service) in &config.services {
            for instance in service.instances.keys() {
                let id = InstanceId { service: name.clone(), instance: instance.clone() };
                let database = database::open(service, instance, fences.clone())
                    .map_err(|why| anyhow::anyhow!("instance `{id}`: {why}"))?;
                let every = service.interval.max(config.lease / 4);
                looks.spawn(look(Arc::clone(&database), every, service.timeout));
                databases.insert(id, database);
            }
        }
        let (path, withdrawn) = (word::path(&config.socket), false);
        let pause = (budget / 16).clamp(READ.0, READ.1);
        let mut keeper = Self {
            config,
            path,
            databases,
            _looks: looks,
            clock,
            ends,
            budget,
            pause,
            known: None,
            unread: None,
            withdrawn,
        };
        if let Some(before) = before {
            keeper.withdrawn = before.withdrawn;
            if let Some(word) = before.known {
                keeper.obey(word, Time::ZERO);
            }
        }
        Ok(keeper)
    }

    /// Reads the agent's word and does what follows from it.
    async fn turn(&mut self) {
        match Word::read(&self.path) {
            Ok(Some(word)) => {
                self.unread = None;
                let overdue = if self.known.is_none() { clock::time() } else { Time::ZERO };
                if self.known.as_ref() != Some(&word) {
                    self.obey(word, overdue);
                }
            }
            // What was known holds on: an agent that has nothing to guard says so.
            Ok(None) => self.unread = None,
            Err(error) => {
                let error = error.to_string();
                if self.unread.as_ref() != Some(&error) {
                    tracing::warn!(path = %self.path.display(), error, "not understood");
                    self.unread = Some(error);
                }
            }
        }
        while let Ok(event) = self.ends.try_recv() {
            self.tell(event).await;
        }
        self.files(clock::time()).await;
    }

    /// Arms what the word says. At the guard's own start, what was due before `overdue` is left to
    /// an agent that turns.
    fn obey(&mut self, word: Word, overdue: Time) {
        let alive = self.silence(&word, overdue) < self.config.lease;
        let same = self.known.as_ref().is_some_and(|known| known.duties == word.duties);
        if let Some(clock) = self.clock.as_ref().filter(|_| !same) {
            let duties = word.duties.iter().filter(|duty| !(alive && duty.at < overdue));
            clock.arm(duties.filter_map(|duty| self.charge(duty)).collect());
        }
        self.known = Some(word);
    }

    fn charge(&self, duty: &Duty) -> Option<Charge> {
        let instance =
            InstanceId { service: duty.service.clone(), instance: duty.instance.clone() };
        let configured = self.config.services.get(&duty.service);
        let place = configured.and_then(|service| service.instances.get(&duty.instance));
        let database = self
            .databases
            .get(&instance)
            .filter(|_| place.is_some_and(|place| place.address == duty.address));
        let Some(database) = database else {
            tracing::error!(%instance, address = %duty.address, "held, and not configured so here");
            return None;
        };
        let (database, term, kill) = (Arc::clone(database), duty.term, duty.kill);
        Some(Charge { instance, term, at: duty.at + self.budget / 4, database, kill })
    }

    fn silence(&self, word: &Word, now: Time) -> Duration {
        now.since(word.turned)
    }

    /// Takes masters out of the rendered files once the agent was silent for a lease.
    async fn files(&mut self, now: Time) {
        let Some(word) = &self.known else { return };
        if self.silence(word, now) < self.config.lease {
            self.withdrawn = false;
            return;
        }
        if std::mem::replace(&mut self.withdrawn, true) || self.config.templates.is_empty() {
            return;
        }
        let lease = crate::duration::format(self.config.lease);
        tracing::warn!("the agent was silent for {lease}: masters leave the rendered files");
        let config = self.config.clone();
        // Programs may take their time; fences do not wait for them.
        tokio::spawn(async move {
            for status in template::withdraw(&config).await {
                let file = status.destination.display();
                match &status.error {
                    Some(error) => tracing::error!(%file, "still names a master: {error}"),
                    None => tracing::warn!(%file, "names no master any more"),
                }
            }
        });
    }

    /// Keeps what a fence came to, for who reads `sengu audit`.
    async fn tell(&self, event: Event) {
        let Event::FenceFired { instance, term, outcome } = event else { return };
        let (good, outcome) = match outcome {
            ControlOutcome::Done { .. } => (true, "fenced".to_owned()),
            ControlOutcome::Exited { .. } => (true, "its process was ended".to_owned()),
            ControlOutcome::Failed { error, .. } => (false, error),
        };
        let deed = Deed {
            at: clock::wall(),
            via: Via::Command,
            who: Who::own(),
            what: format!("guard: fence of {instance} (term {term}), whose agent did not beat"),
            good,
            outcome,
            ms: 0,
        };
        let data_dir = self.config.data_dir.clone();
        // Not waited for: a disk may hang.
        tokio::task::spawn_blocking(move || audit::note_alone(&data_dir, deed));
    }

    /// A line for the service manager.
    fn status(&self, now: Time) -> String {
        let Some(word) = &self.known else {
            return "waits for the agent's first word (`guard = true`)".to_owned();
        };
        let silent = self.silence(word, now);
        if silent >= self.config.lease {
            return format!("the agent has been silent for {} s", silent.as_secs());
        }
        match self.clock {
            None => "the agent turns; with the embedded store nothing is fenced".to_owned(),
            Some(_) => format!("the agent turns; guards {}", count(word.duties.len(), "master")),
        }
    }
}

/// Looks at an instance for as long as it is guarded, and goes through its fence once for each
/// life of it.
async fn look(database: Arc<dyn Database>, every: Duration, timeout: Duration) {
    let (mut rehearsed, mut said) = (None, None);
    loop {
        let began = Instant::now();
        let seen = database.observe(timeout).await;
        if rehearsed != Some(seen.boot_id.clone()) {
            let wrong = database.rehearse().await.err();
            if let Some(why) = wrong.as_ref().filter(|why| said.as_ref() != Some(*why)) {
                tracing::warn!("the guard's fence is not possible in full: {why}");
            }
            if wrong.is_none() {
                rehearsed = Some(seen.boot_id);
            }
            said = wrong;
        }
        tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
    }
}
