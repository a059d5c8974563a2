//! One member of the cluster and the one connection to it.
//!
//! A client of several endpoints goes on asking a dead one for every n-th request, so there is one
//! client for each endpoint, and `ring.rs` chooses. Connections are made when they are first
//! needed, and again by the client library when they end. Secrets are never shown.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::fault::Fault;
use crate::config::EtcdConfig;

/// How long a connection may take to come up, the login with it.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How often an idle connection is tried, and how long it may be silent then.
const PING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(1));

/// One member.
pub(super) struct Endpoint {
    /// As the configuration names it.
    pub(super) url: String,
    options: ConnectOptions,
    client: Mutex<Option<Client>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(super) fn new(url: &str, options: ConnectOptions) -> Self {
        Self { url: url.to_owned(), options, client: Mutex::default() }
    }

    /// Its client; makes one, and logs in, if there is none. Bounded.
    pub(super) async fn client(&self) -> Result<Client, Fault> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref() {
            return Ok(client.clone());
        }
        let connecting = Client::connect([&self.url], Some(self.options.clone()));
        let client = match timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(client)) => client,
            // Nothing of anybody's was sent: only the login was.
            Ok(Err(error)) => {
                return Err(match Fault::from(error) {
                    Fault::Refused(why) => Fault::Refused(self.said(&why)),
                    fault => Fault::Elsewhere(self.said(fault.why())),
                });
            }
            Err(_) => return Err(Fault::Elsewhere(self.said("no answer to the login"))),
        };
        *kept = Some(client.clone());
        Ok(client)
    }

    /// Makes a new connection the next time.
    pub(super) fn forget(&self) {
        // Held only while one is made, which is as good.
        if let Ok(mut kept) = self.client.try_lock() {
            *kept = None;
        }
    }

    /// Words with its name before them.
    pub(super) fn said(&self, words: &str) -> String {
        format!("{}: {words}", self.url)
    }
}

/// What all connections have in common.
///
/// # Errors
/// A certificate that cannot be read, by its path.
pub(super) fn options(config: &EtcdConfig) -> Result<ConnectOptions, String> {
    let (interval, within) = PING;
    let mut options = ConnectOptions::new()
        .with_keep_alive(interval, within)
        .with_keep_alive_while_idle(true)
        .with_connect_timeout(CONNECT_WITHIN)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(login) = &config.credentials {
        options = options.with_user(login.user.as_deref().unwrap_or_default(), &login.password);
    }
    if let Some(tls) = &config.tls {
        let mut settings = TlsOptions::new();
        settings = match &tls.ca {
            Some(ca) => settings.ca_certificate(Certificate::from_pem(read(ca)?)),
            None => settings.with_native_roots(),
        };
        if let Some((certificate, key)) = &tls.identity {
            settings = settings.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        options = options.with_tls(settings);
    }
    Ok(options)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
