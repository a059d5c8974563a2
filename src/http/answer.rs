//! Answers: JSON with Consul's index headers, and errors whose whole body is the message.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sengu_core::consul::Refusal;
use sengu_core::kv::Revision;
use serde::Serialize;

use super::query::Consistency;
use super::signals::note;
use crate::store::StoreError;

/// An error, as Consul's clients read it: a status, and a plain text that they match on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Trouble {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status(), refusal.to_string())
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::new(500, format!("rpc error: {error}"))
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let outcome = format!("refused: {}", self.text);
        let mut response = text(status(self.status), self.text);
        note(&mut response, None, Some(outcome));
        response
    }
}

pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) fn text(status: StatusCode, text: String) -> Response {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(header::CONTENT_TYPE, kind)], text).into_response()
}

pub(crate) fn json(code: StatusCode, value: &impl Serialize, pretty: bool) -> Response {
    let bytes = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    match bytes {
        Ok(bytes) => {
            let kind = HeaderValue::from_static("application/json");
            (code, [(header::CONTENT_TYPE, kind)], Body::from(bytes)).into_response()
        }
        Err(error) => Trouble::new(500, format!("the answer is no JSON: {error}")).into_response(),
    }
}

/// The answer to a write: `true` if it was done.
pub(crate) fn truth(done: bool) -> Response {
    let mut response = json(StatusCode::OK, &done, false);
    if !done {
        note(&mut response, None, Some("not done: the condition did not hold".to_owned()));
    }
    response
}

/// What Consul's clients read from the headers of a read. `index` is never 0 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) index: Revision,
    pub(crate) fresh: bool,
    pub(crate) consistency: Consistency,
}

impl Meta {
    pub(crate) fn on(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        let mut add = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        add("x-consul-index", HeaderValue::from(self.index.max(1)));
        add("x-consul-lastcontact", HeaderValue::from(0));
        add(
            "x-consul-knownleader",
            HeaderValue::from_static(if self.fresh { "true" } else { "false" }),
        );
        add("x-consul-effective-consistency", HeaderValue::from_static(self.consistency.word()));
        add("x-consul-default-acl-policy", HeaderValue::from_static("allow"));
        add("x-consul-query-backend", HeaderValue::from_static("blocking-query"));
        response
    }
}

/// 404, for what no route takes.
pub(crate) async fn unknown_path(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    text(
        StatusCode::NOT_FOUND,
        format!("Invalid URL path: {path} is not a recognized HTTP API endpoint"),
    )
}

/// 405 with `Allow`, which the router adds; `OPTIONS` is answered with it.
pub(crate) async fn wrong_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::OK.into_response();
    }
    text(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} not allowed"))
}
