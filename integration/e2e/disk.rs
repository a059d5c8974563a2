//! Full disks: small file systems in memory, which need root.

use std::fs;

use integration::rig::trio::{MASTER, SERVICE};
use integration::rig::{Agent, Disk, Place, Settings, Trio, http};

use crate::{LATER, SOON};

/// Writes values of this size until the store refuses; gives back what it said.
fn until_refused(agent: &Agent, size: usize) -> String {
    let value = vec![b'x'; size];
    for number in 0..5000 {
        let answer = http::put(agent.http, &format!("/v1/kv/{size}/{number}"), &value);
        let answer = answer.expect("the agent answers");
        if answer.status != 200 {
            return answer.body;
        }
    }
    panic!("the store never refused");
}

#[test]
fn a_full_disk_under_the_store_is_told_and_moves_go_on_when_there_is_room() {
    let settings = Settings::default();
    let place = Place::claim();
    let disk = Disk::memory(&place.path("data"), "4m");
    let servers = Trio::servers(&place, &settings);
    servers[0].open();
    for replica in &servers[1..] {
        replica.follow(servers[0].address);
    }
    let config = Trio::config(&place, &settings, &servers);
    let agent = Agent::start(&place, &config);
    let mut trio = Trio { agent, servers, config, place };
    trio.adopt();
    let filler = disk.fill();
    // A client uses up what the store had set aside, down to the last page.
    for size in [400 << 10, 20 << 10, 1 << 10, 1] {
        let told = until_refused(&trio.agent, size);
        assert!(told.contains("no space left"), "{told}");
    }
    let old = &trio.servers[0];
    old.kill();
    // Whatever can still be written: nobody is told to go where nobody is.
    trio.until("the dead one is not named", LATER, || {
        (!trio.agent.addresses(MASTER).contains(&old.address.ip())).then_some(())
    });
    fs::remove_file(filler).expect("it can be removed");
    trio.until_other(old, LATER);
    old.restart();
    trio.until_steady(LATER);
    trio.agent.kill();
    drop(disk);
}

#[test]
fn an_agent_does_not_start_on_a_full_disk_and_says_why() {
    let place = Place::claim();
    let disk = Disk::memory(&place.path("data"), "64k");
    disk.fill();
    let mut agent = Agent::launch(&place, &Agent::head(&place));
    let status = agent.wait_ended(LATER).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", agent.tail());
    let told = agent.tail();
    assert!(told.contains(&place.path("data").display().to_string()), "{told}");
    assert!(told.contains("full") || told.contains("space"), "{told}");
    drop(disk);
}

#[test]
fn a_full_disk_under_a_rendered_file_keeps_the_old_file_and_delays_nothing() {
    let place = Place::claim();
    let disk = Disk::memory(&place.path("etc"), "64k");
    let file = place.path("etc/hosts");
    fs::write(&file, "127.0.0.1 localhost\n").expect("writable");
    let filler = disk.fill();
    let outputs =
        format!("[[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n", file.display());
    let trio = Trio::adopted(&Settings { outputs, ..Settings::default() });
    let old = &trio.servers[0];
    trio.agent.until_logged(&file.display().to_string(), LATER);
    old.kill();
    let new = trio.until_other(old, SOON);
    assert_eq!(fs::read_to_string(&file).expect("readable"), "127.0.0.1 localhost\n");
    fs::remove_file(filler).expect("it can be removed");
    trio.until("the file is written when there is room", LATER * 2, || {
        let text = fs::read_to_string(&file).ok()?;
        (text.contains(&new.address.ip().to_string()) && text.contains(MASTER)).then_some(())
    });
    assert_eq!(trio.agent.status(SERVICE)["state"], "serving");
    drop(trio);
    drop(disk);
}
