//! The etcd that several hosts share: its leaders die and stop, and nothing moves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use integration::rig::etcd::TREE;
use integration::rig::hosts::{Hosts, Settings};
use integration::rig::trio::{self, MASTER, SERVICE};
use integration::rig::writer::gap;
use integration::rig::{Agent, Place, Process, Redis, Watcher, Writer, http, tree, until};

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

/// One member alone, of this release; what an earlier one left is its data.
fn lone(place: &Place, program: &Path) -> Process {
    let folder = place.path("lone");
    fs::create_dir_all(&folder).expect("its folder can be made");
    let [client, peer] = [2379, 2380].map(|port| format!("http://{}", place.socket(101, port)));
    let command = [
        program.display().to_string(),
        "--name=m0".into(),
        format!("--data-dir={}", folder.join("data").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=m0={peer}"),
        "--logger=zap".into(),
    ];
    Process::start(&folder, command.to_vec(), |_| ())
}

/// Debian's etcd, in a copy that gives itself out for an older release.
fn older(place: &Place) -> PathBuf {
    let mut program = fs::read("/usr/bin/etcd").expect("Debian's etcd is installed");
    let (own, told) = (b"3.4.23", b"3.4.20");
    let at: Vec<_> = program.windows(own.len()).enumerate().filter(|(_, it)| it == own).collect();
    let [(at, _)] = at[..] else { panic!("its release stands {} times in it", at.len()) };
    program[at..at + told.len()].copy_from_slice(told);
    let path = place.path("older-etcd");
    fs::write(&path, program).expect("it can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).expect("it can be run");
    path
}

/// Its services' names, keys and nodes are unknown to it, which is not the same as that there are
/// none: clients keep what they had.
#[test]
fn an_agent_that_was_never_answered_by_its_store_says_nothing_of_what_there_is() {
    let place = Place::claim();
    let agent = Agent::start(&place, &config(&place));
    let asked = ["/v1/kv/app/x", "/v1/catalog/services", "/v1/health/service/any"];
    for path in asked {
        let answer = http::get(agent.http, path).expect("it answers");
        assert_eq!((answer.status, answer.body.as_str()), (500, "No cluster leader"), "{path}");
    }
    let told = agent.sengu(&["dns", MASTER]).all();
    assert!(told.contains("Server Failure"), "{told}");
    let _store = lone(&place, Path::new("/usr/bin/etcd"));
    until("the store was read", LATER, || {
        let status = |path: &&str| http::get(agent.http, path).map(|answer| answer.status).ok();
        (asked.iter().map(status).eq([Some(404), Some(200), Some(200)])).then_some(())
    });
    let told = agent.sengu(&["dns", MASTER]).all();
    assert!(!told.contains("Server Failure"), "{told}");
}

/// An agent with one instance, whose store is one member alone.
fn config(place: &Place) -> String {
    format!(
        "{}[store]\nkind = \"etcd\"\nendpoints = [\"http://{}\"]\n\
         [service.{SERVICE}]\nkind = \"redis\"\nfailover = \"auto\"\n\
         [service.{SERVICE}.instance.cache1]\naddress = \"{}\"\n",
        Agent::head(place),
        place.socket(101, 2379),
        place.socket(1, 6379),
    )
}

/// A member is replaced by an older release with a grave defect, and that by a newer one: the agent
/// that runs says so, and goes on.
#[test]
fn a_member_that_is_replaced_by_another_release_is_noticed() {
    let place = Place::claim();
    let older = older(&place);
    let newer = tree::find(TREE, "etcd", "usr/bin/etcd").join("usr/bin/etcd");
    let first = lone(&place, Path::new("/usr/bin/etcd"));
    let mut agent = Agent::start(&place, &config(&place));
    let pid = agent.pid();
    let doctor = |agent: &Agent| agent.sengu(&["doctor"]).all();
    until("the doctor names the release", LATER, || {
        doctor(&agent).contains("etcd 3.4.23").then_some(())
    });

    drop(first);
    let second = lone(&place, &older);
    until("the doctor names the older one", LATER * 3, || {
        let told = doctor(&agent);
        (told.contains("etcd 3.4.20: members can come to differ")
            && told.contains("no agent with `failover = \"auto\"` starts on it"))
        .then_some(())
    });
    agent.until_logged("this release of etcd is no judge for failover", SOON);
    let told = agent.sengu(&["status"]).good().out;
    assert!(told.contains("runs etcd 3.4.20"), "{told}");
    assert_eq!((agent.wait_ended(Duration::ZERO), agent.pid()), (None, pid), "it goes on");
    agent.relaunch();
    let ended = agent.wait_ended(LATER * 2).expect("it is refused at its next start");
    assert!(!ended.success(), "{ended}\n{}", agent.tail());

    drop(second);
    let third = lone(&place, Path::new("/usr/bin/etcd"));
    agent.restart();
    drop(third);
    let _fourth = lone(&place, &newer);
    until("the doctor has nothing to say", LATER * 3, || {
        (!doctor(&agent).contains("runs etcd")).then_some(())
    });
    assert!(!agent.sengu(&["status"]).good().out.contains("runs etcd"));
}
