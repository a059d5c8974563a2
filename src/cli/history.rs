//! `sengu history`: the story of each term: cause, steps with their times, how long no write was
//! taken, loss, who asked, hooks.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use sengu_core::name::{ServiceName, Term};
use sengu_core::record::{Cause, HistoryRecord, Step};
use sengu_core::report::{TermReport, ToldReport};
use serde::Serialize;

use super::client::{Client, ClientError, segment};
use super::print::{self, Look};
use super::words;
use super::{Exit, Global};

/// Columns of the longest bar.
const BAR: u64 = 30;

/// How long one look waits for news.
const WAIT: Duration = Duration::from_secs(60);

/// Show how mastership of a service has moved
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// The newest so many terms
    #[arg(long, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(0..=1000))]
    limit: u32,
    /// Go on with each new term as it ends; with --json one line a change
    #[arg(long, short)]
    follow: bool,
}

/// A term as programs get it: the record, and what follows from it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a TermReport,
    /// So long nobody took writes, in milliseconds; none where it cannot be told. When beats
    /// stayed away: since that was noticed.
    write_closed_ms: Option<u64>,
    /// `none`, `some`, `bounded` or `unknown`.
    loss_verdict: &'static str,
}

impl<'a> Told<'a> {
    fn of(report: &'a TermReport) -> Self {
        let record = &report.record;
        Self { report, write_closed_ms: write_closed(record), loss_verdict: loss(record) }
    }
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let service = &options.service;
    let path = format!("/v1/sengu/history/{}", segment(service.as_str()));
    let agent = global.agent()?;
    let (mut terms, index): (Vec<TermReport>, u64) =
        agent.follow(&format!("{path}?limit={}", options.limit), 0, WAIT)?;
    terms.sort_by_key(|told| std::cmp::Reverse(told.term));
    let look = Look::of_stdout();
    if options.follow {
        terms.reverse();
        for report in &terms {
            tell(global, report, &look);
        }
        return follow(global, &agent, &path, &terms, index, &look);
    }
    if global.json {
        print::json(&terms.iter().map(Told::of).collect::<Vec<_>>());
    } else if terms.is_empty() {
        print::text(&format!("{service}: no term yet; `sengu adopt {service}` begins the first"));
    } else {
        let stories: Vec<_> = terms.iter().map(|told| term(told, &look)).collect();
        print::text(&stories.join("\n"));
    }
    Ok(Exit::Done)
}

fn tell(global: &Global, report: &TermReport, look: &Look) {
    if global.json {
        print::line(&Told::of(report));
    } else {
        print::text(&term(report, look));
    }
}

/// For ever, or until the agent is gone.
fn follow(
    global: &Global,
    agent: &Client,
    path: &str,
    shown: &[TermReport],
    mut index: u64,
    look: &Look,
) -> anyhow::Result<Exit> {
    let mut known: BTreeMap<Term, HistoryRecord> =
        shown.iter().map(|told| (told.term, told.record.clone())).collect();
    let path = format!("{path}?limit=50");
    loop {
        let (mut terms, now): (Vec<TermReport>, u64) = match agent.follow(&path, index, WAIT) {
            Err(ClientError::Absent(words)) => anyhow::bail!(words),
            answer => answer?,
        };
        // A restored store may have gone back.
        index = if now < index { 0 } else { now };
        terms.sort_by_key(|told| told.term);
        let newest = terms.last().map(|told| told.term);
        let oldest = known.keys().next_back().copied().unwrap_or_default();
        for report in terms {
            if known.get(&report.term) == Some(&report.record)
                || (report.term < oldest && !known.contains_key(&report.term))
            {
                continue;
            }
            let over = ended(&report.record) || newest > Some(report.term);
            // People are told of a term when it is over, and of nothing twice.
            let told = known.get(&report.term).is_some_and(ended);
            if global.json || (over && !told) {
                tell(global, &report, look);
            }
            known.insert(report.term, report.record);
        }
        while known.len() > 200 {
            known.pop_first();
        }
    }
}

fn ended(record: &HistoryRecord) -> bool {
    record.steps.iter().any(|step| step.name == "serving")
}

/// How long nobody took writes: from the first sign to the new master's opening.
pub(super) fn write_closed(record: &HistoryRecord) -> Option<u64> {
    let first = record.steps.first().filter(|step| step.name != "serving")?;
    record.from.as_ref()?;
    let open = record.steps.iter().find(|step| step.name == "serving")?;
    u64::try_from(open.at.0 - first.at.0).ok()
}

/// The loss in one word.
pub(super) fn loss(record: &HistoryRecord) -> &'static str {
    let words = record.loss.as_str();
    match words {
        _ if words.starts_with("nothing") => "none",
        _ if words.starts_with("unknown, at most") => "bounded",
        "" => "unknown",
        _ if words.starts_with("unknown") => "unknown",
        _ => "some",
    }
}

/// One term.
pub(super) fn term(report: &TermReport, look: &Look) -> String {
    let (number, record) = (report.term, &report.record);
    let from = record.from.as_ref().map_or_else(|| "nobody".into(), ToString::to_string);
    let begin = record.steps.first().map_or_else(String::new, |s| format!("{}  ", look.time(s.at)));
    let title = format!("term {number}  {begin}{from} → {}", record.to);
    let mut text = format!("{}: {}\n", look.strong(&title), words::cause(&record.cause));
    text += &steps(&record.steps);
    let mut line = |line: &str| text.push_str(&format!("  {line}\n"));
    if let Some(closed) = write_closed(record) {
        let closed = words::seconds(closed);
        // Its own agent fenced it, or its host died, before anybody here noticed.
        line(&match record.cause {
            Cause::Lapsed => {
                format!("no writes for {closed} and, before that was noticed, up to a lease")
            }
            _ => format!("no writes for {closed}"),
        });
    }
    line(&format!("lost: {}", record.loss));
    if let Some(by) = &record.asked_by {
        line(&format!("asked by {by}"));
    }
    if record.ranking.len() > 1 {
        let names: Vec<_> = record.ranking.iter().map(ToString::to_string).collect();
        line(&format!("ranking: {}", names.join(", ")));
    }
    for (instance, why) in &record.refusals {
        line(&format!("passed over: {instance}: {why}"));
    }
    for (phase, stand) in &record.hooks {
        let mut told = words::hook(stand).into_iter();
        line(&format!("hook {}: {}", phase.as_str(), told.next().unwrap_or_default()));
        told.for_each(|rest| line(&rest));
    }
    for ToldReport { host, entry } in &report.told {
        let mut told = words::hook(&entry.stand).into_iter();
        let of = entry
            .instance
            .as_ref()
            .map_or_else(String::new, |(instance, role)| format!(" ({instance} is {role} now)"));
        let first = told.next().unwrap_or_default();
        line(&format!("hook {} on {host}{of}: {first}", entry.phase.as_str()));
        told.for_each(|rest| line(&rest));
    }
    text
}

/// Each step with the time since the one before as a bar, and the whole.
fn steps(steps: &[Step]) -> String {
    let took = |from: &Step, to: &Step| u64::try_from(to.at.0 - from.at.0).unwrap_or(0);
    let times: Vec<u64> = steps.windows(2).map(|pair| took(&pair[0], &pair[1])).collect();
    let longest = times.iter().copied().max().unwrap_or(0).max(1);
    let widest = steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0).max(5);
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        let Some(time) = index.checked_sub(1).map(|before| times[before]) else {
            text += &format!("  {}\n", step.name);
            continue;
        };
        let bar = "█".repeat(usize::try_from(time.saturating_mul(BAR) / longest).unwrap_or(0));
        let line = format!("  {:widest$}  {:>9}  {bar}", step.name, words::seconds(time));
        text += &format!("{}\n", line.trim_end());
    }
    if times.len() > 1 {
        let whole = words::seconds(times.iter().sum());
        text += &format!("  {:widest$}  {whole:>9}\n", "whole");
    }
    text
}

#[cfg(test)]
mod tests;
