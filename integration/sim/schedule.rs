//! What is still to happen, in order of time and, at one time, of being planned.
//!
//! Virtual time is microseconds since the world began. The order never depends on anything but
//! the two numbers, so that the same seed gives the same story. Events lie still in a slab; only
//! small keys move in the heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds of virtual time.
pub(crate) type Micros = u64;

/// One millisecond.
pub(crate) const MILLI: Micros = 1000;
/// One second.
pub(crate) const SECOND: Micros = 1_000_000;

/// The events still to come.
#[derive(Debug)]
pub(crate) struct Schedule<E> {
    heap: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    sequence: u64,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<E> Schedule<E> {
    /// Plans an event.
    pub(crate) fn plan(&mut self, at: Micros, event: E) {
        self.sequence += 1;
        let place = if let Some(place) = self.free.pop() {
            self.events[place] = Some(event);
            place
        } else {
            self.events.push(Some(event));
            self.events.len() - 1
        };
        self.heap.push(Reverse((at, self.sequence, place)));
    }

    /// Takes the next event, if it comes no later than `until`.
    pub(crate) fn next(&mut self, until: Micros) -> Option<(Micros, E)> {
        if self.heap.peek()?.0.0 > until {
            return None;
        }
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at, event))
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
