//! Fences against what Redis really does: pauses that end, scripts that cannot be ended, and
//! commands that wait in the sockets of a stopped server.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use rustix::process::Signal;
use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::{Answer, Role};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, timeout};

use super::bench::{PASSWORD, RedisBench, RedisServer};
use crate::config::Credentials;
use crate::database::Database;
use crate::database::redis::control::words;
use crate::database::redis::reply::Fault;
use crate::database::redis::{RedisConfig, RedisDatabase};
use crate::database::suite::{
    COMMAND, Client, Server, Start, Written, done, life, observed, state,
};

#[tokio::test]
async fn a_fence_during_a_pause_refuses_who_waits_at_once() {
    let server = RedisBench::redis().start_with(Start::Open, "");
    life(server.database()).await;
    server.database().rehearse().await.expect("all rungs are possible");
    let hold = Duration::from_secs(60);
    let paused = done(server.database(), Command::Pause { hold }).await;
    assert!(paused.writable, "a pause is no fence");
    let mut client = server.client().await;
    let began = Instant::now();
    let (written, fenced) = tokio::join!(client.write("held"), async {
        sleep(Duration::from_millis(50)).await;
        done(server.database(), Command::Fence { kill: false }).await
    });
    assert_ne!(written, Written::Acknowledged);
    assert!(!fenced.writable);
    assert_eq!(client.write("late").await, Written::Refused);
    assert!(began.elapsed() < hold / 2, "the pause was waited for");
}

#[tokio::test]
async fn a_pause_ends_when_told() {
    let server = RedisBench::redis().start_with(Start::Open, "");
    life(server.database()).await;
    done(server.database(), Command::Pause { hold: Duration::from_secs(60) }).await;
    let mut client = server.client().await;
    assert_eq!(client.write("held").await, Written::Unknown);
    assert!(done(server.database(), Command::Unpause).await.writable);
    assert_eq!(client.write("free").await, Written::Acknowledged);
}

#[tokio::test]
async fn a_script_that_has_written_is_killed_or_the_fence_fails() {
    let server = RedisBench::redis().start_with(Start::Open, "busy-reply-threshold 20");
    let boot_id = life(server.database()).await;
    server.database().rehearse().await.expect("all rungs are possible");
    let mut client = server.client().await;
    let script = "redis.call('SET', 'a', 'b') while true do end";
    let eval = ["EVAL", script, "0"];
    let run = client.ask_for(&eval, Duration::from_secs(20));
    let check = async {
        observed(server.database(), |seen| seen.answer == Answer::Busy).await;
        let failed = server.database().control(Command::Fence { kill: false }, COMMAND / 2).await;
        let ControlOutcome::Failed { error, untouched: false } = failed else {
            panic!("fenced: {failed:?}");
        };
        assert!(error.contains("script"), "{error}");
        let began = Instant::now();
        let killed = server.database().control(Command::Fence { kill: true }, 4 * COMMAND).await;
        assert_eq!(killed, ControlOutcome::Exited { boot_id: Some(boot_id.clone()) });
        assert!(began.elapsed() < COMMAND, "it waited for a script that never ends");
    };
    let (ended, ()) = tokio::join!(run, check);
    assert!(ended.is_err());
}

#[tokio::test]
async fn nothing_that_was_queued_before_a_fence_runs_after_it() {
    for _ in 0..5 {
        let server = RedisBench::redis().start_with(Start::Fenced, "");
        life(server.database()).await;
        server.database().rehearse().await.expect("all rungs are possible");
        let shared = Arc::clone(&server.database.0);
        let epoch = shared.sessions().epoch;
        let lane = shared.lane.lock().await;
        let (mut session, _) = shared.control_session(epoch).await.expect("opened");
        drop(lane);
        server.stop().await;
        // A promotion that was sent, is not answered, and waits in the server's socket.
        let mut promote = Pipeline::new();
        promote.add_command(words(&["REPLICAOF", "NO", "ONE"]));
        let wait = Duration::from_millis(100);
        let sent = timeout(wait, shared.dialer.ask(&mut session.connection, &mut promote)).await;
        assert!(sent.is_err(), "answered while stopped");
        let fence = Command::Fence { kill: false };
        let failed = server.database().control(fence.clone(), 2 * wait).await;
        assert!(matches!(&failed, ControlOutcome::Failed { untouched: false, .. }), "{failed:?}");
        server.signal(Signal::CONT);
        // Whatever order the two were read in, the fence had the last word.
        let read = state(server.database(), |_| true).await;
        assert!(!read.writable && read.role == Role::Replica, "{read:?}");
        assert!(!done(server.database(), fence).await.writable);
        assert_eq!(server.client().await.write("late").await, Written::Refused);
    }
}

#[tokio::test]
async fn a_session_older_than_a_fence_carries_nothing_after_it() {
    let server = RedisBench::redis().start_with(Start::Fenced, "");
    life(server.database()).await;
    let shared = Arc::clone(&server.database.0);
    let lane = shared.lane.lock().await;
    let (mut session, _) = shared.control_session(0).await.expect("opened");
    drop(lane);
    let mut other = server.client().await;
    done(server.database(), Command::Fence { kill: false }).await;
    // As if it had been on its way all the time.
    let mut promote = Pipeline::new();
    promote.add_command(words(&["REPLICAOF", "NO", "ONE"]));
    let late = shared.dialer.ask(&mut session.connection, &mut promote).await;
    assert!(matches!(late, Err(Fault::Broken(_))), "{late:?}");
    // An earlier agent's session is like any client's.
    assert!(other.ask(&["REPLICAOF", "NO", "ONE"]).await.is_err_and(|error| error.is_io_error()));
    assert!(!state(server.database(), |_| true).await.writable);
}

#[tokio::test]
async fn a_command_that_began_before_a_fence_sends_nothing_after_it() {
    let server = RedisBench::redis().start_with(Start::Fenced, "");
    let boot_id = life(server.database()).await;
    let shared = Arc::clone(&server.database.0);
    let lane = shared.lane.lock().await;
    let promote = server.database().control(Command::Promote { boot_id }, COMMAND);
    let fence = async {
        // The promotion waits for the lane by now: it was polled first.
        let fenced = done(server.database(), Command::Fence { kill: false }).await;
        drop(lane);
        fenced
    };
    let (promoted, fenced) = tokio::join!(promote, fence);
    assert!(!fenced.writable);
    let ControlOutcome::Failed { error, untouched: true } = promoted else {
        panic!("promoted: {promoted:?}");
    };
    assert!(error.contains("a fence came in between"), "{error}");
}

#[tokio::test]
async fn an_unanswered_change_is_ended_before_the_next_one() {
    let server = RedisBench::redis().start_with(Start::Fenced, "");
    life(server.database()).await;
    let shared = Arc::clone(&server.database.0);
    let lane = shared.lane.lock().await;
    let (first, _) = shared.control_session(0).await.expect("opened");
    shared.abandon_control();
    assert_eq!(shared.sessions().unsure.of_life(None).len(), 1);
    drop(lane);
    done(server.database(), Command::Read).await;
    assert!(shared.sessions().unsure.of_life(None).is_empty());
    let id = first.id.expect("answered").to_string();
    let listed = server.client().await.ask(&["CLIENT", "LIST", "ID", &id]).await.expect("answers");
    assert_eq!(crate::database::redis::state::lists_clients(&listed), Some(false));
}

#[tokio::test]
async fn a_copy_of_a_promoted_copy_needs_no_full_copy() {
    let bench = RedisBench::redis();
    let old = bench.start_with(Start::Open, "");
    let new = bench.start_with(Start::ReplicaOf(old.address()), "");
    let third = bench.start_with(Start::ReplicaOf(old.address()), "");
    for copy in [&new, &third] {
        state(copy.database(), |state| state.link_up).await;
    }
    assert_eq!(old.client().await.write("a").await, Written::Acknowledged);
    let ahead = done(old.database(), Command::Fence { kill: false }).await.applied;
    for copy in [&new, &third] {
        state(copy.database(), |state| state.applied == ahead).await;
        done(copy.database(), Command::Detach).await;
    }
    let boot_id = life(new.database()).await;
    done(new.database(), Command::Promote { boot_id }).await;
    for copy in [&third, &old] {
        done(copy.database(), Command::Follow { source: new.address() }).await;
        state(copy.database(), |state| state.link_up).await;
    }
    let stats = new.client().await.ask(&["INFO", "stats"]).await.expect("answers");
    let stats = crate::database::redis::reply::text(&stats).expect("text");
    assert!(stats.contains("sync_full:0") && stats.contains("sync_partial_ok:2"), "{stats}");
}

#[tokio::test]
async fn a_writable_server_that_follows_ends_its_sessions_and_can_be_fenced_after() {
    let bench = RedisBench::redis();
    let source = bench.start_with(Start::Open, "").address();
    let server = bench.start_with(Start::Open, "");
    life(server.database()).await;
    server.database().rehearse().await.expect("all rungs are possible");
    let mut client = server.client().await;
    assert_eq!(client.write("mine").await, Written::Acknowledged);
    let following = done(server.database(), Command::Follow { source }).await;
    assert!(!following.writable && following.source == Some(source));
    assert_eq!(client.write("late").await, Written::Unknown, "its session was kept");
    assert_eq!(client.write("later").await, Written::Refused);
    assert!(!done(server.database(), Command::Fence { kill: false }).await.writable);
}

#[test]
fn a_fence_on_its_own_runtime_needs_no_other() {
    let own = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let own = own.expect("a runtime");
    let other = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = RedisBench::redis().start_with(Start::Open, "");
    let config = RedisConfig { fence_runtime: Some(own.handle().clone()), ..config(&server) };
    let database = RedisDatabase::new(config).expect("no files to read");
    other.block_on(async {
        life(&database).await;
        database.rehearse().await.expect("all rungs are possible");
    });
    // The runtime that looks is stuck from here on: nothing drives its connections.
    let fence = database.control(Command::Fence { kill: false }, COMMAND);
    let outcome = own.block_on(fence);
    assert!(
        matches!(&outcome, ControlOutcome::Done { state, .. } if !state.writable),
        "{outcome:?}"
    );
}

fn config(server: &RedisServer) -> RedisConfig {
    RedisConfig {
        name: "cache1".parse().expect("a name"),
        address: server.address(),
        credentials: Some(Credentials { password: PASSWORD.to_owned(), ..Credentials::default() }),
        tls: None,
        fence_runtime: None,
    }
}
