//! `/v1/agent/…` and `/v1/status/…`: what Consul's clients ask the agent about itself.
//!
//! The version is one of Consul's, since clients compare it to learn what they may ask; sengu's
//! own stands in `Meta`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use sengu_core::catalog::Catalog;
use sengu_core::consul::directory::{Directory, SERVER_PORT, Wanted};
use sengu_core::consul::filter;
use sengu_core::consul::row::Node;
use serde_json::{Value, json};

use super::Shell;
use super::answer::{self, Trouble};
use super::query::Params;
use crate::clock;

/// The version of Consul whose dialect this is.
const CONSUL_VERSION: &str = "1.21.0";

/// What Consul says of a build without a date.
const BUILD_DATE: &str = "1970-01-01T00:00:01Z";

type Reply = Result<Response, Trouble>;

/// Runs a view that never blocks and has no index.
fn at_once<T>(
    shell: &Shell,
    uri: &Uri,
    run: impl FnOnce(&Directory<'_>) -> T,
) -> Result<(T, bool), Trouble> {
    let params = Params::of(uri)?;
    params.datacenter(&shell.context.place.datacenter)?;
    let catalog = shell.catalog()?;
    let directory = Directory::new(&catalog, clock::time(), &shell.context.place);
    Ok((run(&directory), params.has("pretty")))
}

fn agents(directory: &Directory<'_>) -> Vec<Node> {
    let nodes = directory.nodes(&Wanted::default()).body;
    nodes.into_iter().filter(|node| node.agent).collect()
}

/// The address that stands for Consul's leader: this agent's own, while the store answers.
fn leader_address(shell: &Shell, catalog: Option<&Catalog>) -> String {
    let place = &shell.context.place;
    let known = catalog.is_some_and(|catalog| clock::time() < catalog.valid_until);
    if known {
        std::net::SocketAddr::new(place.address, SERVER_PORT).to_string()
    } else {
        String::new()
    }
}

pub(crate) async fn leader(State(shell): State<Arc<Shell>>) -> Response {
    let catalog = shell.context.view.catalog();
    answer::json(StatusCode::OK, &leader_address(&shell, catalog.as_deref()), false)
}

pub(crate) async fn peers(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let (peers, pretty) = at_once(&shell, &uri, |directory| {
        let join = |node: Node| match node.address.parse() {
            Ok(ip) => std::net::SocketAddr::new(ip, SERVER_PORT).to_string(),
            Err(_) => node.address,
        };
        agents(directory).into_iter().map(join).collect::<Vec<_>>()
    })?;
    Ok(answer::json(StatusCode::OK, &peers, pretty))
}

pub(crate) async fn own(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let params = Params::of(&uri)?;
    params.datacenter(&shell.context.place.datacenter)?;
    let place = &shell.context.place;
    let catalog = shell.context.view.catalog();
    let address = leader_address(&shell, catalog.as_deref());
    let node_id = catalog.as_ref().map_or_else(String::new, |catalog| {
        let directory = Directory::new(catalog, clock::time(), place);
        directory.node(place.host.as_str()).body.map(|found| found.node.id).unwrap_or_default()
    });
    let config = json!({
        "Datacenter": place.datacenter,
        "PrimaryDatacenter": place.datacenter,
        "NodeName": place.host.as_str(),
        "NodeID": node_id,
        "Revision": "",
        "Server": true,
        "Version": CONSUL_VERSION,
        "BuildDate": BUILD_DATE,
    });
    let this = json!({
        "Config": config,
        "DebugConfig": {},
        "Coord": null,
        "Member": member(place.host.as_str(), &place.address.to_string(), &place.datacenter, true),
        "Stats": { "consul": { "leader_addr": address, "server": "true" } },
        "Meta": { "sengu": env!("CARGO_PKG_VERSION") },
        "xDS": null,
    });
    Ok(answer::json(StatusCode::OK, &this, params.has("pretty")))
}

fn member(name: &str, address: &str, datacenter: &str, alive: bool) -> Value {
    json!({
        "Name": name,
        "Addr": address,
        "Port": 8301,
        "Tags": { "dc": datacenter, "role": "consul", "port": SERVER_PORT.to_string() },
        "Status": if alive { 1 } else { 4 },
        "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2,
        "DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4,
    })
}

pub(crate) async fn members(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let filter = Params::of(&uri)?.filter(filter::MEMBER)?;
    let (mut members, pretty) = at_once(&shell, &uri, |directory| {
        agents(directory)
            .iter()
            .map(|node| {
                let checks = directory.health_node(&node.node).body;
                let alive = checks.iter().all(|c| c.check_id != "serfHealth" || c.passes());
                member(&node.node, &node.address, &node.datacenter, alive)
            })
            .collect::<Vec<_>>()
    })?;
    members.retain(|member| filter.as_ref().is_none_or(|filter| filter.keeps(member)));
    Ok(answer::json(StatusCode::OK, &members, pretty))
}

/// What runs: the version of Consul whose dialect this is, in Consul's words.
pub(crate) async fn version() -> Response {
    let build = json!({
        "SHA": "", "BuildDate": BUILD_DATE, "HumanVersion": CONSUL_VERSION, "FIPS": "",
    });
    answer::json(StatusCode::OK, &build, false)
}
