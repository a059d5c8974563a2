//! The guard: what becomes of a master whose agent dies or stands still, and of one whose agent is
//! merely started again.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use integration::rig::agent::program;
use integration::rig::child::Child;
use integration::rig::hosts::{Host, Hosted, Hosts, Settings};
use integration::rig::mysql::{Flavour, Mysql};
use integration::rig::redis::Redis;
use integration::rig::trio::{self, MASTER, SERVICE, Trio};
use integration::rig::writer::{assert_one_master_at_a_time, gap};
use integration::rig::{Agent, MysqlSettings, Place, Supervision, Writer, until, wait};
use rustix::process::Signal;

use crate::hosts::{for_both, for_each, stands};
use crate::{LATER, SOON};

/// The default lease.
const LEASE: Duration = Duration::from_secs(6);

/// A guard beside an agent, and its log.
fn guard(agent: &Agent) -> Child {
    let log = agent.log.with_extension("guard.log");
    let config = agent.config.display().to_string();
    let words = [program().display().to_string(), "--config".into(), config, "guard".into()];
    let child = Child::start(&words, &log, &[("NO_COLOR", "1")]).expect("the guard starts");
    until("the guard runs", SOON, || {
        fs::read_to_string(&log).ok().filter(|log| log.contains("the guard runs"))
    });
    child
}

fn log_of_guard(agent: &Agent) -> String {
    fs::read_to_string(agent.log.with_extension("guard.log")).unwrap_or_default()
}

/// From the next start of this agent on it has a guard.
fn want_guard(config: &Path) {
    let folder = config.with_extension("d");
    fs::create_dir_all(&folder).expect("the folder can be made");
    fs::write(folder.join("guard.toml"), "guard = true\n").expect("it can be written");
}

/// Three hosts, the first of which has the master, a guard, and an agent that knows of it.
fn guarded<S: Hosted>(settings: &Settings<S>) -> (Hosts<S>, Child) {
    let mut hosts = Hosts::adopted(settings);
    want_guard(&hosts.hosts[0].agent.config);
    hosts.hosts[0].agent.restart();
    let guard = guard(&hosts.hosts[0].agent);
    let Host { agent, .. } = &hosts.hosts[0];
    until("the agent sees its guard", LATER, || {
        (!agent.sengu(&["status"]).good().out.contains("guard")).then_some(())
    });
    // The word stands once a beat of this life of the agent is acknowledged.
    let word = hosts.place.path("sengu1.guard");
    until("the agent tells what it holds", SOON, || {
        fs::read_to_string(&word).ok().filter(|word| word.contains(S::SERVICE))
    });
    hosts.until_named(&hosts.hosts[1], &hosts.hosts[0], SOON);
    hosts.until_ready(&hosts.hosts[1], LATER * 2);
    (hosts, guard)
}

/// The master is closed before its lease ends, and another host takes over: whose address?
fn fences_when<S: Hosted>(
    settings: &Settings<S>,
    what: &str,
    lose: impl FnOnce(&mut Agent),
) -> (Hosts<S>, Child, SocketAddr) {
    let (mut hosts, guard) = guarded(settings);
    let clients = hosts.writing(&hosts.hosts[1]);
    let lost = Instant::now();
    lose(&mut hosts.hosts[0].agent);
    let [old, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let closed = integration::rig::soon(LEASE, || (!old.server.writable()).then(Instant::now));
    let closed =
        closed.unwrap_or_else(|| panic!("{what}: never fenced\n{}", log_of_guard(&old.agent)));
    assert!(closed - lost < LEASE, "fenced after {:?}", closed - lost);
    let (new, named) = hosts.until_other(reader, old, LEASE + LATER);
    let new = new.server.address();
    clients.following.until_acked_by(new, 50);
    println!(
        "{}: {what}: fenced after {} ms, the next one named after {} ms",
        S::SERVICE,
        (closed - lost).as_millis(),
        (named - lost).as_millis()
    );
    hosts.judge(clients, &[old.server.address(), new]);
    let told = old.agent.sengu(&["audit"]).good().out;
    assert!(told.contains("guard: fence of"), "{told}");
    (hosts, guard, new)
}

/// It comes back as a copy of the new one, or set apart with what only it has.
fn killed<S: Hosted>(settings: &Settings<S>) {
    let (mut hosts, _guard, new) = fences_when(settings, "agent killed", Agent::kill);
    hosts.hosts[0].agent.restart();
    stands(&hosts, &hosts.hosts[0], hosts.with(new.ip()));
}

for_each!(killed:
    a_redis_master_whose_agent_is_killed_is_fenced_by_the_guard_and_replaced,
    a_mariadb_master_whose_agent_is_killed_is_fenced_by_the_guard_and_replaced,
    a_mysql_master_whose_agent_is_killed_is_fenced_by_the_guard_and_replaced);

/// Its own fence is as late as it gets, and ends the process at once: what a supervisor starts in
/// its place is fenced by its file.
fn stopped<S: Hosted>(settings: &Settings<S>) {
    let stop = |agent: &mut Agent| agent.signal(Signal::STOP);
    let (mut hosts, _guard, new) = fences_when(settings, "agent stopped", stop);
    hosts.hosts[0].server.process().supervise(Supervision::Restart);
    hosts.hosts[0].agent.signal(Signal::CONT);
    stands(&hosts, &hosts.hosts[0], hosts.with(new.ip()));
}

for_each!(stopped:
    a_redis_master_whose_agent_is_stopped_is_fenced_by_the_guard_and_stays_so_when_it_goes_on,
    a_mariadb_master_whose_agent_is_stopped_is_fenced_by_the_guard_and_stays_so_when_it_goes_on,
    a_mysql_master_whose_agent_is_stopped_is_fenced_by_the_guard_and_stays_so_when_it_goes_on);

#[test]
fn a_master_that_lost_its_agent_and_its_guard_goes_on_unnamed_until_an_agent_is_back() {
    let (mut hosts, mut guard) = guarded(&Settings::<Redis>::default());
    let address = hosts.hosts[0].server.address;
    let writer = Writer::pinned("pinned", address);
    writer.until_acked_by(address, 50);
    let term = hosts.term(&hosts.hosts[1]);
    guard.kill();
    hosts.hosts[0].agent.kill();
    hosts.hosts[1].agent.until_name(MASTER, &[], LEASE + SOON);
    // Nobody takes over what is seen to take writes.
    assert!(wait::holds(LEASE, || hosts.writable() == [address]), "{:?}", hosts.writable());
    let explained = hosts.hosts[1].agent.sengu(&["explain", SERVICE]).all();
    assert!(explained.contains("still takes writes"), "{explained}");
    hosts.hosts[0].agent.restart();
    let reader = &hosts.hosts[1];
    let named = integration::rig::soon(LATER * 2, || reader.agent.addresses(MASTER).pop());
    let named = named.unwrap_or_else(|| panic!("nobody is named\n{}", reader.agent.tail()));
    // Its lease was over: whoever serves now, serves under a later term.
    assert!(hosts.term(reader) > term);
    let mut masters = vec![address, hosts.with(named).server.address];
    masters.dedup();
    assert_one_master_at_a_time(&masters, &writer.end());
}

/// Started again, killed, told to end, and the guard's own end: nothing moves.
fn restarted<S: Hosted>(settings: &Settings<S>) {
    let (mut hosts, mut guard) = guarded(settings);
    let address = hosts.hosts[0].server.address();
    let writer = S::pinned("pinned", address);
    writer.until_acked_by(address, 50);
    let term = hosts.term(&hosts.hosts[0]);
    // Killed, and told to end: neither is the end of it.
    hosts.hosts[0].agent.restart();
    hosts.hosts[0].agent.signal(Signal::TERM);
    let ended = hosts.hosts[0].agent.wait_ended(LATER);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    hosts.hosts[0].agent.restart();
    let since = Instant::now();
    until("a lease has passed", LEASE * 2, || (since.elapsed() > LEASE).then_some(()));
    let status = hosts.hosts[0].agent.sengu(&["status"]).good().out;
    assert!(!status.contains("guard"), "{status}");

    guard.kill();
    let agent = &hosts.hosts[0].agent;
    until("status says that the guard is missing", LATER, || {
        let status = agent.sengu(&["status"]).good().out;
        status.starts_with("the guard here is missing").then_some(())
    });
    let doctor = agent.sengu(&["doctor", "--quiet"]);
    assert!(doctor.out.contains("guard: the guard here is missing"), "{}", doctor.all());
    let since = Instant::now();
    until("a lease has passed", LEASE * 2, || (since.elapsed() > LEASE).then_some(()));
    assert_eq!(hosts.term(&hosts.hosts[0]), term, "{}", agent.tail());
    let gap = gap(&writer.end());
    assert!(gap < Duration::from_secs(1), "no write gap: {gap:?}\n{}", log_of_guard(agent));
    assert!(!log_of_guard(agent).contains("lease ran out"), "{}", log_of_guard(agent));
}

for_each!(restarted:
    a_restart_of_the_agent_of_redis_fences_nothing_and_neither_does_the_end_of_the_guard,
    a_restart_of_the_agent_of_mariadb_fences_nothing_and_neither_does_the_end_of_the_guard,
    a_restart_of_the_agent_of_mysql_fences_nothing_and_neither_does_the_end_of_the_guard);

#[test]
fn with_an_embedded_store_the_guard_fences_nothing_and_keeps_files_true() {
    let place = Place::claim();
    let file = place.path("hosts");
    fs::write(&file, "127.0.0.1 localhost\n").expect("the file can be written");
    let outputs =
        format!("[[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n", file.display());
    let mut trio = Trio::adopted(&integration::rig::Settings { outputs, ..Default::default() });
    want_guard(&trio.agent.config);
    trio.agent.restart();
    let _guard = guard(&trio.agent);
    let read = || fs::read_to_string(&file).expect("readable");
    trio.until("the file names the master", SOON, || read().contains(MASTER).then_some(()));
    let master = trio.servers[0].address;
    let writer = Writer::pinned("pinned", master);
    writer.until_acked_by(master, 50);
    let term = trio.agent.status(SERVICE)["term"].clone();

    // Started again within the lease: the file keeps the name all the while.
    let over = Arc::new(AtomicBool::new(false));
    let (watched, ends) = (file.clone(), Arc::clone(&over));
    let watcher = thread::spawn(move || {
        let mut missed = 0;
        while !ends.load(Ordering::SeqCst) {
            let text = fs::read_to_string(&watched).unwrap_or_default();
            missed += u32::from(!text.contains(MASTER));
            thread::sleep(Duration::from_millis(1));
        }
        missed
    });
    trio.agent.restart();
    until("the agent looked at everything", SOON, || {
        (trio.agent.addresses(MASTER) == [master.ip()]).then_some(())
    });
    over.store(true, Ordering::SeqCst);
    assert_eq!(watcher.join().expect("it watches"), 0, "{}", trio.agent.tail());
    trio.agent.kill();
    let killed = Instant::now();
    until("the master leaves the file", LEASE + LATER, || {
        let text = read();
        if killed.elapsed() < LEASE / 2 {
            assert!(text.contains(MASTER), "{text}");
        }
        (!text.contains(MASTER)).then_some(())
    });
    println!("the file named no master {} ms after the agent's end", killed.elapsed().as_millis());
    let text = read();
    let replicas = trio::REPLICAS;
    assert!(text.contains("127.0.0.1 localhost") && text.contains(replicas), "{text}");
    assert!(trio.servers[0].is_master(), "nobody else could take over: it stays open");
    trio.agent.restart();
    trio.until("the file names the master again", SOON, || read().contains(MASTER).then_some(()));
    assert_eq!(trio.agent.status(SERVICE)["term"], term);
    let gap = gap(&writer.end());
    assert!(gap < Duration::from_secs(1), "no write gap: {gap:?}");
}
