//! `sengu doctor`: reads everything on this host and says what is wrong and how to mend it.
//!
//! Looks only: at the configuration file, at what the agent tells of itself, its services, checks
//! and files, at the names that it and the system's resolver answer, and at this host's folders.
//! Every wait is bounded. What cannot be looked at is said, not passed over.

mod host;
mod told;

use clap::Args;
use serde::Serialize;

use super::client::ClientError;
use super::print::{self, Look};
use super::{Exit, Global};
use crate::config::{Config, count};

/// Read everything on this host, and say what is wrong and how to mend it
///
/// Looks at the configuration file, the programs and files that it names, the agent, its services,
/// checks and rendered files, the DNS names as the agent and as the system's resolver answer them,
/// and the folders of this host. Changes nothing. Exit code 1 if anything is wrong; a warning
/// alone is 0.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Tell what is wrong only, not what is good
    #[arg(long, short)]
    quiet: bool,
}

/// How something stands; the order is from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// It works, and will not always.
    Warning,
    /// It does not work.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    about: String,
    verdict: Verdict,
    /// What was seen.
    text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn good(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { about: about.into(), verdict: Verdict::Good, text: text.into(), mend: None }
    }

    fn warning(about: impl Into<String>, text: impl Into<String>, mend: impl Into<String>) -> Self {
        let (about, text, mend) = (about.into(), text.into(), Some(mend.into()));
        Self { about, verdict: Verdict::Warning, text, mend }
    }

    fn wrong(about: impl Into<String>, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, ..Self::warning(about, text, mend) }
    }
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let findings = examine(global)?;
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good);
    let shown: Vec<&Finding> =
        findings.iter().filter(|one| !options.quiet || one.verdict > Verdict::Good).collect();
    if global.json {
        print::json(&shown);
    } else {
        print::text(&page(&shown, &findings, &Look::of_stdout()));
    }
    Ok(if worst == Verdict::Wrong { Exit::Failed } else { Exit::Done })
}

fn examine(global: &Global) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let config = match global.configuration() {
        Ok(config) => {
            let file = global.config.display().to_string();
            findings.push(Finding::good("configuration", format!("{file} is good")));
            findings.extend(host::programs(&config));
            findings.extend(host::folders(&config));
            Some(config)
        }
        Err(error) => {
            let first = error.render(false, 100);
            let first = first.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            findings.push(Finding::wrong(
                "configuration",
                first.trim(),
                format!("`sengu config --check {}` shows each place", global.config.display()),
            ));
            None
        }
    };
    let agent = global.agent()?;
    match told::all(&agent) {
        Ok((told, masters)) => {
            findings.extend(told);
            if let Some(config) = &config {
                findings.extend(names(config, &masters));
            }
        }
        Err(error) => findings.push(unreachable(&error)),
    }
    Ok(findings)
}

/// Who is named master of what, and where.
type Masters = Vec<(String, Option<std::net::SocketAddr>)>;

/// The names as they are answered here.
fn names(config: &Config, masters: &Masters) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in &config.dns.listen {
        findings.extend(host::agent_names(*server, config, masters));
    }
    findings.extend(host::system_names(config, masters));
    for address in &config.http.listen {
        let beyond = !crate::config::is_loopback(address);
        let encrypted = config.http.tls.as_ref().is_some_and(|tls| tls.loopback || beyond);
        findings.push(host::http(*address, encrypted));
    }
    findings.extend(host::certificate(config));
    findings
}

fn unreachable(error: &ClientError) -> Finding {
    let mend = match error {
        ClientError::Unreachable { .. } => "start it: `systemctl start sengu`, or `sengu agent`",
        _ => "look at its log: `journalctl -u sengu`",
    };
    Finding::wrong("agent", error.to_string(), mend)
}

/// The whole page: the verdict first.
fn page(shown: &[&Finding], all: &[Finding], look: &Look) -> String {
    let of = |verdict| all.iter().filter(|finding| finding.verdict == verdict).count();
    let (wrong, warned) = (of(Verdict::Wrong), of(Verdict::Warning));
    let things = count(all.len(), "thing");
    let head = match (wrong, warned) {
        (0, 0) => look.calm(&format!("nothing is wrong: {things} looked at")),
        (0, warned) => look.strong(&format!("{}, {things} looked at", count(warned, "warning"))),
        (wrong, 0) => look.alarm(&format!("{wrong} of {things} wrong")),
        (wrong, warned) => {
            look.alarm(&format!("{wrong} of {things} wrong, {}", count(warned, "warning")))
        }
    };
    let mut text = format!("{head}\n");
    let mut last = None;
    // What is wrong comes first; within one verdict the order in which it was looked at stays.
    let mut sorted: Vec<&Finding> = shown.to_vec();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    for finding in sorted {
        if last != Some(finding.verdict) {
            text.push('\n');
            last = Some(finding.verdict);
        }
        let word = match finding.verdict {
            Verdict::Good => look.calm("good   "),
            Verdict::Warning => look.strong("warning"),
            Verdict::Wrong => look.alarm("wrong  "),
        };
        text += &format!("{word}  {}: {}\n", finding.about, finding.text);
        if let Some(mend) = &finding.mend {
            text += &format!("         → {mend}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests;
