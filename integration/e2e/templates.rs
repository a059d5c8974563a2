//! Templates with a real agent: storms, spread, people's hands, a kill midway, `sengu render`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use integration::rig::{Agent, Place, Settings, Trio, http, until};

use crate::{LATER, SOON};

/// Hosts that join and leave.
const HOSTS: usize = 300;

fn register(agent: &Agent, host: usize) {
    let body = format!(
        "{{\"Node\": \"app{host}\", \"Address\": \"10.1.{}.{}\"}}",
        host / 250,
        host % 250 + 1
    );
    let answer = http::put(agent.http, "/v1/catalog/register", body.as_bytes());
    assert_eq!(answer.expect("it answers").status, 200);
}

fn deregister(agent: &Agent, host: usize) {
    let body = format!("{{\"Node\": \"app{host}\"}}");
    let answer = http::put(agent.http, "/v1/catalog/deregister", body.as_bytes());
    assert_eq!(answer.expect("it answers").status, 200);
}

fn template(source: &str, file: &Path, more: &str) -> String {
    format!("[[template]]\nsource = \"{source}\"\ndestination = \"{}\"\n{more}\n", file.display())
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn hosts_that_join_and_leave_in_a_storm_cost_few_renders_and_leave_no_line() {
    let place = Place::claim();
    let (file, ran) = (place.path("hosts"), place.path("ran"));
    let count = format!("command = [\"/bin/sh\", \"-c\", \"echo x >> {}\"]", ran.display());
    let more = format!("wait_min = \"100ms\"\nwait_max = \"1s\"\n{count}");
    let config = format!("{}{}", Agent::head(&place), template("hosts.tera", &file, &more));
    let agent = Agent::start(&place, &config);
    let app =
        |line: &str| line.split_whitespace().nth(1).is_some_and(|name| name.starts_with("app"));
    let hosts = || text(&file).lines().filter(|line| app(line)).count();
    let began = Instant::now();
    for host in 0..HOSTS {
        register(&agent, host);
    }
    until("all are there", LATER, || (hosts() == HOSTS).then_some(()));
    for host in 0..HOSTS {
        deregister(&agent, host);
    }
    until("all are gone", LATER, || (hosts() == 0).then_some(()));
    let took = began.elapsed();
    // One render a second at most while changes go on, and one at each end.
    let most = took.as_secs() as usize + 4;
    let renders = || text(&ran).lines().count();
    until("the command has run", SOON, || (renders() > 0).then_some(()));
    assert!(renders() <= most, "{} renders in {took:?}", renders());
    println!("{HOSTS} hosts came and went in {took:?} with {} renders", renders());
}

#[test]
fn first_lines_are_spread_evenly_over_hosts_and_stay() {
    let place = Place::claim();
    let source = place.path("in.tera");
    fs::write(&source, "{% for s in service(name='web') %}{{ s.address }}\n{% endfor %}")
        .expect("writable");
    let config = |host: &str| {
        let own = Agent::head(&place).replace("host = \"db1\"", &format!("host = \"{host}\""));
        let file = place.path(&format!("out-{host}"));
        format!("{own}{}", template(&source.display().to_string(), &file, ""))
    };
    let agent = Agent::start(&place, &config("db1"));
    for server in 1..=3 {
        let body = format!(
            "{{\"Node\": \"w{server}\", \"Address\": \"10.2.0.{server}\", \"Service\": \
             {{\"Service\": \"web\", \"Port\": 80}}}}"
        );
        let answer = http::put(agent.http, "/v1/catalog/register", body.as_bytes());
        assert_eq!(answer.expect("it answers").status, 200);
    }
    // The command renders what each of these hosts would; only the name differs.
    let mut firsts: BTreeMap<String, usize> = BTreeMap::new();
    for host in 0..30 {
        let path = place.path(&format!("host{host}.toml"));
        fs::write(&path, config(&format!("app{host}"))).expect("writable");
        let render = || integration::rig::agent::sengu(&path, &["render"]).good().out;
        let told = render();
        assert_eq!(told.lines().count(), 3, "{told}");
        if host == 0 {
            assert_eq!(render(), told, "the same each time");
        }
        *firsts.entry(told.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert_eq!(firsts.len(), 3, "{firsts:?}");
    assert!(firsts.values().all(|count| (3..=18).contains(count)), "{firsts:?}");
}

#[test]
fn a_render_that_is_killed_midway_leaves_the_old_file() {
    let place = Place::claim();
    let (file, check) = (place.path("hosts"), place.path("check"));
    fs::write(&file, "127.0.0.1 localhost\n").expect("writable");
    let body = format!("#!/bin/sh\ntouch {0}/checking; sleep 600\n", place.folder().display());
    fs::write(&check, body).expect("writable");
    fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).expect("a mode");
    let more = format!("validate = [\"{}\", \"{{}}\"]", check.display());
    let config = format!("{}{}", Agent::head(&place), template("hosts.tera", &file, &more));
    let mut agent = Agent::start(&place, &config);
    let checking = place.path("checking");
    until("the new file is looked at", LATER, || checking.exists().then_some(()));
    agent.kill();
    assert_eq!(text(&file), "127.0.0.1 localhost\n");
    // And the next agent begins anew.
    fs::write(&check, "#!/bin/sh\nexit 0\n").expect("writable");
    agent.restart();
    until("it is rendered", LATER, || text(&file).contains(" db1 ").then_some(()));
    let left = fs::read_dir(place.folder()).expect("readable").filter_map(Result::ok);
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.contains("sengu-new")), "{left:?}");
}

#[test]
fn edits_beside_the_block_stay_and_edits_inside_are_repaired_and_told() {
    let place = Place::claim();
    let file = place.path("hosts");
    fs::write(&file, "127.0.0.1 localhost\n").expect("writable");
    let config = format!("{}{}", Agent::head(&place), template("hosts.tera", &file, ""));
    let agent = Agent::start(&place, &config);
    until("it is rendered", LATER, || text(&file).contains(" db1 ").then_some(()));
    let good = text(&file);
    // The way of editors: another file in its place.
    let aside = place.path("hosts~");
    fs::write(&aside, good.replace(" db1 ", " evil ") + "10.7.7.7 mine\n").expect("writable");
    fs::rename(&aside, &file).expect("renamed");
    until("the block is repaired", LATER, || {
        (text(&file) == format!("{good}10.7.7.7 mine\n")).then_some(())
    });
    agent.until_logged("somebody else had changed", SOON);
}

#[test]
fn render_checks_shows_and_writes_once() {
    let place = Place::claim();
    let (file, ran) = (place.path("hosts"), place.path("ran"));
    let config = Agent::head(&place);
    let agent = Agent::start(&place, &config);
    // The file is the command's alone: the agent runs without it.
    let other = place.path("other.toml");
    let more = format!("command = [\"/bin/sh\", \"-c\", \"echo x >> {}\"]", ran.display());
    fs::write(&other, format!("{config}{}", template("hosts.tera", &file, &more)))
        .expect("writable");
    let sengu = |words: &[&str]| integration::rig::agent::sengu(&other, words);
    let told = sengu(&["render", "--check"]);
    assert!(told.code == Some(1) && told.out.contains("would change"), "{}", told.all());
    let told = sengu(&["render", "--dry-run"]).good();
    assert!(told.out.contains("+# BEGIN sengu"), "{}", told.out);
    assert!(!file.exists(), "nothing was written");
    let told = sengu(&["render", "--once"]).good();
    assert!(told.out.contains("written"), "{}", told.out);
    assert!(text(&file).contains(" db1 "));
    assert_eq!(text(&ran), "x\n");
    let told = sengu(&["render", "--once"]).good();
    assert!(told.out.contains("is as it should be"), "{}", told.out);
    assert_eq!(text(&ran), "x\n", "nothing changed, so nothing runs");
    sengu(&["render", "--check"]).good();
    drop(agent);
}

#[test]
fn every_shipped_template_follows_a_real_service() {
    let place = Place::claim();
    let names = [
        "hosts.tera",
        "dnsmasq.tera",
        "haproxy.tera",
        "resolved.tera",
        "prometheus-targets.tera",
        "redis-app.env.tera",
    ];
    let outputs = names.map(|name| template(name, &place.path(name), "")).concat();
    let trio = Trio::adopted(&Settings { outputs, ..Settings::default() });
    let named = |server: usize| {
        let endpoint = trio.servers[server].address.to_string();
        let env = text(&place.path("redis-app.env.tera"));
        (env.contains(&format!("FOO_REDIS_MASTER={endpoint}\n"))
            && text(&place.path("haproxy.tera")).contains(&endpoint)
            && text(&place.path("prometheus-targets.tera")).contains(&endpoint))
        .then_some(())
    };
    trio.until("the files name the master", LATER, || named(0));
    let dnsmasq = text(&place.path("dnsmasq.tera"));
    let (ip, port) = (trio.agent.dns.ip(), trio.agent.dns.port());
    assert!(dnsmasq.contains(&format!("server=/consul/{ip}#{port}\n")), "{dnsmasq}");
    assert!(text(&place.path("resolved.tera")).contains(&format!("DNS={ip}:{port}\n")));
    trio.servers[0].kill();
    let new = trio.until_other(&trio.servers[0], LATER).address.to_string();
    trio.until("the files name the new master", LATER, || {
        text(&place.path("redis-app.env.tera"))
            .contains(&format!("FOO_REDIS_MASTER={new}\n"))
            .then_some(())
    });
    let targets = text(&place.path("prometheus-targets.tera"));
    let groups: serde_json::Value = serde_json::from_str(&targets).expect("JSON");
    assert_eq!(groups[0]["labels"]["service"], "foo-redis");
    if Path::new("/usr/sbin/haproxy").exists() {
        let whole = place.path("haproxy.whole");
        let head = "defaults\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n";
        fs::write(&whole, format!("{head}{}", text(&place.path("haproxy.tera")))).expect("written");
        let checked = std::process::Command::new("/usr/sbin/haproxy")
            .args(["-c", "-f"])
            .arg(&whole)
            .output()
            .expect("it runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
