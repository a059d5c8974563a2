//! `loss = "none"`: commits wait for a replica, replicas leave and return, and whoever takes over
//! has every acknowledged row.

use std::sync::mpsc;
use std::time::Duration;

use integration::rig::mysql::{CLIENT, Flavour, Mysql, Sql, Trouble};
use integration::rig::mysql_trio::SERVICE;
use integration::rig::{MysqlSettings, MysqlTrio, wait};

use super::{Clients, assert_nothing_lost, for_both};
use crate::{LATER, SOON};

fn lossless(flavour: Flavour) -> MysqlTrio {
    MysqlTrio::adopted(&MysqlSettings::lossless(flavour))
}

/// Kills the master and checks that the next one has all that was acknowledged.
#[track_caller]
fn kill_and_judge(trio: &MysqlTrio, clients: Clients) {
    let old = trio.server(&trio.named().expect("a master").name);
    old.kill();
    let new = trio.until_other(old, LATER);
    clients.following.until_acked_by(new.address, 10);
    let told = clients.judge(trio, &[old.address, new.address]);
    assert_nothing_lost(&told, new);
}

/// More rows are acknowledged.
#[track_caller]
fn until_writing(clients: &Clients, server: &Mysql, within: Duration) {
    let before = clients.following.acked_by(server.address);
    integration::rig::until("commits go on", within, || {
        (clients.following.acked_by(server.address) > before + 10).then_some(())
    });
}

fn one_hung(flavour: Flavour) {
    let trio = lossless(flavour);
    let [master, hung, _] = &trio.servers[..] else { panic!("three servers") };
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    hung.stop();
    until_writing(&clients, master, LATER);
    hung.resume();
    trio.until_ready(LATER * 2);
    until_writing(&clients, master, LATER);
    kill_and_judge(&trio, clients);
}

for_both!(one_hung:
    mariadb_goes_on_while_a_replica_that_acknowledges_hangs_and_loses_nothing_later,
    mysql_goes_on_while_a_replica_that_acknowledges_hangs_and_loses_nothing_later);

fn one_killed(flavour: Flavour) {
    let trio = lossless(flavour);
    let [master, killed, _] = &trio.servers[..] else { panic!("three servers") };
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    killed.kill();
    until_writing(&clients, master, LATER);
    killed.restart();
    trio.until_ready(LATER * 2);
    kill_and_judge(&trio, clients);
}

for_both!(one_killed:
    mariadb_goes_on_when_a_replica_that_acknowledges_is_killed_and_takes_it_back,
    mysql_goes_on_when_a_replica_that_acknowledges_is_killed_and_takes_it_back);

/// Nobody is left to acknowledge: the replicas are taken out of the record first, and then
/// commits go on without them; they are put back when they have caught up.
fn all_killed(flavour: Flavour) {
    let trio = lossless(flavour);
    let master = &trio.servers[0];
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    for replica in &trio.servers[1..] {
        replica.kill();
    }
    until_writing(&clients, master, LATER * 2);
    for replica in &trio.servers[1..] {
        replica.restart();
    }
    trio.until_followed(master, LATER * 2);
    trio.until_ready(LATER * 2);
    until_writing(&clients, master, LATER);
    kill_and_judge(&trio, clients);
}

for_both!(all_killed:
    mariadb_degrades_when_all_replicas_are_gone_and_returns,
    mysql_degrades_when_all_replicas_are_gone_and_returns);

/// Degraded, the master alone has what it acknowledged: nobody else may take over.
fn degraded_master_killed(flavour: Flavour) {
    let trio = lossless(flavour);
    let master = &trio.servers[0];
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    for replica in &trio.servers[1..] {
        replica.kill();
    }
    until_writing(&clients, master, LATER * 2);
    master.kill();
    for replica in &trio.servers[1..] {
        replica.restart();
    }
    let waits = wait::holds(Duration::from_secs(4), || trio.writable().is_empty());
    assert!(waits, "a copy without all rows was promoted\n{}", trio.agent.tail());
    // It comes back with everything and is the master again.
    master.restart();
    trio.until_master(master, LATER * 2);
    let told = clients.judge(&trio, &[master.address]);
    assert_nothing_lost(&told, master);
}

for_both!(degraded_master_killed:
    a_degraded_mariadb_master_that_is_killed_is_waited_for,
    a_degraded_mysql_master_that_is_killed_is_waited_for);

/// A commit that waits for an acknowledgement when its server dies was never acknowledged.
fn killed_with_a_waiting_commit(flavour: Flavour) {
    let trio = lossless(flavour);
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    let mut waiting = Sql::connect(old.address, CLIENT, LATER).expect("it answers");
    for replica in &trio.servers[1..] {
        replica.stop();
    }
    let (answers, answered) = mpsc::channel();
    std::thread::spawn(move || {
        let answer = waiting.run("INSERT INTO app.writes VALUES ('w', 1, @@server_id, NOW(6))");
        // The test may be over.
        let _ = answers.send(answer);
    });
    let counter = if old.flavour.is_mariadb() {
        "Rpl_semi_sync_master_wait_sessions"
    } else {
        "Rpl_semi_sync_source_wait_sessions"
    };
    trio.until("a commit waits", SOON, || {
        old.counter(counter).parse::<u32>().ok().filter(|count| *count > 0)
    });
    old.kill();
    for replica in &trio.servers[1..] {
        replica.resume();
    }
    let answer = answered.recv_timeout(LATER).expect("it is answered or lost");
    assert!(matches!(answer, Err(Trouble::Lost(_))), "{answer:?}");
    let new = trio.until_other(old, LATER);
    clients.following.until_acked_by(new.address, 10);
    let told = clients.judge(&trio, &[old.address, new.address]);
    assert_nothing_lost(&told, new);
}

for_both!(killed_with_a_waiting_commit:
    a_mariadb_master_that_is_killed_while_a_commit_waits_loses_nothing,
    a_mysql_master_that_is_killed_while_a_commit_waits_loses_nothing);

/// All that the replicas received lies in their relay logs when the master dies. `CHANGE
/// MASTER`, and with MariaDB a new start of the receiver too, would throw them away.
fn applier_held_up(flavour: Flavour) {
    let trio = lossless(flavour);
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    let mut locks: Vec<Sql> = trio.servers[1..].iter().map(Mysql::connect).collect();
    for lock in &mut locks {
        lock.run("LOCK TABLES app.writes READ").expect("it can be locked");
    }
    // From here on only relay logs take what is acknowledged.
    until_writing(&clients, old, LATER);
    old.kill();
    let opened = wait::holds(Duration::from_secs(1), || trio.writable().is_empty());
    assert!(opened, "it was opened before it had applied all\n{}", trio.agent.tail());
    drop(locks);
    let new = trio.until_other(old, LATER * 2);
    clients.following.until_acked_by(new.address, 1);
    let told = clients.judge(&trio, &[old.address, new.address]);
    assert_nothing_lost(&told, new);
}

for_both!(applier_held_up:
    the_best_mariadb_replica_applies_its_relay_logs_before_it_takes_over,
    the_best_mysql_replica_applies_its_relay_logs_before_it_takes_over);

/// Somebody stopped the applier of the only replica that has everything.
fn applier_stopped(flavour: Flavour) {
    let trio = lossless(flavour);
    let [old, best, other] = &trio.servers[..] else { panic!("three servers") };
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    best.ask("STOP REPLICA SQL_THREAD");
    other.stop();
    until_writing(&clients, old, LATER);
    old.kill();
    other.resume();
    // Either its applier is started and finishes, or nobody is promoted and the reason is told.
    let new = wait::soon(LATER, || trio.named().filter(|named| named.address != old.address));
    if let Some(new) = new {
        clients.following.until_acked_by(new.address, 1);
        let told = clients.judge(&trio, &[old.address, new.address]);
        assert_nothing_lost(&told, new);
    } else {
        let told = trio.agent.sengu(&["explain", SERVICE]).all();
        assert!(told.contains("db2"), "{told}");
        assert!(trio.writable().is_empty());
    }
}

for_both!(applier_stopped:
    a_mariadb_replica_with_a_stopped_applier_loses_nothing_that_it_received,
    a_mysql_replica_with_a_stopped_applier_loses_nothing_that_it_received);

/// The relay logs of one replica are gone before it applied them: the other one takes over.
fn relay_logs_gone(flavour: Flavour) {
    let trio = lossless(flavour);
    let [old, hurt, good] = &trio.servers[..] else { panic!("three servers") };
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    hurt.ask("STOP REPLICA SQL_THREAD");
    until_writing(&clients, old, LATER);
    hurt.kill();
    for entry in std::fs::read_dir(hurt.data()).expect("its folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with("relay.") {
            std::fs::remove_file(entry.path()).expect("it can be removed");
        }
    }
    old.kill();
    hurt.restart();
    let new = trio.until_other(old, LATER * 2);
    assert_eq!(new.name, good.name);
    clients.following.until_acked_by(new.address, 1);
    let told = clients.judge(&trio, &[old.address, new.address]);
    assert_nothing_lost(&told, new);
}

for_both!(relay_logs_gone:
    a_mariadb_replica_whose_relay_logs_are_gone_is_not_promoted,
    a_mysql_replica_whose_relay_logs_are_gone_is_not_promoted);
