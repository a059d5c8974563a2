//! An episode: faults of one schedule on a cluster under clients, then quiet, then the checker.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::cluster::Cluster;
use super::fault::{Deed, Fault, Schedule};
use super::member::Member;
use super::network::Quality;
use super::process::Supervision;
use super::recorder::{Client, Recorder};
use crate::checker::{Report, judge};

/// Until all is steady before and after.
const REST: Duration = Duration::from_secs(120);
/// How long a cached client keeps an answer.
const KEEP: Duration = Duration::from_secs(3);
/// Acknowledgements before the first fault.
const SOME: usize = 20;

/// Plays an episode; the schedule is drawn for the one that is master then.
///
/// # Errors
/// With the schedule, if nobody writes before it or the checker finds something wrong.
pub fn play<S: Member>(
    cluster: &mut Cluster<S>,
    seed: u64,
    number: u32,
) -> Result<(Schedule, Report), String> {
    let Some(master) = cluster.soon_steady(REST) else {
        return Err(format!("not steady before episode {number}: {:?}", cluster.steady()));
    };
    let schedule = Schedule::draw(seed, number, cluster.nodes.len(), master);
    let (next, last) = ((master + 1) % cluster.nodes.len(), (master + 2) % cluster.nodes.len());
    let clients = [
        Client::Following(master),
        Client::Following(next),
        Client::Cached(last, KEEP),
        Client::Pinned(master, master),
        Client::Pinned(next, master),
    ];
    let mut recorder = Recorder::start(cluster, &format!("s{seed}e{number}"), &clients);
    let ip = cluster.nodes[master].server.address().ip();
    if !recorder.soon_acked_by(ip, SOME, REST) {
        return Err(format!("{schedule}\nnobody writes before it\n{}", cluster.explain()));
    }
    for deed in &schedule.deeds {
        recorder.fault(deed.fault.to_string());
        begin(cluster, &mut recorder, deed.fault);
    }
    let began = Instant::now();
    let mut ends: Vec<Deed> = schedule.deeds.clone();
    ends.sort_by_key(|deed| deed.lasts);
    for deed in ends {
        thread::sleep(deed.lasts.saturating_sub(began.elapsed()));
        end(cluster, &mut recorder, deed.fault);
    }
    cluster.network.heal();
    recorder.healed();
    let report = judge(&recorder.end(cluster, REST));
    if report.verdicts.is_empty() {
        Ok((schedule, report))
    } else {
        Err(format!("{schedule}\n{report}\n{}", cluster.explain()))
    }
}

fn begin<S: Member>(cluster: &mut Cluster<S>, recorder: &mut Recorder, fault: Fault) {
    let number = |at: usize| u8::try_from(at + 1).unwrap_or(u8::MAX);
    let around = |cluster: &Cluster<S>, at: usize, quality: Quality| {
        cluster.network.isolate(&[number(at)], quality);
    };
    let usual = Quality::default();
    match fault {
        Fault::Kill(at) | Fault::KillAndEmpty(at) => {
            cluster.on(at, |server| {
                server.supervise(Supervision::None);
                server.kill();
            });
            recorder.died(cluster.nodes[at].server.name(), Instant::now());
        }
        Fault::KillAndRestart(at) => {
            let before = Instant::now();
            cluster.on(at, S::kill);
            let name = cluster.nodes[at].server.name();
            recorder.died(name, before);
            recorder.lives(name, before);
        }
        Fault::Hang(at) => cluster.on(at, S::stop),
        Fault::KillAgent(at) => cluster.nodes[at].agent.kill(),
        Fault::HangAgent(at) => cluster.nodes[at].agent.signal(Signal::STOP),
        Fault::KillStore(at) => cluster.etcd.kill(at),
        Fault::HangStore(at) => cluster.etcd.stop(at),
        Fault::Isolate(at) => around(cluster, at, Quality::CUT),
        Fault::Mute(at) => {
            for to in (0..cluster.nodes.len()).filter(|to| *to != at) {
                cluster.network.set(number(at), number(to), Quality::CUT);
            }
        }
        Fault::HalfOpen(from, to) => {
            cluster.network.set(number(from), number(to), Quality::CUT);
        }
        Fault::Cut(one, other) => {
            cluster.network.set(number(one), number(other), Quality::CUT);
            cluster.network.set(number(other), number(one), Quality::CUT);
        }
        Fault::Delay(at, millis) => {
            let delay = Duration::from_millis(millis.into());
            around(cluster, at, Quality { delay, ..usual });
        }
        Fault::Drop(at, loss) => around(cluster, at, Quality { loss, ..usual }),
        Fault::Slow(at, rate) => {
            around(cluster, at, Quality { rate: Some(u32::from(rate) * 1000), ..usual });
        }
        Fault::Switchover(at) => {
            // It may be refused, for a reason that it says.
            let told = cluster.nodes[at].agent.sengu(&["switchover", S::SERVICE, "--wait", "15"]);
            recorder.fault(format!("it answers: {}", told.all().trim()));
        }
    }
}

fn end<S: Member>(cluster: &mut Cluster<S>, recorder: &mut Recorder, fault: Fault) {
    match fault {
        Fault::Kill(at) | Fault::KillAndEmpty(at) => {
            recorder.lives(cluster.nodes[at].server.name(), Instant::now());
            cluster.on(at, |server| {
                if matches!(fault, Fault::Kill(_)) {
                    server.restart();
                } else {
                    server.make_anew();
                }
                server.supervise(Supervision::Restart);
            });
        }
        Fault::Hang(at) => cluster.on(at, S::resume),
        Fault::KillAgent(at) => {
            let node = &mut cluster.nodes[at];
            cluster.network.within(node.number, || node.agent.restart());
        }
        Fault::HangAgent(at) => cluster.nodes[at].agent.signal(Signal::CONT),
        Fault::KillStore(at) => {
            let number = cluster.nodes[at].number;
            // A leader is not to be had while links are cut.
            cluster.network.heal();
            cluster.network.within(number, || cluster.etcd.restart(at));
        }
        Fault::HangStore(at) => cluster.etcd.resume(at),
        // All links are mended together; a switchover is over.
        _ => {}
    }
}
