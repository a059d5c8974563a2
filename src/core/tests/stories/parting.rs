//! Stories of how `loss = "none"` ends: by the file, by a person; and of what was promised before.

use std::time::Duration;

use sengu_core::policy::Loss;
use sengu_core::record::{Ask, MasterState};

use crate::in_sync::members;
use crate::world::{World, transactions};

/// Nothing is left of `loss = "none"`: no record, no commit that waits, no copy that acknowledges.
#[track_caller]
fn parted(world: &World) {
    assert_eq!(world.database("db1").semi_sync.awaits, 0, "commits wait\n{}", world.tell());
    for copy in ["db2", "db3"] {
        assert!(!world.database(copy).semi_sync.acknowledges, "{copy}\n{}", world.tell());
    }
    assert!(!world.has_sync(), "{:?}\n{}", world.sync(), world.tell());
}

fn set_loss(world: &mut World, loss: Loss) {
    let settings = world.config.services.get_mut(&crate::world::service()).expect("configured");
    settings.policy.loss = loss;
    world.reload();
}

/// The file says `loss = "bounded"` from now on, and back.
#[test]
fn another_loss_leaves_no_commit_waiting() {
    let mut world = World::mysql(Loss::None, 2);
    set_loss(&mut world, Loss::Bounded);
    world.run_for(Duration::from_secs(5));
    parted(&world);
    set_loss(&mut world, Loss::None);
    world.run_for(Duration::from_secs(8));
    assert!(world.sync().complete && members(&world) == ["db2", "db3"], "{}", world.tell());
}

/// The same while a copy is away, which cannot be told: it holds nothing up.
#[test]
fn another_loss_waits_for_no_copy_that_is_away() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db3").silent = true;
    world.run_for(Duration::from_secs(1));
    set_loss(&mut world, Loss::Bounded);
    world.run_for(Duration::from_secs(15));
    assert_eq!(world.database("db1").semi_sync.awaits, 0, "commits wait\n{}", world.tell());
    assert!(!world.has_sync(), "{:?}\n{}", world.sync(), world.tell());
    world.exit("db1");
    world.run_for(Duration::from_secs(6));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
}

/// A person releases the service: nobody is there any more who would end a wait.
#[test]
fn a_release_leaves_no_commit_waiting() {
    let mut world = World::mysql(Loss::None, 2);
    world.ask("r", Ask::Release, Some(1));
    world.run_for(Duration::from_secs(8));
    assert_eq!(world.master().state, MasterState::Unmanaged);
    parted(&world);
    let stand = world.stand("r");
    assert!(format!("{stand:?}").contains("wait for no acknowledgement"), "{stand:?}");
}

/// The master is lost, and the file of the host says `loss = "bounded"`: what was promised counts.
#[test]
fn what_was_promised_counts_whatever_the_file_says_now() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db1").position = transactions("db1", &[("db1", 101)]);
    world.database_mut("db3").position = transactions("db3", &[("db1", 101)]);
    world.exit("db3");
    world.run_for(Duration::from_secs(2));
    world.exit("db1");
    set_loss(&mut world, Loss::Bounded);
    world.ask("f", Ask::Failover { to: None, lossy: false }, Some(1));
    world.run_for(Duration::from_secs(6));
    assert_eq!(world.holder(), "db1", "db2 lacks an acknowledged write\n{}", world.tell());
    let said = world.refusals().join("\n");
    assert!(said.contains("2 are needed"), "{said}");
}
