//! Stories without chance: a failover, a switchover, told once to count the actions, and then
//! once for each action and each side of it, with the agent that acts dying there.
//!
//! After each death its agent comes back soon; every rule must hold and the world must come to
//! rest, whatever was half done.

use super::crash::Side;
use super::deed::{Back, Data, Deed, Wish};
use super::fact::Id;
use super::invariants::Violation;
use super::options::Options;
use super::schedule::SECOND;
use super::world::{World, say};

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// The master's process is killed.
    Failover,
    /// A person asks for a switchover.
    Switchover,
}

/// How all the crashes of one story went.
#[derive(Debug)]
pub struct Crashes {
    /// How many actions the story has.
    pub actions: u64,
    /// What broke, at which action and on which side.
    pub violations: Vec<(u64, &'static str, Violation)>,
}

/// Tells a story with a crash before and after each of its actions; `alone`: with one judge.
#[must_use]
pub fn crash_everywhere(story: Story, alone: bool) -> Crashes {
    let whole = tell(story, alone, None, false);
    let actions = whole.crash.count;
    let mut violations = Vec::new();
    if let Some(violation) = whole.judges.violation {
        violations.push((0, "without a crash", violation));
    }
    for action in 0..actions {
        for (side, word) in [(Side::Before, "before"), (Side::After, "after")] {
            let world = tell(story, alone, Some((action, side)), false);
            if let Some(violation) = world.judges.violation {
                violations.push((action, word, violation));
            }
        }
    }
    Crashes { actions, violations }
}

/// The lines of one such story; `action` counts from 0.
#[must_use]
pub fn tell_lines(story: Story, alone: bool, crash: Option<(u64, bool)>) -> Vec<String> {
    let crash = crash.map(|(at, after)| (at, if after { Side::After } else { Side::Before }));
    tell(story, alone, crash, true).trace.lines
}

fn tell(story: Story, alone: bool, crash: Option<(u64, Side)>, trace: bool) -> World {
    let mut world = World::new(Options::story(1, alone), trace);
    world.run_until(3 * SECOND);
    world.adopt();
    world.run_until(8 * SECOND);
    world.crash.counting = true;
    world.crash.at = crash;
    let master = world.master(0).and_then(|record| Id::named(0, &record.holder.instance));
    let db = world.databases.iter().position(|database| Some(database.id) == master);
    let Some(db) = db else {
        let text = "the service was not adopted".to_owned();
        let at = world.now;
        world.judges.violation = Some(Violation { slug: "converges", at, text });
        return world;
    };
    match story {
        Story::Failover => {
            let id = world.databases[db].id;
            world.strike(&Deed::Kill(id, Back::After(SECOND, Data::Kept)));
        }
        Story::Switchover => {
            world.strike(&Deed::Ask(0, Wish::Switchover(None)));
        }
    }
    say!(world, "the story begins");
    world.run_until(12 * SECOND);
    world.crash.counting = false;
    world.come_to_rest();
    if world.judges.violation.is_none() && crash.is_none() {
        let moved = world.master(0).and_then(|record| Id::named(0, &record.holder.instance));
        if moved == master {
            let text = "mastership did not move".to_owned();
            let at = world.now;
            world.judges.violation = Some(Violation { slug: "converges", at, text });
        }
    }
    world
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(story: Story, alone: bool) {
        let Crashes { actions, violations } = crash_everywhere(story, alone);
        assert!(actions > 10, "the story has only {actions} actions");
        if let Some((action, side, violation)) = violations.first() {
            let lines = tell_lines(story, alone, Some((*action, *side == "after")));
            let last = lines.len().saturating_sub(60);
            panic!(
                "{} of {} crashes broke a rule; the first {side} action {action}: {violation:?}\n{}",
                violations.len(),
                2 * actions,
                lines[last..].join("\n")
            );
        }
    }

    #[test]
    fn a_failover_survives_a_crash_at_every_action() {
        check(Story::Failover, false);
    }

    #[test]
    fn a_failover_with_one_judge_survives_a_crash_at_every_action() {
        check(Story::Failover, true);
    }

    #[test]
    fn a_switchover_survives_a_crash_at_every_action() {
        check(Story::Switchover, false);
    }

    #[test]
    fn a_switchover_with_one_judge_survives_a_crash_at_every_action() {
        check(Story::Switchover, true);
    }
}
