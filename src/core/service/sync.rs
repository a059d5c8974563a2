//! `loss = "none"`: which copies may acknowledge commits, and when a commit may go on without them.
//!
//! Two sides work on `sync/S`. A copy's own agent lets it acknowledge only while it stands there,
//! says when it holds what was asked, and says when it acknowledges no more. The holder's agent
//! lets copies in and out, and lets commits go on alone only after a txn said that nobody else is
//! known to have everything. Each of them acts on what stands, and writes by comparing it.

use std::time::Duration;

use crate::candidate::InSync;
use crate::catalog::{At, ServiceView};
use crate::event::Command;
use crate::kv::{Compare, Op, Txn};
use crate::name::InstanceName;
use crate::observation::SemiSync;
use crate::policy::Loss;
use crate::position::Covering;
use crate::record::{Health, InstanceRecord, Lag, MasterRecord, MasterState, key};
use crate::sync::{Standing, SyncRecord};
use crate::time::Time;

use super::{Cx, Service, put};

/// How long a change of the acknowledging side or the waiting side may take.
const CHANGE_WITHIN: Duration = Duration::from_secs(2);
/// A commit that began before its server waited for acknowledgements is counted in its position by
/// then.
const SETTLED: Duration = Duration::from_millis(200);

/// The record that speaks of this term.
pub(super) fn of_term<'a>(
    view: &'a ServiceView,
    record: &MasterRecord,
) -> Option<&'a At<SyncRecord>> {
    view.sync.as_deref().filter(|sync| sync.record.term == record.term)
}

/// What a ranking under `loss = "none"` goes by: a missing record says that the holder alone has
/// everything.
pub(super) fn in_sync<'a>(view: &'a ServiceView, record: &'a MasterRecord) -> InSync<'a> {
    let known = of_term(view, record).map(|at| &at.record).filter(|sync| sync.complete);
    InSync {
        holder: &record.holder.instance,
        copies: known.map(|sync| sync.copies.keys().collect()).unwrap_or_default(),
        finals_needed: known.map_or(0, SyncRecord::finals_needed),
    }
}

impl Service {
    /// Keeps `sync/S` true while somebody serves.
    pub(super) fn keep_in_sync(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        if at.record.state != MasterState::Serving {
            return;
        }
        let holds = cx.mine(&at.record.holder);
        let revision = cx.revision(&key::sync(cx.name));
        if cx.settings.policy.loss != Loss::None {
            if holds && revision != 0 {
                // What the servers do from now on is their operator's.
                self.write_sync(cx, at, revision, None);
            }
            return;
        }
        let Some(current) = of_term(cx.view, &at.record) else {
            if holds {
                let first = self.first_sync(cx, &at.record);
                self.write_sync(cx, at, revision, Some(&first));
            }
            return;
        };
        let mut next = current.record.clone();
        self.stand_for_copies(cx, at, &current.record, &mut next);
        if holds {
            self.stand_for_holder(cx, at, &current.record, &mut next);
        }
        if next != current.record {
            self.write_sync(cx, at, current.revision, Some(&next));
        }
    }

    /// The record of a term that begins: who acknowledges already, or may from the term before.
    pub(super) fn first_sync(&self, cx: &Cx<'_>, record: &MasterRecord) -> SyncRecord {
        let holder = &record.holder.instance;
        let earlier = cx.view.sync.as_deref().map(|at| &at.record);
        let may = cx.view.instances.iter().filter(|(name, at)| {
            let carried = earlier.and_then(|sync| sync.copies.get(*name));
            let told = at.record.semi_sync.is_some_and(|semi| semi.acknowledges);
            *name != holder && (told || carried.is_some_and(|standing| *standing != Standing::Off))
        });
        let may = may.map(|(name, _)| name.clone());
        SyncRecord::alone(record.term, cx.settings.policy.acks, may)
    }

    fn write_sync(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        revision: crate::kv::Revision,
        next: Option<&SyncRecord>,
    ) {
        let key = key::sync(cx.name);
        let when = vec![
            Compare::Modified(key::master(cx.name), at.revision),
            Compare::Modified(key.clone(), revision),
        ];
        let op = next.map_or_else(|| Op::Delete(key.clone()), |next| put(key.clone(), next));
        let before = of_term(cx.view, &at.record).is_some_and(|sync| sync.record.complete);
        let after = next.is_some_and(|next| next.complete);
        if self.write(cx, Txn { when, then: vec![op], otherwise: Vec::new() }).is_none() {
            return;
        }
        if before != after && next.is_some() {
            let text = if after {
                "in sync: acknowledged writes are on more than the master"
            } else {
                "not in sync: commits go on without acknowledgements, and no other copy may take over"
            };
            cx.out.say(cx.name, !after, text.to_owned());
        }
    }

    /// What the agents of copies do: here for each copy on this host.
    fn stand_for_copies(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        current: &SyncRecord,
        next: &mut SyncRecord,
    ) {
        let holder = &at.record.holder;
        for (name, own) in &mut self.own {
            if *name == holder.instance {
                continue;
            }
            let standing = current.copies.get(name).copied();
            if own.is_exited() {
                // Started again by its own file it acknowledges nothing.
                let record = cx.view.instances.get(name).map(|at| &at.record);
                let quiet = record.is_some_and(|record| record.lossless.is_good());
                if quiet && standing.is_some_and(|standing| standing != Standing::Off) {
                    leave(next, name);
                }
                continue;
            }
            let Some(state) = own.state().filter(|_| own.failing.is_none()) else { continue };
            let acknowledges = state.semi_sync.is_some_and(|semi| semi.acknowledges);
            let asked = current.position.as_ref();
            let holds = asked.is_some_and(|position| {
                matches!(state.held().covers(position), Covering::Covers(_))
            });
            if standing == Some(Standing::Joining) && holds {
                next.copies.insert(name.clone(), Standing::Member);
            }
            if standing == Some(Standing::Leaving) && !acknowledges && !own.busy() {
                leave(next, name);
            }
            let wanted = standing.is_some_and(Standing::acknowledges);
            let follows = state.source == Some(holder.address) && state.link_up;
            if wanted == acknowledges || own.busy() || (wanted && !follows) {
                continue;
            }
            if cx.now.time < own.retry_at {
                cx.out.wake(own.retry_at);
                continue;
            }
            let command = Command::Acknowledge { on: wanted };
            own.command(cx, name, at.record.term, command, CHANGE_WITHIN);
        }
    }

    /// What the holder's agent does.
    fn stand_for_holder(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        current: &SyncRecord,
        next: &mut SyncRecord,
    ) {
        let name = &at.record.holder.instance;
        let Some(own) = self.own.get(name) else { return };
        let Some(known) = own.known.as_ref().filter(|_| own.failing.is_none()) else { return };
        let (sent, state) = (known.sent, known.state.clone());
        if !state.writable {
            return;
        }
        let Some(semi) = state.semi_sync else {
            self.refuse(format!(
                "`loss = \"none\"`: `{name}` has no semi-synchronous replication; load its plugins"
            ));
            return;
        };
        self.admit(cx, at, next);
        let waits = semi.awaits >= current.acks;
        match (waits, self.awaiting) {
            (true, None) => self.awaiting = Some(cx.now.time),
            (false, Some(_)) => self.awaiting = None,
            _ => {}
        }
        if current.complete && (!waits || self.too_few(cx, current, semi)) {
            next.complete = false;
            next.ask_again();
            return;
        }
        self.short_since = self.short_since.filter(|_| semi.clients < current.acks);
        let enough = next.acknowledging() >= next.acks;
        let asked = self.asking(cx, current);
        let settled = self.awaiting.is_some_and(|since| sent >= (since + SETTLED).max(asked));
        if next.position.is_none() && waits && enough {
            // Read after the last one that left: what it alone had is in it.
            if settled {
                next.position = Some(state.held().clone());
            } else {
                let due = cx.now.time + SETTLED;
                cx.out.wake(due);
                if let Some(own) = self.own.get(name) {
                    own.observe_while(cx, name, SETTLED);
                }
            }
        }
        let joining = next.copies.values().any(|standing| *standing == Standing::Joining);
        let confirmed = next.position.is_some() && enough && !joining;
        if confirmed || !next.complete {
            // What those alone may have had that are off, the others have; or nobody relies on it.
            next.copies.retain(|_, standing| *standing != Standing::Off);
        }
        let members = next.copies.values().all(|standing| *standing == Standing::Member);
        next.complete |= confirmed && waits && members;
        if !current.complete && !next.complete {
            self.wait_or_not(cx, at, current, semi);
        }
    }

    /// Since when the record asks for a position as it does now.
    fn asking(&mut self, cx: &Cx<'_>, current: &SyncRecord) -> Time {
        let asks = (current.copies.clone(), current.position.is_none());
        match &self.asked_position {
            Some((known, since)) if *known == asks => *since,
            _ => {
                self.asked_position = Some((asks, cx.now.time));
                cx.now.time
            }
        }
    }

    /// Is the number of attached acknowledging copies too small, and has it been for long enough?
    fn too_few(&mut self, cx: &mut Cx<'_>, current: &SyncRecord, semi: SemiSync) -> bool {
        if semi.clients >= current.acks {
            return false;
        }
        let since = *self.short_since.get_or_insert(cx.now.time);
        let may_come = current.copies.iter().filter(|(name, standing)| {
            let record = cx.view.instances.get(*name).map(|at| &at.record);
            standing.acknowledges() && record.is_some_and(|record| record.health == Health::Up)
        });
        let due = if may_come.count() < usize::try_from(current.acks).unwrap_or(usize::MAX) {
            since
        } else {
            since + cx.settings.policy.candidate_wait
        };
        if cx.now.time < due {
            cx.out.wake(due);
        }
        cx.now.time >= due
    }

    /// While nobody relies on the others: commits wait only if there is somebody to wait for.
    fn wait_or_not(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        current: &SyncRecord,
        semi: SemiSync,
    ) {
        let name = &at.record.holder.instance;
        let somebody = current.acknowledging() >= current.acks && semi.clients >= current.acks;
        let count = match (somebody, semi.awaits) {
            (true, awaits) if awaits < current.acks => current.acks,
            (false, 1..) => 0,
            _ => return,
        };
        let Some(own) = self.own.get_mut(name) else { return };
        if own.busy() {
            return;
        }
        if cx.now.time < own.retry_at {
            cx.out.wake(own.retry_at);
            return;
        }
        own.command(cx, name, at.record.term, Command::Await { count }, CHANGE_WITHIN);
    }

    /// Who comes in and who must go.
    fn admit(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, next: &mut SyncRecord) {
        let holder = &at.record.holder;
        for (name, instance) in &cx.view.instances {
            if *name == holder.instance {
                continue;
            }
            let fitness = fitness(cx.view, name, &instance.record, holder.address);
            if fitness == Fitness::Fit {
                self.unfit_since.remove(name);
                let standing = next.copies.get(name).copied();
                if matches!(standing, None | Some(Standing::Off)) {
                    next.copies.insert(name.clone(), Standing::Joining);
                }
                continue;
            }
            if !next.copies.get(name).is_some_and(|standing| standing.acknowledges()) {
                continue;
            }
            let since = *self.unfit_since.entry(name.clone()).or_insert(cx.now.time);
            let wait = if fitness == Fitness::Barred {
                Duration::ZERO
            } else {
                cx.settings.policy.candidate_wait
            };
            if cx.now.time < since + wait {
                cx.out.wake(since + wait);
            } else {
                next.copies.insert(name.clone(), Standing::Leaving);
            }
        }
        // An instance that a person took out of the configuration.
        for (name, standing) in &mut next.copies {
            if !cx.view.instances.contains_key(name) {
                *standing = Standing::Off;
            }
        }
    }
}

/// It acknowledges no more: the others must hold what it alone may have had.
fn leave(next: &mut SyncRecord, name: &InstanceName) {
    next.copies.insert(name.clone(), Standing::Off);
    next.ask_again();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fitness {
    Fit,
    /// For now: its link or its server has trouble.
    Unfit,
    /// By somebody's decision: it could not be promoted.
    Barred,
}

/// Only who could take over may acknowledge: an acknowledgement of another protects nothing.
fn fitness(
    view: &ServiceView,
    name: &InstanceName,
    record: &InstanceRecord,
    source: std::net::SocketAddr,
) -> Fitness {
    if record.priority == 0
        || record.quarantine.is_some()
        || !record.lossless.is_good()
        || view.drained(name)
    {
        return Fitness::Barred;
    }
    let near = matches!(record.lag, Lag::None | Lag::Some);
    let well = record.health == Health::Up
        && record.source == Some(source)
        && record.link_up
        && !record.syncing
        && record.trouble.is_none();
    if well && near { Fitness::Fit } else { Fitness::Unfit }
}
