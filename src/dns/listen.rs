//! Sockets: one UDP and one TCP on each address, and errors that say what to do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::DnsError;

/// What the kernel may hold of datagrams not yet read, in bytes; bursts are lost beyond.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Connections that the kernel may hold before they are accepted.
const BACKLOG: i32 = 128;

/// How often another port is tried, where any will do.
const FREE_PORT_TRIES: u32 = 16;

/// Both sockets of one address.
pub(super) struct Bound {
    /// With the port that was had.
    pub(super) address: SocketAddr,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Takes an address for UDP and TCP.
pub(super) fn bind(address: SocketAddr) -> Result<Bound, DnsError> {
    let mut tries = if address.port() == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let (udp, had) = udp(address).map_err(|error| refused(address, "udp", error))?;
        match tcp(had) {
            Ok(tcp) => return Ok(Bound { address: had, udp, tcp }),
            // A port that is free for one protocol may be taken for the other.
            Err(error) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(refused(had, "tcp", error)),
        }
    }
}

fn udp(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!(%error, "dns keeps the system's receive buffer");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let had = socket.local_addr()?;
    Ok((socket, had))
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of the last run that are still closing do not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn refused(address: SocketAddr, protocol: &'static str, error: io::Error) -> DnsError {
    let port = address.port();
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let letter = if protocol == "udp" { 'u' } else { 't' };
            format!(
                "`ss -ln{letter}p 'sport = :{port}'` shows who has it: stop that, or set another \
                 address as `listen` under [dns]"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: set one that it has as `listen` under [dns]".to_owned()
        }
        _ => "set another address as `listen` under [dns]".to_owned(),
    };
    DnsError::Listen { address, protocol, error, hint }
}

/// Refuses recursors at which sengu itself listens.
pub(super) fn check_circles(
    listen: &[SocketAddr],
    recursors: &[SocketAddr],
) -> Result<(), DnsError> {
    for recursor in recursors {
        let own = listen.iter().find(|own| meets(**own, *recursor));
        if let Some(listen) = own {
            return Err(DnsError::Circle { recursor: *recursor, listen: *listen });
        }
    }
    Ok(())
}

fn meets(listen: SocketAddr, recursor: SocketAddr) -> bool {
    let (listen_ip, recursor_ip) = (listen.ip().to_canonical(), recursor.ip().to_canonical());
    if listen.port() != recursor.port() {
        return false;
    }
    if listen_ip == recursor_ip {
        return true;
    }
    // Asking for no address in particular asks this host.
    let recursor_ip = match recursor_ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    let same_family = listen_ip.is_ipv4() == recursor_ip.is_ipv4();
    listen_ip == recursor_ip || (listen_ip.is_unspecified() && same_family && local(recursor_ip))
}

/// Only an address of this host can be bound.
fn local(ip: IpAddr) -> bool {
    StdUdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_seen() {
        for (listen, recursor, circle) in [
            ("127.0.0.1:8600", "127.0.0.1:8600", true),
            ("127.0.0.1:8600", "0.0.0.0:8600", true),
            ("127.0.0.1:8600", "[::ffff:127.0.0.1]:8600", true),
            ("127.0.0.1:8600", "127.0.0.1:53", false),
            ("127.0.0.1:8600", "127.0.0.2:8600", false),
            ("0.0.0.0:8600", "127.0.0.9:8600", true),
            ("0.0.0.0:8600", "192.0.2.1:8600", false),
        ] {
            let listen = listen.parse().expect("an address");
            let recursor = recursor.parse().expect("an address");
            assert_eq!(meets(listen, recursor), circle, "{listen} {recursor}");
        }
    }
}
