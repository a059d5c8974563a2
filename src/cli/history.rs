//! `sengu history`: the story of each term: cause, steps with their times, loss, who asked, hooks.

use clap::Args;
use sengu_core::name::{ServiceName, Term};
use sengu_core::record::{HistoryRecord, Step};
use sengu_core::report::TermReport;

use super::client::segment;
use super::print::{self, Look};
use super::words;
use super::{Exit, Global};

/// Columns of the longest bar.
const BAR: u64 = 30;

/// Show how mastership of a service has moved
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// The newest so many terms
    #[arg(long, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let service = &options.service;
    let path = format!("/v1/sengu/history/{}?limit={}", segment(service.as_str()), options.limit);
    let mut terms: Vec<TermReport> = global.agent()?.get(&path)?;
    terms.sort_by_key(|told| std::cmp::Reverse(told.term));
    if global.json {
        print::json(&terms);
    } else if terms.is_empty() {
        print::text(&format!("{service}: no term yet; `sengu adopt {service}` begins the first"));
    } else {
        let look = Look::of_stdout();
        let stories: Vec<_> =
            terms.iter().map(|told| term(told.term, &told.record, &look)).collect();
        print::text(&stories.join("\n"));
    }
    Ok(Exit::Done)
}

/// One term.
pub(super) fn term(number: Term, record: &HistoryRecord, look: &Look) -> String {
    let from = record.from.as_ref().map_or_else(|| "nobody".into(), ToString::to_string);
    let begin = record.steps.first().map_or_else(String::new, |s| format!("{}  ", look.time(s.at)));
    let title = format!("term {number}  {begin}{from} → {}", record.to);
    let mut text = format!("{}: {}\n", look.strong(&title), words::cause(&record.cause));
    text += &steps(&record.steps);
    let mut line = |line: &str| text.push_str(&format!("  {line}\n"));
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
