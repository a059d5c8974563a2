//! A crash of an agent before or after one chosen action, and the search over all of them.

use super::schedule::{MILLI, Micros};

/// On which side of an action the agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It was decided and never carried out.
    Before,
    /// It was carried out and its end never heard of.
    After,
}

/// Counts actions, and says when it is time to die.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrashPoint {
    /// Are actions counted now?
    pub(crate) counting: bool,
    /// How many were counted.
    pub(crate) count: u64,
    /// The one to die at.
    pub(crate) at: Option<(u64, Side)>,
    /// How long the agent is away.
    pub(crate) away: Micros,
}

impl Default for CrashPoint {
    fn default() -> Self {
        Self { counting: false, count: 0, at: None, away: 150 * MILLI }
    }
}

impl CrashPoint {
    /// Counts an action; is it the one?
    pub(crate) fn next(&mut self) -> Option<Side> {
        if !self.counting {
            return None;
        }
        let number = self.count;
        self.count += 1;
        self.at.filter(|(at, _)| *at == number).map(|(_, side)| side)
    }
}
