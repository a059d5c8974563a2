//! What was recorded of one service while faults hit it: all that the checker goes by.
//!
//! Times are microseconds of one clock since 1970; clients, readers and servers share a machine.
//! An event of which only the ends are known is an interval, and each rule takes the end that
//! cannot make a false alarm. Nothing here is sengu's own view but the terms, which it told.

use std::collections::{BTreeMap, BTreeSet};

/// Microseconds since 1970.
pub type Micros = i64;

/// A write: which client, and its serial, which that client never used before.
pub type WriteId = (String, u64);

/// One acknowledged write, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which.
    pub id: WriteId,
    /// The instance that acknowledged it.
    pub by: String,
    /// When the client sent it.
    pub sent: Micros,
    /// When the client had the acknowledgement.
    pub acked: Micros,
}

/// One committed write, as the log of a server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which.
    pub id: WriteId,
    /// The instance that committed it first.
    pub origin: String,
    /// When its statement began on that server.
    pub began: Micros,
}

/// What a term says was lost when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// So many transactions.
    Transactions(u64),
    /// So many bytes of the replication stream.
    Bytes(u64),
    /// At most what was acknowledged in this time before the name was withdrawn.
    AtMost(Micros),
    /// It cannot be told.
    Unknown,
}

impl Loss {
    /// Reads what a history record says in words; words that are not known say nothing, which is
    /// the same as *unknown*.
    #[must_use]
    pub fn read(words: &str) -> Self {
        if words.starts_with("nothing") {
            return Self::Nothing;
        }
        let mut parts = words.split_whitespace();
        if let Some(rest) = words.strip_prefix("unknown, at most the writes of the last ") {
            let millis = rest.split_whitespace().next().and_then(|word| word.parse::<i64>().ok());
            return millis.map_or(Self::Unknown, |millis| Self::AtMost(millis * 1000));
        }
        let count = parts.next().and_then(|word| word.parse().ok());
        match (count, parts.next()) {
            (Some(count), Some(unit)) if unit.starts_with("byte") => Self::Bytes(count),
            (Some(count), Some(_)) => Self::Transactions(count),
            _ => Self::Unknown,
        }
    }
}

/// One term, as the service's history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Its number.
    pub term: u64,
    /// Who took it.
    pub holder: String,
    /// When the term before it ended: the first step of the move.
    pub began: Micros,
    /// When it was taken, before anything was opened.
    pub taken: Micros,
    /// When it was published, if it was.
    pub served: Option<Micros>,
    /// Was it asked for as one that loses nothing?
    pub planned: bool,
    /// Did a person take a loss upon himself?
    pub forced: bool,
    /// What it says was lost.
    pub loss: Loss,
}

/// What one output said without a change: a run of equal answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which output, of which agent.
    pub output: String,
    /// Everybody whom it named; none: nobody.
    pub said: Vec<String>,
    /// The term, where the output tells one.
    pub term: Option<u64>,
    /// When the first such answer was asked for.
    pub asked: Micros,
    /// When the first such answer had come.
    pub answered: Micros,
    /// When the last such answer was asked for.
    pub last: Micros,
    /// How many answers these are.
    pub looks: u64,
}

/// One life of an instance's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Which instance.
    pub instance: String,
    /// When it could answer at the earliest.
    pub from: Micros,
    /// When it was surely gone; none: it still runs.
    pub until: Option<Micros>,
}

/// A reason for not acting that an agent gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When it was read first.
    pub from: Micros,
    /// When it was read last.
    pub until: Micros,
    /// Its words.
    pub words: String,
}

/// One start of a hook, as the hook itself noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookStart {
    /// The term that it was told.
    pub term: u64,
    /// The phase that it was told.
    pub phase: String,
    /// The host that it ran on.
    pub host: String,
}

/// A fault, for those who read a verdict: it excuses nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Micros,
    /// What.
    pub what: String,
    /// It gives nobody a reason to move mastership.
    pub harmless: bool,
}

/// An agent that the store does not reach any more: what others do, it cannot know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// What its outputs' names begin with.
    pub outputs: String,
    /// The instance of its host: how that one ends, it sees.
    pub own: String,
    /// When.
    pub at: Micros,
}

/// The end of all faults, and what came after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// When the last fault was taken away.
    pub healed: Micros,
    /// When all was steady: one named, it alone writable, all others following it.
    pub steady: Option<Micros>,
    /// What was still missing when nobody waited any longer.
    pub missing: String,
}

/// What is promised; times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long an output may name one that does not serve any more, and one of another host after
    /// its own agent was cut off.
    pub stale: Micros,
    /// How long an output may name one after another began to serve, if its agent was not cut off.
    pub overlap: Micros,
    /// How long a file may lag behind what is answered when it is asked.
    pub file: Micros,
    /// How long nobody may acknowledge anything without a move or a refusal that is said.
    pub standstill: Micros,
    /// How long the way back to the steady state may take.
    pub converge: Micros,
    /// How many histories of masters a record may know.
    pub histories: usize,
}

/// Everything about one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Which service.
    pub service: String,
    /// Its policy is `loss = "none"`.
    pub lossless: bool,
    /// What is promised.
    pub bounds: Bounds,
    /// When clients began and ended to write.
    pub span: (Micros, Micros),
    /// Its terms, by number.
    pub terms: Vec<Term>,
    /// All acknowledged writes.
    pub writes: Vec<Write>,
    /// What the logs of servers have, by server, in their order; empty where there are none.
    pub logs: BTreeMap<String, Vec<Commit>>,
    /// Instances that lost all their data, and since when each was away.
    pub emptied: Vec<(String, Micros)>,
    /// The writes that the last master has.
    pub kept: BTreeSet<WriteId>,
    /// The outputs that were to be looked at.
    pub outputs: Vec<String>,
    /// What outputs said, in the order of each output.
    pub sightings: Vec<Sighting>,
    /// When processes of instances ran.
    pub lives: Vec<Life>,
    /// Reasons for not acting.
    pub refusals: Vec<Refusal>,
    /// Starts of hooks that run once in a term.
    pub hooks: Vec<HookStart>,
    /// So many histories of masters the last master's record knows.
    pub histories: usize,
    /// What was done to it.
    pub faults: Vec<Fault>,
    /// Agents that the store did not reach for a while.
    pub cut_off: Vec<CutOff>,
    /// From when until when the machine let nobody work, as measured beside it.
    pub starved: Vec<(Micros, Micros)>,
    /// How it ended.
    pub rest: Option<Rest>,
}

impl History {
    /// The newest term of an instance that had been taken by then.
    #[must_use]
    pub fn term_of(&self, instance: &str, by: Micros) -> Option<u64> {
        let own = self.terms.iter().filter(|term| term.holder == instance && term.taken <= by);
        own.map(|term| term.term).max()
    }

    /// For how long the machine let nobody work between these two.
    #[must_use]
    pub fn starved(&self, from: Micros, until: Micros) -> Micros {
        let mut spans: Vec<_> =
            self.starved.iter().map(|at| (at.0.max(from), at.1.min(until))).collect();
        spans.sort_unstable();
        let (mut total, mut counted) = (0, from);
        for (from, until) in spans {
            // Two may have seen the same.
            total += until.saturating_sub(from.max(counted)).max(0);
            counted = counted.max(until);
        }
        total
    }

    /// When so long is over after a moment, on a machine that let nobody work meanwhile.
    #[must_use]
    pub fn after(&self, moment: Micros, bound: Micros) -> Micros {
        let end = moment.saturating_add(bound);
        end.saturating_add(self.starved(moment, end))
    }
}

#[cfg(test)]
mod tests {
    use super::Loss;

    #[test]
    fn the_words_of_a_history_are_read() {
        let read = |words| Loss::read(words);
        assert_eq!(read("nothing"), Loss::Nothing);
        assert_eq!(read("nothing: it has all that the old master had"), Loss::Nothing);
        assert_eq!(read("3 transactions of the old master's writes"), Loss::Transactions(3));
        assert_eq!(read("412 bytes of the old master's writes"), Loss::Bytes(412));
        let at_most = "unknown, at most the writes of the last 250 ms before it was withdrawn";
        assert_eq!(read(at_most), Loss::AtMost(250_000));
        assert_eq!(read("unknown: the histories cannot be compared"), Loss::Unknown);
        assert_eq!(read(""), Loss::Unknown);
    }
}
