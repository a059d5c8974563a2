//! The checker: decides from what clients, readers and servers recorded whether a service kept
//! its promises while faults hit it. It forgives nothing: a fault is no excuse.
//!
//! Pure: it reads a [`History`], asks nobody and has no clock. `story` judges the outputs of one
//! agent against that agent's own story, which is sharper where a single agent knows everything.
//! Its tests feed it forged histories, at least one for each verdict and each side of a bound.

#[cfg(test)]
mod forged;
mod history;
mod loss;
mod names;
mod progress;
pub mod story;
mod verdict;
mod writes;

use std::fmt;

pub use history::{
    Bounds, Commit, CutOff, Fault, History, HookStart, Life, Loss, Micros, Refusal, Rest, Sighting,
    Term, Write, WriteId,
};
pub use verdict::Verdict;

/// What a history comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which service.
    pub service: String,
    /// Everything that is wrong; empty for a clean one.
    pub verdicts: Vec<Verdict>,
    /// How many writes were acknowledged.
    pub writes: usize,
    /// How many of them are gone.
    pub gone: usize,
    /// How many moves there were.
    pub moves: usize,
    /// How many answers of outputs were looked at.
    pub looks: u64,
    /// The longest time without an acknowledgement.
    pub worst_gap: Micros,
    /// The longest time for which an output named one that did not serve any more.
    pub worst_staleness: Micros,
}

/// Judges a history by every rule.
#[must_use]
pub fn judge(history: &History) -> Report {
    let mut verdicts = Vec::new();
    if history.writes.is_empty() {
        verdicts.push(Verdict::NothingRecorded("an acknowledged write".into()));
    }
    if history.terms.is_empty() {
        verdicts.push(Verdict::NothingRecorded("a term".into()));
    }
    writes::judge(history, &mut verdicts);
    loss::judge(history, &mut verdicts);
    loss::emptied(history, &mut verdicts);
    let worst_staleness = names::judge(history, &mut verdicts);
    progress::judge(history, &mut verdicts);
    let gaps = writes::gaps(history).into_iter().map(|(from, until)| until - from);
    Report {
        service: history.service.clone(),
        verdicts,
        writes: history.writes.len(),
        gone: history.writes.iter().filter(|write| !history.kept.contains(&write.id)).count(),
        moves: history.terms.len().saturating_sub(1),
        looks: history.sightings.iter().map(|sighting| sighting.looks).sum(),
        worst_gap: gaps.max().unwrap_or_default(),
        worst_staleness,
    }
}

/// At most so many verdicts are told.
const TOLD: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{}: {} writes acknowledged, {} gone; {} moves; worst write gap {} ms; {} answers, \
             worst staleness {} ms; {} verdicts",
            self.service,
            self.writes,
            self.gone,
            self.moves,
            self.worst_gap / 1000,
            self.looks,
            self.worst_staleness / 1000,
            self.verdicts.len()
        )?;
        for verdict in self.verdicts.iter().take(TOLD) {
            write!(to, "\n  {verdict}")?;
        }
        Ok(())
    }
}
