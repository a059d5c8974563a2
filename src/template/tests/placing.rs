//! How files are put in place: floors, owners, copies, mounts and other people's hands.

use std::os::unix::fs::MetadataExt;

use super::super::swap::{Manner, complete};
use super::*;

const LINES: &str = "{% for h in hosts() %}{{ h.name }} {% endfor %}";

#[tokio::test]
async fn fewer_records_than_the_floor_keep_the_last_good_lines_without_masters() {
    let mut bench = Bench::new();
    bench.publish();
    // Two hosts, a master and a replica, told twice: once in `services()` and once in `hosts()`.
    let config = TemplateConfig { min_records: 4, ..bench.hosts() };
    bench.start(config);
    bench.until("rendered", |bench| bench.text("out") == block(&[HOSTS, MASTER, REPLICA])).await;
    bench.stage.put(clock::time(), "nodes/db2", None);
    bench.publish();
    bench.until("said", |bench| bench.error().contains("min_records (4)")).await;
    assert!(bench.error().contains("given 3 hosts and servers"), "{}", bench.error());
    assert_eq!(bench.text("out"), block(&[HOSTS, REPLICA]), "kept, and the master withdrawn");
    bench.stage.node("db2", "10.0.0.2");
    bench.publish();
    bench.until("whole again", |bench| bench.text("out").contains(MASTER)).await;
    bench.until("well", |bench| bench.status().error.is_none()).await;
}

#[tokio::test]
async fn a_repair_of_other_peoples_changes_is_counted() {
    let mut bench = Bench::new();
    bench.write("in.tera", LINES);
    bench.publish();
    bench.start(bench.config());
    bench.until("rendered", |bench| bench.text("out") == "db1 db2 ").await;
    assert_eq!(bench.status().repairs, 0);
    bench.stage.node("db3", "10.0.0.3");
    bench.publish();
    bench.until("changed", |bench| bench.text("out") == "db1 db2 db3 ").await;
    assert_eq!(bench.status().repairs, 0, "a change of our own is none");
    bench.write("out", "somebody else was here");
    bench.until("repaired", |bench| bench.status().repairs == 1).await;
    assert_eq!(bench.text("out"), "db1 db2 db3 ");
    assert!(bench.status().repaired.is_some());
}

#[tokio::test]
async fn the_old_file_is_kept_with_its_mode_and_the_new_one_has_what_was_told() {
    let mut bench = Bench::new();
    bench.write("in.tera", LINES);
    bench.write("out", "old");
    fs::set_permissions(bench.path("out"), fs::Permissions::from_mode(0o600)).expect("chmod");
    bench.publish();
    let owner = fs::metadata(bench.path("out")).expect("there");
    let owner = Some(format!("{}:{}", owner.uid(), owner.gid()));
    let config = TemplateConfig { backup: true, mode: Some(0o640), owner, ..bench.config() };
    bench.start(config);
    bench.until("rendered", |bench| bench.text("out") == "db1 db2 ").await;
    assert_eq!(bench.text("out.bak"), "old");
    let mode = |name: &str| fs::metadata(bench.path(name)).expect("there").mode() & 0o7777;
    assert_eq!((mode("out.bak"), mode("out")), (0o600, 0o640));
    bench.stop().await;
    let config = TemplateConfig { owner: Some("nobody-of-that-name".to_owned()), ..bench.config() };
    bench.write("in.tera", "new");
    bench.start(config);
    bench.until("said", |bench| bench.error().contains("there is no user")).await;
    assert_eq!(bench.text("out"), "db1 db2 ");
}

#[tokio::test]
async fn in_place_the_file_itself_stays() {
    let mut bench = Bench::new();
    bench.write("in.tera", LINES);
    bench.write("out", "something that was longer before\n");
    let before = fs::metadata(bench.path("out")).expect("there").ino();
    bench.publish();
    let config = TemplateConfig { in_place: true, backup: true, ..bench.config() };
    bench.start(config);
    bench.until("rendered", |bench| bench.text("out") == "db1 db2 ").await;
    bench.until("well", |bench| bench.status().error.is_none()).await;
    assert_eq!(fs::metadata(bench.path("out")).expect("there").ino(), before);
    assert_eq!(bench.text("out.bak"), "something that was longer before\n");
    let left = fs::read_dir(bench.path("state/templates")).expect("a folder");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".json")), "{left:?}");
    assert!(!bench.path(".out.sengu-new").exists());
}

#[test]
fn what_was_half_written_in_place_is_completed() {
    let bench = Bench::new();
    let (copy, out) = (bench.path("copy"), bench.path("out"));
    assert!(!complete(&copy, &out).expect("nothing to do"));
    bench.write("copy", "all of it\n");
    bench.write("out", "all of the longer old file\n");
    assert!(complete(&copy, &out).expect("completed"));
    assert_eq!(bench.text("out"), "all of it\n");
    assert!(!copy.exists());
    // A copy that was never finished has another name, and is no more than a leftover.
    bench.write("copy.new", "half");
    let manner = Manner { in_place: Some(copy), ..Manner::default() };
    let staged = swap::Destination::read(&out).expect("read").stage(b"next\n", &manner);
    assert_eq!(bench.text("out"), "all of it\n");
    staged.expect("staged").swap().expect("written");
    assert_eq!(bench.text("out"), "next\n");
    assert!(!bench.path("copy.new").exists());
}

#[tokio::test]
async fn a_template_that_asks_the_keys_follows_them() {
    let mut bench = Bench::new();
    bench.write("in.tera", "limit {{ key_or(name='app/limit', default='10') }}\n");
    bench.publish();
    bench.start(bench.config());
    bench.until("the default", |bench| bench.text("out") == "limit 10\n").await;
    bench.stage.json("kv/app/limit", "25");
    bench.publish();
    bench.until("the value", |bench| bench.text("out") == "limit 25\n").await;
    bench.write("in.tera", "limit {{ key(name='app/other') }}\n");
    bench.until("an error", |bench| bench.error().contains("no key \"app/other\"")).await;
    assert_eq!(bench.text("out"), "limit 25\n");
    bench.stage.json("kv/app/other", "7");
    bench.publish();
    bench.until("well", |bench| bench.text("out") == "limit 7\n").await;
}

#[tokio::test]
async fn templates_settle_once_their_commands_have_run() {
    let mut bench = Bench::new();
    bench.write("in.tera", LINES);
    let command = bench.script("reload", "sleep 0.3; echo x >>ran");
    bench.publish();
    let config = TemplateConfig { command: Some(command), ..bench.config() };
    bench.start(config.clone());
    let templates = &mut bench.running.as_mut().expect("it runs").0;
    tokio::time::timeout(LONG, templates.settled()).await.expect("in time");
    assert_eq!((bench.text("out").as_str(), bench.text("ran").as_str()), ("db1 db2 ", "x\n"));
    bench.stop().await;
    bench.start(TemplateConfig { source: "/nowhere/in.tera".to_owned(), ..config });
    let templates = &mut bench.running.as_mut().expect("it runs").0;
    tokio::time::timeout(LONG, templates.settled()).await.expect("in time");
    assert!(bench.error().contains("cannot read template"));
}
