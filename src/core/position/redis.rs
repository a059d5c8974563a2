//! How far a copy of Redis or Valkey has come: an offset, which counts within one history only, and
//! how the histories grew out of each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Covering, Position};

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

impl RedisPosition {
    /// Does it hold everything that `other` holds? `origins` are where masters began, the newest
    /// last.
    pub(super) fn covers(&self, other: &Self, origins: &[Position]) -> Covering {
        if let Some(shared) = self.shares(&other.id, origins) {
            // What the other has of that history beyond the fork is lost to this one.
            return if other.offset <= shared {
                Covering::Covers(self.offset - other.offset)
            } else {
                Covering::Lacks(other.offset - shared)
            };
        }
        if other.shares(&self.id, origins).is_some() {
            // The other went on under a new id: it has what came after the fork, and this one not.
            return Covering::Lacks(other.offset.saturating_sub(self.offset).max(1));
        }
        Covering::Incomparable
    }

    /// Up to which offset it holds the history of that id; `None` if it is not known to stem from
    /// it.
    ///
    /// A copy forgets where its history forked after a full copy, and knows only its own offset
    /// when its master went on under a new id, which may be before the fork: the master's own
    /// origin tells more.
    fn shares(&self, id: &str, origins: &[Position]) -> Option<u64> {
        let mut held = BTreeMap::from([(self.id.as_str(), self.offset)]);
        let masters = origins.iter().rev().filter_map(|origin| match origin {
            Position::Redis(origin) => Some(origin),
            Position::Mysql(_) | Position::Mariadb(_) => None,
        });
        for grown in std::iter::once(self).chain(masters) {
            let (Some(ancestor), Some(offset)) = (&grown.second, held.get(grown.id.as_str()))
            else {
                continue;
            };
            let shared = (*offset).min(ancestor.until.saturating_sub(1));
            let known = held.entry(&ancestor.id).or_insert(shared);
            *known = shared.max(*known);
        }
        held.get(id).copied()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cmp::Ordering;

    use super::*;

    pub(in crate::position) fn at(id: &str, offset: u64) -> Position {
        Position::Redis(RedisPosition { id: id.into(), offset, second: None })
    }

    pub(in crate::position) fn grown(id: &str, offset: u64, from: &str, until: u64) -> Position {
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

    #[test]
    fn copies_of_a_master_that_was_reopened_compare_by_where_it_began_again() {
        let origins = [at("a", 0), grown("b", 100, "a", 101), grown("c", 140, "b", 141)];
        let ordered = |one: &Position, other: &Position| one.order_in(other, &origins);
        // One copied anew forgot the fork; one that went on knows only where it stood itself.
        for ahead in [at("c", 150), grown("c", 150, "b", 131)] {
            assert_eq!(ahead.covers_in(&at("b", 140), &origins), Covering::Covers(10));
            assert_eq!(ordered(&ahead, &at("b", 140)), Some(Ordering::Greater));
            assert_eq!(ordered(&at("b", 140), &ahead), Some(Ordering::Less));
            assert_eq!(ordered(&ahead, &at("a", 100)), Some(Ordering::Greater), "through both");
            assert_eq!(ahead.covers_in(&at("b", 145), &origins), Covering::Lacks(5));
            assert_eq!(ordered(&ahead, &at("b", 145)), None, "that was never the last master's");
            assert_eq!(ordered(&ahead, &at("a", 120)), None);
            assert_eq!(ordered(&ahead, &at("d", 120)), None, "nobody knows of it");
        }
        assert_eq!(at("c", 150).order(&at("b", 140)), None, "without the masters' origins");
        // It has not come to the fork itself, so it shares no more than it has.
        assert_eq!(at("c", 135).covers_in(&at("b", 140), &origins), Covering::Lacks(5));
    }
}
