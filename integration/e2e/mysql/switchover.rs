//! Mastership is moved as planned: nothing that was acknowledged is lost, or nothing is done.

use integration::rig::mysql::Flavour;
use integration::rig::mysql_trio::{MASTER, SERVICE};
use integration::rig::writer::gap;
use integration::rig::{MysqlSettings, MysqlTrio, Watcher};

use super::{Clients, assert_nothing_lost, for_both, judge};
use crate::{LATER, SOON};

fn under_load(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    let [old, new, _] = &trio.servers[..] else { panic!("three servers") };
    let watcher = Watcher::start(trio.agent.dns, MASTER);
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);

    trio.switched(&["--to", &new.name]);
    clients.following.until_acked_by(new.address, 50);
    trio.until_followed(new, LATER);

    assert_eq!(watcher.masters(), [old.address.ip(), new.address.ip()]);
    let told = clients.judge(&trio, &[old.address, new.address]);
    let gap = gap(&told.last().expect("the one that follows").1);
    assert!(gap < LATER, "{gap:?} without an acknowledgement");
    assert_nothing_lost(&told, new);
    assert_eq!(trio.writable(), [new.address]);
    let history = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(history[0]["cause"], "switchover", "{history:#}");
}

for_both!(under_load:
    a_switchover_of_mariadb_under_load_loses_nothing,
    a_switchover_of_mysql_under_load_loses_nothing);

fn several_in_a_row(settings: &MysqlSettings) {
    let trio = MysqlTrio::adopted(settings);
    let following = trio.following("following");
    let mut order = vec![trio.servers[0].address];
    for _ in 0..4 {
        trio.until_ready(LATER * 2);
        let old = trio.until_steady(LATER);
        following.until_acked_by(old.address, 10);
        trio.switched(&[]);
        order.push(trio.until_other(old, SOON).address);
    }
    let master = trio.until_steady(LATER * 2);
    following.until_acked_by(master.address, 1);
    let told = [("following".to_owned(), following.end())];
    judge(&trio, &order, &told);
    assert_nothing_lost(&told, master);
    assert_eq!(trio.agent.status(SERVICE)["term"], 5);
}

#[test]
fn switchovers_of_mariadb_in_a_row_lose_nothing() {
    several_in_a_row(&MysqlSettings::new(Flavour::MariaDb));
}

#[test]
fn switchovers_of_mysql_in_a_row_lose_nothing() {
    several_in_a_row(&MysqlSettings::new(Flavour::mysql()));
}

#[test]
fn switchovers_of_mariadb_in_a_row_lose_nothing_with_loss_none() {
    several_in_a_row(&MysqlSettings::lossless(Flavour::MariaDb));
}

#[test]
fn switchovers_of_mysql_in_a_row_lose_nothing_with_loss_none() {
    several_in_a_row(&MysqlSettings::lossless(Flavour::mysql()));
}

/// A replica whose applier waits for a lock has received all and applied nothing since.
fn lagging_target(flavour: Flavour) {
    let service = "failover = \"auto\"\nmax_lag = \"1s\"\n";
    let trio = MysqlTrio::adopted(&MysqlSettings::service(flavour, service));
    let [master, target, _] = &trio.servers[..] else { panic!("three servers") };
    trio.until_ready(LATER * 2);
    let mut lock = target.connect();
    lock.run("LOCK TABLES app.writes READ").expect("it can be locked");
    // A few writes that wait for it: a steady writer would be one of the load, and not of the lag.
    for serial in 1..=5 {
        master.write(serial);
    }
    trio.agent.until_status(SERVICE, "db2 is seen behind", LATER, |status| {
        status["problems"].to_string().contains("db2 is far behind")
    });
    let told = trio.switchover(&["--to", "db2"]);
    assert_eq!(told.code, Some(1), "{}", told.all());
    assert!(told.err.contains("db2"), "{}", told.err);
    assert_eq!(trio.writable(), [master.address], "nothing was touched");
    lock.run("UNLOCK TABLES").expect("it can be unlocked");
    trio.until_ready(LATER);
    trio.switched(&["--to", "db2"]);
    trio.until_master(target, SOON);
    assert_eq!(target.serials("hand"), ["0", "1", "2", "3", "4", "5"]);
}

for_both!(lagging_target:
    a_mariadb_target_that_lags_is_refused_with_the_reason,
    a_mysql_target_that_lags_is_refused_with_the_reason);
