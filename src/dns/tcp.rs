//! DNS over TCP (RFC 7766), with bounds: connections, their idle time, and one request at a time
//! on each.
//!
//! The accept loop of hickory has no cap on connections, and a client that opens many would take
//! the file descriptors that a fence needs; hence this one, around the same handler.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_server::proto::rr::Record;
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handler::{Handler, limited};
use crate::crowd::{Crowd, Origin, Place};

/// A client has so long for each whole request, and for taking each answer.
const IDLE: Duration = Duration::from_secs(10);

/// Pause after an accept that failed: most often no descriptors are left, and asking again at
/// once would only burn the processor.
const ACCEPT_FAILED: Duration = Duration::from_millis(100);

/// Length of a header; nothing shorter is a message.
const HEADER: usize = 12;

/// Connections at a time, over all listeners and for each address.
pub(super) struct Room {
    slots: Arc<Semaphore>,
    crowd: Arc<Crowd>,
    each: usize,
}

impl Room {
    /// So many in all, and of one address beyond this host.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(all)), crowd: Arc::default(), each }
    }

    fn enter(&self, client: SocketAddr) -> Option<(OwnedSemaphorePermit, Place)> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some((slot, self.crowd.enter(Origin::of(client.ip()), self.each)?))
    }
}

/// Accepts for ever; ends only by being dropped, and its connections with it.
pub(super) async fn accept(listener: TcpListener, handler: Handler, room: Arc<Room>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "dns could not accept a connection");
                tokio::time::sleep(ACCEPT_FAILED).await;
                continue;
            }
        };
        let Some(seat) = room.enter(client) else {
            tracing::debug!(%client, "dns has too many connections: one was closed");
            limited("tcp");
            continue;
        };
        let handler = handler.clone();
        connections.spawn(async move {
            let _seat = seat;
            if let Err(error) = converse(stream, client, &handler).await {
                tracing::debug!(%client, %error, "dns connection ended");
            }
        });
    }
}

async fn converse(mut stream: TcpStream, client: SocketAddr, handler: &Handler) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let Some(request) = timeout(IDLE, read(&mut stream)).await?? else { return Ok(()) };
        let Some(answer) = answer(request, client, handler).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let bytes = [&length.to_be_bytes(), answer.as_slice()].concat();
        timeout(IDLE, stream.write_all(&bytes)).await??;
    }
}

/// One request; `None` at the end, and for what is too short to be one.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length < HEADER {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

/// The answer's bytes; `None` closes the connection.
async fn answer(bytes: Vec<u8>, client: SocketAddr, handler: &Handler) -> Option<Vec<u8>> {
    answer_over(Protocol::Tcp, bytes, client, handler).await
}

/// The same, as if it had come over that.
pub(super) async fn answer_over(
    protocol: Protocol,
    bytes: Vec<u8>,
    client: SocketAddr,
    handler: &Handler,
) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let request = match Request::from_bytes(bytes, client, protocol) {
        Ok(request) if request.metadata.message_type == MessageType::Response => return None,
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(%client, %error, "dns got a malformed request");
            return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok();
        }
    };
    let capture = Capture::default();
    handler.handle_request::<_, TokioTime>(&request, capture.clone()).await;
    let bytes = std::mem::take(&mut *capture.0.lock().expect("nothing panics while it holds this"));
    (!bytes.is_empty()).then_some(bytes)
}

/// Takes the encoded answer; stays empty if there is none.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

#[async_trait]
impl ResponseHandler for Capture {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        *self.0.lock().expect("nothing panics while it holds this") = bytes;
        Ok(info)
    }
}
