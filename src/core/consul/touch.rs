//! When what bears on a name last changed, so that a change of one wakes nobody who reads another.
//!
//! Revisions only grow. What is gone is forgotten: all that are gone share the revision of the
//! last that went, which is above each of theirs, so that no reader's index goes back. The memory
//! of removed KV entries is bounded; beyond the bound the oldest share one revision, too.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::kv::{Key, Revision};

/// So many removed KV entries are remembered one by one.
const TOMBS_MAX: usize = 4096;

/// The last change of each of many names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touches {
    at: OrdMap<Arc<str>, Revision>,
    gone: Revision,
}

impl Touches {
    /// Something that bears on a name changed.
    pub(crate) fn touch(&mut self, name: &str, revision: Revision) {
        match self.at.get_mut(name) {
            Some(at) => *at = revision.max(*at),
            None => drop(self.at.insert(name.into(), revision)),
        }
    }

    /// A name has nothing left.
    pub(crate) fn end(&mut self, name: &str, revision: Revision) {
        self.at.remove(name);
        self.gone = self.gone.max(revision);
    }

    /// The last change of a name; of one that is not there, the last end of any.
    pub(crate) fn of(&self, name: &str) -> Revision {
        self.at.get(name).copied().unwrap_or(self.gone)
    }
}

/// KV entries that were removed, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tombs {
    at: OrdMap<Key, Revision>,
    by_age: OrdSet<(Revision, Key)>,
    forgotten: Revision,
}

impl Tombs {
    /// An entry was removed.
    pub(crate) fn bury(&mut self, key: Key, revision: Revision) {
        self.rise(&key);
        self.at.insert(Arc::clone(&key), revision);
        self.by_age.insert((revision, key));
        while self.at.len() > TOMBS_MAX
            && let Some((oldest, key)) = self.by_age.remove_min()
        {
            self.forgotten = self.forgotten.max(oldest);
            self.at.remove(&key);
        }
    }

    /// An entry is there again: its own revision tells more.
    pub(crate) fn rise(&mut self, key: &str) {
        if let Some((key, revision)) = self.at.remove_with_key(key) {
            self.by_age.remove(&(revision, key));
        }
    }

    /// A revision not older than the last removal under a prefix.
    pub(crate) fn under(&self, prefix: &str) -> Revision {
        let newest = self
            .at
            .range(Key::from(prefix)..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, revision)| *revision)
            .max();
        newest.unwrap_or_default().max(self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_gone_and_comes_back_never_goes_back() {
        let mut touches = Touches::default();
        touches.touch("a", 3);
        touches.touch("b", 4);
        assert_eq!((touches.of("a"), touches.of("b"), touches.of("c")), (3, 4, 0));
        touches.end("a", 5);
        assert_eq!((touches.of("a"), touches.of("b"), touches.of("c")), (5, 4, 5));
        touches.touch("a", 6);
        assert_eq!((touches.of("a"), touches.of("c")), (6, 5));
    }

    #[test]
    fn removals_are_told_by_prefix_and_forgotten_ones_count_for_all() {
        let mut tombs = Tombs::default();
        tombs.bury("kv/a/1".into(), 3);
        tombs.bury("kv/b".into(), 4);
        assert_eq!((tombs.under("kv/a"), tombs.under("kv/b"), tombs.under("kv/c")), (3, 4, 0));
        tombs.rise("kv/a/1");
        assert_eq!((tombs.under("kv/a"), tombs.under("kv/")), (0, 4));
        for number in 0..=TOMBS_MAX as u64 {
            tombs.bury(format!("kv/d/{number}").into(), 10 + number);
        }
        assert_eq!(tombs.at.len(), TOMBS_MAX);
        assert_eq!(tombs.by_age.len(), TOMBS_MAX);
        assert_eq!(tombs.under("kv/c"), 10, "kv/b and the first of d are forgotten");
    }
}
