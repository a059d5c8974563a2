//! Which copies hold every acknowledged write of a service with `loss = "none"`: `sync/S`.
//!
//! The record says which copies may acknowledge commits, and whether enough of them together hold
//! everything that was acknowledged. A copy acknowledges only while it stands here; it leaves only
//! after it stopped doing so and the others have what it alone may have had. So whoever finds the
//! positions of any n − k + 1 of the n copies, where a commit waits for k, finds the newest
//! acknowledged write among them (two sets of that size always meet).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::name::{InstanceName, Term};
use crate::position::Position;
use crate::record::FORMAT;

/// `sync/S`, of one term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// The term it speaks of; of another term it says nothing.
    pub term: Term,
    /// A commit waits for so many acknowledgements once the record is complete; at least 1.
    pub acks: u32,
    /// Every acknowledged write is held by any [`Self::finals_needed`] of the copies together. If
    /// not, the holder alone is known to have everything.
    pub complete: bool,
    /// What a joining copy must hold to become a member; set by the holder while its commits wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Every copy that may have acknowledged a commit of this term.
    pub copies: BTreeMap<InstanceName, Standing>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

crate::record::formatted!(SyncRecord);

/// Where a copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It may acknowledge, and has not confirmed that it holds [`SyncRecord::position`].
    Joining,
    /// It may acknowledge, and holds that position.
    Member,
    /// It shall acknowledge no more.
    Leaving,
    /// It acknowledges no more, as its own agent saw; what it alone may have is still asked for.
    Off,
}

impl Standing {
    /// May it acknowledge?
    #[must_use]
    pub fn acknowledges(self) -> bool {
        matches!(self, Self::Joining | Self::Member)
    }

    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Member => "member",
            Self::Leaving => "leaving",
            Self::Off => "off",
        }
    }
}

impl SyncRecord {
    /// The record that a term starts with: the holder alone has everything, and copies that may
    /// acknowledge already stand in it.
    #[must_use]
    pub fn alone(
        term: Term,
        acks: u32,
        may_acknowledge: impl Iterator<Item = InstanceName>,
    ) -> Self {
        Self {
            format: FORMAT,
            term,
            acks: acks.max(1),
            complete: false,
            position: None,
            copies: may_acknowledge.map(|name| (name, Standing::Joining)).collect(),
            unknown: Map::new(),
        }
    }

    /// So many final positions of its copies show every acknowledged write: n − k + 1.
    #[must_use]
    pub fn finals_needed(&self) -> usize {
        let acks = usize::try_from(self.acks).unwrap_or(usize::MAX);
        (self.copies.len() + 1).saturating_sub(acks).max(1)
    }

    /// So many copies may acknowledge.
    #[must_use]
    pub fn acknowledging(&self) -> u32 {
        let count = self.copies.values().filter(|standing| standing.acknowledges()).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Every copy that may acknowledge must confirm anew what it holds.
    pub fn ask_again(&mut self) {
        self.position = None;
        for standing in self.copies.values_mut() {
            if *standing == Standing::Member {
                *standing = Standing::Joining;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_set_of_finals_needed_meets_any_set_of_acknowledgers() {
        for copies in 1_u32..7 {
            for acks in 1..=copies {
                let names = (0..copies).map(|n| InstanceName::new(&format!("c{n}")).expect("good"));
                let record = SyncRecord::alone(Term(3), acks, names);
                let needed = record.finals_needed();
                assert!(needed + usize::try_from(acks).expect("small") > record.copies.len());
                assert_eq!(needed + usize::try_from(acks).expect("small") - 1, record.copies.len());
            }
        }
        assert_eq!(SyncRecord::alone(Term(1), 1, std::iter::empty()).finals_needed(), 1);
    }
}
