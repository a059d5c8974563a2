//! Runs each check for each instance it is for, and keeps the last word of each.
//!
//! One task per pair. Runs are staggered by a hash of the pair's names, the same on every start;
//! the next begins only when the last has ended, at the next beat of the same rhythm. A look on
//! the board that changes what a probe says is judged when it comes. Nothing here asks a
//! database, and readers never wait for a probe: they get the last result, which expires.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use sengu_core::health::{Condition, Judged, Status};
use sengu_core::name::{InstanceId, InstanceName, ServiceName};
use sengu_core::time::Now;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::definition::Definition;
use super::report::{CheckReport, ProbeReport};
use super::{Scene, Setup, Target};
use crate::board::Board;
use crate::clock;

/// The first run comes within this, however long the interval is.
const LATEST_FIRST: Duration = Duration::from_secs(10);

/// Intervals that a status outlives its last result, plus a timeout.
const EXPIRY: u32 = 3;

/// All checks of an agent. Dropped, they end.
#[derive(Debug)]
pub struct Checks {
    shared: Arc<Shared>,
    running: Mutex<BTreeMap<Key, Running>>,
}

/// A check's name and the instance it looks at.
type Key = (String, InstanceId);

#[derive(Debug)]
struct Shared {
    setup: Setup,
    board: Arc<Board>,
    bell: watch::Sender<u64>,
}

/// A task and what it found; ends with its owner.
#[derive(Debug)]
struct Running {
    check: Arc<Check>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One check of one instance.
#[derive(Debug)]
struct Check {
    shared: Arc<Shared>,
    definition: Definition,
    target: Target,
    found: Mutex<Found>,
}

#[derive(Debug)]
struct Found {
    condition: Condition,
    /// The last result of each probe; empty before the first run.
    probes: Vec<Judged>,
}

impl Checks {
    /// Starts each check for each instance it is for. Needs a tokio runtime.
    #[must_use]
    pub fn start(
        definitions: Vec<Definition>,
        targets: Vec<Target>,
        board: Arc<Board>,
        setup: Setup,
    ) -> Self {
        let shared = Arc::new(Shared { setup, board, bell: watch::channel(0).0 });
        let checks = Self { shared, running: Mutex::default() };
        checks.replace(definitions, targets);
        checks
    }

    /// Puts other definitions and instances in place. What did not change runs on with its
    /// status; what is new starts unknown; the rest ends. Needs a tokio runtime.
    pub fn replace(&self, definitions: Vec<Definition>, targets: Vec<Target>) {
        let mut before = self.running();
        let mut after = BTreeMap::new();
        for definition in definitions {
            for target in targets.iter().filter(|target| definition.applies(target)) {
                let key = (definition.name.clone(), target.id.clone());
                let same = before.remove(&key).filter(|running| {
                    running.check.definition == definition && running.check.target == *target
                });
                let running = same.unwrap_or_else(|| self.run(definition.clone(), target.clone()));
                after.insert(key, running);
            }
        }
        *before = after;
        drop(before);
        self.shared.ring();
    }

    /// All checks at one moment, by name, service and instance.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Vec<CheckReport> {
        self.running().values().map(|running| running.check.report(now)).collect()
    }

    /// One of them.
    #[must_use]
    pub fn one(
        &self,
        name: &str,
        service: &ServiceName,
        instance: &InstanceName,
        now: Now,
    ) -> Option<CheckReport> {
        let id = InstanceId { service: service.clone(), instance: instance.clone() };
        let key = (name.to_owned(), id);
        self.running().get(&key).map(|running| running.check.report(now))
    }

    /// Rings when a status changes, and when checks come or go; not when one expires.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.shared.bell.subscribe()
    }

    fn run(&self, definition: Definition, target: Target) -> Running {
        let shared = Arc::clone(&self.shared);
        let expiry = target.patience(EXPIRY, definition.interval, definition.timeout);
        let condition = Condition::new(definition.hysteresis, expiry, clock::now());
        let found = Mutex::new(Found { condition, probes: Vec::new() });
        let check = Arc::new(Check { shared, definition, target, found });
        let task = tokio::spawn(Arc::clone(&check).repeat()).abort_handle();
        Running { check, task }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Key, Running>> {
        self.running.lock().expect("nothing panics while it holds this")
    }
}

impl Shared {
    fn ring(&self) {
        self.bell.send_modify(|count| *count += 1);
    }
}

impl Check {
    /// Runs for ever.
    async fn repeat(self: Arc<Self>) {
        let mut bell = self.shared.board.bell();
        let interval = self.definition.interval;
        let mut due = Instant::now() + self.stagger();
        loop {
            self.wait(due, &mut bell).await;
            self.run().await;
            due = next(due, interval, Instant::now());
        }
    }

    /// Waits until the next run is due, or the board says something else than it did.
    async fn wait(&self, due: Instant, bell: &mut watch::Receiver<u64>) {
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                // The board lives in `shared`, so its bell cannot be gone.
                _ = bell.changed() => if self.news() { return },
            }
        }
    }

    /// Would a probe that reads the board say something else now?
    fn news(&self) -> bool {
        let scene = self.scene(clock::now());
        let found = self.found();
        self.definition.all.iter().enumerate().any(|(at, probe)| {
            let last = found.probes.get(at).map_or(Status::Unknown, |judged| judged.status);
            probe.glance(&scene).is_some_and(|judged| judged.status != last)
        })
    }

    /// Runs all probes once, at the same time.
    async fn run(&self) {
        let scene = self.scene(clock::now());
        let looks = self.definition.all.iter().map(|probe| probe.look(&scene));
        let probes = join_all(looks).await;
        let now = clock::now();
        let mut found = self.found();
        let change = found.condition.add(now, Judged::all(&probes));
        found.probes = probes;
        let output = found.condition.at(now).output;
        drop(found);
        if let Some(change) = change {
            self.shared.ring();
            tracing::info!(
                check = %self.definition.name,
                instance = %self.target.id,
                "{} (was {}): {output}", change.to, change.from
            );
        }
    }

    fn report(&self, now: Now) -> CheckReport {
        let found = self.found();
        let standing = found.condition.at(now);
        let probes = self.definition.all.iter().zip(&found.probes);
        CheckReport {
            name: self.definition.name.clone(),
            service: self.target.id.service.clone(),
            instance: self.target.id.instance.clone(),
            status: standing.status,
            output: standing.output,
            since: standing.since,
            age_ms: standing.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            probes: probes
                .map(|(probe, judged)| ProbeReport {
                    probe: probe.name().to_owned(),
                    status: judged.status,
                    output: judged.output.clone(),
                })
                .collect(),
        }
    }

    fn scene(&self, now: Now) -> Scene<'_> {
        Scene {
            target: &self.target,
            setup: &self.shared.setup,
            board: &self.shared.board,
            interval: self.definition.interval,
            timeout: self.definition.timeout,
            now: now.time,
        }
    }

    /// Where in the interval this pair runs.
    fn stagger(&self) -> Duration {
        let names = format!("{}/{}", self.definition.name, self.target.id);
        let spread = self.definition.interval.min(LATEST_FIRST);
        let micros = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(hash(names.as_bytes()) % micros)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().expect("nothing panics while it holds this")
    }
}

/// The first beat of a rhythm that is still to come.
fn next(due: Instant, interval: Duration, now: Instant) -> Instant {
    if due > now {
        return due;
    }
    let missed = now.duration_since(due).as_nanos() / interval.as_nanos().max(1);
    // A run is never late by 2³² intervals.
    due + interval * u32::try_from(missed + 1).unwrap_or(u32::MAX)
}

/// FNV-1a: the same in every version, unlike the standard library's.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
