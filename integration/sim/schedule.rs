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
    /// Keys: see [`key`].
    heap: BinaryHeap<Reverse<u128>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    sequence: u64,
}

/// The bits of a place in the slab.
const PLACES: u128 = (1 << 32) - 1;

/// Time, order of planning and place in one number, which compares without a branch: 48 bits of
/// microseconds are nine years (what comes later never comes), and 2^48 events are more than a life
/// has.
fn key(at: Micros, sequence: u64, place: usize) -> u128 {
    debug_assert!(sequence < 1 << 48 && (place as u128) <= PLACES, "out of range");
    u128::from(at.min((1 << 48) - 1)) << 80 | u128::from(sequence) << 32 | place as u128
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
        self.heap.push(Reverse(key(at, self.sequence, place)));
    }

    /// Takes the next event, if it comes no later than `until`.
    pub(crate) fn next(&mut self, until: Micros) -> Option<(Micros, E)> {
        if self.heap.peek()?.0 >> 80 > u128::from(until) {
            return None;
        }
        let Reverse(key) = self.heap.pop()?;
        let (at, place) = ((key >> 80) as Micros, (key & PLACES) as usize);
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
