//! Stories of services that are released and adopted: what an earlier time left must not matter.

use std::net::SocketAddr;
use std::time::Duration;

use sengu_core::policy::Failover;
use sengu_core::record::{Ask, MasterState};

use crate::world::{Database, Store, World, address, alone, instance, position, shared};

/// Released in an incident in which both candidates failed, mended by hand, adopted again; then
/// the new master exits.
#[test]
fn adoption_forgets_who_failed_before() {
    let mut world = World::trio(Failover::Auto);
    for name in ["cache2", "cache3"] {
        world.database_mut(name).promote_works = false;
    }
    world.exit("cache1");
    world.run_for(Duration::from_secs(10));
    world.ask("release", Ask::Release, Some(world.master().term.0));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.state(), MasterState::Unmanaged, "{}", world.tell());
    world.restart("cache1", Database::master(2, position("mended", 1)));
    for name in ["cache2", "cache3"] {
        world.restart(name, Database::replica(1, "cache1", position("mended", 1)));
    }
    world.run_for(Duration::from_secs(2));
    world.ask("adopt", Ask::Adopt { master: None }, None);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.state(), MasterState::Serving, "adopted\n{}", world.tell());
    world.forget();
    world.exit("cache1");
    world.run_for(Duration::from_secs(30));
    let failed = world.master().failed;
    assert_eq!(world.state(), MasterState::Serving, "passed over: {failed:?}\n{}", world.tell());
}

/// The master exits, the service is released, its instance is taken out of the configuration, and
/// the agent starts again; `cache2` was opened by hand.
#[test]
fn an_instance_that_was_removed_does_not_block_adoption() {
    let mut world = World::trio(Failover::Manual);
    world.exit("cache1");
    world.run_for(Duration::from_secs(2));
    world.ask("release", Ask::Release, Some(1));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.state(), MasterState::Unmanaged, "{}", world.tell());
    world.dismiss("cache1");
    world.start_agent();
    world.database_mut("cache2").open();
    world.database_mut("cache3").follow(address("cache2"));
    world.run_for(Duration::from_secs(2));
    world.ask("adopt", Ask::Adopt { master: None }, None);
    world.run_for(Duration::from_secs(70));
    let stand = world.stand("adopt");
    assert_eq!(world.state(), MasterState::Serving, "{stand:?}\n{}", world.tell());
}

/// Shared store: an adoption is written, its answer is lost, and the store is cut off.
#[test]
fn an_adopter_arms_its_fence_before_it_writes() {
    let master = Database::master(1, position("first", 100));
    let mut world = World::new(Failover::Auto, shared(), &[("cache1", master)]);
    world.start_agent();
    world.run_for(Duration::from_secs(2));
    world.ask("adopt", Ask::Adopt { master: None }, None);
    for _ in 0..10_000 {
        if world.has_master() {
            break;
        }
        if !world.next() {
            world.turn(true);
        }
    }
    assert!(world.has_master(), "never adopted\n{}", world.tell());
    world.lose_events();
    world.store_does = Store::CutOff;
    world.run_for(Duration::from_secs(60));
    let promise = world.master().promise;
    assert!(
        !world.armed.is_empty() || !world.database("cache1").open,
        "it promised {promise:?}, is open, and nothing is armed\n{}",
        world.tell()
    );
}

/// Manual: the master exits, and the service is released while nobody holds it. `cache1` comes
/// back fenced, and a person adopts with `cache2` as the master.
#[test]
fn a_service_released_without_master_is_adopted_by_name() {
    let mut world = World::trio(Failover::Manual);
    world.exit("cache1");
    world.run_for(Duration::from_secs(2));
    let vacant = matches!(world.state(), MasterState::Vacant { .. });
    assert!(vacant, "nobody takes by itself\n{}", world.tell());
    world.ask("release", Ask::Release, Some(1));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.state(), MasterState::Unmanaged, "{}", world.tell());
    world.restart("cache1", Database::fenced(2, position("reloaded", 1)));
    world.run_for(Duration::from_secs(2));
    world.forget();
    world.ask("adopt", Ask::Adopt { master: Some(instance("cache2")) }, None);
    world.run_for(Duration::from_secs(10));
    let stand = world.stand("adopt");
    assert_eq!(world.named().as_deref(), Some("cache2"), "{stand:?}\n{}", world.tell());
    assert_eq!(world.master().term.0, 2, "terms go on over a release\n{}", world.tell());
    assert_eq!(world.open(), ["cache2"], "one takes writes\n{}", world.tell());
    for name in ["cache1", "cache3"] {
        let source = world.database(name).source;
        assert_eq!(source, Some(address("cache2")), "{name} follows\n{}", world.tell());
    }
}

/// Two hosts, each with an embedded store, and one service: the master is on the other one. A
/// person wants the copy here as the master of this store, which knows nothing of that one.
#[test]
fn a_copy_of_another_hosts_master_is_not_adopted() {
    let copies = [
        ("cache2", Database::replica(1, "cache1", position("first", 100))),
        ("cache3", Database::replica(1, "cache1", position("first", 100))),
    ];
    for link in [true, false] {
        let mut world = World::new(Failover::Auto, alone(), &copies);
        for name in ["cache2", "cache3"] {
            let database = world.database_mut(name);
            database.follow(SocketAddr::from(([10, 0, 0, 1], 6379)));
            database.linked = link;
        }
        world.start_agent();
        world.run_for(Duration::from_secs(2));
        world.ask("adopt", Ask::Adopt { master: Some(instance("cache2")) }, None);
        world.run_for(Duration::from_secs(70));
        let stand = format!("{:?}", world.stand("adopt"));
        assert!(stand.contains("follows 10.0.0.1:6379, which is no instance"), "{stand}");
        assert!(!world.has_master() && world.open().is_empty(), "{}", world.tell());
    }
}
