//! The loop: one event, one step, its actions.
//!
//! It also keeps the two promises that the core relies on: a txn's end is told only when the
//! catalog has its revision, and a loop that was late, or clocks that moved apart, are said as
//! events before anything else is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::event::{
    Action, ActionId, Armed, Command, ControlOutcome, Event, HookRun, LookOutcome, Outcome,
    TxnOutcome,
};
use sengu_core::kv::Revision;
use sengu_core::machine::Machine;
use sengu_core::name::{InstanceId, InstanceName, ServiceName};
use sengu_core::policy::Judge;
use sengu_core::record::HookOutcome;
use sengu_core::report::ServiceReport;
use sengu_core::time::{Now, Time};
use tokio::sync::{mpsc, oneshot};

use super::fence::{Charge, FenceClock, is_fenced};
use super::instance::Instance;
use super::{identity, quarantine, storing};
use crate::clock;
use crate::config::count;
use crate::guard::word::{Duty, Slate};
use crate::hook::Hooks;
use crate::journal::witness::Witness;
use crate::notify::Pulse;
use crate::store::Store;
use crate::view::View;

/// Events that wait at most; senders wait when it is full.
pub const EVENTS: usize = 4096;
/// Events taken in one turn before outputs are published again.
const BATCH: usize = 256;
/// The two clocks may move apart by so much in one turn (the wall clock is disciplined).
const JUMP: Duration = Duration::from_millis(500);
/// An agent that must not go on waits so long for its fences at most.
const LAST_FENCES: Duration = Duration::from_secs(10);

/// Something asked of the loop from beside it.
pub enum Query {
    /// Every service, or one.
    Report(Option<ServiceName>, oneshot::Sender<Vec<ServiceReport>>),
    /// A copy of the machine, to be asked and run on elsewhere.
    Copy(oneshot::Sender<Machine>),
    /// Whom a switchover would move to, or why it would be refused.
    WouldSwitch(ServiceName, Option<InstanceName>, oneshot::Sender<Result<InstanceName, String>>),
    /// A new configuration of the core, with its instances and hooks.
    Configure(Box<Parts>, oneshot::Sender<()>),
}

/// What a configuration brings.
pub struct Parts {
    /// What the core is told.
    pub core: Arc<sengu_core::policy::Config>,
    /// The instances here.
    pub instances: BTreeMap<InstanceId, Arc<Instance>>,
    /// The hooks.
    pub hooks: Arc<Hooks>,
}

/// The loop and what it holds.
pub struct Turner {
    machine: Machine,
    parts: Parts,
    store: Arc<dyn Store>,
    view: Arc<View>,
    witness: Witness,
    data_dir: PathBuf,
    events: mpsc::Sender<Event>,
    /// Commands under way, so that each is answered even if its instance goes.
    commanded: BTreeMap<ActionId, InstanceId>,
    /// The commands among them that are fences.
    fencing: BTreeSet<ActionId>,
    /// Ends of txns whose revision the catalog does not have yet, and until when it is waited for.
    early: Vec<(Revision, Time, Event)>,
    /// Fences that fire by themselves; only where several agents judge.
    fences: Option<FenceClock>,
    armed: Vec<Armed>,
    /// It was said that beats are late.
    beats_late: bool,
    wakes: BTreeSet<Time>,
    turned: Now,
    /// The sign of life for the service manager.
    pulse: Option<Pulse>,
    /// What the guard is told by.
    slate: Option<Slate>,
}

impl Turner {
    /// A loop that has seen nothing yet.
    #[must_use]
    pub(super) fn new(
        parts: Parts,
        store: Arc<dyn Store>,
        view: Arc<View>,
        witness: Witness,
        data_dir: PathBuf,
        events: mpsc::Sender<Event>,
        fences: Option<FenceClock>,
    ) -> Self {
        let turned = clock::now();
        Self {
            machine: Machine::new(),
            parts,
            store,
            view,
            witness,
            data_dir,
            events,
            commanded: BTreeMap::new(),
            fencing: BTreeSet::new(),
            early: Vec::new(),
            fences,
            armed: Vec::new(),
            beats_late: false,
            wakes: BTreeSet::new(),
            turned,
            pulse: None,
            slate: None,
        }
    }

    /// The same, with somebody to tell that it turns.
    #[must_use]
    pub(super) fn telling(self, pulse: Pulse, slate: Option<Slate>) -> Self {
        Self { pulse: Some(pulse), slate, ..self }
    }

    /// Turns until the senders are gone, or the core says that it must not go on.
    ///
    /// # Errors
    /// Why the core must not go on.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        queries: mpsc::Receiver<Query>,
    ) -> Result<(), String> {
        let ended = self.turns(&mut events, queries).await;
        if ended.is_err() {
            self.last_fences(&mut events).await;
        }
        ended
    }

    /// The core goes on no more: what it fenced at the last is waited for.
    async fn last_fences(&mut self, events: &mut mpsc::Receiver<Event>) {
        let deadline = clock::time() + LAST_FENCES;
        let mut good = true;
        while !self.fencing.is_empty() {
            let event = tokio::select! {
                event = events.recv() => event,
                () = clock::sleep_until(deadline) => None,
            };
            match event {
                Some(Event::Done { id, outcome }) => {
                    if self.fencing.remove(&id) {
                        tracing::warn!(?outcome, "a last fence ended");
                        good &= matches!(&outcome, Outcome::Control(end) if is_fenced(end));
                    }
                }
                Some(_) => {}
                None => {
                    tracing::error!("a last fence did not end in time");
                    return;
                }
            }
        }
        if let Some(slate) = self.slate.as_mut().filter(|_| good) {
            slate.owes(Vec::new());
        }
    }

    async fn turns(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        mut queries: mpsc::Receiver<Query>,
    ) -> Result<(), String> {
        self.step(Event::Configured(Arc::clone(&self.parts.core)))?;
        loop {
            let pulse = self.pulse.as_ref().map_or(Duration::MAX, Pulse::pause);
            let pause = (self.parts.core.judge.lease() / 8).min(pulse);
            let due = self.turned.time + pause;
            let wake = self.wakes.first().map_or(due, |wake| due.min(*wake));
            let wake = self.early.iter().map(|(_, until, _)| *until).fold(wake, Time::min);
            let mut batch = Vec::new();
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                query = queries.recv() => {
                    let Some(query) = query else { return Ok(()) };
                    self.answer(query)?;
                }
                () = clock::sleep_until(wake) => batch.push(Event::Tick),
            }
            self.turn(batch, due)?;
        }
    }

    fn turn(&mut self, batch: Vec<Event>, due: Time) -> Result<(), String> {
        let now = clock::now();
        self.doubt(now, due)?;
        let passed: Vec<Time> = self.wakes.range(..=now.time).copied().collect();
        let woken = !passed.is_empty();
        for wake in passed {
            self.wakes.remove(&wake);
        }
        for event in batch {
            self.take(event)?;
        }
        self.too_early(now.time)?;
        if woken {
            self.step(Event::Tick)?;
        }
        if matches!(self.parts.core.judge, Judge::Alone { .. }) {
            // One judge: that the loop turned is the proof that its view is the newest.
            self.step(Event::Fresh { sent: now.time })?;
        }
        self.turned = now;
        self.tell_beats(now.time);
        if self.machine.loaded() {
            self.witness.shows(clock::now(), self.machine.catalog());
            self.view.publish(Arc::clone(self.machine.catalog()));
        }
        self.tell_turned();
        Ok(())
    }

    /// Was this loop late, or did the clocks move apart?
    fn doubt(&mut self, now: Now, due: Time) -> Result<(), String> {
        let late = now.time.since(due);
        if late > self.parts.core.judge.lease() / 4 {
            tracing::warn!(late_ms = late.as_millis(), "the agent was stopped or starved");
            self.step(Event::Stalled { late })?;
        }
        let boot = i128::from(now.time.0) - i128::from(self.turned.time.0);
        let wall = (i128::from(now.wall.0) - i128::from(self.turned.wall.0)) * 1000;
        if (wall - boot).unsigned_abs() > JUMP.as_micros() {
            tracing::warn!(by_ms = (wall - boot) / 1000, "the wall clock jumped");
            self.step(Event::ClockJumped)?;
        }
        Ok(())
    }

    /// Steps, unless it is the end of a txn that the catalog does not have yet.
    fn take(&mut self, event: Event) -> Result<(), String> {
        if let Event::Done { outcome: Outcome::Txn(TxnOutcome::Answered { reply, .. }), .. } =
            &event
            && reply.revision > self.machine.catalog().revision
        {
            let until = clock::time() + self.parts.core.judge.lease() / 8;
            self.early.push((reply.revision, until, event));
            return Ok(());
        }
        let changes = matches!(event, Event::Changed { .. } | Event::Loaded { .. });
        self.step(event)?;
        if changes && !self.early.is_empty() {
            let have = self.machine.catalog().revision;
            let (ready, early): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.early).into_iter().partition(|(at, ..)| *at <= have);
            self.early = early;
            for (.., event) in ready {
                self.step(event)?;
            }
        }
        Ok(())
    }

    /// A catalog that is behind for too long must hold up no beat: such an end is unknown, and
    /// what comes of it is seen later.
    fn too_early(&mut self, now: Time) -> Result<(), String> {
        if self.early.is_empty() || matches!(self.parts.core.judge, Judge::Alone { .. }) {
            return Ok(());
        }
        let (late, early): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.early).into_iter().partition(|(_, until, _)| *until <= now);
        self.early = early;
        for (revision, _, event) in late {
            let Event::Done { id, .. } = event else { continue };
            let why = format!("answered at revision {revision}, which has not been seen in time");
            tracing::warn!(revision, "the watch on the store is behind");
            let outcome = Outcome::Txn(TxnOutcome::Unknown(why));
            self.step(Event::Done { id, outcome })?;
        }
        Ok(())
    }

    /// Says when the terms that are held here have gone without a beat for half the lease.
    fn tell_beats(&mut self, now: Time) {
        let lease = self.parts.core.judge.lease();
        let age = self.machine.beaten().map(|sent| now.since(sent));
        let late = age.is_some_and(|age| age >= lease / 2);
        if late != self.beats_late {
            let age_ms = age.unwrap_or_default().as_millis();
            if late {
                tracing::warn!(age_ms, "no beat was acknowledged for half the lease");
            } else {
                tracing::info!(age_ms, "beats are acknowledged again, or nothing is held any more");
            }
            self.beats_late = late;
        }
    }

    /// Tells guard and service manager that the loop has turned: from here and nowhere else.
    fn tell_turned(&mut self) {
        let now = clock::now();
        if let Some(slate) = &mut self.slate {
            slate.turned(now.time);
        }
        let machine = &self.machine;
        if let Some(pulse) = &mut self.pulse {
            pulse.turned(now.time, || {
                let reports = machine.reports(now);
                let named = reports.iter().filter(|report| report.master.is_some()).count();
                let wrong = reports.iter().filter(|report| !report.problems.is_empty()).count();
                let services = count(reports.len(), "service");
                format!("{services}, {} named, {wrong} with problems", count(named, "master"))
            });
        }
    }

    /// What the guard is told.
    fn owe(&mut self) {
        let Some(slate) = &mut self.slate else { return };
        let duties = self.armed.iter().filter_map(|armed| {
            let (service, instance) = (&armed.instance.service, &armed.instance.instance);
            let configured = self.parts.core.services.get(service)?;
            Some(Duty {
                service: service.clone(),
                instance: instance.clone(),
                address: configured.instances.get(instance)?.address,
                term: armed.term,
                at: armed.at,
                kill: configured.policy.kill,
            })
        });
        slate.owes(duties.collect());
    }

    /// What the fence thread is told.
    fn arm(&self) {
        let Some(fences) = &self.fences else { return };
        let charges = self.armed.iter().filter_map(|armed| {
            let Some(instance) = self.parts.instances.get(&armed.instance) else {
                tracing::error!(instance = %armed.instance, "armed, and not configured here");
                return None;
            };
            let service = self.parts.core.services.get(&armed.instance.service);
            Some(Charge {
                instance: armed.instance.clone(),
                term: armed.term,
                at: armed.at,
                database: instance.database(),
                kill: service.is_none_or(|service| service.policy.kill),
            })
        });
        fences.arm(charges.collect());
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        if let Event::Done { id, .. } = &event {
            self.commanded.remove(id);
            self.fencing.remove(id);
        }
        let now = clock::now();
        self.witness.sees(now, &event, self.machine.catalog());
        let actions = self.machine.step(now, event);
        self.witness.decides(now, &actions);
        let mut exit = None;
        for action in actions {
            if let Action::Exit(why) = action {
                exit = Some(why);
            } else {
                self.act(action);
            }
        }
        exit.map_or(Ok(()), Err)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Txn { id, txn, within } => {
                storing::send(&self.store, &self.events, id, txn, within);
            }
            Action::Control { id, instance, term, command, within } => {
                tracing::debug!(%instance, %term, ?command, "command");
                self.commanded.insert(id, instance.clone());
                if matches!(command, Command::Fence { .. }) {
                    self.fencing.insert(id);
                }
                match self.parts.instances.get(&instance) {
                    Some(instance) => instance.control(id, term, command, within),
                    None => self.give_up(id),
                }
            }
            Action::Look { id, service, address, within } => {
                self.look(id, &service, address, within)
            }
            Action::Hook { id, run } => self.hook(id, run),
            Action::Observe(instance) => {
                if let Some(instance) = self.parts.instances.get(&instance) {
                    instance.observe();
                }
            }
            Action::Watch { instance, boot_id } => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    crate::process::ended(&boot_id).await;
                    // The loop has ended if nobody listens.
                    let _ = events.send(Event::Exited { instance, boot_id }).await;
                });
            }
            Action::Wake(at) => {
                self.wakes.insert(at);
            }
            Action::Say(saying) => {
                let service = saying.service.map(|service| service.to_string());
                let service = service.unwrap_or_default();
                if saying.alarm {
                    tracing::warn!(service, "{}", saying.text);
                } else {
                    tracing::info!(service, "{}", saying.text);
                }
            }
            Action::Remember(services) => {
                let data_dir = self.data_dir.clone();
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = identity::remember(&data_dir, &services) {
                        tracing::warn!(%error, "held services could not be kept");
                    }
                });
            }
            Action::Keep { instance, strays } => {
                let data_dir = self.data_dir.clone();
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = quarantine::keep(&data_dir, &instance, strays.as_deref()) {
                        tracing::warn!(%instance, %error, "its own transactions could not be listed");
                    }
                });
            }
            Action::Arm(armed) => {
                self.armed = armed;
                self.arm();
                self.owe();
            }
            // Told by the step, once everything else of it is under way.
            Action::Exit(_) => {}
        }
    }

    fn hook(&self, id: ActionId, run: HookRun) {
        let (hooks, events) = (Arc::clone(&self.parts.hooks), self.events.clone());
        tokio::spawn(async move {
            let outcome: HookOutcome = hooks.run(&run).await;
            // The loop has ended if nobody listens.
            let _ = events.send(Event::Done { id, outcome: Outcome::Hook(outcome) }).await;
        });
    }

    /// Answers a command that nobody will answer any more.
    fn give_up(&self, id: ActionId) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let error = "its instance was taken out of the configuration, or changed".to_owned();
            let outcome = ControlOutcome::Failed { error, untouched: false };
            // The loop has ended if nobody listens.
            let _ = events.send(Event::Done { id, outcome: Outcome::Control(outcome) }).await;
        });
    }

    fn look(
        &self,
        id: ActionId,
        service: &ServiceName,
        address: std::net::SocketAddr,
        within: Duration,
    ) {
        let one = self.parts.instances.iter().find(|(id, _)| id.service == *service);
        let database = one.map(|(_, instance)| instance.database());
        let events = self.events.clone();
        tokio::spawn(async move {
            let outcome = match database {
                Some(database) => tokio::time::timeout(within, database.look(address, within))
                    .await
                    .unwrap_or(LookOutcome::Unknown),
                None => LookOutcome::Unknown,
            };
            // The loop has ended if nobody listens.
            let _ = events.send(Event::Done { id, outcome: Outcome::Look(outcome) }).await;
        });
    }

    fn answer(&mut self, query: Query) -> Result<(), String> {
        match query {
            Query::Report(name, reply) => {
                let now = clock::now();
                let reports = match name {
                    Some(name) => self.machine.report(now, &name).into_iter().collect(),
                    None => self.machine.reports(now),
                };
                // Who asked may have gone.
                let _ = reply.send(reports);
            }
            Query::Copy(reply) => {
                // Who asked may have gone.
                let _ = reply.send(self.machine.clone());
            }
            Query::WouldSwitch(service, to, reply) => {
                // Who asked may have gone.
                let _ = reply.send(self.machine.would_switch(clock::now(), &service, to.as_ref()));
            }
            Query::Configure(parts, reply) => {
                let gone =
                    |id: &InstanceId| match (self.parts.instances.get(id), parts.instances.get(id))
                    {
                        (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
                        _ => true,
                    };
                let lost: Vec<ActionId> =
                    self.commanded.iter().filter(|(_, id)| gone(id)).map(|(id, _)| *id).collect();
                for id in lost {
                    self.give_up(id);
                }
                self.parts = *parts;
                self.arm();
                self.step(Event::Configured(Arc::clone(&self.parts.core)))?;
                let _ = reply.send(());
            }
        }
        Ok(())
    }
}
