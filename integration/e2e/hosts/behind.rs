//! A planned move to a copy of another host that has received everything and not applied it: that
//! is waited for with the old master serving, not without a master.

use std::thread;

use integration::rig::hosts::{Hosts, Settings};
use integration::rig::mysql::{Flavour, Mysql};
use integration::rig::mysql_trio::SERVICE;
use integration::rig::{MysqlSettings, until};

use crate::{LATER, SOON};

fn applied_first(settings: &Settings<Mysql>) {
    let hosts = Hosts::adopted(settings);
    let [master, target, reader] = &hosts.hosts[..] else { panic!("three hosts") };
    hosts.until_ready(reader, LATER * 2);
    let mut lock = target.server.connect();
    lock.run("LOCK TABLES app.writes READ").expect("it can be locked");
    for serial in 1..=5 {
        master.server.write(serial);
    }
    let behind = format!("\"behind {}\"", master.server.address);
    until("another host sees that it is behind", LATER, || {
        reader.agent.status(SERVICE).to_string().contains(&behind).then_some(())
    });
    let moved = thread::scope(|scope| {
        let name = target.server.name.as_str();
        let asked = scope
            .spawn(|| reader.agent.sengu(&["switchover", SERVICE, "--to", name, "--wait", "40"]));
        let waits = format!("waiting until {name} is closer");
        until("its host waits for it", LATER, || {
            target.agent.sengu(&["explain", SERVICE]).out.contains(&waits).then_some(())
        });
        assert_eq!(hosts.writable(), [master.server.address], "the old master goes on");
        master.server.write(6);
        lock.run("UNLOCK TABLES").expect("it can be unlocked");
        asked.join().expect("it was asked")
    });
    assert_eq!(moved.code, Some(0), "{}\n{}", moved.all(), target.agent.tail());
    hosts.until_named(reader, target, SOON);
    assert_eq!(hosts.writable(), [target.server.address]);
    assert_eq!(target.server.serials("hand"), ["0", "1", "2", "3", "4", "5", "6"]);
}

fn settings(flavour: Flavour) -> Settings<Mysql> {
    Settings::new(MysqlSettings::service(flavour, "failover = \"auto\"\nmax_lag = \"30s\"\n"))
}

#[test]
fn a_mariadb_target_on_another_host_applies_what_it_received_before_the_move() {
    applied_first(&settings(Flavour::MariaDb));
}

#[test]
fn a_mysql_target_on_another_host_applies_what_it_received_before_the_move() {
    applied_first(&settings(Flavour::mysql()));
}
