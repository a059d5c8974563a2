//! Whom outputs named: one or nobody, only who served within the stated bound, nobody once
//! another served for longer than the bound, and never an earlier term again. An agent that the
//! store does not reach cannot hear that another serves; it may go by its last answer for a lease.

use std::collections::BTreeMap;

use super::history::{History, Micros, Sighting, Term};
use super::verdict::Verdict;

/// Times of a history are in milliseconds, and are taken before the publication.
const EARLY: Micros = 50_000;

/// A stretch of time in which somebody may be named: from, until.
type Stretch = (Micros, Micros);

pub(super) fn judge(history: &History, verdicts: &mut Vec<Verdict>) -> Micros {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut worst = 0;
    for output in &history.outputs {
        if !history.sightings.iter().any(|sighting| sighting.output == *output) {
            verdicts.push(Verdict::NeverLookedAt(output.clone()));
        }
    }
    for sighting in &history.sightings {
        if sighting.said.len() > 1 {
            verdicts.push(Verdict::TwoNamed(sighting.clone()));
            continue;
        }
        if let Some(term) = sighting.term {
            let known = newest.entry(&sighting.output).or_insert(term);
            if term < *known {
                let from = *known;
                verdicts.push(Verdict::WentBack { sighting: sighting.clone(), from });
            }
            *known = term.max(*known);
        }
        if let [said] = &sighting.said[..] {
            worst = worst.max(stale(history, sighting, said));
            if let Some((at, why)) = wrong(history, sighting, said) {
                verdicts.push(Verdict::NotServing { sighting: sighting.clone(), at, why });
            }
        }
    }
    worst
}

/// More for a file, which waits for quiet before it is written.
fn more(history: &History, sighting: &Sighting) -> Micros {
    if sighting.output.ends_with("file") { history.bounds.file } else { 0 }
}

/// When a term was published, and when the next one's move began.
fn published<'a>(
    history: &'a History,
    said: &'a str,
) -> impl Iterator<Item = (&'a Term, Micros, Micros)> {
    history.terms.iter().filter(move |term| term.holder == said).filter_map(move |term| {
        let end = history.terms.iter().filter(|next| next.term > term.term);
        let end = end.map(|next| next.began).min().unwrap_or(Micros::MAX);
        Some((term, term.served?, end))
    })
}

/// When an instance served and its process ran.
fn served(history: &History, said: &str) -> Vec<Stretch> {
    let lives: Vec<Stretch> = history
        .lives
        .iter()
        .filter(|life| life.instance == said)
        .map(|life| (life.from, life.until.unwrap_or(Micros::MAX)))
        .collect();
    let mut all = Vec::new();
    for (_, from, until) in published(history, said) {
        if lives.is_empty() {
            all.push((from, until));
        }
        for life in &lives {
            let both = (from.max(life.0), until.min(life.1));
            if both.0 < both.1 {
                all.push(both);
            }
        }
    }
    all
}

/// Until when an output whose agent was cut off may name one of another host, though another one
/// serves since `next`.
fn unheard(history: &History, output: &str, said: &str, next: Micros) -> Option<Micros> {
    let bounds = history.bounds;
    let cut_off = history.cut_off.iter().filter(|cut| {
        output.starts_with(&cut.outputs) && cut.own != said && cut.at <= next + bounds.overlap
    });
    cut_off.map(|cut| history.after(cut.at, bounds.stale)).max()
}

/// The stretches in which an output may name it.
fn allowed(history: &History, output: &str, said: &str, more: Micros) -> Vec<Stretch> {
    let bounds = history.bounds;
    let mut all: Vec<Stretch> = served(history, said)
        .into_iter()
        .map(|(from, until)| {
            let next = history.terms.iter().filter(|term| term.holder != said);
            let next = next.filter_map(|term| term.served).filter(|at| *at > from).min();
            let late = history.after(until, bounds.stale + more);
            let overlap = next.map_or(Micros::MAX, |at| {
                let heard = history.after(at, bounds.overlap + more);
                let unheard = unheard(history, output, said, at).map(|until| until + more);
                unheard.map_or(heard, |until| until.max(heard))
            });
            (from - EARLY, late.min(overlap))
        })
        .collect();
    all.sort_unstable();
    all
}

/// The first moment at which this was said and must not have been, and why.
fn wrong(history: &History, sighting: &Sighting, said: &str) -> Option<(Micros, String)> {
    let stretches = allowed(history, &sighting.output, said, more(history, sighting));
    // The first answer was made somewhere between these two; so was the last one, after `last`.
    let (mut at, end) = (sighting.asked, sighting.last.max(sighting.asked));
    let mut first = sighting.answered;
    loop {
        let inside = stretches.iter().filter(|(from, until)| *from <= first && at <= *until);
        let Some(until) = inside.map(|(_, until)| *until).max() else { break };
        if until >= end {
            return None;
        }
        // Equal answers may go on into the next stretch, if that follows at once.
        at = until + 1;
        first = at;
    }
    let before = stretches.iter().rev().find(|(_, until)| *until < at);
    let why = match before {
        None => format!("{said} had not served"),
        Some((_, until)) => {
            format!("{said} may have been named until {until}, and was at {at} (bound included)")
        }
    };
    Some((at, why))
}

/// For how long after it had ceased to serve it was named.
fn stale(history: &History, sighting: &Sighting, said: &str) -> Micros {
    let last = sighting.last;
    // The only answer may have been made long after it was asked for.
    let made = last.max(sighting.answered);
    let stretches = served(history, said);
    // Named just before its term is said to begin, it is not named by an earlier one.
    if stretches.iter().any(|(from, until)| from - EARLY <= made && last <= *until) {
        return 0;
    }
    let ended = stretches.iter().map(|(_, until)| *until).filter(|until| *until < last).max();
    ended.map_or(0, |until| last - until)
}
