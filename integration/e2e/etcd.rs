//! The etcd that several hosts share: its leaders die and stop, and nothing moves.

use std::time::{Duration, Instant};

use integration::rig::hosts::{Hosts, Settings};
use integration::rig::trio::{self, MASTER, SERVICE};
use integration::rig::writer::gap;
use integration::rig::{Agent, Redis, Watcher, Writer, until};

use crate::{LATER, SOON};

/// The default lease.
const LEASE: Duration = Duration::from_secs(6);

/// Variable with the number of leaders that are killed; half as many are stopped.
const ROUNDS: &str = "SENGU_ETCD_ROUNDS";

fn rounds() -> usize {
    let told = std::env::var(ROUNDS).ok();
    told.map_or(2, |told| told.parse().expect("SENGU_ETCD_ROUNDS is a number"))
}

#[test]
fn a_leader_of_etcd_that_dies_or_stops_moves_nothing() {
    let hosts = Hosts::adopted(&Settings::default());
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let watcher = Watcher::start(reader.agent.dns, MASTER);
    let writer = Writer::pinned("pinned", master.server.address);
    let term = hosts.term(master);
    let kills = rounds();
    for _ in 0..kills {
        let leader = until("etcd has a leader", LATER, || hosts.etcd.leader());
        hosts.etcd.kill(leader);
        hosts.etcd.until_led_by_another(leader);
        hosts.etcd.restart(leader);
    }
    for _ in 0..kills.div_ceil(2) {
        let leader = until("etcd has a leader", LATER, || hosts.etcd.leader());
        hosts.etcd.stop(leader);
        hosts.etcd.until_led_by_another(leader);
        // As long as a lease: whoever was late is late by now.
        let (before, since) = (writer.acked_by(master.server.address), Instant::now());
        until("a lease has passed", LEASE * 2, || (since.elapsed() > LEASE).then_some(()));
        hosts.etcd.resume(leader);
        assert!(writer.acked_by(master.server.address) > before, "writes go on");
    }
    assert_eq!(hosts.term(master), term, "nothing moved\n{}", master.agent.tail());
    assert_eq!(watcher.masters(), [master.server.address.ip()], "{:?}", watcher.seen());
    let gap = gap(&writer.end());
    assert!(gap < SOON, "the master was never closed: {gap:?}");
    println!("{kills} leaders killed, {} stopped; the longest gap {gap:?}", kills.div_ceil(2));
}

#[test]
fn a_host_without_databases_names_the_master_and_never_beats() {
    let scene = trio::Settings { count: 2, ..trio::Settings::default() };
    let settings = Settings::<Redis>::new(scene);
    let hosts = Hosts::adopted(&settings);
    let config = Hosts::config(&hosts.place, &hosts.etcd, &settings, 7, None);
    let mut reader = Agent::launch_on(&hosts.place, 7, &config);
    reader.wait_answering();
    let [master, other] = &hosts.hosts[..] else { panic!("two hosts") };
    reader.until_name(MASTER, &[master.server.address.ip()], SOON);
    let since = Instant::now();
    until("a lease has passed", LEASE * 2, || (since.elapsed() > LEASE).then_some(()));
    reader.until_name(MASTER, &[master.server.address.ip()], SOON);
    assert!(!hosts.etcd.keys("/sengu/beats/").iter().any(|key| key.ends_with("/db7")));
    assert!(hosts.etcd.keys("/sengu/beats/").iter().any(|key| key.ends_with("/db1")));
    master.server.kill();
    reader.until_name(MASTER, &[other.server.address.ip()], SOON);
    assert_eq!(reader.sengu(&["status", SERVICE]).code, Some(0));
}
