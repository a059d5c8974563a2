//! The host of the master is cut off from all others or from the store alone, with clients on both
//! sides: no two masters acknowledge.
//!
//! `SENGU_ISOLATION_ROUNDS` sets how many rounds there are.

use integration::rig::cluster::{Cluster, Timing};
use integration::rig::isolation::{From, Tally, round};
use integration::rig::member::Member;
use integration::rig::redis::{self, Redis};

fn rounds(otherwise: u32) -> u32 {
    let asked = std::env::var("SENGU_ISOLATION_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn isolations<S: Member>(kind: S::Kind, from: From, rounds: u32) {
    let cluster = Cluster::<S>::adopted(kind, Timing::SHORT);
    let mut tally = Tally::default();
    for number in 0..rounds {
        match round(&cluster, from, number) {
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
