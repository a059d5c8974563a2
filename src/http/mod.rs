//! The HTTP server: Consul's dialect under `/v1`, and answers for balancers.
//!
//! Reads are views of the newest catalog at the moment of answering; writes are plans that
//! [`crate::core::consul`] makes, done by the store, and answered only once this agent's own
//! catalog has them. Nothing here decides about mastership. Beyond loopback nothing listens without
//! tokens, and takes none in the clear unless the configuration says so; where there are tokens,
//! the operator's verbs are served here, too.

pub(crate) mod access;
mod agent;
pub(crate) mod answer;
mod balancer;
pub(crate) mod body;
mod catalog;
mod check;
mod descriptors;
pub(crate) mod events;
mod kv;
mod pace;
pub(crate) mod query;
pub(crate) mod read;
mod registration;
pub(crate) mod server;
mod session;
pub(crate) mod signals;
mod tls;
mod txn;
pub(crate) mod write;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, put};
use sengu_core::catalog::Catalog;
use sengu_core::consul::directory::Place;
use sengu_core::kv::Revision;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::audit::Audit;
use crate::board::Board;
use crate::config::{Config, HttpConfig, HttpLimits, is_loopback};
use crate::journal::Journal;
use crate::operator;
use crate::probe::{Checks, Registered, Scripts};
use crate::store::Store;
use crate::view::View;
pub use access::{Change, Gate};
use answer::Trouble;
use query::Params;
use server::{Listener, Server};

/// How long a writer waits until this agent's catalog has what it wrote.
const REACH: Duration = Duration::from_secs(5);

/// What the handlers read and write.
pub struct Context {
    /// The newest catalog.
    pub view: Arc<View>,
    /// Where writes go.
    pub store: Arc<dyn Store>,
    /// The last looks at this host's instances.
    pub board: Arc<Board>,
    /// This host, as Consul's clients are told.
    pub place: Place,
    /// How old a look may be that still counts for `/replica`.
    pub look_age: Duration,
    /// The last events of this agent.
    pub journal: Arc<Journal>,
    /// Where changes are written down.
    pub audit: Arc<Audit>,
    /// The checks that clients registered with this agent.
    pub registered: Arc<Registered>,
    /// The checks, where any run.
    pub checks: Option<Arc<Checks>>,
    /// Held while an operator's request is placed: each sees the one before, whichever way it came.
    pub placing: tokio::sync::Mutex<()>,
}

/// What records what happens, beside the servers.
#[derive(Debug, Clone)]
pub struct Recorders {
    /// The last events of this agent.
    pub journal: Arc<Journal>,
    /// Where changes are written down.
    pub audit: Arc<Audit>,
    /// The checks, where any run.
    pub checks: Option<Arc<Checks>>,
}

impl Context {
    /// From the configuration: a look counts for three intervals and a timeout of the slowest
    /// service, and at least for 5 s.
    #[must_use]
    pub fn new(
        config: &Config,
        view: Arc<View>,
        store: Arc<dyn Store>,
        board: Arc<Board>,
        recorders: Recorders,
    ) -> Self {
        let place = Place {
            host: config.host.clone(),
            address: config.address,
            datacenter: config.datacenter.clone(),
            lease: config.lease,
        };
        let scripts = Scripts { files: config.checks.scripts, clients: config.checks.http_scripts };
        let (reads, writes) = (Arc::clone(&view), Arc::clone(&store));
        let registered = Registered::new(reads, writes, place.clone(), scripts);
        let ages = config.services.values().map(|service| service.interval * 3 + service.timeout);
        Self {
            view,
            store,
            board,
            place,
            look_age: ages.max().unwrap_or_default().max(Duration::from_secs(5)),
            journal: recorders.journal,
            audit: recorders.audit,
            registered: Arc::new(registered),
            checks: recorders.checks,
            placing: tokio::sync::Mutex::default(),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Listening there would let other hosts write.
    #[error(
        "http cannot listen on {0}: beyond loopback nothing listens without tokens, and there \
         are none; make one with `sengu token new`, or set http.listen to 127.0.0.1:{port}",
        port = .0.port()
    )]
    BeyondLoopback(SocketAddr),
    /// Tokens would cross the network for all to read.
    #[error(
        "http cannot listen on {0}: tokens would cross the network for all to read; set \
         `certificate` and `key` in [http.tls], or say `plaintext = true` in [http]"
    )]
    InTheClear(SocketAddr),
    /// The system refused.
    #[error("http cannot listen on {address}: {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// A running HTTP server. It goes on when this is dropped; the shutdown future ends it.
#[derive(Debug)]
pub struct HttpServer {
    /// Where it listens, with the ports that were chosen for port 0.
    pub addresses: Vec<SocketAddr>,
    server: Server,
}

impl HttpServer {
    /// Waits until it has ended: all requests were answered, or cut off after the grace time.
    pub async fn ended(self) {
        self.server.ended().await;
    }
}

/// Starts the server; it ends when `shutdown` does, within 2 s. With `agent` it serves the
/// operator's verbs to those with a token.
///
/// # Errors
/// [`HttpError`], before anything listens or serves.
pub async fn serve(
    config: &HttpConfig,
    gate: Arc<Gate>,
    context: Arc<Context>,
    agent: Option<Arc<dyn operator::Agent>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<HttpServer, HttpError> {
    if let Some(beyond) = config.listen.iter().find(|at| !is_loopback(at)) {
        if !gate.has_tokens() {
            return Err(HttpError::BeyondLoopback(*beyond));
        }
        if !gate.has_tls() && !config.plaintext {
            return Err(HttpError::InTheClear(*beyond));
        }
    }
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for address in &config.listen {
        let bind = |error| HttpError::Bind { address: *address, error };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        addresses.push(listener.local_addr().map_err(bind)?);
        let (beyond, gate) = (!is_loopback(address), Arc::clone(&gate));
        listeners.push(Listener::Tcp { listener, beyond, gate });
    }
    let limits = descriptors::within(config.limits);
    let start = |stopping: watch::Receiver<bool>| {
        tokio::spawn(Arc::clone(&gate).follow(stopping.clone()));
        let verbs = agent.map(|agent| {
            let shell = Shell::new(Arc::clone(&context), stopping.clone(), &limits);
            operator::verbs(shell, agent)
        });
        router(Arc::new(Shell::new(context, stopping, &limits)), gate, verbs)
    };
    Ok(HttpServer { addresses, server: Server::start(listeners, start, shutdown, limits) })
}

/// What every handler shares.
pub(crate) struct Shell {
    pub(crate) context: Arc<Context>,
    /// Turns `true` when the server ends: waiting reads answer at once.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Readers of the event stream.
    pub(crate) readers: Arc<AtomicUsize>,
    /// So many of them at most.
    pub(crate) streams: usize,
    /// Seats of reads that wait.
    pub(crate) waits: Semaphore,
    clock: Mutex<ClockSigns>,
}

/// What the clock alone has changed, with an index for it; see [`Shell::clock_signs`].
#[derive(Debug, Default)]
struct ClockSigns {
    last: Option<BTreeMap<String, Sign>>,
}

/// One of [`sengu_core::consul::directory::Directory::signs`], as it was last seen.
#[derive(Debug, Default)]
struct Sign {
    value: String,
    floor: Revision,
    count: u64,
}

impl Shell {
    pub(crate) fn new(
        context: Arc<Context>,
        stopping: watch::Receiver<bool>,
        limits: &HttpLimits,
    ) -> Self {
        Self {
            context,
            stopping,
            readers: Arc::default(),
            streams: limits.streams,
            waits: Semaphore::new(limits.waiting),
            clock: Mutex::default(),
        }
    }

    /// The newest catalog; without one, what Consul says without a leader.
    pub(crate) fn catalog(&self) -> Result<Arc<Catalog>, Trouble> {
        self.context.view.catalog().ok_or_else(|| Trouble::new(500, "No cluster leader"))
    }

    /// A withdrawal by the clock changes answers and no record. It gets the catalog's revision
    /// as its index, which later answers never go below, and a count that wakes readers: those of
    /// the signs that bear on their view, or without such a set of any.
    pub(crate) fn clock_signs(
        &self,
        signs: Vec<(String, String)>,
        revision: Revision,
        bearing: Option<&BTreeSet<String>>,
    ) -> (Revision, u64) {
        let mut clock = self.clock.lock().expect("nothing panics while it holds this");
        let mut old = clock.last.take();
        let mut now = BTreeMap::new();
        for (name, value) in signs {
            let before = old
                .as_mut()
                .and_then(|old| old.remove(&name))
                .unwrap_or_else(|| Sign { value: value.clone(), ..Sign::default() });
            let sign = if before.value == value {
                before
            } else {
                Sign { value, floor: before.floor.max(revision), count: before.count + 1 }
            };
            now.insert(name, sign);
        }
        let seen: Vec<&Sign> = now
            .iter()
            .filter(|(name, _)| bearing.is_none_or(|bearing| bearing.contains(*name)))
            .map(|(_, sign)| sign)
            .collect();
        let floor = seen.iter().map(|sign| sign.floor).max().unwrap_or_default();
        let count = seen.iter().map(|sign| sign.count).sum();
        clock.last = Some(now);
        (floor, count)
    }

    /// Waits until this agent's catalog has a revision, so that the client reads what it wrote.
    pub(crate) async fn reached(&self, revision: Revision) -> Result<(), Trouble> {
        let reached = tokio::time::timeout(REACH, self.context.view.reached(revision));
        reached.await.map_err(|_| {
            Trouble::new(
                500,
                format!(
                    "rpc error: the store answered with revision {revision}, but this agent has \
                     not seen it within {} s",
                    REACH.as_secs()
                ),
            )
        })
    }
}

fn router(shell: Arc<Shell>, gate: Arc<Gate>, verbs: Option<Router>) -> Router {
    let audit = Arc::clone(&shell.context.audit);
    let kv = || get(kv::get).put(kv::put).delete(kv::delete);
    Router::new()
        .route("/v1/kv", kv())
        .route("/v1/kv/", kv())
        .route("/v1/kv/{*key}", kv())
        .route("/v1/catalog/register", put(catalog::register))
        .route("/v1/catalog/deregister", put(catalog::deregister))
        .route("/v1/catalog/datacenters", get(catalog::datacenters))
        .route("/v1/catalog/nodes", get(catalog::nodes))
        .route("/v1/catalog/services", get(catalog::services))
        .route("/v1/catalog/service/", get(catalog::missing_service))
        .route("/v1/catalog/service/{*name}", get(catalog::service))
        .route("/v1/catalog/node/", get(catalog::missing_node))
        .route("/v1/catalog/node/{*name}", get(catalog::node))
        .route("/v1/catalog/node-services/", get(catalog::missing_node))
        .route("/v1/catalog/node-services/{*name}", get(catalog::node_services))
        .route("/v1/health/service/", get(catalog::missing_service))
        .route("/v1/health/service/{*name}", get(catalog::health_service))
        .route("/v1/health/checks/", get(catalog::missing_service))
        .route("/v1/health/checks/{*name}", get(catalog::health_checks))
        .route("/v1/health/node/", get(catalog::missing_node))
        .route("/v1/health/node/{*name}", get(catalog::health_node))
        .route("/v1/health/state/", get(catalog::missing_state))
        .route("/v1/health/state/{*state}", get(catalog::health_state))
        .route("/v1/session/create", put(session::create))
        .route("/v1/session/renew/{id}", put(session::renew))
        .route("/v1/session/destroy/{id}", put(session::destroy))
        .route("/v1/session/info/{id}", get(session::info))
        .route("/v1/session/list", get(session::list))
        .route("/v1/session/node/{node}", get(session::node))
        .route("/v1/txn", put(txn::put))
        .route("/v1/status/leader", get(agent::leader))
        .route("/v1/status/peers", get(agent::peers))
        .route("/v1/agent/self", get(agent::own))
        .route("/v1/agent/members", get(agent::members))
        .route("/v1/agent/version", get(agent::version))
        .route("/master/{service}", get(balancer::master))
        .route("/replica/{service}", get(balancer::replica))
        .route("/check/{name}", get(check::check))
        .route("/health", get(balancer::health))
        .route("/metrics", get(signals::metrics))
        .route("/v1/sengu/events", get(follow))
        .route("/v1/sengu/services", get(catalog::overview))
        .merge(registration::routes())
        .with_state(shell)
        .merge(verbs.unwrap_or_default())
        .fallback(answer::unknown_path)
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(from_fn_with_state(Arc::clone(&gate), access::admit))
        .layer(from_fn_with_state(audit, signals::audited))
        .layer(from_fn_with_state(gate, access::identify))
        .layer(from_fn(signals::count))
}

/// The journal, as a stream.
async fn follow(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Trouble> {
    events::events(&shell, &headers, &Params::of(&uri)?).await
}
