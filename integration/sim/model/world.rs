//! One state of the model and every next one: two hosts, one store, and what is under way
//! between them.
//!
//! Whatever is under way may happen next, in any order; time passes in quanta of a quarter of the
//! lease, and only when no fence is overdue. Faults are choices too, within a budget.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use sengu_core::catalog::Named;
use sengu_core::event::{
    Action, ActionId, Command, ControlOutcome, Event, LookOutcome, Outcome, TxnOutcome,
};
use sengu_core::kv::{Kv, Txn, TxnReply};
use sengu_core::machine::Machine;
use sengu_core::name::Term;
use sengu_core::observation::{Answer, Observation, Process};
use sengu_core::record::{Ask, Cause, MasterRecord, MasterState, Record};
use sengu_core::time::{Now, Time, Wall};

use super::agent::{Agent, Control, Reply, Request};
use super::database::{Database, Source};
use super::judge::Judge;
use super::setting::{
    QUANTUM, address, config, instance, instance_id, request_of, request_txn, service,
};

/// What may happen next; the number is the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The store does a txn, and the answer is there at once ...
    Commit(usize, usize),
    /// ... or late (a fault) ...
    CommitLate(usize, usize),
    /// ... or lost (a fault).
    CommitLost(usize, usize),
    /// A late answer arrives.
    Reply(usize, usize),
    /// The watch brings what it lacks.
    Watch(usize),
    /// The instance does the next command of its lane, and answers ...
    Run(usize),
    /// ... or the answer is lost (a fault).
    RunLost(usize),
    /// A fence that the machine asked for is done.
    Fence(usize),
    /// The fence thread fires.
    Thread(usize),
    /// A look at the other host's instance.
    Look(usize),
    /// A look at the own instance.
    Observe(usize),
    /// The machine is asked again, as it wants.
    Tick(usize),
    /// The instance's exit is heard of.
    HearExit(usize),
    /// The supervisor starts the instance.
    Start(usize),
    /// The agent starts, and reads the store if it can.
    Restart(usize),
    /// The agent reads the store at last.
    Load(usize),
    /// The replica takes what it lacks.
    Receive(usize),
    /// A client writes.
    Write(usize),
    /// A quantum of time goes by, and nothing is under way ...
    Time,
    /// ... or what is under way is late (a fault).
    Late,
    /// The instance's process exits (a fault).
    Exit(usize),
    /// The agent dies (a fault).
    Crash(usize),
    /// The host loses the store (a fault), and finds it again.
    Cut(usize),
    Heal(usize),
    /// A person asks for a switchover (a fault).
    Switchover,
    /// A person asks for a failover (a fault).
    Failover,
}

impl Choice {
    /// May time go by before it, without anything being late?
    fn leisurely(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Restart(_) | Self::Receive(_))
    }
}

/// What may still go wrong on the way.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Budget {
    /// Faults of all kinds together.
    pub(super) faults: u8,
    pub(super) exits: u8,
    pub(super) crashes: u8,
    pub(super) cuts: u8,
    pub(super) lost: u8,
    pub(super) asked: u8,
    /// Writes of clients; no fault.
    pub(super) writes: u8,
}

/// One state.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) now: Now,
    pub(super) store: Kv,
    /// A hash over all changes of the store, in order: tells its content.
    chain: u64,
    pub(super) agents: [Agent; 2],
    pub(super) databases: [Database; 2],
    pub(super) judge: Judge,
    pub(super) budget: Budget,
    written: u32,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.now.time, self.chain, self.store.revision(), &self.agents).hash(state);
        (&self.databases, &self.judge, self.budget, self.written).hash(state);
    }
}

impl World {
    /// Both run, the first one's instance is the master, and sengu has seen nothing.
    pub(super) fn new() -> Self {
        let budget =
            Budget { faults: 0, exits: 0, crashes: 0, cuts: 0, lost: 0, asked: 0, writes: 0 };
        let mut world = Self {
            now: Now { time: Time(1_000_000_000), wall: Wall(1_767_225_600_000) },
            store: Kv::new(),
            chain: 0,
            agents: [Agent::default(), Agent::default()],
            databases: [Database::new(0, 0), Database::new(1, 0)],
            judge: Judge::default(),
            budget,
            written: 0,
        };
        for host in 0..2 {
            world.restart(host);
        }
        world
    }

    /// `master/S`.
    pub(super) fn record(&self) -> Option<MasterRecord> {
        let entry = self.store.get(&format!("master/{}", service()))?;
        MasterRecord::decode(&entry.value).ok()
    }

    /// What happens without any fault.
    pub(super) fn calm(&self, choices: &mut Vec<Choice>) {
        for (host, agent) in self.agents.iter().enumerate() {
            let lives = agent.machine.is_some();
            if !agent.cut {
                let revision = self.store.revision();
                choices.extend((0..agent.requests.len()).map(|n| Choice::Commit(host, n)));
                let there = |n: &usize| agent.replies[*n].reply.is_some();
                choices
                    .extend((0..agent.replies.len()).filter(there).map(|n| Choice::Reply(host, n)));
                if lives && agent.view.is_some_and(|view| view < revision) {
                    choices.push(Choice::Watch(host));
                }
                if lives && agent.view.is_none() {
                    choices.push(Choice::Load(host));
                }
            }
            let database = &self.databases[host];
            if !agent.lane.is_empty() {
                choices.push(Choice::Run(host));
            }
            if !agent.fences.is_empty() {
                choices.push(Choice::Fence(host));
            }
            if lives && agent.armed.iter().any(|armed| armed.at <= self.now.time) {
                choices.push(Choice::Thread(host));
            }
            if !agent.looks.is_empty() {
                choices.push(Choice::Look(host));
            }
            if lives && (agent.asked || agent.seen != self.sight(host)) {
                choices.push(Choice::Observe(host));
            }
            if agent.again {
                choices.push(Choice::Tick(host));
            }
            if agent.exit.is_some() {
                choices.push(Choice::HearExit(host));
            }
            if !database.runs {
                choices.push(Choice::Start(host));
            }
            if !lives {
                choices.push(Choice::Restart(host));
            }
            if database.lacks(&self.databases[1 - host]) {
                choices.push(Choice::Receive(host));
            }
        }
        if !self.overdue() && !choices.iter().any(|choice| !choice.leisurely()) {
            choices.push(Choice::Time);
        }
    }

    /// Everything that may happen.
    pub(super) fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        self.calm(&mut choices);
        let budget = self.budget;
        for (host, agent) in self.agents.iter().enumerate() {
            if budget.writes > 0 && self.databases[host].open() {
                choices.push(Choice::Write(host));
            }
            if agent.cut {
                choices.push(Choice::Heal(host));
            }
            if budget.faults == 0 {
                continue;
            }
            if budget.lost > 0 && !agent.cut {
                choices.extend(
                    (0..agent.requests.len())
                        .flat_map(|n| [Choice::CommitLate(host, n), Choice::CommitLost(host, n)]),
                );
            }
            if budget.lost > 0 && !agent.lane.is_empty() {
                choices.push(Choice::RunLost(host));
            }
            if budget.exits > 0 && self.databases[host].runs {
                choices.push(Choice::Exit(host));
            }
            if budget.crashes > 0 && agent.machine.is_some() {
                choices.push(Choice::Crash(host));
            }
            if budget.cuts > 0 && !agent.cut {
                choices.push(Choice::Cut(host));
            }
        }
        if budget.faults > 0 && !self.overdue() && !choices.contains(&Choice::Time) {
            choices.push(Choice::Late);
        }
        if budget.faults > 0 && budget.asked > 0 {
            choices.extend([Choice::Switchover, Choice::Failover]);
        }
        choices
    }

    /// May no time go by: a fence would be later than its budget, or a dead agent, whose fence
    /// would have been due, is not back? (An agent that stays away is the documented limit.)
    fn overdue(&self) -> bool {
        self.agents.iter().any(|agent| {
            let due = agent.armed.iter().any(|armed| {
                let unread = agent.view.is_none() && armed.at < self.now.time + QUANTUM;
                armed.at <= self.now.time || unread
            });
            due || !agent.fences.is_empty()
        })
    }

    /// One choice happens.
    pub(super) fn happen(&mut self, choice: Choice) {
        match choice {
            Choice::Commit(host, n) => self.commit(host, n, Some(true)),
            Choice::CommitLate(host, n) => {
                self.spend(|budget| &mut budget.lost);
                self.commit(host, n, Some(false));
            }
            Choice::CommitLost(host, n) => {
                self.spend(|budget| &mut budget.lost);
                self.commit(host, n, None);
            }
            Choice::Reply(host, n) => {
                let Reply { id, sent, reply, .. } = self.agents[host].replies.remove(n);
                self.answer(host, id, sent, reply.expect("a lost one is no choice"));
            }
            Choice::Watch(host) => self.watch(host, self.store.revision()),
            Choice::Run(host) => self.run(host, true),
            Choice::RunLost(host) => {
                self.spend(|budget| &mut budget.lost);
                self.run(host, false);
            }
            Choice::Fence(host) => {
                let id = self.agents[host].fences.remove(0);
                let outcome = self.fence(host);
                self.done(host, id, Outcome::Control(outcome));
            }
            Choice::Thread(host) => self.thread(host),
            Choice::Look(host) => self.look(host),
            Choice::Observe(host) => self.observe(host),
            Choice::Tick(host) => {
                self.agents[host].again = false;
                self.step(host, Event::Tick);
            }
            Choice::HearExit(host) => {
                if let Some(boot_id) = self.agents[host].exit.take() {
                    self.step(host, Event::Exited { instance: instance_id(host), boot_id });
                }
            }
            Choice::Start(host) => self.databases[host].start(),
            Choice::Restart(host) => self.restart(host),
            Choice::Load(host) => self.load(host),
            Choice::Receive(host) => {
                let from = self.databases[1 - host].clone();
                self.databases[host].receive(&from);
            }
            Choice::Write(host) => self.write(host),
            Choice::Time => self.pass(),
            Choice::Late => {
                self.budget.faults -= 1;
                self.pass();
            }
            Choice::Exit(host) => {
                self.spend(|budget| &mut budget.exits);
                self.exit(host);
            }
            Choice::Crash(host) => {
                self.spend(|budget| &mut budget.crashes);
                self.agents[host].crash();
                self.judge.forget(host);
            }
            Choice::Cut(host) => {
                self.spend(|budget| &mut budget.cuts);
                self.agents[host].cut = true;
            }
            Choice::Heal(host) => self.agents[host].cut = false,
            Choice::Switchover => self.ask(request_of(false)),
            Choice::Failover => self.ask(request_of(true)),
        }
        self.judge_now();
    }

    fn judge_now(&mut self) {
        self.judge.databases(&self.databases);
        for host in 0..2 {
            self.read_name(host);
        }
    }

    fn spend(&mut self, part: impl Fn(&mut Budget) -> &mut u8) {
        self.budget.faults -= 1;
        *part(&mut self.budget) -= 1;
    }

    // The store.

    fn commit(&mut self, host: usize, n: usize, answered: Option<bool>) {
        let Request { id, txn, sent, until } = self.agents[host].requests.remove(n);
        let reply = self.write_store(&txn);
        match (answered, until) {
            (Some(true), Some(_)) => self.answer(host, id, sent, reply),
            (Some(false), Some(until)) => {
                self.agents[host].replies.push(Reply { id, sent, until, reply: Some(reply) });
            }
            // Its sender hears nothing, and gives up in time.
            (None, Some(until)) => {
                self.agents[host].replies.push(Reply { id, sent, until, reply: None });
            }
            (_, None) => {}
        }
    }

    fn write_store(&mut self, txn: &Txn) -> TxnReply {
        let old = self.record();
        let applied = self.store.apply(txn).expect("the model stays within the store's bounds");
        let mut hasher = DefaultHasher::new();
        self.chain.hash(&mut hasher);
        for change in &applied.changes {
            (&change.key, change.now.as_ref().map(|entry| &entry.value)).hash(&mut hasher);
            if change.key.starts_with("master/")
                && let Some(new) = self.record()
            {
                self.judge.master(old.as_ref(), &new);
                if new.state == MasterState::Serving && old.is_none() {
                    self.databases[0].opened = new.term.0;
                }
            }
        }
        self.chain = hasher.finish();
        applied.reply
    }

    fn answer(&mut self, host: usize, id: ActionId, sent: Time, reply: TxnReply) {
        self.watch(host, reply.revision);
        self.done(host, id, Outcome::Txn(TxnOutcome::Answered { sent, reply }));
    }

    fn watch(&mut self, host: usize, revision: u64) {
        let agent = &mut self.agents[host];
        let Some(view) = agent.view.filter(|view| *view < revision) else { return };
        let mut changes = self.store.changes_since(view).expect("nothing is compacted");
        changes.retain(|change| change.revision <= revision);
        agent.view = Some(revision);
        self.step(host, Event::Changed { revision, changes });
    }

    fn load(&mut self, host: usize) {
        let revision = self.store.revision();
        let entries = self.store.entries().cloned().collect();
        self.agents[host].view = Some(revision);
        // The fence of the life before is this one's now.
        self.agents[host].armed.clear();
        self.step(host, Event::Loaded { sent: self.now.time, revision, entries });
    }

    fn ask(&mut self, wish: Ask) {
        self.spend(|budget| &mut budget.asked);
        self.request(wish);
    }

    /// A person writes a request.
    pub(super) fn request(&mut self, ask: Ask) {
        let term = self.record().map(|record| record.term);
        let txn = request_txn(ask, term, self.now.wall);
        self.write_store(&txn);
    }

    // Databases.

    fn sight(&self, host: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        let database = &self.databases[host];
        (database.life, database.runs, database.source, database.linked).hash(&mut hasher);
        database.offset.hash(&mut hasher);
        hasher.finish()
    }

    fn observe(&mut self, host: usize) {
        let seen = self.sight(host);
        let agent = &mut self.agents[host];
        (agent.seen, agent.asked) = (seen, false);
        let database = &self.databases[host];
        let observation = if database.runs {
            Observation {
                boot_id: Some(database.boot_id()),
                answer: Answer::State(database.state()),
                process: Process::Sleeping,
            }
        } else {
            Observation { boot_id: None, answer: Answer::Refused, process: Process::Gone }
        };
        let (instance, sent) = (instance_id(host), self.now.time);
        self.step(host, Event::Observed { instance, sent, observation });
    }

    fn exit(&mut self, host: usize) {
        let boot_id = self.databases[host].boot_id();
        self.databases[host].exit();
        if self.agents[host].machine.is_some() {
            self.agents[host].exit = Some(boot_id);
        }
        // What lay in its sockets is gone with it.
        self.reset_lane(host);
        let other = &mut self.databases[1 - host];
        other.linked &= other.source != Source::Other(host);
    }

    fn reset_lane(&mut self, host: usize) {
        for control in std::mem::take(&mut self.agents[host].lane) {
            let error = "the connection was closed".to_owned();
            let outcome = ControlOutcome::Failed { error, untouched: false };
            self.controlled(host, &control, outcome);
        }
    }

    /// Tells the life of the agent that asked.
    fn controlled(&mut self, host: usize, control: &Control, outcome: ControlOutcome) {
        if control.life == self.agents[host].life {
            self.done(host, control.id, Outcome::Control(outcome));
        }
    }

    fn run(&mut self, host: usize, answered: bool) {
        let control = self.agents[host].lane.remove(0);
        let outcome = self.execute(host, control.term, &control.command);
        let outcome = if answered {
            outcome
        } else {
            let error = "no answer in time".to_owned();
            ControlOutcome::Failed { error, untouched: false }
        };
        self.controlled(host, &control, outcome);
    }

    fn execute(&mut self, host: usize, term: Term, command: &Command) -> ControlOutcome {
        let failed =
            |error: &str| ControlOutcome::Failed { error: error.to_owned(), untouched: true };
        if !self.databases[host].runs {
            return failed("connection refused");
        }
        let planned = self.record().is_some_and(|record| {
            record.state == (MasterState::Taken { cause: Cause::Switchover })
        });
        let database = &mut self.databases[host];
        match command {
            Command::Promote { boot_id } if *boot_id != database.boot_id() => {
                return failed("the process is another one");
            }
            Command::Promote { .. } => {
                database.promote(term.0);
                let database = database.clone();
                self.judge.promoted(planned, &database);
            }
            Command::Detach => database.point(Source::Closed),
            Command::Follow { source } => {
                let other = address(1 - host) == *source;
                database.point(if other { Source::Other(1 - host) } else { Source::Closed });
            }
            // Redis has none of these; a pause ends by itself and stops nobody here.
            Command::Acknowledge { .. }
            | Command::Await { .. }
            | Command::Fence { .. }
            | Command::Pause { .. }
            | Command::Unpause
            | Command::Read => {}
        }
        let database = &self.databases[host];
        ControlOutcome::Done { boot_id: database.boot_id(), state: database.state() }
    }

    /// Refuses writes, and ends all other sessions: what lay in them never runs.
    fn fence(&mut self, host: usize) -> ControlOutcome {
        if !self.databases[host].runs {
            return ControlOutcome::Exited { boot_id: None };
        }
        self.databases[host].point(Source::Closed);
        self.reset_lane(host);
        let database = &self.databases[host];
        ControlOutcome::Done { boot_id: database.boot_id(), state: database.state() }
    }

    fn thread(&mut self, host: usize) {
        let due = self.agents[host].armed.iter().position(|armed| armed.at <= self.now.time);
        let armed = self.agents[host].armed.remove(due.expect("it was a choice"));
        let outcome = self.fence(host);
        let event = Event::FenceFired { instance: armed.instance, term: armed.term, outcome };
        self.step(host, event);
    }

    fn look(&mut self, host: usize) {
        let id = self.agents[host].looks.remove(0);
        let other = &self.databases[1 - host];
        let outcome = match (other.runs, other.open()) {
            (_, true) => LookOutcome::Writable,
            (true, false) => LookOutcome::NotWritable,
            (false, false) => LookOutcome::Unknown,
        };
        self.done(host, id, Outcome::Look(outcome));
    }

    fn write(&mut self, host: usize) {
        self.budget.writes -= 1;
        self.written += 1;
        let database = &mut self.databases[host];
        database.write(self.written);
        self.judge.acknowledges(host, database.opened, self.written);
    }

    // Agents.

    fn restart(&mut self, host: usize) {
        let agent = &mut self.agents[host];
        agent.life += 1;
        agent.machine = Some(Machine::new());
        let config = config(host, agent.life, agent.remembered.clone());
        self.step(host, Event::Configured(Arc::new(config)));
        if !self.agents[host].cut {
            self.load(host);
        }
    }

    /// Time goes by: what was waited for too long counts as unknown, and every agent turns.
    fn pass(&mut self) {
        self.now.time = self.now.time + QUANTUM;
        let ms = i64::try_from(QUANTUM.as_millis()).unwrap_or(i64::MAX);
        self.now.wall = Wall(self.now.wall.0 + ms);
        let now = self.now.time;
        for host in 0..2 {
            let agent = &mut self.agents[host];
            let late = |until: Time| until <= now;
            let mut unknown = Vec::new();
            for request in &mut agent.requests {
                if request.until.is_some_and(late) {
                    request.until = None;
                    unknown.push(request.id);
                }
            }
            agent.replies.retain(|reply| {
                let kept = !late(reply.until);
                unknown.extend((!kept).then_some(reply.id));
                kept
            });
            for id in unknown {
                let outcome = TxnOutcome::Unknown("no answer in time".to_owned());
                self.done(host, id, Outcome::Txn(outcome));
            }
            if self.agents[host].machine.is_none() {
                continue;
            }
            if !self.agents[host].cut && self.agents[host].view.is_some() {
                self.watch(host, self.store.revision());
                self.step(host, Event::Fresh { sent: now });
            }
            self.step(host, Event::Tick);
        }
    }

    fn done(&mut self, host: usize, id: ActionId, outcome: Outcome) {
        self.step(host, Event::Done { id, outcome });
    }

    fn step(&mut self, host: usize, event: Event) {
        let Some(machine) = self.agents[host].machine.as_mut() else { return };
        for action in machine.step(self.now, event) {
            self.perform(host, action);
        }
    }

    fn perform(&mut self, host: usize, action: Action) {
        let (now, agent) = (self.now.time, &mut self.agents[host]);
        match action {
            Action::Txn { id, within, .. } if agent.cut => {
                let until = now + within;
                agent.replies.push(Reply { id, sent: now, until, reply: None });
            }
            Action::Txn { id, txn, within } => {
                let until = Some(now + within);
                agent.requests.push(Request { id, txn, sent: now, until });
                // The store forgets what came too late long ago.
                if agent.requests.iter().filter(|request| request.until.is_none()).count() > 1 {
                    let oldest = agent.requests.iter().position(|it| it.until.is_none());
                    agent.requests.remove(oldest.expect("counted above"));
                }
            }
            Action::Control { id, command: Command::Fence { .. }, .. } => agent.fences.push(id),
            Action::Control { id, term, command, .. } => {
                agent.lane.push(Control { life: agent.life, id, term, command });
            }
            Action::Look { id, .. } => agent.looks.push(id),
            Action::Arm(armed) => agent.armed = armed,
            Action::Observe(_) => agent.asked = true,
            Action::Watch { boot_id, .. } => {
                if self.databases[host].boot_id() != boot_id || !self.databases[host].runs {
                    agent.exit = Some(boot_id);
                }
            }
            Action::Wake(at) => {
                // Every quantum is a tick anyway.
                agent.again |= at <= now;
            }
            Action::Remember(services) => agent.remembered = services,
            Action::Exit(_) => {
                agent.crash();
                self.judge.forget(host);
            }
            Action::Hook { .. } | Action::Keep { .. } | Action::Say(_) => {}
        }
    }

    fn read_name(&mut self, host: usize) {
        let Some(machine) = &self.agents[host].machine else { return };
        let catalog = machine.catalog();
        let name = service();
        if let Named::Master(named, _) = catalog.master(&name, self.now.time) {
            let view = catalog.service(&name);
            let record = view.and_then(|view| view.master.as_ref()).map(|at| at.record.clone());
            let named = named.to_string();
            self.judge.named(host, &named, record.as_ref());
        }
    }

    /// A hash by which equal states are told.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// What the search's beginning and its end ask for.
impl World {
    /// Both agents have looked at their instances and read the store.
    pub(super) fn watched(&self) -> bool {
        let key = |host| format!("instances/{}/{}", service(), instance(host));
        (0..2).all(|host| self.store.get(&key(host)).is_some())
    }

    /// The term is kept by a beat, and every agent names its holder.
    pub(super) fn settled(&self) -> bool {
        let name = service();
        self.agents.iter().all(|agent| {
            let machine = agent.machine.as_ref();
            machine.is_some_and(|machine| {
                matches!(machine.catalog().master(&name, self.now.time), Named::Master(..))
            })
        }) && !self.agents[0].armed.is_empty()
    }

    /// What just happened, and how things stand.
    pub(super) fn line(&self, what: &str) -> String {
        let record = self.record();
        let record = record.map_or_else(
            || "no record".to_owned(),
            |record| {
                format!("term {} {} {}", record.term, record.holder.instance, record.state.word())
            },
        );
        let database = |host: usize| {
            let database = &self.databases[host];
            let state = match (database.runs, database.source) {
                (false, _) => "gone".to_owned(),
                (true, Source::Nobody) => format!("open, term {}", database.opened),
                (true, Source::Closed) => "closed".to_owned(),
                (true, Source::Other(_)) => "follows".to_owned(),
            };
            format!("r{} {state}", host + 1)
        };
        let second = self.now.time.0 / 1_000_000 - 1000;
        format!("{second:>3} s  {what:<16} {record}; {}, {}", database(0), database(1))
    }
}
