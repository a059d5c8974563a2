//! `/v1/catalog/…` and `/v1/health/…`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use sengu_core::consul::Found;
use sengu_core::consul::directory::Directory;
use sengu_core::consul::filter::{self, Filter};
use sengu_core::consul::record::Status;
use sengu_core::consul::register as plan;
use sengu_core::consul::row::NodeServices;
use serde::Serialize;
use serde_json::json;

use super::Shell;
use super::answer::{self, Trouble};
use super::query::Params;
use super::read::{Topic, answer as answer_read};
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
    Ok(answer::json(StatusCode::OK, &done, false))
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
    Ok(answer::json(StatusCode::OK, &done, false))
}

pub(crate) async fn datacenters(State(shell): State<Arc<Shell>>) -> Response {
    answer::json(StatusCode::OK, &[&shell.context.place.datacenter], false)
}

/// What a filter leaves of a list; without one, all of it.
fn left<T: Serialize>(mut found: Found<Vec<T>>, filter: Option<&Filter>) -> Found<Vec<T>> {
    if let Some(filter) = filter {
        found.body.retain(|row| filter.keeps(row));
    }
    found
}

pub(crate) async fn nodes(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let params = Params::of(&uri)?;
    let (wanted, filter) = (params.wanted()?, params.filter(filter::NODE)?);
    let run = |directory: &Directory<'_>| left(directory.nodes(&wanted), filter.as_ref());
    answer_read(&shell, &uri, Topic::Directory, run).await
}

pub(crate) async fn services(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let params = Params::of(&uri)?;
    let (wanted, filter) = (params.wanted()?, params.filter(filter::FLAT_ENTRY)?);
    let run = |directory: &Directory<'_>| directory.services(&wanted, filter.as_ref());
    answer_read(&shell, &uri, Topic::Directory, run).await
}

/// `/v1/sengu/services`: each service with how its entries stand, in sengu's own words.
pub(crate) async fn overview(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    answer_read(&shell, &uri, Topic::Directory, |directory| directory.overview()).await
}

pub(crate) async fn service(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let params = Params::of(&uri)?;
    let (mut wanted, filter) = (params.wanted()?, params.filter(filter::FLAT_ENTRY)?);
    // The catalog lists what is registered, well or not.
    wanted.passing = false;
    let run = |directory: &Directory<'_>| left(directory.service(&name, &wanted), filter.as_ref());
    answer_read(&shell, &uri, Topic::Service(&name), run).await
}

pub(crate) async fn node(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let filter = Params::of(&uri)?.filter(filter::SERVICE)?;
    let run = |directory: &Directory<'_>| node_of(directory, &name, filter.as_ref());
    answer_read(&shell, &uri, Topic::Node(&name), run).await
}

/// The same, with the services as a list.
pub(crate) async fn node_services(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let filter = Params::of(&uri)?.filter(filter::SERVICE)?;
    let run = |directory: &Directory<'_>| {
        let found = node_of(directory, &name, filter.as_ref());
        let (node, services) = found.body.map_or((None, Vec::new()), |found| {
            (Some(found.node), found.services.into_values().collect())
        });
        Found { index: found.index, body: json!({ "Node": node, "Services": services }) }
    };
    answer_read(&shell, &uri, Topic::Node(&name), run).await
}

/// A node with those of its services that a filter leaves.
fn node_of(
    directory: &Directory<'_>,
    name: &str,
    filter: Option<&Filter>,
) -> Found<Option<NodeServices>> {
    let mut found = directory.node(name);
    if let (Some(node), Some(filter)) = (&mut found.body, filter) {
        node.services.retain(|_, service| filter.keeps(service));
    }
    found
}

pub(crate) async fn health_service(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let params = Params::of(&uri)?;
    let (wanted, filter) = (params.wanted()?, params.filter(filter::SERVICE_ENTRY)?);
    let run =
        |directory: &Directory<'_>| left(directory.health_service(&name, &wanted), filter.as_ref());
    answer_read(&shell, &uri, Topic::Service(&name), run).await
}

pub(crate) async fn health_checks(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let filter = Params::of(&uri)?.filter(filter::CHECK)?;
    let run = |directory: &Directory<'_>| left(directory.health_checks(&name), filter.as_ref());
    answer_read(&shell, &uri, Topic::Service(&name), run).await
}

pub(crate) async fn health_node(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let filter = Params::of(&uri)?.filter(filter::CHECK)?;
    let run = |directory: &Directory<'_>| left(directory.health_node(&name), filter.as_ref());
    answer_read(&shell, &uri, Topic::Node(&name), run).await
}

pub(crate) async fn health_state(
    State(shell): State<Arc<Shell>>,
    Path(state): Path<String>,
    uri: Uri,
) -> Reply {
    let filter = Params::of(&uri)?.filter(filter::CHECK)?;
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
    let run = |directory: &Directory<'_>| left(directory.health_state(wanted), filter.as_ref());
    answer_read(&shell, &uri, Topic::Directory, run).await
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
