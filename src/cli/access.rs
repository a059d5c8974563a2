//! How commands show who they are to an agent over HTTP: a token, and certificates.
//!
//! The token comes from a file or a variable, never from the command line, which everybody on
//! the host can read; it is sent as a header that is marked as sensitive, and never printed.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity};

use crate::config::{Here, Machine};
use crate::token;

/// The variable with a token.
const VARIABLE: &str = "SENGU_TOKEN";

/// Options of every command, for agents that are reached over HTTP.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Over HTTP")]
pub(super) struct Access {
    /// Ask the agent at this URL, in place of the one of this host on its socket
    #[arg(long, global = true, env = "SENGU_AGENT", hide_env_values = true, value_name = "URL")]
    pub(super) agent: Option<String>,
    /// File with the token to show; else the variable `SENGU_TOKEN`
    #[arg(
        long,
        global = true,
        env = "SENGU_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
    /// PEM file with the certificates that an agent's must come from; else those of the system
    #[arg(long, global = true, env = "SENGU_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with one's own certificate, for agents that ask for one
    #[arg(
        long = "certificate",
        global = true,
        env = "SENGU_CERTIFICATE",
        hide_env_values = true,
        value_name = "FILE",
        requires = "client_key"
    )]
    client_certificate: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(
        long = "key",
        global = true,
        env = "SENGU_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "client_certificate"
    )]
    client_key: Option<PathBuf>,
}

impl Access {
    /// Puts all of it on a client.
    pub(super) fn on(&self, mut builder: ClientBuilder) -> anyhow::Result<ClientBuilder> {
        if let Some(token) = self.token()? {
            let mut value = HeaderValue::from_str(&token).context("the token is no header")?;
            value.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(
                reqwest::header::HeaderName::from_static("x-consul-token"),
                value,
            )]));
        }
        if let Some(path) = &self.ca {
            let roots = Certificate::from_pem_bundle(&read(path)?);
            let wrong = || format!("{} holds no certificates in PEM", path.display());
            let roots = roots.ok().filter(|roots| !roots.is_empty()).with_context(wrong)?;
            builder = builder.tls_certs_only(roots);
        }
        if let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) {
            let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
            let wrong = || {
                format!(
                    "{} and {} are no certificate and key in PEM",
                    certificate.display(),
                    key.display()
                )
            };
            builder = builder.identity(Identity::from_pem(&pem).ok().with_context(wrong)?);
        }
        Ok(builder)
    }

    /// The token: the first line of the file that is no remark, else the variable.
    fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.token_file else {
            let set = std::env::var(VARIABLE).ok().map(|text| text.trim().to_owned());
            let set = set.filter(|text| !text.is_empty());
            let wrong = |why| anyhow::anyhow!("{VARIABLE}: {why}");
            set.iter().try_for_each(|text| token::check(text)).map_err(wrong)?;
            return Ok(set);
        };
        let content = Here.secret(path).map_err(|why| anyhow::anyhow!(why))?;
        let mut lines = content.lines().map(str::trim);
        let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        let line = line.with_context(|| format!("{} holds no token", path.display()))?;
        token::check(line).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
        Ok(Some(line.to_owned()))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
