//! Plans and views of `agent/…`: services and checks that clients register with the agent of
//! their own host.
//!
//! They stand in the catalog like all others, with the agent as their owner, so they outlive the
//! agent, and a deregistration by anybody holds. The agent keeps their checks: what it found is
//! told by [`report`]. What sengu manages is refused with the reason.

use serde::Serialize;
use serde_json::Value;

use super::definition::{AgentCheck, AgentService, Definition, Way};
use super::directory::Directory;
use super::json::{Nullable, RegisteredService};
use super::record::{CheckRecord, ServiceRecord, Status, key};
use super::register::{
    Draft, LIST_MAX, NAME_MAX, TEXT_MAX, check_text, cut, invalid, refuse_managed_check,
    refuse_managed_id, remove_service,
};
use super::{Otherwise, Plan, Refusal};
use crate::kv::{Compare, Op, Txn};
use crate::record::{FORMAT, Owner, Record};

/// The id of the check that marks a host.
pub const NODE_MAINTENANCE: &str = "_node_maintenance";
/// What the id of the check that marks a service begins with.
pub const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// Where a registration comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client of the HTTP server; may it bring programs?
    Client {
        /// `http_scripts` of the configuration.
        scripts: bool,
    },
    /// A definition file of this host; may it bring programs?
    File {
        /// `scripts` of the configuration.
        scripts: bool,
    },
}

impl Origin {
    fn is_file(self) -> bool {
        matches!(self, Self::File { .. })
    }

    fn allows(self, definition: &Definition) -> Result<(), Refusal> {
        if !matches!(definition.way, Way::Script { .. }) {
            return Ok(());
        }
        match self {
            Self::Client { scripts: true } | Self::File { scripts: true } => Ok(()),
            Self::Client { .. } => Err(Refusal::Bad(
                "Scripts are disabled on this agent; to enable, set `http_scripts = true` under \
                 `[checks]` (Consul's enable_script_checks), which lets everybody who reaches the \
                 port run programs as the agent; or put the check into a definition file and set \
                 `scripts = true` (Consul's enable_local_script_checks)"
                    .to_owned(),
            )),
            Self::File { .. } => Err(Refusal::Bad(
                "programs in checks are off; set `scripts = true` under `[checks]`".to_owned(),
            )),
        }
    }
}

/// Plans `agent/service/register`.
///
/// # Errors
/// [`Refusal`]; 400 for what cannot be understood, 409 for what sengu manages.
pub fn register_service(
    directory: &Directory<'_>,
    request: &AgentService,
    replace_checks: bool,
    origin: Origin,
) -> Result<Plan, Refusal> {
    let name = &request.name.0;
    if name.is_empty() {
        return Err(Refusal::Bad("Missing service name".to_owned()));
    }
    let id = if request.id.0.is_empty() { name } else { &request.id.0 };
    let node = directory.place.host.as_str();
    let mut draft = Draft::new(directory, Owner::Agent);
    draft.from_file = origin.is_file();
    let service = RegisteredService {
        id: Nullable(id.clone()),
        service: request.name.clone(),
        tags: request.tags.clone(),
        address: request.address.clone(),
        port: request.port.clone(),
        meta: request.meta.clone(),
    };
    draft.service(node, &service)?;
    let checks: Vec<&AgentCheck> = request.check.iter().chain(&request.checks.0).collect();
    if checks.len() > LIST_MAX {
        return Err(Refusal::Bad(format!("more than {LIST_MAX} checks for service {name}")));
    }
    let ids = check_ids(request);
    for (index, (check, check_id)) in checks.iter().zip(&ids).enumerate() {
        if ids[..index].contains(check_id) {
            return Err(Refusal::Bad(format!("two checks have the id {check_id:?}")));
        }
        let usual = format!("Service '{name}' check");
        put_check(&mut draft, check, (check_id, &usual), Some(id), origin)?;
    }
    if replace_checks {
        let all = directory.catalog.registry().checks_on(node).map(|kept| &kept.record);
        let gone = all.filter(|check| {
            check.service_id.as_ref() == Some(id)
                && !ids.contains(&check.id)
                && !check.id.starts_with(SERVICE_MAINTENANCE)
        });
        draft.then.extend(gone.map(|check| Op::Delete(key::check(node, &check.id))));
    }
    Ok(draft.plan(node))
}

/// The ids of a service's checks: those given, else `service:ID`, numbered if there are several.
#[must_use]
pub fn check_ids(request: &AgentService) -> Vec<String> {
    let id = if request.id.0.is_empty() { &request.name.0 } else { &request.id.0 };
    let checks: Vec<&AgentCheck> = request.check.iter().chain(&request.checks.0).collect();
    let several = checks.len() > 1;
    let one = |(index, check): (usize, &&AgentCheck)| {
        let number = if several { format!(":{}", index + 1) } else { String::new() };
        let given = Some(check.checkid.0.clone()).filter(|id| !id.is_empty());
        given.unwrap_or_else(|| format!("service:{id}{number}"))
    };
    checks.iter().enumerate().map(one).collect()
}

/// Plans `agent/check/register`.
///
/// # Errors
/// [`Refusal`]; 404 if the check's service is not registered here.
pub fn register_check(
    directory: &Directory<'_>,
    request: &AgentCheck,
    origin: Origin,
) -> Result<Plan, Refusal> {
    let name = &request.name.0;
    if name.is_empty() {
        return Err(Refusal::Bad("Missing check name".to_owned()));
    }
    let id = if request.checkid.0.is_empty() { name } else { &request.checkid.0 };
    let node = directory.place.host.as_str();
    let mut draft = Draft::new(directory, Owner::Agent);
    draft.from_file = origin.is_file();
    let service = Some(&request.serviceid.0).filter(|id| !id.is_empty());
    if let Some(service) = service {
        refuse_managed_id(directory, node, service)?;
        if own_service(directory, service).is_none() {
            return Err(Refusal::Missing(format!("ServiceID {service:?} does not exist")));
        }
        draft.when.push(Compare::Present(key::service(node, service)));
    }
    put_check(&mut draft, request, (id, name), service, origin)?;
    Ok(draft.plan(node))
}

fn put_check(
    draft: &mut Draft<'_>,
    request: &AgentCheck,
    (id, usual): (&str, &str),
    service: Option<&String>,
    origin: Origin,
) -> Result<(), Refusal> {
    let node = draft.directory.place.host.as_str().to_owned();
    let name = if request.name.0.is_empty() { usual } else { &request.name.0 };
    check_text("check id", id, NAME_MAX)?;
    check_text("check name", name, NAME_MAX)?;
    check_text("check notes", &request.notes.0, TEXT_MAX)?;
    refuse_managed_check(draft.directory, &node, id)?;
    let definition = request.definition()?;
    origin.allows(&definition)?;
    let status = match request.status.0.as_str() {
        "" => Status::Critical,
        text => Status::parse(text)
            .ok_or_else(|| Refusal::Bad(format!("Invalid check status: {text:?}")))?,
    };
    let key = key::check(&node, id);
    let old: Option<CheckRecord> = draft.old(&key);
    // What the check said last holds until it says something else.
    let (status, output, unknown) = match old {
        Some(old) => (old.status, old.output, old.unknown),
        None => (status, String::new(), Default::default()),
    };
    let record = CheckRecord {
        format: FORMAT,
        node,
        id: id.to_owned(),
        name: name.to_owned(),
        service_id: service.cloned(),
        status,
        output,
        notes: request.notes.0.clone(),
        owner: Owner::Agent,
        from_file: draft.from_file,
        definition: Some(definition),
        unknown,
    };
    draft.put(key, record.encode(), "checks")
}

/// Plans `agent/service/deregister/ID`.
///
/// # Errors
/// [`Refusal::Missing`] for an id that is not registered with this agent.
pub fn deregister_service(directory: &Directory<'_>, id: &str) -> Result<Plan, Refusal> {
    let node = directory.place.host.as_str();
    refuse_managed_id(directory, node, id)?;
    if own_service(directory, id).is_none() {
        return Err(Refusal::Missing(format!(
            "Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name."
        )));
    }
    Ok(plan(remove_service(directory, node, id)))
}

/// Plans `agent/check/deregister/ID`.
///
/// # Errors
/// [`Refusal::Missing`] for an id that is not registered with this agent.
pub fn deregister_check(directory: &Directory<'_>, id: &str) -> Result<Plan, Refusal> {
    let node = directory.place.host.as_str();
    refuse_managed_check(directory, node, id)?;
    own_check(directory, id).ok_or_else(|| unknown_check(id))?;
    Ok(plan(vec![Op::Delete(key::check(node, id))]))
}

/// Plans `agent/check/{pass,warn,fail,update}/ID`.
///
/// # Errors
/// [`Refusal::Missing`] for an unknown id, [`Refusal::Invalid`] for a check that is not told.
pub fn told(
    directory: &Directory<'_>,
    id: &str,
    status: Status,
    output: &str,
) -> Result<Plan, Refusal> {
    let check = own_check(directory, id).ok_or_else(|| unknown_check(id))?;
    match check.definition.as_ref().map(|definition| &definition.way) {
        Some(Way::Ttl { .. }) => {
            Ok(report(directory, id, status, output).unwrap_or_else(|| nothing(id)))
        }
        _ => Err(invalid(format!("CheckID {id:?} does not have associated TTL"))),
    }
}

/// Plans to write what a check found; `None` if that stands there, or the check is gone.
#[must_use]
pub fn report(directory: &Directory<'_>, id: &str, status: Status, output: &str) -> Option<Plan> {
    let node = directory.place.host.as_str();
    let key = key::check(node, id);
    let seen = directory.catalog.get(&key)?;
    let mut record = CheckRecord::decode(&seen.value).ok()?;
    record.status = status;
    cut(output, TEXT_MAX).clone_into(&mut record.output);
    let value = record.encode();
    if value == seen.value {
        return None;
    }
    let when = vec![Compare::Modified(std::sync::Arc::clone(&key), seen.modified)];
    let then = vec![Op::Put { key, value, lease: 0 }];
    Some(Plan { txn: Txn { when, then, otherwise: vec![] }, otherwise: Otherwise::Again })
}

/// Plans `agent/maintenance` and `agent/service/maintenance/ID`.
///
/// # Errors
/// [`Refusal::Missing`] for an unknown service, [`Refusal::Managed`] for one of sengu's.
pub fn maintain(
    directory: &Directory<'_>,
    service: Option<&str>,
    enable: bool,
    reason: &str,
) -> Result<Plan, Refusal> {
    let node = directory.place.host.as_str();
    check_text("reason", reason, TEXT_MAX)?;
    if let Some(id) = service {
        refuse_managed_id(directory, node, id).map_err(|refusal| match refusal {
            Refusal::Managed(why) => Refusal::Managed(format!(
                "{why}; take an instance out of service with `sengu drain`"
            )),
            other @ (Refusal::Bad(_)
            | Refusal::Missing(_)
            | Refusal::TooLarge(_)
            | Refusal::Invalid(_)) => other,
        })?;
        if own_service(directory, id).is_none() {
            return Err(Refusal::Missing(format!(
                "Unknown service ID {id:?}. Ensure that the service ID is passed, not the service \
                 name."
            )));
        }
    }
    let (id, name, what) = match service {
        Some(id) => (format!("{SERVICE_MAINTENANCE}{id}"), "Service Maintenance Mode", "service"),
        None => (NODE_MAINTENANCE.to_owned(), "Node Maintenance Mode", "node"),
    };
    let key = key::check(node, &id);
    if !enable {
        return Ok(plan(vec![Op::Delete(key)]));
    }
    let usual = || format!("Maintenance mode is enabled for this {what}; no reason was given.");
    let notes = if reason.is_empty() { usual() } else { reason.to_owned() };
    let record = CheckRecord {
        format: FORMAT,
        node: node.to_owned(),
        id,
        name: name.to_owned(),
        service_id: service.map(str::to_owned),
        status: Status::Critical,
        output: String::new(),
        notes,
        owner: Owner::Agent,
        from_file: false,
        definition: None,
        unknown: Default::default(),
    };
    let mut draft = Draft::new(directory, Owner::Agent);
    if let Some(service) = service {
        draft.when.push(Compare::Present(key::service(node, service)));
    }
    draft.put(key, record.encode(), "checks")?;
    Ok(draft.plan(node))
}

/// A service that is registered with the agent of this host.
#[must_use]
pub fn own_service<'a>(directory: &Directory<'a>, id: &str) -> Option<&'a ServiceRecord> {
    let node = directory.place.host.as_str();
    let mut own = directory.catalog.registry().services_on(node).map(|kept| &kept.record);
    own.find(|service| service.id == id && service.owner == Owner::Agent)
}

/// A check that is registered with the agent of this host.
#[must_use]
pub fn own_check<'a>(directory: &Directory<'a>, id: &str) -> Option<&'a CheckRecord> {
    own_checks(directory).find(|check| check.id == id)
}

/// All checks that are registered with the agent of this host.
pub fn own_checks<'a>(directory: &Directory<'a>) -> impl Iterator<Item = &'a CheckRecord> {
    let node = directory.place.host.as_str();
    let own = directory.catalog.registry().checks_on(node).map(|kept| &kept.record);
    own.filter(|check| check.owner == Owner::Agent)
}

/// All services and checks that stand in definition files of this host: their kind and id.
#[must_use]
pub fn of_files(directory: &Directory<'_>) -> Vec<(&'static str, String)> {
    let node = directory.place.host.as_str();
    let services = directory.catalog.registry().services_on(node).map(|kept| &kept.record);
    let services = services.filter(|one| one.from_file && one.owner == Owner::Agent);
    let checks = own_checks(directory).filter(|check| check.from_file);
    let services = services.map(|one| ("service", one.id.clone()));
    services.chain(checks.map(|check| ("check", check.id.clone()))).collect()
}

/// How a service of this host stands, as `agent/health/service/…` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `passing`, `warning`, `critical` or `maintenance`.
    pub aggregated_status: &'static str,
    /// The service, as `agent/services` shows it.
    pub service: Value,
    /// Its checks and those of its host.
    pub checks: Vec<super::health::Check>,
}

/// The worst of some checks; maintenance is worse than all.
#[must_use]
pub fn aggregated<'a>(checks: impl IntoIterator<Item = (&'a str, Status)>) -> &'static str {
    let mut worst = Status::Passing;
    for (id, status) in checks {
        if id == NODE_MAINTENANCE || id.starts_with(SERVICE_MAINTENANCE) {
            return "maintenance";
        }
        worst = worst.max(status);
    }
    worst.as_str()
}

fn unknown_check(id: &str) -> Refusal {
    Refusal::Missing(format!(
        "Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."
    ))
}

fn plan(then: Vec<Op>) -> Plan {
    Plan { txn: Txn { when: vec![], then, otherwise: vec![] }, otherwise: Otherwise::Again }
}

/// A plan that changes nothing, and still has an answer.
#[must_use]
pub fn nothing(id: &str) -> Plan {
    plan(vec![Op::Get(key::check("", id))])
}

#[cfg(test)]
mod tests;
