//! TLS towards a server, as it was configured: whom to trust, and as whom to log in.
//!
//! Certificates are read once, when the driver is made: a hung disk must not hold up a fence. The
//! server's certificate must name the address that is connected to.

use std::fs;
use std::path::Path;

use mysql_async::{ClientIdentity, SslOpts};

use crate::config::TlsConfig;

/// Reads what is configured.
///
/// # Errors
/// Names the file that cannot be read, or says that the system trusts nobody.
pub(super) fn options(tls: &TlsConfig) -> Result<SslOpts, String> {
    let read = |file: &Path| {
        fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
    };
    let roots = match &tls.ca {
        Some(file) => vec![read(file)?.into()],
        None => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                return Err("the system has no CA certificates: name one with `ca`".to_owned());
            }
            found.certs.iter().map(|certificate| certificate.to_vec().into()).collect()
        }
    };
    let identity = match &tls.identity {
        Some((certificate, key)) => {
            Some(ClientIdentity::new(read(certificate)?.into(), read(key)?.into()))
        }
        None => None,
    };
    Ok(SslOpts::default()
        .with_disable_built_in_roots(true)
        .with_root_certs(roots)
        .with_client_identity(identity))
}
