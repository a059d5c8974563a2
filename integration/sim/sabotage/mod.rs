//! The proof that the invariants see: each safety rule is broken on purpose in the core, in
//! several ways, and each way must be caught within a stated number of seeds, by an invariant
//! that the table names.
//!
//! Only with the feature `sabotage`. The table is data; `docs/proof.md` shows it as it is printed
//! here, and `integration/run` runs it. An invariant can be switched off, to see which sabotage
//! then goes unseen: an invariant without which everything is still caught proves nothing.

mod scene;
mod table;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use sengu_core::sabotage::during;

use super::invariants::Violation;
use super::run::play_without;
use super::shrink::{Shrunk, shrink};

pub use scene::Worlds;
pub use table::{Entry, INVARIANTS, TABLE, markdown};

/// How a sabotage was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catch {
    /// By the invariant of this name.
    pub by: String,
    /// With this seed.
    pub seed: u64,
    /// What broke.
    pub text: String,
}

impl Entry {
    /// The sabotage's name, as the core has it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:?}", self.sabotage)
    }

    /// Runs one seed with this rule broken.
    #[must_use]
    pub fn run(&self, seed: u64, without: Option<&str>) -> Option<Catch> {
        let plan = self.world.plan(seed);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            during(self.sabotage, || play_without(&plan, false, without))
        }));
        match ran {
            Ok(outcome) => outcome.violation.map(|Violation { slug, text, .. }| Catch {
                by: slug.to_owned(),
                seed,
                text,
            }),
            Err(_) => Some(Catch { by: "panic".to_owned(), seed, text: String::new() }),
        }
    }

    /// What is left of the seed that caught it when everything is gone that the catch does not
    /// need; at most so many runs.
    #[must_use]
    pub fn shrink(&self, caught: &Catch, most: u64) -> Option<Shrunk> {
        shrink(&self.world.plan(caught.seed), most, |plan| {
            let outcome = during(self.sabotage, || play_without(plan, false, None));
            outcome.violation.is_some_and(|violation| violation.slug == caught.by)
        })
    }

    /// The story of one seed with this rule broken.
    #[must_use]
    pub fn tell(&self, seed: u64) -> Vec<String> {
        let plan = self.world.plan(seed);
        let mut lines: Vec<String> = plan.to_string().lines().map(str::to_owned).collect();
        lines.extend(during(self.sabotage, || play_without(&plan, true, None)).lines);
        lines
    }

    /// Does the scene of this entry hold while no rule is broken?
    #[must_use]
    pub fn holds(&self, seed: u64) -> Option<Catch> {
        let outcome = play_without(&self.world.plan(seed), false, None);
        outcome.violation.map(|Violation { slug, text, .. }| Catch {
            by: slug.to_owned(),
            seed,
            text,
        })
    }

    /// Runs seeds in order, on so many threads, until one catches it; `without` an invariant, all
    /// others judge.
    #[must_use]
    pub fn search(
        &self,
        seeds: Range<u64>,
        without: Option<&str>,
        threads: usize,
    ) -> Option<Catch> {
        let next = AtomicU64::new(seeds.start);
        let found = AtomicU64::new(u64::MAX);
        let mut catches: Vec<Catch> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        loop {
                            let seed = next.fetch_add(1, Ordering::Relaxed);
                            if seed >= seeds.end || seed > found.load(Ordering::Relaxed) {
                                return None;
                            }
                            if let Some(caught) = self.run(seed, without) {
                                found.fetch_min(seed, Ordering::Relaxed);
                                return Some(caught);
                            }
                        }
                    })
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).collect()
        });
        catches.sort_by_key(|caught| caught.seed);
        catches.into_iter().next()
    }
}
