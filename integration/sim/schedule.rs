//! What is still to happen, in order of time and, at one time, of being planned.
//!
//! Virtual time is microseconds since the world began. The order never depends on anything but
//! the two numbers, so that the same seed gives the same story.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Microseconds of virtual time.
pub(crate) type Micros = u64;

/// One millisecond.
pub(crate) const MILLI: Micros = 1000;
/// One second.
pub(crate) const SECOND: Micros = 1_000_000;

#[derive(Debug)]
struct Planned<E> {
    at: Micros,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<E> Eq for Planned<E> {}
impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first; the earliest is the greatest here.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// The events still to come.
#[derive(Debug)]
pub(crate) struct Schedule<E> {
    heap: BinaryHeap<Planned<E>>,
    sequence: u64,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E> Schedule<E> {
    /// Plans an event.
    pub(crate) fn plan(&mut self, at: Micros, event: E) {
        self.sequence += 1;
        self.heap.push(Planned { at, sequence: self.sequence, event });
    }

    /// Takes the next event, if it comes no later than `until`.
    pub(crate) fn next(&mut self, until: Micros) -> Option<(Micros, E)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|planned| (planned.at, planned.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_planning() {
        let mut schedule = Schedule::default();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (1, "b"), (9, "late")] {
            schedule.plan(at, name);
        }
        let mut seen = Vec::new();
        while let Some((_, name)) = schedule.next(8) {
            seen.push(name);
        }
        assert_eq!(seen, ["a", "b", "c", "d"]);
    }
}
