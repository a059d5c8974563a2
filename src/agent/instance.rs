//! The tasks of one own instance: look at it, wait for its exit, carry out commands in order.
//!
//! Commands go down one lane, one at a time; a fence does not wait for them. A command of a term
//! older than one already seen is not carried out (nothing-older-runs). Every command comes back
//! as exactly one event, whatever the driver does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sengu_core::event::{ActionId, Command, ControlOutcome, Event, Outcome};
use sengu_core::name::{BootId, InstanceId, Term};
use sengu_core::observation::{Answer, Observation, Verdict};
use sengu_core::time::Time;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::board::{Board, Seen};
use crate::clock;
use crate::database::Database;

/// Commands that wait at most; the core sends one at a time.
const LANE: usize = 16;
/// A rung of the fence that was missing is tried again after this ...
const REHEARSE_SOON: Duration = Duration::from_secs(1);
/// ... and, while it stays so, twice as late each time, up to this.
const REHEARSE_AGAIN: Duration = Duration::from_secs(60);
/// How much later than its deadline a driver may come back before it is given up.
const GRACE: Duration = Duration::from_millis(500);

/// The handle that the loop keeps.
pub struct Instance {
    database: Arc<dyn Database>,
    lane: mpsc::Sender<Order>,
    look: Arc<Notify>,
    events: mpsc::Sender<Event>,
    newest: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

/// One command, with what its end is told as.
#[derive(Debug)]
struct Order {
    id: ActionId,
    term: Term,
    command: Command,
    within: Duration,
}

impl Instance {
    /// Starts the tasks; they end when the handle is dropped.
    #[must_use]
    pub fn start(
        id: InstanceId,
        database: Arc<dyn Database>,
        interval: Duration,
        timeout: Duration,
        board: Arc<Board>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (lane, orders) = mpsc::channel(LANE);
        let look = Arc::new(Notify::new());
        let newest = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(observe(
            id.clone(),
            Arc::clone(&database),
            (interval, timeout),
            board,
            Arc::clone(&look),
            events.clone(),
        ));
        tasks.spawn(await_exit(id, Arc::clone(&database), Arc::clone(&look), events.clone()));
        tasks.spawn(work(Arc::clone(&database), orders, Arc::clone(&newest), events.clone()));
        Self { database, lane, look, events, newest, _tasks: tasks }
    }

    /// The driver, for looks at other instances of the service.
    #[must_use]
    pub fn database(&self) -> Arc<dyn Database> {
        Arc::clone(&self.database)
    }

    /// Looks now.
    pub fn observe(&self) {
        self.look.notify_one();
    }

    /// Carries out a command; its end comes as an event.
    pub fn control(&self, id: ActionId, term: Term, command: Command, within: Duration) {
        self.newest.fetch_max(term.0, Ordering::SeqCst);
        if matches!(command, Command::Fence { .. }) {
            let database = Arc::clone(&self.database);
            let events = self.events.clone();
            tokio::spawn(async move {
                let outcome = bounded(&*database, command, within).await;
                tell(&events, id, outcome).await;
            });
            return;
        }
        let order = Order { id, term, command, within };
        if let Err(full) = self.lane.try_send(order) {
            let order = full.into_inner();
            let events = self.events.clone();
            tokio::spawn(async move {
                let error = "too many commands wait for this instance".to_owned();
                tell(&events, order.id, ControlOutcome::Failed { error, untouched: true }).await;
            });
        }
    }
}

async fn tell(events: &mpsc::Sender<Event>, id: ActionId, outcome: ControlOutcome) {
    // The loop has ended if nobody listens; then there is nothing to tell.
    let _ = events.send(Event::Done { id, outcome: Outcome::Control(outcome) }).await;
}

async fn bounded(database: &dyn Database, command: Command, within: Duration) -> ControlOutcome {
    let late = tokio::time::timeout(within + GRACE, database.control(command, within));
    late.await.unwrap_or_else(|_| ControlOutcome::Failed {
        error: "the driver did not come back in time".to_owned(),
        untouched: false,
    })
}

async fn work(
    database: Arc<dyn Database>,
    mut orders: mpsc::Receiver<Order>,
    newest: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
) {
    while let Some(order) = orders.recv().await {
        let outcome = if order.term.0 < newest.load(Ordering::SeqCst) {
            let error = format!("decided in term {}, which is over", order.term);
            ControlOutcome::Failed { error, untouched: true }
        } else {
            bounded(&*database, order.command, order.within).await
        };
        tell(&events, order.id, outcome).await;
    }
}

async fn await_exit(
    id: InstanceId,
    database: Arc<dyn Database>,
    look: Arc<Notify>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let boot_id = database.exited().await;
        tracing::warn!(instance = %id, "its process has exited");
        if events.send(Event::Exited { instance: id.clone(), boot_id }).await.is_err() {
            return;
        }
        look.notify_one();
    }
}

/// Whether a fence was tried out, for which life, and what is missing.
#[derive(Default)]
struct Rehearsal {
    tried: Option<(Option<BootId>, Time)>,
    wrong: Option<String>,
    /// So often in a row.
    failures: u32,
}

impl Rehearsal {
    /// Once for each life, and again while something is missing: without every rung the instance
    /// does not count as one that can be fenced. One attempt may have come too late only: that is
    /// no verdict yet.
    async fn judge(&mut self, database: &dyn Database, seen: &mut Observation) {
        let Answer::State(state) = &mut seen.answer else { return };
        let now = clock::time();
        let due = self.tried.as_ref().is_none_or(|(life, at)| {
            *life != seen.boot_id || (self.wrong.is_some() && now.since(*at) > self.pause())
        });
        if due {
            if self.tried.as_ref().is_none_or(|(life, _)| *life != seen.boot_id) {
                self.failures = 0;
            }
            self.wrong = database.rehearse().await.err();
            self.failures = if self.wrong.is_some() { self.failures.saturating_add(1) } else { 0 };
            self.tried = Some((seen.boot_id.clone(), now));
            if let Some(why) = &self.wrong {
                tracing::warn!("a fence is not possible in full: {why}");
            }
        }
        if let Some(why) = &self.wrong
            && state.settings.killable == Verdict::Good
        {
            state.settings.killable = match self.failures {
                0 | 1 => Verdict::Unknown,
                _ => Verdict::Bad(why.clone()),
            };
        }
    }

    /// Until it is tried again.
    fn pause(&self) -> Duration {
        let doubled = 1 << self.failures.saturating_sub(1).min(6);
        (REHEARSE_SOON * doubled).min(REHEARSE_AGAIN)
    }
}

async fn observe(
    id: InstanceId,
    database: Arc<dyn Database>,
    (interval, timeout): (Duration, Duration),
    board: Arc<Board>,
    look: Arc<Notify>,
    events: mpsc::Sender<Event>,
) {
    // What fails is asked about again soon: the first of several failures is not yet a verdict.
    let soon = (interval / 4).max(Duration::from_millis(50));
    let mut rehearsal = Rehearsal::default();
    loop {
        let sent = clock::time();
        let mut observation = database.observe(timeout).await;
        rehearsal.judge(&*database, &mut observation).await;
        let wait = match observation.answer {
            Answer::State(_) => interval,
            Answer::Refused | Answer::Silent | Answer::Error(_) | Answer::Loading => soon,
            Answer::Busy | Answer::AuthFailed(_) | Answer::TooManyClients => interval,
        };
        board.put(id.clone(), Seen { sent, observation: observation.clone() });
        let event = Event::Observed { instance: id.clone(), sent, observation };
        if events.send(event).await.is_err() {
            return;
        }
        // A look that is asked for while one is under way follows it at once.
        let _ = tokio::time::timeout(wait, look.notified()).await;
    }
}
