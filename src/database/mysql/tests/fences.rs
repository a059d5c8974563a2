//! Fences against what these servers really do: locks, long statements, open transactions, full
//! connection tables, commits that wait for copies, accounts above read-only, late commands.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::Answer;
use tokio::time::{Instant, sleep};

use super::bench::{MysqlBench, MysqlClient, MysqlServer, database};
use super::both;
use super::server::{Kind, PASSWORD};
use crate::database::Database;
use crate::database::mysql::fault::Fault;
use crate::database::suite::{COMMAND, Client, PROBE, Server, Start, Written, done, life, state};

both! {
    nothing_that_holds_locks_holds_up_a_fence,
    a_full_server_is_fenced_over_connections_that_were_there,
    a_full_server_is_fenced_over_its_second_port,
    a_commit_that_waits_for_a_copy_is_never_acknowledged_by_a_fence,
    a_session_older_than_a_fence_carries_nothing_after_it,
    a_command_that_began_before_a_fence_sends_nothing_after_it,
    an_unanswered_change_is_ended_before_the_next_one,
    connections_that_are_killed_are_opened_again,
    a_changed_password_is_told_and_leaves_the_kill,
}

const FENCE: Command = Command::Fence { kill: false };

/// For statements that are not meant to be answered.
const LONG: Duration = Duration::from_secs(60);

/// A server that takes writes, whose fence was rehearsed.
async fn rehearsed(bench: &MysqlBench, lines: &str) -> MysqlServer {
    let server = bench.start_with(Start::Open, lines).await;
    life(server.database()).await;
    // The machine may be busy with something else.
    while let Err(why) = server.database().rehearse().await {
        assert!(why.contains("in time"), "{why}");
    }
    server
}

async fn nothing_that_holds_locks_holds_up_a_fence(bench: MysqlBench) {
    let server = rehearsed(&bench, "").await;
    let boot_id = life(server.database()).await;
    for (holder, waiter) in [
        ("LOCK TABLES app.kept WRITE", "INSERT INTO app.kept VALUES ('behind-a-lock')"),
        ("BEGIN; INSERT INTO app.kept VALUES ('open')", "ALTER TABLE app.kept ADD more INT"),
        ("BEGIN; INSERT INTO app.kept VALUES ('held')", "UPDATE app.kept SET k = 'changed'"),
        ("BEGIN", "INSERT INTO app.kept SELECT SLEEP(60)"),
    ] {
        let mut client = server.client().await;
        client.exec(holder).await;
        let mut second = server.client().await;
        let waiting =
            tokio::spawn(
                async move { (second.ask_for(waiter, LONG).await.is_ok(), Instant::now()) },
            );
        let mut root = server.root().await;
        let running = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app' \
             AND INFO LIKE '{}%'",
            waiter.split(' ').next().expect("a verb")
        );
        while root.value(&running).await != "1" {
            sleep(Duration::from_millis(5)).await;
        }
        let began = Instant::now();
        let fenced = done(server.database(), FENCE).await;
        assert!(!fenced.writable, "{holder}");
        let closed = Instant::now();
        assert!(closed - began < COMMAND, "{holder}: took {:?}", closed - began);
        // It may get the lock of a session that the fence has just ended, before the fence is told.
        let (acknowledged, at) = waiting.await.expect("no panic");
        assert!(!acknowledged || at < closed, "{waiter}: acknowledged after the fence");
        let committed = client.ask_for("COMMIT", LONG).await;
        assert!(committed.is_err(), "{holder}: its session lived on");
        assert!(!server.client().await.has("open").await);
        let promoted = done(server.database(), Command::Promote { boot_id: boot_id.clone() }).await;
        assert!(promoted.writable);
    }
}

/// Takes every connection that there is, the administrator's reserve too.
async fn fill(server: &MysqlServer) -> Vec<MysqlClient> {
    let mut clients = Vec::new();
    for (user, password) in [("app", "app"), ("root", "")] {
        while let Some(client) = server.try_login(user, password).await {
            clients.push(client);
        }
    }
    clients
}

async fn a_full_server_is_fenced_over_connections_that_were_there(bench: MysqlBench) {
    let server = rehearsed(&bench, "max-connections=15").await;
    let mut clients = fill(&server).await;
    assert!(clients.len() > 5);
    let late = database(server.address(), PASSWORD);
    let seen = late.observe(PROBE).await;
    assert_eq!(seen.answer, Answer::TooManyClients);
    assert!(seen.answer.alive() && seen.boot_id.is_some(), "{seen:?}");
    state(server.database(), |state| state.writable).await;
    assert!(!done(server.database(), FENCE).await.writable);
    for client in &mut clients {
        assert_ne!(client.write("late").await, Written::Acknowledged);
    }
}

async fn a_full_server_is_fenced_over_its_second_port(bench: MysqlBench) {
    let free = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let second = match bench.kind {
        Kind::Mariadb => format!("extra-port={port}\nextra-max-connections=5"),
        Kind::Mysql => format!("admin-address=127.0.0.1\nadmin-port={port}"),
    };
    let server = rehearsed(&bench, &format!("max-connections=15\n{second}")).await;
    let mut root = server.root().await;
    let _clients = fill(&server).await;
    // All but the one that is left to do this with.
    let fences = server.database.0.sessions().fence.clone();
    for session in fences.iter().flatten() {
        root.exec(&format!("KILL {}", session.id())).await;
    }
    let fenced = done(server.database(), FENCE).await;
    assert!(!fenced.writable);
}

async fn a_commit_that_waits_for_a_copy_is_never_acknowledged_by_a_fence(bench: MysqlBench) {
    for kill in [false, true] {
        let server = rehearsed(&bench, "").await;
        let boot_id = life(server.database()).await;
        done(server.database(), Command::Await { count: 1 }).await;
        let mut client = server.client().await;
        let insert = "INSERT INTO app.kept VALUES ('hung')";
        let hung = tokio::spawn(async move { client.ask_for(insert, LONG).await.is_ok() });
        let waits = |state: &sengu_core::observation::InstanceState| {
            state.semi_sync.is_some_and(|semi| semi.waiting == 1)
        };
        state(server.database(), waits).await;
        let outcome = server.database().control(Command::Fence { kill }, COMMAND).await;
        match (kill, bench.kind) {
            (true, _) => {
                assert_eq!(outcome, ControlOutcome::Exited { boot_id: Some(boot_id) });
            }
            (false, Kind::Mariadb) => {
                // Its session was ended, and with it the commit is there, unacknowledged.
                assert!(
                    matches!(&outcome, ControlOutcome::Done { state, .. } if !state.writable),
                    "{outcome:?}"
                );
            }
            (false, Kind::Mysql) => {
                let ControlOutcome::Failed { error, untouched: false } = outcome else {
                    panic!("not so: {outcome:?}");
                };
                assert!(error.contains("wait for an acknowledgement"), "{error}");
                continue; // It still hangs, unacknowledged; ends with the server.
            }
        }
        assert!(!hung.await.expect("no panic"), "acknowledged without a copy");
    }
}

async fn a_session_older_than_a_fence_carries_nothing_after_it(bench: MysqlBench) {
    let server = rehearsed(&bench, "").await;
    let shared = Arc::clone(&server.database.0);
    let epoch = shared.sessions().epoch;
    let soon = || Instant::now() + COMMAND;
    let lane = shared.lane.lock().await;
    let (session, _) = shared.control_session(epoch, soon()).await.expect("opened");
    drop(lane);
    done(server.database(), FENCE).await;
    // As if it had been on its way all the time.
    let late = session.exec("SET GLOBAL read_only=0", soon()).await;
    assert!(matches!(late, Err(Fault::Broken(_) | Fault::Odd(_))), "{late:?}");
    assert!(!state(server.database(), |_| true).await.writable);
}

async fn a_command_that_began_before_a_fence_sends_nothing_after_it(bench: MysqlBench) {
    let server = bench.start_with(Start::Fenced, "").await;
    let boot_id = life(server.database()).await;
    let shared = Arc::clone(&server.database.0);
    let lane = shared.lane.lock().await;
    let promote = server.database().control(Command::Promote { boot_id }, COMMAND);
    let fence = async {
        // The promotion waits for the lane by now: it was polled first.
        let fenced = done(server.database(), FENCE).await;
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

async fn an_unanswered_change_is_ended_before_the_next_one(bench: MysqlBench) {
    let server = rehearsed(&bench, "").await;
    let shared = Arc::clone(&server.database.0);
    let epoch = shared.sessions().epoch;
    let soon = Instant::now() + COMMAND;
    let lane = shared.lane.lock().await;
    let (session, _) = shared.control_session(epoch, soon).await.expect("opened");
    // It is at work on the server, and nobody waits for its answer any more.
    let short = Instant::now() + Duration::from_millis(100);
    assert_eq!(session.exec("DO SLEEP(60)", short).await, Err(Fault::Silent));
    shared.abandon_control(&session);
    assert_eq!(shared.sessions().unsure.of_life(None).len(), 1);
    drop(lane);
    done(server.database(), Command::Read).await;
    assert!(shared.sessions().unsure.of_life(None).is_empty());
    let id = session.id();
    let listed = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id}");
    assert_eq!(server.root().await.value(&listed).await, "0");
}

/// Ends every session that the agent's account has now.
async fn kill_all(server: &MysqlServer) {
    let mut root = server.root().await;
    let of = |condition: &str| {
        format!(
            "SELECT COALESCE(GROUP_CONCAT(ID), '') FROM information_schema.PROCESSLIST \
             WHERE {condition}"
        )
    };
    let ids = root.value(&of("USER = 'sengu'")).await;
    for id in ids.split(',') {
        // One may have ended by itself.
        let _gone = root.ask_for(&format!("KILL {id}"), LONG).await;
    }
    while !root.value(&of(&format!("ID IN ({ids})"))).await.is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn connections_that_are_killed_are_opened_again(bench: MysqlBench) {
    let server = rehearsed(&bench, "").await;
    kill_all(&server).await;
    let seen = server.database().observe(PROBE).await;
    assert!(seen.answer.state().is_some(), "{seen:?}");
    kill_all(&server).await;
    assert!(done(server.database(), Command::Read).await.writable);
    kill_all(&server).await;
    assert!(!done(server.database(), FENCE).await.writable);
}

async fn a_changed_password_is_told_and_leaves_the_kill(bench: MysqlBench) {
    let server = rehearsed(&bench, "").await;
    let boot_id = life(server.database()).await;
    server.root().await.exec("ALTER USER sengu@'%' IDENTIFIED BY 'another'").await;
    // Who was let in stays in.
    assert!(done(server.database(), Command::Read).await.writable);
    kill_all(&server).await;
    let seen = server.database().observe(PROBE).await;
    assert!(matches!(seen.answer, Answer::AuthFailed(_)) && seen.answer.alive(), "{seen:?}");
    assert_eq!(seen.boot_id.as_ref(), Some(&boot_id));
    let failed = server.database().control(FENCE, COMMAND).await;
    assert!(matches!(&failed, ControlOutcome::Failed { .. }), "{failed:?}");
    assert!(!format!("{seen:?} {failed:?}").contains(PASSWORD));
    let killed = server.database().control(Command::Fence { kill: true }, COMMAND).await;
    assert_eq!(killed, ControlOutcome::Exited { boot_id: Some(boot_id) });
}

#[tokio::test]
async fn an_account_above_read_only_is_named_and_leaves_the_kill() {
    let server = rehearsed(&MysqlBench::mariadb(), "").await;
    let boot_id = life(server.database()).await;
    let boss = "CREATE USER boss@'%' IDENTIFIED BY 'boss'; \
                GRANT READ_ONLY ADMIN ON *.* TO boss@'%'; GRANT ALL ON app.* TO boss@'%'";
    server.root().await.exec(boss).await;
    // By a driver that looked at its settings before, and by one that never did.
    let fresh = database(server.address(), PASSWORD);
    for driver in [server.database(), &fresh as &dyn Database] {
        let failed = driver.control(FENCE, COMMAND).await;
        let ControlOutcome::Failed { error, untouched: true } = failed else {
            panic!("fenced: {failed:?}");
        };
        assert!(error.contains("'boss'@'%'") && error.contains("REVOKE"), "{error}");
        assert!(state(server.database(), |_| true).await.writable, "untouched");
    }
    server.root().await.exec("REVOKE READ_ONLY ADMIN ON *.* FROM boss@'%'").await;
    assert!(!done(&fresh, FENCE).await.writable);
    done(&fresh, Command::Promote { boot_id: boot_id.clone() }).await;
    server.root().await.exec("GRANT READ_ONLY ADMIN ON *.* TO boss@'%'").await;
    let killed = server.database().control(Command::Fence { kill: true }, COMMAND).await;
    assert_eq!(killed, ControlOutcome::Exited { boot_id: Some(boot_id) });
}

#[tokio::test]
async fn a_server_that_does_not_tell_who_may_write_is_not_believed_to_be_fenced() {
    let server = rehearsed(&MysqlBench::mariadb(), "").await;
    let deny = "REVOKE SELECT ON mysql.* FROM sengu@'%'";
    server.root().await.exec(deny).await;
    let fresh = database(server.address(), PASSWORD);
    let failed = fresh.control(FENCE, COMMAND).await;
    let ControlOutcome::Failed { error, .. } = failed else { panic!("fenced: {failed:?}") };
    assert!(error.contains("tell who may write") && error.contains("global_priv"), "{error}");
}

#[tokio::test]
async fn events_are_off_while_fenced_and_on_again_after() {
    let server = rehearsed(&MysqlBench::mariadb(), "event-scheduler=ON").await;
    let boot_id = life(server.database()).await;
    done(server.database(), FENCE).await;
    let events = "SELECT @@GLOBAL.event_scheduler";
    assert_eq!(server.root().await.value(events).await, "OFF");
    done(server.database(), Command::Promote { boot_id }).await;
    assert_eq!(server.root().await.value(events).await, "ON");
}
