//! Several hosts that share an etcd: masters die with and without their agents, etcd's leader
//! dies, the store is cut off.

use std::time::{Duration, Instant};

use integration::rig::hosts::{Hosts, Settings};
use integration::rig::trio::{MASTER, PORT, SERVICE};
use integration::rig::writer::{assert_one_master_at_a_time, gap};
use integration::rig::{Agent, Watcher, Writer, soon, until};

use crate::{LATER, SOON};

/// The default lease.
const LEASE: Duration = Duration::from_secs(6);

#[test]
fn a_killed_master_is_replaced_by_another_host() {
    let hosts = Hosts::adopted(&Settings::default());
    let [old, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let pinned = Writer::pinned("pinned", old.server.address);
    let following = Writer::following("following", reader.agent.dns, MASTER, PORT);
    pinned.until_acked_by(old.server.address, 50);
    following.until_acked_by(old.server.address, 50);
    let killed = Instant::now();
    old.server.kill();
    let (new, named) = hosts.until_other(reader, old, SOON);
    following.until_acked_by(new.server.address, 50);
    for host in &hosts.hosts {
        hosts.until_named(host, new, SOON);
    }
    old.server.restart();
    hosts.until_followed(new, LATER);
    let acks = [pinned.end(), following.end()].concat();
    assert_one_master_at_a_time(&[old.server.address, new.server.address], &acks);
    println!("named {} ms after the kill", (named - killed).as_millis());
}

#[test]
fn a_host_that_dies_is_replaced_once_its_lease_is_over() {
    let mut hosts = Hosts::adopted(&Settings::default());
    let watcher = Watcher::start(hosts.hosts[1].agent.dns, MASTER);
    let address = hosts.hosts[0].server.address;
    let following = Writer::following("following", hosts.hosts[1].agent.dns, MASTER, PORT);
    following.until_acked_by(address, 50);
    let died = Instant::now();
    hosts.hosts[0].agent.kill();
    hosts.hosts[0].server.kill();
    let [old, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let (new, named) = hosts.until_other(reader, old, LEASE + Duration::from_millis(1500));
    following.until_acked_by(new.server.address, 50);
    assert_eq!(watcher.masters(), [address.ip(), new.server.address.ip()]);
    let took = named - died;
    assert!(took <= LEASE + Duration::from_millis(1500), "{took:?}");
    println!("named {} ms after the host died", took.as_millis());
    assert_one_master_at_a_time(&[address, new.server.address], &following.end());
}

#[test]
fn a_leader_of_etcd_that_dies_or_stops_moves_nothing() {
    let hosts = Hosts::adopted(&Settings::default());
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let watcher = Watcher::start(reader.agent.dns, MASTER);
    let writer = Writer::pinned("pinned", master.server.address);
    let term = hosts.term(master);
    for _ in 0..2 {
        let leader = until("etcd has a leader", LATER, || hosts.etcd.leader());
        hosts.etcd.kill(leader);
        hosts.etcd.until_led_by_another(leader);
        hosts.etcd.restart(leader);
    }
    let leader = until("etcd has a leader", LATER, || hosts.etcd.leader());
    hosts.etcd.stop(leader);
    hosts.etcd.until_led_by_another(leader);
    // As long as a lease: whoever was late is late by now.
    let (before, since) = (writer.acked_by(master.server.address), Instant::now());
    until("a lease has passed", LEASE * 2, || (since.elapsed() > LEASE).then_some(()));
    hosts.etcd.resume(leader);
    assert!(writer.acked_by(master.server.address) > before, "writes go on");
    assert_eq!(hosts.term(master), term, "nothing moved\n{}", master.agent.tail());
    assert_eq!(watcher.masters(), [master.server.address.ip()], "{:?}", watcher.seen());
    let gap = gap(&writer.end());
    assert!(gap < SOON, "the master was never closed: {gap:?}");
}

#[test]
fn a_master_without_a_store_is_fenced_within_its_lease_and_opened_again_after() {
    let hosts = Hosts::adopted(&Settings::default());
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let writer = Writer::pinned("pinned", master.server.address);
    writer.until_acked_by(master.server.address, 50);
    let term = hosts.term(master);
    let cut = Instant::now();
    for member in 0..hosts.etcd.size() {
        hosts.etcd.stop(member);
    }
    let closed = soon(LEASE, || (!master.server.is_master()).then(Instant::now));
    let closed = closed.unwrap_or_else(|| panic!("never fenced\n{}", master.agent.tail()));
    assert!(closed - cut <= LEASE, "fenced after {:?}", closed - cut);
    for host in &hosts.hosts {
        host.agent.until_name(MASTER, &[], LEASE);
    }
    let last = writer.acks().iter().map(|ack| ack.acked).max().expect("it wrote");
    assert!(last - cut <= LEASE, "acknowledged {:?} after the store was gone", last - cut);
    let resumed = Instant::now();
    for member in 0..hosts.etcd.size() {
        hosts.etcd.resume(member);
    }
    let (address, new) =
        until("somebody is named again", LATER * 3, || match reader.agent.addresses(MASTER)[..] {
            [one] => Some((one, Instant::now())),
            _ => None,
        });
    println!(
        "fenced after {} ms, {address} named {} ms after the store was back",
        (closed - cut).as_millis(),
        (new - resumed).as_millis()
    );
    assert!(hosts.term(reader) > term, "it goes on under a later term");
}

#[test]
fn an_agent_that_is_restarted_closes_nothing() {
    let mut hosts = Hosts::adopted(&Settings::default());
    let address = hosts.hosts[0].server.address;
    let writer = Writer::pinned("pinned", address);
    writer.until_acked_by(address, 50);
    let term = hosts.term(&hosts.hosts[0]);
    hosts.hosts[0].agent.restart();
    let since = Instant::now();
    until("a lease has passed", LEASE * 2, || (since.elapsed() > LEASE).then_some(()));
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    hosts.until_named(reader, master, SOON);
    assert_eq!(hosts.term(reader), term, "{}", master.agent.tail());
    let gap = gap(&writer.end());
    assert!(gap < Duration::from_secs(1), "no write gap: {gap:?}");
}

#[test]
fn a_host_without_databases_names_the_master_and_never_beats() {
    let settings = Settings { count: 2, ..Settings::default() };
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
