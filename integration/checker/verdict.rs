//! What the checker finds wrong: each verdict names its rule, the time and who did what.

use std::fmt;

use super::history::{HookStart, Loss, Micros, Sighting, Write, WriteId};

/// One thing that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An older master acknowledged a write that was sent after a newer one had acknowledged.
    TwoMasters {
        /// The older one's.
        older: Write,
        /// Its newest term that this write can be of.
        term: u64,
        /// The newer one's.
        newer: Write,
        /// The term of that.
        newer_term: u64,
    },
    /// The log of a server has a statement of an older master that began after a newer one had
    /// acknowledged.
    LoggedLate {
        /// Which write.
        id: WriteId,
        /// Who committed it.
        origin: String,
        /// When its statement began.
        began: Micros,
        /// The newer one's.
        newer: Write,
    },
    /// An instance acknowledged although it had never taken a term.
    NeverMaster(Write),
    /// An acknowledged write is not in the log of the server that acknowledged it as its own.
    NotInItsLog(Write),
    /// Two clients' writes, or two of one, have the same serial.
    SerialTwice(WriteId),
    /// An acknowledged write is gone, and no term after it says that anything like it was lost.
    Lost {
        /// Which.
        write: Write,
        /// Its term.
        term: u64,
        /// What the terms after it say.
        said: Vec<(u64, Loss)>,
    },
    /// More is gone than the term says.
    LossMisstated {
        /// Which term.
        term: u64,
        /// What it says.
        said: Loss,
        /// How many writes are gone.
        gone: u64,
    },
    /// A planned move says itself that it lost something.
    PlannedMoveLost {
        /// Which term.
        term: u64,
        /// What it says.
        said: Loss,
    },
    /// One that had lost all its data became master before another one served, whose data it could
    /// have copied.
    EmptiedWon {
        /// Which term.
        term: u64,
        /// Who took it.
        holder: String,
        /// Since when it was away, to come back with nothing.
        emptied: Micros,
    },
    /// A term has two holders, or terms go back in time.
    TermsContradict {
        /// Which term.
        term: u64,
        /// How.
        how: String,
    },
    /// One answer named two masters.
    TwoNamed(Sighting),
    /// An answer named one that was not serving, for longer than is promised.
    NotServing {
        /// What was said.
        sighting: Sighting,
        /// When it was said and should not have been.
        at: Micros,
        /// Why it was not serving.
        why: String,
    },
    /// An output went back to an earlier term.
    WentBack {
        /// What was said.
        sighting: Sighting,
        /// The term that the same output had told before.
        from: u64,
    },
    /// An output was never looked at.
    NeverLookedAt(String),
    /// Nobody acknowledged anything, nothing moved, and nothing was said.
    SilentStandstill {
        /// From when.
        from: Micros,
        /// Until when.
        until: Micros,
    },
    /// Mastership moved, and nothing was done that is a reason.
    NeedlessMove {
        /// The term that began.
        term: u64,
        /// When.
        began: Micros,
    },
    /// A hook that runs once in a term was started again.
    HookTwice(HookStart),
    /// A record knows more histories of masters than it may.
    TooManyHistories {
        /// How many.
        known: usize,
        /// How many it may.
        bound: usize,
    },
    /// It did not come to rest after the faults in time.
    NotConverged {
        /// When the last fault was taken away.
        healed: Micros,
        /// How long it took, if it ever did.
        took: Option<Micros>,
        /// What was missing.
        missing: String,
    },
    /// There is nothing to judge: a history that shows nothing proves nothing.
    NothingRecorded(String),
}

impl Verdict {
    /// The rule that is broken.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TwoMasters { .. } | Self::LoggedLate { .. } => "w",
            Self::NeverMaster(_) => "one-giver",
            Self::NotInItsLog(_) | Self::SerialTwice(_) | Self::NothingRecorded(_) => "recorded",
            Self::Lost { .. } | Self::LossMisstated { .. } => "loss-is-said",
            Self::PlannedMoveLost { .. } => "planned-loses-nothing",
            Self::TermsContradict { .. } => "one-giver",
            Self::EmptiedWon { .. } => "emptied-never-wins",
            Self::TwoNamed(_) | Self::NotServing { .. } | Self::WentBack { .. } => {
                "named-is-serving"
            }
            Self::NeverLookedAt(_) => "recorded",
            Self::SilentStandstill { .. } => "refusals-are-said",
            Self::NeedlessMove { .. } => "no-needless-move",
            Self::HookTwice(_) => "hook-once",
            Self::TooManyHistories { .. } => "all-bounded",
            Self::NotConverged { .. } => "converges",
        }
    }
}

/// Seconds with microseconds, without the many that are the same in all.
struct At(Micros);

impl fmt::Display for At {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        write!(to, "{}.{micros:06}", seconds.rem_euclid(100_000))
    }
}

impl fmt::Display for Write {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, serial) = &self.id;
        let (sent, acked) = (At(self.sent), At(self.acked));
        write!(to, "{client} {serial} (sent {sent}, acknowledged {acked} by {})", self.by)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: ", self.rule())?;
        match self {
            Self::TwoMasters { older, term, newer, newer_term } => write!(
                to,
                "in term {term} {older} is after, in term {newer_term}, {newer}: by {} ms",
                (older.sent - newer.acked) / 1000
            ),
            Self::LoggedLate { id, origin, began, newer } => {
                let (client, serial) = id;
                write!(to, "{origin} began {client} {serial} at {} after {newer}", At(*began))
            }
            Self::NeverMaster(write) => write!(to, "no term of its own: {write}"),
            Self::NotInItsLog(write) => write!(to, "not in the log of its server: {write}"),
            Self::SerialTwice((client, serial)) => write!(to, "{client} wrote {serial} twice"),
            Self::Lost { write, term, said } => {
                write!(to, "gone, of term {term}: {write}; terms after it say {said:?}")
            }
            Self::LossMisstated { term, said, gone } => {
                write!(to, "term {term} says {said:?}, and {gone} writes are gone")
            }
            Self::PlannedMoveLost { term, said } => {
                write!(to, "term {term} was planned and says {said:?}")
            }
            Self::EmptiedWon { term, holder, emptied } => {
                write!(to, "{holder}, emptied at {}, took term {term}", At(*emptied))
            }
            Self::TermsContradict { term, how } => write!(to, "term {term}: {how}"),
            Self::TwoNamed(at) => {
                write!(to, "{} named {} at {}", at.output, at.said.join(" and "), At(at.asked))
            }
            Self::NotServing { sighting, at, why } => {
                let (output, said) = (&sighting.output, sighting.said.join(", "));
                write!(to, "{output} named {said} at {}: {why}", At(*at))
            }
            Self::WentBack { sighting, from } => write!(
                to,
                "{} went back from term {from} to {:?} ({}) at {}",
                sighting.output,
                sighting.term,
                sighting.said.join(", "),
                At(sighting.asked)
            ),
            Self::NeverLookedAt(output) => write!(to, "{output} was never looked at"),
            Self::SilentStandstill { from, until } => {
                let (from, until) = (At(*from), At(*until));
                write!(to, "from {from} to {until} nothing moved and nothing was said")
            }
            Self::NeedlessMove { term, began } => {
                write!(to, "term {term} began at {} without a reason", At(*began))
            }
            Self::HookTwice(HookStart { term, phase, host }) => {
                write!(to, "{phase} of term {term} was started again, on {host}")
            }
            Self::TooManyHistories { known, bound } => {
                write!(to, "the master's record knows {known} histories, {bound} at most")
            }
            Self::NotConverged { healed, took, missing } => {
                write!(to, "healed at {}, took {took:?} us: {missing}", At(*healed))
            }
            Self::NothingRecorded(what) => write!(to, "there is no record of {what}"),
        }
    }
}
