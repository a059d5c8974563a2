//! One service: what to do next, read from its records and from what was last seen of the
//! instances here.
//!
//! [`Service::decide`] runs after every event that could matter and holds no phase: it looks at
//! `master/S` and does the next thing that the record, the instances and the requests call for,
//! at most one txn and one command for each instance at a time. A crash between any two actions
//! therefore needs no recovery of its own. One file for each part: `hold` (this host has the
//! term), `take` (nobody has it), `follow` (another has it), `request` (what people ask), `prepare`
//! (a planned move's target), `publish` (`instances/…`), `tell` (hooks and history), `external`
//! (another tool moves it), `loss` (what a takeover may have lost), `parting` (`loss = "none"`
//! ends), `trail` (when the master had what), `arrears` (since when a copy has not applied what it
//! received), `report` (what `explain` prints).

mod arrears;
mod external;
mod follow;
pub mod freeze;
mod hold;
mod loss;
mod own;
mod parting;
mod prepare;
mod publish;
mod report;
mod request;
mod rules;
mod story;
mod sync;
mod take;
mod tell;
mod trail;
mod veto;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{At, Catalog, ServiceView};
use crate::event::{Action, ActionId, ControlOutcome, Outcome, TxnOutcome};
use crate::kv::{Compare, Key, Op, Txn};
use crate::lease::{Beats, beat_within, lapse_wait};
use crate::machine::Out;
use crate::name::{BootId, InstanceId, InstanceName, ServiceName, Term};
use crate::observation::Observation;
use crate::policy::{Config, Judge, ServiceConfig};
use crate::record::{
    Holder, MasterRecord, MasterState, Phase, Promise, Proof, Record, key, newer, newer_format,
};
use crate::sabotage::sabotaged;
use crate::time::{Now, Time};
use crate::transition;

use own::Own;
pub(crate) use report::report;
pub(crate) use rules::Facts;
use tell::Place;

/// What a decision may look at, and where it puts what it wants done.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a Config,
    pub(crate) settings: &'a ServiceConfig,
    pub(crate) name: &'a ServiceName,
    pub(crate) view: &'a ServiceView,
    pub(crate) catalog: &'a Catalog,
    pub(crate) beats: &'a mut Beats,
    pub(crate) out: &'a mut Out,
    /// The store answered lately: what this agent sees of others may be judged.
    pub(crate) trusted: bool,
    /// The service was held when its record was last read, in this life of the agent or before.
    pub(crate) remembered: bool,
    /// Since when it answers in time for a beat to count; now: it does not.
    pub(crate) steady: Time,
    /// What was seen before is old: the loop was late, or a clock jumped.
    pub(crate) doubted: Time,
}

impl Cx<'_> {
    fn id(&self, instance: &InstanceName) -> InstanceId {
        InstanceId { service: self.name.clone(), instance: instance.clone() }
    }

    /// Is this holder an instance of this agent?
    fn mine(&self, holder: &Holder) -> bool {
        mine(self.config, holder)
    }

    /// A record in a newer format stands there, which this version must not write over: that, in
    /// words.
    fn newer(&self, key: &str) -> Option<String> {
        let why = self.view.unreadable.get(key);
        // Beats are no service's.
        if why.is_none() && !key.starts_with("beats/") {
            return None;
        }
        let format = newer_format(&self.catalog.get(key)?.value)?;
        let why = why.cloned().unwrap_or_else(|| newer(format));
        Some(format!("record {key} cannot be read: {why}"))
    }

    /// The first record of this service in a newer format: who cannot read what stands there knows
    /// too little to judge who shall be master.
    fn any_newer(&self) -> Option<String> {
        let counts = |key: &&Key| {
            ["instances/", "finals/", "sync/", "requests/"].iter().any(|it| key.starts_with(it))
        };
        self.view.unreadable.keys().filter(counts).find_map(|key| self.newer(key))
    }

    /// That, as a refusal to take over; a person who accepts what may be lost has looked.
    fn readable(&self, lossy: bool) -> Result<(), String> {
        self.any_newer().filter(|_| !lossy).map_or(Ok(()), Err)
    }

    /// The revision at which a key stands, readable or not; 0: it does not.
    fn revision(&self, key: &str) -> crate::kv::Revision {
        self.catalog.get(key).map_or(0, |entry| entry.modified)
    }
}

/// Is this holder an instance of this agent? Where one agent judges alone, its id says it all: the
/// store is in the same folder, and the host may have been renamed.
fn mine(config: &Config, holder: &Holder) -> bool {
    let alone = matches!(config.judge, Judge::Alone { .. });
    holder.agent == config.agent && (alone || holder.host == config.host)
}

/// One service's volatile state: lanes, and what was last seen. Everything else is in records.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Service {
    own: BTreeMap<InstanceName, Own>,
    /// The txn under way on the master record, finals, requests and history.
    writing: Option<ActionId>,
    /// The txn under way on `instances/…`.
    publishing: Option<ActionId>,
    /// Txns in a row whose comparison failed.
    missed: u32,
    /// Since when a txn is under way.
    writing_since: Time,
    /// The store refused or did not answer: not again before.
    write_after: Time,
    publish_after: Time,
    /// When records of instances were last written, and the last revisions that this life wrote.
    published: Time,
    /// When records of instances that are not configured any more were last removed.
    forgot: Time,
    written: VecDeque<crate::kv::Revision>,
    /// The hook under way: which, for which term, and when it started.
    hook: Option<RunningHook>,
    /// When the last hook ended.
    hook_ended: Time,
    /// A hook that ended and whose end is not written yet.
    hook_end: Option<(Place, Phase, crate::record::HookStand)>,
    /// Hooks that this life of the agent has started.
    launched: BTreeSet<(Place, Phase)>,
    looks: BTreeMap<std::net::SocketAddr, veto::Look>,
    /// A master is seen taking writes although nobody keeps its term.
    veto: Option<veto::Veto>,
    /// The request that wants fresh looks, and when it was first seen.
    asked_seen: Option<(String, Time)>,
    /// Since when the holder here waits for acknowledgements.
    awaiting: Option<Time>,
    /// Which copies are asked for a position, and since when.
    asked_position: Option<(Asked, Time)>,
    /// Since when too few acknowledging copies are attached to it.
    short_since: Option<Time>,
    /// Since when more copies acknowledge than stand in the record.
    strange_since: Option<Time>,
    /// The position at which commits wait and no acknowledgement comes, and since when.
    stuck: Option<(crate::position::Position, Time)>,
    /// When it last made `sync/S` where there was none.
    sync_made: Time,
    /// Since when this host's agent ends what `loss = "none"` set up.
    parting_since: Option<Time>,
    /// Commits go on alone at least until then.
    alone_until: Time,
    /// For so long, the last time.
    alone_for: Duration,
    /// Since when a copy that may acknowledge is not fit to.
    unfit_since: BTreeMap<InstanceName, Time>,
    /// The term that it last said to take, and with which copy.
    taking_said: Option<(Term, InstanceName)>,
    /// Since when the ranking of this incident stands, and of what.
    ranked: Option<(Vec<InstanceName>, Time)>,
    /// The copy that a full copy here lets go first, and since when its turn has come.
    turn: Option<(InstanceName, Time)>,
    /// What is not done and why; made anew by each decision.
    refusals: Vec<String>,
    doing: Option<String>,
    /// The refusals of the decision before.
    before: Vec<String>,
    /// Why the store did not take the last write.
    store_trouble: Option<String>,
    /// The last line said, so that it is said once.
    said: Option<String>,
}

/// The copies of `sync/S`, and whether it wants a position of the holder.
type Asked = (BTreeMap<InstanceName, crate::sync::Standing>, bool);

#[derive(Debug, Clone, Hash)]
struct RunningHook {
    id: ActionId,
    place: Place,
    phase: Phase,
    started: Now,
}

impl Service {
    pub(crate) fn configure(&mut self, settings: &ServiceConfig) {
        self.own.retain(|name, _| settings.instances.contains_key(name));
        for name in settings.instances.keys() {
            let own = self.own.entry(name.clone()).or_default();
            own.trail.space(settings.policy.max_lag);
        }
    }

    pub(crate) fn observed(
        &mut self,
        now: Now,
        instance: &InstanceName,
        sent: Time,
        observation: Observation,
    ) {
        if let Some(own) = self.own.get_mut(instance) {
            own.observed(now, sent, observation);
        }
    }

    /// `due`: the term whose fence was to begin by then.
    pub(crate) fn exited(
        &mut self,
        now: Now,
        instance: &InstanceName,
        boot_id: &BootId,
        due: Option<Term>,
    ) {
        if let Some(own) = self.own.get_mut(instance) {
            own.ran_out = due.or(own.ran_out);
            own.exited(now, boot_id);
        }
    }

    pub(crate) fn fence_fired(
        &mut self,
        now: Now,
        instance: &InstanceName,
        term: Term,
        outcome: ControlOutcome,
    ) {
        if let Some(own) = self.own.get_mut(instance) {
            own.fired = Some(term);
            own.fence_ended(now, outcome);
        }
    }

    pub(crate) fn done(&mut self, now: Now, id: ActionId, outcome: Outcome) {
        match outcome {
            Outcome::Txn(outcome) => self.txn_done(now, id, &outcome),
            Outcome::Control(outcome) => {
                for own in self.own.values_mut() {
                    if own.fence == Some(id) {
                        own.fence = None;
                        own.fence_ended(now, outcome);
                        return;
                    }
                    if own.lane.as_ref().is_some_and(|(lane, _, _)| *lane == id) {
                        own.lane_ended(now, outcome);
                        return;
                    }
                }
            }
            Outcome::Look(outcome) => {
                for look in self.looks.values_mut() {
                    if look.under_way == Some(id) {
                        look.under_way = None;
                        look.last = Some((look.sent, outcome));
                    }
                }
            }
            Outcome::Hook(outcome) => self.hook_done(now, id, outcome),
        }
    }

    fn txn_done(&mut self, now: Now, id: ActionId, outcome: &TxnOutcome) {
        let again = match outcome {
            TxnOutcome::Answered { reply, .. } if reply.succeeded => {
                self.missed = 0;
                self.written.push_back(reply.revision);
                if self.written.len() > WRITTEN {
                    self.written.pop_front();
                }
                now.time
            }
            // What it compared was not so. The view has moved on by now; if it has not, something
            // is not understood, and that is no reason for haste.
            TxnOutcome::Answered { .. } => {
                self.missed = self.missed.saturating_add(1);
                let pause = if self.missed > 3 { 10 << self.missed.min(8) } else { 0 };
                now.time + Duration::from_millis(pause)
            }
            TxnOutcome::Unknown(_) => now.time + Duration::from_millis(50),
            TxnOutcome::Refused(_) => now.time + Duration::from_secs(1),
        };
        let again = if sabotaged!(RetriedWithoutPause) { now.time } else { again };
        if self.writing == Some(id) {
            self.writing = None;
            self.write_after = again;
        }
        if self.publishing == Some(id) {
            self.publishing = None;
            self.publish_after = again;
        }
        self.store_trouble = match outcome {
            TxnOutcome::Answered { .. } => None,
            TxnOutcome::Refused(why) | TxnOutcome::Unknown(why) => {
                Some(format!("the store does not take writes: {why}"))
            }
        };
    }

    /// Does the next beat name this term?
    pub(crate) fn keeps(&self, record: &MasterRecord, config: &Config) -> bool {
        let holds = matches!(record.state, MasterState::Taken { .. } | MasterState::Serving);
        holds
            && mine(config, &record.holder)
            && self.own.get(&record.holder.instance).is_some_and(|own| {
                (own.boot_id.as_ref() == Some(&record.holder.boot_id)
                    || sabotaged!(AnotherLifeGoesOn))
                    && own.fired != Some(record.term)
                    && (record.state != MasterState::Serving || own.closed < CLOSED_LOOKS)
            })
    }

    /// Does this host see the master of this term taking writes, and nobody keeps the term?
    pub(crate) fn vetoes(&self, record: &MasterRecord) -> bool {
        let open = matches!(record.state, MasterState::Vacant { .. } | MasterState::Lapsed);
        open && self.veto.as_ref().is_some_and(|veto| veto.term == record.term)
    }

    /// Does the fence's deadline of this term stand: it is held here, and was not fenced yet?
    pub(crate) fn must_fence(&self, record: &MasterRecord, config: &Config) -> bool {
        matches!(record.state, MasterState::Taken { .. } | MasterState::Serving)
            && record.promise != Promise::None
            && mine(config, &record.holder)
            && self
                .own
                .get(&record.holder.instance)
                .is_some_and(|own| own.fired != Some(record.term))
    }

    /// Without an answer of the store, everything held here is fenced; also what never told this
    /// life of the agent that it is closed. `unseen`: also where no look has come back.
    pub(crate) fn fence_unanswered(&mut self, cx: &mut Cx<'_>, unseen: bool) {
        if cx.settings.policy.failover == crate::policy::Failover::External {
            return; // Nothing of it was ever this agent's to close.
        }
        let kill = cx.settings.policy.kill;
        let patience = cx.config.judge.lease() / 2;
        for (name, own) in &mut self.own {
            let untold = own.may_be_open(cx, patience) || (unseen && own.is_unseen());
            if own.writable() || untold {
                own.start_fence(cx, name, Term(0), kill);
            }
        }
    }

    /// Does the next thing.
    pub(crate) fn decide(&mut self, cx: &mut Cx<'_>) {
        self.before = std::mem::take(&mut self.refusals);
        self.refusals.extend(self.store_trouble.clone());
        self.doing = None;
        self.act(cx);
        // It was free to write and had nothing to: what the store did not take is not wanted now.
        let free = cx.now.time >= self.write_after.max(self.publish_after);
        if free
            && self.writing.is_none()
            && self.publishing.is_none()
            && let Some(trouble) = self.store_trouble.take()
        {
            self.refusals.retain(|why| *why != trouble);
        }
    }

    fn act(&mut self, cx: &mut Cx<'_>) {
        self.publish(cx);
        if self.writing.is_none() && cx.now.time >= self.write_after {
            self.expire_requests(cx);
        } else if self.writing.is_none() {
            cx.out.wake(self.write_after);
        }
        if cx.view.master_unreadable() {
            self.blind(cx);
            self.speak(cx);
            return;
        }
        let Some(at) = &cx.view.master else {
            self.adoption(cx);
            return;
        };
        self.note_steps(cx, &at.record);
        if at.record.state == MasterState::Unmanaged {
            self.adoption(cx);
            return;
        }
        self.watch_holder(cx, &at.record.holder);
        if external::is_external(cx, &at.record) {
            self.external(cx, at);
            self.speak(cx);
            return;
        }
        self.fence_on_sight(cx, at);
        self.finish_hook(cx);
        self.release(cx, at);
        let mine = cx.mine(&at.record.holder);
        match &at.record.state {
            MasterState::Serving | MasterState::Taken { .. } | MasterState::FenceFailed { .. }
                if mine =>
            {
                self.hold(cx, at);
            }
            MasterState::Serving => self.watch_lease(cx, at),
            MasterState::Taken { .. } => self.watch_lease(cx, at),
            MasterState::Giving { .. } => self.hand_over(cx, at),
            MasterState::Lapsed if mine && sabotaged!(LapsedBeatenBack) => {
                let serving = MasterRecord { state: MasterState::Serving, ..at.record.clone() };
                self.write_master(cx, Some(at), &serving, Vec::new(), Vec::new());
            }
            MasterState::Vacant { .. } | MasterState::Lapsed => self.incident(cx, at),
            MasterState::FenceFailed { error } => {
                self.refuse(format!("the old master could not be fenced: {error}"));
            }
            MasterState::Withdrawn { .. } | MasterState::Unmanaged => {}
        }
        if at.record.state == MasterState::Serving {
            self.follow(cx, at);
            self.prove_stopped(cx, at);
            self.keep_in_sync(cx, at);
        }
        self.serve_requests(cx, at);
        self.speak(cx);
    }

    /// `master/S` cannot be read: somebody else may have the term by now. As without an answer of
    /// the store, what takes writes here is fenced, unless this agent judges alone.
    fn blind(&mut self, cx: &mut Cx<'_>) {
        let key = key::master(cx.name);
        let why = cx.view.unreadable.get(&key).cloned().unwrap_or_default();
        self.refuse(format!("record {key} cannot be read: {why}"));
        let held = cx.view.managed() || cx.remembered;
        if held && matches!(cx.config.judge, Judge::Shared { .. }) {
            self.fence_unanswered(cx, false);
        }
    }

    /// An instance of a held service that takes writes without holding the term is fenced.
    fn fence_on_sight(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let record = &at.record;
        let opens = matches!(record.state, MasterState::Taken { .. } | MasterState::Serving);
        let lapsed = (record.state == MasterState::Lapsed).then_some(&record.holder);
        let unproven: Vec<&InstanceName> = record
            .unproven
            .iter()
            .chain(lapsed)
            .filter(|holder| cx.mine(holder))
            .map(|holder| &holder.instance)
            .collect();
        let patience = cx.config.judge.lease() / 2;
        for (name, own) in &mut self.own {
            let holds = opens
                && cx.mine(&record.holder)
                && record.holder.instance == *name
                && own.boot_id.as_ref() == Some(&record.holder.boot_id)
                && own.fired != Some(record.term);
            let untold = unproven.contains(&name) && own.may_be_open(cx, patience);
            if (own.writable() || untold) && !holds && !sabotaged!(OpenOnSightLeft) {
                own.start_fence(cx, name, record.term, cx.settings.policy.kill);
            }
        }
    }

    /// Which copies here are in step with the master, or are it, in this life of their process.
    fn note_steps(&mut self, cx: &Cx<'_>, record: &MasterRecord) {
        let serving = record.state == MasterState::Serving;
        // Who follows a later life of the master may follow one that lost its data.
        let master = cx.view.instances.get(&record.holder.instance);
        let runs =
            master.is_some_and(|at| at.record.boot_id.as_ref() == Some(&record.holder.boot_id));
        for (name, own) in &mut self.own {
            if let Some(at) = cx.view.instances.get(name) {
                if own.stepped.is_none() {
                    own.stepped.clone_from(&at.record.in_step);
                }
                if !own.recalled {
                    own.recalled = true;
                    own.quarantine.clone_from(&at.record.quarantine);
                }
            }
            let holds = record.holder.instance == *name
                && own.boot_id.as_ref() == Some(&record.holder.boot_id);
            let follows = own.state().is_some_and(|state| {
                runs && state.link_up
                    && !state.syncing
                    && !state.filtered
                    && state.source == Some(record.holder.address)
            });
            if serving && (holds || follows && own.kept_all(record)) {
                if own.stepped != own.boot_id {
                    own.stepped.clone_from(&own.boot_id);
                }
                own.note_held(record.term);
            }
        }
    }

    /// Has every holder here been looked at, or is known to be gone? And does the store take what
    /// this service writes? If not, its master is named by nobody.
    pub(crate) fn vouches(
        &self,
        now: Time,
        record: &MasterRecord,
        lease: Duration,
        doubted: Time,
    ) -> bool {
        let holder = &record.holder;
        let stuck = self.writing.is_some() && now > self.writing_since + lease;
        // What this agent knows needs no record: a disk that is full must not keep a dead name.
        let looked = self.own.get(&holder.instance).is_some_and(|own| {
            !own.saw_end(&holder.boot_id) && (own.known.is_some() || own.failing.is_some())
        });
        looked && !stuck && (record.external.is_none() || self.saw_since(record, doubted))
    }

    /// Is the holder here, and was it seen that it serves no more?
    pub(crate) fn saw_end(&self, record: &MasterRecord, config: &Config) -> bool {
        let own = self.own.get(&record.holder.instance);
        mine(config, &record.holder) && own.is_some_and(|own| own.saw_end(&record.holder.boot_id))
    }

    /// Was the holder here seen since then? Another tool may have moved it while this agent did
    /// not look.
    pub(crate) fn saw_since(&self, record: &MasterRecord, since: Time) -> bool {
        self.own.get(&record.holder.instance).is_some_and(|own| own.seen_since(since))
    }

    /// Is the holder of a term that another tool began an instance here?
    pub(crate) fn names_for_another(&self, record: &MasterRecord, config: &Config) -> bool {
        record.external.is_some() && mine(config, &record.holder)
    }

    /// What was seen before is old.
    pub(crate) fn doubt(&mut self, now: Now) {
        for own in self.own.values_mut() {
            own.doubt(now);
        }
    }

    /// A holder here whose process this life of the agent has not seen: is that process still
    /// there? Its port may be closed while it lives, and another life may listen on it.
    fn watch_holder(&mut self, cx: &mut Cx<'_>, holder: &Holder) {
        if !cx.mine(holder) {
            return;
        }
        let Some(own) = self.own.get_mut(&holder.instance) else { return };
        let seen = own.boot_id.as_ref() == Some(&holder.boot_id) || own.gone(&holder.boot_id);
        if !seen && own.watched.as_ref() != Some(&holder.boot_id) {
            own.watched = Some(holder.boot_id.clone());
            let instance = cx.id(&holder.instance);
            cx.out.push(Action::Watch { instance, boot_id: holder.boot_id.clone() });
        }
    }

    /// Another host has the term: did its beats run out?
    fn watch_lease(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let Some(wait) = lapse_wait(&at.record.promise) else { return };
        // A beat that was missed may have kept the term, even if the next one does not any more.
        let view = cx.view;
        let heard =
            view.beat_received.max(view.beat_missed).max(view.master_received).max(cx.doubted);
        let due = heard + wait;
        let holder = &at.record.holder;
        if cx.now.time < due {
            cx.out.wake(due);
            if at.record.state != MasterState::Serving {
                let host = &holder.host;
                self.doing = Some(format!("waiting for host {host} to open {}", holder.instance));
            }
            return;
        }
        if !cx.trusted {
            self.refuse("this agent has no fresh answer of the store and judges nobody".to_owned());
            return;
        }
        let host = &holder.host;
        // It may keep its term in words that this version does not know.
        if let Some(why) = cx.newer(&key::beat(host)) {
            self.refuse(why);
            return;
        }
        self.doing = Some(format!("ending term {}: host {host} beats no more", at.record.term));
        let beat = cx.catalog.beat(host.as_str()).map_or(0, |view| view.beat.revision);
        let mut lapsed = at.record.clone();
        lapsed.state = MasterState::Lapsed;
        lapsed.since = cx.now.wall;
        let when = vec![Compare::Modified(key::beat(host), beat)];
        self.write_master(cx, Some(at), &lapsed, when, Vec::new());
    }

    /// Writes the master record by a txn that compares the one it was decided on. Every change
    /// of mastership passes here.
    fn write_master(
        &mut self,
        cx: &mut Cx<'_>,
        from: Option<&At<MasterRecord>>,
        to: &MasterRecord,
        when: Vec<Compare>,
        then: Vec<Op>,
    ) -> Option<ActionId> {
        let unchecked = sabotaged!(TermReused, LapsedBeatenBack);
        if let Err(wrong) = transition::check(from.map(|at| &at.record), to)
            && !unchecked
        {
            self.refuse(format!("internal error, not written: {wrong}"));
            return None;
        }
        let stripped = sabotaged!(MasterFieldsDropped)
            .then(|| MasterRecord { unknown: serde_json::Map::new(), ..to.clone() });
        let to = stripped.as_ref().unwrap_or(to);
        let key = key::master(cx.name);
        let compare = Compare::Modified(Arc::clone(&key), from.map_or(0, |at| at.revision));
        let put = put(key, to);
        let txn = Txn {
            when: Some(compare)
                .filter(|_| !sabotaged!(RecordNotCompared))
                .into_iter()
                .chain(when)
                .collect(),
            then: std::iter::once(put).chain(then).collect(),
            otherwise: Vec::new(),
        };
        self.write(cx, txn)
    }

    /// Sends a txn if the lane is free.
    fn write(&mut self, cx: &mut Cx<'_>, txn: Txn) -> Option<ActionId> {
        if self.writing.is_some() {
            return None;
        }
        if cx.now.time < self.write_after {
            cx.out.wake(self.write_after);
            return None;
        }
        let puts = txn.then.iter().filter_map(|op| match op {
            Op::Put { key, .. } => Some(key),
            Op::Delete(_) | Op::DeletePrefix(_) | Op::Get(_) | Op::GetPrefix(_) => None,
        });
        if let Some(why) = puts.filter_map(|key| cx.newer(key)).next() {
            self.refuse(why);
            return None;
        }
        // A beat rides on it: those of all terms of this host wait for its end.
        let beat = key::beat(&cx.config.host);
        let beats = txn.then.iter().any(|op| matches!(op, Op::Put { key, .. } if *key == beat));
        let lease = cx.config.judge.lease();
        let within = if beats { beat_within(lease) } else { Duration::from_secs(5) };
        let id = cx.out.txn(cx.name, txn, within);
        self.writing = Some(id);
        self.writing_since = cx.now.time;
        Some(id)
    }

    /// Writes *vacant*: the holder here is proven stopped.
    fn vacate(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        proof: Proof,
        cause: crate::record::Cause,
        noticed: crate::time::Wall,
        blame: Blame<'_>,
    ) {
        let mut record = at.record.clone();
        // Where another tool promotes, nobody is proven stopped by what was done here.
        record.state = if record.external.is_some() {
            MasterState::Withdrawn { cause, intent: None, fenced: false }
        } else {
            let holder = &at.record.holder;
            let seen = if let MasterState::Giving { position, .. } = &at.record.state {
                Some(position)
            } else {
                self.own.get(&holder.instance).and_then(|own| own.seen_in(&holder.boot_id))
            };
            MasterState::Vacant { proof, cause, noticed, seen: seen.cloned() }
        };
        record.since = cx.now.wall;
        let most = usize::try_from(cx.settings.policy.max_attempts).unwrap_or(usize::MAX);
        match blame {
            Blame::Candidate(failed) if !record.failed.contains(failed) => {
                record.failed.push(failed.clone());
            }
            // More than the attempts that it counts against need not stand there.
            Blame::Store(unkept) if hold::tried(&record) < most => {
                record.unkept.push(unkept.clone());
            }
            Blame::Candidate(_) | Blame::Store(_) | Blame::Nobody => {}
        }
        self.write_master(cx, Some(at), &record, Vec::new(), Vec::new());
    }

    fn refuse(&mut self, why: String) {
        if !self.refusals.contains(&why) && !sabotaged!(RefusalDropped) {
            self.refusals.push(why);
        }
    }

    /// Says the first refusal in the log when it is new.
    fn speak(&mut self, cx: &mut Cx<'_>) {
        let line = self.refusals.first();
        if line.is_none() && self.doing.is_some() {
            return; // It looks again: what it says next may be what it said before.
        }
        // A countdown in it is no news.
        let said = line.map(|line| line.replace(|c: char| c.is_ascii_digit(), ""));
        if said != self.said {
            if let Some(line) = line {
                cx.out.say(cx.name, true, format!("not acting: {line}"));
            }
            self.said = said;
        }
    }
}

/// What a term that ends is held against.
#[derive(Debug, Clone, Copy)]
enum Blame<'a> {
    /// Nothing: it served.
    Nobody,
    /// The candidate that was not opened: it is passed over until one serves.
    Candidate(&'a InstanceName),
    /// The store, whose answers came too late to keep the term until this candidate was open.
    Store(&'a InstanceName),
}

/// So many of its own revisions does a life remember.
const WRITTEN: usize = 16;

/// So many looks in a row without writes before a serving holder counts as closed.
const CLOSED_LOOKS: u32 = 3;

fn put(key: Key, record: &impl Record) -> Op {
    Op::Put { key, value: record.encode(), lease: 0 }
}
