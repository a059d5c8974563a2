//! This host has the term: keep it, open it, or end it with proof.

use std::time::Duration;

use crate::catalog::At;
use crate::event::{Command, ControlOutcome};
use crate::kv::Op;
use crate::lease::promise;
use crate::name::{InstanceName, Term};
use crate::observation::{InstanceState, Role};
use crate::policy::{Failover, Judge};
use crate::position::Position;
use crate::record::{
    Ask, Cause, Holder, HookOutcome, HookStand, MasterRecord, MasterState, Phase, Promise, Proof,
    Stand, key,
};
use crate::sabotage::sabotaged;
use crate::time::{Now, Wall};

use super::own::Own;
use super::{Blame, CLOSED_LOOKS, Cx, Service, put};

/// How long a promotion may take.
const PROMOTE_WITHIN: Duration = Duration::from_secs(2);

/// How long a promotion may take: so much of a short lease that a beat leaves time for it.
fn promote_within(judge: Judge) -> Duration {
    PROMOTE_WITHIN.min(judge.lease() / 3)
}
/// A candidate that is not open by then, its hooks apart, is given up.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Why a promotion ended for which the store is to blame.
const RAN_OUT: &str = "the lease ran out during the promotion";
const TOO_LATE: &str = "the store answered too late to open it in time";
/// Whoever closes a candidate may have pointed it elsewhere, and overwritten what it took over.
pub(super) const CLOSED: &str = "somebody closed it before it was named";

impl Service {
    /// The record names an instance here: *taken*, *serving* or *fence-failed*.
    pub(super) fn hold(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let holder = &at.record.holder;
        let Some(own) = self.own.get(&holder.instance) else {
            self.refuse(format!(
                "`{}` holds term {} and is not configured here any more: put it back into the \
                 configuration, or run `sengu release {}`",
                holder.instance, at.record.term, cx.name
            ));
            return;
        };
        let any = sabotaged!(AnotherLifeGoesOn);
        if own.gone(&holder.boot_id) && !any {
            self.hold_gone(cx, at);
            return;
        }
        if own.boot_id.as_ref().is_some_and(|boot| *boot != holder.boot_id) && !any {
            // Another process answers at its address. The end of the one that holds the term is
            // told by the shell, which watches exactly that process; till then nothing is proven.
            self.refuse(format!(
                "another process answers as `{}` while the one that holds term {} still runs",
                holder.instance, at.record.term
            ));
            return;
        }
        if own.fence.is_some() {
            self.doing = Some(format!("fencing {}", holder.instance));
            return;
        }
        match &at.record.state {
            MasterState::Taken { cause } => self.open(cx, at, cause),
            MasterState::Serving => self.serve(cx, at),
            MasterState::FenceFailed { .. } => self.fence_again(cx, at),
            MasterState::Giving { .. }
            | MasterState::Vacant { .. }
            | MasterState::Lapsed
            | MasterState::Withdrawn { .. }
            | MasterState::Unmanaged => {}
        }
    }

    /// The process that held the term has exited: another life of it holds nothing.
    fn hold_gone(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let holder = &at.record.holder;
        let Some(own) = self.own.get(&holder.instance) else { return };
        let noticed = match &own.exited {
            Some((gone, now)) if *gone == holder.boot_id => now.wall,
            _ => cx.now.wall,
        };
        let ran_out = [own.fired, own.ran_out].contains(&Some(at.record.term));
        let (cause, blame) = if !matches!(at.record.state, MasterState::Taken { .. }) {
            (own.ending.clone().unwrap_or(Cause::ProcessExited), Blame::Nobody)
        } else if ran_out {
            (Cause::PromotionFailed(RAN_OUT.to_owned()), Blame::Store(&holder.instance))
        } else {
            let why = "its process exited".to_owned();
            (Cause::PromotionFailed(why), Blame::Candidate(&holder.instance))
        };
        self.doing = Some(format!("withdrawing {}: its process has exited", holder.instance));
        self.vacate(cx, at, Proof::Exited, cause, noticed, blame);
    }

    /// *Serving*: is it still true?
    fn serve(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let name = at.record.holder.instance.clone();
        if self.keep_promise(cx, at) || self.switching(cx, at) {
            return;
        }
        let Some(own) = self.own.get(&name) else { return };
        let policy = &cx.settings.policy;
        own.look_whether_hung(cx, &name, policy.hung_after);
        if own.hung(policy.hung_after) {
            let asked = self.failover_asked(cx, at);
            let held = cx.view.held_back();
            if (policy.failover == Failover::Auto && held.is_none()) || asked {
                self.end_holder(cx, at, Cause::Hung);
            } else {
                self.refuse(format!(
                    "`{name}` hangs, and the service is {}: `sengu failover {}` ends it and moves \
                     mastership",
                    held.map_or("`failover = \"manual\"`", |held| held.state),
                    cx.name
                ));
            }
            return;
        }
        if own.is_fenced() || own.closed >= CLOSED_LOOKS {
            // What was seen before the record came says nothing about it: another agent of this
            // host may have opened it since.
            let received = cx.view.master_received;
            let failed = own.failing.as_ref().is_some_and(|failing| failing.last >= received);
            if !own.seen_since(received) && !failed {
                self.doing = Some(format!("looking at {name} once more"));
                own.observe(cx, &name);
                return;
            }
            self.closed_holder(cx, at);
            return;
        }
        if self.failover_asked(cx, at) {
            self.failover_while_serving(cx, at);
            return;
        }
        self.tell_after(cx, at);
        self.note_history(cx, at);
    }

    /// The master takes no writes: by its own fence, by a switchover that was not completed, or
    /// by somebody's hand.
    fn closed_holder(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let name = &at.record.holder.instance;
        let Some(own) = self.own.get(name) else { return };
        let Some(state) = own.state() else { return };
        if !own.is_fenced() {
            if let Some(held) = cx.view.held_back() {
                self.refuse(format!("`{name}` takes no writes, and the service is {}", held.state));
            } else {
                // Whatever closed it, the fence makes it provable, and ends what it may follow.
                self.end_holder(cx, at, Cause::NotWritable);
            }
            return;
        }
        let history = state.applied.history();
        let known = at.record.origins.iter().any(|o| o.histories().any(|known| known == history));
        // Somebody's hand may have copied another over it: then it is one copy among others.
        let whole = own.trail.last().is_none_or(|seen| state.applied.has(seen));
        if (known && whole) || sabotaged!(AnotherLifeGoesOn) {
            self.reopen(cx, at, undone(cx, at));
        } else {
            self.vacate(cx, at, Proof::Fenced, Cause::NotWritable, cx.now.wall, Blame::Nobody);
        }
    }

    /// Fences the holder, and writes what came of it.
    pub(super) fn end_holder(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, cause: Cause) {
        let name = at.record.holder.instance.clone();
        let Some(own) = self.own.get_mut(&name) else { return };
        let believed = sabotaged!(FailedFenceCounts) && own.fence_failed.is_some();
        let seen = own.is_fenced() && own.seen_since(cx.view.master_received);
        if seen || believed {
            self.vacate(cx, at, Proof::Fenced, cause, cx.now.wall, Blame::Nobody);
            return;
        }
        if let Some(error) = own.fence_failed.clone()
            && matches!(cx.config.judge, Judge::Shared { .. })
            && !matches!(at.record.state, MasterState::FenceFailed { .. })
        {
            let mut record = at.record.clone();
            record.state = MasterState::FenceFailed { error };
            record.since = cx.now.wall;
            self.write_master(cx, Some(at), &record, Vec::new(), Vec::new());
            return;
        }
        own.ending = Some(cause);
        own.start_fence(cx, &name, at.record.term, cx.settings.policy.kill);
        if let Some(error) = &own.fence_failed {
            let error = error.clone();
            self.refuse(format!("`{name}` could not be fenced: {error}; end its process by hand"));
        } else {
            self.doing = Some(format!("fencing {name}"));
        }
    }

    fn fence_again(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        self.end_holder(cx, at, Cause::NotWritable);
        if let MasterState::FenceFailed { error } = &at.record.state {
            let name = &at.record.holder.instance;
            self.refuse(format!("`{name}` could not be fenced: {error}; end its process by hand"));
        }
    }

    /// The holder's own record, untouched since: it goes on under the next term.
    pub(super) fn reopen(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, cause: Cause) {
        let name = at.record.holder.instance.clone();
        if self.open_elsewhere(Some(&name)) {
            return;
        }
        if self.attempts_spent(cx, &at.record) {
            let blame = Blame::Candidate(&name);
            self.vacate(cx, at, Proof::Fenced, Cause::NotWritable, cx.now.wall, blame);
            return;
        }
        self.doing = Some(format!("reopening {name}"));
        let mut story = super::story::Story::new(cause, Some(name.clone()));
        let by_hand = self.own.get(&name).is_some_and(|own| own.ending == Some(Cause::NotWritable));
        story.loss = if by_hand {
            "unknown: somebody closed it, and it has all that it was last seen with".to_owned()
        } else {
            "nothing: the same copy goes on".to_owned()
        };
        self.take_term(cx, at, &name, &story, Vec::new());
    }

    /// *Taken*: hooks, then promote, then serve.
    fn open(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, cause: &Cause) {
        let name = at.record.holder.instance.clone();
        let term = at.record.term;
        let Some(own) = self.own.get(&name) else { return };
        if own.fired == Some(term) {
            self.end_promotion(cx, at, RAN_OUT, Blame::Store(&name));
            return;
        }
        if own.fence_failed.is_some() {
            self.give_up(cx, at, "its fence failed before it was open");
            return;
        }
        // Hooks have deadlines of their own; what they took does not count.
        let began = cx.view.master_received.max(cx.doubted).max(self.hook_ended);
        let applying = own.state().and_then(InstanceState::unapplied).is_some();
        // What it received is applied first. There is an end to that, since it receives no more:
        // it is waited for as long as it comes on, and stands for no longer than a lag that is
        // allowed.
        let extra = if applying { cx.settings.policy.max_lag } else { Duration::ZERO };
        let patience = began.max(own.came_on) + OPEN_WITHIN + extra;
        if self.hook.is_none() && !own.writable() && cx.now.time >= patience {
            if applying {
                self.give_up(cx, at, "it did not apply in time what it had received");
            } else if self.time_to_promote(cx, at) {
                self.give_up(cx, at, "it could not be opened in time");
            } else {
                self.end_promotion(cx, at, TOO_LATE, Blame::Store(&name));
            }
            return;
        }
        if cx.now.time < patience {
            cx.out.wake(patience);
        }
        if self.open_elsewhere(Some(&name)) {
            return;
        }
        let Some(own) = self.own.get_mut(&name) else { return };
        if own.writable() {
            own.opened_for = Some(term);
        } else if own.opened_for == Some(term) {
            self.give_up(cx, at, CLOSED);
            return;
        }
        let Some(own) = self.own.get(&name) else { return };
        let unread = sabotaged!(ServingBeforeReadBack);
        if unread || own.writable() && own.state().is_some_and(|s| s.role == Role::Master) {
            // What was seen before the term began says nothing about it: another agent of this
            // host may have fenced it since.
            if unread || own.seen_since(cx.view.master_received) {
                self.start_serving(cx, at, cause);
            } else {
                self.doing = Some(format!("looking at {name} once more"));
                own.observe(cx, &name);
            }
            return;
        }
        if self.hooks_ran(cx, at, cause) {
            self.promote(cx, at, &name);
        }
    }

    /// May it be promoted, as far as hooks go? They run first, and may say no.
    fn hooks_ran(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, cause: &Cause) -> bool {
        let Some(phase) = before_phase(cause) else { return true };
        match self.run_hook(cx, at, phase) {
            HookState::Ready => return true,
            HookState::Waiting => self.doing = Some(format!("running {} hooks", phase.as_str())),
            HookState::Abort(why) => {
                self.give_up(cx, at, &format!("a {} hook said no: {why}", phase.as_str()));
            }
        }
        false
    }

    fn promote(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, name: &InstanceName) {
        let term = at.record.term;
        if !self.time_to_promote(cx, at) && !sabotaged!(PromotedWithoutTime) {
            self.doing = Some(format!("waiting for a beat before {name} is promoted"));
            return; // The next beat's answer brings us here again.
        }
        let Some(own) = self.own.get_mut(name) else { return };
        if let Some((failed, why)) = own.promote_failed.clone()
            && failed == term
        {
            self.give_up(cx, at, &why);
            return;
        }
        let unapplied = own.state().and_then(InstanceState::unapplied);
        self.doing = Some(match &unapplied {
            Some(left) => format!("{name} applies what it received: {left} left"),
            None => format!("promoting {name}"),
        });
        if own.lane.is_some() || own.fence.is_some() {
            return;
        }
        if unapplied.is_some() || own.known.is_none() {
            own.observe(cx, name);
            return;
        }
        let boot_id = at.record.holder.boot_id.clone();
        let within = promote_within(cx.config.judge);
        own.command(cx, name, term, Command::Promote { boot_id }, within);
    }

    /// Is an acknowledged beat young enough that a promotion, and the fence that it may need, end
    /// before the deadline?
    fn time_to_promote(&self, cx: &Cx<'_>, at: &At<MasterRecord>) -> bool {
        let Judge::Shared { fence, .. } = cx.config.judge else { return true };
        if at.record.promise == Promise::None {
            return true;
        }
        let term = at.record.term;
        let kept = cx.beats.acknowledged(cx.name, term);
        let deadline = cx.beats.deadline(cx.name, term).filter(|_| kept);
        let least = promote_within(cx.config.judge) + fence;
        deadline.is_some_and(|deadline| deadline.since(cx.now.time) >= least)
    }

    /// The candidate could not be promoted: fenced again, and passed over.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, why: &str) {
        self.end_promotion(cx, at, why, Blame::Candidate(&at.record.holder.instance));
    }

    fn end_promotion(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        why: &str,
        blame: Blame<'_>,
    ) {
        let name = at.record.holder.instance.clone();
        let Some(own) = self.own.get_mut(&name) else { return };
        if own.is_fenced() {
            let cause = Cause::PromotionFailed(why.to_owned());
            self.vacate(cx, at, Proof::Fenced, cause, cx.now.wall, blame);
            return;
        }
        self.doing = Some(format!("closing {name} again: {why}"));
        own.start_fence(cx, &name, at.record.term, cx.settings.policy.kill);
        if let Some(error) = own.fence_failed.clone() {
            self.refuse(format!("`{name}` could not be fenced: {error}; end its process by hand"));
        }
    }

    /// Promoted and read back: from now on it is named.
    fn start_serving(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, cause: &Cause) {
        let name = &at.record.holder.instance;
        let Some(state) = self.own.get(name).and_then(Own::state) else { return };
        let mut record = at.record.clone();
        record.state = MasterState::Serving;
        record.since = cx.now.wall;
        push_origin(&mut record, state.applied.clone());
        record.failed.clear();
        record.unkept.clear();
        if is_failover(cause) {
            record.failovers.push(cx.now.wall);
            let keep = usize::try_from(cx.settings.policy.cooldown_failovers).unwrap_or(0).max(1);
            let extra = record.failovers.len().saturating_sub(keep);
            record.failovers.drain(..extra);
        }
        let mut then = Vec::new();
        if let Some(instance) = self.instance_record(cx, name) {
            then.push(put(key::instance(cx.name, name), &instance));
        }
        if let Some((key, history)) = self.history_step(cx, record.term, "serving") {
            then.push(put(key, &history));
        }
        for old in
            cx.view.finals.keys().map(|(term, _)| *term).collect::<std::collections::BTreeSet<_>>()
        {
            then.push(Op::DeletePrefix(format!("finals/{}/{old}/", cx.name).into()));
        }
        self.end_requests(cx, &record, &mut then);
        let text = format!(
            "`{name}` is master (term {}){}",
            record.term,
            if *cause == Cause::Adopted { "" } else { ": promoted, read back, published" }
        );
        if self.write_master(cx, Some(at), &record, Vec::new(), then).is_some() {
            cx.out.say(cx.name, false, text);
        }
    }

    /// The server changed its replication id by itself, or a person applied on it what only a copy
    /// had: the record must know it, or its copies seem to have transactions of their own.
    fn note_history(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let Some(state) = self.own.get(&at.record.holder.instance).and_then(Own::state) else {
            return;
        };
        let same = at.record.origins.iter().any(|o| o.history() == state.applied.history());
        let transactions = !matches!(state.applied, Position::Redis(_));
        let known = at.record.origins.last().is_some_and(|origin| state.applied.part_of(origin));
        if !state.writable || (same && (known || !transactions)) {
            return;
        }
        let mut record = at.record.clone();
        push_origin(&mut record, state.applied.clone());
        self.write_master(cx, Some(at), &record, Vec::new(), Vec::new());
    }

    /// A person asked for a failover of a master that this agent still sees.
    fn failover_while_serving(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let name = at.record.holder.instance.clone();
        let Some(own) = self.own.get(&name) else { return };
        let silent = own.failing.as_ref().is_some_and(|failing| failing.looks >= 3);
        if silent {
            self.end_holder(cx, at, Cause::Requested);
            return;
        }
        if own.known.is_some() && own.failing.is_none() {
            let text =
                format!("`{name}` is well; `sengu switchover {}` moves it without loss", cx.name);
            self.end_request_of(
                cx,
                &|ask| matches!(ask, Ask::Failover { .. }),
                Stand::Refused(text),
            );
        }
    }

    /// The holder that a new term is written for.
    pub(super) fn holder(&self, cx: &Cx<'_>, name: &InstanceName) -> Option<Holder> {
        let own = self.own.get(name)?;
        Some(Holder {
            instance: name.clone(),
            host: cx.config.host.clone(),
            agent: cx.config.agent.clone(),
            boot_id: own.boot_id.clone()?,
            address: cx.settings.instances.get(name)?.address,
        })
    }

    /// The record of a term that starts: everything but its state comes from the one before.
    pub(super) fn next_record(
        &self,
        cx: &Cx<'_>,
        old: Option<&MasterRecord>,
        holder: Holder,
        state: MasterState,
        cause: &Cause,
    ) -> MasterRecord {
        // What happened before a release is over: a person has looked since.
        let last = old;
        let old = old.filter(|old| old.state != MasterState::Unmanaged);
        let mut unproven = old.map(|old| old.unproven.clone()).unwrap_or_default();
        if let Some(old) = old
            && old.state == MasterState::Lapsed
            && old.holder != holder
        {
            unproven.push(old.holder.clone());
        }
        unproven.retain(|earlier| earlier.instance != holder.instance);
        let external = super::external::begin(cx, old, cause);
        MasterRecord {
            format: crate::record::FORMAT,
            term: match last {
                Some(last) if sabotaged!(TermReused) => last.term,
                _ => last.map_or(Term(0), |last| last.term).next(),
            },
            state,
            promise: if external.is_none() && self.may_kill(cx, &holder.instance) {
                promise(cx.config.judge)
            } else {
                Promise::None
            },
            holder,
            unproven,
            origins: last.map(|last| last.origins.clone()).unwrap_or_default(),
            failed: old.map(|old| old.failed.clone()).unwrap_or_default(),
            unkept: old.map(|old| old.unkept.clone()).unwrap_or_default(),
            failovers: old.map(|old| old.failovers.clone()).unwrap_or_default(),
            since: cx.now.wall,
            external,
            frozen: None,
            unknown: last.map(|last| last.unknown.clone()).unwrap_or_default(),
        }
    }

    /// fence-in-time: only who may end a process, and can, promises to be fenced in time.
    fn may_kill(&self, cx: &Cx<'_>, name: &InstanceName) -> bool {
        let state = self.own.get(name).and_then(Own::state);
        cx.settings.policy.kill && state.is_some_and(|state| state.settings.killable.is_good())
    }

    /// Enough attempts in this incident: a person must look.
    pub(super) fn attempts_spent(&self, cx: &Cx<'_>, record: &MasterRecord) -> bool {
        let most = cx.settings.policy.max_attempts;
        let recent = cx
            .view
            .history
            .iter()
            .rev()
            .take_while(|(_, at)| {
                matches!(at.record.cause, Cause::Reopened | Cause::SwitchoverUndone(_))
                    && at.record.steps.last().is_some_and(|step| {
                        recent(step.at, cx.now.wall, cx.settings.policy.cooldown_window)
                    })
            })
            .count();
        let spent = recent.max(tried(record));
        spent >= usize::try_from(most).unwrap_or(usize::MAX)
    }
}

/// How many promotions of this incident failed.
pub(super) fn tried(record: &MasterRecord) -> usize {
    record.failed.len() + record.unkept.len()
}

/// Notes where a term's history starts.
pub(super) fn push_origin(record: &mut MasterRecord, origin: Position) {
    let keep = origin.origins_kept();
    let origin = match record.origins.last() {
        Some(earlier) => origin.grown_from(earlier),
        None => origin,
    };
    record.origins.push(origin);
    let extra = record.origins.len().saturating_sub(keep);
    if !sabotaged!(OriginsKept) {
        record.origins.drain(..extra);
    }
}

pub(super) fn recent(at: Wall, now: Wall, window: Duration) -> bool {
    let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    (0..window).contains(&now.0.saturating_sub(at.0))
}

/// Does this cause make a failover (and not a planned move, or none)?
pub(super) fn is_failover(cause: &Cause) -> bool {
    match cause {
        Cause::ProcessExited
        | Cause::Hung
        | Cause::Lapsed
        | Cause::NotWritable
        | Cause::Requested
        | Cause::HandOverFailed
        | Cause::PromotionFailed(_) => true,
        Cause::Adopted
        | Cause::Switchover
        | Cause::SwitchoverUndone(_)
        | Cause::Reopened
        | Cause::Announced
        | Cause::Told
        | Cause::Seen
        | Cause::Unanswered
        | Cause::GivenUp
        | Cause::TwoWritable => false,
    }
}

/// Why a fenced holder goes on: a switchover of its term that was not completed, or its own fence.
fn undone(cx: &Cx<'_>, at: &At<MasterRecord>) -> Cause {
    let why = cx.view.requests.values().find_map(|request| {
        let Stand::Refused(why) = &request.record.stand else { return None };
        let of_this = request.record.term == Some(at.record.term)
            && matches!(request.record.ask, Ask::Switchover { .. });
        of_this.then(|| why.clone())
    });
    why.map_or(Cause::Reopened, Cause::SwitchoverUndone)
}

fn before_phase(cause: &Cause) -> Option<Phase> {
    is_failover(cause).then_some(Phase::BeforeFailover)
}

/// Where the hooks of a phase stand.
pub(super) enum HookState {
    /// Done, or none are configured.
    Ready,
    /// Running, or being recorded.
    Waiting,
    /// One said no.
    Abort(String),
}

impl HookState {
    pub(super) fn of(stand: &HookStand) -> Self {
        match stand {
            HookStand::Ended { outcome: HookOutcome::Abort { error, .. }, .. } => {
                Self::Abort(error.clone())
            }
            HookStand::Ended { .. } => Self::Ready,
            HookStand::Started { .. } => Self::Waiting,
        }
    }
}

impl Own {
    /// A fence ended, by the lane or by the thread.
    pub(super) fn fence_ended(&mut self, now: Now, outcome: ControlOutcome) {
        match &outcome {
            ControlOutcome::Done { boot_id, state } if !state.writable => {
                self.fence_failed = None;
                let fenced = boot_id.clone();
                self.ended(now, outcome);
                self.lane = None;
                self.reads = 1;
                self.fenced = Some(fenced);
                return;
            }
            ControlOutcome::Done { .. } => {
                self.fence_failed = Some("it still takes writes after the fence".to_owned());
            }
            ControlOutcome::Exited { .. } => self.fence_failed = None,
            ControlOutcome::Failed { error, .. } => self.fence_failed = Some(error.clone()),
        }
        self.fence_tried = now.time;
        self.fence_after = now.time + Duration::from_millis(500);
        self.ended(now, outcome);
    }
}

/// The key of a request, compared by the txns that act on it.
pub(super) fn request_key(cx: &Cx<'_>, id: &str) -> crate::kv::Key {
    key::request(cx.name, id)
}
