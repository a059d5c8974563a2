//! What was told from outside: the last word of each `ttl` probe, by its id.
//!
//! Only ids that a running probe waits for are taken, so nobody fills this with others. Kept in
//! memory: after a start of the agent a probe is unknown until it is told again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use sengu_core::health::{Judged, Status};
use sengu_core::time::Time;

/// Ids that are waited for at once.
const IDS_MAX: usize = 4096;
/// Bytes of what was said that are kept.
const OUTPUT_MAX: usize = 4096;

/// What was told, by id.
#[derive(Debug, Default)]
pub struct Beats {
    kept: Mutex<BTreeMap<String, Option<Judged>>>,
}

impl Beats {
    /// A probe waits for this id.
    pub(crate) fn expect(&self, id: &str) -> Option<Judged> {
        let mut kept = self.kept();
        if let Some(beat) = kept.get(id) {
            return beat.clone();
        }
        if kept.len() < IDS_MAX {
            kept.insert(id.to_owned(), None);
        }
        None
    }

    /// Takes what was told; `false` if nobody waits for it.
    pub(crate) fn put(&self, now: Time, id: &str, status: Status, output: &str) -> bool {
        let mut kept = self.kept();
        let Some(slot) = kept.get_mut(id) else { return false };
        *slot = Some(Judged { status, output: super::clip(output, OUTPUT_MAX), seen: now });
        true
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Option<Judged>>> {
        self.kept.lock().expect("nothing panics while it holds this")
    }
}
