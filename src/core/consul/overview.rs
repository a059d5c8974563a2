//! All services on one page, in sengu's own words: what `sengu services` lists.
//!
//! A row says what kind of service it is, its tags, how many entries it has and how they stand;
//! the entries themselves are `health/service/NAME` of Consul's dialect.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Found;
use super::directory::{CONSUL, Directory, KINDS};
use super::record::Status;

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Overview {
    /// Its name, as it was given.
    pub service: String,
    /// Does sengu manage or watch it? Others were registered by clients.
    pub managed: bool,
    /// All tags that any of its entries has.
    pub tags: BTreeSet<String>,
    /// Entries all whose checks pass.
    pub passing: usize,
    /// Entries whose worst check is a warning.
    pub warning: usize,
    /// Entries with a critical check.
    pub critical: usize,
    /// Where the entries that answer names are: those without a critical check.
    pub addresses: BTreeSet<String>,
}

impl Directory<'_> {
    /// Every service but Consul's own, by name.
    #[must_use]
    pub fn overview(&self) -> Found<Vec<Overview>> {
        let mut rows: BTreeMap<String, Overview> = BTreeMap::new();
        for entry in self.entries() {
            let name = &entry.service.service;
            if name == CONSUL {
                continue;
            }
            let row = rows.entry(name.to_lowercase()).or_insert_with(|| Overview {
                service: name.clone(),
                managed: self.managed(name).is_some(),
                ..Overview::default()
            });
            row.tags.extend(entry.service.tags.iter().cloned());
            let worst = entry.checks.iter().map(|check| check.status).max();
            match worst.unwrap_or(Status::Passing) {
                Status::Passing => row.passing += 1,
                Status::Warning => row.warning += 1,
                Status::Critical => row.critical += 1,
            }
            if worst < Some(Status::Critical) {
                let own = Some(&entry.service.address).filter(|own| !own.is_empty());
                let address = own.unwrap_or(&entry.node.address);
                row.addresses.insert(format!("{address}:{}", entry.service.port));
            }
        }
        Found { index: self.last(&KINDS), body: rows.into_values().collect() }
    }
}
