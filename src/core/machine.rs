//! All services of one agent: folds the store's changes into the catalog, routes each event to
//! the service that it belongs to, and keeps the one lane that all services share: the beat.
//!
//! It holds no phase of its own. What a service does next is read from its records and from what
//! was last seen of its instances, so going on after a crash is the normal path.

mod beat;
mod rehearse;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::event::{Action, ActionId, Armed, Event, Outcome, Saying, TxnOutcome};
use crate::explain::{Inputs, RuleReport};
use crate::kv::{Compare, Op, Revision, Txn};
use crate::lease::{Beats, beat_interval};
use crate::name::{InstanceId, InstanceName, ServiceName};
use crate::policy::{Config, Judge};
use crate::record::{FORMAT, NodeRecord, Owner, Record, key, newer_format};
use crate::report::ServiceReport;
use crate::sabotage::sabotaged;
use crate::service::{Cx, Facts, Service};
use crate::time::{Now, Time};

pub(crate) use beat::carried_beat;

/// One agent's decisions. See the module. A clone is cheap and goes its own way.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    config: Option<Arc<Config>>,
    catalog: Arc<Catalog>,
    loaded: bool,
    started: Option<Time>,
    /// Send of the last linearizable answer.
    fresh: Time,
    /// When the last answer came, and since when each comes in time for a beat to count.
    answered: Time,
    steady: Time,
    /// What was seen before this is old: the loop was late, or a clock jumped.
    doubted: Time,
    services: BTreeMap<ServiceName, Service>,
    beats: Beats,
    armed: Vec<Armed>,
    remembered: BTreeSet<ServiceName>,
    node: Option<ActionId>,
    /// Not written again before.
    node_after: Time,
    /// Its own node's record was as it should be when records of nodes last changed then.
    noted: Option<Revision>,
    /// The earliest tick that it asked for and was not given yet.
    woken: Option<Time>,
    /// It said that it must not go on: nothing more is decided.
    ended: bool,
    out: Out,
}

/// What a step asks for, and who is told how it ended.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Out {
    actions: Vec<Action>,
    last: u64,
    wake: Option<Time>,
    routes: BTreeMap<ActionId, Route>,
}

/// Whom an action's end is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Route {
    Beat,
    Node,
    Service(ServiceName),
}

/// However a wait was counted, a tick comes no sooner than this: a loop must not turn for nothing.
const SOONEST: Duration = Duration::from_millis(1);

/// How long a txn may take before its outcome counts as unknown.
const TXN_WITHIN: Duration = Duration::from_secs(5);

impl Out {
    fn id(&mut self, route: Route) -> ActionId {
        self.last += 1;
        let id = ActionId(self.last);
        self.routes.insert(id, route);
        id
    }

    /// A numbered action of a service.
    pub(crate) fn act(
        &mut self,
        service: &ServiceName,
        action: impl FnOnce(ActionId) -> Action,
    ) -> ActionId {
        let id = self.id(Route::Service(service.clone()));
        self.actions.push(action(id));
        id
    }

    /// A txn of a service.
    pub(crate) fn txn(&mut self, service: &ServiceName, txn: Txn, within: Duration) -> ActionId {
        self.act(service, |id| Action::Txn { id, txn, within: within.min(TXN_WITHIN) })
    }

    /// An action without an answer.
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Come again at this time.
    pub(crate) fn wake(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// A line for the log.
    pub(crate) fn say(&mut self, service: &ServiceName, alarm: bool, text: String) {
        let service = Some(service.clone());
        self.actions.push(Action::Say(Saying { alarm, service, text }));
    }
}

impl Machine {
    /// An agent that has seen nothing yet. Its first event is [`Event::Configured`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The picture that decisions are made on, and that outputs may show.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Was the store ever read? Before that the catalog is empty, and no picture of anything.
    #[must_use]
    pub fn loaded(&self) -> bool {
        self.loaded
    }

    /// When the oldest of the beats that keep the terms held here was sent; none: nothing is
    /// held, or nobody promised to beat.
    #[must_use]
    pub fn beaten(&self) -> Option<Time> {
        let lease = self.config.as_ref()?.judge.lease();
        let kept = self.beats.kept.values().filter(|kept| kept.acknowledged);
        kept.map(|kept| kept.deadline - lease).min()
    }

    /// Takes one event and says what is to be done.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        if self.ended {
            return Vec::new();
        }
        self.started.get_or_insert(now.time);
        self.out.wake = None;
        let fresh = matches!(event, Event::Fresh { .. });
        let touched = self.absorb(now, event);
        if fresh && self.nothing_due(now.time) {
            return Vec::new();
        }
        if self.config.is_some() && !self.ended {
            for name in &self.names(touched) {
                self.decide(now, name);
                self.vouch(now, name);
            }
            self.publish_node(now.time);
            self.beat(now);
            self.arm();
            self.remember();
        }
        self.ask_to_be_woken(now.time);
        std::mem::take(&mut self.out.actions)
    }

    /// Does a picture that is only known to be fresh for longer change nothing? No beat is due, and
    /// the tick that was asked for is still to come.
    fn nothing_due(&self, now: Time) -> bool {
        let Some(config) = &self.config else { return true };
        let beats = match config.judge {
            Judge::Alone { .. } => true,
            Judge::Shared { .. } => now < self.beats.next,
        };
        beats && self.woken.is_some_and(|wake| wake > now)
    }

    /// Asks for the next tick, unless an earlier one is on its way: that one looks at everything,
    /// and asks anew for what it does not do.
    fn ask_to_be_woken(&mut self, now: Time) {
        let Some(wake) = self.out.wake.take().map(|wake| wake.max(now + SOONEST)) else { return };
        if self.woken.is_some_and(|before| before > now && before <= wake) {
            return;
        }
        self.woken = Some(wake);
        self.out.actions.push(Action::Wake(wake));
    }

    /// The services that an event may have changed, in order.
    fn names(&self, touched: Touched) -> Vec<ServiceName> {
        match touched {
            Touched::Nothing => Vec::new(),
            Touched::One(name) => vec![name],
            Touched::All => {
                let known = self.catalog.services().map(|(name, _)| name);
                let others = known.filter(|name| !self.services.contains_key(*name));
                let mut names: Vec<ServiceName> =
                    self.services.keys().chain(others).cloned().collect();
                names.sort_unstable();
                names
            }
        }
    }

    /// Every service, as `status` shows it.
    #[must_use]
    pub fn reports(&self, now: Now) -> Vec<ServiceReport> {
        let mut names: BTreeSet<ServiceName> = self.services.keys().cloned().collect();
        names.extend(self.catalog.services().map(|(name, _)| name.clone()));
        names.iter().filter_map(|name| self.report(now, name)).collect()
    }

    /// One service, as `explain` shows it.
    #[must_use]
    pub fn report(&self, now: Now, name: &ServiceName) -> Option<ServiceReport> {
        let view = self.catalog.service(name).cloned().unwrap_or_default();
        let service = self.services.get(name);
        if service.is_none() && self.catalog.service(name).is_none() {
            return None;
        }
        let report = crate::service::report(now, name, &view, &self.catalog, service);
        Some(if self.loaded { report } else { report.unread() })
    }

    /// What a switchover asked for at this moment would come to; nothing is done or kept.
    ///
    /// # Errors
    /// Why it would be refused, in the words of the refusal.
    pub fn would_switch(
        &self,
        now: Now,
        name: &ServiceName,
        to: Option<&InstanceName>,
    ) -> Result<InstanceName, String> {
        let view = self.catalog.service(name).cloned().unwrap_or_default();
        let Some((config, settings, service)) = self.config.as_ref().and_then(|config| {
            Some((config, config.services.get(name)?, self.services.get(name)?))
        }) else {
            return Err(format!("service {name} is not in this host's configuration"));
        };
        // What a decision would put here falls away with it.
        let (mut beats, mut out) = (Beats::default(), Out::default());
        let cx = Cx {
            now,
            config,
            settings,
            name,
            view: &view,
            catalog: &self.catalog,
            beats: &mut beats,
            out: &mut out,
            trusted: false,
            remembered: false,
            steady: now.time,
            doubted: self.doubted,
        };
        service.would_switch(&cx, to)
    }

    /// What the rules say of a service, and what they say it from.
    fn facts(&self, now: Now, name: &ServiceName) -> (Vec<RuleReport>, Inputs) {
        let view = self.catalog.service(name).cloned().unwrap_or_default();
        let context = Facts {
            now,
            name,
            config: self.config.as_deref(),
            view: &view,
            catalog: &self.catalog,
            beats: &self.beats,
            fresh: self.fresh,
            doubted: self.doubted,
            service: self.services.get(name),
        };
        (context.rules(), context.inputs())
    }

    fn absorb(&mut self, now: Now, event: Event) -> Touched {
        match event {
            Event::Configured(config) => self.configure(config),
            Event::Loaded { sent, revision, entries } => {
                self.catalog = Arc::new(self.catalog.load(now.time, revision, entries));
                self.loaded = true;
                self.freshen(now, sent);
            }
            Event::Changed { revision, changes } => {
                Arc::make_mut(&mut self.catalog).apply(now.time, revision, &changes);
                return touched_by(changes.iter().map(|change| &*change.key));
            }
            Event::Fresh { sent } => {
                self.freshen(now, sent);
                return Touched::Nothing;
            }
            Event::Observed { instance, sent, observation } => {
                return self.with_service(&instance, |service| {
                    service.observed(now, &instance.instance, sent, observation);
                });
            }
            Event::Exited { instance, boot_id } => {
                // The fence thread says what it did after the process is gone.
                let due = self.armed.iter().find(|it| it.instance == instance && it.at <= now.time);
                let due = due.map(|armed| armed.term);
                return self.with_service(&instance, |service| {
                    service.exited(now, &instance.instance, &boot_id, due);
                });
            }
            Event::FenceFired { instance, term, outcome } => {
                return self.with_service(&instance, |service| {
                    service.fence_fired(now, &instance.instance, term, outcome);
                });
            }
            Event::Done { id, outcome } => return self.done(now, id, outcome),
            Event::Tick => {}
            Event::Stalled { .. } | Event::ClockJumped => {
                self.doubted = now.time;
                for service in self.services.values_mut() {
                    service.doubt(now);
                }
            }
        }
        Touched::All
    }

    fn freshen(&mut self, now: Now, sent: Time) {
        self.fresh = self.fresh.max(sent);
        if let Some(config) = &self.config {
            let lease = config.judge.lease();
            Arc::make_mut(&mut self.catalog).valid_until = self.fresh + lease;
            if now.time.since(sent) > beat_interval(lease) {
                self.steady = now.time;
            } else {
                self.steady = self.steady(now.time, lease);
            }
            self.answered = now.time;
        }
    }

    /// Since when the store answers in time, one question in a row without an answer apart.
    fn steady(&self, now: Time, lease: Duration) -> Time {
        if now > self.answered + beat_interval(lease) * 3 { now } else { self.steady }
    }

    fn configure(&mut self, config: Arc<Config>) {
        for name in config.services.keys() {
            self.services.entry(name.clone()).or_default();
        }
        self.services.retain(|name, _| config.services.contains_key(name));
        for (name, service) in &mut self.services {
            service.configure(&config.services[name]);
        }
        self.remembered.clone_from(&config.remembered);
        self.noted = None;
        self.config = Some(config);
    }

    fn with_service(
        &mut self,
        instance: &InstanceId,
        change: impl FnOnce(&mut Service),
    ) -> Touched {
        let Some(service) = self.services.get_mut(&instance.service) else {
            return Touched::Nothing;
        };
        change(service);
        Touched::One(instance.service.clone())
    }

    fn done(&mut self, now: Now, id: ActionId, outcome: Outcome) -> Touched {
        if let Outcome::Txn(TxnOutcome::Answered { sent, .. }) = &outcome {
            self.freshen(now, *sent);
        }
        match self.out.routes.remove(&id) {
            None => Touched::Nothing,
            Some(Route::Node) => {
                self.node = None;
                // A store that refuses, as when it is full, or is away, is so for a while.
                let answered = matches!(outcome, Outcome::Txn(TxnOutcome::Answered { .. }));
                self.node_after = now.time + Duration::from_secs(u64::from(!answered));
                Touched::Nothing
            }
            Some(Route::Beat) => {
                self.beat_done(now, outcome);
                Touched::All
            }
            Some(Route::Service(name)) => {
                if self.beats.busy == Some(id) {
                    self.take_done(now, &name, &outcome);
                }
                if let Some(service) = self.services.get_mut(&name) {
                    service.done(now, id, outcome);
                }
                Touched::One(name)
            }
        }
    }

    fn decide(&mut self, now: Now, name: &ServiceName) {
        let lease = self.config.as_ref().map_or(Duration::ZERO, |config| config.judge.lease());
        let steady = self.steady(now.time, lease);
        let (Some(config), Some(service)) = (&self.config, self.services.get_mut(name)) else {
            return;
        };
        let Some(settings) = config.services.get(name) else { return };
        let view = self.catalog.service(name).cloned().unwrap_or_default();
        let answered = now.time < self.fresh + lease / 4;
        let mut cx = Cx {
            now,
            config,
            settings,
            name,
            view: &view,
            catalog: &self.catalog,
            beats: &mut self.beats,
            out: &mut self.out,
            trusted: self.loaded && answered,
            remembered: self.remembered.contains(name),
            steady,
            doubted: self.doubted,
        };
        if self.loaded {
            service.decide(&mut cx);
        } else if self.started.is_some_and(|start| now.time >= start + lease / 2)
            && matches!(config.judge, Judge::Shared { .. })
            && config.remembered.contains(name)
            && !sabotaged!(UnansweredStartGoesOn)
        {
            // No answer of the store: what this host held may be another's by now. A look that has
            // not come back by now, as on a host that is short of time, holds no fence up.
            service.fence_unanswered(&mut cx, true);
        } else if let Some(start) = self.started
            && now.time < start + lease / 2
        {
            cx.out.wake(start + lease / 2);
        }
    }

    /// May outputs name this service's master on this agent's word? Where one agent judges, and
    /// where another tool moved the master and it is here, that needs a fresh look. Elsewhere only
    /// an end that was seen here speaks against it: the store may be away when it comes.
    fn vouch(&mut self, now: Now, name: &ServiceName) {
        let Some(config) = &self.config else { return };
        let record = self.catalog.service(name).and_then(|view| view.master.as_ref());
        let service = self.services.get(name);
        let vouched = record.is_none_or(|at| {
            let record = &at.record;
            let named_here =
                service.is_some_and(|service| service.names_for_another(record, config));
            match &config.judge {
                Judge::Shared { .. } if !named_here => {
                    !service.is_some_and(|service| service.saw_end(record, config))
                }
                // Nobody else looks after a service that is not configured here any more.
                judge @ (Judge::Shared { .. } | Judge::Alone { .. }) => {
                    service.is_some_and(|service| {
                        service.vouches(now.time, record, judge.lease(), self.doubted)
                    })
                }
            }
        });
        if vouched == self.catalog.unvouched.contains(name) {
            let catalog = Arc::make_mut(&mut self.catalog);
            if vouched {
                catalog.unvouched.remove(name);
            } else {
                catalog.unvouched.insert(name.clone());
            }
        }
    }

    /// Writes `nodes/HOST` where it is not what it should be.
    fn publish_node(&mut self, now: Time) {
        let Some(config) = &self.config else { return };
        if !self.loaded || self.node.is_some() {
            return;
        }
        if now < self.node_after {
            self.out.wake(self.node_after);
            return;
        }
        // Names of nodes change seldom, and this is asked at each step.
        let changed = self.catalog.changed("nodes");
        if self.noted == Some(changed) {
            return;
        }
        let old = self.catalog.registry().node(config.host.as_str()).map(|kept| &kept.record);
        let address = config.address;
        let good = |old: &NodeRecord| old.address == address && old.owner == Owner::Managed;
        if old.is_some_and(good) {
            self.noted = Some(changed);
            return;
        }
        let record = NodeRecord {
            format: FORMAT,
            name: config.host.to_string(),
            address,
            owner: Owner::Managed,
            id: None,
            meta: BTreeMap::new(),
            unknown: serde_json::Map::new(),
        };
        let key = key::node(config.host.as_str());
        let stands = self.catalog.get(&key);
        if stands.is_some_and(|entry| newer_format(&entry.value).is_some()) {
            return; // The instances' records say so, too.
        }
        let revision = stands.map_or(0, |entry| entry.modified);
        let txn = Txn {
            when: vec![Compare::Modified(Arc::clone(&key), revision)],
            then: vec![Op::Put { key, value: record.encode(), lease: 0 }],
            otherwise: Vec::new(),
        };
        let id = self.out.id(Route::Node);
        self.node = Some(id);
        self.out.actions.push(Action::Txn { id, txn, within: TXN_WITHIN });
    }

    fn remember(&mut self) {
        if !self.loaded {
            return;
        }
        let held = |name: &&ServiceName| {
            self.catalog.service(name).is_some_and(|view| match view.managed_record() {
                _ if view.master_unreadable() => self.remembered.contains(*name),
                Some(record) => record.external.is_none(),
                None => false,
            })
        };
        let held = || self.services.keys().filter(held);
        if !held().eq(&self.remembered) {
            let held: BTreeSet<ServiceName> = held().cloned().collect();
            self.remembered.clone_from(&held);
            self.out.actions.push(Action::Remember(held));
        }
    }
}

/// All that later decisions hang on, with the catalog by its revision and by when things came:
/// two machines on one store that hash alike decide alike, which a search over all orders needs.
/// Not the configuration.
impl Hash for Machine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { catalog, loaded, started, fresh, doubted, services, beats, out, .. } = self;
        (catalog.revision, loaded, started, fresh, doubted).hash(state);
        (self.answered, self.steady, self.node_after).hash(state);
        for (name, view) in catalog.services() {
            let host = view.master.as_ref().map(|at| at.record.holder.host.as_str());
            let beat = host.and_then(|host| catalog.beat(host)).map(|beat| beat.received);
            (name, view.master_received, view.beat_received, view.beat_missed, beat).hash(state);
        }
        (services, beats, &self.armed, &self.remembered, &self.node, out).hash(state);
    }
}

/// Which services an event may have changed.
enum Touched {
    Nothing,
    One(ServiceName),
    All,
}

fn touched_by<'a>(keys: impl Iterator<Item = &'a str>) -> Touched {
    let mut touched = Touched::Nothing;
    for key in keys {
        let Some((kind, rest)) = key.split_once('/') else { continue };
        let undecided =
            ["kv", "kvmeta", "nodes", "services", "checks", "sessions", "beats", "told"];
        if undecided.contains(&kind) {
            continue;
        }
        let Some(name) = rest.split('/').next().and_then(|name| ServiceName::new(name).ok()) else {
            continue;
        };
        match &touched {
            Touched::Nothing => touched = Touched::One(name),
            Touched::One(one) if *one == name => {}
            Touched::One(_) | Touched::All => return Touched::All,
        }
    }
    touched
}
