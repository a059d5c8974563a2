//! One run of one plan: a calm beginning with an adoption, a storm of deeds, and then an end in
//! which the world must come to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use super::coverage::Coverage;
use super::deed::Wish;
use super::invariants::Violation;
use super::plan::Plan;
use super::schedule::SECOND;
use super::storm::BEGIN;
use super::world::{World, say};

/// How a run went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The first rule that broke, if one did.
    pub violation: Option<Violation>,
    /// How often each documented limit explained a breach.
    pub limits: BTreeMap<&'static str, u64>,
    /// A hash over all that happened.
    pub hash: u64,
    /// The story, if it was asked for.
    pub lines: Vec<String>,
    /// The terms that the services reached.
    pub terms: u64,
    /// What was seen.
    pub coverage: Coverage,
    /// Virtual time that went by.
    pub lasted: Duration,
}

/// Runs one seed. With `trace`, the outcome holds the story in lines; `limits` lets agents die or
/// stop beside their databases for longer than their leases, and guests stand still.
#[must_use]
pub fn run(seed: u64, trace: bool, limits: bool) -> Outcome {
    play(&Plan::draw(seed, limits), trace)
}

/// Plays a plan: the same plan, the same outcome.
#[must_use]
pub fn play(plan: &Plan, trace: bool) -> Outcome {
    let mut world = World::new(plan.options.clone(), trace);
    say!(world, "seed {}", plan.options.seed);
    world.play(plan);
    world.outcome()
}

/// Plays a plan while an invariant judges nothing.
#[cfg(feature = "sabotage")]
pub(crate) fn play_without(plan: &Plan, trace: bool, without: Option<&str>) -> Outcome {
    let mut world = World::new(plan.options.clone(), trace);
    world.judges.mute(without);
    world.play(plan);
    world.outcome()
}

impl World {
    fn play(&mut self, plan: &Plan) {
        self.run_until(3 * SECOND);
        self.adopt();
        self.run_until(BEGIN);
        say!(self, "the storm begins");
        self.calm = false;
        self.plan_deeds(&plan.deeds);
        self.run_until(BEGIN + self.options.storm);
        say!(self, "the storm is over");
        self.end();
        if self.now < self.options.life {
            self.run_until(self.options.life);
        }
    }

    /// A person puts every service under sengu.
    pub(crate) fn adopt(&mut self) {
        for service in 0..self.options.services {
            self.wish(service, &Wish::Adopt(None));
        }
    }

    /// What is left to say at the end.
    pub(crate) fn outcome(self) -> Outcome {
        let mut limits = BTreeMap::new();
        for (limit, _) in &self.judges.limits {
            *limits.entry(*limit).or_insert(0) += 1;
        }
        let terms = (0..self.options.services)
            .filter_map(|service| self.master(service))
            .map(|record| record.term.0)
            .sum();
        Outcome {
            violation: self.judges.violation,
            limits,
            hash: self.trace.hash(),
            lines: self.trace.lines,
            terms,
            coverage: self.coverage,
            lasted: Duration::from_micros(self.now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_seeds_hold() {
        let halves = [0..100, 100..200].map(|seeds: std::ops::Range<u64>| {
            std::thread::spawn(move || {
                seeds.map(|seed| (seed, run(seed, false, false))).collect::<Vec<_>>()
            })
        });
        let mut terms = 0;
        for half in halves {
            for (seed, outcome) in half.join().expect("no run panics") {
                assert_eq!(outcome.violation, None, "reproduce with: cargo sim -- {seed}");
                terms += outcome.terms;
            }
        }
        assert!(terms > 400, "mastership hardly moved: {terms} terms in 200 worlds");
    }

    #[test]
    fn the_same_seed_tells_the_same_story() {
        for seed in [1, 2, 3] {
            let first = run(seed, true, false);
            let again = run(seed, true, false);
            assert_eq!(first.hash, again.hash, "seed {seed}");
            assert_eq!(first.lines, again.lines, "seed {seed}");
            assert!(first.lines.len() > 20, "the story of seed {seed} is empty");
        }
    }
}
