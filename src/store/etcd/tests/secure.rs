//! Certificates, users and passwords.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sengu_core::kv::{Op, Txn};

use super::bench::{Cluster, LATE, Release};
use crate::config::{Credentials, EtcdConfig, TlsConfig};
use crate::store::etcd::EtcdStore;
use crate::store::{Store, StoreError};

fn openssl(folder: &Path, words: &[&str]) {
    let mut command = Command::new("openssl");
    let ran = command.current_dir(folder).args(words).stdin(Stdio::null()).output();
    let ran = ran.expect("openssl runs");
    assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A CA, a server's certificate and a client's.
fn certificates(folder: &Path) {
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test ca",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ],
    );
    for (name, extension) in [
        ("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"),
        ("client", "extendedKeyUsage=clientAuth\n"),
    ] {
        let file = |end: &str| format!("{name}.{end}");
        fs::write(folder.join(file("ext")), extension).expect("written");
        openssl(
            folder,
            &[
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &file("key"),
                "-out",
                &file("csr"),
            ],
        );
        openssl(
            folder,
            &[
                "x509",
                "-req",
                "-in",
                &file("csr"),
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &file("ext"),
                "-out",
                &file("pem"),
            ],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_both_sides_are_asked_for() {
    let cluster = Cluster::launch(Release::New, 1, "https", |folder| {
        certificates(folder.path());
        let file = |name: &str| folder.path().join(name).display().to_string();
        vec![
            format!("--cert-file={}", file("server.pem")),
            format!("--key-file={}", file("server.key")),
            format!("--trusted-ca-file={}", file("ca.pem")),
            "--client-cert-auth".to_owned(),
        ]
    });
    let file = |name: &str| cluster.folder.path().join(name);
    let identity = Some((file("client.pem"), file("client.key")));
    let tls = TlsConfig { ca: Some(file("ca.pem")), identity };
    let with = |tls: TlsConfig| EtcdConfig { tls: Some(tls), ..cluster.config() };
    let good = EtcdStore::new(&with(tls.clone()), LATE).expect("made");
    cluster.until_answers(&good).await;
    let nameless = EtcdStore::new(&with(TlsConfig { identity: None, ..tls.clone() }), LATE);
    let stranger = EtcdStore::new(&with(TlsConfig { ca: None, ..tls.clone() }), LATE);
    for store in [nameless.expect("made"), stranger.expect("made")] {
        let error = store.txn(Txn::default()).await.expect_err("refused");
        assert!(matches!(error, StoreError::Unknown(_)), "{error}");
    }
    let missing = TlsConfig { ca: Some(file("none.pem")), ..tls };
    let error = EtcdStore::new(&with(missing), LATE).expect_err("no such file");
    assert!(error.contains("none.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_let_in_by_their_password_and_kept_to_their_prefix() {
    let cluster = Cluster::start(Release::New, 1).await;
    for words in [
        &["user", "add", "root:toor-of-the-test"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "sengu"],
        &["role", "grant-permission", "sengu", "--prefix=true", "readwrite", "/sengu/test/"],
        &["user", "add", "sengu:pa55-of-the-test"],
        &["user", "grant-role", "sengu", "sengu"],
        &["auth", "enable"],
    ] {
        cluster.tool(words);
    }
    let login = |password: &str| Credentials {
        user: Some("sengu".to_owned()),
        password: password.to_owned(),
        ..Credentials::default()
    };
    let with = |credentials: Option<Credentials>, prefix: &str| {
        let prefix = prefix.to_owned();
        let config = EtcdConfig { credentials, prefix, ..cluster.config() };
        EtcdStore::new(&config, LATE).expect("made")
    };
    let put = || Txn {
        then: vec![Op::Put { key: "a".into(), value: b"1"[..].into(), lease: 0 }],
        ..Txn::default()
    };
    let good = with(Some(login("pa55-of-the-test")), "/sengu/test/");
    good.txn(put()).await.expect("let in");
    let (revision, entries) = good.load().await.expect("it loads");
    assert_eq!(entries.len(), 1);
    let mut watch = good.watch(revision).await.expect("a watch");
    good.txn(put()).await.expect("written");
    assert_eq!(watch.recv().await.expect("it stands").changes.len(), 1);
    for (store, words) in [
        (with(Some(login("wr0ng-of-the-test")), "/sengu/test/"), "authentication failed"),
        (with(Some(login("pa55-of-the-test")), "/sengu/other/"), "permission denied"),
        (with(None, "/sengu/test/"), "credentials"),
    ] {
        let error = store.txn(put()).await.expect_err("refused");
        assert!(matches!(&error, StoreError::Refused(why) if why.contains(words)), "{error}");
        let shown = format!("{error} {store:?}");
        assert!(!shown.contains("of-the-test"), "no secret is shown: {shown}");
    }
}
