//! What people ask of the agent: pause, drain, release, adopt, reload; and what it refuses.

use std::fs;

use integration::rig::redis::Setup;
use integration::rig::trio::{MASTER, REPLICAS, SERVICE};
use integration::rig::{Settings, Trio, wait};

use crate::{LATER, SOON};

#[test]
fn a_pause_stops_failover_until_it_is_ended() {
    let trio = Trio::adopted(&Settings::default());
    let old = &trio.servers[0];
    trio.agent.sengu(&["pause", SERVICE, "--for", "10m", "--comment", "cabling"]).good();
    assert!(trio.agent.sengu(&["status"]).good().out.contains("paused"));
    old.kill();
    trio.agent.until_name(MASTER, &[], SOON);
    assert!(wait::holds(SOON, || trio.writable().is_empty()), "moved while paused");
    let told = trio.agent.sengu(&["explain", SERVICE]).good().out;
    assert!(told.contains("paused"), "{told}");
    trio.agent.sengu(&["resume", SERVICE]).good();
    let new = trio.until_other(old, SOON);
    old.restart();
    trio.until_followed(new, LATER);
}

#[test]
fn a_pause_ends_by_itself() {
    let trio = Trio::adopted(&Settings::default());
    trio.agent.sengu(&["pause", SERVICE, "--for", "2s"]).good();
    trio.servers[0].kill();
    trio.agent.until_name(MASTER, &[], SOON);
    trio.until_other(&trio.servers[0], LATER);
}

#[test]
fn a_drained_instance_leaves_the_names_and_is_no_candidate() {
    let trio = Trio::adopted(&Settings::default());
    let [master, drained, other] = &trio.servers[..] else { panic!("three servers") };
    let named = |server: &integration::rig::Redis| {
        trio.agent.addresses(REPLICAS).contains(&server.address.ip())
    };
    trio.until("both are named", SOON, || (named(drained) && named(other)).then_some(()));
    trio.agent.sengu(&["drain", SERVICE, "cache2"]).good();
    trio.until("it has left the names", SOON, || (!named(drained) && named(other)).then_some(()));
    trio.switchover(&["--to", "cache2"]).refused("drained");
    master.kill();
    let new = trio.until_other(master, SOON);
    assert_eq!(new.name, "cache3");
    trio.agent.sengu(&["undrain", SERVICE, "cache2"]).good();
    trio.until("it is named again", LATER, || named(drained).then_some(()));
}

#[test]
fn a_released_service_is_left_as_it_is_and_can_be_adopted_again() {
    let trio = Trio::adopted(&Settings::default());
    let master = &trio.servers[0];
    trio.agent.sengu(&["release", SERVICE]).good();
    trio.agent.until_name(MASTER, &[], SOON);
    assert_eq!(trio.writable(), [master.address]);
    assert!(trio.servers[1..].iter().all(|server| server.follows(master.address)));
    // A person does what they like.
    trio.servers[1].open();
    trio.servers[2].follow(trio.servers[1].address);
    master.follow(trio.servers[1].address);
    let stays = wait::holds(SOON, || trio.writable() == [trio.servers[1].address]);
    assert!(stays, "a released service was touched");
    trio.agent.sengu(&["adopt", SERVICE, "--wait", "10"]).good();
    trio.until_master(&trio.servers[1], SOON);
    assert_eq!(trio.agent.status(SERVICE)["term"], 2);
}

#[test]
fn two_that_take_writes_are_not_adopted() {
    let trio = Trio::start(&Settings::default());
    trio.servers[1].open();
    trio.agent.sengu(&["adopt", SERVICE, "--wait", "8"]).refused("cache1 and cache2 take writes");
    let both = [trio.servers[0].address, trio.servers[1].address];
    assert_eq!(trio.writable(), both, "before adoption nothing is touched");
    assert!(trio.agent.addresses(MASTER).is_empty());
}

#[test]
fn a_replica_of_a_replica_is_not_adopted() {
    let trio = Trio::start(&Settings::default());
    trio.servers[2].follow(trio.servers[1].address);
    trio.agent.sengu(&["adopt", SERVICE, "--wait", "8"]).refused("`cache3` follows");
    assert!(trio.servers[2].follows(trio.servers[1].address));
}

#[test]
fn a_server_that_would_start_open_is_not_adopted_for_automatic_failover() {
    let server = Setup { fenced: false, ..Setup::default() };
    let trio = Trio::start(&Settings { server, ..Settings::default() });
    let told = trio.agent.sengu(&["adopt", SERVICE, "--wait", "8"]);
    let told = told.refused("replicaof 127.0.0.1 1");
    assert!(told.err.contains("redis.conf"), "the file is not named: {}", told.err);
    // The way out is the one that was told.
    for server in &trio.servers {
        let text = fs::read_to_string(&server.file).expect("readable");
        fs::write(&server.file, text + "replicaof 127.0.0.1 1\n").expect("writable");
    }
    trio.agent.until_status(SERVICE, "the files were read again", LATER, |_| {
        trio.agent.sengu(&["adopt", SERVICE, "--wait", "8"]).code == Some(0)
    });
    trio.until_master(&trio.servers[0], SOON);
}

#[test]
fn before_adoption_nothing_is_touched_and_everything_is_shown() {
    let trio = Trio::start(&Settings::default());
    let told = trio.agent.sengu(&["status"]).good().out;
    assert!(told.contains("not adopted"), "{told}");
    trio.servers[0].kill();
    assert!(wait::holds(SOON, || trio.writable().is_empty()), "moved before adoption");
    assert!(trio.agent.addresses(MASTER).is_empty());
}

#[test]
fn a_cold_start_needs_a_name() {
    let trio = Trio::start(&Settings::default());
    for server in &trio.servers {
        server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    }
    trio.until("nobody takes writes", SOON, || trio.writable().is_empty().then_some(()));
    trio.agent.until_status(SERVICE, "it is seen", LATER, |status| {
        let instances = status["instances"].as_array().cloned().unwrap_or_default();
        !instances.is_empty() && instances.iter().all(|at| at["writable"] == false)
    });
    trio.agent.sengu(&["adopt", SERVICE, "--wait", "8"]).refused("--master");
    trio.agent.sengu(&["adopt", SERVICE, "--master", "cache2", "--wait", "10"]).good();
    trio.until_master(&trio.servers[1], LATER);
    trio.until_followed(&trio.servers[1], LATER);
}

#[test]
fn a_reload_takes_new_settings_and_refuses_what_would_lose_the_master() {
    let trio = Trio::adopted(&Settings::default());
    let write = |text: &str| fs::write(&trio.agent.config, text).expect("writable");
    write(&trio.config.replace("failover = \"auto\"", "failover = \"auto\"\nmax_lag = \"3s\""));
    let told = trio.agent.sengu(&["reload"]).good().out;
    assert!(told.contains("max_lag"), "{told}");
    write(
        &trio
            .config
            .replace("[service.foo-redis.instance.cache1]", "[service.foo-redis.instance.other]"),
    );
    trio.agent.sengu(&["reload"]).refused("cache1");
    write(&format!("{}\nwhat = 1\n", trio.config));
    trio.agent.sengu(&["reload"]).refused("what");
    trio.until_master(&trio.servers[0], SOON);
    write(&trio.config);
    trio.agent.sengu(&["reload"]).good();
    trio.switchover(&["--to", "cache2"]).good();
}

#[test]
fn commands_without_an_agent_say_so() {
    let mut trio = Trio::start(&Settings { count: 1, ..Settings::default() });
    trio.agent.kill();
    for words in [&["status"][..], &["adopt", SERVICE], &["history", SERVICE], &["reload"]] {
        let told = trio.agent.sengu(words);
        assert_eq!(told.code, Some(3), "{words:?}: {}", told.all());
        assert!(told.err.contains("sengu agent"), "{words:?}: {}", told.err);
    }
}
