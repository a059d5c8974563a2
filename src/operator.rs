//! The operator's verbs, on a unix socket that only root may use, and over HTTP with a token.
//!
//! What changes a service is written as a request record, which the agents act on; nothing here
//! decides. Who asked is taken from the socket's peer, not from what the client says. Errors are
//! `{"error": "…"}`, in words for the operator.

mod peer;
mod records;
mod request;
mod socket;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use sengu_core::catalog::Catalog;
use sengu_core::consul::Found;
use sengu_core::explain::Explanation;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::{Ask, RequestRecord};
use sengu_core::report::{ServiceReport, TermReport};
use sengu_core::time::Now;
use serde_json::json;

use crate::agent::Flaw;
use crate::clock;
use crate::config::HttpLimits;
use crate::guard::Standing;
use crate::http::access::Caller;
use crate::http::answer::{self, Trouble};
use crate::http::query::Params;
use crate::http::read::{Topic, read};
use crate::http::server::{Listener, PeerUser, Server};
use crate::http::{Context, Shell, body, events, signals, write};
use crate::template::TemplateStatus;
use peer::{User, admitted};
pub use records::Records;
pub use request::{Asking, Placed, Rehearsed, Tracked};
pub use socket::SocketError;

/// The name of a user id on this host, if it has one.
#[must_use]
pub(crate) fn user_name(uid: u32) -> Option<String> {
    peer::name_of(uid)
}

/// How many terms of history are answered by default, and at most.
const HISTORY_DEFAULT: u64 = 20;
const HISTORY_MAX: u64 = 1000;

/// How long a request waits for the first look at a service that the agent has just learnt of.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How often a txn is planned again because the service changed meanwhile.
const ATTEMPTS: u32 = 4;

/// What the socket asks of the running agent.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// All services, in the words of `status`.
    async fn reports(&self, now: Now) -> Vec<ServiceReport>;

    /// One service, in the words of `status`; `None` if it is not known.
    async fn report(&self, service: &ServiceName, now: Now) -> Option<ServiceReport>;

    /// Everything about one service, with a rehearsal of what would happen next; `None` if it is
    /// not known.
    async fn explain(&self, service: &ServiceName, now: Now) -> Option<Explanation>;

    /// Whom a switchover would move to if it were asked for now. Nothing is written.
    ///
    /// # Errors
    /// Why it would be refused.
    async fn would_switch(
        &self,
        service: &ServiceName,
        to: Option<&InstanceName>,
    ) -> Result<InstanceName, String>;

    /// Reads the configuration again and tells what changed.
    ///
    /// # Errors
    /// Why it was refused; the old configuration stays.
    async fn reload(&self) -> Result<String, String>;

    /// Every check with its last result.
    async fn checks(&self) -> serde_json::Value;

    /// Every rendered file of this host, as it stands.
    async fn templates(&self) -> Vec<TemplateStatus>;

    /// Whether a guard should run beside the agent, and does.
    async fn guard(&self) -> Standing;

    /// The members of etcd whose release has a known defect.
    async fn flaws(&self) -> Vec<Flaw>;
}

/// A running server on the socket. It goes on when this is dropped; the shutdown future ends it.
#[derive(Debug)]
pub struct OperatorServer {
    /// Where it listens.
    pub path: PathBuf,
    server: Server,
    inode: u64,
}

impl OperatorServer {
    /// Waits until it has ended, and removes the socket.
    pub async fn ended(self) {
        self.server.ended().await;
        socket::remove(&self.path, self.inode);
    }
}

/// Starts the server; it ends when `shutdown` does, within 2 s.
///
/// # Errors
/// [`SocketError`]: the socket cannot be made, or another agent answers on it.
pub async fn serve(
    path: &Path,
    context: Arc<Context>,
    agent: Arc<dyn Agent>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<OperatorServer, SocketError> {
    let (listener, inode) = socket::bind(path).await?;
    let limits = HttpLimits { connections: 64, waiting: 48, streams: 64, ..HttpLimits::default() };
    let start = |stopping| {
        let shell = Shell::new(context, stopping, &limits);
        router(Arc::new(Desk { shell, agent }))
    };
    let server = Server::start(vec![Listener::Unix(listener)], start, shutdown, limits);
    Ok(OperatorServer { path: path.to_owned(), server, inode })
}

/// What the handlers share.
struct Desk {
    shell: Shell,
    agent: Arc<dyn Agent>,
}

/// The same verbs for the HTTP server, which has layers of its own around them: only callers with
/// a token come here.
pub(crate) fn verbs(shell: Shell, agent: Arc<dyn Agent>) -> Router {
    routes().layer(from_fn(signed)).with_state(Arc::new(Desk { shell, agent }))
}

/// Puts the name of the token where the socket has that of the user.
async fn signed(mut request: Request, next: Next) -> Response {
    let name = request.extensions().get::<Caller>().and_then(Caller::name);
    let Some(user) = name.map(|name| User(format!("token {name}"))) else {
        return Denied(Trouble::new(403, "Permission denied")).into_response();
    };
    request.extensions_mut().insert(user);
    next.run(request).await
}

fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/v1/sengu/status", get(status))
        .route("/v1/sengu/explain/{service}", get(explain))
        .route("/v1/sengu/history/{service}", get(history))
        .route("/v1/sengu/request/{service}", post(place))
        .route("/v1/sengu/request/{service}/{id}", get(track).delete(remove))
        .route("/v1/sengu/records", get(records))
        .route("/v1/sengu/checks", get(checks))
        .route("/v1/sengu/templates", get(templates))
        .route("/v1/sengu/guard", get(guard))
        .route("/v1/sengu/etcd", get(flaws))
        .route("/v1/sengu/reload", post(reload))
}

fn router(desk: Arc<Desk>) -> Router {
    let audit = Arc::clone(&desk.shell.context.audit);
    routes()
        .route("/v1/sengu/events", get(events))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(admit))
        .layer(from_fn_with_state(audit, signals::audited))
        .layer(from_fn(signals::count))
        .with_state(desk)
}

/// An error as JSON.
struct Denied(Trouble);

impl From<Trouble> for Denied {
    fn from(trouble: Trouble) -> Self {
        Self(trouble)
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let error = json!({ "error": self.0.text });
        let mut response = answer::json(answer::status(self.0.status), &error, false);
        signals::note(&mut response, None, Some(format!("refused: {}", self.0.text)));
        response
    }
}

type Reply = Result<Response, Denied>;

fn good(value: &impl serde::Serialize) -> Response {
    answer::json(StatusCode::OK, value, false)
}

async fn admit(mut request: Request, next: Next) -> Response {
    let own = rustix::process::geteuid().as_raw();
    let peer = request.extensions().get::<PeerUser>().copied();
    match admitted(peer, own) {
        Ok(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Err(trouble) => Denied(trouble).into_response(),
    }
}

async fn unknown_path(uri: Uri) -> Denied {
    let path: String = uri.path().chars().take(200).collect();
    Denied(Trouble::new(404, format!("{path} is none of the operator's verbs")))
}

async fn wrong_method(method: axum::http::Method, uri: Uri) -> Denied {
    let path: String = uri.path().chars().take(200).collect();
    Denied(Trouble::new(405, format!("method {method} is not for {path}")))
}

fn service_of(text: &str) -> Result<ServiceName, Denied> {
    ServiceName::new(text).map_err(|error| Denied(Trouble::bad(error.to_string())))
}

fn unknown_service(catalog: Option<&Catalog>, service: &ServiceName) -> Denied {
    let names: Vec<&str> = catalog
        .into_iter()
        .flat_map(Catalog::services)
        .map(|(name, _)| name.as_str())
        .take(50)
        .collect();
    let known = if names.is_empty() {
        "none is known yet".to_owned()
    } else {
        format!("known are: {}", names.join(", "))
    };
    Denied(Trouble::new(404, format!("no service {service}; {known}")))
}

async fn status(State(desk): State<Arc<Desk>>) -> Response {
    good(&desk.agent.reports(clock::now()).await)
}

async fn explain(State(desk): State<Arc<Desk>>, UrlPath(service): UrlPath<String>) -> Reply {
    let service = service_of(&service)?;
    match desk.agent.explain(&service, clock::now()).await {
        Some(told) => Ok(good(&told)),
        None => Err(unknown_service(desk.shell.context.view.catalog().as_deref(), &service)),
    }
}

async fn history(
    State(desk): State<Arc<Desk>>,
    UrlPath(service): UrlPath<String>,
    uri: Uri,
) -> Reply {
    let service = service_of(&service)?;
    let params = Params::of(&uri)?;
    let limit = params.number("limit")?.unwrap_or(HISTORY_DEFAULT).min(HISTORY_MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let run = |directory: &sengu_core::consul::directory::Directory<'_>| {
        let view = directory.catalog().service(&service);
        let index = view.into_iter().flat_map(|view| view.history.values()).map(|at| at.revision);
        let index = index.max().unwrap_or(1);
        let body = view.map(|view| {
            let newest = view.history.iter().rev().take(limit);
            newest.map(|(term, at)| TermReport::of(view, *term, &at.record)).collect::<Vec<_>>()
        });
        Found { index, body }
    };
    let (terms, meta) = read(&desk.shell, &params, Topic::History, run).await?;
    match terms {
        Some(terms) => Ok(meta.on(good(&terms))),
        None => Err(unknown_service(desk.shell.context.view.catalog().as_deref(), &service)),
    }
}

async fn place(
    State(desk): State<Arc<Desk>>,
    UrlPath(service): UrlPath<String>,
    Extension(User(user)): Extension<User>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let service = service_of(&service)?;
    let bytes = body::read(&headers, body).await?;
    let asking: Asking = serde_json::from_slice(&bytes)
        .map_err(|error| Trouble::bad(format!("the request cannot be read: {error}")))?;
    let by = request::asker(&asking.by, &user, &desk.shell.context.place.host)?;
    let _turn = desk.shell.context.placing.lock().await;
    for _ in 0..ATTEMPTS {
        let catalog = known(&desk, &service).await?;
        let now = clock::now();
        if let Some((id, revision)) = request::same(&catalog, &service, &asking.ask, now.wall) {
            let mut response = good(&Placed { id: id.to_owned(), revision });
            let what = format!("{} of {service} by {by}", request::word(&asking.ask));
            signals::note(&mut response, Some(what), Some(format!("joins {id}")));
            return Ok(response);
        }
        let id = request::id(&asking.ask, now.wall);
        let draft = request::place(&catalog, &service, &asking, &by, id, now.wall)?;
        if asking.dry_run {
            let Ask::Switchover { to } = &asking.ask else {
                return Err(Denied(Trouble::bad("only a switchover can be asked for dry")));
            };
            let target = desk.agent.would_switch(&service, to.as_ref()).await;
            return Ok(good(&Rehearsed::of(service, target)));
        }
        drop(catalog);
        let reply = write::send(&desk.shell, draft.txn).await?;
        desk.shell.reached(reply.revision).await?;
        if reply.succeeded {
            let placed = Placed { id: draft.id, revision: reply.revision };
            let mut response = good(&placed);
            let what =
                format!("{} of {service} by {}", request::word(&asking.ask), draft.record.asker());
            signals::note(&mut response, Some(what), Some(format!("asked as {}", placed.id)));
            return Ok(response);
        }
    }
    Err(busy(&service))
}

/// The catalog, once it has the service. One of the configuration gets there with the first look
/// at its instances, which is waited for: a fresh agent refuses nobody for being fresh.
async fn known(desk: &Desk, service: &ServiceName) -> Result<Arc<Catalog>, Denied> {
    let mut bell = desk.shell.context.view.bell();
    let looked = async {
        loop {
            bell.mark_unchanged();
            let catalog = desk.shell.catalog()?;
            if catalog.service(service).is_some() {
                return Ok(catalog);
            }
            if desk.agent.report(service, clock::now()).await.is_none() {
                return Err(unknown_service(Some(&catalog), service));
            }
            if bell.changed().await.is_err() {
                return Err(unknown_service(Some(&catalog), service));
            }
        }
    };
    let late = || {
        Denied(Trouble::new(503, format!("no instance of {service} was looked at yet; try again")))
    };
    tokio::time::timeout(FIRST_LOOK, looked).await.unwrap_or_else(|_| Err(late()))
}

fn busy(service: &ServiceName) -> Denied {
    Denied(Trouble::new(
        409,
        format!("{service} changes faster than this could be written; look and try again"),
    ))
}

async fn remove(
    State(desk): State<Arc<Desk>>,
    UrlPath((service, id)): UrlPath<(String, String)>,
) -> Reply {
    let service = service_of(&service)?;
    let _turn = desk.shell.context.placing.lock().await;
    for _ in 0..ATTEMPTS {
        let catalog = desk.shell.catalog()?;
        if catalog.service(&service).is_none() {
            return Err(unknown_service(Some(&catalog), &service));
        }
        let txn = request::remove(&catalog, &service, &id)?;
        drop(catalog);
        let reply = write::send(&desk.shell, txn).await?;
        desk.shell.reached(reply.revision).await?;
        if reply.succeeded {
            return Ok(good(&Placed { id, revision: reply.revision }));
        }
    }
    Err(busy(&service))
}

async fn track(
    State(desk): State<Arc<Desk>>,
    UrlPath((service, id)): UrlPath<(String, String)>,
    uri: Uri,
) -> Reply {
    let service = service_of(&service)?;
    let params = Params::of(&uri)?;
    let run = |directory: &sengu_core::consul::directory::Directory<'_>| {
        let catalog = directory.catalog();
        let at = catalog.service(&service).and_then(|view| view.requests.get(&id));
        let index = at.map_or_else(|| catalog.changed("requests"), |at| at.revision);
        Found { index, body: at.map(|at| at.record.clone()) }
    };
    let (found, meta): (Option<RequestRecord>, _) =
        read(&desk.shell, &params, Topic::Requests, run).await?;
    let Some(request) = found else {
        return Err(Denied(Trouble::new(404, format!("{service} has no request {id}"))));
    };
    Ok(meta.on(good(&Tracked { id, index: meta.index, request })))
}

/// Every record but KV values, so that a command can make the agent's picture.
async fn records(State(desk): State<Arc<Desk>>) -> Reply {
    let catalog = desk.shell.catalog()?;
    Ok(good(&Records::of(&catalog, clock::time())))
}

async fn checks(State(desk): State<Arc<Desk>>) -> Response {
    good(&desk.agent.checks().await)
}

async fn templates(State(desk): State<Arc<Desk>>) -> Response {
    good(&desk.agent.templates().await)
}

async fn guard(State(desk): State<Arc<Desk>>) -> Response {
    good(&desk.agent.guard().await)
}

async fn flaws(State(desk): State<Arc<Desk>>) -> Response {
    good(&desk.agent.flaws().await)
}

/// The journal: what changes, what the agent decides and does.
async fn events(State(desk): State<Arc<Desk>>, headers: HeaderMap, uri: Uri) -> Reply {
    Ok(events::events(&desk.shell, &headers, &Params::of(&uri)?).await?)
}

async fn reload(State(desk): State<Arc<Desk>>) -> Reply {
    match desk.agent.reload().await {
        Ok(changes) => {
            let mut response = good(&json!({ "changes": changes }));
            let lines: Vec<&str> = changes.lines().take(20).collect();
            signals::note(&mut response, Some("reload".to_owned()), Some(lines.join("; ")));
            Ok(response)
        }
        Err(reason) => Err(Denied(Trouble::new(422, reason))),
    }
}
