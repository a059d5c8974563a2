//! Hooks by hand: what is shown, what runs, and how it ends.

use std::path::Path;

use super::*;

fn written(folder: &Path) -> String {
    let file = folder.join("sengu.toml");
    let log = folder.join("log");
    let text = format!(
        "host = \"db1\"\n[service.foo]\nkind = \"redis\"\n[service.foo.instance.a]\n\
         address = \"127.0.0.1:6379\"\n\
         [[hook]]\nphase = \"before-failover\"\n\
         command = [\"/bin/sh\", \"-c\", \"echo $SENGU_SERVICE $SENGU_TERM >> {}\"]\n\
         [[hook]]\nphase = \"after-failover\"\ncommand = [\"/bin/false\"]\n",
        log.display()
    );
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}

fn run(file: &str, line: &str) -> String {
    let words = ["sengu", "--config", file].into_iter().chain(line.split(' '));
    format!("{:?}", crate::cli::run(words.map(Into::into)))
}

fn code(exit: Exit) -> String {
    format!("{:?}", ExitCode::from(exit))
}

#[test]
fn hooks_run_by_hand_and_their_failure_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path());
    let log = folder.path().join("log");
    assert_eq!(run(&file, "hook run before-failover foo --dry-run"), code(Exit::Done));
    assert!(!log.exists(), "a dry run runs nothing");
    assert_eq!(run(&file, "hook run before-failover foo --dry-run --json"), code(Exit::Done));
    assert_eq!(run(&file, "hook run before-failover foo --term 7"), code(Exit::Done));
    assert_eq!(std::fs::read_to_string(&log).expect("written"), "foo 7\n");
    assert_eq!(run(&file, "hook run after-failover foo"), code(Exit::Failed));
    assert_eq!(run(&file, "hook run after-failover other"), code(Exit::Failed));
}

#[test]
fn sides_of_a_move_may_name_their_host() {
    let here = HostName::new("db1").expect("good");
    let told = |text: &str| {
        let party = side(text).expect("good").party(&here);
        format!("{} {} {}", party.instance, party.host, party.address)
    };
    assert_eq!(told("a=127.0.0.1:1"), "a db1 127.0.0.1:1");
    assert_eq!(told("a@db2=127.0.0.1:1"), "a db2 127.0.0.1:1");
    for bad in ["a", "a=db2", "a@=127.0.0.1:1", "@b=127.0.0.1:1"] {
        assert!(side(bad).is_err(), "{bad} passed");
    }
}

#[test]
fn the_list_is_in_the_order_of_the_phases() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::load(Path::new(&written(folder.path()))).expect("good");
    let mut hooks: Vec<_> = config.hooks.iter().rev().collect();
    let shown = table(&hooks);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], "before-failover  services: all  at most 10s  on error: continue");
    assert_eq!(
        lines[2..],
        ["after-failover  services: all  at most 10s  on error: continue", "  /bin/false",]
    );
    hooks.clear();
    assert_eq!(table(&hooks), "no hooks");
}
