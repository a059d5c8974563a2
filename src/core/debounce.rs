//! Waits for quiet: one answer to many changes.
//!
//! A change is due once nothing changed for `min`, and at the latest `max` after the first change
//! that is still open, so that a stream of changes cannot hold the answer back for ever. What is
//! urgent does not wait. The machine reads no clock and starts no timer: the caller asks
//! [`Debounce::next`] how long it may sleep and [`Debounce::due`] whether it is time. It never
//! answers twice to the same change.

use std::time::Duration;

use crate::time::Time;

/// Quiescence with a shortest and a longest wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debounce {
    min: Duration,
    max: Duration,
    open: Option<Open>,
}

/// Changes that nobody answered to yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    first: Time,
    last: Time,
    urgent: bool,
}

impl Debounce {
    /// Waits for `min` of quiet, and never longer than `max`; a `max` below `min` counts as `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), open: None }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Time) {
        let open = self.open.get_or_insert(Open { first: now, last: now, urgent: false });
        open.last = open.last.max(now);
    }

    /// Something changed that does not wait.
    pub fn urgent(&mut self, now: Time) {
        self.changed(now);
        if let Some(open) = &mut self.open {
            open.urgent = true;
        }
    }

    /// Is it time to answer? `true` once for all changes so far; then the wait starts anew.
    pub fn due(&mut self, now: Time) -> bool {
        let due = self.next().is_some_and(|at| at <= now);
        if due {
            self.open = None;
        }
        due
    }

    /// When it will be time, if nothing else changes; `None`: nothing is open.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.open.map(|open| {
            if open.urgent { open.first } else { (open.last + self.min).min(open.first + self.max) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(ms * 1000)
    }

    fn debounce() -> Debounce {
        Debounce::new(Duration::from_millis(100), Duration::from_millis(1000))
    }

    #[test]
    fn quiet_is_waited_for() {
        let mut debounce = debounce();
        assert_eq!(debounce.next(), None);
        assert!(!debounce.due(at(5)));
        debounce.changed(at(10));
        assert_eq!(debounce.next(), Some(at(110)));
        debounce.changed(at(90));
        assert_eq!(debounce.next(), Some(at(190)));
        assert!(!debounce.due(at(189)));
        assert!(debounce.due(at(190)));
        assert!(!debounce.due(at(500)), "one answer to all of them");
        assert_eq!(debounce.next(), None);
    }

    #[test]
    fn a_stream_of_changes_is_answered_each_max() {
        let mut debounce = debounce();
        let mut answers = Vec::new();
        for ms in (0..60_000).step_by(10) {
            debounce.changed(at(ms));
            if debounce.due(at(ms)) {
                answers.push(ms);
            }
        }
        // Each wait starts with the first change after the last answer.
        assert!((58..=60).contains(&answers.len()), "{} answers", answers.len());
        assert!(answers.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{answers:?}");
    }

    #[test]
    fn urgent_changes_do_not_wait() {
        let mut debounce = debounce();
        debounce.urgent(at(10));
        assert!(debounce.due(at(10)));
        debounce.changed(at(20));
        debounce.urgent(at(30));
        assert!(debounce.due(at(30)), "an open wait ends");
        debounce.changed(at(40));
        assert!(!debounce.due(at(40)), "what comes after waits again");
    }

    #[test]
    fn a_clock_that_repeats_and_bounds_that_cross_do_no_harm() {
        let mut debounce = Debounce::new(Duration::from_secs(2), Duration::from_secs(1));
        debounce.changed(at(100));
        debounce.changed(at(50));
        assert_eq!(debounce.next(), Some(at(2100)));
        let mut none = Debounce::new(Duration::ZERO, Duration::ZERO);
        none.changed(at(7));
        assert!(none.due(at(7)));
    }
}
