//! Request bodies, read within a bound of bytes and of time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use sengu_core::consul::kv::check_size;

use super::answer::Trouble;

/// How long a client may take to send a body.
const READ_WAIT: Duration = Duration::from_secs(30);

/// How much of a body that is too large is still taken in, so that the client has sent it all
/// and reads the answer instead of a reset.
const DRAIN_MAX: usize = 8 * 1024 * 1024;

/// Reads a whole body of at most [`sengu_core::consul::kv::VALUE_MAX`] bytes.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Trouble> {
    match tokio::time::timeout(READ_WAIT, collect(headers, body)).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Trouble::new(
            408,
            format!("the request's body did not come within {} s", READ_WAIT.as_secs()),
        )),
    }
}

async fn collect(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Trouble> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let told: Option<usize> = told.and_then(|text| text.parse().ok());
    let mut bytes = Vec::new();
    let mut size = 0;
    let mut stream = body.into_data_stream();
    while size <= DRAIN_MAX {
        let Some(chunk) = stream.next().await else { break };
        let chunk = chunk.map_err(|error| Trouble::bad(format!("the body broke off: {error}")))?;
        size += chunk.len();
        if check_size(size.max(told.unwrap_or_default())).is_ok() {
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
        }
    }
    check_size(size.max(told.unwrap_or_default()))?;
    Ok(bytes)
}
