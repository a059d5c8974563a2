//! Keeps the checks that clients registered with this agent, over HTTP or in definition files.
//!
//! One task for each, started and ended as its record comes, changes and goes: the catalog is the
//! list, so nothing is kept beside it. What a check finds is written into its record when its
//! status changes, and at most every five minutes when only its words do. Looks are staggered and
//! never overlap. A TTL check that is not told in time becomes critical; after a start of the
//! agent it has its whole time again. A service whose check asks for that is removed once it has
//! been critical for long enough.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sengu_core::catalog::Catalog;
use sengu_core::consul::definition::{Definition, Way};
use sengu_core::consul::directory::{Directory, KINDS, Place};
use sengu_core::consul::record::{CheckRecord, Status};
use sengu_core::consul::streak::Streak;
use sengu_core::consul::{Plan, Refusal, Verdict, agent};
use sengu_core::time::Time;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::http::{Asking, shown};
use super::runner::{hash, next};
use super::script::{Ran, clean, execute};
use super::{alias, clip};
use crate::store::Store;
use crate::view::View;
use crate::{clock, duration};

/// New words for an unchanged status are written at most so often.
const WORDS_EVERY: Duration = Duration::from_secs(300);
/// Critical services are looked for so often.
const REAP_EVERY: Duration = Duration::from_secs(30);
/// The first look comes within this, however long the interval is.
const LATEST_FIRST: Duration = Duration::from_secs(10);
/// Attempts at one write, and how long each may take.
const ATTEMPTS: u32 = 5;
const STORE_WAIT: Duration = Duration::from_secs(10);
/// Bytes of an output that are kept.
const OUTPUT_MAX: usize = 4096;

/// May registered checks run programs?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scripts {
    /// Those of definition files.
    pub files: bool,
    /// Those that clients brought over HTTP.
    pub clients: bool,
}

/// The registered checks of this host.
pub struct Registered {
    view: Arc<View>,
    store: Arc<dyn Store>,
    place: Place,
    scripts: Scripts,
    told: Mutex<BTreeMap<String, Told>>,
    bell: watch::Sender<u64>,
}

/// What a check said last.
#[derive(Debug, Clone)]
struct Told {
    at: Time,
    output: String,
    /// When its words were written last.
    wrote: Option<Time>,
}

/// A check that is kept; its task ends with this.
struct Running {
    definition: Definition,
    from_file: bool,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Registered {
    /// Nothing is looked at before [`Registered::run`].
    #[must_use]
    pub fn new(view: Arc<View>, store: Arc<dyn Store>, place: Place, scripts: Scripts) -> Self {
        let bell = watch::channel(0).0;
        Self { view, store, place, scripts, told: Mutex::default(), bell }
    }

    /// May clients, and files, bring programs?
    #[must_use]
    pub fn scripts(&self) -> Scripts {
        self.scripts
    }

    /// A client told how a TTL check stands.
    pub fn beat(&self, id: &str, output: &str) {
        self.note(id, output);
        self.bell.send_modify(|count| *count += 1);
    }

    /// What a check said last, if that was since the start.
    #[must_use]
    pub fn output(&self, id: &str) -> Option<String> {
        self.told().get(id).map(|told| told.output.clone())
    }

    /// Is this worth a write: another status, or words that were not written for long?
    #[must_use]
    pub fn worth(&self, record: &CheckRecord, status: Status, output: &str) -> bool {
        let now = clock::time();
        let told = self.told();
        let wrote = told.get(&record.id).and_then(|told| told.wrote);
        record.status != status
            || (record.output != clip(output, OUTPUT_MAX)
                && wrote.is_none_or(|at| now.since(at) >= WORDS_EVERY))
    }

    /// Its words were written.
    pub fn wrote(&self, id: &str) {
        if let Some(told) = self.told().get_mut(id) {
            told.wrote = Some(clock::time());
        }
    }

    fn note(&self, id: &str, output: &str) {
        let (at, output) = (clock::time(), clip(output, OUTPUT_MAX));
        let mut all = self.told();
        let wrote = all.get(id).and_then(|told| told.wrote);
        all.insert(id.to_owned(), Told { at, output, wrote });
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.told.lock().expect("nothing panics while it holds this")
    }

    /// Keeps the checks until `shutdown`. Needs a tokio runtime.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        let mut bell = self.view.bell();
        let mut running: BTreeMap<String, Running> = BTreeMap::new();
        let mut critical: BTreeMap<String, Time> = BTreeMap::new();
        let mut stamp = None;
        let mut reap = Instant::now() + REAP_EVERY;
        tokio::pin!(shutdown);
        loop {
            bell.mark_unchanged();
            if let Some(catalog) = self.view.catalog() {
                let changed = Some((catalog.changed("checks"), catalog.changed("services")));
                if stamp != changed {
                    stamp = changed;
                    self.follow(&catalog, &mut running);
                    self.watch_critical(&catalog, &mut critical);
                }
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = sleep_until(reap) => {
                    reap = Instant::now() + REAP_EVERY;
                    self.reap(&critical).await;
                }
                () = &mut shutdown => return,
            }
        }
    }

    /// Starts what is new or changed, ends what is gone.
    fn follow(self: &Arc<Self>, catalog: &Catalog, running: &mut BTreeMap<String, Running>) {
        let directory = Directory::new(catalog, clock::time(), &self.place);
        let mut before = std::mem::take(running);
        for record in agent::own_checks(&directory) {
            let Some(definition) = &record.definition else { continue };
            let same = before
                .remove(&record.id)
                .filter(|old| old.definition == *definition && old.from_file == record.from_file);
            let now = same.unwrap_or_else(|| self.start(record, definition));
            running.insert(record.id.clone(), now);
        }
        let mut told = self.told();
        before.keys().filter(|id| !running.contains_key(*id)).for_each(|id| drop(told.remove(id)));
    }

    fn start(self: &Arc<Self>, record: &CheckRecord, definition: &Definition) -> Running {
        let keeper = Keeper {
            registered: Arc::clone(self),
            id: record.id.clone(),
            from_file: record.from_file,
            definition: definition.clone(),
        };
        let task = tokio::spawn(keeper.keep()).abort_handle();
        Running { definition: definition.clone(), from_file: record.from_file, task }
    }

    fn watch_critical(&self, catalog: &Catalog, critical: &mut BTreeMap<String, Time>) {
        let directory = Directory::new(catalog, clock::time(), &self.place);
        let bad: BTreeMap<String, Time> = agent::own_checks(&directory)
            .filter(|check| check.status == Status::Critical && reap_after(check).is_some())
            .map(|check| {
                let since = critical.get(&check.id).copied().unwrap_or_else(clock::time);
                (check.id.clone(), since)
            })
            .collect();
        *critical = bad;
    }

    /// Removes the services of checks that have been critical for too long.
    async fn reap(&self, critical: &BTreeMap<String, Time>) {
        let Some(catalog) = self.view.catalog() else { return };
        let now = clock::time();
        let directory = Directory::new(&catalog, now, &self.place);
        let due: Vec<(String, String)> = agent::own_checks(&directory)
            .filter(|check| over(check, critical.get(&check.id).copied(), now))
            .filter_map(|check| Some((check.service_id.clone()?, check.id.clone())))
            .collect();
        for (service, check) in due {
            tracing::warn!(service, check, "critical for too long: its service is removed");
            let gone = |directory: &Directory<'_>| agent::deregister_service(directory, &service);
            if let Err(error) = self.write(gone).await {
                tracing::warn!(service, "not removed: {error}");
            }
        }
    }

    /// Writes what a check found, if it is worth that.
    async fn found(&self, id: &str, status: Status, output: &str) {
        self.note(id, output);
        let worth = self.view.catalog().is_some_and(|catalog| {
            let directory = Directory::new(&catalog, clock::time(), &self.place);
            agent::own_check(&directory, id)
                .is_some_and(|record| self.worth(record, status, output))
        });
        if !worth {
            return;
        }
        match self.report(id, status, output).await {
            Ok(()) => {
                self.wrote(id);
                tracing::info!(check = id, "{}: {output}", status.as_str());
            }
            Err(error) => tracing::warn!(check = id, "its result was not written: {error}"),
        }
    }

    /// Writes how a check stands; nothing if it is gone, or somebody has written the same.
    async fn report(&self, id: &str, status: Status, output: &str) -> Result<(), String> {
        self.write(|directory| {
            Ok(agent::report(directory, id, status, output).unwrap_or_else(|| agent::nothing(id)))
        })
        .await
    }

    /// Carries a plan for this host's own entries out.
    pub(super) async fn carry_out(
        &self,
        plan: impl Fn(&Directory<'_>) -> Result<Plan, Refusal>,
    ) -> Result<(), String> {
        self.write(plan).await
    }

    /// What stands registered because of definition files: kind and id.
    pub(super) fn of_files(&self) -> Vec<(&'static str, String)> {
        let Some(catalog) = self.view.catalog() else { return Vec::new() };
        agent::of_files(&Directory::new(&catalog, clock::time(), &self.place))
    }

    /// Waits until the store was read.
    pub(super) async fn ready(&self) {
        let mut bell = self.view.bell();
        while self.view.catalog().is_none() {
            // The view lives as long as this.
            let _ = bell.changed().await;
        }
    }

    async fn write(
        &self,
        plan: impl Fn(&Directory<'_>) -> Result<Plan, Refusal>,
    ) -> Result<(), String> {
        for _ in 0..ATTEMPTS {
            let Some(catalog) = self.view.catalog() else {
                return Err("nothing was read from the store yet".to_owned());
            };
            let plan = match plan(&Directory::new(&catalog, clock::time(), &self.place)) {
                Ok(plan) => plan,
                Err(refusal) => return Err(refusal.to_string()),
            };
            drop(catalog);
            let reply = match timeout(STORE_WAIT, self.store.txn(plan.txn.clone())).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("the store does not answer".to_owned()),
            };
            let _ = timeout(STORE_WAIT, self.view.reached(reply.revision)).await;
            if let Verdict::Answer(_) = plan.verdict(&reply) {
                return Ok(());
            }
        }
        Err("others change the same record all the time".to_owned())
    }
}

fn reap_after(check: &CheckRecord) -> Option<Duration> {
    check.service_id.as_ref()?;
    check.definition.as_ref()?.reap_ms.map(Duration::from_millis)
}

/// Has it been critical for longer than its service may be?
fn over(check: &CheckRecord, since: Option<Time>, now: Time) -> bool {
    match (reap_after(check), since) {
        (Some(after), Some(since)) => check.status == Status::Critical && now.since(since) > after,
        _ => false,
    }
}

/// Keeps one check.
struct Keeper {
    registered: Arc<Registered>,
    id: String,
    from_file: bool,
    definition: Definition,
}

impl Keeper {
    /// Until it is aborted.
    async fn keep(self) {
        match &self.definition.way {
            Way::Ttl { ttl_ms } => self.wait_to_be_told(Duration::from_millis(*ttl_ms)).await,
            Way::Alias { node, service } => self.repeat(node.as_deref(), service.as_deref()).await,
            Way::Http { .. } | Way::Tcp { .. } | Way::Script { .. } => self.look_at_times().await,
        }
    }

    async fn wait_to_be_told(&self, ttl: Duration) {
        let mut bell = self.registered.bell.subscribe();
        let mut last = clock::time();
        loop {
            bell.mark_unchanged();
            let told =
                self.registered.told().get(&self.id).map(|told| (told.at, told.output.clone()));
            if let Some((at, _)) = &told {
                last = last.max(*at);
            }
            let due = last + ttl;
            if clock::time() >= due {
                let said = told.map(|(_, said)| said).filter(|said| !said.is_empty());
                let said = said.map_or_else(String::new, |said| format!("; the last was: {said}"));
                let words = format!("TTL expired: not told for {}{said}", duration::format(ttl));
                let catalog = self.registered.view.catalog();
                let standing = catalog.and_then(|catalog| {
                    let directory = Directory::new(&catalog, last, &self.registered.place);
                    agent::own_check(&directory, &self.id).map(|record| record.status)
                });
                if standing != Some(Status::Critical) {
                    self.expire(&words).await;
                }
                // The sender lives in what this holds.
                let _ = bell.changed().await;
                last = clock::time();
                continue;
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = clock::sleep_until(due) => {}
            }
        }
    }

    async fn expire(&self, words: &str) {
        match self.registered.report(&self.id, Status::Critical, words).await {
            Ok(()) => tracing::info!(check = self.id, "{words}"),
            Err(error) => tracing::warn!(check = self.id, "its end was not written: {error}"),
        }
    }

    async fn repeat(&self, node: Option<&str>, service: Option<&str>) {
        let registered = &self.registered;
        let mut bell = registered.view.bell();
        let mut stamp = None;
        loop {
            bell.mark_unchanged();
            if let Some(catalog) = registered.view.catalog() {
                let changed = KINDS.iter().map(|kind| catalog.changed(kind)).max();
                if stamp != changed {
                    stamp = changed;
                    let node = node.unwrap_or(registered.place.host.as_str());
                    let (status, words) = alias::repeat(&catalog, node, service, &self.id);
                    drop(catalog);
                    registered.found(&self.id, status, &words).await;
                }
            }
            // The view lives as long as this.
            let _ = bell.changed().await;
        }
    }

    async fn look_at_times(&self) {
        let interval = self.definition.interval();
        let spread = interval.min(LATEST_FIRST).as_micros().max(1);
        let stagger = u128::from(hash(self.id.as_bytes())) % spread;
        let stagger = Duration::from_micros(u64::try_from(stagger).unwrap_or_default());
        let mut due = Instant::now() + stagger;
        let mut streak = Streak::default();
        let asking = self.asking();
        loop {
            sleep_until(due).await;
            let (result, words) = self.look(asking.as_ref()).await;
            if let Some(status) = streak.add(&self.definition, result) {
                self.registered.found(&self.id, status, &words).await;
            } else {
                self.registered.note(&self.id, &words);
            }
            due = next(due, interval, Instant::now());
        }
    }

    fn asking(&self) -> Option<Result<Asking, String>> {
        let Way::Http { method, header, body, any_certificate, follow, .. } = &self.definition.way
        else {
            return None;
        };
        let lines: Vec<(String, String)> = header
            .iter()
            .flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone())))
            .collect();
        Some(Asking::new(method, &lines, body, (*any_certificate, *follow)))
    }

    async fn look(&self, asking: Option<&Result<Asking, String>>) -> (Status, String) {
        let within = self.definition.timeout();
        match (&self.definition.way, asking) {
            (Way::Http { url, .. }, Some(Ok(asking))) => ask(asking, url, within).await,
            (Way::Http { .. }, Some(Err(error))) => (Status::Critical, error.clone()),
            (Way::Tcp { address }, _) => connect(address, within).await,
            (Way::Script { command }, _) => self.run(command, within).await,
            (Way::Http { .. } | Way::Ttl { .. } | Way::Alias { .. }, _) => {
                (Status::Critical, "nothing to look at".to_owned())
            }
        }
    }

    async fn run(&self, command: &[String], within: Duration) -> (Status, String) {
        let scripts = self.registered.scripts;
        let allowed = if self.from_file { scripts.files } else { scripts.clients };
        let (Some(program), true) = (command.first(), allowed) else {
            return (Status::Critical, "programs in checks are off on this agent".to_owned());
        };
        let arguments = command[1..].iter().cloned();
        match execute(clean(program, arguments), within).await {
            Err(error) => (Status::Critical, format!("cannot run {program}: {error}")),
            Ok(Ran { in_time: false, output, .. }) => {
                let words =
                    format!("slow: {program} took longer than {}", duration::format(within));
                (Status::Critical, format!("{words} {output}").trim_end().to_owned())
            }
            Ok(Ran { status, output, .. }) => match status.and_then(|status| status.code()) {
                Some(0) => (Status::Passing, output),
                Some(1) => (Status::Warning, output),
                _ => (Status::Critical, output),
            },
        }
    }
}

async fn ask(asking: &Asking, url: &str, within: Duration) -> (Status, String) {
    match asking.ask(url, within).await {
        Ok(answer) => {
            let status = match answer.status {
                sengu_core::health::Status::Passing => Status::Passing,
                sengu_core::health::Status::Warning => Status::Warning,
                _ => Status::Critical,
            };
            (status, format!("HTTP {}: {}", shown(url), answer.words()))
        }
        Err(why) => (Status::Critical, format!("HTTP {}: {why}", shown(url))),
    }
}

async fn connect(address: &str, within: Duration) -> (Status, String) {
    match timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(_)) => (Status::Passing, format!("TCP connect {address}: Success")),
        Ok(Err(error)) => (Status::Critical, format!("TCP connect {address}: {error}")),
        Err(_) => {
            let within = duration::format(within);
            (Status::Critical, format!("TCP connect {address}: slow, longer than {within}"))
        }
    }
}

#[cfg(test)]
mod tests;
