//! The old master comes back: with nothing of its own it follows by itself; with transactions
//! that nobody else has it is set apart, and they are named.

use integration::rig::mysql::Flavour;
use integration::rig::mysql_trio::SERVICE;
use integration::rig::{MysqlSettings, MysqlTrio, wait};

use super::for_both;
use crate::{LATER, SOON};

fn clean(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    trio.until_ready(LATER * 2);
    let old = &trio.servers[0];
    old.write(1);
    for replica in &trio.servers[1..] {
        replica.until_has_all_of(old);
    }
    old.kill();
    let new = trio.until_other(old, LATER);
    new.write(2);
    old.restart();
    trio.until_followed(new, LATER);
    old.until_has_all_of(new);
    assert_eq!(trio.until_steady(LATER).address, new.address);
    assert_eq!(old.serials("hand"), ["0", "1", "2"]);
}

for_both!(clean:
    an_old_mariadb_master_that_comes_back_clean_follows_by_itself,
    an_old_mysql_master_that_comes_back_clean_follows_by_itself);

fn shut_down(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    let old = &trio.servers[0];
    let clients = super::Clients::writing(&trio);
    // It closes its port first and goes on acknowledging what is under way.
    old.shut_down();
    let new = trio.until_other(old, LATER * 2);
    clients.following.until_acked_by(new.address, 20);
    clients.judge(&trio, &[old.address, new.address]);
}

for_both!(shut_down:
    a_mariadb_master_that_is_shut_down_under_load_is_replaced,
    a_mysql_master_that_is_shut_down_under_load_is_replaced);

/// The master commits something that no replica has whole: what a failover loses.
fn with_extra_transactions(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    trio.until_ready(LATER * 2);
    let old = &trio.servers[0];
    old.ask("CREATE TABLE app.big (id INT AUTO_INCREMENT PRIMARY KEY, text LONGTEXT)");
    old.write(1);
    for replica in &trio.servers[1..] {
        replica.until_has_all_of(old);
        replica.stop();
    }
    let mut session = old.connect();
    session.run("BEGIN").expect("it answers");
    session.run("INSERT INTO app.writes VALUES ('hand', 2, @@server_id, NOW(6))").expect("it is");
    // Far more than the sockets hold.
    for _ in 0..4 {
        let big = "INSERT INTO app.big (text) SELECT REPEAT('x', 10 << 20)";
        session.run(big).expect("it is written");
    }
    session.run("COMMIT").expect("it is committed");
    let extra = old.executed();
    old.kill();
    for replica in &trio.servers[1..] {
        replica.resume();
    }
    let new = trio.until_other(old, LATER);
    new.write(3);
    old.restart();
    let status = trio.agent.until_status(SERVICE, "the old master is set apart", LATER, |status| {
        status["problems"].to_string().contains("db1 is quarantined")
    });
    // MariaDB: 0-1-2; MySQL: the old one's uuid and what of it is too much.
    let name = if old.flavour.is_mariadb() {
        extra.clone()
    } else {
        extra.split(':').next().unwrap_or_default().to_owned()
    };
    let problems = status["problems"].to_string();
    assert!(problems.contains(&name), "`{name}` is not in: {problems}");
    assert_eq!(old.serials("hand"), ["0", "1", "2"], "nothing is thrown away");
    let apart = wait::holds(SOON, || old.link().is_none_or(|link| !link.receiving));
    assert!(apart, "it follows all the same\n{}", trio.agent.tail());
    assert_eq!(trio.writable(), [new.address]);
}

for_both!(with_extra_transactions:
    an_old_mariadb_master_with_extra_transactions_is_set_apart_and_they_are_named,
    an_old_mysql_master_with_extra_transactions_is_set_apart_and_they_are_named);

/// A replica wrote something of its own: it is never the next master.
fn errant_replica(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    trio.until_ready(LATER * 2);
    let [old, errant, good] = &trio.servers[..] else { panic!("three servers") };
    old.write(1);
    // The one that the agent would like best otherwise.
    let mut session = errant.connect();
    if errant.flavour.is_mariadb() {
        session.run("SET SESSION gtid_domain_id = 7").expect("an administrator may");
    } else {
        errant.ask("SET GLOBAL super_read_only = OFF");
    }
    session.run("CREATE TABLE app.errant (id INT)").expect("an administrator may");
    if !errant.flavour.is_mariadb() {
        errant.ask("SET GLOBAL super_read_only = ON");
    }
    trio.agent.until_status(SERVICE, "db2's own transaction is seen", LATER, |status| {
        status["problems"].to_string().contains("db2")
    });
    good.until_has_all_of(old);
    old.kill();
    let new = trio.until_other(old, LATER);
    assert_eq!(new.name, good.name);
    new.write(2);
    assert_eq!(trio.writable(), [new.address]);
}

for_both!(errant_replica:
    a_mariadb_replica_with_a_transaction_of_its_own_is_never_promoted,
    a_mysql_replica_with_a_transaction_of_its_own_is_never_promoted);

/// A replica got a filter after the adoption: by its position it has all, and it has not. It is
/// told, refused as a target, and not promoted.
fn filtering_replica(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::service(flavour, "failover = \"manual\"\n"));
    let [old, filtering, good] = &trio.servers[..] else { panic!("three servers") };
    filtering.until_has_all_of(old);
    let statements = if filtering.flavour.is_mariadb() {
        ["STOP SLAVE", "SET GLOBAL replicate_ignore_table = 'app.writes'", "START SLAVE"]
    } else {
        let filter = "CHANGE REPLICATION FILTER REPLICATE_IGNORE_TABLE = (app.writes)";
        ["STOP REPLICA SQL_THREAD", filter, "START REPLICA SQL_THREAD"]
    };
    for statement in statements {
        filtering.ask(statement);
    }
    old.write(1);
    good.until_has_all_of(old);
    if !filtering.flavour.is_mariadb() {
        // MariaDB's log says nothing of what was left out.
        filtering.until_has_all_of(old);
    }
    let filter = "`replicate_ignore_table`";
    trio.agent.until_status(SERVICE, "db2's filter is told", LATER, |status| {
        status["problems"].to_string().contains(filter)
    });
    let told = trio.agent.sengu(&["switchover", SERVICE, "--to", "db2", "--wait", "5"]);
    assert!(told.code != Some(0) && told.all().contains(filter), "{}", told.all());
    assert_eq!(trio.writable(), [old.address]);
    assert_eq!(filtering.serials("hand"), ["0"], "it lacks what its position says it has");
    old.kill();
    trio.until("the end of the master is seen", LATER, || trio.named().is_none().then_some(()));
    trio.agent.sengu(&["failover", SERVICE, "--wait", "20"]).good();
    let new = trio.until_other(old, LATER);
    assert_eq!(new.name, good.name);
    assert_eq!(new.serials("hand"), ["0", "1"]);
}

for_both!(filtering_replica:
    a_mariadb_replica_that_leaves_out_some_is_no_target_and_never_promoted,
    a_mysql_replica_that_leaves_out_some_is_no_target_and_never_promoted);
