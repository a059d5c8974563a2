//! Who is let in, and for what: tokens, the rules around them, and TLS, as the configuration has
//! them now.
//!
//! Two layers of the router use it. [`identify`] finds out who asks, before anything is written
//! down; [`admit`] refuses what the caller may not do, in Consul's words. A path that is not
//! known asks for a token like any other: a stranger learns nothing. A token is hashed as soon as
//! it is read, and compared with every hash that there is, each in the same time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustls::ServerConfig;

use super::answer::Trouble;
use super::query::Params;
use super::server::PeerAddress;
use super::tls::{self, Bytes, Loaded};
use crate::config::{HttpConfig, HttpTls, TokenConfig};
use crate::metrics;
use crate::token::{self, Hash, Scope};

/// How often the files of TLS are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate that ends within this is warned of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The bearer of a token.
    Known(Arc<str>, Scope),
    /// Somebody on this host who needs none.
    Local,
    /// Somebody without a token, who needs one.
    Stranger,
    /// Somebody with a token that there is not.
    Unknown,
}

impl Caller {
    /// What it may do; health answers apart.
    fn scope(&self) -> Option<Scope> {
        match self {
            Self::Known(_, scope) => Some(*scope),
            Self::Local => Some(Scope::Write),
            Self::Stranger | Self::Unknown => None,
        }
    }

    /// The name of its token.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Known(name, _) => Some(name),
            Self::Local | Self::Stranger | Self::Unknown => None,
        }
    }

    /// May it have programs run on this host, where the configuration lets clients do that?
    pub(crate) fn runs_programs(&self) -> bool {
        matches!(self, Self::Local | Self::Known(_, Scope::Operate))
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing, if the configuration leaves health answers open.
    Health,
    /// This scope, or none on this host where there are no tokens.
    Scope(Scope),
    /// This scope, and a token in any case: what else only the socket takes.
    Token(Scope),
}

fn need(method: &Method, route: &str) -> Need {
    let looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let scope = if looks { Scope::Read } else { Scope::Write };
    match route {
        "/health" | "/master/{service}" | "/replica/{service}" | "/check/{name}" if looks => {
            Need::Health
        }
        "/v1/sengu/events" | "/v1/sengu/services" => Need::Scope(scope),
        // Every record as it stands, for a picture of one's own.
        "/v1/sengu/records" => Need::Token(Scope::Operate),
        route if route.starts_with("/v1/sengu/") => {
            Need::Token(if looks { Scope::Read } else { Scope::Operate })
        }
        _ => Need::Scope(scope),
    }
}

/// Tokens, and what goes without.
#[derive(Debug)]
struct Rules {
    tokens: Vec<(Arc<str>, Scope, Hash)>,
    health_without_token: bool,
    loopback_without_token: bool,
}

impl Rules {
    fn of(http: &HttpConfig, tokens: &BTreeMap<String, TokenConfig>) -> Self {
        let tokens = tokens.iter().flat_map(|(name, token)| {
            let name: Arc<str> = name.as_str().into();
            token.hashes.iter().map(move |hash| (Arc::clone(&name), token.scope, *hash))
        });
        Self {
            tokens: tokens.collect(),
            health_without_token: http.health_without_token,
            loopback_without_token: http.loopback_without_token,
        }
    }

    fn caller(&self, presented: Option<&str>, peer: Option<SocketAddr>) -> Caller {
        if self.tokens.is_empty() {
            return Caller::Local;
        }
        let here = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        match presented {
            Some(text) => self.bearer(text),
            None if self.loopback_without_token && here => Caller::Local,
            None => Caller::Stranger,
        }
    }

    /// Compares with every one, found or not.
    fn bearer(&self, text: &str) -> Caller {
        if text.len() > token::LONGEST {
            return Caller::Unknown;
        }
        let hash = Hash::of(text);
        let mut found = Caller::Unknown;
        for (name, scope, known) in &self.tokens {
            if bool::from(known.matches(&hash)) {
                found = Caller::Known(Arc::clone(name), *scope);
            }
        }
        found
    }
}

/// The rules and the certificates in force.
pub struct Gate {
    rules: ArcSwap<Rules>,
    files: Mutex<Option<HttpTls>>,
    loaded: ArcSwapOption<Loaded>,
    /// What was read last and could not be used, so that it is told once.
    refused: Mutex<Option<Result<Bytes, String>>>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// What a [`Gate`] changes to; everything in it was checked.
pub struct Change {
    rules: Rules,
    files: Option<HttpTls>,
    loaded: Option<Loaded>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Gate {
    /// As the configuration has it.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub fn new(http: &HttpConfig, tokens: &BTreeMap<String, TokenConfig>) -> Result<Self, String> {
        let gate = Self {
            rules: ArcSwap::from_pointee(Rules::of(&HttpConfig::default(), &BTreeMap::new())),
            files: Mutex::default(),
            loaded: ArcSwapOption::empty(),
            refused: Mutex::default(),
        };
        gate.change(Self::prepare(http, tokens)?);
        Ok(gate)
    }

    /// Reads what another configuration needs; nothing changes yet.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub fn prepare(
        http: &HttpConfig,
        tokens: &BTreeMap<String, TokenConfig>,
    ) -> Result<Change, String> {
        let load = |files: &HttpTls| tls::load(files, Bytes::read(files)?);
        let loaded = http.tls.as_ref().map(load).transpose()?;
        Ok(Change { rules: Rules::of(http, tokens), files: http.tls.clone(), loaded })
    }

    /// Takes that over, and tells if the certificate is another. Open connections go on.
    pub fn change(&self, change: Change) -> Option<String> {
        self.rules.store(Arc::new(change.rules));
        let mut files = self.files.lock().expect("nothing panics while it holds this");
        *files = change.files;
        *self.refused.lock().expect("nothing panics while it holds this") = None;
        let before = self.loaded.swap(change.loaded.map(Arc::new));
        let now = self.loaded.load_full()?;
        let same = before.as_ref().is_some_and(|before| before.bytes == now.bytes);
        tell_end(&now);
        (!same).then(|| format!("the certificate is valid until {}", tls::day(now.until)))
    }

    /// Until when the certificate is valid, for people.
    #[must_use]
    pub fn valid_until(&self) -> Option<String> {
        self.loaded.load().as_ref().map(|loaded| tls::day(loaded.until))
    }

    /// Does the certificate end within two weeks?
    #[must_use]
    pub fn ends_soon(&self) -> bool {
        self.loaded.load().as_ref().is_some_and(|loaded| ends_soon(loaded))
    }

    /// Are there any tokens?
    pub(super) fn has_tokens(&self) -> bool {
        !self.rules.load().tokens.is_empty()
    }

    /// Is there a certificate?
    pub(super) fn has_tls(&self) -> bool {
        self.loaded.load().is_some()
    }

    /// What a connection to such a listener is accepted with; `None`: without TLS.
    pub(super) fn tls(&self, beyond: bool) -> Option<Arc<ServerConfig>> {
        let loaded = self.loaded.load_full()?;
        let everywhere = || {
            let files = self.files.lock().expect("nothing panics while it holds this");
            files.as_ref().is_some_and(|files| files.loopback)
        };
        (beyond || everywhere()).then(|| Arc::clone(&loaded.server))
    }

    /// Follows the files of TLS until the server ends.
    pub(super) async fn follow(self: Arc<Self>, mut stopping: tokio::sync::watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = super::server::stopped(&mut stopping) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let gate = Arc::clone(&self);
            // Files may stand on what hangs; and no request waits for that.
            let looked = tokio::task::spawn_blocking(move || gate.look());
            if let Err(error) = looked.await {
                tracing::error!("the look at the certificates broke: {error}");
            }
        }
    }

    /// Reads the files, and takes over what changed and is good.
    pub(super) fn look(&self) {
        let files = self.files.lock().expect("nothing panics while it holds this").clone();
        let (Some(files), Some(loaded)) = (files, self.loaded.load_full()) else { return };
        let read = Bytes::read(&files);
        if read.as_ref().is_ok_and(|bytes| *bytes == loaded.bytes) {
            return;
        }
        let mut refused = self.refused.lock().expect("nothing panics while it holds this");
        if refused.as_ref() == Some(&read) {
            return;
        }
        match read.clone().and_then(|bytes| tls::load(&files, bytes)) {
            Ok(fresh) => {
                let now = self.files.lock().expect("nothing panics while it holds this");
                if now.as_ref() != Some(&files) {
                    // A reload named others meanwhile.
                    return;
                }
                tracing::info!(until = %tls::day(fresh.until), "http has a new certificate");
                tell_end(&fresh);
                self.loaded.store(Some(Arc::new(fresh)));
                *refused = None;
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    until = %tls::day(loaded.until),
                    "the changed certificate cannot be used; http goes on with the one before"
                );
                *refused = Some(read);
            }
        }
    }
}

/// Puts the certificate's end where monitoring sees it.
fn tell_end(loaded: &Loaded) {
    let until = i64::try_from(loaded.until).unwrap_or(i64::MAX);
    metrics::get().http_certificate_until.set(until);
    if ends_soon(loaded) {
        tracing::warn!(until = %tls::day(loaded.until), "the certificate of http ends soon");
    }
}

fn ends_soon(loaded: &Loaded) -> bool {
    let now = u64::try_from(crate::clock::wall().0 / 1000).unwrap_or_default();
    loaded.until.saturating_sub(now) < SOON.as_secs()
}

/// The token that a request shows: as Consul reads it, the parameter before the headers. An empty
/// one is none.
fn presented(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let parameter = || {
        let params = Params::of(uri).ok()?;
        params.first("token").map(str::to_owned).filter(|text| !text.is_empty())
    };
    let plain = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = || {
        let (kind, text) = plain(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        kind.eq_ignore_ascii_case("bearer").then(|| text.trim().to_owned())
    };
    let token = || plain("x-consul-token").map(|text| text.trim().to_owned());
    let filled = |text: &String| !text.is_empty();
    parameter().or_else(|| token().filter(filled)).or_else(|| bearer().filter(filled))
}

/// Finds out who asks; the outermost of the two layers.
pub(super) async fn identify(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
    let rules = gate.rules.load_full();
    let shown =
        if rules.tokens.is_empty() { None } else { presented(request.uri(), request.headers()) };
    let caller = rules.caller(shown.as_deref(), peer);
    let denies = caller != Caller::Local;
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    if denies && let Some(policy) = response.headers_mut().get_mut("x-consul-default-acl-policy") {
        *policy = HeaderValue::from_static("deny");
    }
    response
}

/// Refuses what the caller may not do.
pub(super) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let need = need(request.method(), route);
    let open = gate.rules.load().health_without_token;
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger);
    match refusal(&caller, need, open) {
        None => next.run(request).await,
        Some((reason, words)) => {
            metrics::get().http_refused.get_or_create(&[("reason", reason)]).inc();
            Trouble::new(403, words).into_response()
        }
    }
}

/// Why a caller may not, if so: a word for the metric, and what it is told.
fn refusal(caller: &Caller, need: Need, open: bool) -> Option<(&'static str, String)> {
    let (scope, named) = match need {
        Need::Health if open => return None,
        Need::Health => (Scope::Read, false),
        Need::Scope(scope) => (scope, false),
        Need::Token(scope) => (scope, true),
    };
    if named && *caller == Caller::Local {
        let words = format!(
            "Permission denied: over HTTP this needs a token with scope {scope}; on its own host \
             the agent's socket takes it"
        );
        return Some(("token", words));
    }
    match (caller, caller.scope()) {
        (_, Some(has)) if has >= scope => None,
        (Caller::Known(name, has), _) => Some((
            "scope",
            format!("Permission denied: token {name} has scope {has}, and this needs {scope}"),
        )),
        (Caller::Unknown, _) => Some(("token", "ACL not found".to_owned())),
        (Caller::Local | Caller::Stranger, _) => Some((
            "token",
            format!(
                "Permission denied: this needs a token with scope {scope}, as `X-Consul-Token` or \
                 `Authorization: Bearer`"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_consul_reads_them() {
        let read = |path: &str, pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().expect("a value"));
            }
            presented(&path.parse().expect("a path"), &headers)
        };
        assert_eq!(read("/", &[]), None);
        assert_eq!(read("/?token=a&x=1", &[("x-consul-token", "b")]).as_deref(), Some("a"));
        assert_eq!(read("/?token=", &[("x-consul-token", "b")]).as_deref(), Some("b"));
        assert_eq!(read("/", &[("authorization", "bearer  c")]).as_deref(), Some("c"));
        assert_eq!(
            read("/", &[("x-consul-token", ""), ("authorization", "Bearer d")]).as_deref(),
            Some("d")
        );
        assert_eq!(read("/", &[("authorization", "Basic d")]), None);
        assert_eq!(read("/", &[("authorization", "Bearer ")]), None);
    }

    #[test]
    fn every_route_needs_what_it_does() {
        let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
        for (method, route, want) in [
            (&get, "/health", Need::Health),
            (&put, "/health", Need::Scope(Scope::Write)),
            (&get, "/check/{name}", Need::Health),
            (&get, "/metrics", Need::Scope(Scope::Read)),
            (&get, "", Need::Scope(Scope::Read)),
            (&put, "", Need::Scope(Scope::Write)),
            (&put, "/v1/txn", Need::Scope(Scope::Write)),
            (&get, "/v1/sengu/events", Need::Scope(Scope::Read)),
            (&get, "/v1/sengu/status", Need::Token(Scope::Read)),
            (&get, "/v1/sengu/records", Need::Token(Scope::Operate)),
            (&post, "/v1/sengu/reload", Need::Token(Scope::Operate)),
            (&Method::DELETE, "/v1/sengu/request/{service}/{id}", Need::Token(Scope::Operate)),
        ] {
            assert_eq!(need(method, route), want, "{method} {route}");
        }
    }
}
