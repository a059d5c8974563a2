//! Rendering: functions, order, bounds and errors with their places.

mod conversions;
mod functions;
mod shipped;

use std::time::Instant;

use sengu_core::catalog::Catalog;
use sengu_core::name::HostName;
use sengu_core::record::Health;
use sengu_core::time::Time;

use super::super::scene::{entries, expiry, fingerprint, lost, masters};
use super::super::stage::{LEASE, Stage};
use super::*;

fn context(host: &str) -> RenderContext {
    RenderContext {
        host: HostName::new(host).expect("name"),
        datacenter: "dc1".to_owned(),
        domains: vec!["sengu".to_owned(), "consul".to_owned()],
        dns: vec!["127.0.0.1:8600".parse().expect("an address")],
        view: Arc::default(),
        state_dir: "/nowhere".into(),
        lease: LEASE,
    }
}

fn rendered_at(text: &str, catalog: &Catalog, now: Time) -> Result<Rendered, TemplateError> {
    let context = context("app1");
    let source = Source { name: "test.tera".to_owned(), text: text.to_owned(), modified: None };
    let scene = Scene::new(Arc::new(catalog.clone()), now, &context);
    render(source, scene, &values(&context), Arc::default())
}

const NOW: Time = Time(1_000_000);

fn text(text: &str, catalog: &Catalog) -> String {
    rendered_at(text, catalog, NOW).expect("renders").text
}

fn error(text: &str) -> String {
    rendered_at(text, &stage().catalog, NOW).expect_err("fails").to_string()
}

/// Three hosts; a managed service with a master and two replicas; a registered one.
fn stage() -> Stage {
    let mut stage = Stage::default();
    for number in 1..=3 {
        stage.node(&format!("db{number}"), &format!("10.0.0.{number}"));
    }
    stage.instance("foo-redis", "db1", "10.0.0.1:6379", None);
    stage.instance("foo-redis", "db2", "10.0.0.2:6379", Some("10.0.0.1:6379"));
    stage.instance("foo-redis", "db3", "10.0.0.3:6379", Some("10.0.0.1:6379"));
    stage.serving(NOW, "foo-redis", "db1", "10.0.0.1:6379", false);
    stage.json(
        "services/db2/web-1",
        r#"{"format":1,"node":"db2","id":"web-1","name":"Web","tags":["blue","a b"],"port":80,"owner":"catalog"}"#,
    );
    stage.json(
        "services/db3/web-2",
        r#"{"format":1,"node":"db3","id":"web-2","name":"web","address":"10.9.9.9","port":81,"owner":"catalog"}"#,
    );
    stage.fresh(NOW);
    stage
}

#[test]
fn the_shipped_hosts_template_lists_hosts_masters_and_replicas() {
    let source = Source::read("hosts.tera").expect("shipped").text;
    let (names, more) = ("service.dc1.sengu", "service.sengu");
    let line = |address: &str, what: &str| {
        format!(
            "{address} {what}.{names} {what}.{more} {what}.service.dc1.consul {what}.service.consul"
        )
    };
    let told = text(&source, &stage().catalog);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "10.0.0.1 db1 db1.node.dc1.sengu db1.node.dc1.consul");
    assert_eq!(lines[3], line("10.0.0.1", "master.foo-redis"));
    let mut replicas = [lines[4].to_owned(), lines[5].to_owned()];
    replicas.sort();
    assert_eq!(replicas[0], line("10.0.0.2", "replica.foo-redis"));
    assert_eq!(replicas[1], line("10.0.0.3", "replica.foo-redis"));
    assert_eq!(lines.len(), 6, "{told}");
    assert!(told.ends_with('\n'));
    assert_eq!(text(&source, &Catalog::default()), "");
}

#[test]
fn master_lines_leave_with_time_and_all_others_stay() {
    let source = Source::read("hosts.tera").expect("shipped").text;
    let catalog = stage().catalog;
    let before = rendered_at(&source, &catalog, NOW).expect("renders");
    assert_eq!(before.said.masters.len(), 1);
    let after = rendered_at(&source, &catalog, catalog.valid_until).expect("renders");
    assert!(after.said.masters.is_empty());
    let rest: Vec<&str> = before.text.lines().filter(|line| !line.contains("master.")).collect();
    assert_eq!(after.text.lines().collect::<Vec<_>>(), rest);
}

#[test]
fn functions_answer_and_hand_out_values() {
    let catalog = stage().catalog;
    let master = "{% set m = master(service='foo-redis') %}{{ m.instance }} {{ m.host }} \
                  {{ m.address }}:{{ m.port }} {{ m.tags | join(sep=',') }}";
    assert_eq!(text(master, &catalog), "db1 db1 10.0.0.1:6379 master");
    assert_eq!(text("{% if master(service='bar') %}x{% else %}none{% endif %}", &catalog), "none");
    let list = |call: &str| {
        text(
            &format!("{{% for s in {call} %}}{{{{ s.address }}}}:{{{{ s.port }}}} {{% endfor %}}"),
            &catalog,
        )
    };
    assert_eq!(
        list("service(name='foo-redis', order='sorted')"),
        "10.0.0.1:6379 10.0.0.2:6379 10.0.0.3:6379 "
    );
    assert_eq!(list("service(name='foo-redis', tag='primary')"), "10.0.0.1:6379 ");
    assert_eq!(
        list("service(name='foo-redis', tag='slave', order='sorted')"),
        list("replicas(service='foo-redis', order='sorted')")
    );
    assert_eq!(list("service(name='WEB', order='sorted')"), "10.0.0.2:80 10.9.9.9:81 ");
    assert_eq!(list("service(name='web', tag='blue')"), "10.0.0.2:80 ");
    assert_eq!(
        text("{% for s in services() %}{{ s.name }}={{ s.kind }} {% endfor %}", &catalog),
        "foo-redis=managed web=registered "
    );
    assert_eq!(
        text("{{ host }} {{ datacenter }} {{ domain }} {{ domains | length }}", &catalog),
        "app1 dc1 sengu 2"
    );
    assert_eq!(text("{{ '<&>' }}", &catalog), "<&>", "nothing is escaped");
}

#[test]
fn critical_checks_take_registered_servers_out() {
    let mut stage = stage();
    let ports = "{% for s in service(name='web', order='sorted') %}{{ s.port }} {% endfor %}";
    stage.json("checks/db2/up", r#"{"format":1,"id":"up","name":"up","node":"db2","service_id":"web-1","status":"critical"}"#);
    assert_eq!(text(ports, &stage.catalog), "81 ");
    stage.json("checks/db2/up", r#"{"format":1,"id":"up","name":"up","node":"db2","service_id":"web-1","status":"warning"}"#);
    stage.json(
        "checks/db3/host",
        r#"{"format":1,"id":"host","name":"host","node":"db3","status":"critical"}"#,
    );
    assert_eq!(text(ports, &stage.catalog), "80 ");
}

#[test]
fn errors_name_file_line_and_column() {
    assert!(error("a\n{% if %}").starts_with("test.tera:2:"), "{}", error("a\n{% if %}"));
    let undefined = error("one\ntwo {{ hots }}");
    assert!(undefined.starts_with("test.tera:2:8: ") && undefined.contains("hots"), "{undefined}");
    let random = error("{{ hosts(order='random') }}");
    assert!(random.starts_with("test.tera:1:") && random.contains("per-host"), "{random}");
    let typo = error("{{ hosts(oder='sorted') }}");
    assert!(typo.starts_with("test.tera:1:") && typo.contains("oder"), "{typo}");
    assert!(error("{{ master() }}").contains("service"));
    assert!(error("{% include '/etc/passwd' %}").contains("test.tera"));
}

#[test]
fn sources_are_bounded_and_told() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("big.tera");
    std::fs::write(&path, vec![b'x'; (TEMPLATE_LIMIT + 1) as usize]).expect("write");
    let read =
        |path: &Path| Source::read(path.to_str().expect("text")).expect_err("refused").to_string();
    assert!(read(&path).contains("larger than 1024 KiB"));
    std::fs::write(&path, [0xff, 0xfe]).expect("write");
    assert!(read(&path).contains("UTF-8"));
    assert!(read(folder.path()).contains("not a plain file"));
    assert!(read(Path::new("/nowhere/x.tera")).contains("/nowhere/x.tera"));
}

#[test]
fn output_is_bounded() {
    let kib = "x".repeat(1000);
    let all = format!("{{% for i in range(end=20000) %}}{kib}{{% endfor %}}");
    assert!(error(&all).contains("more than 16 MiB"), "{}", error(&all));
}

#[test]
fn a_render_without_end_can_be_left_behind() {
    let loops = "{% for i in range(end=90000) %}{% for j in range(end=90000) %}\
                 {% if hosts() %}{% endif %}{% endfor %}{% endfor %}";
    let stop = Arc::new(AtomicBool::new(false));
    let context = context("app1");
    let scene = Scene::new(stage().shared(), NOW, &context);
    let source = Source { name: "slow.tera".to_owned(), text: loops.to_owned(), modified: None };
    let (sender, answer) = mpsc::channel();
    let told = move |result: Result<Rendered, TemplateError>| {
        let _ = sender.send(result.is_err());
    };
    start(source, scene, &context, Arc::clone(&stop), told).expect("a thread");
    assert!(answer.recv_timeout(Duration::from_millis(200)).is_err(), "it runs on");
    stop.store(true, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(answer.recv_timeout(Duration::from_secs(20)), Ok(true));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn names_that_would_break_a_line_are_left_out_and_said() {
    let mut stage = stage();
    stage.node("evil\n6.6.6.6 bank", "10.0.0.66");
    let source = Source::read("hosts.tera").expect("shipped").text;
    let rendered = rendered_at(&source, &stage.catalog, NOW).expect("renders");
    assert!(!rendered.text.contains("bank"), "{}", rendered.text);
    assert!(rendered.said.left_out.iter().any(|text| text.contains("evil")));
}

#[test]
fn the_order_is_the_hosts_own() {
    let catalog = stage().shared();
    let firsts: std::collections::BTreeSet<String> = (0..20)
        .map(|number| {
            let scene = Scene::new(Arc::clone(&catalog), NOW, &context(&format!("app{number}")));
            scene.replicas("foo-redis", Order::PerHost).remove(0).instance
        })
        .collect();
    assert_eq!(firsts.len(), 2, "both are somebody's first");
}

#[test]
fn masters_are_lost_by_time_by_record_and_by_health() {
    let stage = stage();
    let named = masters(&stage.catalog, NOW);
    assert_eq!(named.len(), 1);
    assert!(!lost(&named, &stage.catalog, NOW));
    assert!(lost(&named, &stage.catalog, NOW + LEASE));
    assert_eq!(expiry(&named, &stage.catalog, NOW), Some(NOW + LEASE));
    assert_eq!(expiry(&named, &stage.catalog, NOW + LEASE), None);
    let mut vacant = stage.clone();
    vacant.vacant(NOW, "foo-redis", "db1", "10.0.0.1:6379");
    assert!(lost(&named, &vacant.catalog, NOW));
    let mut other = stage.clone();
    other.serving(NOW, "foo-redis", "db2", "10.0.0.2:6379", false);
    assert!(lost(&named, &other.catalog, NOW));
    let mut silent = stage.clone();
    let health = Health::Silent("no answer".to_owned());
    silent.instance_with("foo-redis", "db1", "10.0.0.1:6379", None, health);
    assert!(lost(&named, &silent.catalog, NOW));
}

#[test]
fn a_promised_master_expires_with_its_beats() {
    let mut stage = stage();
    stage.serving(NOW, "foo-redis", "db1", "10.0.0.1:6379", true);
    stage.beat(NOW, "db1", "foo-redis");
    let later = NOW + LEASE / 2;
    stage.fresh(later);
    let named = masters(&stage.catalog, later);
    assert_eq!(named.len(), 1);
    assert_eq!(expiry(&named, &stage.catalog, later), Some(NOW + LEASE), "the beat's age decides");
    assert!(lost(&named, &stage.catalog, NOW + LEASE));
}

#[test]
fn beats_change_nothing_and_everything_else_does() {
    let mut stage = stage();
    let first = fingerprint(&stage.catalog, false);
    stage.beat(NOW, "db1", "foo-redis");
    assert_eq!(fingerprint(&stage.catalog, false), first);
    stage.node("db4", "10.0.0.4");
    let second = fingerprint(&stage.catalog, false);
    assert_ne!(second, first);
    stage.vacant(NOW, "foo-redis", "db1", "10.0.0.1:6379");
    assert_ne!(fingerprint(&stage.catalog, false), second);
    stage.put(NOW, "nodes/db4", None);
    assert_ne!(fingerprint(&stage.catalog, false), second);
    assert_eq!(entries(&stage.catalog), 6, "three hosts, two registered, one managed");
    assert_eq!(entries(&Catalog::default()), 0);
}
