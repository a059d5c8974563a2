//! The way to the agent: HTTP over its unix socket, which only root may open, or over TCP.
//!
//! Every call has a deadline and every answer a largest size. A proxy in the environment is never
//! used. What the agent refuses comes back in its own words.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::access::Access;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// How long an answer may take beyond what the call itself waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A stream that said nothing for so long is broken: it says at least every 15 s that it is there.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody answers there.
    #[error("the agent is not reachable at {place}: {reason}")]
    Unreachable {
        /// Socket or URL.
        place: String,
        /// Why, and what to do.
        reason: String,
    },
    /// It answered that there is no such thing.
    #[error("{0}")]
    Absent(String),
    /// It answered that it will not.
    #[error("{0}")]
    Refused(String),
    /// It answered that it cannot.
    #[error("the agent cannot do that now: {0}")]
    Failed(String),
    /// It answered something that this version does not understand.
    #[error("the agent's answer is not understood: {0}; are agent and command of one version?")]
    Strange(String),
}

/// A caller of one HTTP server.
pub(super) struct Client {
    runtime: Runtime,
    http: reqwest::Client,
    base: String,
    place: String,
    socket: bool,
}

/// An answer that was not an error.
pub(super) struct Answer {
    /// Its body.
    pub(super) body: Vec<u8>,
    /// The index to wait above, where there is one.
    pub(super) index: Option<u64>,
}

impl Client {
    /// To the agent's socket. Nothing is sent yet.
    pub(super) fn agent(socket: &std::path::Path) -> anyhow::Result<Self> {
        let http = builder()?.unix_socket(socket.to_path_buf()).build()?;
        let place = socket.display().to_string();
        Ok(Self { runtime: runtime()?, http, base: "http://sengu".into(), place, socket: true })
    }

    /// To an HTTP server, as `http://127.0.0.1:8500`. Nothing is sent yet.
    pub(super) fn http(url: &str, access: &Access) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        let base = if base.contains("://") { base } else { format!("http://{base}") };
        let place = base.clone();
        let http = access.on(builder()?)?.build()?;
        Ok(Self { runtime: runtime()?, http, base, place, socket: false })
    }

    /// Asks for something.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get_within(path, PATIENCE)
    }

    /// Asks for something that may take so long.
    pub(super) fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        within: Duration,
    ) -> Result<T, ClientError> {
        understood(&self.call(Method::GET, path, None, within)?.body)
    }

    /// Asks for something, and waits until its index is above this one, for at most so long.
    pub(super) fn follow<T: DeserializeOwned>(
        &self,
        path: &str,
        above: u64,
        wait: Duration,
    ) -> Result<(T, u64), ClientError> {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{join}index={above}&wait={}ms", wait.as_millis().max(1));
        let answer = self.call(Method::GET, &path, None, wait + PATIENCE)?;
        Ok((understood(&answer.body)?, answer.index.unwrap_or(above).max(1)))
    }

    /// Sends JSON.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("requests hold only what JSON can say");
        understood(&self.call(Method::POST, path, Some(body), PATIENCE)?.body)
    }

    /// Sends a request and reads the whole answer.
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<Answer, ClientError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).timeout(within);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        self.runtime.block_on(async {
            let response = request.send().await.map_err(|error| self.unreachable(&error))?;
            let status = response.status();
            let index = response.headers().get("x-consul-index");
            let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
            let body = self.read(response).await?;
            if status.is_success() {
                return Ok(Answer { body, index });
            }
            let words = refusal(&body).unwrap_or_else(|| format!("the agent answered {status}"));
            Err(match status {
                reqwest::StatusCode::NOT_FOUND => ClientError::Absent(words),
                _ if status.is_server_error() => ClientError::Failed(words),
                _ => ClientError::Refused(words),
            })
        })
    }

    /// Reads a stream of server-sent events until its other end ends it; `told` gets the data of
    /// each event. A stream that says nothing for long is taken for broken.
    pub(super) fn stream(&self, path: &str, mut told: impl FnMut(&str)) -> Result<(), ClientError> {
        let request = self.http.get(format!("{}{path}", self.base));
        self.runtime.block_on(async {
            let answered = tokio::time::timeout(PATIENCE, request.send()).await;
            let late = || ClientError::Unreachable {
                place: self.place.clone(),
                reason: "no answer in time".to_owned(),
            };
            let mut response =
                answered.map_err(|_| late())?.map_err(|error| self.unreachable(&error))?;
            if !response.status().is_success() {
                let body = self.read(response).await?;
                let words = refusal(&body).unwrap_or_else(|| "the agent refused".to_owned());
                return Err(ClientError::Refused(words));
            }
            let mut rest: Vec<u8> = Vec::new();
            loop {
                let chunk = tokio::time::timeout(SILENCE, response.chunk()).await;
                // A connection that breaks off is an end, too: the agent may have been killed.
                let Ok(Ok(Some(chunk))) = chunk else { return Ok(()) };
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    if let Some(data) = line.trim_end().strip_prefix("data: ") {
                        told(data);
                    }
                }
                if rest.len() > MAX_ANSWER {
                    return Err(ClientError::Strange("a line of it has no end".to_owned()));
                }
            }
        })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(ClientError::Strange(format!("it is longer than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut source: Option<&(dyn Error + 'static)> = Some(error);
        let mut kind = None;
        let mut deepest = error.to_string();
        while let Some(error) = source {
            deepest = error.to_string();
            kind = error.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
            source = error.source();
        }
        let reason = match kind {
            _ if error.is_timeout() => "no answer in time".to_owned(),
            Some(io::ErrorKind::NotFound) => "there is no socket; does `sengu agent` run?".into(),
            Some(io::ErrorKind::ConnectionRefused) => {
                "nobody listens; does `sengu agent` run?".into()
            }
            Some(io::ErrorKind::PermissionDenied) if self.socket => {
                "only root may open it; run this as root".into()
            }
            _ => deepest,
        };
        ClientError::Unreachable { place: self.place.clone(), reason }
    }
}

fn builder() -> anyhow::Result<reqwest::ClientBuilder> {
    // The first of the process wins; all install the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A redirect would carry the token elsewhere.
    let redirect = reqwest::redirect::Policy::none();
    Ok(reqwest::Client::builder().no_proxy().redirect(redirect).connect_timeout(PATIENCE))
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Strange(error.to_string()))
}

/// The words of an error: `{"error": "…"}`, or plain text.
fn refusal(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(body) {
        return Some(refusal.error);
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    let short: String = text.chars().take(300).collect();
    (!short.is_empty()).then_some(short)
}

/// The socket of the agent: as told, else as the configuration file has it.
pub(super) fn socket(told: Option<PathBuf>, config: &std::path::Path) -> PathBuf {
    told.unwrap_or_else(|| crate::config::socket(config))
}

/// An address of this host that a listener answers on; the usual port of this host without one.
pub(super) fn reachable(listen: Option<SocketAddr>, port: u16) -> SocketAddr {
    match listen {
        Some(address) if address.ip().is_unspecified() => match address {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
        },
        Some(address) => address,
        None => (Ipv4Addr::LOCALHOST, port).into(),
    }
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
