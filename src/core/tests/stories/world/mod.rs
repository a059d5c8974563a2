//! The world of the stories: one agent, its instances, a store, and the verbs that move them.
//!
//! Nothing happens unless a story says so: an event waits in a queue until [`World::settle`],
//! [`World::run_for`] or a verb that settles takes it. Each event costs 0.1 ms. `begin` is how a
//! world comes to be, `database` what the instances do, `carry` how actions are carried out, and
//! `read` what a story may ask about it.

mod begin;
mod carry;
mod database;
mod read;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sengu_core::event::{ActionId, Armed, Command, Event, LookOutcome};
use sengu_core::kv::{Key, Kv, Op, Txn, TxnReply};
use sengu_core::machine::Machine;
use sengu_core::name::{BootId, InstanceId, InstanceName, ServiceName, Term};
use sengu_core::observation::{Observation, Process};
use sengu_core::policy::Config;
use sengu_core::record::{Ask, FORMAT, HookOutcome, Record, RequestRecord, Stand, key};
use sengu_core::time::{Time, Wall};

pub(crate) use begin::{alone, shared};
pub(crate) use database::{Database, address, grown, mariadb, position, transactions, uuid};

/// When the world begins, on the agent's clock: microseconds.
const BEGIN: u64 = 1_000_000_000;
/// When it begins for people: milliseconds.
const BEGIN_WALL: i64 = 1_700_000_000_000;
/// What one event costs: microseconds.
const EVENT: u64 = 100;
/// How often the loop turns, and how many turns lie between two looks at an instance.
const TURN: u64 = 50_000;
const TURNS_A_LOOK: u64 = 10;
/// More events than any story causes before nothing is left to do.
const ENDLESS: usize = 200_000;
/// How long a request counts: milliseconds.
const REQUEST_COUNTS: i64 = 60_000;

/// What the store does with a txn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Applies and answers it.
    Answers,
    /// Does not apply it, and lets nobody know in time.
    CutOff,
    /// The same, told at once.
    FailsAtOnce,
    /// Applies it, and nobody hears of that, nor of any change.
    Mute,
}

/// Everything there is. The fields that stories set or read are open to them.
pub(crate) struct World {
    machine: Machine,
    kv: Kv,
    databases: BTreeMap<String, Database>,
    /// What the agent is configured with at its next start or reload.
    pub(crate) config: Config,
    /// The agent's clock: microseconds.
    clock: u64,
    /// What has happened and is not handled yet.
    events: VecDeque<Event>,
    /// What happens at a time.
    late: Vec<(u64, Event)>,
    /// What the store does with txns.
    pub(crate) store_does: Store,
    /// The txns that it failed at once.
    pub(crate) refused: Vec<Txn>,
    /// The agent is not told when a process exits.
    pub(crate) exits_unseen: bool,
    /// Instances without a process are not looked at, as the agent's shell leaves them.
    pub(crate) dead_unseen: bool,
    /// How long a txn is under way before the store applies it.
    pub(crate) txns_take: Duration,
    pub(super) under_way: Vec<(u64, ActionId, Txn)>,
    /// How long hooks run.
    pub(crate) hooks_take: Duration,
    /// How hooks end.
    pub(crate) hooks_end: HookOutcome,
    /// What a look at an earlier holder's address shows, and how long it takes.
    pub(crate) look_shows: LookOutcome,
    pub(crate) looks_take: Duration,
    /// The deadlines of the fence thread.
    pub(crate) armed: Vec<Armed>,
    /// How many actions were carried out.
    pub(crate) actions: usize,
    /// What databases were told, in order, since [`World::forget`].
    commands: Vec<(String, Command)>,
    log: Vec<String>,
    /// When each instance was last looked at.
    looked: BTreeMap<String, u64>,
}

/// The one service.
pub(crate) fn service() -> ServiceName {
    ServiceName::new("foo").expect("a good name")
}

/// An instance's name.
pub(crate) fn instance(name: &str) -> InstanceName {
    InstanceName::new(name).expect("a good name")
}

/// Which life of an instance's process.
fn boot_id(instance: &InstanceName, life: u32) -> BootId {
    BootId(format!("{instance}-{life}").into())
}

/// What stories do.
impl World {
    /// The agent starts (again): it knows its configuration and the store; what that makes it ask
    /// for waits.
    pub(crate) fn boot_agent(&mut self) {
        self.boot_unread();
        self.load();
    }

    /// The agent starts (again), and the store does not answer.
    pub(crate) fn boot_unread(&mut self) {
        self.machine = Machine::new();
        self.reload();
    }

    /// The same, until nothing is left to do.
    pub(crate) fn start_agent(&mut self) {
        self.boot_agent();
        self.drain();
    }

    /// The agent lost its watch with all that waits, and reads everything anew.
    pub(crate) fn load_anew(&mut self) {
        self.lose_events();
        self.load();
    }

    fn load(&mut self) {
        let entries = self.kv.entries().cloned().collect();
        let (sent, revision) = (Time(self.clock), self.kv.revision());
        self.step(Event::Loaded { sent, revision, entries });
    }

    /// The agent reads its configuration.
    pub(crate) fn reload(&mut self) {
        self.step(Event::Configured(Arc::new(self.config.clone())));
    }

    /// A process exits, and the agent is told.
    pub(crate) fn exit(&mut self, name: &str) {
        let database = self.database_mut(name);
        let life = database.life.take().expect("only a process that runs exits");
        database.open = false;
        let boot_id = boot_id(&instance(name), life);
        self.events.push_back(Event::Exited { instance: id_of(name), boot_id });
        self.drain();
    }

    /// This is the instance from now on; the next look shows it.
    pub(crate) fn restart(&mut self, name: &str, database: Database) {
        self.databases.insert(name.to_owned(), database);
    }

    /// An instance and its line in the configuration go; the agent is not told.
    pub(crate) fn dismiss(&mut self, name: &str) {
        self.databases.remove(name);
        let settings = self.config.services.get_mut(&service()).expect("it is configured");
        settings.instances.remove(&instance(name));
    }

    /// Somebody asks for something.
    pub(crate) fn ask(&mut self, id: &str, ask: Ask, term: Option<u64>) {
        self.ask_at(id, ask, term, Stand::Asked);
    }

    /// A request that stands so far already.
    pub(crate) fn ask_at(&mut self, id: &str, ask: Ask, term: Option<u64>, stand: Stand) {
        let at = self.now().wall;
        let record = RequestRecord {
            format: FORMAT,
            ask,
            term: term.map(Term),
            by: "root".to_owned(),
            comment: String::new(),
            at,
            until: Wall(at.0 + REQUEST_COUNTS),
            stand,
            hooks: BTreeMap::new(),
            warning: None,
            unknown: serde_json::Map::new(),
        };
        self.put_record(key::request(&service(), id), &record);
    }

    /// A standing request is taken back.
    pub(crate) fn take_back(&mut self, id: &str) {
        let then = vec![Op::Delete(key::request(&service(), id))];
        self.apply(&Txn { then, ..Txn::default() });
    }

    /// Writes a record behind the agent's back.
    pub(crate) fn put_record(&mut self, key: Key, record: &impl Record) {
        self.put(key, record.encode());
    }

    /// Writes bytes as another program would.
    pub(crate) fn put(&mut self, key: Key, value: Arc<[u8]>) {
        let then = vec![Op::Put { key, value, lease: 0 }];
        self.apply(&Txn { then, ..Txn::default() });
    }

    /// The store applies a txn; what it changed waits to be told.
    fn apply(&mut self, txn: &Txn) -> TxnReply {
        let applied = self.kv.apply(txn).expect("stories stay within the store's bounds");
        if !applied.changes.is_empty() {
            let revision = applied.reply.revision;
            self.events.push_back(Event::Changed { revision, changes: applied.changes });
        }
        applied.reply
    }

    /// The agent looks at an instance; what it sees waits.
    pub(crate) fn observe(&mut self, name: &str) {
        let clients = self.clients(name);
        let database = self.database(name);
        if self.dead_unseen && database.life.is_none() {
            return;
        }
        let boot_id = database.life.map(|life| boot_id(&instance(name), life));
        let process = Process::Sleeping;
        let observation = Observation { boot_id, answer: database.answer(clients), process };
        let sent = Time(self.clock);
        self.looked.insert(name.to_owned(), self.clock);
        self.events.push_back(Event::Observed { instance: id_of(name), sent, observation });
    }

    /// So many copies acknowledge to it.
    fn clients(&self, name: &str) -> u32 {
        let at = address(name);
        let copies = self.databases.values().filter(|copy| copy.acknowledges_to(at));
        u32::try_from(copies.count()).expect("stories are small")
    }

    /// Time passes in which the agent does nothing.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.clock += u64::try_from(time.as_micros()).expect("stories are short");
    }

    /// The agent handles one event.
    pub(crate) fn step(&mut self, event: Event) {
        for action in self.machine.step(self.now(), event) {
            self.carry_out(action);
        }
    }

    /// The agent handles the next waiting event; `false`: none waits.
    pub(crate) fn next(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else { return false };
        self.clock += EVENT;
        self.step(event);
        true
    }

    /// What came last is handled next.
    pub(crate) fn hurry(&mut self) {
        if let Some(last) = self.events.pop_back() {
            self.events.push_front(last);
        }
    }

    /// What waits is lost.
    pub(crate) fn lose_events(&mut self) {
        self.events.clear();
    }

    /// Handles events until none waits, at most so many; says how many.
    pub(crate) fn settle(&mut self, most: usize) -> usize {
        (0..most).take_while(|_| self.next()).count()
    }

    /// Handles events until none waits.
    pub(crate) fn drain(&mut self) {
        assert!(self.settle(ENDLESS) < ENDLESS, "events without end\n{}", self.tell());
    }

    /// The loop turns for so long, and looks at each instance twice a second.
    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_checked(time, |_| ());
    }

    /// The same, and after each event this must hold.
    pub(crate) fn run_checked(&mut self, time: Duration, holds: impl Fn(&Self)) {
        let end = Time(self.clock) + time;
        let mut turns = 0;
        while self.clock < end.0 {
            self.turn(turns % TURNS_A_LOOK == 0);
            let mut handled = 0;
            while self.next() {
                holds(self);
                handled += 1;
                assert!(handled < ENDLESS, "events without end\n{}", self.tell());
            }
            turns += 1;
        }
    }

    /// The loop turns once; what that makes happen waits.
    pub(crate) fn turn(&mut self, looks: bool) {
        self.clock += TURN;
        let now = self.clock;
        let (due, late) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(u64, Event)> = due;
        self.events.extend(due.into_iter().map(|(_, event)| event));
        self.arrive();
        if self.store_does == Store::Answers {
            self.step(Event::Fresh { sent: Time(self.clock) });
        }
        if looks {
            for name in self.databases.keys().cloned().collect::<Vec<_>>() {
                self.observe(&name);
            }
        }
        self.events.push_back(Event::Tick);
    }

    /// Forgets what databases were told and what was logged.
    pub(crate) fn forget(&mut self) {
        self.commands.clear();
        self.log.clear();
    }
}

fn id_of(name: &str) -> InstanceId {
    InstanceId { service: service(), instance: instance(name) }
}
