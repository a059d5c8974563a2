//! Hooks and history: each phase at most once per term, its start recorded first.

use std::time::Duration;

use crate::catalog::At;
use crate::event::{Action, ActionId, HookRun, Party};
use crate::kv::{Compare, Key, Op, Txn};
use crate::name::{InstanceName, Term};
use crate::policy::OnError;
use crate::record::{
    Cause, Health, HistoryRecord, HookOutcome, HookStand, MasterRecord, Phase, Step, key,
};
use crate::sabotage::sabotaged;
use crate::time::Now;

use super::hold::{HookState, is_failover, request_key};
use super::{Cx, RunningHook, Service, put};

/// No candidate for so long is told as a failed failover.
const FAILED_AFTER: Duration = Duration::from_secs(5);
/// So many terms are remembered for each service.
const HISTORY: usize = 100;

/// Where a hook's start and end are recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// `history/S/TERM`.
    History(Term),
    /// `requests/S/ID`.
    Request(String),
}

impl Service {
    /// Runs the hooks of a phase of the current term, unless they have run.
    pub(super) fn run_hook(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        phase: Phase,
    ) -> HookState {
        self.run_hook_at(cx, at, &Place::History(at.record.term), phase)
    }

    pub(super) fn run_hook_at(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        place: &Place,
        phase: Phase,
    ) -> HookState {
        let Some(on_error) = cx.settings.hooks.get(&phase).copied() else {
            return HookState::Ready;
        };
        let Some(stand) = stand_of(cx, place, phase) else { return HookState::Ready };
        match stand {
            None if sabotaged!(HookStartNotRecorded) => {
                self.launch(cx, at, place, phase);
                HookState::Waiting
            }
            None => {
                let start = cx.config.start.clone();
                self.record_hook(cx, place, phase, HookStand::Started { at: cx.now.wall, start });
                HookState::Waiting
            }
            Some(HookStand::Started { start, .. })
                if start == cx.config.start || sabotaged!(HookRunAgain) =>
            {
                self.launch(cx, at, place, phase);
                HookState::Waiting
            }
            Some(HookStand::Started { at, .. }) => {
                let ended = HookStand::Ended { at, ms: 0, outcome: HookOutcome::Unknown };
                self.record_hook(cx, place, phase, ended);
                HookState::Waiting
            }
            Some(HookStand::Ended { outcome: HookOutcome::Unknown, .. })
                if on_error == OnError::Abort =>
            {
                HookState::Abort(
                    "the agent ended while it ran; nobody knows how it ended".to_owned(),
                )
            }
            Some(ended) => HookState::of(&ended),
        }
    }

    /// Its start stands recorded, by this life of the agent: run it, once.
    fn launch(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, place: &Place, phase: Phase) {
        let mark = (place.clone(), phase);
        if self.hook.is_some() || self.hook_end.is_some() || self.launched.contains(&mark) {
            return;
        }
        self.launched.insert(mark);
        let run = hook_run(cx, at, phase);
        let id = cx.out.act(cx.name, |id| Action::Hook { id, run });
        self.hook = Some(RunningHook { id, place: place.clone(), phase, started: cx.now });
    }

    pub(super) fn hook_done(&mut self, now: Now, id: ActionId, outcome: HookOutcome) {
        let Some(hook) = self.hook.take_if(|hook| hook.id == id) else { return };
        let ms = u64::try_from(now.time.since(hook.started.time).as_millis()).unwrap_or(u64::MAX);
        let ended = HookStand::Ended { at: hook.started.wall, ms, outcome };
        self.hook_end = Some((hook.place, hook.phase, ended));
        self.hook_ended = now.time;
    }

    /// Writes how the last hook ended.
    pub(super) fn finish_hook(&mut self, cx: &mut Cx<'_>) {
        let Some((place, phase, ended)) = self.hook_end.clone() else { return };
        match stand_of(cx, &place, phase) {
            Some(Some(HookStand::Started { .. })) => self.record_hook(cx, &place, phase, ended),
            Some(None) if sabotaged!(HookStartNotRecorded) => {
                self.record_hook(cx, &place, phase, ended);
            }
            Some(Some(HookStand::Ended { .. }) | None) | None => self.hook_end = None,
        }
    }

    fn record_hook(&mut self, cx: &mut Cx<'_>, place: &Place, phase: Phase, stand: HookStand) {
        let (key, revision, op): (Key, u64, Op) = match place {
            Place::History(term) => {
                let Some(at) = cx.view.history.get(term) else { return };
                let mut history = at.record.clone();
                history.hooks.insert(phase, stand);
                let key = key::history(cx.name, *term);
                (key.clone(), at.revision, put(key, &history))
            }
            Place::Request(id) => {
                let Some(at) = cx.view.requests.get(id) else { return };
                let mut request = at.record.clone();
                request.hooks.insert(phase, stand);
                let key = request_key(cx, id);
                (key.clone(), at.revision, put(key, &request))
            }
        };
        let when = vec![Compare::Modified(key, revision)];
        self.write(cx, Txn { when, then: vec![op], otherwise: Vec::new() });
    }

    /// The new master serves: the `after-` hooks of its term.
    pub(super) fn tell_after(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let Some(history) = cx.view.history.get(&at.record.term) else { return };
        let phase = if history.record.cause == Cause::Switchover {
            Phase::AfterSwitchover
        } else if is_failover(&history.record.cause) || moved_outside(&history.record) {
            Phase::AfterFailover
        } else {
            return;
        };
        if matches!(self.run_hook(cx, at, phase), HookState::Waiting) {
            self.doing = Some(format!("running {} hooks", phase.as_str()));
        }
    }

    /// No master can be found: told once, by the host of the first instance that is up.
    pub(super) fn tell_failed(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        // What is about to come back is waited for.
        let due = cx.view.master_received.max(cx.doubted) + FAILED_AFTER;
        if cx.now.time < due {
            cx.out.wake(due);
            return;
        }
        let first =
            cx.view.instances.iter().find(|(_, at)| at.record.health == Health::Up).map(|(n, _)| n);
        if first.is_some_and(|first| self.own.contains_key(first)) {
            self.run_hook(cx, at, Phase::FailedFailover);
        }
    }

    /// The history of a term with one more step.
    pub(super) fn history_step(
        &self,
        cx: &Cx<'_>,
        term: Term,
        step: &str,
    ) -> Option<(Key, HistoryRecord)> {
        let mut history = cx.view.history.get(&term)?.record.clone();
        history.steps.push(Step { name: step.to_owned(), at: cx.now.wall });
        Some((key::history(cx.name, term), history))
    }

    /// Deletes what is older than the newest [`HISTORY`] terms.
    pub(super) fn trim_history(&self, cx: &Cx<'_>, then: &mut Vec<Op>) {
        let extra = (cx.view.history.len() + 1).saturating_sub(HISTORY);
        for term in cx.view.history.keys().take(extra.min(16)) {
            then.push(Op::Delete(key::history(cx.name, *term)));
        }
    }
}

/// Did another tool move the master, to another instance?
fn moved_outside(history: &HistoryRecord) -> bool {
    matches!(history.cause, Cause::Told | Cause::Seen) && history.from.as_ref() != Some(&history.to)
}

/// Where a phase's hooks stand; the outer `None`: there is no such record.
fn stand_of(cx: &Cx<'_>, place: &Place, phase: Phase) -> Option<Option<HookStand>> {
    let hooks = match place {
        Place::History(term) => &cx.view.history.get(term)?.record.hooks,
        Place::Request(id) => &cx.view.requests.get(id)?.record.hooks,
    };
    Some(hooks.get(&phase).cloned())
}

fn hook_run(cx: &Cx<'_>, at: &At<MasterRecord>, phase: Phase) -> HookRun {
    let party = |name: &InstanceName| {
        let record = &cx.view.instances.get(name)?.record;
        let (host, address) = (record.host.clone(), record.address);
        Some(Party { instance: name.clone(), host, address })
    };
    let record = &at.record;
    let holder = Party {
        instance: record.holder.instance.clone(),
        host: record.holder.host.clone(),
        address: record.holder.address,
    };
    let history = cx.view.history.get(&record.term).map(|at| &at.record);
    let from = history.and_then(|history| history.from.as_ref()).and_then(party);
    let (term, old, new) = match phase {
        // The giver still holds the term; the target is in the request.
        Phase::BeforeSwitchover => {
            let target = cx.view.requests.values().find_map(|at| {
                let crate::record::Stand::Agreed { to } = &at.record.stand else { return None };
                party(to)
            });
            (record.term.next(), Some(holder), target)
        }
        Phase::FailedFailover | Phase::Detected | Phase::Fenced | Phase::RoleChanged => {
            (record.term, Some(holder), None)
        }
        Phase::BeforeFailover | Phase::AfterFailover | Phase::AfterSwitchover => {
            (record.term, from, Some(holder))
        }
    };
    let cause = history.map(|history| serde_json::to_value(&history.cause).unwrap_or_default());
    let cause = match (phase, cause) {
        (Phase::BeforeSwitchover, _) | (_, None) => "switchover".to_owned(),
        (_, Some(serde_json::Value::String(word))) => word,
        (_, Some(other)) => {
            other.as_object().and_then(|map| map.keys().next().cloned()).unwrap_or_default()
        }
    };
    HookRun { service: cx.name.clone(), phase, term, old, new, cause }
}
