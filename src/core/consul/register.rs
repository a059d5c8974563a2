//! Plans of `catalog/register` and `catalog/deregister`: the last writer wins, except over what
//! sengu manages, which is refused with the reason.
//!
//! A registration that changes nothing writes nothing, so no index moves. Every plan compares
//! what it left out, and that no master record came up under the name meanwhile. Nodes need an
//! IP address here; Consul also takes host names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::directory::{CONSUL, Directory, managed_id};
use super::json::{Deregistration, RegisteredCheck, RegisteredService, Registration, decode};
use super::record::{CheckRecord, ServiceRecord, Status, key};
use super::row::Node;
use super::{Otherwise, Plan, Refusal};
use crate::kv::{Compare, Key, Op, Txn};
use crate::name::ServiceName;
use crate::record::{FORMAT, NodeRecord, Owner, Record};

/// The longest name or id, in bytes.
pub const NAME_MAX: usize = 255;
/// The most tags of a service, pairs of metadata, and checks in one request.
pub const LIST_MAX: usize = 64;
/// The longest value of metadata, in bytes.
pub const META_MAX: usize = 512;
/// The longest notes of a check, and how much of its output is kept, in bytes.
pub const TEXT_MAX: usize = 4096;
/// The most records of each kind that clients may register.
pub const RECORDS_MAX: usize = 16_384;

/// Plans `catalog/register`.
///
/// # Errors
/// [`Refusal`] with Consul's words where its clients look for them.
pub fn register(directory: &Directory<'_>, body: &[u8]) -> Result<Plan, Refusal> {
    let request: Registration = decode(body)?;
    datacenter(directory, &request.datacenter.0)?;
    check_node_name(&request.node.0)?;
    let mut draft = Draft::new(directory, Owner::Catalog);
    draft.node(&request)?;
    if let Some(service) = &request.service {
        draft.service(&request.node.0, service)?;
    }
    let checks: Vec<&RegisteredCheck> = request.check.iter().chain(&request.checks.0).collect();
    if checks.len() > LIST_MAX {
        return Err(invalid(format!(
            "{} checks are too many, the most is {LIST_MAX}",
            checks.len()
        )));
    }
    // Two checks of one id in one request: the last counts, since a txn writes a key once.
    let mut by_id = BTreeMap::new();
    for check in checks {
        let id = if check.checkid.0.is_empty() { &check.name.0 } else { &check.checkid.0 };
        by_id.insert(id.clone(), check);
    }
    for (id, check) in by_id {
        draft.check(&request, &id, check)?;
    }
    Ok(draft.plan(&request.node.0))
}

/// Plans `catalog/deregister`: a service with its checks, else a check, else the whole node.
/// What is not there counts as removed.
///
/// # Errors
/// [`Refusal`], as for [`register`].
pub fn deregister(directory: &Directory<'_>, body: &[u8]) -> Result<Plan, Refusal> {
    let request: Deregistration = decode(body)?;
    datacenter(directory, &request.datacenter.0)?;
    check_node_name(&request.node.0)?;
    let node = &request.node.0;
    let then = if !request.serviceid.0.is_empty() {
        refuse_managed_id(directory, node, &request.serviceid.0)?;
        remove_service(directory, node, &request.serviceid.0)
    } else if !request.checkid.0.is_empty() {
        refuse_managed_check(directory, node, &request.checkid.0)?;
        vec![Op::Delete(key::check(node, &request.checkid.0))]
    } else {
        if directory.find_node(node).is_some_and(|found| found.agent) {
            return Err(Refusal::Managed(format!(
                "node {node} is the host of a sengu agent; it leaves the catalog with its agent"
            )));
        }
        vec![
            Op::Delete(key::node(node)),
            Op::DeletePrefix(key::service(node, "")),
            Op::DeletePrefix(key::check(node, "")),
        ]
    };
    Ok(Plan { txn: Txn { when: vec![], then, otherwise: vec![] }, otherwise: Otherwise::Again })
}

pub(super) fn remove_service(directory: &Directory<'_>, node: &str, id: &str) -> Vec<Op> {
    let checks = directory.catalog.registry().checks_on(node).map(|kept| &kept.record);
    let checks = checks.filter(|check| check.service_id.as_deref() == Some(id));
    let checks = checks.map(|check| Op::Delete(key::check(node, &check.id)));
    std::iter::once(Op::Delete(key::service(node, id))).chain(checks).collect()
}

/// A registration's txn while it is put together.
pub(super) struct Draft<'a> {
    pub(super) directory: &'a Directory<'a>,
    pub(super) when: Vec<Compare>,
    pub(super) then: Vec<Op>,
    /// For whom services and checks are registered.
    pub(super) owner: Owner,
    /// Do they stand in a definition file?
    pub(super) from_file: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(directory: &'a Directory<'a>, owner: Owner) -> Self {
        Self { directory, when: Vec::new(), then: Vec::new(), owner, from_file: false }
    }

    /// What the agent of a node keeps stays its own when it is written through the catalog.
    fn owner(&self, old: Option<Owner>) -> Owner {
        if old == Some(Owner::Agent) { Owner::Agent } else { self.owner }
    }

    fn node(&mut self, request: &Registration) -> Result<(), Refusal> {
        let name = &request.node.0;
        let known = self.directory.find_node(name);
        if request.skipnodeupdate.0 {
            let Some(known) = known else {
                return Err(invalid(format!("node {name} is not registered")));
            };
            if !known.agent {
                self.when.push(Compare::Present(key::node(name)));
            }
            return Ok(());
        }
        if request.address.0.is_empty() {
            return Err(invalid("Must provide address if SkipNodeUpdate is not set"));
        }
        let address: IpAddr = request.address.0.parse().map_err(|_| {
            invalid(format!("node address {:?} is not an IP address", request.address.0))
        })?;
        if let Some(known) = known.filter(|node| node.agent) {
            return same_address(&known, address);
        }
        let key = key::node(name);
        let old = self.old::<NodeRecord>(&key);
        let id = Some(request.id.0.to_lowercase()).filter(|id| !id.is_empty());
        if let Some(id) = &id {
            check_text("node id", id, NAME_MAX)?;
        }
        let (old_id, unknown) = old.map_or_else(Default::default, |old| (old.id, old.unknown));
        let record = NodeRecord {
            format: FORMAT,
            name: name.clone(),
            address,
            owner: Owner::Catalog,
            id: id.or(old_id),
            meta: metadata(&request.nodemeta.0)?,
            unknown,
        };
        self.put(key, record.encode(), "nodes")
    }

    pub(super) fn service(
        &mut self,
        node: &str,
        request: &RegisteredService,
    ) -> Result<(), Refusal> {
        let name = &request.service.0;
        if name.is_empty() {
            return Err(invalid("Must provide service name with ID"));
        }
        let id = if request.id.0.is_empty() { name } else { &request.id.0 };
        check_text("service name", name, NAME_MAX)?;
        check_text("service id", id, NAME_MAX)?;
        self.refuse_managed_name(name)?;
        refuse_managed_id(self.directory, node, id)?;
        if request.tags.0.len() > LIST_MAX {
            return Err(invalid(format!("more than {LIST_MAX} tags for service {name}")));
        }
        for tag in &request.tags.0 {
            check_text("tag", tag, NAME_MAX)?;
        }
        let address = &request.address.0;
        if ["0.0.0.0", "::", "[::]"].contains(&address.as_str()) {
            return Err(invalid("Invalid service address"));
        }
        check_text("service address", address, NAME_MAX)?;
        let key = key::service(node, id);
        let old = self.old::<ServiceRecord>(&key);
        let record = ServiceRecord {
            format: FORMAT,
            node: node.to_owned(),
            id: id.clone(),
            name: name.clone(),
            tags: request.tags.0.clone(),
            address: Some(address.clone()).filter(|address| !address.is_empty()),
            port: request.port.0,
            meta: metadata(&request.meta.0)?,
            owner: self.owner(old.as_ref().map(|old| old.owner)),
            from_file: self.from_file,
            unknown: old.map(|old| old.unknown).unwrap_or_default(),
        };
        self.put(key, record.encode(), "services")
    }

    fn check(
        &mut self,
        request: &Registration,
        id: &str,
        check: &RegisteredCheck,
    ) -> Result<(), Refusal> {
        let node = &request.node.0;
        if id.is_empty() {
            return Err(invalid("Must provide check name or CheckID"));
        }
        check_text("check id", id, NAME_MAX)?;
        check_text("check name", &check.name.0, NAME_MAX)?;
        check_text("check notes", &check.notes.0, TEXT_MAX)?;
        refuse_managed_check(self.directory, node, id)?;
        let service_id = Some(check.serviceid.0.clone()).filter(|id| !id.is_empty());
        if let Some(service_id) = &service_id {
            self.require_service(request, service_id)?;
        }
        let status = match check.status.0.as_str() {
            "" => Status::Critical,
            text => Status::parse(text)
                .ok_or_else(|| invalid(format!("Invalid check status {text:?}")))?,
        };
        let key = key::check(node, id);
        let old = self.old::<CheckRecord>(&key);
        let name = if check.name.0.is_empty() { id } else { &check.name.0 };
        let record = CheckRecord {
            format: FORMAT,
            node: node.clone(),
            id: id.to_owned(),
            name: name.to_owned(),
            service_id,
            status,
            output: cut(&check.output.0, TEXT_MAX).to_owned(),
            notes: check.notes.0.clone(),
            owner: self.owner(old.as_ref().map(|old| old.owner)),
            from_file: old.as_ref().is_some_and(|old| old.from_file),
            definition: old.as_ref().and_then(|old| old.definition.clone()),
            unknown: old.map(|old| old.unknown).unwrap_or_default(),
        };
        self.put(key, record.encode(), "checks")
    }

    /// A check's service is in the same request, or registered already.
    fn require_service(&mut self, request: &Registration, id: &str) -> Result<(), Refusal> {
        refuse_managed_id(self.directory, &request.node.0, id)?;
        let same = request.service.as_ref().is_some_and(|service| {
            service.id.0 == id || (service.id.0.is_empty() && service.service.0 == id)
        });
        if same {
            return Ok(());
        }
        let key = key::service(&request.node.0, id);
        if self.directory.catalog.get(&key).is_none() {
            return Err(invalid(format!(
                "Missing service registration: no service {id} on node {}",
                request.node.0
            )));
        }
        let present = Compare::Present(key);
        if !self.when.contains(&present) {
            self.when.push(present);
        }
        Ok(())
    }

    pub(super) fn refuse_managed_name(&mut self, name: &str) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(CONSUL) {
            return Err(Refusal::Managed(format!(
                "service name {name} belongs to the agents themselves; choose another"
            )));
        }
        if let Some((service, _)) = self.directory.managed(name) {
            return Err(Refusal::Managed(format!(
                "service {service} is managed by sengu, which publishes it itself; \
                 remove it from the hosts' sengu configuration to register it here"
            )));
        }
        // Nor may it be adopted while this is on its way.
        if let Ok(service) = ServiceName::new(name) {
            self.when.push(Compare::Modified(crate::record::key::master(&service), 0));
        }
        Ok(())
    }

    pub(super) fn old<T: Record>(&self, key: &str) -> Option<T> {
        self.directory.catalog.get(key).and_then(|entry| T::decode(&entry.value).ok())
    }

    pub(super) fn put(&mut self, key: Key, value: Arc<[u8]>, kind: &str) -> Result<(), Refusal> {
        match self.directory.catalog.get(&key) {
            Some(seen) if seen.value == value => {
                self.when.push(Compare::Modified(key, seen.modified));
            }
            Some(_) => self.then.push(Op::Put { key, value, lease: 0 }),
            None => {
                let prefix = format!("{kind}/");
                if self.directory.catalog.range(&prefix).count() >= RECORDS_MAX {
                    return Err(invalid(format!(
                        "{RECORDS_MAX} {kind} are registered, which is the most; deregister some"
                    )));
                }
                self.then.push(Op::Put { key, value, lease: 0 });
            }
        }
        Ok(())
    }

    pub(super) fn plan(self, node: &str) -> Plan {
        let mut then = self.then;
        if then.is_empty() {
            then.push(Op::Get(key::node(node)));
        }
        Plan { txn: Txn { when: self.when, then, otherwise: vec![] }, otherwise: Otherwise::Again }
    }
}

fn same_address(known: &Node, address: IpAddr) -> Result<(), Refusal> {
    if known.address == address.to_string() {
        return Ok(());
    }
    Err(Refusal::Managed(format!(
        "node {} is the host of a sengu agent, and its address is {}; register with that address, \
         or with SkipNodeUpdate",
        known.node, known.address
    )))
}

pub(super) fn refuse_managed_id(
    directory: &Directory<'_>,
    node: &str,
    id: &str,
) -> Result<(), Refusal> {
    let on_node = |host: &str| host.eq_ignore_ascii_case(node);
    let managed = directory.catalog.services().any(|(name, view)| {
        view.instances.iter().any(|(instance, at)| {
            on_node(at.record.host.as_str()) && managed_id(name, instance) == id
        })
    });
    let own = id == CONSUL && directory.find_node(node).is_some_and(|node| node.agent);
    if managed || own {
        return Err(Refusal::Managed(format!(
            "service id {id} on node {node} is managed by sengu, which publishes it itself"
        )));
    }
    Ok(())
}

pub(super) fn refuse_managed_check(
    directory: &Directory<'_>,
    node: &str,
    id: &str,
) -> Result<(), Refusal> {
    if id == "serfHealth" && directory.find_node(node).is_some_and(|node| node.agent) {
        return Err(Refusal::Managed(format!(
            "check serfHealth of node {node} is the sign of life of its agent"
        )));
    }
    match id.strip_prefix("service:") {
        Some(service) => refuse_managed_id(directory, node, service),
        None => Ok(()),
    }
}

fn datacenter(directory: &Directory<'_>, named: &str) -> Result<(), Refusal> {
    if named.is_empty() || named.eq_ignore_ascii_case(&directory.place.datacenter) {
        return Ok(());
    }
    Err(invalid("No path to datacenter"))
}

fn check_node_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(invalid("Must provide node"));
    }
    check_text("node name", name, NAME_MAX)?;
    if name.contains('/') {
        return Err(invalid(format!("node name {name:?} holds a slash")));
    }
    Ok(())
}

pub(super) fn check_text(what: &str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.len() > max {
        return Err(invalid(format!(
            "{what} of {} bytes is too long, the most is {max}",
            text.len()
        )));
    }
    // Notes may have lines; names may not.
    if max <= META_MAX && text.chars().any(char::is_control) {
        return Err(invalid(format!("{what} {text:?} holds unprintable characters")));
    }
    Ok(())
}

fn metadata(given: &Map<String, Value>) -> Result<BTreeMap<String, String>, Refusal> {
    if given.len() > LIST_MAX {
        return Err(invalid(format!("more than {LIST_MAX} pairs of metadata")));
    }
    let pair = |(name, value): (&String, &Value)| {
        let Value::String(value) = value else {
            return Err(Refusal::Bad(format!(
                "Request decode failed: metadata {name:?} is not a string"
            )));
        };
        check_text("metadata key", name, NAME_MAX)?;
        check_text("metadata value", value, META_MAX)?;
        Ok((name.clone(), value.clone()))
    };
    given.iter().map(pair).collect()
}

pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

pub(super) fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::Invalid(text.into())
}
