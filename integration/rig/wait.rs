//! Bounded waits for events. There is no way here to sleep for a while and hope.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const STEP: Duration = Duration::from_millis(5);

/// Looks until there is something, for at most so long.
pub fn soon<T>(within: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    soon_every(STEP, within, look)
}

/// The same with so long between two looks, for those that cost something.
pub fn soon_every<T>(
    step: Duration,
    within: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(step);
    }
}

/// Looks until there is something.
///
/// # Panics
/// After so long, with what was waited for.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, look: impl FnMut() -> Option<T>) -> T {
    match soon(within, look) {
        Some(found) => found,
        None => panic!("waited {} s in vain until {what}", within.as_secs_f64()),
    }
}

/// Whether something holds at every look for so long: for things that must not happen.
pub fn holds(length: Duration, mut look: impl FnMut() -> bool) -> bool {
    soon(length, || (!look()).then_some(())).is_none()
}
