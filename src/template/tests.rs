//! Templates as an operator sees them: real files, programs and changes of the catalog.

mod placing;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use sengu_core::catalog::Picture;
use tempfile::TempDir;

use super::block::{BEGIN, END};
use super::stage::{LEASE, Stage};
use super::*;
use crate::clock;

/// Longer than files are given to settle.
const SETTLE: Duration = Duration::from_millis(150);

const LONG: Duration = Duration::from_secs(20);

/// A folder, a catalog, and templates that run on it.
struct Bench {
    folder: TempDir,
    view: Arc<View>,
    stage: Stage,
    running: Option<(Templates, channel::Sender<bool>)>,
}

impl Bench {
    /// Two hosts, a managed service with a master and a replica; nothing published yet.
    fn new() -> Self {
        let mut stage = Stage::default();
        stage.node("db1", "10.0.0.1");
        stage.node("db2", "10.0.0.2");
        stage.instance("foo", "db1", "10.0.0.1:6379", None);
        stage.instance("foo", "db2", "10.0.0.2:6379", Some("10.0.0.1:6379"));
        stage.serving(clock::time(), "foo", "db1", "10.0.0.1:6379", false);
        let folder = tempfile::tempdir().expect("temp");
        Self { folder, view: Arc::default(), stage, running: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("write");
    }

    fn script(&self, name: &str, body: &str) -> Vec<String> {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{body}\n", self.folder.path().display()))
            .expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        vec![path.to_str().expect("text").to_owned()]
    }

    /// `out` from the template `in.tera`, quick.
    fn config(&self) -> TemplateConfig {
        TemplateConfig {
            source: self.path("in.tera").to_str().expect("text").to_owned(),
            destination: self.path("out"),
            command: None,
            validate: None,
            timeout: LONG,
            wait_min: Duration::from_millis(20),
            wait_max: Duration::from_millis(100),
            allow_empty: false,
            min_records: 0,
            block: false,
            in_place: false,
            backup: false,
            owner: None,
            mode: None,
        }
    }

    fn hosts(&self) -> TemplateConfig {
        TemplateConfig { source: "hosts.tera".to_owned(), block: true, ..self.config() }
    }

    fn context(&self) -> RenderContext {
        RenderContext {
            host: HostName::new("app1").expect("name"),
            datacenter: "dc1".to_owned(),
            domains: vec!["sengu".to_owned()],
            dns: vec!["127.0.0.1:8600".parse().expect("an address")],
            view: Arc::clone(&self.view),
            state_dir: self.path("state"),
            lease: LEASE,
        }
    }

    fn start(&mut self, config: TemplateConfig) {
        self.start_within(RENDER_DEADLINE, config);
    }

    fn start_within(&mut self, deadline: Duration, config: TemplateConfig) {
        let (sender, shutdown) = channel::channel(false);
        let templates = start_within(deadline, vec![config], self.context(), &shutdown);
        self.running = Some((templates, sender));
    }

    async fn stop(&mut self) {
        let (mut templates, sender) = self.running.take().expect("it runs");
        sender.send(true).expect("they listen");
        tokio::time::timeout(LONG, templates.ended()).await.expect("they end");
    }

    fn status(&self) -> TemplateStatus {
        self.running.as_ref().expect("it runs").0.status().remove(0)
    }

    fn error(&self) -> String {
        self.status().error.unwrap_or_default()
    }

    fn command(&self) -> String {
        self.status().command.map(|command| command.state).unwrap_or_default()
    }

    /// Fresh for a lease from now.
    fn publish(&mut self) {
        self.publish_until(LEASE * 100);
    }

    fn publish_until(&mut self, fresh: Duration) {
        self.stage.catalog.valid_until = clock::time() + fresh;
        self.view.publish(self.stage.shared());
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(
                began.elapsed() < LONG,
                "never: {what}\n{}\n{:?}",
                self.text("out"),
                self.running.as_ref().map(|(templates, _)| templates.status())
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Longer than anything that must not happen would take.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(600)).await;
}

const MASTER: &str = "10.0.0.1 master.foo.service.dc1.sengu master.foo.service.sengu\n";
const REPLICA: &str = "10.0.0.2 replica.foo.service.dc1.sengu replica.foo.service.sengu\n";
const HOSTS: &str = "10.0.0.1 db1 db1.node.dc1.sengu\n10.0.0.2 db2 db2.node.dc1.sengu\n";

fn block(lines: &[&str]) -> String {
    format!("{BEGIN}\n{}{END}\n", lines.concat())
}

#[tokio::test]
async fn nothing_is_rendered_from_what_was_never_read() {
    let mut bench = Bench::new();
    bench.write("out", "127.0.0.1 localhost\n");
    bench.start(bench.hosts());
    a_while().await;
    assert!(bench.error().contains("nothing was read"), "{}", bench.error());
    bench.view.publish(bench.stage.shared());
    a_while().await;
    assert_eq!(bench.text("out"), "127.0.0.1 localhost\n", "read, but never fresh");
    bench.publish();
    let whole = format!("127.0.0.1 localhost\n{}", block(&[HOSTS, MASTER, REPLICA]));
    bench.until("rendered", |bench| bench.text("out") == whole).await;
    bench.until("well", |bench| bench.status().error.is_none()).await;
    let status = bench.status();
    assert_eq!((status.writes, status.bytes), (1, whole.len() as u64));
    assert!(status.rendered.is_some() && status.written.is_some());
    assert!(serde_json::to_string(&status).expect("json").contains("hosts.tera"));
    bench.stop().await;
    assert_eq!(bench.text("out"), whole);
}

#[tokio::test]
async fn a_master_leaves_when_its_time_ends_and_comes_back_when_the_store_does() {
    let mut bench = Bench::new();
    let fresh = Duration::from_millis(1500);
    bench.publish_until(fresh);
    let until = bench.stage.catalog.valid_until;
    // Quiet would be waited for far longer than the test runs.
    let config = TemplateConfig { wait_min: LONG * 10, wait_max: LONG * 10, ..bench.hosts() };
    bench.start(config);
    let with = block(&[HOSTS, MASTER, REPLICA]);
    let without = block(&[HOSTS, REPLICA]);
    bench.until("named", |bench| bench.text("out") == with).await;
    // Refreshed without a new revision: nothing is written.
    bench.publish_until(fresh + Duration::from_millis(700));
    let later = bench.stage.catalog.valid_until;
    while clock::time() < until + Duration::from_millis(200) {
        assert_eq!(bench.text("out"), with);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.until("withdrawn", |bench| bench.text("out") == without).await;
    let now = clock::time();
    assert!(now >= later, "not before its time");
    assert!(now.since(later) < Duration::from_secs(3), "{:?} late", now.since(later));
    bench.until("counted", |bench| bench.status().writes == 2).await;
    bench.stop().await;
    // A new life, with a quiet time that passes: without a bell it finds the view fresh again.
    bench.start(bench.hosts());
    bench.until("rendered", |bench| bench.status().rendered.is_some()).await;
    assert_eq!(bench.text("out"), without);
    bench.publish_until(LEASE);
    bench.until("named again", |bench| bench.text("out") == with).await;
}

#[tokio::test]
async fn a_withdrawal_does_not_wait_for_quiet_and_a_change_does() {
    let mut bench = Bench::new();
    bench.publish();
    let config = TemplateConfig { wait_min: LONG * 10, wait_max: LONG * 10, ..bench.hosts() };
    bench.start(config);
    bench.until("named", |bench| bench.text("out").contains(MASTER)).await;
    bench.stage.node("db3", "10.0.0.3");
    bench.publish();
    a_while().await;
    assert!(!bench.text("out").contains("db3"), "it waits for quiet");
    bench.stage.vacant(clock::time(), "foo", "db1", "10.0.0.1:6379");
    bench.publish();
    bench.until("withdrawn", |bench| !bench.text("out").contains(MASTER)).await;
    assert!(bench.text("out").contains("db3"), "what was open goes with it");
    bench.until("counted", |bench| bench.status().writes == 2).await;
}

#[tokio::test]
async fn a_promised_master_leaves_when_its_beats_stop() {
    let mut bench = Bench::new();
    let began = clock::time();
    bench.stage.serving(began, "foo", "db1", "10.0.0.1:6379", true);
    // As if the last beat had come all but one second of the lease ago.
    let beat = began + Duration::from_secs(1) - LEASE;
    bench.stage.beat(beat, "db1", "foo");
    bench.publish();
    bench.start(bench.hosts());
    bench.until("named", |bench| bench.text("out").contains(MASTER)).await;
    bench.until("withdrawn", |bench| bench.text("out") == block(&[HOSTS, REPLICA])).await;
    let late = clock::time().since(beat + LEASE);
    assert!(clock::time() >= beat + LEASE && late < Duration::from_secs(3), "{late:?}");
}

/// The agent is killed and started again where it does not reach the store: the masters that its
/// earlier life had named leave the file a lease later, and come back with the store.
#[tokio::test]
async fn masters_of_an_earlier_life_leave_a_lease_after_a_start_without_the_store() {
    let mut bench = Bench::new();
    bench.publish();
    bench.start(bench.hosts());
    bench.until("named", |bench| bench.text("out").contains(MASTER)).await;
    bench.stop().await;
    let view = std::mem::take(&mut bench.view);
    let began = clock::time();
    bench.start(bench.hosts());
    bench.until("withdrawn", |bench| bench.text("out") == block(&[HOSTS, REPLICA])).await;
    assert!(clock::time() >= began + LEASE, "a restart takes no line out");
    bench.stop().await;
    bench.view = view;
    bench.start(bench.hosts());
    bench.until("named again", |bench| bench.text("out").contains(MASTER)).await;
}

#[tokio::test]
async fn many_changes_are_few_renders() {
    let mut bench = Bench::new();
    bench.publish();
    let config = TemplateConfig {
        wait_min: Duration::from_millis(200),
        wait_max: Duration::from_millis(500),
        ..bench.hosts()
    };
    bench.start(config);
    bench.until("rendered", |bench| bench.status().writes == 1).await;
    let began = Instant::now();
    for number in 0..300 {
        bench
            .stage
            .node(&format!("app{number}"), &format!("10.1.{}.{}", number / 200, number % 200));
        bench.publish();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    bench.until("all are there", |bench| bench.text("out").contains("app299")).await;
    let most = took.as_millis() / 500 + 3;
    assert!(u128::from(bench.status().writes) <= most, "{} in {took:?}", bench.status().writes);
    for number in 0..300 {
        bench.stage.put(clock::time(), &format!("nodes/app{number}"), None);
    }
    bench.publish();
    bench.until("all are gone", |bench| !bench.text("out").contains("app")).await;
    assert_eq!(bench.text("out"), block(&[HOSTS, MASTER, REPLICA]));
}

#[tokio::test]
async fn the_command_runs_once_for_each_content_over_restarts() {
    let mut bench = Bench::new();
    bench.write("in.tera", "{% for h in hosts() %}{{ h.name }} {% endfor %}");
    let command =
        bench.script("reload", "cat out >>ran; echo >>ran; [ -e good ] || { echo no; exit 7; }");
    let config = TemplateConfig { command: Some(command), ..bench.config() };
    bench.publish();
    bench.start(config.clone());
    bench.until("failed", |bench| bench.command() == "failed").await;
    let status = bench.status().command.expect("it ran");
    assert!(status.error.expect("said").ends_with("reload exited with 7"));
    assert_eq!((status.output.as_str(), status.attempts), ("no\n", 1));
    assert!(status.retry.is_some());
    bench.until("retried", |bench| bench.text("ran").lines().count() == 2).await;
    bench.stop().await;
    // Owed over a restart, although the file is as it should be.
    bench.write("good", "");
    bench.write("ran", "");
    bench.start(config.clone());
    bench.until("done", |bench| bench.command() == "done").await;
    assert_eq!(bench.text("ran"), "db1 db2 \n");
    assert_eq!(bench.status().writes, 0, "equal bytes are not written");
    bench
        .until("remembered", |bench| {
            let path = memory::Memory::path(&bench.path("state"), &bench.path("out"));
            memory::Memory::read(&path, &bench.path("out")).commanded.is_some()
        })
        .await;
    bench.stop().await;
    // Not owed any more.
    bench.start(config);
    bench.until("rendered", |bench| bench.status().rendered.is_some()).await;
    a_while().await;
    assert_eq!(bench.text("ran"), "db1 db2 \n");
    // Other bytes: once more. Drift that is repaired counts as that.
    bench.stage.node("db3", "10.0.0.3");
    bench.publish();
    bench.until("again", |bench| bench.text("ran") == "db1 db2 \ndb1 db2 db3 \n").await;
    bench.until("done", |bench| bench.command() == "done").await;
    bench.write("out", "mine");
    bench.until("repaired", |bench| bench.text("ran").lines().count() == 3).await;
    assert_eq!(bench.text("out"), "db1 db2 db3 ");
}

#[tokio::test]
async fn slow_programs_do_not_hold_a_withdrawal() {
    let mut bench = Bench::new();
    bench.publish();
    let command = bench.script("reload", "echo x >>ran; sleep 60");
    // Hangs as long as a master is named, except the first time.
    let validate = bench.script(
        "check",
        "[ -e first ] || { touch first; exit; }; grep -q master \"$1\" && sleep 60; exit 0",
    );
    let config = TemplateConfig {
        command: Some(command),
        validate: Some([validate, vec!["{}".to_owned()]].concat()),
        timeout: LONG * 10,
        ..bench.hosts()
    };
    bench.start(config);
    bench.until("the command runs", |bench| bench.text("ran") == "x\n").await;
    bench.stage.node("db3", "10.0.0.3");
    bench.publish();
    let temp = bench.path(".out.sengu-new");
    bench.until("it is being validated", |_| temp.exists()).await;
    bench.stage.vacant(clock::time(), "foo", "db1", "10.0.0.1:6379");
    bench.publish();
    bench.until("withdrawn", |bench| !bench.text("out").contains("master")).await;
    assert!(bench.text("out").contains("db3"));
    assert_eq!(bench.command(), "running", "the first run goes on");
    bench.stop().await;
    assert!(!temp.exists());
}

#[tokio::test]
async fn what_does_not_validate_stays_out() {
    let mut bench = Bench::new();
    bench.write("in.tera", "{% for h in hosts() %}{{ h.name }} {% endfor %}");
    bench.write("out", "old");
    let validate =
        bench.script("check", "grep -q db3 \"$1\" || { echo \"db3 is missing\"; exit 4; }");
    let validate = [validate, vec!["{}".to_owned()]].concat();
    bench.publish();
    bench.start(TemplateConfig { validate: Some(validate), ..bench.config() });
    bench.until("refused", |bench| bench.error().contains("refused")).await;
    let error = bench.error();
    assert!(error.contains("exited with 4") && error.ends_with(": db3 is missing"), "{error}");
    assert_eq!(bench.text("out"), "old");
    bench.stage.node("db3", "10.0.0.3");
    bench.publish();
    bench.until("accepted", |bench| bench.text("out") == "db1 db2 db3 ").await;
    bench.until("well", |bench| bench.status().error.is_none()).await;
}

#[tokio::test]
async fn a_file_that_people_edit_keeps_their_lines_and_gets_ours_back() {
    let mut bench = Bench::new();
    bench.write("out", "127.0.0.1 localhost\n");
    bench.publish();
    bench.start(bench.hosts());
    let ours = block(&[HOSTS, MASTER, REPLICA]);
    bench.until("rendered", |bench| bench.text("out").ends_with(&ours)).await;
    let edited = bench.text("out").replace("10.0.0.1 db1", "6.6.6.6 db1") + "10.7.7.7 mine\n";
    bench.write("out", &edited);
    let whole = format!("127.0.0.1 localhost\n{ours}10.7.7.7 mine\n");
    bench.until("repaired", |bench| bench.text("out") == whole).await;
    // The way of editors: another file in its place.
    bench.write("next", &edited.replace(END, ""));
    fs::rename(bench.path("next"), bench.path("out")).expect("rename");
    bench.until("refused", |bench| bench.error().contains("without its partner")).await;
    assert!(bench.error().contains("out: line 2"), "{}", bench.error());
    fs::remove_file(bench.path("out")).expect("remove");
    bench.until("there again", |bench| bench.text("out") == ours).await;
}

#[tokio::test]
async fn an_editor_that_empties_the_file_first_loses_nothing() {
    use std::io::Write;
    let mut bench = Bench::new();
    bench.write("out", "127.0.0.1 localhost\n");
    bench.publish();
    bench.start(bench.hosts());
    bench.until("rendered", |bench| bench.status().writes == 1).await;
    for round in 0..8 {
        let mine = format!("10.7.7.{round} mine\n");
        let text =
            bench.text("out").replace("127.0.0.1 localhost\n", "127.0.0.1 localhost\n# edited\n");
        let mut file = fs::File::create(bench.path("out")).expect("empties it");
        // Now is the worst moment for a render that does not wait for quiet.
        bench.stage.vacant(clock::time(), "foo", "db1", "10.0.0.1:6379");
        bench.publish();
        tokio::time::sleep(Duration::from_millis(40)).await;
        file.write_all((text + &mine).as_bytes()).expect("fills it");
        drop(file);
        bench.until("withdrawn", |bench| !bench.text("out").contains("master")).await;
        bench.stage.serving(clock::time(), "foo", "db1", "10.0.0.1:6379", false);
        bench.publish();
        bench.until("named", |bench| bench.text("out").contains(MASTER)).await;
        let whole = bench.text("out");
        assert!(whole.starts_with("127.0.0.1 localhost\n# edited\n"), "{whole}");
        assert!(whole.contains(&mine), "{whole}");
        // Not while the next round empties it.
        tokio::time::sleep(SETTLE * 2).await;
    }
}

#[tokio::test]
async fn a_template_is_read_again_and_its_errors_are_shown() {
    let mut bench = Bench::new();
    bench.write("in.tera", "one {{ host }}\n");
    bench.publish();
    bench.start(bench.config());
    bench.until("rendered", |bench| bench.text("out") == "one app1\n").await;
    bench.write("in.tera", "two\n  {{ hots }}\n");
    bench.until("an error", |bench| bench.error().contains("in.tera:2:6: ")).await;
    assert_eq!(bench.text("out"), "one app1\n");
    bench.write("next", "three {{ datacenter }}\n");
    fs::rename(bench.path("next"), bench.path("in.tera")).expect("rename");
    bench.until("rendered", |bench| bench.text("out") == "three dc1\n").await;
    fs::remove_file(bench.path("in.tera")).expect("remove");
    bench.until("an error", |bench| bench.error().contains("cannot read template")).await;
    assert!(bench.status().retry.is_some());
    assert_eq!(bench.text("out"), "three dc1\n");
}

#[tokio::test]
async fn what_became_empty_is_kept_without_its_masters() {
    let mut bench = Bench::new();
    bench.publish();
    bench.start(bench.hosts());
    bench.until("rendered", |bench| bench.text("out").contains(MASTER)).await;
    let full = std::mem::take(&mut bench.stage);
    bench.stage.catalog.revision = full.catalog.revision + 1;
    bench.publish();
    bench.until("said", |bench| bench.error().contains("became empty")).await;
    assert_eq!(bench.text("out"), block(&[HOSTS, REPLICA]));
    bench.until("nothing stale", |bench| bench.status().stale.is_empty()).await;
    bench.stage = full;
    bench.stage.catalog.revision += 2;
    bench.publish();
    bench.until("whole again", |bench| bench.text("out").contains(MASTER)).await;
    bench.until("well", |bench| bench.status().error.is_none()).await;
    bench.stop().await;
    // Where that is wanted, it may.
    bench.stage = Stage::default();
    bench.stage.catalog.revision = 1000;
    bench.publish();
    bench.start(TemplateConfig { allow_empty: true, ..bench.hosts() });
    bench.until("empty", |bench| bench.text("out") == block(&[])).await;
}

#[tokio::test]
async fn an_empty_output_is_refused_unless_a_master_was_withdrawn() {
    let mut bench = Bench::new();
    bench.write(
        "in.tera",
        "{% set m = master(service='foo') %}{% if m %}{{ m.address }}{% endif %}\n",
    );
    bench.write("out", "old\n");
    let master = bench.stage.clone();
    bench.stage.vacant(clock::time(), "foo", "db1", "10.0.0.1:6379");
    bench.publish();
    bench.start(bench.config());
    bench.until("refused", |bench| bench.error().contains("would be empty")).await;
    assert_eq!(bench.text("out"), "old\n");
    bench.stage = master;
    bench.stage.catalog.revision += 10;
    bench.publish();
    bench.until("named", |bench| bench.text("out") == "10.0.0.1\n").await;
    bench.stage.vacant(clock::time(), "foo", "db1", "10.0.0.1:6379");
    bench.publish();
    bench.until("withdrawn", |bench| bench.text("out") == "\n").await;
}

#[tokio::test]
async fn a_template_without_end_is_given_up_until_it_changes() {
    let mut bench = Bench::new();
    let endless = "{% for i in range(end=90000) %}{% for j in range(end=90000) %}\
                   {% if hosts() %}{% endif %}{% endfor %}{% endfor %}";
    bench.write("in.tera", endless);
    bench.write("out", "old");
    bench.publish();
    let config = bench.config();
    bench.start_within(Duration::from_millis(300), config);
    bench.until("given up", |bench| bench.error().contains("until it changes")).await;
    bench.stage.node("db3", "10.0.0.3");
    bench.publish();
    a_while().await;
    assert!(bench.error().contains("until it changes"), "{}", bench.error());
    assert_eq!(bench.text("out"), "old");
    bench.write("in.tera", "new");
    bench.until("rendered", |bench| bench.text("out") == "new").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_tried_again() {
    let mut bench = Bench::new();
    bench.write("in.tera", "new");
    let config = TemplateConfig { destination: bench.path("later/out"), ..bench.config() };
    bench.publish();
    bench.start(config);
    bench.until("an error", |bench| bench.error().contains("later")).await;
    assert!(bench.status().retry.is_some());
    fs::create_dir(bench.path("later")).expect("folder");
    bench.until("written", |bench| bench.text("later/out") == "new").await;
    bench.until("well", |bench| bench.status().error.is_none()).await;
}

#[tokio::test]
async fn a_withdrawal_that_cannot_be_written_is_shown() {
    let mut bench = Bench::new();
    bench.publish();
    let validate = bench.script("check", "grep -q master \"$1\"");
    let validate = Some([validate, vec!["{}".to_owned()]].concat());
    bench.start(TemplateConfig { validate, ..bench.hosts() });
    bench.until("named", |bench| bench.status().writes == 1).await;
    bench.stage.vacant(clock::time(), "foo", "db1", "10.0.0.1:6379");
    bench.publish();
    bench.until("said", |bench| bench.status().stale == ["foo"]).await;
    assert!(bench.error().contains("refused"), "{}", bench.error());
    bench.stage.serving(clock::time(), "foo", "db1", "10.0.0.1:6379", false);
    bench.publish();
    bench.until("well", |bench| bench.status().stale.is_empty()).await;
}

#[tokio::test]
async fn two_templates_do_not_fight_for_one_file() {
    let mut bench = Bench::new();
    bench.write("in.tera", "one");
    bench.publish();
    let (_sender, shutdown) = channel::channel(false);
    let both = vec![bench.config(), bench.hosts()];
    let templates = start(both, bench.context(), shutdown);
    bench.until("rendered", |bench| bench.text("out") == "one").await;
    let error = templates.status()[1].error.clone().expect("said");
    assert!(error.contains("another template"), "{error}");
}

#[tokio::test]
async fn a_dry_run_shows_what_the_agent_writes() {
    let mut bench = Bench::new();
    bench.write("out", "127.0.0.1 localhost\n");
    bench.publish();
    let (config, context, now) = (bench.hosts(), bench.context(), clock::time());
    let nothing = render_once(&config, &context, &Picture::Unknown, now);
    assert!(matches!(nothing, Err(TemplateError::Unknown)));
    let picture = bench.view.picture();
    let new = render_once(&config, &context, &picture, now).expect("renders");
    let diff = difference(&config, &new).expect("compared");
    assert!(diff.contains("\n 127.0.0.1 localhost\n+# BEGIN sengu"), "{diff}");
    assert!(diff.contains(&format!("+{MASTER}")) && diff.starts_with("--- "), "{diff}");
    assert_eq!(bench.text("out"), "127.0.0.1 localhost\n", "nothing was written");
    bench.start(config.clone());
    bench.until("rendered", |bench| bench.text("out") == new).await;
    assert_eq!(difference(&config, &new).expect("compared"), "");
}
