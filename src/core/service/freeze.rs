//! A freeze: for planned work on the store, the agents or the network, the holder promises to be
//! fenced later than usual, and writes that first.
//!
//! Nothing else of fence-in-time changes: takers go by the promise in the record, the fence is
//! armed by it, and a host that dies while frozen is replaced once the longer promise has run out.
//! A longer promise holds from the first beat that reads it back. A shorter one holds from when
//! its txn was sent, whatever became of that; the txn carries a beat, so that one whose outcome is
//! unknown can never be applied after a later beat was acknowledged under the longer promise.

use std::time::Duration;

use crate::catalog::At;
use crate::kv::Compare;
use crate::lease::lease_of;
use crate::machine::carried_beat;
use crate::policy::Judge;
use crate::record::{Ask, Frozen, MasterRecord, Promise, RequestRecord, Stand};
use crate::time::Wall;

use super::hold::request_key;
use super::{Cx, Service};

/// The longest freeze.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Service {
    /// Makes the holder's promise what a freeze, or its end, asks for. `true`: a txn is on its way.
    pub(super) fn keep_promise(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> bool {
        if self.writing.is_some() {
            return false;
        }
        let asked = asked(cx);
        match (&at.record.frozen, asked) {
            (None, Some((id, request))) => self.freeze(cx, at, id, request),
            (Some(frozen), Some((id, request))) if frozen.until == request.record.until => {
                self.frozen(cx, at, frozen.lease_ms, id, request)
            }
            // It ended, or ended and began again: first the usual promise.
            (Some(frozen), _) => self.thaw(cx, at, frozen.lease_ms),
            (None, None) => false,
        }
    }

    fn freeze(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        id: &str,
        request: &At<RequestRecord>,
    ) -> bool {
        let key = request_key(cx, id);
        let until = request.record.until;
        let promised = lease_of(&at.record.promise);
        let shared = matches!(cx.config.judge, Judge::Shared { .. });
        let Some(lease) = promised.filter(|_| shared) else {
            // No clock ever ends this term: nothing needs to be promised.
            if request.record.stand == Stand::Standing {
                return false;
            }
            self.stand(cx, id, request, Stand::Standing);
            return self.writing.is_some();
        };
        let lease_ms = millis(lease);
        let mut record = at.record.clone();
        let length = left(cx.now.wall, until);
        record.promise = Promise::Fence { lease_ms: lease_ms.saturating_add(millis(length)) };
        record.frozen = Some(Frozen { lease_ms, until });
        let when = vec![Compare::Modified(key, request.revision)];
        let sent = self.write_master(cx, Some(at), &record, when, Vec::new()).is_some();
        if sent {
            let seconds = length.as_secs();
            let text =
                format!("frozen for {seconds} s: the lease of term {} is longer", record.term);
            cx.out.say(cx.name, false, text);
        }
        sent
    }

    /// The longer promise is written. It is said to stand once a beat was acknowledged under it:
    /// whoever stops the store then, stops no master.
    fn frozen(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        usual_ms: u64,
        id: &str,
        request: &At<RequestRecord>,
    ) -> bool {
        let usual = cx.now.time + Duration::from_millis(usual_ms);
        let held = cx.beats.deadline(cx.name, at.record.term).is_some_and(|until| until > usual);
        if !held || request.record.stand == Stand::Standing {
            return false;
        }
        self.stand(cx, id, request, Stand::Standing);
        self.writing.is_some()
    }

    fn thaw(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, lease_ms: u64) -> bool {
        if cx.beats.busy.is_some() || cx.now.time < self.write_after {
            return false; // The end of what is under way brings us here again.
        }
        let term = at.record.term;
        let mut record = at.record.clone();
        record.promise = Promise::Fence { lease_ms };
        record.frozen = None;
        // From here on this may be what the others go by.
        cx.beats.shorten(cx.name, term, cx.now.time + Duration::from_millis(lease_ms));
        let (compare, beat) = carried_beat(cx, term);
        let id = self.write_master(cx, Some(at), &record, vec![compare], vec![beat]);
        cx.beats.busy = id;
        if id.is_some() {
            cx.out.say(cx.name, false, format!("thawed: the lease of term {term} is as before"));
        }
        id.is_some()
    }
}

/// The freeze that is asked for, or stands, and has not run out.
fn asked<'a>(cx: &Cx<'a>) -> Option<(&'a str, &'a At<RequestRecord>)> {
    let counts = |record: &RequestRecord| {
        record.ask == Ask::Freeze
            && matches!(record.stand, Stand::Asked | Stand::Standing)
            && record.until > cx.now.wall
    };
    let found = cx.view.requests.iter().find(|(_, at)| counts(&at.record));
    found.map(|(id, at)| (id.as_str(), at.as_ref()))
}

fn left(now: Wall, until: Wall) -> Duration {
    let left = u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0);
    Duration::from_millis(left).min(LONGEST)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
