//! Results as a monitoring plugin tells them: one answer for all instances of a service here.

use sengu_core::time::Wall;

use super::*;
use crate::probe::Of;

fn report(instance: &str, status: Status, of: Of) -> CheckReport {
    CheckReport {
        name: "redis-master".into(),
        service: ServiceName::new("foo").expect("good"),
        instance: InstanceName::new(instance).expect("good"),
        status,
        output: "it is a replica".into(),
        since: Wall(0),
        age_ms: Some(10),
        probes: Vec::new(),
        of,
        named: instance == "m",
    }
}

fn options(name: &str) -> Options {
    let max_age = Duration::from_secs(30);
    Options { name: Some(name.into()), service: None, instance: None, max_age }
}

/// The first line for some instances, each with what it says.
fn first(of: Of, instances: &[(&str, Status)]) -> String {
    let reports: Vec<_> = instances.iter().map(|(name, s)| report(name, *s, of)).collect();
    let (exit, text) = told(&reports, &options("redis-master"));
    let first = text.lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with(exit.word()), "{exit:?} {first}");
    first.replace("redis-master: foo: ", "")
}

#[test]
fn each_one_and_others_have_their_own_rule() {
    use Of::{Each, One, Others};
    use Status::{Critical, Passing, Unknown, Warning};
    for (of, instances, wanted) in [
        (Each, &[("a", Passing), ("b", Passing)][..], "OK: 2 instances passing"),
        (Each, &[("a", Passing), ("b", Warning)], "WARNING: b is warning"),
        (Each, &[("a", Unknown), ("b", Critical)], "CRITICAL: a is unknown, b is critical"),
        (Each, &[("a", Unknown), ("b", Passing)], "UNKNOWN: a is unknown"),
        (One, &[("m", Passing), ("a", Critical)], "OK: m is passing"),
        (One, &[("m", Warning), ("a", Critical)], "WARNING: m is warning"),
        (One, &[("m", Passing), ("a", Unknown)], "OK: m is passing"),
        (One, &[("a", Critical), ("b", Critical)], "CRITICAL: none of a, b passes"),
        (One, &[("a", Critical), ("b", Unknown)], "UNKNOWN: b unknown, none passing"),
        (One, &[("a", Passing), ("b", Passing)], "CRITICAL: a, b pass; exactly one must"),
        (Others, &[("a", Passing), ("m", Critical)], "OK: 1 instance passing but m, the master"),
        (Others, &[("a", Critical), ("m", Critical)], "CRITICAL: a is critical"),
        (Others, &[("a", Passing), ("b", Critical)], "CRITICAL: b is critical"),
        (Others, &[("m", Critical)], "OK: none but m, the master"),
    ] {
        assert_eq!(first(of, instances), wanted);
    }
}

#[test]
fn one_instance_alone_is_told_as_it_is_and_too_old_is_unknown() {
    let mut options = options("redis-master");
    options.instance = Some(InstanceName::new("m").expect("good"));
    let mut alone = report("m", Status::Critical, Of::Others);
    assert_eq!(told(std::slice::from_ref(&alone), &options).0, PluginExit::Critical);
    alone.age_ms = Some(40_000);
    let (exit, text) = told(&[alone], &options);
    assert_eq!(exit, PluginExit::Unknown);
    assert!(text.contains("UNKNOWN redis-master foo/m: 40s old: it is a replica"), "{text}");
    assert_eq!(told(&[], &options).0, PluginExit::Unknown);
}

#[test]
fn the_first_line_is_for_the_monitoring() {
    let mut reports =
        vec![report("a", Status::Passing, Of::Each), report("b", Status::Critical, Of::Each)];
    reports[1].output = "a|b\n c".into();
    let (_, text) = told(&reports, &options("redis-master"));
    assert_eq!(
        text,
        "CRITICAL: redis-master: foo: b is critical\n\
         OK redis-master foo/a: it is a replica\n\
         CRITICAL redis-master foo/b: a/b; c\n"
    );
    for number in 0..4 {
        let mut other = report("a", Status::Critical, Of::Each);
        other.service = ServiceName::new(&format!("s{number}")).expect("good");
        reports.push(other);
    }
    let (_, text) = told(&reports, &options("redis-master"));
    let first = text.lines().next().unwrap_or_default();
    assert!(first.ends_with("; s1: a is critical; and 2 more"), "{first}");
}

#[test]
fn checks_are_chosen_by_name_service_and_instance() {
    let mut wanted = options("redis-master");
    wanted.instance = Some(InstanceName::new("a").expect("good"));
    assert!(wanted.choose(&report("a", Status::Passing, Of::Each)));
    assert!(!wanted.choose(&report("b", Status::Passing, Of::Each)));
    assert!(!options("other").choose(&report("a", Status::Passing, Of::Each)));
}
