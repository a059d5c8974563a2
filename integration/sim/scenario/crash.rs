//! Plays a scenario once for each action in it and each side of that, with the agent that acts
//! dying there and coming back soon.
//!
//! What the story itself asks for is not looked at: a death changes it. Every rule must hold, and
//! where the story comes to rest it must come to rest with the death as well. Actions count from
//! the first deed on, while something happens or did so lately: a quiet beat is like the next.

use super::super::crash::Side;
use super::super::invariants::Violation;
use super::super::schedule::SECOND;
use super::super::storm::BEGIN;
use super::super::story::Crashes;
use super::super::world::World;
use super::{Scenario, What};

/// A death in each place of the story.
#[must_use]
pub fn crash_scenario(scenario: &Scenario) -> Crashes {
    let whole = play(scenario, None, false);
    let actions = whole.crash.count;
    let mut violations: Vec<(u64, &'static str, Violation)> =
        whole.judges.violation.map(|broken| (0, "without a crash", broken)).into_iter().collect();
    for action in 0..actions {
        for (side, word) in [(Side::Before, "before"), (Side::After, "after")] {
            let world = play(scenario, Some((action, side)), false);
            violations.extend(world.judges.violation.map(|broken| (action, word, broken)));
        }
    }
    Crashes { actions, violations }
}

/// Every line of the story with one death; `after` the action of that number, or before it.
#[must_use]
pub fn tell_crash(scenario: &Scenario, action: u64, after: bool) -> Vec<String> {
    let side = if after { Side::After } else { Side::Before };
    play(scenario, Some((action, side)), true).trace.lines
}

fn play(scenario: &Scenario, crash: Option<(u64, Side)>, trace: bool) -> World {
    let mut world = World::new(scenario.options.clone(), trace);
    world.run_until(3 * SECOND);
    if scenario.adopted {
        world.adopt();
    }
    world.run_until(BEGIN);
    world.calm = false;
    world.crash.counting = true;
    world.crash.at = crash;
    let deeds: Vec<_> = scenario
        .lines
        .iter()
        .filter_map(|line| match &line.what {
            What::Deed(deed) => Some((BEGIN + line.at, deed.clone())),
            What::Now(_) | What::By(_) | What::Until(_) => None,
        })
        .collect();
    world.plan_deeds(&deeds);
    world.run_until(BEGIN + scenario.end);
    world.crash.counting = false;
    if scenario.rests && world.judges.violation.is_none() {
        world.mend_all();
        world.come_to_rest();
    }
    world
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_has_a_death_in_each_place() {
        let text = "# a failover\nat 1 s: r1 dies, comes back after 1 s\nend: 6 s\n";
        let scenario = Scenario::read(text).expect("a good story");
        let crashes = crash_scenario(&scenario);
        assert!(crashes.actions > 20, "{crashes:?}");
        assert!(crashes.violations.is_empty(), "{crashes:?}");
        let lines = tell_crash(&scenario, 5, true);
        assert!(lines.iter().any(|line| line.contains("the story's crash")), "nobody died");
    }
}
