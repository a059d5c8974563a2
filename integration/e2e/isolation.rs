//! The host of the master is cut off from all others or from the store alone, with clients on both
//! sides: no two masters acknowledge. And a minute of random faults.
//!
//! `SENGU_ISOLATION_ROUNDS` sets how many rounds there are.

use std::time::{Duration, Instant};

use integration::rig::cluster::{Cluster, Timing};
use integration::rig::episode::Pace;
use integration::rig::isolation::{From, Tally, round};
use integration::rig::member::{Member, Sql};
use integration::rig::mysql::{self, Mysql};
use integration::rig::redis::{self, Redis};
use integration::rig::soak::{self, Plan};

fn rounds(otherwise: u32) -> u32 {
    let asked = std::env::var("SENGU_ISOLATION_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn isolations<S: Member>(kind: S::Kind, from: From, rounds: u32) {
    let mut cluster = Cluster::<S>::adopted(kind, Timing::SHORT);
    let mut tally = Tally::default();
    for number in 0..rounds {
        match round(&mut cluster, from, number) {
            Ok(report) => tally.add(&report),
            Err(wrong) => panic!("{wrong}"),
        }
    }
    println!("{tally}");
}

#[test]
fn an_isolated_redis_master_acknowledges_nothing_after_the_next_one() {
    isolations::<Redis>(redis::Flavour::Redis, From::All, rounds(2));
}

#[test]
fn a_redis_master_whose_host_does_not_reach_the_store_is_fenced_and_replaced() {
    isolations::<Redis>(redis::Flavour::Redis, From::Store, rounds(1));
}

/// The minute's form of the soak: some episodes of one seed, one service after the other. The first
/// episode of each comes whatever the time is; no other begins after half a minute.
fn random_faults<S: Member>(kind: &S::Kind, seed: u64) {
    let ends = Instant::now() + Duration::from_secs(30);
    let (from, episodes) = (0, Some(EPISODES));
    let plan = Plan { seed, from, episodes, only: None, pace: Pace::Usual, ends };
    match soak::play::<S>(kind, &plan, |told| println!("{told}")) {
        Ok(tally) => println!("{tally}"),
        Err(wrong) => panic!("{wrong}"),
    }
}

/// Of each service.
const EPISODES: u32 = 4;

/// What it costs: two clusters after each other, each with three servers, three agents and an etcd
/// of three, about 25 s each; while it runs, most of a processor is taken by clients and readers.
#[test]
fn a_minute_of_random_faults_on_redis_and_mariadb_is_clean() {
    random_faults::<Redis>(&redis::Flavour::Redis, 1);
    random_faults::<Mysql>(&Sql { flavour: mysql::Flavour::MariaDb, lossless: false }, 2);
}
