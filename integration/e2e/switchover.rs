//! Mastership is moved as planned: nothing that was acknowledged is lost, or nothing is done.

use integration::rig::redis::Setup;
use integration::rig::trio::{MASTER, PORT, SERVICE};
use integration::rig::writer::{assert_one_master_at_a_time, gap, lost};
use integration::rig::{Flavour, Settings, Trio, Watcher, Writer};

use crate::{LATER, SOON};

fn under_load(settings: &Settings) {
    let trio = Trio::adopted(settings);
    let [old, new, _] = &trio.servers[..] else { panic!("three servers") };
    let watcher = Watcher::start(trio.agent.dns, MASTER);
    let pinned = Writer::pinned("pinned", old.address);
    let following = Writer::following("following", trio.agent.dns, MASTER, PORT);
    pinned.until_acked_by(old.address, 100);
    following.until_acked_by(old.address, 100);

    trio.switchover(&["--to", &new.name]).good();
    following.until_acked_by(new.address, 100);
    trio.until_followed(new, LATER);

    let (pinned, following) = (pinned.end(), following.end());
    let gap = gap(&following);
    assert!(gap < SOON, "{gap:?} without an acknowledgement");
    assert_eq!(watcher.masters(), [old.address.ip(), new.address.ip()]);
    assert_one_master_at_a_time(
        &[old.address, new.address],
        &[pinned.clone(), following.clone()].concat(),
    );
    assert_eq!(lost(&pinned, &new.list("pinned")), [0_u64; 0]);
    assert_eq!(lost(&following, &new.list("following")), [0_u64; 0]);
    assert_eq!(trio.writable(), [new.address]);
    let history = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(history[0]["cause"], "switchover", "{history:#}");
}

#[test]
fn a_switchover_under_load_loses_nothing() {
    under_load(&Settings::default());
}

#[test]
fn a_switchover_of_valkey_under_load_loses_nothing() {
    let server = Setup { flavour: Flavour::valkey(), ..Setup::default() };
    under_load(&Settings { server, ..Settings::default() });
}

#[test]
fn ten_switchovers_in_a_row_lose_nothing() {
    let trio = Trio::adopted(&Settings::default());
    let following = Writer::following("following", trio.agent.dns, MASTER, PORT);
    let mut order = vec![trio.servers[0].address];
    for _ in 0..10 {
        let old = trio.server(&trio.named().expect("a master").name);
        following.until_acked_by(old.address, 10);
        trio.until_followed(old, LATER);
        trio.until_settled(LATER);
        trio.switchover(&[]).good();
        let new = trio.until_other(old, SOON);
        order.push(new.address);
    }
    let master = trio.named().expect("a master");
    following.until_acked_by(master.address, 1);
    let acks = following.end();
    assert_eq!(lost(&acks, &master.list("following")), [0_u64; 0]);
    let terms = trio.agent.status(SERVICE)["term"].clone();
    assert_eq!(terms, 11);
}

#[test]
fn a_target_with_priority_zero_is_refused_with_the_reason() {
    let instances = vec![String::new(), "priority = 0\n".into(), String::new()];
    let trio = Trio::adopted(&Settings { instances, ..Settings::default() });
    trio.switchover(&["--to", "cache2"]).refused("priority");
    trio.until_master(&trio.servers[0], SOON);
    trio.switchover(&[]).good();
    trio.until_master(&trio.servers[2], SOON);
}

/// `CLIENT PAUSE … WRITE` on a replica holds back what its master sends and nothing else: its link
/// stays up, it answers, and it falls behind.
#[test]
fn a_target_that_lags_is_refused_with_the_reason() {
    let trio = Trio::adopted(&Settings::service("max_lag = \"1s\"\n"));
    let [master, target, _] = &trio.servers[..] else { panic!("three servers") };
    let writer = Writer::pinned("lag", master.address);
    writer.until_acked_by(master.address, 10);
    target.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    trio.agent.until_status(SERVICE, "cache2 is seen behind", LATER, |status| {
        let problems = status["problems"].to_string();
        problems.contains("cache2 is far behind")
    });
    let told = trio.switchover(&["--to", "cache2"]).refused("s behind (limit 1 s)");
    assert!(told.err.contains("raise max_lag"), "{}", told.err);
    assert_eq!(trio.writable(), [master.address], "nothing was touched");

    target.ask(&["CLIENT", "UNPAUSE"]);
    trio.until_settled(LATER);
    trio.switchover(&["--to", "cache2"]).good();
    trio.until_master(target, SOON);
    assert_eq!(lost(&writer.end(), &target.list("lag")), [0_u64; 0]);
}

#[test]
fn a_target_that_does_not_follow_is_refused_with_the_reason() {
    let trio = Trio::adopted(&Settings::default());
    let [master, target, _] = &trio.servers[..] else { panic!("three servers") };
    target.stop();
    trio.agent.until_status(SERVICE, "cache2 is seen silent", LATER, |status| {
        status["instances"].as_array().is_some_and(|instances| {
            instances.iter().any(|at| at["instance"] == "cache2" && at["health"] != "up")
        })
    });
    let told = trio.switchover(&["--to", "cache2"]).refused("cache2");
    target.resume();
    assert!(told.err.lines().count() < 4, "{}", told.err);
    trio.until_master(master, SOON);
    assert_eq!(trio.writable(), [master.address]);
}

#[test]
fn a_target_that_is_unknown_or_master_already_is_refused() {
    let trio = Trio::adopted(&Settings::default());
    trio.switchover(&["--to", "cache9"]).refused("cache9");
    trio.switchover(&["--to", "cache1"]).refused("cache1");
    trio.agent.sengu(&["switchover", "no-such"]).refused("no-such");
}

#[test]
fn a_copy_under_way_is_refused_as_a_target() {
    let trio = Trio::adopted(&Settings::default());
    let [master, target, _] = &trio.servers[..] else { panic!("three servers") };
    // A full copy that takes a while: slow keys, and nothing left of the history.
    master.ask(&["CONFIG", "SET", "rdb-key-save-delay", "20000"]);
    for number in 0..200 {
        master.ask(&["SET", &format!("key{number}"), "x"]);
    }
    target.restart_emptied();
    trio.until("cache2 copies", LATER, || {
        (target.info("master_sync_in_progress") == "1").then_some(())
    });
    trio.switchover(&["--to", "cache2"]).refused("cache2");
    assert!(target.info("master_sync_in_progress") == "1", "the copy was over too early");
    master.ask(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    trio.until_master(master, SOON);
}

#[test]
fn a_rehearsal_changes_nothing() {
    let trio = Trio::adopted(&Settings::default());
    let before = trio.agent.status(SERVICE)["term"].clone();
    trio.agent.sengu(&["switchover", SERVICE, "--to", "cache2", "--dry-run"]).good();
    assert_eq!(trio.agent.status(SERVICE)["term"], before);
    trio.until_master(&trio.servers[0], SOON);
}
