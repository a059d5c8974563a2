//! `probe = "http"`: an HTTP server answers well, and the asking that registered checks share.
//!
//! 2xx passes, 429 warns, everything else is critical. Each look has a connection of its own; no
//! proxy of the environment is used, at most five redirects are followed, and only the beginning
//! of the body is read. Credentials in a URL never get into an output.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use sengu_core::health::{Judged, Status};
use tokio::time::timeout;

use super::keys::Keys;
use super::placeholder::fill;
use super::{Kind, Probe, Scene, clip};
use crate::duration;

pub(super) const KIND: Kind = Kind { name: "http", read };

/// Bytes of a body that are looked through.
const BODY_MAX: usize = 64 * 1024;
/// Bytes of it that are shown.
const SHOWN_MAX: usize = 4096;
/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Header lines of a probe.
const HEADERS_MAX: usize = 32;

/// How a server is asked.
#[derive(Clone)]
pub(crate) struct Asking {
    client: Client,
    method: Method,
    header: HeaderMap,
    body: String,
}

/// The URL stays out: it may hold a password.
impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// By its code alone.
    pub(crate) status: Status,
    /// Its code and reason.
    pub(crate) line: String,
    /// The beginning of its body.
    pub(crate) body: String,
}

impl Asking {
    /// Prepares it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn new(
        method: &str,
        header: &[(String, String)],
        body: &str,
        (any_certificate, follow): (bool, bool),
    ) -> Result<Self, String> {
        // One provider for every TLS client of this process; a second call finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("{method:?} is no HTTP method"))?;
        let mut lines = HeaderMap::new();
        for (name, value) in header {
            let bad = || format!("header line {name:?} cannot be sent");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            lines.append(name, HeaderValue::from_str(value).map_err(|_| bad())?);
        }
        let client = Client::builder()
            .user_agent("sengu")
            .no_proxy()
            .pool_max_idle_per_host(0)
            .redirect(if follow { Policy::limited(REDIRECTS) } else { Policy::none() })
            .tls_danger_accept_invalid_certs(any_certificate)
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { client, method, header: lines, body: body.to_owned() })
    }

    /// Asks, and reads the beginning of the answer.
    ///
    /// # Errors
    /// Why there is no answer, in words without the URL.
    pub(crate) async fn ask(&self, url: &str, within: Duration) -> Result<Answer, String> {
        let url: Url = url.parse().map_err(|_| "its URL is none".to_owned())?;
        let asking = self
            .client
            .request(self.method.clone(), url)
            .headers(self.header.clone())
            .body(self.body.clone());
        let asked = async {
            let mut response = asking.send().await?;
            let code = response.status();
            let mut body = Vec::new();
            while body.len() < BODY_MAX {
                let Some(chunk) = response.chunk().await? else { break };
                body.extend_from_slice(&chunk[..chunk.len().min(BODY_MAX - body.len())]);
            }
            Ok::<_, reqwest::Error>((code, body))
        };
        match timeout(within, asked).await {
            Ok(Ok((code, body))) => Ok(Answer {
                status: match code.as_u16() {
                    200..=299 => Status::Passing,
                    429 => Status::Warning,
                    _ => Status::Critical,
                },
                line: code.to_string(),
                body: String::from_utf8_lossy(&body).into_owned(),
            }),
            Ok(Err(error)) => Err(cause(&error.without_url())),
            Err(_) => Err(format!("slow: no whole answer within {}", duration::format(within))),
        }
    }
}

/// The innermost reason: the outer ones only say that sending failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// A URL without what identifies the asker.
pub(crate) fn shown(url: &str) -> String {
    let Ok(mut parsed) = url.parse::<Url>() else { return "(no URL)".to_owned() };
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.set_query(None);
    parsed.to_string()
}

impl Answer {
    /// The code, and what of the body may be shown.
    pub(crate) fn words(&self) -> String {
        let body = clip(self.body.trim(), SHOWN_MAX);
        if body.is_empty() { self.line.clone() } else { format!("{}: {body}", self.line) }
    }
}

struct HttpProbe {
    url: String,
    asking: Asking,
    contains: Option<String>,
}

impl std::fmt::Debug for HttpProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpProbe").field("asking", &self.asking).finish_non_exhaustive()
    }
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    let url = keys.text("url");
    match &url {
        Some(url) if !(url.value.starts_with("http://") || url.value.starts_with("https://")) => {
            let message = "`url` must begin with http:// or https://".to_owned();
            keys.wrong(&url.span, message, None);
        }
        None if !keys.has("url") => keys.missing("url", "\"http://{ip}:8080/health\""),
        Some(_) | None => {}
    }
    let method = keys.text("method").map_or_else(|| "GET".to_owned(), |method| method.value);
    let lines = keys.texts("headers", HEADERS_MAX).unwrap_or_default();
    let mut header = Vec::new();
    for line in lines {
        match line.value.split_once(':') {
            Some((name, value)) => header.push((name.trim().to_owned(), value.trim().to_owned())),
            None => keys.wrong(
                &line.span,
                "`headers`: a line without a colon".to_owned(),
                Some("write each as \"Name: value\"".to_owned()),
            ),
        }
    }
    let body = keys.text("body").map(|body| body.value).unwrap_or_default();
    let contains = keys.text("contains").map(|text| text.value);
    let any_certificate = keys.boolean("any_certificate").is_some_and(|found| found.value);
    let follow = keys.boolean("follow").is_none_or(|found| found.value);
    let asking = match Asking::new(&method, &header, &body, (any_certificate, follow)) {
        Ok(asking) => asking,
        Err(message) => {
            keys.wrong(&keys.span(), message, None);
            return None;
        }
    };
    Some(Arc::new(HttpProbe { url: url?.value, asking, contains }))
}

#[async_trait]
impl Probe for HttpProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        let url = fill(&self.url, scene);
        let at = shown(&url);
        match self.asking.ask(&url, scene.timeout).await {
            Ok(answer) => {
                let lacking = self.contains.as_ref().filter(|text| !answer.body.contains(*text));
                if let (Status::Passing, Some(text)) = (answer.status, lacking) {
                    let words = format!("{at}: {}, without {text:?} in it", answer.words());
                    return Judged::failing(scene.now, words);
                }
                let output = format!("{at}: {}", answer.words());
                Judged { status: answer.status, output, seen: scene.now }
            }
            Err(why) => Judged::failing(scene.now, format!("{at}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::fixture::Stage;
    use super::*;

    /// A server with one answer for everybody; tells what it was asked last.
    async fn server(answer: &'static str) -> (SocketAddr, tokio::sync::watch::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (tell, told) = tokio::sync::watch::channel(String::new());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 4096];
                let size = stream.read(&mut bytes).await.unwrap_or_default();
                tell.send_replace(String::from_utf8_lossy(&bytes[..size]).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (address, told)
    }

    async fn look(address: SocketAddr, more: &str) -> (Status, String) {
        let stage = Stage { timeout: Duration::from_secs(5), ..Stage::default() };
        let text = format!(
            "[[all]]\nprobe = \"http\"\nurl = \"http://me:hunter2@{address}/up?token=hunter2\"\n{more}"
        );
        let judged = Stage::check(&text).all[0].look(&stage.scene(0)).await;
        assert!(!judged.output.contains("hunter2"), "{}", judged.output);
        (judged.status, judged.output.replace(&address.to_string(), "SERVER"))
    }

    #[tokio::test]
    async fn codes_are_judged() {
        for (answer, status, words) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood",
                Status::Passing,
                "http://SERVER/up: 200 OK: good",
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                Status::Passing,
                "http://SERVER/up: 204 No Content",
            ),
            (
                "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
                Status::Warning,
                "http://SERVER/up: 429 Too Many Requests",
            ),
            (
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nbad",
                Status::Critical,
                "http://SERVER/up: 503 Service Unavailable: bad",
            ),
        ] {
            let (address, _) = server(answer).await;
            assert_eq!(look(address, "").await, (status, words.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_text_can_be_asked_for_and_lines_are_sent() {
        let (address, told) = server("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await;
        let more = "method = \"POST\"\nheaders = [\"X-Who: {service}\"]\nbody = \"are you up\"\n\
                    contains = \"good\"";
        assert_eq!(look(address, more).await.0, Status::Passing);
        let asked = told.borrow().clone();
        assert!(asked.starts_with("POST /up?token=hunter2 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-who: {service}\r\n") && asked.contains("are you up"), "{asked}");
        let (status, output) = look(address, "contains = \"better\"").await;
        assert_eq!(status, Status::Critical);
        assert!(output.ends_with("200 OK: good, without \"better\" in it"), "{output}");
    }

    #[tokio::test]
    async fn nobody_there_and_no_answer_are_critical() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stage = Stage { timeout: Duration::from_millis(200), ..Stage::default() };
        let check = Stage::check(&format!("[[all]]\nprobe = \"http\"\nurl = \"http://{address}\""));
        let judged = check.all[0].look(&stage.scene(0)).await;
        assert_eq!(judged.output, format!("http://{address}/: slow: no whole answer within 200ms"));
        assert_eq!(judged.status, Status::Critical);
        drop(listener);
        let judged = check.all[0].look(&stage.scene(0)).await;
        assert!(judged.output.contains("refused"), "{}", judged.output);
    }

    #[tokio::test]
    async fn a_flood_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            }
        });
        let (status, output) = look(address, "").await;
        assert_eq!(status, Status::Passing);
        assert!(output.len() < SHOWN_MAX + 100 && output.ends_with('…'), "{}", output.len());
    }
}
