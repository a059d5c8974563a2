//! Nobody has the term: look, detach, write finals, rank, take.

use std::time::Duration;

use crate::candidate::{Copy, Ranking, Refusal, Terms, rank};
use crate::catalog::{At, ServiceView};
use crate::event::Command;
use crate::kv::{Compare, Op};
use crate::machine::carried_beat;
use crate::name::{InstanceName, Term};
use crate::observation::InstanceState;
use crate::policy::{Failover, Judge, Loss};
use crate::position::Position;
use crate::record::{
    Ask, Cause, FORMAT, FinalRecord, Health, InstanceRecord, MasterRecord, MasterState, Promise,
    Proof, Step, Unfit, key,
};
use crate::sabotage::sabotaged;
use crate::time::{Time, Wall};

use super::hold::{is_failover, recent};
use super::own::Own;
use super::story::Story;
use super::{Blame, Cx, Service, put};

/// How long a detach may take.
const DETACH_WITHIN: Duration = Duration::from_secs(1);
/// After so long without its taker, a giver takes back; and after twice that, anybody who has it.
const HAND_OVER_WAIT: Duration = Duration::from_secs(5);

/// What lets this agent act in an incident.
struct Mandate {
    /// Only this instance.
    only: Option<InstanceName>,
    /// A person's request: its id and revision, what it names, who asked.
    request: Option<(String, u64)>,
    asked: Option<InstanceName>,
    lossy: bool,
    by: Option<String>,
}

impl Service {
    /// *Vacant* or *lapsed*.
    pub(super) fn incident(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        if self.own.is_empty() {
            return;
        }
        if self.open_elsewhere(None) {
            return;
        }
        let mandate = self.mandate(cx, at);
        let mandate = match mandate.and_then(|it| cx.readable(it.lossy).map(|()| it)) {
            Ok(mandate) => mandate,
            Err(why) => {
                self.refuse(why);
                return;
            }
        };
        if self.veto(cx, at) {
            return;
        }
        self.detach_and_write_finals(cx, at);
        let Some(copies) = self.copies(cx, at) else {
            return;
        };
        let single = cx.view.instances.len() == 1;
        let terms = Terms {
            histories: Some(at.record.origins.as_slice()),
            // A person may try again what failed.
            failed: if mandate.request.is_some() || sabotaged!(FailedTriedAgain) {
                &[]
            } else {
                &at.record.failed
            },
            asked: mandate.asked.as_ref(),
            only: mandate.only.as_ref(),
            in_sync: super::sync::counts(cx, &at.record)
                .then(|| super::sync::in_sync(cx.view, &at.record)),
            live: false,
            single,
            lossy: mandate.lossy,
        };
        let ranking = rank(&copies, &terms);
        self.choose(cx, at, &mandate, ranking);
    }

    /// May anything be taken now, and by whom?
    fn mandate(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> Result<Mandate, String> {
        let record = &at.record;
        let policy = &cx.settings.policy;
        let free = Mandate { only: None, request: None, asked: None, lossy: false, by: None };
        if let Some((id, request)) =
            self.open_request(cx, &|ask| matches!(ask, Ask::Failover { .. }))
            && let Ask::Failover { to, lossy } = &request.record.ask
        {
            self.proven(cx, record)?;
            return Ok(Mandate {
                only: None,
                request: Some((id, request.revision)),
                asked: to.clone(),
                lossy: *lossy,
                by: Some(request.record.asker()),
            });
        }
        if let Some(held) = cx.view.held_back() {
            return Err(format!(
                "{}: `sengu {} {}` lets it act, `sengu failover {}` moves it now",
                held.state, held.end, cx.name, cx.name
            ));
        }
        if self.attempts_spent(cx, record) {
            return Err(format!(
                "{} attempts failed: `sengu explain {}`, then `sengu failover {}`",
                cx.settings.policy.max_attempts, cx.name, cx.name
            ));
        }
        match policy.failover {
            Failover::Auto => {
                self.proven(cx, record)?;
                self.prepared(cx)?;
                self.cooled(cx, record)?;
                Ok(free)
            }
            Failover::Manual => {
                // Where a planned move failed, the giver is the one that everybody knows.
                let holder = &record.holder.instance;
                let before =
                    cx.view.history.get(&record.term).and_then(|at| at.record.from.clone());
                let only = match before {
                    Some(before)
                        if record.failed.contains(holder) || record.unkept.contains(holder) =>
                    {
                        before
                    }
                    _ => holder.clone(),
                };
                if self.own.contains_key(&only) {
                    Ok(Mandate { only: Some(only), ..free })
                } else {
                    Err(format!(
                        "`failover = \"manual\"`: only `{only}` takes again by itself; \
                         `sengu failover {}` moves mastership",
                        cx.name
                    ))
                }
            }
            Failover::External => Err("another tool moves this service".to_owned()),
        }
    }

    /// proven-before-promoted: is the last holder known not to write, nor to start writing?
    fn proven(&self, cx: &Cx<'_>, record: &MasterRecord) -> Result<(), String> {
        let MasterState::Vacant { proof: Proof::Exited, .. } = &record.state else { return Ok(()) };
        if sabotaged!(ExitWithoutFileCounts) {
            return Ok(());
        }
        let name = &record.holder.instance;
        let verdict = cx.view.instances.get(name).map(|at| &at.record.starts_fenced);
        match verdict {
            Some(verdict) if verdict.is_good() => Ok(()),
            Some(crate::observation::Verdict::Bad(why)) => {
                Err(format!("`{name}` has exited and could come back taking writes: {why}"))
            }
            _ => Err(format!(
                "`{name}` has exited and it was never verified that its file starts it fenced"
            )),
        }
    }

    /// What `auto` asks of every instance.
    pub(super) fn prepared(&self, cx: &Cx<'_>) -> Result<(), String> {
        let mut first: Option<(&InstanceName, &InstanceRecord)> = None;
        for (name, at) in &cx.view.instances {
            let record = &at.record;
            if let Some((other, earlier)) = first
                && earlier.policy != record.policy
            {
                return Err(format!(
                    "the policies of `{other}` (host {}) and `{name}` (host {}) differ: make both \
                     files equal",
                    earlier.host, record.host
                ));
            }
            first.get_or_insert((name, record));
            let mut wrong = Vec::new();
            super::request::unprepared(name, record, &mut wrong);
            if let Some(wrong) = wrong.into_iter().next() {
                return Err(wrong);
            }
            let alone = matches!(cx.config.judge, Judge::Alone { .. });
            if alone && record.agent != cx.config.agent {
                return Err(format!(
                    "`{name}` is on host {}: with the embedded store, `auto` needs every instance \
                     on this host",
                    record.host
                ));
            }
        }
        Ok(())
    }

    fn cooled(&self, cx: &Cx<'_>, record: &MasterRecord) -> Result<(), String> {
        let policy = &cx.settings.policy;
        let (now, window) = (cx.now.wall, policy.cooldown_window);
        let counted: Vec<Wall> =
            record.failovers.iter().copied().filter(|at| recent(*at, now, window)).collect();
        let most = usize::try_from(policy.cooldown_failovers).unwrap_or(usize::MAX);
        if counted.len() < most {
            return Ok(());
        }
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let left = counted.first().map_or(0, |first| first.0 + window - now.0).max(0) / 1000;
        Err(format!(
            "{} failovers in the last {} s: flapping; next one by itself in {left} s, or now by \
             `sengu failover {}`",
            counted.len(),
            policy.cooldown_window.as_secs(),
            cx.name
        ))
    }

    /// detach-then-final: every copy here stops receiving, then says how far it came.
    fn detach_and_write_finals(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let term = at.record.term;
        let names: Vec<InstanceName> = self.own.keys().cloned().collect();
        let mut puts = Vec::new();
        let mut when = Vec::new();
        for name in names {
            let written = cx.view.finals.get(&(term, name.clone())).map(|at| &at.record);
            let settings = &cx.settings.instances[&name];
            let Some(own) = self.own.get_mut(&name) else { continue };
            let Some(boot_id) = own.boot_id.clone() else { continue };
            let written = written.filter(|it| it.boot_id == boot_id);
            let known = written.is_some_and(|it| !own.knows_better(cx.view, term, it));
            if (known && !sabotaged!(FinalWrittenAgain)) || own.writable() {
                continue;
            }
            let detached = own.detached_state(term);
            // An answer that it is done is believed only if it reads back so.
            let detached = detached.filter(|state| {
                sabotaged!(NoDetach) || !super::own::still_attached(cx.view, state)
            });
            let Some(state) = detached else {
                let again = own.detached_state(term).is_some();
                own.detach(cx, &name, term);
                if again && own.busy() {
                    own.retry_at = cx.now.time + super::own::RETRY;
                }
                continue;
            };
            let r#final = FinalRecord {
                format: FORMAT,
                boot_id,
                received: state.held().clone(),
                applied: state.applied.clone(),
                unfit: own.unfit_at_detach().or_else(|| unapplied(state)),
                in_step: own.in_step(),
                priority: settings.priority.min(state.priority),
                unknown: serde_json::Map::new(),
            };
            let key = key::r#final(cx.name, term, &name);
            when.push(Compare::Modified(key.clone(), cx.revision(&key)));
            puts.push(put(key, &r#final));
        }
        if !puts.is_empty() {
            when.push(Compare::Modified(key::master(cx.name), at.revision));
            self.doing = Some("writing final positions".to_owned());
            self.write(cx, crate::kv::Txn { when, then: puts, otherwise: Vec::new() });
        }
    }

    /// The copies of this incident; `None` while some may still come.
    fn copies(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> Option<Vec<Copy>> {
        let term = at.record.term;
        let patience = cx.view.master_received.max(cx.doubted) + cx.settings.policy.candidate_wait;
        let patient = cx.now.time < patience;
        let mut copies = Vec::new();
        let mut missing = Vec::new();
        for (name, instance) in &cx.view.instances {
            let found = cx.view.finals.get(&(term, name.clone()));
            let own = self.own.get(name);
            let (position, unfit, in_step, applies, priority) = match found {
                Some(r#final) => {
                    let r#final = &r#final.record;
                    let alive = match own {
                        Some(own) => own.boot_id.as_ref() == Some(&r#final.boot_id),
                        None => {
                            instance.record.boot_id.as_ref().is_none_or(|b| *b == r#final.boot_id)
                        }
                    };
                    let position = if alive || sabotaged!(StaleFinalCounts) {
                        Ok(r#final.received.clone())
                    } else {
                        Err(Refusal::Restarted)
                    };
                    let applies = !r#final.applied.is_near(&r#final.received);
                    (position, r#final.unfit, r#final.in_step, applies, r#final.priority)
                }
                None => {
                    let down = own
                        .map_or_else(|| instance.record.health == Health::Exited, Own::is_exited);
                    if !down {
                        missing.push(name);
                    }
                    let why = if down { Refusal::Exited } else { Refusal::Silent };
                    (Err(why), None, false, false, instance.record.priority)
                }
            };
            let unfit = unfit.or_else(|| set_apart(cx.view, name, &instance.record, priority));
            let near = cx.view.is_near(&at.record.holder.instance, &instance.record);
            let (instance, major) = (name.clone(), instance.record.major());
            copies.push(Copy {
                instance,
                position,
                unfit,
                in_step,
                major,
                applies,
                priority,
                near,
            });
        }
        if !missing.is_empty() && patient {
            let list: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
            self.doing = Some(format!("waiting for the final position of {}", list.join(", ")));
            cx.out.wake(patience);
            return None;
        }
        Some(copies)
    }

    /// The ranking stands: the first one's agent takes, the others wait for it, bounded.
    fn choose(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        mandate: &Mandate,
        ranking: Ranking,
    ) {
        if ranking.order.is_empty() {
            // What is said of the one that was asked for comes first: it is the answer.
            let asked = |name: &InstanceName| mandate.asked.as_ref() == Some(name);
            let (first, others): (Vec<_>, Vec<_>) =
                ranking.refusals.iter().partition(|(name, _)| asked(name));
            for (name, refusal) in first.into_iter().chain(others) {
                self.refuse(format!("no candidate: `{name}`: {refusal}"));
            }
            self.tell_failed(cx, at);
            return;
        }
        let since = match &self.ranked {
            Some((order, since)) if *order == ranking.order => *since,
            _ => {
                self.ranked = Some((ranking.order.clone(), cx.now.time));
                cx.now.time
            }
        };
        let since = match self.store_is_steady(cx, at, mandate) {
            Some(steady) => since.max(steady),
            None => return,
        };
        let wait = cx.settings.policy.candidate_wait.max(Duration::from_millis(100));
        let waited = cx.now.time.since(since).as_micros() / wait.as_micros();
        let turn = usize::try_from(waited).unwrap_or(usize::MAX).min(ranking.order.len() - 1);
        let Some(name) = ranking.order[..=turn].iter().find(|name| self.own.contains_key(*name))
        else {
            self.doing = Some(format!("waiting for {} to take", ranking.order[turn]));
            let due = since + wait * (u32::try_from(turn).unwrap_or(u32::MAX) + 1);
            // After the last one's turn only an event changes anything.
            if due > cx.now.time {
                cx.out.wake(due);
            }
            return;
        };
        let name = name.clone();
        self.take(cx, at, mandate, &name, ranking);
    }

    /// Where the store was too slow to keep a candidate's term, nobody is tried until it has
    /// answered in time for a whole lease: since when it has, then.
    fn store_is_steady(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        mandate: &Mandate,
    ) -> Option<Time> {
        if at.record.unkept.is_empty() || mandate.request.is_some() {
            return Some(Time::ZERO);
        }
        let lease = cx.config.judge.lease();
        let due = cx.steady + lease;
        if cx.now.time < due {
            cx.out.wake(due);
            let left = due.since(cx.now.time).as_millis().div_ceil(1000);
            self.refuse(format!(
                "the store was too slow to keep term {}: the next try is made when it has answered \
                 this host in time for {} s ({left} s left), or now by `sengu failover {}`",
                at.record.term,
                lease.as_secs_f32(),
                cx.name
            ));
            return None;
        }
        Some(due)
    }

    fn take(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        mandate: &Mandate,
        name: &InstanceName,
        ranking: Ranking,
    ) {
        let record = &at.record;
        let (cause, noticed) = if let MasterState::Vacant { cause, noticed, .. } = &record.state {
            (cause.clone(), *noticed)
        } else {
            (Cause::Lapsed, record.since)
        };
        let mut story = Story::new(cause, Some(record.holder.instance.clone()));
        story.loss = self.loss(cx, record, name, mandate.lossy);
        story.ranking = ranking;
        story.asked_by.clone_from(&mandate.by);
        story.steps = vec![
            Step { name: "noticed".to_owned(), at: noticed },
            Step { name: "withdrawn".to_owned(), at: record.since },
        ];
        let mut when = Vec::new();
        for instance in cx.view.instances.keys() {
            let key = key::r#final(cx.name, record.term, instance);
            let revision = cx.revision(&key);
            when.push(Compare::Modified(key, revision));
        }
        let sync = key::sync(cx.name);
        let revision = cx.revision(&sync);
        when.push(Compare::Modified(sync, revision));
        for held in ["pause", "freeze"] {
            let held = super::hold::request_key(cx, held);
            let revision = cx.revision(&held);
            when.push(Compare::Modified(held, revision));
        }
        if let Some((id, revision)) = &mandate.request {
            when.push(Compare::Modified(super::hold::request_key(cx, id), *revision));
        }
        self.doing = Some(format!("taking term {} with {name}", record.term.next()));
        self.take_term(cx, at, name, &story, when);
    }

    /// The taking txn: the next term, its holder, its promise, its beat and its history.
    pub(super) fn take_term(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        name: &InstanceName,
        story: &Story,
        when: Vec<Compare>,
    ) {
        // Who slept, or was cut off, asks first: the store may be another one by now.
        if matches!(cx.config.judge, Judge::Shared { .. }) && !cx.trusted {
            let text = "this agent has no fresh answer of the store and takes no term";
            self.refuse(text.to_owned());
            return;
        }
        let state = MasterState::Taken { cause: story.cause.clone() };
        self.start_term(cx, Some(at), name, state, story, when, Vec::new());
    }

    /// Writes a new term for an instance here.
    #[expect(clippy::too_many_arguments, reason = "one txn, and everything that stands in it")]
    pub(super) fn start_term(
        &mut self,
        cx: &mut Cx<'_>,
        at: Option<&At<MasterRecord>>,
        name: &InstanceName,
        state: MasterState,
        story: &Story,
        mut when: Vec<Compare>,
        mut then: Vec<Op>,
    ) {
        let shared = matches!(cx.config.judge, Judge::Shared { .. });
        if self.writing.is_some() || (shared && cx.beats.busy.is_some()) {
            return; // The end of what is under way brings us here again.
        }
        let Some(holder) = self.holder(cx, name) else { return };
        let last = at.map(|at| &at.record);
        let mut record = self.next_record(cx, last, holder, state, &story.cause);
        if record.state == MasterState::Serving
            && let Some(state) = self.own.get(name).and_then(Own::state)
        {
            super::hold::push_origin(&mut record, state.applied.clone());
        }
        let mut history = story.history(name);
        history.steps.push(Step { name: record.state.word().to_owned(), at: cx.now.wall });
        then.push(put(key::history(cx.name, record.term), &history));
        if cx.settings.policy.loss == Loss::None {
            then.push(put(key::sync(cx.name), &self.first_sync(cx, &record)));
        }
        self.trim_history(cx, &mut then);
        if shared {
            if record.state == MasterState::Serving && record.promise != Promise::None {
                let deadline = cx.now.time + cx.config.judge.lease();
                cx.beats.take(cx.name, name, record.term, deadline);
            }
            let (compare, beat) = carried_beat(cx, record.term);
            when.push(compare);
            then.push(beat);
        }
        let id = self.write_master(cx, at, &record, when, then);
        if shared {
            cx.beats.busy = id;
        }
        if id.is_some() {
            let why = if let Cause::PromotionFailed(why) = &story.cause {
                format!("the promotion before failed: {why}")
            } else if let Cause::SwitchoverUndone(why) = &story.cause {
                format!("undone: {why}")
            } else {
                serde_json::to_string(&story.cause).unwrap_or_default().replace('"', "")
            };
            let text = format!("`{name}` takes term {} ({why})", record.term);
            // A store that does not answer is asked again and again.
            let taking = Some((record.term, name.clone()));
            if self.taking_said != taking {
                self.taking_said = taking;
                cx.out.say(cx.name, is_failover(&story.cause), text);
            }
            self.ranked = None;
        }
    }

    /// *Giving*: the named taker takes; after a wait, whoever has everything.
    pub(super) fn hand_over(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let MasterState::Giving { to, position, request } = &at.record.state else { return };
        let waited = cx.now.time.since(cx.view.master_received.max(cx.doubted));
        let giver = &at.record.holder.instance;
        if self.open_elsewhere(None) {
            return;
        }
        let gone = self.own.get(giver).is_some_and(|own| own.gone(&at.record.holder.boot_id));
        if cx.mine(&at.record.holder) && gone {
            // What it had and nobody else got is in no process any more.
            self.vacate(cx, at, Proof::Exited, Cause::ProcessExited, cx.now.wall, Blame::Nobody);
            return;
        }
        let asked = waited >= HAND_OVER_WAIT && self.failover_asked(cx, at);
        if (asked || waited >= HAND_OVER_WAIT * 3) && !self.own.is_empty() {
            // The giver was acknowledged fenced before this was written.
            let blame = Blame::Nobody;
            self.vacate(cx, at, Proof::Fenced, Cause::HandOverFailed, cx.now.wall, blame);
            return;
        }
        for name in self.own.keys().cloned().collect::<Vec<_>>() {
            let due = if name == *to {
                Duration::ZERO
            } else if name == *giver {
                HAND_OVER_WAIT
            } else {
                HAND_OVER_WAIT * 2
            };
            if waited < due {
                cx.out.wake(cx.view.master_received.max(cx.doubted) + due);
                self.doing = Some(format!("waiting for {to} to take over"));
                continue;
            }
            if let Some(why) = self.unfit_to_receive(cx, at, &name).filter(|_| name != *giver) {
                cx.out.wake(cx.view.master_received.max(cx.doubted) + HAND_OVER_WAIT * 3);
                self.refuse(format!("`{name}` does not take over: {why}"));
                continue;
            }
            let Some(own) = self.own.get_mut(&name) else { continue };
            // While the target applies the rest, its giver may still take back.
            let applied = name != *to
                || waited >= HAND_OVER_WAIT * 2
                || own.state().is_some_and(|state| state.applied.has(position));
            let ready = own.has_all(position) && applied || sabotaged!(ShortTakerTakes);
            if !ready || at.record.failed.contains(&name) {
                own.observe_while(cx, &name, waited);
                cx.out.wake(cx.view.master_received.max(cx.doubted) + HAND_OVER_WAIT * 3);
                self.doing = Some(format!("waiting until {name} has everything"));
                continue;
            }
            let cause = if name == *giver {
                Cause::SwitchoverUndone(format!("{to} did not take over in time"))
            } else {
                Cause::Switchover
            };
            let mut story = Story::new(cause, Some(giver.clone()));
            story.loss = "nothing: the taker has all that was acknowledged".to_owned();
            if sabotaged!(ShortTakerTakes) {
                story.loss = "unknown".to_owned();
            }
            let asked = cx.view.requests.get(request);
            story.asked_by = asked.map(|at| at.record.asker());
            story.hooks = asked.map(|at| at.record.hooks.clone()).unwrap_or_default();
            story.steps = vec![Step { name: "fenced".to_owned(), at: at.record.since }];
            self.take_term(cx, at, &name, &story, Vec::new());
            return;
        }
    }

    /// Why a copy here must not end a hand-over, whatever it has: it was set apart, or wrote for
    /// itself.
    fn unfit_to_receive(
        &self,
        cx: &Cx<'_>,
        at: &At<MasterRecord>,
        name: &InstanceName,
    ) -> Option<Refusal> {
        let record = &cx.view.instances.get(name)?.record;
        if let Some(unfit) = set_apart(cx.view, name, record, record.priority) {
            return Some(Refusal::Unfit(unfit));
        }
        let held = self.own.get(name)?.state()?.held();
        match held {
            Position::Redis(_) => None,
            Position::Mysql(_) | Position::Mariadb(_) => {
                held.strays(&at.record.origins).map(Refusal::Strays)
            }
        }
    }

    /// An instance here is seen to take writes and its fence is not acknowledged: nobody else is
    /// opened while that is so.
    pub(super) fn open_elsewhere(&mut self, but: Option<&InstanceName>) -> bool {
        let open = self.own.iter().find(|(name, own)| Some(*name) != but && own.writable());
        let Some((name, own)) = open else { return false };
        match &own.fence_failed {
            Some(error) => {
                let why = format!("`{name}` takes writes and could not be fenced: {error}");
                self.refuse(why);
            }
            None => self.doing = Some(format!("fencing {name}")),
        }
        true
    }
}

/// Why a whole copy must not be promoted now: a drain or a priority may change after its final.
pub(super) fn set_apart(
    view: &ServiceView,
    name: &InstanceName,
    record: &InstanceRecord,
    priority: u32,
) -> Option<Unfit> {
    let reasons = [
        (priority == 0 || record.priority == 0, Unfit::NeverPromote),
        (record.quarantine.is_some(), Unfit::Quarantined),
        (view.drained(name), Unfit::Drained),
    ];
    reasons.iter().find(|(applies, _)| *applies).map(|(_, unfit)| *unfit)
}

/// A copy that does not apply what it received cannot be opened with it.
fn unapplied(state: &InstanceState) -> Option<Unfit> {
    (state.applier_stopped && state.unapplied().is_some()).then_some(Unfit::ApplierStopped)
}

impl Own {
    /// Its state, if it was read back after a detach decided in this term.
    fn detached_state(&self, term: Term) -> Option<&InstanceState> {
        if sabotaged!(NoDetach) {
            return self.state();
        }
        let (at, boot_id, _) = self.detached.as_ref()?;
        (*at == term && self.boot_id.as_ref() == Some(boot_id)).then(|| self.state())?
    }

    /// Has it applied since what its final says that it received, and is that said better now?
    /// MariaDB names only the last that it received of a domain, whoever wrote it; what came before
    /// that shows when it is applied. A final of one that had applied all is never said again: what
    /// came since, it wrote itself.
    fn knows_better(&self, view: &ServiceView, term: Term, r#final: &FinalRecord) -> bool {
        let Some(state) = self.detached_state(term) else { return false };
        matches!(state.applied, Position::Mariadb(_))
            && !super::own::still_attached(view, state)
            && !r#final.applied.has(&r#final.received)
            && state.applied.has(&r#final.received)
            && !r#final.received.has(&state.applied)
    }

    fn unfit_at_detach(&self) -> Option<Unfit> {
        self.detached.as_ref().and_then(|(_, _, unfit)| *unfit)
    }

    /// Stops receiving. Whether it may be promoted is judged by what it was before.
    fn detach(&mut self, cx: &mut Cx<'_>, name: &InstanceName, term: Term) {
        if self.busy() || self.known.is_none() {
            return;
        }
        if cx.now.time < self.retry_at {
            cx.out.wake(self.retry_at);
            return;
        }
        self.detaching = self.half();
        self.command(cx, name, term, Command::Detach, DETACH_WITHIN);
    }

    fn has_all(&self, position: &Position) -> bool {
        self.boot_id.is_some()
            && self.state().is_some_and(|state| {
                let whole = !state.syncing && !state.filtered;
                whole && !state.writable && state.held().has(position)
            })
    }
}
