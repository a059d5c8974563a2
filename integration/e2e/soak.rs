//! Random faults on all databases at once for a minute, judged by the checker.
//!
//! `SENGU_SOAK_SEED` sets what faults are drawn from; the seed and what was played are printed.

use std::thread;
use std::time::{Duration, Instant};

use integration::rig::cluster::{Cluster, Timing};
use integration::rig::member::{Member, Sql};
use integration::rig::mysql::{self, Mysql};
use integration::rig::redis::{self, Redis};
use integration::rig::soak::{self, Plan};

/// The last episode begins before that; it takes up to half a minute more.
const MINUTE: Duration = Duration::from_secs(40);

fn seed() -> u64 {
    let asked = std::env::var("SENGU_SOAK_SEED").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn faults<S: Member>(kind: S::Kind, ends: Instant) -> Result<(), String> {
    let mut cluster = Cluster::<S>::adopted(kind, Timing::USUAL);
    let plan = Plan { seed: seed(), from: 0, episodes: None, only: None, ends };
    let tally = soak::play(&mut cluster, &plan, |told| println!("{told}"))?;
    println!("clean: {tally}");
    Ok(())
}

#[test]
#[ignore = "four databases at once need a machine that does nothing else"]
fn random_faults_on_all_databases_at_once_break_no_promise() {
    let ends = Instant::now() + MINUTE;
    let lossless = Sql { flavour: mysql::Flavour::MariaDb, lossless: true };
    let bounded = Sql { flavour: mysql::Flavour::mysql(), lossless: false };
    let all = [
        thread::spawn(move || faults::<Redis>(redis::Flavour::Redis, ends)),
        thread::spawn(move || faults::<Redis>(redis::Flavour::valkey(), ends)),
        thread::spawn(move || faults::<Mysql>(lossless, ends)),
        thread::spawn(move || faults::<Mysql>(bounded, ends)),
    ];
    let outcomes = all.map(|one| one.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
    let wrong: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "seed {}: {}", seed(), wrong.join("\n"));
}
