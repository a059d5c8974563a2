//! What is true in the world, as the invariants are told it: facts in the order in which they
//! came to be, from the databases' and the store's own record, never from what an agent believes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use sengu_core::name::{InstanceId, InstanceName, ServiceName, Term};
use sengu_core::record::{MasterRecord, Phase};

use super::schedule::Micros;

/// One instance: `r2` is number 1 of service 0, `bar/r2` of service 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Which service.
    pub(crate) service: usize,
    /// Which of its instances, from 0.
    pub(crate) number: usize,
}

/// The services' names.
pub(crate) const SERVICES: [&str; 2] = ["foo", "bar"];

impl Id {
    /// The instance that a record names, if it is one of this world's.
    pub(crate) fn named(service: usize, name: &InstanceName) -> Option<Self> {
        let number: usize = name.as_str().strip_prefix('r')?.parse().ok()?;
        Some(Self { service, number: number.checked_sub(1)? })
    }

    /// Its name as agents say it.
    pub(crate) fn full(self) -> InstanceId {
        let service = ServiceName::new(SERVICES[self.service]).expect("a label");
        InstanceId { service, instance: self.name() }
    }

    /// Its name within its service.
    pub(crate) fn name(self) -> InstanceName {
        InstanceName::new(&format!("r{}", self.number + 1)).expect("`r` and a number is a label")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.service > 0 {
            write!(f, "{}/", SERVICES[self.service])?;
        }
        write!(f, "r{}", self.number + 1)
    }
}

/// What does not change in one world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// On which host each instance runs.
    pub(crate) hosts: BTreeMap<Id, usize>,
    /// The longest lease.
    pub(crate) lease: Micros,
    /// The instances whose own file starts them open, from the beginning.
    pub(crate) files: BTreeSet<Id>,
    /// No request and no answer of the store is lost unless a deed says so.
    pub(crate) quiet: bool,
    /// The longest that a fence may take.
    pub(crate) fence: Micros,
    /// From the beginning of one look at an instance to the end of the next, at most.
    pub(crate) look: Micros,
    /// How long an agent may need to see and end what should not be, when nothing hinders it.
    pub(crate) patience: Micros,
}

/// Something that is true from now on, or happened now.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// Nothing but time passing.
    Moment,
    /// A database acknowledged a client's write.
    Acknowledged {
        /// Which.
        instance: Id,
        /// The term under which it was last opened.
        term: Term,
        /// The write.
        serial: u64,
    },
    /// An instance began or ceased to take writes.
    Writable {
        /// Which.
        instance: Id,
        /// The term under which it was last opened.
        term: Term,
        /// Takes writes from now on.
        writable: bool,
    },
    /// A promotion took effect.
    Promoted {
        /// Which instance.
        instance: Id,
        /// The term it was decided in.
        term: Term,
        /// When an agent decided it.
        decided: Micros,
        /// All writes that its data holds.
        holds: Rc<[u64]>,
    },
    /// An agent was told that a fence it had decided is done.
    Fenced {
        /// Which instance.
        instance: Id,
        /// When it was decided.
        decided: Micros,
    },
    /// Somebody edited an instance's own file.
    File {
        /// Which instance.
        instance: Id,
        /// It starts it fenced from now on.
        fenced: bool,
    },
    /// A process came to be.
    Started {
        /// Which instance.
        instance: Id,
        /// It takes writes, since its own file says so.
        open: bool,
    },
    /// An agent is kept from signalling a process until then.
    Unkillable {
        /// Which instance.
        instance: Id,
        /// Until when.
        until: Micros,
    },
    /// Somebody changed an instance by hand, without sengu.
    Hand {
        /// Which instance.
        instance: Id,
        /// It was opened.
        open: bool,
    },
    /// An account of an instance stands above read-only until then.
    Unbound {
        /// Which instance.
        instance: Id,
        /// Until when.
        until: Micros,
    },
    /// An account above read-only is about to write on an instance that takes no writes.
    Above {
        /// Which.
        instance: Id,
        /// It stood there when the fence was done: the fence must have known it.
        known: bool,
    },
    /// An agent ended a process.
    Killed {
        /// Which instance.
        instance: Id,
        /// The process was as well as a process can be, and its lease not in danger.
        well: bool,
    },
    /// A guest stands still, or goes on.
    Guest {
        /// Which host.
        host: usize,
        /// It stands still from now on.
        paused: bool,
    },
    /// Something may hinder a holder until then: nothing is proven of it before.
    Hindered {
        /// A host; neither a host nor an instance: everybody.
        host: Option<usize>,
        /// An instance.
        instance: Option<Id>,
        /// Until when.
        until: Micros,
    },
    /// How much stands in a queue or a record list, against its bound.
    Size {
        /// What.
        what: &'static str,
        /// How much.
        size: usize,
        /// At most.
        bound: usize,
    },
    /// A service has no serving master: does anybody say why?
    Explained {
        /// Which service.
        service: usize,
        /// An agent with an instance of it runs and says something.
        said: bool,
    },
    /// The store was set back and kept its id.
    SetBack,
    /// A record was written again, and a field that its writer did not know is gone.
    Rewritten {
        /// Its key.
        key: String,
    },
    /// A process ended.
    Exited {
        /// Which instance.
        instance: Id,
    },
    /// A process was stopped by a signal, or goes on.
    Stopped {
        /// Which instance.
        instance: Id,
        /// Stopped from now on.
        stopped: bool,
    },
    /// An instance was told to replicate from another.
    Followed {
        /// Which.
        instance: Id,
        /// From which, if its address is known.
        source: Option<Id>,
    },
    /// An instance received something from its source.
    Received {
        /// Which.
        instance: Id,
        /// Which life of it.
        life: u64,
    },
    /// The store does a transaction that may write `master/S`.
    Sent {
        /// When its agent sent it.
        at: Micros,
    },
    /// `master/S` was written (or removed).
    Master {
        /// Which service.
        service: usize,
        /// As it is now.
        record: Option<Rc<MasterRecord>>,
    },
    /// The history of a term tells what was lost.
    Said {
        /// Of which service.
        service: usize,
        /// Of which term.
        term: Term,
        /// It says: nothing.
        nothing: bool,
    },
    /// A beat was committed that keeps this term.
    Beat {
        /// Which service.
        service: usize,
        /// The term that it names.
        term: Term,
    },
    /// A beat that keeps this instance's term came back to its agent in time.
    BeatAcknowledged {
        /// The holder.
        instance: Id,
        /// Its term.
        term: Term,
        /// True time of its send plus the lease on the sender's clock.
        deadline: Micros,
    },
    /// A final was written, or written over.
    Final {
        /// Whose.
        instance: Id,
        /// For which term.
        term: Term,
        /// Which life of it.
        life: u64,
        /// There was one of the same life already.
        again: bool,
    },
    /// An agent's process came to be, died, was stopped or goes on.
    Agent {
        /// On which host.
        host: usize,
        /// Runs from now on.
        running: bool,
    },
    /// A host's file names an instance from now on, or does not.
    Configured {
        /// Which instance.
        instance: Id,
        /// It is in the file.
        configured: bool,
    },
    /// An agent can read what its own host's beat says from now on, or cannot: it wrote that as a
    /// newer version.
    Reads {
        /// On which host.
        host: usize,
        /// It can.
        reads: bool,
    },
    /// An agent's loop hangs; its fence thread does not.
    Stalled {
        /// On which host.
        host: usize,
        /// For so long from now.
        span: Micros,
    },
    /// An agent has read the store.
    Loaded {
        /// On which host.
        host: usize,
    },
    /// An agent can reach the store from now on, or cannot.
    Reach {
        /// On which host.
        host: usize,
        /// It can.
        reach: bool,
    },
    /// An output of an agent named a master.
    Named {
        /// On which host.
        host: usize,
        /// Which life of its agent.
        life: u64,
        /// Whom.
        instance: Id,
        /// Under which term.
        term: Term,
        /// The state of that term in what this agent was given.
        serving: bool,
        /// Since the agent was given a beat that keeps the term; `None`: no promise, none needed.
        beat_age: Option<Micros>,
        /// Since the send of the last answered request of that agent.
        fresh_age: Micros,
    },
    /// The hooks of a phase were started.
    Hook {
        /// For which service.
        service: usize,
        /// For which term.
        term: Term,
        /// Which phase.
        phase: Phase,
    },
    /// The history of a term says that a person asked for it.
    Asked {
        /// Of which service.
        service: usize,
        /// Which term.
        term: Term,
    },
    /// A copy that had no source in this life of its process, and never was open in it, is about
    /// to be promoted, and lacks writes that another copy holds.
    Uncovered {
        /// Which.
        instance: Id,
        /// For which term.
        term: Term,
        /// The one that holds more.
        other: Id,
        /// So many writes.
        lacks: usize,
    },
    /// Two hosts can reach each other from now on, or cannot.
    Path {
        /// Which, the lower number first.
        hosts: (usize, usize),
        /// They cannot.
        cut: bool,
    },
}
