//! What `sengu status` prints of fixed reports.

use sengu_core::name::Term;

use super::*;
use crate::cli::fixture;
use crate::cli::print::tests::look;

fn check(reports: &[ServiceReport], width: Option<u16>, wanted: &str) {
    let shown = screen(reports, &[], &look(width));
    assert_eq!(shown.trim_end(), wanted.trim_matches('\n'), "\n{shown}");
}

#[test]
fn all_is_well() {
    check(
        &[fixture::well()],
        None,
        r"
all well: 1 service, 1 master named

service    state    master  term  since     replicas  policy  problems
foo-redis  serving  cache2  8     03:12:09  1         auto    none
",
    );
}

#[test]
fn one_service_needs_somebody() {
    check(
        &[fixture::well(), fixture::troubled()],
        Some(100),
        r"
1 of 2 services needs you: bar: nobody is master, and no copy can take over

service    state    master  term  since       replicas   policy          problems
foo-redis  serving  cache2  8     03:12:09    1          auto            none
bar        vacant   none    3     2026-11-21  0 of 1 up  manual, paused  nobody is master, and no
                                  20:00:00                               copy can take over
",
    );
}

#[test]
fn what_is_not_adopted_is_told_with_the_way_to_do_it() {
    let fresh = |name: &str| {
        let mut report = fixture::well();
        report.service = ServiceName::new(name).expect("good");
        (report.state, report.term, report.master) = ("not adopted".into(), Term(0), None);
        report
    };
    let first = |reports: &[ServiceReport]| {
        screen(reports, &[], &look(None)).lines().next().map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(first(&[fresh("a")]), "1 of 1 service is not adopted: `sengu adopt a`");
    let mut released = fresh("b");
    (released.state, released.term) = ("unmanaged".into(), Term(4));
    let reports = [fixture::well(), fresh("a"), released, fresh("c"), fresh("d")];
    assert_eq!(
        first(&reports),
        "4 of 5 services are not adopted: `sengu adopt a`, `sengu adopt b`, `sengu adopt c` \
         and 1 more"
    );
    assert!(first(&[fresh("a"), fixture::troubled()]).starts_with("1 of 2 services needs you"));
}

#[test]
fn what_is_being_done_is_told() {
    let mut report = fixture::well();
    report.doing = Some("switchover to cache3: waiting for its position".into());
    let shown = screen(&[report], &[], &look(None));
    assert!(shown.contains("switchover to cache3: waiting"), "{shown}");
}

#[test]
fn without_services_the_way_to_the_first_is_told() {
    check(&[], None, "no services yet; add a [service.NAME] to the configuration file");
}

#[test]
fn more_services_than_a_screen_has_lines_are_told_by_need() {
    let many: Vec<ServiceReport> = (0..40)
        .map(|number| {
            let mut report = if number == 33 { fixture::troubled() } else { fixture::well() };
            report.service = ServiceName::new(&format!("s{number:02}")).expect("good");
            report
        })
        .collect();
    let mut look = look(None);
    look.height = Some(24);
    let shown = screen(&many, &[], &look);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() < 24, "{} lines\n{shown}", lines.len());
    assert!(lines[0].starts_with("1 of 40 services needs you: s33"), "{shown}");
    assert!(lines[3].starts_with("s33 "), "{shown}");
    assert_eq!(lines[lines.len() - 1], "and 22 more that need nobody; `sengu status --all`");
    look.height = None;
    assert_eq!(screen(&many, &[], &look).lines().count(), 43);
}

#[test]
fn a_file_that_is_not_current_stands_in_the_first_line() {
    let status = TemplateStatus {
        destination: "/etc/hosts".into(),
        error: Some("no such function".to_owned()),
        ..TemplateStatus::default()
    };
    let told = screen(&[fixture::well()], &[status, TemplateStatus::default()], &look(None));
    let first = told.lines().next().unwrap_or_default();
    assert_eq!(first, "1 file here needs you: /etc/hosts is not current: no such function");
    assert!(told.contains("\nall well: 1 service"), "{told}");
}
