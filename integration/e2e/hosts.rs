//! Several hosts, each with an agent and a server of its own, on one etcd: what is shown for one
//! database is shown for the others.
//!
//! Where clients write across a move the test ends with the judge: no two servers took writes in
//! turns, by what every client was told and, for MySQL and MariaDB, by the servers' own logs.

mod behind;
mod quarantine;

use std::time::{Duration, Instant};

use integration::rig::hosts::{Host, Hosted, Hosts, Settings};
use integration::rig::mysql::{Flavour, Mysql};
use integration::rig::redis::Redis;
use integration::rig::writer::{gap, lost};
use integration::rig::{MysqlSettings, Watcher, soon, trio, until, wait};
use rustix::process::Signal;

use crate::{LATER, SOON};

/// The default lease.
const LEASE: Duration = Duration::from_secs(6);
/// How soon after it the name of a host that died leads elsewhere.
const TAKEN: Duration = Duration::from_millis(1500);

/// A test for each database.
macro_rules! for_each {
    ($run:ident: $redis:ident, $mariadb:ident, $mysql:ident) => {
        #[test]
        fn $redis() {
            $run(&Settings::<Redis>::default());
        }

        for_both!($run: $mariadb, $mysql);
    };
}

/// A test for MariaDB and one for MySQL.
macro_rules! for_both {
    ($run:ident: $mariadb:ident, $mysql:ident) => {
        #[test]
        fn $mariadb() {
            $run(&Settings::<Mysql>::new(MysqlSettings::new(Flavour::MariaDb)));
        }

        #[test]
        fn $mysql() {
            $run(&Settings::<Mysql>::new(MysqlSettings::new(Flavour::mysql())));
        }
    };
}

pub(crate) use {for_both, for_each};

/// Waits as long as a lease: whoever was late is late by now.
fn a_lease_later() {
    let since = Instant::now();
    until("a lease has passed", LEASE * 2, || (since.elapsed() > LEASE).then_some(()));
}

/// Asks for a switchover that must be done.
#[track_caller]
fn switched<S: Hosted>(at: &Host<S>, to: &Host<S>) {
    let told =
        at.agent.sengu(&["switchover", S::SERVICE, "--to", to.server.name(), "--wait", "15"]);
    let explained = || at.agent.sengu(&["explain", S::SERVICE]).all();
    assert_eq!(told.code, Some(0), "{}\n{}\n{}", told.all(), explained(), at.agent.tail());
}

/// Waits until the old master follows the new one, or is set apart with what only it has, and says
/// whether it follows.
#[track_caller]
pub(crate) fn stands<S: Hosted>(hosts: &Hosts<S>, old: &Host<S>, new: &Host<S>) -> bool {
    let name = format!("{} is quarantined", old.server.name());
    let follows = soon(LATER * 2, || {
        assert_eq!(hosts.writable(), [new.server.address()], "{}", old.agent.tail());
        let apart = new.agent.status(S::SERVICE)["problems"].to_string().contains(&name);
        let follows = old.server.follows(new.server.address());
        (follows || apart).then_some(follows)
    });
    let explained = || old.agent.sengu(&["explain", S::SERVICE]).all();
    follows.unwrap_or_else(|| panic!("it does not stand:\n{}\n{}", explained(), old.agent.tail()))
}

/// A host that is none of these.
fn other<'a, S: Hosted>(hosts: &'a Hosts<S>, than: &[&Host<S>]) -> &'a Host<S> {
    let known = |host: &&Host<S>| than.iter().any(|it| it.server.name() == host.server.name());
    hosts.hosts.iter().find(|host| !known(host)).expect("three hosts")
}

/// The process of the master dies; its old host follows, or is set apart; a person moves it on.
fn replaced_and_moved_back<S: Hosted>(settings: &Settings<S>) {
    let hosts = Hosts::adopted(settings);
    let [old, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    hosts.until_ready(reader, LATER * 2);
    let clients = hosts.writing(reader);
    let killed = Instant::now();
    old.server.kill();
    let (new, named) = hosts.until_other(reader, old, SOON);
    clients.following.until_acked_by(new.server.address(), 30);
    for host in &hosts.hosts {
        hosts.until_named(host, new, SOON);
    }
    println!("{}: named {} ms after the kill", S::SERVICE, (named - killed).as_millis());
    let masters = [old.server.address(), new.server.address()];
    hosts.judge(clients, &masters);
    // The judge has started it again, if nobody else had.
    // Moved back to where it was, or, where that one is set apart, to the third.
    let to = if stands(&hosts, old, new) { old } else { other(&hosts, &[old, new]) };

    let following = S::following("back", reader.agent.dns, &Hosts::<S>::master_name());
    following.until_acked_by(new.server.address(), 20);
    // Asked of a host that has no part in it, or the giver's.
    switched(reader, to);
    following.until_acked_by(to.server.address(), 20);
    let told = following.end();
    assert_eq!(lost(&told, &to.server.serials("back")), [0_u64; 0], "a planned move lost writes");
    assert_eq!(hosts.writable(), [to.server.address()]);
}

for_each!(replaced_and_moved_back:
    a_killed_redis_master_is_replaced_by_another_host_and_moved_back,
    a_killed_mariadb_master_is_replaced_by_another_host_and_moved_back,
    a_killed_mysql_master_is_replaced_by_another_host_and_moved_back);

/// Agent, database and a member of etcd stand still at once, and nothing of that host ever answers
/// again: links are not even closed.
fn host_dies<S: Hosted>(settings: &Settings<S>) {
    let mut hosts = Hosts::adopted(settings);
    let watcher = Watcher::start(hosts.hosts[1].agent.dns, &Hosts::<S>::master_name());
    let clients = hosts.writing(&hosts.hosts[1]);
    let address = hosts.hosts[0].server.address();
    hosts.until_ready(&hosts.hosts[1], LATER * 2);
    let died = Instant::now();
    hosts.hosts[0].agent.signal(Signal::STOP);
    hosts.hosts[0].server.stop();
    hosts.etcd.stop(0);
    let [old, reader, ..] = &hosts.hosts[..] else { panic!("hosts") };
    let within = LEASE + TAKEN + reader.server.clings();
    let (new, named) = hosts.until_other(reader, old, within);
    clients.following.until_acked_by(new.server.address(), 30);
    let new_address = new.server.address();
    let took = named - died;
    println!("{}: named {} ms after the host died", S::SERVICE, took.as_millis());
    assert!(took <= within, "{took:?}");
    assert_eq!(watcher.masters(), [address.ip(), new_address.ip()]);

    // It comes back, and follows or is set apart.
    old.server.kill();
    hosts.hosts[0].agent.kill();
    hosts.etcd.kill(0);
    hosts.etcd.restart(0);
    hosts.hosts[0].server.restart();
    hosts.hosts[0].agent.restart();
    let [old, ..] = &hosts.hosts[..] else { panic!("hosts") };
    let new = hosts.with(new_address.ip());
    stands(&hosts, old, new);
    hosts.judge(clients, &[address, new_address]);
}

for_each!(host_dies:
    a_redis_host_that_dies_is_replaced_once_its_lease_is_over,
    a_mariadb_host_that_dies_is_replaced_once_its_lease_is_over,
    a_mysql_host_that_dies_is_replaced_once_its_lease_is_over);

/// The clocks of the hosts are days apart.
#[test]
fn a_redis_host_that_dies_is_replaced_whatever_the_others_clocks_say() {
    host_dies(&Settings { clocks: true, ..Settings::<Redis>::default() });
}

#[test]
fn a_killed_mariadb_master_is_replaced_and_moved_back_whatever_the_clocks_say() {
    let scene = MysqlSettings::new(Flavour::MariaDb);
    replaced_and_moved_back(&Settings { clocks: true, ..Settings::<Mysql>::new(scene) });
}

/// Two hosts with databases; the third only runs a member of etcd.
#[test]
fn of_two_hosts_with_a_witness_the_other_takes_over() {
    let scene = trio::Settings { count: 2, ..trio::Settings::default() };
    host_dies(&Settings::<Redis>::new(scene));
}

#[test]
fn of_two_mariadb_hosts_with_a_witness_the_other_takes_over() {
    let scene = MysqlSettings { count: 2, ..MysqlSettings::new(Flavour::MariaDb) };
    host_dies(&Settings::<Mysql>::new(scene));
}

#[test]
fn of_two_mysql_hosts_with_a_witness_the_other_takes_over() {
    let scene = MysqlSettings { count: 2, ..MysqlSettings::new(Flavour::mysql()) };
    host_dies(&Settings::<Mysql>::new(scene));
}

/// Five hosts in two zones; the first in the order of priority takes over, then one in the zone of
/// the master that died, and one that must not never does.
#[test]
fn of_five_hosts_the_preferred_takes_over_then_one_of_the_same_zone_and_never_the_last() {
    let lines = |zone: &str, priority: u32| format!("zone = \"{zone}\"\npriority = {priority}\n");
    let instances =
        [("a", 100), ("a", 100), ("b", 100), ("b", 10), ("a", 0)].map(|(at, by)| lines(at, by));
    let scene =
        trio::Settings { count: 5, instances: instances.into(), ..trio::Settings::default() };
    let hosts = Hosts::adopted(&Settings::<Redis>::new(scene));
    let [first, second, third, fourth, reader] = &hosts.hosts[..] else { panic!("five hosts") };
    for (old, new) in [(first, fourth), (fourth, third), (third, second)] {
        hosts.until_followed(old, LATER);
        old.server.kill();
        hosts.until_named(reader, new, LATER);
    }
    hosts.until_followed(second, LATER);
    second.server.kill();
    until("it is said why the last one is not promoted", LATER, || {
        let told = reader.agent.sengu(&["explain", trio::SERVICE]).all();
        told.contains("its priority is 0 (never promote)").then_some(())
    });
    assert!(wait::holds(LEASE, || hosts.writable().is_empty()), "{:?}", hosts.writable());
    assert!(reader.agent.addresses(&Hosts::<Redis>::master_name()).is_empty());
}

/// The agent is killed and started again, and upgraded: told to end, another one in its place.
/// Then it stays away: its name goes, and nobody takes over from a master that is seen to take
/// writes.
fn agent_goes<S: Hosted>(settings: &Settings<S>) {
    let mut hosts = Hosts::adopted(settings);
    let address = hosts.hosts[0].server.address();
    let clients = hosts.writing(&hosts.hosts[1]);
    let term = hosts.term(&hosts.hosts[0]);
    hosts.hosts[0].agent.restart();
    hosts.until_named(&hosts.hosts[1], &hosts.hosts[0], SOON);
    hosts.hosts[0].agent.signal(Signal::TERM);
    let ended = hosts.hosts[0].agent.wait_ended(LATER);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    hosts.hosts[0].agent.restart();
    a_lease_later();
    hosts.until_named(&hosts.hosts[1], &hosts.hosts[0], SOON);
    assert_eq!(hosts.term(&hosts.hosts[1]), term, "{}", hosts.hosts[0].agent.tail());
    let gap = gap(&clients.pinned[0].acks());
    assert!(gap < Duration::from_secs(1), "no write gap: {gap:?}");

    hosts.hosts[0].agent.kill();
    hosts.hosts[1].agent.until_name(&Hosts::<S>::master_name(), &[], LEASE + SOON);
    let before = clients.pinned[0].acked_by(address);
    let stays = wait::holds(LEASE, || hosts.writable() == [address]);
    let reader = &hosts.hosts[1].agent;
    let explained = reader.sengu(&["explain", S::SERVICE]).all();
    assert!(stays, "{:?} take writes\n{explained}\n{}", hosts.writable(), reader.tail());
    assert!(clients.pinned[0].acked_by(address) > before, "it takes writes all the while");
    let told = ["still takes writes", "still receives"].iter().any(|why| explained.contains(why));
    assert!(told, "the reason is told: {explained}");
    hosts.hosts[0].agent.restart();
    let named =
        soon(LATER * 2, || hosts.hosts[1].agent.addresses(&Hosts::<S>::master_name()).pop());
    assert!(named.is_some(), "nobody is named again\n{}", hosts.hosts[0].agent.tail());
    // It was lapsed: whoever serves now, serves under a later term.
    assert!(hosts.term(&hosts.hosts[1]) > term);
    let told = clients.end();
    let servers: Vec<&S> = hosts.hosts.iter().map(|host| &host.server).collect();
    let mut masters = vec![address];
    masters.extend(servers.iter().map(|it| it.address()).filter(|it| named == Some(it.ip())));
    masters.dedup();
    S::judge(&servers, &masters, &told);
}

for_each!(agent_goes:
    an_agent_beside_a_redis_master_may_go_and_come_and_its_end_moves_nothing,
    an_agent_beside_a_mariadb_master_may_go_and_come_and_its_end_moves_nothing,
    an_agent_beside_a_mysql_master_may_go_and_come_and_its_end_moves_nothing);

/// etcd stands still as a whole: the fence goes off within the lease, and the master is opened
/// again when it is back.
fn store_goes<S: Hosted>(settings: &Settings<S>) {
    let hosts = Hosts::adopted(settings);
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let clients = hosts.writing(reader);
    let address = master.server.address();
    let term = hosts.term(master);
    let cut = Instant::now();
    for member in 0..hosts.etcd.size() {
        hosts.etcd.stop(member);
    }
    let closed = soon(LEASE, || (!master.server.writable()).then(Instant::now));
    let closed = closed.unwrap_or_else(|| panic!("never fenced\n{}", master.agent.tail()));
    assert!(closed - cut <= LEASE, "fenced after {:?}", closed - cut);
    for host in &hosts.hosts {
        host.agent.until_name(&Hosts::<S>::master_name(), &[], LEASE);
    }
    let last = clients.pinned[0].acks().iter().map(|ack| ack.acked).max().expect("it wrote");
    assert!(last - cut <= LEASE, "acknowledged {:?} after the store was gone", last - cut);
    let resumed = Instant::now();
    for member in 0..hosts.etcd.size() {
        hosts.etcd.resume(member);
    }
    // A beat that was under way when etcd stopped is written when it goes on, and names the old
    // term once more until its holder says that it is fenced: only a later term counts.
    let named = || reader.agent.addresses(&Hosts::<S>::master_name()).pop();
    let later = || (hosts.term(reader) > term).then(named).flatten();
    let new = soon(LATER * 3, || later().map(|one| (one, Instant::now())));
    let (new, when) = new.unwrap_or_else(|| panic!("nobody is named\n{}", master.agent.tail()));
    println!(
        "{}: fenced after {} ms, {new} named {} ms after the store was back",
        S::SERVICE,
        (closed - cut).as_millis(),
        (when - resumed).as_millis()
    );
    let new = hosts.hosts.iter().map(|it| it.server.address()).find(|it| it.ip() == new);
    let new = new.expect("one of the hosts");
    clients.following.until_acked_by(new, clients.following.acked_by(new) + 10);
    let mut masters = vec![address, new];
    masters.dedup();
    hosts.judge(clients, &masters);
}

for_each!(store_goes:
    a_redis_master_without_a_store_is_fenced_within_its_lease_and_opened_again_after,
    a_mariadb_master_without_a_store_is_fenced_within_its_lease_and_opened_again_after,
    a_mysql_master_without_a_store_is_fenced_within_its_lease_and_opened_again_after);

/// The disk hangs that the agent keeps its data on and logs to, and then etcd stands still: the
/// fence needs neither.
#[test]
fn a_master_whose_agent_waits_for_its_disk_is_fenced_within_its_lease() {
    let hosts = Hosts::adopted(&Settings { disk: true, ..Settings::default() });
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let clients = hosts.writing(reader);
    let address = master.server.address;
    let disk = hosts.disk.as_ref().expect("a disk of its own");
    let frozen = disk.freeze();
    let cut = Instant::now();
    for member in 0..hosts.etcd.size() {
        hosts.etcd.stop(member);
    }
    let closed = soon(LEASE, || (!master.server.is_master()).then(Instant::now));
    let closed = closed.expect("it is fenced");
    assert!(closed - cut <= LEASE, "fenced after {:?}", closed - cut);
    println!("fenced after {} ms", (closed - cut).as_millis());
    for member in 0..hosts.etcd.size() {
        hosts.etcd.resume(member);
    }
    // The agent may wait for its disk still; then somebody else takes over.
    let named = || reader.agent.addresses(&Hosts::<Redis>::master_name()).pop();
    let again = || named().filter(|_| hosts.term(reader) > 1);
    let new = soon(LATER * 3, again);
    let new = new.unwrap_or_else(|| panic!("nobody is named\n{}", reader.agent.tail()));
    let new = hosts.with(new).server.address;
    clients.following.until_acked_by(new, clients.following.acked_by(new) + 10);
    drop(frozen);
    let mut masters = vec![address, new];
    masters.dedup();
    hosts.judge(clients, &masters);
}

/// The agent knows etcd by names only, and then neither etcd nor the resolver answers: the fence
/// asks for no name. When etcd is back, another host takes over from the agent that cannot find it;
/// when the resolver is, the old master follows.
#[test]
fn a_master_whose_resolver_is_dead_is_fenced_within_its_lease() {
    let hosts = Hosts::adopted(&Settings { resolver: true, ..Settings::default() });
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let clients = hosts.writing(reader);
    let address = master.server.address;
    let resolver = hosts.resolver.as_ref().expect("a resolver of its own");
    assert_eq!(resolver.unanswered(), 0, "it knows all names");
    resolver.die();
    let cut = Instant::now();
    // Killed, not stopped: every connection is closed, and a new one needs the name.
    (0..hosts.etcd.size()).for_each(|member| hosts.etcd.kill(member));
    let closed = soon(LEASE, || (!master.server.is_master()).then(Instant::now));
    let closed = closed.unwrap_or_else(|| panic!("never fenced\n{}", master.agent.tail()));
    assert!(closed - cut <= LEASE, "fenced after {:?}", closed - cut);
    println!("fenced after {} ms", (closed - cut).as_millis());
    assert_ne!(resolver.unanswered(), 0, "it was asked, and did not answer");
    master.agent.until_name(&Hosts::<Redis>::master_name(), &[], SOON);

    hosts.etcd.restart_all();
    let named = || reader.agent.addresses(&Hosts::<Redis>::master_name()).pop();
    let new = soon(LATER * 3, || named().filter(|_| hosts.term(reader) > 1));
    let new = new.unwrap_or_else(|| panic!("nobody is named\n{}", reader.agent.tail()));
    let new = hosts.with(new);
    assert_ne!(new.server.address, address, "its agent cannot find the store");
    clients.following.until_acked_by(new.server.address, 30);
    resolver.revive();
    stands(&hosts, master, new);
    hosts.until_named(master, new, LATER * 2);
    hosts.judge(clients, &[address, new.server.address]);
}

/// Frozen: etcd stands still as a whole for longer than a lease, and the master goes on. Thawed, it
/// is fenced as ever.
#[test]
fn a_frozen_master_outlives_its_store_and_is_fenced_again_once_thawed() {
    let hosts = Hosts::adopted(&Settings::default());
    let [master, reader, _] = &hosts.hosts[..] else { panic!("three hosts") };
    let clients = hosts.writing(reader);
    let term = hosts.term(master);
    let told = reader.agent.sengu(&["freeze", "--all", "--for", "5m", "--comment", "etcd moves"]);
    assert!(told.good().out.contains("frozen for 5m"));
    assert!(reader.agent.sengu(&["status"]).good().out.contains("frozen"));
    for member in 0..hosts.etcd.size() {
        hosts.etcd.stop(member);
    }
    let open = wait::holds(LEASE * 3 / 2, || master.server.is_master());
    assert!(open, "it was fenced\n{}", master.agent.tail());
    // Names still go by what an agent knows.
    reader.agent.until_name(&Hosts::<Redis>::master_name(), &[], SOON);
    for member in 0..hosts.etcd.size() {
        hosts.etcd.resume(member);
    }
    hosts.until_named(reader, master, LATER);
    assert_eq!(hosts.term(reader), term, "nothing moved\n{}", master.agent.tail());
    let gap = gap(&clients.pinned[0].acks());
    assert!(gap < Duration::from_secs(1), "no write gap: {gap:?}");

    reader.agent.sengu(&["thaw", "--all"]).good();
    until("the usual promise is back", LATER, || {
        let explained = reader.agent.sengu(&["explain", trio::SERVICE]).all();
        explained.contains("within 6000 ms").then_some(())
    });
    for member in 0..hosts.etcd.size() {
        hosts.etcd.stop(member);
    }
    let closed = soon(LEASE, || (!master.server.is_master()).then_some(()));
    assert!(closed.is_some(), "never fenced\n{}", master.agent.tail());
    for member in 0..hosts.etcd.size() {
        hosts.etcd.resume(member);
    }
}

/// Power fails everywhere: servers, agents and etcd are killed at once, and all start again.
/// Whoever has all that was acknowledged takes writes, under a later term, and nobody before.
#[test]
fn after_a_power_failure_everywhere_all_that_was_acknowledged_is_there_under_a_later_term() {
    let scene = MysqlSettings::new(Flavour::MariaDb);
    let mut hosts = Hosts::adopted(&Settings::<Mysql>::new(scene));
    let clients = hosts.writing(&hosts.hosts[1]);
    let master = hosts.hosts[0].server.address;
    let term = hosts.term(&hosts.hosts[1]);
    // Members of etcd last: nobody learns of the others' end before its own.
    hosts.hosts.iter_mut().for_each(|host| host.agent.kill());
    hosts.hosts.iter().for_each(|host| host.server.kill());
    for member in 0..hosts.etcd.size() {
        hosts.etcd.kill(member);
    }
    let told = clients.end();
    for host in &hosts.hosts {
        host.server.restart();
    }
    assert_eq!(hosts.writable(), [], "each starts fenced");
    hosts.etcd.restart_all();
    hosts.hosts.iter_mut().for_each(|host| host.agent.restart());
    let reader = &hosts.hosts[1];
    let name = Hosts::<Mysql>::master_name();
    let named = soon(LATER * 3, || reader.agent.addresses(&name).pop());
    let named = named.unwrap_or_else(|| panic!("nobody is named\n{}", reader.agent.tail()));
    assert!(hosts.term(reader) > term, "its lease was over");
    let new = &hosts.with(named).server;
    assert_eq!(hosts.writable(), [new.address]);
    for (client, acks) in &told {
        assert_eq!(
            lost(acks, &new.serials(client)),
            [0_u64; 0],
            "{client} lost what was acknowledged"
        );
    }
    let servers: Vec<&Mysql> = hosts.hosts.iter().map(|host| &host.server).collect();
    let mut masters = vec![master, new.address];
    masters.dedup();
    Mysql::judge(&servers, &masters, &told);
}
