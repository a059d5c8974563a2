//! Accepting and serving connections, over TCP and unix sockets.
//!
//! Not axum's own loop: that one sets no timer, so a client that sends its header slowly would
//! hold its connection for ever, and it takes any number of connections. Here each has a seat, of
//! which there are so many in all and for each address; a TLS handshake is made in the
//! connection's own task, within the header's time; and `pace.rs` cuts off who is slow.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::access::Gate;
use super::answer;
use super::pace::{self, Pace, Paced};
use crate::config::HttpLimits;
use crate::crowd::{Crowd, Origin, Rates};
use crate::metrics;

/// How long requests may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(2);

/// So many clients beyond the cap are told so; others are just closed.
const REFUSALS: usize = 64;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
    content-length: 48\r\nconnection: close\r\n\r\n\
    this agent has too many open connections already";

const CROWDED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain\r\n\
    content-length: 50\r\nconnection: close\r\n\r\n\
    your address has too many open connections already";

/// Who is at the other end of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerUser {
    pub(crate) uid: u32,
    pub(crate) pid: Option<i32>,
}

/// Who is at the other end of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Listener {
    /// With what decides whether TLS is spoken there.
    Tcp { listener: TcpListener, beyond: bool, gate: Arc<Gate> },
    /// For this host's root.
    Unix(UnixListener),
}

enum Connection {
    Tcp(TcpStream, PeerAddress, Option<TlsAcceptor>),
    Unix(UnixStream, PeerUser),
}

impl Listener {
    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp { listener, beyond, gate } => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // A host that says nothing any more is gone, whatever it was sent.
                socket2::SockRef::from(&stream)
                    .set_tcp_user_timeout(Some(Duration::from_secs(60)))?;
                let tls = gate.tls(*beyond).map(TlsAcceptor::from);
                Ok(Connection::Tcp(stream, PeerAddress(peer), tls))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let user = PeerUser { uid: peer.uid(), pid: peer.pid() };
                Ok(Connection::Unix(stream, user))
            }
        }
    }
}

/// Running accept loops.
#[derive(Debug)]
pub(crate) struct Server {
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a loop for each listener. `router` is given what turns `true` at the end.
    pub(crate) fn start(
        listeners: Vec<Listener>,
        router: impl FnOnce(watch::Receiver<bool>) -> Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
        limits: HttpLimits,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let router = router(stopping.clone());
        let doors = Arc::new(Doors {
            seats: Arc::new(Semaphore::new(limits.connections)),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            crowd: Arc::default(),
            rates: Rates::new(limits.requests_per_second),
            router,
            limits,
            stopping,
        });
        let accept = |listener| tokio::spawn(Arc::clone(&doors).accept(listener));
        let mut tasks: Vec<JoinHandle<()>> = listeners.into_iter().map(accept).collect();
        tasks.push(tokio::spawn(async move {
            shutdown.await;
            stop.send_replace(true);
        }));
        Self { tasks }
    }

    pub(crate) async fn ended(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!("an http loop broke: {error}");
            }
        }
    }
}

/// What the accept loops share.
struct Doors {
    seats: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    crowd: Arc<Crowd>,
    rates: Rates,
    router: Router,
    limits: HttpLimits,
    stopping: watch::Receiver<bool>,
}

impl Doors {
    async fn accept(self: Arc<Self>, listener: Listener) {
        let mut stopping = self.stopping.clone();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = stopped(&mut stopping) => break,
            };
            let connection = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    // Out of file descriptors, mostly: others must end first.
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            connections.spawn(Arc::clone(&self).connection(connection));
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            connections.shutdown().await;
        }
    }

    async fn connection(self: Arc<Self>, connection: Connection) {
        let Ok(_seat) = Arc::clone(&self.seats).try_acquire_owned() else {
            refused("connections");
            return match connection {
                Connection::Tcp(stream, _, None) => self.turn_away(stream, FULL).await,
                // Before the handshake nothing can be said.
                Connection::Tcp(_, _, Some(_)) => {}
                Connection::Unix(stream, _) => self.turn_away(stream, FULL).await,
            };
        };
        let _open = Open::begin();
        match connection {
            Connection::Unix(stream, user) => self.talk(stream, user, None).await,
            Connection::Tcp(stream, peer, tls) => {
                let origin = Origin::of(peer.0.ip());
                let most = self.limits.connections_per_address;
                let Some(_place) = self.crowd.enter(origin, most) else {
                    refused("address");
                    if tls.is_none() {
                        self.turn_away(stream, CROWDED).await;
                    }
                    return;
                };
                match tls {
                    None => self.talk(stream, peer, origin).await,
                    Some(tls) => {
                        let shaken = tokio::time::timeout(self.limits.header, tls.accept(stream));
                        match shaken.await {
                            Ok(Ok(stream)) => self.talk(stream, peer, origin).await,
                            Ok(Err(error)) => {
                                refused("tls");
                                tracing::debug!(peer = %peer.0, "no tls: {error}");
                            }
                            Err(_) => {
                                metrics::get().http_cut.get_or_create(&[("reason", "tls")]).inc();
                            }
                        }
                    }
                }
            }
        }
    }

    async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, words: &[u8]) {
        if let Ok(_refusal) = Arc::clone(&self.refusals).try_acquire_owned() {
            refuse(stream, words).await;
        }
    }

    async fn talk<S, P>(self: &Arc<Self>, stream: S, peer: P, origin: Option<Origin>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Copy + Send + Sync + 'static,
    {
        let pace = Pace::new(self.limits);
        let (doors, course) = (Arc::clone(self), Arc::clone(&pace));
        let service = tower::service_fn(move |request: Request<Incoming>| {
            course.asked();
            let (doors, course) = (Arc::clone(&doors), Arc::clone(&course));
            async move {
                let response = match origin {
                    Some(origin) if !doors.rates.take(origin, Instant::now()) => too_fast(),
                    _ => {
                        let within = doors.limits.body;
                        let mut request = request.map(|body| pace::timed(body, within));
                        request.extensions_mut().insert(peer);
                        doors.router.clone().oneshot(request).await?
                    }
                };
                Ok::<_, std::convert::Infallible>(response.map(|body| pace::answer(body, course)))
            }
        });
        let connection = http1::Builder::new()
            // The stream has timers of its own.
            .header_read_timeout(None)
            .max_header_size(self.limits.header_bytes)
            .keep_alive(true)
            .serve_connection(
                TokioIo::new(Paced::new(stream, pace)),
                TowerToHyperService::new(service),
            );
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping.clone();
        let result: Result<(), hyper::Error> = tokio::select! {
            result = connection.as_mut() => result,
            () = stopped(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!("an http connection ended: {error}");
        }
    }
}

/// Counts a connection for as long as it is open.
struct Open;

impl Open {
    fn begin() -> Self {
        metrics::get().http_connections.inc();
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::get().http_connections.dec();
    }
}

/// Counts what was refused.
pub(super) fn refused(reason: &'static str) {
    metrics::get().http_refused.get_or_create(&[("reason", reason)]).inc();
}

/// What an address is told that asks too often, in Consul's words.
fn too_fast() -> Response {
    refused("rate");
    let words = "rate limit exceeded, try again later or against a different server";
    let mut response = answer::text(StatusCode::TOO_MANY_REQUESTS, words.to_owned());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Waits until the server is to end.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Tells a client that there is no room, and waits a moment for it to read that.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, words: &[u8]) {
    let tell = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    match tokio::time::timeout(Duration::from_secs(1), tell).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!("a client went before it was refused: {error}"),
    }
}
