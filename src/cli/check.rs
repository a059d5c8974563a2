//! `sengu check`: the results of the agent's checks, with the exit codes of monitoring plugins.
//!
//! Says what the agent saw last; runs nothing itself. A result that is too old is no result. The
//! instances of a service here are judged together, as the check's `of` says.

use std::time::Duration;

use clap::Args;
use sengu_core::health::Status;
use sengu_core::name::{InstanceName, ServiceName};

use super::exit::PluginExit;
use super::{Global, print};
use crate::probe::{CheckReport, verdict};

/// Services told in the first line; more stand below it.
const TOLD: usize = 3;

/// Tell how a check stands on this host, as a monitoring plugin: exit codes 0 to 3
///
/// The instances of a service here are taken together as the check says: `redis-master` passes if
/// exactly one is the master, `redis-replica` if each but the named master is a replica in step,
/// others if each passes.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The check, as `redis-master`; without one: all
    name: Option<String>,
    /// Only of this service
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// This instance alone
    #[arg(long, value_name = "NAME")]
    instance: Option<InstanceName>,
    /// An older result counts as unknown
    #[arg(long, value_name = "DURATION", default_value = "30s",
          value_parser = crate::duration::parse)]
    max_age: Duration,
}

pub(super) fn run(global: &Global, options: &Options) -> PluginExit {
    let reports =
        global.agent().and_then(|agent| Ok(agent.get::<Vec<CheckReport>>("/v1/sengu/checks")?));
    let reports = match reports {
        Ok(reports) => reports,
        Err(error) => {
            print::text(&format!("UNKNOWN: {error:#}"));
            return PluginExit::Unknown;
        }
    };
    let chosen: Vec<_> = reports.into_iter().filter(|report| options.choose(report)).collect();
    let (exit, text) = told(&chosen, options);
    if global.json {
        print::json(&chosen);
    } else {
        print::text(&text);
    }
    exit
}

impl Options {
    fn choose(&self, report: &CheckReport) -> bool {
        self.name.as_ref().is_none_or(|name| *name == report.name)
            && self.service.as_ref().is_none_or(|service| *service == report.service)
            && self.instance.as_ref().is_none_or(|instance| *instance == report.instance)
    }

    fn judge(&self, report: &CheckReport) -> PluginExit {
        exit(verdict::judge(report, self.max_age))
    }

    fn too_old(&self, report: &CheckReport) -> bool {
        verdict::too_old(report, self.max_age)
    }
}

fn exit(status: Status) -> PluginExit {
    match status {
        Status::Passing => PluginExit::Ok,
        Status::Warning => PluginExit::Warning,
        Status::Critical => PluginExit::Critical,
        Status::Unknown => PluginExit::Unknown,
    }
}

/// The worst of all, and the text: first line for the monitoring, one line for each result.
fn told(reports: &[CheckReport], options: &Options) -> (PluginExit, String) {
    let name = options.name.as_deref().unwrap_or("checks");
    // They come sorted by check, service and instance.
    let groups: Vec<(PluginExit, String)> = reports
        .chunk_by(|one, next| (&one.name, &one.service) == (&next.name, &next.service))
        .map(|group| {
            let alone = options.instance.is_some();
            let (status, words) = verdict::together(group, alone, options.max_age);
            let check =
                if options.name.is_none() { format!("{} ", group[0].name) } else { String::new() };
            (exit(status), format!("{check}{}: {words}", group[0].service))
        })
        .collect();
    let Some(worst) = groups.iter().map(|(exit, _)| *exit).max() else {
        let text = match &options.name {
            Some(name) => format!("UNKNOWN: no check matches `{name}`; `sengu check` shows all"),
            None => "UNKNOWN: no check has a result".to_owned(),
        };
        return (PluginExit::Unknown, text);
    };
    let told: Vec<&str> =
        groups.iter().filter(|(exit, _)| *exit == worst).map(|(_, words)| words.as_str()).collect();
    let more = told.len().saturating_sub(TOLD);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    let told = told.iter().take(TOLD).copied().collect::<Vec<_>>().join("; ");
    let mut text = format!("{}: {name}: {told}{more}\n", worst.word());
    for report in reports {
        text += &format!("{}\n", line(report, options));
    }
    (worst, text)
}

/// One result.
fn line(report: &CheckReport, options: &Options) -> String {
    let judged = options.judge(report).word();
    let mut line = format!("{judged} {} {}/{}", report.name, report.service, report.instance);
    if options.too_old(report) {
        let age = report.age_ms.map(|age| crate::duration::format(Duration::from_millis(age)));
        let age = age.map_or_else(|| "no result yet".into(), |age| format!("{age} old"));
        line += &format!(": {age}");
    }
    let output: Vec<_> = report.output.lines().map(str::trim).collect();
    if !output.is_empty() {
        // A bar would begin the numbers of a plugin.
        line += &format!(": {}", output.join("; ").replace('|', "/"));
    }
    line
}

#[cfg(test)]
mod tests;
