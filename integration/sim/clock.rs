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
    /// Its guest stands still since then, and its clocks with it.
    paused: Option<Micros>,
    /// True time that earlier pauses took from it.
    lost: Micros,
}

impl HostClock {
    /// Draws a host's clocks; `drift` up to so many parts per million.
    pub(crate) fn draw(random: &mut Random, drift: u64) -> Self {
        Self {
            base: random.between(10_000_000, 90_000_000_000),
            ppm: signed(random.between(0, 2 * drift)) - signed(drift),
            wall: signed(random.between(0, 400)) - 200,
            paused: None,
            lost: 0,
        }
    }

    /// What the boot clock shows at a true time.
    pub(crate) fn local(&self, at: Micros) -> Time {
        Time(self.base + self.scaled(self.seen(at)))
    }

    /// Both clocks at a true time.
    pub(crate) fn now(&self, at: Micros) -> Now {
        let wall = WALL_BASE + signed(self.seen(at) / 1000) + self.wall;
        Now { time: self.local(at), wall: Wall(wall) }
    }

    /// The first true time at which the boot clock shows at least `local`, if its guest does not
    /// stand still until then.
    pub(crate) fn truth(&self, local: Time) -> Micros {
        let span = i128::from(local.0.saturating_sub(self.base)) * 1_000_000;
        let rate = i128::from(1_000_000 + self.ppm);
        let mut at = u64::try_from(span / rate).unwrap_or(0).saturating_sub(1);
        while Time(self.base + self.scaled(at)) < local {
            at += 1;
        }
        at + self.lost
    }

    /// The guest stands still; its clocks show no time until it goes on.
    pub(crate) fn pause(&mut self, at: Micros) {
        self.paused.get_or_insert(at);
    }

    /// The guest goes on, and its clocks where they stood.
    pub(crate) fn go_on(&mut self, at: Micros) {
        if let Some(since) = self.paused.take() {
            self.lost += at - since;
        }
    }

    /// Does the guest stand still?
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// True time as far as this guest saw it.
    fn seen(&self, at: Micros) -> Micros {
        self.paused.map_or(at, |since| since.min(at)) - self.lost
    }

    /// Sets the wall clock by so many milliseconds.
    pub(crate) fn jump(&mut self, by: i64) {
        self.wall += by;
    }

    /// By so many milliseconds the wall clock would have to be set to be right.
    pub(crate) fn off(&self, at: Micros) -> i64 {
        WALL_BASE + signed(at / 1000) - self.now(at).wall.0
    }

    fn scaled(&self, at: Micros) -> u64 {
        let scaled = signed(at) * (1_000_000 + self.ppm) / 1_000_000;
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

    #[test]
    fn a_paused_guest_sees_no_time() {
        let mut clock = HostClock::draw(&mut Random::stream(4, "clock"), 0);
        let before = clock.local(1000);
        clock.pause(1000);
        assert_eq!(clock.local(9000), before);
        clock.go_on(9000);
        assert_eq!(clock.local(9000), before);
        assert_eq!(clock.truth(before + std::time::Duration::from_micros(500)), 9500);
    }
}
