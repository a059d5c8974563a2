//! How `sync/S` ends: the service's file says `loss = "bounded"` from now on, or a person releases
//! the service.
//!
//! First the record says that nobody relies on acknowledgements; then the master's commits wait
//! for none, and the copies acknowledge no more; then the record goes. Nothing is left waiting
//! behind it: a server whose commits wait for ever, and nobody to end that, would stand still with
//! the next copy that goes away. A copy that cannot be told holds this up only for a while.

use std::time::Duration;

use crate::catalog::At;
use crate::policy::Loss;
use crate::record::{Ask, Health, MasterRecord, MasterState, key};
use crate::sync::{Standing, SyncRecord};

use super::own::Own;
use super::sync::of_term;
use super::{Cx, Service};

/// So long is waited for copies that should acknowledge no more.
const PATIENCE: Duration = Duration::from_secs(10);

impl Service {
    /// Does the holder's agent end what `loss = "none"` set up?
    pub(super) fn parts(&self, cx: &Cx<'_>) -> bool {
        cx.settings.policy.loss != Loss::None
            || self.open_request(cx, &|ask| matches!(ask, Ask::Release)).is_some()
    }

    /// Is something left of it that only this host's agent can end?
    pub(super) fn parting(&self, cx: &Cx<'_>, at: &At<MasterRecord>) -> bool {
        at.record.state == MasterState::Serving
            && self.answers(at)
            && of_term(cx.view, &at.record).is_some()
    }

    fn answers(&self, at: &At<MasterRecord>) -> bool {
        let own = self.own.get(&at.record.holder.instance);
        own.is_some_and(|own| own.failing.is_none() && own.state().is_some())
    }

    /// The holder's side, one step.
    pub(super) fn part(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let revision = cx.revision(&key::sync(cx.name));
        let waits = self
            .own
            .get(&at.record.holder.instance)
            .and_then(Own::state)
            .and_then(|state| state.semi_sync)
            .is_some_and(|semi| semi.awaits > 0);
        let Some(current) = of_term(cx.view, &at.record) else {
            // Of an earlier term: nobody relies on it.
            self.parting_since = None;
            match revision {
                0 => {}
                _ if waits => self.wait_for(cx, at, 0),
                _ => self.write_sync(cx, at, revision, None),
            }
            return;
        };
        let since = *self.parting_since.get_or_insert(cx.now.time);
        let mut next = current.record.clone();
        self.stand_for_copies(cx, at, &current.record, &mut next);
        ended(&mut next);
        if next != current.record {
            self.write_sync(cx, at, revision, Some(&next));
            return;
        }
        self.awaiting = None;
        if !self.answers(at) {
            return;
        }
        if waits {
            self.wait_for(cx, at, 0);
            return;
        }
        let comes = current.record.copies.keys().any(|name| {
            cx.view.instances.get(name).is_some_and(|at| at.record.health == Health::Up)
        });
        let due = since + PATIENCE;
        if comes && cx.now.time < due {
            cx.out.wake(due);
            return;
        }
        self.parting_since = None;
        self.write_sync(cx, at, revision, None);
    }
}

/// Nobody relies on it, and everybody leaves.
fn ended(next: &mut SyncRecord) {
    next.complete = false;
    next.position = None;
    next.copies.retain(|_, standing| *standing != Standing::Off);
    for standing in next.copies.values_mut() {
        *standing = Standing::Leaving;
    }
}
