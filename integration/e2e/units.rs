//! The package: units, what the service manager is told, the stop step, and a package that comes
//! and goes without a trace.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use integration::rig::agent::{program, sengu};
use integration::rig::child::Child;
use integration::rig::resp::Resp;
use integration::rig::trio::{MASTER, REPLICAS};
use integration::rig::wait::holds;
use integration::rig::{Agent, Place, Settings, Told, Trio, http, soon, until};
use rustix::process::Signal;

use crate::{LATER, SOON};

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/package")
}

/// Runs a program of the system to its end.
#[track_caller]
fn run(command: &mut Command) -> Told {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    output.into()
}

#[test]
fn the_units_are_understood_by_systemd() {
    let place = Place::claim();
    let mut files = Vec::new();
    for name in ["sengu.service", "sengu-guard.service"] {
        let text = fs::read_to_string(package().join(name)).expect("the unit is there");
        let file = place.path(name);
        let here = text.replace("/usr/bin/sengu", &program().display().to_string());
        fs::write(&file, here).expect("written");
        files.push(file);
    }
    let told = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files));
    assert_eq!((told.code, told.all().trim()), (Some(0), ""));
}

/// What the agent tells, one word a line.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        Self { socket, heard: Vec::new() }
    }

    /// Takes what has come.
    fn hear(&mut self) -> usize {
        let mut bytes = [0; 4096];
        let before = self.heard.len();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
        self.heard.len() - before
    }

    #[track_caller]
    fn until(&mut self, word: &str, within: Duration) {
        let from = self.heard.len();
        let heard = soon(within, || {
            self.hear();
            self.heard[from..].iter().any(|line| line.starts_with(word)).then_some(())
        });
        assert!(heard.is_some(), "`{word}` was not told: {:?}", self.heard);
    }

    fn signs(&self) -> usize {
        self.heard.iter().filter(|line| *line == "WATCHDOG=1").count()
    }
}

/// Stops or resumes the threads of the agent that its loop can run on, and no other, by a freezer
/// of control groups (version 1); the whole process where there is none.
fn freeze(pid: u32, group: &Path) -> bool {
    if fs::create_dir(group).is_err() {
        return false;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    for thread in threads {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if name.trim() == "sengu" {
            let id = thread.file_name();
            let moved = fs::write(group.join("tasks"), id.as_encoded_bytes());
            moved.expect("a thread can be moved");
        }
    }
    fs::write(group.join("freezer.state"), "FROZEN").expect("frozen");
    true
}

fn thaw(group: &Path) {
    fs::write(group.join("freezer.state"), "THAWED").expect("thawed");
    let threads = fs::read_to_string(group.join("tasks")).unwrap_or_default();
    for id in threads.lines() {
        // It may have ended meanwhile.
        let _ = fs::write(group.with_file_name("tasks"), id);
    }
    until("the group is empty", SOON, || fs::remove_dir(group).ok());
}

#[test]
fn the_service_manager_is_told_of_readiness_reloads_the_end_and_each_turn() {
    let place = Place::claim();
    let socket = place.path("notify");
    let mut manager = Manager::listen(&socket);
    let config = place.path("sengu.toml");
    fs::write(&config, Agent::head(&place)).expect("written");
    let words = [program().display().to_string(), "--config".into(), config.display().to_string()];
    let words = [&words[..], &["agent".into()]].concat();
    let path = socket.display().to_string();
    let environment = [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "1000000")];
    let log = place.path("agent.log");
    let mut agent = Child::start(&words, &log, &environment).expect("the agent starts");
    manager.until("READY=1", LATER);
    // What is ready answers, at the first attempt.
    let http = place.socket(integration::rig::agent::OWN, 8500);
    http::get(http, "/health").expect("it answers");
    sengu(&config, &["status"]).good();
    manager.until("WATCHDOG=1", SOON);
    let status = manager.heard.iter().any(|line| line.starts_with("STATUS=0 services"));
    assert!(status, "{:?}", manager.heard);

    sengu(&config, &["reload"]).good();
    manager.until("RELOADING=1", SOON);
    let at = manager.heard.iter().position(|line| line == "RELOADING=1").expect("told");
    assert!(manager.heard[at + 1].starts_with("MONOTONIC_USEC="), "{:?}", manager.heard);
    if !manager.heard[at..].iter().any(|line| line == "READY=1") {
        manager.until("READY=1", SOON);
    }

    // Every thread that the loop can run on stands still; those that fence, and the one that
    // speaks to the service manager, run on.
    let group = Path::new("/sys/fs/cgroup/freezer").join(format!("sengu-{}", agent.pid()));
    let alone = freeze(agent.pid(), &group);
    if !alone {
        agent.signal(Signal::STOP);
    }
    manager.hear();
    let before = manager.signs();
    let silent = holds(Duration::from_secs(2), || {
        manager.hear();
        manager.signs() == before
    });
    if alone {
        thaw(&group);
    } else {
        agent.signal(Signal::CONT);
    }
    assert!(silent, "a loop that stands still gave a sign of life: {:?}", manager.heard);
    manager.until("WATCHDOG=1", SOON);

    agent.signal(Signal::TERM);
    manager.until("STOPPING=1", SOON);
    assert!(agent.wait(LATER).is_some_and(|status| status.success()));
    println!("only the loop's threads were stopped: {alone}");
}

/// A `systemctl` that says that the unit has this job.
fn systemctl(place: &Place, job: &str) -> String {
    let folder = place.path(&format!("bin-{job}"));
    fs::create_dir_all(&folder).expect("made");
    let file = folder.join("systemctl");
    fs::write(&file, format!("#!/bin/sh\necho ' 123 sengu.service {job} running'\n"))
        .expect("written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("set");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn the_stop_step_takes_masters_out_of_the_files_and_a_restart_does_not() {
    let place = Place::claim();
    let (file, ran) = (place.path("hosts"), place.path("ran"));
    fs::write(&file, "127.0.0.1 localhost\n").expect("the file can be written");
    let outputs = format!(
        "[[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\ncommand = [\"touch\", \
         \"{}\"]\n",
        file.display(),
        ran.display()
    );
    let mut trio = Trio::adopted(&Settings { outputs, ..Settings::default() });
    let read = || fs::read_to_string(&file).expect("readable");
    trio.until("the file names the master", SOON, || read().contains(MASTER).then_some(()));
    trio.until("the command has run", SOON, || ran.exists().then_some(()));
    trio.agent.signal(Signal::TERM);
    assert!(trio.agent.wait_ended(LATER).is_some(), "it ends");
    let unit = fs::read_to_string(package().join("sengu.service")).expect("the unit is there");
    let step = unit.lines().find_map(|line| line.strip_prefix("ExecStopPost=/usr/bin/sengu "));
    let step = step.expect("a stop step").replace("%n", "sengu.service");
    let stop = |job: &str| {
        let mut command = Command::new(program());
        command.arg("--config").arg(&trio.agent.config).args(step.split(' '));
        run(command.env("PATH", systemctl(&place, job))).good().out
    };

    let before = read();
    let told = stop("restart");
    assert!(told.contains("is started again"), "{told}");
    assert_eq!(read(), before, "a restart changes nothing");

    fs::remove_file(&ran).expect("the command had run");
    let told = stop("stop");
    let text = read();
    assert!(!text.contains(MASTER), "{told}\n{text}");
    assert!(text.contains("127.0.0.1 localhost") && text.contains(REPLICAS), "{text}");
    assert!(ran.exists(), "the command was run: {told}");
    assert!(stop("stop").contains("no file names a master"));

    trio.agent.restart();
    trio.until("the file names the master again", SOON, || read().contains(MASTER).then_some(()));
}

/// The words of `setpriv` that leave the rights of the unit, less one.
fn rights(less: &str) -> Vec<String> {
    let unit = fs::read_to_string(package().join("sengu.service")).expect("the unit is there");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let rights = line.expect("a bounding set").split(' ');
    let kept = rights
        .filter(|right| *right != less)
        .map(|right| format!("+{}", right.trim_start_matches("CAP_").to_lowercase()));
    let set = ["-all".to_owned()].into_iter().chain(kept).collect::<Vec<_>>().join(",");
    let words = ["setpriv", "--no-new-privs", "--bounding-set", &set, "--inh-caps", "-all"];
    words.map(str::to_owned).to_vec()
}

#[test]
fn the_rights_of_the_unit_suffice_for_a_database_of_another_user() {
    let place = Place::claim();
    let open = |path: &Path| {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("set");
    };
    open(place.folder());
    let folder = place.path("data-of-another");
    fs::create_dir(&folder).expect("made");
    let address = place.socket(1, 6379);
    let file = folder.join("redis.conf");
    let lines = format!(
        "bind {}\nport 6379\ndir {}\nreplicaof 127.0.0.1 1\nsave \"\"\nprotected-mode no\n",
        address.ip(),
        folder.display()
    );
    fs::write(&file, lines).expect("written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("set");
    for path in [&folder, &file] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("given away");
    }
    let conf = file.display().to_string();
    let words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let words = [&words[..], &["redis-server", &conf]].concat();
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let log = place.path("redis.log");
    let mut redis = Child::start(&words, &log, &[]).expect("the server starts");
    let ask = |words: &[&str]| Resp::connect(address, SOON).and_then(|mut it| it.ask(words)).ok();
    until("the server answers", LATER, || ask(&["PING"]));
    until("it is open", LATER, || ask(&["REPLICAOF", "NO", "ONE"]));

    let config = place.path("sengu.toml");
    let service = format!(
        "[service.foo]\nkind = \"redis\"\nfailover = \"auto\"\n[service.foo.instance.a]\n\
         address = \"{address}\"\n"
    );
    fs::write(&config, Agent::head(&place) + &service).expect("written");
    let start = |less: &str| {
        let agent = [&program().display().to_string(), "--config", &config.display().to_string()]
            .map(str::to_owned);
        let words = [&rights(less)[..], &agent[..], &["agent".to_owned()]].concat();
        let child = Child::start(&words, &place.path("agent.log"), &[("NO_COLOR", "1")]);
        let child = child.expect("the agent starts");
        until("the agent answers", LATER, || {
            (sengu(&config, &["status"]).code == Some(0)).then_some(())
        });
        child
    };
    for missing in ["CAP_KILL", "CAP_SYS_PTRACE"] {
        let mut agent = start(missing);
        let told = sengu(&config, &["adopt", "foo", "--wait", "5"]);
        assert_ne!(told.code, Some(0), "without {missing} it cannot be fenced: {}", told.all());
        agent.kill();
    }
    let _agent = start("none");
    let adopted = soon(LATER * 2, || {
        (sengu(&config, &["adopt", "foo", "--wait", "5"]).code == Some(0)).then_some(())
    });
    let why = || sengu(&config, &["explain", "foo"]).all();
    assert!(adopted.is_some(), "{}", why());
    // The last rung is really possible: a stopped process is killed.
    redis.signal(Signal::STOP);
    assert!(redis.wait(LATER * 2).is_some(), "not killed: {}", why());
}

/// All files below a folder.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            let inside = path.strip_prefix(root).expect("below it").to_owned();
            if !inside.starts_with("var/lib/dpkg") && !inside.starts_with("var/log") {
                found.insert(inside);
            }
        }
    }
    found
}

/// What the package made by [`later`] is called.
const LATER_VERSION: &str = "999.0.0-1";

/// The same package as of a later version: with another configuration, and without one check.
fn later(place: &Place, file: &str) -> String {
    let tree = place.path("later");
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(file).arg(&tree)).good();
    let change = |name: &str, with: &dyn Fn(&str) -> String| {
        let path = tree.join(name);
        let text = fs::read_to_string(&path).expect("it is in the package");
        fs::write(&path, with(&text)).expect("written");
    };
    change("DEBIAN/control", &|text| {
        let lines = text.lines().map(|line| match line.strip_prefix("Version: ") {
            Some(_) => format!("Version: {LATER_VERSION}\n"),
            None => format!("{line}\n"),
        });
        lines.collect()
    });
    change("etc/sengu/sengu.toml", &|text| format!("{text}# Of a later version.\n"));
    fs::remove_file(tree.join("usr/share/sengu/checks/redis-master.toml")).expect("removed");
    let built = place.path("later.deb");
    run(Command::new("dpkg-deb").args(["--build", "-Znone"]).arg(&tree).arg(&built)).good();
    built.display().to_string()
}

/// Everything is where it belongs below this root.
#[track_caller]
fn assert_installed(root: &Path) {
    for path in [
        "usr/bin/sengu",
        "etc/sengu/sengu.toml",
        "usr/lib/systemd/system/sengu.service",
        "usr/lib/systemd/system/sengu-guard.service",
        "usr/share/man/man1/sengu.1.gz",
        "usr/share/man/man1/sengu-guard.1.gz",
        "usr/share/bash-completion/completions/sengu",
        "usr/share/zsh/vendor-completions/_sengu",
        "usr/share/fish/vendor_completions.d/sengu.fish",
        "usr/share/sengu/checks/redis-master.toml",
        "usr/share/sengu/templates/hosts.tera",
        "usr/share/doc/sengu/operations.md",
        "usr/share/doc/sengu/copyright",
    ] {
        assert!(root.join(path).is_file(), "{path} is missing: {:#?}", files(root));
    }
}

/// Which version is installed below this root.
fn version(root: &Path) -> String {
    let admin = format!("--admindir={}", root.join("var/lib/dpkg").display());
    let words = ["--showformat=${Version}", "--show", "sengu"];
    run(Command::new("dpkg-query").arg(admin).args(words)).good().out
}

#[test]
fn the_package_comes_and_goes_without_a_trace() {
    let place = Place::claim();
    let began = Instant::now();
    let built = run(Command::new(package().join("run"))
        .args(["--profile", "dev", "--fast", "--to"])
        .arg(place.folder()));
    let file = built.good().out.trim().to_owned();
    println!("built in {} ms", began.elapsed().as_millis());
    let root = place.path("root");
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log"]
    {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::write(root.join("var/lib/dpkg/status"), "").expect("written");
    let empty = files(&root);
    let dpkg = |words: &[&str]| {
        let mut command = Command::new("dpkg");
        // Its dependencies are this machine's; its scripts run here and are told the tree.
        command.arg(format!("--root={}", root.display()));
        command.args(["--force-script-chrootless", "--force-depends", "--force-confold"]);
        run(command.args(words)).good()
    };
    dpkg(&["--install", &file]);
    assert_installed(&root);
    // What is installed runs, and its configuration is good as it stands.
    let installed = root.join("usr/bin/sengu");
    let config = root.join("etc/sengu/sengu.toml");
    let said = |words: &[&str]| run(Command::new(&installed).args(words)).good().out;
    assert!(said(&["--version"]).starts_with("sengu "));
    said(&["--config", &config.display().to_string(), "config", "--check"]);

    // An upgrade keeps what was edited, and so do the way back and a removal.
    let edited = fs::read_to_string(&config).expect("readable") + "host = \"db1\"\n";
    fs::write(&config, &edited).expect("written");
    fs::create_dir_all(root.join("var/lib/sengu")).expect("made");
    fs::write(root.join("var/lib/sengu/store"), "records").expect("written");
    let (first, gone) = (version(&root), root.join("usr/share/sengu/checks/redis-master.toml"));
    dpkg(&["--install", &later(&place, &file)]);
    assert_eq!(version(&root), LATER_VERSION);
    assert!(!gone.exists(), "what the later version has no more is gone");
    let offered = fs::read_to_string(config.with_extension("toml.dpkg-dist"));
    assert!(offered.expect("its configuration is put beside").ends_with("# Of a later version.\n"));
    let kept = || {
        assert_eq!(fs::read_to_string(&config).expect("kept"), edited);
        let records = fs::read_to_string(root.join("var/lib/sengu/store"));
        assert_eq!(records.expect("records stay"), "records");
    };
    kept();
    dpkg(&["--install", &file]);
    assert!(version(&root) == first && gone.is_file(), "it goes back in the same way");
    kept();
    dpkg(&["--remove", "sengu"]);
    assert_eq!(fs::read_to_string(&config).expect("kept"), edited);
    assert!(root.join("var/lib/sengu/store").is_file(), "records stay");
    assert!(!installed.exists());
    let left: Vec<_> = files(&root).difference(&empty).cloned().collect();
    let kept = [
        "etc",
        "etc/sengu",
        "etc/sengu/sengu.toml",
        "etc/sengu/sengu.toml.dpkg-dist",
        "var/lib/sengu",
        "var/lib/sengu/store",
    ];
    assert_eq!(left, kept.map(PathBuf::from));
    dpkg(&["--purge", "sengu"]);
    assert_eq!(files(&root), empty, "nothing is left");
}
