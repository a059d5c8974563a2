//! The rows that Consul's clients read: nodes and services, spelled as they expect.

use std::collections::BTreeMap;

use serde::Serialize;

use super::health::Check;
use crate::kv::Revision;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// A UUID, or empty.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub node: String,
    /// Its address.
    pub address: String,
    /// The datacenter.
    pub datacenter: String,
    /// The address again, by network.
    pub tagged_addresses: BTreeMap<String, String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// The revision at which it came to be.
    pub create_index: Revision,
    /// The revision of its last change.
    pub modify_index: Revision,
    /// Is it the host of an agent?
    #[serde(skip)]
    pub agent: bool,
}

/// A service entry on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub service: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Its address; empty: the node's.
    pub address: String,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Its port.
    pub port: u16,
    /// Always 1 and 1.
    pub weights: Weights,
    /// Always `false`.
    pub enable_tag_override: bool,
    /// The revision at which it came to be.
    pub create_index: Revision,
    /// The revision of its last change.
    pub modify_index: Revision,
}

/// Consul's DNS weights; always 1 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While passing.
    pub passing: u32,
    /// While warning.
    pub warning: u32,
}

/// A service entry with its node and all checks that bear on it: a row of `health/service`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Where it runs.
    pub node: Node,
    /// What it is.
    pub service: Service,
    /// The node's checks, then its own.
    pub checks: Vec<Check>,
}

/// A row of `catalog/service`: an entry, flat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlatEntry {
    /// The node's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// The datacenter.
    pub datacenter: String,
    /// The node's addresses.
    pub tagged_addresses: BTreeMap<String, String>,
    /// The node's metadata.
    pub node_meta: BTreeMap<String, String>,
    /// Always empty: a plain service.
    pub service_kind: String,
    /// The entry's id.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The service's name.
    pub service_name: String,
    /// Tags.
    pub service_tags: Vec<String>,
    /// The entry's address; empty: the node's.
    pub service_address: String,
    /// Always empty.
    pub service_tagged_addresses: BTreeMap<String, String>,
    /// Always 1 and 1.
    pub service_weights: Weights,
    /// Metadata.
    pub service_meta: BTreeMap<String, String>,
    /// Its port.
    pub service_port: u16,
    /// Always `false`.
    pub service_enable_tag_override: bool,
    /// The revision at which it came to be.
    pub create_index: Revision,
    /// The revision of its last change.
    pub modify_index: Revision,
}

/// A node with its services: the answer of `catalog/node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeServices {
    /// The node.
    pub node: Node,
    /// Its services by id.
    pub services: BTreeMap<String, Service>,
}

impl From<Entry> for FlatEntry {
    fn from(Entry { node, service, .. }: Entry) -> Self {
        Self {
            id: node.id,
            node: node.node,
            address: node.address,
            datacenter: node.datacenter,
            tagged_addresses: node.tagged_addresses,
            node_meta: node.meta,
            service_kind: String::new(),
            service_id: service.id,
            service_name: service.service,
            service_tags: service.tags,
            service_address: service.address,
            service_tagged_addresses: BTreeMap::new(),
            service_weights: service.weights,
            service_meta: service.meta,
            service_port: service.port,
            service_enable_tag_override: service.enable_tag_override,
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}
