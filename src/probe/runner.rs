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
use super::{Beats, Scene, Setup, Target};
use crate::board::Board;
use crate::clock;
use crate::view::View;

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

/// What probes read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The last look at each own instance.
    pub board: Arc<Board>,
    /// The newest catalog.
    pub view: Arc<View>,
    /// What was told from outside.
    pub beats: Arc<Beats>,
}

#[derive(Debug)]
struct Shared {
    setup: Setup,
    sources: Sources,
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
        sources: Sources,
        setup: Setup,
    ) -> Self {
        let shared = Arc::new(Shared { setup, sources, bell: watch::channel(0).0 });
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

    /// Takes what was told from outside to a `ttl` probe; `false` if none waits for that id.
    #[must_use]
    pub fn told(&self, id: &str, status: Status, output: &str) -> bool {
        self.shared.sources.beats.put(clock::time(), id, status, output)
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
        let mut bell = self.shared.sources.board.bell();
        // What stands on the board already is news to this check.
        bell.mark_changed();
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
        let judged = Judged::all(&probes);
        crate::metrics::get().probed(judged.status.as_str());
        let change = found.condition.add(now, judged);
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
            of: self.definition.of,
            named: false,
        }
    }

    fn scene(&self, now: Now) -> Scene<'_> {
        Scene {
            target: &self.target,
            setup: &self.shared.setup,
            board: &self.shared.sources.board,
            view: &self.shared.sources.view,
            beats: &self.shared.sources.beats,
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
pub(super) fn next(due: Instant, interval: Duration, now: Instant) -> Instant {
    if due > now {
        return due;
    }
    let missed = now.duration_since(due).as_nanos() / interval.as_nanos().max(1);
    // A run is never late by 2³² intervals.
    due + interval * u32::try_from(missed + 1).unwrap_or(u32::MAX)
}

/// FNV-1a: the same in every version, unlike the standard library's.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sengu_core::observation::{Answer, Observation, Process};
    use tokio::net::TcpListener;

    use super::super::fixture::Stage;
    use super::*;
    use crate::board::Seen;

    /// Far more than any of it takes.
    const LONG: Duration = Duration::from_secs(20);

    struct Agent {
        board: Arc<Board>,
        checks: Checks,
    }

    impl Agent {
        fn start(definitions: Vec<Definition>, targets: Vec<Target>) -> Self {
            let stage = Stage::default();
            let board = Arc::clone(&stage.board);
            let sources = Sources { board: stage.board, ..Sources::default() };
            let checks = Checks::start(definitions, targets, sources, stage.setup);
            Self { board, checks }
        }

        fn put(&self, instance: &str, observation: Observation) {
            let seen = Seen { sent: clock::time(), observation };
            self.board.put(Stage::id(instance), seen);
        }

        fn report(&self, instance: &str) -> CheckReport {
            let id = Stage::id(instance);
            let now = clock::now();
            self.checks.one("test", &id.service, &id.instance, now).expect("it runs")
        }

        async fn until(
            &self,
            instance: &str,
            wanted: impl Fn(&CheckReport) -> bool,
        ) -> CheckReport {
            let waiting = async {
                loop {
                    let report = self.report(instance);
                    if wanted(&report) {
                        return report;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            match tokio::time::timeout(LONG, waiting).await {
                Ok(report) => report,
                Err(_) => panic!("it stays {:?}", self.report(instance)),
            }
        }
    }

    const MASTER: &str =
        "[[all]]\nprobe = \"process\"\n[[all]]\nprobe = \"redis\"\nrole = \"master\"";

    #[tokio::test]
    async fn looks_are_judged_when_they_come_not_at_the_next_interval() {
        // With an interval of a day nothing but the bell can explain a result.
        let check = Stage::written("interval = \"24h\"\nfailures = 1", MASTER);
        let agent = Agent::start(vec![check], vec![Stage::target("cache1"), Stage::target("b")]);
        let report = agent.report("cache1");
        assert_eq!((report.status, report.output.as_str()), (Status::Unknown, "not asked yet"));
        assert_eq!((report.age_ms, report.probes.len()), (None, 0));
        let mut bell = agent.checks.bell();
        bell.mark_unchanged();

        agent.put("cache1", Stage::master());
        let report = agent.until("cache1", |report| report.status == Status::Passing).await;
        assert_eq!(report.output, "the process is up; a master, takes writes");
        assert_eq!(report.probes[1].probe, "redis");
        assert_eq!(report.probes[1].status, Status::Passing);
        tokio::time::timeout(LONG, bell.changed()).await.expect("it rings").expect("it lives");

        let gone = Observation { boot_id: None, answer: Answer::Refused, process: Process::Gone };
        agent.put("cache1", gone);
        let report = agent.until("cache1", |report| report.status == Status::Critical).await;
        assert_eq!(report.output, "the process has exited; dead: its process has exited");
        assert_eq!(agent.report("b").status, Status::Unknown, "another's looks say nothing");
    }

    #[tokio::test]
    async fn what_stands_on_the_board_at_the_start_is_judged_at_once() {
        let check = Stage::written("interval = \"24h\"", MASTER);
        let names: Vec<String> = (0..50).map(|at| format!("cache{at}")).collect();
        let targets = names.iter().map(|name| Stage::target(name)).collect();
        let began = Instant::now();
        let agent = Agent::start(vec![check], targets);
        names.iter().for_each(|name| agent.put(name, Stage::master()));
        for name in &names {
            agent.until(name, |report| report.status == Status::Passing).await;
        }
        let last = agent.checks.running().values().map(|running| running.check.stagger()).max();
        assert!(last > Some(Duration::from_secs(9)), "the rhythm would come later: {last:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn failures_are_counted_by_looks() {
        let check = Stage::written("interval = \"100ms\"\nfailures = 3", MASTER);
        let agent = Agent::start(vec![check], vec![Stage::target("cache1")]);
        agent.put("cache1", Stage::master());
        agent.until("cache1", |report| report.status == Status::Passing).await;
        agent.put("cache1", Stage::replica());
        let failing = |report: &CheckReport| report.probes[1].status == Status::Critical;
        let report = agent.until("cache1", failing).await;
        assert_eq!(report.status, Status::Passing);
        assert!(report.output.starts_with("critical (1 of 3 in a row): "), "{}", report.output);
        // Five more runs over the same look.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let report = agent.report("cache1");
        assert!(report.output.starts_with("critical (1 of 3 in a row): "), "{}", report.output);
        for row in ["critical (2 of 3", "a replica of"] {
            agent.put("cache1", Stage::replica());
            agent.until("cache1", |report| report.output.starts_with(row)).await;
        }
        assert_eq!(agent.report("cache1").status, Status::Critical);
    }

    #[tokio::test]
    async fn a_board_that_is_not_written_any_more_ends_the_status() {
        let mut target = Stage::target("cache1");
        target.interval = Duration::from_millis(100);
        target.timeout = Duration::from_millis(100);
        let check = Stage::written("interval = \"100ms\"\ntimeout = \"100ms\"", MASTER);
        let agent = Agent::start(vec![check], vec![target]);
        agent.put("cache1", Stage::master());
        agent.until("cache1", |report| report.status == Status::Passing).await;
        let report = agent.until("cache1", |report| report.status == Status::Unknown).await;
        assert!(report.output.starts_with("no result for "), "{}", report.output);
        assert!(report.age_ms.is_some_and(|age| age >= 400), "{report:?}");
        agent.put("cache1", Stage::master());
        agent.until("cache1", |report| report.status == Status::Passing).await;
    }

    #[tokio::test]
    async fn results_repeat_by_the_interval() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let probe = format!("[[all]]\nprobe = \"tcp\"\naddress = \"{address}\"");
        let check = Stage::written("interval = \"100ms\"\nfailures = 2", &probe);
        let mut target = Stage::target("cache1");
        target.interval = Duration::from_millis(100);
        let agent = Agent::start(vec![check], vec![target]);
        agent.until("cache1", |report| report.status == Status::Passing).await;
        drop(listener);
        let report = agent.until("cache1", |report| report.status == Status::Critical).await;
        assert_eq!(report.output, format!("refused: nobody listens on {address}"));
        TcpListener::bind(address).await.expect("still free");
    }

    #[tokio::test]
    async fn slow_runs_do_not_pile_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display();
        // Each run leaves `twice` if it meets another, and a line when it ends.
        let script = format!(
            "mkdir {path}/lock || touch {path}/twice; sleep 0.35; rmdir {path}/lock; \
             echo >> {path}/ended"
        );
        let probe =
            format!("[[all]]\nprobe = \"script\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]");
        let check = Stage::written("interval = \"100ms\"\ntimeout = \"20s\"", &probe);
        let agent = Agent::start(vec![check], vec![Stage::target("cache1")]);
        let ended = || fs::read(folder.path().join("ended")).unwrap_or_default().len();
        let waiting = async {
            while ended() < 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("four runs");
        assert!(!folder.path().join("twice").exists(), "two runs at once");
        drop(agent);
    }

    #[tokio::test]
    async fn what_did_not_change_runs_on_and_the_rest_ends() {
        let check = |failures: u32| {
            Stage::written(&format!("interval = \"24h\"\nfailures = {failures}"), MASTER)
        };
        let agent =
            Agent::start(vec![check(1)], vec![Stage::target("cache1"), Stage::target("cache2")]);
        agent.put("cache1", Stage::master());
        agent.put("cache2", Stage::master());
        let before = agent.until("cache1", |report| report.status == Status::Passing).await;
        agent.until("cache2", |report| report.status == Status::Passing).await;

        let mut moved = Stage::target("cache2");
        moved.address.set_port(7000);
        agent.checks.replace(vec![check(1)], vec![Stage::target("cache1"), moved]);
        let report = agent.report("cache1");
        assert_eq!((report.status, report.since), (Status::Passing, before.since));
        assert_eq!(agent.report("cache2").age_ms, None, "another target starts anew");

        agent.checks.replace(vec![check(2)], vec![Stage::target("cache1")]);
        assert_eq!(agent.report("cache1").age_ms, None, "another definition starts anew");
        let names: Vec<String> = agent
            .checks
            .snapshot(clock::now())
            .iter()
            .map(|report| report.instance.to_string())
            .collect();
        assert_eq!(names, ["cache1"]);
        agent.checks.replace(Vec::new(), vec![Stage::target("cache1")]);
        assert_eq!(agent.checks.snapshot(clock::now()), []);
    }

    #[tokio::test]
    async fn runs_are_spread_over_the_interval_and_the_same_on_each_start() {
        let check = Stage::written("interval = \"1s\"", MASTER);
        let names: Vec<String> = (0..20).map(|at| format!("cache{at}")).collect();
        let targets = || names.iter().map(|name| Stage::target(name)).collect::<Vec<_>>();
        let offsets = || {
            let agent = Agent::start(vec![check.clone()], targets());
            let running = agent.checks.running();
            running.values().map(|running| running.check.stagger()).collect::<Vec<_>>()
        };
        let (mut first, second) = (offsets(), offsets());
        assert_eq!(first, second);
        first.sort();
        assert!(first[0] < Duration::from_millis(300), "{first:?}");
        assert!(first[19] > Duration::from_millis(700), "{first:?}");
        assert!(first[19] < Duration::from_secs(1), "{first:?}");
    }

    #[test]
    fn the_next_run_keeps_the_rhythm() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let next = |due, now| next(at(due), Duration::from_millis(100), at(now));
        assert_eq!(next(100, 30), at(100), "an event came in between");
        assert_eq!(next(100, 100), at(200));
        assert_eq!(next(100, 130), at(200));
        assert_eq!(next(100, 530), at(600), "missed beats are not made up for");
    }
}
