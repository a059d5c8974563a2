//! `sengu check`: the results of the agent's checks, with the exit codes of monitoring plugins.
//!
//! Says what the agent saw last; runs nothing itself. A result that is too old is no result.

use std::time::Duration;

use clap::Args;
use sengu_core::name::{InstanceName, ServiceName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exit::PluginExit;
use super::{Global, print};

/// Tell how a check stands, as a monitoring plugin: exit codes 0 to 3
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The check, as `redis-master`; without one: all
    name: Option<String>,
    /// Only of this service
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Only of this instance
    #[arg(long, value_name = "NAME")]
    instance: Option<InstanceName>,
    /// An older result counts as unknown
    #[arg(long, value_name = "DURATION", default_value = "30s",
          value_parser = crate::duration::parse)]
    max_age: Duration,
}

/// How one check stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CheckReport {
    /// The check.
    name: String,
    /// Of which service.
    #[serde(default)]
    service: Option<String>,
    /// Of which instance.
    #[serde(default)]
    instance: Option<String>,
    /// `passing`, `warning` or `critical`.
    status: String,
    /// What it said.
    #[serde(default)]
    output: String,
    /// Since when it stands so; passed on as it comes.
    #[serde(default)]
    since: Value,
    /// How old the last result is, in milliseconds; none before the first.
    #[serde(default)]
    age_ms: Option<u64>,
    /// The results of its probes; passed on as they come.
    #[serde(default)]
    probes: Value,
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
    let (exit, text) = verdict(&chosen, options);
    if global.json {
        print::json(&chosen);
    } else {
        print::text(&text);
    }
    exit
}

impl Options {
    fn choose(&self, report: &CheckReport) -> bool {
        let is = |wanted: Option<&str>, have: Option<&str>| wanted.is_none() || wanted == have;
        is(self.name.as_deref(), Some(&report.name))
            && is(self.service.as_ref().map(ServiceName::as_str), report.service.as_deref())
            && is(self.instance.as_ref().map(InstanceName::as_str), report.instance.as_deref())
    }
}

/// The worst of all, and the text: first line for the monitoring, one line a check.
fn verdict(reports: &[CheckReport], options: &Options) -> (PluginExit, String) {
    let name = options.name.as_deref().unwrap_or("checks");
    let Some(worst) = reports.iter().map(|report| judge(report, options.max_age)).max() else {
        let text = match &options.name {
            Some(name) => format!("UNKNOWN: no check matches `{name}`; `sengu check` shows all"),
            None => "UNKNOWN: no check has a result".to_owned(),
        };
        return (PluginExit::Unknown, text);
    };
    let count = crate::config::count(reports.len(), "result");
    let mut text = format!("{}: {name}, {count}\n", worst.word());
    for report in reports {
        let of = [&report.service, &report.instance];
        let of: Vec<_> = of.into_iter().flatten().map(String::as_str).collect();
        let judged = judge(report, options.max_age);
        let mut line = format!("{} {} {}", judged.word(), report.name, of.join("/"));
        if too_old(report, options.max_age) {
            let age = report.age_ms.map(|age| crate::duration::format(Duration::from_millis(age)));
            let age = age.map_or_else(|| "no result yet".into(), |age| format!("{age} old"));
            line += &format!(": {age}");
        }
        let output: Vec<_> = report.output.lines().map(str::trim).collect();
        if !output.is_empty() {
            // A bar would begin the numbers of a plugin.
            line += &format!(": {}", output.join("; ").replace('|', "/"));
        }
        text += &format!("{line}\n");
    }
    (worst, text)
}

fn too_old(report: &CheckReport, max_age: Duration) -> bool {
    report.age_ms.is_none_or(|age| Duration::from_millis(age) > max_age)
}

fn judge(report: &CheckReport, max_age: Duration) -> PluginExit {
    match report.status.as_str() {
        _ if too_old(report, max_age) => PluginExit::Unknown,
        "passing" => PluginExit::Ok,
        "warning" => PluginExit::Warning,
        "critical" => PluginExit::Critical,
        _ => PluginExit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(instance: &str, status: &str, age_ms: u64) -> CheckReport {
        CheckReport {
            name: "redis-master".into(),
            service: Some("foo".into()),
            instance: Some(instance.into()),
            status: status.into(),
            output: "it is a replica".into(),
            since: Value::Null,
            age_ms: Some(age_ms),
            probes: Value::Null,
        }
    }

    fn options(name: &str) -> Options {
        let max_age = Duration::from_secs(30);
        Options { name: Some(name.into()), service: None, instance: None, max_age }
    }

    #[test]
    fn the_worst_counts_and_too_old_is_unknown() {
        for (statuses, wanted) in [
            (&[("passing", 10)][..], PluginExit::Ok),
            (&[("passing", 10), ("warning", 10)], PluginExit::Warning),
            (&[("critical", 10), ("warning", 10)], PluginExit::Critical),
            (&[("passing", 40_000), ("passing", 10)], PluginExit::Unknown),
            (&[], PluginExit::Unknown),
        ] {
            let reports: Vec<_> = statuses.iter().map(|(s, age)| report("a", s, *age)).collect();
            assert_eq!(verdict(&reports, &options("redis-master")).0, wanted, "{statuses:?}");
        }
    }

    #[test]
    fn the_first_line_is_for_the_monitoring() {
        let reports = [report("a", "passing", 10), report("b", "critical", 10)];
        let (_, text) = verdict(&reports, &options("redis-master"));
        assert_eq!(
            text,
            "CRITICAL: redis-master, 2 results\n\
             OK redis-master foo/a: it is a replica\n\
             CRITICAL redis-master foo/b: it is a replica\n"
        );
    }

    #[test]
    fn checks_are_chosen_by_name_service_and_instance() {
        let mut wanted = options("redis-master");
        wanted.instance = Some(InstanceName::new("a").expect("good"));
        assert!(wanted.choose(&report("a", "passing", 1)));
        assert!(!wanted.choose(&report("b", "passing", 1)));
        assert!(!options("other").choose(&report("a", "passing", 1)));
    }
}
