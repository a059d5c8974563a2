//! Disks that are full, disks that fail, and an agent that is killed: whatever happens, what was
//! acknowledged is there, what was refused is not, and nothing fails in silence.
//!
//! The faults are real: a small tmpfs (needs root), a preloaded library that fails the system
//! calls of a child process (needs a C compiler, as SQLite does), and SIGKILL.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
const KILLS: usize = 20;
/// Writers at one time in the child.
const WRITERS: usize = 4;

/// A file system of 1 MiB, gone when it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"]).arg(folder.path());
        let mounted = mount.status().expect("the mount program");
        assert!(mounted.success(), "this test mounts a tmpfs, so it must run as root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "{:?} stays mounted", self.0.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers() {
    let disk = SmallDisk::mount();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 300 << 10]).expect("there is room");
    let store = Arc::new(open(&disk.0));
    let mut written = Vec::new();
    let refused = loop {
        let key = format!("first/{:04}", written.len());
        match store.txn(put(&key, &[b'x'; 8192], 0)).await {
            Ok(_) => written.push(key),
            Err(refused) => break refused,
        }
        assert!(written.len() < 1000, "1 MiB cannot hold this");
    };
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("no space")), "{refused}");
    let keys = |entries: &[KeyValue]| entries.iter().map(|e| e.key.to_string()).collect::<Vec<_>>();
    let (revision, entries) = contents(&store).await;
    assert_eq!((keys(&entries), revision), (written.clone(), written.len() as u64));

    // Together, the large and the small: each is told its own truth.
    let sizes = [64_000, 10, 300_000, 10, 200_000, 10, 64_000, 10];
    let racing: Vec<_> = (0..sizes.len())
        .map(|at| {
            let (store, key) = (store.clone(), format!("second/{at}"));
            tokio::spawn(async move {
                (key.clone(), store.txn(put(&key, &vec![b'y'; sizes[at]], 0)).await)
            })
        })
        .collect();
    let mut refusals = 0;
    for running in racing {
        match running.await.expect("no panic") {
            (key, Ok(_)) => written.push(key),
            (_, Err(StoreError::Refused(_))) => refusals += 1,
            (key, Err(other)) => panic!("{key}: {other}"),
        }
    }
    assert!(refusals > 0, "300 kB do not fit");
    written.sort();
    assert_eq!(keys(&contents(&store).await.1), written);
    assert_eq!(*store.broken().borrow(), None);

    fs::remove_file(&ballast).expect("removed");
    store.txn(put("third", &[b'z'; 8192], 0)).await.expect("there is space again");
    written.push("third".to_owned());
    let before = contents(&store).await;
    assert_eq!(keys(&before.1), written);
    let path = file::path(disk.0.path());
    let on_disk = file::read(&file::open_to_read(&path, false).expect("a file"), &path);
    let on_disk = on_disk.expect("a good store");
    let on_disk: Vec<_> = on_disk.entries.iter().map(|entry| (**entry).clone()).collect();
    assert_eq!(on_disk, before.1, "memory and disk say the same");
    drop(store);
    let store = open(&disk.0);
    assert_eq!(contents(&store).await, before);
}

/// Fails calls on files whose name ends in FAULT_ON, as long as the file FAULT_WHEN is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static int faulty(int fd, const char *call) {
    const char *when = getenv("FAULT_WHEN"), *on = getenv("FAULT_ON");
    char link[64], name[4096];
    if (strcmp(call, getenv("FAULT_CALL")) || access(when, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name);
    size_t end = strlen(on);
    if (length < (ssize_t)end || memcmp(name + length - end, on, end)) return 0;
    errno = EIO;
    return 1;
}
int fsync(int fd) { return faulty(fd, "sync") ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return faulty(fd, "sync") ? -1 : syscall(SYS_fdatasync, fd); }
ssize_t write(int fd, const void *data, size_t length) {
    return faulty(fd, "write") ? -1 : syscall(SYS_write, fd, data, length);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    return faulty(fd, "write") ? -1 : syscall(SYS_pwrite64, fd, data, length, at);
}
"#;

fn shim(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    fs::write(&source, SHIM).expect("written");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().expect("a C compiler").success());
    library
}

/// This very program again, as the child below.
fn spawn(folder: &Path, more: &[(&str, OsString)]) -> Child {
    let program = std::env::current_exe().expect("a path");
    let mut child = Command::new(program);
    child.args(["--exact", "--ignored", "--nocapture", "store::embedded::tests::faults::child"]);
    child.env("SENGU_TEST_FOLDER", folder).envs(more.iter().map(|(name, value)| (name, value)));
    child.stdout(Stdio::piped()).spawn().expect("a child")
}

/// What it says, line by line, until it ends.
fn listen(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn say(line: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}

/// Writes under numbered keys and says which were acknowledged, until it is killed or told off.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of the tests beside it"]
async fn child() {
    let Some(folder) = std::env::var_os("SENGU_TEST_FOLDER") else { return };
    let store = Arc::new(EmbeddedStore::open(Path::new(&folder)).expect("a store that opens"));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move { write_until_told_off(&store, writer).await })
        })
        .collect();
    for writer in writers {
        let error = writer.await.expect("no panic");
        assert!(matches!(error, StoreError::Broken(_)), "{error}");
    }
    let why = store.broken().borrow().clone().expect("it says why");
    fs::remove_file(std::env::var_os("FAULT_WHEN").expect("a fault")).expect("the fault goes");
    let late = store.txn(put("late", b"1", 0)).await;
    assert!(matches!(late, Err(StoreError::Broken(_))), "broken is for good: {late:?}");
    store.grant(TTL_MIN).await.expect_err("leases are writes too");
    store.load().await.expect("what is known can still be read");
    say(&format!("broken {why}"));
}

async fn write_until_told_off(store: &EmbeddedStore, writer: usize) -> StoreError {
    let life = std::process::id();
    let log_fails = std::env::var("FAULT_ON").is_ok_and(|on| on == "-wal");
    let when = std::env::var_os("FAULT_WHEN").unwrap_or_default();
    for at in 0.. {
        let key = format!("{life}/{writer}/{at}");
        let doomed = log_fails && Path::new(&when).exists();
        match store.txn(put(&key, &[b'x'; 8192], 0)).await {
            Ok(_) if doomed => panic!("{key} was acknowledged and is not in the log"),
            Ok(reply) => say(&format!("ack {key} {}", reply.revision)),
            Err(error) => return error,
        }
    }
    unreachable!("the numbers do not end")
}

fn acknowledged(line: &str) -> Option<(String, Revision)> {
    // The test harness prints its own words before the first.
    let (_, rest) = line.split_once("ack ")?;
    let (key, revision) = rest.split_once(' ')?;
    Some((key.to_owned(), revision.parse().expect("a revision")))
}

/// Every acknowledged write is there as it was acknowledged; returns the store's revision.
async fn must_hold(folder: &TempDir, written: &[(String, Revision)]) -> Revision {
    let store = open(folder);
    let (revision, entries) = contents(&store).await;
    let found: BTreeMap<_, _> =
        entries.iter().map(|e| (&*e.key, (e.modified, e.value.len()))).collect();
    for (key, at) in written {
        assert_eq!(found.get(&**key), Some(&(*at, 8192)), "{key} was acknowledged");
        assert!(*at <= revision);
    }
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_breaks_the_store_and_loses_nothing_acknowledged() {
    let tools = folder();
    let shim = shim(tools.path());
    for (call, on) in [("sync", "-wal"), ("write", "-wal"), ("sync", ".db"), ("write", ".db")] {
        let folder = folder();
        let when = tools.path().join("fault");
        let faults = [
            ("LD_PRELOAD", shim.clone().into()),
            ("FAULT_WHEN", when.clone().into()),
            ("FAULT_ON", on.into()),
            ("FAULT_CALL", call.into()),
        ];
        let mut child = spawn(folder.path(), &faults);
        let lines = listen(&mut child);
        let (mut written, mut broken) = (Vec::new(), None);
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            let news = acknowledged(&line);
            // Once: the child takes the mark away, and a second one would stay for the next round.
            let begins = news.is_some() && written.len() == 49;
            written.extend(news);
            if begins {
                fs::write(&when, b"").expect("the fault begins");
            }
            if let Some(why) = line.strip_prefix("broken ") {
                broken = Some(why.to_owned());
            }
        }
        assert!(child.wait().expect("it ends").success(), "{call} of {on}");
        let why = broken.expect("it says why");
        assert!(why.contains("disk I/O error"), "{call} of {on}: {why}");
        assert!(written.len() >= 50, "{} written", written.len());
        must_hold(&folder, &written).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_loses_nothing_acknowledged() {
    let folder = folder();
    let (mut written, mut last) = (Vec::new(), 0);
    for _ in 0..KILLS {
        let mut child = spawn(folder.path(), &[]);
        let lines = listen(&mut child);
        while written.len() == last {
            let line = lines.recv_timeout(PATIENCE).expect("it begins to write");
            written.extend(acknowledged(&line));
        }
        let wait = getrandom::u64().expect("the system has random numbers") % 150;
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
        written.extend(lines.iter().filter_map(|line| acknowledged(&line)));
        last = written.len();
        let revision = must_hold(&folder, &written).await;
        assert!(revision >= last as u64, "each had a revision of its own");
    }
}
