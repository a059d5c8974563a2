//! What an operator is told of a failover: before it, while it happens and after it.

use std::fs;
use std::process::{Command, Stdio};

use integration::rig::agent::program;
use integration::rig::trio::SERVICE;
use integration::rig::{Settings, Trio, http};
use serde_json::Value;

use crate::{LATER, SOON};

#[test]
fn what_explain_foretells_comes_true_and_history_tells_it() {
    let trio = Trio::adopted(&Settings::default());
    let old = &trio.servers[0];
    trio.until_settled(LATER);
    let told = trio.agent.sengu(&["explain", SERVICE, "--json"]).good().json();
    assert_eq!(told["rules"].as_array().map(Vec::len), Some(12), "{told:#}");
    let foretold = told["next"]["serves"]["instance"].as_str().expect("somebody would").to_owned();
    assert_eq!(told["next"]["serves"]["term"], 2, "{told:#}");
    let text = trio.agent.sengu(&["explain", SERVICE]).good().out;
    for words in ["suppose the process of cache1 ends now", "starts-fenced", "one-giver", "inputs"]
    {
        assert!(text.contains(words), "`{words}` is not in:\n{text}");
    }
    old.kill();
    let new = trio.until_other(old, LATER);
    assert_eq!(new.name, foretold);
    let history = trio.agent.sengu(&["history", SERVICE, "--json"]).good().json();
    assert!(history[0]["write_closed_ms"].as_u64().is_some(), "{history:#}");
    assert!(history[0]["loss_verdict"].is_string(), "{history:#}");
    let text = trio.agent.sengu(&["history", SERVICE]).good().out;
    assert!(text.contains("no writes for"), "{text}");
}

#[test]
fn events_and_metrics_tell_a_failover() {
    let trio = Trio::adopted(&Settings::default());
    let old = &trio.servers[0];
    let mut follower = Command::new(program())
        .arg("--config")
        .arg(&trio.agent.config)
        .args(["events", SERVICE, "--follow", "--json", "--kind", "named"])
        .stdout(fs::File::create(trio.place.path("events")).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    old.kill();
    let new = trio.until_other(old, LATER);
    trio.until("the follower has told it", LATER, || {
        let text = fs::read_to_string(trio.place.path("events")).ok()?;
        let last: Value = serde_json::from_str(text.lines().last()?).ok()?;
        (last["data"]["instance"] == new.name.as_str()).then_some(())
    });
    follower.kill().expect("it runs");
    follower.wait().expect("it ends");
    let kept = trio.agent.sengu(&["events", SERVICE]).good().out;
    for words in ["cache1 ended", "vacant", "takes term 2", "promote done", "the name points to"] {
        assert!(kept.contains(words), "`{words}` is not in:\n{kept}");
    }
    let metrics = http::get(trio.agent.http, "/metrics").expect("metrics").body;
    for line in [
        "sengu_service_term{service=\"foo-redis\"} 2.0",
        "sengu_moves_total{service=\"foo-redis\",cause=\"process-exited\"} 1",
        "sengu_command_seconds_count{command=\"promote\",outcome=\"done\"} 1",
        "sengu_dns_requests_total{protocol=\"udp\",code=\"noerror\"}",
        "sengu_store_write_seconds_count{outcome=\"done\"}",
    ] {
        assert!(metrics.contains(line), "`{line}` is not in:\n{metrics}");
    }
}

#[test]
fn the_audit_tells_who_asked_over_a_restart() {
    let mut trio = Trio::adopted(&Settings::default());
    let put = http::put(trio.agent.http, "/v1/kv/secret?token=hunter2", b"hunter2");
    assert_eq!(put.expect("an answer").status, 200);
    http::put(trio.agent.http, "/v1/kv/sengu/foo-redis/master", b"x").expect("an answer");
    trio.agent.sengu(&["pause", SERVICE, "--comment", "new switch"]).good();
    trio.agent.sengu(&["pause", SERVICE]).refused("paused already");
    trio.agent.restart();
    trio.agent.sengu(&["resume", SERVICE]).good();
    let told = trio.until("the audit has it", SOON, || {
        let told = trio.agent.sengu(&["audit", "--json", "--limit", "1000"]).good().json();
        let lines = told.as_array().cloned().unwrap_or_default();
        let done = |line: &Value| line["what"].as_str().unwrap_or_default().starts_with("DELETE");
        lines.iter().any(done).then_some(lines)
    });
    let find = |words: &str| {
        let has = |line: &&Value| line["what"].as_str().unwrap_or_default().contains(words);
        told.iter().find(has).unwrap_or_else(|| panic!("no `{words}` in {told:#?}"))
    };
    let pause = find("pause of foo-redis by");
    assert!(pause["what"].as_str().expect("text").ends_with("new switch"), "{pause:#}");
    assert_eq!((&pause["via"], &pause["who"]["program"]), (&"socket".into(), &"sengu".into()));
    assert!(pause["who"]["pid"].as_i64().is_some() && pause["good"] == true, "{pause:#}");
    let refused = told.iter().filter(|line| line["good"] == false);
    let words: Vec<&str> = refused.filter_map(|line| line["outcome"].as_str()).collect();
    assert!(words.iter().any(|words| words.contains("paused already")), "{words:?}");
    assert!(words.iter().any(|words| words.contains("belongs to sengu")), "{words:?}");
    let put = find("/v1/kv/secret");
    assert_eq!(put["via"], "http");
    assert!(put["who"]["address"].as_str().expect("an address").contains(':'), "{put:#}");
    let all = serde_json::to_string(&told).expect("JSON");
    assert!(!all.contains("hunter2"), "a value or a token is in the audit: {all}");
}
