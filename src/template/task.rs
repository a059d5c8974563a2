//! One template's life: look, wait for quiet, render, swap, command.
//!
//! Changes of the view wait for quiet; a master that stops being named does not, whether a record
//! says so or time does: the task sleeps no longer than until the earliest such moment, and then
//! looks again, since the view is refreshed without a bell. An old file is never touched by a
//! failure. The task never renders what was never read, and ends only with the agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::catalog::Catalog;
use sengu_core::debounce::Debounce;
use sengu_core::kv::Revision;
use sengu_core::record::MasterState;
use sengu_core::time::{Time, Wall};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use super::RenderContext;
use super::backoff::Backoff;
use super::command::{Command, program, wall};
use super::compose::{compose, emptied, manner, too_few};
use super::error::TemplateError;
use super::memory::Memory;
use super::once::{keep, picture, recalled};
use super::order::digest;
use super::render::{KeptServices, Rendered, Source, within};
use super::scene::{Masters, Scene, entries, expiry, fingerprint, lost, masters};
use super::status::TemplateStatus;
use super::swap::{Destination, Staged, SwapError, complete};
use super::watch::FileBell;
use crate::clock;
use crate::config::TemplateConfig;
use crate::hook::program::Ended;

/// The view may become fresh, or the host wake up, without a bell: looked at so often.
const POLL: Duration = Duration::from_millis(250);

/// Files are read and compared so often even if nothing woke the task.
const CHECK: Duration = Duration::from_secs(60);

/// A file that people edit is read once nobody has written to it for so long: an editor may have
/// emptied it and be about to fill it.
const SETTLE: Duration = Duration::from_millis(100);

/// A master that the file names from an earlier life of the agent, and whose record still stands,
/// may wait so long for this life's first look: a restart takes no line out and puts it back.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Waited for at most so often, so that a file that is written all the time holds nothing back.
const SETTLE_WAITS: u32 = 5;

/// Attempts in one turn, where a master moved or the file was edited during the one before.
const ATTEMPTS: u32 = 5;

/// A template, rendered for as long as the agent lives.
pub(crate) struct Task {
    config: Arc<TemplateConfig>,
    context: Arc<RenderContext>,
    /// The longest render.
    deadline: Duration,
    status: watch::Sender<TemplateStatus>,
    files: Arc<FileBell>,
    touched: Arc<Notify>,
    debounce: Debounce,
    seen: Option<Seen>,
    /// When this life of the agent began to look after it.
    started: Time,
    /// What the file was made of by an earlier life, with masters that are valid no more.
    old: Option<Arc<Catalog>>,
    /// That was looked for.
    recalled: bool,
    /// When there was a catalog for the first time.
    began: Option<Time>,
    /// The masters whose end is urgent: those in the file, less those whose removal just failed.
    shown: Masters,
    memory: Memory,
    memory_path: PathBuf,
    memory_error: Option<String>,
    /// What the file was made of was kept by this life of the agent.
    pictured: bool,
    /// Did the last render ask the key-value store?
    keys: bool,
    /// The services that the template was told last.
    kept: KeptServices,
    /// A hash of the file as this task wrote it.
    wrote: Option<u64>,
    /// The last catalog that was rendered and held something.
    good: Option<Arc<Catalog>>,
    /// A template that was too slow, and how often.
    slow: Option<(u64, u32)>,
    retry: Backoff,
    command: Command,
    check_at: Time,
}

/// What was last seen of the view.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    fingerprint: Revision,
    masters: Masters,
}

/// How an attempt ended that met no error.
enum Attempt {
    Settled,
    /// What it was made of is no longer so.
    Again,
}

impl Task {
    pub(crate) fn new(
        config: TemplateConfig,
        context: Arc<RenderContext>,
        deadline: Duration,
        (files, touched): (Arc<FileBell>, Arc<Notify>),
        status: watch::Sender<TemplateStatus>,
    ) -> Self {
        Self {
            debounce: Debounce::new(config.wait_min, config.wait_max),
            memory_path: Memory::path(&context.state_dir, &config.destination),
            command: Command::new(&config),
            config: Arc::new(config),
            context,
            deadline,
            status,
            files,
            touched,
            seen: None,
            started: clock::time(),
            old: None,
            recalled: false,
            began: None,
            shown: Masters::new(),
            memory: Memory::default(),
            memory_error: None,
            pictured: false,
            keys: false,
            kept: KeptServices::default(),
            wrote: None,
            good: None,
            slow: None,
            retry: Backoff::default(),
            check_at: clock::time() + CHECK,
        }
    }

    /// Runs until `shutdown` is true or nobody holds its other end; a program that runs then is
    /// killed, a swap that has begun is completed.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let (path, destination) = (self.memory_path.clone(), self.config.destination.clone());
        self.memory = blocking(move || Memory::read(&path, &destination)).await;
        self.shown = self.memory.masters.clone();
        self.complete().await;
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.turns() => {}
        }
    }

    /// A file that is written over in place may have been left half-way by a killed agent.
    async fn complete(&self) {
        let (config, context) = (Arc::clone(&self.config), Arc::clone(&self.context));
        let done = blocking(move || match manner(&config, &context)?.in_place {
            Some(copy) => Ok::<bool, TemplateError>(complete(&copy, &config.destination)?),
            None => Ok(false),
        });
        let file = self.config.destination.display();
        match done.await {
            Ok(true) => tracing::warn!(%file, "completed what was half written at the last end"),
            Ok(false) => {}
            // The first render meets the same and shows it.
            Err(error) => tracing::warn!(%file, "{error}"),
        }
    }

    async fn turns(&mut self) {
        let mut bell = self.context.view.bell();
        loop {
            let now = clock::time();
            if self.awaits_first_look(now) {
                clock::sleep_until(now + POLL / 10).await;
                continue;
            }
            self.recall(now).await;
            self.look(now);
            if self.retry.due(now) {
                self.debounce.urgent(now);
            }
            if self.check_at <= now {
                self.check_at = now + CHECK;
                self.files.again();
                self.debounce.urgent(now);
            }
            if self.debounce.due(now) {
                self.pass().await;
                continue;
            }
            if let Some(status) = self.command.start(&self.memory, clock::now()) {
                self.status.send_modify(|shown| shown.command = Some(status));
            }
            let wake = self.wake(now);
            tokio::select! {
                // Its sender lives in the view, which lives in the context.
                _ = bell.changed() => {}
                () = self.touched.notified() => self.debounce.changed(clock::time()),
                ended = self.command.ended() => {
                    let status = self.command.note(&mut self.memory, ended, clock::now());
                    if let Some(error) = &status.error {
                        let file = self.config.destination.display();
                        tracing::warn!(%file, "{error}; trying again");
                    }
                    // Kept before it is told: who waits for the end may stop all at once.
                    self.remember().await;
                    self.status.send_modify(|shown| shown.command = Some(status));
                }
                () = clock::sleep_until(wake) => {}
            }
        }
    }

    /// The catalog, if it was read and was ever fresh; else what is left of an earlier life's.
    fn catalog(&self) -> Option<Arc<Catalog>> {
        self.fresh().or_else(|| self.old.clone())
    }

    fn fresh(&self) -> Option<Arc<Catalog>> {
        self.context.view.catalog().filter(|catalog| catalog.valid_until > Time::ZERO)
    }

    /// This life of the agent has not heard of the store for as long as an answer counts, and the
    /// one before it no later: masters leave the file, as they would have without the restart.
    async fn recall(&mut self, now: Time) {
        let due = self.started + self.context.lease;
        if now < due || self.recalled || self.shown.is_empty() || self.fresh().is_some() {
            return;
        }
        self.recalled = true;
        let path = picture(&self.memory_path);
        match blocking(move || recalled(&path)).await {
            Ok(catalog) => self.old = Some(Arc::new(catalog)),
            Err(error) => {
                let file = self.config.destination.display();
                tracing::error!(%file, "a withdrawn master may stand in it: {error}");
            }
        }
    }

    /// Just started, is a master of the file not named only because it was not looked at yet?
    fn awaits_first_look(&mut self, now: Time) -> bool {
        let (None, Some(catalog)) = (&self.seen, self.catalog()) else { return false };
        if now.since(*self.began.get_or_insert(now)) >= FIRST_LOOK || now >= catalog.valid_until {
            return false;
        }
        let named = masters(&catalog, now);
        self.memory.masters.iter().any(|(service, (instance, address))| {
            let stands = catalog.service(service).is_some_and(|view| {
                let kept = view.kept_until().is_none_or(|until| now < until);
                kept && view.managed_record().is_some_and(|record| {
                    let holder = &record.holder;
                    record.state == MasterState::Serving
                        && (&holder.instance, &holder.address) == (instance, address)
                })
            });
            stands && !named.contains_key(service)
        })
    }

    /// Turns what changed in the view into what is to be done, and when.
    fn look(&mut self, now: Time) {
        let Some(catalog) = self.catalog() else { return };
        if lost(&self.shown, &catalog, now) {
            self.debounce.urgent(now);
        }
        let old = self.seen.take();
        let fingerprint = fingerprint(&catalog, self.keys);
        let masters = masters(&catalog, now);
        match &old {
            None => self.debounce.urgent(now),
            Some(old) if old.fingerprint != fingerprint || old.masters != masters => {
                self.debounce.changed(now);
            }
            Some(_) => {}
        }
        self.seen = Some(Seen { fingerprint, masters });
    }

    fn wake(&self, now: Time) -> Time {
        let expiry = self.catalog().and_then(|catalog| expiry(&self.shown, &catalog, now));
        [self.debounce.next(), expiry, self.retry.at(), self.command.retry(), Some(self.check_at)]
            .into_iter()
            .flatten()
            .fold(now + POLL, Time::min)
    }

    /// One turn of rendering, with its outcome noted.
    async fn pass(&mut self) {
        if self.catalog().is_none() {
            return;
        }
        let (began, writes) = (std::time::Instant::now(), self.status.borrow().writes);
        let mut outcome = Ok(Attempt::Again);
        for _ in 0..ATTEMPTS {
            outcome = self.attempt().await;
            if !matches!(outcome, Ok(Attempt::Again)) {
                break;
            }
        }
        let word = match &outcome {
            Ok(Attempt::Settled) if self.status.borrow().writes > writes => "written",
            Ok(Attempt::Settled) => "same",
            Ok(Attempt::Again) | Err(_) => "failed",
        };
        let file = self.config.destination.display().to_string();
        crate::metrics::get().rendered(&file, word, began.elapsed());
        let now = clock::now();
        let error = match outcome {
            Ok(Attempt::Settled) => {
                self.retry.clear();
                None
            }
            Ok(Attempt::Again) => {
                self.retry.failed(now.time);
                Some("things changed during each attempt".to_owned())
            }
            Err(error) => {
                if error.passes() {
                    self.retry.failed(now.time);
                } else {
                    self.retry.clear();
                }
                Some(error.to_string())
            }
        };
        let mut stale = Vec::new();
        if let (Some(_), Some(catalog)) = (&error, self.catalog()) {
            // Asked for once; from here on the retries and the next change decide.
            let gone = |service: &_, one: &_| {
                lost(
                    &Masters::from([(Clone::clone(service), Clone::clone(one))]),
                    &catalog,
                    now.time,
                )
            };
            self.shown.retain(|service, one| !gone(service, one));
            let old = self.memory.masters.iter().filter(|(service, one)| gone(service, one));
            stale = old.map(|(service, _)| service.to_string()).collect();
        }
        self.say(error.as_ref(), &stale);
        let retry = self.retry.at().map(|at| wall(at, now));
        self.status.send_modify(|shown| {
            shown.error = error;
            shown.stale = stale;
            shown.retry = retry;
        });
    }

    /// Into the log, once for each new error.
    fn say(&self, error: Option<&String>, stale: &[String]) {
        let file = self.config.destination.display();
        match error {
            Some(error) if self.status.borrow().error.as_ref() == Some(error) => {}
            Some(error) if stale.is_empty() => tracing::warn!(%file, "not rendered: {error}"),
            Some(error) => {
                let stale = stale.join(", ");
                tracing::error!(
                    %file,
                    "not rendered, and the file still names a withdrawn master of {stale}: {error}"
                );
            }
            None if self.status.borrow().error.is_some() => tracing::info!(%file, "rendered again"),
            None => {}
        }
    }

    async fn attempt(&mut self) -> Result<Attempt, TemplateError> {
        let Some(mut catalog) = self.catalog() else { return Err(TemplateError::Unknown) };
        let mut now = clock::time();
        let (source, destination) = self.read().await?;
        let mut kept =
            emptied(&self.config, &self.memory, &catalog).then_some(TemplateError::EmptyCatalog);
        let mut rendered = None;
        if kept.is_none() {
            let scene = Scene::new(Arc::clone(&catalog), now, &self.context);
            let fresh = self.render(source.clone(), scene).await?;
            kept = too_few(&self.config, &fresh.said);
            rendered = Some(fresh);
        }
        let rendered = match (kept.take(), rendered) {
            (None, Some(rendered)) => rendered,
            (why, _) => {
                let why = why.unwrap_or(TemplateError::EmptyCatalog);
                // What stood there stays, without its masters: at the end of time none is valid.
                let Some(good) = self.good.clone() else { return Err(why) };
                (catalog, now, kept) = (good, Time(u64::MAX), Some(why));
                let scene = Scene::new(Arc::clone(&catalog), now, &self.context);
                self.render(source, scene).await?
            }
        };
        let seen = (catalog.as_ref(), now);
        let bytes = compose(&self.config, &self.memory, &destination, &rendered.text, seen)?;
        let (size, id) = (bytes.len(), digest(&bytes));
        let write = destination.bytes.as_ref() != Some(&bytes);
        let drifted = write && destination.bytes.is_some() && self.printed(&rendered);
        if write {
            let manner = manner(&self.config, &self.context)?;
            let staged = blocking(move || destination.stage(&bytes, &manner)).await?;
            if !self.validated(&staged, &rendered.said.masters).await? {
                return Ok(Attempt::Again);
            }
            if !self.pictured && !rendered.said.masters.is_empty() {
                // The first is there before any file needs it; later ones delay no file.
                self.keep_picture(&catalog, rendered.said.keys).await;
            }
            self.foresee(&rendered.said.masters).await;
            match blocking(move || staged.swap()).await {
                Err(SwapError::Changed(_)) => return Ok(Attempt::Again),
                other => other?,
            }
            self.wrote = Some(id);
        }
        self.settle(rendered, &catalog, (write, drifted), size).await;
        if let Some(why) = kept {
            return Err(why);
        }
        if !self.memory.masters.is_empty() && (write || !self.pictured) {
            self.keep_picture(&catalog, self.keys).await;
        }
        self.good = Some(catalog);
        Ok(Attempt::Settled)
    }

    /// Was just this printed before? Then somebody else has changed the file.
    fn printed(&self, rendered: &Rendered) -> bool {
        self.memory.printed == Some(digest(rendered.text.as_bytes()))
    }

    /// Both files, once nobody is in the middle of writing them.
    async fn read(&self) -> Result<(Source, Destination), TemplateError> {
        let mut waits = 0;
        loop {
            let config = Arc::clone(&self.config);
            let (source, destination) = blocking(move || {
                (Source::read(&config.source), Destination::read(&config.destination))
            })
            .await;
            let (source, destination) = (source?, destination?);
            let ours = destination.bytes.as_ref().is_none_or(|bytes| {
                // Replaced whole, it does not matter what it is; nor if it is what we wrote.
                !self.config.block || self.wrote == Some(digest(bytes))
            });
            let written = [source.modified, destination.modified.filter(|_| !ours)];
            let now = clock::wall();
            if waits == SETTLE_WAITS || !written.into_iter().flatten().any(|at| fresh(at, now)) {
                return Ok((source, destination));
            }
            waits += 1;
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn render(&mut self, source: Source, scene: Scene) -> Result<Rendered, TemplateError> {
        let id = digest(source.text.as_bytes());
        let before = self.slow.filter(|(slow, _)| *slow == id).map_or(0, |(_, times)| times);
        let file = source.name.clone();
        let given_up = TemplateError::Slow { file, deadline: self.deadline, given_up: true };
        if before > 1 {
            return Err(given_up);
        }
        let scene = scene.with(&self.kept);
        let rendered = within(self.deadline, source, scene, &self.context).await;
        match rendered {
            Err(TemplateError::Slow { .. }) => {
                self.slow = Some((id, before + 1));
                if before > 0 { Err(given_up) } else { rendered }
            }
            other => {
                self.slow = None;
                other
            }
        }
    }

    /// Does the operator's program accept the new file? `false`: it names a master that was
    /// withdrawn meanwhile, whatever the program would say.
    async fn validated(&self, new: &Staged, masters: &Masters) -> Result<bool, TemplateError> {
        if let Some(argv) = &self.config.validate {
            let path = new.path().to_string_lossy();
            let argv: Vec<String> = argv.iter().map(|word| word.replace("{}", &path)).collect();
            let program = program(&argv, self.config.timeout);
            let run = tokio::select! {
                run = program.run() => run,
                () = self.until_lost(masters) => return Ok(false),
            };
            if let Ended::Badly(how) = run.ended {
                let (program, output) = (program.name().to_owned(), run.output);
                return Err(TemplateError::Refused { program, how, output });
            }
        }
        Ok(self.catalog().is_some_and(|catalog| !lost(masters, &catalog, clock::time())))
    }

    async fn until_lost(&self, masters: &Masters) {
        let mut bell = self.context.view.bell();
        loop {
            let now = clock::time();
            let mut wake = now + POLL;
            if let Some(catalog) = self.catalog() {
                if lost(masters, &catalog, now) {
                    return;
                }
                wake = expiry(masters, &catalog, now).map_or(wake, |at| at.min(wake));
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = clock::sleep_until(wake) => {}
            }
        }
    }

    /// Before the file changes: the command is owed for what comes, and these masters may stand in
    /// the file from now on. An agent that dies in between leaves one that can be withdrawn.
    async fn foresee(&mut self, masters: &Masters) {
        let before = self.memory.clone();
        if self.config.command.is_some() {
            self.memory.commanded = None;
        }
        for (service, master) in masters {
            self.memory.masters.entry(service.clone()).or_insert_with(|| master.clone());
        }
        if self.memory != before {
            self.remember().await;
        }
    }

    async fn settle(
        &mut self,
        rendered: Rendered,
        catalog: &Catalog,
        (write, drifted): (bool, bool),
        size: usize,
    ) {
        let now = clock::now();
        let before = self.memory.clone();
        self.memory.printed = Some(digest(rendered.text.as_bytes()));
        self.memory.entries = entries(catalog);
        self.keys = rendered.said.keys;
        self.memory.masters = rendered.said.masters.clone();
        self.shown = rendered.said.masters;
        if write {
            self.command.anew();
            tracing::info!(file = %self.config.destination.display(), bytes = size, "written");
        }
        if drifted {
            let file = self.config.destination.display();
            tracing::warn!(%file, "somebody else had changed what is sengu's in it: put back");
        }
        if self.memory != before {
            self.remember().await;
        }
        let mut warnings: Vec<String> =
            rendered.said.left_out.into_iter().map(|text| format!("left out: {text}")).collect();
        for path in [&self.config.destination, &PathBuf::from(&self.config.source)] {
            warnings.extend(self.files.failure(path));
        }
        warnings.dedup();
        warnings.extend(self.memory_error.clone());
        let waiting = self.command.waiting(&self.memory, now).filter(|_| write);
        self.status.send_modify(|shown| {
            shown.rendered = Some(now.wall);
            shown.bytes = size as u64;
            shown.warnings = warnings;
            if waiting.is_some() || shown.command.is_none() {
                shown.command = waiting;
            }
            if write {
                shown.written = Some(now.wall);
                shown.writes += 1;
            }
            if drifted {
                shown.repaired = Some(now.wall);
                shown.repairs += 1;
            }
        });
    }

    /// What a file with masters was made of is kept, so that they can be taken out without this
    /// agent.
    async fn keep_picture(&mut self, catalog: &Arc<Catalog>, keys: bool) {
        let (path, catalog) = (self.memory_path.clone(), Arc::clone(catalog));
        let kept = blocking(move || keep(&path, &catalog, keys)).await;
        self.pictured = kept.is_ok();
        if let Err(error) = kept {
            let file = self.config.destination.display();
            tracing::warn!(%file, "without an agent its masters could not be taken out: {error}");
        }
    }

    async fn remember(&mut self) {
        let (memory, path) = (self.memory.clone(), self.memory_path.clone());
        self.memory_error = blocking(move || memory.write(&path))
            .await
            .err()
            .map(|error| format!("{error}; after a restart the command may run once too often"));
    }
}

/// Was it written a moment ago? A time ahead of the clock tells nothing.
fn fresh(at: Wall, now: Wall) -> bool {
    u64::try_from(now.0.saturating_sub(at.0)).is_ok_and(|age| Duration::from_millis(age) < SETTLE)
}

/// Does file work beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("file work does not panic, and the runtime still stands")
}
