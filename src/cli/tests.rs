//! The command line as a whole: it parses, its page is current, and it exits as written down.

use super::*;

#[test]
fn the_command_tree_is_sound() {
    command().debug_assert();
}

#[test]
fn the_page_is_current() {
    bless::check("docs/commands.md", &page::markdown());
}

fn parse(line: &str) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(std::iter::once("sengu").chain(line.split_whitespace()))
}

#[test]
fn good_lines_are_taken() {
    for line in [
        "agent",
        "agent --log debug --log-format json",
        "status",
        "status foo bar --json",
        "explain foo",
        "history foo --limit 3",
        "history foo --follow",
        "status --all",
        "events",
        "events foo --follow --kind master --kind named",
        "audit --follow --via http --json",
        "services",
        "services foo --tag master --passing --filter Service.Port==1 --json",
        "top --interval 2s --once",
        "doctor --quiet --json",
        "drill foo --to b --back --yes --max-gap 2s --comment x --wait 2m",
        "drill foo --dry-run",
        "adopt foo --master a --comment x --wait 5",
        "release foo",
        "switchover foo --to b --dry-run",
        "failover foo --to b --lossy --wait 2m",
        "pause foo --for 30m",
        "resume foo",
        "freeze foo bar --for 2h --wait 5 --comment x",
        "freeze --all",
        "thaw foo",
        "thaw --all --json",
        "drain foo b",
        "undrain foo b",
        "kv get a/b",
        "kv put a/b c --cas 0",
        "kv delete a --recurse",
        "kv list",
        "dns master.foo.service.sengu srv",
        "check redis-master --service foo --instance a",
        "check",
        "render --dry-run /etc/hosts",
        "hook list",
        "hook run before-failover foo --old a=127.0.0.1:1",
        "config",
        "config --schema",
        "config --check --elsewhere file.toml",
        "config --check file.toml",
        "config file.toml",
        "--config other.toml reload",
        "store export file",
        "store incarnate --data-dir /x",
        "store etcd-config --member a=10.0.0.1 --member b=10.0.0.2 --member c=10.0.0.3 --to x",
        "completions bash",
        "man folder",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn bad_lines_are_refused() {
    for line in [
        "",
        "nothing",
        "explain",
        "explain a.b",
        "switchover foo --to a/b",
        "adopt foo --wait 0",
        "pause foo --for 5",
        "freeze",
        "freeze foo --all",
        "freeze foo --for 25h",
        "thaw",
        "services --passing",
        "top --interval 1ms",
        "drill",
        "pause foo --for 0s",
        "kv delete a --recurse --cas 1",
        "dns x nothing",
        "hook run afterwards foo",
        "hook run before-failover foo --old a",
        "history foo --limit 1001",
        "events --kind nothing",
        "events --limit 0",
    ] {
        assert!(parse(line).is_err(), "{line:?} passed");
    }
}

/// Exit codes have no equality of their own.
fn code(line: &[&str]) -> String {
    format!("{:?}", run(std::iter::once("sengu").chain(line.iter().copied()).map(Into::into)))
}

fn same(code: String, number: u8) {
    assert_eq!(code, format!("{:?}", ExitCode::from(number)));
}

#[test]
fn exit_codes_are_as_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("good.toml"), "").expect("written");
    std::fs::write(path("bad.toml"), "what = 1\n").expect("written");
    same(code(&["config", "--check", &path("good.toml")]), 0);
    same(code(&["config", "--check", &path("bad.toml")]), 1);
    same(code(&["config", "--check", &path("absent.toml")]), 1);
    same(code(&["agent", "--config", &path("bad.toml")]), 1);
    same(code(&["no-such-command"]), 2);
    same(code(&["status", "--socket", &path("no.sock")]), 3);
    same(code(&["switchover", "foo", "--socket", &path("no.sock")]), 3);
    same(code(&["top", "--once", "--socket", &path("no.sock")]), 3);
    same(code(&["doctor", "--socket", &path("no.sock")]), 1);
    same(code(&["drill", "foo", "--yes", "--socket", &path("no.sock")]), 3);
    same(code(&["check", "x", "--socket", &path("no.sock")]), 3);
}
