//! What became of acknowledged writes: kept where that is promised, and gone only where a term
//! says so, and no more than it says.
//!
//! A write that is gone was lost by one of the moves after it. It is excused if one of those
//! terms says of itself that such a write may be lost; a term that counts its loss may not be
//! used as an excuse by more writes than it counted.

use std::collections::BTreeMap;

use super::history::{History, Loss, Micros, Term, Write};
use super::verdict::Verdict;

/// The least that one write adds to the replication stream, in bytes: an array of three words.
const LEAST: u64 = 20;
/// Times of a history are in milliseconds.
const ROUNDING: Micros = 2_000;

pub(super) fn judge(history: &History, verdicts: &mut Vec<Verdict>) {
    let mut only: BTreeMap<u64, u64> = BTreeMap::new();
    for write in history.writes.iter().filter(|write| !history.kept.contains(&write.id)) {
        let Some(term) = history.term_of(&write.by, write.sent) else { continue };
        let after: Vec<&Term> = history.terms.iter().filter(|next| next.term > term).collect();
        let excuses: Vec<&&Term> =
            after.iter().filter(|next| excuses(history, next, write)).collect();
        match excuses[..] {
            [] => verdicts.push(Verdict::Lost {
                write: write.clone(),
                term,
                said: after.iter().map(|next| (next.term, next.loss)).collect(),
            }),
            [one] => *only.entry(one.term).or_default() += 1,
            _ => {}
        }
    }
    for term in &history.terms {
        let gone = only.get(&term.term).copied().unwrap_or_default();
        let too_many = match term.loss {
            Loss::Transactions(count) => gone > count,
            Loss::Bytes(count) => gone.saturating_mul(LEAST) > count,
            Loss::Nothing | Loss::AtMost(_) | Loss::Unknown => false,
        };
        if too_many {
            verdicts.push(Verdict::LossMisstated { term: term.term, said: term.loss, gone });
        }
        if term.planned && term.loss != Loss::Nothing {
            verdicts.push(Verdict::PlannedMoveLost { term: term.term, said: term.loss });
        }
    }
}

/// One that lost all its data must copy that of another one, which serves, before it may serve; or
/// a person took the loss upon himself.
pub(super) fn emptied(history: &History, verdicts: &mut Vec<Verdict>) {
    for (name, at) in &history.emptied {
        let first = history.terms.iter().position(|it| it.holder == *name && it.taken > *at);
        let Some(first) = first else { continue };
        let term = &history.terms[first];
        // A term ends when the next one begins.
        let ends = |number: usize| history.terms[number + 1].began;
        let copied = (0..first).any(|number| {
            let other = &history.terms[number];
            other.holder != *name && other.served.is_some() && ends(number) > *at
        });
        if !copied && !term.forced {
            let (term, holder) = (term.term, name.clone());
            verdicts.push(Verdict::EmptiedWon { term, holder, emptied: *at });
        }
    }
}

/// Does this term say that such a write may be lost, and may it?
fn excuses(history: &History, term: &Term, write: &Write) -> bool {
    if history.lossless && !term.forced {
        return false;
    }
    match term.loss {
        Loss::Nothing => false,
        Loss::Transactions(_) | Loss::Bytes(_) | Loss::Unknown => true,
        Loss::AtMost(before) => write.acked >= term.began - before - ROUNDING,
    }
}
