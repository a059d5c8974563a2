//! Stories of what people do: by request, and by hand behind the agent's back.

use std::time::Duration;

use sengu_core::policy::{Failover, Loss};
use sengu_core::record::{Ask, Cause, MasterState, Proof, Stand};

use crate::world::{World, address, instance, position, transactions};

/// `cache2` is drained when the master exits, and undrained after; then it is asked for.
#[test]
fn a_drain_that_ended_refuses_nobody() {
    let mut world = World::serving(Failover::Auto, 1);
    let drain = Ask::Drain { instance: instance("cache2") };
    world.ask_at("drain-cache2", drain, None, Stand::Standing);
    world.drain();
    world.exit("cache1");
    world.run_for(Duration::from_secs(5));
    world.take_back("drain-cache2");
    world.run_for(Duration::from_secs(5));
    let to = Some(instance("cache2"));
    world.ask("failover", Ask::Failover { to, lossy: true }, Some(1));
    world.run_for(Duration::from_secs(65));
    let stand = world.stand("failover");
    assert_eq!(world.state(), MasterState::Serving, "{stand:?}\n{}", world.tell());
}

/// A person asks for a copy whose applier stands: the answer is about that copy, with the way out.
#[test]
fn the_answer_is_about_the_one_that_was_asked_for() {
    let mut world = World::mysql(Loss::None, 2);
    for name in ["db2", "db3"] {
        let copy = world.database_mut(name);
        copy.unapplied = Some(transactions(name, &[("db1", 90)]));
        copy.applies = false;
    }
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    let to = Some(instance("db3"));
    world.ask("failover", Ask::Failover { to, lossy: true }, Some(1));
    world.run_for(Duration::from_secs(65));
    let Stand::Refused(why) = world.stand("failover") else {
        panic!("not refused: {:?}\n{}", world.stand("failover"), world.tell());
    };
    assert!(why.contains("no candidate: `db3`: its applier is stopped"), "{why}");
    assert!(why.contains("RESET REPLICA ALL"), "the way out: {why}");
}

/// The service is paused, the master exits, and the pause is taken back later.
#[test]
fn a_pause_holds_the_move_back_and_no_longer() {
    let mut world = World::trio(Failover::Auto);
    world.ask_at("pause", Ask::Pause, None, Stand::Standing);
    world.drain();
    world.exit("cache1");
    world.run_for(Duration::from_secs(20));
    let exited = matches!(world.state(), MasterState::Vacant { proof: Proof::Exited, .. });
    assert!(exited, "the exit is written, pause or not\n{}", world.tell());
    assert_eq!(world.named(), None, "nobody is named\n{}", world.tell());
    assert!(world.open().is_empty(), "nobody is promoted\n{}", world.tell());
    let refusals = world.refusals();
    let said = refusals.iter().any(|why| why.starts_with("paused"));
    assert!(said, "the pause is said to be the reason: {refusals:?}");
    world.take_back("pause");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "resumed\n{}", world.tell());
    assert_eq!(world.open(), ["cache2"], "one takes writes\n{}", world.tell());
}

/// A person points the master at `cache2` by hand, and leaves it so.
#[test]
fn a_master_made_a_replica_by_hand_goes_on_under_the_next_term() {
    let mut world = World::trio(Failover::Auto);
    world.database_mut("cache1").follow(address("cache2"));
    world.run_for(Duration::from_secs(10));
    assert!(world.was_fenced("cache1"), "what it follows is ended by a fence\n{}", world.tell());
    assert_eq!(world.named().as_deref(), Some("cache1"), "it goes on\n{}", world.tell());
    assert_eq!(world.master().term.0, 2, "under a new term\n{}", world.tell());
    assert_eq!(world.history_cause(2), Cause::Reopened, "{}", world.tell());
    assert_eq!(world.open(), ["cache1"], "one takes writes\n{}", world.tell());
    for name in ["cache2", "cache3"] {
        let source = world.database(name).source;
        assert_eq!(source, Some(address("cache1")), "{name} follows\n{}", world.tell());
    }
}

/// A person points the master at `cache2`, which has less, and it is copied over.
#[test]
fn a_master_that_was_copied_over_is_one_copy_among_others() {
    let mut world = World::trio(Failover::Auto);
    let less = position("first", 60);
    for name in ["cache1", "cache2", "cache3"] {
        world.database_mut(name).position = less.clone();
    }
    world.database_mut("cache3").position = position("first", 80);
    world.database_mut("cache1").follow(address("cache2"));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.named().as_deref(), Some("cache3"), "it has most\n{}", world.tell());
    assert_eq!(world.open(), ["cache3"], "one takes writes\n{}", world.tell());
    let loss = world.history(2).loss;
    assert!(loss.starts_with("unknown"), "what was copied over is not said to be kept: {loss}");
}

/// What a master had between the last look and somebody's hand is not known to be there.
#[test]
fn a_master_closed_by_hand_is_not_said_to_have_lost_nothing() {
    let mut world = World::trio(Failover::Auto);
    world.database_mut("cache1").follow(address("cache2"));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.history_cause(2), Cause::Reopened, "{}", world.tell());
    let loss = world.history(2).loss;
    assert!(loss.starts_with("unknown"), "somebody closed it: {loss}");
}
