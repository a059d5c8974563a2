//! Consul's kind of records, put in order for DNS: nodes, registered services, addresses.
//!
//! Made from one catalog and valid for its revision; nothing here depends on the time. Records
//! that cannot be read are passed over. A service whose address is a name, not an address, is
//! left out: DNS here follows no other names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use crate::catalog::Catalog;
use crate::record::{NodeRecord, Owner, Record as _};

/// One place where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address: its own, else its node's.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its tags, in any case.
    pub tags: Vec<String>,
    /// Its node's name.
    pub node: String,
    /// No check of it or of its node is critical.
    pub healthy: bool,
}

/// What of `services/NODE/ID` matters here.
#[derive(Debug, Deserialize)]
struct ServiceEntry {
    node: String,
    id: String,
    name: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    port: u16,
}

/// What of `checks/NODE/ID` matters here.
#[derive(Debug, Deserialize)]
struct CheckEntry {
    node: String,
    #[serde(default)]
    service_id: Option<String>,
    status: String,
}

/// Nodes, registered services and addresses of one catalog, by name in lower case.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    nodes: BTreeMap<String, NodeRecord>,
    services: BTreeMap<String, Vec<Endpoint>>,
    nodes_at: BTreeMap<IpAddr, BTreeSet<String>>,
    services_at: BTreeMap<IpAddr, BTreeSet<String>>,
}

impl Directory {
    /// Reads a catalog's nodes, registered services and checks.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        let mut directory = Self::default();
        for node in read(catalog, "nodes/", |bytes| NodeRecord::decode(bytes).ok()) {
            let name = node.name.to_ascii_lowercase();
            directory.nodes_at.entry(node.address).or_default().insert(name.clone());
            directory.nodes.insert(name, node);
        }
        let failing = Failing::of(catalog);
        for entry in read(catalog, "services/", json::<ServiceEntry>) {
            directory.register(entry, &failing);
        }
        for (name, view) in catalog.services() {
            for at in view.instances.values() {
                let at = directory.services_at.entry(at.record.address.ip()).or_default();
                at.insert(name.as_str().to_owned());
            }
        }
        directory
    }

    fn register(&mut self, entry: ServiceEntry, failing: &Failing) {
        let node = entry.node.to_ascii_lowercase();
        let own = entry.address.as_deref().map(str::trim).filter(|address| !address.is_empty());
        let address = match own {
            Some(address) => address.parse().ok(),
            None => self.nodes.get(&node).map(|node| node.address),
        };
        let Some(address) = address else { return };
        let healthy =
            !failing.nodes.contains(&node) && !failing.services.contains(&(node, entry.id));
        let name = entry.name.to_ascii_lowercase();
        self.services_at.entry(address).or_default().insert(name.clone());
        self.services.entry(name).or_default().push(Endpoint {
            address,
            port: entry.port,
            tags: entry.tags,
            node: entry.node,
            healthy,
        });
    }

    /// A node by its name, in any case.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeRecord> {
        self.nodes.get(&name.to_ascii_lowercase())
    }

    /// The hosts of agents, by name.
    pub fn agents(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values().filter(|node| node.owner == Owner::Managed)
    }

    /// The endpoints registered under a name, in any case; healthy or not.
    #[must_use]
    pub fn service(&self, name: &str) -> &[Endpoint] {
        self.services.get(&name.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The nodes with this address, by name in lower case.
    pub fn nodes_at(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        self.nodes_at.get(&address).into_iter().flatten().map(String::as_str)
    }

    /// The services, managed or registered, with an endpoint at this address.
    pub fn services_at(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        self.services_at.get(&address).into_iter().flatten().map(String::as_str)
    }
}

/// Nodes and services with a check that is neither passing nor warning.
#[derive(Debug, Default)]
struct Failing {
    nodes: BTreeSet<String>,
    services: BTreeSet<(String, String)>,
}

impl Failing {
    fn of(catalog: &Catalog) -> Self {
        let mut failing = Self::default();
        for check in read(catalog, "checks/", json::<CheckEntry>) {
            if matches!(check.status.as_str(), "passing" | "warning") {
                continue;
            }
            let node = check.node.to_ascii_lowercase();
            match check.service_id.filter(|id| !id.is_empty()) {
                Some(id) => failing.services.insert((node, id)),
                None => failing.nodes.insert(node),
            };
        }
        failing
    }
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn read<'a, T>(
    catalog: &'a Catalog,
    prefix: &'a str,
    decode: impl Fn(&'a [u8]) -> Option<T>,
) -> impl Iterator<Item = T> {
    catalog.range(prefix).filter_map(move |entry| decode(&entry.value))
}
