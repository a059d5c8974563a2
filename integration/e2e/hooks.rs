//! Hooks of real moves: whatever a program does, the move goes on or stops as it was told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use integration::rig::{Place, Settings, Trio};

use crate::{LATER, SOON};

/// A place with a program.
fn program(name: &str, body: &str) -> (Place, PathBuf) {
    let place = Place::claim();
    let path = place.path(name);
    let folder = place.folder().display();
    fs::write(&path, format!("#!/bin/sh\ncd {folder}\n{body}\n")).expect("writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    (place, path)
}

fn hook(phase: &str, program: &Path, more: &str) -> String {
    format!("[[hook]]\nphase = \"{phase}\"\ncommand = [\"{}\"]\n{more}\n", program.display())
}

fn with_hooks(outputs: String) -> Trio {
    Trio::adopted(&Settings { outputs, ..Settings::default() })
}

/// The last term's history, as a person reads it.
fn history(trio: &Trio) -> String {
    trio.agent.sengu(&["history", "foo-redis"]).all()
}

#[test]
fn a_hook_that_hangs_is_killed_and_the_move_goes_on() {
    let (_place, path) = program("hang", "echo hanging; sleep 600");
    let trio = with_hooks(hook("before-failover", &path, "timeout = \"500ms\""));
    let old = &trio.servers[0];
    old.kill();
    trio.until_other(old, LATER);
    trio.until("the history tells of it", LATER, || {
        history(&trio).contains("did not end within").then_some(())
    });
}

#[test]
fn a_hook_that_hangs_and_may_stop_the_move_stops_it() {
    let (_place, path) = program("hang", "sleep 600");
    let more = "timeout = \"500ms\"\non_error = \"abort\"";
    let trio = with_hooks(hook("before-failover", &path, more));
    let old = &trio.servers[0];
    old.kill();
    trio.until("the history tells of it", LATER, || {
        history(&trio).contains("did not end within").then_some(())
    });
}

#[test]
fn a_hook_that_prints_without_end_is_cut() {
    let (_place, path) =
        program("flood", "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last");
    let trio = with_hooks(hook("after-failover", &path, "timeout = \"20s\""));
    let old = &trio.servers[0];
    old.kill();
    trio.until_other(old, LATER);
    let told = trio.until("the history tells of it", LATER * 2, || {
        Some(history(&trio)).filter(|told| told.contains("last"))
    });
    assert!(told.len() < 64 * 1024, "{} bytes", told.len());
}

#[test]
fn a_hook_that_leaves_a_program_behind_does_not_hold_the_move() {
    let (place, path) = program("fork", "( sleep 3; touch late ) & echo started");
    let trio = with_hooks(hook("before-failover", &path, "timeout = \"20s\""));
    let old = &trio.servers[0];
    old.kill();
    trio.until_other(old, SOON);
    assert!(!place.path("late").exists(), "nobody waited for it");
    trio.until("what was left behind goes on", LATER, || place.path("late").exists().then_some(()));
}

#[test]
fn all_hosts_phases_are_told_once() {
    let (place, path) = program(
        "tell",
        "echo \"$SENGU_PHASE $SENGU_TERM $SENGU_OLD_INSTANCE>$SENGU_NEW_INSTANCE \
         ${SENGU_INSTANCE:-} ${SENGU_ROLE:-}\" >> told",
    );
    let phases = ["detected", "fenced", "role-changed", "before-failover", "after-failover"];
    let outputs = phases.map(|phase| hook(phase, &path, "")).concat();
    let mut trio = with_hooks(outputs);
    let told = || fs::read_to_string(place.path("told")).unwrap_or_default();
    trio.servers[0].kill();
    trio.until_other(&trio.servers[0], LATER);
    let text = trio.until("everybody is told", LATER, || {
        let text = told();
        let all = ["detected ", "before-failover ", "after-failover ", "role-changed "];
        all.iter().all(|phase| text.contains(phase)).then_some(text)
    });
    for phase in ["detected", "before-failover", "after-failover"] {
        let count = text.lines().filter(|line| line.starts_with(phase)).count();
        assert_eq!(count, 1, "{phase} in\n{text}");
    }
    assert!(!text.contains("fenced "), "a process that was killed was not fenced:\n{text}");
    let role = text.lines().find(|line| line.starts_with("role-changed")).expect("told");
    assert!(role.ends_with(" master"), "{role}");
    let new = trio.named().expect("somebody is named").name.clone();
    trio.until("the history tells how they ended", LATER, || {
        let told = history(&trio);
        let all = [
            "hook detected on db1: done in".to_owned(),
            format!("hook role-changed on db1 ({new} is master now): done in"),
        ];
        all.iter().all(|line| told.contains(line)).then_some(())
    });
    // A restart tells nothing again.
    let before = told();
    trio.agent.restart();
    trio.until_other(&trio.servers[0], LATER);
    assert!(integration::rig::wait::holds(SOON / 2, || told() == before), "{}", told());
}
