//! What stands around every request: counting it, and writing down who changed what.
//!
//! Both are layers over a router, so that no handler can be forgotten. A handler may leave a
//! [`Note`] on its response, with words that are better than the path alone.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Shell;
use super::access::Caller;
use super::query::Params;
use super::server::{PeerAddress, PeerUser};
use crate::audit::{Audit, Deed, Via, Who};
use crate::{clock, metrics};

/// Lines of the audit about refused strangers at once.
const STRANGERS: u32 = 100;

/// What a handler says of its answer, for the audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Note {
    /// What was asked, in words; else method and path.
    pub(crate) what: Option<String>,
    /// How it ended, in words; else by the status.
    pub(crate) outcome: Option<String>,
}

/// Puts a note on a response; what stands there already stays.
pub(crate) fn note(response: &mut Response, what: Option<String>, outcome: Option<String>) {
    let mut note = response.extensions().get::<Note>().cloned().unwrap_or_default();
    note.what = note.what.or(what);
    note.outcome = note.outcome.or(outcome);
    response.extensions_mut().insert(note);
}

/// Counts requests and how long they took.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    // A read that was asked to wait says nothing about speed, nor does a stream.
    let waits = route.ends_with("/events")
        || Params::of(request.uri()).is_ok_and(|params| params.first("index").is_some());
    let response = next.run(request).await;
    let took = (!waits).then(|| began.elapsed());
    metrics::get().served(method.as_str(), &route, response.status().as_u16(), took);
    response
}

/// Writes down each change that was asked for, with who asked and how it ended.
pub(crate) async fn audited(
    State(audit): State<Arc<Audit>>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let user = request.extensions().get::<PeerUser>().copied();
    let address = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
    let caller = request.extensions().get::<Caller>().cloned();
    let asked = asked(&method, &path, request.uri().query(), request.headers());
    let (at, began) = (clock::wall(), Instant::now());
    let response = next.run(request).await;
    let status = response.status();
    if status.is_success() && sign_of_life(&path) {
        return response;
    }
    let stranger = matches!(caller, Some(Caller::Stranger | Caller::Unknown));
    if stranger && !strangers_have_room() {
        return response;
    }
    let note = response.extensions().get::<Note>().cloned().unwrap_or_default();
    let (via, who) = match user {
        Some(user) => (Via::Socket, Who::user(user.uid, user.pid)),
        None => (Via::Http, who(address, caller.as_ref().and_then(Caller::name))),
    };
    audit.note(Deed {
        at,
        via,
        who,
        what: note.what.unwrap_or(asked),
        good: status.is_success(),
        outcome: note.outcome.unwrap_or_else(|| words(status)),
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    response
}

fn who(address: Option<SocketAddr>, token: Option<&str>) -> Who {
    Who { address, token: token.map(str::to_owned), ..Who::default() }
}

/// Refusals of those who showed no good token are written down, but not so many that they push
/// out what others did: one for each minute and [`STRANGERS`] on top. The metric counts all.
fn strangers_have_room() -> bool {
    static LEFT: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    let mut left = LEFT.lock().expect("nothing panics while it holds this");
    let now = Instant::now();
    let (since, count) = left.get_or_insert((now, STRANGERS));
    let minutes = now.saturating_duration_since(*since).as_secs() / 60;
    if minutes > 0 {
        *since = now;
        *count = count.saturating_add(u32::try_from(minutes).unwrap_or(STRANGERS)).min(STRANGERS);
    }
    let room = *count > 0;
    *count = count.saturating_sub(1);
    room
}

fn words(status: StatusCode) -> String {
    if status.is_success() { "done".to_owned() } else { format!("refused with {status}") }
}

/// Method, path and what of the query changes the meaning; never a token, never a value.
fn asked(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> String {
    let path: String = path.chars().take(512).filter(|c| !c.is_control()).collect();
    let telling = ["cas", "flags", "recurse", "acquire", "release", "enable", "dc"];
    let query: Vec<String> = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| telling.contains(&pair.split('=').next().unwrap_or_default()))
        .map(|pair| pair.chars().take(64).filter(|c| !c.is_control()).collect())
        .collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let size = headers.get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok());
    let size = match size {
        None | Some("0") => String::new(),
        Some(size) => format!(" ({} bytes)", size.chars().take(20).collect::<String>()),
    };
    format!("{method} {path}{query}{size}")
}

/// Said again and again by healthy clients; it changes nothing that anybody would look for.
fn sign_of_life(path: &str) -> bool {
    let repeated = ["pass", "warn", "fail", "update"];
    let check = path.strip_prefix("/v1/agent/check/").and_then(|rest| rest.split('/').next());
    check.is_some_and(|verb| repeated.contains(&verb)) || path.starts_with("/v1/session/renew/")
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(shell): State<Arc<Shell>>) -> Response {
    let context = &shell.context;
    let now = clock::now();
    let scene = metrics::state::Scene {
        catalog: context.view.catalog(),
        board: Arc::clone(&context.board),
        checks: context.checks.as_ref().map(|checks| checks.snapshot(now)).unwrap_or_default(),
        host: context.place.host.to_string(),
        lease: context.place.lease,
    };
    let text = metrics::text(&metrics::state::registry(&scene, now));
    let kind = axum::http::HeaderValue::from_static(metrics::CONTENT_TYPE);
    axum::response::IntoResponse::into_response(([(header::CONTENT_TYPE, kind)], text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_has_no_secrets() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "12".parse().expect("a value"));
        headers.insert("x-consul-token", "hunter2".parse().expect("a value"));
        let told = asked(&Method::PUT, "/v1/kv/a", Some("token=hunter2&cas=3&x=y"), &headers);
        assert_eq!(told, "PUT /v1/kv/a?cas=3 (12 bytes)");
        assert_eq!(asked(&Method::DELETE, "/x", None, &HeaderMap::new()), "DELETE /x");
    }

    #[test]
    fn signs_of_life_are_not_written_down() {
        assert!(sign_of_life("/v1/agent/check/pass/service:a"));
        assert!(sign_of_life("/v1/session/renew/x"));
        assert!(!sign_of_life("/v1/agent/check/register"));
        assert!(!sign_of_life("/v1/session/create"));
    }
}
