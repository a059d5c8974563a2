//! Stories of planned moves that do not go as planned: the service must not stay without master.

use std::collections::BTreeMap;
use std::time::Duration;

use sengu_core::policy::{Failover, OnError};
use sengu_core::record::{Ask, HookOutcome, MasterState, Phase, Stand};

use crate::world::{Database, World, instance, position, service};

/// `cache1` hands over at 200 bytes to `cache2`, which has 100, exits, and comes back with another
/// history. A failover and a release are asked for meanwhile.
#[test]
fn giving_ends_when_nobody_has_the_position() {
    let mut world = World::trio(Failover::Auto);
    let to = instance("cache2");
    let given = position("first", 200);
    let giving =
        MasterState::Giving { to: to.clone(), position: given, request: "move".to_owned() };
    world.write_master(1, giving, "cache1", &[position("first", 0)]);
    let prepared = Stand::Prepared { to: to.clone() };
    world.ask_at("move", Ask::Switchover { to: None }, Some(1), prepared);
    world.exit("cache1");
    world.restart("cache1", Database::fenced(2, position("new", 0)));
    world.ask("failover", Ask::Failover { to: Some(to), lossy: true }, Some(1));
    world.ask("release", Ask::Release, Some(1));
    let before = world.actions;
    world.run_for(Duration::from_secs(300));
    let actions = (world.actions - before) / 300;
    let stands = ["move", "failover", "release"].map(|id| world.stand(id));
    let giving = matches!(world.state(), MasterState::Giving { .. });
    assert!(!giving, "giving for 300 s; the requests: {stands:?}\n{}", world.tell());
    assert!(actions < 10, "{actions} actions a second\n{}", world.tell());
}

/// A planned move in manual mode: the target cannot be promoted.
#[test]
fn a_failed_switchover_goes_back_to_the_giver() {
    let mut world = World::trio(Failover::Manual);
    world.database_mut("cache2").promote_works = false;
    world.ask("move", Ask::Switchover { to: Some(instance("cache2")) }, Some(1));
    world.run_for(Duration::from_secs(120));
    let stand = world.stand("move");
    assert_eq!(world.state(), MasterState::Serving, "{stand:?}\n{}", world.tell());
}

/// A switchover has fenced the giver; before anything else is handled, a release is asked for.
#[test]
fn a_release_in_a_switchover_leaves_a_master_that_takes_writes() {
    let mut world = World::trio(Failover::Auto);
    let to = instance("cache2");
    let prepared = Stand::Prepared { to: to.clone() };
    world.ask_at("move", Ask::Switchover { to: Some(to) }, Some(1), prepared);
    while world.next() {
        if !world.database("cache1").open {
            break;
        }
    }
    world.ask("release", Ask::Release, Some(1));
    world.hurry();
    world.run_for(Duration::from_secs(5));
    let (state, stand) = (world.state(), world.stand("release"));
    assert!(
        state != MasterState::Unmanaged || world.database("cache1").open,
        "released with a master that is closed: {stand:?}\n{}",
        world.tell()
    );
}

/// A switchover to `cache2`, whose `before-switchover` hook says no.
#[test]
fn a_hook_that_says_no_leaves_the_master_untouched() {
    let mut world = World::trio(Failover::Auto);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.hooks = BTreeMap::from([(Phase::BeforeSwitchover, OnError::Abort)]);
    world.reload();
    let error = "`announce` exited with 1".to_owned();
    world.hooks_end = HookOutcome::Abort { error: error.clone(), output: String::new() };
    world.ask("move", Ask::Switchover { to: Some(instance("cache2")) }, Some(1));
    world.run_for(Duration::from_secs(30));
    let stand = world.stand("move");
    let said = matches!(&stand, Stand::Refused(why) if why.contains(&error));
    assert!(said, "the refusal names the hook: {stand:?}\n{}", world.tell());
    assert!(world.commands().is_empty(), "no database was told anything\n{}", world.tell());
    assert_eq!(world.master().term.0, 1, "no term was begun\n{}", world.tell());
    assert_eq!(world.named().as_deref(), Some("cache1"), "it is still named\n{}", world.tell());
}

/// `cache1` hands over to `cache2`, which exits, and cannot take back itself. `cache3` has
/// everything and is drained: it does not take over because it waited longest.
#[test]
fn a_drained_copy_does_not_end_a_hand_over() {
    let mut world = World::trio(Failover::Auto);
    world.exit("cache2");
    world.ask_at("drain", Ask::Drain { instance: instance("cache3") }, None, Stand::Standing);
    let giving = MasterState::Giving {
        to: instance("cache2"),
        position: position("first", 100),
        request: "move".to_owned(),
    };
    world.database_mut("cache1").close();
    world.write_master(1, giving, "cache1", &[position("first", 0)]);
    let mut record = world.master();
    record.failed = vec![instance("cache1")];
    world.put_record(sengu_core::record::key::master(&service()), &record);
    world.run_checked(Duration::from_secs(40), |world| {
        assert_ne!(world.holder(), "cache3", "{}", world.tell());
    });
}
