//! The world: hosts, a store, databases, agents, clients, a person, and one schedule for all.
//!
//! Everything that happens is a [`Happening`] taken from the schedule; everything that is true is
//! told to the invariants as a fact. The world knows no policy: what agents decide is decided by
//! the very code that runs in production.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sengu_core::event::ActionId;
use sengu_core::kv::Revision;
use sengu_core::record::MasterState;
use sengu_core::time::Time;

use super::agent::{Agent, Running};
use super::client::Client;
use super::clock::HostClock;
use super::crash::CrashPoint;
use super::database::{Ask, Database, Reply};
use super::driver::Caller;
use super::fact::{Fact, Id, Layout};
use super::invariants::{Judges, Violation};
use super::options::Options;
use super::random::Random;
use super::schedule::{MILLI, Micros, SECOND, Schedule};
use super::store::{Answer, Request, Store};
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

/// One life of one host's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// The host.
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
    Wake { life: Life },
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
    /// A fence's first rung had its share of the budget.
    FenceRung { life: Life, run: u64 },
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
    /// A master says something to its replicas.
    Ping { db: usize, life: u64 },
    /// A supervisor starts a process.
    ProcessStart { db: usize },
    /// A process that was told to end is gone.
    ProcessEnd { db: usize, life: u64 },
    /// A stopped process goes on.
    ProcessGoesOn { db: usize, life: u64 },
    /// A request reaches the store.
    StoreArrive { life: Life, sent: Time, request: Request },
    /// The store's answer reaches an agent.
    StoreAnswer { life: Life, sent: Time, answer: Answer },
    /// Changes reach an agent.
    WatchArrive { life: Life, watch: u64, revision: Revision },
    /// A client writes.
    ClientActs { client: usize },
    /// A client gives up waiting.
    ClientTimeout { client: usize, call: u64 },
    /// A person asks for something.
    PersonActs,
    /// A person ends what was asked for.
    PersonEnds { key: String },
    /// Something breaks.
    FaultStrikes,
    /// A host can reach the store again.
    StoreHeals { host: usize },
    /// Two hosts can reach each other again.
    ReplicationHeals { hosts: (usize, usize) },
    /// A host's watch is as quick as before.
    WatchHeals { host: usize },
    /// A host's power is back.
    HostReturns { host: usize },
    /// A stopped agent goes on.
    AgentGoesOn { life: Life },
    /// All outputs are read.
    Sample,
}

/// A stream of chance for each purpose.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) network: Random,
    pub(crate) database: Random,
    pub(crate) agent: Random,
    pub(crate) store: Random,
    pub(crate) client: Random,
    pub(crate) person: Random,
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
    pub(crate) calls: BTreeMap<u64, Caller>,
    /// When the last message of each session arrives.
    pub(crate) arrivals: BTreeMap<u64, Micros>,
    pub(crate) addresses: BTreeMap<SocketAddr, usize>,
    /// Hosts without power.
    pub(crate) dark: BTreeSet<usize>,
    /// Pairs of hosts whose databases cannot reach each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Hosts that cannot reach the store.
    pub(crate) store_cut: BTreeSet<usize>,
    /// No more faults.
    pub(crate) calm: bool,
    pub(crate) trace: Trace,
    pub(crate) judges: Judges,
    pub(crate) last_state: BTreeMap<usize, MasterState>,
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
            person: stream("person"),
            fault: stream("fault"),
        };
        let mut clocks = stream("clock");
        let hosts = options.hosts + options.watchers;
        let agents = (0..hosts)
            .map(|host| Agent::new(host, HostClock::draw(&mut clocks, options.drift)))
            .collect();
        let databases = lay_databases(&options);
        let layout = lay_out(&options, &databases);
        let mut world = Self {
            now: 0,
            schedule: Schedule::default(),
            random,
            store: Store::default(),
            addresses: databases.iter().enumerate().map(|(db, it)| (it.address, db)).collect(),
            databases,
            agents,
            clients: Vec::new(),
            calls: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            dark: BTreeSet::new(),
            cut: BTreeSet::new(),
            store_cut: BTreeSet::new(),
            calm: true,
            trace: Trace::new(trace),
            judges: Judges::new(&layout),
            last_state: BTreeMap::new(),
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
        if let Fact::Master { service, record: Some(record) } = &fact {
            self.last_state.insert(*service, record.state.clone());
        }
        let limits = self.judges.limits.len();
        self.judges.take(self.now, &fact);
        for index in limits..self.judges.limits.len() {
            let (limit, breach) = self.judges.limits[index].clone();
            say!(self, "LIMIT {} ({limit}): {}", breach.slug, breach.text);
        }
        if let Some(Violation { slug, text, .. }) = self.judges.violation.clone() {
            say!(self, "VIOLATION of {slug}: {text}");
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
            Happening::Wake { life } => self.wake(life),
            Happening::Load { life } => self.load(life),
            Happening::ProbeDue { life, db } => self.probe_due(life, db),
            Happening::ProbeTimeout { life, db, call } => self.probe_timeout(life, db, call),
            Happening::ActionDeadline { life, id } => self.action_deadline(life, id),
            Happening::FenceTimer { life, epoch, index } => self.fence_timer(life, epoch, index),
            Happening::FenceRung { life, run } => self.fence_rung(life, run),
            Happening::FenceSpent { life, run } => self.fence_spent(life, run),
            Happening::Killed { life, run } => self.killed(life, run),
            Happening::HookEnd { life, id } => self.hook_end(life, id),
            Happening::ExitSeen { life, db, boot } => self.exit_arrives(life, db, boot),
            Happening::AgentGoesOn { life } => self.agent_goes_on(life),
            Happening::StoreArrive { life, sent, request } => {
                self.store_arrive(life, sent, request);
            }
            Happening::StoreAnswer { life, sent, answer } => self.store_answer(life, sent, answer),
            Happening::WatchArrive { life, watch, revision } => {
                self.watch_arrive(life, watch, revision);
            }
            Happening::ClientActs { client } => self.client_acts(client),
            Happening::ClientTimeout { client, call } => self.client_timeout(client, call),
            Happening::PersonActs => self.person_acts(),
            Happening::PersonEnds { key } => self.person_ends(&key),
            Happening::FaultStrikes => self.fault_strikes(),
            Happening::StoreHeals { host } => self.heal_store(host),
            Happening::ReplicationHeals { hosts } => self.heal_replication(hosts),
            Happening::WatchHeals { host } => self.agents[host].watch_late = 0,
            Happening::HostReturns { host } => self.return_host(host),
            Happening::Sample => self.sample(),
            other => self.happen_at_database(other),
        }
    }

    fn happen_at_database(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { db, life, session, call, ask } => match ask {
                Ask::Feed { .. } => self.feed_arrives(db, life, session, ask),
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
            Happening::ProcessEnd { db, life } => {
                if self.databases[db].life(life).is_some() {
                    self.end_process(db, "it was told to");
                    self.plan_restart(db);
                }
            }
            Happening::ProcessGoesOn { db, life } => {
                if self.databases[db].life(life).is_some() {
                    self.stop_process(db, false);
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

    /// Outputs are read on every host, at any time between two steps of its agent.
    fn sample(&mut self) {
        self.tell(Fact::Moment);
        for host in 0..self.agents.len() {
            for service in 0..self.options.services {
                self.read_output(host, service);
            }
        }
        let wait = self.random.client.between(20 * MILLI, 60 * MILLI);
        self.plan(wait, Happening::Sample);
    }

    /// The life of an agent, if it is still that one.
    pub(crate) fn life(&mut self, life: Life) -> Option<&mut Running> {
        self.agents[life.host].life.as_mut().filter(|running| running.number == life.number)
    }

    fn begin(&mut self) {
        for service in 0..self.options.services {
            let all = self.of_service(service);
            let master = all[self.random.database.index(all.len())];
            let history = self.random.database.any();
            for db in all {
                self.place(db, master, history);
            }
        }
        for host in 0..self.agents.len() {
            let wait = self.random.agent.between(0, SECOND / 2);
            self.plan(wait, Happening::AgentStart { host });
        }
        self.lay_clients();
        self.plan(0, Happening::Sample);
    }

    /// A database as it stands before sengu comes: one master, the others follow it.
    fn place(&mut self, db: usize, master: usize, history: u64) {
        self.start_process(db);
        let source = self.databases[master].address;
        let process = self.databases[db].process.as_mut().expect("it was just started");
        process.copy.history = history;
        process.copy.provable = true;
        process.source = (db != master).then_some(source);
        let life = process.life;
        self.tell_writable(db);
        if db != master {
            self.plan(5 * MILLI, Happening::Connect { db, life });
        }
    }
}

fn lay_databases(options: &Options) -> Vec<Database> {
    let mut databases = Vec::new();
    for service in 0..options.services {
        for number in 0..options.instances {
            let host = if options.hosts == 1 { 0 } else { number };
            let octet = u8::try_from(host + 1).unwrap_or(u8::MAX);
            let port = 6379 + 100 * service + if options.hosts == 1 { number } else { 0 };
            let address =
                SocketAddr::from(([10, 0, 0, octet], u16::try_from(port).unwrap_or(u16::MAX)));
            let fenced = options.unfenced != Some(number);
            let id = Id { service, number };
            databases.push(Database::new(id, host, address, fenced, options.priorities[number]));
        }
    }
    databases
}

fn lay_out(options: &Options, databases: &[Database]) -> Layout {
    let micros = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let patience = 2 * micros(options.probe.0 + options.probe.1)
        + micros(options.fence())
        + micros(options.policy.hung_after)
        + 3 * SECOND;
    Layout {
        hosts: databases.iter().map(|database| (database.id, database.host)).collect(),
        unfenced: databases.iter().filter(|it| !it.starts_fenced).map(|it| it.id).collect(),
        lease: micros(options.judge.lease()),
        patience,
    }
}
