//! Stories of a master that is back in a later life, or seems to hang in this one: what it lost is
//! known only by what was seen of it, and what it does only by a look.

use std::time::Duration;

use sengu_core::policy::{Failover, Loss};
use sengu_core::record::MasterState;

use crate::world::{Database, World, position, service, transactions};

/// `db1` serves with `loss = "none"`, is alone, has written 50 transactions more than `db2` got,
/// was looked at since, and has exited.
fn alone() -> World {
    let mut world = World::mysql(Loss::None, 1);
    let at = transactions("db2", &[("db1", 100)]);
    world.restart("db2", Database { linked: false, ..Database::replica(1, "db1", at) });
    world.run_for(Duration::from_secs(5));
    assert!(!world.sync().complete, "{}", world.tell());
    world.database_mut("db1").position = transactions("db1", &[("db1", 150)]);
    world.run_for(Duration::from_secs(1));
    world.exit("db1");
    world.run_for(Duration::from_secs(2));
    world
}

/// `db1` is back, with the data of that server, and so much of it.
fn back(server: &str, count: u64) -> World {
    let mut world = alone();
    let at = transactions(server, &[("db1", count)]);
    world.restart("db1", Database::fenced(2, at));
    world.run_for(Duration::from_secs(8));
    world
}

/// Somebody emptied it and filled it from the copy: it has all that any copy has, and what it
/// acknowledged alone is nowhere.
#[test]
fn one_that_was_filled_again_from_a_copy_is_not_the_master_that_it_was() {
    let world = back("db9", 100);
    assert!(world.open().is_empty(), "{}", world.tell());
    let said = world.refusals().join("\n");
    assert!(said.contains("its server_uuid is not that of the last master"), "{said}");
}

/// It covers the copy, and lacks what its agent saw it have.
#[test]
fn one_that_was_set_back_does_not_take_again_by_itself() {
    let world = back("db1", 120);
    assert!(world.open().is_empty(), "{}", world.tell());
    let said = world.refusals().join("\n");
    assert!(said.contains("lacks what it was last seen with as the master"), "{said}");
}

/// The same server with all that it had: it takes, and nothing was lost.
#[test]
fn one_that_kept_its_data_takes_again() {
    let world = back("db1", 151);
    assert_eq!(world.open(), ["db1"], "{}", world.tell());
    assert_eq!(world.history(2).loss, "nothing: it holds every acknowledged write");
}

/// The record says what it was last seen with, so that another life of the agent knows it too.
#[test]
fn what_it_was_last_seen_with_outlives_the_agent() {
    let mut world = alone();
    let MasterState::Vacant { seen, .. } = world.state() else { panic!("{}", world.tell()) };
    assert_eq!(seen, Some(transactions("db1", &[("db1", 150)])));
    let at = transactions("db1", &[("db1", 120)]);
    world.restart("db1", Database::fenced(2, at));
    world.start_agent();
    world.run_for(Duration::from_secs(8));
    assert!(world.open().is_empty(), "{}", world.tell());
}

/// It was silent for nearly as long as it may, and woke after the last look: the next look decides,
/// not the clock.
#[test]
fn one_that_woke_since_the_last_look_is_not_ended_as_hung() {
    let mut world = World::trio(Failover::Auto);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.policy.hung_after = Duration::from_millis(2_200);
    world.reload();
    world.run_for(Duration::from_secs(1));
    world.forget();
    world.database_mut("cache1").silent = true;
    world.run_for(Duration::from_millis(2_150));
    world.database_mut("cache1").silent = false;
    world.run_for(Duration::from_secs(2));
    assert!(!world.was_fenced("cache1"), "{}", world.tell());
    world.database_mut("cache1").silent = true;
    world.run_for(Duration::from_secs(4));
    assert!(world.was_fenced("cache1"), "{}", world.tell());
}

/// A copy that came back and takes no source stands beside the others unseen unless somebody is
/// told of it.
#[test]
fn a_copy_that_cannot_follow_says_why_until_it_does() {
    let mut world = World::trio(Failover::Auto);
    world.run_for(Duration::from_secs(2));
    world.exit("cache3");
    let back = Database { follow_works: false, ..Database::fenced(2, position("a", 1000)) };
    world.restart("cache3", back);
    world.run_for(Duration::from_secs(5));
    let said = |world: &World| {
        let why = "`cache3` does not follow `cache1`: it takes no source; it is tried again";
        world.problems().iter().any(|problem| problem == why)
    };
    assert!(said(&world), "{:?}\n{}", world.problems(), world.tell());
    world.database_mut("cache3").follow_works = true;
    world.run_for(Duration::from_secs(3));
    assert!(!said(&world), "{:?}", world.problems());
    assert!(world.database("cache3").linked, "{}", world.tell());
}
