//! When to try again what failed although nothing changed: after 1 s, then twice as long each
//! time, at most 60 s; never given up, since the cause may end at any time.

use std::time::Duration;

use sengu_core::time::Time;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);

/// Waits that grow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
    at: Option<Time>,
}

impl Backoff {
    /// It failed: tries again later.
    pub(crate) fn failed(&mut self, now: Time) {
        let wait = self.last.map_or(FIRST, |last| (last * 2).min(LAST));
        self.last = Some(wait);
        self.at = Some(now + wait);
    }

    /// It went well, or became something else.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// When to try again, if at all.
    pub(crate) fn at(&self) -> Option<Time> {
        self.at
    }

    /// Is it time? `true` once for each failure.
    pub(crate) fn due(&mut self, now: Time) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.failed(Time::ZERO);
            let at = backoff.at().expect("a time");
            assert!(!backoff.due(at - Duration::from_micros(1)));
            assert!(backoff.due(at));
            assert!(!backoff.due(at), "once");
            waits.push(at.since(Time::ZERO).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.clear();
        backoff.failed(Time::ZERO);
        assert_eq!(backoff.at(), Some(Time::ZERO + FIRST));
    }
}
