//! `/master/S`, `/replica/S` and `/health`: one status for balancers, and why.
//!
//! Each answer compares with the clock when it is given: a name that is no longer kept, a store
//! that does not answer or a look that is too old is 503, never the last known good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use sengu_core::catalog::{Catalog, Named};
use sengu_core::consul::duration;
use sengu_core::name::{InstanceId, InstanceName, ServiceName};
use sengu_core::observation::Role;
use sengu_core::record::{InstanceRecord, Lag};
use serde_json::{Value, json};

use super::Shell;
use super::answer::{self, Trouble};
use super::query::Params;
use crate::clock;

/// The smallest lag that can be told: below it all copies look alike.
const LAG_MIN: Duration = Duration::from_secs(2);

fn good(value: &Value) -> Response {
    answer::json(StatusCode::OK, value, false)
}

fn unavailable(service: &str, reason: impl Into<String>) -> Response {
    let body = json!({ "service": service, "error": reason.into() });
    answer::json(StatusCode::SERVICE_UNAVAILABLE, &body, false)
}

/// 200 with the named master; with `?local` only if it is on this host.
pub(crate) async fn master(
    State(shell): State<Arc<Shell>>,
    Path(service): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    let local = Params::of(&uri)?.truth("local")?;
    let (name, catalog) = match known(&shell, &service) {
        Ok(found) => found,
        Err(reason) => return Ok(unavailable(&service, reason)),
    };
    let term =
        catalog.service(&name).and_then(|view| view.master.as_ref()).map(|at| at.record.term);
    Ok(match catalog.master(&name, clock::time()) {
        Named::Withdrawn(reason) => unavailable(&service, reason),
        Named::Master(instance, record) if local && record.host != shell.context.place.host => {
            unavailable(&service, format!("the master is {instance} on {}", record.host))
        }
        Named::Master(instance, record) => good(&json!({
            "service": name,
            "instance": instance,
            "address": record.address.ip(),
            "port": record.address.port(),
            "term": term,
        })),
    })
}

/// 200 if a copy of the service on this host is in good standing and within `max_lag`.
pub(crate) async fn replica(
    State(shell): State<Arc<Shell>>,
    Path(service): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    let max_lag = max_lag(&Params::of(&uri)?)?;
    let (name, catalog) = match known(&shell, &service) {
        Ok(found) => found,
        Err(reason) => return Ok(unavailable(&service, reason)),
    };
    if clock::time() >= catalog.valid_until {
        return Ok(unavailable(&service, "the store has not answered for a lease"));
    }
    let Some(view) = catalog.service(&name) else {
        return Ok(unavailable(&service, "no such service"));
    };
    let standing: BTreeMap<&InstanceName, &InstanceRecord> = view.replicas().collect();
    let mut reasons = Vec::new();
    for (instance, at) in &view.instances {
        if at.record.host != shell.context.place.host {
            continue;
        }
        let Some(record) = standing.get(instance) else {
            reasons.push(format!("{instance} is no replica in good standing"));
            continue;
        };
        match fault(&shell, &name, instance, record, max_lag) {
            Some(reason) => reasons.push(reason),
            None => {
                return Ok(good(&json!({
                    "service": name,
                    "instance": instance,
                    "address": record.address.ip(),
                    "port": record.address.port(),
                    "lag": record.lag,
                })));
            }
        }
    }
    if reasons.is_empty() {
        reasons.push("no instance of it on this host".to_owned());
    }
    Ok(unavailable(&service, reasons.join("; ")))
}

/// 200 while the agent answers, with how it stands with the store.
pub(crate) async fn health(State(shell): State<Arc<Shell>>) -> Response {
    let catalog = shell.context.view.catalog();
    let fresh = catalog.as_ref().is_some_and(|catalog| clock::time() < catalog.valid_until);
    good(&json!({
        "host": shell.context.place.host,
        "revision": catalog.map(|catalog| catalog.revision),
        "fresh": fresh,
    }))
}

/// The catalog, if it knows the service; else why not, with the names that it knows.
fn known(shell: &Shell, service: &str) -> Result<(ServiceName, Arc<Catalog>), String> {
    let name = ServiceName::new(service).map_err(|error| error.to_string())?;
    let Some(catalog) = shell.context.view.catalog() else {
        return Err("nothing was read from the store since this agent started".to_owned());
    };
    if catalog.service(&name).is_none() {
        let names: Vec<&str> = catalog.services().map(|(name, _)| name.as_str()).take(50).collect();
        return Err(format!("no such service; known are: {}", names.join(", ")));
    }
    Ok((name, catalog))
}

/// Go durations, and whole seconds for balancers that cannot write them.
fn max_lag(params: &Params) -> Result<Option<Duration>, Trouble> {
    let Some(text) = params.first("max_lag").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.parse().ok().map(Duration::from_secs);
    let Some(lag) = seconds.or_else(|| duration::parse(text)) else {
        return Err(Trouble::bad(format!("Invalid max_lag {text:?}: write it as 10s")));
    };
    if lag < LAG_MIN {
        return Err(Trouble::bad(format!(
            "max_lag {text} cannot be told apart: lag is known from {} s on",
            LAG_MIN.as_secs()
        )));
    }
    Ok(Some(lag))
}

/// Why a replica in good standing may not be used, if so.
fn fault(
    shell: &Shell,
    service: &ServiceName,
    instance: &InstanceName,
    record: &InstanceRecord,
    max_lag: Option<Duration>,
) -> Option<String> {
    let id = InstanceId { service: service.clone(), instance: instance.clone() };
    let Some(seen) = shell.context.board.get(&id) else {
        return Some(format!("{instance} was not looked at yet"));
    };
    let age = clock::time().since(seen.sent);
    if age > shell.context.look_age {
        return Some(format!("the last look at {instance} is {} s old", age.as_secs()));
    }
    if seen.observation.answer.state().map(|state| state.role) != Some(Role::Replica) {
        return Some(format!("{instance} did not answer as a replica"));
    }
    // Lag is recorded in classes; a class is good if its upper end is.
    let within = match record.lag {
        Lag::None => true,
        Lag::Some => max_lag.is_none_or(|most| record.policy.max_lag <= most),
        Lag::Far | Lag::Unknown => false,
    };
    (!within).then(|| match record.lag {
        Lag::Unknown => format!("how far {instance} is behind is not known"),
        Lag::None | Lag::Some | Lag::Far => format!("{instance} is too far behind"),
    })
}
