//! Draws the deeds of a seed, all of them before its world begins.
//!
//! Swarm testing: each run has a random subset of kinds with random weights, so that a run with
//! few kinds gets deeper into each than one with all of them. An agent that dies alone is back
//! within less than its lease less its fence budget; what goes beyond that is a documented limit,
//! and drawn only when limits are asked for.

use super::agent::micros;
use super::deed::{Back, Data, Deed, Orders, Wish};
use super::fact::Id;
use super::options::Options;
use super::random::Random;
use super::schedule::{MILLI, Micros, SECOND};

/// When the storm begins.
pub(crate) const BEGIN: Micros = 10 * SECOND;

/// A kind of deed, as it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Election,
    LoseMember,
    Manual,
    SlowStore,
    FullStore,
    Compaction,
    CutStore,
    LateWatch,
    LostWatch,
    CutHosts,
    Isolate,
    Kill,
    End,
    Stop,
    Freeze,
    Busy,
    Misobey,
    Unkillable,
    StopApplier,
    Obstruct,
    Edit,
    KillAgent,
    HangAgent,
    Upgrade,
    Double,
    Forget,
    PowerOff,
    JumpClock,
    Switchover,
    Failover,
    Pause,
    Drain,
    Hand,
    /// Limits.
    LoseAgent,
    StopAgent,
    PauseGuest,
    OpenByHand,
    Tool,
}

/// Kinds of worlds with several hosts, with how usual each is.
const SHARED: [(Kind, u64); 33] = [
    (Kind::Election, 8),
    (Kind::LoseMember, 3),
    (Kind::Manual, 1),
    (Kind::SlowStore, 2),
    (Kind::FullStore, 1),
    (Kind::Compaction, 1),
    (Kind::CutStore, 4),
    (Kind::LateWatch, 3),
    (Kind::LostWatch, 2),
    (Kind::CutHosts, 3),
    (Kind::Isolate, 3),
    (Kind::Kill, 4),
    (Kind::End, 2),
    (Kind::Stop, 3),
    (Kind::Freeze, 2),
    (Kind::Busy, 2),
    (Kind::Misobey, 2),
    (Kind::Unkillable, 1),
    (Kind::StopApplier, 2),
    (Kind::Obstruct, 1),
    (Kind::Edit, 1),
    (Kind::KillAgent, 4),
    (Kind::HangAgent, 3),
    (Kind::Upgrade, 1),
    (Kind::Double, 1),
    (Kind::Forget, 1),
    (Kind::PowerOff, 2),
    (Kind::JumpClock, 1),
    (Kind::Switchover, 4),
    (Kind::Failover, 2),
    (Kind::Pause, 1),
    (Kind::Drain, 1),
    (Kind::Hand, 1),
];

/// What only worlds with several hosts have.
const NOT_ALONE: [Kind; 13] = [
    Kind::Manual,
    Kind::Election,
    Kind::LoseMember,
    Kind::CutStore,
    Kind::LateWatch,
    Kind::LostWatch,
    Kind::Compaction,
    Kind::CutHosts,
    Kind::Isolate,
    Kind::Upgrade,
    Kind::Double,
    Kind::PowerOff,
    Kind::JumpClock,
];

const LIMITS: [(Kind, u64); 5] = [
    (Kind::LoseAgent, 4),
    (Kind::StopAgent, 4),
    (Kind::PauseGuest, 3),
    (Kind::OpenByHand, 2),
    (Kind::Tool, 2),
];

/// All deeds of a seed's world, by time.
pub(crate) fn draw(options: &Options, limits: bool) -> Vec<(Micros, Deed)> {
    let random = &mut Random::stream(options.seed, "deeds");
    let kinds = draw_kinds(random, options, limits);
    let gap = random.pick(&[
        (SECOND / 20, SECOND),
        (SECOND / 5, 3 * SECOND),
        (SECOND, 8 * SECOND),
        (2 * SECOND, 15 * SECOND),
    ]);
    let lull = random.pick(&[(4, 15), (10, 40), (20, 60)]);
    let mut deeds = Vec::new();
    let mut burst = 0;
    let mut at = BEGIN;
    let total: u64 = kinds.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return deeds;
    }
    loop {
        if burst == 0 {
            // Bursts, and lulls in which the world recovers, or not.
            burst = random.between(1, 6);
            at += random.between(lull.0, lull.1) * SECOND;
        }
        burst -= 1;
        at += random.between(gap.0, gap.1);
        if at >= BEGIN + options.storm {
            return deeds;
        }
        let mut pick = random.below(total);
        let kind = kinds.iter().find(|(_, weight)| {
            let found = pick < *weight;
            pick = pick.saturating_sub(*weight);
            found
        });
        let Some((kind, _)) = kind else { continue };
        deeds.push((at, deed(*kind, random, options)));
    }
}

/// A subset with weights: from nothing at all to nearly everything.
fn draw_kinds(random: &mut Random, options: &Options, limits: bool) -> Vec<(Kind, u64)> {
    let share = random.pick(&[0, 60, 100, 250, 250, 500, 900]);
    let mut kinds: Vec<(Kind, u64)> = Vec::new();
    for (kind, usual) in SHARED {
        let taken = random.permille(share);
        let weight = usual * random.pick(&[1, 1, 2, 6]);
        let there = (options.members > 0 || kind != Kind::LoseMember)
            && !(options.alone() && NOT_ALONE.contains(&kind));
        if taken && there {
            kinds.push((kind, weight));
        }
    }
    if limits {
        kinds.extend(LIMITS.into_iter().filter(|_| random.permille(600)));
    }
    kinds
}

fn deed(kind: Kind, random: &mut Random, options: &Options) -> Deed {
    let hosts = options.hosts + options.watchers;
    let host = random.index(hosts);
    let other = random.index(options.hosts);
    let id =
        Id { service: random.index(options.services), number: random.index(options.instances) };
    let span = round(random.skewed(100 * MILLI, 25 * SECOND));
    let lease = micros(options.judge_of(host).lease());
    let fence = micros(options.fence());
    match kind {
        Kind::Election => Deed::Election(round(random.between(SECOND, 3 * SECOND))),
        Kind::LoseMember => Deed::LoseMember(host % 3, span),
        Kind::Manual => Deed::Manual(other, span),
        Kind::SlowStore => Deed::SlowStore(span),
        Kind::FullStore => Deed::FullStore(span),
        Kind::Compaction => Deed::Compaction,
        Kind::CutStore => Deed::CutStore(host, span),
        Kind::LateWatch => {
            let late = round(random.between(50 * MILLI, 3 * SECOND));
            Deed::LateWatch(host, late, span)
        }
        Kind::LostWatch => Deed::LostWatch(host),
        Kind::CutHosts if host == other => Deed::CutHosts(host, (host + 1) % hosts, span),
        Kind::CutHosts => Deed::CutHosts(host, other, span),
        Kind::Isolate => Deed::Isolate(host, span),
        Kind::Upgrade => Deed::Upgrade(host),
        Kind::Double => Deed::Double(other, round(random.between(SECOND, 10 * SECOND))),
        Kind::PowerOff => Deed::PowerOff(host, round(random.between(SECOND, 30 * SECOND))),
        Kind::JumpClock => Deed::JumpClock(host, random.pick(&[-3000, -500, 500, 3000])),
        Kind::KillAgent => {
            Deed::KillAgent(host, round(random.between(10 * MILLI, (lease - fence) / 2)))
        }
        Kind::LoseAgent => Deed::KillAgent(host, round(random.between(lease, 5 * lease))),
        Kind::HangAgent => Deed::HangAgent(host, round(random.between(100 * MILLI, 3 * lease))),
        Kind::StopAgent => Deed::StopAgent(host, round(random.between(100 * MILLI, 3 * lease))),
        Kind::PauseGuest => Deed::PauseGuest(host, round(random.between(100 * MILLI, 4 * lease))),
        _ => at_database(kind, random, options, id, span),
    }
}

fn at_database(kind: Kind, random: &mut Random, options: &Options, id: Id, span: Micros) -> Deed {
    let second = Id { number: random.index(options.instances), ..id };
    let named = random.permille(500);
    match kind {
        Kind::End => Deed::End(id, round(random.skewed(MILLI, 3 * SECOND)), back(random)),
        Kind::Stop => Deed::Stop(id, round(random.between(100 * MILLI, 15 * SECOND))),
        Kind::Freeze => Deed::Freeze(id, round(random.between(100 * MILLI, 15 * SECOND))),
        Kind::Busy => Deed::Busy(id, span),
        Kind::Misobey => {
            let orders = [Orders::Refuses, Orders::Loses, Orders::Halves, Orders::Ignores];
            let orders = random.pick(&orders);
            Deed::Misobey(id, orders, round(random.between(SECOND, 10 * SECOND)))
        }
        Kind::Unkillable => Deed::Unkillable(id, span),
        Kind::StopApplier => Deed::StopApplier(id, span),
        Kind::Obstruct => Deed::Obstruct(id, span),
        Kind::Tool => Deed::Tool(id),
        Kind::Edit => Deed::Edit(id, random.permille(500)),
        Kind::Forget => Deed::Forget(id, round(random.between(SECOND, 10 * SECOND))),
        Kind::Switchover => Deed::Ask(id.service, Wish::Switchover(named.then_some(id))),
        Kind::Failover => Deed::Ask(id.service, Wish::Failover(named.then_some(id), false)),
        Kind::Pause => {
            let keep = round(random.between(2 * SECOND, 10 * SECOND));
            Deed::Ask(id.service, Wish::Pause(keep))
        }
        Kind::Drain => {
            let keep = round(random.between(2 * SECOND, 10 * SECOND));
            Deed::Ask(id.service, Wish::Drain(id, keep))
        }
        Kind::Hand => Deed::Point(id, second),
        Kind::OpenByHand => Deed::Open(id),
        _ => Deed::Kill(id, back(random)),
    }
}

/// How a process comes back: soon, late or never; with its data, or less.
pub(crate) fn back(random: &mut Random) -> Back {
    let wait = match random.below(10) {
        0..5 => random.between(50 * MILLI, 500 * MILLI),
        5..9 => random.between(500 * MILLI, 5 * SECOND),
        _ => return Back::After(60 * SECOND, Data::Kept),
    };
    let data = match random.below(10) {
        0 => Data::Emptied,
        1 => Data::Without(1 + random.index(30)),
        _ => Data::Kept,
    };
    Back::After(round(wait), data)
}

/// What scenarios can say: whole milliseconds, and tenths of seconds.
pub(crate) fn round(span: Micros) -> Micros {
    if span >= SECOND { span / (100 * MILLI) * 100 * MILLI } else { span.div_ceil(MILLI) * MILLI }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::words;
    use super::*;

    #[test]
    fn all_kinds_come_up_and_can_be_said() {
        let mut kinds = BTreeSet::new();
        for seed in 0..400 {
            for (_, deed) in draw(&Options::draw(seed), false) {
                kinds.insert(deed.kind());
                let text = deed.to_string();
                assert_eq!(words::deed(&text), Ok(deed), "{text}");
            }
        }
        assert!(kinds.len() >= 30, "only {kinds:?} were drawn");
        for limit in ["stopped agent", "paused guest"] {
            assert!(!kinds.contains(limit), "limits are off");
        }
    }

    #[test]
    fn one_seed_draws_one_storm() {
        let options = Options::draw(11);
        assert_eq!(draw(&options, true), draw(&options, true));
    }
}
