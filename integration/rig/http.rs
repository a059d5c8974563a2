//! A plain HTTP/1.1 client for one request per connection, every wait bounded. It can also send
//! what no good client would.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, chunks joined.
    pub body: String,
}

/// GET.
///
/// # Errors
/// If the connection breaks or the answer takes too long.
pub fn get(server: SocketAddr, path: &str) -> io::Result<Response> {
    request(server, "GET", path, &[])
}

/// PUT.
///
/// # Errors
/// If the connection breaks or the answer takes too long.
pub fn put(server: SocketAddr, path: &str, body: &[u8]) -> io::Result<Response> {
    request(server, "PUT", path, body)
}

/// One request.
///
/// # Errors
/// If the connection breaks or the answer takes too long.
pub fn request(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> io::Result<Response> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: sengu\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    raw(server, &[head.as_bytes(), body].concat())
}

/// Any bytes; what is refused half-way still has an answer.
///
/// # Errors
/// If nothing that looks like HTTP comes back in time.
pub fn raw(server: SocketAddr, bytes: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server may answer and close before it has read everything.
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer)
        && answer.is_empty()
    {
        return Err(sent.err().unwrap_or(error));
    }
    parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(bytes: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { join(body) } else { body.to_owned() };
    Some(Response { status, head: head.to_owned(), body })
}

fn join(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        whole += chunk;
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
