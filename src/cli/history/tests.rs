//! What `sengu history` prints of fixed records.

use sengu_core::name::InstanceName;
use sengu_core::observation::Role;
use sengu_core::record::{Cause, HookOutcome, HookStand, Phase, ToldEntry};

use super::*;
use crate::cli::fixture::{ago, failover};
use crate::cli::print::tests::look;

fn check(record: &HistoryRecord, wanted: &str) {
    let report = TermReport { term: Term(8), record: record.clone(), told: Vec::new() };
    let shown = term(&report, &look(None));
    assert_eq!(shown.trim_end(), wanted.trim_matches('\n'), "\n{shown}");
}

#[test]
fn a_failover_with_its_steps() {
    check(
        &failover(),
        r"
term 8  03:12:07  cache1 → cache2: the master's process exited
  withdrawn
  fenced        0.21 s  █████
  detached      0.11 s  ██
  taken         0.20 s  █████
  promoted      1.20 s  ██████████████████████████████
  serving       0.12 s  ███
  whole         1.84 s
  no writes for 1.84 s
  lost: nothing
  ranking: cache2, cache3
  passed over: cache4: 41 s behind (limit 10 s)
  hook before-failover: done in 0.90 s, with warnings:
    /usr/local/bin/page: exit code 1
",
    );
}

#[test]
fn what_nobody_saw_of_a_lapse_is_told_too() {
    let mut record = failover();
    record.cause = Cause::Lapsed;
    let report = TermReport { term: Term(8), record, told: Vec::new() };
    let shown = term(&report, &look(None));
    let wanted = "no writes for 1.84 s and, before that was noticed, up to a lease\n";
    assert!(shown.contains(wanted), "{shown}");
}

#[test]
fn an_adoption_has_one_step_and_nobody_before() {
    let mut record = failover();
    record.cause = Cause::Adopted;
    record.from = None;
    record.steps.truncate(1);
    record.asked_by = Some("root@db1".into());
    record.ranking.clear();
    record.refusals.clear();
    record.hooks.clear();
    check(
        &record,
        r"
term 8  03:12:07  nobody → cache2: adopted
  withdrawn
  lost: nothing
  asked by root@db1
",
    );
}

#[test]
fn hooks_that_did_not_go_well_are_told() {
    let mut record = failover();
    record.refusals.clear();
    record.steps.clear();
    let abort = HookOutcome::Abort { error: "exit code 3".into(), output: String::new() };
    record.hooks = [
        (Phase::BeforeFailover, HookStand::Ended { at: ago(0), ms: 20, outcome: abort }),
        (Phase::AfterFailover, HookStand::Started { at: ago(0), start: "x".into() }),
        (
            Phase::FailedFailover,
            HookStand::Ended { at: ago(0), ms: 0, outcome: HookOutcome::Unknown },
        ),
    ]
    .into();
    check(
        &record,
        r"
term 8  cache1 → cache2: the master's process exited
  lost: nothing
  ranking: cache2, cache3
  hook before-failover: stopped the move after 0.020 s: exit code 3
  hook after-failover: started, and no outcome yet
  hook failed-failover: nobody knows how it ended; it is not run again
",
    );
}

#[test]
fn what_hosts_told_themselves_stands_at_the_end() {
    let outcome = HookOutcome::Done { warnings: vec!["it said 3".into()], output: String::new() };
    let stand = HookStand::Ended { at: ago(0), ms: 40, outcome };
    let entry = ToldEntry { phase: Phase::RoleChanged, term: Term(8), instance: None, stand };
    let role = Some((InstanceName::new("cache2").expect("good"), Role::Master));
    let entry = ToldEntry { instance: role, ..entry };
    let told = vec![ToldReport { host: "db2".to_owned(), entry }];
    let report = TermReport { term: Term(8), record: failover(), told };
    let shown = term(&report, &look(None));
    let wanted = "\n  hook role-changed on db2 (cache2 is master now): done in 0.040 s, with warnings:\n    \
                  it said 3\n";
    assert!(shown.ends_with(wanted), "{shown}");
}

#[test]
fn programs_get_what_follows_from_the_record() {
    let report = TermReport { term: Term(8), record: failover(), told: Vec::new() };
    let told = serde_json::to_value(Told::of(&report)).expect("JSON");
    assert_eq!(told["write_closed_ms"], 1840);
    assert_eq!(told["loss_verdict"], "none");
    assert_eq!((&told["term"], &told["to"]), (&8.into(), &"cache2".into()));
    let word = |words: &str| {
        let mut record = failover();
        record.loss = words.to_owned();
        loss(&record)
    };
    assert_eq!(word("nothing: it has all that the old master had"), "none");
    assert_eq!(word("120 bytes of the old master's writes"), "some");
    assert_eq!(word("unknown, at most the writes of the last 900 ms before it"), "bounded");
    assert_eq!(word("unknown: the histories cannot be compared"), "unknown");
}
