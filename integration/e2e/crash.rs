//! The agent is killed at any moment of a move and started again: the move is finished or undone,
//! and no two servers acknowledge writes.
//!
//! `SENGU_CRASH_ROUNDS` sets how often, `SENGU_CRASH_SEED` which moments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use integration::rig::mysql::Flavour;
use integration::rig::redis::Redis;
use integration::rig::trio::SERVICE;
use integration::rig::writer::{is_within, lost, reigns};
use integration::rig::{
    Ack, Mysql, MysqlSettings, MysqlTrio, Scene, Server, Settings, Trio, Watcher, Writer, agent,
};

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

fn rounds(usual: u64) -> u64 {
    std::env::var("SENGU_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// What one client was told: its name and all acknowledgements.
type Told = (String, Vec<Ack>);

/// Servers of one kind for these tests.
trait Crashed: Server + Sized {
    /// A move takes about so long: the agent dies at some moment of it.
    const MOVE: Duration;
    /// Failovers in a row. An emptied copy replays everything: each round takes longer.
    const FAILOVERS: u64;
    /// Waits until the master may be lost.
    fn until_ready(scene: &Scene<Self>);
    /// Brings one that was the master back as a copy.
    fn bring_back(&self) {
        self.restart();
    }
    /// One master at a time, by what clients were told.
    fn judge(scene: &Scene<Self>, told: &[Told]) {
        let all: Vec<Ack> = told.iter().flat_map(|(_, acks)| acks.iter().copied()).collect();
        let (reigns, masters) = (reigns(&all), scene.masters());
        assert!(is_within(&reigns, &masters), "{reigns:?} wrote, {masters:?} were masters");
    }
    /// The same where no server lost what it knows: by their own logs, too.
    fn judge_all(scene: &Scene<Self>, told: &[Told]) {
        Self::judge(scene, told);
    }
}

impl Crashed for Redis {
    const MOVE: Duration = Duration::from_millis(80);
    const FAILOVERS: u64 = 5;

    fn until_ready(scene: &Scene<Self>) {
        scene.until_steady(LATER);
    }
}

impl Crashed for Mysql {
    const MOVE: Duration = Duration::from_millis(800);
    const FAILOVERS: u64 = 3;

    /// One that was emptied replays everything, and the writers never pause: it may be behind.
    fn until_ready(scene: &Scene<Self>) {
        scene.until_replaceable(LATER * 2);
    }

    /// With nothing: a commit that waited for its acknowledgement when it was killed is its own.
    fn bring_back(&self) {
        self.restart_renewed();
    }

    fn judge_all(scene: &Scene<Self>, told: &[Told]) {
        crate::mysql::judge(scene, &scene.masters(), told);
    }
}

fn redis() -> Trio {
    let service = format!(
        "failover = \"auto\"\ninterval = \"200ms\"\ntimeout = \"200ms\"\n{}",
        Settings::NO_COOLDOWN
    );
    Trio::adopted(&Settings::service(&service))
}

/// Without loss: what a client was told is on whoever takes over.
fn mysql(flavour: Flavour) -> MysqlTrio {
    let lossless = MysqlSettings::lossless(flavour);
    MysqlTrio::adopted(&lossless.with(MysqlSettings::NO_COOLDOWN))
}

/// A client at each server, and one that follows the name.
fn clients<S: Server>(scene: &Scene<S>) -> (Vec<Writer>, Writer) {
    let pinned = scene.servers.iter().map(|server| scene.pinned(server.name(), server.address()));
    (pinned.collect(), scene.following("following"))
}

fn ended((pinned, following): (Vec<Writer>, Writer)) -> Vec<Told> {
    let all = pinned.into_iter().chain([following]);
    all.map(|writer| (writer.key.clone(), writer.end())).collect()
}

fn kill_agent_within<S>(scene: &mut Scene<S>, random: &mut Random, most: Duration) {
    let most = u64::try_from(most.as_micros()).expect("a short time");
    // Not a wait for anything: the moment at which it dies is what the test draws.
    std::thread::sleep(Duration::from_micros(random.below(most)));
    scene.agent.kill();
    scene.agent.relaunch();
}

fn in_failovers<S: Crashed>(mut scene: Scene<S>, test: &str) {
    let mut random = Random::new(test);
    let clients = clients(&scene);
    for _ in 0..rounds(S::FAILOVERS) {
        S::until_ready(&scene);
        let old = scene.named().expect("a master").name().to_owned();
        let acked = clients.1.acked_by(scene.server(&old).address());
        clients.1.until_acked_by(scene.server(&old).address(), acked + 10);
        scene.server(&old).kill();
        kill_agent_within(&mut scene, &mut random, S::MOVE);
        scene.agent.wait_answering();
        let old = scene.server(&old);
        let new = scene.until_other(old, LATER).address();
        let acked = clients.1.acked_by(new);
        clients.1.until_acked_by(new, acked + 10);
        old.bring_back();
    }
    S::judge(&scene, &ended(clients));
}

#[test]
fn an_agent_that_dies_in_failovers_finishes_them_and_never_has_two_masters() {
    in_failovers(redis(), "failovers");
}

#[test]
fn an_agent_that_dies_in_failovers_of_mariadb_finishes_them_and_never_has_two_masters() {
    in_failovers(mysql(Flavour::MariaDb), "failovers of mariadb");
}

#[test]
fn an_agent_that_dies_in_failovers_of_mysql_finishes_them_and_never_has_two_masters() {
    in_failovers(mysql(Flavour::mysql()), "failovers of mysql");
}

fn in_switchovers<S: Crashed>(mut scene: Scene<S>, test: &str) {
    let mut random = Random::new(test);
    let clients = clients(&scene);
    let watcher = Watcher::start(scene.agent.dns, &Scene::<S>::master_name());
    let mut moved = 0;
    for _ in 0..rounds(5) {
        S::until_ready(&scene);
        let old = scene.until_steady(LATER).address();
        let acked = clients.1.acked_by(old);
        clients.1.until_acked_by(old, acked + 10);
        let config = scene.agent.config.clone();
        let asking = std::thread::spawn(move || {
            agent::sengu(&config, &["switchover", S::SERVICE, "--wait", "10"])
        });
        kill_agent_within(&mut scene, &mut random, S::MOVE);
        asking.join().expect("the command can be run");
        scene.agent.wait_answering();
        let new = scene.until_steady(LATER * 2).address();
        moved += u32::from(new != old);
    }
    println!("{moved} of {} were finished, the others undone", rounds(5));
    let master = scene.until_steady(LATER).name().to_owned();
    let told = ended(clients);
    S::judge_all(&scene, &told);
    for (key, acks) in &told {
        assert_eq!(lost(acks, &scene.server(&master).serials(key)), [0_u64; 0], "of {key}");
    }
    drop(watcher.masters());
}

#[test]
fn an_agent_that_dies_in_switchovers_finishes_or_undoes_them_and_loses_nothing() {
    in_switchovers(redis(), "switchovers");
}

#[test]
fn an_agent_that_dies_in_switchovers_of_mariadb_finishes_or_undoes_them_and_loses_nothing() {
    in_switchovers(mysql(Flavour::MariaDb), "switchovers of mariadb");
}

#[test]
fn an_agent_that_dies_in_switchovers_of_mysql_finishes_or_undoes_them_and_loses_nothing() {
    in_switchovers(mysql(Flavour::mysql()), "switchovers of mysql");
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
