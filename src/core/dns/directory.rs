//! Consul's kind of records, put in order for DNS: nodes, registered services, addresses.
//!
//! Made from one catalog and valid for its revision; nothing here depends on the time. Records
//! that cannot be read are passed over. A service whose address is a name, not an address, is
//! left out: DNS here follows no other names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::catalog::Catalog;
use crate::consul::record::ServiceRecord;
use crate::record::{NodeRecord, Owner};

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

/// Nodes, registered services and addresses of one catalog, by name in lower case.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    nodes: BTreeMap<String, NodeRecord>,
    services: BTreeMap<String, Vec<Endpoint>>,
    nodes_at: BTreeMap<IpAddr, BTreeSet<String>>,
    services_at: BTreeMap<IpAddr, BTreeSet<String>>,
}

impl Directory {
    /// Puts a catalog's nodes, registered services and their health in order.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        let mut directory = Self::default();
        let registry = catalog.registry();
        for kept in registry.nodes() {
            let name = kept.record.name.to_ascii_lowercase();
            directory.nodes_at.entry(kept.record.address).or_default().insert(name.clone());
            directory.nodes.insert(name, kept.record.clone());
        }
        let failing = registry.failing();
        for kept in registry.services() {
            if let Ok(address) = registry.address(&kept.record) {
                directory.register(&kept.record, address, !failing.hits(&kept.record));
            }
        }
        for (name, view) in catalog.services() {
            for at in view.instances.values() {
                let at = directory.services_at.entry(at.record.address.ip()).or_default();
                at.insert(name.as_str().to_owned());
            }
        }
        directory
    }

    fn register(&mut self, record: &ServiceRecord, address: IpAddr, healthy: bool) {
        let name = record.name.to_ascii_lowercase();
        self.services_at.entry(address).or_default().insert(name.clone());
        self.services.entry(name).or_default().push(Endpoint {
            address,
            port: record.port,
            tags: record.tags.clone(),
            node: record.node.clone(),
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
