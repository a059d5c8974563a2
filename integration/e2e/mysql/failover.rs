//! The master fails; somebody else serves, and never two at once.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use integration::rig::hosts::judge_acks;
use integration::rig::mysql::{CLIENT, Flavour, Mysql, Sql, Trouble};
use integration::rig::mysql_trio::{MASTER, SERVICE};
use integration::rig::writer::gap;
use integration::rig::{MysqlSettings, MysqlTrio, Supervision, Watcher, wait};

use super::{Clients, assert_nothing_lost, for_both, judge};
use crate::{LATER, SOON};

fn killed(settings: &MysqlSettings) {
    let trio = MysqlTrio::adopted(settings);
    let old = &trio.servers[0];
    let watcher = Watcher::start(trio.agent.dns, MASTER);
    let clients = Clients::writing(&trio);

    let killed = Instant::now();
    old.kill();
    let new = trio.until_other(old, LATER);
    clients.following.until_acked_by(new.address, 30);
    trio.until_followed(new, LATER);

    assert_eq!(watcher.masters(), [old.address.ip(), new.address.ip()]);
    let named = watcher.named(new.address.ip(), killed).expect("it was named");
    assert!(named - killed < SOON, "named after {:?}", named - killed);
    let history = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(history[0]["to"], new.name.as_str(), "{history:#}");
    assert_eq!(history[0]["cause"], "process-exited", "{history:#}");
    let told = clients.judge(&trio, &[old.address, new.address]);
    if settings.service.contains("loss = \"none\"") {
        assert_nothing_lost(&told, new);
    }
}

fn killed_master(flavour: Flavour) {
    killed(&MysqlSettings::new(flavour));
}

for_both!(killed_master:
    a_killed_mariadb_master_is_replaced_within_two_seconds_under_clients,
    a_killed_mysql_master_is_replaced_within_two_seconds_under_clients);

fn killed_lossless_master(flavour: Flavour) {
    killed(&MysqlSettings::lossless(flavour));
}

for_both!(killed_lossless_master:
    a_killed_mariadb_master_loses_nothing_that_was_acknowledged_with_loss_none,
    a_killed_mysql_master_loses_nothing_that_was_acknowledged_with_loss_none);

/// Commits that lie in the sockets of a stopped server.
fn queue(server: &Mysql, count: u64) -> mpsc::Receiver<Result<(), Trouble>> {
    let (answers, answered) = mpsc::channel();
    let connect = || Sql::connect(server.address, CLIENT, LATER * 3).expect("it answers");
    let connections: Vec<Sql> = (0..count).map(|_| connect()).collect();
    server.stop();
    for (serial, mut connection) in (0..count).zip(connections) {
        let answers = answers.clone();
        std::thread::spawn(move || {
            let values = format!("'queued', {serial}, @@server_id, NOW(6)");
            let answer = connection.run(&format!("INSERT INTO app.writes VALUES ({values})"));
            // The test may be over.
            let _ = answers.send(answer);
        });
    }
    answered
}

fn stopped_master(flavour: Flavour) {
    let service = "failover = \"auto\"\nhung_after = \"1s\"\n";
    let trio = MysqlTrio::adopted(&MysqlSettings::service(flavour, service));
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    let queued = queue(old, 8);
    let new = trio.until_other(old, LATER);
    old.resume();
    trio.until("the stopped process is gone", SOON, || old.exited().then_some(()));
    for _ in 0..8 {
        let answer = queued.recv_timeout(LATER).expect("a queued write is answered or lost");
        assert!(answer.is_err(), "a queued write was acknowledged");
    }
    clients.following.until_acked_by(new.address, 20);
    let json = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(json[0]["cause"], "hung", "{json:#}");
    clients.judge(&trio, &[old.address, new.address]);
}

for_both!(stopped_master:
    a_stopped_mariadb_master_is_ended_and_acknowledges_nothing_when_it_wakes,
    a_stopped_mysql_master_is_ended_and_acknowledges_nothing_when_it_wakes);

/// Stopped for less than `hung_after`: it goes on as the master, and no write is lost.
fn briefly_stopped_master(flavour: Flavour) {
    let service = "failover = \"auto\"\nhung_after = \"10s\"\n";
    let trio = MysqlTrio::adopted(&MysqlSettings::service(flavour, service));
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    let queued = queue(old, 4);
    let stays = wait::holds(Duration::from_secs(2), || {
        !trio.servers[1..].iter().any(|server| server.variable("read_only") == "0")
    });
    assert!(stays, "it was replaced\n{}", trio.agent.tail());
    old.resume();
    for _ in 0..4 {
        let answer = queued.recv_timeout(LATER).expect("a queued write is answered");
        assert_eq!(answer, Ok(()));
    }
    trio.until_master(old, SOON);
    clients.judge(&trio, &[old.address]);
}

for_both!(briefly_stopped_master:
    a_mariadb_master_that_is_stopped_for_a_moment_stays_and_commits_what_was_queued,
    a_mysql_master_that_is_stopped_for_a_moment_stays_and_commits_what_was_queued);

/// Brings an old master back. A commit that waited for its acknowledgement when it was killed is
/// in its log and sets it apart; then it is made anew, as a person would. Was it?
fn bring_back(trio: &MysqlTrio, old: &Mysql) -> bool {
    old.restart();
    let apart = trio.until("the old master is a copy or is set apart", LATER * 2, || {
        let status = trio.agent.status(SERVICE);
        let ranked =
            status["ranking"].as_array().is_some_and(|all| all.contains(&old.name.as_str().into()));
        let instances = status["instances"].as_array()?;
        let found = instances.iter().find(|it| it["instance"] == old.name.as_str())?;
        let apart = found["unfit"] == "it is quarantined";
        (ranked || apart).then_some(apart)
    });
    if apart {
        old.kill();
        old.restart_renewed();
    }
    apart
}

fn row_of_failovers(flavour: Flavour, rounds: usize) {
    let mut settings = MysqlSettings::lossless(flavour);
    settings.service += MysqlSettings::NO_COOLDOWN;
    let trio = MysqlTrio::adopted(&settings);
    let following = trio.following("following");
    let mut order = vec![trio.servers[0].address];
    let mut renewed = false;
    for _ in 0..rounds {
        trio.until_ready(LATER * 2);
        let old = trio.until_steady(LATER);
        following.until_acked_by(old.address, 20);
        old.kill();
        let new = trio.until_other(old, LATER);
        order.push(new.address);
        following.until_acked_by(new.address, 5);
        renewed |= bring_back(&trio, old);
    }
    let acks = following.end();
    assert!(gap(&acks) < LATER, "{:?} without a master", gap(&acks));
    let told = [("following".to_owned(), acks)];
    if renewed {
        // Its own log is gone with its data: what the clients were told has to do.
        judge_acks(&order, &told);
    } else {
        judge(&trio, &order, &told);
    }
    assert_nothing_lost(&told, trio.named().expect("a master"));
}

/// How often, for a longer look.
fn rounds() -> usize {
    std::env::var("SENGU_MYSQL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn failovers_of_mariadb_in_a_row_lose_nothing_with_loss_none() {
    row_of_failovers(Flavour::MariaDb, rounds());
}

#[test]
fn failovers_of_mysql_in_a_row_lose_nothing_with_loss_none() {
    row_of_failovers(Flavour::mysql(), rounds());
}

fn restarted_by_a_supervisor(flavour: Flavour, supervision: Supervision) {
    let trio = MysqlTrio::adopted(&MysqlSettings::lossless(flavour));
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    old.supervise(supervision);
    old.kill();
    trio.until("it is started again", SOON, || (old.starts() > 1).then_some(()));
    old.wait_answering();
    let master = trio.until("a master is named again", LATER * 2, || trio.named());
    clients.following.until_acked_by(master.address, 10);
    let emptied = supervision == Supervision::RestartEmptied;
    assert!(!emptied || master.address != old.address, "the emptied one won");
    let told = clients.end();
    assert_nothing_lost(&told, master);
    for server in trio.servers.iter().filter(|server| !emptied || server.address != old.address) {
        assert!(!server.serials("following").is_empty(), "{} was wiped", server.name);
    }
    if !emptied {
        let masters: Vec<SocketAddr> = trio.masters();
        judge(&trio, &masters, &told);
    }
}

#[test]
fn a_mariadb_master_that_a_supervisor_restarts_with_its_data_wipes_nobody() {
    restarted_by_a_supervisor(Flavour::MariaDb, Supervision::Restart);
}

#[test]
fn a_mysql_master_that_a_supervisor_restarts_with_its_data_wipes_nobody() {
    restarted_by_a_supervisor(Flavour::mysql(), Supervision::Restart);
}

#[test]
fn a_mariadb_master_that_a_supervisor_restarts_emptied_does_not_win() {
    restarted_by_a_supervisor(Flavour::MariaDb, Supervision::RestartEmptied);
}

#[test]
fn a_mysql_master_that_a_supervisor_restarts_emptied_does_not_win() {
    restarted_by_a_supervisor(Flavour::mysql(), Supervision::RestartEmptied);
}

fn moved_by_a_person(flavour: Flavour) {
    let trio = MysqlTrio::adopted(&MysqlSettings::service(flavour, "failover = \"manual\"\n"));
    let old = &trio.servers[0];
    let clients = Clients::writing(&trio);
    old.kill();
    trio.agent.until_name(MASTER, &[], SOON);
    let moved = wait::holds(SOON, || trio.writable().is_empty());
    assert!(moved, "it was moved without being asked");
    trio.agent.sengu(&["failover", SERVICE, "--wait", "10"]).good();
    let new = trio.until_other(old, SOON);
    clients.following.until_acked_by(new.address, 10);
    clients.judge(&trio, &[old.address, new.address]);
}

for_both!(moved_by_a_person:
    without_automatic_failover_a_person_moves_mariadb,
    without_automatic_failover_a_person_moves_mysql);
