//! Hooks run as real programs: deadlines, output, exits, and what they are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sengu_core::name::{InstanceName, Term};

use super::*;

fn script(folder: &Path, name: &str, body: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path.to_str().expect("text").to_owned()
}

fn config(phase: Phase, command: &str, on_error: OnError) -> HookConfig {
    HookConfig {
        phase,
        services: Vec::new(),
        call: HookCall::Program(vec![
            command.to_owned(),
            "an argument; rm -rf \"$HOME\"".to_owned(),
        ]),
        user: None,
        folder: "/".into(),
        timeout: Duration::from_secs(20),
        on_error,
    }
}

fn hooks(configs: Vec<HookConfig>) -> Hooks {
    Hooks::new(configs, HostName::new("db2").expect("name"), "dc1".to_owned())
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("name")
}

fn run(phase: Phase) -> HookRun {
    HookRun {
        service: service("foo-redis"),
        phase,
        term: Term(7),
        old: Some(Party {
            instance: InstanceName::new("cache1").expect("name"),
            host: HostName::new("db1").expect("name"),
            address: "10.0.0.11:6379".parse().expect("address"),
        }),
        new: None,
        cause: "hung".to_owned(),
    }
}

#[tokio::test]
async fn a_hook_is_told_everything_and_nothing_of_its_argv_is_a_shell_line() {
    let folder = tempfile::tempdir().expect("temp");
    let told = folder.path().join("told");
    let body = format!("set -u; {{ echo \"$#:$1\"; env; }} | sort >{}", told.display());
    let command = script(folder.path(), "announce", &body);
    let hooks = hooks(vec![config(Phase::BeforeFailover, &command, OnError::Abort)]);
    let outcome = hooks.run(&run(Phase::BeforeFailover)).await;
    assert_eq!(outcome, HookOutcome::Done { warnings: Vec::new(), output: String::new() });
    let told = fs::read_to_string(told).expect("told");
    for line in [
        "1:an argument; rm -rf \"$HOME\"",
        "SENGU_SERVICE=foo-redis",
        "SENGU_PHASE=before-failover",
        "SENGU_TERM=7",
        "SENGU_CAUSE=hung",
        "SENGU_HOST=db2",
        "SENGU_DATACENTER=dc1",
        "SENGU_OLD_INSTANCE=cache1",
        "SENGU_OLD_HOST=db1",
        "SENGU_OLD_ADDRESS=10.0.0.11:6379",
        "SENGU_OLD_IP=10.0.0.11",
        "SENGU_OLD_PORT=6379",
        "SENGU_NEW_INSTANCE=",
        "SENGU_NEW_HOST=",
        "SENGU_NEW_ADDRESS=",
        "SENGU_NEW_IP=",
        "SENGU_NEW_PORT=",
    ] {
        assert!(told.lines().any(|have| have == line), "{line} is missing in\n{told}");
    }
}

#[tokio::test]
async fn hooks_run_in_order_and_failures_are_warnings() {
    let folder = tempfile::tempdir().expect("temp");
    let phase = Phase::AfterFailover;
    let one = script(folder.path(), "one", "echo first; exit 10");
    let two = script(folder.path(), "two", "echo second");
    let mut other = config(phase, &one, OnError::Continue);
    other.services = vec![service("bar-redis")];
    let missing = config(phase, "/nowhere/three", OnError::Abort);
    let hooks = hooks(vec![
        config(phase, &one, OnError::Continue),
        other,
        config(Phase::BeforeFailover, &one, OnError::Abort),
        missing,
        config(phase, &two, OnError::Continue),
    ]);
    let HookOutcome::Done { warnings, output } = hooks.run(&run(phase)).await else {
        panic!("what runs after a move cannot stop it");
    };
    assert_eq!(
        warnings[0],
        format!("hook {one} (after-failover of foo-redis) exited with 10"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("/nowhere/three") && warnings[1].contains("not found"));
    assert_eq!(warnings.len(), 2);
    assert_eq!(output, format!("[{one}]\nfirst\n[/nowhere/three]\n[{two}]\nsecond\n"));
}

#[tokio::test]
async fn an_abort_stops_the_rest() {
    let folder = tempfile::tempdir().expect("temp");
    let phase = Phase::BeforeSwitchover;
    let bad = script(folder.path(), "bad", "echo no; exit 1");
    let trace = folder.path().join("ran");
    let never = script(folder.path(), "never", &format!("touch {}", trace.display()));
    let hooks =
        hooks(vec![config(phase, &bad, OnError::Abort), config(phase, &never, OnError::Continue)]);
    let outcome = hooks.run(&run(phase)).await;
    let error = format!("hook {bad} (before-switchover of foo-redis) exited with 1");
    assert_eq!(outcome, HookOutcome::Abort { error, output: format!("[{bad}]\nno\n") });
    assert!(!trace.exists());
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended() {
    let folder = tempfile::tempdir().expect("temp");
    let phase = Phase::BeforeFailover;
    let hang = script(folder.path(), "hang", "echo waiting; sleep 60");
    let mut config = config(phase, &hang, OnError::Abort);
    config.timeout = Duration::from_millis(400);
    let hooks = hooks(vec![config]);
    let longest = hooks.longest(&service("foo-redis"), phase);
    let outcome = tokio::time::timeout(longest, hooks.run(&run(phase))).await.expect("in time");
    let HookOutcome::Abort { error, output } = outcome else { panic!("{outcome:?}") };
    assert!(error.contains("did not end within 400ms and was killed"), "{error}");
    assert_eq!(output, "waiting\n");
}

#[test]
fn phases_are_those_of_the_service() {
    let mut only = config(Phase::BeforeFailover, "/bin/true", OnError::Continue);
    only.services = vec![service("foo-redis")];
    let hooks = hooks(vec![config(Phase::AfterFailover, "/bin/true", OnError::Continue), only]);
    assert_eq!(
        hooks.phases_for(&service("foo-redis")),
        BTreeSet::from([Phase::BeforeFailover, Phase::AfterFailover])
    );
    assert_eq!(hooks.phases_for(&service("bar-redis")), BTreeSet::from([Phase::AfterFailover]));
    assert_eq!(hooks.longest(&service("bar-redis"), Phase::BeforeFailover), Duration::ZERO);
}

#[test]
fn kept_output_is_cut_between_characters() {
    let mut output = String::new();
    append(&mut output, &"ä".repeat(OUTPUT_KEPT));
    append(&mut output, "x");
    assert_eq!(output.len(), OUTPUT_KEPT - 1);
    assert!(output.ends_with("äx"));
}

/// A server with one answer; tells what it was asked.
async fn server(answer: &'static str) -> (String, tokio::sync::oneshot::Receiver<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/hook?key=hunter2", listener.local_addr().expect("bound"));
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        let mut text = String::new();
        // Head and body may come apart.
        while !text.contains("}}") && !text.ends_with("\"term\":7}") {
            let mut bytes = [0; 4096];
            let size = stream.read(&mut bytes).await.expect("it sends");
            text += &String::from_utf8_lossy(&bytes[..size]);
        }
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = tell.send(text);
    });
    (url, told)
}

fn http(phase: Phase, url: &str, token: Option<&Path>) -> HookConfig {
    let token = token.map(Path::to_path_buf);
    HookConfig {
        call: HookCall::Http { url: url.to_owned(), token },
        timeout: Duration::from_secs(5),
        ..config(phase, "", OnError::Continue)
    }
}

#[tokio::test]
async fn a_url_is_told_the_same_with_its_token() {
    let folder = tempfile::tempdir().expect("temp");
    let token = folder.path().join("token");
    fs::write(&token, "hunter3\n").expect("write");
    let (url, told) = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nnoted").await;
    let hooks = hooks(vec![http(Phase::AfterFailover, &url, Some(&token))]);
    let outcome = hooks.run(&run(Phase::AfterFailover)).await;
    assert_eq!(outcome, HookOutcome::Done { warnings: vec![], output: "noted".into() });
    let told = told.await.expect("it was asked");
    let (head, body) = told.split_once("\r\n\r\n").expect("a whole request");
    assert!(head.starts_with("POST /hook?key=hunter2 HTTP/1.1"), "{head}");
    assert!(head.contains("authorization: Bearer hunter3"), "{head}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["service"], "foo-redis");
    assert_eq!(body["phase"], "after-failover");
    assert_eq!(body["old"]["address"], "10.0.0.11:6379");
    assert_eq!(body["old"]["port"], 6379);
    assert!(body["new"].is_null());
}

#[tokio::test]
async fn a_url_that_fails_is_named_without_its_secrets() {
    let (url, _told) =
        server("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy").await;
    let hook = http(Phase::BeforeFailover, &url, None);
    let failing = HookConfig { on_error: OnError::Abort, ..hook.clone() };
    let outcome = hooks(vec![failing]).run(&run(Phase::BeforeFailover)).await;
    let HookOutcome::Abort { error, output } = outcome else { panic!("{outcome:?}") };
    assert!(error.ends_with("answered 503 Service Unavailable"), "{error}");
    assert!(!error.contains("hunter2") && error.contains("/hook"), "{error}");
    assert_eq!(output, "busy");
    let nobody = http(Phase::BeforeFailover, "http://127.0.0.1:1/x", None);
    let lacking = http(Phase::BeforeFailover, &url, Some(Path::new("/nowhere/token")));
    let outcome = hooks(vec![nobody, lacking]).run(&run(Phase::BeforeFailover)).await;
    let HookOutcome::Done { warnings, .. } = outcome else { panic!("{outcome:?}") };
    assert!(warnings[0].contains("was not reached"), "{warnings:?}");
    assert!(warnings[1].contains("token /nowhere/token"), "{warnings:?}");
}

#[tokio::test]
async fn a_program_runs_in_its_folder_and_as_its_user() {
    let folder = tempfile::tempdir().expect("temp");
    let here = folder.path().canonicalize().expect("there");
    let body = "pwd; id -u; id -g; id -G";
    let command = script(folder.path(), "who", body);
    fs::set_permissions(&here, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut hook = config(Phase::AfterFailover, &command, OnError::Continue);
    hook.folder.clone_from(&here);
    let root = rustix::process::geteuid().is_root();
    let own = rustix::process::geteuid().as_raw();
    hook.user = root.then(|| "4711:4712".to_owned());
    let outcome = hooks(vec![hook.clone()]).run(&run(Phase::AfterFailover)).await;
    let HookOutcome::Done { warnings, output } = outcome else { panic!("{outcome:?}") };
    assert_eq!(warnings, Vec::<String>::new(), "{output}");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], here.to_str().expect("text"));
    if root {
        assert_eq!(lines[1..], ["4711", "4712", "4712"], "and no other group");
    } else {
        assert_eq!(lines[1], own.to_string());
    }
    hook.user = Some("nobody-of-that-name".to_owned());
    hook.folder = "/nowhere/at/all".into();
    let outcome = hooks(vec![hook.clone()]).run(&run(Phase::AfterFailover)).await;
    let HookOutcome::Done { warnings, .. } = outcome else { panic!("{outcome:?}") };
    assert!(warnings[0].contains("there is no user"), "{warnings:?}");
    hook.user = None;
    let outcome = hooks(vec![hook]).run(&run(Phase::AfterFailover)).await;
    let HookOutcome::Done { warnings, .. } = outcome else { panic!("{outcome:?}") };
    assert!(warnings[0].contains("there is no such folder"), "{warnings:?}");
}
