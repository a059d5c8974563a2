//! Where an instance was, moment by moment: how long ago it had what another position lacks.

use std::collections::VecDeque;
use std::time::Duration;

use crate::position::Position;
use crate::time::Wall;

/// Moments that are kept.
const MOMENTS: usize = 32;

/// The newest moments of a position, in their order; at least [`Trail::space`] apart but for the
/// newest.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Trail {
    moments: VecDeque<(Wall, Position)>,
    spacing: Duration,
}

impl Trail {
    /// How far apart moments are kept: a sixteenth of the lag that is allowed, so that the whole
    /// spans twice that lag.
    pub(crate) fn space(&mut self, allowed: Duration) {
        self.spacing = allowed / 16;
    }

    /// Keeps the newest moment exactly. Of a position that stays it keeps the first moment and the
    /// last: who lacks it is behind since the first, however quiet it is since.
    pub(crate) fn note(&mut self, wall: Wall, position: &Position) {
        let spacing = i64::try_from(self.spacing.as_millis()).unwrap_or(i64::MAX);
        let len = self.moments.len();
        let crowded = len >= 2 && {
            let (last, before) = (&self.moments[len - 1], &self.moments[len - 2]);
            let stays = last.1 == *position && before.1 == *position;
            stays || last.0.0.saturating_sub(before.0.0) < spacing
        };
        if crowded {
            self.moments.pop_back();
        } else if len == MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back((wall, position.clone()));
    }

    /// Where it was last.
    pub(crate) fn last(&self) -> Option<&Position> {
        self.moments.back().map(|(_, position)| position)
    }

    /// The newest moment of which this position has everything.
    pub(crate) fn had_at(&self, position: &Position) -> Option<Wall> {
        self.moments.iter().rev().find(|(_, seen)| position.has(seen)).map(|(at, _)| *at)
    }

    /// For how long this position has lacked what stood here; zero: it has everything.
    pub(crate) fn ahead_of(&self, position: &Position, now: Wall) -> Duration {
        let lacked = self.moments.iter().rev().take_while(|(_, seen)| !position.has(seen));
        lacked.last().map_or(Duration::ZERO, |(since, _)| since.until(now))
    }
}
