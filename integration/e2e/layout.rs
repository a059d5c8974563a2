//! The layout of `docs/layout.md`: the configuration of `examples/layout`, on real Redis servers,
//! and what used to fail there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use integration::rig::trio::{MASTER, SERVICE};
use integration::rig::{Agent, Settings, Trio, http, wait};
use rustix::process::Signal;

use crate::{LATER, SOON};

/// The configuration as it is shipped, on the addresses and files of one test: without the MariaDB
/// part, which other tests cover, and with programs that only note that they ran.
fn layout(trio: &Trio) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/layout/sengu.toml");
    let text = fs::read_to_string(file).expect("the example is there");
    let (before, rest) = text.split_once("[service.foo-db]").expect("it has foo-db");
    let (_, after) = rest.split_once("[[template]]").expect("it has templates");
    let (_, before) = before.split_once("[service.foo-redis]").expect("it has foo-redis");
    let place = trio.place.folder().display();
    let mut text = format!(
        "{}[service.foo-redis]{before}[[template]]{after}",
        Agent::head(&trio.place).replace("[http]", "domains = [\"consul\", \"sengu\"]\n[http]")
    );
    for (number, server) in (1..).zip(&trio.servers) {
        text = text.replace(&format!("127.0.0.{number}:6379"), &server.address.to_string());
    }
    for (from, to) in [
        ("/etc/hosts", format!("{place}/hosts")),
        ("/etc/dnsmasq.d/sengu.conf", format!("{place}/dnsmasq.conf")),
        ("/usr/local/bin/announce", format!("{place}/announce")),
        ("[\"systemctl\", ", format!("[\"{place}/announce\", ")),
    ] {
        assert!(text.contains(from), "{from} is not in the example");
        text = text.replace(from, &to);
    }
    text
}

struct Layout {
    trio: Trio,
    hosts: PathBuf,
    ran: PathBuf,
}

/// Two servers under the layout's configuration, adopted.
fn adopted() -> Layout {
    let mut trio = Trio::start(&Settings { count: 2, ..Settings::default() });
    let (announce, ran) = (trio.place.path("announce"), trio.place.path("ran"));
    let body = format!("#!/bin/sh\necho \"$SENGU_PHASE $*\" >> {}\n", ran.display());
    fs::write(&announce, body).expect("writable");
    fs::set_permissions(&announce, fs::Permissions::from_mode(0o755)).expect("a mode");
    let hosts = trio.place.path("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n10.9.9.9 by-hand\n").expect("writable");
    fs::write(&trio.agent.config, layout(&trio)).expect("writable");
    trio.agent.restart();
    trio.adopt();
    Layout { trio, hosts, ran }
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The lines that give the master's name an address.
fn named(file: &Path) -> Vec<String> {
    let text = text(file);
    let of_master = |line: &&str| line.split_whitespace().skip(1).any(|word| word == MASTER);
    let lines = text.lines().filter(of_master);
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn layout_a_dead_master_is_gone_from_every_output_and_replaced_within_two_seconds() {
    let Layout { trio, hosts, ran } = adopted();
    let [old, new] = &trio.servers[..] else { panic!("two servers") };
    trio.until("the file names it", LATER, || (named(&hosts).len() == 1).then_some(()));
    let told = |path: &str| http::get(trio.agent.http, path).expect("it answers");
    let key = format!("/v1/kv/sengu/{SERVICE}/master?raw");
    old.kill();
    let killed = Instant::now();
    // No output ever names two, nor the dead one after another was named.
    let mut moved = false;
    while !moved || killed.elapsed() < Duration::from_secs(1) {
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "nobody was named:\n{}",
            trio.agent.tail()
        );
        let answer = trio.agent.addresses(MASTER);
        assert!(answer.len() <= 1, "{answer:?}");
        assert!(named(&hosts).len() <= 1, "{}", text(&hosts));
        moved |= answer == [new.address.ip()];
        assert!(!moved || answer != [old.address.ip()], "the dead one is named again");
    }
    println!("named again {:?} after the kill", killed.elapsed());
    trio.until("every output has the new one", LATER, || {
        let file = named(&hosts) == [new.address.ip().to_string()];
        let key = told(&key).body == new.address.to_string();
        let balancer = told(&format!("/master/{SERVICE}")).body;
        (file && key && balancer.contains(&new.name)).then_some(())
    });
    assert!(text(&hosts).contains("10.9.9.9 by-hand\n"), "other lines stay");
    trio.until("the programs have run once each", LATER, || {
        let told = text(&ran);
        let count = |what: &str| told.lines().filter(|line| *line == what).count();
        let once = count("before-failover moving") == 1 && count("after-failover moved") == 1;
        once.then_some(())
    });
    // Every threshold is shown where the decision is.
    let explained = trio.agent.sengu(&["explain", SERVICE]).good().out;
    for word in ["max lag 10s", "hung after 5s", "at most 3 failovers in 10m"] {
        assert!(explained.contains(word), "{word}: {explained}");
    }
    let history = trio.agent.sengu(&["history", SERVICE]).good().out;
    assert!(history.contains("no writes for "), "{history}");
}

#[test]
fn layout_hooks_with_curl_cannot_write_what_sengu_holds() {
    let trio = adopted().trio;
    let entry = format!(
        "{{\"Node\": \"elsewhere\", \"Address\": \"10.9.9.1\", \
         \"Service\": {{\"Service\": \"{SERVICE}\", \"Tags\": [\"master\"], \"Port\": 6379}}}}"
    );
    let put = |path: &str, body: &[u8]| http::put(trio.agent.http, path, body).expect("answered");
    let refused = put("/v1/catalog/register", entry.as_bytes());
    assert_eq!(refused.status, 409, "{}", refused.body);
    let refused = put(&format!("/v1/kv/sengu/{SERVICE}/master"), b"10.9.9.1:6379");
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(trio.agent.addresses(MASTER), [trio.servers[0].address.ip()]);
}

#[test]
fn layout_an_agent_that_stood_still_for_ten_seconds_judges_nobody_by_old_looks() {
    let mut trio = adopted().trio;
    trio.agent.signal(Signal::STOP);
    let ended =
        wait::holds(Duration::from_secs(10), || trio.writable() == [trio.servers[0].address]);
    assert!(ended, "somebody else took writes while the agent stood still");
    trio.agent.signal(Signal::CONT);
    trio.agent.until_name(MASTER, &[trio.servers[0].address.ip()], LATER);
    let stays =
        wait::holds(Duration::from_secs(3), || trio.writable() == [trio.servers[0].address]);
    assert!(stays, "it moved by old looks:\n{}", trio.agent.tail());
    let terms = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert_eq!(terms.as_array().map(Vec::len), Some(1), "{terms}");
}

#[test]
fn layout_a_registry_that_comes_back_empty_keeps_the_last_good_lines() {
    let Layout { mut trio, hosts, .. } = adopted();
    let body = b"{\"Node\": \"app77\", \"Address\": \"10.1.2.77\"}";
    let answer = http::put(trio.agent.http, "/v1/catalog/register", body).expect("answered");
    assert_eq!(answer.status, 200);
    trio.until("it is in the file", LATER, || text(&hosts).contains("10.1.2.77").then_some(()));
    // What the store held is lost; less than the floor is left.
    let more = fs::read_to_string(&trio.agent.config).expect("readable");
    let more = more.replace("min_records = 2", "min_records = 4");
    fs::write(&trio.agent.config, more).expect("writable");
    trio.agent.kill();
    fs::remove_dir_all(trio.place.path("data")).expect("the store can be removed");
    trio.agent.restart();
    let kept = wait::holds(SOON, || text(&hosts).contains("10.1.2.77"));
    assert!(kept, "lines went with the registry:\n{}", text(&hosts));
    let told = trio.agent.sengu(&["status"]).good().out;
    assert!(told.contains("hosts is not current"), "{told}");
}
