//! The model behaves as Redis 7.0.15 was seen to: each test repeats one thing that was tried.

use sengu_core::name::Term;

use super::super::driver::Caller;
use super::super::options::Options;
use super::super::schedule::{MILLI, SECOND};
use super::super::world::World;
use super::Ask;

/// A master and its replica (on two hosts), some writes, and no agent.
fn pair(seed: u64) -> (World, usize, usize) {
    let mut options = Options::story(seed, false);
    options.hosts = 2;
    options.instances = 2;
    options.clients = (0, 0, 0, 0);
    let mut world = World::new(options, false);
    world.run_until(SECOND);
    for host in 0..2 {
        world.kill_agent(host, "the test needs none");
    }
    let master = if world.databases[0].writable() { 0 } else { 1 };
    for serial in 1..=5 {
        write(&mut world, master, 1, serial);
    }
    pass(&mut world, SECOND);
    assert_eq!(data(&world, 1 - master), [1, 2, 3, 4, 5], "it replicates");
    (world, master, 1 - master)
}

fn send(world: &mut World, db: usize, session: u64, ask: Ask) {
    let host = world.databases[db].host;
    // Apart from the numbers that the world gives.
    let session = 1_000_000 + session;
    world.call(Some(host), db, session, ask, Caller::Client(usize::MAX));
}

fn write(world: &mut World, db: usize, session: u64, serial: u64) {
    send(world, db, session, Ask::Write(serial));
}

fn pass(world: &mut World, span: u64) {
    world.calls.clear();
    let until = world.now + span;
    world.run_until(until);
}

fn data(world: &World, db: usize) -> Vec<u64> {
    world.databases[db].process.as_ref().expect("it runs").copy.data.clone()
}

fn restart_empty(world: &mut World, db: usize) {
    world.end_process(db, "killed");
    world.databases[db].disk.clear();
    pass(world, 100 * MILLI);
    world.start_process(db);
}

#[test]
fn an_emptied_master_that_comes_back_open_empties_its_replica() {
    let (mut world, master, replica) = pair(1);
    world.databases[master].starts_fenced = false;
    restart_empty(&mut world, master);
    pass(&mut world, 5 * SECOND);
    assert!(data(&world, replica).is_empty(), "the replica copied nothing from nothing");
}

#[test]
fn an_emptied_master_that_starts_fenced_leaves_its_replica_alone() {
    let (mut world, master, replica) = pair(1);
    restart_empty(&mut world, master);
    write(&mut world, master, 2, 6);
    pass(&mut world, 5 * SECOND);
    assert_eq!(data(&world, replica), [1, 2, 3, 4, 5]);
    assert!(data(&world, master).is_empty(), "it refuses writes");
}

#[test]
fn a_write_queued_before_a_fence_may_still_be_acknowledged_on_waking() {
    let outcomes: Vec<bool> = (1..20)
        .map(|seed| {
            let (mut world, master, _) = pair(seed);
            world.stop_process(master, true);
            write(&mut world, master, 3, 6);
            pass(&mut world, 50 * MILLI);
            send(&mut world, master, 4, Ask::Fence);
            pass(&mut world, 50 * MILLI);
            world.stop_process(master, false);
            pass(&mut world, SECOND);
            assert!(!world.databases[master].writable(), "the fence runs in any case");
            data(&world, master).contains(&6)
        })
        .collect();
    assert!(outcomes.contains(&true), "in some order the write comes first");
    assert!(outcomes.contains(&false), "in some the fence does");
}

#[test]
fn a_promotion_queued_before_a_fence_never_outlives_it() {
    for seed in 1..20 {
        let (mut world, _, replica) = pair(seed);
        let boot_id = world.databases[replica].process.as_ref().expect("it runs").boot_id.clone();
        world.stop_process(replica, true);
        let promote = Ask::Promote { boot_id, term: Term(2), decided: world.now };
        send(&mut world, replica, 3, promote);
        pass(&mut world, 20 * MILLI);
        send(&mut world, replica, 4, Ask::Fence);
        pass(&mut world, 20 * MILLI);
        world.stop_process(replica, false);
        pass(&mut world, SECOND);
        assert!(!world.databases[replica].writable(), "seed {seed}");
    }
}

#[test]
fn a_pause_holds_writes_back_and_fences_nothing() {
    let (mut world, master, _) = pair(1);
    send(&mut world, master, 3, Ask::Pause(500 * MILLI));
    pass(&mut world, 20 * MILLI);
    write(&mut world, master, 4, 6);
    pass(&mut world, 400 * MILLI);
    assert!(!data(&world, master).contains(&6), "held back");
    pass(&mut world, 200 * MILLI);
    assert!(data(&world, master).contains(&6), "acknowledged when the pause ran out");
}

#[test]
fn a_script_that_has_written_answers_every_fence_with_busy() {
    let (mut world, master, _) = pair(1);
    let until = world.now + SECOND;
    world.databases[master].process.as_mut().expect("it runs").busy_until = until;
    send(&mut world, master, 3, Ask::Fence);
    pass(&mut world, 2 * SECOND);
    assert!(world.databases[master].writable(), "only a kill would have helped");
}

#[test]
fn a_fenced_master_keeps_its_replica_attached() {
    let (mut world, master, replica) = pair(1);
    send(&mut world, master, 3, Ask::Fence);
    pass(&mut world, 7 * SECOND);
    let (state, _) = world.state_of(replica).expect("it runs");
    assert!(state.link_up, "for up to the replication timeout");
    assert!(!world.databases[master].writable());
}

#[test]
fn a_promoted_copy_begins_a_new_history_and_remembers_the_old_one() {
    let (mut world, master, replica) = pair(1);
    let (before, boot_id) = world.state_of(replica).expect("it runs");
    let promote = Ask::Promote { boot_id, term: Term(2), decided: world.now };
    send(&mut world, replica, 3, promote);
    pass(&mut world, 20 * MILLI);
    let (after, _) = world.state_of(replica).expect("it runs");
    assert!(after.writable);
    assert_ne!(after.applied.history(), before.applied.history());
    assert!(matches!(
        after.applied.covers(&before.applied),
        sengu_core::position::Covering::Covers(0)
    ));
    send(&mut world, master, 4, Ask::Fence);
    pass(&mut world, 20 * MILLI);
    let source = world.databases[replica].address;
    send(&mut world, master, 5, Ask::Follow(source));
    pass(&mut world, 2 * SECOND);
    let (old, _) = world.state_of(master).expect("it runs");
    assert!(old.link_up, "the old master goes on from where it stood, without a full copy");
    assert_eq!(old.applied.history(), after.applied.history());
}
