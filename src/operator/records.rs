//! The agent's picture as data: every record but KV values, and how long it may name masters.
//!
//! For commands that show what an output would be (`sengu render`). Reading it back gives a
//! catalog of the same revision; nothing here changes a record.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::catalog::Catalog;
use sengu_core::kv::{KeyValue, Revision};
use sengu_core::time::Time;
use serde::{Deserialize, Serialize};

/// A picture on its way to a command.
#[derive(Debug, Serialize, Deserialize)]
pub struct Records {
    /// The store's revision.
    pub revision: Revision,
    /// For so many milliseconds it may still name masters.
    pub valid_ms: u64,
    /// Each record.
    pub entries: Vec<Entry>,
}

/// One record, as text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its JSON.
    pub value: String,
    /// The revision that made it.
    pub created: Revision,
    /// The revision of its last change.
    pub modified: Revision,
}

impl Records {
    /// What a catalog holds now.
    #[must_use]
    pub fn of(catalog: &Catalog, now: Time) -> Self {
        Self::chosen(catalog, now, |key| !key.starts_with("kv/"))
    }

    /// The same with KV values.
    #[must_use]
    pub fn whole(catalog: &Catalog, now: Time) -> Self {
        Self::chosen(catalog, now, |_| true)
    }

    fn chosen(catalog: &Catalog, now: Time, wanted: impl Fn(&str) -> bool) -> Self {
        let left = catalog.valid_until.since(now).as_millis();
        let entries = catalog
            .range("")
            .filter(|entry| wanted(&entry.key))
            .map(|entry| Entry {
                key: entry.key.to_string(),
                value: String::from_utf8_lossy(&entry.value).into_owned(),
                created: entry.created,
                modified: entry.modified,
            })
            .collect();
        let valid_ms = u64::try_from(left).unwrap_or(u64::MAX);
        Self { revision: catalog.revision, valid_ms, entries }
    }

    /// The catalog again.
    #[must_use]
    pub fn catalog(self, now: Time) -> Catalog {
        let entries = self
            .entries
            .into_iter()
            .map(|entry| {
                Arc::new(KeyValue {
                    key: entry.key.into(),
                    value: entry.value.into_bytes().into(),
                    created: entry.created,
                    modified: entry.modified,
                    version: 1,
                    lease: 0,
                })
            })
            .collect();
        let mut catalog = Catalog::default().load(now, self.revision, entries);
        catalog.valid_until = now + Duration::from_millis(self.valid_ms);
        catalog
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_back_as_it_was_without_kv() {
        let entry = |key: &str, value: &str| {
            Arc::new(KeyValue {
                key: key.into(),
                value: value.as_bytes().into(),
                created: 3,
                modified: 4,
                version: 1,
                lease: 0,
            })
        };
        let entries = vec![entry("kv/secret", "x"), entry("nodes/db1", "{}")];
        let mut catalog = Catalog::default().load(Time(5), 9, entries);
        catalog.valid_until = Time(5) + Duration::from_secs(2);
        let back = Records::of(&catalog, Time(5)).catalog(Time(70));
        assert_eq!((back.revision, back.valid_until), (9, Time(70) + Duration::from_secs(2)));
        assert!(back.get("kv/secret").is_none());
        assert_eq!(back.get("nodes/db1").map(|entry| entry.modified), Some(4));
    }
}
