//! `/v1/catalog/…` and `/v1/health/…`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use sengu_core::consul::record::Status;
use sengu_core::consul::register as plan;

use super::Shell;
use super::answer::{Trouble, json};
use super::query::Params;
use super::read::{Topic, answer};
use super::write::write;

type Reply = Result<Response, Trouble>;

pub(crate) async fn register(
    State(shell): State<Arc<Shell>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    Params::of(&uri)?.datacenter(&shell.context.place.datacenter)?;
    let body = super::body::read(&headers, body).await?;
    let done = write(&shell, |directory| plan::register(directory, &body)).await?;
    Ok(json(StatusCode::OK, &done, false))
}

pub(crate) async fn deregister(
    State(shell): State<Arc<Shell>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    Params::of(&uri)?.datacenter(&shell.context.place.datacenter)?;
    let body = super::body::read(&headers, body).await?;
    let done = write(&shell, |directory| plan::deregister(directory, &body)).await?;
    Ok(json(StatusCode::OK, &done, false))
}

pub(crate) async fn datacenters(State(shell): State<Arc<Shell>>) -> Response {
    json(StatusCode::OK, &[&shell.context.place.datacenter], false)
}

pub(crate) async fn nodes(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let wanted = Params::of(&uri)?.wanted()?;
    answer(&shell, &uri, Topic::Directory, |directory| directory.nodes(&wanted)).await
}

pub(crate) async fn services(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let wanted = Params::of(&uri)?.wanted()?;
    answer(&shell, &uri, Topic::Directory, |directory| directory.services(&wanted)).await
}

pub(crate) async fn service(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let mut wanted = Params::of(&uri)?.wanted()?;
    // The catalog lists what is registered, well or not.
    wanted.passing = false;
    answer(&shell, &uri, Topic::Directory, |directory| directory.service(&name, &wanted)).await
}

pub(crate) async fn node(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    Params::of(&uri)?.wanted()?;
    answer(&shell, &uri, Topic::Directory, |directory| directory.node(&name)).await
}

pub(crate) async fn health_service(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let wanted = Params::of(&uri)?.wanted()?;
    let run = |directory: &sengu_core::consul::directory::Directory<'_>| {
        directory.health_service(&name, &wanted)
    };
    answer(&shell, &uri, Topic::Directory, run).await
}

pub(crate) async fn health_checks(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    Params::of(&uri)?.wanted()?;
    answer(&shell, &uri, Topic::Directory, |directory| directory.health_checks(&name)).await
}

pub(crate) async fn health_node(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    Params::of(&uri)?.wanted()?;
    answer(&shell, &uri, Topic::Directory, |directory| directory.health_node(&name)).await
}

pub(crate) async fn health_state(
    State(shell): State<Arc<Shell>>,
    Path(state): Path<String>,
    uri: Uri,
) -> Reply {
    Params::of(&uri)?.wanted()?;
    let wanted = match (state.as_str(), Status::parse(&state)) {
        ("any", _) => None,
        (_, Some(status)) => Some(status),
        (_, None) => {
            let state: String = state.chars().take(80).collect();
            return Err(Trouble::bad(format!(
                "Invalid state {state:?}: any, passing, warning or critical"
            )));
        }
    };
    answer(&shell, &uri, Topic::Directory, |directory| directory.health_state(wanted)).await
}

pub(crate) async fn missing_service() -> Trouble {
    Trouble::bad("Missing service name")
}

pub(crate) async fn missing_node() -> Trouble {
    Trouble::bad("Missing node name")
}

pub(crate) async fn missing_state() -> Trouble {
    Trouble::bad("Missing check state")
}
