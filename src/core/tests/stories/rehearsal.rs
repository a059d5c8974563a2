//! What `explain` foretells is what happens: the same world is rehearsed, then made to happen.

use std::time::Duration;

use sengu_core::event::LookOutcome;
use sengu_core::explain::{Explanation, RuleVerdict};
use sengu_core::name::{BootId, HostName, Term};
use sengu_core::observation::Role;
use sengu_core::policy::{DatabaseKind, Failover, Rejoin};
use sengu_core::record::{Ask, Lag, MasterState, key};

use crate::world::{
    Database, World, alone, grown, instance, position, service, shared, transactions, uuid,
};

fn verdict(told: &Explanation, slug: &str) -> (RuleVerdict, String) {
    let rule = told.rules.iter().find(|rule| rule.rule == slug).expect("every rule is told");
    (rule.verdict, rule.facts.clone())
}

fn steps(told: &Explanation) -> Vec<&str> {
    told.next.steps.iter().map(|step| step.text.as_str()).collect()
}

/// Rehearses the death of the master, lets it die, and compares who serves in which term, and
/// what is said to be lost.
fn comes_true(mut world: World) {
    let before = world.explain();
    let after = world.explain();
    assert_eq!(before, after, "to explain changes nothing");
    let master = world.holder();
    world.exit(&master);
    world.run_for(Duration::from_secs(20));
    let record = world.master();
    match &before.next.serves {
        Some(serves) => {
            assert_eq!(record.state, MasterState::Serving, "{}", world.tell());
            assert_eq!(serves.instance, record.holder.instance, "{}", world.tell());
            assert_eq!(serves.term, record.term, "{}", world.tell());
            assert_eq!(serves.address, record.holder.address);
            let history = world.explain().report.last.expect("it has a history");
            assert_eq!(before.next.loss.as_deref(), Some(history.record.loss.as_str()));
        }
        None => {
            assert_ne!(record.state, MasterState::Serving, "{}", world.tell());
            assert!(!before.next.stays.is_empty());
            let now = world.explain().next.stays;
            assert!(
                before.next.stays.iter().any(|why| now.contains(why)),
                "foretold {:?}, said now {now:?}",
                before.next.stays
            );
        }
    }
}

#[test]
fn a_failover_is_foretold_with_its_steps() {
    let world = World::trio(Failover::Auto);
    let told = world.explain();
    assert_eq!(told.next.suppose, "the process of cache1 ends now");
    assert_eq!(
        steps(&told)[..6],
        [
            "cache1 is withdrawn: no name points to a master",
            "cache2 has stopped receiving and tells its position",
            "cache3 has stopped receiving and tells its position",
            "cache2 takes term 2",
            "cache2 is promoted",
            "cache2 serves term 2: names point to it",
        ]
    );
    assert!(steps(&told)[6].starts_with("cache3 follows "), "{told:#?}");
    let serves = told.next.serves.as_ref().expect("somebody would serve");
    assert_eq!((serves.instance.as_str(), serves.term.0), ("cache2", 2));
    comes_true(world);
}

#[test]
fn a_pause_is_foretold_as_the_reason_why_nobody_would_serve() {
    let mut world = World::trio(Failover::Auto);
    world.ask_at("pause", Ask::Pause, None, sengu_core::record::Stand::Standing);
    world.drain();
    let told = world.explain();
    assert!(told.next.serves.is_none(), "{told:#?}");
    assert!(told.next.stays.iter().any(|why| why.starts_with("paused")), "{:?}", told.next.stays);
    comes_true(world);
}

#[test]
fn manual_failover_is_foretold_as_the_reason_why_nobody_would_serve() {
    let world = World::trio(Failover::Manual);
    let told = world.explain();
    assert!(told.next.serves.is_none(), "{told:#?}");
    let manual = |why: &String| why.contains("only cache1 takes again by itself");
    assert!(told.next.stays.iter().any(manual), "{:?}", told.next.stays);
    comes_true(world);
}

/// The copy with the better priority is behind: it is not the one that is foretold.
#[test]
fn the_copy_that_has_most_is_foretold() {
    let mut world = World::new(
        Failover::Auto,
        alone(),
        &[
            ("cache1", Database::master(1, position("first", 900))),
            ("cache2", Database::replica(1, "cache1", position("first", 500))),
            ("cache3", Database::replica(1, "cache1", position("first", 900))),
        ],
    );
    world.adopted(1, MasterState::Serving, "cache1", &[position("first", 0)]);
    world.start_agent();
    world.run_for(Duration::from_secs(2));
    let told = world.explain();
    let serves = told.next.serves.as_ref().expect("somebody would serve");
    assert_eq!(serves.instance.as_str(), "cache3", "{told:#?}");
    comes_true(world);
}

#[test]
fn rules_tell_what_they_say_now() {
    let mut world = World::trio(Failover::Auto);
    let told = world.explain();
    assert_eq!(told.rules.len(), 12);
    assert_eq!(verdict(&told, "named-is-serving").0, RuleVerdict::Holds);
    assert_eq!(verdict(&told, "starts-fenced").0, RuleVerdict::Holds);
    assert_eq!(verdict(&told, "detach-then-final").0, RuleVerdict::Idle);
    world.ask_at("pause", Ask::Pause, None, sengu_core::record::Stand::Standing);
    world.exit("cache1");
    world.run_for(Duration::from_secs(3));
    let told = world.explain();
    let (named, words) = verdict(&told, "named-is-serving");
    assert_eq!(
        (named, words.as_str()),
        (RuleVerdict::Stops, "nobody is named: the master has failed")
    );
    assert_eq!(verdict(&told, "proven-before-promoted").1, "the process of cache1 is gone");
    assert_eq!(verdict(&told, "refusals-are-said").0, RuleVerdict::Stops);
    assert_eq!(told.next.suppose, "nothing else happens");
    assert!(told.next.serves.is_none(), "a pause keeps it from going on");
}

/// A released service, and one whose copies have another history.
#[test]
fn what_is_not_held_is_said_to_be_left_alone() {
    let mut world = World::new(
        Failover::Auto,
        alone(),
        &[("cache1", Database::master(1, grown("second", 900, "first", 101)))],
    );
    world.start_agent();
    world.run_for(Duration::from_secs(2));
    let told = world.explain();
    assert!(told.next.stays[0].contains("sengu adopt foo`"), "{:?}", told.next.stays);
}

/// A master and two copies on this host, of a service that other hosts have copies of, too.
fn several_hosts() -> World {
    let at = || position("first", 100);
    let databases = [
        ("cache1", Database::master(1, at())),
        ("cache2", Database::replica(1, "cache1", at())),
        ("cache3", Database::replica(1, "cache1", at())),
    ];
    let mut world = World::new(Failover::Auto, shared(), &databases);
    world.adopted(1, MasterState::Serving, "cache1", &[position("first", 0)]);
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.master().state, MasterState::Serving, "{}", world.tell());
    world
}

/// A copy of another host, as its agent would have published it.
fn copy_elsewhere(world: &mut World, name: &str, priority: u32) {
    let mut record = world.instance_record("cache2").expect("it is known");
    record.host = HostName::new("db2").expect("a good name");
    record.agent = "another".to_owned();
    record.address = "10.0.0.12:6379".parse().expect("an address");
    let boot_id = BootId(format!("{name}-1").into());
    record.in_step = Some(boot_id.clone());
    record.boot_id = Some(boot_id);
    record.priority = priority;
    world.put_record(key::instance(&service(), &instance(name)), &record);
    world.drain();
}

/// The agent of another host gives the final of its copy, which ranks first, and takes.
#[test]
fn a_copy_of_another_host_is_foretold() {
    let mut world = several_hosts();
    copy_elsewhere(&mut world, "cache9", 10);
    let told = world.explain().next;
    let serves = told.serves.as_ref().expect("somebody would serve");
    assert_eq!((serves.instance.as_str(), serves.term.0), ("cache9", 2), "{told:#?}");
    assert!(told.provided.iter().any(|line| line.starts_with("cache9 on db2 has all")));
    assert_eq!(told.loss, None, "nobody here knows");
}

/// The same copy is not in step: it gives nothing, and one of this host takes.
#[test]
fn a_copy_of_another_host_that_is_behind_is_not_counted_on() {
    let mut world = several_hosts();
    copy_elsewhere(&mut world, "cache9", 10);
    let mut record = world.instance_record("cache9").expect("just written");
    record.link_up = false;
    world.put_record(key::instance(&service(), &instance("cache9")), &record);
    world.drain();
    let told = world.explain().next;
    let serves = told.serves.as_ref().expect("somebody would serve");
    assert_eq!(serves.instance.as_str(), "cache2", "{told:#?}");
}

/// `cache9`, on another host, serves term 2; the copies here follow it.
fn master_elsewhere() -> World {
    let mut world = several_hosts();
    copy_elsewhere(&mut world, "cache9", 100);
    let mut record = world.master();
    record.holder.instance = instance("cache9");
    record.holder.address = "10.0.0.12:6379".parse().expect("an address");
    record.holder.host = HostName::new("db2").expect("a good name");
    record.holder.boot_id = BootId("cache9-1".into());
    record.term = Term(2);
    for name in ["cache2", "cache3"] {
        world.database_mut(name).follow("10.0.0.12:6379".parse().expect("an address"));
    }
    world.dismiss("cache1");
    world.reload();
    world.put_record(key::master(&service()), &record);
    world
}

/// The master is on another host: its agent withdraws it, and a copy here takes.
#[test]
fn the_end_of_a_master_of_another_host_is_foretold() {
    let mut world = master_elsewhere();
    world.run_for(Duration::from_secs(3));
    let told = world.explain().next;
    assert_eq!(told.suppose, "the process of cache9 ends now");
    let serves = told.serves.as_ref().expect("somebody would serve");
    assert_eq!((serves.instance.as_str(), serves.term.0), ("cache2", 3), "{told:#?}");
}

/// A master that nobody's beat keeps takes writes still. It is looked at again and again, and while
/// a look is under way the reason of the last one is said, and nothing else is foretold.
#[test]
fn what_a_look_saw_is_the_reason_until_the_next_one_ends() {
    let mut world = master_elsewhere();
    world.look_shows = LookOutcome::Writable;
    world.looks_take = Duration::from_millis(300);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.master().state, MasterState::Lapsed, "{}", world.tell());
    let mut looking = 0;
    for _ in 0..100 {
        world.run_for(Duration::from_millis(50));
        let told = world.explain();
        let reason = "`cache9` at 10.0.0.12:6379 still takes writes: no move while it does";
        assert_eq!(told.report.refusals, [reason], "{}", world.tell());
        assert_eq!(told.next.serves, None, "{:#?}", told.next);
        looking += usize::from(told.report.doing.is_some());
    }
    assert!(looking > 5, "it was seen looking {looking} times");

    // It is closed: the next look says so, and a copy takes over.
    world.look_shows = LookOutcome::NotWritable;
    world.run_for(Duration::from_secs(10));
    let record = world.master();
    assert_eq!((record.state, record.term.0), (MasterState::Serving, 3), "{}", world.tell());
}

/// MySQL: `db2`, on another host, serves term 2; `db1` here is an old master that came back with
/// writes which nobody received. `db3`, on a third host, follows if it is told to.
fn set_apart_here(third: bool) -> World {
    let origin = transactions("db2", &[("db1", 100)]);
    let old = Database::fenced(2, transactions("db1", &[("db1", 107)]));
    let mut world = World::new(Failover::Auto, shared(), &[("db1", old)]);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.kind = DatabaseKind::Mysql;
    settings.policy.rejoin = Rejoin::Ask;
    world.adopted(2, MasterState::Serving, "db2", &[origin]);
    let mut record = world.master();
    record.holder.host = HostName::new("db2").expect("a good name");
    world.put_record(key::master(&service()), &record);
    world.start_agent();
    world.run_for(Duration::from_secs(1));
    let mut copy = world.instance_record("db1").expect("it is published");
    copy.quarantine = None;
    copy.agent = "another".to_owned();
    for (name, role) in [("db2", Role::Master), ("db3", Role::Replica)] {
        if role == Role::Replica && !third {
            continue;
        }
        copy.host = HostName::new(name).expect("a good name");
        copy.boot_id = Some(BootId(format!("{name}-1").into()));
        copy.in_step.clone_from(&copy.boot_id);
        (copy.role, copy.writable) = (Some(role), role == Role::Master);
        (copy.link_up, copy.lag) = (role == Role::Replica, Lag::None);
        world.put_record(key::instance(&service(), &instance(name)), &copy);
    }
    world.run_for(Duration::from_secs(2));
    let apart = world.instance_record("db1").and_then(|record| record.quarantine);
    assert!(apart.is_some_and(|why| why.contains(&uuid("db1"))), "{}", world.tell());
    world
}

/// What is quarantined here tells nothing of the others: one in step is counted on.
#[test]
fn a_copy_of_another_host_is_foretold_where_the_own_one_is_quarantined() {
    let told = set_apart_here(true).explain().next;
    assert_eq!(told.suppose, "the process of db2 ends now");
    let serves = told.serves.as_ref().expect("somebody would serve");
    assert_eq!((serves.instance.as_str(), serves.term.0), ("db3", 3), "{told:#?}");
    assert!(told.provided.iter().any(|line| line.starts_with("db3 on db3 has all")));
}

/// Where nobody else has a copy, the reason is the quarantine.
#[test]
fn a_quarantined_copy_is_never_foretold() {
    let told = set_apart_here(false).explain().next;
    assert_eq!(told.serves, None, "{told:#?}");
    assert!(told.stays.iter().any(|why| why.contains("quarantined")), "{:?}", told.stays);
}
