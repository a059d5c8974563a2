//! The table: each rule, the ways in which it is broken, and which invariants see each.

use std::fmt::Write as _;

use sengu_core::sabotage::Sabotage::{self, *};

use super::scene::Worlds;

/// One way to break one rule.
#[derive(Debug)]
pub struct Entry {
    /// The rule's slug.
    pub rule: &'static str,
    /// What is broken.
    pub sabotage: Sabotage,
    /// What it does, in words.
    pub what: &'static str,
    /// The invariants that may be the first to see it.
    pub caught_by: &'static [&'static str],
    /// Within so many seeds, from 0.
    pub within: u64,
    /// Where it is looked for.
    pub world: Worlds,
}

/// All invariants, by their files; the last is the end of each run.
pub const INVARIANTS: &[&str] = &[
    "w",
    "one-giver",
    "fence-in-time",
    "starts-fenced",
    "named-is-serving",
    "proven-before-promoted",
    "detach-then-final",
    "nothing-older-runs",
    "planned-loses-nothing",
    "loss-is-said",
    "hook-once",
    "no-needless-move",
    "veto-stands",
    "emptied-never-wins",
    "failed-once",
    "refusals-are-said",
    "all-bounded",
    "fields-survive",
    "converges",
];

const fn entry(
    rule: &'static str,
    sabotage: Sabotage,
    what: &'static str,
    caught_by: &'static [&'static str],
    within: u64,
    world: Worlds,
) -> Entry {
    Entry { rule, sabotage, what, caught_by, within, world }
}

/// All of them, by rule.
#[rustfmt::skip]
pub const TABLE: &[Entry] = &[
    entry("one-giver", LapseTooEarly,
        "a term is declared lapsed after 0.96 of its lease",
        &["one-giver"], 60, Worlds::Seeds),
    entry("one-giver", LapsedBeatenBack,
        "a lapsed holder writes *serving* again in its old term",
        &["one-giver"], 300, Worlds::Seeds),
    entry("one-giver", RecordNotCompared,
        "the master record is written without comparing the one it was decided on",
        &["fields-survive", "one-giver"], 300, Worlds::Seeds),
    entry("fence-in-time", DeadlineFromReceipt,
        "the deadline counts from the receipt of a beat's answer, not from its send",
        &["fence-in-time"], 100, Worlds::SlowStoreThenNone),
    entry("fence-in-time", FenceAtTheDeadline,
        "the fence starts at the deadline, not its budget before",
        &["fence-in-time"], 60, Worlds::Seeds),
    entry("fence-in-time", FenceNotArmed,
        "no fence is armed: a holder that cannot beat goes on",
        &["fence-in-time"], 60, Worlds::Seeds),
    entry("starts-fenced", OpenOnSightLeft,
        "an instance that takes writes without the term is left alone",
        &["starts-fenced"], 20, Worlds::HandOpens),
    entry("starts-fenced", UnansweredStartGoesOn,
        "an agent that starts without an answer of the store fences nothing",
        &["w"], 20, Worlds::DeadAndCut),
    entry("starts-fenced", UnfencedFileAdopted,
        "`auto` takes instances whose own file starts them open",
        &["converges"], 20, Worlds::OpenFile),
    entry("named-is-serving", NamedWhenTaken,
        "the master is named from *taken* on",
        &["named-is-serving"], 300, Worlds::Seeds),
    entry("named-is-serving", ValidUntilNotCompared,
        "an answer does not look at how old the last one of the store is",
        &["named-is-serving"], 300, Worlds::Seeds),
    entry("named-is-serving", BeatAgeNotCompared,
        "an answer does not look at the age of the holder's last beat",
        &["named-is-serving"], 300, Worlds::Seeds),
    entry("named-is-serving", ServingBeforeReadBack,
        "*serving* is written before the promotion",
        &["named-is-serving"], 300, Worlds::Seeds),
    entry("proven-before-promoted", ExitWithoutFileCounts,
        "an exit counts as proof although the file does not start it fenced",
        &["proven-before-promoted"], 50, Worlds::OpenFileUnseen),
    entry("proven-before-promoted", RefusedIsDead,
        "a refused connection counts as an exit",
        &["proven-before-promoted"], 50, Worlds::SlowEnds),
    entry("proven-before-promoted", PauseIsFence,
        "a switchover holds writes back for 50 ms in place of the fence",
        &["planned-loses-nothing"], 200, Worlds::SwitchoverThenCuts),
    entry("proven-before-promoted", AnyExitCounts,
        "the exit of any life counts as the exit of the holder's",
        &["converges", "no-needless-move", "proven-before-promoted"], 300, Worlds::Seeds),
    entry("proven-before-promoted", FailedFenceCounts,
        "a fence that failed counts as one that is done",
        &["w", "proven-before-promoted"], 20, Worlds::Unbound),
    entry("detach-then-final", NoDetach,
        "a final is written without a detach",
        &["detach-then-final"], 300, Worlds::Seeds),
    entry("detach-then-final", FinalWrittenAgain,
        "a final is written a second time",
        &["detach-then-final"], 300, Worlds::Seeds),
    entry("detach-then-final", PositionBeforeFence,
        "the position that is handed over was read before the fence",
        &["planned-loses-nothing"], 200, Worlds::SwitchoverThenCuts),
    entry("detach-then-final", ShortTakerTakes,
        "the taker of a planned move takes before it has all, and says that it may lack some",
        &["planned-loses-nothing"], 100, Worlds::SwitchoverThenCuts),
    entry("detach-then-final", FollowForgotten,
        "copies that were detached are never pointed at the new master",
        &["converges"], 20, Worlds::Deaths),
    entry("nothing-older-runs", TermReused,
        "a taker keeps the term of the one before",
        &["one-giver"], 100, Worlds::Seeds),
    entry("nothing-older-runs", PromotedWithoutTime,
        "a promotion is sent however little time is left",
        &["nothing-older-runs"], 300, Worlds::Seeds),
    entry("no-needless-move", VetoIgnored,
        "a holder that still takes writes is no veto",
        &["veto-stands"], 300, Worlds::Limits),
    entry("no-needless-move", HungAtOnce,
        "one unanswered look counts as hung",
        &["no-needless-move"], 20, Worlds::ShortStops),
    entry("emptied-never-wins", AnotherLifeGoesOn,
        "a restarted process goes on under its old term",
        &["emptied-never-wins"], 20, Worlds::AllDie),
    entry("emptied-never-wins", StaleFinalCounts,
        "the final of an earlier life counts",
        &["emptied-never-wins"], 50, Worlds::CopiesDieToo),
    entry("hook-once", HookStartNotRecorded,
        "a hook is started before that is recorded",
        &["hook-once"], 50, Worlds::AgentDiesInHooks),
    entry("hook-once", HookRunAgain,
        "a hook whose start is recorded is run again after a crash",
        &["hook-once"], 50, Worlds::AgentDiesInHooks),
    entry("refusals-are-said", RefusalDropped,
        "what is not done is not said",
        &["refusals-are-said"], 20, Worlds::NoneFits),
    entry("refusals-are-said", FailedTriedAgain,
        "a candidate that failed in this incident is tried again",
        &["failed-once"], 50, Worlds::HooksSayNo),
    entry("(what is said)", LossIsNothing,
        "every failover says that nothing was lost",
        &["loss-is-said"], 100, Worlds::Seeds),
    entry("(what is kept)", FieldsDropped,
        "fields of a newer version are dropped from instances",
        &["fields-survive", "all-bounded"], 300, Worlds::Seeds),
    entry("(what is kept)", MasterFieldsDropped,
        "fields of a newer version are dropped from master records",
        &["fields-survive"], 20, Worlds::Upgrades),
    entry("(what is kept)", NewerFormatRead,
        "a record in a newer format is read as if it were of this one, and written over",
        &["fields-survive"], 20, Worlds::Formats),
    entry("all-bounded", RetriedWithoutPause,
        "what the store refused is sent again at once",
        &["all-bounded"], 50, Worlds::FullStore),
    entry("all-bounded", OriginsKept,
        "a record keeps every history it ever had",
        &["all-bounded"], 300, Worlds::Seeds),
];

/// The table as `docs/proof.md` shows it.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| rule | sabotage | what it does | in | seen by | within seeds |\n|---|---|---|---|---|---|\n",
    );
    let mut last = "";
    for entry in TABLE {
        let rule = if entry.rule == last { "" } else { entry.rule };
        last = entry.rule;
        let seen = entry.caught_by.join(", ");
        let world = entry.world.words();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {rule} | `{:?}` | {} | {world} | {seen} | {} |",
            entry.sabotage, entry.what, entry.within
        );
    }
    text
}
