//! `sengu explain`: everything that sengu knows of one service, and what it would do next and why.

use clap::Args;
use sengu_core::name::{ServiceName, Term};
use sengu_core::record::{Ask, HookStand, MasterState, Phase, Stand};
use sengu_core::report::{InstanceReport, RequestReport, ServiceReport};

use super::client::segment;
use super::print::{self, Look};
use super::words;
use super::{Exit, Global};

/// Explain one service: what is seen, what would happen if the master failed, and why
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let path = format!("/v1/sengu/explain/{}", segment(options.service.as_str()));
    let report: ServiceReport = global.agent()?.get(&path)?;
    if global.json {
        print::json(&report);
    } else {
        print::text(&explain(&report, &Look::of_stdout()));
    }
    Ok(Exit::Done)
}

/// The whole explanation.
pub(super) fn explain(report: &ServiceReport, look: &Look) -> String {
    let mut text = look.strong(&headline(report, look)) + "\n";
    let mut block = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{}\n", look.strong(title)));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    block("problems", report.problems.iter().map(|line| look.alarm(line)).collect());
    block("now", report.doing.iter().cloned().collect());
    block("policy", report.policy.iter().flat_map(words::policy).collect());
    block("instances", report.instances.iter().flat_map(instance).collect());
    block("if the master failed now", next(report));
    block("what sengu does not do", report.refusals.clone());
    block("requests", requests(report, look));
    block("last move", last(report, look));
    text
}

fn headline(report: &ServiceReport, look: &Look) -> String {
    let since = report.since.map_or_else(String::new, |at| format!(" since {}", look.time(at)));
    let (service, term) = (&report.service, report.term);
    if let Some(master) = &report.master {
        let at = report.address.map_or_else(String::new, |address| format!(" at {address}"));
        return format!("{service}: master is {master}{at} (term {term}){since}");
    }
    let holder =
        report.holder.as_ref().map_or_else(String::new, |name| format!(", last held by {name}"));
    let why = report.withdrawn.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    format!("{service}: no master is named ({}, term {term}{holder}){since}{why}", report.state)
}

fn instance(instance: &InstanceReport) -> Vec<String> {
    let role = instance.role.map_or_else(|| "role unknown".into(), |role| role.to_string());
    let writes = if instance.writable { "takes writes" } else { "takes no writes" };
    let mut line = format!(
        "{} at {} on {}: {role}, {writes}, {}",
        instance.instance, instance.address, instance.host, instance.health
    );
    for part in [&instance.replication, instance.position.as_ref().unwrap_or(&String::new())] {
        if !part.is_empty() {
            line += &format!(", {part}");
        }
    }
    let unfit = instance.unfit.iter().map(|why| format!("  would not be promoted: {why}"));
    std::iter::once(line).chain(unfit).collect()
}

fn next(report: &ServiceReport) -> Vec<String> {
    let released = report.state == MasterState::Unmanaged.word();
    if report.term == Term(0) || released {
        return vec![format!("sengu would do nothing: `sengu adopt {}` lets it", report.service)];
    }
    if report.ranking.is_empty() {
        return vec!["nobody could take over".into()];
    }
    let names: Vec<_> = report.ranking.iter().map(ToString::to_string).collect();
    vec![format!("tried in this order: {}", names.join(", "))]
}

fn requests(report: &ServiceReport, look: &Look) -> Vec<String> {
    let line = |RequestReport { id, request }: &RequestReport| {
        let comment = match request.comment.as_str() {
            "" => String::new(),
            comment => format!(" ({comment})"),
        };
        let stand = match &request.stand {
            Stand::Standing => "in force".to_owned(),
            stand => words::stand(stand),
        };
        let until = match &request.ask {
            Ask::Drain { .. } => String::new(),
            _ => format!(", until {}", look.time(request.until)),
        };
        format!(
            "{id}: {} asked for {} at {}{comment}{until}: {stand}",
            request.by,
            words::ask(&request.ask),
            look.time(request.at),
        )
    };
    let hooks = |RequestReport { request, .. }: &RequestReport| {
        let told = |(phase, stand): (&Phase, &HookStand)| {
            let told = words::hook(stand).join("; ");
            format!("  hook {}: {told}", phase.as_str())
        };
        request.hooks.iter().map(told).collect::<Vec<_>>()
    };
    let all = |request| std::iter::once(line(request)).chain(hooks(request));
    report.requests.iter().flat_map(all).collect()
}

fn last(report: &ServiceReport, look: &Look) -> Vec<String> {
    let story =
        report.last.as_ref().map(|told| super::history::term(told.term, &told.record, look));
    story.iter().flat_map(|story| story.lines().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
