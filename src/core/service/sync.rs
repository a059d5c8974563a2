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
use crate::position::Position;
use crate::record::{Health, InstanceRecord, Lag, MasterRecord, MasterState, key};
use crate::sync::{Standing, SyncRecord};
use crate::time::Time;

use super::{Cx, Service, put};

/// How long a change of the acknowledging side or the waiting side may take.
const CHANGE_WITHIN: Duration = Duration::from_secs(2);
/// A record that another removed is made again so soon at most: a second agent of one host, whose
/// file says otherwise, would remove it each time.
const MADE_AGAIN: Duration = Duration::from_secs(1);
/// Nobody is waited for again so soon after those in sync did not answer.
const ALONE_FOR: Duration = Duration::from_secs(30);
/// The same after a try with copies that only join; twice as long each time in a row.
const ALONE_AT_FIRST: Duration = Duration::from_secs(2);
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

/// Does a takeover go by the copies in sync? By what was promised, too, whatever the file of this
/// host says now.
pub(super) fn counts(cx: &Cx<'_>, record: &MasterRecord) -> bool {
    let relies = |it: &At<InstanceRecord>| it.record.policy.loss == Loss::None;
    cx.settings.policy.loss == Loss::None
        || of_term(cx.view, record)
            .is_some_and(|at| at.record.complete || cx.view.instances.values().any(|it| relies(it)))
}

/// What a ranking under `loss = "none"` goes by: a missing record says that the holder alone has
/// everything.
pub(super) fn in_sync<'a>(view: &'a ServiceView, record: &'a MasterRecord) -> InSync<'a> {
    let known = of_term(view, record).map(|at| &at.record).filter(|sync| sync.complete);
    InSync {
        holder: &record.holder.instance,
        seen: if let MasterState::Vacant { seen, .. } = &record.state {
            seen.as_ref()
        } else {
            None
        },
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
        if holds && self.parts(cx) {
            self.part(cx, at);
            return;
        }
        let Some(current) = of_term(cx.view, &at.record) else {
            if holds {
                let revision = cx.revision(&key::sync(cx.name));
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

    pub(super) fn write_sync(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        revision: crate::kv::Revision,
        next: Option<&SyncRecord>,
    ) {
        let due = self.sync_made + MADE_AGAIN;
        if revision == 0 && self.sync_made > Time::ZERO && cx.now.time < due {
            cx.out.wake(due);
            return;
        }
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
        if revision == 0 {
            self.sync_made = cx.now.time;
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
    pub(super) fn stand_for_copies(
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
            own.restarted &= standing.is_some_and(Standing::acknowledges);
            if own.is_exited() || own.restarted {
                // Started again by its own file it acknowledges nothing. It comes back when the
                // record has said so: that could come true after it was told to acknowledge again.
                // While its own record says that it is well the holder lets it in again at once:
                // that it exited is said there first.
                let record = cx.view.instances.get(name).map(|at| &at.record);
                let quiet = record.is_some_and(|record| {
                    record.lossless.is_good()
                        && (!own.is_exited() || record.health == Health::Exited)
                });
                if quiet && standing.is_some_and(|standing| standing != Standing::Off) {
                    leave(next, name);
                    continue;
                }
                if own.is_exited() {
                    continue;
                }
            }
            let Some(state) = own.state().filter(|_| own.failing.is_none()) else { continue };
            if state.semi_sync.is_none() && standing.is_none() {
                continue; // It has no such thing.
            }
            let acknowledges = state.semi_sync.is_some_and(|semi| semi.acknowledges);
            let quiet = own.is_quiet();
            let asked = current.position.as_ref();
            let holds = asked.is_some_and(|position| state.held().has(position));
            if standing == Some(Standing::Joining) && holds {
                next.copies.insert(name.clone(), Standing::Member);
            }
            if standing == Some(Standing::Leaving) && quiet && !own.busy() {
                leave(next, name);
            }
            let wanted = standing.is_some_and(Standing::acknowledges);
            let follows = state.source == Some(holder.address) && state.link_up;
            let done = if wanted { acknowledges } else { quiet };
            if done || own.busy() || (wanted && !follows) {
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

    /// A copy that follows acknowledges from then on if it was told to earlier, in another term or
    /// before its receiver stopped: unless it may, it is told first that it shall not.
    pub(super) fn hush(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        name: &InstanceName,
    ) -> bool {
        let standing = of_term(cx.view, &at.record).and_then(|sync| sync.record.copies.get(name));
        let may = standing.is_some_and(|standing| standing.acknowledges());
        let Some(own) = self.own.get_mut(name) else { return false };
        let transactions = own.state().is_some_and(|it| !matches!(it.applied, Position::Redis(_)));
        if cx.settings.policy.loss != Loss::None || !transactions || may || own.is_quiet() {
            return false;
        }
        own.command(cx, name, at.record.term, Command::Acknowledge { on: false }, CHANGE_WITHIN);
        true
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
        let (state, sent) = (known.state.clone(), known.sent);
        let surely = own.surely_awaits(current.acks);
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
        let acks = cx.settings.policy.acks.max(1);
        if current.acks != acks {
            // Fewer copies may have had each commit until now.
            next.acks = acks;
            next.complete = false;
            next.ask_again();
            return;
        }
        let waits = semi.awaits >= current.acks;
        match (surely, self.awaiting) {
            (true, None) => self.awaiting = Some(cx.now.time),
            (false, Some(_)) => self.awaiting = None,
            _ => {}
        }
        let stuck = self.stuck(cx, name, current, (state.held(), semi, sent));
        let strangers = self.strangers(cx, current, semi);
        let able = semi.clients.min(next.acknowledging());
        if current.complete && (!waits || stuck || strangers || self.too_few(cx, current, able)) {
            next.complete = false;
            next.ask_again();
            return;
        }
        self.short_since = self.short_since.filter(|_| able < current.acks);
        self.confirm(cx, at, current, next);
    }

    /// Asks the copies for a position, and goes by what they say.
    fn confirm(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        current: &SyncRecord,
        next: &mut SyncRecord,
    ) {
        let name = &at.record.holder.instance;
        let Some(own) = self.own.get(name) else { return };
        let Some(known) = own.known.clone() else { return };
        let surely = own.surely_awaits(current.acks);
        let enough = next.acknowledging() >= next.acks;
        let asked = self.asking(cx, current);
        let settled = self.awaiting.is_some_and(|since| known.sent >= since.max(asked) + SETTLED);
        // Who leaves in this very decision may have acknowledged since the last look.
        let stands = current.position.is_none() && current.copies == next.copies;
        if next.position.is_none() && surely && enough {
            // Read after the last one that left stood so: what it alone had is in it.
            if settled && stands {
                next.position = Some(known.state.held().clone());
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
        next.complete |= confirmed && surely && members && self.strange_since.is_none();
        if !current.complete && !next.complete {
            self.wait_or_not(cx, at, current, next);
        } else if current.complete && next.position.is_none() && enough && !surely {
            // So it was found: said once more, nothing older can undo it.
            self.wait_for(cx, at, current.acks);
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

    /// Do commits wait, and has none been acknowledged for so long that the copies which seem
    /// attached cannot be there? A host without power leaves its connection standing for minutes.
    /// While too few are attached it is [`Self::too_few`] that counts.
    /// Two looks tell, the second one sent late enough: between them nothing is known.
    fn stuck(
        &mut self,
        cx: &mut Cx<'_>,
        holder: &InstanceName,
        current: &SyncRecord,
        (held, semi, sent): (&Position, SemiSync, Time),
    ) -> bool {
        if semi.waiting == 0 || semi.awaits == 0 || semi.clients < semi.awaits {
            self.stuck = None;
            return false;
        }
        let since = match &self.stuck {
            Some((at, since)) if at == held => *since,
            _ => sent,
        };
        self.stuck = Some((held.clone(), since));
        // Where nobody relies on the wait it is only tried.
        let policy = &cx.settings.policy;
        let due = since + if current.complete { policy.hung_after } else { policy.candidate_wait };
        if sent < due {
            match self.own.get(holder).filter(|_| cx.now.time >= due) {
                Some(own) => own.observe(cx, holder),
                None => cx.out.wake(due),
            }
            return false;
        }
        self.stuck = None;
        let in_a_row = cx.now.time < self.alone_until + ALONE_FOR;
        let longer = if in_a_row { self.alone_for * 2 } else { Duration::ZERO };
        self.alone_for = match current.complete {
            true => ALONE_FOR,
            false => longer.clamp(ALONE_AT_FIRST, ALONE_FOR),
        };
        self.alone_until = cx.now.time + self.alone_for;
        cx.out.wake(self.alone_until);
        true
    }

    /// Is the number of attached acknowledging copies too small, and has it been for long enough?
    fn too_few(&mut self, cx: &mut Cx<'_>, current: &SyncRecord, able: u32) -> bool {
        if able >= current.acks {
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
        next: &mut SyncRecord,
    ) {
        let Some(own) = self.own.get(&at.record.holder.instance) else { return };
        let Some(semi) = own.state().and_then(|state| state.semi_sync) else { return };
        let surely = own.surely_awaits(current.acks);
        let somebody = current.acknowledging() >= current.acks
            && semi.clients >= current.acks
            && cx.now.time >= self.alone_until;
        match (somebody, semi.awaits) {
            (true, _) if !surely => self.wait_for(cx, at, current.acks),
            // A txn that says that the others have everything, sent and not answered, compares a
            // record with a position: that one goes first, so that it cannot come true any more.
            (false, 1..) if current.position.is_some() => next.ask_again(),
            (false, 1..) => self.wait_for(cx, at, 0),
            _ => {}
        }
    }

    /// Tells the holder for how many acknowledgements its commits wait.
    pub(super) fn wait_for(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, count: u32) {
        let name = &at.record.holder.instance;
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
            // One that begins to acknowledge connects anew, and a look at it must come between.
            let wait = match fitness {
                Fitness::Barred => Duration::ZERO,
                Fitness::Fit | Fitness::Unfit => {
                    cx.settings.policy.candidate_wait.max(CHANGE_WITHIN)
                }
            };
            if cx.now.time < since + wait {
                cx.out.wake(since + wait);
            } else {
                next.copies.insert(name.clone(), Standing::Leaving);
            }
        }
        // An instance that a person took out of the configuration.
        let known = |name: &InstanceName| cx.view.instances.contains_key(name);
        let gone: Vec<InstanceName> = next
            .copies
            .iter()
            .filter(|(name, standing)| !known(name) && **standing != Standing::Off)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            leave(next, name);
        }
    }

    /// Do more copies acknowledge than stand in the record? What such a one alone has, nobody asks
    /// for.
    fn strangers(&mut self, cx: &mut Cx<'_>, current: &SyncRecord, semi: SemiSync) -> bool {
        // Of one that a person took out of the configuration no agent saw that it stopped.
        let known = current.copies.iter().filter(|(name, standing)| {
            **standing != Standing::Off || cx.view.instances.contains_key(*name)
        });
        let known = u32::try_from(known.count()).unwrap_or(u32::MAX);
        if semi.clients <= known {
            self.strange_since = None;
            return false;
        }
        let since = *self.strange_since.get_or_insert(cx.now.time);
        let due = since + cx.settings.policy.candidate_wait;
        if cx.now.time < due {
            cx.out.wake(due);
            return false;
        }
        self.refuse(format!(
            "`loss = \"none\"`: {} copies acknowledge commits, and sengu let {known} do so: \
             configure the others as instances, or turn their acknowledging off \
             (`rpl_semi_sync_replica_enabled`, MariaDB: `rpl_semi_sync_slave_enabled`)",
            semi.clients
        ));
        true
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
    // What it has received and not applied yet is safe there.
    let near = matches!(record.received.unwrap_or(record.lag), Lag::None | Lag::Some);
    let well = record.health == Health::Up
        && record.source == Some(source)
        && record.link_up
        && !record.syncing
        && record.trouble.is_none();
    if well && near { Fitness::Fit } else { Fitness::Unfit }
}
