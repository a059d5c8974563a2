//! Stories in which the master fails: who takes its place, and who must not.

use std::collections::BTreeMap;
use std::time::Duration;

use sengu_core::policy::{Failover, OnError};
use sengu_core::record::{Ask, Cause, MasterState, Phase, Stand, key};
use sengu_core::time::Wall;

use crate::world::{Database, Store, World, address, alone, grown, instance, position, service};

/// The master of three exits: the first replica by name takes its place and is named.
#[test]
fn a_replica_takes_the_place_of_a_master_that_exited() {
    let mut world = World::trio(Failover::Auto);
    world.exit("cache1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.holder(), "cache2", "the first of two equal copies\n{}", world.tell());
    assert_eq!(world.named().as_deref(), Some("cache2"), "it serves\n{}", world.tell());
}

/// The `before-failover` hook runs for 25 s: its own deadline bounds it, and no candidate is given
/// up for the time it took.
#[test]
fn a_hook_that_takes_its_time_does_not_spend_the_candidates() {
    let mut world = World::trio(Failover::Auto);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.hooks = BTreeMap::from([(Phase::BeforeFailover, OnError::Continue)]);
    world.reload();
    world.hooks_take = Duration::from_secs(25);
    world.exit("cache1");
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.master().term.0, 2, "one term was enough\n{}", world.tell());
    assert_eq!(world.named().as_deref(), Some("cache2"), "it serves\n{}", world.tell());
}

/// `cache2` serves term 2 for days while `cache1` is down. `cache2` exits; then `cache1` is
/// started with its old dump; then `cache2` comes back with its file, all data of term 2, under a
/// new history.
#[test]
fn a_copy_that_slept_for_a_term_does_not_win() {
    let serving = grown("second", 9_000_000, "first", 101);
    let mut world = World::new(
        Failover::Auto,
        alone(),
        &[
            ("cache1", Database::down(position("first", 90))),
            ("cache2", Database::master(1, serving)),
        ],
    );
    let origins = [position("first", 0), grown("second", 100, "first", 101)];
    world.adopted(2, MasterState::Serving, "cache2", &origins);
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    world.forget();
    world.exit("cache2");
    world.run_for(Duration::from_secs(1));
    world.restart("cache1", Database::fenced(2, position("first", 90)));
    world.run_for(Duration::from_secs(3));
    let took = world.holder() == "cache1";
    world.restart("cache2", Database::fenced(2, position("reloaded", 1)));
    world.run_for(Duration::from_secs(5));
    let source = world.database("cache2").source;
    assert!(!took, "a copy 9 MB behind won; cache2 follows {source:?}\n{}", world.tell());
}

/// `cache1` is fenced and opened again, and begins a history of its own each time. `cache2` had to
/// be copied in full since, and `cache3` has not come back to it yet when it exits.
#[test]
fn copies_of_a_master_that_was_reopened_are_compared() {
    let origins = [
        position("first", 0),
        grown("second", 100, "first", 101),
        grown("third", 200, "second", 201),
    ];
    let mut world = World::new(
        Failover::Auto,
        alone(),
        &[
            ("cache1", Database::master(1, grown("third", 250, "second", 201))),
            ("cache2", Database::replica(1, "cache1", position("third", 240))),
            ("cache3", Database::replica(1, "cache1", position("second", 200))),
        ],
    );
    world.database_mut("cache3").linked = false;
    world.adopted(3, MasterState::Serving, "cache1", &origins);
    world.start_agent();
    world.run_for(Duration::from_millis(700));
    world.exit("cache1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "it holds more\n{}", world.tell());
}

/// A person opens `cache3` by hand and its fence does not work; then the master exits.
#[test]
fn nobody_is_promoted_while_another_copy_takes_writes() {
    let mut world = World::trio(Failover::Auto);
    let cache3 = world.database_mut("cache3");
    cache3.open();
    cache3.fence_works = false;
    world.run_for(Duration::from_secs(1));
    world.exit("cache1");
    world.run_for(Duration::from_secs(10));
    let open = world.open();
    assert!(!(open.contains(&"cache2") && open.contains(&"cache3")), "two open\n{}", world.tell());
}

/// `cache1` exits and `cache2` takes term 2; the agent starts again while `cache2` hangs before it
/// was opened, and a person asks for a release.
#[test]
fn a_taker_that_hangs_is_fenced() {
    let mut world = World::trio(Failover::Auto);
    world.exit("cache1");
    let taken = MasterState::Taken { cause: Cause::ProcessExited };
    world.adopted(2, taken, "cache2", &[position("first", 0)]);
    let hung = Database { silent: true, ..Database::fenced(1, position("first", 100)) };
    world.restart("cache2", hung);
    world.ask("release", Ask::Release, Some(2));
    world.lose_events();
    world.start_agent();
    world.forget();
    world.run_for(Duration::from_secs(300));
    let stand = world.stand("release");
    assert!(world.was_fenced("cache2"), "the release: {stand:?}\n{}", world.tell());
}

/// A cache without persistence, alone: it exits, comes back empty, and a person asks for it.
#[test]
fn a_single_copy_takes_again_empty_when_asked() {
    let mut world = World::serving(Failover::Manual, 0);
    world.exit("cache1");
    let empty = Database { empty: true, ..Database::fenced(2, position("new", 1)) };
    world.restart("cache1", empty);
    world.run_for(Duration::from_secs(5));
    let to = Some(instance("cache1"));
    world.ask("failover", Ask::Failover { to, lossy: true }, Some(1));
    world.run_for(Duration::from_secs(65));
    let stand = world.stand("failover");
    assert_eq!(world.state(), MasterState::Serving, "{stand:?}\n{}", world.tell());
}

/// The holder's port closes while its process still ends its sessions; another process listens
/// there already, and nobody has seen the first one exit.
#[test]
fn an_exit_that_nobody_saw_ends_no_term() {
    let mut world = World::trio(Failover::Auto);
    world.exits_unseen = true;
    world.restart("cache1", Database::fenced(2, position("new", 1)));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.master().term.0, 1, "its first life may still write\n{}", world.tell());
}

/// The wall clock stood a year in the future when the last failovers were counted; now it is
/// right, and the master exits.
#[test]
fn failovers_counted_in_the_future_block_nothing() {
    let mut world = World::trio(Failover::Auto);
    let mut record = world.master();
    let year = 365 * 24 * 3600 * 1000;
    record.failovers = vec![Wall(world.now().wall.0 + year); 3];
    world.put_record(key::master(&service()), &record);
    world.drain();
    world.exit("cache1");
    world.run_for(Duration::from_secs(700));
    assert_eq!(world.state(), MasterState::Serving, "{}", world.tell());
}

/// The taker is open, and what names it is lost on the way to the store. Somebody points it at
/// another copy, which overwrites what it took over: it is not opened again as if nothing were
/// lost.
#[test]
fn a_candidate_that_is_closed_before_it_is_named_is_given_up() {
    let mut world = World::trio(Failover::Auto);
    let to = Some(instance("cache2"));
    world.ask_at("move", Ask::Switchover { to }, Some(1), Stand::Asked);
    while world.open() != ["cache2"] {
        assert!(world.next(), "nobody is opened\n{}", world.tell());
    }
    world.store_does = Store::CutOff;
    world.run_for(Duration::from_secs(1));
    world.database_mut("cache2").follow(address("cache3"));
    world.run_for(Duration::from_secs(2));
    world.store_does = Store::Answers;
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    let history = world.history(3);
    assert!(history.loss.starts_with("unknown"), "{}", history.loss);
    let Cause::PromotionFailed(why) = history.cause else { panic!("{:?}", history.cause) };
    assert_eq!(why, "somebody closed it before it was named");
}
