//! The only place that reads a clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sengu_core::time::{Now, Time, Wall};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    Now { time: time(), wall: wall() }
}

/// CLOCK_BOOTTIME.
#[must_use]
pub fn time() -> Time {
    Time(micros(ClockId::Boottime))
}

/// The wall clock.
#[must_use]
pub fn wall() -> Wall {
    Wall(i64::try_from(micros(ClockId::Realtime) / 1000).unwrap_or(i64::MAX))
}

/// Waits until `at` on this host's clock; returns at once if it has passed.
pub async fn sleep_until(at: Time) {
    let wait = at.since(time());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

fn micros(clock: ClockId) -> u64 {
    let at = clock_gettime(clock);
    let whole = Duration::new(
        u64::try_from(at.tv_sec).unwrap_or(0),
        u32::try_from(at.tv_nsec).unwrap_or(0),
    );
    u64::try_from(whole.as_micros()).unwrap_or(u64::MAX)
}
