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
    /// What the check asks of all instances of the service on this host.
    #[serde(default)]
    pub of: Of,
    /// Is the instance named as its service's master? Only the agent's answer knows.
    #[serde(default)]
    pub named: bool,
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

/// What a check asks of a host's instances of one service, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Each must pass.
    #[default]
    Each,
    /// Exactly one must.
    One,
    /// Each must pass but the one that is named as master.
    Others,
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
            of: Of::One,
            named: true,
        }
    }

    #[test]
    fn reports_are_json_that_reads_back() {
        let report = report(Status::Passing, "fine");
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["status"], "passing");
        assert_eq!(json["age_ms"], 20);
        assert_eq!(json["probes"][0]["probe"], "redis");
        assert_eq!(json["of"], "one");
        let back: CheckReport = serde_json::from_value(json).expect("the same");
        assert_eq!(back, report);
    }
}
