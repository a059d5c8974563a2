//! Rendered files: right after the change, whole or not at all, and nobody else's lines.

use std::fs;
use std::path::Path;
use std::time::Instant;

use integration::rig::trio::MASTER;
use integration::rig::{Place, Settings, Trio, wait};

use crate::{LATER, SOON};

/// The address that a hosts file gives a name.
fn line(file: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find(|line| line.split_whitespace().skip(1).any(|word| word == name));
    found.and_then(|line| line.split_whitespace().next()).map(str::to_owned)
}

/// A trio with a template; the destination is in a folder of its own.
fn with_template(more: &str) -> (Trio, std::path::PathBuf, Place) {
    let place = Place::claim();
    let file = place.path("hosts");
    fs::write(&file, "127.0.0.1 localhost\n").expect("the file can be written");
    let outputs = format!(
        "[[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n{}\n",
        file.display(),
        more.replace("FOLDER", &place.folder().display().to_string())
    );
    let trio = Trio::adopted(&Settings { outputs, ..Settings::default() });
    (trio, file, place)
}

#[test]
fn a_hosts_file_follows_the_master_and_keeps_all_other_lines() {
    let (trio, file, _place) = with_template("");
    let old = &trio.servers[0];
    let names = |server: &integration::rig::Redis| {
        let wanted = server.address.ip().to_string();
        (line(&file, MASTER) == Some(wanted)).then_some(())
    };
    trio.until("the file names the master", SOON, || names(old));
    let by_hand = format!("{}10.1.2.3 by-hand\n", fs::read_to_string(&file).expect("readable"));
    fs::write(&file, by_hand).expect("writable");

    old.kill();
    let new = trio.until_other(old, SOON);
    let named = Instant::now();
    trio.until("the file names the new master", SOON, || names(new));
    println!("the hosts file followed {:?} after the name", named.elapsed());
    assert_eq!(line(&file, "localhost").as_deref(), Some("127.0.0.1"));
    assert_eq!(line(&file, "by-hand").as_deref(), Some("10.1.2.3"));
    let text = fs::read_to_string(&file).expect("readable");
    assert!(
        !text.lines().any(|line| line.starts_with(&format!("{} ", old.address.ip()))),
        "{text}"
    );
}

/// The registry is lost as a whole, and starts again with nothing in it.
#[test]
fn a_store_that_restarts_empty_names_nobody_touches_nothing_and_empties_no_file() {
    let (mut trio, file, _place) = with_template("");
    let master = trio.servers[0].address;
    let wanted = Some(master.ip().to_string());
    trio.until("the file names the master", SOON, || (line(&file, MASTER) == wanted).then_some(()));
    let by_hand = format!("{}10.1.2.3 by-hand\n", fs::read_to_string(&file).expect("readable"));
    fs::write(&file, by_hand).expect("writable");
    let kept = || {
        let all = [("localhost", "127.0.0.1"), ("by-hand", "10.1.2.3")];
        all.iter().all(|(name, ip)| line(&file, name).as_deref() == Some(*ip))
    };
    trio.agent.kill();
    fs::remove_dir_all(trio.place.path("data")).expect("the store can be lost");
    trio.agent.restart();
    let empty = wait::holds(SOON * 2, || trio.named().is_none() && kept());
    assert!(empty, "{}", fs::read_to_string(&file).expect("readable"));
    assert_eq!(trio.writable(), [master], "nobody was fenced or opened");
    let status = trio.agent.sengu(&["status"]);
    assert!(status.all().contains("not adopted"), "{}", status.all());
    trio.adopt();
    trio.until("the file names the master again", LATER, || {
        (line(&file, MASTER) == wanted && kept()).then_some(())
    });
    trio.until_followed(&trio.servers[0], LATER);
}

#[test]
fn a_withdrawn_master_leaves_the_hosts_file_and_the_others_stay() {
    let place = Place::claim();
    let file = place.path("hosts");
    let outputs =
        format!("[[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n", file.display());
    let service = "failover = \"manual\"\n".to_owned();
    let trio = Trio::adopted(&Settings { outputs, service, ..Settings::default() });
    trio.until("the file names the master", SOON, || line(&file, MASTER));
    trio.servers[0].kill();
    trio.until("its line is gone", SOON, || line(&file, MASTER).is_none().then_some(()));
    assert!(line(&file, "db1").is_some(), "{:?}", fs::read_to_string(&file));
}

#[test]
fn a_block_that_somebody_edits_is_put_back() {
    let (trio, file, _place) = with_template("");
    trio.until("the file names the master", SOON, || line(&file, MASTER));
    let text = fs::read_to_string(&file).expect("readable");
    let wrong = text.replace(&trio.servers[0].address.ip().to_string(), "10.9.9.9");
    assert_ne!(text, wrong);
    fs::write(&file, wrong).expect("writable");
    trio.until("the block is as it was", LATER, || {
        (fs::read_to_string(&file).ok()? == text).then_some(())
    });
}

#[test]
fn a_file_that_its_validation_refuses_stays_as_it_was() {
    let (trio, file, _place) = with_template("validate = [\"/bin/false\"]\n");
    trio.agent.until_logged("/bin/false", LATER);
    assert_eq!(fs::read_to_string(&file).expect("readable"), "127.0.0.1 localhost\n");
    // What cannot be written delays nothing else.
    trio.servers[0].kill();
    trio.until_other(&trio.servers[0], SOON);
    assert_eq!(fs::read_to_string(&file).expect("readable"), "127.0.0.1 localhost\n");
}

#[test]
fn the_command_runs_once_for_each_change_of_the_file() {
    let command = "command = [\"/bin/sh\", \"-c\", \
        \"echo `cksum < FOLDER/hosts` >> FOLDER/ran\"]\n";
    let (trio, file, place) = with_template(command);
    let ran = || -> Vec<String> {
        let text = fs::read_to_string(place.path("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    trio.until("the command has run", SOON, || (!ran().is_empty()).then_some(()));
    let old = &trio.servers[0];
    old.kill();
    let new = trio.until_other(old, SOON);
    trio.until("the file names the new master", SOON, || {
        (line(&file, MASTER)? == new.address.ip().to_string()).then_some(())
    });
    old.restart();
    trio.until_steady(LATER);
    // Nothing changes any more: nothing runs any more.
    let settled = trio.until("the file is at rest", LATER, || {
        let before = ran();
        wait::holds(SOON / 4, || ran() == before).then_some(before)
    });
    assert!(settled.len() >= 2, "{settled:?}");
    for pair in settled.windows(2) {
        assert_ne!(pair[0], pair[1], "it ran twice for the same bytes: {settled:?}");
    }
    assert!(wait::holds(SOON, || ran() == settled), "it ran again: {:?}", ran());
}
