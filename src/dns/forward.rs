//! Names of others: the client's query goes to the recursors as it came, one after the other.
//!
//! Only the id is replaced, by a random one, and each query has a socket of its own, connected
//! to the recursor, so that nobody else can answer it. The answer is read and written anew, cut
//! to what the client takes; one that is malformed, or to another question, reaches no client.
//! Nothing is kept: the clients or the recursors have caches.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_server::server::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::wire::Response;

/// How long one recursor has.
const RECURSOR: Duration = Duration::from_secs(2);

/// How long they all have together; clients ask again after five seconds.
const ALL: Duration = Duration::from_secs(5);

/// Queries on their way at a time; one more is answered with a server failure.
const QUERIES: usize = 256;

/// Sends queries on.
pub(super) struct Forwarder {
    recursors: Vec<SocketAddr>,
    clients: Vec<(IpAddr, u8)>,
    slots: Semaphore,
}

impl Forwarder {
    /// `None` without recursors. `clients` are networks.
    pub(super) fn new(recursors: &[SocketAddr], clients: &[(IpAddr, u8)]) -> Option<Self> {
        (!recursors.is_empty()).then(|| Self {
            recursors: recursors.to_vec(),
            clients: clients.to_vec(),
            slots: Semaphore::new(QUERIES),
        })
    }

    /// May this client ask names of others?
    pub(super) fn serves(&self, client: IpAddr) -> bool {
        self.clients.iter().any(|(network, bits)| contains(*network, *bits, client))
    }

    /// Puts the recursors' answer into `response`, or a server failure.
    pub(super) async fn forward(&self, request: &Request, query: &Query, response: &mut Response) {
        let Ok(_slot) = self.slots.try_acquire() else {
            tracing::debug!("dns has too many queries on their way to recursors");
            response.metadata.response_code = ResponseCode::ServFail;
            return;
        };
        let tcp = request.protocol() != Protocol::Udp;
        let Some(mut answer) = self.ask(request.as_slice(), query, tcp).await else {
            response.metadata.response_code = ResponseCode::ServFail;
            return;
        };
        let (id, available) = (response.metadata.id, response.metadata.recursion_available);
        response.metadata = answer.metadata;
        response.metadata.id = id;
        response.metadata.recursion_available = available;
        // A client that speaks no EDNS gets none, and none of its codes.
        response.edns = response.edns.take().map(|own| match answer.edns.take() {
            Some(mut edns) => {
                edns.set_max_payload(own.max_payload());
                edns
            }
            None => own,
        });
        if response.edns.is_none() && response.metadata.response_code.high() > 0 {
            response.metadata.response_code = ResponseCode::ServFail;
        }
        response.answers = answer.answers;
        response.authority = answer.authorities;
        response.additional = answer.additionals;
    }

    async fn ask(&self, raw: &[u8], query: &Query, tcp: bool) -> Option<Message> {
        let mut last = None;
        let all = async {
            for recursor in &self.recursors {
                match timeout(RECURSOR, ask_one(*recursor, raw, query, tcp)).await {
                    Ok(Ok(answer)) => match answer.metadata.response_code {
                        // Perhaps another knows more.
                        ResponseCode::ServFail | ResponseCode::Refused => last = Some(answer),
                        _ => return Some(answer),
                    },
                    Ok(Err(error)) => tracing::debug!(%recursor, %error, "dns recursor failed"),
                    Err(_) => tracing::debug!(%recursor, "dns recursor did not answer in time"),
                }
            }
            None
        };
        let answer = timeout(ALL, all).await.ok().flatten();
        answer.or(last)
    }
}

/// Over UDP; what is cut there is asked again over TCP if the client came by TCP itself. One
/// that came by UDP is told that it was cut, and then comes by TCP.
async fn ask_one(
    recursor: SocketAddr,
    raw: &[u8],
    query: &Query,
    tcp: bool,
) -> io::Result<Message> {
    let mut raw = raw.to_vec();
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    raw.get_mut(..2).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&id);
    let id = u16::from_be_bytes(id);

    let answer = over_udp(recursor, &raw, id, query).await?;
    if tcp && answer.metadata.truncation {
        let whole = over_tcp(recursor, &raw, id, query).await;
        return Ok(whole.unwrap_or(answer));
    }
    Ok(answer)
}

async fn over_udp(recursor: SocketAddr, raw: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let any: IpAddr = match recursor {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(recursor).await?;
    socket.send(raw).await?;
    let mut bytes = vec![0; usize::from(u16::MAX)];
    // What does not match may be forged: the right answer may still come.
    loop {
        let length = socket.recv(&mut bytes).await?;
        if let Some(answer) = matching(&bytes[..length], id, query) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(recursor: SocketAddr, raw: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let mut stream = TcpStream::connect(recursor).await?;
    let length = u16::try_from(raw.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), raw].concat()).await?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    matching(&bytes, id, query).ok_or_else(|| io::Error::other("it answered something else"))
}

fn matching(bytes: &[u8], id: u16, query: &Query) -> Option<Message> {
    // The id first: it is cheap, and forged answers seldom have it.
    if bytes.get(..2)? != id.to_be_bytes() {
        return None;
    }
    let answer = Message::from_vec(bytes).ok()?;
    let [asked] = answer.queries.as_slice() else { return None };
    (answer.metadata.message_type == MessageType::Response
        && asked.name == query.name
        && asked.query_type == query.query_type
        && asked.query_class == query.query_class)
        .then_some(answer)
}

fn contains(network: IpAddr, bits: u8, client: IpAddr) -> bool {
    let shared = |one: u128, other: u128, width: u8| {
        let rest = u32::from(width.saturating_sub(bits));
        (one ^ other).checked_shr(rest).unwrap_or(0) == 0
    };
    match (network.to_canonical(), client.to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            shared(one.to_bits().into(), other.to_bits().into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => shared(one.to_bits(), other.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_own() {
        for (network, bits, client, inside) in [
            ("127.0.0.0", 8, "127.9.9.9", true),
            ("127.0.0.0", 8, "128.0.0.1", false),
            ("127.0.0.0", 8, "::ffff:127.0.0.1", true),
            ("127.0.0.0", 8, "::1", false),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("10.0.0.1", 32, "10.0.0.0", false),
            ("10.0.0.128", 25, "10.0.0.127", false),
            ("0.0.0.0", 0, "203.0.113.1", true),
            ("0.0.0.0", 0, "fd00::1", false),
            ("::", 0, "fd00::1", true),
            ("::1", 128, "::1", true),
            ("fd00::", 8, "fe00::1", false),
        ] {
            let network = network.parse().expect("an address");
            let client = client.parse().expect("an address");
            assert_eq!(contains(network, bits, client), inside, "{network}/{bits} {client}");
        }
    }
}
