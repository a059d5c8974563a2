//! Consul's HTTP dialect as pure functions: a catalog and a request become either a view (what
//! a read answers, and its index) or a plan (the txn of a write), or a refusal in words.
//!
//! Nothing here waits, writes or reads a clock. Managed services appear as Consul services, but
//! nobody may write them through this dialect: the plans refuse that with the reason.

pub mod agent;
pub mod definition;
pub mod derived;
pub mod directory;
pub mod duration;
pub mod filter;
pub mod health;
pub mod json;
pub mod kv;
pub mod overview;
pub mod record;
pub mod register;
pub mod registry;
pub mod row;
pub mod session;
pub mod streak;
#[cfg(test)]
mod tests;
pub(crate) mod touch;
pub mod transaction;

use crate::kv::{Revision, Txn, TxnReply};

/// Why a request is not done: Consul's status codes, and a text for the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: the request cannot be understood.
    #[error("{0}")]
    Bad(String),
    /// 404: there is no such thing.
    #[error("{0}")]
    Missing(String),
    /// 409: the name belongs to sengu.
    #[error("{0}")]
    Managed(String),
    /// 413: larger than a bound.
    #[error("{0}")]
    TooLarge(String),
    /// 500: what Consul answers to a request that its servers refuse.
    #[error("{0}")]
    Invalid(String),
}

impl Refusal {
    /// The HTTP status that Consul's clients expect.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Bad(_) => 400,
            Self::Missing(_) => 404,
            Self::Managed(_) => 409,
            Self::TooLarge(_) => 413,
            Self::Invalid(_) => 500,
        }
    }
}

/// A write, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the store is asked to do.
    pub txn: Txn,
    /// What it means if the conditions do not hold.
    pub otherwise: Otherwise,
}

/// What a failed comparison means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// The answer is `false`.
    False,
    /// The answer is `true` if the key, read in the same txn, is missing; else `false`.
    TrueIfMissing,
    /// The plan was made from an older picture: make it again from a newer one.
    Again,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This is the answer.
    Answer(bool),
    /// Make the plan again, from a picture that has at least the reply's revision.
    Again,
}

impl Plan {
    /// Reads the store's reply.
    #[must_use]
    pub fn verdict(&self, reply: &TxnReply) -> Verdict {
        if reply.succeeded {
            return Verdict::Answer(true);
        }
        match self.otherwise {
            Otherwise::False => Verdict::Answer(false),
            Otherwise::Again => Verdict::Again,
            Otherwise::TrueIfMissing => Verdict::Answer(reply.results.iter().all(
                |result| matches!(result, crate::kv::OpResult::Got(found) if found.is_empty()),
            )),
        }
    }
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// Consul's `X-Consul-Index`; may be 0 here, never on the wire.
    pub index: Revision,
    /// The answer.
    pub body: T,
}
