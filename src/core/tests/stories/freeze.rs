//! Stories of a freeze: a longer promise for planned work, and the way back from it.

use std::time::Duration;

use sengu_core::policy::Failover;
use sengu_core::record::{Ask, MasterState, Promise, Stand};
use sengu_core::time::Time;

use crate::world::{Store, World};

/// The lease of these worlds, and how long before its end a fence starts.
const LEASE: Duration = Duration::from_secs(6);

/// `cache1` alone under a shared store, and a freeze of a minute is asked for.
fn frozen() -> World {
    let mut world = World::single_shared();
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    world.ask("freeze", Ask::Freeze, None);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.stand("freeze"), Stand::Standing, "{}", world.tell());
    world
}

fn promised(world: &World) -> Duration {
    match world.master().promise {
        Promise::None => panic!("a holder of a shared store promises\n{}", world.tell()),
        Promise::Fence { lease_ms } => Duration::from_millis(lease_ms),
    }
}

/// The promise is written first; then the store may be away for the length of the freeze.
#[test]
fn a_frozen_master_outlives_its_store() {
    let mut world = frozen();
    assert!(promised(&world) > LEASE * 10, "the freeze's length and a lease\n{}", world.tell());
    world.store_does = Store::CutOff;
    world.run_for(Duration::from_secs(50));
    assert!(world.database("cache1").open, "it goes on\n{}", world.tell());
    assert!(!world.armed.is_empty(), "and is fenced by its promise\n{}", world.tell());
    world.store_does = Store::Answers;
    world.run_for(Duration::from_secs(30));
    assert_eq!(promised(&world), LEASE, "the usual one again\n{}", world.tell());
    assert_eq!(world.master().frozen, None);
    assert_eq!(world.master().term.0, 1, "nothing moved\n{}", world.tell());
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
}

/// Whoever is told that it stands may stop the store at once.
#[test]
fn a_freeze_stands_once_a_beat_holds_it() {
    let mut world = World::single_shared();
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    world.ask("freeze", Ask::Freeze, None);
    while world.stand("freeze") == Stand::Asked {
        world.run_for(Duration::from_millis(10));
    }
    assert_eq!(world.stand("freeze"), Stand::Standing, "{}", world.tell());
    world.store_does = Store::CutOff;
    world.run_for(Duration::from_secs(30));
    assert!(world.database("cache1").open, "it goes on\n{}", world.tell());
    assert!(!world.was_fenced("cache1"), "{}", world.tell());
}

/// Names go by the usual lease: a freeze keeps nobody in them for longer.
#[test]
fn a_freeze_names_nobody_for_longer() {
    let world = frozen();
    let view = world.view();
    let kept = view.kept_until().expect("its beats are waited for");
    assert!(kept.since(view.beat_received) <= LEASE, "{}", world.tell());
}

/// Nothing moves by itself while it stands, and a dead master is replaced after it.
#[test]
fn a_freeze_is_a_pause() {
    let mut world = World::trio(Failover::Auto);
    world.ask("freeze", Ask::Freeze, None);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.stand("freeze"), Stand::Standing, "{}", world.tell());
    world.exit("cache1");
    world.run_for(Duration::from_secs(20));
    assert!(matches!(world.state(), MasterState::Vacant { .. }), "{}", world.tell());
    assert!(world.refusals().iter().any(|why| why.starts_with("frozen")), "{}", world.tell());
    world.take_back("freeze");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "thawed\n{}", world.tell());
}

/// The end of a freeze is written, and nobody hears that it was: from its sending on the holder
/// goes by the usual lease.
#[test]
fn a_thaw_whose_outcome_is_unknown_is_fenced_by_the_usual_lease() {
    let mut world = frozen();
    world.take_back("freeze");
    world.store_does = Store::Mute;
    world.run_for(Duration::from_secs(1));
    assert_eq!(promised(&world), LEASE, "it was written\n{}", world.tell());
    let thawed = world.now().time;
    world.store_does = Store::CutOff;
    world.run_for(Duration::from_millis(200));
    let armed: Vec<Time> = world.armed.iter().map(|armed| armed.at).collect();
    let in_time = armed.iter().all(|at| *at <= thawed + LEASE) && !armed.is_empty();
    assert!(in_time, "armed for {armed:?}, thawed at {thawed:?}\n{}", world.tell());
    // Trying again and again changes nothing of that.
    world.run_for(Duration::from_secs(3));
    let again: Vec<Time> = world.armed.iter().map(|armed| armed.at).collect();
    assert!(again.iter().all(|at| *at <= thawed + LEASE), "armed for {again:?}\n{}", world.tell());
}

/// An adoption is written, and nobody hears that it was: asking again extends nothing.
#[test]
fn an_adoption_whose_outcome_is_unknown_is_fenced_by_the_first_lease() {
    let mut world = World::single_shared();
    world.adopted(0, MasterState::Unmanaged, "cache1", &[]);
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    world.ask("adopt", Ask::Adopt { master: None }, None);
    world.drain();
    world.store_does = Store::Mute;
    let asked = world.now().time;
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.master().state, MasterState::Serving, "it was written\n{}", world.tell());
    world.store_does = Store::CutOff;
    world.run_for(Duration::from_secs(4));
    let armed: Vec<Time> = world.armed.iter().map(|armed| armed.at).collect();
    let latest = asked + Duration::from_secs(1) + LEASE;
    let in_time = armed.iter().all(|at| *at <= latest) && !armed.is_empty();
    assert!(in_time, "armed for {armed:?}, written before {latest:?}\n{}", world.tell());
}
