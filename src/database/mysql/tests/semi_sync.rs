//! Semi-synchronous replication as the driver switches it: who acknowledges, for how many a commit
//! waits, and that a master never falls back by itself.

use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::InstanceState;

use super::bench::MysqlBench;
use super::both;
use super::server::Kind;
use crate::database::suite::{COMMAND, Client, Server, Start, Written, done, life, state};

both! {
    commits_wait_for_a_copy_that_acknowledges,
    a_promotion_lets_commits_go_on,
}

fn acknowledges(state: &InstanceState) -> bool {
    state.semi_sync.expect("it has semi-sync").acknowledges
}

async fn commits_wait_for_a_copy_that_acknowledges(bench: MysqlBench) {
    let master = bench.start_with(Start::Open, "").await;
    let copy = bench.start_with(Start::ReplicaOf(master.address()), "").await;
    state(copy.database(), |state| state.link_up).await;
    assert!(!acknowledges(&state(copy.database(), |_| true).await));

    assert!(acknowledges(&done(copy.database(), Command::Acknowledge { on: true }).await));
    let waits = done(master.database(), Command::Await { count: 1 }).await;
    assert_eq!(waits.semi_sync.expect("it has semi-sync").awaits, 1);
    let attached = |state: &InstanceState| state.semi_sync.is_some_and(|semi| semi.clients == 1);
    state(master.database(), attached).await;
    let mut client = master.client().await;
    assert_eq!(client.write("with").await, Written::Acknowledged);

    // Twice is once.
    assert!(acknowledges(&done(copy.database(), Command::Acknowledge { on: true }).await));
    assert!(!acknowledges(&done(copy.database(), Command::Acknowledge { on: false }).await));
    state(copy.database(), |state| state.link_up && !acknowledges(state)).await;
    assert_eq!(client.write("without").await, Written::Unknown, "it waits for nobody");
    let waiting = |state: &InstanceState| state.semi_sync.is_some_and(|semi| semi.waiting == 1);
    let hung = state(master.database(), waiting).await;
    assert_eq!(hung.semi_sync.expect("it has semi-sync").awaits, 1, "it fell back");

    let released = done(master.database(), Command::Await { count: 0 }).await;
    assert_eq!(released.semi_sync.expect("it has semi-sync").awaits, 0);
    assert_eq!(client.write("alone").await, Written::Acknowledged);
    let two = master.database().control(Command::Await { count: 2 }, COMMAND).await;
    match (bench.kind, two) {
        (Kind::Mysql, ControlOutcome::Done { state, .. }) => {
            assert_eq!(state.semi_sync.expect("it has semi-sync").awaits, 2);
        }
        (Kind::Mariadb, ControlOutcome::Failed { untouched: true, error }) => {
            assert!(error.contains("waits for one"), "{error}");
        }
        (_, other) => panic!("{other:?}"),
    }
}

async fn a_promotion_lets_commits_go_on(bench: MysqlBench) {
    let server = bench.start_with(Start::Fenced, "").await;
    // Somebody's file or hand had it wait.
    let name = if bench.kind == Kind::Mysql { "source" } else { "master" };
    server.root().await.exec(&format!("SET GLOBAL rpl_semi_sync_{name}_enabled=1")).await;
    let boot_id = life(server.database()).await;
    let promoted = done(server.database(), Command::Promote { boot_id }).await;
    assert_eq!(promoted.semi_sync.expect("it has semi-sync").awaits, 0);
    assert_eq!(server.client().await.write("alone").await, Written::Acknowledged);
}
