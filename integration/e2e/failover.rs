//! The master fails; somebody else serves, and never two at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use integration::rig::redis::Setup;
use integration::rig::trio::{MASTER, PORT, SERVICE};
use integration::rig::writer::{assert_one_master_at_a_time, gap};
use integration::rig::{Flavour, Settings, Supervision, Trio, Watcher, Writer, wait};

use crate::{LATER, SOON};

fn following(trio: &Trio) -> Writer {
    Writer::following("following", trio.agent.dns, MASTER, PORT)
}

fn killed_master_under_clients(settings: &Settings) {
    let trio = Trio::adopted(settings);
    let [old, ..] = &trio.servers[..] else { panic!("three servers") };
    let watcher = Watcher::start(trio.agent.dns, MASTER);
    let pinned = Writer::pinned("pinned", old.address);
    let following = following(&trio);
    pinned.until_acked_by(old.address, 50);
    following.until_acked_by(old.address, 50);

    let killed = Instant::now();
    old.kill();
    let new = trio.until_other(old, SOON);
    following.until_acked_by(new.address, 50);
    trio.until_followed(new, LATER);

    assert_eq!(watcher.masters(), [old.address.ip(), new.address.ip()]);
    let seen = watcher.seen();
    let withdrawn = seen
        .iter()
        .any(|(at, answer)| *at >= killed && answer.as_deref().is_some_and(<[_]>::is_empty));
    assert!(withdrawn, "no empty answer between the two masters: {seen:?}");
    let named = watcher.named(new.address.ip(), killed).expect("it was named");
    assert!(named - killed < SOON, "named after {:?}", named - killed);

    let acks = [pinned.end(), following.end()].concat();
    assert_one_master_at_a_time(&[old.address, new.address], &acks);
    assert_eq!(trio.writable().len(), 1);

    let history = trio.agent.sengu(&["history", SERVICE]).good().out;
    for words in ["process", new.name.as_str(), "serving"] {
        assert!(history.contains(words), "`{words}` is not in:\n{history}");
    }
    let json = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(json[0]["to"], new.name.as_str(), "{json:#}");
    assert_eq!(json[0]["cause"], "process-exited", "{json:#}");
}

#[test]
fn a_killed_master_is_replaced_within_two_seconds_under_clients() {
    killed_master_under_clients(&Settings::default());
}

#[test]
fn a_killed_valkey_master_is_replaced_within_two_seconds_under_clients() {
    let server = Setup { flavour: Flavour::valkey(), ..Setup::default() };
    killed_master_under_clients(&Settings { server, ..Settings::default() });
}

#[test]
fn an_old_master_that_comes_back_follows_the_new_one() {
    let trio = Trio::adopted(&Settings::default());
    let old = &trio.servers[0];
    old.kill();
    let new = trio.until_other(old, SOON);
    old.restart();
    trio.until_followed(new, LATER);
    trio.until_master(new, SOON);
    assert_eq!(trio.writable(), [new.address]);
}

fn restarted_by_a_supervisor(supervision: Supervision) {
    let server = Setup { durable: true, ..Setup::default() };
    let service = format!("failover = \"auto\"\n{}", Settings::NO_COOLDOWN);
    let trio = Trio::adopted(&Settings { server, service, ..Settings::default() });
    let old = &trio.servers[0];
    let watcher = Watcher::start(trio.agent.dns, MASTER);
    let following = following(&trio);
    following.until_acked_by(old.address, 100);
    let copied = trio.until("the replicas have something", LATER, || {
        let lengths = trio.servers[1..].iter().map(|server| server.list("following").len());
        lengths.min().filter(|least| *least >= 50)
    });

    old.supervise(supervision);
    old.kill();
    trio.until("the supervisor has started it again", SOON, || (old.starts() > 1).then_some(()));
    let restarted = Instant::now();
    let master = trio.until("a master is named again", LATER, || {
        let seen = watcher.seen();
        let (at, answer) = seen.last()?;
        let named = *at >= restarted && answer.as_deref().is_some_and(|named| named.len() == 1);
        named.then(|| trio.named()).flatten()
    });
    trio.until_followed(master, LATER);
    assert_eq!(trio.writable(), [master.address]);
    for server in &trio.servers {
        let have = server.list("following").len();
        assert!(have >= copied, "{} was wiped: {have} of {copied}", server.name);
    }
    if supervision == Supervision::RestartEmptied {
        assert_ne!(master.address, old.address, "the emptied one won");
    }
    let order: Vec<SocketAddr> = vec![old.address, master.address];
    assert_one_master_at_a_time(&order, &following.end());
}

#[test]
fn a_master_that_a_supervisor_restarts_with_its_data_wipes_nobody() {
    restarted_by_a_supervisor(Supervision::Restart);
}

#[test]
fn a_master_that_a_supervisor_restarts_emptied_wipes_nobody() {
    restarted_by_a_supervisor(Supervision::RestartEmptied);
}

#[test]
fn a_stopped_master_is_ended_and_acknowledges_nothing_when_it_wakes() {
    let trio = Trio::adopted(&Settings::service("failover = \"auto\"\nhung_after = \"1s\"\n"));
    let old = &trio.servers[0];
    let pinned = Writer::pinned("pinned", old.address);
    pinned.until_acked_by(old.address, 50);
    let mut queued: Vec<_> = (0..10).map(|_| old.connect()).collect();
    old.stop();
    for connection in &mut queued {
        connection.send(&["RPUSH", "queued", "x"]).expect("the kernel takes it");
    }
    let new = trio.until_other(old, LATER);
    old.resume();
    trio.until("the stopped process is gone", SOON, || old.exited().then_some(()));
    for connection in &mut queued {
        let answer = connection.read();
        assert!(answer.is_err(), "a queued write was acknowledged: {answer:?}");
    }
    let following = following(&trio);
    following.until_acked_by(new.address, 20);
    let acks = [pinned.end(), following.end()].concat();
    assert_one_master_at_a_time(&[old.address, new.address], &acks);
    let json = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(json[0]["cause"], "hung", "{json:#}");
}

#[test]
fn a_master_that_is_busy_in_a_script_is_not_moved() {
    let trio = Trio::adopted(&Settings::service("failover = \"auto\"\nhung_after = \"1s\"\n"));
    let master = &trio.servers[0];
    master.ask(&["CONFIG", "SET", "busy-reply-threshold", "100"]);
    let mut busy = master.connect();
    busy.send(&["EVAL", "while true do end", "0"]).expect("sent");
    // Far longer than `hung_after`.
    let stays = wait::holds(Duration::from_secs(4), || !trio.servers[1].is_master());
    assert!(stays, "a busy master was replaced\n{}", trio.agent.tail());
    assert!(!master.exited(), "a busy master was ended\n{}", trio.agent.tail());
    master.ask(&["SCRIPT", "KILL"]);
    trio.until_master(master, SOON);
    let history = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(history.as_array().map(Vec::len), Some(1), "{history:#}");
}

#[test]
fn the_copy_that_has_most_wins_whatever_its_priority() {
    let instances = vec![String::new(), "priority = 1\n".into(), "priority = 50\n".into()];
    let trio = Trio::adopted(&Settings { instances, ..Settings::default() });
    let [old, behind, ahead] = &trio.servers[..] else { panic!("three servers") };
    // The preferred one reads nothing from here on; its socket holds far less than this.
    behind.stop();
    let value = "x".repeat(2 << 20);
    for _ in 0..20 {
        old.ask(&["RPUSH", "list", &value]);
    }
    trio.until("the other one has all", SOON, || (ahead.list("list").len() == 20).then_some(()));
    old.kill();
    behind.resume();
    let new = trio.until_other(old, LATER);
    assert_eq!(new.name, ahead.name);
    assert_eq!(new.list("list").len(), 20);
    trio.until_followed(new, LATER);
}

#[test]
fn without_automatic_failover_the_name_goes_and_a_person_moves_it() {
    let trio = Trio::adopted(&Settings::service("failover = \"manual\"\n"));
    let old = &trio.servers[0];
    // A second look, so that its file was surely read.
    let position = |status: &serde_json::Value| status["instances"][0]["position"].clone();
    let first = position(&trio.agent.status(SERVICE));
    old.ask(&["SET", "key", "value"]);
    trio.agent.until_status(SERVICE, "cache1 was looked at again", LATER, |status| {
        position(status) != first
    });
    old.kill();
    trio.agent.until_name(MASTER, &[], SOON);
    let moved = wait::holds(SOON, || trio.writable().is_empty());
    assert!(moved, "it was moved without being asked");
    trio.agent.sengu(&["failover", SERVICE, "--wait", "10"]).good();
    let new = trio.until_other(old, SOON);
    old.restart();
    trio.until_followed(new, LATER);
}

#[test]
fn failovers_in_a_row_keep_one_master_and_a_short_gap() {
    let service = format!("failover = \"auto\"\n{}", Settings::NO_COOLDOWN);
    let trio = Trio::adopted(&Settings::service(&service));
    let following = following(&trio);
    let watcher = Watcher::start(trio.agent.dns, MASTER);
    let mut order = vec![trio.servers[0].address];
    for _ in 0..4 {
        let old = trio.server(&trio.named().expect("a master").name);
        following.until_acked_by(old.address, 20);
        old.kill();
        let new = trio.until_other(old, SOON);
        order.push(new.address);
        old.restart();
        trio.until_followed(new, LATER);
    }
    let acks = following.end();
    let ips: Vec<_> = order.iter().map(SocketAddr::ip).collect();
    assert_eq!(watcher.masters(), ips);
    assert!(gap(&acks) < SOON, "{:?} without a master", gap(&acks));
}
