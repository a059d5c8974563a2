//! What a check says, for people, programs and monitoring.

use sengu_core::health::Status;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::time::Wall;
use serde::{Deserialize, Serialize};

/// One check of one instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The check's name.
    pub name: String,
    /// The service of the instance.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceName,
    /// What it says now; an expired result is unknown.
    pub status: Status,
    /// Why, in words.
    pub output: String,
    /// Since when the status stands.
    pub since: Wall,
    /// How old the look is that the last result rests on, in milliseconds; `None` before the
    /// first result.
    pub age_ms: Option<u64>,
    /// The last result of each probe, in the order of the file; empty before the first.
    pub probes: Vec<ProbeReport>,
}

/// The last result of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The kind of probe.
    pub probe: String,
    /// What it said.
    pub status: Status,
    /// Why, in words.
    pub output: String,
}

/// A report as monitoring plugins (Nagios, Icinga, Sensu) give it: the exit code 0 passing,
/// 1 warning, 2 critical, 3 unknown, and one line without `|`, which would start numbers there.
#[must_use]
pub fn plugin(report: &CheckReport) -> (u8, String) {
    let (code, word) = match report.status {
        Status::Passing => (0, "OK"),
        Status::Warning => (1, "WARNING"),
        Status::Critical => (2, "CRITICAL"),
        Status::Unknown => (3, "UNKNOWN"),
    };
    let output: Vec<&str> = report.output.lines().map(str::trim).collect();
    let output = output.join("; ").replace('|', "/");
    let name = report.name.to_uppercase();
    (code, format!("{name} {word} - {}/{}: {output}", report.service, report.instance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: Status, output: &str) -> CheckReport {
        CheckReport {
            name: "redis-master".into(),
            service: ServiceName::new("foo-redis").expect("a name"),
            instance: InstanceName::new("cache1").expect("a name"),
            status,
            output: output.into(),
            since: Wall(1),
            age_ms: Some(20),
            probes: vec![ProbeReport {
                probe: "redis".into(),
                status,
                output: "a master, takes writes".into(),
            }],
        }
    }

    #[test]
    fn plugins_have_a_code_and_one_line() {
        for (status, output, expected) in [
            (Status::Passing, "fine", (0, "REDIS-MASTER OK - foo-redis/cache1: fine")),
            (Status::Warning, "a|b", (1, "REDIS-MASTER WARNING - foo-redis/cache1: a/b")),
            (
                Status::Critical,
                "dead\n  gone\r\n",
                (2, "REDIS-MASTER CRITICAL - foo-redis/cache1: dead; gone"),
            ),
            (Status::Unknown, "", (3, "REDIS-MASTER UNKNOWN - foo-redis/cache1: ")),
        ] {
            let (code, line) = plugin(&report(status, output));
            assert_eq!((code, line.as_str()), expected);
        }
    }

    #[test]
    fn reports_are_json_that_reads_back() {
        let report = report(Status::Passing, "fine");
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["status"], "passing");
        assert_eq!(json["age_ms"], 20);
        assert_eq!(json["probes"][0]["probe"], "redis");
        let back: CheckReport = serde_json::from_value(json).expect("the same");
        assert_eq!(back, report);
    }
}
