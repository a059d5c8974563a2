//! Checks and registrations with a real agent: Consul's calls, its files, and foreign plugins.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use integration::rig::{Agent, Place, Settings, Trio, http, until};
use serde_json::{Value, json};

use crate::{LATER, SOON};

fn put(at: SocketAddr, path: &str, body: &Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = http::put(at, path, body.as_bytes()).expect("it answers");
    (answer.status, answer.body)
}

fn get(at: SocketAddr, path: &str) -> Value {
    let answer = http::get(at, path).expect("it answers");
    serde_json::from_str(&answer.body).unwrap_or(Value::Null)
}

/// How many entries of a service pass.
fn passing(at: SocketAddr, service: &str) -> usize {
    let rows = get(at, &format!("/v1/health/service/{service}?passing"));
    rows.as_array().map_or(0, Vec::len)
}

#[test]
fn registrations_outlive_the_agent_and_their_checks_go_on() {
    let place = Place::claim();
    let mut agent = Agent::start(&place, &Agent::head(&place));
    let own = agent.http;
    let body = json!({"Name": "web", "Port": 80, "Checks": [
        {"TTL": "60s", "Status": "passing"},
        {"TCP": own.to_string(), "Interval": "1s"},
    ]});
    assert_eq!(put(own, "/v1/agent/service/register", &body).0, 200);
    until("it passes", LATER, || (passing(own, "web") == 1).then_some(()));
    assert_eq!(agent.addresses("web.service.consul").len(), 1);
    agent.restart();
    until("it passes again", LATER, || (passing(own, "web") == 1).then_some(()));
    assert_eq!(put(own, "/v1/agent/check/fail/service:web:1?note=no", &Value::Null).0, 200);
    until("its name is gone", SOON, || {
        agent.addresses("web.service.consul").is_empty().then_some(())
    });
    // Whoever removes it, it stays removed.
    let gone = json!({"Node": "db1", "ServiceID": "web"});
    assert_eq!(put(own, "/v1/catalog/deregister", &gone).0, 200);
    agent.restart();
    assert_eq!(get(own, "/v1/agent/services"), json!({}));
    assert_eq!(get(own, "/v1/agent/checks"), json!({}));
}

#[test]
fn definition_files_are_followed_and_a_bad_one_stops_no_other() {
    let place = Place::claim();
    let folder = place.path("services");
    fs::create_dir(&folder).expect("a folder");
    let write = |name: &str, text: &str| {
        // The way of editors: another file in its place.
        let aside = folder.join(format!(".{name}.swp"));
        fs::write(&aside, text).expect("writable");
        fs::rename(aside, folder.join(name)).expect("renamed");
    };
    write("web.json", r#"{"service": {"name": "web", "port": 80, "tags": ["a"]}}"#);
    write("bad.json", "{\n  \"service\": {\"name\": \"bad\",}\n}");
    let config = format!("{}[checks]\nservices = \"{}\"\n", Agent::head(&place), folder.display());
    let mut agent = Agent::start(&place, &config);
    let own = agent.http;
    let names = || -> Vec<String> {
        let rows = get(own, "/v1/agent/services");
        rows.as_object().map(|rows| rows.keys().cloned().collect()).unwrap_or_default()
    };
    until("it is registered", LATER, || (names() == ["web"]).then_some(()));
    agent.until_logged("bad.json:2:", SOON);
    write("bad.json", r#"{"service": {"name": "good", "port": 81, "check": {"ttl": "30s"}}}"#);
    until("it is mended", LATER, || (names() == ["good", "web"]).then_some(()));
    fs::remove_file(folder.join("web.json")).expect("removed");
    until("it is gone", LATER, || (names() == ["good"]).then_some(()));
    // What was removed by hand stays away until its file changes.
    assert_eq!(put(own, "/v1/agent/service/deregister/good", &Value::Null).0, 200);
    write("other.json", r#"{"check": {"name": "host", "ttl": "30s"}}"#);
    until("the other is there", LATER, || {
        get(own, "/v1/agent/checks").get("host").is_some().then_some(())
    });
    assert_eq!(names(), Vec::<String>::new());
    write("bad.json", r#"{"service": {"name": "good", "port": 82, "check": {"ttl": "30s"}}}"#);
    until("it is back", LATER, || (names() == ["good"]).then_some(()));
    fs::remove_file(folder.join("other.json")).expect("removed");
    agent.restart();
    until("what was removed while it was down is gone", LATER, || {
        get(own, "/v1/agent/checks").get("host").is_none().then_some(())
    });
    assert_eq!(names(), ["good"]);
}

/// A trio with check files; `scripts` are allowed.
fn with_checks(files: &[(&str, String)]) -> (Trio, Place) {
    let place = Place::claim();
    let folder = place.path("checks");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode");
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    }
    let outputs = format!("[checks]\nscripts = true\nfolder = \"{}\"\n", folder.display());
    (Trio::adopted(&Settings { outputs, ..Settings::default() }), place)
}

fn script(body: &str) -> String {
    format!(
        "about = \"a plugin\"\ninterval = \"200ms\"\ntimeout = \"400ms\"\nfailures = 1\n[[all]]\n\
         probe = \"script\"\ncommand = [\"/bin/sh\", \"-c\", '''{body}''']\n"
    )
}

#[test]
fn foreign_plugins_are_judged_by_their_codes() {
    let cases = [
        ("ok", "echo OK - fine; exit 0", 0, 200, "fine"),
        ("warning", "echo so so; exit 1", 1, 200, "so so"),
        ("critical", "echo bad; exit 2", 2, 503, "bad"),
        ("three", "echo who knows; exit 3", 3, 503, "who knows"),
        ("odd", "exit 42", 3, 503, "exit code 42"),
        ("signal", "kill -9 $$", 3, 503, "signal 9"),
        ("slow", "sleep 60", 2, 503, "took longer than 400ms"),
        ("flood", "yes | head -c 3000000; exit 1", 1, 200, "y"),
    ];
    let files: Vec<(String, String)> =
        cases.iter().map(|case| (format!("{}.toml", case.0), script(case.1))).collect();
    let files: Vec<(&str, String)> =
        files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let (trio, _place) = with_checks(&files);
    for (name, _, code, status, words) in cases {
        let told = trio.until(&format!("{name} is told"), LATER, || {
            let told = trio.agent.sengu(&["check", name]);
            (told.code == Some(code) && told.out.contains(words)).then_some(told)
        });
        assert!(told.out.len() < 32 * 1024, "{name}: {} bytes", told.out.len());
        let answer = http::get(trio.agent.http, &format!("/check/{name}")).expect("it answers");
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
    }
    let answer = http::get(trio.agent.http, "/check/redis-master").expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = http::get(trio.agent.http, "/check/none").expect("it answers");
    assert!(answer.status == 404 && answer.body.contains("redis-master"), "{}", answer.body);
}

#[test]
fn check_files_are_followed_with_a_push_from_outside() {
    let ttl = "about = \"the backup\"\ninterval = \"200ms\"\nfailures = 1\n[[all]]\n\
        probe = \"ttl\"\nid = \"backup-{instance}\"\nwithin = \"1s\"\n";
    let (trio, place) = with_checks(&[("backup.toml", ttl.to_owned())]);
    let own = trio.agent.http;
    let code = || trio.agent.sengu(&["check", "backup"]).code;
    // The first look asks for the word of somebody, and from then on it is taken.
    trio.until("nobody has told", LATER, || {
        let told = trio.agent.sengu(&["check", "backup"]);
        (told.code == Some(3) && told.out.contains("was not told yet")).then_some(())
    });
    let instances: Vec<String> = {
        let told = trio.agent.sengu(&["check", "backup", "--json"]).json();
        let reports = told.as_array().cloned().unwrap_or_default();
        reports.iter().filter_map(|one| Some(one["instance"].as_str()?.to_owned())).collect()
    };
    let push = || {
        for instance in &instances {
            let path = format!("/v1/agent/check/pass/backup-{instance}?note=12%20GiB");
            assert_eq!(put(own, &path, &Value::Null).0, 200);
        }
    };
    trio.until("it is told", LATER, || {
        push();
        (code() == Some(0)).then_some(())
    });
    trio.until("silence is critical", LATER, || (code() == Some(2)).then_some(()));
    // A new file is taken up, and a mended one.
    let file = place.path("checks").join("mine.toml");
    fs::write(&file, "about = \"x\"\n[[all]]\nprobe = \"proces\"\n").expect("writable");
    trio.agent.until_logged("did you mean `process`?", LATER);
    fs::write(&file, "about = \"x\"\n[[all]]\nprobe = \"process\"\n").expect("writable");
    trio.until("it runs", LATER, || {
        (trio.agent.sengu(&["check", "mine"]).code == Some(0)).then_some(())
    });
}
