//! What a move asks of these servers: nothing received is thrown away, a receiver that tries again
//! is stopped, a demoted master goes on from what it wrote, obstacles are told beforehand.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::Role;
use sengu_core::position::Covering;
use tokio::time::{Instant, sleep, timeout};

use super::bench::{MysqlBench, MysqlServer};
use super::server::Kind;
use super::{both, bounded};
use crate::database::suite::{
    COMMAND, Client, PATIENCE, PROBE, Server, Start, Written, done, life, state,
};

/// So long a receiver is given for an answer of its source.
const ATTEMPT: Duration = Duration::from_secs(5);

both! {
    a_promotion_waits_for_what_was_received,
    a_transaction_that_was_received_in_part_holds_nothing_up,
    nothing_received_is_thrown_away_to_follow,
    a_receiver_that_tries_again_is_stopped,
    a_copy_with_more_than_its_source_is_denied,
    a_demoted_master_goes_on_from_what_it_wrote,
    the_same_source_is_gone_on_with,
    a_login_that_is_not_let_in_any_more_is_replaced,
    obstacles_are_told,
    two_sources_are_refused,
    a_filter_is_told,
}

/// A master and a copy that follows it.
async fn pair(bench: &MysqlBench) -> (MysqlServer, MysqlServer) {
    let master = bench.start_with(Start::Open, "").await;
    let copy = bench.start_with(Start::ReplicaOf(master.address()), "").await;
    state(copy.database(), |state| state.link_up).await;
    (master, copy)
}

async fn catches_up(master: &MysqlServer, copy: &MysqlServer) {
    let ahead = state(master.database(), |_| true).await.applied;
    state(copy.database(), |state| matches!(state.applied.covers(&ahead), Covering::Covers(_)))
        .await;
}

/// Lets the copy receive a write that it does not apply.
async fn leave_unapplied(master: &MysqlServer, copy: &MysqlServer) {
    catches_up(master, copy).await;
    copy.root().await.exec("STOP REPLICA SQL_THREAD").await;
    assert_eq!(master.client().await.write("received").await, Written::Acknowledged);
    let ahead = state(master.database(), |_| true).await.applied;
    let lags = state(copy.database(), |state| {
        matches!(state.received.covers(&ahead), Covering::Covers(_))
    });
    let lags = lags.await;
    assert!(lags.applier_stopped && !lags.link_up);
    assert!(matches!(lags.applied.covers(&ahead), Covering::Lacks(1)), "{lags:?}");
}

async fn a_promotion_waits_for_what_was_received(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    leave_unapplied(&master, &copy).await;
    let boot_id = life(copy.database()).await;
    let promote = Command::Promote { boot_id };
    let failed = copy.database().control(promote.clone(), COMMAND).await;
    let ControlOutcome::Failed { error, untouched: true } = failed else {
        panic!("promoted: {failed:?}");
    };
    assert!(error.contains("applier"), "{error}");
    let after = state(copy.database(), |_| true).await;
    assert!(!after.writable && after.role == Role::Replica);
    copy.root().await.exec("START REPLICA SQL_THREAD").await;
    let promoted = done(copy.database(), promote).await;
    assert!(promoted.writable && promoted.role == Role::Master);
    assert!(copy.client().await.has("received").await, "thrown away");
}

/// The master dies in the middle of sending something large to two copies.
async fn a_transaction_that_was_received_in_part_holds_nothing_up(bench: MysqlBench) {
    let (mut master, new) = pair(&bench).await;
    let other = bench.start_with(Start::ReplicaOf(master.address()), "").await;
    let mut client = master.client().await;
    client.exec("CREATE TABLE app.big (id INT AUTO_INCREMENT PRIMARY KEY, text LONGTEXT)").await;
    for copy in [&new, &other] {
        catches_up(&master, copy).await;
        copy.stop().await;
    }
    client.exec("BEGIN").await;
    for _ in 0..48 {
        client.exec("INSERT INTO app.big (text) VALUES (REPEAT('x', 1 << 20))").await;
    }
    client.exec("COMMIT").await;
    lies_unread(master.address(), 2).await;
    master.end();
    for copy in [&new, &other] {
        copy.signal(Signal::CONT);
        in_the_middle(copy).await;
        done(copy.database(), Command::Detach).await;
    }
    let boot_id = life(new.database()).await;
    let promoted = done(new.database(), Command::Promote { boot_id }).await;
    assert!(promoted.writable && promoted.role == Role::Master);
    assert_eq!(new.client().await.write("after").await, Written::Acknowledged);
    assert_eq!(new.root().await.value("SELECT COUNT(*) FROM app.big").await, "0");
    done(other.database(), Command::Follow { source: new.address() }).await;
    catches_up(&new, &other).await;
    assert!(other.client().await.has("after").await);
    assert_eq!(other.root().await.value("SELECT COUNT(*) FROM app.big").await, "0");
}

/// Waits until so many sockets hold a part of what a source sends, which nobody reads.
async fn lies_unread(source: SocketAddr, sockets: usize) {
    let lies = async {
        while unread(source) < sockets {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, lies).await.expect("it is sent");
}

/// How many sockets have more than 64 KiB of a source to read (`/proc/net/tcp`, proc_pid_net(5)).
fn unread(source: SocketAddr) -> usize {
    let SocketAddr::V4(source) = source else { panic!("{source}") };
    let (ip, port) = (u32::from_ne_bytes(source.ip().octets()), source.port());
    let remote = format!("{ip:08X}:{port:04X}");
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    let waiting = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let queued = words.get(4).and_then(|queues| queues.split_once(':'));
        let queued = queued.and_then(|(_, bytes)| u64::from_str_radix(bytes, 16).ok());
        words.get(2) == Some(&remote.as_str()) && queued.is_some_and(|bytes| bytes > 1 << 16)
    };
    sockets.lines().filter(waiting).count()
}

/// Waits until its source is lost and its applier waits for the rest of a transaction.
async fn in_the_middle(copy: &MysqlServer) {
    state(copy.database(), |state| !state.link_up).await;
    if copy.kind == Kind::Mysql {
        let applying = "SELECT COUNT(*) FROM performance_schema.threads WHERE \
                        PROCESSLIST_STATE = 'Waiting for an event from Coordinator' \
                        AND EXISTS (SELECT 1 FROM \
                        performance_schema.replication_applier_status_by_worker \
                        WHERE APPLYING_TRANSACTION <> '')";
        let mut root = copy.root().await;
        while root.value(applying).await == "0" {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn nothing_received_is_thrown_away_to_follow(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    let other = bench.start_with(Start::Open, "").await;
    leave_unapplied(&master, &copy).await;
    let follow = Command::Follow { source: other.address() };
    let failed = copy.database().control(follow, COMMAND / 3).await;
    let ControlOutcome::Failed { error, untouched: true } = failed else {
        panic!("it follows: {failed:?}");
    };
    assert!(error.contains("applier"), "{error}");
    drop(master);
    // The receiver was left to try again, so what it received is still there to be applied.
    copy.root().await.exec("START REPLICA SQL_THREAD").await;
    state(copy.database(), |state| state.applied == state.received).await;
    done(copy.database(), Command::Detach).await;
    assert!(copy.client().await.has("received").await, "thrown away");
}

async fn a_receiver_that_tries_again_is_stopped(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    let source = master.address();
    drop(master);
    let lost = state(copy.database(), |state| !state.link_up).await;
    assert_eq!((lost.source, lost.trouble), (Some(source), None), "it tries again");
    // Until it has failed to connect at least once.
    sleep(Duration::from_millis(1500)).await;
    let detached = done(copy.database(), Command::Detach).await;
    assert_eq!((detached.source, detached.role), (None, Role::Replica));
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(state(copy.database(), |_| true).await.source, None, "it tries again");
}

/// The source gives its numbers again, as one that was emptied and opened does.
async fn a_copy_with_more_than_its_source_is_denied(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    for key in 0..5 {
        let written = master.client().await.write(&format!("before-{key}")).await;
        assert_eq!(written, Written::Acknowledged);
    }
    catches_up(&master, &copy).await;
    done(copy.database(), Command::Detach).await;
    let forget = match bench.kind {
        Kind::Mysql => "RESET BINARY LOGS AND GTIDS",
        Kind::Mariadb => "RESET MASTER",
    };
    master.root().await.exec(forget).await;
    assert_eq!(master.client().await.write("after").await, Written::Acknowledged);
    let follow = Command::Follow { source: master.address() };
    copy.database().control(follow, COMMAND).await;
    let told = state(copy.database(), |state| state.trouble.is_some()).await;
    assert!(told.denied && !told.link_up, "{told:?}");
    assert_eq!(told.source, Some(master.address()), "it follows, and waits for a person");
    assert!(told.trouble.expect("told").contains("1236"));
}

async fn a_demoted_master_goes_on_from_what_it_wrote(bench: MysqlBench) {
    let (old, new) = pair(&bench).await;
    for key in 0..5 {
        let written = old.client().await.write(&format!("old-{key}")).await;
        assert_eq!(written, Written::Acknowledged);
    }
    // It waited for copies, which as a copy it must not.
    done(old.database(), Command::Await { count: 1 }).await;
    let fenced = done(old.database(), Command::Fence { kill: false }).await;
    catches_up(&old, &new).await;
    done(new.database(), Command::Detach).await;
    let boot_id = life(new.database()).await;
    let promoted = done(new.database(), Command::Promote { boot_id }).await;
    assert_eq!(fenced.applied.strays(std::slice::from_ref(&promoted.applied)), None);
    assert_eq!(new.client().await.write("new").await, Written::Acknowledged);
    let follow = Command::Follow { source: new.address() };
    let following = done(old.database(), follow).await;
    assert!(following.role == Role::Replica && !following.writable);
    assert_eq!(following.semi_sync.map(|semi| semi.awaits), Some(0));
    catches_up(&new, &old).await;
    let end = state(old.database(), |state| state.link_up).await;
    assert!(matches!(end.applied.covers(&fenced.applied), Covering::Covers(_)));
    assert_eq!(end.applied.strays(std::slice::from_ref(&promoted.applied)), None, "{end:?}");
    // And back, by the same path.
    done(new.database(), Command::Fence { kill: false }).await;
    catches_up(&new, &old).await;
    let boot_id = life(old.database()).await;
    done(old.database(), Command::Promote { boot_id }).await;
    done(new.database(), Command::Follow { source: old.address() }).await;
    assert_eq!(old.client().await.write("back").await, Written::Acknowledged);
    catches_up(&old, &new).await;
    assert!(new.client().await.has("back").await && new.client().await.has("old-4").await);
}

async fn the_same_source_is_gone_on_with(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    done(copy.database(), Command::Detach).await;
    assert_eq!(master.client().await.write("missed").await, Written::Acknowledged);
    let follow = Command::Follow { source: master.address() };
    assert_eq!(done(copy.database(), follow.clone()).await.source, Some(master.address()));
    catches_up(&master, &copy).await;
    // And once more, which changes nothing.
    let again = done(copy.database(), follow).await;
    assert!(again.link_up && again.source == Some(master.address()));
    assert!(copy.client().await.has("missed").await);
}

/// The receiver tries again and again with what it was once given; told to follow again, it gets
/// the login that the agent has now, and nothing that it received is lost.
async fn a_login_that_is_not_let_in_any_more_is_replaced(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    catches_up(&master, &copy).await;
    let mut root = copy.root().await;
    root.exec("STOP REPLICA").await;
    let (word, wrong) = match bench.kind {
        Kind::Mysql => ("CHANGE REPLICATION SOURCE TO SOURCE", "SOURCE_PASSWORD"),
        Kind::Mariadb => ("CHANGE MASTER TO MASTER", "MASTER_PASSWORD"),
    };
    root.exec(&format!("{word}_USER='copy', {wrong}='wr0ng-of-the-test'")).await;
    root.exec("START REPLICA").await;
    let source = Some(master.address());
    state(copy.database(), |state| state.source == source && !state.link_up).await;
    assert_eq!(master.client().await.write("meanwhile").await, Written::Acknowledged);
    // The receiver is told, after a while, that it is not let in. Told to follow before that, it
    // begins anew; so it is given time for an answer in between.
    let follow = Command::Follow { source: master.address() };
    let linked = async || {
        while copy.database().observe(PROBE).await.answer.state().is_none_or(|it| !it.link_up) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let mut told = 0;
    while told == 0 || timeout(ATTEMPT, linked()).await.is_err() {
        done(copy.database(), follow.clone()).await;
        told += 1;
        assert!(told < 10, "told to follow again and again in vain");
    }
    catches_up(&master, &copy).await;
    assert!(copy.client().await.has("meanwhile").await);
}

async fn obstacles_are_told(bench: MysqlBench) {
    let server = bench.start_with(Start::Open, "").await;
    assert_eq!(state(server.database(), |_| true).await.obstacles, Vec::<String>::new());
    let began = Instant::now();
    let mut open = server.client().await;
    open.exec("BEGIN; INSERT INTO app.kept VALUES ('SECRET')").await;
    let mut branch = server.client().await;
    branch
        .exec("XA START 'b'; INSERT INTO app.kept VALUES ('b'); XA END 'b'; XA PREPARE 'b'")
        .await;
    let told = loop {
        // The server's picture of transactions is renewed only if nobody read it for 100 ms.
        sleep(Duration::from_millis(250)).await;
        let told = state(server.database(), |_| true).await.obstacles;
        if told.len() >= 2 {
            break told;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "only {told:?}");
    };
    let shown = told.join("\n");
    assert!(shown.contains("prepared XA"), "{shown}");
    let named = format!("session {} of `app` has a transaction open", open.id());
    assert!(shown.contains(&named) && shown.contains("rows changed"), "{shown}");
    assert!(!shown.contains("SECRET"), "{shown}");
    if bench.kind == Kind::Mysql {
        let mut locker = server.client().await;
        locker.exec("CREATE TABLE app.locked (a INT); LOCK TABLES app.locked WRITE").await;
        state(server.database(), |state| {
            state.obstacles.iter().any(|it| it.contains("holds a table lock"))
        })
        .await;
    }
}

async fn two_sources_are_refused(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    let other = SocketAddr::new(master.address().ip(), 1);
    let second = copy.follow(other);
    let second = match bench.kind {
        Kind::Mariadb => second.replace("CHANGE MASTER", "CHANGE MASTER 'second'"),
        Kind::Mysql => format!("{second} FOR CHANNEL 'second'"),
    };
    copy.root().await.exec(&second).await;
    let told = state(copy.database(), |state| state.trouble.is_some()).await;
    assert!(told.trouble.expect("told").contains("2 sources"));
    let boot_id = life(copy.database()).await;
    let failed = copy.database().control(Command::Promote { boot_id }, COMMAND).await;
    assert!(matches!(&failed, ControlOutcome::Failed { untouched: true, .. }), "{failed:?}");
}

/// Its position says that it has all.
async fn a_filter_is_told(bench: MysqlBench) {
    let (master, copy) = pair(&bench).await;
    assert!(!state(copy.database(), |_| true).await.filtered);
    let mut root = copy.root().await;
    let set = match bench.kind {
        Kind::Mysql => "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ('other.%')",
        Kind::Mariadb => "SET GLOBAL replicate_wild_ignore_table = 'other.%'",
    };
    for statement in ["STOP REPLICA", set, "START REPLICA"] {
        root.exec(statement).await;
    }
    catches_up(&master, &copy).await;
    let told = state(copy.database(), |state| state.link_up).await;
    let said = "it leaves out some of what it receives: `replicate_wild_ignore_table` is set";
    assert!(told.filtered, "{told:?}");
    assert_eq!(told.trouble.as_deref(), Some(said));
}

/// MariaDB writes what it keeps of a source into a file that is empty for a moment.
#[tokio::test]
async fn a_mariadb_that_was_killed_while_its_source_was_written_takes_one_again() {
    bounded(async {
        let bench = MysqlBench::mariadb();
        let master = bench.start_with(Start::Open, "").await;
        let mut copy = bench.start_with(Start::Fenced, "").await;
        copy.end();
        std::fs::write(copy.data().join("master.info"), "").expect("writable");
        copy.start_again().await;
        let said = copy.log();
        assert!(said.contains("Failed to initialize the master info structure"), "{said}");
        done(copy.database(), Command::Follow { source: master.address() }).await;
        state(copy.database(), |state| state.link_up).await;
    })
    .await;
}
