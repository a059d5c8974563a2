//! Stories of the agent itself: it starts again, stands still, or is configured anew.

use std::collections::BTreeMap;
use std::time::Duration;

use sengu_core::event::Event;
use sengu_core::kv::Op;
use sengu_core::name::{HostName, InstanceId, Term};
use sengu_core::observation::{Answer, Observation, Process, Verdict};
use sengu_core::policy::{Failover, Judge, Rejoin};
use sengu_core::record::{BeatRecord, Cause, FORMAT, MasterState, Proof, key};
use sengu_core::time::Wall;

use crate::world::{Database, Store, World, alone, instance, position, service, shared};

/// The host is renamed (its name is the default of `host`) and the agent starts again.
#[test]
fn a_renamed_host_keeps_its_master() {
    let mut world = World::trio(Failover::Auto);
    world.config.host = HostName::new("db2").expect("a good name");
    world.start_agent();
    world.run_for(Duration::from_secs(5));
    let open = world.database("cache1").open;
    world.run_for(Duration::from_secs(60));
    assert!(open, "it was fenced; {:?} is named\n{}", world.named(), world.tell());
}

/// Three looks at the master failed just before the whole agent stood still for 10 s; the master
/// answers again.
#[test]
fn an_agent_that_was_late_does_not_judge_by_what_it_saw_before() {
    let mut world = World::trio(Failover::Auto);
    world.database_mut("cache1").silent = true;
    for _ in 0..3 {
        world.pass(Duration::from_millis(300));
        world.observe("cache1");
        world.drain();
    }
    world.pass(Duration::from_secs(10));
    world.database_mut("cache1").silent = false;
    world.step(Event::Stalled { late: Duration::from_secs(10) });
    let fenced = ["cache1", "cache2", "cache3"].into_iter().any(|name| world.was_fenced(name));
    assert!(!fenced, "fenced for what was seen before\n{}", world.tell());
}

/// The loop stands still for 12 s, and the looks go on: for most of that time the master's process
/// stood still, and it goes on before the loop does. Then the old looks come one by one.
#[test]
fn looks_that_waited_for_a_late_agent_end_nobody() {
    let mut world = World::trio(Failover::Auto);
    world.forget();
    world.database_mut("cache1").silent = true;
    for _ in 0..10 {
        world.observe("cache1");
        world.pass(Duration::from_secs(1));
    }
    world.database_mut("cache1").silent = false;
    world.pass(Duration::from_secs(2));
    world.step(Event::Stalled { late: Duration::from_secs(12) });
    world.drain();
    world.run_for(Duration::from_secs(1));
    assert!(!world.was_fenced("cache1"), "ended for what was seen before\n{}", world.tell());
    world.database_mut("cache1").silent = true;
    world.run_for(Duration::from_secs(8));
    assert!(world.was_fenced("cache1"), "{}", world.tell());
}

/// The same with a hand that closed the master meanwhile, and opened it again.
#[test]
fn looks_at_a_closed_master_that_waited_for_a_late_agent_end_nobody() {
    let mut world = World::trio(Failover::Auto);
    world.forget();
    world.database_mut("cache1").open = false;
    for _ in 0..5 {
        world.observe("cache1");
        world.pass(Duration::from_secs(1));
    }
    world.database_mut("cache1").open = true;
    world.pass(Duration::from_secs(2));
    world.step(Event::Stalled { late: Duration::from_secs(7) });
    world.drain();
    world.run_for(Duration::from_secs(1));
    assert!(!world.was_fenced("cache1"), "ended for what was seen before\n{}", world.tell());
    world.database_mut("cache1").open = false;
    world.run_for(Duration::from_secs(8));
    assert!(world.was_fenced("cache1"), "{}", world.tell());
}

/// Shared store: the agent starts again, loads, and the store is cut off before the first beat.
#[test]
fn a_restarted_agent_that_cannot_beat_fences() {
    let mut world = World::single_shared();
    world.start_agent();
    world.store_does = Store::CutOff;
    world.run_for(Duration::from_secs(60));
    assert!(
        !world.database("cache1").open || !world.armed.is_empty(),
        "open, and nothing is armed, 60 s after the store was cut off\n{}",
        world.tell()
    );
}

/// A store that refuses what is written, as one that is full, is asked for the record of this host
/// once a second, not again at once.
#[test]
fn a_store_that_refuses_is_not_asked_again_at_once() {
    let mut world = World::single_shared();
    world.store_does = Store::FailsAtOnce;
    world.start_agent();
    world.run_for(Duration::from_secs(10));
    let node = |op: &Op| matches!(op, Op::Put { key, .. } if key.starts_with("nodes/"));
    let asked = world.refused.iter().filter(|txn| txn.then.iter().any(node)).count();
    assert!((8..=11).contains(&asked), "{asked} times in 10 s\n{}", world.tell());
}

/// Shared store, and two agents of one host: this one fenced the master while the store did not
/// answer; the other one opened it again under the next term. What was seen before that term served
/// does not end it.
#[test]
fn a_fence_from_before_a_term_does_not_end_it() {
    for fails in [false, true] {
        let mut world = World::single_shared();
        world.start_agent();
        world.run_for(Duration::from_secs(3));
        world.store_does = Store::FailsAtOnce;
        world.database_mut("cache1").open = false;
        world.run_for(Duration::from_secs(2));
        assert!(world.was_fenced("cache1"), "it was closed by hand\n{}", world.tell());
        if fails {
            // A look that failed before the record came says nothing of its term either.
            world.database_mut("cache1").silent = true;
            world.observe("cache1");
            world.database_mut("cache1").silent = false;
        }
        world.write_master(2, MasterState::Serving, "cache1", &[position("first", 0)]);
        world.database_mut("cache1").open = true;
        world.store_does = Store::Answers;
        world.forget();
        world.pass(Duration::from_millis(100));
        world.drain();
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.master().term, Term(2), "it is open\n{}", world.tell());
        assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
        assert!(!world.was_fenced("cache1"), "{}", world.tell());
    }
}

/// The master exits and comes back while the agent is down; the agent starts again and has not
/// looked yet.
#[test]
fn a_start_names_nobody_before_it_looked() {
    let mut world = World::trio(Failover::Auto);
    world.restart("cache1", Database::fenced(2, position("new", 1)));
    world.boot_agent();
    assert_eq!(world.named(), None, "its life that served has ended\n{}", world.tell());
}

/// A copy that was the master is quarantined (`rejoin = "ask"`); the agent starts again, twice.
#[test]
fn a_quarantine_outlives_the_agent() {
    let mut world = World::trio(Failover::Auto);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.policy.rejoin = Rejoin::Ask;
    world.reload();
    world.run_for(Duration::from_secs(1));
    world.exit("cache1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    world.restart("cache1", Database::fenced(2, position("reloaded", 500)));
    world.forget();
    world.run_for(Duration::from_secs(5));
    let set_apart = |world: &World| world.instance_record("cache1").and_then(|it| it.quarantine);
    assert!(set_apart(&world).is_some(), "it cannot be proven clean\n{}", world.tell());
    for life in 2..=3 {
        world.boot_agent();
        world.run_checked(Duration::from_secs(5), |world| {
            assert!(set_apart(world).is_some(), "lost in life {life}\n{}", world.tell());
        });
    }
    let told = world.commands().iter().any(|(name, _)| name == "cache1");
    assert!(!told, "its data was left alone\n{}", world.tell());
}

/// `cache3` is taken out of the configuration of an agent that runs.
#[test]
fn an_instance_that_is_dropped_loses_its_record() {
    let mut world = World::trio(Failover::Auto);
    assert!(world.instance_record("cache3").is_some(), "it is known\n{}", world.tell());
    world.dismiss("cache3");
    world.reload();
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.instance_record("cache3"), None, "its record goes\n{}", world.tell());
    for name in ["cache1", "cache2"] {
        assert!(world.instance_record(name).is_some(), "{name} stays\n{}", world.tell());
    }
    assert_eq!(world.named().as_deref(), Some("cache1"), "nothing moves\n{}", world.tell());
    assert!(world.commands().is_empty(), "no database was told anything\n{}", world.tell());
}

/// What became of the holder's process while the agent was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Living,
    Exited,
    Restarted,
}

/// Every state in which sengu holds the service, with `cache1` as its holder.
fn held() -> [MasterState; 6] {
    let to = instance("cache2");
    let position = position("first", 100);
    let noticed = Wall(1_699_999_999_000);
    [
        MasterState::Taken { cause: Cause::ProcessExited },
        MasterState::Serving,
        MasterState::Giving { to, position, request: "move".to_owned() },
        MasterState::Vacant { proof: Proof::Fenced, cause: Cause::Hung, noticed, seen: None },
        MasterState::Lapsed,
        MasterState::FenceFailed { error: "the fence failed".to_owned() },
    ]
}

/// An agent that served starts again and finds this record, and its holder so.
fn restarted(judge: Judge, state: &MasterState, holder: Holder) -> World {
    let opened = matches!(state, MasterState::Serving | MasterState::FenceFailed { .. });
    let at = position("first", 100);
    let mut world = World::trio(Failover::Auto);
    let cache1 = match holder {
        Holder::Living if opened => Database::master(1, at),
        Holder::Living => Database::fenced(1, at),
        Holder::Exited => Database::down(at),
        Holder::Restarted => Database::fenced(2, position("reloaded", 1)),
    };
    world.restart("cache1", cache1);
    world.config.judge = judge;
    world.adopted(1, state.clone(), "cache1", &[position("first", 0)]);
    world.start_agent();
    world
}

/// It serves within 30 s, and at no time do two take writes.
fn finds_one_master(judge: Judge, state: &MasterState, holder: Holder) {
    let mut world = restarted(judge, state, holder);
    let case = format!("{judge:?}: {} with a holder {holder:?}", state.word());
    world.run_checked(Duration::from_secs(30), |world| {
        assert!(world.open().len() <= 1, "{case}: two take writes\n{}", world.tell());
    });
    assert_eq!(world.state(), MasterState::Serving, "{case}\n{}", world.tell());
    let master = world.holder();
    assert_eq!(world.named().as_ref(), Some(&master), "{case}\n{}", world.tell());
    assert_eq!(world.open(), [master.as_str()], "{case}\n{}", world.tell());
    if *state == MasterState::Serving && holder == Holder::Living {
        assert_eq!(world.master().term.0, 1, "{case}: it moved\n{}", world.tell());
        assert!(world.commands().is_empty(), "{case}: it was touched\n{}", world.tell());
    }
    if holder == Holder::Restarted {
        assert_ne!(master, "cache1", "{case}: it lacks nearly all\n{}", world.tell());
    }
}

/// The agent starts again in each state of the record, with a holder that lives, has exited, or
/// runs again with what it had on disk; alone, and under a shared store.
#[test]
fn a_started_agent_finds_one_master_whatever_it_was_doing() {
    for judge in [alone(), shared()] {
        for state in held() {
            for holder in [Holder::Living, Holder::Exited, Holder::Restarted] {
                finds_one_master(judge, &state, holder);
            }
        }
    }
}

/// The agent is stopped, the master's line leaves the file, the agent starts: nobody looks at it.
#[test]
fn a_holder_that_is_not_configured_is_not_named() {
    let mut world = World::trio(Failover::Auto);
    world.dismiss("cache1");
    world.start_agent();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.named(), None, "nobody looks at it any more\n{}", world.tell());
}

/// A taker leaves the file before it was opened: the service can still be released.
#[test]
fn a_taker_that_is_not_configured_can_be_released() {
    let mut world = World::trio(Failover::Auto);
    let taken = MasterState::Taken { cause: Cause::Switchover };
    world.adopted(2, taken, "cache2", &[position("first", 0)]);
    world.dismiss("cache2");
    world.start_agent();
    world.run_for(Duration::from_secs(5));
    world.ask("release", sengu_core::record::Ask::Release, Some(2));
    world.run_for(Duration::from_secs(70));
    let stand = world.stand("release");
    assert_eq!(world.state(), MasterState::Unmanaged, "{stand:?}\n{}", world.tell());
}

/// Another host has taken the term and does not open its master: what is waited for is said.
#[test]
fn the_wait_for_another_host_is_said() {
    let copy = Database::replica(1, "cache1", position("first", 100));
    let mut world = World::new(Failover::Auto, shared(), &[("cache2", copy)]);
    let taken = MasterState::Taken { cause: Cause::ProcessExited };
    world.adopted(1, taken, "cache1", &[position("first", 0)]);
    let mut record = world.master();
    (record.holder.host, record.holder.agent) =
        (HostName::new("db3").expect("a good name"), "other".to_owned());
    world.put_record(key::master(&service()), &record);
    world.start_agent();
    world.run_for(Duration::from_secs(1));
    let told = world.tell();
    assert!(told.contains("waiting for host db3 to open cache1"), "{told}");
    world.txns_take = Duration::from_secs(20);
    world.run_for(Duration::from_secs(9));
    let told = world.tell();
    assert!(told.contains("ending term 1: host db3 beats no more"), "{told}");
}

/// The old master's host beats no more; this host cannot look at it, and another one can.
#[test]
fn what_another_host_sees_stops_a_move_for_as_long_as_it_says_so() {
    let copy = Database::replica(1, "cache1", position("first", 100));
    let mut world = World::new(Failover::Auto, shared(), &[("cache2", copy)]);
    world.adopted(1, MasterState::Lapsed, "cache1", &[position("first", 0)]);
    let mut record = world.master();
    (record.holder.host, record.holder.agent) =
        (HostName::new("db2").expect("a good name"), "other".to_owned());
    world.put_record(key::master(&service()), &record);
    world.start_agent();
    world.database_mut("cache2").linked = false;
    let beat = |world: &mut World, counter: u64| {
        let record = BeatRecord {
            format: FORMAT,
            counter,
            start: "life".to_owned(),
            keeps: BTreeMap::new(),
            vetoes: [(service(), Term(1))].into(),
            sent: None,
            unknown: serde_json::Map::new(),
        };
        world.put_record(key::beat(&HostName::new("db3").expect("a good name")), &record);
    };
    for counter in 1..=30 {
        beat(&mut world, counter);
        world.run_for(Duration::from_secs(1));
        assert!(world.open().is_empty(), "db3 sees it take writes\n{}", world.tell());
    }
    let said = world.refusals().iter().any(|why| why.contains("host db3 sees that `cache1`"));
    assert!(said, "why nobody moves is said: {:?}", world.refusals());
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.open(), ["cache2"], "nobody says so any more\n{}", world.tell());
}

/// A beat that keeps the term comes while the watch is lost, and after it one that does not: who
/// reads everything anew sees the second alone, and counts from then on.
#[test]
fn beats_that_were_missed_may_have_kept_the_term() {
    let mut world = World::held_elsewhere();
    let record = world.master();
    let host = record.holder.host.clone();
    let mut beat = BeatRecord {
        format: FORMAT,
        counter: 1,
        start: "another".to_owned(),
        keeps: BTreeMap::from([(service(), record.term)]),
        vetoes: BTreeMap::new(),
        sent: None,
        unknown: serde_json::Map::new(),
    };
    world.put_record(key::beat(&host), &beat);
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    for keeps in [true, false] {
        world.pass(Duration::from_millis(1500));
        beat.counter += 1;
        beat.keeps.retain(|_, _| keeps);
        world.put_record(key::beat(&host), &beat);
    }
    world.pass(Duration::from_secs(1));
    world.load_anew();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.state(), MasterState::Serving, "judged too early\n{}", world.tell());
    assert_eq!(world.named(), None, "nobody here saw a beat that keeps it");
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.master().term, Term(record.term.0 + 1), "{}", world.tell());
}

/// An agent that was started again has not judged yet what stands, and dies again: others go by
/// what was judged in the same life of the process, and by nothing of an earlier one.
#[test]
fn what_was_judged_stands_until_it_is_judged_anew() {
    let mut world = World::trio(Failover::Auto);
    world.run_for(Duration::from_secs(3));
    let bound = |world: &World| world.instance_record("cache1").expect("it is published").bound;
    assert_eq!(bound(&world), Verdict::Good);
    world.database_mut("cache1").bound = Verdict::Unknown;
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    assert_eq!(bound(&world), Verdict::Good, "{}", world.tell());
    let mut later = Database::master(2, position("later", 1));
    later.bound = Verdict::Unknown;
    world.exit("cache1");
    world.restart("cache1", later);
    world.run_for(Duration::from_secs(3));
    assert_eq!(bound(&world), Verdict::Unknown, "{}", world.tell());
}

/// The agent starts again after its term was declared lapsed, or went to another host, while the
/// old master's process is stopped: on waking it would take writes beside the next one.
#[test]
fn an_old_master_that_stands_still_when_its_agent_starts_is_fenced() {
    for elsewhere in [false, true] {
        let mut world = World::single_shared();
        world.start_agent();
        world.run_for(Duration::from_secs(2));
        let mut record = world.master();
        if elsewhere {
            record.unproven = vec![record.holder.clone()];
            record.holder.host = HostName::new("db2").expect("a good name");
            record.holder.instance = instance("cache9");
        } else {
            record.state = MasterState::Lapsed;
        }
        world.put_record(key::master(&service()), &record);
        world.database_mut("cache1").silent = true;
        world.lose_events();
        world.start_agent();
        world.run_for(Duration::from_millis(3_500));
        assert!(world.was_fenced("cache1"), "elsewhere: {elsewhere}\n{}", world.tell());
    }
}

/// The agent starts and the store does not answer: that it has no records is not told as a fact.
#[test]
fn before_the_store_is_read_nothing_is_said_of_who_holds_what() {
    let mut world = World::single_shared();
    world.boot_unread();
    world.drain();
    let problems = world.problems();
    assert!(problems[0].contains("the store was not read since the agent started"), "{problems:?}");
    let next = world.explain().next;
    assert_eq!(next.stays, ["who holds it is unknown before the store was read"]);
    world.load_anew();
    world.run_for(Duration::from_secs(1));
    assert!(world.problems().is_empty(), "{:?}", world.problems());
}

/// The agent of an open master starts again on a host that is cut off and short of time: no look
/// comes back. Others count its term as lapsed after the lease.
#[test]
fn a_look_that_does_not_come_back_holds_no_fence_up() {
    let mut world = World::single_shared();
    world.store_does = Store::CutOff;
    world.boot_unread();
    for _ in 0..60 {
        world.turn(false);
        while world.next() {}
    }
    assert!(world.was_fenced("cache1"), "{}", world.tell());
    assert!(!world.database("cache1").open);
}

/// The same where the server has no connection left for the agent, or does not let it in: whether
/// it takes writes nobody hears. One that reads its data from disk starts as its file says.
#[test]
fn a_server_that_does_not_say_whether_it_is_open_is_fenced() {
    let untold = [
        (Answer::TooManyClients, true),
        (Answer::AuthFailed("WRONGPASS".to_owned()), true),
        (Answer::Busy, true),
        (Answer::Loading, false),
        (Answer::Refused, false),
    ];
    for (answer, fenced) in untold {
        let mut world = World::single_shared();
        world.store_does = Store::CutOff;
        world.boot_unread();
        for _ in 0..70 {
            world.turn(false);
            let sent = world.now().time;
            let observation =
                Observation { boot_id: None, answer: answer.clone(), process: Process::Running };
            let instance = InstanceId { service: service(), instance: instance("cache1") };
            world.step(Event::Observed { instance, sent, observation });
            while world.next() {}
        }
        assert_eq!(world.was_fenced("cache1"), fenced, "{answer:?}\n{}", world.tell());
    }
}

/// The process of the master here ends while the host is cut off: that it is withdrawn, the store
/// cannot be told, and this agent does not name it for the rest of the lease.
#[test]
fn a_master_whose_end_was_seen_is_not_named_while_the_store_is_away() {
    let mut world = World::single_shared();
    world.start_agent();
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    world.store_does = Store::CutOff;
    world.exit("cache1");
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.named(), None, "{}", world.tell());
}
