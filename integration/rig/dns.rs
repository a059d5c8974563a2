//! A plain DNS client: one question over UDP, one answer, read strictly. It asks exactly the
//! server that it is told, caches nothing and follows nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Type A.
pub const A: u16 = 1;
/// Type SRV.
pub const SRV: u16 = 33;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// 0 for good, 3 for no such name.
    pub code: u8,
    /// Truncated.
    pub truncated: bool,
    /// Addresses in the answer section, in order.
    pub addresses: Vec<IpAddr>,
    /// Ports of SRV records in the answer section, in order.
    pub ports: Vec<u16>,
    /// The smallest TTL of the answer section, in seconds.
    pub ttl: Option<u32>,
}

/// Asks for a name.
///
/// # Errors
/// If nothing (or nothing sensible) comes back in time.
pub fn ask(server: SocketAddr, name: &str, kind: u16) -> io::Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let id = u16::from(name.len() as u8) << 8 | 0x5a;
    socket.send(&question(id, name, kind))?;
    let mut buffer = [0_u8; 4096];
    let length = socket.recv(&mut buffer)?;
    read(&buffer[..length], id).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Addresses of a name; none if there is no answer.
#[must_use]
pub fn addresses(server: SocketAddr, name: &str) -> Vec<IpAddr> {
    ask(server, name, A).map(|answer| answer.addresses).unwrap_or_default()
}

/// A question's bytes.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn read(bytes: &[u8], id: u16) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if word(0)? != id {
        return None;
    }
    let flags = word(2)?;
    let mut answer = Answer {
        code: u8::try_from(flags & 0xf).ok()?,
        truncated: flags & 0x200 != 0,
        ..Answer::default()
    };
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip(bytes, at)? + 4;
    }
    for _ in 0..word(6)? {
        at = skip(bytes, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let ttl = u32::from(word(at + 4)?) << 16 | u32::from(word(at + 6)?);
        answer.ttl = Some(answer.ttl.map_or(ttl, |least| least.min(ttl)));
        let data = bytes.get(at + 10..at + 10 + length)?;
        match (kind, data) {
            (A, [a, b, c, d]) => answer.addresses.push(Ipv4Addr::new(*a, *b, *c, *d).into()),
            (SRV, [_, _, _, _, high, low, ..]) => {
                answer.ports.push(u16::from_be_bytes([*high, *low]));
            }
            _ => {}
        }
        at += 10 + length;
    }
    Some(answer)
}

/// Past a name.
fn skip(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(*length),
        }
    }
}
