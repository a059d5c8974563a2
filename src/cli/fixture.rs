//! Reports for tests of what is printed: one service that is well, one that is not.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sengu_core::explain::{
    Explanation, Inputs, Rehearsal, RehearsedStep, RuleReport, RuleVerdict, Serves,
};
use sengu_core::name::{InstanceName, ServiceName, Term};
use sengu_core::observation::Role;
use sengu_core::policy::{Failover, Policy};
use sengu_core::record::{
    Ask, Cause, FORMAT, HistoryRecord, HookOutcome, HookStand, Phase, RequestRecord, Stand, Step,
};
use sengu_core::report::{InstanceReport, RequestReport, ServiceReport, TermReport};
use sengu_core::time::Wall;

use super::print::tests::NOW;

/// So many seconds before now.
pub(super) fn ago(millis: i64) -> Wall {
    Wall(NOW.0 - millis)
}

pub(super) fn name(text: &str) -> InstanceName {
    InstanceName::new(text).expect("a good name")
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 6379))
}

fn instance(text: &str, last: u8, role: Role) -> InstanceReport {
    InstanceReport {
        instance: name(text),
        host: format!("db{last}"),
        address: address(last),
        role: Some(role),
        writable: role == Role::Master,
        health: "up".into(),
        replication: if role == Role::Master { String::new() } else { "in step".into() },
        position: Some("5f3a91c0:48210".into()),
        unfit: None,
    }
}

/// `foo-redis`, served by cache2 after a failover.
pub(super) fn well() -> ServiceReport {
    ServiceReport {
        service: ServiceName::new("foo-redis").expect("a good name"),
        state: "serving".into(),
        term: Term(8),
        since: Some(ago(2_871_000)),
        master: Some(name("cache2")),
        holder: Some(name("cache2")),
        address: Some(address(12)),
        withdrawn: None,
        policy: Some(Policy { failover: Failover::Auto, ..Policy::default() }),
        instances: vec![
            instance("cache2", 12, Role::Master),
            instance("cache3", 13, Role::Replica),
        ],
        problems: Vec::new(),
        refusals: Vec::new(),
        ranking: vec![name("cache3")],
        doing: None,
        requests: Vec::new(),
        last: Some(TermReport { term: Term(8), record: failover(), told: Vec::new() }),
    }
}

/// What `explain` gets of a report: one rule that stops, and inputs of one instance.
pub(super) fn explained(report: ServiceReport) -> Explanation {
    let next = match report.master {
        Some(_) => Rehearsal {
            suppose: "the process of cache2 ends now".into(),
            steps: vec![RehearsedStep { after_ms: 0, text: "cache3 takes term 9".into() }],
            serves: Some(Serves { instance: name("cache3"), term: Term(9), address: address(13) }),
            loss: Some("nothing".into()),
            stays: Vec::new(),
            provided: vec!["cache2 is not started again meanwhile".into()],
        },
        None => Rehearsal {
            suppose: "nothing else happens".into(),
            stays: vec!["no candidate: `b1`: a full copy onto it was under way".into()],
            ..Rehearsal::default()
        },
    };
    let rule = |rule: &str, verdict, facts: &str| RuleReport {
        rule: rule.into(),
        verdict,
        facts: facts.into(),
    };
    let rules = vec![
        rule("named-is-serving", RuleVerdict::Holds, "cache2 is named"),
        rule("hook-once", RuleVerdict::Idle, "no hook ran in term 8"),
        rule("starts-fenced", RuleVerdict::Stops, "cache3: not looked at yet"),
    ];
    let inputs = Inputs {
        revision: 41,
        judge: "alone".into(),
        lease_ms: 6000,
        store_answered_ms: 12,
        doubted_ms: None,
        beat_ms: None,
        record: None,
        sync: None,
        instances: BTreeMap::new(),
        finals: BTreeMap::new(),
        unreadable: BTreeMap::new(),
    };
    Explanation { report, next, rules, inputs }
}

/// `bar`, where nobody is master and nobody can take over.
pub(super) fn troubled() -> ServiceReport {
    let pause = RequestRecord {
        format: FORMAT,
        ask: Ask::Pause,
        term: None,
        by: "root@db1".into(),
        comment: "new switch".into(),
        at: ago(600_000),
        until: Wall(NOW.0 + 3_000_000),
        stand: Stand::Standing,
        hooks: BTreeMap::new(),
        warning: None,
        unknown: serde_json::Map::new(),
    };
    let mut copy = instance("b1", 11, Role::Replica);
    copy.health = "silent: no answer for 12 s".into();
    copy.replication = "copying".into();
    copy.position = None;
    copy.unfit = Some("a full copy was under way".into());
    ServiceReport {
        service: ServiceName::new("bar").expect("a good name"),
        state: "vacant".into(),
        term: Term(3),
        since: Some(ago(7_200_000 * 4)),
        master: None,
        holder: Some(name("b2")),
        address: None,
        withdrawn: Some("it exited".into()),
        policy: Some(Policy::default()),
        instances: vec![copy],
        problems: vec!["nobody is master, and no copy can take over".into()],
        refusals: vec!["failover: b1 is half of a copy; wait until it is done".into()],
        ranking: Vec::new(),
        doing: None,
        requests: vec![RequestReport { id: "pause".into(), request: pause }],
        last: None,
    }
}

/// The story of a failover.
pub(super) fn failover() -> HistoryRecord {
    let at = |millis: i64| ago(2_872_840 - millis);
    let step = |name: &str, millis| Step { name: name.into(), at: at(millis) };
    let hook = HookStand::Ended {
        at: at(520),
        ms: 900,
        outcome: HookOutcome::Done {
            warnings: vec!["/usr/local/bin/page: exit code 1".into()],
            output: String::new(),
        },
    };
    HistoryRecord {
        format: FORMAT,
        cause: Cause::ProcessExited,
        from: Some(name("cache1")),
        to: name("cache2"),
        steps: vec![
            step("withdrawn", 0),
            step("fenced", 210),
            step("detached", 320),
            step("taken", 520),
            step("promoted", 1720),
            step("serving", 1840),
        ],
        loss: "nothing".into(),
        ranking: vec![name("cache2"), name("cache3")],
        refusals: BTreeMap::from([(name("cache4"), "41 s behind (limit 10 s)".to_owned())]),
        asked_by: None,
        hooks: BTreeMap::from([(Phase::BeforeFailover, hook)]),
        unknown: serde_json::Map::new(),
    }
}
