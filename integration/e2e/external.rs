//! Another tool moves the master: real servers, the shipped scripts as their tools call them, a
//! real Sentinel, and the test in the part of a tool that is late, twice, wrong or dead.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration::rig::agent::{Told, program};
use integration::rig::child::Child;
use integration::rig::redis::{Redis, Setup};
use integration::rig::trio::SERVICE;
use integration::rig::{Settings, Trio, soon, wait};
use serde_json::Value;

use crate::{LATER, SOON};

/// Three servers whose master another tool moves; they start open, as such a tool has them.
fn trio() -> Trio {
    let server = Setup { fenced: false, ..Setup::default() };
    let service = "failover = \"external\"\n".to_owned();
    Trio::adopted(&Settings { server, service, ..Settings::default() })
}

/// What a tool does to the servers.
fn move_to(trio: &Trio, new: usize) {
    trio.servers[new].open();
    for (number, server) in trio.servers.iter().enumerate() {
        if number != new && !server.exited() {
            server.follow(trio.servers[new].address);
        }
    }
}

fn before(trio: &Trio, more: &[&str]) -> Told {
    trio.agent.sengu(&[&["hook", "generic", "before", SERVICE], more].concat())
}

fn after(trio: &Trio, new: &Redis, more: &[&str]) -> Told {
    let new = new.address.to_string();
    trio.agent.sengu(&[&["hook", "generic", "after", SERVICE, "--new", &new], more].concat())
}

fn nobody_named(trio: &Trio) {
    trio.agent.until_name(&Trio::master_name(), &[], SOON);
}

fn term(trio: &Trio) -> u64 {
    trio.agent.status(SERVICE)["term"].as_u64().expect("it has a term")
}

#[test]
fn an_announced_move_is_published_when_it_is_true() {
    let trio = trio();
    let told = before(&trio, &["--old", &trio.servers[0].address.to_string()]).good();
    assert!(told.out.contains("withdrawn: no output names a master"), "{}", told.all());
    nobody_named(&trio);
    move_to(&trio, 1);
    let told = after(&trio, &trio.servers[1], &[]).good();
    assert!(told.out.contains("`cache2` is master (term 2)"), "{}", told.all());
    trio.until_master(&trio.servers[1], SOON);
    // Again, as from the other hosts of the tool.
    let told = after(&trio, &trio.servers[1], &["--tool", "sentinel"]).good();
    assert!(told.out.contains("`cache2` is master already (term 2)"), "{}", told.all());
    assert_eq!(term(&trio), 2);
    let history = trio.agent.sengu(&["history", SERVICE]).good().out;
    assert!(history.contains("another tool moved it, and said so"), "{history}");
    let audit = trio.agent.sengu(&["audit"]).good().out;
    assert!(audit.contains("before of foo-redis") && audit.contains("after of"), "{audit}");
}

#[test]
fn an_unanswered_before_gives_the_name_back_under_a_new_term() {
    let trio = trio();
    before(&trio, &["--deadline", "3"]).good();
    nobody_named(&trio);
    // Announced twice: the same move, joined.
    before(&trio, &["--deadline", "3"]).good();
    trio.until_master(&trio.servers[0], LATER);
    assert_eq!(term(&trio), 2);
    let told = trio.agent.sengu(&["history", SERVICE]).good().out;
    assert!(told.contains("an announced move was not made"), "{told}");
    // The tool was only late.
    let told = after(&trio, &trio.servers[1], &["--tool", "sentinel", "--wait", "5"]);
    assert_eq!(told.code, Some(2), "{}", told.all());
    assert!(told.err.contains("stale"), "{}", told.all());
    trio.until_master(&trio.servers[0], SOON);
}

#[test]
fn a_tool_that_dies_between_leaves_the_name_withdrawn_until_somebody_tells() {
    let trio = trio();
    before(&trio, &["--deadline", "2"]).good();
    move_to(&trio, 1);
    trio.until("it is said that no answer came", LATER, || {
        let status = trio.agent.sengu(&["explain", SERVICE]).good().out;
        status.contains("was not answered in time").then_some(())
    });
    nobody_named(&trio);
    after(&trio, &trio.servers[1], &[]).good();
    trio.until_master(&trio.servers[1], SOON);
}

#[test]
fn a_tool_that_says_done_and_is_not_is_refused() {
    let trio = trio();
    before(&trio, &[]).good();
    after(&trio, &trio.servers[1], &["--wait", "3"]).refused("takes writes");
    nobody_named(&trio);
    // Given up by the tool: the old one stays.
    after(&trio, &trio.servers[0], &[]).good();
    trio.until_master(&trio.servers[0], SOON);
}

#[test]
fn a_promotion_that_nobody_tells_of_moves_the_name_and_two_masters_have_none() {
    let trio = trio();
    move_to(&trio, 1);
    trio.until_master(&trio.servers[1], LATER);
    trio.servers[2].open();
    nobody_named(&trio);
    assert!(wait::holds(SOON, || trio.named().is_none()), "two take writes");
    assert_eq!(trio.writable().len(), 2, "sengu closes nobody");
    trio.servers[2].follow(trio.servers[1].address);
    trio.until_master(&trio.servers[1], LATER);
}

#[test]
fn a_fence_that_a_tool_asked_for_is_undone_when_it_does_not_come() {
    let trio = trio();
    before(&trio, &["--fence", "--deadline", "3"]).good();
    assert!(trio.writable().is_empty(), "{:?}", trio.writable());
    trio.until_master(&trio.servers[0], LATER);
    assert_eq!(trio.writable(), [trio.servers[0].address]);
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let trio = trio();
    before(&trio, &["--old", "cache2"]).refused("stale: `cache2` is not the master");
    before(&trio, &["--old", "10.9.9.9:6379"]).refused("known are cache1 (db1,");
    let placeholder = ["hook", "generic", "after", SERVICE, "--new", "{successorHost}:3306"];
    trio.agent.sengu(&placeholder).refused("no instance is");
    trio.agent.sengu(&["hook", "generic", "before", "other"]).refused("no service other");
    trio.agent.sengu(&["switchover", SERVICE]).refused("another tool moves foo-redis");
    trio.agent.sengu(&["failover", SERVICE]).refused("another tool moves foo-redis");
    trio.until_master(&trio.servers[0], SOON);
}

/// Words of a tool for a service that sengu moves by itself.
#[test]
fn a_service_that_sengu_moves_takes_no_words_of_a_tool() {
    let trio = Trio::adopted(&Settings::default());
    before(&trio, &[]).refused("sengu itself moves foo-redis");
    trio.until_master(&trio.servers[0], SOON);
}

/// Where the shipped scripts are, with a folder in which `sengu` and a client are found.
struct Shipped {
    folder: PathBuf,
    path: String,
}

impl Shipped {
    fn of(trio: &Trio) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/external");
        let bin = trio.place.path("bin");
        fs::create_dir_all(&bin).expect("a folder");
        let sengu = format!("#!/bin/sh\nexec {} \"$@\"\n", program().display());
        // As a client of MySQL it opens what it is told to, as far as Redis knows such a thing.
        let client = "#!/bin/sh\nhost=${1#--host=} port=${2#--port=}\n\
                      [ \"$3\" = '--execute=SET GLOBAL read_only = 0' ] || exit 1\n\
                      exec redis-cli -h \"$host\" -p \"$port\" replicaof no one\n";
        for (name, text) in [("sengu", sengu.as_str()), ("client", client)] {
            fs::write(bin.join(name), text).expect("written");
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("mode");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        Self { folder, path: format!("{}:{path}", bin.display()) }
    }

    fn command(&self, trio: &Trio, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("PATH", &self.path).env("SENGU_CONFIG", &trio.agent.config);
        command.env("MYSQL", "client");
        command
    }

    fn run(&self, trio: &Trio, script: &str, words: &[&str]) -> Told {
        let script = self.folder.join(script).display().to_string();
        let output = self.command(trio, &script).args(words).output();
        Told::from(output.expect("the script can be run"))
    }
}

fn parts(server: &Redis) -> (String, String) {
    (server.address.ip().to_string(), server.address.port().to_string())
}

#[test]
fn scripts_of_sentinel_withdraw_and_publish() {
    let trio = trio();
    let shipped = Shipped::of(&trio);
    let ((old, port), (new, _)) = (parts(&trio.servers[0]), parts(&trio.servers[1]));
    let about = format!("master {SERVICE} {old} {port}");
    let notify = |event: &str, about: &str| {
        shipped.run(&trio, "sentinel-notify.sh", &[event, about]).good();
    };
    notify("+sdown", &about);
    notify("+slave", &format!("slave x {new} {port} @ {SERVICE} {old} {port}"));
    trio.until_master(&trio.servers[0], SOON);
    notify("+try-failover", &about);
    nobody_named(&trio);
    notify("-failover-abort-no-good-slave", &about);
    trio.until_master(&trio.servers[0], SOON);
    notify("+try-failover", &about);
    move_to(&trio, 1);
    // Three of them, at once.
    let words = [SERVICE, "observer", "start", &old, &port, &new, &port];
    std::thread::scope(|scope| {
        let run = || shipped.run(&trio, "sentinel-reconfig.sh", &words).good();
        (0..3).map(|_| scope.spawn(run)).for_each(drop);
    });
    trio.until_master(&trio.servers[1], SOON);
    assert_eq!(term(&trio), 3, "one transition");
}

#[test]
fn scripts_of_mha_stop_and_start() {
    let trio = trio();
    let shipped = Shipped::of(&trio);
    let ((old, port), (new, _)) = (parts(&trio.servers[0]), parts(&trio.servers[1]));
    let service = format!("--service={SERVICE}");
    let orig = [format!("--orig_master_ip={old}"), format!("--orig_master_port={port}")];
    let to = [format!("--new_master_ip={new}"), format!("--new_master_port={port}")];
    let run = |words: &[&str]| shipped.run(&trio, "mha-ip-failover.sh", words);
    run(&[&service, "--command=status", "--ssh_user=root", &orig[0], &orig[1]]).good();
    run(&[&service, &orig[0], &orig[1], "--command=stopssh", "--ssh_user=root"]).good();
    nobody_named(&trio);
    trio.servers[0].kill();
    let secret = "--new_master_password=hunter2";
    let start = [&service, "--command=start", &orig[0], &orig[1], &to[0], &to[1], secret];
    run(&start).good();
    trio.until_master(&trio.servers[1], SOON);
    assert_eq!(trio.writable(), [trio.servers[1].address], "the script opened it");
    // Nobody announced this one: done, with a warning that MHA knows.
    trio.servers[1].kill();
    let (third, _) = parts(&trio.servers[2]);
    let to = format!("--new_master_ip={third}");
    let told = run(&[&service, "--command=start", &to, &format!("--new_master_port={port}")]);
    assert_eq!(told.code, Some(10), "{}", told.all());
    trio.until_master(&trio.servers[2], SOON);
    assert_eq!(run(&[&service, "--command=dance"]).code, Some(1));
}

#[test]
fn scripts_of_mysqlfailover_close_and_open() {
    let trio = trio();
    let shipped = Shipped::of(&trio);
    let ((old, port), (new, _)) = (parts(&trio.servers[0]), parts(&trio.servers[1]));
    let run = |words: &[&str]| shipped.run(&trio, "mysqlfailover.sh", words);
    run(&["before", SERVICE, &old, &port, &new, &port]).good();
    assert!(trio.writable().is_empty(), "closed: {:?}", trio.writable());
    // It failed: two arguments. What was closed for it is opened again.
    run(&["post", SERVICE, &old, &port]).good();
    trio.until_master(&trio.servers[0], LATER);
    trio.servers[0].kill();
    run(&["before", SERVICE, "UNKNOWN", &port, &new, &port]).good();
    run(&["after", SERVICE, "UNKNOWN", &port, &new, &port]).good();
    trio.servers[2].follow(trio.servers[1].address);
    run(&["post", SERVICE, "UNKNOWN", &port, &new, &port]).good();
    trio.until_master(&trio.servers[1], SOON);
    assert_eq!(run(&["after", SERVICE, &new]).code, Some(1), "three arguments are not known");
}

#[test]
fn processes_of_orchestrator_announce_and_tell() {
    let trio = trio();
    let shipped = Shipped::of(&trio);
    let text = fs::read_to_string(shipped.folder.join("orchestrator.json")).expect("readable");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    let ((old, port), (new, _)) = (parts(&trio.servers[0]), parts(&trio.servers[1]));
    let run = |key: &str, to: Option<&str>| {
        let mut line = config[key][0].as_str().expect("a command line").to_owned();
        line = line.replace("{failureClusterAlias}", SERVICE);
        line = line.replace("{failedHost}", &old).replace("{failedPort}", &port);
        if let Some(to) = to {
            line = line.replace("{successorHost}", to).replace("{successorPort}", &port);
        }
        let output = shipped.command(&trio, "bash").args(["-c", &line]).output();
        Told::from(output.expect("bash can be run"))
    };
    run("PreFailoverProcesses", None).good();
    nobody_named(&trio);
    run("PostUnsuccessfulFailoverProcesses", None).good();
    trio.until_master(&trio.servers[0], SOON);
    run("PreGracefulTakeoverProcesses", None).good();
    move_to(&trio, 1);
    // Without a successor its placeholders stay as they are.
    run("PostGracefulTakeoverProcesses", None).refused("no instance is");
    run("PostGracefulTakeoverProcesses", Some(&new)).good();
    run("PostMasterFailoverProcesses", Some(&new)).good();
    trio.until_master(&trio.servers[1], SOON);
}

/// A Sentinel that watches the first server, alone, with the shipped scripts. It pings each second,
/// and forgets all pings when it has moved the master: with less patience it now and then takes the
/// new one for down at once, and moves again.
fn sentinel(trio: &Trio, shipped: &Shipped, at: SocketAddr) -> Child {
    let folder = trio.place.path("sentinel");
    fs::create_dir_all(&folder).expect("the sentinel's folder can be made");
    let (file, scripts) = (folder.join("sentinel.conf"), shipped.folder.display());
    let ((ip, port), (master, master_port)) = ((at.ip(), at.port()), parts(&trio.servers[0]));
    let text = format!(
        "bind {ip}\nport {port}\nbind-source-addr {ip}\nprotected-mode no\ndir {}\n\
         sentinel monitor {SERVICE} {master} {master_port} 1\n\
         sentinel down-after-milliseconds {SERVICE} 3000\n\
         sentinel failover-timeout {SERVICE} 10000\n\
         sentinel notification-script {SERVICE} {scripts}/sentinel-notify.sh\n\
         sentinel client-reconfig-script {SERVICE} {scripts}/sentinel-reconfig.sh\n",
        folder.display(),
    );
    fs::write(&file, text).expect("the sentinel's configuration can be written");
    let words = ["redis-sentinel".to_owned(), file.display().to_string()];
    let config = trio.agent.config.display().to_string();
    let environment = [("PATH", shipped.path.as_str()), ("SENGU_CONFIG", config.as_str())];
    Child::start(&words, &folder.join("log"), &environment).expect("a sentinel can be started")
}

#[test]
fn a_real_sentinel_moves_the_master_and_the_name_follows() {
    let trio = trio();
    let shipped = Shipped::of(&trio);
    let at = trio.place.socket(11, 26379);
    let _sentinel = sentinel(&trio, &shipped, at);
    trio.until("the sentinel knows both copies", LATER, || {
        let reply = integration::rig::resp::ask(at, &["INFO", "sentinel"]).ok()?.text();
        reply.contains("slaves=2").then_some(())
    });
    trio.servers[0].kill();
    let new = trio.until_other(&trio.servers[0], LATER * 3);
    assert!(new.is_master(), "it names one that takes writes");
    // Its word comes, or came: the term is the tool's, and stays.
    trio.until("the tool's word has come", LATER, || {
        let told = trio.agent.sengu(&["audit"]).good().out;
        told.contains("after of foo-redis").then_some(())
    });
    // The old one comes back open, as its file says, until Sentinel points it to the new one.
    trio.servers[0].restart();
    let address = new.address;
    let held = soon(LATER * 3, || {
        assert!(trio.named().is_none_or(|named| named.address == address), "another is named");
        trio.servers[0].follows(address).then_some(())
    });
    assert!(held.is_some(), "Sentinel never pointed the old one to the new one");
    trio.until_master(new, LATER);
}

/// The agent stands still for 10 s while the master is moved: no answer comes from what it saw
/// before.
#[test]
fn an_agent_stalled_for_ten_seconds_looks_again_before_it_names() {
    let mut trio = trio();
    trio.agent.signal(rustix::process::Signal::STOP);
    move_to(&trio, 1);
    std::thread::sleep(Duration::from_secs(10));
    trio.agent.signal(rustix::process::Signal::CONT);
    let wrong = trio.servers[0].address;
    let moved = soon(LATER, || {
        let named = trio.named();
        assert!(named.is_none_or(|named| named.address != wrong), "named from old looks");
        named.is_some().then_some(())
    });
    assert!(moved.is_some(), "it never named the new one");
}
