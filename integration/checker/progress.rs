//! That something happens, and not too much of it: where nobody acknowledged for long, a move or a
//! refusal that was said; after the last fault, the steady state in bounded time; and terms that
//! make sense; no hook twice, no record without a bound. Time for which the machine let nobody work
//! counts for nobody.

use super::history::{History, HookStart, Micros};
use super::verdict::Verdict;
use super::writes;

pub(super) fn judge(history: &History, verdicts: &mut Vec<Verdict>) {
    terms(history, verdicts);
    needless(history, verdicts);
    bounded(history, verdicts);
    let bound = history.bounds.standstill;
    for (from, until) in writes::gaps(history) {
        let end = history.after(from, bound);
        if until <= end {
            continue;
        }
        let within = |at| from <= at && at <= end;
        let moved = history.terms.iter().any(|term| within(term.began) || within(term.taken));
        let said = history.refusals.iter().any(|it| it.from <= end && it.until >= from);
        if !moved && !said {
            verdicts.push(Verdict::SilentStandstill { from, until });
        }
    }
    match &history.rest {
        None => verdicts.push(Verdict::NothingRecorded("how it came to rest".into())),
        Some(rest) => {
            let took = rest.steady.map(|steady| steady - rest.healed);
            let end = history.after(rest.healed, history.bounds.converge);
            if rest.steady.is_none_or(|steady| steady > end) {
                let (healed, missing) = (rest.healed, rest.missing.clone());
                verdicts.push(Verdict::NotConverged { healed, took, missing });
            }
        }
    }
}

/// Where all that was done is harmless, nobody moves; where nothing was done nobody claims so, as
/// a machine that does much else may be what is wrong.
fn needless(history: &History, verdicts: &mut Vec<Verdict>) {
    if history.faults.is_empty() || history.faults.iter().any(|fault| !fault.harmless) {
        return;
    }
    let first = history.faults.iter().map(|fault| fault.at).min().unwrap_or(Micros::MAX);
    for term in history.terms.iter().filter(|term| term.began >= first && !term.planned) {
        verdicts.push(Verdict::NeedlessMove { term: term.term, began: term.began });
    }
}

fn bounded(history: &History, verdicts: &mut Vec<Verdict>) {
    for (index, start) in history.hooks.iter().enumerate() {
        let same = |other: &HookStart| (other.term, &other.phase) == (start.term, &start.phase);
        if history.hooks[..index].iter().any(same) {
            verdicts.push(Verdict::HookTwice(start.clone()));
        }
    }
    let (known, bound) = (history.histories, history.bounds.histories);
    if known == 0 {
        verdicts.push(Verdict::NothingRecorded("a history of a master".into()));
    }
    if known > bound {
        verdicts.push(Verdict::TooManyHistories { known, bound });
    }
}

fn terms(history: &History, verdicts: &mut Vec<Verdict>) {
    let mut wrong = |term, how: &str| {
        verdicts.push(Verdict::TermsContradict { term, how: how.to_owned() });
    };
    for pair in history.terms.windows(2) {
        let [before, after] = pair else { continue };
        if after.term == before.term {
            wrong(after.term, "it was taken twice");
        } else if after.term != before.term + 1 {
            wrong(after.term, "the one before it is not in the history");
        }
        if after.taken < before.taken {
            wrong(after.term, "it was taken before the one before it");
        }
    }
    for term in &history.terms {
        if term.served.is_some_and(|served| served < term.taken) {
            wrong(term.term, "it served before it was taken");
        }
    }
}
