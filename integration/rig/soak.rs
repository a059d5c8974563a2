//! Episode after episode on one cluster, until the time is over or one is not clean.

use std::collections::BTreeMap;
use std::time::Instant;

use super::cluster::Cluster;
use super::episode;
use super::fault::Only;
use super::isolation::Tally;
use super::member::Member;

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
    pub only: Option<Only>,
    /// No episode begins after this.
    pub ends: Instant,
}

/// Plays it, and tells of each episode.
///
/// # Errors
/// With the first that is not clean, and what was played before it.
pub fn play<S: Member>(
    cluster: &mut Cluster<S>,
    plan: &Plan,
    mut told: impl FnMut(String),
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    let last = plan.episodes.map_or(u32::MAX, |episodes| plan.from.saturating_add(episodes));
    for number in plan.from..last {
        if Instant::now() >= plan.ends {
            break;
        }
        let began = Instant::now();
        let played = episode::play(cluster, plan.seed, number, plan.only);
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
