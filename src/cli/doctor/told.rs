//! What the agent tells of itself: services, rules, checks, rendered files.

use sengu_core::explain::{Explanation, RuleVerdict};
use sengu_core::record::Ask;
use sengu_core::report::ServiceReport;

use super::super::client::{Client, ClientError, segment};
use super::{Finding, Masters};
use crate::agent::Flaw;
use crate::config::count;
use crate::probe::CheckReport;
use crate::template::TemplateStatus;

/// A moment ago: a doubt that old is worth a word, in milliseconds.
const LATELY: u64 = 10 * 60 * 1000;

/// Everything, and who is named master of what.
pub(super) fn all(agent: &Client) -> Result<(Vec<Finding>, Masters), ClientError> {
    let reports: Vec<ServiceReport> = agent.get("/v1/sengu/status")?;
    let mut findings = vec![Finding::good(
        "agent",
        format!("it answers, and knows {}", count(reports.len(), "service")),
    )];
    for report in &reports {
        let path = format!("/v1/sengu/explain/{}", segment(report.service.as_str()));
        // One that went meanwhile is no finding.
        if let Ok(told) = agent.get::<Explanation>(&path) {
            findings.extend(service(&told));
        }
    }
    if let Some(text) = super::super::status::guard_missing(agent)? {
        let mend = "`systemctl enable --now sengu-guard`, or `guard = false` in the configuration";
        findings.push(Finding::wrong("guard", text, mend));
    }
    findings.extend(super::super::status::flaws_of(agent)?.iter().map(etcd));
    findings.extend(checks(&agent.get::<Vec<CheckReport>>("/v1/sengu/checks")?));
    findings.extend(files(&super::super::status::files_of(agent)?));
    let masters = reports.into_iter().map(|one| (one.service.to_string(), one.address)).collect();
    Ok((findings, masters))
}

/// A release of etcd with a known defect.
fn etcd(flaw: &Flaw) -> Finding {
    let text = super::super::status::flawed(flaw);
    if flaw.refused {
        let mend = "upgrade etcd: no agent with `failover = \"auto\"` starts on it";
        return Finding::wrong("etcd", text, mend);
    }
    Finding::warning("etcd", text, "upgrade etcd to the newest 3.5 or later")
}

/// One service.
pub(super) fn service(told: &Explanation) -> Vec<Finding> {
    let report = &told.report;
    let (service, about) = (&report.service, format!("service {}", report.service));
    let explain = format!("`sengu explain {service}` shows what is seen and what would happen");
    let mut findings: Vec<Finding> = Vec::new();
    if report.unadopted() {
        let mend = format!("`sengu adopt {service}`, or take it out of the configuration");
        findings.push(Finding::warning(&about, "it is watched and not adopted", mend));
    }
    findings.extend(report.problems.iter().map(|problem| {
        let mend = match &report.doing {
            Some(doing) => format!("under way: {doing}; {explain}"),
            None => explain.clone(),
        };
        Finding::wrong(&about, problem, mend)
    }));
    let managed = report.term.0 > 0 && report.state != "unmanaged";
    let stops = told.rules.iter().filter(|rule| rule.verdict == RuleVerdict::Stops && managed);
    findings.extend(stops.map(|rule| {
        Finding::warning(&about, format!("{} stops: {}", rule.rule, rule.facts), explain.clone())
    }));
    if managed && report.problems.is_empty() && told.next.serves.is_none() {
        let why = told.next.stays.first().map_or("nobody could", String::as_str);
        let text = format!("nobody would take over if the master failed now: {why}");
        findings.push(Finding::warning(&about, text, explain.clone()));
    }
    for request in &report.requests {
        let mend = match &request.request.ask {
            Ask::Pause => format!("`sengu resume {service}` ends it"),
            Ask::Freeze => format!("`sengu thaw {service}` ends it"),
            Ask::Drain { instance } => format!("`sengu undrain {service} {instance}` ends it"),
            Ask::Adopt { .. }
            | Ask::Release
            | Ask::Switchover { .. }
            | Ask::Failover { .. }
            | Ask::Before(_)
            | Ask::After { .. } => {
                continue;
            }
        };
        let what = super::super::words::ask(&request.request.ask);
        let text = format!("{what} by {} is in force", request.request.by);
        findings.push(Finding::warning(&about, text, mend));
    }
    if let Some(ago) = told.inputs.doubted_ms.filter(|ago| *ago < LATELY) {
        let text = format!("this agent was late or its clock jumped {} s ago", ago / 1000);
        let mend = "look for a starved host, a paused guest or a clock that is being set";
        findings.push(Finding::warning(&about, text, mend));
    }
    if findings.is_empty() {
        let master = report.master.as_ref().map_or("nobody", |master| master.as_str());
        let next = told.next.serves.as_ref().map_or_else(
            || "nobody would follow".to_owned(),
            |next| format!("{} would take over", next.instance),
        );
        findings.push(Finding::good(&about, format!("master is {master}; {next}")));
    }
    findings
}

/// The checks: those of one name and service together.
fn checks(reports: &[CheckReport]) -> Vec<Finding> {
    use sengu_core::health::Status;

    let groups =
        reports.chunk_by(|one, next| (&one.name, &one.service) == (&next.name, &next.service));
    groups
        .filter_map(|group| {
            let first = group.first()?;
            let age = std::time::Duration::from_secs(30);
            let (status, words) = crate::probe::verdict::together(group, false, age);
            let about = format!("check {} of {}", first.name, first.service);
            let mend = format!("`sengu check {}` shows what each probe said", first.name);
            Some(match status {
                Status::Passing => Finding::good(about, words),
                Status::Warning | Status::Unknown => Finding::warning(about, words, mend),
                Status::Critical => Finding::wrong(about, words, mend),
            })
        })
        .collect()
}

/// The rendered files.
pub(super) fn files(statuses: &[TemplateStatus]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for status in statuses {
        let file = status.destination.display();
        let about = format!("file {file}");
        let before = findings.len();
        let mend = format!("`sengu render --dry-run {file}` shows what it would become");
        if let Some(error) = &status.error {
            findings.push(Finding::wrong(&about, format!("not current: {error}"), mend.clone()));
        }
        if !status.stale.is_empty() {
            let text = format!("still names a withdrawn master of {}", status.stale.join(", "));
            findings.push(Finding::wrong(&about, text, mend));
        }
        let command = status.command.as_ref().and_then(|command| command.error.as_ref());
        if let Some(error) = command {
            let mend = "run the command by hand; it is tried again by itself";
            findings.push(Finding::wrong(&about, format!("its command failed: {error}"), mend));
        }
        findings.extend(
            status.warnings.iter().map(|warning| {
                Finding::warning(&about, warning, "mend the entry, or bear with it")
            }),
        );
        if status.repairs > 0 {
            let text = format!("changed by somebody else {} times, and put right", status.repairs);
            findings.push(Finding::warning(
                &about,
                text,
                "write outside the markers, or not at all",
            ));
        }
        if findings.len() == before {
            let written = if status.writes == 0 { "not written yet, equal" } else { "written" };
            findings.push(Finding::good(about, format!("current ({written})")));
        }
    }
    findings
}
