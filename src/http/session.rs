//! `/v1/session/…`: leases of the store, in Consul's words.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use sengu_core::consul::directory::Directory;
use sengu_core::consul::session::{self, DELAY_MIN, SessionRecord};
use sengu_core::kv::{LeaseId, Op, Txn};
use sengu_core::record::Record;
use serde_json::json;

use super::Shell;
use super::answer::{self, Trouble};
use super::query::Params;
use super::read::{Topic, answer as answer_read};
use super::write::send;
use crate::clock;

type Reply = Result<Response, Trouble>;

/// How often the end of a session is planned again because its locks changed meanwhile.
const ATTEMPTS: u32 = 8;

/// A random UUID (RFC 9562, version 4).
fn id() -> Result<String, Trouble> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Trouble::new(500, format!("no entropy for a session's id: {error}")))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]];
    Ok(groups.map(<[String]>::concat).join("-"))
}

/// `PUT create`: `{"ID": …}`.
pub(crate) async fn create(
    State(shell): State<Arc<Shell>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    Params::of(&uri)?.datacenter(&shell.context.place.datacenter)?;
    let body = super::body::read(&headers, body).await?;
    let catalog = shell.catalog()?;
    let directory = Directory::new(&catalog, clock::time(), &shell.context.place);
    let (mut record, ttl) = session::wanted(&directory, &body, id()?)?;
    drop(catalog);
    if let Some(ttl) = ttl {
        let delay = Duration::from_millis(record.delay_ms);
        record.lease = shell.context.store.grant(ttl * 2).await?.0;
        if delay >= DELAY_MIN {
            record.delay_lease = shell.context.store.grant(ttl * 2 + delay).await?.0;
        }
    }
    let put =
        Op::Put { key: session::id_key(&record.id), value: record.encode(), lease: record.lease };
    let written = send(&shell, Txn { then: vec![put], ..Txn::default() }).await;
    let reply = match written {
        Ok(reply) => reply,
        Err(trouble) => {
            revoke(&shell, &[record.lease, record.delay_lease]).await;
            return Err(trouble);
        }
    };
    shell.reached(reply.revision).await?;
    Ok(answer::json(StatusCode::OK, &json!({ "ID": record.id }), false))
}

/// Ends leases; one that cannot be ended ends by itself.
async fn revoke(shell: &Shell, leases: &[LeaseId]) {
    for lease in leases.iter().filter(|lease| **lease != 0) {
        if let Err(error) = shell.context.store.revoke(*lease).await {
            tracing::warn!(%error, lease, "a session's lease runs out by itself");
        }
    }
}

/// `PUT renew/ID`: the session, or 404.
pub(crate) async fn renew(
    State(shell): State<Arc<Shell>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Reply {
    Params::of(&uri)?.datacenter(&shell.context.place.datacenter)?;
    let short: String = id.chars().take(80).collect();
    let unknown = || Trouble::new(404, format!("Session id '{short}' not found"));
    let catalog = shell.catalog()?;
    let record = session::get(&catalog, &id).ok_or_else(unknown)?;
    if record.lease != 0 && !shell.context.store.keep(record.lease).await? {
        return Err(unknown());
    }
    if record.delay_lease != 0 {
        shell.context.store.keep(record.delay_lease).await?;
    }
    let found = session::info(&catalog, &id);
    Ok(answer::json(StatusCode::OK, &found.body, false))
}

/// `PUT destroy/ID`: `true`, also for one that is unknown.
pub(crate) async fn destroy(
    State(shell): State<Arc<Shell>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Reply {
    Params::of(&uri)?.datacenter(&shell.context.place.datacenter)?;
    let catalog = shell.catalog()?;
    if let Some(record) = session::get(&catalog, &id) {
        drop(catalog);
        end(&shell, &record).await?;
    }
    Ok(answer::truth(true))
}

/// Lets go of its locks, then of itself.
async fn end(shell: &Shell, record: &SessionRecord) -> Result<(), Trouble> {
    let delay = Duration::from_millis(record.delay_ms);
    let delayed = delay >= DELAY_MIN && !session::held(&*shell.catalog()?, &record.id).is_empty();
    let lease = if delayed { shell.context.store.grant(delay).await?.0 } else { 0 };
    for _ in 0..ATTEMPTS {
        let txns = session::end(&*shell.catalog()?, record, lease);
        let mut whole = true;
        for txn in txns {
            let reply = send(shell, txn).await?;
            shell.reached(reply.revision).await?;
            if !reply.succeeded {
                whole = false;
                break;
            }
        }
        if whole {
            revoke(shell, &[record.lease, record.delay_lease]).await;
            return Ok(());
        }
    }
    Err(Trouble::new(500, "rpc error: the session's locks change all the time; try again"))
}

/// `GET info/ID`.
pub(crate) async fn info(
    State(shell): State<Arc<Shell>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Reply {
    answer_read(&shell, &uri, Topic::Sessions, |directory| session::info(directory.catalog(), &id))
        .await
}

/// `GET list`.
pub(crate) async fn list(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    answer_read(&shell, &uri, Topic::Sessions, |directory| session::list(directory.catalog(), None))
        .await
}

/// `GET node/NODE`.
pub(crate) async fn node(
    State(shell): State<Arc<Shell>>,
    Path(node): Path<String>,
    uri: Uri,
) -> Reply {
    answer_read(&shell, &uri, Topic::Sessions, |directory| {
        session::list(directory.catalog(), Some(&node))
    })
    .await
}
