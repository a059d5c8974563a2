//! Everything that breaks, and everything that a person or a tool does: one deed each, with all
//! that it needs to be done again.
//!
//! A seed draws its deeds before its world begins; a scenario writes them down. Both print and
//! read the same words (`Display` here, `words.rs` the other way), so that what a search finds
//! becomes a scenario by copying lines. A deed names its targets; it holds no chance of its own.

use std::fmt;

use super::fact::Id;
use super::schedule::{MILLI, Micros, SECOND};

/// What the supervisor makes of a process that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It starts it after so long.
    After(Micros, Data),
    /// It does not.
    Never,
    /// As the run's own chance decides.
    Somehow,
}

/// What stands on the disk that a new process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Everything.
    Kept,
    /// Nothing.
    Emptied,
    /// Everything but the last so many writes.
    Without(usize),
}

/// How changing commands to a database go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// An error comes back, nothing was done.
    Refuses,
    /// No answer comes and nothing is done.
    Loses,
    /// The first half is done and no answer comes: a fence leaves the sessions, a promotion the
    /// source.
    Halves,
    /// An answer comes as if it were done.
    Ignores,
}

/// What a person asks of sengu, or does by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// `sengu adopt`, with the instance that shall be master on a cold start.
    Adopt(Option<Id>),
    /// `sengu release`.
    Release,
    /// `sengu switchover`.
    Switchover(Option<Id>),
    /// `sengu failover`, accepting a loss or not.
    Failover(Option<Id>, bool),
    /// `sengu pause`, for so long.
    Pause(Micros),
    /// `sengu freeze`, for so long.
    Freeze(Micros),
    /// `sengu drain`, for so long.
    Drain(Id, Micros),
}

/// One thing that happens to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The store answers nobody.
    Election(Micros),
    /// The store is slow.
    SlowStore(Micros),
    /// Each request takes the store up to so long, for so long.
    LateStore(Micros, Micros),
    /// The store takes no writes; reads work.
    FullStore(Micros),
    /// The store forgets its past: who watches late must read everything again.
    Compaction,
    /// The store is restored from a snapshot so old, under another id or under its own.
    Restore(Micros, bool),
    /// A person gives all agents an empty store and adopts every service again.
    Anew,
    /// A host cannot reach the store.
    CutStore(usize, Micros),
    /// A host's watch runs so late, for so long: its member is behind.
    LateWatch(usize, Micros, Micros),
    /// A host's watch is lost and everything is read again.
    LostWatch(usize),
    /// A host is so short of time that no look at its databases ends. Only scenarios have it.
    LateLooks(usize, Micros),
    /// The store's member on a host dies and comes back.
    LoseMember(usize, Micros),
    /// Two hosts cannot reach each other.
    CutHosts(usize, usize, Micros),
    /// A host reaches no other host and no store; what runs on it goes on.
    Isolate(usize, Micros),
    /// A process is killed.
    Kill(Id, Back),
    /// A process is told to end: the listener closes at once, its sessions live on for so long.
    End(Id, Micros, Back),
    /// A process is stopped by a signal.
    Stop(Id, Micros),
    /// A process hangs in the kernel: a kill takes effect only when it wakes.
    Freeze(Id, Micros),
    /// A process runs a script that has written.
    Busy(Id, Micros),
    /// Changing commands go wrong.
    Misobey(Id, Orders, Micros),
    /// A copy's applier is stopped: what it receives it does not apply.
    StopApplier(Id, Micros),
    /// A copy's applier runs, and is busy with one transaction: a long `ALTER TABLE`, say.
    BusyApplier(Id, Micros),
    /// Somebody turns the waiting for acknowledgements off.
    StopWaiting(Id),
    /// Somebody's transaction stays open on it: it stands in the way of a planned move.
    Obstruct(Id, Micros),
    /// An account of its clients stands above read-only, for so long (MariaDB: elsewhere there is
    /// none).
    Above(Id, Micros),
    /// Somebody prepares an XA branch on it, and ends it after so long, where it stands then.
    Branch(Id, Micros),
    /// A server that was set back is given another identity by hand, and started again.
    Renumber(Id),
    /// The agent may not signal this process.
    Unkillable(Id, Micros),
    /// Somebody edits its file: it starts taking writes, or fenced.
    Edit(Id, bool),
    /// An agent's process dies, and is started again after so long.
    KillAgent(usize, Micros),
    /// An agent's loop hangs; its fence thread does not.
    HangAgent(usize, Micros),
    /// An agent's process is stopped by a signal, its fence thread too.
    StopAgent(usize, Micros),
    /// An agent is replaced by a newer version, whose records have fields that others do not know.
    Upgrade(usize),
    /// An agent is replaced by one that writes a newer format, which others cannot read.
    NewFormat(usize),
    /// An agent's upgrade is taken back.
    Downgrade(usize),
    /// A second agent process of the same host and folder is started.
    Double(usize, Micros),
    /// The configuration is read again, without this instance, and with it after so long.
    Forget(Id, Micros),
    /// A host's file says `failover = "manual"` and is read again, for so long.
    Manual(usize, Micros),
    /// A host's file says `loss = "bounded"` and is read again, for so long.
    Bounded(usize, Micros),
    /// A whole guest stands still, its clocks too.
    PauseGuest(usize, Micros),
    /// A host loses its power and comes back.
    PowerOff(usize, Micros),
    /// A wall clock is set by so many milliseconds.
    JumpClock(usize, i64),
    /// A person asks sengu, for this service.
    Ask(usize, Wish),
    /// A person, or a tool that knows nothing of sengu, opens an instance by hand.
    Open(Id),
    /// The same, pointing it to another.
    Point(Id, Id),
    /// A tool that moves the master announces a move, for so long, with a fence or without.
    Announce(Micros, bool),
    /// It says that this one is the master now.
    Tell(Id),
    /// Another failover tool makes it master and points all others to it.
    Tool(Id),
    /// Everything is mended.
    Mend,
}

/// A span in the words of scenarios.
pub(crate) struct Span(pub(crate) Micros);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= SECOND && self.0.is_multiple_of(100 * MILLI) {
            let (whole, tenths) = (self.0 / SECOND, self.0 % SECOND / (100 * MILLI));
            if tenths == 0 { write!(f, "{whole} s") } else { write!(f, "{whole}.{tenths} s") }
        } else {
            write!(f, "{} ms", self.0.div_ceil(MILLI))
        }
    }
}

/// A host in the words of scenarios.
pub(crate) struct Host(pub(crate) usize);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0 + 1)
    }
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str(", for good"),
            Self::Somehow => Ok(()),
            Self::After(wait, data) => {
                write!(f, ", comes back after {}", Span(*wait))?;
                match data {
                    Data::Kept => Ok(()),
                    Data::Emptied => f.write_str(" emptied"),
                    Data::Without(writes) => write!(f, " without its last {writes} writes"),
                }
            }
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt(None) => f.write_str("adopts"),
            Self::Adopt(Some(to)) => write!(f, "adopts with {to} as master"),
            Self::Release => f.write_str("releases"),
            Self::Switchover(None) => f.write_str("switches over"),
            Self::Switchover(Some(to)) => write!(f, "switches over to {to}"),
            Self::Failover(None, false) => f.write_str("fails over"),
            Self::Failover(None, true) => f.write_str("fails over accepting loss"),
            Self::Failover(Some(to), false) => write!(f, "fails over to {to}"),
            Self::Failover(Some(to), true) => write!(f, "fails over to {to} accepting loss"),
            Self::Pause(span) => write!(f, "pauses for {}", Span(*span)),
            Self::Freeze(span) => write!(f, "freezes for {}", Span(*span)),
            Self::Drain(which, span) => write!(f, "drains {which} for {}", Span(*span)),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Election(span) => write!(f, "store elects for {}", Span(*span)),
            Self::SlowStore(span) => write!(f, "store is slow for {}", Span(*span)),
            Self::LateStore(late, span) => {
                write!(f, "store takes up to {} to answer for {}", Span(*late), Span(*span))
            }
            Self::FullStore(span) => write!(f, "store is full for {}", Span(*span)),
            Self::Compaction => f.write_str("store forgets its past"),
            Self::Restore(age, renamed) => {
                let id = if *renamed { " under a new id" } else { "" };
                write!(f, "store is restored to {} ago{id}", Span(*age))
            }
            Self::CutStore(host, span) => {
                write!(f, "{} loses the store for {}", Host(*host), Span(*span))
            }
            Self::LateWatch(host, late, span) => {
                write!(f, "{} watches {} late for {}", Host(*host), Span(*late), Span(*span))
            }
            Self::LostWatch(host) => write!(f, "{} loses its watch", Host(*host)),
            Self::LateLooks(host, span) => {
                write!(f, "{} ends no look for {}", Host(*host), Span(*span))
            }
            Self::Manual(host, span) => {
                write!(f, "configuration of {} says manual for {}", Host(*host), Span(*span))
            }
            Self::LoseMember(host, span) => {
                write!(f, "store member {} dies for {}", Host(*host), Span(*span))
            }
            Self::CutHosts(one, other, span) => {
                write!(f, "{} loses {} for {}", Host(*one), Host(*other), Span(*span))
            }
            Self::Isolate(host, span) => {
                write!(f, "{} is isolated for {}", Host(*host), Span(*span))
            }
            Self::PauseGuest(host, span) => {
                write!(f, "guest {} is paused for {}", Host(*host), Span(*span))
            }
            Self::PowerOff(host, span) => {
                write!(f, "{} loses power for {}", Host(*host), Span(*span))
            }
            Self::JumpClock(host, by) => write!(f, "clock {} jumps {by} ms", Host(*host)),
            Self::Ask(0, wish) => write!(f, "person {wish}"),
            Self::Ask(service, wish) => {
                write!(f, "person of {} {wish}", super::fact::SERVICES[*service])
            }
            Self::Open(id) => write!(f, "hand opens {id}"),
            Self::Tool(id) => write!(f, "tool fails over to {id}"),
            Self::Anew => f.write_str("person begins anew on an empty store"),
            Self::Renumber(id) => write!(f, "hand gives {id} a new identity"),
            Self::Bounded(host, span) => {
                write!(f, "configuration of {} says bounded for {}", Host(*host), Span(*span))
            }
            Self::StopWaiting(id) => write!(f, "hand lets commits of {id} go on alone"),
            Self::Point(id, to) => write!(f, "hand points {id} to {to}"),
            Self::Announce(span, fence) => {
                let fence = if *fence { " with a fence" } else { "" };
                write!(f, "tool announces a move{fence} for {}", Span(*span))
            }
            Self::Tell(id) => write!(f, "tool tells of {id}"),
            Self::Mend => f.write_str("all is mended"),
            other => other.at_process(f),
        }
    }
}

impl Deed {
    /// Those that befall a process.
    fn at_process(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(id, back) => write!(f, "{id} dies{back}"),
            Self::End(id, over, back) => write!(f, "{id} ends within {}{back}", Span(*over)),
            Self::Stop(id, span) => write!(f, "{id} is stopped for {}", Span(*span)),
            Self::Freeze(id, span) => write!(f, "{id} hangs in the kernel for {}", Span(*span)),
            Self::Busy(id, span) => write!(f, "{id} runs a script for {}", Span(*span)),
            Self::Misobey(id, orders, span) => {
                let verb = match orders {
                    Orders::Refuses => "refuses",
                    Orders::Loses => "loses",
                    Orders::Halves => "half does",
                    Orders::Ignores => "ignores",
                };
                write!(f, "{id} {verb} orders for {}", Span(*span))
            }
            Self::StopApplier(id, span) => write!(f, "{id} applies nothing for {}", Span(*span)),
            Self::BusyApplier(id, span) => {
                write!(f, "{id} applies one transaction for {}", Span(*span))
            }
            Self::Obstruct(id, span) => {
                write!(f, "{id} has an open transaction for {}", Span(*span))
            }
            Self::Above(id, span) => {
                write!(f, "{id} has an account above read_only for {}", Span(*span))
            }
            Self::Branch(id, span) => {
                write!(f, "{id} has a prepared XA branch for {}", Span(*span))
            }
            Self::Unkillable(id, span) => write!(f, "{id} cannot be killed for {}", Span(*span)),
            Self::Edit(id, fenced) => {
                write!(f, "{id} starts {} from now on", if *fenced { "fenced" } else { "open" })
            }
            Self::KillAgent(host, span) => {
                write!(f, "agent {} dies for {}", Host(*host), Span(*span))
            }
            Self::HangAgent(host, span) => {
                write!(f, "agent {} hangs for {}", Host(*host), Span(*span))
            }
            Self::StopAgent(host, span) => {
                write!(f, "agent {} is stopped for {}", Host(*host), Span(*span))
            }
            Self::Upgrade(host) => write!(f, "agent {} is upgraded", Host(*host)),
            Self::NewFormat(host) => {
                write!(f, "agent {} is upgraded to another format", Host(*host))
            }
            Self::Downgrade(host) => write!(f, "agent {} is downgraded", Host(*host)),
            Self::Double(host, span) => {
                write!(f, "agent {} has a double for {}", Host(*host), Span(*span))
            }
            Self::Forget(id, span) => {
                write!(f, "configuration of {id} is taken out for {}", Span(*span))
            }
            other => unreachable!("{other:?} befalls no process"),
        }
    }

    /// A word for its kind, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Election(_) => "election",
            Self::SlowStore(_) | Self::LateStore(..) => "slow store",
            Self::FullStore(_) => "full store",
            Self::Compaction => "compaction",
            Self::Restore(..) => "restore",
            Self::Anew => "empty store",
            Self::CutStore(..) => "store cut",
            Self::LateWatch(..) => "late watch",
            Self::LostWatch(_) => "lost watch",
            Self::LateLooks(..) => "late looks",
            Self::LoseMember(..) => "store member",
            Self::Manual(..) | Self::Bounded(..) => "policy",
            Self::CutHosts(..) => "host cut",
            Self::Isolate(..) => "isolation",
            Self::Kill(..) => "killed database",
            Self::End(..) => "ended database",
            Self::Stop(..) => "stopped database",
            Self::Freeze(..) => "frozen database",
            Self::Busy(..) => "busy database",
            Self::Misobey(_, Orders::Refuses, _) => "refused orders",
            Self::Misobey(_, Orders::Loses, _) => "lost orders",
            Self::Misobey(_, Orders::Halves, _) => "half orders",
            Self::Misobey(_, Orders::Ignores, _) => "ignored orders",
            Self::StopApplier(..) => "stopped applier",
            Self::BusyApplier(..) => "busy applier",
            Self::Obstruct(..) => "open transaction",
            Self::Above(..) => "account above read-only",
            Self::Branch(..) => "XA branch",
            Self::Unkillable(..) => "unkillable database",
            Self::Edit(..) => "edited file",
            Self::KillAgent(..) => "killed agent",
            Self::HangAgent(..) => "hung agent",
            Self::StopAgent(..) => "stopped agent",
            Self::Upgrade(_) => "upgrade",
            Self::NewFormat(_) | Self::Downgrade(_) => "record format",
            Self::Double(..) => "double",
            Self::Forget(..) => "configuration",
            Self::PauseGuest(..) => "paused guest",
            Self::PowerOff(..) => "power",
            Self::JumpClock(..) => "clock",
            Self::Ask(..) => "person",
            Self::Open(_) | Self::Point(..) | Self::StopWaiting(_) | Self::Renumber(_) => "hand",
            Self::Tool(_) | Self::Announce(..) | Self::Tell(_) => "tool",
            Self::Mend => "mended",
        }
    }
}
