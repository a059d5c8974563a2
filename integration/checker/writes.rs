//! Who acknowledged writes: **W**, from what clients were told and from the servers' own logs.
//!
//! A write can be of every term that its instance had taken by the time of the acknowledgement,
//! and of none after that. It counts as proof for a term only if it was sent after that was
//! taken. So neither a client that was held up nor a clock that counts milliseconds can make a
//! false alarm.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, Micros, Write};
use super::verdict::Verdict;

/// The first acknowledgement that each term gave for certain.
fn proofs(history: &History) -> BTreeMap<u64, &Write> {
    let mut first: BTreeMap<u64, &Write> = BTreeMap::new();
    for write in &history.writes {
        let Some(term) = history.term_of(&write.by, write.sent) else { continue };
        let known = first.entry(term).or_insert(write);
        if write.acked < known.acked {
            *known = write;
        }
    }
    first
}

/// The earliest acknowledgement of any term after this one.
fn newer<'a>(proofs: &BTreeMap<u64, &'a Write>, term: u64) -> Option<(u64, &'a Write)> {
    let later = proofs.range(term + 1..).map(|(term, write)| (*term, *write));
    later.min_by_key(|(_, write)| write.acked)
}

pub(super) fn judge(history: &History, verdicts: &mut Vec<Verdict>) {
    let proofs = proofs(history);
    let mut seen = BTreeSet::new();
    for write in &history.writes {
        if !seen.insert(&write.id) {
            verdicts.push(Verdict::SerialTwice(write.id.clone()));
        }
        let Some(term) = history.term_of(&write.by, write.acked) else {
            verdicts.push(Verdict::NeverMaster(write.clone()));
            continue;
        };
        if let Some((newer_term, newer)) = newer(&proofs, term)
            && write.sent > newer.acked
        {
            let (older, newer) = (write.clone(), newer.clone());
            verdicts.push(Verdict::TwoMasters { older, term, newer, newer_term });
        }
    }
    logs(history, &proofs, verdicts);
}

/// The same by what servers committed, and that each committed what it acknowledged.
fn logs(history: &History, proofs: &BTreeMap<u64, &Write>, verdicts: &mut Vec<Verdict>) {
    if history.logs.is_empty() {
        return;
    }
    let mut own: BTreeMap<&str, BTreeSet<_>> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for commit in history.logs.values().flatten() {
        own.entry(&commit.origin).or_default().insert(&commit.id);
        if !told.insert((&commit.origin, &commit.id)) {
            continue;
        }
        let Some(term) = history.term_of(&commit.origin, began_before(history, commit.began))
        else {
            continue;
        };
        if let Some((_, newer)) = newer(proofs, term)
            && commit.began > newer.acked
        {
            verdicts.push(Verdict::LoggedLate {
                id: commit.id.clone(),
                origin: commit.origin.clone(),
                began: commit.began,
                newer: newer.clone(),
            });
        }
    }
    let emptied = |name: &str| history.emptied.iter().any(|(emptied, _)| emptied == name);
    for write in history.writes.iter().filter(|write| !emptied(&write.by)) {
        let known = own.get(write.by.as_str()).is_some_and(|own| own.contains(&write.id));
        // What its server has lost, others may have; that it is gone at all is told elsewhere.
        if !known && history.kept.contains(&write.id) {
            verdicts.push(Verdict::NotInItsLog(write.clone()));
        }
    }
}

/// A statement may have begun to wait before its server was opened, and never for longer than a
/// client waits for an answer.
fn began_before(history: &History, began: Micros) -> Micros {
    began + history.bounds.overlap
}

/// The longest time without any acknowledgement, with its ends.
pub(super) fn gaps(history: &History) -> Vec<(Micros, Micros)> {
    let mut times: Vec<Micros> = history.writes.iter().map(|write| write.acked).collect();
    times.extend([history.span.0, history.span.1]);
    times.retain(|at| (history.span.0..=history.span.1).contains(at));
    times.sort_unstable();
    times.windows(2).map(|pair| (pair[0], pair[1])).collect()
}
