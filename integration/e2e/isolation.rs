//! The host of the master is cut off, with clients on both sides: no two masters acknowledge.
//!
//! `SENGU_ISOLATION_ROUNDS` sets how many rounds there are.

use integration::rig::cluster::{Cluster, Timing};
use integration::rig::isolation::{Tally, round};
use integration::rig::member::Member;
use integration::rig::redis::{self, Redis};

fn rounds(otherwise: u32) -> u32 {
    let asked = std::env::var("SENGU_ISOLATION_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn isolations<S: Member>(kind: S::Kind, rounds: u32) {
    let cluster = Cluster::<S>::adopted(kind, Timing::SHORT);
    let mut tally = Tally::default();
    for number in 0..rounds {
        match round(&cluster, number) {
            Ok(report) => tally.add(&report),
            Err(wrong) => panic!("{wrong}"),
        }
    }
    println!("{tally}");
}

#[test]
fn an_isolated_redis_master_acknowledges_nothing_after_the_next_one() {
    isolations::<Redis>(redis::Flavour::Redis, rounds(2));
}
