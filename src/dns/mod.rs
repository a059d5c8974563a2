//! The DNS server: Consul's names over UDP and TCP, answered from the newest picture.
//!
//! `core::dns` decides what is said; this encodes it, cuts it to size and carries it. Each answer
//! reads the clock itself, so a stale picture stops naming masters without any timer here. Names
//! of others go to the configured recursors, for the configured clients only. Everything is
//! bounded: datagrams in work, connections, their idle time, queries on their way to recursors,
//! answers over UDP to each network, and the size of each (512 bytes, or what EDNS allows up to
//! 1232). It never caches an
//! answer, and nothing that comes over the network stops it.

mod forward;
mod handler;
mod listen;
mod rates;
mod tcp;
#[cfg(test)]
mod tests;
mod wire;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use sengu_core::dns::Settings;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::DnsConfig;
use crate::view::View;
use forward::Forwarder;
use handler::Handler;
use rates::Rates;
use tcp::Room;

/// How long the end may take.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Longest domain, in bytes; leaves room for a tag, a service, `service` and a datacenter.
const DOMAIN: usize = 100;

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// An address cannot be listened on.
    #[error("dns cannot listen on {address} over {protocol}: {error}; {hint}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// What the system said.
        error: io::Error,
        /// The way out.
        hint: String,
    },
    /// Queries would go round in a circle.
    #[error(
        "dns recursor {recursor} is where sengu itself listens ({listen}); name another server \
         under `recursors`, or none"
    )]
    Circle {
        /// The recursor.
        recursor: SocketAddr,
        /// The listen address that it meets.
        listen: SocketAddr,
    },
    /// A domain or the datacenter cannot stand in a name.
    #[error(
        "dns {what} {text:?} cannot stand in a name; use labels of 1 to 63 letters, digits, `-` \
         or `_`, with dots between them in a domain, 100 bytes at most"
    )]
    Name {
        /// `domain` or `datacenter`.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A socket was lost while serving.
    #[error("dns stopped: {0}; restart the agent")]
    Stopped(String),
}

/// A running server.
#[derive(Debug)]
pub struct DnsServer {
    /// Where it listens, UDP and TCP alike, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// Ends after the shutdown, or with an error if a socket is lost before.
    pub task: JoinHandle<Result<(), DnsError>>,
}

/// Starts to listen, then serves until `shutdown` is ready. Port 0 takes a free port, the same
/// for UDP and TCP.
///
/// # Errors
/// [`DnsError`] if an address cannot be had, or a setting makes no sense; nothing then listens.
pub async fn serve(
    config: &DnsConfig,
    datacenter: &str,
    view: Arc<View>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<DnsServer, DnsError> {
    check_names(config, datacenter)?;
    listen::check_circles(&config.listen, &config.recursors)?;
    let mut sockets = Vec::new();
    for address in &config.listen {
        sockets.push(listen::bind(*address)?);
    }
    let addresses: Vec<SocketAddr> = sockets.iter().map(|socket| socket.address).collect();
    let handler = handler_of(config, datacenter, view);
    let mut server = Server::new(handler.clone());
    let mut listeners = Vec::new();
    for socket in sockets {
        server.register_socket(socket.udp);
        listeners.push(socket.tcp);
    }
    let room = Room::new(config.connections, config.connections_per_address);
    let task = tokio::spawn(run(server, listeners, (handler, room), shutdown));
    Ok(DnsServer { addresses, task })
}

fn handler_of(config: &DnsConfig, datacenter: &str, view: Arc<View>) -> Handler {
    let settings = Settings::new(&config.domains, datacenter, config.ttl);
    let forwarder = Forwarder::new(&config.recursors, &config.recursion_clients);
    Handler::new(settings, view, forwarder, Rates::new(config.responses_per_second))
}

async fn run(
    mut server: Server<Handler>,
    listeners: Vec<TcpListener>,
    (handler, room): (Handler, Room),
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), DnsError> {
    if listeners.is_empty() {
        shutdown.await;
        return Ok(());
    }
    let room = Arc::new(room);
    let mut loops = JoinSet::new();
    for listener in listeners {
        loops.spawn(tcp::accept(listener, handler.clone(), Arc::clone(&room)));
    }
    tokio::select! {
        () = shutdown => {
            // A slow end of a connection is no reason to wait: dropping the rest closes it.
            let end = tokio::time::timeout(SHUTDOWN, server.shutdown_gracefully()).await;
            tracing::debug!(?end, "dns stopped");
            Ok(())
        }
        ended = server.block_until_done() => Err(DnsError::Stopped(match ended {
            Ok(()) => "its udp sockets closed".to_owned(),
            Err(error) => error.to_string(),
        })),
        _ = loops.join_next() => Err(DnsError::Stopped("its tcp listener ended".to_owned())),
    }
}

fn check_names(config: &DnsConfig, datacenter: &str) -> Result<(), DnsError> {
    let label = |text: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !label(datacenter) {
        return Err(DnsError::Name { what: "datacenter", text: datacenter.to_owned() });
    }
    for domain in &config.domains {
        let text = domain.trim_matches('.');
        if text.len() > DOMAIN || !text.split('.').all(label) {
            return Err(DnsError::Name { what: "domain", text: domain.clone() });
        }
    }
    Ok(())
}
