//! An old master comes back with a write that the new term does not have, and its own agent and
//! those of other hosts know: it is set apart, seen to be so everywhere, never promoted, and leads
//! back by what docs/mysql.md tells a person to do.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use integration::rig::hosts::{Host, Hosts, Settings};
use integration::rig::mysql::{ADMIN, Flavour, Mysql, Sql, template};
use integration::rig::mysql_trio::{REPLICAS, SERVICE};
use integration::rig::{MysqlSettings, Process, Server, soon, until, wait};
use rustix::process::Signal;

use super::other;
use crate::{LATER, SOON};

/// Runs a line of a shell, with the administrator's password for the clients.
#[track_caller]
fn shell(line: &str) {
    let told = Command::new("bash")
        .args(["-c", &format!("set -euo pipefail; {line}")])
        .env("MYSQL_PWD", ADMIN.password)
        .output()
        .expect("bash runs");
    assert!(told.status.success(), "{line}\n{}", String::from_utf8_lossy(&told.stderr));
}

/// How a client is told where to go, and as whom.
fn at(address: SocketAddr) -> String {
    format!("--host={} --port={} --user={}", address.ip(), address.port(), ADMIN.user)
}

/// The list that the agent keeps for a person.
fn list(hosts: &Hosts<Mysql>) -> PathBuf {
    hosts.place.path("data1").join(format!("quarantine/{SERVICE}.db1.gtids"))
}

/// MySQL: what only the old master has is applied on the master, under its own numbers.
fn apply_on_the_master(hosts: &Hosts<Mysql>, old: &Host<Mysql>, master: &Host<Mysql>) {
    let Flavour::Mysql(tree) = &old.server.flavour else { panic!("this is MySQL's way") };
    let listed = fs::read_to_string(list(hosts)).expect("the whole list stands in a file");
    let extra: String = listed.lines().filter(|line| !line.starts_with('#')).collect();
    let logs = format!("{}/binlog.0*", old.server.flavour.inside(&old.server.data()).display());
    shell(&format!(
        "chroot {} sh -c \"mysqlbinlog --include-gtids='{extra}' {logs}\" | mariadb {}",
        tree.display(),
        at(master.server.address)
    ));
}

/// MariaDB: the master's data goes over the old one's, which is started on another port meanwhile.
fn copy_the_data(hosts: &Hosts<Mysql>, old: &Host<Mysql>, master: &Host<Mysql>) {
    master.agent.sengu(&["drain", SERVICE, &old.server.name]).good();
    old.server.kill();
    let (flavour, data) = (&old.server.flavour, old.server.data());
    fs::remove_dir_all(&data).expect("its data can be removed");
    template::copy(&template::folder(flavour), &data).expect("it is as after its first start");
    let aside = hosts.place.path("aside");
    fs::create_dir_all(&aside).expect("a folder can be made");
    let options = [format!("--defaults-file={}", old.server.file.display()), "--port=3399".into()];
    let process = Process::start(&aside, flavour.command(&options), |_| ());
    let address = SocketAddr::new(old.server.address.ip(), 3399);
    let connect = || Sql::connect(address, ADMIN, SOON).ok();
    let mut sql = until("it answers on another port", LATER * 2, connect);
    sql.run("RESET MASTER").expect("it has no history");
    shell(&format!(
        "mariadb-dump {} --all-databases --single-transaction --master-data=1 --gtid \
         | mariadb {} --init-command='SET sql_log_bin=0'",
        at(master.server.address),
        at(address)
    ));
    process.signal(Signal::TERM);
    until("it has ended", LATER * 2, || process.exited().then_some(()));
    old.server.restart();
    master.agent.sengu(&["undrain", SERVICE, &old.server.name]).good();
}

/// Everybody says it, and counts on another.
#[track_caller]
fn known_everywhere(hosts: &Hosts<Mysql>, old: &Host<Mysql>, third: &Host<Mysql>) {
    let words = format!("{} is quarantined", old.server.name);
    for host in &hosts.hosts {
        host.agent.until_status(SERVICE, "it is set apart", LATER * 2, |status| {
            status["problems"].to_string().contains(&words)
        });
        let doctor = host.agent.sengu(&["doctor"]).all();
        assert!(doctor.contains(&words), "{doctor}");
        let foretold = soon(LATER, || {
            let told = host.agent.sengu(&["explain", SERVICE, "--json"]).good().json();
            (told["next"]["serves"]["instance"] == third.server.name).then_some(())
        });
        let explained = || host.agent.sengu(&["explain", SERVICE]).all();
        assert!(foretold.is_some(), "{}:\n{}", host.server.name, explained());
        assert!(explained().contains(&words), "{}", explained());
        let told = host.agent.sengu(&["switchover", SERVICE, "--to", &old.server.name]);
        assert_ne!(told.code, Some(0), "{}", told.all());
        assert!(told.all().contains("is quarantined"), "{}", told.all());
    }
}

fn set_apart(
    flavour: Flavour,
    way_out: fn(&Hosts<Mysql>, old: &Host<Mysql>, master: &Host<Mysql>),
    kept: &[&str],
) {
    let settings = MysqlSettings::new(flavour).with(MysqlSettings::NO_COOLDOWN);
    let hosts = Hosts::adopted(&Settings::<Mysql>::new(settings));
    let [old, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    hosts.until_ready(reader, LATER * 2);
    old.server.write(1);
    for copy in &hosts.hosts[1..] {
        copy.server.until_has_all_of(&old.server);
    }
    for copy in &hosts.hosts[1..] {
        copy.server.ask("STOP REPLICA IO_THREAD");
    }
    old.server.write(2);
    old.server.kill();
    let (new, _) = hosts.until_other(reader, old, LATER);
    let third = other(&hosts, &[old, new]);
    new.server.write(3);
    old.server.restart();
    known_everywhere(&hosts, old, third);
    assert_eq!(old.server.serials("hand"), ["0", "1", "2"], "nothing is thrown away");

    // Whoever dies: it is passed over.
    third.server.until_has_all_of(&new.server);
    new.server.kill();
    let (master, _) = hosts.until_other(third, new, LATER);
    assert_eq!(master.server.name, third.server.name);
    new.server.restart();
    until("the last master follows", LATER * 2, || {
        new.server.follows(master.server.address).then_some(())
    });
    let copies = [new.server.address.ip()];
    master.agent.until_name(REPLICAS, &copies, LATER);
    old.agent.until_name(REPLICAS, &copies, LATER);
    let apart = wait::holds(Duration::from_secs(3), || {
        hosts.writable() == [master.server.address] && old.server.link().is_none()
    });
    assert!(apart, "{:?} are open\n{}", hosts.writable(), old.agent.tail());

    way_out(&hosts, old, master);
    let follows = soon(LATER * 3, || old.server.follows(master.server.address).then_some(()));
    let explained = || old.agent.sengu(&["explain", SERVICE]).all();
    assert!(follows.is_some(), "{}\n{}", explained(), old.agent.tail());
    master.server.write(4);
    old.server.until_has_all_of(&master.server);
    assert_eq!(old.server.serials("hand"), kept);
    hosts.until_ready(master, LATER * 2);
    assert!(!list(&hosts).exists(), "nothing is listed any more");
    // And it can be the master again.
    super::switched(new, old);
    assert_eq!(hosts.writable(), [old.server.address]);
}

#[test]
fn an_old_mysql_master_with_more_is_set_apart_on_all_hosts_until_that_is_applied() {
    set_apart(Flavour::mysql(), apply_on_the_master, &["0", "1", "2", "3", "4"]);
}

#[test]
fn an_old_mariadb_master_with_more_is_set_apart_on_all_hosts_until_it_is_copied() {
    set_apart(Flavour::MariaDb, copy_the_data, &["0", "1", "3", "4"]);
}
