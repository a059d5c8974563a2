//! An episode: faults of one schedule on a cluster under clients, then quiet, then the checker.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::cluster::{Cluster, Node};
use super::disk::Disk;
use super::fault::{Deed, Fault, Schedule};
use super::member::Member;
use super::network::Quality;
use super::process::Supervision;
use super::recorder::{Client, Recorder};
use super::soon;
use super::staged::Staged;
use crate::checker::{Report, judge};

/// Until all is steady before and after.
const REST: Duration = Duration::from_secs(120);
/// How long a cached client keeps an answer.
const KEEP: Duration = Duration::from_secs(3);
/// Acknowledgements before the first fault.
const SOME: usize = 20;

/// How often clients write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As often as their database's clients do.
    Usual,
    /// A tenth as often: other databases share the machine, and copies that force each
    /// transaction to disk would fall behind without end.
    Seldom,
}

/// Plays an episode; the schedule is drawn for the one that is master then, or is this fault alone.
///
/// # Errors
/// With the schedule, if nobody writes before it or the checker finds something wrong.
pub fn play<S: Member>(
    cluster: &mut Cluster<S>,
    seed: u64,
    number: u32,
    only: Option<Staged>,
    pace: Pace,
) -> Result<(Schedule, Report), String> {
    let (master, mut recorder) = writing(cluster, &format!("s{seed}e{number}"))?;
    if pace == Pace::Seldom {
        recorder.write_seldom();
    }
    let schedule = match only {
        Some(only) => Schedule::only(seed, number, only, cluster.nodes.len(), master),
        None => Schedule::draw(seed, number, cluster.nodes.len(), master),
    };
    for deed in &schedule.deeds {
        let told = deed.fault.to_string();
        if deed.fault.harmless() {
            recorder.harmless(told)
        } else {
            recorder.fault(told)
        }
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
    let history = recorder.end(cluster, REST);
    if let Ok(master) = cluster.steady() {
        cluster.renew_set_back(master);
    }
    let report = judge(&history);
    if report.verdicts.is_empty() {
        Ok((schedule, report))
    } else {
        let terms: Vec<String> = history.terms.iter().map(|term| format!("{term:?}")).collect();
        let faults: Vec<String> = history.faults.iter().map(|it| format!("{it:?}")).collect();
        let starved = history.starved(history.span.0, history.span.1) / 1000;
        Err(format!(
            "{schedule}\n{report}\n{}\n{}\nstarved for {starved} ms\n{}",
            terms.join("\n"),
            faults.join("\n"),
            cluster.explain()
        ))
    }
}

/// All is steady, and clients write to the one that is master. On a machine that does much else it
/// may be another one by then: so it is tried some times.
fn writing<S: Member>(cluster: &mut Cluster<S>, key: &str) -> Result<(usize, Recorder), String> {
    for attempt in 0..ATTEMPTS {
        let Some(master) = cluster.soon_mended(REST, |_| ()) else {
            let missing = cluster.steady();
            return Err(format!("not steady before {key}: {missing:?}\n{}", cluster.explain()));
        };
        let count = cluster.nodes.len();
        let (next, last) = ((master + 1) % count, (master + 2) % count);
        let clients = [
            Client::Following(master),
            Client::Following(next),
            Client::Cached(last, KEEP),
            Client::Pinned(master, master),
            Client::Pinned(next, master),
        ];
        let recorder = Recorder::start(cluster, &format!("{key}t{attempt}"), &clients);
        let ip = cluster.nodes[master].server.address().ip();
        if recorder.soon_acked_by(ip, SOME, REST / ATTEMPTS) {
            return Ok((master, recorder));
        }
    }
    Err(format!("nobody writes before {key}\n{}", cluster.explain()))
}

/// So often are clients started before an episode.
const ATTEMPTS: u32 = 4;
/// Until a hook has started after a failover.
const HOOK_STARTS: Duration = Duration::from_secs(30);
/// Writes between the data that comes back and the end.
const BACK: Duration = Duration::from_secs(2);

fn begin<S: Member>(cluster: &mut Cluster<S>, recorder: &mut Recorder, fault: Fault) {
    let usual = Quality::default();
    match fault {
        Fault::Kill(at) => kill(cluster, recorder, at),
        Fault::KillAgentInAHook(at) => kill_agent_in_a_hook(cluster, recorder, at),
        Fault::KillAndEmpty(at) => {
            kill(cluster, recorder, at);
            recorder.emptied(cluster.nodes[at].server.name(), Instant::now());
        }
        Fault::KillAndRestart(at) | Fault::KillAndRestartLate(at, _) => {
            if let Fault::KillAndRestartLate(_, millis) = fault {
                let late = Supervision::RestartLate(Duration::from_millis(millis.into()));
                cluster.nodes[at].server.supervise(late);
            }
            let before = Instant::now();
            cluster.on(at, S::kill);
            let name = cluster.nodes[at].server.name();
            recorder.died(name, before);
            recorder.lives(name, before);
        }
        Fault::RollBack(at) => roll_back(cluster, recorder, at),
        Fault::OpenByHand(at) => cluster.on(at, S::open_by_hand),
        Fault::FillDisk(at) => disk(cluster, at, Disk::make_full),
        Fault::HangDisk(at) => disk(cluster, at, Disk::make_hang),
        Fault::SlowDisk(at) => disk(cluster, at, Disk::make_slow),
        Fault::Hang(at) | Fault::Blink(at) => cluster.on(at, S::stop),
        Fault::KillAgent(at) => cluster.nodes[at].agent.kill(),
        Fault::HangAgent(at) => cluster.nodes[at].agent.signal(Signal::STOP),
        Fault::KillStore(at) => cluster.etcd.kill(at),
        Fault::HangStore(at) => cluster.etcd.stop(at),
        Fault::Isolate(at) => isolate(cluster, recorder, at),
        Fault::RestartCutOff(at) => {
            isolate(cluster, recorder, at);
            let node = &mut cluster.nodes[at];
            cluster.network.within(node.number, || node.agent.relaunch());
        }
        Fault::Mute(at) => {
            for to in (0..cluster.nodes.len()).filter(|to| *to != at) {
                cluster.network.set(number(at), number(to), Quality::CUT);
            }
            recorder.cut_off(&cluster.nodes[at]);
        }
        Fault::HalfOpen(from, to) => {
            cluster.network.set(number(from), number(to), Quality::CUT);
        }
        Fault::Cut(one, other) => {
            cluster.network.set(number(one), number(other), Quality::CUT);
            cluster.network.set(number(other), number(one), Quality::CUT);
        }
        Fault::CutReplication(at) => {
            let closed = Some(cluster.nodes[at].server.address().port());
            around(cluster, at, Quality { closed, ..usual });
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

fn number(at: usize) -> u8 {
    u8::try_from(at + 1).unwrap_or(u8::MAX)
}

/// Sets all links between a host and all others, both ways.
fn around<S: Member>(cluster: &Cluster<S>, at: usize, quality: Quality) {
    cluster.network.isolate(&[number(at)], quality);
}

/// Cuts a host off from all others.
fn isolate<S: Member>(cluster: &Cluster<S>, recorder: &mut Recorder, at: usize) {
    let node = &cluster.nodes[at];
    cluster.network.isolate(&[node.number], Quality::CUT);
    recorder.cut_off(node);
}

/// Kills a server, and the agent that runs the hook after that failover, in the hook.
fn kill_agent_in_a_hook<S: Member>(cluster: &mut Cluster<S>, recorder: &mut Recorder, at: usize) {
    let before = cluster.hooks().len();
    cluster.hold_hooks();
    kill(cluster, recorder, at);
    if let Some(start) = soon(HOOK_STARTS, || cluster.hooks().get(before).cloned()) {
        recorder.fault(format!("the agent of {} is killed in its hook", start.host));
        let own = |node: &&mut Node<S>| format!("db{}", node.number) == start.host;
        let node = cluster.nodes.iter_mut().find(own).expect("a hook runs on one of the hosts");
        cluster.network.within(node.number, || node.agent.relaunch());
    }
    cluster.let_hooks_go();
}

/// Kills a server, and nobody starts it again.
fn kill<S: Member>(cluster: &Cluster<S>, recorder: &mut Recorder, at: usize) {
    cluster.on(at, |server| {
        server.supervise(Supervision::None);
        server.kill();
    });
    recorder.died(cluster.nodes[at].server.name(), Instant::now());
}

/// Kills a server, and puts its data back as it was a while before.
fn roll_back<S: Member>(cluster: &mut Cluster<S>, recorder: &mut Recorder, at: usize) {
    cluster.on(at, |server| server.process().keep_aside(S::DATA));
    thread::sleep(BACK);
    let before = Instant::now();
    cluster.on(at, |server| {
        server.supervise(Supervision::None);
        server.kill();
        server.process().put_back(S::DATA);
    });
    recorder.died(cluster.nodes[at].server.name(), before);
    cluster.nodes[at].set_back = true;
}

/// Does something with the disk of a server. A cluster without disks has no such faults.
fn disk<S: Member>(cluster: &Cluster<S>, at: usize, work: impl Fn(&Disk)) {
    work(cluster.nodes[at].disk.as_ref().expect("its servers have disks"));
}

fn end<S: Member>(cluster: &mut Cluster<S>, recorder: &mut Recorder, fault: Fault) {
    match fault {
        Fault::Kill(at)
        | Fault::KillAndEmpty(at)
        | Fault::RollBack(at)
        | Fault::KillAgentInAHook(at) => {
            recorder.lives(cluster.nodes[at].server.name(), Instant::now());
            let refused = cluster.on(at, |server| {
                let refused = if matches!(fault, Fault::KillAndEmpty(_)) {
                    server.make_anew();
                    false
                } else {
                    server.restart_or_begin_anew()
                };
                server.supervise(Supervision::Restart);
                refused
            });
            if refused {
                recorder.emptied(cluster.nodes[at].server.name(), Instant::now());
                recorder.fault(format!("host {} begins with nothing: it refused its file", at + 1));
            }
        }
        Fault::KillAndRestartLate(at, _) => {
            cluster.nodes[at].server.supervise(Supervision::Restart);
        }
        Fault::FillDisk(at) => {
            disk(cluster, at, Disk::mend);
            if !S::SEES_ROOM {
                recorder
                    .fault("there is room again, and a person starts the database again".into());
                let before = Instant::now();
                cluster.on(at, S::kill);
                recorder.died(cluster.nodes[at].server.name(), before);
                recorder.lives(cluster.nodes[at].server.name(), before);
            }
        }
        Fault::HangDisk(at) | Fault::SlowDisk(at) => disk(cluster, at, Disk::mend),
        Fault::Hang(at) | Fault::Blink(at) => cluster.on(at, S::resume),
        Fault::KillAgent(at) => {
            let node = &mut cluster.nodes[at];
            // It may wait for a store that it does not reach.
            cluster.network.within(node.number, || node.agent.relaunch());
        }
        Fault::HangAgent(at) => cluster.nodes[at].agent.signal(Signal::CONT),
        Fault::KillStore(at) => {
            let number = cluster.nodes[at].number;
            cluster.network.within(number, || cluster.etcd.revive(at));
        }
        Fault::HangStore(at) => cluster.etcd.resume(at),
        // All links are mended together; a switchover is over.
        _ => {}
    }
}
