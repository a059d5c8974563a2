//! The whole border of the core on one page: what can happen, and what can be asked for.
//!
//! Each numbered action is answered by exactly one [`Event::Done`] with its id, whatever
//! happens; the shell gives each a deadline and answers for what never came back. An answer that
//! comes after the core has moved on is dropped by its id.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::kv::{Change, KeyValue, Revision, Txn, TxnReply};
use crate::name::{BootId, HostName, InstanceId, InstanceName, ServiceName, Term};
use crate::observation::{InstanceState, Observation};
use crate::policy::Config;
use crate::record::{HookOutcome, Phase};
use crate::time::Time;

/// Numbers the actions of one agent's life; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ActionId(pub u64);

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The configuration was read, at start or again.
    Configured(Arc<Config>),
    /// The whole store at one revision: at start, and again after a watch was lost.
    Loaded {
        /// When the read was sent.
        sent: Time,
        /// Its revision.
        revision: Revision,
        /// Everything.
        entries: Vec<Arc<KeyValue>>,
    },
    /// What changed since, in order and without a gap.
    Changed {
        /// The revision after them.
        revision: Revision,
        /// Each change.
        changes: Vec<Change>,
    },
    /// The store gave a linearizable answer to something sent then (embedded: the loop turned).
    Fresh {
        /// When it was sent.
        sent: Time,
    },
    /// An own instance was looked at.
    Observed {
        /// Which.
        instance: InstanceId,
        /// When the look began.
        sent: Time,
        /// What was seen.
        observation: Observation,
    },
    /// The process of an own instance exited (its pidfd says so).
    Exited {
        /// Which.
        instance: InstanceId,
        /// Which life of it.
        boot_id: BootId,
    },
    /// A numbered action ended.
    Done {
        /// Which.
        id: ActionId,
        /// How.
        outcome: Outcome,
    },
    /// The fence thread fired by itself, at a deadline that it was armed with.
    FenceFired {
        /// Which instance.
        instance: InstanceId,
        /// For which term it was armed.
        term: Term,
        /// How it went.
        outcome: ControlOutcome,
    },
    /// Time passed. Comes at least every lease/8, and at each [`Action::Wake`].
    Tick,
    /// The loop itself was late by so much: what it saw before is old.
    Stalled {
        /// By so much.
        late: Duration,
    },
    /// The wall clock and the boot clock moved apart.
    ClockJumped,
}

/// How a numbered action ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Of [`Action::Txn`].
    Txn(TxnOutcome),
    /// Of [`Action::Control`].
    Control(ControlOutcome),
    /// Of [`Action::Look`].
    Look(LookOutcome),
    /// Of [`Action::Hook`].
    Hook(HookOutcome),
}

/// How a txn ended. The view that the core decides on has its revision before this comes.
#[derive(Debug, Clone, PartialEq)]
pub enum TxnOutcome {
    /// Answered; `succeeded` tells whether the conditions held.
    Answered {
        /// When it was sent.
        sent: Time,
        /// The answer.
        reply: TxnReply,
    },
    /// Certainly not done: the reason.
    Refused(String),
    /// Nobody knows whether it was done: the reason.
    Unknown(String),
}

/// How a command to a database ended.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlOutcome {
    /// Done, and read back after.
    Done {
        /// The life of the process that answered.
        boot_id: BootId,
        /// Its state after the command.
        state: InstanceState,
    },
    /// The process is gone: it exited, or was killed by pidfd.
    Exited {
        /// Which life.
        boot_id: Option<BootId>,
    },
    /// Not done, or nobody knows: the reason, without secrets.
    Failed {
        /// The reason.
        error: String,
        /// Certainly not done.
        untouched: bool,
    },
}

/// What a direct look at an earlier holder's address showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LookOutcome {
    /// It answers and takes writes: the veto.
    Writable,
    /// It answers and takes none.
    NotWritable,
    /// It told nothing: refused, silent, another's password.
    Unknown,
}

/// What can be asked of the shell.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Action {
    /// Send a txn to the store.
    Txn {
        /// Answer with this.
        id: ActionId,
        /// What.
        txn: Txn,
        /// Give up (as unknown) after.
        within: Duration,
    },
    /// Change an own instance, over its one ordered connection (fences go over their own).
    Control {
        /// Answer with this.
        id: ActionId,
        /// Which instance.
        instance: InstanceId,
        /// The term it was decided in; an older one than the last seen is refused.
        term: Term,
        /// What.
        command: Command,
        /// Give up after.
        within: Duration,
    },
    /// Look at an earlier holder, wherever it is; change nothing.
    Look {
        /// Answer with this.
        id: ActionId,
        /// Its service (for credentials).
        service: ServiceName,
        /// Its address.
        address: SocketAddr,
        /// Give up after.
        within: Duration,
    },
    /// Run the hooks of a phase.
    Hook {
        /// Answer with this.
        id: ActionId,
        /// What they are told.
        run: HookRun,
    },
    /// The instances to fence without being asked again, and when each fence starts. Replaces
    /// what stood before; an absent instance is disarmed.
    Arm(Vec<Armed>),
    /// Look at an own instance now, not at the next interval.
    Observe(InstanceId),
    /// Wait for the end of exactly this process and send [`Event::Exited`]; at once if it is gone.
    Watch {
        /// The instance it belonged to.
        instance: InstanceId,
        /// The life.
        boot_id: BootId,
    },
    /// Send [`Event::Tick`] at this time. Each one stands: a later call replaces none.
    Wake(Time),
    /// Something that an operator would want in the log.
    Say(Saying),
    /// Keep in `data_dir` which services are held, for [`Config::remembered`] after a restart.
    Remember(BTreeSet<ServiceName>),
    /// Keep in `data_dir` the list of transactions that only this copy holds, for a person to look
    /// at; `None`: it holds none any more, remove the list.
    Keep {
        /// The copy.
        instance: InstanceId,
        /// What only it holds, as its server writes it.
        strays: Option<String>,
    },
    /// The agent must not go on (its id is used twice): fence is done, say why and exit.
    Exit(String),
}

/// A change of a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Refuse writes for good: all rungs, and the kill if `kill`. Done when it reads back.
    Fence {
        /// May the last rung kill?
        kill: bool,
    },
    /// Stop receiving, keep the data.
    Detach,
    /// Take writes: only if the process is still this one.
    Promote {
        /// The life that was judged.
        boot_id: BootId,
    },
    /// Replicate from there; refuse writes.
    Follow {
        /// The master.
        source: SocketAddr,
    },
    /// As a copy: acknowledge received transactions to the master from now on, or no more. Done
    /// when the receiver runs with it, or, for no more, cannot acknowledge any further.
    Acknowledge {
        /// From now on, or no more.
        on: bool,
    },
    /// As a master: let each commit wait for so many acknowledgements, for ever; 0: do not wait.
    Await {
        /// How many.
        count: u32,
    },
    /// Hold writes back for so long, to shorten a wait. Never a fence.
    Pause {
        /// At most.
        hold: Duration,
    },
    /// End a pause.
    Unpause,
    /// Read the state over the ordered connection, behind everything sent before.
    Read,
}

/// A deadline of the fence thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Armed {
    /// What it fences.
    pub instance: InstanceId,
    /// For which term.
    pub term: Term,
    /// When the fence starts.
    pub at: Time,
}

/// What a hook is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HookRun {
    /// The service.
    pub service: ServiceName,
    /// The step.
    pub phase: Phase,
    /// The term it belongs to.
    pub term: Term,
    /// The old master.
    pub old: Option<Party>,
    /// The new one.
    pub new: Option<Party>,
    /// Why, in a word.
    pub cause: String,
}

/// One side of a move, as hooks are told it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Party {
    /// Its name.
    pub instance: InstanceName,
    /// The host it runs on.
    pub host: HostName,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Saying {
    /// Needs somebody's attention.
    pub alarm: bool,
    /// The service, where it is about one.
    pub service: Option<ServiceName>,
    /// Plain words: what, where, what to do.
    pub text: String,
}
