//! Stories of records that a newer version wrote in another format: an older one acts on none of
//! them and writes over none of them, whatever their words seem to say.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::kv::Key;
use sengu_core::policy::Failover;
use sengu_core::record::{Ask, MasterState, key};

use crate::world::{World, instance, service};

/// What stands there is written in the next format, with the same words.
fn rewrite(world: &mut World, key: &Key) -> Arc<[u8]> {
    let value = world.value(key);
    let rest = value.strip_prefix(b"{\"format\":1,").expect("written by this version");
    let newer: Arc<[u8]> = [b"{\"format\":2,".as_slice(), rest].concat().into();
    world.put(key.clone(), Arc::clone(&newer));
    newer
}

fn refuses(world: &World) -> bool {
    world.refusals().iter().any(|why| why.contains("it has format 2"))
}

/// A copy's record: it stays as it is, and nobody takes over while it cannot be read.
#[test]
fn a_copy_in_a_newer_format_is_left_alone_and_counts() {
    let mut world = World::trio(Failover::Auto);
    let key = key::instance(&service(), &instance("cache2"));
    let newer = rewrite(&mut world, &key);
    world.database_mut("cache2").silent = true;
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.value(&key), newer, "written over\n{}", world.tell());
    assert_eq!(world.named().as_deref(), Some("cache1"), "the master is as it was");
    assert!(refuses(&world), "{:?}", world.refusals());
    world.exit("cache1");
    world.run_for(Duration::from_secs(10));
    assert!(world.open().is_empty(), "{}", world.tell());
    assert!(refuses(&world), "{:?}", world.refusals());
    // A person who accepts what may be lost has looked.
    world.ask("f", Ask::Failover { to: Some(instance("cache3")), lossy: true }, Some(1));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.open(), ["cache3"], "{}", world.tell());
}

/// The master's record, under one judge: nobody is named by it, and nothing is changed.
#[test]
fn a_master_in_a_newer_format_is_named_by_nobody() {
    let mut world = World::trio(Failover::Auto);
    let key = key::master(&service());
    let newer = rewrite(&mut world, &key);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named(), None);
    assert!(refuses(&world), "{:?}", world.refusals());
    assert_eq!(world.value(&key), newer, "written over\n{}", world.tell());
    assert_eq!(world.open(), ["cache1"], "nobody else may have the term: it goes on");
}

/// The same under a shared store, where somebody else may have the term: what is open is fenced, by
/// an agent that was there and by one that starts so.
#[test]
fn a_holder_that_cannot_read_its_term_fences_itself() {
    for starts in [false, true] {
        let mut world = World::single_shared();
        if !starts {
            world.start_agent();
            world.run_for(Duration::from_secs(2));
            assert_eq!(world.state(), MasterState::Serving);
        }
        rewrite(&mut world, &key::master(&service()));
        if starts {
            world.lose_events();
            world.start_agent();
        }
        world.run_for(Duration::from_secs(3));
        assert!(world.open().is_empty(), "{}", world.tell());
        assert_eq!(world.named(), None);
        assert!(refuses(&world), "{:?}", world.refusals());
    }
}

/// An agent that starts again and again beside a term that it cannot read does not forget that the
/// service is held: what opens there by itself is fenced.
#[test]
fn a_service_whose_term_cannot_be_read_is_not_forgotten() {
    let mut world = World::single_shared();
    world.start_agent();
    world.run_for(Duration::from_secs(2));
    rewrite(&mut world, &key::master(&service()));
    for _ in 0..3 {
        world.lose_events();
        world.start_agent();
        world.run_for(Duration::from_secs(1));
    }
    is_closed_when_opened(world);
}

/// Somebody opens it: it is fenced, and the reason is said.
#[track_caller]
fn is_closed_when_opened(mut world: World) {
    world.database_mut("cache1").open();
    world.run_for(Duration::from_secs(3));
    assert!(world.open().is_empty(), "{}", world.tell());
    assert!(refuses(&world), "{:?}", world.refusals());
}

/// The same where the agent was there when the service was adopted, lives on, and reads everything
/// anew after its watch was lost: its configuration knows of nothing that was held before.
#[test]
fn a_term_that_cannot_be_read_any_more_is_not_forgotten_by_who_lives_on() {
    let mut world = World::single_shared();
    world.start_agent();
    world.run_for(Duration::from_secs(2));
    world.config.remembered.clear();
    world.reload();
    world.run_for(Duration::from_secs(2));
    rewrite(&mut world, &key::master(&service()));
    world.run_for(Duration::from_secs(1));
    world.load_anew();
    world.run_for(Duration::from_secs(1));
    is_closed_when_opened(world);
}

/// The same where the process is stopped when the agent starts: it was open, as far as anybody
/// knows, and on waking it would take writes beside whoever took the term after its lease.
#[test]
fn what_was_never_seen_and_stays_silent_is_fenced_before_its_lease_is_over() {
    let mut world = World::single_shared();
    world.start_agent();
    world.run_for(Duration::from_secs(2));
    rewrite(&mut world, &key::master(&service()));
    world.database_mut("cache1").silent = true;
    world.lose_events();
    world.start_agent();
    world.run_for(Duration::from_millis(3_500));
    assert!(world.was_fenced("cache1"), "{}", world.tell());
}

/// Its own beat, which a newer agent of the same host wrote: it can keep no term and says so, and
/// writes over nothing; its fence stays armed for the deadline of the last beat that was
/// acknowledged, or of its start.
#[test]
fn a_holder_that_cannot_read_its_own_beat_fences_in_time() {
    for starts in [false, true] {
        let mut world = World::single_shared();
        if !starts {
            world.start_agent();
            world.run_for(Duration::from_secs(2));
            assert_eq!(world.state(), MasterState::Serving);
        }
        let key = key::beat(&world.master().holder.host);
        let newer: Arc<[u8]> = br#"{"format":2,"counter":9}"#.as_slice().into();
        world.put(key.clone(), Arc::clone(&newer));
        if starts {
            world.lose_events();
            world.start_agent();
        }
        let due = world.now().time + Duration::from_secs(4);
        world.run_for(Duration::from_secs(7));
        let armed = world.armed.first().map(|armed| armed.at);
        let closed = world.open().is_empty();
        assert!(closed || armed.is_some_and(|at| at <= due), "{armed:?}\n{}", world.tell());
        assert_eq!(world.named(), None);
        world.database_mut("cache1").close();
        world.run_for(Duration::from_secs(20));
        assert!(world.open().is_empty(), "opened without a beat\n{}", world.tell());
        assert_eq!(world.value(&key), newer, "written over\n{}", world.tell());
        assert!(refuses(&world), "{:?}", world.refusals());
    }
}

/// Another host's beat: that it cannot be read is no silence.
#[test]
fn a_beat_in_a_newer_format_is_no_silence() {
    let mut world = World::held_elsewhere();
    world.put(
        key::beat(&world.master().holder.host),
        br#"{"format":2,"counter":1}"#.as_slice().into(),
    );
    world.start_agent();
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.state(), MasterState::Serving, "{}", world.tell());
    let why = world.refusals();
    assert!(why.iter().any(|why| why.contains("record beats/db2 cannot be read")), "{why:?}");
}

/// A switchover is not begun by who cannot read what all copies say.
#[test]
fn a_switchover_is_refused_while_a_copy_cannot_be_read() {
    let mut world = World::trio(Failover::Auto);
    let key = key::instance(&service(), &instance("cache3"));
    rewrite(&mut world, &key);
    world.ask("s", Ask::Switchover { to: Some(instance("cache2")) }, Some(1));
    world.run_for(Duration::from_secs(8));
    let stand = format!("{:?}", world.stand("s"));
    assert!(stand.contains("it has format 2"), "{stand}");
    assert_eq!(world.open(), ["cache1"]);
}
