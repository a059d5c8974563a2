//! Stories of `loss = "none"`: who may acknowledge, who is known to have everything, who may take.

use std::time::Duration;

use sengu_core::policy::Loss;
use sengu_core::record::Ask;
use sengu_core::sync::Standing;

use crate::world::{Database, World, address, instance, transactions};

/// What must hold after each event: only copies that stand in the record acknowledge, and while the
/// record says that others hold everything, commits wait for them.
fn holds(world: &World) {
    let (sync, master) = (world.sync(), world.master());
    if sync.term != master.term || world.open().is_empty() {
        return;
    }
    let holder = master.holder.instance.to_string();
    for name in ["db1", "db2", "db3"].into_iter().filter(|name| *name != holder) {
        let Some(copy) = world.known(name) else { continue };
        let may = sync.copies.contains_key(&instance(name));
        let attached = copy.acknowledges_to(address(&holder));
        assert!(may || !attached, "{name} acknowledges and is not in {sync:?}\n{}", world.tell());
    }
    let waits = world.database(&holder).semi_sync.awaits > 0;
    assert!(waits || !sync.complete, "commits go on alone under {sync:?}\n{}", world.tell());
}

fn run(world: &mut World, seconds: u64) {
    world.run_checked(Duration::from_secs(seconds), holds);
}

fn members(world: &World) -> Vec<String> {
    let sync = world.sync();
    let members = sync.copies.iter().filter(|(_, standing)| **standing == Standing::Member);
    members.map(|(name, _)| name.to_string()).collect()
}

/// Both copies join by themselves; the master exits after a write that only `db3` got and
/// acknowledged: `db3` takes over.
#[test]
fn the_copy_that_has_the_last_acknowledged_write_takes_over() {
    let mut world = World::mysql(Loss::None, 2);
    assert!(world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
    assert_eq!(members(&world), ["db2", "db3"]);
    assert_eq!(world.database("db1").semi_sync.awaits, 1, "commits wait");
    world.database_mut("db1").position = transactions("db1", &[("db1", 101)]);
    world.database_mut("db3").position = transactions("db3", &[("db1", 101)]);
    world.exit("db1");
    run(&mut world, 8);
    assert_eq!(world.named().as_deref(), Some("db3"), "it has everything\n{}", world.tell());
    world.database_mut("db2").position = transactions("db2", &[("db1", 101)]);
    run(&mut world, 3);
    assert!(world.sync().complete && members(&world) == ["db2"], "{:?}", world.sync());
}

/// Nobody is known to have everything, since no copy follows: nobody takes over, and it is said.
#[test]
fn nobody_takes_over_while_the_master_alone_has_everything() {
    let mut world = World::mysql(Loss::None, 1);
    let at = transactions("db2", &[("db1", 100)]);
    world.restart("db2", Database { linked: false, ..Database::replica(1, "db1", at) });
    run(&mut world, 5);
    assert!(!world.sync().complete, "{}", world.tell());
    assert_eq!(world.database("db1").semi_sync.awaits, 0, "commits go on alone");
    world.exit("db1");
    run(&mut world, 5);
    assert_eq!(world.holder(), "db1", "{}", world.tell());
    let said = world.refusals().join("\n");
    assert!(said.contains("not known to hold every acknowledged write"), "{said}");
}

/// The only copy exits and comes back: the record says first that the master is alone, then commits
/// go on; later the copy is let in again.
#[test]
fn with_two_the_set_shrinks_to_one_and_grows_again() {
    let mut world = World::mysql(Loss::None, 1);
    assert!(world.sync().complete);
    world.exit("db2");
    run(&mut world, 4);
    assert!(!world.sync().complete && world.sync().copies.is_empty(), "{:?}", world.sync());
    assert_eq!(world.database("db1").semi_sync.awaits, 0, "{}", world.tell());
    let at = transactions("db2", &[("db1", 100)]);
    world.restart("db2", Database::replica(2, "db1", at));
    run(&mut world, 6);
    assert!(world.sync().complete && members(&world) == ["db2"], "{}", world.tell());
}

/// A copy that alone acknowledged a write leaves only when the other one has that write too.
#[test]
fn one_that_leaves_is_asked_for_until_the_others_have_what_it_had() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db1").position = transactions("db1", &[("db1", 101)]);
    world.database_mut("db3").position = transactions("db3", &[("db1", 101)]);
    world.exit("db3");
    run(&mut world, 2);
    assert!(world.sync().copies.contains_key(&instance("db3")), "{:?}", world.sync());
    world.exit("db1");
    run(&mut world, 5);
    assert_eq!(world.holder(), "db1", "db2 lacks an acknowledged write\n{}", world.tell());
    let said = world.refusals().join("\n");
    assert!(said.contains("1 of the copies in sync") && said.contains("2 are needed"), "{said}");
}

/// The same, and the other one gets it: then the one that left is not needed any more.
#[test]
fn one_that_left_is_forgotten_when_the_others_have_everything() {
    let mut world = World::mysql(Loss::None, 2);
    world.exit("db3");
    run(&mut world, 4);
    assert_eq!(world.sync().copies.len(), 1, "{:?}", world.sync());
    world.exit("db1");
    run(&mut world, 5);
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
}

/// Somebody turns waiting off by hand on the master: the record says so before anybody relies on
/// it, and then waiting is turned on again.
#[test]
fn a_silent_fallback_is_noticed_and_mended() {
    let mut world = World::mysql(Loss::None, 1);
    world.database_mut("db1").semi_sync.awaits = 0;
    world.run_for(Duration::from_secs(1));
    assert!(!world.sync().complete || world.database("db1").semi_sync.awaits > 0);
    run(&mut world, 4);
    assert!(world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
    assert_eq!(world.database("db1").semi_sync.awaits, 1);
}

/// A drained copy could not be promoted: its acknowledgement protects nothing, so it gives none.
#[test]
fn a_drained_copy_acknowledges_no_more() {
    let mut world = World::mysql(Loss::None, 2);
    let stand = sengu_core::record::Stand::Standing;
    world.ask_at("drain-db3", Ask::Drain { instance: instance("db3") }, None, stand);
    run(&mut world, 4);
    assert_eq!(members(&world), ["db2"], "{:?}\n{}", world.sync(), world.tell());
    assert!(!world.database("db3").semi_sync.acknowledges, "{}", world.tell());
}

/// A person who accepts the loss may still name one.
#[test]
fn a_person_may_accept_a_loss() {
    let mut world = World::mysql(Loss::None, 1);
    world.exit("db2");
    run(&mut world, 4);
    world.exit("db1");
    let at = transactions("db2", &[("db1", 100)]);
    world.restart("db2", Database { linked: false, ..Database::replica(2, "db1", at) });
    run(&mut world, 4);
    assert_eq!(world.holder(), "db1", "{}", world.tell());
    world.ask("f", Ask::Failover { to: Some(instance("db2")), lossy: true }, Some(1));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
}
