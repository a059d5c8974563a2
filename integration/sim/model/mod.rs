//! The exhaustive model: one service, two hosts, one store, and the very step function that runs
//! in production; every order of what is under way, up to a depth.
//!
//! Depth-first with a clone of the state for each choice. A state that was seen before with as
//! much depth left is not gone into again; states are told apart by a hash over all that later
//! decisions hang on (64 bits: at ten million states one pair in a hundred thousand such searches
//! collides). Faults are choices within a budget. What the model leaves out: clocks that differ,
//! hooks, processes that are stopped, a third host, one host alone; the seeds have those.

mod agent;
mod database;
mod judge;
mod setting;
mod world;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sengu_core::record::{Ask, MasterState};

use world::{Budget, Choice, World};

/// How deep, and how much may go wrong on one way.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// So many choices in a row.
    pub depth: u8,
    /// So many faults among them.
    pub faults: u8,
    /// So many writes of a client.
    pub writes: u8,
    /// Stop after so long.
    pub limit: Option<Duration>,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Different states.
    pub states: u64,
    /// Choices that were carried out.
    pub steps: u64,
    /// The newest term that any way reached.
    pub terms: u64,
    /// The whole depth was searched.
    pub complete: bool,
    /// The first rule that broke, and the way there.
    pub violation: Option<(String, Vec<String>)>,
}

struct Search {
    bounds: Bounds,
    ends: Option<Instant>,
    /// The most depth that was left when each state was gone into.
    seen: Vec<Mutex<HashMap<u64, u8>>>,
    steps: AtomicU64,
    terms: AtomicU64,
    late: AtomicBool,
    found: Mutex<Option<(String, Vec<String>)>>,
}

/// Parts of the table of seen states, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// Searches all orders; `threads` share the work. `prepare` runs on each thread before.
#[must_use]
pub fn search(bounds: Bounds, threads: usize, prepare: impl Fn(&mut dyn FnMut()) + Sync) -> Report {
    let search = Search {
        bounds,
        ends: bounds.limit.map(|limit| Instant::now() + limit),
        seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        steps: AtomicU64::new(0),
        terms: AtomicU64::new(0),
        late: AtomicBool::new(false),
        found: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (search, prepare) = (&search, &prepare);
            scope.spawn(move || {
                prepare(&mut || {
                    let mut way = Vec::new();
                    search.go(&search.start(), bounds.depth, &mut way, thread);
                });
            });
        }
    });
    let states = search.seen.iter().map(|shard| lock(shard).len() as u64).sum();
    let late = search.late.into_inner();
    let violation = search.found.into_inner().unwrap_or_else(|held| held.into_inner());
    Report {
        states,
        steps: search.steps.into_inner(),
        terms: search.terms.into_inner(),
        complete: !late && violation.is_none(),
        violation,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Search {
    /// The service is adopted and everything has come to rest; from here on all orders count.
    fn start(&self) -> World {
        let mut world = World::new();
        let mut asked = false;
        for _ in 0..400 {
            let mut choices = Vec::new();
            world.calm(&mut choices);
            let rests = choices == [Choice::Time];
            let serves = world.record().is_some_and(|record| record.state == MasterState::Serving);
            if rests && serves && asked && world.settled() {
                break;
            }
            if rests && !asked && world.watched() {
                world.request(Ask::Adopt { master: None });
                asked = true;
                continue;
            }
            world.happen(choices[0]);
        }
        let record = world.record().expect("the calm prefix adopts the service");
        assert_eq!(record.state, MasterState::Serving, "the calm prefix ends in rest");
        let Bounds { faults, writes, .. } = self.bounds;
        world.budget = Budget {
            faults,
            exits: faults.min(1),
            crashes: faults.min(1),
            cuts: faults.min(1),
            lost: faults.min(2),
            asked: faults.min(1),
            writes,
        };
        world
    }

    /// Goes into a state, unless it was gone into before as deep.
    fn go(&self, world: &World, depth: u8, way: &mut Vec<Choice>, thread: usize) {
        if let Some(broken) = &world.judge.broken {
            let mut found = lock(&self.found);
            if found.is_none() {
                *found = Some((broken.clone(), self.tell(way)));
            }
            self.late.store(true, Ordering::Relaxed);
            return;
        }
        let digest = world.digest();
        {
            let shard = usize::try_from(digest).unwrap_or(0) % SHARDS;
            let mut seen = lock(&self.seen[shard]);
            let left = seen.entry(digest).or_insert(0);
            if *left > depth {
                return;
            }
            // One more than is left, so that a state at the very end counts as seen.
            *left = depth + 1;
        }
        if let Some(record) = world.record() {
            self.terms.fetch_max(record.term.0, Ordering::Relaxed);
        }
        if depth == 0 || self.late.load(Ordering::Relaxed) {
            return;
        }
        let steps = self.steps.fetch_add(1, Ordering::Relaxed);
        if steps.is_multiple_of(1024) && self.ends.is_some_and(|ends| Instant::now() >= ends) {
            self.late.store(true, Ordering::Relaxed);
        }
        let mut choices = world.choices();
        // Each thread begins elsewhere; what one has gone into, the others pass by.
        if thread > 0 {
            choices.reverse();
        }
        for choice in choices {
            let mut next = world.clone();
            next.happen(choice);
            way.push(choice);
            self.go(&next, depth - 1, way, thread);
            way.pop();
        }
    }

    /// The way to a state, in words.
    fn tell(&self, way: &[Choice]) -> Vec<String> {
        let mut world = self.start();
        let mut lines = vec![world.line("start")];
        for choice in way {
            world.happen(*choice);
            lines.push(world.line(&format!("{choice:?}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use sengu_core::event::{Action, Event};
    use sengu_core::machine::Machine;
    use sengu_core::time::{Now, Time};

    use super::*;

    #[test]
    fn an_agent_without_a_store_asks_for_no_wake_in_the_past() {
        let mut machine = Machine::new();
        let now = |second: u64| Now { time: Time(second * 1_000_000), ..Now::default() };
        let config = setting::config(0, 1, BTreeSet::new());
        machine.step(now(100), Event::Configured(Arc::new(config)));
        for second in 101..120 {
            for action in machine.step(now(second), Event::Tick) {
                if let Action::Wake(at) = action {
                    assert!(at > now(second).time, "a wake in the past is a tick at once");
                }
            }
        }
    }

    #[test]
    fn every_order_of_a_few_steps_holds() {
        let bounds = Bounds { depth: 7, faults: 2, writes: 1, limit: None };
        let report = search(bounds, 2, |run| run());
        assert_eq!(report.violation, None);
        assert!(report.complete && report.states > 1000, "{report:?}");
    }
}
