//! Verdicts on real servers, MariaDB and MySQL: all good, then one thing wrong at a time.

mod bench;

use std::time::Duration;

use sengu_core::observation::Verdict;

use self::bench::{Bench, Maria, My};
use super::super::server::Flavour;
use super::super::write::Wrote;
use super::{Above, Verdicts};

fn text(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Bad(text) => text,
        Verdict::Good => "good",
        Verdict::Unknown => "unknown",
    }
}

fn assert_all_good(verdicts: &Verdicts) {
    let shown = [&verdicts.starts_fenced, &verdicts.replication, &verdicts.lossless].map(text);
    assert_eq!(shown, ["good"; 3]);
}

/// What a server's file says beside all that is right, which verdict that spoils, and with what.
struct Line {
    line: &'static str,
    of: fn(&Verdicts) -> &Verdict,
    part: &'static str,
}

const STARTS: fn(&Verdicts) -> &Verdict = |verdicts| &verdicts.starts_fenced;
const REPLICATION: fn(&Verdicts) -> &Verdict = |verdicts| &verdicts.replication;
const LOSSLESS: fn(&Verdicts) -> &Verdict = |verdicts| &verdicts.lossless;

/// Each line in the file of a running server, which is read again but not started again.
async fn rewrite<S: bench::Server>(bench: &mut Bench<S>, lines: &[Line]) {
    for Line { line, of, part } in lines {
        bench.write(line);
        let verdicts = bench.judge().await;
        assert!(text(of(&verdicts)).contains(part), "{line}: {verdicts:#?}");
    }
    bench.write("");
    assert_all_good(&bench.judge().await);
}

/// Each line in the file of a server that is started anew with it.
async fn restart<S: bench::Server>(bench: &mut Bench<S>, lines: &[Line]) {
    for Line { line, of, part } in lines {
        bench.write(line);
        bench.restart().await;
        let verdicts = bench.judge().await;
        assert!(text(of(&verdicts)).contains(part), "{line}: {verdicts:#?}");
    }
    bench.write("");
    bench.restart().await;
}

/// A statement, the one that takes it back, which verdict it spoils, and with what.
type Statement = (&'static str, &'static str, fn(&Verdicts) -> &Verdict, &'static str);

/// Each statement at run time, and the one that takes it back.
async fn change<S: bench::Server>(bench: &mut Bench<S>, statements: &[Statement]) {
    for (statement, back, of, part) in statements {
        bench.root(statement);
        let verdicts = bench.judge().await;
        assert!(text(of(&verdicts)).contains(part), "{statement}: {verdicts:#?}");
        bench.root(back);
    }
    assert_all_good(&bench.judge().await);
}

const MARIADB_CHANGES: &[Statement] = &[
    (
        "SET GLOBAL gtid_strict_mode = 0",
        "SET GLOBAL gtid_strict_mode = 1",
        REPLICATION,
        "run `SET GLOBAL gtid_strict_mode = ON;`",
    ),
    ("SET GLOBAL sync_binlog = 0", "SET GLOBAL sync_binlog = 1", REPLICATION, "sync_binlog"),
    (
        "SET GLOBAL slave_net_timeout = 60",
        "SET GLOBAL slave_net_timeout = 4",
        REPLICATION,
        "`slave_net_timeout` is 60",
    ),
    (
        "SET GLOBAL replicate_ignore_table = 'a.b'",
        "SET GLOBAL replicate_ignore_table = ''",
        REPLICATION,
        "`replicate_ignore_table` filters what is replicated",
    ),
    (
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.9', MASTER_USE_GTID = no, MASTER_DELAY = 9",
        "RESET SLAVE ALL",
        REPLICATION,
        "with Using_Gtid=No",
    ),
    (
        "CHANGE MASTER 'x' TO MASTER_HOST = '127.0.0.9', MASTER_USE_GTID = slave_pos; \
         CHANGE MASTER 'y' TO MASTER_HOST = '127.0.0.8', MASTER_USE_GTID = slave_pos",
        "RESET SLAVE 'x' ALL; RESET SLAVE 'y' ALL",
        REPLICATION,
        "it follows 2 sources, `x` (127.0.0.9), `y` (127.0.0.8)",
    ),
    (
        "REVOKE RELOAD ON *.* FROM sengu@'%'",
        "GRANT RELOAD ON *.* TO sengu@'%'",
        REPLICATION,
        "lacks rights: run `GRANT RELOAD ON *.* TO 'sengu'@'%';`",
    ),
    (
        "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_COMMIT",
        "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
        LOSSLESS,
        "wait_point` is AFTER_COMMIT",
    ),
];

#[tokio::test]
async fn mariadb_is_judged_by_its_files_its_variables_and_its_accounts() {
    let mut bench = Bench::<Maria>::start().await;
    assert_all_good(&bench.judge().await);
    rewrite(
        &mut bench,
        &[
            Line {
                line: "read_only=OFF",
                of: STARTS,
                part: "says `read_only=OFF`: write `read_onl",
            },
            Line { line: "!include /absent", of: STARTS, part: "/absent cannot be read" },
            Line {
                line: "rpl_semi_sync_slave_enabled=1",
                of: LOSSLESS,
                part: "take it out; it would",
            },
            Line { line: "init_rpl_role=SLAVE", of: LOSSLESS, part: "`init_rpl_role` is SLAVE" },
        ],
    )
    .await;
    change(&mut bench, MARIADB_CHANGES).await;
    restart(
        &mut bench,
        &[
            Line { line: "skip-log-bin", of: REPLICATION, part: "`log_bin` is OFF" },
            Line { line: "log_slave_updates=0", of: REPLICATION, part: "`log_slave_updates=ON`" },
            Line { line: "binlog_do_db=app", of: REPLICATION, part: "`binlog_do_db` leaves out" },
            Line { line: "relay_log_recovery=1", of: LOSSLESS, part: "`relay_log_recovery` is ON" },
        ],
    )
    .await;
    assert_all_good(&bench.judge().await);
}

#[tokio::test]
async fn a_disk_that_hangs_leaves_the_last_word() {
    let bench = Bench::<Maria>::start().await;
    bench.hang_the_disk(true);
    let verdicts = bench.judge().await;
    assert_eq!(verdicts.starts_fenced, Verdict::Unknown);
    assert_eq!(verdicts.lossless, Verdict::Unknown, "its files count there, too");
    assert_eq!(verdicts.replication, Verdict::Good);
    bench.hang_the_disk(false);
    assert_all_good(&bench.judge().await);
}

#[tokio::test]
async fn mariadb_accounts_above_the_fence_are_found_with_what_ends_it() {
    let bench = Bench::<Maria>::start().await;
    bench.root("CREATE USER app@'%'; GRANT ALL ON app.* TO app@'%'");
    assert_eq!(bench.above().await, []);
    bench.root(
        "CREATE USER super@'%'; GRANT SUPER ON *.* TO super@'%'; CREATE USER root@'10.%'; \
         GRANT ALL ON *.* TO root@'10.%'; CREATE ROLE dba; GRANT READ_ONLY ADMIN ON *.* TO dba; \
         GRANT dba TO app@'%'",
    );
    let above = bench.above().await;
    let shown: Vec<_> = above.iter().map(|one| (one.account.as_str(), one.why.as_str())).collect();
    // `SUPER` alone does not pass by `read_only` since 10.11.
    let wanted =
        [("'app'@'%'", "role `dba`: READ_ONLY ADMIN"), ("'root'@'10.%'", "READ_ONLY ADMIN")];
    assert_eq!(shown, wanted);
    let verdicts = bench.judge().await;
    let said = text(&verdicts.bound);
    assert!(said.contains("'root'@'10.%' writes in spite of `read_only`"), "{said}");
    assert_eq!(verdicts.replication, Verdict::Good, "mastership can move all the same");
    for Above { revoke, .. } in &above {
        bench.root(revoke);
    }
    assert_eq!(bench.above().await, []);
    assert_all_good(&bench.judge().await);
}

const MYSQL_CHANGES: &[Statement] = &[
    (
        "SET PERSIST_ONLY read_only = OFF",
        "RESET PERSIST read_only",
        STARTS,
        "run `RESET PERSIST read_only;`",
    ),
    (
        "SET PERSIST_ONLY rpl_semi_sync_replica_enabled = ON",
        "RESET PERSIST rpl_semi_sync_replica_enabled",
        LOSSLESS,
        "run `RESET PERSIST rpl_semi_sync_replica_enabled;`",
    ),
    (
        "SET GLOBAL gtid_mode = ON_PERMISSIVE",
        "SET GLOBAL gtid_mode = ON",
        REPLICATION,
        "`gtid_mode` is ON_PERMISSIVE",
    ),
    (
        "SET GLOBAL innodb_flush_log_at_trx_commit = 2",
        "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
        REPLICATION,
        "run `SET PERSIST innodb_flush_log_at_trx_commit = 1;`",
    ),
    (
        "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (app)",
        "CHANGE REPLICATION FILTER REPLICATE_DO_DB = ()",
        REPLICATION,
        "`replicate_do_db` filters what is replicated",
    ),
    (
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.9', SOURCE_DELAY = 9",
        "RESET REPLICA ALL",
        REPLICATION,
        "127.0.0.9 by file and position",
    ),
    (
        "REVOKE PROCESS ON *.* FROM sengu@'%'; CREATE ROLE r; GRANT SELECT ON *.* TO r",
        "GRANT PROCESS ON *.* TO sengu@'%'; DROP ROLE r",
        REPLICATION,
        "run `GRANT PROCESS ON *.* TO 'sengu'@'%';`",
    ),
    (
        "UNINSTALL PLUGIN rpl_semi_sync_replica",
        "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'",
        LOSSLESS,
        "is not loaded (replica): run `INSTALL PLUGIN rpl_semi_sync_replica SONAME",
    ),
];

#[tokio::test]
async fn mysql_is_judged_by_its_files_its_variables_and_its_accounts() {
    let mut bench = Bench::<My>::start().await;
    assert_all_good(&bench.judge().await);
    assert_eq!(bench.above().await, [], "super_read_only binds everybody");
    rewrite(
        &mut bench,
        &[
            Line { line: "super_read_only=OFF", of: STARTS, part: "says `super_read_only=OFF`" },
            Line {
                line: "rpl_semi_sync_replica_enabled",
                of: LOSSLESS,
                part: "take it out; it woul",
            },
        ],
    )
    .await;
    change(&mut bench, MYSQL_CHANGES).await;
    restart(
        &mut bench,
        &[
            Line {
                line: "log_replica_updates=0",
                of: REPLICATION,
                part: "`log_replica_updates=ON`",
            },
            Line { line: "relay_log_recovery=1", of: LOSSLESS, part: "`relay_log_recovery` is ON" },
        ],
    )
    .await;
    assert_all_good(&bench.judge().await);
}

#[tokio::test]
async fn mysql_starts_fenced_by_super_read_only_alone() {
    let bench = Bench::<My>::start().await;
    assert_eq!(bench.flavour(), Flavour::Mysql);
    let locks = bench.root("SELECT @@read_only, @@super_read_only");
    assert_eq!(locks.trim(), "1\t1", "the weaker lock comes with the stronger");
}

#[tokio::test]
async fn a_row_is_written_only_where_the_server_is_open_and_one_at_a_time() {
    let bench = Bench::<Maria>::start().await;
    bench.root(
        "CREATE DATABASE sengu; CREATE TABLE sengu.probe (instance VARCHAR(130) PRIMARY KEY, \
         at DATETIME(6) NOT NULL); GRANT INSERT, DELETE ON sengu.probe TO sengu@'%'",
    );
    let writer = bench.writer("sengu.probe");
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(20));
    // The agent's account is above `read_only`: its own condition is what keeps it out.
    assert_eq!(writer.write(long).await, Wrote::Closed);
    bench.root("SET GLOBAL read_only = 0");
    let before = bench.root("SELECT @@gtid_binlog_pos");
    assert_eq!(writer.write(long).await, Wrote::Done);
    assert_ne!(bench.root("SELECT @@gtid_binlog_pos"), before, "it is replicated");
    let mut lock = bench.hold("LOCK TABLES sengu.probe READ; SELECT SLEEP(60)");
    let mut waited = 0;
    while waited < 3 {
        if let Wrote::Waits(_) = writer.write(short).await {
            waited += 1;
        }
        let sessions = bench
            .root("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'REPLACE%'");
        assert!(matches!(sessions.trim(), "0" | "1"), "{sessions}");
    }
    lock.kill().expect("ended");
    lock.wait().expect("ended");
    let freed = async {
        // What waited may have given the lock up before.
        while writer.write(long).await != Wrote::Done {}
    };
    tokio::time::timeout(long, freed).await.expect("written in the end");
    let broken = bench.writer("sengu.absent").write(long).await;
    assert!(matches!(&broken, Wrote::Failed(text) if text.contains("sengu")), "{broken:?}");
}
