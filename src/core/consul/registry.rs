//! What clients registered: nodes, services and checks of one catalog, read once per change.
//!
//! The one reader of `nodes/…`, `services/…` and `checks/…`: Consul's dialect, DNS and templates
//! all see the same records, the same address for a service and the same checks that count
//! against it. A record that cannot be read is as good as not there. Nothing here depends on the
//! time, and nothing is written.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;

use super::record::{CheckRecord, ServiceRecord, Status, key};
use super::touch::Touches;
use crate::kv::{Key, KeyValue, Revision};
use crate::record::{NodeRecord, Record};

/// Registered records by their keys.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    nodes: OrdMap<Key, Arc<Kept<NodeRecord>>>,
    services: OrdMap<Key, Arc<Kept<ServiceRecord>>>,
    /// The same services by lower-case name, then key.
    names: OrdMap<(Arc<str>, Key), Arc<Kept<ServiceRecord>>>,
    checks: OrdMap<Key, Arc<Kept<CheckRecord>>>,
    /// When the entries of a name last changed, by lower-case name.
    of_name: Touches,
    /// When a node itself, or a check of it alone, last changed, by lower-case name.
    of_node: Touches,
    /// When anything on a node last changed, by lower-case name.
    on_node: Touches,
    /// When any node itself last changed.
    nodes_at: Revision,
}

/// A record and the revisions of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<T> {
    /// The revision at which it came to be.
    pub created: Revision,
    /// The revision of its last change.
    pub modified: Revision,
    /// The record.
    pub record: T,
}

/// Why a registered service has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// Its address is a host name; nothing here follows other names.
    #[error("its address is a name")]
    Name,
    /// It has none of its own, and its node is not registered.
    #[error("its node is not known")]
    NoNode,
}

impl Registry {
    /// Takes a record of one of its kinds; others are passed over.
    pub(crate) fn put(&mut self, kind: &str, entry: &KeyValue) {
        self.change(kind, &entry.key, entry.modified, |registry| match kind {
            "nodes" => put(&mut registry.nodes, entry),
            "services" => {
                registry.forget_name(&entry.key);
                put(&mut registry.services, entry);
                if let Some(kept) = registry.services.get(&entry.key) {
                    let name = (lower(&kept.record.name), Arc::clone(&entry.key));
                    registry.names.insert(name, Arc::clone(kept));
                }
            }
            "checks" => put(&mut registry.checks, entry),
            _ => {}
        });
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, kind: &str, key: &str, revision: Revision) {
        self.change(kind, key, revision, |registry| match kind {
            "nodes" => drop(registry.nodes.remove(key)),
            "services" => {
                registry.forget_name(key);
                registry.services.remove(key);
            }
            "checks" => drop(registry.checks.remove(key)),
            _ => {}
        });
    }

    /// Makes a change, and notes for whom it is one: for whom the record counted before it, and
    /// for whom it does now.
    fn change(
        &mut self,
        kind: &str,
        key: &str,
        revision: Revision,
        change: impl FnOnce(&mut Self),
    ) {
        if !matches!(kind, "nodes" | "services" | "checks") {
            return;
        }
        let Some(node) = key.split('/').nth(1).map(str::to_owned) else { return };
        let before = self.touched_by(kind, key, &node);
        change(self);
        let after = self.touched_by(kind, key, &node);
        if before.is_none() || after.is_none() {
            self.touch_node(&node, revision);
        }
        for name in before.into_iter().chain(after).flatten() {
            if self.named(&name).next().is_some() {
                self.of_name.touch(&name, revision);
            } else {
                self.of_name.end(&name, revision);
            }
        }
        let bare =
            self.services_on(&node).next().is_none() && self.checks_on(&node).next().is_none();
        if bare && self.node(&node).is_none() {
            self.on_node.end(&node, revision);
            self.of_node.end(&node, revision);
        } else {
            self.on_node.touch(&node, revision);
        }
    }

    /// The names whose entries a record bears on; `None`: on the node itself.
    fn touched_by(&self, kind: &str, key: &str, node: &str) -> Option<Vec<Arc<str>>> {
        let id = match kind {
            "services" => return Some(self.name_at(key).into_iter().collect()),
            "checks" => match self.checks.get(key) {
                None => return Some(Vec::new()),
                Some(kept) => kept.record.service_id.as_ref()?,
            },
            _ => return None,
        };
        Some(self.name_at(&key::service(node, id)).into_iter().collect())
    }

    fn name_at(&self, key: &str) -> Option<Arc<str>> {
        self.services.get(key).map(|kept| lower(&kept.record.name))
    }

    /// A node itself changed, and with it every entry on it.
    fn touch_node(&mut self, node: &str, revision: Revision) {
        self.nodes_at = self.nodes_at.max(revision);
        self.of_node.touch(node, revision);
        let names: Vec<Arc<str>> =
            self.services_on(node).map(|kept| lower(&kept.record.name)).collect();
        for name in names {
            self.of_name.touch(&name, revision);
        }
    }

    /// An instance of sengu's was seen on a host, or is gone from it; a host that had none, or has
    /// none any more, is another node.
    pub(crate) fn moved(&mut self, before: Option<&str>, after: Option<&str>, revision: Revision) {
        for host in before.into_iter().chain(after) {
            let host = host.to_lowercase();
            self.on_node.touch(&host, revision);
            if before != after {
                self.touch_node(&host, revision);
            }
        }
    }

    /// A revision not older than the last change of the entries of a name; for a name that has
    /// none, of the last that any name had.
    #[must_use]
    pub fn name_changed(&self, name: &str) -> Revision {
        self.of_name.of(&name.to_lowercase())
    }

    /// The same of a node itself and of the checks of it alone.
    #[must_use]
    pub fn node_changed(&self, node: &str) -> Revision {
        self.of_node.of(&node.to_lowercase())
    }

    /// The same of anything on a node.
    #[must_use]
    pub fn changed_on(&self, node: &str) -> Revision {
        self.on_node.of(&node.to_lowercase())
    }

    /// When any node itself last changed.
    #[must_use]
    pub fn nodes_changed(&self) -> Revision {
        self.nodes_at
    }

    fn forget_name(&mut self, key: &str) {
        if let Some((key, kept)) = self.services.get_key_value(key) {
            self.names.remove(&(lower(&kept.record.name), Arc::clone(key)));
        }
    }

    /// All nodes, by their lower-case names.
    pub fn nodes(&self) -> impl Iterator<Item = &Kept<NodeRecord>> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// A node by its name, in any case.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Kept<NodeRecord>> {
        self.nodes.get(&*key::node(name)).map(Arc::as_ref)
    }

    /// All services, by node and id.
    pub fn services(&self) -> impl Iterator<Item = &Kept<ServiceRecord>> {
        self.services.values().map(Arc::as_ref)
    }

    /// The services of one name, in any case, by node and id.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Kept<ServiceRecord>> {
        let name = lower(name);
        self.names
            .range((Arc::clone(&name), Key::from(""))..)
            .take_while(move |((have, _), _)| *have == name)
            .map(|(_, kept)| kept.as_ref())
    }

    /// All services with their lower-case names, those of one name together.
    pub fn by_name(&self) -> impl Iterator<Item = (&Arc<str>, &Kept<ServiceRecord>)> {
        self.names.iter().map(|((name, _), kept)| (name, kept.as_ref()))
    }

    /// How many services there are.
    #[must_use]
    pub fn services_count(&self) -> usize {
        self.services.len()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes_count(&self) -> usize {
        self.nodes.len()
    }

    /// The services of a node, by id.
    pub fn services_on(&self, node: &str) -> impl Iterator<Item = &Kept<ServiceRecord>> {
        under(&self.services, key::service(node, ""))
    }

    /// The checks of a node and of its services, by id.
    pub fn checks_on(&self, node: &str) -> impl Iterator<Item = &Kept<CheckRecord>> {
        under(&self.checks, key::check(node, ""))
    }

    /// Where a service listens: its own address, else its node's.
    ///
    /// # Errors
    /// [`NoAddress`].
    pub fn address(&self, service: &ServiceRecord) -> Result<IpAddr, NoAddress> {
        match service.address.as_deref().map(str::trim).filter(|own| !own.is_empty()) {
            Some(own) => own.parse().map_err(|_| NoAddress::Name),
            None => {
                let node = self.node(&service.node).ok_or(NoAddress::NoNode)?;
                Ok(node.record.address)
            }
        }
    }

    /// What has a critical check.
    #[must_use]
    pub fn failing(&self) -> Failing {
        let mut all = self.standing();
        all.of.retain(|_, status| *status == Status::Critical);
        all
    }

    /// What has a check that does not pass.
    #[must_use]
    pub fn standing(&self) -> Failing {
        let mut of = BTreeMap::new();
        let bad = self.checks.values().map(|kept| &kept.record);
        for check in bad.filter(|check| check.status != Status::Passing) {
            let id = check.service_id.clone().filter(|id| !id.is_empty());
            let worst = of.entry((check.node.to_lowercase(), id)).or_insert(check.status);
            *worst = check.status.max(*worst);
        }
        Failing { of }
    }
}

/// Nodes, and services on nodes, with a check that does not pass, and the worst of each.
#[derive(Debug)]
pub struct Failing {
    of: BTreeMap<(String, Option<String>), Status>,
}

impl Failing {
    /// Has this service a critical check, or its node?
    #[must_use]
    pub fn hits(&self, service: &ServiceRecord) -> bool {
        self.worst(service) == Status::Critical
    }

    /// The worst of the checks of a service and of its node.
    #[must_use]
    pub fn worst(&self, service: &ServiceRecord) -> Status {
        if self.of.is_empty() {
            return Status::Passing;
        }
        let node = service.node.to_lowercase();
        let of = |id: Option<String>| self.of.get(&(node.clone(), id)).copied();
        of(None).max(of(Some(service.id.clone()))).unwrap_or(Status::Passing)
    }
}

fn lower(name: &str) -> Arc<str> {
    name.to_lowercase().into()
}

fn put<T: Record + Clone>(map: &mut OrdMap<Key, Arc<Kept<T>>>, entry: &KeyValue) {
    match T::decode(&entry.value) {
        Ok(record) => {
            let kept = Kept { created: entry.created, modified: entry.modified, record };
            map.insert(Arc::clone(&entry.key), Arc::new(kept));
        }
        Err(_) => drop(map.remove(&entry.key)),
    }
}

fn under<T>(map: &OrdMap<Key, Arc<Kept<T>>>, prefix: Key) -> impl Iterator<Item = &Kept<T>> {
    map.range(Arc::clone(&prefix)..)
        .take_while(move |(key, _)| key.starts_with(&*prefix))
        .map(|(_, kept)| kept.as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(key: &str, value: &serde_json::Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.to_string().into_bytes().into(),
            created: 1,
            modified: 2,
            version: 1,
            lease: 0,
        }
    }

    fn service(id: &str, address: Option<&str>) -> serde_json::Value {
        json!({"format": 1, "node": "Web1", "id": id, "name": "api", "port": 80,
               "owner": "catalog", "address": address})
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let node = json!({"format": 1, "name": "Web1", "address": "10.0.0.1", "owner": "catalog"});
        registry.put("nodes", &entry("nodes/web1", &node));
        registry.put("services", &entry("services/web1/a", &service("a", None)));
        registry.put("services", &entry("services/web1/b", &service("b", Some("10.0.0.2"))));
        let check = json!({"format": 1, "node": "web1", "id": "c", "name": "c",
                           "service_id": "b", "status": "critical"});
        registry.put("checks", &entry("checks/web1/c", &check));
        registry
    }

    #[test]
    fn a_service_listens_at_its_own_address_or_its_nodes() {
        let mut registry = registry();
        let at = |registry: &Registry| -> Vec<Result<String, NoAddress>> {
            let told = |kept: &Kept<ServiceRecord>| registry.address(&kept.record);
            registry.services().map(|kept| Ok(told(kept)?.to_string())).collect()
        };
        assert_eq!(at(&registry), [Ok("10.0.0.1".to_owned()), Ok("10.0.0.2".to_owned())]);
        registry.put("services", &entry("services/web1/b", &service("b", Some("db.example"))));
        registry.remove("nodes", "nodes/web1", 9);
        assert_eq!(at(&registry), [Err(NoAddress::NoNode), Err(NoAddress::Name)]);
    }

    #[test]
    fn a_critical_check_hits_its_service_or_all_of_its_node() {
        let mut registry = registry();
        let hit = |registry: &Registry| -> Vec<bool> {
            let failing = registry.failing();
            registry.services_on("WEB1").map(|kept| failing.hits(&kept.record)).collect()
        };
        assert_eq!(hit(&registry), [false, true]);
        let check = json!({"format": 1, "node": "Web1", "id": "c", "name": "c",
                           "status": "critical"});
        registry.put("checks", &entry("checks/web1/c", &check));
        assert_eq!(hit(&registry), [true, true]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_there() {
        let mut registry = registry();
        registry.put("checks", &entry("checks/web1/c", &json!({"status": 7})));
        assert_eq!(registry.checks_on("web1").count(), 0);
    }
}
