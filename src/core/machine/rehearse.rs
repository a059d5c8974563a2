//! What would happen if the master died now: a copy of the machine, run on in a kind world.
//!
//! The copy is stepped as the agent steps the real one. Its txns go to a copy of the store's
//! records, its commands are done at once by instances as they were last seen, hooks agree, and
//! time passes only while the machine waits for it. So whatever refuses, ranks or waits here is
//! the code that would do it in earnest. It reads nothing and changes nothing outside itself; it
//! is bounded by events and by supposed time. What agents of other hosts would do is supposed
//! (`rehearse/elsewhere.rs`).

mod elsewhere;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::event::{
    Action, ActionId, Command, ControlOutcome, Event, LookOutcome, Outcome, TxnOutcome,
};
use crate::explain::{Explanation, Rehearsal, RehearsedStep, Serves};
use crate::kv::{Change, Kv, Refused, Txn, TxnReply};
use crate::name::{BootId, InstanceId, InstanceName, ServiceName, Term};
use crate::observation::{Answer, InstanceState, Observation, Process, Role};
use crate::record::{HookOutcome, MasterRecord, MasterState, Record, key};
use crate::time::{Now, Time};

use super::Machine;
use elsewhere::Elsewhere;

/// Events that a rehearsal takes at most.
const EVENTS: usize = 4000;
/// Supposed time after which nothing more is expected, beside the policy's own waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at each instance.
const LOOKS: Duration = Duration::from_secs(1);
/// Steps that are told at most.
const STEPS: usize = 60;

impl Machine {
    /// Everything about one service, as `explain` shows it; `None` if it is not known.
    #[must_use]
    pub fn explain(&self, now: Now, name: &ServiceName) -> Option<Explanation> {
        let report = self.report(now, name)?;
        let (rules, inputs) = self.facts(now, name);
        let next = self.rehearse(now, name);
        Some(Explanation { report, next, rules, inputs })
    }

    /// What would happen next: if a master serves, supposing that its process ends now.
    #[must_use]
    pub fn rehearse(&self, now: Now, name: &ServiceName) -> Rehearsal {
        let held = self.catalog.service(name).and_then(|view| view.managed_record());
        let Some(record) = held.cloned() else {
            let stays = vec![if self.loaded {
                format!("sengu does not hold {name}: `sengu adopt {name}` lets it")
            } else {
                "who holds it is unknown before the store was read".to_owned()
            }];
            return Rehearsal {
                suppose: "the master fails now".to_owned(),
                stays,
                ..Rehearsal::default()
            };
        };
        if !self.services.contains_key(name) {
            return Rehearsal {
                suppose: "the master fails now".to_owned(),
                stays: vec![format!("no instance of {name} is configured on this host")],
                ..Rehearsal::default()
            };
        }
        Stage::of(self, now, name, &record).play(&record)
    }
}

/// One instance on the stage.
#[derive(Debug, Clone)]
struct Actor {
    boot_id: BootId,
    state: InstanceState,
    answers: bool,
}

/// The copy, and the world around it.
struct Stage {
    machine: Machine,
    kv: Kv,
    name: ServiceName,
    began: Now,
    now: Now,
    limit: Duration,
    actors: BTreeMap<InstanceName, Actor>,
    elsewhere: Elsewhere,
    events: VecDeque<Event>,
    wakes: BTreeSet<Time>,
    next_look: Time,
    told: Rehearsal,
}

impl Stage {
    fn of(machine: &Machine, now: Now, name: &ServiceName, record: &MasterRecord) -> Self {
        let mut copy = machine.clone();
        copy.services.retain(|service, _| service == name);
        copy.beats.busy = None;
        copy.out = super::Out { last: copy.out.last, ..super::Out::default() };
        let mut actors = BTreeMap::new();
        let mut patience = PATIENCE;
        if let Some(service) = copy.services.get_mut(name) {
            service.come_to_rest();
            for (instance, boot_id, state, answers) in service.last_seen() {
                actors.insert(instance, Actor { boot_id, state, answers });
            }
        }
        if let Some(settings) = copy.config.as_ref().and_then(|config| config.services.get(name)) {
            patience += settings.policy.candidate_wait * 4;
        }
        let records = machine.catalog.range("").filter(|entry| !entry.key.starts_with("kv"));
        let kv = Kv::restore(machine.catalog.revision, records.cloned());
        let mut stage = Self {
            machine: copy,
            kv,
            name: name.clone(),
            began: now,
            now,
            limit: patience,
            actors,
            elsewhere: Elsewhere::default(),
            events: VecDeque::new(),
            wakes: BTreeSet::new(),
            next_look: now.time + LOOKS,
            told: Rehearsal::default(),
        };
        stage.elsewhere = Elsewhere::of(&stage);
        stage.suppose(record);
        stage
    }

    /// What the rehearsal begins with.
    fn suppose(&mut self, record: &MasterRecord) {
        if record.state != MasterState::Serving {
            self.told.suppose = "nothing else happens".to_owned();
            return;
        }
        let holder = &record.holder;
        self.told.suppose = format!("the process of {} ends now", holder.instance);
        self.provided(format!("{} is not started again meanwhile", holder.instance));
        if self.actors.remove(&holder.instance).is_some() {
            let (service, instance) = (self.name.clone(), holder.instance.clone());
            let instance = InstanceId { service, instance };
            let boot_id = holder.boot_id.clone();
            self.events.push_back(Event::Exited { instance, boot_id });
        } else {
            self.withdraw_elsewhere(record);
        }
    }

    /// Runs on until somebody new serves, or nothing more is to be expected.
    fn play(mut self, before: &MasterRecord) -> Rehearsal {
        self.events.push_back(Event::Tick);
        for _ in 0..EVENTS {
            if let Some(event) = self.events.pop_front() {
                self.step(event);
            } else if self.served(before).is_some() {
                break;
            } else if let Some(serves) = self.taken_elsewhere() {
                self.tell(format!("{} takes term {}", serves.instance, serves.term));
                self.told.serves = Some(serves);
                return self.told;
            } else if !self.wait() {
                break;
            }
        }
        self.end(before)
    }

    /// The record, if a later term than the one before serves.
    fn served(&self, before: &MasterRecord) -> Option<MasterRecord> {
        let record = self.record()?;
        let opened = record.term > before.term || before.state != MasterState::Serving;
        (opened && record.state == MasterState::Serving).then_some(record)
    }

    fn record(&self) -> Option<MasterRecord> {
        MasterRecord::decode(&self.kv.get(&key::master(&self.name))?.value).ok()
    }

    fn end(mut self, before: &MasterRecord) -> Rehearsal {
        if let Some(record) = self.served(before) {
            let (term, holder) = (record.term, record.holder);
            self.told.serves =
                Some(Serves { instance: holder.instance, term, address: holder.address });
            let history = self.kv.get(&key::history(&self.name, term));
            let history =
                history.and_then(|entry| crate::record::HistoryRecord::decode(&entry.value).ok());
            self.told.loss = history.map(|history| history.loss);
            return self.told;
        }
        if let Some(report) = self.machine.report(self.now, &self.name) {
            // What would go wrong anyway is no reason of its own.
            self.told.stays.extend(report.refusals);
            self.told.stays.extend(report.doing);
        }
        let mut known = BTreeSet::new();
        self.told.stays.retain(|why| known.insert(why.clone()));
        if self.told.stays.is_empty() {
            self.told.stays.push("no copy of it could take over".to_owned());
        }
        self.told
    }

    fn tell(&mut self, text: String) {
        let after = self.now.time.since(self.began.time).as_millis();
        let after_ms = u64::try_from(after).unwrap_or(u64::MAX);
        let known = self.told.steps.iter().any(|step| step.text == text);
        if !known && self.told.steps.len() < STEPS {
            self.told.steps.push(RehearsedStep { after_ms, text });
        }
    }

    /// Lets time pass up to what the machine waits for; `false` if that is too long.
    fn wait(&mut self) -> bool {
        let lease = self.machine.config.as_ref().map_or(LOOKS, |config| config.judge.lease());
        let turn = self.now.time + lease / 8;
        let mut at = turn.min(self.next_look);
        while let Some(wake) = self.wakes.first().copied() {
            if wake > at {
                break;
            }
            self.wakes.pop_first();
            if wake > self.now.time {
                at = at.min(wake);
                break;
            }
        }
        let passed = at.since(self.now.time);
        self.now.time = at;
        let millis = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        self.now.wall.0 = self.now.wall.0.saturating_add(millis);
        if at >= self.next_look {
            self.next_look = at + LOOKS;
            let names: Vec<InstanceName> = self.actors.keys().cloned().collect();
            names.iter().for_each(|name| self.look(name));
        }
        self.events.push_back(Event::Fresh { sent: self.now.time });
        self.events.push_back(Event::Tick);
        self.now.time.since(self.began.time) < self.limit
    }

    fn look(&mut self, name: &InstanceName) {
        let Some(actor) = self.actors.get(name).filter(|actor| actor.answers) else { return };
        let observation = Observation {
            boot_id: Some(actor.boot_id.clone()),
            answer: Answer::State(actor.state.clone()),
            process: Process::Sleeping,
        };
        let instance = InstanceId { service: self.name.clone(), instance: name.clone() };
        self.events.push_back(Event::Observed { instance, sent: self.now.time, observation });
    }

    /// Nobody is asked in a rehearsal: what takes writes goes on doing so, and an address that
    /// tells nothing is no veto.
    fn look_at(&mut self, address: SocketAddr) -> LookOutcome {
        let term = self.record().map(|record| record.term);
        let service = self.machine.services.get(&self.name).zip(term);
        if service.is_some_and(|(service, term)| service.seen_writable(term, address)) {
            return LookOutcome::Writable;
        }
        self.provided(format!("no earlier holder takes writes at {address}"));
        LookOutcome::Unknown
    }

    fn provided(&mut self, condition: String) {
        if !self.told.provided.contains(&condition) {
            self.told.provided.push(condition);
        }
    }

    fn step(&mut self, event: Event) {
        for action in self.machine.step(self.now, event) {
            match action {
                Action::Txn { id, txn, .. } => self.write(id, &txn),
                Action::Control { id, instance, term, command, .. } => {
                    let outcome = self.control(&instance.instance, term, &command);
                    self.answer(id, Outcome::Control(outcome));
                }
                Action::Look { id, address, .. } => {
                    let seen = self.look_at(address);
                    self.answer(id, Outcome::Look(seen));
                }
                Action::Hook { id, run } => {
                    let phase = run.phase.as_str();
                    self.tell(format!("{phase} hooks run"));
                    self.provided(format!("{phase} hooks agree"));
                    let (warnings, output) = (Vec::new(), String::new());
                    let done = HookOutcome::Done { warnings, output };
                    self.answer(id, Outcome::Hook(done));
                }
                Action::Observe(instance) => self.look(&instance.instance),
                Action::Wake(at) => drop(self.wakes.insert(at)),
                Action::Arm(_)
                | Action::Watch { .. }
                | Action::Say(_)
                | Action::Remember(_)
                | Action::Keep { .. }
                | Action::Exit(_) => {}
            }
        }
    }

    fn answer(&mut self, id: ActionId, outcome: Outcome) {
        self.events.push_back(Event::Done { id, outcome });
    }

    fn write(&mut self, id: ActionId, txn: &Txn) {
        let sent = self.now.time;
        let outcome = match self.apply(txn) {
            Ok(reply) => TxnOutcome::Answered { sent, reply },
            Err(refused) => TxnOutcome::Refused(refused.to_string()),
        };
        self.answer(id, Outcome::Txn(outcome));
    }

    /// A txn that an agent of another host sends.
    fn happen(&mut self, txn: &Txn) {
        // It asks for nothing that a store could refuse; refused, it would not have happened.
        let _answered = self.apply(txn);
    }

    fn apply(&mut self, txn: &Txn) -> Result<TxnReply, Refused> {
        let applied = self.kv.apply(txn)?;
        let (revision, changes) = (applied.reply.revision, applied.changes);
        changes.iter().for_each(|change| self.tell_change(change));
        if !changes.is_empty() {
            let vacated = changes.iter().find_map(|change| self.vacated(change));
            self.events.push_back(Event::Changed { revision, changes });
            if let Some(record) = vacated {
                self.testify_elsewhere(&record);
            }
        }
        Ok(applied.reply)
    }

    /// The master record, if this change leaves the service without one.
    fn vacated(&self, change: &Change) -> Option<MasterRecord> {
        let entry = change.now.as_ref().filter(|_| *change.key == *key::master(&self.name))?;
        let record = MasterRecord::decode(&entry.value).ok()?;
        matches!(record.state, MasterState::Vacant { .. } | MasterState::Lapsed).then_some(record)
    }

    fn tell_change(&mut self, change: &Change) {
        let Some(entry) = &change.now else { return };
        if *change.key == *key::master(&self.name)
            && let Ok(record) = MasterRecord::decode(&entry.value)
        {
            let (who, term) = (&record.holder.instance, record.term);
            let text = match &record.state {
                MasterState::Vacant { .. } => {
                    format!("{who} is withdrawn: no name points to a master")
                }
                MasterState::Lapsed => format!("the lease of {who} runs out"),
                MasterState::Taken { .. } => format!("{who} takes term {term}"),
                MasterState::Serving => format!("{who} serves term {term}: names point to it"),
                MasterState::Giving { to, .. } => format!("{who} hands over to {to}"),
                MasterState::FenceFailed { .. } => format!("{who} cannot be fenced"),
                MasterState::Withdrawn { .. } => {
                    format!("{who} is withdrawn until another tool has moved the master")
                }
                MasterState::Unmanaged => format!("{} is released", self.name),
            };
            self.tell(text);
        } else if let Some(rest) = change.key.strip_prefix("finals/") {
            let copy = rest.rsplit('/').next().unwrap_or_default();
            self.tell(format!("{copy} has stopped receiving and tells its position"));
        }
    }

    /// What a healthy server would answer.
    fn control(&mut self, name: &InstanceName, term: Term, command: &Command) -> ControlOutcome {
        let text = match command {
            Command::Promote { .. } => Some(format!("{name} is promoted")),
            Command::Follow { source } => Some(format!("{name} follows {source}")),
            Command::Fence { .. } => Some(format!("{name} is fenced (term {term})")),
            Command::Detach
            | Command::Acknowledge { .. }
            | Command::Await { .. }
            | Command::Pause { .. }
            | Command::Unpause
            | Command::Read => None,
        };
        let Some(actor) = self.actors.get_mut(name) else {
            return ControlOutcome::Exited { boot_id: None };
        };
        if !actor.answers {
            let error = "it does not answer".to_owned();
            return ControlOutcome::Failed { error, untouched: false };
        }
        let state = &mut actor.state;
        match command {
            Command::Promote { .. } => {
                (state.role, state.writable, state.source) = (Role::Master, true, None);
                state.link_up = false;
            }
            Command::Follow { source } => {
                (state.role, state.writable) = (Role::Replica, false);
                (state.source, state.link_up) = (Some(*source), true);
            }
            Command::Fence { .. } => {
                (state.role, state.writable, state.link_up) = (Role::Replica, false, false);
            }
            Command::Detach => {
                (state.source, state.link_up) = (None, false);
                // What was received is applied before a position counts.
                if !state.applier_stopped {
                    state.applied = state.received.clone();
                }
            }
            Command::Acknowledge { on } => {
                if let Some(semi) = &mut state.semi_sync {
                    semi.acknowledges = *on;
                }
            }
            Command::Await { count } => {
                if let Some(semi) = &mut state.semi_sync {
                    semi.awaits = *count;
                }
            }
            Command::Pause { .. } | Command::Unpause | Command::Read => {}
        }
        let outcome = ControlOutcome::Done { boot_id: actor.boot_id.clone(), state: state.clone() };
        if let Some(text) = text {
            self.tell(text);
        }
        outcome
    }
}
