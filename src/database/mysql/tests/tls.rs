//! TLS: the server's certificate is checked against the CA given. Certificates are made by
//! `openssl` for the test.

use std::path::Path;
use std::process::{Command as Program, Stdio};

use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::Answer;
use tokio::time::Instant;

use super::bench::MysqlBench;
use super::both;
use super::server::PASSWORD;
use crate::config::{Credentials, TlsConfig};
use crate::database::Database;
use crate::database::mysql::{MysqlConfig, MysqlDatabase};
use crate::database::suite::{COMMAND, PROBE, Server, Start, done, life};

both! {
    a_server_with_tls_is_observed_and_fenced_and_a_wrong_authority_is_refused,
}

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

/// A driver that trusts this authority.
fn trusting(server: &impl Server, authority: &Path) -> MysqlDatabase {
    MysqlDatabase::new(MysqlConfig {
        name: "db1".parse().expect("a name"),
        address: server.address(),
        credentials: Some(Credentials {
            user: Some("sengu".to_owned()),
            password: PASSWORD.to_owned(),
            replication: None,
        }),
        tls: Some(TlsConfig { ca: Some(authority.to_owned()), identity: None }),
        fence_runtime: None,
    })
    .expect("readable")
}

async fn a_server_with_tls_is_observed_and_fenced_and_a_wrong_authority_is_refused(
    bench: MysqlBench,
) {
    let folder = tempfile::tempdir_in(bench.kind.parent()).expect("a folder");
    let at = |name: &str| folder.path().join(name);
    authority(folder.path(), "ca");
    authority(folder.path(), "other");
    std::fs::write(at("extensions"), "subjectAltName=IP:127.0.0.1\n").expect("written");
    let request = format!("req {NEW_KEY} -keyout server.key -out server.csr -subj /CN=server");
    openssl(folder.path(), &request);
    let signer = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
    openssl(folder.path(), &format!("x509 -req -in server.csr {signer} -out server.crt"));
    let seen = |name: &str| bench.kind.inside(&at(name)).display().to_string();
    let lines = format!(
        "ssl-ca={}\nssl-cert={}\nssl-key={}",
        seen("ca.crt"),
        seen("server.crt"),
        seen("server.key")
    );
    let server = bench.start_with(Start::Open, &lines).await;

    let database = trusting(&server, &at("ca.crt"));
    life(&database).await;
    database.rehearse().await.expect("all rungs are possible");
    let deadline = Instant::now() + COMMAND;
    let lane = database.0.lane.lock().await;
    let (session, _) = database.0.control_session(0, deadline).await.expect("opened");
    drop(lane);
    let cipher = session.row("SHOW SESSION STATUS LIKE 'Ssl_cipher'", deadline).await;
    let cipher = cipher.expect("answers").expect("a row");
    assert!(cipher["value"].as_ref().is_some_and(|cipher| !cipher.is_empty()), "{cipher:?}");
    assert!(!done(&database, Command::Fence { kill: false }).await.writable);

    let mistrusting = trusting(&server, &at("other.crt"));
    let answer = mistrusting.observe(PROBE).await.answer;
    assert!(matches!(&answer, Answer::Error(why) if why.contains("certificate")), "{answer:?}");
    let failed = mistrusting.control(Command::Read, COMMAND).await;
    assert!(matches!(&failed, ControlOutcome::Failed { untouched: true, .. }), "{failed:?}");
}
