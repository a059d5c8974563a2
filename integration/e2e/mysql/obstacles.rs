//! What stands in the way of a switchover: it is done in its time all the same and loses nothing,
//! or it is refused or undone with the reason, and the old master goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use integration::rig::mysql::{CLIENT, Flavour, Mysql, Sql};
use integration::rig::mysql_trio::SERVICE;
use integration::rig::{MysqlSettings, MysqlTrio};

use super::{Clients, assert_nothing_lost, for_both, judge};
use crate::{LATER, SOON};

/// How a switchover may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// With this word in the reason.
    Refused(&'static str),
    Either(&'static str),
}

/// Something in the way, that is cleared when it is dropped or its sessions are ended.
struct InTheWay {
    over: Arc<AtomicBool>,
    busy: Vec<JoinHandle<()>>,
    /// Sessions that hold something.
    held: Vec<Sql>,
}

impl InTheWay {
    fn new() -> Self {
        Self { over: Arc::default(), busy: Vec::new(), held: Vec::new() }
    }

    /// A client's session that runs a statement again and again.
    fn busy(mut self, server: &Mysql, statement: &'static str) -> Self {
        let (over, at) = (Arc::clone(&self.over), server.address);
        self.busy.push(thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let Ok(mut session) = Sql::connect(at, CLIENT, LATER) else { continue };
                // It is ended, refused or out of time in the end.
                while session.run(statement).is_ok() && !over.load(Ordering::SeqCst) {}
            }
        }));
        self
    }

    /// A client's session that did all this and stays.
    fn held(mut self, server: &Mysql, statements: &[&str]) -> Self {
        let mut session = server.connect_as(CLIENT);
        for statement in statements {
            session.run(statement).expect("the client may");
        }
        self.held.push(session);
        self
    }
}

impl Drop for InTheWay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.held.clear();
        for thread in self.busy.drain(..) {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

fn despite(flavour: Flavour, expected: Expected, obstacle: impl Fn(&Mysql) -> InTheWay) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    meet(&trio, expected, obstacle);
}

fn meet(trio: &MysqlTrio, expected: Expected, obstacle: impl Fn(&Mysql) -> InTheWay) {
    let [old, new, _] = &trio.servers[..] else { panic!("three servers") };
    let clients = Clients::writing(trio);
    trio.until_ready(LATER);
    let in_the_way = obstacle(old);
    let told = trio.switchover(&["--to", &new.name]);
    let moved = told.code == Some(0);
    let masters = if moved { vec![old.address, new.address] } else { vec![old.address] };
    let reason = match expected {
        Expected::Refused(word) => {
            assert!(!moved, "it was moved: {}", told.all());
            word
        }
        Expected::Either(word) => word,
    };
    if !moved {
        assert!(told.err.contains(reason), "`{reason}` is not in: {}", told.all());
    }
    drop(in_the_way);
    let master = if moved { new } else { old };
    trio.until_master(master, LATER);
    let before = clients.following.acked_by(master.address);
    clients.following.until_acked_by(master.address, before + 20);
    trio.until("one takes writes", SOON, || (trio.writable() == [master.address]).then_some(()));
    let told = clients.judge(trio, &masters);
    assert_nothing_lost(&told, master);
}

fn long_queries(flavour: Flavour) {
    despite(flavour, Expected::Either("session"), |old| {
        InTheWay::new()
            .busy(old, "SELECT SLEEP(30)")
            .busy(old, "UPDATE app.writes SET at = at WHERE SLEEP(0.2) = 0 AND writer = 'db1'")
    });
}

for_both!(long_queries:
    a_switchover_of_mariadb_ends_long_queries_or_names_them,
    a_switchover_of_mysql_ends_long_queries_or_names_them);

fn open_transactions(flavour: Flavour) {
    despite(flavour, Expected::Either("session"), |old| {
        let insert = "INSERT INTO app.writes VALUES ('open', 1, @@server_id, NOW(6))";
        InTheWay::new()
            .held(old, &["BEGIN", insert])
            .held(old, &["START TRANSACTION WITH CONSISTENT SNAPSHOT", "SELECT * FROM app.writes"])
    });
}

for_both!(open_transactions:
    a_switchover_of_mariadb_rolls_open_transactions_back_or_names_them,
    a_switchover_of_mysql_rolls_open_transactions_back_or_names_them);

fn locked_tables(flavour: Flavour) {
    despite(flavour, Expected::Either("lock"), |old| {
        InTheWay::new().held(old, &["LOCK TABLES app.writes WRITE"])
    });
}

for_both!(locked_tables:
    a_switchover_of_mariadb_ends_a_session_that_locks_tables_or_names_it,
    a_switchover_of_mysql_ends_a_session_that_locks_tables_or_names_it);

fn running_alter(flavour: Flavour) {
    despite(flavour, Expected::Either("session"), |old| {
        old.ask("CREATE TABLE app.wide (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(200))");
        old.ask("INSERT INTO app.wide (text) VALUES (REPEAT('x', 200)), (REPEAT('y', 200))");
        for _ in 0..12 {
            old.ask("INSERT INTO app.wide (text) SELECT text FROM app.wide");
        }
        InTheWay::new().busy(old, "ALTER TABLE app.wide FORCE, ALGORITHM=COPY")
    });
}

for_both!(running_alter:
    a_switchover_of_mariadb_meets_a_running_alter,
    a_switchover_of_mysql_meets_a_running_alter);

/// A prepared branch survives its session, holds its locks and is in nobody's binary log yet.
fn prepared_branch(flavour: Flavour) {
    despite(flavour, Expected::Refused("XA"), |old| {
        // It is in the log before it is in the table, so the judge is not to know it.
        let insert = "INSERT INTO app.writes SELECT 'branch', 1, @@server_id, NOW(6)";
        let branch = ["XA START 'branch'", insert, "XA END 'branch'", "XA PREPARE 'branch'"];
        InTheWay::new().held(old, &branch)
    });
}

for_both!(prepared_branch:
    a_switchover_of_mariadb_is_refused_while_an_xa_branch_is_prepared,
    a_switchover_of_mysql_is_refused_while_an_xa_branch_is_prepared);

/// MariaDB has nothing that stops such an account from writing, but the end of the server's
/// process: that is for a failover. A planned move is refused, with the account and what ends it.
#[test]
fn mariadb_under_a_client_above_read_only_fails_over_and_refuses_a_switchover() {
    let mut settings = MysqlSettings::lossless(Flavour::MariaDb);
    settings.service += MysqlSettings::NO_COOLDOWN;
    let trio = MysqlTrio::adopted(&settings);
    let [old, new, _] = &trio.servers[..] else { panic!("three servers") };
    trio.until_ready(LATER * 2);
    old.ask("GRANT READ_ONLY ADMIN ON *.* TO app@'%'");
    let (pinned, following) = (trio.pinned("db1", old.address), trio.following("following"));
    pinned.until_acked_by(old.address, 30);
    let account = "'app'@'%' writes in spite of `read_only`";
    trio.agent.until_status(SERVICE, "the account is named", LATER * 2, |status| {
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().filter(|line| line.to_string().contains(account)).count() == 3
    });
    let told = trio.switchover(&["--to", &new.name]);
    assert_eq!(told.code, Some(1), "{}", told.all());
    assert!(told.err.contains("REVOKE READ_ONLY ADMIN ON *.* FROM 'app'@'%';"), "{}", told.all());
    trio.until_master(old, SOON);
    trio.agent.until_status(SERVICE, "the copies are in sync", LATER * 2, |status| {
        status["ranking"].as_array().is_some_and(|order| order.len() == 2)
    });
    // Whoever it is now, its end is a fence that binds everybody.
    old.kill();
    let new = trio.until_other(old, LATER);
    following.until_acked_by(new.address, 20);
    let told = [("db1".to_owned(), pinned.end()), ("following".to_owned(), following.end())];
    judge(&trio, &[old.address, new.address], &told);
    assert_nothing_lost(&told, new);
}
