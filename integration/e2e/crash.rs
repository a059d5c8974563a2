//! The agent is killed at any moment of a move and started again: the move is finished or undone,
//! and no two servers acknowledge writes.
//!
//! `SENGU_CRASH_ROUNDS` sets how often, `SENGU_CRASH_SEED` which moments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use integration::rig::redis::Redis;
use integration::rig::trio::{MASTER, PORT, SERVICE};
use integration::rig::writer::{is_within, lost, reigns};
use integration::rig::{Settings, Trio, Watcher, Writer, agent};

use crate::{LATER, SOON};

/// Numbers that look random (xorshift), from a seed that is told.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let told = std::env::var("SENGU_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map(|at| at.subsec_nanos());
        let seed = told.unwrap_or_else(|| u64::from(clock().unwrap_or_default()) | 1);
        println!("{test}: SENGU_CRASH_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn rounds() -> u64 {
    std::env::var("SENGU_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn quick() -> Settings {
    let service = format!(
        "failover = \"auto\"\ninterval = \"200ms\"\ntimeout = \"200ms\"\n{}",
        Settings::NO_COOLDOWN
    );
    Settings::service(&service)
}

/// A client at each server, and one that follows the name.
fn clients(trio: &Trio) -> Vec<Writer> {
    let pinned = trio.servers.iter().map(|server| Writer::pinned(&server.name, server.address));
    let following = Writer::following("following", trio.agent.dns, MASTER, PORT);
    pinned.chain([following]).collect()
}

fn kill_agent_after(trio: &mut Trio, moment: Duration) {
    // Not a wait for anything: the moment at which it dies is what the test draws.
    std::thread::sleep(moment);
    trio.agent.kill();
    trio.agent.relaunch();
}

#[test]
fn an_agent_that_dies_in_failovers_finishes_them_and_never_has_two_masters() {
    let mut random = Random::new("failovers");
    let mut trio = Trio::adopted(&quick());
    let clients = clients(&trio);
    for _ in 0..rounds() {
        let old = trio.named().expect("a master").name.clone();
        clients[3].until_acked_by(trio.server(&old).address, 10);
        trio.server(&old).kill();
        kill_agent_after(&mut trio, Duration::from_micros(random.below(60_000)));
        trio.agent.wait_answering();
        let old = trio.server(&old);
        trio.until_other(old, LATER);
        old.restart();
        trio.until_steady(LATER);
    }
    let acks: Vec<_> = clients.into_iter().flat_map(Writer::end).collect();
    let (reigns, masters) = (reigns(&acks), trio.masters());
    assert!(is_within(&reigns, &masters), "{reigns:?} wrote, {masters:?} were masters");
}

#[test]
fn an_agent_that_dies_in_switchovers_finishes_or_undoes_them_and_loses_nothing() {
    let mut random = Random::new("switchovers");
    let mut trio = Trio::adopted(&quick());
    let clients = clients(&trio);
    let watcher = Watcher::start(trio.agent.dns, MASTER);
    let mut moved = 0;
    for _ in 0..rounds() {
        let old = trio.until_steady(LATER).address;
        clients[3].until_acked_by(old, 10);
        let config = trio.agent.config.clone();
        let words = ["switchover", SERVICE, "--wait", "10"];
        let asking = std::thread::spawn(move || agent::sengu(&config, &words));
        kill_agent_after(&mut trio, Duration::from_micros(random.below(80_000)));
        asking.join().expect("the command can be run");
        trio.agent.wait_answering();
        let new = trio.until_steady(LATER).address;
        moved += u32::from(new != old);
    }
    println!("{moved} of {} were finished, the others undone", rounds());
    let master = trio.until_steady(LATER);
    let acks: Vec<Vec<_>> = clients.into_iter().map(Writer::end).collect();
    let all = acks.concat();
    let (reigns, masters) = (reigns(&all), trio.masters());
    assert!(is_within(&reigns, &masters), "{reigns:?} wrote, {masters:?} were masters");
    let keys = trio.servers.iter().map(|server| server.name.as_str()).chain(["following"]);
    for (key, acks) in keys.zip(&acks) {
        assert_eq!(lost(acks, &master.list(key)), [0_u64; 0], "of {key}");
    }
    drop(watcher.masters());
}

#[test]
fn an_agent_that_dies_alone_leaves_the_master_open_and_finds_it_again() {
    let mut trio = Trio::adopted(&Settings::default());
    let name = trio.servers[0].name.clone();
    let term = trio.agent.status(SERVICE)["term"].clone();
    let following = Writer::pinned("pinned", trio.servers[0].address);
    following.until_acked_by(trio.servers[0].address, 20);
    trio.agent.kill();
    let before = following.acks().len();
    following.until_acked_by(trio.servers[0].address, before + 50);
    trio.agent.restart();
    trio.until_master(trio.server(&name), SOON);
    assert_eq!(trio.agent.status(SERVICE)["term"], term);
    trio.until_steady(LATER);
}

#[test]
fn an_agent_stalled_for_ten_seconds_beside_a_living_master_moves_nothing() {
    let mut trio = Trio::adopted(&Settings::default());
    let (name, address) = (trio.servers[0].name.clone(), trio.servers[0].address);
    let term = trio.agent.status(SERVICE)["term"].clone();
    let following = Writer::pinned("pinned", address);
    trio.until_settled(LATER);
    trio.agent.signal(rustix::process::Signal::STOP);
    let before = following.acks().len();
    std::thread::sleep(Duration::from_secs(10));
    assert!(following.acks().len() > before, "the master lives");
    trio.agent.signal(rustix::process::Signal::CONT);
    let same = integration::rig::wait::holds(SOON * 3, || {
        trio.named().is_none_or(|named| named.address == address)
    });
    assert!(same, "another was named");
    trio.until_master(trio.server(&name), SOON);
    assert_eq!(trio.agent.status(SERVICE)["term"], term, "no needless move");
    assert_eq!(trio.writable(), [address]);
}

#[test]
fn a_master_that_fails_while_the_agent_is_away_is_replaced_when_it_is_back() {
    let mut trio = Trio::adopted(&Settings::default());
    let name = trio.servers[0].name.clone();
    trio.agent.kill();
    trio.server(&name).kill();
    trio.agent.restart();
    let new = trio.until_other(trio.server(&name), LATER);
    trio.server(&name).restart();
    trio.until_followed(new, LATER);
    assert_eq!(trio.writable(), [new.address]);
}

#[test]
fn a_master_that_was_restarted_while_the_agent_was_away_is_judged_like_any_copy() {
    let mut trio = Trio::adopted(&Settings::default());
    let ask = |server: &Redis, number: u32| server.ask(&["RPUSH", "list", &number.to_string()]);
    for number in 0..10 {
        ask(&trio.servers[0], number);
    }
    trio.until("the copies have all", SOON, || {
        trio.servers[1..].iter().all(|server| server.list("list").len() == 10).then_some(())
    });
    trio.agent.kill();
    trio.servers[0].restart_emptied();
    trio.agent.restart();
    let master = trio.until_steady(LATER);
    assert_ne!(master.name, "cache1", "the emptied one won");
    assert_eq!(master.list("list").len(), 10);
}
