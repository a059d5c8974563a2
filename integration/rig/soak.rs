//! Episode after episode, until the time is over or one is not clean.
//!
//! Servers begin anew after some episodes: each one is judged by logs that grow with all before,
//! and what is kept on disk does too.

use std::collections::BTreeMap;
use std::time::Instant;

use super::cluster::{Cluster, Timing};
use super::episode::{self, Pace};
use super::isolation::Tally;
use super::member::Member;
use super::staged::Staged;

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What faults are drawn from.
    pub seed: u64,
    /// The first episode.
    pub from: u32,
    /// So many at most.
    pub episodes: Option<u32>,
    /// This fault alone.
    pub only: Option<Staged>,
    /// How often clients write.
    pub pace: Pace,
    /// No episode begins after this.
    pub ends: Instant,
}

/// So many episodes on the same servers.
const FRESH: u32 = 8;

/// Plays it on such servers, and tells of each episode.
///
/// # Errors
/// With the first that is not clean, and what was played before it.
pub fn play<S: Member>(
    kind: &S::Kind,
    plan: &Plan,
    mut told: impl FnMut(String),
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    let last = plan.episodes.map_or(u32::MAX, |episodes| plan.from.saturating_add(episodes));
    let mut servers: Option<Cluster<S>> = None;
    for number in plan.from..last {
        if Instant::now() >= plan.ends {
            break;
        }
        let began = Instant::now();
        if (number - plan.from).is_multiple_of(FRESH) {
            tally.end();
            // The old ones end before others begin.
            servers = None;
        }
        let make = || Cluster::on_disks(kind.clone(), Timing::USUAL);
        let cluster = servers.get_or_insert_with(make);
        let played = episode::play(cluster, plan.seed, number, plan.only, plan.pace);
        let (schedule, report) = played.map_err(|wrong| format!("{wrong}\n{tally}\n{kinds:?}"))?;
        told(format!("{schedule} {report} ({:.1} s)", began.elapsed().as_secs_f64()));
        for deed in &schedule.deeds {
            let kind = format!("{:?}", deed.fault);
            *kinds.entry(kind.split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        tally.add(&report);
    }
    tally.end();
    told(format!("faults: {kinds:?}"));
    Ok(tally)
}
