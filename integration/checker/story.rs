//! Do all outputs tell the same story? A checker over what clients saw.
//!
//! The story is the agent's own: when its name began and ceased to point to a master (`named`
//! events), and the history of terms. A client's sighting is an interval (asked, answered) with
//! what was said. Within a bound before and after a change both the old and the new may be said;
//! apart from that a sighting must be what the story says of that time, and no output may go back
//! to an earlier part of it. Times are of one host's clock, in milliseconds. It judges only; it
//! asks nobody.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A part of the story: from then on, this was named; none: nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Era {
    /// When it began, in milliseconds.
    pub from: i64,
    /// Who was named, and in which term.
    pub named: Option<(String, u64)>,
}

/// A term of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub term: u64,
    /// Who took it.
    pub to: String,
    /// When it served, if it did, in milliseconds.
    pub served: Option<i64>,
}

/// What one output said once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When it was asked, in milliseconds.
    pub asked: i64,
    /// When it had answered.
    pub answered: i64,
    /// Everybody whom it named.
    pub said: Vec<String>,
    /// The term, where the output tells one.
    pub term: Option<u64>,
}

/// The sightings of one output, in the order in which they were made.
#[derive(Debug, Clone)]
pub struct Output {
    /// Which.
    pub name: String,
    /// How long it may say what was, in milliseconds.
    pub bound: i64,
    /// What it said.
    pub sightings: Vec<Sighting>,
}

/// What a good story comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sightings that were judged, by output.
    pub sightings: BTreeMap<String, usize>,
    /// How late an output was at most, in milliseconds.
    pub latest: BTreeMap<String, i64>,
}

/// Judges everything; all that is wrong is told.
///
/// # Errors
/// A line for each contradiction, at most twenty of one kind.
pub fn check(eras: &[Era], history: &[Told], outputs: &[Output]) -> Result<Summary, String> {
    let mut wrong = Vec::new();
    story(eras, history, &mut wrong);
    let mut summary = Summary::default();
    for output in outputs {
        let late = judge(eras, output, &mut wrong);
        summary.sightings.insert(output.name.clone(), output.sightings.len());
        summary.latest.insert(output.name.clone(), late);
        if output.sightings.is_empty() {
            wrong.push(format!("{} was never looked at", output.name));
        }
    }
    if wrong.is_empty() { Ok(summary) } else { Err(listed(&wrong)) }
}

fn listed(wrong: &[String]) -> String {
    let mut text = format!("{} contradictions:\n", wrong.len());
    for line in wrong.iter().take(20) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// How far the history's clock reading may be from the event's: both are of one loop.
const SAME: i64 = 1000;

/// Is the story sound in itself, and does the history tell the same?
fn story(eras: &[Era], history: &[Told], wrong: &mut Vec<String>) {
    let mut last = 0;
    for pair in eras.windows(2) {
        if pair[1].from < pair[0].from {
            wrong.push(format!("events go back in time: {:?} after {:?}", pair[1], pair[0]));
        }
    }
    for era in eras {
        let Some((who, term)) = &era.named else { continue };
        if *term < last {
            wrong.push(format!("the events name term {term} after term {last}"));
        }
        last = *term;
        match history.iter().find(|told| told.term == *term) {
            None => wrong.push(format!("term {term} was named and is not in the history")),
            Some(told) if told.to != *who => {
                wrong.push(format!("in term {term} the events name {who}, the history {}", told.to))
            }
            Some(Told { served: None, .. }) => {
                wrong.push(format!("term {term} was named, and never served by the history"));
            }
            Some(_) => {}
        }
    }
    for pair in history.windows(2) {
        if pair[1].term != pair[0].term + 1 {
            wrong.push(format!("the history goes from term {} to {}", pair[0].term, pair[1].term));
        }
    }
    for told in history {
        let Some(served) = told.served else { continue };
        let first = eras.iter().find(|era| era.named.as_ref().map(|n| n.1) == Some(told.term));
        match first {
            None => wrong.push(format!("term {} served and was never named", told.term)),
            Some(era) if (era.from - served).abs() > SAME => wrong.push(format!(
                "term {} served at {served} by the history and was named at {}",
                told.term, era.from
            )),
            Some(_) => {}
        }
    }
}

/// Every sighting must fit a part of the story, and none an earlier part than the one before it.
/// Tells how late the output was at most.
fn judge(eras: &[Era], output: &Output, wrong: &mut Vec<String>) -> i64 {
    let (mut at, mut latest) = (0, 0);
    for sighting in &output.sightings {
        if sighting.said.len() > 1 {
            wrong.push(format!("{} named {} at once", output.name, sighting.said.join(" and ")));
            continue;
        }
        let fits = |index: &usize| fits(eras, *index, output.bound, sighting);
        if let Some(index) = (at..eras.len()).find(fits) {
            at = index;
            if let Some(next) = eras.get(index + 1) {
                latest = latest.max(sighting.asked - next.from);
            }
            continue;
        }
        let said = sighting.said.first().map_or("nobody", String::as_str);
        let earlier = (0..at).any(|index| fits(&index));
        wrong.push(if earlier {
            format!("{} went back to {said}, asked at {}", output.name, sighting.asked)
        } else {
            format!(
                "{} said {said} (term {:?}), asked at {} and answered at {}; then it was {}",
                output.name,
                sighting.term,
                sighting.asked,
                sighting.answered,
                told(eras, sighting.asked)
            )
        });
    }
    latest
}

fn told(eras: &[Era], at: i64) -> String {
    let era = eras.iter().rev().find(|era| era.from <= at);
    match era {
        None => "before the story".to_owned(),
        Some(Era { named: None, from }) => format!("nobody since {from}"),
        Some(Era { named: Some((who, term)), from }) => {
            format!("{who} (term {term}) since {from}")
        }
    }
}

/// Could this have been said then, if this part of the story was meant?
fn fits(eras: &[Era], index: usize, bound: i64, sighting: &Sighting) -> bool {
    let era = &eras[index];
    let until = eras.get(index + 1).map_or(i64::MAX, |next| next.from.saturating_add(bound));
    let term = match (&era.named, sighting.term) {
        (Some((_, term)), Some(said)) => *term == said,
        _ => true,
    };
    let who = era.named.as_ref().map(|(who, _)| who);
    term && who == sighting.said.first()
        && sighting.answered >= era.from - bound
        && sighting.asked <= until
}

#[cfg(test)]
mod tests {
    use super::*;

    fn era(from: i64, named: Option<(&str, u64)>) -> Era {
        Era { from, named: named.map(|(who, term)| (who.to_owned(), term)) }
    }

    /// `a` in term 1, `b` in term 2, `a` again in term 3.
    fn eras() -> Vec<Era> {
        vec![
            era(0, Some(("a", 1))),
            era(1000, None),
            era(1400, Some(("b", 2))),
            era(3000, None),
            era(3500, Some(("a", 3))),
        ]
    }

    fn history() -> Vec<Told> {
        let told = |term, to: &str, served| Told { term, to: to.to_owned(), served: Some(served) };
        vec![told(1, "a", 0), told(2, "b", 1401), told(3, "a", 3500)]
    }

    fn saw(asked: i64, said: &str) -> Sighting {
        let said = if said.is_empty() { vec![] } else { vec![said.to_owned()] };
        Sighting { asked, answered: asked + 2, said, term: None }
    }

    fn output(sightings: Vec<Sighting>) -> Vec<Output> {
        vec![Output { name: "dns".to_owned(), bound: 100, sightings }]
    }

    fn good() -> Vec<Sighting> {
        vec![
            saw(10, "a"),
            saw(1050, "a"),
            saw(1200, ""),
            saw(1410, "b"),
            saw(2900, "b"),
            saw(3010, "b"),
            saw(3200, ""),
            saw(3600, "a"),
        ]
    }

    #[test]
    fn a_sound_story_is_taken_and_lateness_is_measured() {
        let summary = check(&eras(), &history(), &output(good())).expect("it is sound");
        assert_eq!(summary.sightings["dns"], 8);
        assert_eq!(summary.latest["dns"], 50);
        let seldom = vec![saw(10, "a"), saw(3600, "a")];
        assert!(check(&eras(), &history(), &output(seldom)).is_ok(), "seldom looked at");
        let early = vec![saw(950, ""), saw(1390, "b")];
        assert!(check(&eras(), &history(), &output(early)).is_ok(), "within the bound before");
    }

    #[track_caller]
    fn rejected(eras: &[Era], history: &[Told], outputs: &[Output], words: &str) {
        let wrong = check(eras, history, outputs).expect_err("it is forged");
        assert!(wrong.contains(words), "{wrong}");
    }

    #[test]
    fn forged_sightings_are_rejected() {
        let forged = |sightings| output(sightings);
        let (eras, history) = (eras(), history());
        let stale = forged(vec![saw(10, "a"), saw(1101, "a")]);
        rejected(&eras, &history, &stale, "dns said a");
        let early = forged(vec![saw(1297, "b")]);
        rejected(&eras, &history, &early, "dns said b");
        let stuck = forged(vec![saw(1200, ""), saw(1501, "")]);
        rejected(&eras, &history, &stuck, "dns said nobody");
        let withdrawn = forged(vec![saw(1410, "b"), saw(3101, "b")]);
        rejected(&eras, &history, &withdrawn, "then it was nobody since 3000");
        let back = forged(vec![saw(1050, ""), saw(1060, "a")]);
        rejected(&eras, &history, &back, "went back to a");
        let stranger = forged(vec![saw(10, "c")]);
        rejected(&eras, &history, &stranger, "dns said c");
        let mut two = saw(10, "a");
        two.said.push("b".to_owned());
        rejected(&eras, &history, &forged(vec![two]), "named a and b at once");
        let term = Sighting { term: Some(2), ..saw(10, "a") };
        rejected(&eras, &history, &forged(vec![term]), "term Some(2)");
        let again = Sighting { term: Some(1), ..saw(3600, "a") };
        rejected(&eras, &history, &forged(vec![again]), "dns said a (term Some(1))");
        rejected(&eras, &history, &forged(vec![]), "was never looked at");
    }

    #[test]
    fn forged_stories_are_rejected() {
        let good = output(good());
        let (eras, history) = (eras(), history());
        let mut missing = history.clone();
        missing.remove(1);
        rejected(&eras, &missing, &good, "term 2 was named and is not in the history");
        rejected(&eras, &missing, &good, "goes from term 1 to 3");
        let mut other = history.clone();
        other[1].to = "c".to_owned();
        rejected(&eras, &other, &good, "the events name b, the history c");
        let mut never = history.clone();
        never[1].served = None;
        rejected(&eras, &never, &good, "never served by the history");
        let mut when = history.clone();
        when[2].served = Some(9000);
        rejected(&eras, &when, &good, "served at 9000");
        let mut unnamed = history.clone();
        unnamed.push(Told { term: 4, to: "c".to_owned(), served: Some(4000) });
        rejected(&eras, &unnamed, &good, "term 4 served and was never named");
        let mut back = eras.clone();
        back[4].named = Some(("a".to_owned(), 1));
        rejected(&back, &history, &good, "name term 1 after term 2");
        let mut early = eras.clone();
        early[3].from = 1200;
        rejected(&early, &history, &good, "go back in time");
    }
}
