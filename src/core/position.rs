//! How far a copy has come, typed by database, and when two of them can be compared.
//!
//! Two numbers of two histories say nothing about each other: a Redis offset counts only within
//! one replication id. What cannot be compared is [`Covering::Incomparable`], never a guess.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sabotage::sabotaged;

/// How far a copy has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Position {
    /// Redis and Valkey.
    Redis(RedisPosition),
}

/// A Redis history: `master_replid` and offset, and the history it grew out of
/// (`master_replid2`, valid up to `second_repl_offset`), as `INFO replication` tells them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RedisPosition {
    /// `master_replid`.
    pub id: String,
    /// Bytes of that history applied here.
    pub offset: u64,
    /// `master_replid2`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<Ancestor>,
}

/// The history that a copy had before it was promoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ancestor {
    /// `master_replid2`.
    pub id: String,
    /// First offset that is *not* shared with it (`second_repl_offset`).
    pub until: u64,
}

/// Whether one copy holds all that another holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covering {
    /// Everything, and perhaps more: by so many units (bytes for Redis).
    Covers(u64),
    /// It lacks something: so many units.
    Lacks(u64),
    /// The histories differ; neither can be said.
    Incomparable,
}

impl Position {
    /// Does `self` hold everything that `other` holds?
    #[must_use]
    pub fn covers(&self, other: &Self) -> Covering {
        match (self, other) {
            (Self::Redis(mine), Self::Redis(theirs)) => mine.covers(theirs),
        }
    }

    /// `Greater` if `self` holds more; `None` if the two cannot be compared.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self.covers(other), other.covers(self)) {
            (Covering::Covers(_), Covering::Covers(_)) => Some(Ordering::Equal),
            (Covering::Covers(_), _) => Some(Ordering::Greater),
            (_, Covering::Covers(_)) => Some(Ordering::Less),
            (Covering::Lacks(_) | Covering::Incomparable, _) => None,
        }
    }

    /// The id of the history this position counts in.
    #[must_use]
    pub fn history(&self) -> &str {
        match self {
            Self::Redis(position) => &position.id,
        }
    }

    /// The ids of all histories that this copy shares.
    pub fn histories(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::Redis(position) => std::iter::once(position.id.as_str())
                .chain(position.second.as_ref().map(|ancestor| ancestor.id.as_str())),
        }
    }
}

impl RedisPosition {
    fn covers(&self, other: &Self) -> Covering {
        let measured = |mine: u64, theirs: u64| {
            if mine >= theirs {
                Covering::Covers(mine - theirs)
            } else {
                Covering::Lacks(theirs - mine)
            }
        };
        if self.id == other.id || sabotaged!(OffsetsWithoutIds) {
            return measured(self.offset, other.offset);
        }
        if let Some(ancestor) = &self.second
            && ancestor.id == other.id
        {
            // What the other has of the old history beyond the fork is lost to this one.
            let shared = self.offset.min(ancestor.until.saturating_sub(1));
            return if other.offset <= shared {
                Covering::Covers(self.offset - other.offset)
            } else {
                Covering::Lacks(other.offset - shared)
            };
        }
        if let Some(ancestor) = &other.second
            && ancestor.id == self.id
        {
            // The other went on under a new id: it has what came after the fork, and this one not.
            return Covering::Lacks(other.offset.saturating_sub(self.offset).max(1));
        }
        Covering::Incomparable
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(position) => {
                write!(f, "{}:{}", position.id.get(..8).unwrap_or(&position.id), position.offset)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(id: &str, offset: u64) -> Position {
        Position::Redis(RedisPosition { id: id.into(), offset, second: None })
    }

    fn grown(id: &str, offset: u64, from: &str, until: u64) -> Position {
        let second = Some(Ancestor { id: from.into(), until });
        Position::Redis(RedisPosition { id: id.into(), offset, second })
    }

    #[test]
    fn one_history_compares_by_offset() {
        assert_eq!(at("a", 10).covers(&at("a", 7)), Covering::Covers(3));
        assert_eq!(at("a", 7).covers(&at("a", 10)), Covering::Lacks(3));
        assert_eq!(at("a", 7).order(&at("a", 7)), Some(Ordering::Equal));
    }

    #[test]
    fn two_histories_do_not_compare_whatever_their_offsets() {
        assert_eq!(at("a", 5_000_000).covers(&at("b", 6_000_000)), Covering::Incomparable);
        assert_eq!(at("a", 5).order(&at("b", 6)), None);
    }

    #[test]
    fn a_promoted_copy_covers_its_ancestor_up_to_the_fork() {
        let promoted = grown("b", 120, "a", 101);
        assert_eq!(promoted.covers(&at("a", 100)), Covering::Covers(20));
        assert_eq!(promoted.covers(&at("a", 105)), Covering::Lacks(5));
        assert_eq!(at("a", 100).covers(&promoted), Covering::Lacks(20));
        assert_eq!(at("a", 105).order(&promoted), None, "both have something of their own");
    }
}
