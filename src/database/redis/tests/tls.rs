//! TLS both ways: the server's certificate is checked against the CA given, and the server asks
//! for the agent's. Certificates are made by `openssl` for the test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command as Program, Stdio};

use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::Answer;

use super::bench::{PASSWORD, RedisBench};
use crate::config::{Credentials, TlsConfig};
use crate::database::Database;
use crate::database::redis::{RedisConfig, RedisDatabase};
use crate::database::suite::{COMMAND, PROBE, Server, Start, done, life};

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

fn openssl(folder: &Path, arguments: &str) {
    let status = Program::new("openssl")
        .args(arguments.split_ascii_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(status.success(), "openssl {arguments}");
}

/// `NAME.crt` and `NAME.key`, of an own CA.
fn authority(folder: &Path, name: &str) {
    let files = format!("-keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}");
    openssl(folder, &format!("req -x509 {NEW_KEY} {files}"));
}

/// `NAME.crt` and `NAME.key`, for 127.0.0.1, signed by `ca`.
fn certificate(folder: &Path, name: &str) {
    std::fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1\n").expect("written");
    openssl(folder, &format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
    let signer = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
    openssl(folder, &format!("x509 -req -in {name}.csr {signer} -out {name}.crt"));
}

#[tokio::test]
async fn a_server_with_tls_is_observed_and_fenced_and_a_wrong_authority_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    authority(folder.path(), "ca");
    authority(folder.path(), "other");
    certificate(folder.path(), "server");
    certificate(folder.path(), "agent");
    let at = |name: &str| folder.path().join(name);
    let free = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = free.local_addr().expect("bound");
    drop(free);
    let lines = format!(
        "tls-port {}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n",
        address.port(),
        at("server.crt").display(),
        at("server.key").display(),
        at("ca.crt").display()
    );
    let server = RedisBench::redis().start_with(Start::Open, &lines);
    let database = |authority: &str, identity: Option<&str>| {
        let identity =
            identity.map(|name| (at(&format!("{name}.crt")), at(&format!("{name}.key"))));
        RedisDatabase::new(RedisConfig {
            name: "cache1".parse().expect("a name"),
            address,
            credentials: Some(Credentials {
                password: PASSWORD.to_owned(),
                ..Credentials::default()
            }),
            tls: Some(TlsConfig { ca: Some(at(authority)), identity }),
            fence_runtime: None,
        })
        .expect("all files are there")
    };
    let good = database("ca.crt", Some("agent"));
    let boot_id = life(&good).await;
    assert!(boot_id.0.contains(&format!(":{}:", server.pid())));
    good.rehearse().await.expect("all rungs are possible");
    assert!(!done(&good, Command::Fence { kill: false }).await.writable);

    for bad in [database("other.crt", Some("agent")), database("ca.crt", None)] {
        let seen = bad.observe(PROBE).await;
        assert!(matches!(seen.answer, Answer::Error(_)), "{seen:?}");
        let outcome = bad.control(Command::Promote { boot_id: boot_id.clone() }, COMMAND).await;
        assert!(matches!(outcome, ControlOutcome::Failed { untouched: true, .. }), "{outcome:?}");
    }
}
