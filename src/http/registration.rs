//! `/v1/agent/…` as clients register services and checks with the agent of their own host.
//!
//! The records are in the catalog, the agent is their owner; see
//! [`sengu_core::consul::agent`] for what is refused. Answers come once this agent's catalog has
//! what was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Extension, Router};
use sengu_core::consul::agent::{self, Health, Origin};
use sengu_core::consul::directory::{CONSUL, Directory};
use sengu_core::consul::filter;
use sengu_core::consul::health::Check;
use sengu_core::consul::json::{Nullable, decode};
use sengu_core::consul::record::Status;
use sengu_core::consul::row::Service;
use sengu_core::consul::{Plan, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shell;
use super::access::Caller;
use super::answer::{self, Trouble};
use super::query::Params;
use super::write::write;
use crate::clock;

type Reply = Result<Response, Trouble>;

pub(super) fn routes() -> Router<Arc<Shell>> {
    Router::new()
        .route("/v1/agent/services", get(services))
        .route("/v1/agent/checks", get(checks))
        .route("/v1/agent/service/{*id}", get(service))
        .route("/v1/agent/service/register", put(register_service))
        .route("/v1/agent/service/deregister/{*id}", put(deregister_service))
        .route("/v1/agent/service/maintenance/{*id}", put(maintain_service))
        .route("/v1/agent/check/register", put(register_check))
        .route("/v1/agent/check/deregister/{*id}", put(deregister_check))
        .route("/v1/agent/check/pass/{*id}", put(pass))
        .route("/v1/agent/check/warn/{*id}", put(warn))
        .route("/v1/agent/check/fail/{*id}", put(fail))
        .route("/v1/agent/check/update/{*id}", put(update))
        .route("/v1/agent/maintenance", put(maintain_node))
        .route("/v1/agent/health/service/id/{*id}", get(health_by_id))
        .route("/v1/agent/health/service/name/{*name}", get(health_by_name))
}

/// Does a write, and answers with nothing.
async fn done(
    shell: &Shell,
    plan: impl Fn(&Directory<'_>) -> Result<Plan, Refusal>,
) -> Result<Response, Trouble> {
    // The agent's own checks of a request are 400 here, where the catalog's are 500.
    let plan = |directory: &Directory<'_>| {
        plan(directory).map_err(|refusal| match refusal {
            Refusal::Invalid(text) => Refusal::Bad(text),
            other => other,
        })
    };
    write(shell, plan).await?;
    Ok(StatusCode::OK.into_response())
}

/// Where the configuration lets clients have programs run as the agent, that is an operator's
/// right as soon as there are tokens.
fn client(shell: &Shell, caller: &Caller) -> Origin {
    let scripts = shell.context.registered.scripts().clients && caller.runs_programs();
    Origin::Client { scripts }
}

async fn register_service(
    State(shell): State<Arc<Shell>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let replace = Params::of(&uri)?.truth("replace-existing-checks")?;
    let request = decode(&super::body::read(&headers, body).await?)?;
    let origin = client(&shell, &caller);
    done(&shell, |directory| agent::register_service(directory, &request, replace, origin)).await
}

async fn deregister_service(State(shell): State<Arc<Shell>>, Path(id): Path<String>) -> Reply {
    done(&shell, |directory| agent::deregister_service(directory, &id)).await
}

async fn register_check(
    State(shell): State<Arc<Shell>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let request = decode(&super::body::read(&headers, body).await?)?;
    let origin = client(&shell, &caller);
    done(&shell, |directory| agent::register_check(directory, &request, origin)).await
}

async fn deregister_check(State(shell): State<Arc<Shell>>, Path(id): Path<String>) -> Reply {
    done(&shell, |directory| agent::deregister_check(directory, &id)).await
}

fn enable(uri: &Uri) -> Result<(bool, String), Trouble> {
    let params = Params::of(uri)?;
    if !params.has("enable") {
        return Err(Trouble::bad("Missing value for enable"));
    }
    let enable = params.truth("enable").map_err(|_| Trouble::bad("Invalid value for enable"))?;
    Ok((enable, params.first("reason").unwrap_or_default().to_owned()))
}

async fn maintain_service(
    State(shell): State<Arc<Shell>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Reply {
    let (enable, reason) = enable(&uri)?;
    done(&shell, |directory| agent::maintain(directory, Some(&id), enable, &reason)).await
}

async fn maintain_node(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let (enable, reason) = enable(&uri)?;
    done(&shell, |directory| agent::maintain(directory, None, enable, &reason)).await
}

async fn pass(shell: State<Arc<Shell>>, id: Path<String>, uri: Uri) -> Reply {
    noted(shell, id, &uri, Status::Passing).await
}

async fn warn(shell: State<Arc<Shell>>, id: Path<String>, uri: Uri) -> Reply {
    noted(shell, id, &uri, Status::Warning).await
}

async fn fail(shell: State<Arc<Shell>>, id: Path<String>, uri: Uri) -> Reply {
    noted(shell, id, &uri, Status::Critical).await
}

async fn noted(
    State(shell): State<Arc<Shell>>,
    Path(id): Path<String>,
    uri: &Uri,
    status: Status,
) -> Reply {
    let note = Params::of(uri)?.first("note").unwrap_or_default().to_owned();
    tell(&shell, &id, status, &note).await
}

/// The body of `agent/check/update/ID`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Update {
    status: Nullable<String>,
    output: Nullable<String>,
}

async fn update(
    State(shell): State<Arc<Shell>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let update: Update = decode(&super::body::read(&headers, body).await?)?;
    let status = Status::parse(&update.status.0)
        .ok_or_else(|| Trouble::bad(format!("Invalid check status: {:?}", update.status.0)))?;
    tell(&shell, &id, status, &update.output.0).await
}

/// A TTL check is told how it stands: a registered one, or a `ttl` probe of a check file.
async fn tell(shell: &Shell, id: &str, status: Status, output: &str) -> Reply {
    let registered = &shell.context.registered;
    let catalog = shell.catalog()?;
    let directory = Directory::new(&catalog, clock::time(), &shell.context.place);
    let record = agent::own_check(&directory, id).cloned();
    let Some(record) = record else {
        let judged = match status {
            Status::Passing => sengu_core::health::Status::Passing,
            Status::Warning => sengu_core::health::Status::Warning,
            Status::Critical => sengu_core::health::Status::Critical,
        };
        let checks = shell.context.checks.as_ref();
        if checks.is_some_and(|checks| checks.told(id, judged, output)) {
            return Ok(StatusCode::OK.into_response());
        }
        return Err(Refusal::Missing(format!(
            "Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."
        ))
        .into());
    };
    // Refused before it counts as told.
    agent::told(&directory, id, status, output)?;
    drop(catalog);
    registered.beat(id, output);
    if registered.worth(&record, status, output) {
        write(shell, |directory| agent::told(directory, id, status, output)).await?;
        registered.wrote(id);
    }
    Ok(StatusCode::OK.into_response())
}

/// A view of this host's own entries.
fn look<T>(
    shell: &Shell,
    uri: &Uri,
    run: impl FnOnce(&Directory<'_>) -> T,
) -> Result<(T, Params), Trouble> {
    let params = Params::of(uri)?;
    params.datacenter(&shell.context.place.datacenter)?;
    let catalog = shell.catalog()?;
    Ok((run(&Directory::new(&catalog, clock::time(), &shell.context.place)), params))
}

/// The services of this host that its agent has: managed instances, and registered with it.
fn own(directory: &Directory<'_>, host: &str) -> BTreeMap<String, Service> {
    let on_host = directory.node(host).body.map(|found| found.services).unwrap_or_default();
    let mine = |service: &Service| {
        service.service != CONSUL
            && (directory.managed(&service.service).is_some()
                || agent::own_service(directory, &service.id).is_some())
    };
    on_host.into_iter().filter(|(_, service)| mine(service)).collect()
}

fn row(service: &Service, datacenter: &str) -> Value {
    json!({
        "ID": service.id, "Service": service.service, "Tags": service.tags,
        "Meta": service.meta, "Port": service.port, "Address": service.address,
        "Weights": service.weights, "EnableTagOverride": false, "Datacenter": datacenter,
    })
}

async fn services(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let place = &shell.context.place;
    let filter = Params::of(&uri)?.filter(filter::SERVICE)?;
    let (rows, params) = look(&shell, &uri, |directory| {
        let own = own(directory, place.host.as_str());
        own.iter().map(|(id, service)| (id.clone(), row(service, &place.datacenter))).collect()
    })?;
    let mut rows: BTreeMap<String, Value> = rows;
    rows.retain(|_, row| filter.as_ref().is_none_or(|filter| filter.keeps(row)));
    Ok(answer::json(StatusCode::OK, &rows, params.has("pretty")))
}

async fn service(State(shell): State<Arc<Shell>>, Path(id): Path<String>, uri: Uri) -> Reply {
    let place = &shell.context.place;
    let (found, params) = look(&shell, &uri, |directory| {
        own(directory, place.host.as_str())
            .remove(&id)
            .map(|service| row(&service, &place.datacenter))
    })?;
    let Some(mut row) = found else {
        return Err(Trouble::new(404, format!("unknown service ID: {id}")));
    };
    let hash = row.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    row["ContentHash"] = json!(format!("{hash:016x}"));
    Ok(answer::json(StatusCode::OK, &row, params.has("pretty")))
}

/// The checks that this agent has, with what they said last.
fn own_checks(shell: &Shell, directory: &Directory<'_>) -> Vec<Check> {
    let host = shell.context.place.host.as_str();
    let mut checks = directory.health_node(host).body;
    checks.retain(|check| {
        directory.managed(&check.service_name).is_some()
            || agent::own_check(directory, &check.check_id).is_some()
    });
    for check in &mut checks {
        if let Some(output) = shell.context.registered.output(&check.check_id)
            && agent::own_check(directory, &check.check_id).is_some()
        {
            check.output = output;
        }
    }
    checks
}

async fn checks(State(shell): State<Arc<Shell>>, uri: Uri) -> Reply {
    let filter = Params::of(&uri)?.filter(filter::CHECK)?;
    let (mut checks, params) = look(&shell, &uri, |directory| own_checks(&shell, directory))?;
    checks.retain(|check| filter.as_ref().is_none_or(|filter| filter.keeps(check)));
    let rows: BTreeMap<&str, &Check> =
        checks.iter().map(|check| (check.check_id.as_str(), check)).collect();
    Ok(answer::json(StatusCode::OK, &rows, params.has("pretty")))
}

/// Each service of this host that is asked for, with how it stands.
fn standing(
    shell: &Shell,
    uri: &Uri,
    wanted: impl Fn(&Service) -> bool,
) -> Result<(Vec<Health>, Params), Trouble> {
    let place = &shell.context.place;
    look(shell, uri, |directory| {
        let checks = own_checks(shell, directory);
        let own = own(directory, place.host.as_str());
        let health = |service: &Service| {
            let of = |check: &&Check| check.service_id.is_empty() || check.service_id == service.id;
            let checks: Vec<Check> = checks.iter().filter(of).cloned().collect();
            let each = checks.iter().map(|check| (check.check_id.as_str(), check.status));
            let aggregated_status = agent::aggregated(each);
            Health { aggregated_status, service: row(service, &place.datacenter), checks }
        };
        own.values().filter(|service| wanted(service)).map(health).collect()
    })
}

/// Consul's codes: passing, warning, and everything worse.
fn code(status: &str) -> StatusCode {
    match status {
        "passing" => StatusCode::OK,
        "warning" => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn health(found: &impl serde::Serialize, status: &str, params: &Params) -> Response {
    if params.first("format") == Some("text") {
        return answer::text(code(status), status.to_owned());
    }
    answer::json(code(status), found, params.has("pretty"))
}

fn missing(what: &str, name: &str, params: &Params) -> Response {
    if params.first("format") == Some("text") {
        return answer::text(StatusCode::NOT_FOUND, format!("{what} {name} not found"));
    }
    let body = json!({ "AggregatedStatus": "critical", "Service": null, "Checks": null });
    answer::json(StatusCode::NOT_FOUND, &body, params.has("pretty"))
}

async fn health_by_id(State(shell): State<Arc<Shell>>, Path(id): Path<String>, uri: Uri) -> Reply {
    let (mut found, params) = standing(&shell, &uri, |service| service.id == id)?;
    Ok(match found.pop() {
        Some(one) => health(&one, one.aggregated_status, &params),
        None => missing("ServiceId", &id, &params),
    })
}

async fn health_by_name(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Reply {
    let same = |service: &Service| service.service.eq_ignore_ascii_case(&name);
    let (found, params) = standing(&shell, &uri, same)?;
    let rank = |health: &&Health| match health.aggregated_status {
        "passing" => 0,
        "warning" => 1,
        "critical" => 2,
        _ => 3,
    };
    Ok(match found.iter().max_by_key(rank) {
        Some(worst) => health(&found, worst.aggregated_status, &params),
        None => missing("ServiceName", &name, &params),
    })
}
