//! The report of a drill: what was asked of it, line by line, and the story of each move.

use std::time::Duration;

use sengu_core::explain::Explanation;
use sengu_core::name::ServiceName;
use sengu_core::record::{HookOutcome, HookStand};
use sengu_core::report::{ServiceReport, TermReport};
use serde::Serialize;

use super::super::print::Look;
use super::super::{history, words};
use crate::template::TemplateStatus;

/// So many things are looked at after a move.
pub(super) const FOLLOWED: usize = 3;

/// One thing that a drill asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) what: &'static str,
    pub(super) good: bool,
    pub(super) text: String,
}

impl Line {
    fn of(what: &'static str, good: bool, text: impl Into<String>) -> Self {
        Self { what, good, text: text.into() }
    }

    /// The same, with how long it took to become so.
    pub(super) fn after(self, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let text = match self.good {
            true => format!("{} (seen {} after the move)", self.text, words::seconds(millis)),
            false => self.text,
        };
        Self { text, ..self }
    }
}

/// One move of a drill.
#[derive(Debug, Serialize)]
pub(super) struct Leg {
    /// The story of the new term; none if there was no move.
    pub(super) term: Option<TermReport>,
    pub(super) lines: Vec<Line>,
    pub(super) passed: bool,
}

impl Leg {
    /// A move that did not happen.
    pub(super) fn failed(why: &str) -> Self {
        Self { term: None, lines: vec![Line::of("move", false, why)], passed: false }
    }

    pub(super) fn of(term: TermReport, lines: Vec<Line>) -> Self {
        let passed = lines.iter().all(|line| line.good);
        Self { term: Some(term), lines, passed }
    }
}

/// What the loss of the master would come to.
pub(super) fn before(told: &Explanation, look: &Look) -> String {
    let report = &told.report;
    let master = report.master.as_ref().map_or("nobody", |master| master.as_str());
    let mut text = look.strong(&format!("drill of {}, master {master}\n", report.service));
    text += &format!("\nrehearsal: suppose {}\n", told.next.suppose);
    for step in &told.next.steps {
        text += &format!("  +{}  {}\n", words::seconds(step.after_ms), step.text);
    }
    match &told.next.serves {
        Some(serves) => {
            let lost = told.next.loss.as_deref().unwrap_or("unknown");
            text += &format!("  {} would be master; lost: {lost}\n", serves.instance);
        }
        None => {
            text += "  nobody would be master:\n";
            told.next.stays.iter().for_each(|why| text += &format!("    {why}\n"));
        }
    }
    text
}

/// What the history says of a move.
pub(super) fn judged(term: &TermReport, max_gap: Duration) -> Vec<Line> {
    let record = &term.record;
    let bound = crate::duration::format(max_gap);
    let gap = match history::write_closed(record) {
        Some(millis) => Line::of(
            "write gap",
            Duration::from_millis(millis) <= max_gap,
            format!("no writes for {} (at most {bound})", words::seconds(millis)),
        ),
        None => Line::of("write gap", false, "the history does not tell how long it was"),
    };
    let nothing = history::loss(record) == "none";
    let lost = Line::of("loss", nothing, format!("lost: {}", record.loss));
    let bad: Vec<String> = record
        .hooks
        .iter()
        .filter(|(_, stand)| !went_well(stand))
        .map(|(phase, stand)| format!("{}: {}", phase.as_str(), words::hook(stand).join("; ")))
        .collect();
    let hooks = match (bad.is_empty(), record.hooks.len()) {
        (true, 0) => Line::of("hooks", true, "none ran in this term"),
        (true, many) => Line::of("hooks", true, format!("{many} phases done")),
        (false, _) => Line::of("hooks", false, bad.join("; ")),
    };
    vec![gap, lost, hooks]
}

fn went_well(stand: &HookStand) -> bool {
    match stand {
        HookStand::Started { .. } => true,
        HookStand::Ended { outcome: HookOutcome::Done { warnings, .. }, .. } => warnings.is_empty(),
        HookStand::Ended { outcome: HookOutcome::Abort { .. } | HookOutcome::Unknown, .. } => false,
    }
}

/// What is asked of outputs and copies after a move.
pub(super) fn followed(
    report: Option<&ServiceReport>,
    files: &[TemplateStatus],
    term: &TermReport,
) -> Vec<Line> {
    let named = report.and_then(|report| report.master.as_ref());
    let told = named.map_or("nobody", |name| name.as_str());
    let name = Line::of("name", named == Some(&term.record.to), format!("names point to {told}"));
    let problems = report.map(|report| report.problems.clone()).unwrap_or_default();
    let waiting = report.and_then(|report| report.doing.clone());
    let copies = match (problems.first(), waiting) {
        (Some(problem), _) => Line::of("copies", false, problem),
        (None, Some(doing)) => Line::of("copies", false, doing),
        (None, None) => Line::of("copies", true, "every copy follows"),
    };
    let bad = files.iter().find(|file| file.error.is_some() || !file.stale.is_empty());
    let files = match (bad, files.len()) {
        (Some(file), _) => {
            let why = file.error.as_deref().unwrap_or("it names the old master");
            Line::of("files", false, format!("{}: {why}", file.destination.display()))
        }
        (None, 0) => Line::of("files", true, "none is rendered here"),
        (None, many) => Line::of("files", true, format!("{many} current")),
    };
    vec![name, copies, files]
}

/// How it went.
pub(super) fn after(service: &ServiceName, legs: &[Leg], passed: bool, look: &Look) -> String {
    let mut text = String::new();
    for leg in legs {
        text.push('\n');
        if let Some(term) = &leg.term {
            text += &history::term(term, look);
            text.push('\n');
        }
        for line in &leg.lines {
            let word = if line.good { look.calm("passed") } else { look.alarm("failed") };
            text += &format!("  {word}  {:9}  {}\n", line.what, line.text);
        }
    }
    let (word, moves) = (if passed { "passed" } else { "failed" }, legs.len());
    let verdict = format!("drill of {service} {word}: {}", crate::config::count(moves, "move"));
    let verdict = if passed { look.calm(&verdict) } else { look.alarm(&verdict) };
    format!("{text}\n{verdict}\n")
}
