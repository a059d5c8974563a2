//! The host of the master is cut off, from all others or from the store alone, with clients on both
//! sides, and comes back; judged by the checker, round by round.
//!
//! Three hosts with a network between them and a member of etcd on each. Clients of all kinds are
//! on either side of the cut; another host takes over, the cut is mended, and the old master
//! follows. A round that leaves the service unsteady ends the rounds.

use std::fmt;
use std::time::Duration;

use super::cluster::{Cluster, Node};
use super::member::Member;
use super::network::Quality;
use super::recorder::{Client, Recorder};
use super::soon;
use crate::checker::{Micros, Report, judge};

/// A lease, an election and a promotion, on a machine that does much else.
const MOVED: Duration = Duration::from_secs(40);
/// Until the old master follows.
const REST: Duration = Duration::from_secs(90);
/// How long a cached client keeps an answer.
const KEEP: Duration = Duration::from_secs(3);
/// Acknowledgements before the cut and after the move.
const SOME: usize = 30;

/// What many rounds come to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Which service.
    pub service: String,
    /// How many rounds.
    pub rounds: u32,
    /// How many moves there were.
    pub moves: usize,
    /// On the servers of now.
    own_moves: usize,
    /// Acknowledged writes.
    pub writes: usize,
    /// Acknowledged writes that are gone, as the terms said.
    pub gone: usize,
    /// Answers that were looked at.
    pub looks: u64,
    /// The longest time without an acknowledgement.
    pub worst_gap: Micros,
    /// The longest time for which one was named that did not serve.
    pub worst_staleness: Micros,
}

impl Tally {
    /// Adds a report.
    pub fn add(&mut self, report: &Report) {
        self.service.clone_from(&report.service);
        self.rounds += 1;
        // A history goes back to the adoption.
        self.own_moves = self.own_moves.max(report.moves);
        self.writes += report.writes;
        self.gone += report.gone;
        self.looks += report.looks;
        self.worst_gap = self.worst_gap.max(report.worst_gap);
        self.worst_staleness = self.worst_staleness.max(report.worst_staleness);
    }

    /// These servers are done with.
    pub fn end(&mut self) {
        self.moves += std::mem::take(&mut self.own_moves);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{}: {} rounds, {} moves, {} writes acknowledged, {} gone and said to be, worst write gap \
             {} ms, worst name staleness {} ms, {} answers",
            self.service,
            self.rounds,
            self.moves + self.own_moves,
            self.writes,
            self.gone,
            self.worst_gap / 1000,
            self.worst_staleness / 1000,
            self.looks
        )
    }
}

/// What a host is cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From all other hosts.
    All,
    /// From etcd: servers and clients reach each other as before.
    Store,
}

/// One round.
///
/// # Errors
/// If nobody takes over, nobody writes, or the checker finds something wrong.
pub fn round<S: Member>(
    cluster: &mut Cluster<S>,
    from: From,
    number: u32,
) -> Result<Report, String> {
    let wrong = |cluster: &Cluster<S>, what: String| {
        format!("round {number}: {what}\n{}", cluster.explain())
    };
    let master = cluster.soon_steady(REST);
    let master =
        master.ok_or_else(|| wrong(cluster, format!("not steady: {:?}", cluster.steady())))?;
    let applied = cluster.soon_applied(master, REST * 2);
    applied.ok_or_else(|| wrong(cluster, "copies do not apply all that was written".into()))?;
    let other = (master + 1) % cluster.nodes.len();
    let clients = [
        Client::Pinned(master, master),
        Client::Pinned(other, master),
        Client::Following(master),
        Client::Following(other),
        Client::Cached(master, KEEP),
        Client::Cached(other, KEEP),
    ];
    let mut recorder = Recorder::start(cluster, &format!("round{number}"), &clients);
    let acked = |recorder: &Recorder, node: usize| {
        let ip = cluster.nodes[node].server.address().ip();
        recorder.soon_acked_by(ip, SOME, MOVED)
    };
    if !acked(&recorder, master) {
        return Err(wrong(cluster, "nobody writes before the cut".into()));
    }
    let Node { server, number: host, .. } = &cluster.nodes[master];
    recorder.fault(format!("the host of {} is cut off from {from:?}", server.name()));
    match from {
        From::All => cluster.network.isolate(&[*host], Quality::CUT),
        From::Store => cluster.network.isolate_second(*host),
    }
    let new = soon(MOVED, || cluster.named_by(other).filter(|named| *named != master));
    let moved = new.is_some_and(|new| acked(&recorder, new));
    cluster.network.heal();
    recorder.healed();
    let report = judge(&recorder.end(cluster, REST));
    if !moved {
        return Err(wrong(cluster, format!("nobody took over\n{report}")));
    }
    if report.verdicts.is_empty() { Ok(report) } else { Err(wrong(cluster, report.to_string())) }
}
