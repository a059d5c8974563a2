//! Accepting and serving connections, over TCP and unix sockets.
//!
//! Not axum's own loop: that one sets no timer, so a client that sends its header slowly would
//! hold its connection for ever, and it takes any number of connections.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;

/// How long requests may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(2);

/// So many clients beyond the cap are told so; others are just closed.
const REFUSALS: usize = 64;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
    content-length: 48\r\nconnection: close\r\n\r\n\
    this agent has too many open connections already";

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open connections at once, over all listeners.
    pub(crate) connections: usize,
    /// For a request's header. It also ends connections that were idle for so long, which
    /// hyper cannot tell apart; hence not shorter.
    pub(crate) header: Duration,
    /// Bytes of a request's line and header.
    pub(crate) header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, header: Duration::from_secs(30), header_bytes: 32 * 1024 }
    }
}

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
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Connection {
    Tcp(TcpStream, PeerAddress),
    Unix(UnixStream, PeerUser),
}

impl Listener {
    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // A client that takes nothing of its answer for a minute is gone.
                socket2::SockRef::from(&stream)
                    .set_tcp_user_timeout(Some(Duration::from_secs(60)))?;
                Ok(Connection::Tcp(stream, PeerAddress(peer)))
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
        limits: Limits,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let router = router(stopping.clone());
        let doors = Arc::new(Doors {
            seats: Arc::new(Semaphore::new(limits.connections)),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
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
    router: Router,
    limits: Limits,
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
        match connection {
            Connection::Tcp(stream, peer) => self.seat(stream, peer).await,
            Connection::Unix(stream, user) => self.seat(stream, user).await,
        }
    }

    async fn seat<S, P>(&self, stream: S, peer: P)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Copy + Send + Sync + 'static,
    {
        let Ok(_seat) = Arc::clone(&self.seats).try_acquire_owned() else {
            if let Ok(_refusal) = Arc::clone(&self.refusals).try_acquire_owned() {
                refuse(stream).await;
            }
            return;
        };
        let router = self.router.clone();
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_header_size(self.limits.header_bytes)
            .keep_alive(true)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping.clone();
        let result = tokio::select! {
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

/// Waits until the server is to end.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Tells a client that there is no room, and waits a moment for it to read that.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let tell = async {
        stream.write_all(FULL).await?;
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
