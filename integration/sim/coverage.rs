//! What a run, or a search of many, has been through: which deeds were done, which changes of a
//! master record were seen, why terms began. A search that never saw a transition says nothing
//! about it; the table at its end shows which.

use std::collections::BTreeMap;
use std::fmt;

use sengu_core::record::{Cause, MasterRecord, MasterState};
use sengu_core::transition::{self, Stage};

/// Counts of what was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    deeds: BTreeMap<&'static str, u64>,
    transitions: BTreeMap<(Stage, Stage), u64>,
    causes: BTreeMap<&'static str, u64>,
    endings: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// A deed of this kind was done.
    pub(crate) fn deed(&mut self, kind: &'static str) {
        *self.deeds.entry(kind).or_insert(0) += 1;
    }

    /// A world ended so.
    pub(crate) fn ending(&mut self, kind: &'static str) {
        *self.endings.entry(kind).or_insert(0) += 1;
    }

    /// A master record changed.
    pub(crate) fn master(&mut self, before: Option<&MasterRecord>, now: &MasterRecord) {
        let (from, to) = (transition::stage(before), transition::stage(Some(now)));
        let fresh = before.is_none_or(|before| before.term != now.term);
        if from != to || fresh {
            *self.transitions.entry((from, to)).or_insert(0) += 1;
        }
        if fresh {
            let cause = match &now.state {
                MasterState::Taken { cause } => word(cause),
                _ => "adopted",
            };
            *self.causes.entry(cause).or_insert(0) += 1;
        }
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        fn add<K: Ord + Copy>(mine: &mut BTreeMap<K, u64>, theirs: &BTreeMap<K, u64>) {
            for (key, count) in theirs {
                *mine.entry(*key).or_insert(0) += count;
            }
        }
        add(&mut self.deeds, &other.deeds);
        add(&mut self.transitions, &other.transitions);
        add(&mut self.causes, &other.causes);
        add(&mut self.endings, &other.endings);
    }

    /// Rows of the transition table that were never seen.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        transition::TABLE
            .iter()
            .filter(|row| !self.transitions.contains_key(&(row.from, row.to)))
            .map(|row| format!("{:?} to {:?}", row.from, row.to))
            .collect()
    }
}

/// A cause in a word or two.
pub(crate) fn word(cause: &Cause) -> &'static str {
    match cause {
        Cause::Adopted => "adopted cold",
        Cause::ProcessExited => "process exited",
        Cause::Hung => "hung",
        Cause::Lapsed => "lapsed",
        Cause::NotWritable => "not writable",
        Cause::Switchover => "switchover",
        Cause::Requested => "requested",
        Cause::HandOverFailed => "hand-over failed",
        Cause::SwitchoverUndone(_) => "switchover undone",
        Cause::PromotionFailed(_) => "promotion failed",
        Cause::Reopened => "reopened",
        Cause::Announced => "announced",
        Cause::Told => "told",
        Cause::Seen => "seen",
        Cause::Unanswered => "unanswered",
        Cause::TwoWritable => "two writable",
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, title: &str, words: Vec<String>| {
            writeln!(
                f,
                "# {title}: {}",
                if words.is_empty() { "none".into() } else { words.join(", ") }
            )
        };
        let told = |map: &BTreeMap<&'static str, u64>| {
            map.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>()
        };
        list(f, "deeds", told(&self.deeds))?;
        list(f, "endings", told(&self.endings))?;
        list(f, "terms began by", told(&self.causes))?;
        let seen = self.transitions.iter();
        let seen = seen.map(|((from, to), count)| format!("{from:?} to {to:?} {count}")).collect();
        list(f, "master records went", seen)?;
        list(f, "never seen", self.unseen())
    }
}
