//! The master's disk, its connections and the agent's password give trouble.

use std::fs;
use std::time::Duration;

use integration::rig::mysql::{CLIENT, Flavour, SENGU, Sql};
use integration::rig::mysql_trio::{SERVICE, write_credentials};
use integration::rig::writer::assert_one_master_at_a_time;
use integration::rig::{Disk, MysqlSettings, MysqlTrio, Place, Server, wait};
use rustix::process::Signal;

use super::{Clients, all, assert_nothing_lost, for_both};
use crate::{LATER, SOON};

/// The servers look for room once a minute.
const ROOM: Duration = Duration::from_secs(75);

/// The master waits for room. Whether it is moved or waited for, there is one master, and there
/// is one in the end.
fn full_disk(flavour: Flavour) {
    let place = Place::claim_in(&flavour.parent());
    let disk = Disk::memory(&place.path("db1/data"), "256m");
    let trio = MysqlTrio::start_in(place, &MysqlSettings::lossless(flavour));
    trio.adopt();
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    let filler = disk.fill();
    // Long enough for the binary log to meet the end of the disk and for a move to be begun.
    wait::holds(LATER, || trio.writable().contains(&old.address));
    fs::remove_file(filler).expect("it can be removed");
    let acked = || -> usize { clients.following.acks().len() };
    let before = acked();
    let master = trio.until("a master acknowledges writes again", ROOM, || {
        let named = trio.named()?;
        (acked() > before + 10 && trio.writable() == [named.address]).then_some(named)
    });
    let masters = trio.masters();
    let told = clients.judge(&trio, &masters);
    assert_nothing_lost(&told, master);
    drop(trio);
    drop(disk);
}

for_both!(full_disk:
    a_mariadb_master_on_a_full_disk_ends_with_one_master_and_loses_nothing,
    a_mysql_master_on_a_full_disk_ends_with_one_master_and_loses_nothing);

fn broken_disk(flavour: Flavour) {
    let place = Place::claim_in(&flavour.parent());
    let disk = Disk::fragile(&place.path("db1/data"), 400);
    let service = "failover = \"auto\"\nloss = \"none\"\nhung_after = \"2s\"\n";
    let mut settings = MysqlSettings::lossless(flavour);
    settings.service = service.into();
    let trio = MysqlTrio::start_in(place, &settings);
    trio.adopt();
    let [old, others @ ..] = &trio.servers[..] else { panic!("three servers") };
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    disk.fail();
    // A server that cannot write its log ends itself, or is moved away from by a person.
    let moved = wait::soon(LATER, || trio.named().filter(|named| named.address != old.address));
    if moved.is_none() {
        trio.agent.sengu(&["failover", SERVICE, "--wait", "15"]).good();
    }
    let new = trio.until_other(old, LATER);
    clients.following.until_acked_by(new.address, 10);
    old.kill();
    let told = clients.end();
    assert_nothing_lost(&told, new);
    // Its log cannot be read any more.
    assert_one_master_at_a_time(&[old.address, new.address], &all(&told));
    assert!(others.iter().any(|other| other.address == new.address));
    drop(trio);
    drop(disk);
}

for_both!(broken_disk:
    a_mariadb_master_on_a_disk_that_turned_read_only_is_replaced,
    a_mysql_master_on_a_disk_that_turned_read_only_is_replaced);

/// The disk below the master hangs: its commits wait, and questions are answered all the same. So
/// it is left where it is, until a person ends its process; that the disk holds what is left of it
/// does not hold up the next master.
fn hanging_disk(flavour: Flavour) {
    let place = Place::claim_in(&flavour.parent());
    let disk = Disk::fragile(&place.path("db1/data"), 400);
    let mut settings = MysqlSettings::lossless(flavour);
    settings.service += "hung_after = \"2s\"\n";
    let trio = MysqlTrio::start_in(place, &settings);
    trio.adopt();
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    let frozen = disk.freeze();
    let stays = wait::holds(LATER / 2, || trio.named().is_some_and(|it| it.address == old.address));
    assert!(stays, "{}", trio.agent.sengu(&["explain", SERVICE]).all());
    let told = trio.agent.sengu(&["failover", SERVICE, "--wait", "5"]);
    assert!(told.all().contains("is well"), "{}", told.all());
    old.process().signal(Signal::KILL);
    trio.until("it answers nothing", LATER, || trio.named().is_none().then_some(()));
    trio.agent.sengu(&["failover", SERVICE, "--wait", "20"]).good();
    let new = trio.until_other(old, LATER);
    clients.following.until_acked_by(new.address, 10);
    drop(frozen);
    trio.until("the process of the old master ends", LATER, || old.exited().then_some(()));
    let told = clients.end();
    assert_nothing_lost(&told, new);
    assert_one_master_at_a_time(&[old.address, new.address], &all(&told));
    drop(trio);
    drop(disk);
}

for_both!(hanging_disk:
    a_mariadb_master_on_a_disk_that_hangs_is_replaced_and_stays_so,
    a_mysql_master_on_a_disk_that_hangs_is_replaced_and_stays_so);

/// All connections are taken when the master is to be fenced.
fn no_connections_left(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    let [old, new, _] = &trio.servers[..] else { panic!("three servers") };
    let clients = Clients::writing(&trio);
    trio.until_ready(LATER);
    let mut taken = Vec::new();
    while let Ok(session) = Sql::connect(old.address, CLIENT, SOON) {
        taken.push(session);
        assert!(taken.len() < 200, "its connections have no end");
    }
    trio.switched(&["--to", &new.name]);
    drop(taken);
    clients.following.until_acked_by(new.address, 20);
    let told = clients.judge(&trio, &[old.address, new.address]);
    assert_nothing_lost(&told, new);
}

for_both!(no_connections_left:
    a_mariadb_master_without_free_connections_can_be_fenced,
    a_mysql_master_without_free_connections_can_be_fenced);

/// A server that refuses the agent's password is alive: it is not moved, and it is told.
fn changed_password(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::new(flavour));
    let master = &trio.servers[0];
    let clients = Clients::writing(&trio);
    let user = SENGU.user;
    master.ask(&format!("ALTER USER '{user}'@'%' IDENTIFIED BY 'another-password'"));
    for row in master.ask("SHOW PROCESSLIST") {
        if row["User"] == user {
            // It may have ended since.
            let _ = master.try_ask(&format!("KILL {}", row["Id"]));
        }
    }
    trio.agent.until_status(SERVICE, "the refused password is told", LATER, |status| {
        let problems = status["problems"].to_string();
        problems.contains("denied") || problems.contains("password")
    });
    let stays = wait::holds(SOON * 2, || !master.exited() && trio.writable() == [master.address]);
    assert!(stays, "it was moved or ended\n{}", trio.agent.tail());
    write_credentials(&trio.place.path("credentials"), "another-password");
    trio.agent.sengu(&["reload"]).good();
    trio.until_ready(LATER);
    trio.until_master(master, SOON);
    clients.judge(&trio, &[master.address]);
}

for_both!(changed_password:
    a_mariadb_master_that_refuses_the_agents_password_is_not_moved,
    a_mysql_master_that_refuses_the_agents_password_is_not_moved);
