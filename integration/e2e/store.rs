//! The embedded store as a whole: one agent at a time, archives, damage.

use std::fs;
use std::time::Duration;

use integration::rig::agent::sengu;
use integration::rig::trio::SERVICE;
use integration::rig::{Agent, Place, Settings, Trio};
use rustix::process::Signal;

use crate::{LATER, SOON};

/// A second configuration with everything of its own but what is replaced.
fn other(config: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(config.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "`{from}` is not in the configuration");
        text.replace(from, to)
    })
}

#[test]
fn a_second_agent_on_the_same_folder_is_refused() {
    let trio = Trio::adopted(&Settings::default());
    let place = Place::claim();
    let config = other(
        &trio.config,
        &[
            ("sengu.sock", "second.sock"),
            (&trio.place.address(9).to_string(), &place.address(9).to_string()),
        ],
    );
    let mut second = Agent::launch(&place, &config);
    let status = second.wait_ended(LATER).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", second.tail());
    let log = second.tail();
    assert!(log.contains("in use by process"), "{log}");
    assert!(log.contains(&trio.agent.pid().to_string()), "{log}");
    trio.until_master(&trio.servers[0], SOON);
}

#[test]
fn a_second_agent_on_the_same_socket_is_refused() {
    let trio = Trio::adopted(&Settings::default());
    let place = Place::claim();
    let data = place.path("data").display().to_string();
    let config = other(
        &trio.config,
        &[
            (&trio.place.path("data").display().to_string(), &data),
            (&trio.place.address(9).to_string(), &place.address(9).to_string()),
        ],
    );
    let mut second = Agent::launch(&place, &config);
    let status = second.wait_ended(LATER).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", second.tail());
    assert!(second.tail().contains("sengu.sock"), "{}", second.tail());
    trio.agent.sengu(&["status"]).good();
}

#[test]
fn an_archive_goes_into_another_folder_and_counts_after_a_person_said_so() {
    let mut trio = Trio::adopted(&Settings::default());
    trio.switchover(&["--to", "cache2"]).good();
    let term = trio.agent.status(SERVICE)["term"].clone();
    trio.agent.signal(Signal::TERM);
    assert_eq!(trio.agent.wait_ended(LATER).and_then(|status| status.code()), Some(0));

    let archive = trio.place.path("archive").display().to_string();
    trio.agent.sengu(&["store", "verify"]).good();
    trio.agent.sengu(&["store", "export", &archive]).good();
    let data = trio.place.path("data").display().to_string();
    let fresh = trio.place.path("fresh").display().to_string();
    let config = other(&trio.config, &[(&data, &fresh)]);
    fs::write(&trio.agent.config, &config).expect("writable");
    trio.agent.sengu(&["store", "import", &archive]).good();

    trio.agent.relaunch();
    let status = trio.agent.wait_ended(LATER).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", trio.agent.tail());
    assert!(trio.agent.tail().contains("sengu store incarnate"), "{}", trio.agent.tail());

    trio.agent.sengu(&["store", "incarnate"]).good();
    trio.agent.restart();
    trio.until_master(trio.server("cache2"), LATER);
    assert_eq!(trio.agent.status(SERVICE)["term"], term);
    trio.until_settled(LATER);
    trio.switchover(&["--to", "cache1"]).good();
}

#[test]
fn an_import_into_a_store_with_records_is_refused() {
    let mut trio = Trio::adopted(&Settings::default());
    let archive = trio.place.path("archive").display().to_string();
    trio.agent.sengu(&["store", "export", &archive]).good();
    trio.agent.sengu(&["store", "import", &archive]).refused("in use");
    trio.agent.kill();
    trio.agent.sengu(&["store", "import", &archive]).refused("already holds");
    trio.agent.restart();
    trio.until_master(&trio.servers[0], SOON);
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    let mut trio = Trio::adopted(&Settings::default());
    trio.agent.signal(Signal::TERM);
    trio.agent.wait_ended(LATER).expect("it ends");
    let file = trio.place.path("data/store.db");
    let mut bytes = fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..] {
        *byte ^= 0x5a;
    }
    fs::write(&file, &bytes).expect("writable");
    trio.agent.relaunch();
    let status = trio.agent.wait_ended(LATER).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", trio.agent.tail());
    assert!(trio.agent.tail().contains("damaged"), "{}", trio.agent.tail());
    assert!(fs::read(&file).expect("readable") == bytes, "the file was changed");
    assert_eq!(sengu(&trio.agent.config, &["store", "verify"]).code, Some(1));
}

#[test]
fn an_agent_that_is_told_to_end_does_so_soon_and_leaves_the_databases() {
    let mut trio = Trio::adopted(&Settings::default());
    trio.agent.signal(Signal::TERM);
    let status = trio.agent.wait_ended(Duration::from_secs(5)).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", trio.agent.tail());
    assert_eq!(trio.writable(), [trio.servers[0].address]);
    assert!(!trio.place.path("sengu.sock").exists(), "the socket was left behind");
}
