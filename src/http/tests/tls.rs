//! TLS on real sockets: who is let in, and certificates that change while it runs.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{HttpConfig, HttpLimits, HttpTls};
use crate::http::Gate;
use crate::http::testing::{Answer, Rig, Running};

/// An authority, and certificates from it in a folder.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        Self { folder: tempfile::tempdir().expect("a folder"), issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `NAME.pem` and `NAME.key`, for 127.0.0.1, valid until that year.
    fn certify(&self, name: &str, purpose: ExtendedKeyUsagePurpose, year: i32) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn server(&self, name: &str, year: i32) {
        self.certify(name, ExtendedKeyUsagePurpose::ServerAuth, year);
    }

    /// Replaced whole, as those that renew certificates do.
    fn write(&self, name: &str, text: &str) {
        let (path, staged) = (self.path(name), self.path("staged"));
        std::fs::write(&staged, text).expect("written");
        std::fs::set_permissions(&staged, PermissionsExt::from_mode(0o640)).expect("set");
        std::fs::rename(&staged, &path).expect("renamed");
    }

    fn config(&self, name: &str) -> HttpConfig {
        let file = |end: &str| self.path(&format!("{name}.{end}"));
        let tls =
            HttpTls { certificate: file("pem"), key: file("key"), client_ca: None, loopback: true };
        HttpConfig { tls: Some(tls), ..HttpConfig::default() }
    }

    fn client(
        &self,
        identity: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::from_pem_file(self.path(&format!("{name}.pem")));
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")));
                builder
                    .with_client_auth_cert(vec![chain.expect("read")], key.expect("read"))
                    .expect("a pair")
            }
        };
        Client(TlsConnector::from(Arc::new(config)))
    }
}

struct Client(TlsConnector);

impl Client {
    async fn connect(&self, server: &Running) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(server.address).await?;
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        self.0.connect(name, stream).await
    }

    async fn get(&self, server: &Running, path: &str) -> std::io::Result<Answer> {
        let mut stream = self.connect(server).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(Answer::parse(&bytes))
    }
}

/// The certificate that the server shows.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let chain = stream.get_ref().1.peer_certificates().expect("shown");
    chain[0].as_ref().to_vec()
}

fn on_disk(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).expect("read").as_ref().to_vec()
}

#[tokio::test]
async fn tls_is_spoken_and_nothing_else() {
    let (rig, authority) = (Rig::new(), Authority::new());
    authority.server("server", 2999);
    let server = rig.server_with(authority.config("server"), BTreeMap::new(), None).await;
    for (version, is) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let client = authority.client(None, &[version]);
        let stream = client.connect(&server).await.expect("shaken");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(is));
        assert_eq!(client.get(&server, "/health").await.expect("answered").status, 200);
    }
    let mut plain = TcpStream::connect(server.address).await.expect("it accepts");
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(!bytes.starts_with(b"HTTP"), "no answer in the clear");
    let stranger = Authority::new().client(None, rustls::ALL_VERSIONS);
    stranger.get(&server, "/health").await.expect_err("another authority");
}

#[tokio::test]
async fn clients_show_certificates_where_that_is_asked() {
    let (rig, authority, other) = (Rig::new(), Authority::new(), Authority::new());
    authority.server("server", 2999);
    authority.certify("client", ExtendedKeyUsagePurpose::ClientAuth, 2999);
    authority.certify("old", ExtendedKeyUsagePurpose::ClientAuth, 2021);
    authority.write("ca.pem", &authority.issuer.pem());
    let mut config = authority.config("server");
    config.tls.as_mut().expect("there").client_ca = Some(authority.path("ca.pem"));
    let server = rig.server_with(config, BTreeMap::new(), None).await;
    let known = authority.client(Some("client"), rustls::ALL_VERSIONS);
    assert_eq!(known.get(&server, "/health").await.expect("answered").status, 200);
    for name in [None, Some("old")] {
        let client = authority.client(name, rustls::ALL_VERSIONS);
        client.get(&server, "/health").await.expect_err("not let in");
    }
    // One of another authority.
    other.certify("client", ExtendedKeyUsagePurpose::ClientAuth, 2999);
    for end in ["pem", "key"] {
        let text = std::fs::read_to_string(other.path(&format!("client.{end}"))).expect("read");
        authority.write(&format!("foreign.{end}"), &text);
    }
    let client = authority.client(Some("foreign"), rustls::ALL_VERSIONS);
    client.get(&server, "/health").await.expect_err("not let in");
}

#[tokio::test]
async fn certificates_change_while_connections_go_on() {
    let (rig, authority) = (Rig::new(), Authority::new());
    authority.server("server", 2999);
    let config = authority.config("server");
    let server = rig.server_with(config.clone(), BTreeMap::new(), None).await;
    let client = authority.client(None, rustls::ALL_VERSIONS);
    let mut old = client.connect(&server).await.expect("shaken");
    let first = on_disk(&authority.path("server.pem"));
    assert_eq!(shown(&old), first);

    authority.server("server", 2998);
    let second = on_disk(&authority.path("server.pem"));
    assert_ne!(first, second);
    let reloaded = Gate::prepare(&config, &BTreeMap::new()).expect("good");
    let told = server.gate.change(reloaded).expect("another certificate");
    assert!(told.contains("valid until 2998-01-01"), "{told}");
    assert_eq!(shown(&client.connect(&server).await.expect("shaken")), second);
    // The same once more is no change.
    assert_eq!(server.gate.change(Gate::prepare(&config, &BTreeMap::new()).expect("good")), None);

    old.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut bytes = Vec::new();
    old.read_to_end(&mut bytes).await.expect("answered");
    assert_eq!(Answer::parse(&bytes).status, 200);
}

#[tokio::test]
async fn a_change_of_the_files_is_noticed_and_a_bad_pair_is_not_taken() {
    let (rig, authority) = (Rig::new(), Authority::new());
    authority.server("server", 2999);
    let server = rig.server_with(authority.config("server"), BTreeMap::new(), None).await;
    let client = authority.client(None, rustls::ALL_VERSIONS);
    let first = on_disk(&authority.path("server.pem"));
    // Expired: the one before stays.
    authority.server("server", 2021);
    server.gate.look();
    assert_eq!(shown(&client.connect(&server).await.expect("shaken")), first);
    // Half of a new pair: the one before stays.
    let key = std::fs::read_to_string(authority.path("server.key")).expect("read");
    authority.server("server", 2997);
    let good = std::fs::read_to_string(authority.path("server.key")).expect("read");
    authority.write("server.key", &key);
    server.gate.look();
    assert_eq!(shown(&client.connect(&server).await.expect("shaken")), first);
    // Whole: the new one.
    authority.write("server.key", &good);
    server.gate.look();
    let second = on_disk(&authority.path("server.pem"));
    assert_eq!(shown(&client.connect(&server).await.expect("shaken")), second);
}

#[test]
fn what_is_wrong_with_a_pair_is_told() {
    let authority = Authority::new();
    authority.server("good", 2999);
    authority.server("other", 2999);
    authority.server("expired", 2021);
    authority.certify("client", ExtendedKeyUsagePurpose::ClientAuth, 2999);
    authority.write("empty.pem", "nothing\n");
    let refused = |certificate: &str, key: &str| {
        let mut config = authority.config("good");
        let tls = config.tls.as_mut().expect("there");
        (tls.certificate, tls.key) = (authority.path(certificate), authority.path(key));
        Gate::new(&config, &BTreeMap::new()).map(drop).expect_err("refused")
    };
    for (certificate, key, words) in [
        ("good.pem", "other.key", "other.key is not the key of"),
        (
            "expired.pem",
            "expired.key",
            "expired.pem: it has expired: it was valid until 2021-01-01",
        ),
        ("client.pem", "client.key", "client.pem: it is not for servers"),
        ("empty.pem", "good.key", "empty.pem holds no certificate in PEM"),
        ("good.pem", "empty.pem", "empty.pem holds no private key in PEM"),
        ("none.pem", "good.key", "none.pem: No such file"),
    ] {
        let error = refused(certificate, key);
        assert!(error.contains(words), "{error}");
    }
    let open = PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(authority.path("good.key"), open).expect("set");
    let error = refused("good.pem", "good.key");
    assert!(error.contains("can be read by everybody; run `chmod o= "), "{error}");
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_cut() {
    let (rig, authority) = (Rig::new(), Authority::new());
    authority.server("server", 2999);
    let mut config = authority.config("server");
    config.limits = HttpLimits { header: Duration::from_millis(100), ..HttpLimits::default() };
    let server = rig.server_with(config, BTreeMap::new(), None).await;
    let mut stream = TcpStream::connect(server.address).await.expect("it accepts");
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes));
    // A reset is an end too.
    let _ = read.await.expect("it is closed");
    assert!(bytes.is_empty());
}
