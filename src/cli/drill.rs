//! `sengu drill`: a planned move as an exercise, with a report that passes or fails.
//!
//! Failing over is rare, and what is rare breaks unseen. A drill shows first what the loss of the
//! master would come to (the agent's own rehearsal), then moves mastership by an ordinary
//! switchover, with its hooks and under its rules, looks at every output afterwards, and can move
//! back. It asks before it begins, and begins only where all is well.

mod report;

use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use sengu_core::explain::Explanation;
use sengu_core::name::{InstanceName, ServiceName, Term};
use sengu_core::record::Ask;
use sengu_core::report::{ServiceReport, TermReport};
use serde::Serialize;

use super::client::{Client, segment};
use super::print::{self, Look};
use super::request::{self, Asking, Outcome, Waiting};
use super::{Exit, Global};
use report::{Leg, Line};

/// Between two looks while outputs and copies settle.
const LOOK: Duration = Duration::from_millis(250);

/// Move mastership as an exercise, and report how it went
///
/// Shows what the loss of the master would come to, asks for confirmation, moves mastership by a
/// switchover (hooks run, nothing acknowledged is lost), waits until names, files and copies have
/// followed, and tells for each step how long it took. With --back moves it back and reports that,
/// too. Refused where something is wrong already. Exit code 1 if the drill fails.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// To this instance; else to the best
    #[arg(long, value_name = "INSTANCE")]
    to: Option<InstanceName>,
    /// Move back at the end
    #[arg(long)]
    back: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    /// Only show the rehearsal and whom it would move to
    #[arg(long)]
    dry_run: bool,
    /// The longest time without writes with which a move still passes
    #[arg(long, value_name = "DURATION", default_value = "5s",
          value_parser = crate::duration::parse)]
    max_gap: Duration,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    waiting: Waiting,
}

/// The whole drill, for programs.
#[derive(Debug, Serialize)]
struct Drill {
    service: ServiceName,
    /// What the loss of the master would have come to, before the drill.
    rehearsal: sengu_core::explain::Rehearsal,
    legs: Vec<Leg>,
    passed: bool,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let agent = global.agent()?;
    let service = &options.service;
    let path = format!("/v1/sengu/explain/{}", segment(service.as_str()));
    let before: Explanation = agent.get(&path)?;
    if let Some(why) = unready(&before) {
        anyhow::bail!("no drill of {service}: {why}");
    }
    let Some(home) = before.report.master.clone() else {
        anyhow::bail!("no drill of {service}: no master is named");
    };
    if !global.json {
        print::text(&report::before(&before, &Look::of_stdout()));
    }
    let ask = Ask::Switchover { to: options.to.clone() };
    let there = comment(&options.asking, "drill");
    if options.dry_run {
        return request::rehearse(global, service, &ask, &there);
    }
    if !options.yes && !confirmed(service, &home)? {
        print::note("not confirmed; nothing was done");
        return Ok(Exit::Failed);
    }
    let mut legs = vec![leg(global, options, &agent, &ask, &there)?];
    if options.back && legs.iter().all(|leg| leg.passed) {
        let ask = Ask::Switchover { to: Some(home) };
        let back = comment(&options.asking, "drill, the way back");
        legs.push(leg(global, options, &agent, &ask, &back)?);
    }
    let wanted = if options.back { 2 } else { 1 };
    let passed = legs.len() == wanted && legs.iter().all(|leg| leg.passed);
    if global.json {
        let (service, rehearsal) = (service.clone(), before.next);
        print::json(&Drill { service, rehearsal, legs, passed });
    } else {
        print::text(&report::after(service, &legs, passed, &Look::of_stdout()));
    }
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

fn comment(asking: &Asking, what: &str) -> Asking {
    let comment = match asking.comment.as_str() {
        "" => what.to_owned(),
        own => format!("{what}: {own}"),
    };
    Asking { comment }
}

/// Why a drill would not be one: what is wrong already.
fn unready(told: &Explanation) -> Option<String> {
    let report = &told.report;
    if report.term == Term(0) {
        return Some(format!("it is not adopted; `sengu adopt {}` first", report.service));
    }
    if let Some(problem) = report.problems.first() {
        return Some(format!("{problem}; mend that first"));
    }
    if let Some(doing) = &report.doing {
        return Some(format!("{doing}; wait for that"));
    }
    if report.requests.iter().any(|told| told.request.ask == Ask::Freeze) {
        return Some(format!("it is frozen; `sengu thaw {}` first", report.service));
    }
    if report.requests.iter().any(|told| told.request.ask == Ask::Pause) {
        return Some(format!("it is paused; `sengu resume {}` first", report.service));
    }
    None
}

/// Asks a person to type the service's name.
fn confirmed(service: &ServiceName, master: &InstanceName) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        anyhow::bail!("a drill moves mastership and asks first; with nobody to ask, say --yes");
    }
    print::note(&format!(
        "this moves mastership of {service} away from {master}, with its hooks; type the name of \
         the service to go on:"
    ));
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(line.trim() == service.as_str())
}

/// One move, and what followed.
fn leg(
    global: &Global,
    options: &Options,
    agent: &Client,
    ask: &Ask,
    asking: &Asking,
) -> anyhow::Result<Leg> {
    let service = &options.service;
    let began = Instant::now();
    let outcome = request::carry(global, agent, service, ask, asking, &options.waiting)?;
    if !matches!(outcome.outcome, Outcome::Done) {
        return Ok(Leg::failed(&outcome.message));
    }
    let path = format!("/v1/sengu/history/{}?limit=1", segment(service.as_str()));
    let terms: Vec<TermReport> = agent.get(&path)?;
    let Some(term) = terms.into_iter().next() else {
        return Ok(Leg::failed("the history has no term"));
    };
    let until = began + options.waiting.wait;
    let mut lines = report::judged(&term, options.max_gap);
    lines.extend(settled(agent, service, &term, until)?);
    Ok(Leg::of(term, lines))
}

/// Waits until every output has followed.
fn settled(
    agent: &Client,
    service: &ServiceName,
    term: &TermReport,
    until: Instant,
) -> anyhow::Result<Vec<Line>> {
    let began = Instant::now();
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let reports: Vec<ServiceReport> = agent.get("/v1/sengu/status")?;
        let report = reports.into_iter().find(|report| report.service == *service);
        let files = super::status::files_of(agent)?;
        let over = Instant::now() >= until;
        for line in report::followed(report.as_ref(), &files, term) {
            let known = lines.iter().any(|have| have.what == line.what);
            if !known && (line.good || over) {
                lines.push(line.after(began.elapsed()));
            }
        }
        if over || lines.len() == report::FOLLOWED {
            return Ok(lines);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests;
