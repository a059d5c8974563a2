//! One answer for the instances of a service on this host, as a check's `of` asks for it.
//!
//! Shared by `sengu check` and `GET /check/NAME`, which therefore never disagree. A result that is
//! too old is no result.

use std::time::Duration;

use sengu_core::health::Status;

use super::{CheckReport, Of};

/// What a report counts as; unknown if it is older than `max_age`.
#[must_use]
pub fn judge(report: &CheckReport, max_age: Duration) -> Status {
    if too_old(report, max_age) { Status::Unknown } else { report.status }
}

/// Is the result older than that, or is there none?
#[must_use]
pub fn too_old(report: &CheckReport, max_age: Duration) -> bool {
    report.age_ms.is_none_or(|age| Duration::from_millis(age) > max_age)
}

/// One check of the instances of one service, together; in words. `alone`: one instance was asked
/// for, so that `of` does not count.
#[must_use]
pub fn together(group: &[CheckReport], alone: bool, max_age: Duration) -> (Status, String) {
    let judged: Vec<(Status, &CheckReport)> =
        group.iter().map(|report| (judge(report, max_age), report)).collect();
    if let ([(status, report)], true) = (judged.as_slice(), alone) {
        return (*status, format!("{} is {status}", report.instance));
    }
    match group.first().map(|report| report.of).unwrap_or_default() {
        Of::Each => each(&judged, ""),
        Of::Others => {
            let (named, rest): (Vec<_>, Vec<_>) =
                judged.into_iter().partition(|(_, report)| report.named);
            let but = named.first().map_or_else(String::new, |(_, report)| {
                format!(" but {}, the master", report.instance)
            });
            if rest.is_empty() {
                (Status::Passing, format!("none{but}"))
            } else {
                each(&rest, &but)
            }
        }
        Of::One => one(&judged),
    }
}

fn each(judged: &[(Status, &CheckReport)], but: &str) -> (Status, String) {
    let worst = judged.iter().map(|(status, _)| *status).max().unwrap_or_default();
    if worst == Status::Passing {
        let count = crate::config::count(judged.len(), "instance");
        return (worst, format!("{count} passing{but}"));
    }
    let bad = judged.iter().filter(|(status, _)| *status != Status::Passing);
    let bad: Vec<_> =
        bad.map(|(status, report)| format!("{} is {status}", report.instance)).collect();
    (worst, bad.join(", "))
}

fn one(judged: &[(Status, &CheckReport)]) -> (Status, String) {
    let passing: Vec<_> = judged.iter().filter(|(status, _)| *status <= Status::Warning).collect();
    let names = |some: &[&(Status, &CheckReport)]| {
        let names: Vec<_> = some.iter().map(|(_, report)| report.instance.as_str()).collect();
        names.join(", ")
    };
    match passing.as_slice() {
        [(status, report)] => (*status, format!("{} is {status}", report.instance)),
        [] if judged.iter().any(|(status, _)| *status == Status::Unknown) => {
            let unknown: Vec<_> =
                judged.iter().filter(|(status, _)| *status == Status::Unknown).collect();
            (Status::Unknown, format!("{} unknown, none passing", names(&unknown)))
        }
        [] => (
            Status::Critical,
            format!("none of {} passes", names(&judged.iter().collect::<Vec<_>>())),
        ),
        many => (Status::Critical, format!("{} pass; exactly one must", names(many))),
    }
}
