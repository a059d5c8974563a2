use sengu_core::explain::RuleVerdict;

use super::*;
use crate::cli::fixture;
use crate::cli::print::tests::look;
use crate::template::TemplateStatus;

#[test]
fn the_verdict_stands_first_and_what_is_wrong_above_what_is_good() {
    let findings = [
        Finding::good("configuration", "x.toml is good"),
        Finding::warning("resolver", "asks another", "tell it"),
        Finding::wrong("agent", "not reachable", "start it"),
    ];
    let shown: Vec<&Finding> = findings.iter().collect();
    assert_eq!(
        page(&shown, &findings, &look(None)),
        "1 of 3 things wrong, 1 warning\n\n\
         wrong    agent: not reachable\n         → start it\n\n\
         warning  resolver: asks another\n         → tell it\n\n\
         good     configuration: x.toml is good\n"
    );
    let good = &findings[..1];
    let shown: Vec<&Finding> = good.iter().collect();
    assert!(page(&shown, good, &look(None)).starts_with("nothing is wrong: 1 thing looked at\n"));
}

#[test]
fn a_service_that_is_well_is_one_good_line() {
    let told = fixture::explained(fixture::well());
    let stops = |told: &sengu_core::explain::Explanation| {
        told.rules.iter().filter(|rule| rule.verdict == RuleVerdict::Stops).count()
    };
    let found = told::service(&told);
    let warned = found.iter().filter(|one| one.verdict == Verdict::Warning).count();
    assert_eq!(warned, stops(&told), "{found:?}");
    let mut calm = told;
    calm.rules.clear();
    let found = told::service(&calm);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].text, "master is cache2; cache3 would take over");
}

#[test]
fn each_problem_of_a_service_is_wrong_and_names_the_way_out() {
    let mut report = fixture::well();
    report.problems = vec!["cache3 has no link to its master".to_owned()];
    let found = told::service(&fixture::explained(report));
    let wrong: Vec<&Finding> = found.iter().filter(|one| one.verdict == Verdict::Wrong).collect();
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].mend.as_ref().is_some_and(|mend| mend.contains("sengu explain foo-redis")));
}

#[test]
fn a_file_that_is_not_current_is_wrong() {
    let status = TemplateStatus {
        destination: "/etc/hosts".into(),
        error: Some("line 3: no such function".to_owned()),
        stale: vec!["foo".to_owned()],
        ..TemplateStatus::default()
    };
    let good = TemplateStatus { destination: "/x".into(), writes: 1, ..TemplateStatus::default() };
    let found = told::files(&[status, good]);
    let told: Vec<(Verdict, &str)> =
        found.iter().map(|one| (one.verdict, one.text.as_str())).collect();
    assert_eq!(
        told,
        [
            (Verdict::Wrong, "not current: line 3: no such function"),
            (Verdict::Wrong, "still names a withdrawn master of foo"),
            (Verdict::Good, "current (written)"),
        ]
    );
}

#[test]
fn programs_that_cannot_be_run_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tool");
    std::fs::write(&file, "#!/bin/sh\n").expect("written");
    assert_eq!(host::runnable("sh".as_ref()), Ok(()));
    assert!(host::runnable("no-such-program-here".as_ref()).is_err());
    assert_eq!(host::runnable(&file), Err("nobody may run it".to_owned()));
    assert!(host::runnable(&folder.path().join("absent")).is_err());
}

#[test]
fn the_servers_of_a_resolver_file_are_read() {
    let text = "# written by dhclient\nsearch example\nnameserver 10.0.0.2\n nameserver ::1 # x\n";
    assert_eq!(host::servers(text), ["10.0.0.2", "::1"]);
}
