//! TLS: the server's certificate is checked against the CA given, the driver shows its own where
//! the server asks for one, and accounts of MariaDB's ed25519 log in over it. Certificates are made
//! by `openssl` for the test.

use std::path::Path;
use std::process::{Command as Program, Stdio};

use sengu_core::event::{Command, ControlOutcome};
use sengu_core::observation::Answer;
use tempfile::TempDir;
use tokio::time::Instant;

use super::bench::{MysqlBench, MysqlServer};
use super::both;
use super::server::PASSWORD;
use crate::config::{Credentials, TlsConfig};
use crate::database::Database;
use crate::database::mysql::{MysqlConfig, MysqlDatabase};
use crate::database::suite::{COMMAND, PROBE, Server, Start, done, life};

both! {
    a_server_with_tls_is_observed_and_fenced_and_a_wrong_authority_is_refused,
    a_certificate_is_shown_where_the_account_must_have_one,
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

/// `NAME.crt` and `NAME.key`, signed by `ca`.
fn signed(folder: &Path, name: &str, extensions: &str) {
    std::fs::write(folder.join("extensions"), extensions).expect("written");
    let request = format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}");
    openssl(folder, &request);
    let signer = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
    openssl(folder, &format!("x509 -req -in {name}.csr {signer} -out {name}.crt"));
}

/// A driver of an account with these certificates.
fn driver(server: &impl Server, user: &str, tls: TlsConfig) -> MysqlDatabase {
    MysqlDatabase::new(MysqlConfig {
        name: "db1".parse().expect("a name"),
        address: server.address(),
        credentials: Some(Credentials {
            user: Some(user.to_owned()),
            password: PASSWORD.to_owned(),
            replication: None,
        }),
        tls: Some(tls),
        fence_runtime: None,
    })
    .expect("readable")
}

/// A driver that trusts this authority.
fn trusting(server: &impl Server, authority: &Path) -> MysqlDatabase {
    driver(server, "sengu", TlsConfig { ca: Some(authority.to_owned()), identity: None })
}

/// A server with a certificate of the authority `ca.crt`, and the folder with all of them.
async fn with_tls(bench: &MysqlBench) -> (MysqlServer, TempDir) {
    let folder = tempfile::tempdir_in(bench.kind.parent()).expect("a folder");
    authority(folder.path(), "ca");
    authority(folder.path(), "other");
    signed(folder.path(), "server", "subjectAltName=IP:127.0.0.1\n");
    signed(folder.path(), "agent", "extendedKeyUsage=clientAuth\n");
    let seen = |name: &str| bench.kind.inside(&folder.path().join(name)).display().to_string();
    let lines = format!(
        "ssl-ca={}\nssl-cert={}\nssl-key={}",
        seen("ca.crt"),
        seen("server.crt"),
        seen("server.key")
    );
    (bench.start_with(Start::Open, &lines).await, folder)
}

async fn a_certificate_is_shown_where_the_account_must_have_one(bench: MysqlBench) {
    let (server, folder) = with_tls(&bench).await;
    let at = |name: &str| folder.path().join(name);
    server.root().await.exec("ALTER USER sengu@'%' REQUIRE X509").await;
    let without = trusting(&server, &at("ca.crt"));
    let answer = without.observe(PROBE).await.answer;
    assert!(matches!(&answer, Answer::AuthFailed(_)), "{answer:?}");
    let identity = Some((at("agent.crt"), at("agent.key")));
    let database = driver(&server, "sengu", TlsConfig { ca: Some(at("ca.crt")), identity });
    life(&database).await;
    database.rehearse().await.expect("all rungs are possible");
    assert!(!done(&database, Command::Fence { kill: false }).await.writable);
}

#[tokio::test]
async fn an_account_of_mariadbs_ed25519_logs_in_over_tls() {
    let bench = MysqlBench::mariadb();
    let (server, folder) = with_tls(&bench).await;
    let ca = folder.path().join("ca.crt");
    let mut root = server.root().await;
    root.exec("INSTALL SONAME 'auth_ed25519'").await;
    root.exec(&format!(
        "CREATE USER signer@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}') REQUIRE SSL"
    ))
    .await;
    root.exec("GRANT ALL ON *.* TO signer@'%'").await;
    // Beside the agent's account it would be one that `read_only` does not bind.
    root.exec("DROP USER sengu@'%'").await;
    let signer = driver(&server, "signer", TlsConfig { ca: Some(ca), identity: None });
    life(&signer).await;
    signer.rehearse().await.expect("all rungs are possible");
    assert!(!done(&signer, Command::Fence { kill: false }).await.writable);
}

async fn a_server_with_tls_is_observed_and_fenced_and_a_wrong_authority_is_refused(
    bench: MysqlBench,
) {
    let (server, folder) = with_tls(&bench).await;
    let at = |name: &str| folder.path().join(name);

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
