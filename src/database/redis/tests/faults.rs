//! Ways of not answering, and of not being let do what a fence needs.

use std::time::Duration;

use sengu_core::event::{Command, ControlOutcome, LookOutcome};
use sengu_core::observation::{Answer, Process};

use super::bench::{PASSWORD, RedisBench, database, login};
use crate::database::Database;
use crate::database::suite::{
    COMMAND, Client, PROBE, Server, Start, Written, done, life, observed, state,
};

/// 10 ms for each key of 1000 bytes, looking at its clients between two.
const LOADS_SLOWLY: &str = "key-load-delay 10000\nloading-process-events-interval-bytes 1024\n\
                            rdbcompression no";

#[tokio::test]
async fn a_full_client_table_is_alive_and_still_fenced() {
    let server = RedisBench::redis().start_with(Start::Open, "maxclients 10");
    life(server.database()).await;
    server.database().rehearse().await.expect("all rungs are possible");
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(tokio::net::TcpStream::connect(server.address()).await.expect("accepted"));
    }
    let late = database(server.address(), PASSWORD);
    let seen = observed(&late, |seen| !matches!(seen.answer, Answer::Silent)).await;
    assert_eq!(seen.answer, Answer::TooManyClients);
    assert!(seen.boot_id.is_some(), "found without its word");
    // The driver that was there before has its connections.
    let fenced = done(server.database(), Command::Fence { kill: false }).await;
    assert!(!fenced.writable);
    drop(held);
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_alive() {
    let lines = LOADS_SLOWLY;
    let mut server = RedisBench::redis().start_with(Start::Open, lines);
    let mut client = server.client().await;
    client.ask(&["DEBUG", "POPULATE", "400", "key", "1000"]).await.expect("populated");
    client.ask_for(&["SAVE"], Duration::from_secs(10)).await.expect("saved");
    assert!(server.folder().join("dump.rdb").exists());
    life(server.database()).await;
    server.start_again_unready();
    let seen = observed(server.database(), |seen| seen.answer == Answer::Loading).await;
    assert!(seen.answer.alive() && seen.boot_id.is_some(), "{seen:?}");
    assert_ne!(seen.process, Process::Gone);
    let promote = Command::Promote { boot_id: seen.boot_id.expect("found") };
    let outcome = server.database().control(promote, COMMAND).await;
    assert!(matches!(&outcome, ControlOutcome::Failed { untouched: true, .. }), "{outcome:?}");
    // It would take writes once it has loaded, so a fence ends it.
    let outcome = server.database().control(Command::Fence { kill: true }, COMMAND).await;
    assert!(matches!(&outcome, ControlOutcome::Exited { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_copy_that_loads_its_data_is_not_killed() {
    let lines = LOADS_SLOWLY;
    let mut server = RedisBench::redis().start_with(Start::Fenced, lines);
    let boot_id = life(server.database()).await;
    done(server.database(), Command::Promote { boot_id }).await;
    let mut client = server.client().await;
    client.ask(&["DEBUG", "POPULATE", "400", "key", "1000"]).await.expect("populated");
    client.ask_for(&["SAVE"], Duration::from_secs(10)).await.expect("saved");
    server.start_again_unready();
    observed(server.database(), |seen| seen.answer == Answer::Loading).await;
    let outcome = server.database().control(Command::Fence { kill: true }, COMMAND).await;
    let ControlOutcome::Failed { error, .. } = outcome else {
        panic!("ended or fenced: {outcome:?}");
    };
    assert!(error.contains("takes no writes"), "{error}");
    let state = state(server.database(), |_| true).await;
    assert!(!state.writable && !state.never_synced, "{state:?}");
}

#[tokio::test]
async fn a_server_that_refuses_connections_and_lives_is_not_dead() {
    let server = RedisBench::redis().start_with(Start::Open, "");
    let boot_id = life(server.database()).await;
    let mut client = server.client().await;
    client.ask(&["CONFIG", "SET", "port", "0"]).await.expect("its listener is closed");
    client.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await.expect("only this one is left");
    let seen = observed(server.database(), |seen| seen.answer == Answer::Refused).await;
    assert_eq!(seen.boot_id.as_ref(), Some(&boot_id));
    assert_ne!(seen.process, Process::Gone);
    assert_eq!(client.write("still").await, Written::Acknowledged);
    let within = Duration::from_millis(300);
    let outcome = server.database().control(Command::Fence { kill: false }, within).await;
    assert!(matches!(&outcome, ControlOutcome::Failed { .. }), "{outcome:?}");
    let outcome = server.database().control(Command::Fence { kill: true }, within).await;
    assert_eq!(outcome, ControlOutcome::Exited { boot_id: Some(boot_id) });
    assert_ne!(client.write("late").await, Written::Acknowledged);
}

#[tokio::test]
async fn a_master_short_of_replicas_is_one_and_a_look_at_it_proves_nothing() {
    let server = RedisBench::redis().start_with(Start::Open, "min-replicas-to-write 1");
    assert!(state(server.database(), |_| true).await.writable);
    assert_eq!(server.client().await.write("a").await, Written::Refused);
    let look = server.database().look(server.address(), PROBE).await;
    assert_eq!(look, LookOutcome::Unknown);
}

#[tokio::test]
async fn a_busy_script_is_alive() {
    let server = RedisBench::redis().start_with(Start::Open, "busy-reply-threshold 20");
    life(server.database()).await;
    let mut client = server.client().await;
    let run = client.ask_for(&["EVAL", "while true do end", "0"], Duration::from_secs(10));
    let check = async {
        let seen = observed(server.database(), |seen| seen.answer == Answer::Busy).await;
        assert!(seen.answer.alive() && seen.process == Process::Running, "{seen:?}");
        let late = database(server.address(), PASSWORD).observe(PROBE).await;
        assert_eq!(late.answer, Answer::Busy, "over a new connection too");
        done(server.database(), Command::Fence { kill: false }).await
    };
    let (ended, fenced) = tokio::join!(run, check);
    assert!(ended.is_err() && !fenced.writable, "the script was ended and the server fenced");
}

#[tokio::test]
async fn a_user_without_rights_is_named_at_the_rehearsal() {
    let lines = "user agent on >agent-pass +@all -replicaof ~* &*\nuser weak on >weak-pass +info";
    let server = RedisBench::redis().start_with(Start::Open, lines);
    let agent = login(server.address(), Some("agent"), "agent-pass");
    let error = agent.rehearse().await.expect_err("may not fence");
    assert!(error.contains("`REPLICAOF`") && error.contains("cache1"), "{error}");
    let weak = login(server.address(), Some("weak"), "weak-pass");
    assert!(weak.rehearse().await.is_err());
    let boot_id = life(&agent).await;
    let outcome = agent.control(Command::Promote { boot_id }, COMMAND).await;
    let ControlOutcome::Failed { error, untouched: true } = outcome else {
        panic!("not refused: {outcome:?}");
    };
    assert!(error.contains("NOPERM") && !error.contains("agent-pass"), "{error}");
}

#[tokio::test]
async fn a_renamed_command_is_named_at_the_rehearsal() {
    let server = RedisBench::redis().start_with(Start::Open, "rename-command CONFIG \"\"");
    let error = server.database().rehearse().await.expect_err("cannot be fenced");
    assert!(error.contains("`CONFIG SET`") && error.contains("rename-command"), "{error}");
}

#[tokio::test]
async fn a_server_without_auth_does_not_give_the_password_away() {
    let server = RedisBench::redis().start_with(Start::Open, "rename-command AUTH \"\"");
    let seen = server.database().observe(PROBE).await;
    let shown = format!("{:?} {:?}", seen, server.database().rehearse().await);
    assert!(shown.contains("unknown command") && shown.contains("***"), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[tokio::test]
async fn a_script_kill_that_is_forbidden_is_named_at_the_rehearsal() {
    let lines = "user agent on >agent-pass +@all -script ~* &*";
    let server = RedisBench::redis().start_with(Start::Open, lines);
    let agent = login(server.address(), Some("agent"), "agent-pass");
    let error = agent.rehearse().await.expect_err("may not end a script");
    assert!(error.contains("`SCRIPT KILL`"), "{error}");
}

#[tokio::test]
async fn a_source_named_by_a_host_name_is_resolved() {
    let bench = RedisBench::redis();
    let master = bench.start_with(Start::Open, "");
    let lines = format!("replicaof localhost {}", master.address().port());
    let replica = bench.start_with(Start::Open, &lines);
    let copy = state(replica.database(), |state| state.link_up && state.source.is_some()).await;
    let source = copy.source.expect("resolved");
    assert!(source.ip().is_loopback() && source.port() == master.address().port());
}

#[tokio::test]
async fn a_copy_in_its_first_full_sync_is_seen_so() {
    let bench = RedisBench::redis();
    let master = bench.start_with(Start::Open, "rdb-key-save-delay 20000");
    let mut client = master.client().await;
    client.ask(&["DEBUG", "POPULATE", "400", "key", "1000"]).await.expect("populated");
    let replica = bench.start_with(Start::ReplicaOf(master.address()), "");
    let copy = state(replica.database(), |state| state.syncing).await;
    assert!(copy.never_synced && !copy.link_up && !copy.writable, "{copy:?}");
}
