//! The host of the master is cut off, with clients on both sides: no two masters acknowledge.
//!
//! Three hosts with a network between them and a member of etcd on each. Each round cuts the
//! master's host off, clients of all kinds on either side; another host takes over; the cut is
//! mended and the old master follows. Each round is judged by the checker.
//! `SENGU_ISOLATION_ROUNDS` sets how many there are.

use std::time::Duration;

use integration::checker::{Report, judge};
use integration::rig::cluster::{Cluster, Member, Sql};
use integration::rig::mysql::{Flavour, Mysql};
use integration::rig::network::Quality;
use integration::rig::recorder::{Client, Recorder};
use integration::rig::redis::{self, Redis};
use integration::rig::scene::Server;

/// Rounds without `SENGU_ISOLATION_ROUNDS`.
const ROUNDS: u32 = 2;
/// A lease, an election and a promotion, on a machine that does much else.
const MOVED: Duration = Duration::from_secs(40);
/// Until the old master follows.
const REST: Duration = Duration::from_secs(60);
/// How long a cached client keeps an answer.
const KEEP: Duration = Duration::from_secs(3);

fn rounds() -> u32 {
    let asked = std::env::var("SENGU_ISOLATION_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// One round: the master's host is cut off, and comes back.
fn round<S: Member>(cluster: &Cluster<S>, number: u32) -> Report {
    let master = cluster.until_steady(REST);
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
    let ip = cluster.nodes[master].server.address().ip();
    assert!(recorder.soon_acked_by(ip, 30, MOVED), "nobody writes\n{}", cluster.explain());
    recorder.fault(format!("the host of {} is cut off", cluster.nodes[master].server.name()));
    cluster.network.isolate(&[cluster.nodes[master].number], Quality::CUT);
    let new = cluster.until_other(other, master, MOVED);
    let ip = cluster.nodes[new].server.address().ip();
    assert!(recorder.soon_acked_by(ip, 30, MOVED), "nobody writes\n{}", cluster.explain());
    cluster.network.heal();
    let report = judge(&recorder.end(cluster, REST));
    assert!(report.verdicts.is_empty(), "round {number}: {report}\n{}", cluster.explain());
    report
}

/// Every round, and what they come to.
fn isolations<S: Member>(kind: S::Kind, rounds: u32) {
    let cluster = Cluster::<S>::adopted(kind);
    let reports: Vec<Report> = (0..rounds).map(|number| round(&cluster, number)).collect();
    let most = |value: fn(&Report) -> i64| reports.iter().map(value).max().unwrap_or_default();
    println!(
        "{}: {rounds} isolations, {} writes, {} gone, worst write gap {} ms, worst staleness {} ms, \
         {} answers",
        reports.first().map_or("", |report| &report.service),
        reports.iter().map(|report| report.writes).sum::<usize>(),
        reports.iter().map(|report| report.gone).sum::<usize>(),
        most(|report| report.worst_gap) / 1000,
        most(|report| report.worst_staleness) / 1000,
        reports.iter().map(|report| report.looks).sum::<u64>(),
    );
}

#[test]
fn an_isolated_redis_master_acknowledges_nothing_after_the_next_one() {
    isolations::<Redis>(redis::Flavour::Redis, rounds());
}

#[test]
fn an_isolated_valkey_master_acknowledges_nothing_after_the_next_one() {
    isolations::<Redis>(redis::Flavour::valkey(), rounds().min(1));
}

#[test]
fn an_isolated_mariadb_master_acknowledges_nothing_after_the_next_one() {
    isolations::<Mysql>(Sql { flavour: Flavour::MariaDb, lossless: true }, rounds().min(1));
}
