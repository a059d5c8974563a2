//! What a person asks of a host: is anything wrong, what is there, does a move still work; and a
//! configuration of other files without a restart.

use std::fs;

use integration::rig::trio::{MASTER, SERVICE};
use integration::rig::{Settings, Trio, http, until};
use serde_json::Value;

use crate::{LATER, SOON};

/// What `sengu doctor --json` says of these things: verdict and text.
fn said(told: &Value, about: &str) -> Vec<(String, String)> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let all = told.as_array().expect("a list").iter();
    let chosen = all.filter(|one| text(one, "about").starts_with(about));
    chosen.map(|one| (text(one, "verdict"), text(one, "text"))).collect()
}

#[test]
fn doctor_tells_what_is_wrong_and_how_to_mend_it() {
    let trio = Trio::adopted(&Settings::default());
    trio.until_settled(LATER);
    let told = trio.agent.sengu(&["doctor", "--json"]);
    assert_eq!(told.code, Some(0), "{}", told.all());
    let told = told.json();
    for about in ["configuration", "agent", "service", "dns", "http", "folder"] {
        let said = said(&told, about);
        assert!(!said.is_empty(), "{about}: {told}");
        assert!(said.iter().all(|(verdict, _)| verdict != "wrong"), "{about}: {said:?}");
    }
    trio.agent.sengu(&["pause", SERVICE]).good();
    trio.servers[0].kill();
    trio.agent.until_name(MASTER, &[], SOON);
    let told = trio.agent.sengu(&["doctor"]);
    assert_eq!(told.code, Some(1), "{}", told.all());
    for word in ["wrong", "no master is named", "sengu explain foo-redis", "sengu resume foo-redis"]
    {
        assert!(told.out.contains(word), "{word}: {}", told.out);
    }
    let mut trio = trio;
    trio.agent.kill();
    let told = trio.agent.sengu(&["doctor"]);
    assert_eq!(told.code, Some(1), "{}", told.all());
    assert!(told.out.contains("the agent is not reachable"), "{}", told.out);
    fs::write(&trio.agent.config, "what = 1\n").expect("writable");
    let told = trio.agent.sengu(&["doctor"]);
    assert!(told.out.contains("sengu config --check"), "{}", told.out);
}

#[test]
fn a_drill_moves_mastership_there_and_back_and_reports() {
    let trio = Trio::adopted(&Settings::service(&format!(
        "failover = \"auto\"\n{}",
        Settings::NO_COOLDOWN
    )));
    trio.until_settled(LATER);
    let dry = trio.agent.sengu(&["drill", SERVICE, "--dry-run"]).good().out;
    assert!(dry.contains("suppose the process of cache1 ends"), "{dry}");
    let asked = trio.agent.sengu(&["drill", SERVICE]);
    assert!(asked.err.contains("--yes"), "nobody was there to ask: {}", asked.all());
    trio.until_master(&trio.servers[0], SOON);
    let told = trio.agent.sengu(&["drill", SERVICE, "--yes", "--back", "--comment", "autumn"]);
    assert_eq!(told.code, Some(0), "{}\n{}", told.all(), trio.agent.tail());
    assert!(told.out.contains("drill of foo-redis passed: 2 moves"), "{}", told.out);
    assert!(!told.out.contains("failed"), "{}", told.out);
    trio.until_master(&trio.servers[0], SOON);
    let history = trio.agent.sengu(&["history", SERVICE]).good().out;
    assert!(history.contains("drill, the way back: autumn"), "{history}");
    trio.agent.sengu(&["pause", SERVICE]).good();
    trio.agent.sengu(&["drill", SERVICE, "--yes"]).refused("paused");
}

#[test]
fn services_and_top_show_what_there_is() {
    let trio = Trio::adopted(&Settings::default());
    let body = b"{\"Node\": \"web1\", \"Address\": \"10.0.1.1\", \
                 \"Service\": {\"Service\": \"web\", \"Port\": 80, \"Meta\": {\"env\": \"qa\"}}}";
    let answer = http::put(trio.agent.http, "/v1/catalog/register", body).expect("answered");
    assert_eq!(answer.status, 200);
    let list = trio.agent.sengu(&["services"]).good().out;
    assert!(list.contains("foo-redis") && list.contains("managed"), "{list}");
    assert!(list.contains("web") && list.contains("10.0.1.1:80"), "{list}");
    let one = trio.agent.sengu(&["services", SERVICE, "--tag", "master"]).good().out;
    assert!(one.contains("1 found") && one.contains("foo-redis-cache1"), "{one}");
    let filter = ["services", "web", "--filter", "Service.Meta.env == qa", "--json"];
    let found = trio.agent.sengu(&filter).good().json();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    trio.agent.sengu(&["services", "web", "--filter", "Nothing == x"]).refused("is not valid");
    assert_eq!(trio.agent.sengu(&["services", "none"]).code, Some(1));
    let top = trio.agent.sengu(&["top", "--once"]).good().out;
    assert!(top.starts_with("all well: 1 service"), "{top}");
    assert!(top.contains("events\n") && top.contains("the name points to cache1"), "{top}");
    let top = trio.agent.sengu(&["top", "--once", "--json"]).good().json();
    assert_eq!(top["services"][0]["service"], SERVICE, "{top}");
}

#[test]
fn other_files_are_rendered_after_a_reload() {
    let trio = Trio::adopted(&Settings::default());
    let (first, second) = (trio.place.path("first"), trio.place.path("second"));
    let template = |file: &std::path::Path| {
        format!("[[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n", file.display())
    };
    let write = |files: &str| {
        let text = format!("{}\n{files}", trio.config);
        fs::write(&trio.agent.config, text).expect("writable");
        trio.agent.sengu(&["reload"]).good().out
    };
    let names = |file: &std::path::Path| {
        fs::read_to_string(file).unwrap_or_default().contains(MASTER).then_some(())
    };
    assert!(write(&template(&first)).contains("template"));
    until("the first is rendered", LATER, || names(&first));
    write(&template(&second));
    until("the second is rendered", LATER, || names(&second));
    let before = fs::read_to_string(&first).expect("readable");
    trio.servers[0].kill();
    let new = trio.until_other(&trio.servers[0], SOON);
    let address = new.address.ip().to_string();
    until("the second follows", LATER, || {
        let text = fs::read_to_string(&second).unwrap_or_default();
        text.lines().any(|line| line.starts_with(&address) && line.contains(MASTER)).then_some(())
    });
    assert_eq!(fs::read_to_string(&first).expect("readable"), before, "nobody writes it any more");
}
