use sengu_core::record::{HookOutcome, HookStand, Phase};

use super::*;
use crate::cli::fixture;
use crate::cli::print::tests::look;
use crate::template::TemplateStatus;

#[test]
fn a_drill_begins_only_where_all_is_well() {
    let ready = |report: ServiceReport| unready(&fixture::explained(report));
    assert_eq!(ready(fixture::well()), None);
    let mut report = fixture::well();
    report.problems = vec!["cache3 is far behind".to_owned()];
    assert_eq!(ready(report).as_deref(), Some("cache3 is far behind; mend that first"));
    let mut report = fixture::well();
    report.term = Term(0);
    assert!(ready(report).is_some_and(|why| why.contains("sengu adopt foo-redis")));
    let mut report = fixture::well();
    report.doing = Some("cache3 turning to cache2".to_owned());
    assert!(ready(report).is_some_and(|why| why.contains("wait for that")));
}

fn moved() -> TermReport {
    let mut record = fixture::failover();
    record.loss = "nothing acknowledged".to_owned();
    record.hooks.clear();
    TermReport { term: Term(8), record, told: Vec::new() }
}

#[test]
fn a_move_passes_by_its_gap_its_loss_and_its_hooks() {
    let good = |term: &TermReport, gap: u64| -> Vec<(&str, bool)> {
        let lines = report::judged(term, Duration::from_millis(gap));
        lines.iter().map(|line| (line.what, line.good)).collect()
    };
    let mut term = moved();
    assert_eq!(good(&term, 60_000), [("write gap", true), ("loss", true), ("hooks", true)]);
    assert_eq!(good(&term, 0)[0], ("write gap", false));
    term.record.loss = "unknown, at most 3 s".to_owned();
    let ended = HookStand::Ended { at: fixture::ago(0), ms: 3, outcome: HookOutcome::Unknown };
    term.record.hooks.insert(Phase::AfterSwitchover, ended);
    assert_eq!(good(&term, 60_000)[1..], [("loss", false), ("hooks", false)]);
}

#[test]
fn outputs_and_copies_must_follow() {
    let term = moved();
    let mut report = fixture::well();
    report.master = Some(term.record.to.clone());
    let lines = report::followed(Some(&report), &[], &term);
    assert_eq!(lines.len(), report::FOLLOWED);
    assert!(lines.iter().all(|line| line.good), "{lines:?}");
    report.master = None;
    report.doing = Some("cache3 turning to cache2".to_owned());
    let stale = TemplateStatus { stale: vec!["foo".to_owned()], ..TemplateStatus::default() };
    let lines = report::followed(Some(&report), &[stale], &term);
    assert!(lines.iter().all(|line| !line.good), "{lines:?}");
}

#[test]
fn the_report_ends_with_its_verdict() {
    let service = ServiceName::new("foo-redis").expect("a name");
    let leg = Leg::of(moved(), report::judged(&moved(), Duration::from_secs(60)));
    let told = report::after(&service, &[leg], true, &look(None));
    assert!(told.ends_with("drill of foo-redis passed: 1 move\n"), "{told}");
    assert!(told.contains("  passed  loss       lost: nothing acknowledged\n"), "{told}");
    let told = report::after(&service, &[Leg::failed("refused: x")], false, &look(None));
    assert!(told.contains("  failed  move       refused: x\n"), "{told}");
}
