//! Puts the agent together, and takes it apart when it is told to end.
//!
//! Order: the store first (a second agent on the folder, a damaged file and a full disk end here),
//! then the loop, then the outputs. When it ends, databases are left as they are: a master goes on
//! without its agent, unnamed by this host's outputs; with etcd, others can take after its lease.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use sengu_core::event::Event;
use sengu_core::explain::Explanation;
use sengu_core::name::{InstanceId, InstanceName, ServiceName};
use sengu_core::policy::Judge;
use sengu_core::report::ServiceReport;
use sengu_core::time::{Now, Time};
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::fence::{self, FenceClock};
use super::instance::Instance;
use super::opened::Opened;
use super::releases::{Flaw, Releases};
use super::turn::{EVENTS, Parts, Query, Turner};
use super::{identity, storing};
use crate::audit::{self, Audit};
use crate::board::Board;
use crate::config::{Config, ServiceConfig, StoreConfig};
use crate::database;
use crate::guard::word::{self, Slate};
use crate::guard::{Standing, Watch};
use crate::hook::{Hooks, Teller};
use crate::http::{self, Recorders};
use crate::journal::Journal;
use crate::journal::witness::Witness;
use crate::notify::{Notifier, Pulse, Voice};
use crate::operator;
use crate::probe::{Checks, Folders, Setup, Sources, Target};
use crate::store::Store;
use crate::template::{RenderContext, Shelf, TemplateStatus};
use crate::view::View;

/// Queries of the loop that wait at most.
const QUERIES: usize = 64;

/// Threads of the agent's own at most, however large the machine: it waits more than it works, and
/// each costs memory beside the database.
const WORKERS: usize = 4;

/// The first picture is looked for so often: it comes without a bell.
const FIRST_PICTURE: std::time::Duration = std::time::Duration::from_millis(20);

/// Runs the agent until it is told to end.
///
/// # Errors
/// What keeps it from starting, or from going on.
pub fn run(config: Config, file: PathBuf) -> anyhow::Result<()> {
    // One provider for every TLS client of this process; a second call finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let notifier = Notifier::of_environment();
    let fences = fence::runtime().context("the fence's thread could not be started")?;
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = Builder::new_multi_thread()
        .worker_threads(processors.min(WORKERS))
        .enable_all()
        .thread_name("sengu")
        .build()
        .context("the agent's threads could not be started")?;
    let voice = notifier.voice();
    let result = runtime.block_on(live(config, file, fences.handle().clone(), voice));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    fences.shutdown_background();
    result
}

async fn live(config: Config, file: PathBuf, fences: Handle, voice: Voice) -> anyhow::Result<()> {
    let Opened { store, mut broken, agent, releases, _claim } = Opened::of(&config).await?;
    let start = identity::random()?;
    let view = Arc::new(View::default());
    let journal = Arc::new(Journal::new(&start));
    let audit = audit_of(&config)?;
    let board = Arc::new(Board::default());
    let (events, received) = mpsc::channel(EVENTS);
    let (queries, asked) = mpsc::channel(QUERIES);
    let (stop, stopped) = watch::channel(false);
    let assembly =
        Assembly { agent, start, fences, board: Arc::clone(&board), events: events.clone() };

    let parts = assembly.parts(&config, None)?;
    let running = Running { config: config.clone(), instances: parts.instances.clone() };
    let data_dir = config.data_dir.clone();
    let teller = teller(&parts, (&view, &store), &config, &stopped);
    let witness = Witness::new(Arc::clone(&journal));
    let (reads, writes) = (Arc::clone(&view), Arc::clone(&store));
    let clock = assembly.clock(parts.core.judge)?;
    let turner = Turner::new(parts, writes, reads, witness, data_dir, events.clone(), clock);
    let turner = turner.telling(Pulse::new(voice.clone()), slate(&config)?);
    let guard = Watch::start(config.guard, &config.socket);
    let mut turning = tokio::spawn(turner.run(received, asked));
    follow_store(&config, &store, &view, events);

    let recording = (journal, Arc::clone(&audit));
    let Checking { checks, context, folders } =
        Checking::start(&config, &view, &store, &board, recording, &stopped);
    let (reads, end) = (Arc::clone(&view), ended(stopped.clone()));
    let dns = crate::dns::serve(&config.dns, &config.datacenter, reads, end).await?;
    let gate = gate_of(&config)?;
    let templates = RenderContext::of(&config, Arc::clone(&view));
    let templates = Arc::new(Shelf::start(config.templates.clone(), templates));
    let desk = Arc::new(Desk {
        queries,
        checks,
        folders,
        teller,
        templates: Arc::clone(&templates),
        gate: Arc::clone(&gate),
        guard,
        releases,
        voice: voice.clone(),
        reload: Mutex::new(Reload { file, running, assembly }),
    });
    let (verbs, end) = (Arc::clone(&desk), ended(stopped.clone()));
    let http = http::serve(&config.http, gate, Arc::clone(&context), Some(verbs), end).await?;
    let socket = operator::serve(&config.socket, context, desk, ended(stopped.clone())).await?;
    let (dns, web, path) = (dns.addresses, &http.addresses, socket.path.display());
    let (host, services) = (&config.host, config.services.len());
    tracing::info!(%host, services, ?dns, http = ?web, socket = %path, "the agent runs");
    tokio::spawn(tell_ready(voice.clone(), view));

    let result = until_told(&mut broken, &mut turning).await;
    voice.stopping();
    tracing::info!("the agent ends; databases are left as they are");
    // Receivers may be gone already.
    let _ = stop.send(true);
    socket.ended().await;
    http.ended().await;
    templates.end().await;
    audit.end();
    turning.abort();
    result
}

/// Follows the store's changes; a shared one is asked for its freshness, too.
fn follow_store(
    config: &Config,
    store: &Arc<dyn Store>,
    view: &Arc<View>,
    events: mpsc::Sender<Event>,
) {
    if matches!(config.store, StoreConfig::Etcd(_)) {
        let (store, view, events) = (Arc::clone(store), Arc::clone(view), events.clone());
        tokio::spawn(storing::freshen(store, view, events, config.lease));
    }
    tokio::spawn(storing::follow(Arc::clone(store), events));
}

/// Who may ask what over HTTP.
fn gate_of(config: &Config) -> anyhow::Result<Arc<http::Gate>> {
    let gate = http::Gate::new(&config.http, &config.tokens);
    Ok(Arc::new(gate.map_err(|error| anyhow::anyhow!("http: {error}"))?))
}

/// Opens the record of what was done.
fn audit_of(config: &Config) -> anyhow::Result<Arc<Audit>> {
    let audit = Audit::open(&config.data_dir, audit::Bounds::default())
        .with_context(|| format!("the audit in {} cannot be opened", config.data_dir.display()))?;
    Ok(Arc::new(audit))
}

/// Starts telling this host's hooks of what the catalog shows.
fn teller(
    parts: &Parts,
    (view, store): (&Arc<View>, &Arc<dyn Store>),
    config: &Config,
    stopped: &watch::Receiver<bool>,
) -> Arc<Teller> {
    let (hooks, view, store) = (Arc::clone(&parts.hooks), Arc::clone(view), Arc::clone(store));
    let host = config.host.clone();
    let teller = Arc::new(Teller::new(hooks, (view, store), host, &config.data_dir));
    tokio::spawn(Arc::clone(&teller).run(ended(stopped.clone())));
    teller
}

/// What looks at things: check files, registered checks, and the server that shows them.
struct Checking {
    checks: Arc<Checks>,
    context: Arc<http::Context>,
    folders: Arc<Folders>,
}

impl Checking {
    fn start(
        config: &Config,
        view: &Arc<View>,
        store: &Arc<dyn Store>,
        board: &Arc<Board>,
        (journal, audit): (Arc<Journal>, Arc<Audit>),
        stopped: &watch::Receiver<bool>,
    ) -> Self {
        let targets = Target::all(config);
        let sources =
            Sources { board: Arc::clone(board), view: Arc::clone(view), ..Sources::default() };
        // Read before anything listens, so that the first answer knows them; what is wrong in the
        // folder is said by who follows it.
        let (definitions, _) = crate::probe::load(&config.checks);
        let checks = Checks::start(definitions, targets.clone(), sources, Setup::of(config));
        let checks = Arc::new(checks);
        let (view, store) = (Arc::clone(view), Arc::clone(store));
        let recorders = Recorders { journal, audit, checks: Some(Arc::clone(&checks)) };
        let context = http::Context::new(config, view, store, Arc::clone(board), recorders);
        let context = Arc::new(context);
        let registered = &context.registered;
        tokio::spawn(Arc::clone(registered).run(ended(stopped.clone())));
        let folders = Folders::new(
            Arc::clone(&checks),
            Arc::clone(registered),
            config.checks.clone(),
            targets,
        );
        let folders = Arc::new(folders);
        tokio::spawn(Arc::clone(&folders).follow(ended(stopped.clone())));
        Self { checks, context, folders }
    }
}

/// Waits for a signal, the end of the store or the end of the loop.
async fn until_told(
    broken: &mut watch::Receiver<Option<String>>,
    turning: &mut JoinHandle<Result<(), String>>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = told_broken(broken) => {
            Err(anyhow::anyhow!("the store is broken, so the agent ends: {why}"))
        }
        ended = turning => match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(anyhow::anyhow!(why)),
            Err(panic) => Err(anyhow::anyhow!("internal error in the loop: {panic}")),
        },
    }
}

/// Tells the service manager that names are answered from now on: all outputs listen, and there is
/// a picture to answer from. A store that does not answer is waited for, and the line of status
/// says so.
async fn tell_ready(voice: Voice, view: Arc<View>) {
    if view.catalog().is_none_or(|catalog| catalog.valid_until == Time::ZERO) {
        voice.status("waits for the first answer of the store".to_owned());
    }
    while view.catalog().is_none_or(|catalog| catalog.valid_until == Time::ZERO) {
        tokio::time::sleep(FIRST_PICTURE).await;
    }
    voice.ready();
}

/// What the guard is told by, if there is one.
fn slate(config: &Config) -> anyhow::Result<Option<Slate>> {
    if !config.guard {
        return Ok(None);
    }
    let slate = Slate::start(word::path(&config.socket), config.lease / 8);
    Ok(Some(slate.context("the guard's word cannot be kept")?))
}

/// Waits until the store must not be written any more, and tells why.
async fn told_broken(broken: &mut watch::Receiver<Option<String>>) -> String {
    match broken.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "its writer is gone".to_owned(),
    }
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // A dropped sender ends it too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// What is needed to make instances and hooks from a configuration.
struct Assembly {
    agent: String,
    start: String,
    fences: Handle,
    board: Arc<Board>,
    events: mpsc::Sender<Event>,
}

impl Assembly {
    /// The thread that fences on time; where one agent judges alone nothing has a deadline.
    fn clock(&self, judge: Judge) -> anyhow::Result<Option<FenceClock>> {
        let Judge::Shared { fence, .. } = judge else { return Ok(None) };
        let started = FenceClock::start(self.fences.clone(), self.events.clone(), fence);
        Ok(Some(started.context("no fence can be kept in time")?))
    }

    /// Instances that `before` runs with the same settings are kept as they are, with their
    /// connections and what is under way.
    fn parts(&self, config: &Config, before: Option<&Running>) -> anyhow::Result<Parts> {
        let mut core = config.core(self.agent.clone(), self.start.clone());
        core.remembered = identity::remembered(&config.data_dir)?;
        let mut instances = BTreeMap::new();
        for (service, settings) in &config.services {
            for instance in settings.instances.keys() {
                let id = InstanceId { service: service.clone(), instance: instance.clone() };
                if let Some(running) = before.and_then(|before| before.unchanged(&id, settings)) {
                    instances.insert(id, running);
                    continue;
                }
                let database = database::open(settings, instance, self.fences.clone())
                    .map_err(|why| anyhow::anyhow!("instance `{id}`: {why}"))?;
                let (interval, timeout) = (settings.interval, settings.timeout);
                let (board, events) = (Arc::clone(&self.board), self.events.clone());
                let running =
                    Instance::start(id.clone(), database, interval, timeout, board, events);
                instances.insert(id, Arc::new(running));
            }
        }
        let hooks =
            Hooks::new(config.hooks.clone(), config.host.clone(), config.datacenter.clone());
        Ok(Parts { core: Arc::new(core), instances, hooks: Arc::new(hooks) })
    }
}

/// The loop, as the socket's verbs see it.
struct Desk {
    queries: mpsc::Sender<Query>,
    checks: Arc<Checks>,
    folders: Arc<Folders>,
    teller: Arc<Teller>,
    templates: Arc<Shelf>,
    gate: Arc<http::Gate>,
    guard: Watch,
    releases: Arc<Releases>,
    voice: Voice,
    reload: Mutex<Reload>,
}

struct Reload {
    file: PathBuf,
    running: Running,
    assembly: Assembly,
}

/// The configuration in force and the instances that run by it.
struct Running {
    config: Config,
    instances: BTreeMap<InstanceId, Arc<Instance>>,
}

impl Running {
    /// The instance, if nothing that its tasks know has changed.
    fn unchanged(&self, id: &InstanceId, fresh: &ServiceConfig) -> Option<Arc<Instance>> {
        let old = self.config.services.get(&id.service)?;
        let address = |service: &ServiceConfig| Some(service.instances.get(&id.instance)?.address);
        let same = address(old) == address(fresh)
            && old.kind == fresh.kind
            && old.credentials == fresh.credentials
            && old.tls == fresh.tls
            && (old.interval, old.timeout) == (fresh.interval, fresh.timeout);
        if same { self.instances.get(id).map(Arc::clone) } else { None }
    }
}

impl Desk {
    async fn ask(&self, service: Option<ServiceName>) -> Vec<ServiceReport> {
        let (reply, answer) = oneshot::channel();
        if self.queries.send(Query::Report(service, reply)).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}

#[async_trait]
impl operator::Agent for Desk {
    async fn reports(&self, _now: Now) -> Vec<ServiceReport> {
        self.ask(None).await
    }

    async fn report(&self, service: &ServiceName, _now: Now) -> Option<ServiceReport> {
        self.ask(Some(service.clone())).await.pop()
    }

    async fn explain(&self, service: &ServiceName, now: Now) -> Option<Explanation> {
        let (reply, answer) = oneshot::channel();
        self.queries.send(Query::Copy(reply)).await.ok()?;
        let (machine, service) = (answer.await.ok()?, service.clone());
        // A rehearsal takes a moment; the loop must not wait for it.
        let told = tokio::task::spawn_blocking(move || machine.explain(now, &service));
        told.await.ok()?
    }

    async fn would_switch(
        &self,
        service: &ServiceName,
        to: Option<&InstanceName>,
    ) -> Result<InstanceName, String> {
        let (reply, answer) = oneshot::channel();
        let query = Query::WouldSwitch(service.clone(), to.cloned(), reply);
        let ends = || "the agent ends".to_owned();
        self.queries.send(query).await.map_err(|_| ends())?;
        answer.await.map_err(|_| ends())?
    }

    async fn checks(&self) -> serde_json::Value {
        let masters: BTreeMap<ServiceName, Option<InstanceName>> = self
            .ask(None)
            .await
            .into_iter()
            .map(|report| (report.service, report.master))
            .collect();
        let mut reports = self.checks.snapshot(crate::clock::now());
        for report in &mut reports {
            let master = masters.get(&report.service).and_then(Option::as_ref);
            report.named = master == Some(&report.instance);
        }
        serde_json::to_value(reports).unwrap_or_default()
    }

    async fn templates(&self) -> Vec<TemplateStatus> {
        self.templates.status().await
    }

    async fn guard(&self) -> Standing {
        self.guard.standing()
    }

    async fn flaws(&self) -> Vec<Flaw> {
        self.releases.flaws()
    }

    async fn reload(&self) -> Result<String, String> {
        self.voice.reloading();
        let ended = self.read_again().await;
        self.voice.ready();
        ended
    }
}

impl Desk {
    async fn read_again(&self) -> Result<String, String> {
        let mut reload = self.reload.lock().await;
        let fresh = Config::load(&reload.file).map_err(|error| error.render(false, 100))?;
        let mut changes = reload.running.config.diff(&fresh);
        self.refuse_reload(&reload.running.config, &fresh).await?;
        let stays = |error| format!("http: {error}; the old configuration stays");
        let door = http::Gate::prepare(&fresh.http, &fresh.tokens).map_err(stays)?;
        if changes.is_empty() {
            // Certificates are files of their own.
            let told = self.gate.change(door);
            return Ok(told.unwrap_or_else(|| "nothing has changed".to_owned()));
        }
        let (reply, answer) = oneshot::channel();
        let parts = reload
            .assembly
            .parts(&fresh, Some(&reload.running))
            .map_err(|error| format!("{error:#}; the old configuration stays"))?;
        let instances = parts.instances.clone();
        changes.extend(self.gate.change(door));
        self.teller.replace(Arc::clone(&parts.hooks));
        self.queries
            .send(Query::Configure(Box::new(parts), reply))
            .await
            .map_err(|_| "the agent ends".to_owned())?;
        answer.await.map_err(|_| "the agent ends".to_owned())?;
        if reload.running.config.templates != fresh.templates {
            self.templates.replace(fresh.templates.clone()).await;
        }
        let problems = self.folders.replace(fresh.checks.clone(), Target::all(&fresh)).await;
        reload.running = Running { config: fresh, instances };
        let problems = problems.iter().map(|problem| format!("warning: {problem}"));
        Ok(changes.into_iter().chain(problems).collect::<Vec<_>>().join("\n"))
    }

    /// What a running agent cannot take over.
    async fn refuse_reload(&self, old: &Config, fresh: &Config) -> Result<(), String> {
        let fixed: [(&str, bool); 11] = [
            ("host", old.host != fresh.host),
            ("data_dir", old.data_dir != fresh.data_dir),
            ("socket", old.socket != fresh.socket),
            ("datacenter", old.datacenter != fresh.datacenter),
            ("guard", old.guard != fresh.guard),
            ("store.lease", old.lease != fresh.lease),
            ("store", old.store != fresh.store),
            ("dns", old.dns != fresh.dns),
            ("http.listen", old.http.listen != fresh.http.listen),
            ("http.limits", old.http.limits != fresh.http.limits),
            ("checks.http_scripts", old.checks.http_scripts != fresh.checks.http_scripts),
        ];
        if let Some((key, _)) = fixed.iter().find(|(_, changed)| *changed) {
            return Err(format!(
                "`{key}` changes only when the agent is started again; nothing was reloaded"
            ));
        }
        for report in self.ask(None).await {
            if report.state == "not adopted" || report.state == "unmanaged" {
                continue;
            }
            let Some(before) = old.services.get(&report.service) else { continue };
            for instance in before.instances.keys() {
                let after = fresh.services.get(&report.service);
                let place = after.and_then(|service| service.instances.get(instance));
                let same = place.map(|place| place.address)
                    == before.instances.get(instance).map(|place| place.address);
                let holds = report.holder.as_ref() == Some(instance);
                if holds && !same {
                    return Err(format!(
                        "`{instance}` holds service {}: move it away with `sengu switchover {}`, or \
                         end that with `sengu release {}`, before it is removed or re-addressed",
                        report.service, report.service, report.service
                    ));
                }
            }
        }
        Ok(())
    }
}
