//! Nodes and services as Consul's clients see them: what clients registered, and what sengu
//! manages, in one directory.
//!
//! An instance of a managed service is a service entry on its host's node, with the id
//! `SERVICE-INSTANCE`. Only the one that [`Catalog::master`] names at this moment is tagged
//! `master` and `primary`; copies in good standing are tagged `replica` and `slave`; all others
//! have no tag. Each host of an agent also has Consul's own service, `consul`.
//!
//! Indexes. A service's counts what its own entries are made of, a node's what is on it, and a
//! record that moves from one to another counts for both; lists have the index of the last change
//! of their kinds of records. A name that is not there has that of the last one that went. What
//! changes by the clock alone ([`Directory::signs`]) has no revision: the shell adds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::Found;
use super::filter::Filter;
use super::health::{Check, node_checks, service_checks};
use super::record::ServiceRecord;
use super::registry::Kept;
use super::row::{Entry, FlatEntry, Node, NodeServices, Service, Weights};
use crate::catalog::{At, Catalog, Named, ServiceView};
use crate::kv::Revision;
use crate::name::{HostName, InstanceName, ServiceName};
use crate::record::{InstanceRecord, NodeRecord, Owner};
use crate::time::Time;

/// Consul's own service, which every server registers.
pub const CONSUL: &str = "consul";

/// The port at which Consul's servers speak to each other; shown, not served.
pub const SERVER_PORT: u16 = 8300;

/// The kinds of records that the directory is made of.
pub const KINDS: [&str; 6] = ["nodes", "services", "checks", "instances", "master", "requests"];

/// Where the agent that answers stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its host.
    pub host: HostName,
    /// Its host's address.
    pub address: IpAddr,
    /// The one datacenter.
    pub datacenter: String,
    /// How long a host may be silent before it counts as gone.
    pub lease: Duration,
}

/// A catalog at one moment, in Consul's words.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) now: Time,
    pub(super) place: &'a Place,
}

/// Which entries a reader wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// All of these tags, in any case.
    pub tags: Vec<String>,
    /// All of these pairs in the node's metadata.
    pub node_meta: Vec<(String, String)>,
    /// Only entries with nothing but passing checks.
    pub passing: bool,
}

impl Wanted {
    fn node(&self, node: &Node) -> bool {
        self.node_meta.iter().all(|(key, value)| node.meta.get(key) == Some(value))
    }

    fn entry(&self, entry: &Entry) -> bool {
        let tagged = |tag: &String| {
            entry.service.tags.iter().any(|has| has.to_lowercase() == tag.to_lowercase())
        };
        self.node(&entry.node)
            && self.tags.iter().all(tagged)
            && (!self.passing || entry.checks.iter().all(Check::passes))
    }
}

impl<'a> Directory<'a> {
    /// A catalog as it stands at `now`, seen from `place`.
    #[must_use]
    pub fn new(catalog: &'a Catalog, now: Time, place: &'a Place) -> Self {
        Self { catalog, now, place }
    }

    /// The catalog behind it.
    #[must_use]
    pub fn catalog(&self) -> &'a Catalog {
        self.catalog
    }

    /// Did the store answer within the lease?
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.now < self.catalog.valid_until
    }

    /// `catalog/nodes`.
    #[must_use]
    pub fn nodes(&self, wanted: &Wanted) -> Found<Vec<Node>> {
        let body = self.all_nodes().into_values().filter(|node| wanted.node(node)).collect();
        let loaded = self.catalog.loaded();
        Found { index: self.catalog.registry().nodes_changed().max(loaded), body }
    }

    /// `catalog/services`: each name with all tags that any of its entries has. The filter is
    /// asked about each entry.
    #[must_use]
    pub fn services(
        &self,
        wanted: &Wanted,
        filter: Option<&Filter>,
    ) -> Found<BTreeMap<String, BTreeSet<String>>> {
        let mut body: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in self.entries().into_iter().filter(|entry| wanted.node(&entry.node)) {
            let row = FlatEntry::from(entry);
            if filter.is_none_or(|filter| filter.keeps(&row)) {
                body.entry(row.service_name).or_default().extend(row.service_tags);
            }
        }
        // No check has a part in it.
        Found { index: self.last(&["nodes", "services", "instances", "master", "requests"]), body }
    }

    /// `catalog/service/NAME`.
    #[must_use]
    pub fn service(&self, name: &str, wanted: &Wanted) -> Found<Vec<FlatEntry>> {
        let found = self.health_service(name, wanted);
        let body = found.body.into_iter().map(FlatEntry::from).collect();
        Found { index: found.index, body }
    }

    /// `health/service/NAME`.
    #[must_use]
    pub fn health_service(&self, name: &str, wanted: &Wanted) -> Found<Vec<Entry>> {
        let found = self.service_entries(name);
        let body = found.body.into_iter().filter(|entry| wanted.entry(entry)).collect();
        Found { index: found.index, body }
    }

    /// `catalog/node/NAME`, by name or id.
    #[must_use]
    pub fn node(&self, name: &str) -> Found<Option<NodeServices>> {
        let body = self.find_node(name).map(|node| {
            let services = self.entries_on(&node);
            let services =
                services.into_iter().map(|e| (e.service.id.clone(), e.service)).collect();
            NodeServices { node, services }
        });
        Found { index: self.index_of_node(name), body }
    }

    /// The last change of anything on a node, by its name or id.
    pub(super) fn index_of_node(&self, name: &str) -> Revision {
        let node = self.find_node(name).map_or_else(|| name.to_lowercase(), |node| node.node);
        let here = self.catalog.services().map(|(_, view)| view).filter(|view| {
            view.instances.values().any(|at| node.eq_ignore_ascii_case(at.record.host.as_str()))
        });
        let managed = here.map(|view| view.changed).max().unwrap_or_default();
        let registered = self.catalog.registry().changed_on(&node);
        managed.max(registered).max(self.catalog.loaded())
    }

    /// Is this name, in any case, that of a service which sengu manages or watches?
    #[must_use]
    pub fn managed(&self, name: &str) -> Option<(&'a ServiceName, &'a ServiceView)> {
        let name = ServiceName::new(name).ok()?;
        let (name, view) = self.catalog.services().find(|(have, _)| **have == name)?;
        (!view.instances.is_empty() || view.master.is_some()).then_some((name, view))
    }

    /// Which of the [`Directory::signs`] bear on the entries of a name.
    #[must_use]
    pub fn signs_of_service(&self, name: &str) -> BTreeSet<String> {
        let host = |host: &str| format!("host/{}", host.to_lowercase());
        match self.managed(name) {
            Some((name, view)) => {
                let hosts = view.instances.values().map(|at| host(at.record.host.as_str()));
                hosts.chain([format!("master/{name}")]).collect()
            }
            None if name.eq_ignore_ascii_case(CONSUL) => {
                self.signs().into_iter().map(|(sign, _)| sign).collect()
            }
            None => {
                let kept = self.catalog.registry().named(name);
                kept.map(|kept| host(&kept.record.node)).collect()
            }
        }
    }

    /// Which of them bear on what is on a node.
    #[must_use]
    pub fn signs_of_node(&self, name: &str) -> BTreeSet<String> {
        let Some(node) = self.find_node(name) else { return BTreeSet::new() };
        let node = node.node.to_lowercase();
        let here = self
            .catalog
            .services()
            .filter(|(_, view)| view.instances.values().any(|at| at.record.host.as_str() == node));
        let masters = here.map(|(name, _)| format!("master/{name}"));
        masters.chain([format!("host/{node}")]).collect()
    }

    /// What depends on the clock alone: who is named for each service, and which hosts count as
    /// gone. Two moments with equal signs and records have equal answers.
    #[must_use]
    pub fn signs(&self) -> Vec<(String, String)> {
        let named = self.catalog.services().map(|(name, _)| {
            let who = match self.catalog.master(name, self.now) {
                Named::Master(instance, _) => instance.to_string(),
                Named::Withdrawn(_) => String::new(),
            };
            (format!("master/{name}"), who)
        });
        let hosts = self.all_nodes().into_values().filter(|node| node.agent);
        let hosts = hosts.map(|node| {
            let gone = self.gone(&node.node).is_some().to_string();
            (format!("host/{}", node.node.to_lowercase()), gone)
        });
        named.chain(hosts).collect()
    }

    /// When [`Directory::signs`] may next change without any change of a record; `None`: never.
    #[must_use]
    pub fn changes_at(&self) -> Option<Time> {
        let kept = self.catalog.services().filter_map(|(_, view)| view.kept_until());
        let beats = self
            .all_nodes()
            .into_values()
            .filter(|node| node.agent)
            .filter_map(|node| self.beat_until(&node.node));
        let all = kept.chain(beats).chain([self.catalog.valid_until]);
        all.filter(|at| *at > self.now).min()
    }

    /// Until when a host's last beat counts; `None` for the own host and for one that never
    /// sent any (with one judge, nobody does).
    fn beat_until(&self, host: &str) -> Option<Time> {
        if host.eq_ignore_ascii_case(self.place.host.as_str()) {
            return None;
        }
        let beat = self.catalog.beat(&host.to_lowercase())?;
        Some(beat.received + self.place.lease)
    }

    /// For how long a host has been silent, if it counts as gone.
    pub(super) fn gone(&self, host: &str) -> Option<Duration> {
        let until = self.beat_until(host)?;
        (self.now >= until).then(|| self.now.since(until) + self.place.lease)
    }

    /// The last change of any record of these kinds.
    pub(super) fn last(&self, kinds: &[&str]) -> Revision {
        kinds.iter().map(|kind| self.catalog.changed(kind)).max().unwrap_or_default()
    }

    /// Every node by its lower-case name: registered ones, agents' hosts, the own host.
    pub(super) fn all_nodes(&self) -> BTreeMap<String, Node> {
        let mut nodes = BTreeMap::new();
        for kept in self.catalog.registry().nodes() {
            nodes.insert(kept.record.name.to_lowercase(), self.recorded(kept));
        }
        for (_, view) in self.catalog.services() {
            for at in view.instances.values() {
                self.add_host(&mut nodes, at);
            }
        }
        let own = self.place.host.as_str();
        nodes
            .entry(own.to_owned())
            .or_insert_with(|| self.agent_node(own, self.place.address, 0))
            .agent = true;
        nodes
    }

    fn add_host(&self, nodes: &mut BTreeMap<String, Node>, at: &At<InstanceRecord>) {
        let host = at.record.host.as_str();
        let node = nodes
            .entry(host.to_owned())
            .or_insert_with(|| self.agent_node(host, at.record.address.ip(), at.revision));
        node.agent = true;
    }

    fn recorded(&self, kept: &Kept<NodeRecord>) -> Node {
        let record = &kept.record;
        let mut node = self.agent_node(&record.name, record.address, kept.modified);
        node.id = record.id.clone().unwrap_or_default();
        node.meta.clone_from(&record.meta);
        node.create_index = kept.created;
        node.agent = record.owner == Owner::Managed;
        node
    }

    fn agent_node(&self, name: &str, address: IpAddr, index: Revision) -> Node {
        let address = address.to_string();
        let by_network = ["lan", "wan"].map(|net| (net.to_owned(), address.clone()));
        Node {
            id: String::new(),
            node: name.to_owned(),
            address,
            datacenter: self.place.datacenter.clone(),
            tagged_addresses: by_network.into(),
            meta: BTreeMap::new(),
            create_index: index,
            modify_index: index,
            agent: true,
        }
    }

    /// A node by its name, in any case, or by its id.
    pub(super) fn find_node(&self, name: &str) -> Option<Node> {
        let mut nodes = self.all_nodes();
        nodes.remove(&name.to_lowercase()).or_else(|| {
            nodes.into_values().find(|node| !node.id.is_empty() && node.id == name.to_lowercase())
        })
    }

    /// All entries of all services.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.all_nodes().values().flat_map(|node| self.entries_on(node)).collect()
    }

    /// All entries on a node.
    pub(super) fn entries_on(&self, node: &Node) -> Vec<Entry> {
        let mut entries = Vec::new();
        if node.agent {
            entries.push(self.consul_entry(node));
        }
        for (name, view) in self.catalog.services() {
            for (instance, at) in &view.instances {
                if at.record.host.as_str() == node.node.to_lowercase() {
                    entries.push(self.managed_entry(node, (name, view), (instance, at)));
                }
            }
        }
        entries.extend(self.registered_entries(node));
        entries
    }

    fn service_entries(&self, name: &str) -> Found<Vec<Entry>> {
        let nodes = self.all_nodes();
        if let Some((service, view)) = self.managed(name) {
            let entries: Vec<Entry> = view
                .instances
                .iter()
                .filter_map(|(instance, at)| {
                    let node = nodes.get(at.record.host.as_str())?;
                    Some(self.managed_entry(node, (service, view), (instance, at)))
                })
                .collect();
            return Found { index: self.managed_index(view), body: entries };
        }
        let own = name.eq_ignore_ascii_case(CONSUL);
        let body: Vec<Entry> = if own {
            let same = |entry: &Entry| entry.service.service.eq_ignore_ascii_case(name);
            nodes.values().flat_map(|node| self.entries_on(node)).filter(same).collect()
        } else {
            let kept = self.catalog.registry().named(name);
            kept.filter_map(|kept| {
                let node = nodes.get(&kept.record.node.to_lowercase())?;
                Some(self.registered_entry(node, &node_checks(self, node), kept))
            })
            .collect()
        };
        // A name that sengu managed until its last record went.
        let extinct = self.catalog.removed("instances").max(self.catalog.removed("master"));
        let index = self.catalog.registry().name_changed(name).max(extinct);
        let own = own.then(|| self.last(&["nodes", "services", "checks", "instances"]));
        Found { index: index.max(own.unwrap_or_default()), body }
    }

    /// The newest record that bears on a managed service's entries: its own, and those of its
    /// hosts.
    fn managed_index(&self, view: &ServiceView) -> Revision {
        let registry = self.catalog.registry();
        let hosts =
            view.instances.values().map(|at| registry.node_changed(at.record.host.as_str()));
        hosts.max().unwrap_or_default().max(view.changed).max(self.catalog.loaded())
    }

    fn consul_entry(&self, node: &Node) -> Entry {
        let service = Service {
            id: CONSUL.to_owned(),
            service: CONSUL.to_owned(),
            tags: Vec::new(),
            address: String::new(),
            meta: BTreeMap::new(),
            port: SERVER_PORT,
            weights: Weights { passing: 1, warning: 1 },
            enable_tag_override: false,
            create_index: node.create_index,
            modify_index: node.modify_index,
        };
        Entry { node: node.clone(), service, checks: node_checks(self, node) }
    }

    fn managed_entry(
        &self,
        node: &Node,
        (name, view): (&ServiceName, &ServiceView),
        (instance, at): (&InstanceName, &At<InstanceRecord>),
    ) -> Entry {
        let named = matches!(
            self.catalog.master(name, self.now),
            Named::Master(who, _) if who == instance
        );
        let tags: &[&str] = if named {
            &["master", "primary"]
        } else if view.replicas().any(|(who, _)| who == instance) {
            &["replica", "slave"]
        } else {
            &[]
        };
        let index = at.revision.max(view.master.as_ref().map_or(0, |at| at.revision));
        let created = self.catalog.get(&crate::record::key::instance(name, instance));
        let service = Service {
            id: managed_id(name, instance),
            service: name.to_string(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            address: at.record.address.ip().to_string(),
            meta: BTreeMap::from([("managed-by".to_owned(), "sengu".to_owned())]),
            port: at.record.address.port(),
            weights: Weights { passing: 1, warning: 1 },
            enable_tag_override: false,
            create_index: created.map_or(at.revision, |entry| entry.created),
            modify_index: index,
        };
        let mut checks = node_checks(self, node);
        checks.push(Check::of_instance(node, &service, &at.record, named));
        Entry { node: node.clone(), service, checks }
    }

    fn registered_entries(&self, node: &Node) -> Vec<Entry> {
        let of_node = node_checks(self, node);
        let services = self.catalog.registry().services_on(&node.node);
        // A name that sengu manages by now is sengu's alone.
        let own = services.filter(|kept| self.managed(&kept.record.name).is_none());
        own.map(|kept| self.registered_entry(node, &of_node, kept)).collect()
    }

    fn registered_entry(
        &self,
        node: &Node,
        of_node: &[Check],
        kept: &Kept<ServiceRecord>,
    ) -> Entry {
        let service = registered(kept);
        let mut checks = of_node.to_vec();
        checks.extend(service_checks(self, node, &service));
        Entry { node: node.clone(), service, checks }
    }
}

/// The id of a managed instance's entry.
#[must_use]
pub fn managed_id(service: &ServiceName, instance: &InstanceName) -> String {
    format!("{service}-{instance}")
}

fn registered(kept: &Kept<ServiceRecord>) -> Service {
    let record = kept.record.clone();
    Service {
        id: record.id,
        service: record.name,
        tags: record.tags,
        address: record.address.unwrap_or_default(),
        meta: record.meta,
        port: record.port,
        weights: Weights { passing: 1, warning: 1 },
        enable_tag_override: false,
        create_index: kept.created,
        modify_index: kept.modified,
    }
}
