//! Who may use an agent over HTTP: tokens, TLS and bounds of a real agent, asked by `sengu` and by
//! raw requests.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration::rig::agent::{Agent, Told, sengu};
use integration::rig::{Place, Settings, Trio, http, soon, trio::SERVICE};

use crate::LATER;

/// A token of that scope in a file, and the lines of the configuration.
fn token(place: &Place, name: &str, scope: &str) -> (PathBuf, String) {
    let file = place.path(&format!("{name}.token"));
    let words = ["token", "new", name, "--scope", scope, "--to", file.to_str().expect("UTF-8")];
    let lines = sengu(Path::new("/nowhere/sengu.toml"), &words).good().out;
    (file, lines)
}

/// `sengu` over HTTP, with a token.
fn over_http(url: &str, token: &Path, words: &[&str]) -> Told {
    let token = token.to_str().expect("UTF-8");
    let words = [&["--agent", url, "--token-file", token], words].concat();
    sengu(Path::new("/nowhere/sengu.toml"), &words)
}

#[test]
fn nothing_starts_beyond_loopback_without_tokens_and_tls() {
    let place = Place::claim();
    let (_, lines) = token(&place, "deploy", "write");
    for listen in ["192.0.2.1:8500", "0.0.0.0:8500"] {
        let config =
            Agent::head(&place).replace("[http]\nlisten = [", "[http]\nlisten = [\"LISTEN\", ");
        let config = config.replace("LISTEN", listen);
        for (config, words) in [
            (config.clone(), "is beyond loopback, and there are no tokens"),
            (format!("{config}{lines}"), "is beyond loopback, and there is no TLS"),
        ] {
            let mut agent = Agent::launch(&place, &config);
            let ended = agent.wait_ended(LATER).expect("it does not start");
            assert_eq!(ended.code(), Some(1));
            let log = fs::read_to_string(&agent.log).expect("a log");
            assert!(log.contains(words), "`{words}` is not in:\n{log}");
        }
    }
}

#[test]
fn tokens_hold_on_every_listener_and_change_by_a_reload() {
    let settings = Settings::service("failover = \"manual\"\n");
    let trio = Trio::adopted(&settings);
    let place = &trio.place;
    let (reader, read) = token(place, "grafana", "read");
    let (writer, write) = token(place, "deploy", "write");
    let (operator, operate) = token(place, "anna", "operate");
    let before = fs::read_to_string(&trio.agent.config).expect("a configuration");
    let with = |lines: &[&String]| {
        let lines: String = lines.iter().map(|line| format!("\n{line}\n")).collect();
        fs::write(&trio.agent.config, format!("{before}{lines}")).expect("written");
        trio.agent.sengu(&["reload"])
    };
    assert_eq!(http::put(trio.agent.http, "/v1/kv/a", b"1").expect("answered").status, 200);
    let told = with(&[&read, &write, &operate]).good().out;
    assert!(told.contains("+ token.grafana.scope = read"), "{told}");

    let url = format!("http://{}", trio.agent.http);
    let refused = http::put(trio.agent.http, "/v1/kv/a", b"2").expect("answered");
    assert!(refused.status == 403 && refused.body.starts_with("Permission denied"), "{refused:?}");
    over_http(&url, &reader, &["kv", "get", "a"]).good();
    over_http(&url, &reader, &["kv", "put", "a", "2"]).refused("Permission denied: token grafana");
    over_http(&url, &writer, &["kv", "put", "a", "2"]).good();
    over_http(&url, &writer, &["pause", SERVICE]).refused("Permission denied: token deploy");
    let health = http::get(trio.agent.http, &format!("/master/{SERVICE}")).expect("answered");
    assert_eq!(health.status, 200, "balancers send no token: {health:?}");

    let told = over_http(&url, &reader, &["status", SERVICE]).good().out;
    assert!(told.contains(SERVICE), "{told}");
    let told = over_http(&url, &operator, &["switchover", SERVICE, "--wait", "60"]).good();
    assert!(told.all().contains("term 2"), "{}", told.all());
    let history = trio.agent.sengu(&["history", SERVICE, "--json"]).good().out;
    assert!(history.contains("token anna@db1"), "{history}");

    // The reader's token is changed: both are good, then only the new one.
    let (again, _) = token(place, "again", "read");
    let hashes = place.path("grafana.hashes");
    let line = |file: &Path| fs::read_to_string(file).expect("a token");
    let by_file = format!(
        "[token.grafana]\nscope = \"read\"\nfile = \"{}\"\n[token.deploy]{}",
        hashes.display(),
        write.split("[token.deploy]").nth(1).expect("its lines")
    );
    fs::write(&hashes, line(&reader) + &line(&again)).expect("written");
    fs::set_permissions(&hashes, PermissionsExt::from_mode(0o640)).expect("set");
    with(&[&by_file]).refused("chmod 600");
    fs::set_permissions(&hashes, PermissionsExt::from_mode(0o600)).expect("set");
    with(&[&by_file]).good();
    for file in [&reader, &again] {
        over_http(&url, file, &["kv", "get", "a"]).good();
    }
    fs::write(&hashes, line(&again)).expect("written");
    let told = with(&[&by_file]).good().out;
    assert!(told.contains("~ token.grafana (not shown)"), "{told}");
    over_http(&url, &again, &["kv", "get", "a"]).good();
    for file in [&reader, &operator] {
        over_http(&url, file, &["kv", "get", "a"]).refused("ACL not found");
    }

    let audit = trio.agent.sengu(&["audit", "--limit", "100"]).good().out;
    for words in ["token deploy", "token grafana", "token anna"] {
        assert!(audit.contains(words), "`{words}` is not in:\n{audit}");
    }
    let log = fs::read_to_string(&trio.agent.log).expect("a log");
    for file in [&writer, &operator, &again] {
        let secret = fs::read_to_string(file).expect("a token");
        assert!(!log.contains(secret.trim()) && !audit.contains(secret.trim()));
    }
}

/// Runs openssl in a folder.
fn openssl(folder: &Path, words: &[&str]) {
    let done = Command::new("openssl")
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl can be started");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority `ca.pem`, and pairs from it for this address.
fn certify(folder: &Path, address: SocketAddr, names: &[(&str, &str)]) {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    if !folder.join("ca.pem").exists() {
        let ca = ["-days", "2", "-subj", "/CN=test ca", "-keyout", "ca.key", "-out", "ca.pem"];
        openssl(folder, &[&["req", "-x509"], &curve[..], &ca[..]].concat());
    }
    for (name, purpose) in names {
        let file = |end: &str| format!("{name}.{end}");
        let text = format!("subjectAltName=IP:{}\nextendedKeyUsage={purpose}\n", address.ip());
        fs::write(folder.join(file("ext")), text).expect("written");
        let (subject, key, request) = (format!("/CN={name}"), file("key"), file("csr"));
        let made = ["-subj", &subject, "-keyout", &key, "-out", &request];
        openssl(folder, &[&["req", "-new"], &curve[..], &made[..]].concat());
        let from = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
        let (extension, out) = (file("ext"), file("pem"));
        let made = ["-in", &request, "-extfile", &extension, "-out", &out];
        openssl(folder, &[&["x509", "-req"], &from[..], &made[..]].concat());
    }
}

#[test]
fn certificates_are_asked_for_and_changed_while_it_runs() {
    let place = Place::claim();
    let (reader, lines) = token(&place, "grafana", "read");
    let folder = place.folder().to_owned();
    let address = place.socket(integration::rig::agent::OWN, 8500);
    certify(&folder, address, &[("server", "serverAuth"), ("client", "clientAuth")]);
    let shown = folder.display();
    let tls = format!(
        "[http.tls]\ncertificate = \"{shown}/server.pem\"\nkey = \"{shown}/server.key\"\n\
         client_ca = \"{shown}/ca.pem\"\nloopback = true\n"
    );
    let config = format!("{}{tls}{lines}", Agent::head(&place));
    let agent = Agent::launch(&place, &config);
    let url = format!("https://{address}");
    let path = |name: &str| folder.join(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let identity = ["--ca", &ca, "--certificate", &certificate, "--key", &key, "kv", "list"];
    let answers = || (over_http(&url, &reader, &identity).code == Some(0)).then_some(());
    assert!(soon(LATER, answers).is_some(), "{}", agent.tail());
    // Without a certificate, without the authority, without TLS: nothing.
    for words in [&["--ca", &ca, "kv", "list"][..], &["kv", "list"][..]] {
        assert_eq!(over_http(&url, &reader, words).code, Some(3), "{words:?}");
    }
    let plain = over_http(&url.replace("https", "http"), &reader, &["kv", "list"]);
    assert_eq!(plain.code, Some(3), "{}", plain.all());

    let told = agent.sengu(&["doctor"]).out;
    assert!(told.contains("http certificate: it is valid until"), "{told}");

    // Half of a new pair is told and not taken; the whole is.
    fs::copy(folder.join("client.key"), folder.join("server.key")).expect("copied");
    agent.sengu(&["reload"]).refused("server.key is not the key of");
    over_http(&url, &reader, &identity).good();
    certify(&folder, address, &[("server", "serverAuth")]);
    let told = agent.sengu(&["reload"]).good().out;
    assert!(told.contains("the certificate is valid until"), "{told}");
    over_http(&url, &reader, &identity).good();
    // And without a reload, when the files change.
    certify(&folder, address, &[("server", "serverAuth")]);
    agent.until_logged("http has a new certificate", LATER);
    over_http(&url, &reader, &identity).good();
}
