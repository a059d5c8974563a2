//! `sengu status`: one screen; its first line says whether anything is wrong.

use clap::Args;
use comfy_table::{ContentArrangement, Table};
use sengu_core::name::ServiceName;
use sengu_core::observation::Role;
use sengu_core::record::{Ask, Stand};
use sengu_core::report::{InstanceReport, ServiceReport};

use super::client::{Client, ClientError};
use super::print::{self, Look};
use super::words;
use super::{Exit, Global};
use crate::agent::Flaw;
use crate::config::count;
use crate::guard::Standing;
use crate::template::TemplateStatus;

/// Lines of a screen that are no rows: the first line, a blank, the header, the last line and the
/// prompt.
const BESIDE: usize = 6;

/// Services told by name in the first line.
const TOLD: usize = 3;

/// Show all services: who is master, and whether anything is wrong
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only these services
    services: Vec<ServiceName>,
    /// All services, even if they do not fit the screen
    #[arg(long)]
    all: bool,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let agent = global.agent()?;
    let mut reports: Vec<ServiceReport> = agent.get("/v1/sengu/status")?;
    if !options.services.is_empty() {
        let known: Vec<_> = reports.iter().map(|report| report.service.clone()).collect();
        if let Some(absent) = options.services.iter().find(|name| !known.contains(name)) {
            anyhow::bail!("there is no service `{absent}`; `sengu status` shows all");
        }
        reports.retain(|report| options.services.contains(&report.service));
    }
    if global.json {
        print::json(&reports);
    } else {
        let mut look = Look::of_stdout();
        look.height = look.height.filter(|_| !options.all);
        if let Some(line) = guard_missing(&agent)? {
            print::text(&look.alarm(line));
        }
        for flaw in flaws_of(&agent)?.iter().filter(|flaw| flaw.refused) {
            print::text(&look.alarm(&flawed(flaw)));
        }
        print::text(&screen(&reports, &files_of(&agent)?, &look));
    }
    Ok(Exit::Done)
}

/// The rendered files of this host; an agent of an older version tells none.
pub(super) fn files_of(agent: &Client) -> Result<Vec<TemplateStatus>, ClientError> {
    match agent.get("/v1/sengu/templates") {
        Err(ClientError::Absent(_)) => Ok(Vec::new()),
        told => told,
    }
}

/// What is wrong with the guard, if one is wanted; an agent of an older version tells nothing.
pub(super) fn guard_missing(agent: &Client) -> Result<Option<&'static str>, ClientError> {
    match agent.get("/v1/sengu/guard") {
        Ok(Standing { wanted: true, runs: false }) => {
            Ok(Some("the guard here is missing: nobody fences if this agent dies"))
        }
        Ok(_) | Err(ClientError::Absent(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The members of etcd whose release has a known defect; an agent of an older version tells none.
pub(super) fn flaws_of(agent: &Client) -> Result<Vec<Flaw>, ClientError> {
    match agent.get("/v1/sengu/etcd") {
        Err(ClientError::Absent(_)) => Ok(Vec::new()),
        told => told,
    }
}

/// One of them, in words.
pub(super) fn flawed(flaw: &Flaw) -> String {
    format!("{} runs etcd {}: {}", flaw.url, flaw.version, flaw.words)
}

/// The whole screen.
pub(super) fn screen(reports: &[ServiceReport], files: &[TemplateStatus], look: &Look) -> String {
    let bad: Vec<String> = files.iter().filter_map(file).collect();
    let mut text = headline(reports, &bad, look);
    text.push('\n');
    if reports.is_empty() {
        return text;
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if let Some(width) = look.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header([
        "service", "state", "master", "term", "since", "replicas", "policy", "problems",
    ]);
    let (shown, left) = fitting(reports, look);
    for report in shown {
        table.add_row(row(report, look));
    }
    text.push('\n');
    for line in table.lines() {
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    if left > 0 {
        text += &format!("and {} more that need nobody; `sengu status --all`\n", left);
    }
    text
}

/// What fits one screen: those that need somebody, then those where something goes on, then the
/// others as far as there is room; and how many are left out.
fn fitting<'a>(reports: &'a [ServiceReport], look: &Look) -> (Vec<&'a ServiceReport>, usize) {
    let room = look.height.map_or(usize::MAX, |rows| usize::from(rows).saturating_sub(BESIDE));
    if reports.len() <= room {
        return (reports.iter().collect(), 0);
    }
    let calm = |report: &&ServiceReport| report.problems.is_empty();
    let urgency = |report: &&ServiceReport| {
        (calm(report), report.doing.is_none(), report.master.is_some(), !paused(report))
    };
    let needing = reports.iter().filter(|report| !calm(report)).count();
    let mut shown: Vec<&ServiceReport> = reports.iter().collect();
    // Stable: within one urgency the order of names stays.
    shown.sort_by_key(urgency);
    shown.truncate(room.max(needing));
    let left = reports.len() - shown.len();
    (shown, left)
}

/// What is wrong with a rendered file of this host.
fn file(status: &TemplateStatus) -> Option<String> {
    let command = status.command.as_ref().and_then(|command| command.error.clone());
    let told = status.error.as_ref().map(|error| format!("is not current: {error}"));
    let told = told.or_else(|| command.map(|error| format!("is written, but its {error}")))?;
    Some(format!("{} {told}", status.destination.display()))
}

/// Is anything wrong?
fn headline(reports: &[ServiceReport], files: &[String], look: &Look) -> String {
    let said = services(reports, look);
    if files.is_empty() {
        return said;
    }
    let many = count(files.len(), "file");
    let verb = if files.len() == 1 { "needs" } else { "need" };
    format!("{}\n{said}", look.alarm(&format!("{many} here {verb} you: {}", files.join("; "))))
}

/// Is anything wrong with a service?
fn services(reports: &[ServiceReport], look: &Look) -> String {
    if reports.is_empty() {
        return "no services yet; add a [service.NAME] to the configuration file".into();
    }
    let services = count(reports.len(), "service");
    let troubled: Vec<_> = reports
        .iter()
        .filter_map(|report| Some((report.service.as_str(), report.problems.first()?)))
        .collect();
    if troubled.is_empty()
        && let Some(line) = not_adopted(reports)
    {
        return look.strong(&line);
    }
    if troubled.is_empty() {
        let named = reports.iter().filter(|report| report.master.is_some()).count();
        let held = |word: &str| {
            let count = reports.iter().filter(|it| held_back(it).any(|held| held == word)).count();
            if count == 0 { String::new() } else { format!(", {count} {word}") }
        };
        let paused = held("paused") + &held("frozen");
        let masters = count(named, "master");
        return look.calm(&format!("all well: {services}, {masters} named{paused}"));
    }
    let verb = if troubled.len() == 1 { "needs" } else { "need" };
    let told: Vec<_> = troubled.iter().map(|(name, what)| format!("{name}: {what}")).collect();
    look.alarm(&format!("{} of {services} {verb} you: {}", troubled.len(), told.join("; ")))
}

/// Services that wait for their adoption, and how to do it.
fn not_adopted(reports: &[ServiceReport]) -> Option<String> {
    let waiting = reports.iter().filter(|report| report.unadopted());
    let waiting: Vec<_> =
        waiting.map(|report| format!("`sengu adopt {}`", report.service)).collect();
    if waiting.is_empty() {
        return None;
    }
    let verb = if waiting.len() == 1 { "is" } else { "are" };
    let told = &waiting[..waiting.len().min(TOLD)];
    let more = match waiting.len() - told.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (told, services) = (told.join(", "), count(reports.len(), "service"));
    Some(format!("{} of {services} {verb} not adopted: {told}{more}", waiting.len()))
}

fn row(report: &ServiceReport, look: &Look) -> [String; 8] {
    let replicas = replicas(report);
    let mut policy = report
        .policy
        .as_ref()
        .map_or_else(|| "unknown".to_owned(), |policy| words::failover(policy.failover).into());
    for held in held_back(report) {
        policy += &format!(", {held}");
    }
    let problems = match (&report.doing, report.problems.len()) {
        (Some(doing), _) => doing.clone(),
        (None, 0) => "none".into(),
        (None, _) => report.problems.join("; "),
    };
    [
        report.service.to_string(),
        report.state.clone(),
        report.master.as_ref().map_or_else(|| "none".into(), ToString::to_string),
        report.term.to_string(),
        report.since.map_or_else(|| "never".into(), |since| look.time(since)),
        replicas,
        policy,
        problems,
    ]
}

/// Everything but the master: how many, how many of them are up, and how many are drained.
fn replicas(report: &ServiceReport) -> String {
    let replica = |instance: &&InstanceReport| match &report.master {
        Some(master) => instance.instance != *master,
        None => instance.role != Some(Role::Master),
    };
    let replicas: Vec<_> = report.instances.iter().filter(replica).collect();
    let up = replicas.iter().filter(|instance| instance.health == "up").count();
    let drained =
        report.requests.iter().filter(|told| matches!(told.request.ask, Ask::Drain { .. })).count();
    let drained = if drained == 0 { String::new() } else { format!(", {drained} drained") };
    if up == replicas.len() {
        format!("{up}{drained}")
    } else {
        format!("{up} of {} up{drained}", replicas.len())
    }
}

fn paused(report: &ServiceReport) -> bool {
    held_back(report).next().is_some()
}

/// By what a person keeps sengu from moving it.
fn held_back(report: &ServiceReport) -> impl Iterator<Item = &'static str> {
    report.requests.iter().filter_map(|told| match (&told.request.ask, &told.request.stand) {
        (Ask::Pause, Stand::Standing) => Some("paused"),
        (Ask::Freeze, Stand::Standing) => Some("frozen"),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
