//! Stories of a store that refuses, or holds what cannot be read: no event may lead to another
//! without end.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::policy::Failover;
use sengu_core::record::{Cause, MasterState, key};

use crate::world::{Database, Store, World, instance, position, service};

/// More events than any of these stories needs; an agent that asks as fast as the store answers
/// comes here.
const MANY: usize = 5_000;

/// The record of `cache2` becomes one that this version cannot read.
fn make_unreadable(world: &mut World) {
    let key = key::instance(&service(), &instance("cache2"));
    world.put(key, Arc::from(&b"{\"format\":2}"[..]));
}

/// An instance's record becomes unreadable while the agent runs.
#[test]
fn a_record_that_becomes_unreadable_is_no_hot_loop() {
    let mut world = World::trio(Failover::Auto);
    make_unreadable(&mut world);
    assert!(world.settle(MANY) < MANY, "txns as fast as the store answers\n{}", world.tell());
}

/// An instance's record is unreadable when the agent starts.
#[test]
fn a_record_unreadable_at_start_is_no_hot_loop() {
    let mut world = World::trio(Failover::Auto);
    make_unreadable(&mut world);
    world.lose_events();
    world.boot_agent();
    for name in ["cache1", "cache2", "cache3"] {
        world.observe(name);
    }
    assert!(world.settle(MANY) < MANY, "txns as fast as the store answers\n{}", world.tell());
}

/// The store takes seconds to answer each write of a failover: while nothing else is to be done,
/// `explain` says that this is what is waited for.
#[test]
fn a_write_without_an_answer_is_said() {
    let mut world = World::trio(Failover::Auto);
    world.txns_take = Duration::from_secs(4);
    world.exit("cache1");
    let said = |world: &World| world.tell().contains("waiting for the store's answer to a write");
    let told = (0..60).any(|_| {
        world.run_for(Duration::from_millis(500));
        said(&world)
    });
    assert!(told, "{}", world.tell());
    world.txns_take = Duration::ZERO;
    world.run_for(Duration::from_secs(10));
    assert!(!said(&world) && world.named().is_some(), "{}", world.tell());
}

/// A write fails, and by the time that the store takes writes again what it was to tell is over:
/// nothing is left to write, and nothing is said of the store any more.
#[test]
fn a_write_that_failed_and_is_not_wanted_any_more_is_no_trouble() {
    let mut world = World::trio(Failover::Auto);
    world.run_for(Duration::from_secs(5));
    let said = |world: &World| {
        world.refusals().iter().any(|why| why.contains("the store does not take writes"))
    };
    let before = world.database("cache2").clone();
    world.store_does = Store::FailsAtOnce;
    world.database_mut("cache2").linked = false;
    world.run_for(Duration::from_secs(4));
    assert!(said(&world), "{}", world.tell());
    // Still refused: said each time, not now and then.
    world.run_checked(Duration::from_secs(4), |world| assert!(said(world), "{}", world.tell()));
    *world.database_mut("cache2") = before;
    world.observe("cache2");
    world.drain();
    world.store_does = Store::Answers;
    let written = world.revision();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.revision(), written, "nothing was left to write\n{}", world.tell());
    assert!(!said(&world), "{}", world.tell());
}

/// Shared store: it serves until the agent has started, then fails each txn at once.
#[test]
fn beats_that_fail_at_once_are_paced() {
    let mut world = World::single_shared();
    world.start_agent();
    world.store_does = Store::FailsAtOnce;
    world.observe("cache1");
    assert!(world.settle(MANY) < MANY, "a txn every 0.1 ms\n{}", world.tell());
}

/// The store answers nothing while a term begins here, and the fence ends the process. That it has
/// exited is heard before the fence says so: the candidate is not to blame all the same, and
/// serves once the store is back.
#[test]
fn an_exit_when_the_fence_is_due_counts_against_the_store() {
    let mut world = World::single_shared();
    world.restart("cache1", Database::fenced(1, position("first", 100)));
    let cause = Cause::ProcessExited;
    world.adopted(2, MasterState::Taken { cause }, "cache1", &[position("first", 0)]);
    world.store_does = Store::CutOff;
    world.start_agent();
    let due = |world: &World| world.armed.first().is_some_and(|it| it.at <= world.now().time);
    for _ in 0..200 {
        if due(&world) {
            break;
        }
        world.run_for(Duration::from_millis(50));
    }
    assert!(due(&world), "{}", world.tell());
    world.exit("cache1");
    world.restart("cache1", Database::fenced(2, position("first", 100)));
    world.store_does = Store::Answers;
    world.run_for(Duration::from_secs(5));
    assert!(world.master().failed.is_empty(), "{}", world.tell());
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
}
