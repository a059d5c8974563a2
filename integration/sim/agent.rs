//! One host's agent: the shell around the machine under test, with its loop and its timers.
//!
//! The machine is the code that runs in production. Around it stands what the real shell does:
//! one inbox, one turn at a time, ticks, a view that never runs behind an answer. A stalled loop
//! leaves the fence thread alive; a dead process leaves nothing but what lies in sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use sengu_core::event::{ActionId, Armed, Event};
use sengu_core::kv::{Revision, TxnReply};
use sengu_core::machine::Machine;
use sengu_core::name::{BootId, HostName, ServiceName};
use sengu_core::policy::{Config, Failover, InstanceConfig, Judge, Loss, OnError, ServiceConfig};
use sengu_core::time::Time;

use super::clock::HostClock;
use super::converge::ForEver;
use super::driver::{Lane, Probe};
use super::fact::{Fact, Id, SERVICES};
use super::fence::Fence;
use super::ledger::Kept;
use super::output::Door;
use super::schedule::{MILLI, Micros, SECOND};
use super::store::Request;
use super::version::Version;
use super::world::{Happening, Life, World, note, say};

/// One host's agent: what outlives its processes.
#[derive(Debug)]
pub(crate) struct Agent {
    /// The host it runs on.
    pub(crate) host: usize,
    /// The host's clocks.
    pub(crate) clock: HostClock,
    /// The process, while there is one.
    pub(crate) life: Option<Running>,
    /// How many there were.
    pub(crate) lives: u64,
    /// What the machine asked to be remembered.
    pub(crate) remembered: BTreeSet<ServiceName>,
    /// The watch of this host runs so late.
    pub(crate) watch_late: Micros,
    /// No look of this host ends before.
    pub(crate) looks_end: Micros,
    /// Txns that it sent since the last audit.
    pub(crate) asked: usize,
    /// Commands to databases that it sent since the last audit.
    pub(crate) commanded: usize,
    /// Ticks that its core asked for since then.
    pub(crate) ticked: usize,
    /// The version that it runs.
    pub(crate) version: Version,
    /// Its file says `failover = "manual"` now, whatever the others' say.
    pub(crate) manual: bool,
    /// It says `loss = "bounded"`.
    pub(crate) bounded: bool,
    /// Instances that its configuration leaves out for now.
    pub(crate) forgotten: BTreeSet<Id>,
    /// What these lives of it and those before sent, they sent to a store of before.
    pub(crate) forsaken: u64,
    /// The highest revision that it has seen: what its folder remembers.
    pub(crate) highest: Revision,
    /// The id of the store that it believes, once one has answered: its folder remembers it, too.
    pub(crate) believes: Option<u64>,
    /// The master's place in the hosts file that it writes, of each service.
    pub(crate) file: BTreeMap<usize, usize>,
}

/// One life of an agent.
#[derive(Debug)]
pub(crate) struct Running {
    /// Which life.
    pub(crate) number: u64,
    /// The random name of this life.
    start: String,
    pub(crate) machine: Machine,
    inbox: VecDeque<Event>,
    /// The ticks that the core asked for.
    pub(crate) wakes: BTreeSet<Time>,
    turning: bool,
    /// The loop hangs until then; its threads do not.
    pub(crate) stalled_until: Micros,
    /// The whole process is stopped until then.
    pub(crate) stopped_until: Micros,
    late: bool,
    /// The revision that the machine has been given, or will be by what is in the inbox.
    pub(crate) view: Revision,
    /// A watch is open.
    pub(crate) watching: bool,
    /// Which one.
    pub(crate) watch: u64,
    /// Answers that wait until the view has their revision.
    pub(crate) waiting: Vec<Waiting>,
    /// Numbered actions under way.
    pub(crate) pending: BTreeMap<ActionId, Pending>,
    pub(crate) lanes: BTreeMap<usize, Lane>,
    pub(crate) probes: BTreeMap<usize, Probe>,
    /// Processes that it waits for the end of.
    pub(crate) seen: BTreeSet<(usize, BootId)>,
    pub(crate) armed: (u64, Vec<Armed>),
    pub(crate) fences: BTreeMap<u64, Fence>,
    pub(crate) door: Door,
}

/// An answer of the store that came before the changes it made.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) revision: Revision,
    pub(crate) sent: Time,
    pub(crate) answer: Option<(ActionId, TxnReply, Vec<Kept>)>,
}

/// What kind of action is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    Txn,
    /// On this database; was it sent?
    Control(usize, bool),
    Fence,
    Look,
    Hook,
}

impl Running {
    /// How many events wait for its loop.
    pub(crate) fn waiting_events(&self) -> usize {
        self.inbox.len()
    }
}

impl Agent {
    /// A host without an agent's process yet.
    pub(crate) fn new(host: usize, clock: HostClock) -> Self {
        Self {
            host,
            clock,
            life: None,
            lives: 0,
            remembered: BTreeSet::new(),
            watch_late: 0,
            looks_end: 0,
            asked: 0,
            commanded: 0,
            ticked: 0,
            version: Version::This,
            manual: false,
            bounded: false,
            forgotten: BTreeSet::new(),
            forsaken: 0,
            highest: 0,
            believes: None,
            file: BTreeMap::new(),
        }
    }

    fn config(&self, world: &World, start: String) -> Config {
        let options = &world.options;
        let services = (0..options.services).filter(|_| self.host < options.hosts);
        let octet = u8::try_from(self.host + 1).unwrap_or(u8::MAX);
        Config {
            host: HostName::new(&format!("h{}", self.host + 1)).expect("a label"),
            address: IpAddr::from([10, 0, 0, octet]),
            agent: format!("agent-{}", self.host + 1),
            start,
            judge: options.judge_of(self.host),
            services: services
                .map(|service| (service_name(service), self.service(world, service)))
                .collect(),
            remembered: self.remembered.clone(),
        }
    }

    fn service(&self, world: &World, service: usize) -> ServiceConfig {
        let on_host = world.databases.iter().filter(|db| {
            db.host == self.host && db.id.service == service && !self.forgotten.contains(&db.id)
        });
        let mut policy = world.options.policy.clone();
        if self.manual {
            policy.failover = Failover::Manual;
        }
        if self.bounded {
            policy.loss = Loss::Bounded;
        }
        ServiceConfig {
            kind: world.options.kind(),
            policy,
            instances: on_host
                .map(|db| {
                    let config =
                        InstanceConfig { address: db.address, zone: None, priority: db.priority };
                    (db.id.name(), config)
                })
                .collect(),
            hooks: world.options.hooks.iter().map(|phase| (*phase, OnError::Continue)).collect(),
        }
    }
}

/// A service's name.
pub(crate) fn service_name(service: usize) -> ServiceName {
    ServiceName::new(SERVICES[service]).expect("a label")
}

impl World {
    /// An agent's process is started, unless one runs.
    pub(crate) fn start_agent(&mut self, host: usize) {
        let machine = self.place(host);
        let ended = host == self.hosts() && !self.doubled;
        let away = ended || self.for_ever == ForEver::AgentDead(host);
        if self.agents[host].life.is_some() || !self.host_up(machine) || away {
            return;
        }
        self.agents[host].lives += 1;
        let number = self.agents[host].lives;
        let start = format!("start-{}-{number}", host + 1);
        let config = self.agents[host].config(self, start.clone());
        let owned = self.on_host(self.place(host));
        self.agents[host].life = Some(Running {
            number,
            start,
            machine: Machine::new(),
            inbox: VecDeque::new(),
            wakes: BTreeSet::new(),
            turning: false,
            stalled_until: 0,
            stopped_until: if self.agents[machine].clock.is_paused() { Micros::MAX } else { 0 },
            late: false,
            view: 0,
            watching: false,
            watch: 0,
            waiting: Vec::new(),
            pending: BTreeMap::new(),
            lanes: BTreeMap::new(),
            probes: BTreeMap::new(),
            seen: BTreeSet::new(),
            armed: (0, Vec::new()),
            fences: BTreeMap::new(),
            door: Door::default(),
        });
        let life = Life { host, number };
        note!(self, "agent h{} starts", host + 1);
        if !self.clock(host).is_paused() {
            self.tell_agent(host, true);
        }
        self.push(life, Event::Configured(Arc::new(config)));
        self.plan(0, Happening::Load { life });
        self.plan(0, Happening::Tick { life });
        for db in owned {
            let wait = self.random.agent.between(0, 100 * MILLI);
            self.plan(wait, Happening::ProbeDue { life, db });
        }
    }

    /// An agent's process ends at once; its threads and connections with it.
    pub(crate) fn kill_agent(&mut self, host: usize, why: &str) {
        if self.agents[host].life.take().is_some() {
            note!(self, "agent h{} dies: {why}", host + 1);
            self.tell_agent(host, false);
        }
    }

    /// A double's coming and going is no sign of its host's own agent.
    fn tell_agent(&mut self, host: usize, running: bool) {
        if host < self.hosts() {
            self.tell(Fact::Agent { host, running });
            self.tell_what_it_reads(host);
        }
    }

    /// An agent that must not go on ends when its fences are done.
    pub(crate) fn agent_ends(&mut self, at: Life, why: String) {
        let Some(life) = self.life(at) else { return };
        if life.fences.is_empty() {
            self.restart_agent(at.host, SECOND, &why);
        } else {
            self.plan(20 * MILLI, Happening::AgentEnds { life: at, why });
        }
    }

    /// The main file is read again.
    pub(crate) fn configure_again(&mut self, host: usize) {
        let Some(life) = self.agents[host].life.as_ref() else { return };
        let (at, start) = (Life { host, number: life.number }, life.start.clone());
        let config = self.agents[host].config(self, start);
        say!(self, "h{} agent reads its configuration again", host + 1);
        self.push(at, Event::Configured(Arc::new(config)));
    }

    /// Puts an event into an agent's inbox.
    pub(crate) fn push(&mut self, at: Life, event: Event) {
        let wait = self.random.agent.skewed(5, 2 * MILLI);
        let Some(life) = self.life(at) else { return };
        life.inbox.push_back(event);
        if !life.turning {
            life.turning = true;
            self.plan(wait, Happening::Turn { life: at });
        }
    }

    /// An agent's loop takes one event.
    pub(crate) fn turn(&mut self, at: Life) {
        let time = self.now;
        let now = self.clock(at.host).now(time);
        let alone = self.options.alone();
        let Some(life) = self.life(at) else { return };
        let hang = life.stalled_until.max(life.stopped_until);
        if hang > time {
            life.late = true;
            // It may be let go on before that.
            let wait = (hang - time).min(100 * MILLI);
            self.plan(wait, Happening::Turn { life: at });
            return;
        }
        let event = if std::mem::take(&mut life.late) {
            Some(Event::Stalled { late: std::time::Duration::from_millis(500) })
        } else {
            life.inbox.pop_front()
        };
        let Some(event) = event else {
            life.turning = false;
            return;
        };
        if life.inbox.is_empty() {
            life.turning = false;
        } else {
            let wait = self.random.agent.skewed(5, 3 * MILLI);
            self.plan(wait, Happening::Turn { life: at });
        }
        if self.trace.on {
            self.trace_event(at, &event);
        }
        if alone {
            self.step(at, now, Event::Fresh { sent: now.time });
        }
        self.step(at, now, event);
    }

    fn step(&mut self, at: Life, now: sengu_core::time::Now, event: Event) {
        let running = self.agents[at.host].life.as_mut();
        let Some(life) = running.filter(|life| life.number == at.number) else { return };
        life.door.note(now.time, &event, &self.store);
        let actions = life.machine.step(now, event);
        self.perform(at, actions);
    }

    fn trace_event(&mut self, at: Life, event: &Event) {
        match event {
            Event::Configured(_)
            | Event::Fresh { .. }
            | Event::Tick
            | Event::Changed { .. }
            | Event::Observed { .. } => {}
            Event::Loaded { revision, .. } => {
                say!(self, "h{} agent: loaded revision {revision}", at.host + 1);
            }
            Event::Done { id, outcome } => {
                let text = format!("{outcome:?}");
                let dull = text.contains("succeeded: true");
                if !dull {
                    let text: String = text.chars().take(160).collect();
                    say!(self, "h{} agent: action {} ended: {text}", at.host + 1, id.0);
                }
            }
            other => {
                let text: String = format!("{other:?}").chars().take(160).collect();
                say!(self, "h{} agent: {text}", at.host + 1);
            }
        }
    }

    /// The regular tick, and a read that proves the view fresh.
    pub(crate) fn tick(&mut self, at: Life) {
        let (clock, lease) =
            (self.clock(at.host), self.options.judge_of(self.place(at.host)).lease());
        if self.life(at).is_none() {
            return;
        }
        let next = clock.truth(clock.local(self.now) + lease / 8);
        self.plan(next.saturating_sub(self.now).max(MILLI), Happening::Tick { life: at });
        self.wake(at, clock.local(self.now));
        let runs = self.life(at).is_some_and(|life| life.stopped_until == 0 && life.watching);
        if matches!(self.options.judge, Judge::Shared { .. }) && runs {
            self.request(at, Request::Read);
        }
    }

    /// A tick that the core asked for.
    pub(crate) fn wake(&mut self, at: Life, when: Time) {
        let clock = self.clock(at.host);
        if clock.local(self.now) < when {
            // Its guest stood still meanwhile.
            let wait = clock.truth(when).saturating_sub(self.now).max(MILLI);
            self.plan(wait, Happening::Wake { life: at, when });
        } else if let Some(life) = self.life(at) {
            life.wakes.remove(&when);
            if life.inbox.back() != Some(&Event::Tick) {
                self.push(at, Event::Tick);
            }
        }
    }

    /// A stopped agent goes on.
    pub(crate) fn agent_goes_on(&mut self, at: Life) {
        if self.life(at).is_some_and(|life| std::mem::take(&mut life.stopped_until) > 0) {
            say!(self, "h{} agent goes on", at.host + 1);
            self.tell_agent(at.host, true);
            if at.host < self.hosts() {
                self.tell(Fact::Loaded { host: at.host });
            }
        }
    }

    /// A host loses its power: agent and databases are gone at once, and nobody hears of it.
    pub(crate) fn darken(&mut self, host: usize) {
        if !self.dark.insert(host) {
            return;
        }
        for slot in self.slots_of(host) {
            self.kill_agent(slot, "no power");
        }
        for db in self.on_host(host) {
            self.end_process(db, "no power");
        }
    }

    /// Power is back: supervisors start everything again.
    pub(crate) fn return_host(&mut self, host: usize) {
        if !self.dark.remove(&host) {
            return;
        }
        say!(self, "h{} has power again", host + 1);
        let wait = self.random.agent.between(10 * MILLI, 3 * SECOND);
        self.plan(wait, Happening::AgentStart { host });
        for db in self.on_host(host) {
            let wait = self.random.agent.between(10 * MILLI, 3 * SECOND);
            self.plan(wait, Happening::ProcessStart { db });
        }
    }
}

/// A span in microseconds.
pub(crate) fn micros(span: std::time::Duration) -> Micros {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
