//! What can be asked of an engine that wraps the pure machine, and what came of it.
//!
//! Both the memory engine and the embedded store's writer carry requests out by [`Ask::perform`],
//! so that they differ in durability only. Nothing here is durable: the caller decides what is
//! done with the [`Effect`], and answers only after.

use std::time::Duration;

use sengu_core::kv::{Change, Kv, LeaseId, Refused, Txn, TxnReply};
use sengu_core::time::Time;

use super::StoreError;

/// A request.
#[derive(Debug)]
pub(super) enum Ask {
    Txn(Txn),
    Grant(Duration),
    Keep(LeaseId),
    Revoke(LeaseId),
}

/// The answer to the request of the same name.
#[derive(Debug)]
pub(super) enum Answer {
    Txn(TxnReply),
    Granted(LeaseId, Duration),
    Kept(bool),
    Revoked,
}

/// What a disk must hold before an answer may go out.
#[derive(Debug, Default)]
pub(super) struct Effect {
    /// Changes of keys, in order.
    pub(super) changes: Vec<Change>,
    /// Leases with their time to live; `None`: ended.
    pub(super) leases: Vec<(LeaseId, Option<Duration>)>,
}

impl Effect {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.leases.is_empty()
    }
}

impl Ask {
    /// Roughly the bytes that it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Txn(txn) => txn.bytes(),
            Self::Grant(_) | Self::Keep(_) | Self::Revoke(_) => 64,
        }
    }

    /// Carries it out on a machine; a refusal has changed nothing.
    pub(super) fn perform(
        &self,
        kv: &mut Kv,
        now: Time,
        effect: &mut Effect,
    ) -> Result<Answer, StoreError> {
        match self {
            Self::Txn(txn) => {
                let applied = kv.apply(txn)?;
                effect.changes.extend(applied.changes);
                Ok(Answer::Txn(applied.reply))
            }
            Self::Grant(ttl) => {
                let id = lease_id()?;
                kv.grant(id, *ttl, now)?;
                effect.leases.push((id, Some(*ttl)));
                Ok(Answer::Granted(id, *ttl))
            }
            Self::Keep(id) => Ok(Answer::Kept(kv.keep(*id, now))),
            Self::Revoke(id) => {
                end_lease(kv, *id, effect);
                Ok(Answer::Revoked)
            }
        }
    }
}

/// Ends the leases whose time is over.
pub(super) fn expire(kv: &mut Kv, now: Time, effect: &mut Effect) {
    for id in kv.expired(now) {
        end_lease(kv, id, effect);
    }
}

fn end_lease(kv: &mut Kv, id: LeaseId, effect: &mut Effect) {
    effect.changes.extend(kv.revoke(id));
    effect.leases.push((id, None));
}

/// Random, so that an id is not used again after a restart; 63 bits, as SQLite and etcd store it.
fn lease_id() -> Result<LeaseId, StoreError> {
    let random = getrandom::u64();
    random
        .map(|random| random >> 1)
        .map_err(|error| StoreError::Refused(format!("no random number for a lease: {error}")))
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused.to_string())
    }
}
