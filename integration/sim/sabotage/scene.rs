//! The worlds in which a sabotage is looked for: those that seeds draw, or a scene of deeds that
//! come again and again in a small world, where the seed decides only latencies and small things.
//!
//! A scene is for what needs several things at one moment, which seeds bring together too seldom
//! for a test of minutes. While no rule is broken, a scene holds.

use std::time::Duration;

use sengu_core::policy::{Failover, Judge};

use super::super::deed::Deed;
use super::super::options::Options;
use super::super::plan::Plan;
use super::super::schedule::{MILLI, Micros, SECOND};
use super::super::sql::Family;
use super::super::storm::BEGIN;
use super::super::words;

/// Where a sabotage is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worlds {
    /// What seeds draw.
    Seeds,
    /// The same, with agents that may be dead or stopped for long.
    Limits,
    /// The store is slow, and nobody reaches it for a lease, again and again.
    SlowStoreThenNone,
    /// A switchover, and hosts that cannot reach each other right after it began.
    SwitchoverThenCuts,
    /// Processes that end slowly, one after the other.
    SlowEnds,
    /// Failovers whose hooks say no.
    HooksSayNo,
    /// Masters that die, with copies that die after their finals.
    CopiesDieToo,
    /// The store takes no writes for a while, again and again.
    FullStore,
    /// An instance whose own file starts it open.
    OpenFile,
    /// An agent that dies with a cut from the store at once, for long.
    DeadAndCut,
    /// An agent dies during the hooks of a switchover.
    AgentDiesInHooks,
    /// All processes die, and one comes back emptied.
    AllDie,
    /// Processes stand still for a moment.
    ShortStops,
    /// The same as [`Self::OpenFile`], and no client but those that follow the name.
    OpenFileUnseen,
    /// Somebody opens a copy by hand, and no client is pinned to it.
    HandOpens,
    /// All processes die; the copies come back soon and cannot be proven, the master late.
    NoneFits,
    /// One agent is newer than the others, and mastership moves.
    Upgrades,
    /// Masters die and come back.
    Deaths,
    /// A master hangs that nobody may kill, with an account above read-only.
    Unbound,
    /// One agent after the other writes another format.
    Formats,
}

impl Worlds {
    /// In words, for the table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Seeds => "seeds",
            Self::Limits => "seeds with limits",
            Self::SlowStoreThenNone => "a slow store, then none",
            Self::SwitchoverThenCuts => "switchovers, then cuts between hosts",
            Self::SlowEnds => "processes that end slowly",
            Self::HooksSayNo => "failovers whose hooks say no",
            Self::CopiesDieToo => "copies that die after their finals",
            Self::FullStore => "a store that takes no writes",
            Self::OpenFile => "a file that starts its instance open",
            Self::DeadAndCut => "agents that die and find no store",
            Self::AgentDiesInHooks => "agents that die during hooks",
            Self::AllDie => "all processes die, one comes back emptied",
            Self::ShortStops => "processes that stand still for a moment",
            Self::OpenFileUnseen => "a file that starts its instance open, followers only",
            Self::HandOpens => "copies opened by hand, followers only",
            Self::NoneFits => "masters that die when no copy fits",
            Self::Upgrades => "a newer agent among older ones",
            Self::Deaths => "masters that die and come back",
            Self::Unbound => "a hung master that only its end could fence",
            Self::Formats => "agents that write another format among others",
        }
    }

    /// Are its deeds written down here?
    #[must_use]
    pub fn is_scene(self) -> bool {
        !matches!(self, Self::Seeds | Self::Limits)
    }

    /// What one seed makes of it.
    pub(super) fn plan(self, seed: u64) -> Plan {
        match self {
            Self::Seeds => return Plan::draw(seed, false),
            Self::Limits => return Plan::draw(seed, true),
            _ => {}
        }
        let mut options = Options::story(seed, false);
        let (every, rounds, deeds) = self.rounds();
        if self == Self::SlowStoreThenNone {
            let (lease, fence) = (Duration::from_secs(6), Duration::from_millis(300));
            options.judge = Judge::Shared { lease, fence };
        }
        if self == Self::HooksSayNo {
            options.aborting_hooks = 500;
        }
        if matches!(self, Self::OpenFileUnseen | Self::HandOpens) {
            options.clients = (2, 0, 0, 0);
        }
        if matches!(self, Self::OpenFile | Self::OpenFileUnseen) {
            options.unfenced = Some(usize::try_from(seed % 3).unwrap_or(0));
        }
        if self == Self::Unbound {
            options.family = Family::Mariadb;
            options.policy.failover = Failover::Manual;
            options.policy.kill = false;
        }
        options.storm = rounds * every + 5 * SECOND;
        let deeds = (0..rounds).flat_map(|round| {
            let from = BEGIN + round * every;
            // Each round another host and instance comes first.
            let turn = move |text: &str| turned(text, round + seed);
            deeds.iter().map(move |(wait, text)| {
                let deed = words::deed(&turn(text));
                (from + wait, deed.unwrap_or_else(|why| panic!("{text}: {why}")))
            })
        });
        let mut deeds: Vec<(Micros, Deed)> = deeds.collect();
        deeds.sort_by_key(|(at, _)| *at);
        Plan { options, deeds }
    }

    /// How long a round takes, how many there are, and its deeds. In them `1`, `2` and `3` after
    /// `h` or `r` are turned from round to round.
    fn rounds(self) -> (Micros, u64, &'static [(Micros, &'static str)]) {
        const AT_ONCE: Micros = 30 * MILLI;
        match self {
            Self::SlowStoreThenNone => (
                16 * SECOND,
                14,
                &[
                    (0, "store is slow for 9 s"),
                    (3 * SECOND, "h1 loses the store for 7 s"),
                    (3 * SECOND, "h2 loses the store for 7 s"),
                    (3 * SECOND, "h3 loses the store for 7 s"),
                ],
            ),
            Self::SwitchoverThenCuts => (
                10 * SECOND,
                12,
                &[
                    (0, "person switches over"),
                    (AT_ONCE, "h1 loses h2 for 1.5 s"),
                    (AT_ONCE, "h1 loses h3 for 1.5 s"),
                    (AT_ONCE, "h2 loses h3 for 1.5 s"),
                ],
            ),
            Self::SlowEnds => (
                12 * SECOND,
                9,
                &[
                    (0, "r1 is stopped for 700 ms"),
                    (600 * MILLI, "r1 ends within 4 s, comes back after 1 s"),
                ],
            ),
            Self::HooksSayNo => (
                60 * SECOND,
                3,
                &[
                    (0, "r1 dies, comes back after 2 s"),
                    (20 * SECOND, "r2 dies, comes back after 2 s"),
                ],
            ),
            Self::FullStore => (
                20 * SECOND,
                4,
                &[(0, "store is full for 6 s"), (SECOND, "r1 dies, comes back after 1 s")],
            ),
            _ => self.more_rounds(),
        }
    }

    fn more_rounds(self) -> (Micros, u64, &'static [(Micros, &'static str)]) {
        match self {
            Self::CopiesDieToo => (
                20 * SECOND,
                9,
                &[
                    (0, "h1 loses the store for 4 s"),
                    (0, "agent h2 dies for 700 ms"),
                    (2200 * MILLI, "agent h2 dies for 700 ms"),
                    (2300 * MILLI, "r3 dies, comes back after 100 ms, without its last 30 writes"),
                ],
            ),
            Self::OpenFile | Self::OpenFileUnseen => (
                30 * SECOND,
                4,
                &[(0, "r1 dies, comes back after 8 s"), (2 * SECOND, "person fails over")],
            ),
            Self::DeadAndCut => (
                50 * SECOND,
                4,
                &[(0, "h1 is isolated for 40 s"), (30 * MILLI, "agent h1 dies for 300 ms")],
            ),
            Self::AllDie => (
                60 * SECOND,
                2,
                &[
                    (0, "r1 dies, comes back after 1 s, emptied"),
                    (0, "r2 dies, comes back after 1.2 s"),
                    (0, "r3 dies, comes back after 1.4 s"),
                    (30 * SECOND, "person fails over to r2 accepting loss"),
                ],
            ),
            Self::ShortStops => (10 * SECOND, 9, &[(0, "r1 is stopped for 1.8 s")]),
            Self::HandOpens => (
                16 * SECOND,
                6,
                &[(0, "hand opens r1"), (8 * SECOND, "r1 dies, comes back after 500 ms")],
            ),
            Self::Deaths => (30 * SECOND, 4, &[(0, "r1 dies, comes back after 2 s")]),
            Self::AgentDiesInHooks => (
                14 * SECOND,
                12,
                &[
                    (0, "person switches over"),
                    (60 * MILLI, "agent h1 dies for 150 ms"),
                    (120 * MILLI, "agent h2 dies for 150 ms"),
                    (180 * MILLI, "agent h3 dies for 150 ms"),
                ],
            ),
            _ => self.rounds_of_versions_and_accounts(),
        }
    }

    fn rounds_of_versions_and_accounts(self) -> (Micros, u64, &'static [(Micros, &'static str)]) {
        match self {
            Self::NoneFits => (
                80 * SECOND,
                2,
                &[
                    (0, "r1 dies, comes back after 40 s"),
                    (0, "r2 dies, comes back after 1 s"),
                    (0, "r3 dies, comes back after 1.2 s"),
                    (50 * SECOND, "person fails over to r2 accepting loss"),
                ],
            ),
            Self::Upgrades => (
                20 * SECOND,
                6,
                &[(0, "agent h1 is upgraded"), (6 * SECOND, "person switches over")],
            ),
            Self::Unbound => (
                60 * SECOND,
                3,
                &[
                    (0, "r1 has an account above read_only for 30 s"),
                    (9 * SECOND, "r1 is stopped for 9 s"),
                    (12 * SECOND, "person fails over"),
                ],
            ),
            Self::Formats => (
                30 * SECOND,
                3,
                &[
                    (0, "agent h1 is upgraded to another format"),
                    (4 * SECOND, "person switches over"),
                    (10 * SECOND, "r1 dies, comes back after 2 s"),
                ],
            ),
            _ => (0, 0, &[]),
        }
    }
}

/// The words with hosts and instances moved on by so many places.
fn turned(text: &str, by: u64) -> String {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| {
            let bare = word.trim_end_matches(',');
            match (bare.get(..1), bare.get(1..).and_then(|number| number.parse::<u64>().ok())) {
                (Some(head @ ("h" | "r")), Some(number @ 1..=3)) => {
                    word.replacen(bare, &format!("{head}{}", (number - 1 + by) % 3 + 1), 1)
                }
                _ => word.to_owned(),
            }
        })
        .collect();
    words.join(" ")
}
