//! The embedded store: the contract, what is left after it is closed, and which files it refuses.
//! Disks that fail and processes that are killed are in `faults.rs`.

mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use sengu_core::kv::{Op, TTL_MIN};
use tempfile::TempDir;

use super::*;
use crate::store::suite;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(folder: &TempDir) -> EmbeddedStore {
    EmbeddedStore::open(folder.path()).expect("a store that opens")
}

fn put(key: &str, value: &[u8], lease: LeaseId) -> Txn {
    let op = Op::Put { key: key.into(), value: value.into(), lease };
    Txn { then: vec![op], ..Txn::default() }
}

async fn contents(store: &EmbeddedStore) -> (Revision, Vec<KeyValue>) {
    let (revision, entries) = store.load().await.expect("it loads");
    (revision, entries.iter().map(|entry| (**entry).clone()).collect())
}

/// Every file but the lock, with its bytes; of the log's index, that it is there: the first
/// reader after a crash makes it anew.
fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.ends_with("lock"))
        .map(|path| {
            let index = path.to_string_lossy().ends_with("-shm");
            let bytes = if index { Vec::new() } else { fs::read(&path).expect("a file") };
            (path, bytes)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let folder = folder();
    let store: Arc<dyn Store> = Arc::new(open(&folder));
    suite::run(|| store.clone()).await;
}

#[tokio::test]
async fn forgets_old_changes() {
    let folder = folder();
    let store = open(&folder);
    suite::forgets_old_changes(&store, suite::overrun(&store)).await;
}

#[tokio::test]
async fn is_the_same_after_it_was_closed() {
    let folder = folder();
    let store = open(&folder);
    let (id, incarnation) = (store.store_id().to_owned(), store.incarnation());
    for txn in [put("a", b"1", 0), put("b\0\u{e4}", &[0xff, 0], 0), put("a", b"2", 0)] {
        store.txn(txn).await.expect("good");
    }
    let gone =
        vec![Op::Delete("a".into()), Op::Put { key: "c".into(), value: [].into(), lease: 0 }];
    store.txn(Txn { then: gone, ..Txn::default() }).await.expect("good");
    let before = contents(&store).await;
    assert_eq!((before.0, before.1.len()), (4, 2));
    drop(store);
    assert!(!folder.path().join("store.db-wal").exists(), "a store that is closed is one file");
    let store = open(&folder);
    assert_eq!(contents(&store).await, before);
    assert_eq!((store.store_id(), store.incarnation()), (&*id, incarnation));
    let next = store.txn(put("a", b"3", 0)).await.expect("good");
    assert_eq!(next.revision, 5);
    let refused = store.watch(3).await.expect_err("history starts at the opening");
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    let refused = store.watch(6).await.expect_err("a store is never older than what was seen");
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
}

#[tokio::test]
async fn leases_get_their_full_time_after_a_restart() {
    let folder = folder();
    let store = open(&folder);
    let (lease, ttl) = store.grant(TTL_MIN).await.expect("a lease");
    let (revoked, _) = store.grant(TTL_MIN).await.expect("a lease");
    store.txn(put("a", b"1", lease)).await.expect("good");
    store.revoke(revoked).await.expect("it stands");
    drop(store);
    let opening = clock::time();
    let store = open(&folder);
    let (revision, _) = contents(&store).await;
    let mut watch = store.watch(revision).await.expect("a watch");
    assert_eq!(store.keep(revoked).await, Ok(false));
    let batch = watch.recv().await.expect("the lease ends");
    assert_eq!((&*batch.changes[0].key, &batch.changes[0].now), ("a", &None));
    assert!(clock::time().since(opening) >= ttl);
    drop(store);
    let store = open(&folder);
    assert_eq!(store.keep(lease).await, Ok(false), "its end is on the disk too");
    assert_eq!(contents(&store).await, (2, Vec::new()));
}

#[tokio::test]
async fn a_folder_has_one_agent() {
    let folder = folder();
    let store = open(&folder);
    let message = EmbeddedStore::open(folder.path()).expect_err("it is in use").to_string();
    let pid = std::process::id().to_string();
    assert!(message.contains(&pid) && message.contains(&*folder.path().to_string_lossy()));
    drop(store);
    open(&folder);
}

#[tokio::test]
async fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let outer = folder();
    let inner = outer.path().join("new/data");
    let store = EmbeddedStore::open(&inner).expect("it makes its folder");
    store.txn(put("a", b"1", 0)).await.expect("good");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    let files = bytes(&inner);
    assert_eq!(files.len(), 3, "the file, its log and the log's index");
    assert!(files.keys().all(|path| mode(path) == 0o600));
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let folder = folder();
    let store = open(&folder);
    let room = u32::try_from(WAITING_BYTES_MAX).expect("it fits");
    let all = store.room.clone().try_acquire_many_owned(room).expect("nothing waits");
    let refused = store.txn(put("a", b"1", 0)).await.expect_err("no room");
    assert_eq!(refused, StoreError::Refused("too many writes wait for the disk".to_owned()));
    drop(all);
    store.txn(put("a", b"1", 0)).await.expect("room again");
}

#[tokio::test]
async fn another_program_with_the_file_locked_refuses_and_passes() {
    let folder = folder();
    let store = open(&folder);
    let other = Connection::open(file::path(folder.path())).expect("a file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let refused = store.txn(put("a", b"1", 0)).await.expect_err("it is locked");
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("another program")));
    assert_eq!(contents(&store).await, (0, Vec::new()));
    other.execute_batch("ROLLBACK").expect("the lock goes");
    assert_eq!(store.txn(put("a", b"1", 0)).await.expect("good").revision, 1);
}

#[tokio::test]
async fn who_does_not_read_its_watch_loses_it() {
    let folder = folder();
    let store = open(&folder);
    let mut watch = store.watch(0).await.expect("a watch");
    for _ in 0..1100 {
        store.txn(put("a", b"1", 0)).await.expect("good");
    }
    let mut last = 0;
    while let Some(batch) = watch.recv().await {
        assert_eq!(batch.revision, last + 1, "without a gap up to where it was lost");
        last = batch.revision;
    }
    assert_eq!(last, 1024);
}

/// A closed store, or one whose log a crash left behind.
async fn stored(folder: &TempDir, with_log: bool, last_words: &str) -> PathBuf {
    let store = open(folder);
    for at in 0..200 {
        store.txn(put(&format!("key{at}"), &[b'x'; 300], 0)).await.expect("good");
    }
    drop(store);
    let path = file::path(folder.path());
    let connection = Connection::open(&path).expect("a file");
    let set = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(set, with_log).expect("set");
    connection.execute_batch(last_words).expect("good SQL");
    drop(connection);
    assert_eq!(file::beside(&path, "-wal").exists(), with_log);
    path
}

fn refused_untouched(folder: &TempDir) -> OpenError {
    let before = bytes(folder.path());
    let refused = EmbeddedStore::open(folder.path()).expect_err("it must be refused");
    let after = bytes(folder.path());
    assert!(after.keys().eq(before.keys()), "{:?}", after.keys());
    let changed: Vec<_> = after.keys().filter(|path| after[*path] != before[*path]).collect();
    assert!(changed.is_empty(), "{changed:?} after: {refused}");
    assert!(refused.to_string().contains("store.db"), "{refused}");
    refused
}

#[tokio::test]
async fn a_newer_format_is_refused_untouched() {
    for with_log in [false, true] {
        let folder = folder();
        stored(&folder, with_log, "PRAGMA user_version = 2").await;
        let refused = refused_untouched(&folder);
        assert!(matches!(refused, OpenError::Newer { found: 2, .. }), "{refused}");
    }
}

#[tokio::test]
async fn damage_is_refused_untouched() {
    for with_log in [false, true] {
        let folder = folder();
        let change = "UPDATE meta SET value = '200' WHERE name = 'revision'";
        let path = stored(&folder, with_log, change).await;
        let good = fs::read(&path).expect("a file");
        let mut flipped = good.clone();
        flipped[4 * 4096..5 * 4096].fill(0xa5);
        for bad in [&flipped[..], &good[..50], &[], &good[..good.len() / 2], &[b'x'; 9000]] {
            fs::write(&path, bad).expect("written");
            let refused = refused_untouched(&folder);
            assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
        }
        fs::write(&path, &good).expect("written");
        assert_eq!(contents(&open(&folder)).await.1.len(), 200);
    }
}

#[tokio::test]
async fn content_that_cannot_be_is_refused_untouched() {
    let impossible = [
        "UPDATE meta SET value = '7' WHERE name = 'revision'",
        "UPDATE meta SET value = 'x' WHERE name = 'incarnation'",
        "DELETE FROM meta WHERE name = 'store'",
        "UPDATE records SET lease = 9 WHERE key = 'key1'",
        "UPDATE records SET version = -1 WHERE key = 'key1'",
        "INSERT INTO leases (id, ttl_ms) VALUES (9, 0)",
        "DROP TABLE leases",
        "PRAGMA application_id = 1",
    ];
    for change in impossible {
        let folder = folder();
        stored(&folder, false, change).await;
        let refused = refused_untouched(&folder);
        let named = matches!(refused, OpenError::Damaged { .. } | OpenError::Foreign { .. });
        assert!(named, "{change}: {refused}");
    }
}

#[tokio::test]
async fn a_log_without_its_file_is_refused_untouched() {
    let folder = folder();
    let path = stored(&folder, true, "PRAGMA user_version = 1").await;
    fs::remove_file(&path).expect("removed");
    let refused = refused_untouched(&folder);
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn half_made_files_are_made_anew() {
    let folder = folder();
    fs::write(folder.path().join("store.db.new"), b"half").expect("written");
    assert_eq!(contents(&open(&folder)).await, (0, Vec::new()));
    assert_eq!(bytes(folder.path()).len(), 1);
}

#[tokio::test]
async fn the_log_stays_small() {
    let folder = folder();
    let store = open(&folder);
    for at in 0..64 {
        let value = vec![b'x'; 512 * 1024];
        store.txn(put(&format!("key{}", at % 4), &value, 0)).await.expect("good");
    }
    let log = fs::metadata(folder.path().join("store.db-wal")).expect("a log").len();
    assert!(log < 16 << 20, "{log} bytes after 32 MiB of writes");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test -p sengu --lib latency -- --ignored --nocapture"]
async fn latency() {
    use std::io::Write;
    let folder = folder();
    let store = Arc::new(open(&folder));
    let mut times = Vec::new();
    for at in 0..2000 {
        let start = Instant::now();
        store.txn(put(&format!("key{}", at % 50), &[b'x'; 300], 0)).await.expect("good");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let (median, late) = (times[1000], times[1980]);
    let start = Instant::now();
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    let txn = put(&format!("key{writer}"), &[b'x'; 300], 0);
                    store.txn(txn).await.expect("good");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    let together = 6400.0 / start.elapsed().as_secs_f64();
    writeln!(
        std::io::stdout(),
        "one txn at a time: median {median:?}, 99 % {late:?}; 64 writers: {together:.0} txn/s"
    )
    .expect("printed");
    assert_eq!(contents(&store).await.0, 8400);
}
