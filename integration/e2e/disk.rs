//! Full disks: small file systems in memory, which need root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::rig::trio::{MASTER, SERVICE};
use integration::rig::{Agent, Place, Settings, Trio};

use crate::{LATER, SOON};

/// A file system of its own, unmounted when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).expect("its folder can be made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting needs root");
        Self(path.to_owned())
    }

    /// Fills it to the last byte.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("there is room for a name");
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing can be done about one that stays; it is in a folder of the test.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_under_the_store_ends_the_agent_with_a_word_and_nothing_is_lost() {
    let settings = Settings::default();
    let place = Place::claim();
    let disk = Disk::mount(&place.path("data"), "4m");
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
    // It must write now, and cannot.
    trio.servers[0].kill();
    let ended = trio.agent.wait_ended(LATER);
    assert!(ended.is_some_and(|status| status.code() == Some(1)), "{}", trio.agent.tail());
    let log = trio.agent.tail();
    assert!(log.contains("store"), "{log}");
    assert!(log.contains("full") || log.contains("space"), "{log}");
    assert_eq!(trio.writable(), []);

    trio.agent.relaunch();
    let again = trio.agent.wait_ended(SOON);
    if again.is_some() {
        assert!(trio.agent.tail().contains("data"), "{}", trio.agent.tail());
    }
    fs::remove_file(filler).expect("it can be removed");
    trio.agent.restart();
    let new = trio.until_other(&trio.servers[0], LATER);
    assert_eq!(trio.writable(), [new.address]);
    trio.agent.kill();
    drop(disk);
}

#[test]
fn a_full_disk_under_a_rendered_file_keeps_the_old_file_and_delays_nothing() {
    let place = Place::claim();
    let disk = Disk::mount(&place.path("etc"), "64k");
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
