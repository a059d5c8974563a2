//! How far a copy has come, typed by database, and when two of them can be compared.
//!
//! Two numbers of two histories say nothing about each other: a Redis offset counts only within
//! one replication id; a MySQL or MariaDB position is a set of transactions, each named with the
//! server that wrote it. What cannot be compared is [`Covering::Incomparable`], never a guess.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gtid::{GtidSet, GtidState};

mod redis;

pub use redis::{Ancestor, RedisPosition};

/// How far a copy has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Position {
    /// Redis and Valkey.
    Redis(RedisPosition),
    /// MySQL with GTIDs.
    Mysql(MysqlPosition),
    /// MariaDB with GTIDs.
    Mariadb(MariadbPosition),
}

/// What a MySQL server holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MysqlPosition {
    /// Its own `server_uuid`, lower case: what it writes as a master carries this.
    pub server: String,
    /// `gtid_executed`, with `Retrieved_Gtid_Set` where the received is meant.
    pub set: GtidSet,
}

/// What a MariaDB server holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MariadbPosition {
    /// Its own `server_id`.
    pub server: u32,
    /// `gtid_binlog_state`, with `Gtid_IO_Pos` where the received is meant.
    pub state: GtidState,
}

/// Whether one copy holds all that another holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covering {
    /// Everything, and perhaps more: by so many units ([`Position::unit`]).
    Covers(u64),
    /// It lacks something: so many units.
    Lacks(u64),
    /// The histories differ; neither can be said.
    Incomparable,
}

impl Position {
    /// Was this told out of the same data folder as the other? MySQL's server_uuid stands in it, is
    /// lost with it and drawn anew. `None`: it cannot be said (a number from a file outlives data).
    #[must_use]
    pub fn same_folder(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Mysql(mine), Self::Mysql(theirs)) => Some(mine.server == theirs.server),
            (Self::Redis(_) | Self::Mysql(_) | Self::Mariadb(_), _) => None,
        }
    }

    /// Does `self` hold everything that `other` holds?
    #[must_use]
    pub fn covers(&self, other: &Self) -> Covering {
        self.covers_in(other, &[])
    }

    /// As [`Position::covers`], with what is known of how the histories of the masters grew out of
    /// each other: where each of them began (`origins`, the newest last).
    #[must_use]
    pub fn covers_in(&self, other: &Self, origins: &[Self]) -> Covering {
        match (self, other) {
            (Self::Redis(mine), Self::Redis(theirs)) => mine.covers(theirs, origins),
            (Self::Mysql(mine), Self::Mysql(theirs)) => {
                counted(theirs.set.count_beyond(&mine.set), || mine.set.count_beyond(&theirs.set))
            }
            (Self::Mariadb(mine), Self::Mariadb(theirs)) => {
                counted(theirs.state.count_beyond(&mine.state), || {
                    mine.state.count_beyond(&theirs.state)
                })
            }
            (Self::Redis(_) | Self::Mysql(_) | Self::Mariadb(_), _) => Covering::Incomparable,
        }
    }

    /// What a number of units is a number of.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Redis(_) => "bytes",
            Self::Mysql(_) | Self::Mariadb(_) => "transactions",
        }
    }

    /// So many units behind, a copy gets the rest while its master is being fenced.
    #[must_use]
    pub fn near(&self) -> u64 {
        match self {
            Self::Redis(_) => 1 << 20,
            Self::Mysql(_) | Self::Mariadb(_) => 200,
        }
    }

    /// Does it have all of the other?
    #[must_use]
    pub fn has(&self, other: &Self) -> bool {
        matches!(self.covers(other), Covering::Covers(_))
    }

    /// Does it have all of the other, or all but so little?
    #[must_use]
    pub fn is_near(&self, other: &Self) -> bool {
        match self.covers(other) {
            Covering::Covers(_) => true,
            Covering::Lacks(units) => units <= self.near(),
            Covering::Incomparable => false,
        }
    }

    /// What this copy holds that no master wrote that sengu held: it came from neither the copies
    /// that were promoted (`origins`, the newest last) nor the holder of the newest. `None`:
    /// nothing.
    ///
    /// For transactions this is exact and names them. A Redis history either is one that a master
    /// had, or is strange as a whole.
    #[must_use]
    pub fn strays(&self, origins: &[Self]) -> Option<String> {
        match self {
            Self::Redis(mine) => {
                let known = origins.iter().any(|origin| match origin {
                    Self::Redis(origin) => {
                        let second = origin.second.as_ref().map(|ancestor| &ancestor.id);
                        origin.id == mine.id || second == Some(&mine.id)
                    }
                    Self::Mysql(_) | Self::Mariadb(_) => false,
                });
                (!known).then(|| mine.id.clone())
            }
            Self::Mysql(mine) => {
                let Some(Self::Mysql(origin)) = origins.last() else {
                    return Some(mine.set.to_string());
                };
                let strays = mine.set.minus(&origin.set).without_server(&origin.server);
                (!strays.is_empty()).then(|| strays.to_string())
            }
            Self::Mariadb(mine) => {
                let Some(Self::Mariadb(origin)) = origins.last() else {
                    return Some(mine.state.to_string());
                };
                let strays = mine.state.minus(&origin.state).without_server(origin.server);
                (!strays.is_empty()).then(|| strays.to_string())
            }
        }
    }

    /// Transactions that carry this server's own name and that it lacks, although the other has
    /// them: it was set back, and as a master it would give their numbers to other transactions,
    /// which no comparison could tell apart. `None`: there are none.
    #[must_use]
    pub fn would_repeat(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Mysql(mine), Self::Mysql(theirs)) => {
                let again = theirs.set.of_server(&mine.server).minus(&mine.set);
                (!again.is_empty()).then(|| again.to_string())
            }
            (Self::Mariadb(mine), Self::Mariadb(theirs)) => {
                let again = mine.state.would_repeat(&theirs.state, mine.server);
                (!again.is_empty()).then(|| again.to_string())
            }
            (Self::Redis(_) | Self::Mysql(_) | Self::Mariadb(_), _) => None,
        }
    }

    /// With what the master before is known to have had, where this one has it but does not tell: a
    /// MariaDB copy from a backup tells nothing of those that wrote only before it.
    #[must_use]
    pub fn grown_from(self, earlier: &Self) -> Self {
        match (self, earlier) {
            (Self::Mariadb(mine), Self::Mariadb(theirs)) => {
                let state = mine.state.grown_from(&theirs.state, theirs.server);
                Self::Mariadb(MariadbPosition { server: mine.server, state })
            }
            (mine, _) => mine,
        }
    }

    /// Is every part of this copy also part of that master's data, as far as a position tells it?
    /// `origin` is where the master's term began.
    #[must_use]
    pub fn part_of(&self, origin: &Self) -> bool {
        match self {
            Self::Redis(_) => origin.has(self),
            Self::Mysql(_) | Self::Mariadb(_) => {
                self.strays(std::slice::from_ref(origin)).is_none()
            }
        }
    }

    /// How many origins a master record keeps: a chain of Redis ids must be remembered, a set of
    /// transactions holds all earlier ones.
    #[must_use]
    pub fn origins_kept(&self) -> usize {
        match self {
            Self::Redis(_) => 16,
            Self::Mysql(_) | Self::Mariadb(_) => 1,
        }
    }

    /// `Greater` if `self` holds more; `None` if the two cannot be compared.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        self.order_in(other, &[])
    }

    /// As [`Position::order`], with the `origins` of [`Position::covers_in`].
    #[must_use]
    pub fn order_in(&self, other: &Self, origins: &[Self]) -> Option<Ordering> {
        match (self.covers_in(other, origins), other.covers_in(self, origins)) {
            (Covering::Covers(_), Covering::Covers(_)) => Some(Ordering::Equal),
            (Covering::Covers(_), _) => Some(Ordering::Greater),
            (_, Covering::Covers(_)) => Some(Ordering::Less),
            (Covering::Lacks(_) | Covering::Incomparable, _) => None,
        }
    }

    /// The id of the history that a write to this server would go on with: Redis's replication
    /// id, the server's own UUID or number.
    #[must_use]
    pub fn history(&self) -> String {
        match self {
            Self::Redis(position) => position.id.clone(),
            Self::Mysql(position) => position.server.clone(),
            Self::Mariadb(position) => position.server.to_string(),
        }
    }

    /// The ids of all histories that this server went on with, as far as it tells.
    pub fn histories(&self) -> impl Iterator<Item = String> {
        let second = if let Self::Redis(position) = self {
            position.second.as_ref().map(|ancestor| ancestor.id.clone())
        } else {
            None
        };
        std::iter::once(self.history()).chain(second)
    }
}

/// So many units that one lacks; if none, so many that it has more.
fn counted(lacks: u64, more: impl FnOnce() -> u64) -> Covering {
    if lacks == 0 { Covering::Covers(more()) } else { Covering::Lacks(lacks) }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(position) => {
                write!(f, "{}:{}", position.id.get(..8).unwrap_or(&position.id), position.offset)
            }
            Self::Mysql(position) => position.set.fmt(f),
            Self::Mariadb(position) => position.state.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::redis::tests::{at, grown};
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "c80aa942-71ca-11e1-9e33-9562c80aa942";

    fn mysql(server: &str, set: &str) -> Position {
        let set = set.parse().expect("good");
        Position::Mysql(MysqlPosition { server: server.into(), set })
    }

    fn mariadb(server: u32, state: &str) -> Position {
        let state = state.parse().expect("good");
        Position::Mariadb(MariadbPosition { server, state })
    }

    #[test]
    fn transactions_compare_as_sets() {
        let (ahead, behind) = (mysql(A, &format!("{A}:1-10")), mysql(B, &format!("{A}:1-7")));
        assert_eq!(ahead.covers(&behind), Covering::Covers(3));
        assert_eq!(behind.covers(&ahead), Covering::Lacks(3));
        let other = mysql(B, &format!("{A}:1-7,{B}:1"));
        assert_eq!(ahead.order(&other), None, "both have something of their own");
        assert_eq!(mariadb(1, "0-1-12").order(&mariadb(2, "0-1-11,0-2-12")), None);
        assert_eq!(mariadb(1, "0-1-12,1-1-4").order(&mariadb(2, "0-1-14,1-1-3")), None);
        assert_eq!(ahead.covers(&mariadb(1, "0-1-12")), Covering::Incomparable);
    }

    #[test]
    fn strays_are_what_no_master_wrote() {
        let origins = [mysql(A, &format!("{B}:1-5,{A}:1"))];
        assert_eq!(mysql(B, &format!("{B}:1-4,{A}:1-900")).strays(&origins), None);
        let errant = mysql(B, &format!("{B}:1-6,{A}:1-3"));
        assert_eq!(errant.strays(&origins), Some(format!("{B}:6")));
        assert!(!errant.part_of(&origins[0]));
        let origins = [mariadb(2, "0-1-98,0-2-99")];
        assert_eq!(mariadb(1, "0-1-98,0-2-150").strays(&origins), None);
        assert_eq!(mariadb(1, "0-1-100").strays(&origins), Some("0-1-100".to_owned()));
        // To the letter: a writer that the master does not tell of did not write it.
        let errant = mariadb(1, "0-1-100,0-3-95");
        assert_eq!(errant.strays(&[mariadb(2, "0-1-100,0-2-101")]), Some("0-3-95".to_owned()));
        assert_eq!(errant.strays(&[mariadb(2, "0-1-100")]), Some("0-3-95".to_owned()));
        assert_eq!(at("x", 5).strays(&[at("y", 0)]), Some("x".to_owned()));
        assert_eq!(at("x", 5).strays(&[grown("y", 9, "x", 7)]), None);
    }

    #[test]
    fn a_master_made_from_a_backup_keeps_what_the_master_before_told() {
        let before = mariadb(2, "0-1-98,0-2-100");
        let origin = mariadb(3, "0-2-105").grown_from(&before);
        assert_eq!(origin, mariadb(3, "0-1-98,0-2-105"));
        assert_eq!(mariadb(1, "0-1-98,0-2-104").strays(&[origin]), None);
        let began = mariadb(2, "0-1-98");
        assert_eq!(mariadb(3, "0-2-99").grown_from(&began), mariadb(3, "0-1-98,0-2-99"));
        let lossy = mariadb(3, "0-2-90").grown_from(&before);
        assert_eq!(lossy, mariadb(3, "0-2-90"), "what it lacks it does not get by name");
        let other = mariadb(3, "0-4-120").grown_from(&before);
        assert_eq!(other, mariadb(3, "0-4-120"), "nor by a number of somebody else");
    }

    #[test]
    fn a_server_that_was_set_back_is_told_by_its_own_transactions() {
        let (back, all) = (mysql(A, &format!("{A}:1-7")), mysql(B, &format!("{A}:1-10,{B}:1-3")));
        assert_eq!(back.would_repeat(&all), Some(format!("{A}:8-10")));
        assert_eq!(mysql(B, &format!("{B}:1-3")).would_repeat(&all), None, "it only lacks others'");
        assert_eq!(at("x", 5).would_repeat(&at("x", 9)), None);
    }

    #[test]
    fn positions_stand_in_records_as_servers_write_them() {
        for position in [mysql(A, &format!("{A}:1-10:12")), mariadb(7, "0-7-3,1-7-9")] {
            let json = serde_json::to_string(&position).expect("said");
            assert!(json.contains(&position.to_string()), "{json}");
            assert_eq!(serde_json::from_str::<Position>(&json).expect("read"), position);
        }
    }
}
