//! TLS of the HTTP server: certificates read from files, checked before they are used.
//!
//! A pair is taken only if the key is the certificate's, and the certificate is valid now and for
//! servers; so a slip while it is renewed leaves the one before in force. Old connections go on
//! with what they began with. TLS 1.2 and 1.3, with the suites of the library's default.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};

use crate::config::HttpTls;

/// The most that is read of one file, in bytes.
const MOST: u64 = 1 << 20;

/// The last second of the year 9999: no certificate is valid then.
const FAR: u64 = 253_402_300_799;

/// The bytes of the files, to see whether they changed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bytes {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What connections are accepted with.
pub(super) struct Loaded {
    /// What it was made of.
    pub(super) bytes: Bytes,
    /// What connections use.
    pub(super) server: Arc<ServerConfig>,
    /// Until when the certificate is valid, in seconds since 1970.
    pub(super) until: u64,
}

impl Bytes {
    /// Reads the files.
    ///
    /// # Errors
    /// Which cannot be used, and the way out; never what stands in it.
    pub(super) fn read(files: &HttpTls) -> Result<Self, String> {
        // The key last: a pair that is written meanwhile is then refused, and read again.
        let certificate = content(&files.certificate)?;
        let client_ca = files.client_ca.as_deref().map(content).transpose()?;
        let key = files.key.as_path();
        let mode = std::fs::metadata(key).map_err(|error| unreadable(key, &error))?.mode();
        if mode & 0o007 != 0 {
            let shown = key.display();
            return Err(format!("{shown} can be read by everybody; run `chmod o= {shown}`"));
        }
        Ok(Self { certificate, key: content(key)?, client_ca })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let read = file.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MOST {
        return Err(format!("{} is longer than {MOST} bytes", path.display()));
    }
    Ok(bytes)
}

/// Makes what connections are accepted with.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn load(files: &HttpTls, bytes: Bytes) -> Result<Loaded, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&files.certificate, &bytes.certificate)?;
    let shown = files.key.display();
    let key = PrivateKeyDer::from_pem_slice(&bytes.key)
        .map_err(|_| format!("{shown} holds no private key in PEM"))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match (&files.client_ca, &bytes.client_ca) {
        (Some(path), Some(bytes)) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path, bytes)? {
                let wrong = |error| format!("{}: {error}", path.display());
                roots.add(root).map_err(wrong)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let wrong = |error| format!("{}: {error}", path.display());
            builder.with_client_cert_verifier(verifier.build().map_err(wrong)?)
        }
        _ => builder.with_no_client_auth(),
    };
    let until = valid(&chain, &provider)
        .map_err(|error| format!("{}: {error}", files.certificate.display()))?;
    let mut server = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{shown} is not the key of {}", files.certificate.display())
        }
        other => format!("{}: {other}", files.certificate.display()),
    })?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { bytes, server: Arc::new(server), until })
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

/// Until when the server's certificate is valid; an error if it is not valid now, or not for
/// servers. Who signed it is for clients to judge: no root is known here, so that the one thing
/// expected to be wrong is the issuer.
fn valid(
    chain: &[CertificateDer<'_>],
    provider: &rustls::crypto::CryptoProvider,
) -> Result<u64, String> {
    let first = chain.first().ok_or("no certificate")?;
    let parsed = ParsedCertificate::try_from(first).map_err(|error| error.to_string())?;
    let roots = RootCertStore::empty();
    let algorithms = provider.signature_verification_algorithms.all;
    let at = |time| {
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], time, algorithms)
            .err()
            .and_then(|error| match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => None,
                rustls::Error::InvalidCertificate(error) => Some(error),
                other => Some(CertificateError::Other(rustls::OtherError(Arc::new(other)))),
            })
    };
    match at(UnixTime::now()) {
        None => {}
        Some(CertificateError::ExpiredContext { not_after, .. }) => {
            return Err(format!("it has expired: it was valid until {}", day(not_after.as_secs())));
        }
        Some(CertificateError::NotValidYetContext { not_before, .. }) => {
            return Err(format!("it is valid only from {} on", day(not_before.as_secs())));
        }
        Some(CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }) => {
            return Err("it is not for servers (extended key usage `serverAuth`)".to_owned());
        }
        Some(other) => return Err(other.to_string()),
    }
    match at(UnixTime::since_unix_epoch(Duration::from_secs(FAR))) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => Ok(not_after.as_secs()),
        _ => Ok(FAR),
    }
}

/// A moment for people.
pub(super) fn day(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("second {seconds}"), |moment| moment.to_string())
}
