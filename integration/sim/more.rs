//! Draws what was modelled after the storm: accounts above read-only, prepared XA branches, a store
//! that is set back and begun anew, another record format, files that end `loss = "none"`, a store
//! whose every answer is late.
//!
//! A store that is set back gets another id, as the operations page asks; with limits it may keep
//! its own.
//!
//! From streams of their own, and for one seed of four: what `storm.rs` draws stays as it was, so
//! that a seed that somebody looks into tells the story that it told before, three times of four.

use super::deed::Deed;
use super::fact::Id;
use super::options::Options;
use super::random::Random;
use super::schedule::{MILLI, Micros, SECOND};
use super::sql::Family;
use super::storm::{BEGIN, round};

/// A kind of deed, as it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Above,
    Branch,
    Bounded,
    SetBack,
    Format,
}

/// So many in a thousand seeds have more than the storm.
const SHARE: u64 = 250;

/// So many have a store that is late for long.
const LATE_SHARE: u64 = 100;

/// More deeds of a seed's world, by time.
pub(crate) fn draw(options: &Options, limits: bool) -> Vec<(Micros, Deed)> {
    let mut deeds: Vec<_> = late(options).into_iter().collect();
    deeds.extend(others(options, limits));
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

/// A store that takes its time with everything, once.
fn late(options: &Options) -> Option<(Micros, Deed)> {
    let random = &mut Random::stream(options.seed, "late store");
    if !random.permille(LATE_SHARE) || options.alone() {
        return None;
    }
    let at = BEGIN + random.between(5 * SECOND, options.storm.saturating_sub(60 * SECOND));
    let most = round(random.between(SECOND / 2, 4 * SECOND));
    let span = round(random.between(5 * SECOND, 60 * SECOND));
    (at < BEGIN + options.storm).then_some((at, Deed::LateStore(most, span)))
}

fn others(options: &Options, limits: bool) -> Vec<(Micros, Deed)> {
    let random = &mut Random::stream(options.seed, "more deeds");
    let kinds = kinds(options);
    if !random.permille(SHARE) || kinds.is_empty() {
        return Vec::new();
    }
    let kind = random.pick(&kinds);
    let mut deeds = Vec::new();
    let times = if kind == Kind::SetBack { 1 } else { random.between(1, 4) };
    for _ in 0..times {
        let at = BEGIN + random.between(5 * SECOND, options.storm.saturating_sub(40 * SECOND));
        add(kind, random, options, (at, limits), &mut deeds);
    }
    deeds.retain(|(at, _)| *at < BEGIN + options.storm);
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

/// What this world can have.
fn kinds(options: &Options) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if options.family == Family::Mariadb {
        kinds.push(Kind::Above);
    }
    if options.family != Family::Redis {
        kinds.push(Kind::Branch);
    }
    if options.policy.loss == sengu_core::policy::Loss::None {
        kinds.push(Kind::Bounded);
    }
    if !options.alone() {
        kinds.extend([Kind::SetBack, Kind::Format]);
    }
    kinds
}

fn add(
    kind: Kind,
    random: &mut Random,
    options: &Options,
    (at, limits): (Micros, bool),
    deeds: &mut Vec<(Micros, Deed)>,
) {
    let host = random.index(options.hosts);
    let id =
        Id { service: random.index(options.services), number: random.index(options.instances) };
    let span = round(random.between(SECOND, 40 * SECOND));
    match kind {
        Kind::Above => deeds.push((at, Deed::Above(id, span))),
        Kind::Branch => deeds.push((at, Deed::Branch(id, span))),
        Kind::Bounded => {
            let all = random.permille(500);
            for other in (0..options.hosts).filter(|other| all || *other == host) {
                let later = random.between(0, 500 * MILLI);
                deeds.push((at + later, Deed::Bounded(other, span)));
            }
        }
        Kind::SetBack => {
            let age = round(random.between(5 * SECOND, 60 * SECOND));
            let later = random.between(2 * SECOND, 15 * SECOND);
            let renamed = !(limits && random.permille(500));
            deeds.push((at, Deed::Restore(age, renamed)));
            deeds.push((at + later, Deed::Anew));
        }
        Kind::Format => {
            deeds.push((at, Deed::NewFormat(host)));
            if random.permille(300) {
                deeds.push((at + span, Deed::Downgrade(host)));
            } else if random.permille(700) {
                let others = (0..options.hosts + options.watchers).filter(|other| *other != host);
                deeds.extend(others.map(|other| {
                    let later = random.between(SECOND, 20 * SECOND);
                    (at + later, Deed::NewFormat(other))
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::words;
    use super::*;

    #[test]
    fn all_kinds_come_up_and_can_be_said() {
        let mut kinds = BTreeSet::new();
        let mut seeds = 0;
        for seed in 0..600 {
            let drawn = draw(&Options::draw(seed), false);
            seeds += u64::from(!drawn.is_empty());
            for (_, deed) in drawn {
                kinds.insert(deed.kind());
                let text = deed.to_string();
                assert_eq!(words::deed(&text), Ok(deed), "{text}");
            }
        }
        let known =
            ["XA branch", "account above read-only", "empty store", "policy", "record format"];
        assert!(known.iter().all(|kind| kinds.contains(kind)), "only {kinds:?}");
        assert!((50..300).contains(&seeds), "{seeds} of 600 seeds have more");
    }
}
