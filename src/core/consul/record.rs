//! Records of Consul's kind beside [`crate::record::NodeRecord`]: services and checks that
//! clients registered, and what belongs to a KV entry besides its value.
//!
//! The value of a KV entry stands raw at `kv/KEY`, so that any tool of the store can read it;
//! flags stand at `kvmeta/KEY`, only while there are any. Indexes are the revisions of `kv/KEY`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::definition::Definition;
use crate::kv::Key;
use crate::record::Owner;

/// Where these records stand.
pub mod key {
    use super::Key;

    /// `nodes/NODE`, in lower case: names are looked up in any case.
    #[must_use]
    pub fn node(node: &str) -> Key {
        crate::record::key::node(&node.to_lowercase())
    }
    /// `services/NODE/ID`; the id may hold slashes, the node may not.
    #[must_use]
    pub fn service(node: &str, id: &str) -> Key {
        format!("services/{}/{id}", node.to_lowercase()).into()
    }
    /// `checks/NODE/ID`.
    #[must_use]
    pub fn check(node: &str, id: &str) -> Key {
        format!("checks/{}/{id}", node.to_lowercase()).into()
    }
    /// `kv/KEY`.
    #[must_use]
    pub fn kv(key: &str) -> Key {
        format!("kv/{key}").into()
    }
    /// `kvmeta/KEY`.
    #[must_use]
    pub fn kv_meta(key: &str) -> Key {
        format!("kvmeta/{key}").into()
    }
}

/// A registered service: `services/NODE/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// See [`crate::record::FORMAT`].
    pub format: u32,
    /// The node, as it was given.
    pub node: String,
    /// Unique on its node.
    pub id: String,
    /// Its name, as it was given.
    pub name: String,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its address, if it is not the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its port; 0: none.
    pub port: u16,
    /// Metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// Who may change it.
    pub owner: Owner,
    /// Does it stand in a definition file of its host?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_file: bool,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A registered check: `checks/NODE/ID`. Without a definition its status is what was registered,
/// and nothing is run; with one the agent of its node keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// See [`crate::record::FORMAT`].
    pub format: u32,
    /// The node, as it was given.
    pub node: String,
    /// Unique on its node.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The service that it is about; none: the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// How it stands.
    pub status: Status,
    /// What it last printed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// Who registered it: a client through the catalog, or through the agent of its node.
    #[serde(default = "by_catalog", skip_serializing_if = "is_catalog")]
    pub owner: Owner,
    /// Does it stand in a definition file of its host?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_file: bool,
    /// What the agent of its node does for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Definition>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

fn by_catalog() -> Owner {
    Owner::Catalog
}

fn is_catalog(owner: &Owner) -> bool {
    *owner == Owner::Catalog
}

/// How a check stands; the order is from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Good.
    Passing,
    /// Soon not.
    Warning,
    /// Bad, or never looked at.
    Critical,
}

impl Status {
    /// Consul's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads Consul's word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "passing" => Some(Self::Passing),
            "warning" => Some(Self::Warning),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }
}

/// What belongs to a KV entry besides its value: `kvmeta/KEY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvMeta {
    /// See [`crate::record::FORMAT`].
    pub format: u32,
    /// The client's own number.
    pub flags: u64,
    /// How often the entry was locked.
    #[serde(default)]
    pub locks: u64,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

crate::record::formatted!(ServiceRecord, CheckRecord, KvMeta);
