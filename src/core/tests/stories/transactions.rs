//! Stories of MySQL's and MariaDB's positions: transactions by the server that wrote them.

use std::collections::BTreeMap;
use std::time::Duration;

use sengu_core::event::Command;
use sengu_core::observation::Verdict;
use sengu_core::policy::{DatabaseKind, Failover, Loss, OnError};
use sengu_core::record::{Ask, Cause, Lag, MasterState, Phase, Proof, Stand, key};
use sengu_core::time::Wall;

use crate::world::{Database, World, alone, instance, mariadb, service, transactions, uuid};

/// A copy wrote transactions of its own: it is no candidate, and is named with them.
#[test]
fn a_copy_with_transactions_of_its_own_is_no_candidate() {
    let mut world = World::mysql(Loss::Bounded, 2);
    world.database_mut("db2").position = transactions("db2", &[("db1", 100), ("db2", 3)]);
    world.run_for(Duration::from_secs(2));
    let quarantine = world.instance_record("db2").and_then(|record| record.quarantine);
    let strays = format!("{}:1-3", uuid("db2"));
    assert!(quarantine.is_some_and(|why| why.contains(&strays)), "{}", world.tell());
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db3"), "{}", world.tell());
}

/// The old master comes back with writes that nobody received: it stays closed, its transactions
/// are named and listed, and once they were applied on the master it follows by itself.
#[test]
fn an_old_master_with_more_waits_for_a_person() {
    let mut world = World::mysql(Loss::Bounded, 2);
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
    world.restart("db1", Database::fenced(2, transactions("db1", &[("db1", 107)])));
    world.run_for(Duration::from_secs(3));
    assert!(!world.database("db1").linked, "it was made to follow\n{}", world.tell());
    let said = world.refusals().join("\n");
    assert!(said.contains(&format!("{}:101-107", uuid("db1"))), "{said}");
    world.database_mut("db2").position = transactions("db2", &[("db1", 107), ("db2", 5)]);
    world.run_for(Duration::from_secs(3));
    assert!(world.database("db1").linked, "the master has them now\n{}", world.tell());
    let quarantine = world.instance_record("db1").and_then(|record| record.quarantine);
    assert_eq!(quarantine, None);
}

/// The old master comes back with nothing of its own: it follows by itself.
#[test]
fn a_clean_old_master_follows_by_itself() {
    let mut world = World::mysql(Loss::Bounded, 2);
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    world.database_mut("db2").position = transactions("db2", &[("db1", 100), ("db2", 9)]);
    world.database_mut("db3").position = transactions("db3", &[("db1", 100), ("db2", 9)]);
    world.restart("db1", Database::fenced(2, transactions("db1", &[("db1", 100)])));
    world.run_for(Duration::from_secs(3));
    assert!(world.database("db1").linked, "{}", world.tell());
}

/// A copy that was told to follow and gets no link to a master that is well is told again after a
/// while, and not at each look. While the master does not answer either, nobody tells it anything.
#[test]
fn a_copy_that_gets_no_link_is_told_again() {
    let mut world = World::mysql(Loss::Bounded, 2);
    let told = |world: &World| {
        let follows = |(name, command): &&(String, Command)| {
            name == "db2" && matches!(command, Command::Follow { .. })
        };
        world.commands().iter().filter(follows).count()
    };
    let before = told(&world);
    world.database_mut("db2").linked = false;
    world.run_for(Duration::from_secs(10));
    assert_eq!(told(&world), before, "{}", world.tell());
    world.run_for(Duration::from_secs(10));
    assert_eq!(told(&world), before + 1, "{}", world.tell());
    assert!(world.database("db2").linked, "{}", world.tell());
    world.database_mut("db2").linked = false;
    world.database_mut("db1").silent = true;
    world.run_for(Duration::from_secs(3));
    assert_eq!(told(&world), before + 1, "{}", world.tell());
}

/// The copy that received the most has its applier stopped: the other one takes over.
#[test]
fn an_applier_that_is_stopped_keeps_the_best_copy_out() {
    let mut world = World::mysql(Loss::Bounded, 2);
    let best = world.database_mut("db2");
    best.position = transactions("db2", &[("db1", 120)]);
    best.unapplied = Some(transactions("db2", &[("db1", 90)]));
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db3"), "{}", world.tell());
}

/// A copy whose filter leaves out some of what it receives says by its position that it has all:
/// it is no target, no candidate unless a person gives up what it lacks, and no replica to read.
#[test]
fn a_copy_that_leaves_out_some_is_neither_target_nor_candidate() {
    let mut world = World::mysql(Loss::Bounded, 2);
    world.database_mut("db2").filtered = true;
    world.run_for(Duration::from_secs(2));
    let filter = "`replicate_do_db` is set";
    assert!(world.problems().iter().any(|why| why.contains(filter)), "{:?}", world.problems());
    let readable: Vec<String> = world.view().replicas().map(|(name, _)| name.to_string()).collect();
    assert_eq!(readable, ["db3"]);
    world.ask("s", Ask::Switchover { to: Some(instance("db2")) }, Some(1));
    world.run_for(Duration::from_secs(4));
    let stand = world.stand("s");
    assert!(matches!(&stand, Stand::Refused(why) if why.contains(filter)), "{stand:?}");
    assert!(!world.was_fenced("db1"), "{}", world.tell());
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db3"), "{}", world.tell());
}

/// The only copy is such a one: nobody takes over unless a person says so, and what was lost is
/// not said to be nothing.
#[test]
fn the_only_copy_that_leaves_out_some_waits_for_a_person() {
    let mut world = World::mysql(Loss::Bounded, 1);
    world.database_mut("db2").filtered = true;
    world.run_for(Duration::from_secs(2));
    world.exit("db1");
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.named(), None, "{}", world.tell());
    let why = "a replication filter leaves out some of what it receives";
    assert!(world.refusals().iter().any(|it| it.contains(why)), "{:?}", world.refusals());
    let to = Some(instance("db2"));
    world.ask("failover", Ask::Failover { to, lossy: true }, Some(1));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
    let loss = world.history(2).loss;
    assert_eq!(loss, "unknown: a replication filter left out some of what `db2` received");
}

/// A target that begins to leave out some after it was agreed on is refused by its own agent.
#[test]
fn a_target_that_begins_to_leave_out_some_is_refused() {
    let mut world = World::mysql_held_elsewhere(2_100);
    world.database_mut("db2").filtered = true;
    let agreed = Stand::Agreed { to: instance("db2") };
    world.ask_at("s", Ask::Switchover { to: None }, Some(1), agreed);
    world.run_for(Duration::from_secs(3));
    let stand = world.stand("s");
    assert!(matches!(&stand, Stand::Refused(why) if why.contains("replicate_do_db")), "{stand:?}");
}

/// What was received is applied before the promotion; what a copy received counts, not what it
/// applied.
#[test]
fn what_was_received_counts_and_is_applied_first() {
    let mut world = World::mysql(Loss::Bounded, 2);
    let best = world.database_mut("db3");
    best.position = transactions("db3", &[("db1", 120)]);
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db3"), "{}", world.tell());
    let promoted = |(_, command): &(String, Command)| matches!(command, Command::Promote { .. });
    assert_eq!(world.commands().iter().filter(|told| promoted(told)).count(), 1);
}

/// The copy that received the most takes more than a minute to apply it: it is waited for as long
/// as it comes on, and what is left is said.
#[test]
fn a_copy_that_applies_what_it_received_is_waited_for_while_it_comes_on() {
    let mut world = World::mysql(Loss::Bounded, 2);
    let best = world.database_mut("db2");
    best.position = transactions("db2", &[("db1", 120)]);
    best.unapplied = Some(transactions("db2", &[("db1", 100)]));
    best.applies = true;
    world.exit("db1");
    for applied in 101..120 {
        world.run_for(Duration::from_secs(4));
        assert_eq!(world.holder(), "db2", "{}", world.tell());
        assert_eq!(world.named(), None, "nobody is named before\n{}", world.tell());
        let doing = world.explain().report.doing.unwrap_or_default();
        assert!(doing.contains("applies what it received"), "{doing}\n{}", world.tell());
        world.database_mut("db2").unapplied = Some(transactions("db2", &[("db1", applied)]));
    }
    world.database_mut("db2").unapplied = None;
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
    assert_eq!(world.master().term.0, 2, "one term was enough\n{}", world.tell());
}

/// The same copy, which comes on no more: the other one takes over.
#[test]
fn a_copy_that_comes_on_no_more_is_passed_over() {
    let mut world = World::mysql(Loss::Bounded, 2);
    let best = world.database_mut("db2");
    best.position = transactions("db2", &[("db1", 120)]);
    best.unapplied = Some(transactions("db2", &[("db1", 90)]));
    best.applies = true;
    world.exit("db1");
    world.run_for(Duration::from_secs(8));
    assert_eq!(world.holder(), "db2", "{}", world.tell());
    world.database_mut("db2").unapplied = Some(transactions("db2", &[("db1", 100)]));
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.named().as_deref(), Some("db3"), "{}", world.tell());
}

/// `db2` has received all that the master wrote, and applied but so much of it.
fn has_applied(world: &mut World, count: u64) {
    let db2 = world.database_mut("db2");
    db2.unapplied = Some(transactions("db2", &[("db1", count)]));
    db2.applies = true;
}

/// The master serves on another host. Its copy here is the target of a planned move, and has 2,000
/// transactions to apply: the service waits for that with its master, not without.
#[test]
fn a_target_applies_what_it_received_before_the_master_is_closed() {
    let mut world = World::mysql_held_elsewhere(2_100);
    has_applied(&mut world, 100);
    let to = instance("db2");
    world.ask_at("s", Ask::Switchover { to: None }, Some(1), Stand::Agreed { to: to.clone() });
    for applied in [500, 1_000, 2_099] {
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.stand("s"), Stand::Agreed { to: to.clone() }, "{}", world.tell());
        has_applied(&mut world, applied);
    }
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.stand("s"), Stand::Agreed { to: to.clone() }, "{}", world.tell());
    let lag = world.instance_record("db2").map(|record| record.lag);
    assert_eq!(lag, Some(Lag::Some), "{}", world.tell());
    has_applied(&mut world, 2_100);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.stand("s"), Stand::Prepared { to }, "{}", world.tell());
}

/// The same, and it gets no closer within the lag that is allowed: refused, with what it lacks.
#[test]
fn a_target_that_gets_no_closer_is_refused() {
    let mut world = World::mysql_held_elsewhere(2_100);
    has_applied(&mut world, 100);
    let agreed = Stand::Agreed { to: instance("db2") };
    world.ask_at("s", Ask::Switchover { to: None }, Some(1), agreed);
    world.run_for(Duration::from_secs(12));
    let stand = world.stand("s");
    let said = "2000 transactions that it received";
    assert!(matches!(&stand, Stand::Refused(why) if why.contains(said)), "{stand:?}");
    let lag = world.instance_record("db2").map(|record| record.lag);
    assert_eq!(lag, Some(Lag::Far), "{}", world.tell());
}

/// Its `before-switchover` hook takes longer than the lag that is allowed, and it falls behind
/// while that runs: it gets the time to catch up, as without hooks.
#[test]
fn a_target_that_falls_behind_during_its_hook_may_catch_up() {
    let mut world = World::mysql_held_elsewhere(2_100);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.hooks = BTreeMap::from([(Phase::BeforeSwitchover, OnError::Abort)]);
    world.reload();
    world.hooks_take = Duration::from_secs(15);
    let agreed = Stand::Agreed { to: instance("db2") };
    world.ask_at("s", Ask::Switchover { to: None }, Some(1), agreed.clone());
    world.run_for(Duration::from_secs(5));
    world.database_mut("db2").position = transactions("db2", &[("db1", 4_100)]);
    has_applied(&mut world, 2_100);
    world.run_for(Duration::from_secs(15));
    assert_eq!(world.stand("s"), agreed, "{}", world.tell());
    has_applied(&mut world, 4_100);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.stand("s"), Stand::Prepared { to: instance("db2") }, "{}", world.tell());
}

/// A copy of a busy master always has some hundreds to apply, none of them old: it is closed by
/// nothing that it lacks.
#[test]
fn a_target_that_keeps_up_prepares() {
    let mut world = World::mysql_held_elsewhere(2_100);
    let agreed = Stand::Agreed { to: instance("db2") };
    world.ask_at("s", Ask::Switchover { to: None }, Some(1), agreed.clone());
    for received in (2_400..).step_by(300).take(9) {
        world.database_mut("db2").position = transactions("db2", &[("db1", received)]);
        has_applied(&mut world, received - 300);
        world.run_for(Duration::from_millis(500));
    }
    let prepared = Stand::Prepared { to: instance("db2") };
    assert_eq!(world.stand("s"), prepared, "{}", world.tell());
}

/// What a target received just before its master was closed takes it long to apply: the giver takes
/// back.
#[test]
fn a_target_that_applies_for_long_is_not_waited_for_without_a_master() {
    let mut world = World::mysql(Loss::Bounded, 1);
    world.database_mut("db1").close();
    world.database_mut("db1").position = transactions("db1", &[("db1", 2_100)]);
    world.database_mut("db2").position = transactions("db2", &[("db1", 2_100)]);
    has_applied(&mut world, 100);
    let giving = MasterState::Giving {
        to: instance("db2"),
        position: transactions("db1", &[("db1", 2_100)]),
        request: "s".to_owned(),
    };
    world.write_master(1, giving, "db1", &[transactions("db1", &[])]);
    world.run_for(Duration::from_secs(8));
    assert_eq!(world.named().as_deref(), Some("db1"), "{}", world.tell());
}

/// A long transaction on the master: a planned move is refused, with the transaction named.
#[test]
fn a_switchover_is_refused_while_something_stands_in_its_way() {
    let mut world = World::mysql(Loss::Bounded, 1);
    let obstacle = "transaction of app@10.0.0.9 (connection 42) open for 31 s";
    world.database_mut("db1").obstacles = vec![obstacle.to_owned()];
    world.ask("s", Ask::Switchover { to: Some(instance("db2")) }, Some(1));
    world.run_for(Duration::from_secs(4));
    let stand = world.stand("s");
    assert!(matches!(&stand, Stand::Refused(why) if why.contains(obstacle)), "{stand:?}");
    assert!(!world.was_fenced("db1"), "{}", world.tell());
    world.database_mut("db1").obstacles.clear();
    world.ask("t", Ask::Switchover { to: Some(instance("db2")) }, Some(1));
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
}

/// The master is quiet, and a copy lacks its last transaction: it is behind since that was written,
/// however quiet it is since.
#[test]
fn a_copy_that_lacks_the_last_of_a_quiet_master_is_behind() {
    let mut world = World::mysql(Loss::Bounded, 2);
    world.database_mut("db1").position = transactions("db1", &[("db1", 101)]);
    world.database_mut("db2").position = transactions("db2", &[("db1", 101)]);
    world.run_for(Duration::from_secs(15));
    let lag = |name| world.instance_record(name).map(|record| record.lag);
    assert_eq!(lag("db2"), Some(Lag::None), "{}", world.tell());
    assert_eq!(lag("db3"), Some(Lag::Far), "{}", world.tell());
}

/// Read-only does not bind an account (MariaDB). Where the process may be ended that is no reason
/// to leave a service without its failover; a planned move is refused: it would end the process.
#[test]
fn an_account_above_read_only_is_told_and_refuses_what_is_planned() {
    let mut world = World::mysql(Loss::Bounded, 1);
    let why = "'app'@'%' writes in spite of `read_only`";
    for name in ["db1", "db2"] {
        world.database_mut(name).bound = Verdict::Bad(why.to_owned());
    }
    world.run_for(Duration::from_secs(3));
    assert!(world.problems().join("\n").contains(why), "{:?}", world.problems());
    assert_eq!(world.refusals(), Vec::<String>::new());
    world.ask("s", Ask::Switchover { to: Some(instance("db2")) }, Some(1));
    world.run_for(Duration::from_secs(4));
    let stand = world.stand("s");
    assert!(matches!(&stand, Stand::Refused(reason) if reason.contains(why)), "{stand:?}");
    assert!(!world.was_fenced("db1"), "{}", world.tell());
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
    let settings = world.config.services.get_mut(&service()).expect("configured");
    settings.policy.kill = false;
    world.reload();
    world.run_for(Duration::from_secs(3));
    let said = world.refusals().join("\n");
    assert!(said.contains(why) && said.contains("`kill = true`"), "{said}");
}

/// A person applied on the master what only the old one had, and a copy received it from there: it
/// is set apart by nobody, and takes over when the master exits.
#[test]
fn what_a_person_applied_on_the_master_is_no_stray_on_its_copies() {
    let mut world = World::mysql(Loss::Bounded, 2);
    world.exit("db1");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
    world.restart("db1", Database::fenced(2, transactions("db1", &[("db1", 107)])));
    world.run_for(Duration::from_secs(3));
    for name in ["db2", "db3"] {
        world.database_mut(name).position = transactions(name, &[("db1", 107), ("db2", 5)]);
    }
    world.run_for(Duration::from_secs(3));
    world.database_mut("db3").position = transactions("db3", &[("db1", 107), ("db2", 9)]);
    world.run_for(Duration::from_secs(3));
    let apart = |world: &World, name| world.instance_record(name).and_then(|it| it.quarantine);
    assert_eq!(apart(&world, "db3"), None, "it only came further since\n{}", world.tell());
    world.exit("db2");
    world.run_for(Duration::from_secs(8));
    assert_eq!(world.named().as_deref(), Some("db3"), "{}", world.tell());
}

/// A copy of MariaDB wrote a transaction of its own, and its applier stopped (strict mode) while it
/// goes on receiving. Later numbers that it received do not say that the master has its own one.
#[test]
fn what_a_copy_received_does_not_hide_what_it_wrote() {
    let master = Database::master(1, mariadb(1, "0-1-500"));
    let copy = Database {
        unapplied: Some(mariadb(2, "0-1-425,0-2-427")),
        applies: true,
        ..Database::replica(1, "db1", mariadb(2, "0-1-480,0-2-427"))
    };
    let mut world = World::new(Failover::Auto, alone(), &[("db1", master), ("db2", copy)]);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.kind = DatabaseKind::Mysql;
    world.adopted(1, MasterState::Serving, "db1", &[mariadb(1, "0-1-1")]);
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    for number in [490, 510, 505, 530] {
        world.database_mut("db2").position = mariadb(2, &format!("0-1-{number},0-2-427"));
        world.run_for(Duration::from_secs(2));
        let quarantine = world.instance_record("db2").and_then(|record| record.quarantine);
        let said = quarantine.is_some_and(|why| why.contains("0-2-427"));
        assert!(said, "at {number}\n{}", world.tell());
    }
}

/// A master was emptied and opened again, and gave as many numbers as its copy has. The copy was
/// never in step with it: what it lacks of them is not known.
#[test]
fn numbers_that_were_given_again_do_not_say_that_nothing_was_lost() {
    let loss = |denied: bool| {
        let master = Database::master(1, mariadb(1, "0-1-514"));
        let copy = Database::replica(1, "db1", mariadb(2, "0-1-514"));
        let copy = Database { linked: !denied, denied, ..copy };
        let mut world = World::new(Failover::Manual, alone(), &[("db1", master), ("db2", copy)]);
        let settings = world.config.services.get_mut(&service()).expect("it is configured");
        settings.kind = DatabaseKind::Mysql;
        world.adopted(2, MasterState::Serving, "db1", &[mariadb(1, "0-1-11")]);
        world.start_agent();
        world.run_for(Duration::from_secs(20));
        let told = world
            .commands()
            .iter()
            .any(|(name, command)| name == "db2" && matches!(command, Command::Follow { .. }));
        assert!(!told, "it is told again\n{}", world.tell());
        let quarantine = world.instance_record("db2").and_then(|record| record.quarantine);
        let says = quarantine.is_some_and(|why| why.contains("`db1` was set back or emptied"));
        assert_eq!(says, denied, "{}", world.tell());
        world.database_mut("db1").close();
        let mut record = world.master();
        let noticed = Wall(1_699_999_999_000);
        let (proof, cause) = (Proof::Fenced, Cause::Hung);
        record.state = MasterState::Vacant { proof, cause, noticed, seen: None };
        world.put_record(key::master(&service()), &record);
        let to = Some(instance("db2"));
        world.ask("p1", Ask::Failover { to, lossy: true }, Some(2));
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
        world.history(3).loss
    };
    assert_eq!(loss(false), "nothing: it has all that the old master had");
    let told = loss(true);
    assert!(told.starts_with("unknown: `db2` was not seen in step"), "{told}");
}

/// A copy of MariaDB was made anew and applies what it received; by then it names the last of it
/// only, not what another server wrote before. The master dies and comes back empty, and the other
/// copy lacks the last: as soon as the first has applied everything it is seen to have all.
#[test]
fn what_a_copy_received_is_known_when_it_has_applied_it() {
    let master = Database::master(1, mariadb(1, "0-4-100,0-3-400,0-1-500"));
    let anew = Database {
        unapplied: Some(mariadb(2, "0-4-90")),
        applies: true,
        ..Database::replica(1, "db1", mariadb(2, "0-4-90,0-1-500"))
    };
    let other = Database::replica(1, "db1", mariadb(3, "0-4-100,0-3-400,0-1-480"));
    let databases = [("db1", master), ("db2", anew), ("db3", other)];
    let mut world = World::new(Failover::Auto, alone(), &databases);
    let settings = world.config.services.get_mut(&service()).expect("it is configured");
    settings.kind = DatabaseKind::Mysql;
    let origins = [mariadb(3, "0-4-100"), mariadb(1, "0-4-100,0-3-400")];
    world.adopted(2, MasterState::Serving, "db1", &origins);
    world.start_agent();
    world.run_for(Duration::from_secs(3));
    world.exit("db1");
    world.restart("db1", Database::fenced(2, mariadb(1, "")));
    world.run_for(Duration::from_secs(20));
    let said = |why: &String| why.contains("`db2`: its history and that of db3 cannot be compared");
    assert!(world.refusals().iter().any(said), "{}", world.tell());
    assert_eq!(world.named(), None, "who has most is not known yet\n{}", world.tell());
    let db2 = world.database_mut("db2");
    db2.position = mariadb(2, "0-4-100,0-3-400,0-1-500");
    db2.unapplied = None;
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.named().as_deref(), Some("db2"), "{}", world.tell());
}
