//! Archives there and back, and each way in which one can be wrong.

use std::fs;

use rusqlite::Connection;
use sengu_core::kv::{Op, Txn};
use tempfile::TempDir;

use super::*;
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;

const NODE: &str = r#"{"format":1,"name":"Db1","address":"10.0.0.1","owner":"managed"}"#;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn fill(folder: &TempDir) -> EmbeddedStore {
    let store = EmbeddedStore::open(folder.path()).expect("a store that opens");
    let (lease, _) = store.grant(Duration::from_secs(3600)).await.expect("a lease");
    let puts: [(&str, &[u8], LeaseId); 5] = [
        ("nodes/db1", NODE.as_bytes(), 0),
        ("kv/text", "a \"quoted\"\nline \u{e4}\u{0}".as_bytes(), 0),
        ("kv/bytes", &[0xff, 0x00, 0x80], 0),
        ("kv/empty", b"", 0),
        ("kv/held", b"1", lease),
    ];
    for (key, value, lease) in puts {
        let op = Op::Put { key: key.into(), value: value.into(), lease };
        store.txn(Txn { then: vec![op], ..Txn::default() }).await.expect("good");
    }
    store
}

async fn contents(store: &EmbeddedStore) -> (Revision, Vec<KeyValue>) {
    let (revision, entries) = store.load().await.expect("it loads");
    (revision, entries.iter().map(|entry| (**entry).clone()).collect())
}

fn exported(folder: &TempDir) -> String {
    let mut bytes = Vec::new();
    export(folder.path(), &mut bytes).expect("an archive");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn an_archive_counts_after_a_person_says_so() {
    let (from, to) = (folder(), folder());
    let store = fill(&from).await;
    let before = contents(&store).await;
    let archive = exported(&from);
    assert_eq!(archive.lines().count(), 1 + 1 + 5, "{archive}");
    let summary = import(to.path(), archive.as_bytes()).expect("a good archive");
    assert_eq!((summary.records, summary.leases, summary.revision), (5, 1, 5));
    assert_eq!((&*summary.store_id, summary.incarnation), (store.store_id(), 1));
    let refused = EmbeddedStore::open(to.path()).expect_err("it does not count yet");
    assert!(matches!(refused, OpenError::Imported { .. }), "{refused}");
    assert!(refused.to_string().contains("sengu store incarnate"));
    assert!(verify(to.path()).expect("it can be read").imported);
    assert_eq!(incarnate(to.path(), 0).expect("nobody uses it"), 2);
    let copy = EmbeddedStore::open(to.path()).expect("it counts now");
    assert_eq!(contents(&copy).await, before);
    assert_eq!((copy.store_id(), copy.incarnation()), (store.store_id(), 2));
    let (_, entries) = before;
    let lease = entries.iter().find(|e| &*e.key == "kv/held").expect("it is there").lease;
    assert_eq!(copy.keep(lease).await, Ok(true));
}

#[tokio::test]
async fn what_one_wrote_another_writes_again() {
    let (from, to) = (folder(), folder());
    drop(fill(&from).await);
    let archive = exported(&from);
    import(to.path(), archive.as_bytes()).expect("a good archive");
    assert_eq!(exported(&to), archive);
}

#[tokio::test]
async fn an_incarnation_is_above_all_that_was_seen() {
    let folder = folder();
    let refused = incarnate(folder.path(), 0).expect_err("there is no store");
    assert!(matches!(refused, ArchiveError::Open(OpenError::Absent { .. })), "{refused}");
    let store = fill(&folder).await;
    let refused = incarnate(folder.path(), 0).expect_err("an agent runs");
    assert!(matches!(refused, ArchiveError::Open(OpenError::Locked { .. })), "{refused}");
    drop(store);
    assert_eq!(incarnate(folder.path(), 7).expect("good"), 8);
    assert_eq!(incarnate(folder.path(), 7).expect("good"), 9);
    assert_eq!(EmbeddedStore::open(folder.path()).expect("a store").incarnation(), 9);
}

#[tokio::test]
async fn an_import_never_goes_over_records() {
    let folder = folder();
    let store = fill(&folder).await;
    let archive = exported(&folder);
    let refused = import(folder.path(), archive.as_bytes()).expect_err("an agent runs");
    assert!(matches!(refused, ArchiveError::Open(OpenError::Locked { .. })), "{refused}");
    let before = contents(&store).await;
    drop(store);
    let refused = import(folder.path(), archive.as_bytes()).expect_err("it holds records");
    assert!(matches!(refused, ArchiveError::NotEmpty { records: 5, .. }), "{refused}");
    let store = EmbeddedStore::open(folder.path()).expect("as before");
    assert_eq!(contents(&store).await, before);
}

#[tokio::test]
async fn an_import_goes_over_an_empty_store_and_sorts_above_it() {
    let (from, to) = (folder(), folder());
    drop(fill(&from).await);
    let store = fill(&to).await;
    for prefix in ["kv/", "nodes/"] {
        let then = vec![Op::DeletePrefix(prefix.into())];
        store.txn(Txn { then, ..Txn::default() }).await.expect("good");
    }
    drop(store);
    incarnate(to.path(), 20).expect("good");
    let summary = import(to.path(), exported(&from).as_bytes()).expect("it is empty");
    assert_eq!((summary.records, summary.incarnation), (5, 21));
    assert_eq!(incarnate(to.path(), 0).expect("good"), 22);
    let store = EmbeddedStore::open(to.path()).expect("it counts");
    assert_eq!(contents(&store).await.1.len(), 5);
}

#[tokio::test]
async fn a_wrong_archive_is_refused_by_line_and_leaves_nothing() {
    let from = folder();
    drop(fill(&from).await);
    let good = exported(&from);
    let line = |number: usize| good.lines().nth(number - 1).expect("it has that many").to_owned();
    let replace = |number: usize, with: &str| good.replacen(&line(number), with, 1);
    let edit = |number: usize, what: &str, with: &str| {
        assert!(line(number).contains(what), "{what} in {}", line(number));
        replace(number, &line(number).replacen(what, with, 1))
    };
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let fifth = line(5);
    let (_, lease) = fifth.split_once("\"lease\":").expect("it hangs on one");
    let digits = lease.split(|c: char| !c.is_ascii_digit()).next().expect("at least one part");
    let lease: u64 = digits.parse().expect("a lease's number");
    let hangs = |lease: u64| format!("\"lease\":{lease}");
    let wrong: Vec<(u64, String, &str)> = vec![
        (1, String::new(), "ends where the header"),
        (1, "SQLite format 3\0\n".to_owned(), "not the header"),
        (1, edit(1, MARK, "other"), "not an archive"),
        (1, edit(1, "\"version\":1", "\"version\":2"), "format 2"),
        (1, edit(1, "\"incarnation\":1", "\"incarnation\":0"), "incarnation"),
        (1, edit(1, "\"revision\":5", "\"revision\":18446744073709551615"), "out of range"),
        (1, edit(1, "\"revision\":5", "\"revision\":5,\"other\":1"), "unknown field"),
        (2, edit(1, "\"leases\":1", "\"leases\":0"), "not a record"),
        (2, edit(2, "3600000", "1"), "out of range"),
        (3, edit(1, "\"leases\":1", "\"leases\":2"), "not a lease"),
        (3, replace(3, "{"), "not a record"),
        (3, edit(3, "\"base64\":\"", "\"base64\":\"!"), "base64"),
        (3, edit(3, "base64", "other"), "unknown field"),
        (4, edit(4, "\"value\":\"\"", "\"value\":\"\",\"base64\":\"\""), "either"),
        (4, edit(4, "\"created\":4", "\"created\":0"), "revision 0"),
        (4, edit(4, "\"modified\":4", "\"modified\":6"), "at revision 5"),
        (4, edit(4, "\"version\":1", "\"version\":0"), "0 times"),
        (4, edit(4, "kv/empty", &long), "a key of 1025 bytes"),
        (4, edit(4, "kv/empty", "kv/bytes"), "twice"),
        (5, edit(5, &hangs(lease), &hangs(lease ^ 1)), "hangs on lease"),
        (7, good[..good.len() - 1].to_owned(), "cut short"),
        (8, edit(1, "\"records\":5", "\"records\":6"), "ends where a record"),
        (8, format!("{good}\n"), "more lines"),
        (1, " ".repeat(5 << 20), "longer than any line"),
    ];
    for (number, archive, says) in wrong {
        let to = folder();
        let refused = import(to.path(), archive.as_bytes()).expect_err(says);
        let ArchiveError::Line { line, what } = &refused else { panic!("{says}: {refused}") };
        assert!(*line == number && what.contains(says), "line {number}, {says}: {refused}");
        let left = fs::read_dir(to.path()).expect("a folder").count();
        assert_eq!(left, 1, "the lock, and nothing else, after: {refused}");
    }
}

#[tokio::test]
async fn verify_counts_and_finds() {
    let folder = folder();
    let refused = verify(folder.path()).expect_err("there is none");
    assert!(matches!(refused, ArchiveError::Open(OpenError::Absent { .. })), "{refused}");
    let store = fill(&folder).await;
    for (key, value) in [("master/foo", "{}"), ("services/a/b", "{"), ("other", "1")] {
        let op = Op::Put { key: key.into(), value: value.as_bytes().into(), lease: 0 };
        store.txn(Txn { then: vec![op], ..Txn::default() }).await.expect("good");
    }
    let running = verify(folder.path()).expect("while an agent runs");
    drop(store);
    let found = verify(folder.path()).expect("and after");
    assert_eq!(running, found);
    assert_eq!((found.summary.records, found.summary.revision, found.imported), (8, 8, false));
    let kinds: Vec<_> = found.kinds.iter().map(|(kind, count)| (&**kind, *count)).collect();
    assert_eq!(kinds, [("kv", 4), ("master", 1), ("nodes", 1), ("other", 1), ("services", 1)]);
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(found.problems[0].starts_with("master/foo: missing field"), "{:?}", found.problems);
    assert!(found.problems[1].starts_with("services/a/b: not JSON"), "{:?}", found.problems);
}

#[tokio::test]
async fn verify_sees_a_damaged_index() {
    let folder = folder();
    drop(fill(&folder).await);
    let connection = Connection::open(file::path(folder.path())).expect("a file");
    let hide = "PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE \
        name = 'meta') WHERE name = 'sqlite_autoindex_records_1';";
    connection.execute_batch(hide).expect("good SQL");
    drop(connection);
    match verify(folder.path()) {
        Ok(found) => assert!(!found.problems.is_empty(), "it must be seen"),
        Err(refused) => {
            assert!(matches!(refused, ArchiveError::Open(OpenError::Damaged { .. })), "{refused}")
        }
    }
    let mut bytes = Vec::new();
    export(folder.path(), &mut bytes).expect_err("no archive of a damaged store");
}
