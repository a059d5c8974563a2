//! The world: hosts, a store, databases, agents, clients, a person, and one schedule for all.
//!
//! Everything that happens is a [`Happening`] taken from the schedule; everything that is true is
//! told to the invariants as a fact. The world knows no policy: what agents decide is decided by
//! the very code that runs in production.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

use sengu_core::event::ActionId;
use sengu_core::kv::Revision;
use sengu_core::name::{InstanceId, ServiceName};
use sengu_core::record::MasterRecord;
use sengu_core::time::Time;

use super::agent::service_name;
use super::agent::{Agent, Running};
use super::branch::Branch;
use super::client::Client;
use super::clock::HostClock;
use super::converge::ForEver;
use super::coverage::Coverage;
use super::crash::CrashPoint;
use super::database::{Ask, Database, Reply};
use super::deed::{Back, Deed};
use super::driver::Caller;
use super::fact::{Fact, Id};
use super::invariants::{Judges, Violation};
use super::layout::{lay_databases, lay_out};
use super::member::Members;
use super::mend::Mend;
use super::numbered::Numbered;
use super::options::Options;
use super::random::Random;
use super::schedule::{MILLI, Micros, SECOND, Schedule};
use super::store::{Answer, Request, Sent, Store};
use super::trace::Trace;

/// A line of the trace, made only if somebody reads it.
macro_rules! say {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.on {
            let at = $world.now;
            $world.trace.line(at, format_args!($($text)*));
        }
    };
}
pub(crate) use say;

/// The same for a line that a story's reader wants to see.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.on {
            let at = $world.now;
            $world.trace.note(at, format_args!($($text)*));
        }
    };
}
pub(crate) use note;

/// So long after something happened clients and readers are quick.
const LIVELY: Micros = 4 * SECOND;

/// One life of one host's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// The agent's place: its host's number, or the one after all hosts for a double.
    pub(crate) host: usize,
    /// Which life.
    pub(crate) number: u64,
}

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Happening {
    /// An agent's process is started.
    AgentStart { host: usize },
    /// An agent's loop takes its next event.
    Turn { life: Life },
    /// An agent's regular tick.
    Tick { life: Life },
    /// A tick that the core asked for.
    Wake { life: Life, when: Time },
    /// An agent reads the whole store.
    Load { life: Life },
    /// A probe is due.
    ProbeDue { life: Life, db: usize },
    /// A probe had no answer in time.
    ProbeTimeout { life: Life, db: usize, call: u64 },
    /// A numbered action had no answer in time.
    ActionDeadline { life: Life, id: ActionId },
    /// The fence thread's time has come.
    FenceTimer { life: Life, epoch: u64, index: usize },
    /// A fence's first rung is tried again.
    FenceAgain { life: Life, run: u64 },
    /// A fence's first rung had its share of the budget.
    FenceRung { life: Life, run: u64 },
    /// The manager of an XA branch ends it.
    BranchEnds { branch: usize },
    /// A fence's budget is spent.
    FenceSpent { life: Life, run: u64 },
    /// A process killed by an agent is gone, and the agent knows.
    Killed { life: Life, run: u64 },
    /// Hooks have run.
    HookEnd { life: Life, id: ActionId },
    /// A pidfd becomes readable.
    ExitSeen { life: Life, db: usize, boot: sengu_core::name::BootId },
    /// A command reaches a database's host.
    Arrive { db: usize, life: u64, session: u64, call: u64, ask: Ask },
    /// A database runs one command.
    Work { db: usize, life: u64 },
    /// An answer reaches the one who called.
    Answered { call: u64, reply: Reply },
    /// Held writes go on.
    PauseOver { db: usize, life: u64 },
    /// A replica looks after its link.
    ReplicaCron { db: usize, life: u64 },
    /// A replica asks its source for a link.
    Connect { db: usize, life: u64 },
    /// A full copy should be complete.
    CopyDone { db: usize, life: u64, epoch: u64 },
    /// A source's end was heard of.
    LinkLost { db: usize, life: u64, epoch: u64 },
    /// A copy tells its source what it has received.
    Acknowledgement { source: usize, life: u64, replica: usize, epoch: u64, upto: usize },
    /// A stopped applier goes on.
    ApplierGoesOn { db: usize },
    /// A master says something to its replicas.
    Ping { db: usize, life: u64 },
    /// A supervisor starts a process.
    ProcessStart { db: usize },
    /// A process that was told to end is gone.
    ProcessEnd { db: usize, life: u64, back: Back },
    /// A request reaches the store.
    StoreArrive { life: Life, sent: Sent, request: Request },
    /// The store's answer reaches an agent.
    StoreAnswer { life: Life, sent: Time, answer: Answer },
    /// Changes reach an agent.
    WatchArrive { life: Life, watch: u64, revision: Revision },
    /// A client writes.
    ClientActs { client: usize, turn: u64 },
    /// A client gives up waiting, if it still does.
    ClientTimeout { client: usize },
    /// A person adopts what is not adopted.
    PersonAdopts { tries: usize },
    /// A person ends what was asked for.
    PersonEnds { key: String },
    /// The next thing that the plan has for this world.
    Deed { index: usize },
    /// Something broken is mended.
    Mend(Mend),
    /// An agent that must not go on ends, once its fences are done.
    AgentEnds { life: Life, why: String },
    /// All outputs are read, if nothing newer was planned.
    Sample { turn: u64 },
    /// Queues and lists are measured.
    Audit,
}

/// A stream of chance for each purpose.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) network: Random,
    pub(crate) database: Random,
    pub(crate) agent: Random,
    pub(crate) store: Random,
    pub(crate) client: Random,
    pub(crate) fault: Random,
}

/// Everything.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) now: Micros,
    schedule: Schedule<Happening>,
    pub(crate) random: Streams,
    pub(crate) store: Store,
    pub(crate) databases: Vec<Database>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Vec<Client>,
    pub(crate) calls: Numbered<Caller>,
    /// When the last message of each session arrives.
    pub(crate) arrivals: Numbered<Micros>,
    pub(crate) addresses: BTreeMap<SocketAddr, usize>,
    /// Hosts without power.
    pub(crate) dark: BTreeSet<usize>,
    /// A host has a second agent now, or had it and somebody starts it again.
    pub(crate) doubled: bool,
    /// Pairs of hosts whose databases cannot reach each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Hosts that cannot reach the store.
    pub(crate) store_cut: BTreeSet<usize>,
    /// No more faults.
    pub(crate) calm: bool,
    /// What stays broken when all is mended.
    pub(crate) for_ever: ForEver,
    /// The services' names.
    pub(crate) names: Vec<ServiceName>,
    /// The databases' names, as agents say them.
    pub(crate) instance_ids: Vec<InstanceId>,
    /// Something happened lately: clients and readers are quick until then.
    lively_until: Micros,
    /// Counts the readings of all outputs.
    pub(crate) samples: u64,
    deeds: Vec<Deed>,
    /// The store will be restored: snapshots are kept.
    pub(crate) restores: bool,
    /// It was.
    pub(crate) restored: bool,
    /// A person gave all agents an empty store.
    pub(crate) anew: bool,
    /// Some agent was newer than the others.
    pub(crate) versions: bool,
    pub(crate) coverage: Coverage,
    /// Writes of the first service that were acknowledged, if somebody reads the story.
    pub(crate) acknowledged: Vec<u64>,
    /// Writes that an instance acknowledged after its file or somebody's hand had opened it, and
    /// those that a person gave up who began anew with an instance that lacks them.
    pub(crate) outside: BTreeSet<u64>,
    /// XA branches that were prepared.
    pub(crate) branches: Vec<Branch>,
    /// Instances that are out of the configuration, and a master served meanwhile.
    pub(crate) parted: BTreeSet<Id>,
    /// Services that were adopted while no record told of a file that starts its instance open.
    pub(crate) unaware: BTreeSet<usize>,
    /// Processes that agents ended.
    pub(crate) kills: usize,
    pub(crate) trace: Trace,
    pub(crate) judges: Judges,
    pub(crate) last_master: BTreeMap<usize, Rc<MasterRecord>>,
    pub(crate) crash: CrashPoint,
    numbers: u64,
}

impl World {
    /// A world at its beginning: processes start, nothing has happened.
    pub(crate) fn new(options: Options, trace: bool) -> Self {
        let stream = |label| Random::stream(options.seed, label);
        let random = Streams {
            network: stream("network"),
            database: stream("database"),
            agent: stream("agent"),
            store: stream("store"),
            client: stream("client"),
            fault: stream("fault"),
        };
        let mut clocks = stream("clock");
        // One place more, for the double that a host may get.
        let hosts = options.hosts + options.watchers + 1;
        let agents = (0..hosts)
            .map(|host| Agent::new(host, HostClock::draw(&mut clocks, options.drift)))
            .collect();
        let databases = lay_databases(&options);
        let layout = lay_out(&options, &databases);
        let mut world = Self {
            now: 0,
            schedule: Schedule::default(),
            random,
            store: Store { members: Members::new(options.members), ..Store::default() },
            addresses: databases.iter().enumerate().map(|(db, it)| (it.address, db)).collect(),
            names: (0..options.services).map(service_name).collect(),
            instance_ids: databases.iter().map(|it| it.id.full()).collect(),
            databases,
            agents,
            clients: Vec::new(),
            calls: Numbered::default(),
            arrivals: Numbered::default(),
            dark: BTreeSet::new(),
            doubled: false,
            cut: BTreeSet::new(),
            store_cut: BTreeSet::new(),
            calm: true,
            for_ever: ForEver::Nothing,
            lively_until: 0,
            samples: 0,
            deeds: Vec::new(),
            restores: false,
            restored: false,
            anew: false,
            versions: false,
            coverage: Coverage::default(),
            acknowledged: Vec::new(),
            outside: BTreeSet::new(),
            branches: Vec::new(),
            parted: BTreeSet::new(),
            unaware: BTreeSet::new(),
            kills: 0,
            trace: Trace::new(trace),
            judges: Judges::new(&layout),
            last_master: BTreeMap::new(),
            crash: CrashPoint::default(),
            numbers: 0,
            options,
        };
        world.begin();
        world
    }

    /// Plans a happening so long from now.
    pub(crate) fn plan(&mut self, wait: Micros, happening: Happening) {
        self.schedule.plan(self.now + wait, happening);
    }

    /// Lets the world go on until that time, or until a rule breaks.
    pub(crate) fn run_until(&mut self, until: Micros) {
        while self.judges.violation.is_none()
            && let Some((at, happening)) = self.schedule.next(until)
        {
            self.now = at;
            self.trace.mix(at);
            self.happen(happening);
        }
        if self.judges.violation.is_none() {
            self.now = until;
        }
    }

    /// Tells the invariants a fact.
    pub(crate) fn tell(&mut self, fact: Fact) {
        match &fact {
            Fact::Acknowledged { instance: Id { service: 0, .. }, serial, .. } if self.trace.on => {
                self.acknowledged.push(*serial);
            }
            Fact::Killed { .. } => self.kills += 1,
            _ => {}
        }
        if let Fact::Master { service, record: Some(record) } = &fact {
            let before = self.last_master.insert(*service, Rc::clone(record));
            self.coverage.master(before.as_deref(), record);
            self.liven();
        }
        let limits = self.judges.limits.len();
        let known = self.judges.violation.is_some();
        self.judges.take(self.now, &fact);
        for index in limits..self.judges.limits.len() {
            let (limit, breach) = self.judges.limits[index].clone();
            say!(self, "LIMIT {} ({limit}): {}", breach.slug, breach.text);
        }
        if let Some(Violation { slug, text, .. }) = self.judges.violation.clone().filter(|_| !known)
        {
            note!(self, "VIOLATION of {slug}: {text}");
        }
    }

    /// A number that was never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Does a host have power?
    pub(crate) fn host_up(&self, host: usize) -> bool {
        !self.dark.contains(&host)
    }

    /// Can one host's processes reach another's?
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        self.host_up(from) && self.host_up(to) && !self.cut.contains(&(from.min(to), from.max(to)))
    }

    /// Can a host's agent reach the store?
    pub(crate) fn reaches_store(&self, host: usize) -> bool {
        self.host_up(host) && !self.store_cut.contains(&host)
    }

    /// How long a message takes.
    pub(crate) fn latency(&mut self, local: bool) -> Micros {
        if local {
            self.random.network.skewed(30, 2 * MILLI)
        } else {
            self.random.network.skewed(200, 40 * MILLI)
        }
    }

    /// How many hosts there are; a double's place comes after them.
    pub(crate) fn hosts(&self) -> usize {
        self.agents.len() - 1
    }

    /// The host that an agent runs on.
    pub(crate) fn place(&self, agent: usize) -> usize {
        self.agents[agent].host
    }

    /// The agents' places on one host.
    pub(crate) fn slots_of(&self, host: usize) -> Vec<usize> {
        (0..self.agents.len()).filter(|slot| self.agents[*slot].host == host).collect()
    }

    /// An agent's clocks: its host's.
    pub(crate) fn clock(&self, agent: usize) -> HostClock {
        self.agents[self.place(agent)].clock
    }

    /// The databases of one service.
    pub(crate) fn of_service(&self, service: usize) -> Vec<usize> {
        (0..self.databases.len()).filter(|db| self.databases[*db].id.service == service).collect()
    }

    /// The databases on one host.
    pub(crate) fn on_host(&self, host: usize) -> Vec<usize> {
        (0..self.databases.len()).filter(|db| self.databases[*db].host == host).collect()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::AgentStart { host } => self.start_agent(host),
            Happening::Turn { life } => self.turn(life),
            Happening::Tick { life } => self.tick(life),
            Happening::Wake { life, when } => self.wake(life, when),
            Happening::Load { life } => self.load(life),
            Happening::ProbeDue { life, db } => self.probe_due(life, db),
            Happening::ProbeTimeout { life, db, call } => self.probe_timeout(life, db, call),
            Happening::ActionDeadline { life, id } => self.action_deadline(life, id),
            Happening::FenceTimer { life, epoch, index } => self.fence_timer(life, epoch, index),
            Happening::FenceAgain { life, run } => self.fence_again(life, run),
            Happening::FenceRung { life, run } => self.fence_rung(life, run),
            Happening::FenceSpent { life, run } => self.fence_spent(life, run),
            Happening::Killed { life, run } => self.killed(life, run),
            Happening::HookEnd { life, id } => self.hook_end(life, id),
            Happening::ExitSeen { life, db, boot } => self.exit_arrives(life, db, boot),
            Happening::AgentEnds { life, why } => self.agent_ends(life, why),
            Happening::StoreArrive { life, sent, request } => {
                self.store_arrive(life, sent, request);
            }
            Happening::StoreAnswer { life, sent, answer } => self.store_answer(life, sent, answer),
            Happening::WatchArrive { life, watch, revision } => {
                self.watch_arrive(life, watch, revision);
            }
            Happening::ClientActs { client, turn } => self.client_acts(client, turn),
            Happening::ClientTimeout { client } => self.client_timeout(client),
            Happening::PersonEnds { key } => self.person_ends(&key),
            Happening::PersonAdopts { tries } => self.person_adopts(tries),
            Happening::Deed { index } => self.strike(&self.deeds[index].clone()),
            Happening::Mend(what) => self.mend(what),
            Happening::Sample { turn } => self.sample(turn),
            Happening::Audit => self.audit(),
            other => self.happen_at_database(other),
        }
    }

    fn happen_at_database(&mut self, happening: Happening) {
        match happening {
            Happening::Acknowledgement { source, life, replica, epoch, upto } => {
                self.acknowledgement((source, life), replica, epoch, upto);
            }
            Happening::BranchEnds { branch } => self.end_branch(branch),
            Happening::ApplierGoesOn { db } => self.apply_relay(db),
            Happening::Arrive { db, life, session, call, ask } => match ask {
                Ask::Feed { .. } | Ask::Ship { .. } => self.feed_arrives(db, life, session, ask),
                ask => self.arrive(db, life, session, call, ask),
            },
            Happening::Work { db, life } => self.work(db, life),
            Happening::Answered { call, reply } => self.answered(call, reply),
            Happening::PauseOver { db, life } => {
                if self.databases[db].life(life).is_some() {
                    self.pause_over(db);
                }
            }
            Happening::ReplicaCron { db, life } => self.replica_cron(db, life),
            Happening::Connect { db, life } => self.connect(db, life),
            Happening::CopyDone { db, life, epoch } => self.copy_done(db, life, epoch),
            Happening::LinkLost { db, life, epoch } => self.link_lost(db, life, epoch),
            Happening::Ping { db, life } => self.ping(db, life),
            Happening::ProcessStart { db } => self.start_process(db),
            Happening::ProcessEnd { db, life, back } => {
                if self.databases[db].life(life).is_some() {
                    self.end_process(db, "it was told to");
                    // What was mended meanwhile is started again soon.
                    self.plan_restart(db, if self.calm { Back::Somehow } else { back });
                }
            }
            other => unreachable!("{other:?} is no database's"),
        }
    }

    fn feed_arrives(&mut self, db: usize, life: u64, session: u64, ask: Ask) {
        match self.feed_passes(db) {
            Some(true) => self.arrive(db, life, session, 0, ask),
            Some(false) => {
                let again = Happening::Arrive { db, life, session, call: 0, ask };
                self.plan(100 * MILLI, again);
            }
            None => {}
        }
    }

    /// Something happened: whoever looks, looks often for a while.
    pub(crate) fn liven(&mut self) {
        let quiet = !self.lively();
        self.lively_until = self.now + LIVELY;
        if quiet {
            self.wake_clients();
            self.plan_sample();
        }
    }

    /// Did something happen lately?
    pub(crate) fn lively(&self) -> bool {
        self.now < self.lively_until
    }

    /// What the plan has for this world.
    pub(crate) fn plan_deeds(&mut self, deeds: &[(Micros, Deed)]) {
        for (at, deed) in deeds {
            let index = self.deeds.len();
            self.deeds.push(deed.clone());
            self.restores |= matches!(deed, Deed::Restore(..));
            self.schedule.plan((*at).max(self.now), Happening::Deed { index });
        }
    }

    /// The life of an agent, if it is still that one.
    pub(crate) fn life(&mut self, life: Life) -> Option<&mut Running> {
        self.agents[life.host].life.as_mut().filter(|running| running.number == life.number)
    }
}
