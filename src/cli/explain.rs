//! `sengu explain`: everything that sengu knows of one service, what it would do next and why, and
//! what each safety rule says now.
//!
//! What would happen is rehearsed by the agent with the code that decides; this only prints it.

mod inputs;

use clap::Args;
use sengu_core::explain::{Explanation, Rehearsal, RuleReport, RuleVerdict};
use sengu_core::name::ServiceName;
use sengu_core::record::{Ask, HookStand, Phase, Stand};
use sengu_core::report::{InstanceReport, RequestReport, ServiceReport};

use super::client::segment;
use super::print::{self, Look};
use super::words;
use super::{Exit, Global};

/// Explain one service: what is seen, what would happen if the master failed, and why
///
/// Prints every input of the decisions, each safety rule with what it says now, and a rehearsal:
/// the agent runs a copy of its own decisions on, supposing that the master's process ends now.
/// Nothing is changed by that.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let path = format!("/v1/sengu/explain/{}", segment(options.service.as_str()));
    let told: Explanation = global.agent()?.get(&path)?;
    if global.json {
        print::json(&told);
    } else {
        print::text(&explain(&told, &Look::of_stdout()));
    }
    Ok(Exit::Done)
}

/// The whole explanation.
pub(super) fn explain(told: &Explanation, look: &Look) -> String {
    let report = &told.report;
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
    block(&format!("suppose {}", told.next.suppose), next(&told.next, look));
    block("what sengu does not do", report.refusals.clone());
    block("rules", told.rules.iter().map(|rule| one_rule(rule, look)).collect());
    block("requests", requests(report, look));
    block("last move", last(report, look));
    block("inputs", inputs::lines(&report.service, &told.inputs, look));
    text
}

/// What the rehearsal came to.
fn next(next: &Rehearsal, look: &Look) -> Vec<String> {
    let mut lines: Vec<String> = next
        .steps
        .iter()
        .map(|step| format!("{:>9}  {}", format!("+{}", words::seconds(step.after_ms)), step.text))
        .collect();
    match &next.serves {
        Some(serves) => {
            let lost = next.loss.as_deref().unwrap_or("unknown");
            let line = format!(
                "{} at {} would be master (term {}); lost: {lost}",
                serves.instance, serves.address, serves.term
            );
            lines.push(look.calm(&line));
        }
        None => {
            lines.push(look.alarm("nobody would be master:"));
            lines.extend(next.stays.iter().map(|why| format!("  {why}")));
        }
    }
    if next.serves.is_some() && !next.provided.is_empty() {
        lines.push(format!("provided that {}", next.provided.join(", ")));
    }
    lines
}

fn one_rule(rule: &RuleReport, look: &Look) -> String {
    let word = rule.verdict.word();
    let word = match rule.verdict {
        RuleVerdict::Stops => look.alarm(word),
        RuleVerdict::Holds => look.calm(word),
        RuleVerdict::Idle => word.to_owned(),
    };
    // Colours have no width, and the three words all have five letters but one.
    let pad = " ".repeat(5 - rule.verdict.word().len().min(5));
    format!("{:22}  {word}{pad}  {}", rule.rule, rule.facts)
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
    let story = report.last.as_ref().map(|told| super::history::term(told, look));
    story.iter().flat_map(|story| story.lines().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
