//! Replacing a file whole, whatever fails in between.

use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

fn replace(path: &Path, bytes: &[u8]) -> Result<(), SwapError> {
    Destination::read(path)?.stage(bytes, &Manner::default())?.swap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("folder")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_is_readable_by_all_and_an_old_one_keeps_mode_and_owner() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("file");
    replace(&path, b"one").expect("new");
    assert_eq!(fs::metadata(&path).expect("file").mode() & 0o7777, 0o644);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2640)).expect("chmod");
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&path, Some(12345), Some(23456)).expect("chown");
        // A change of owner takes the set-group bit away.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2640)).expect("chmod");
    }
    replace(&path, b"two").expect("again");
    let found = fs::metadata(&path).expect("file");
    assert_eq!(fs::read(&path).expect("read"), b"two");
    assert_eq!(found.mode() & 0o7777, 0o2640);
    if root {
        assert_eq!((found.uid(), found.gid()), (12345, 23456));
    }
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn links_are_followed_and_stay_links() {
    let folder = tempfile::tempdir().expect("temp");
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::write(&real, "old").expect("write");
    symlink("real", &link).expect("link");
    replace(&link, b"new").expect("replace");
    assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
    assert_eq!(fs::read(&real).expect("read"), b"new");
    fs::remove_file(&real).expect("remove");
    let refused = replace(&link, b"new").expect_err("a link to nothing").to_string();
    assert!(refused.contains("follow the link"), "{refused}");
}

#[test]
fn what_is_no_plain_file_is_refused() {
    let folder = tempfile::tempdir().expect("temp");
    assert!(matches!(replace(folder.path(), b"x"), Err(SwapError::NotAFile(_))));
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("pipe");
    assert!(matches!(replace(&pipe, b"x"), Err(SwapError::NotAFile(_))));
    let missing = folder.path().join("no/such/file");
    let refused = replace(&missing, b"x").expect_err("no folder").to_string();
    assert!(refused.contains("create") && refused.contains("no/such"), "{refused}");
}

#[test]
fn a_file_changed_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("file");
    fs::write(&path, "one").expect("write");
    let staged =
        Destination::read(&path).expect("read").stage(b"two", &Manner::default()).expect("stage");
    fs::write(&path, "mine").expect("write");
    assert!(matches!(staged.swap(), Err(SwapError::Changed(_))));
    assert_eq!(fs::read(&path).expect("read"), b"mine");
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn leftovers_are_replaced_and_dropped_stages_removed() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("file");
    fs::write(folder.path().join(".file.sengu-new"), "half").expect("leftover");
    let staged =
        Destination::read(&path).expect("read").stage(b"new", &Manner::default()).expect("stage");
    assert_eq!(fs::read(staged.path()).expect("read"), b"new");
    drop(staged);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_mount_point_is_told_apart() {
    for errno in [Errno::BUSY, Errno::XDEV] {
        let text = refusal(Path::new("/etc/hosts"), errno.into()).to_string();
        assert!(text.contains("mount point") && text.contains("/etc/hosts"), "{text}");
    }
    let text = refusal(Path::new("/etc/hosts"), Errno::PERM.into()).to_string();
    assert!(!text.contains("mount point"), "{text}");
}

/// Runs one ignored test of this file in a process of its own, below `wrap`.
fn child(wrap: &[&str], test: &str, folder: &Path) -> Command {
    let me = std::env::current_exe().expect("this program");
    let name = format!("template::swap::tests::{test}");
    let mut argv: Vec<&std::ffi::OsStr> = wrap.iter().map(std::ffi::OsStr::new).collect();
    argv.push(me.as_os_str());
    let mut command = Command::new(argv[0]);
    command
        .args(&argv[1..])
        .args(["--exact", &name, "--ignored", "--nocapture"])
        .env("SENGU_TEST_FOLDER", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn child_folder() -> PathBuf {
    std::env::var_os("SENGU_TEST_FOLDER").expect("set by the test that starts this").into()
}

fn passed(mut command: Command) {
    let output = command.output().expect("start");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Both versions, larger than a page and than a pipe.
fn versions() -> [Vec<u8>; 2] {
    [b"one\n".repeat(50_000), b"another\n".repeat(40_000)]
}

#[test]
#[ignore = "the child of the next test; ends when it is killed"]
fn replaces_until_killed() {
    let path = child_folder().join("file");
    let began = Instant::now();
    // Bounded, for the case that nobody kills it.
    for version in versions().iter().cycle().take_while(|_| began.elapsed().as_secs() < 30) {
        replace(&path, version).expect("replace");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_one_of_two_versions() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("file");
    let versions = versions();
    fs::write(&path, &versions[0]).expect("write");
    let mut looked = 0_u32;
    for round in 0..12_u64 {
        let mut child = child(&[], "replaces_until_killed", folder.path()).spawn().expect("start");
        let until = Instant::now() + Duration::from_millis(60 + 23 * round);
        while Instant::now() < until {
            assert!(versions.contains(&fs::read(&path).expect("always there")), "half a file");
            looked += 1;
        }
        assert!(running(&mut child), "the child goes on until it is killed");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(versions.contains(&fs::read(&path).expect("there")), "half a file");
    }
    assert!(looked > 100, "{looked}");
    // At most one leftover, and the next replacement takes it away.
    assert!(names(folder.path()).len() <= 2);
    replace(&path, b"after").expect("replace");
    assert_eq!(names(folder.path()), ["file"]);
}

fn running(child: &mut Child) -> bool {
    child.try_wait().expect("child").is_none()
}

#[test]
#[ignore = "the child of the next test; its files may not grow beyond 1 KiB"]
fn meets_a_full_disk() {
    let folder = child_folder();
    let path = folder.join("file");
    let error = replace(&path, &[b'x'; 100_000]).expect_err("no space").to_string();
    assert!(error.contains("cannot write") && error.contains(".file.sengu-new"), "{error}");
    assert_eq!(names(&folder), ["file"]);
    replace(&path, b"small").expect("small enough");
}

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_beside_it() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("file");
    fs::write(&path, "old").expect("write");
    // A limit of the process stands for a full disk: the write fails half-way just the same.
    let wrap = ["sh", "-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""];
    passed(child(&wrap, "meets_a_full_disk", folder.path()));
    assert_eq!(fs::read(&path).expect("read"), b"small");
}

#[test]
#[ignore = "the child of the next test; its `file` is a mount of its own"]
fn meets_a_mount() {
    let folder = child_folder();
    let error = replace(&folder.join("file"), b"new").expect_err("a mount");
    assert!(matches!(error, SwapError::Mount(_)), "{error}");
}

#[test]
fn a_bind_mount_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().expect("temp");
    for name in ["file", "over"] {
        fs::write(folder.path().join(name), name).expect("write");
    }
    let may = Command::new("unshare").args(["-m", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        // Needs root; the errors themselves are told apart above.
        return;
    }
    let mount = "mount --bind \"$SENGU_TEST_FOLDER/over\" \"$SENGU_TEST_FOLDER/file\" \
                 && exec \"$0\" \"$@\"";
    passed(child(&["unshare", "-m", "sh", "-c", mount], "meets_a_mount", folder.path()));
    assert_eq!(fs::read(folder.path().join("file")).expect("read"), b"file");
    assert_eq!(names(folder.path()), ["file", "over"]);
}
