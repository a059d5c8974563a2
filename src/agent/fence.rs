//! The thread that fences on time, whatever else hangs.
//!
//! It has its own clock (CLOCK_BOOTTIME), asks neither store nor disk nor resolver, and waits for
//! no task of the agent: the loop tells it what to fence and when (`Action::Arm`), and from then on
//! it needs the loop no more. Fences run side by side on a runtime of their own, over connections
//! opened before; one that has not come back when the lease ends is followed by SIGKILL from this
//! thread itself. It writes no log before a fence is over: a log may hang, too.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use sengu_core::event::{Command, ControlOutcome, Event};
use sengu_core::name::{InstanceId, Term};
use sengu_core::time::Time;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

use crate::clock;
use crate::database::Database;

/// The longest sleep while something is armed: a sleep of the thread counts no time in which the
/// machine was suspended, and a deadline does.
const SLICE: Duration = Duration::from_millis(20);
/// How long the rehearsal may take.
const REHEARSAL: Duration = Duration::from_secs(2);

/// Threads that fences run on, and nothing else: one fence may hang in the system without holding
/// up the others.
const WORKERS: usize = 2;

/// What fences run on.
///
/// # Errors
/// Its threads cannot be started.
pub(crate) fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(WORKERS).thread_name("sengu-fence").enable_all().build()
}

/// What is to be fenced, and when.
#[derive(Clone)]
pub(crate) struct Charge {
    pub(crate) instance: InstanceId,
    pub(crate) term: Term,
    /// The fence starts.
    pub(crate) at: Time,
    pub(crate) database: Arc<dyn Database>,
    /// May it end in a kill?
    pub(crate) kill: bool,
}

/// The handle; dropping it ends the thread.
pub(crate) struct FenceClock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    fences: Handle,
    events: mpsc::Sender<Event>,
    /// What a fence may take; the lease ends when it is over.
    budget: Duration,
}

#[derive(Default)]
struct State {
    armed: Vec<Charge>,
    running: Vec<Running>,
    over: bool,
    /// Asked for by the rehearsal.
    trial: Option<std::sync::mpsc::Sender<()>>,
}

/// A fence under way.
struct Running {
    charge: Charge,
    done: Arc<AtomicBool>,
    /// Killed from the thread if it is not done by then.
    until: Time,
}

impl FenceClock {
    /// Starts the thread. Fences run on `fences` and take `budget` at most.
    ///
    /// # Errors
    /// The thread cannot be started, or does not fire.
    pub(crate) fn start(
        fences: Handle,
        events: mpsc::Sender<Event>,
        budget: Duration,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            fences,
            events,
            budget,
        });
        let runs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("sengu-clock".to_owned());
        let thread = thread.spawn(move || runs.run())?;
        let clock = Self { shared, thread: Some(thread) };
        clock.rehearse()?;
        Ok(clock)
    }

    /// Replaces what is armed; nothing is fired twice for one deadline.
    pub(crate) fn arm(&self, charges: Vec<Charge>) {
        self.shared.lock().armed = charges;
        self.shared.changed.notify_one();
    }

    /// Lets the thread fire once, with nothing to fence.
    fn rehearse(&self) -> io::Result<()> {
        let (done, fired) = std::sync::mpsc::channel();
        self.shared.lock().trial = Some(done);
        self.shared.changed.notify_one();
        let late = || io::Error::other("the thread of the fence did not fire in a rehearsal");
        fired.recv_timeout(REHEARSAL).map_err(|_| late())
    }
}

impl Drop for FenceClock {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What it guards is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: Arc<Self>) {
        let mut state = self.lock();
        while !state.over {
            if let Some(trial) = state.trial.take() {
                // Through the runtime that fences take; who asked may be gone.
                self.fences.spawn(async move { trial.send(()).ok() });
            }
            let now = clock::time();
            let due: Vec<Charge> = state.armed.extract_if(.., |charge| charge.at <= now).collect();
            for charge in due {
                let running = self.fire(charge);
                state.running.push(running);
            }
            state.running.retain(|running| !running.done.load(Ordering::SeqCst));
            let overdue: Vec<Running> =
                state.running.extract_if(.., |running| running.until <= now).collect();
            if !overdue.is_empty() {
                drop(state);
                overdue.iter().for_each(|running| self.kill(running));
                state = self.lock();
                continue;
            }
            let armed = state.armed.iter().map(|charge| charge.at);
            let next = armed.chain(state.running.iter().map(|running| running.until)).min();
            state = match next {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let wait = next.since(now).min(SLICE);
                    let woken = self.changed.wait_timeout(state, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Starts a fence beside all others.
    fn fire(&self, charge: Charge) -> Running {
        let done = Arc::new(AtomicBool::new(false));
        let until = charge.at + self.budget;
        let left = until.since(clock::time());
        let (fenced, finished, events) = (charge.clone(), Arc::clone(&done), self.events.clone());
        self.fences.spawn(async move {
            let command = Command::Fence { kill: fenced.kill };
            let fence = AssertUnwindSafe(fenced.database.control(command, left)).catch_unwind();
            let outcome = fence.await.unwrap_or_else(|_| ControlOutcome::Failed {
                error: "internal error in the fence".to_owned(),
                untouched: false,
            });
            if is_fenced(&outcome) {
                finished.store(true, Ordering::SeqCst);
            }
            tell(&events, &fenced, outcome).await;
        });
        Running { charge, done, until }
    }

    /// The last rung, from this thread: the ladder did not come back in time.
    fn kill(&self, running: &Running) {
        let charge = running.charge.clone();
        if !charge.kill || running.done.load(Ordering::SeqCst) {
            return;
        }
        let outcome = match charge.database.kill_now() {
            Ok(boot_id) => ControlOutcome::Exited { boot_id: Some(boot_id) },
            Err(error) => ControlOutcome::Failed { error, untouched: false },
        };
        let events = self.events.clone();
        self.fences.spawn(async move { tell(&events, &charge, outcome).await });
    }
}

/// Is nothing more to be done?
pub(crate) fn is_fenced(outcome: &ControlOutcome) -> bool {
    match outcome {
        ControlOutcome::Done { state, .. } => !state.writable,
        ControlOutcome::Exited { .. } => true,
        ControlOutcome::Failed { .. } => false,
    }
}

async fn tell(events: &mpsc::Sender<Event>, charge: &Charge, outcome: ControlOutcome) {
    let (instance, term) = (charge.instance.clone(), charge.term);
    match &outcome {
        ControlOutcome::Failed { error, .. } => {
            tracing::error!(%instance, %term, error, "the lease ran out, and the fence failed");
        }
        ControlOutcome::Exited { .. } => {
            tracing::warn!(%instance, %term, "the lease ran out: its process was ended");
        }
        ControlOutcome::Done { .. } => {
            tracing::warn!(%instance, %term, "the lease ran out: it is fenced");
        }
    }
    // The loop has ended if nobody listens.
    let _ = events.send(Event::FenceFired { instance, term, outcome }).await;
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use sengu_core::event::LookOutcome;
    use sengu_core::name::BootId;
    use sengu_core::observation::Observation;

    use super::*;

    /// A database whose fence does as it is told, and notes when.
    struct Double {
        hangs: bool,
        /// Holds the thread that the fence runs on, for as long as the other end lives.
        stuck: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
        fenced: Mutex<Vec<Time>>,
        killed: Mutex<Vec<Time>>,
    }

    #[async_trait]
    impl Database for Double {
        async fn observe(&self, _: Duration) -> Observation {
            unreachable!("a fence looks at nothing")
        }

        async fn control(&self, command: Command, _: Duration) -> ControlOutcome {
            assert_eq!(command, Command::Fence { kill: true });
            self.fenced.lock().expect("sound").push(clock::time());
            if let Some(held) = self.stuck.lock().expect("sound").take() {
                // It ends when the test does.
                let _ = held.recv();
            }
            if self.hangs {
                std::future::pending::<()>().await;
            }
            ControlOutcome::Exited { boot_id: None }
        }

        async fn rehearse(&self) -> Result<(), String> {
            Ok(())
        }

        async fn exited(&self) -> BootId {
            std::future::pending().await
        }

        async fn look(&self, _: std::net::SocketAddr, _: Duration) -> LookOutcome {
            LookOutcome::Unknown
        }

        fn kill_now(&self) -> Result<BootId, String> {
            self.killed.lock().expect("sound").push(clock::time());
            Err("a double has no process".to_owned())
        }
    }

    fn double(hangs: bool) -> Arc<Double> {
        let (fenced, killed) = (Mutex::default(), Mutex::default());
        Arc::new(Double { hangs, stuck: Mutex::default(), fenced, killed })
    }

    fn charge(database: &Arc<Double>, name: &str, at: Time) -> Charge {
        let instance = InstanceId {
            service: "foo".parse().expect("good"),
            instance: name.parse().expect("good"),
        };
        let database: Arc<dyn Database> = Arc::<Double>::clone(database);
        Charge { instance, term: Term(3), at, database, kill: true }
    }

    const BUDGET: Duration = Duration::from_millis(300);

    #[test]
    fn it_fires_on_its_own_clock_while_the_loop_does_nothing() {
        let fences = runtime().expect("a runtime");
        let (events, mut told) = mpsc::channel(8);
        let clock_thread = FenceClock::start(fences.handle().clone(), events, BUDGET);
        let clock_thread = clock_thread.expect("it rehearses");
        let (a, b, later) = (double(false), double(false), double(false));
        let now = clock::time();
        let at = now + Duration::from_millis(100);
        let far = now + Duration::from_secs(60);
        clock_thread.arm(vec![charge(&a, "a", at), charge(&b, "b", at), charge(&later, "c", far)]);
        // No runtime of the agent turns: this thread only waits.
        for _ in 0..2 {
            let event = told.blocking_recv().expect("it fires");
            assert!(matches!(event, Event::FenceFired { term: Term(3), .. }), "{event:?}");
        }
        for double in [&a, &b] {
            let fenced = double.fenced.lock().expect("sound").clone();
            assert!(fenced.len() == 1 && fenced[0] >= at, "once, and not before: {fenced:?}");
        }
        assert!(later.fenced.lock().expect("sound").is_empty());
        assert!(a.killed.lock().expect("sound").is_empty(), "a fence that ends needs no kill");
    }

    /// Nobody takes events any more, as when the agent's runtime is starved or its loop waits for a
    /// disk, and every thread that fences run on hangs in the system.
    #[test]
    fn starved_runtimes_keep_no_fence_from_its_end() {
        let fences = runtime().expect("a runtime");
        let (events, _untaken) = mpsc::channel(1);
        events.try_send(Event::Tick).expect("there is room for one");
        let clock_thread = FenceClock::start(fences.handle().clone(), events, BUDGET);
        let clock_thread = clock_thread.expect("it rehearses");
        let at = clock::time() + Duration::from_millis(50);
        let doubles: Vec<_> = (0..=WORKERS).map(|_| double(false)).collect();
        let mut held = Vec::new();
        for double in &doubles {
            let (hold, holds) = std::sync::mpsc::channel::<()>();
            *double.stuck.lock().expect("sound") = Some(holds);
            held.push(hold);
        }
        let charges = doubles.iter().enumerate();
        let charges = charges.map(|(number, double)| charge(double, &format!("i{number}"), at));
        clock_thread.arm(charges.collect());
        let limit = at + BUDGET + Duration::from_secs(5);
        let killed = |double: &Arc<Double>| double.killed.lock().expect("sound").first().copied();
        while clock::time() < limit && !doubles.iter().all(|double| killed(double).is_some()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        for double in &doubles {
            let when = killed(double).expect("each is killed, one that never began to fence, too");
            assert!(when >= at + BUDGET, "not before the lease ends");
        }
        drop(held);
    }

    #[test]
    fn what_is_disarmed_or_prolonged_is_not_fenced() {
        let fences = runtime().expect("a runtime");
        let (events, mut told) = mpsc::channel(8);
        let clock_thread = FenceClock::start(fences.handle().clone(), events, BUDGET);
        let clock_thread = clock_thread.expect("it rehearses");
        let (a, b, c) = (double(false), double(false), double(false));
        let at = clock::time() + Duration::from_millis(400);
        clock_thread.arm(vec![charge(&a, "a", at), charge(&b, "b", at)]);
        clock_thread.arm(vec![
            charge(&b, "b", at + Duration::from_secs(60)),
            charge(&c, "c", at + Duration::from_millis(100)),
        ]);
        let event = told.blocking_recv().expect("the last one fires");
        let Event::FenceFired { instance, .. } = event else { panic!("{event:?}") };
        assert_eq!(instance.instance.as_str(), "c");
        assert!(a.fenced.lock().expect("sound").is_empty());
        assert!(b.fenced.lock().expect("sound").is_empty());
    }

    #[test]
    fn a_fence_that_hangs_ends_in_a_kill_when_the_lease_does() {
        let fences = runtime().expect("a runtime");
        let (events, mut told) = mpsc::channel(8);
        let clock_thread = FenceClock::start(fences.handle().clone(), events, BUDGET);
        let clock_thread = clock_thread.expect("it rehearses");
        let hangs = double(true);
        let at = clock::time() + Duration::from_millis(50);
        clock_thread.arm(vec![charge(&hangs, "a", at)]);
        let event = told.blocking_recv().expect("it is told");
        let killed = hangs.killed.lock().expect("sound").clone();
        assert!(killed.len() == 1 && killed[0] >= at + BUDGET, "{killed:?}");
        let Event::FenceFired { outcome: ControlOutcome::Failed { error, .. }, .. } = event else {
            panic!("{event:?}")
        };
        assert!(error.contains("no process"), "{error}");
    }
}
