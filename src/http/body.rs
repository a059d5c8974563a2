//! Request bodies, read within a bound of bytes; that of time is the connection's.

use std::error::Error;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use sengu_core::consul::kv::check_size;

use super::answer::Trouble;
use super::pace::BodyLate;

/// How much of a body that is too large is still taken in, so that the client has sent it all
/// and reads the answer instead of a reset.
const DRAIN_MAX: usize = 8 * 1024 * 1024;

/// Reads a whole body of at most [`sengu_core::consul::kv::VALUE_MAX`] bytes.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Trouble> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let told: Option<usize> = told.and_then(|text| text.parse().ok());
    let mut bytes = Vec::new();
    let mut size = 0;
    let mut stream = body.into_data_stream();
    while size <= DRAIN_MAX {
        let Some(chunk) = stream.next().await else { break };
        let chunk = chunk.map_err(|error| broken(&error))?;
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

fn broken(error: &axum::Error) -> Trouble {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(late) = error.downcast_ref::<BodyLate>() {
            return Trouble::new(408, late.to_string());
        }
        source = error.source();
    }
    Trouble::bad(format!("the body broke off: {error}"))
}
