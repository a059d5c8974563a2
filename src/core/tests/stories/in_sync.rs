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
        let standing = sync.copies.get(&instance(name));
        let may = standing.is_some_and(|standing| *standing != Standing::Off);
        let attached = copy.acknowledges_to(address(&holder));
        assert!(may || !attached, "{name} acknowledges and is not in {sync:?}\n{}", world.tell());
    }
    let waits = world.database(&holder).semi_sync.awaits > 0;
    assert!(waits || !sync.complete, "commits go on alone under {sync:?}\n{}", world.tell());
}

fn run(world: &mut World, seconds: u64) {
    world.run_checked(Duration::from_secs(seconds), holds);
}

pub(crate) fn members(world: &World) -> Vec<String> {
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

/// What a copy acknowledges and leaves out protects nothing: it ceases to be in sync.
#[test]
fn a_copy_that_leaves_out_some_does_not_acknowledge() {
    let mut world = World::mysql(Loss::None, 2);
    assert_eq!(members(&world), ["db2", "db3"]);
    world.database_mut("db2").filtered = true;
    run(&mut world, 30);
    assert_eq!(members(&world), ["db3"], "{}", world.tell());
    assert!(!world.database("db2").semi_sync.acknowledges, "{}", world.tell());
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

/// The copy that alone acknowledged the last write has transactions of its own: it cannot take
/// over, and the other one, which lacks the write, must not.
#[test]
fn a_copy_set_apart_still_holds_what_it_acknowledged() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db1").position = transactions("db1", &[("db1", 101)]);
    world.database_mut("db3").position = transactions("db3", &[("db1", 101), ("db3", 1)]);
    world.exit("db1");
    run(&mut world, 8);
    assert_eq!(world.holder(), "db1", "db2 lacks an acknowledged write\n{}", world.tell());
    let said = world.refusals().join("\n");
    assert!(said.contains("no master wrote") && said.contains("2 are needed"), "{said}");
}

/// The first candidate cannot be promoted. It held everything and tells that it has nothing more
/// than the other one: so the other one takes over.
#[test]
fn a_failed_promotion_leaves_the_others_in_sync() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db2").promote_works = false;
    world.exit("db1");
    run(&mut world, 30);
    assert_eq!(world.named().as_deref(), Some("db3"), "{}", world.tell());
}

/// The same, but it wrote something before it was closed again: nobody else has that.
#[test]
fn a_failed_promotion_that_took_a_write_is_not_passed_over() {
    let mut world = World::mysql(Loss::None, 2);
    world.exit("db1");
    while world.database("db2").life.is_some() && !world.database("db2").open {
        world.turn(true);
        while world.next() && !world.database("db2").open {}
    }
    world.lose_events();
    world.database_mut("db2").position = transactions("db2", &[("db1", 100), ("db2", 1)]);
    world.exit("db2");
    let at = transactions("db2", &[("db1", 100), ("db2", 1)]);
    world.restart("db2", Database::fenced(2, at));
    run(&mut world, 20);
    assert_ne!(world.holder(), "db3", "it lacks a write\n{}", world.tell());
}

/// Mastership goes to and fro: who was a copy and is the master, and is a copy again, acknowledges
/// only once it stands in the record of that term.
#[test]
fn to_and_fro_nobody_acknowledges_before_it_stands_in_the_record() {
    let mut world = World::mysql(Loss::None, 2);
    for (term, to) in [(1, "db2"), (2, "db1"), (3, "db3"), (4, "db1")] {
        world.ask(&format!("to-{term}"), Ask::Switchover { to: Some(instance(to)) }, Some(term));
        run(&mut world, 8);
        assert_eq!(world.named().as_deref(), Some(to), "{}", world.tell());
        assert!(world.sync().complete && members(&world).len() == 2, "{:?}", world.sync());
    }
}

/// The receiver of a copy stops by an error: it leaves. A person starts it again.
#[test]
fn a_receiver_that_a_person_starts_again_does_not_acknowledge_by_itself() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db3").linked = false;
    run(&mut world, 4);
    assert_eq!(members(&world), ["db2"], "{}", world.tell());
    world.database_mut("db3").linked = true;
    run(&mut world, 6);
    assert_eq!(members(&world), ["db2", "db3"], "{}", world.tell());
}

/// While the txn that says that the others have everything is under way, they go away. Commits do
/// not go on alone under it, whenever it is done.
#[test]
fn commits_do_not_go_on_alone_under_a_txn_that_is_still_under_way() {
    let mut world = World::mysql(Loss::None, 1);
    let at = transactions("db2", &[("db1", 100)]);
    world.exit("db2");
    run(&mut world, 4);
    world.restart("db2", Database::replica(2, "db1", at));
    world.txns_take = Duration::from_secs(1);
    for _ in 0..400 {
        if world.sync().position.is_some() {
            break;
        }
        world.run_checked(Duration::from_millis(50), holds);
    }
    assert!(world.sync().position.is_some() && !world.sync().complete, "{:?}", world.sync());
    world.database_mut("db2").linked = false;
    run(&mut world, 6);
    world.txns_take = Duration::ZERO;
    world.database_mut("db2").linked = true;
    run(&mut world, 6);
    assert!(world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
}

/// The agent starts again while commits wait: it does not take over what it finds unsaid, and a
/// copy can still leave and come back.
#[test]
fn an_agent_that_starts_again_keeps_the_set() {
    let mut world = World::mysql(Loss::None, 2);
    world.start_agent();
    run(&mut world, 2);
    assert!(world.sync().complete, "{}", world.tell());
    world.exit("db3");
    run(&mut world, 4);
    assert!(world.sync().complete && members(&world) == ["db2"], "{:?}", world.sync());
}

/// A busy master: in every other look a commit waits. Nothing is written for that.
#[test]
fn commits_that_wait_for_a_moment_are_no_news() {
    let mut world = World::mysql(Loss::None, 2);
    let before = world.revision();
    for look in 0..20 {
        world.database_mut("db1").semi_sync.waiting = look % 2;
        run(&mut world, 1);
    }
    assert_eq!(world.revision(), before, "{}", world.tell());
}

/// The process of the only copy is stopped: its connection stands, and it acknowledges nothing.
#[test]
fn commits_do_not_wait_for_ever_for_a_copy_that_is_stopped() {
    let mut world = World::mysql(Loss::None, 1);
    world.database_mut("db2").silent = true;
    world.database_mut("db1").semi_sync.waiting = 1;
    run(&mut world, 10);
    assert_eq!(world.database("db1").semi_sync.awaits, 0, "{:?}\n{}", world.sync(), world.tell());
    world.database_mut("db2").silent = false;
    world.database_mut("db1").semi_sync.waiting = 0;
    run(&mut world, 40);
    assert!(world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
}

/// The only copy seems well and attached (its host has no power, and nobody is there to say so),
/// and no acknowledgement comes.
#[test]
fn commits_do_not_wait_for_ever_for_a_copy_that_seems_attached() {
    let mut world = World::mysql(Loss::None, 1);
    world.database_mut("db1").semi_sync.waiting = 1;
    run(&mut world, 10);
    assert!(!world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
    assert_eq!(world.database("db1").semi_sync.awaits, 0, "{:?}\n{}", world.sync(), world.tell());
}

/// Commits wait while no copy is attached: those that come back are waited for at once.
#[test]
fn a_copy_that_was_away_is_waited_for_as_soon_as_it_is_back() {
    let mut world = World::mysql(Loss::None, 2);
    let away = |world: &mut World, away: bool| {
        for name in ["db2", "db3"] {
            world.database_mut(name).linked = !away;
        }
        world.database_mut("db1").semi_sync.waiting = u32::from(away);
    };
    away(&mut world, true);
    run(&mut world, 3);
    assert!(!world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
    away(&mut world, false);
    run(&mut world, 4);
    assert!(world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
}

/// In a new term the copy is attached and still receives what was written long ago: commits wait
/// for it now and then, and for good as soon as it answers.
#[test]
fn commits_seldom_wait_for_a_copy_that_still_receives_old_writes() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db2").position = transactions("db2", &[("db1", 101)]);
    world.exit("db1");
    run(&mut world, 8);
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
    world.database_mut("db2").semi_sync.waiting = 1;
    let mut waited = 0;
    for _ in 0..600 {
        world.run_checked(Duration::from_millis(100), holds);
        waited += u32::from(world.database("db2").semi_sync.awaits > 0);
    }
    assert!((10..150).contains(&waited), "{waited} of 600 moments\n{}", world.tell());
    assert!(!world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
    world.database_mut("db2").semi_sync.waiting = 0;
    world.database_mut("db3").position = transactions("db3", &[("db1", 101)]);
    run(&mut world, 35);
    assert!(world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
}

/// A copy that alone acknowledged a write is taken out of the configuration; it runs on, and
/// acknowledges on.
#[test]
fn a_copy_that_is_not_configured_any_more_protects_nothing() {
    let mut world = World::mysql(Loss::None, 2);
    world.database_mut("db1").position = transactions("db1", &[("db1", 101)]);
    world.database_mut("db3").position = transactions("db3", &[("db1", 101)]);
    let settings = world.config.services.get_mut(&crate::world::service()).expect("configured");
    settings.instances.remove(&instance("db3"));
    world.reload();
    world.run_for(Duration::from_secs(4));
    let sync = world.sync();
    assert!(!sync.complete, "db2 lacks a write, and db3 acknowledges more: {sync:?}");
    let said = world.refusals().join("\n");
    assert!(said.contains("2 copies acknowledge"), "{said}\n{}", world.tell());
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.holder(), "db1", "{}", world.tell());
}

/// `acks` is changed while the service runs.
#[test]
fn another_number_of_acknowledgements_counts_from_a_reload_on() {
    let mut world = World::mysql(Loss::None, 2);
    for acks in [2, 1] {
        let settings = world.config.services.get_mut(&crate::world::service()).expect("configured");
        settings.policy.acks = acks;
        world.reload();
        run(&mut world, 5);
        assert!(world.sync().complete && world.sync().acks == acks, "{:?}", world.sync());
        assert_eq!(world.database("db1").semi_sync.awaits, acks, "{}", world.tell());
    }
}

/// A copy exits and is back before the store has written that it left.
#[test]
fn a_copy_that_is_back_at_once_leaves_first() {
    let mut world = World::mysql(Loss::None, 2);
    world.txns_take = Duration::from_secs(2);
    world.exit("db3");
    let at = transactions("db3", &[("db1", 100)]);
    world.restart("db3", Database::replica(2, "db1", at));
    run(&mut world, 20);
    world.txns_take = Duration::ZERO;
    run(&mut world, 5);
    assert!(world.sync().complete && members(&world) == ["db2", "db3"], "{:?}", world.sync());
}

/// A copy has received everything and applies far behind: what it has is safe there, so it is let
/// in, and stays.
#[test]
fn a_copy_that_only_applies_far_behind_acknowledges() {
    let mut world = World::mysql(Loss::None, 1);
    let applied = transactions("db2", &[("db1", 100)]);
    world.database_mut("db2").unapplied = Some(applied.clone());
    world.database_mut("db2").applies = true;
    world.database_mut("db1").position = transactions("db1", &[("db1", 900)]);
    world.database_mut("db2").position = transactions("db2", &[("db1", 900)]);
    run(&mut world, 15);
    assert!(world.sync().complete && members(&world) == ["db2"], "{}", world.tell());
    world.exit("db2");
    run(&mut world, 4);
    let position = transactions("db2", &[("db1", 900)]);
    let back = Database {
        unapplied: Some(applied),
        applies: true,
        ..Database::replica(2, "db1", position)
    };
    world.restart("db2", back);
    run(&mut world, 8);
    assert!(world.sync().complete && members(&world) == ["db2"], "{}", world.tell());
}

/// Fewer copies than acknowledgements are asked for: that nothing is protected is said.
#[test]
fn a_set_that_never_becomes_complete_is_a_problem() {
    let mut world = World::mysql(Loss::None, 1);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.problems(), Vec::<String>::new());
    let settings = world.config.services.get_mut(&crate::world::service()).expect("configured");
    settings.policy.acks = 2;
    world.reload();
    run(&mut world, 12);
    let said = world.problems().join("\n");
    assert!(said.contains("no copy could take over without loss"), "{said}");
}

/// A busy master in a new term, whose copy does not hold yet what it is asked for: in every look
/// some commit waits, and between any two looks commits were acknowledged.
#[test]
fn commits_that_wait_for_a_moment_are_not_stuck_since_no_look_came_between() {
    let mut world = World::mysql(Loss::None, 2);
    let settings = world.config.services.get_mut(&crate::world::service()).expect("configured");
    settings.policy.candidate_wait = Duration::from_millis(300); // shorter than between two looks
    world.reload();
    world.exit("db1");
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.named().as_deref(), Some("db2"));
    for last in 101..116 {
        world.database_mut("db2").position = transactions("db2", &[("db1", last)]);
        world.database_mut("db2").semi_sync.waiting = 1;
        world.run_checked(Duration::from_millis(100), holds);
    }
    assert!(!world.sync().complete, "{:?}\n{}", world.sync(), world.tell());
    let alone = world.tell().matches("Await { count: 0 }").count();
    assert_eq!(alone, 0, "{}", world.tell());
}
