//! One host's clocks: its own origin, a rate up to one percent off, a wall clock a little wrong.
//!
//! Agents are only ever given what their host's clock says; true time is the simulator's own.

use sengu_core::time::{Now, Time, Wall};

use super::random::Random;
use super::schedule::Micros;

/// 2026-01-01 00:00 UTC in milliseconds: where the wall clocks begin.
const WALL_BASE: i64 = 1_767_225_600_000;

/// One host's clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostClock {
    /// What CLOCK_BOOTTIME showed when the world began.
    base: u64,
    /// Parts per million that it runs fast (or slow, below zero).
    pub(crate) ppm: i64,
    /// How far the wall clock is off, in milliseconds.
    wall: i64,
}

impl HostClock {
    /// Draws a host's clocks; `drift` up to so many parts per million.
    pub(crate) fn draw(random: &mut Random, drift: u64) -> Self {
        Self {
            base: random.between(10_000_000, 90_000_000_000),
            ppm: signed(random.between(0, 2 * drift)) - signed(drift),
            wall: signed(random.between(0, 400)) - 200,
        }
    }

    /// What the boot clock shows at a true time.
    pub(crate) fn local(&self, at: Micros) -> Time {
        Time(self.base + self.scaled(at))
    }

    /// Both clocks at a true time.
    pub(crate) fn now(&self, at: Micros) -> Now {
        let wall = WALL_BASE + signed(at / 1000) + self.wall;
        Now { time: self.local(at), wall: Wall(wall) }
    }

    /// The first true time at which the boot clock shows at least `local`.
    pub(crate) fn truth(&self, local: Time) -> Micros {
        let span = i128::from(local.0.saturating_sub(self.base)) * 1_000_000;
        let rate = i128::from(1_000_000 + self.ppm);
        let mut at = u64::try_from(span / rate).unwrap_or(0).saturating_sub(1);
        while self.local(at) < local {
            at += 1;
        }
        at
    }

    /// Sets the wall clock by so many milliseconds.
    pub(crate) fn jump(&mut self, by: i64) {
        self.wall += by;
    }

    fn scaled(&self, at: Micros) -> u64 {
        let scaled = i128::from(at) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        u64::try_from(scaled).unwrap_or(0)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_the_inverse_of_local() {
        let mut random = Random::stream(3, "clock");
        for _ in 0..200 {
            let clock = HostClock::draw(&mut random, 10_000);
            assert!(clock.ppm.abs() <= 10_000);
            let at = random.below(900_000_000);
            let back = clock.truth(clock.local(at));
            assert!(at.abs_diff(back) <= 2, "{clock:?}: {at} came back as {back}");
            assert!(clock.local(back) >= clock.local(at));
        }
    }
}
