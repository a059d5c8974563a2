//! Indexes, for any history of puts, removals and reloads: they never go back, and an answer
//! that changed has a higher one.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::kv;
use crate::catalog::Catalog;
use crate::kv::{Change, Key, KeyValue};
use crate::time::Time;

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Put(&'static str, u8),
    Remove(&'static str),
    /// The watch was lost and everything is read again.
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::sample::select(vec!["kv/a", "kv/a/1", "kv/a/2", "kv/b", "beats/h"]);
    prop_oneof![
        5 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key.prop_map(Step::Remove),
        1 => Just(Step::Reload),
    ]
}

/// The store behind the catalog.
#[derive(Default)]
struct Model {
    revision: u64,
    entries: BTreeMap<Key, Arc<KeyValue>>,
    catalog: Catalog,
}

impl Model {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(key, value) => {
                let key = Key::from(*key);
                let old = self.entries.get(&key);
                let (created, version) =
                    old.map_or((self.revision + 1, 1), |old| (old.created, old.version + 1));
                let entry = Arc::new(KeyValue {
                    key: Arc::clone(&key),
                    value: [*value].into(),
                    created,
                    modified: self.revision + 1,
                    version,
                    lease: 0,
                });
                self.entries.insert(Arc::clone(&key), Arc::clone(&entry));
                self.change(key, Some(entry));
            }
            Step::Remove(key) => {
                let key = Key::from(*key);
                if self.entries.remove(&key).is_some() {
                    self.change(key, None);
                }
            }
            Step::Reload => {
                let entries = self.entries.values().cloned().collect();
                self.catalog = self.catalog.load(Time(1), self.revision, entries);
            }
        }
    }

    fn change(&mut self, key: Key, now: Option<Arc<KeyValue>>) {
        self.revision += 1;
        let change = Change { revision: self.revision, key, now };
        self.catalog.apply(Time(1), self.revision, &[change]);
    }

    /// Every kind of read, as its index and its answer in words.
    fn reads(&self) -> Vec<(u64, String)> {
        let mut reads = Vec::new();
        for key in ["a", "a/1", "b", "never"] {
            let found = kv::get(&self.catalog, key);
            reads.push((found.index, format!("{:?}", found.body)));
        }
        for prefix in ["", "a", "a/", "b", "never"] {
            let found = kv::recurse(&self.catalog, prefix);
            reads.push((found.index, format!("{:?}", found.body)));
            let found = kv::keys(&self.catalog, prefix, "/");
            reads.push((found.index, format!("{:?}", found.body)));
        }
        reads
    }
}

proptest! {
    #[test]
    fn indexes_never_go_back_and_each_change_moves_them(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut model = Model::default();
        let mut before = model.reads();
        for step in &steps {
            model.step(step);
            let after = model.reads();
            for ((old_index, old), (index, new)) in before.iter().zip(&after) {
                prop_assert!(index >= old_index, "{step:?}: {old_index} then {index}");
                prop_assert!(
                    old == new || index > old_index,
                    "{step:?}: {old} became {new} at {index}"
                );
                prop_assert!(*index <= model.revision);
            }
            before = after;
        }
    }
}

#[test]
fn a_beat_moves_no_index() {
    let mut model = Model::default();
    model.step(&Step::Put("kv/a", 1));
    let before = model.reads();
    model.step(&Step::Put("beats/h", 1));
    model.step(&Step::Remove("beats/h"));
    assert_eq!(model.reads(), before);
}
