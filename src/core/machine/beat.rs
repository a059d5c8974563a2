//! The lane that all services of one agent share: the beat, which keeps this host's terms, and the
//! deadlines by which its fences go off.
//!
//! It decides nothing of a service: each one says which term it keeps, and each is fenced in time
//! if no beat that names it was acknowledged.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::event::{Action, Armed, Outcome, TxnOutcome};
use crate::kv::{Compare, Op, OpResult, Revision, Txn};
use crate::lease::{Beats, beat_interval, beat_within, first_deadline, lease_of};
use crate::name::{InstanceId, ServiceName, Term};
use crate::policy::{Config, Failover, Judge};
use crate::record::{BeatRecord, FORMAT, MasterRecord, Promise, Record, key};
use crate::sabotage::sabotaged;
use crate::service::Cx;
use crate::time::{Now, Time};

use super::{Machine, Route};

impl Machine {
    /// The terms that the next beat keeps.
    fn naming(&self, now: Now, config: &Config, fence: Duration) -> BTreeMap<ServiceName, Term> {
        let kept = self.services.iter().filter_map(|(name, service)| {
            let view = self.catalog.service(name)?;
            let record = &view.master.as_ref()?.record;
            let deadline = self.beats.deadline(name, record.term);
            let late = deadline.is_some_and(|deadline| now.time + fence >= deadline);
            let asked =
                record.external.as_ref().is_some_and(|external| external.lease_ms.is_some());
            let promised = record.promise != Promise::None || asked;
            // What another tool may have moved is kept on fresh looks only.
            let seen = !asked || service.saw_since(record, self.doubted);
            let keeps = promised && !late && seen && service.keeps(record, config);
            keeps.then(|| (name.clone(), record.term))
        });
        kept.collect()
    }

    /// What this host sees that speaks against a move: said to the others with the beat.
    fn vetoes(&self) -> BTreeMap<ServiceName, Term> {
        let said = self.services.iter().filter_map(|(name, service)| {
            let at = self.catalog.service(name)?.master.as_ref()?;
            service.vetoes(&at.record).then(|| (name.clone(), at.record.term))
        });
        said.collect()
    }

    /// Sends the next beat when it is due.
    pub(super) fn beat(&mut self, now: Now) {
        let Some(config) = &self.config else { return };
        let Judge::Shared { lease, fence } = config.judge else { return };
        if !self.loaded {
            return;
        }
        let naming = self.naming(now, config, fence);
        // A deadline stands until its fence has fired or the term is another's: a beat that comes
        // too late to be sent must not disarm the very fence that is due.
        let (services, catalog) = (&self.services, &self.catalog);
        self.beats.kept.retain(|name, kept| {
            let view = catalog.service(name);
            let record = view.and_then(|view| view.master.as_ref()).map(|at| &at.record);
            record.is_some_and(|record| {
                record.term == kept.term
                    && services.get(name).is_some_and(|own| own.must_fence(record, config))
            })
        });
        let vetoes = self.vetoes();
        // Where another tool moves a service, a beat says also that this host's records of its
        // copies are fresh.
        let heard = config.services.values().any(|it| it.policy.failover == Failover::External);
        if naming.is_empty() && vetoes.is_empty() && self.beats.vetoes.is_empty() && !heard {
            return;
        }
        expect_fences(&mut self.beats, catalog, config, &naming, now.time);
        let host = &config.host;
        let beats = &self.beats;
        let grown = vetoes != beats.vetoes
            || naming
                .iter()
                .any(|(name, term)| !beats.acknowledged(name, *term) && beats.hurry(name, *term));
        if self.beats.busy.is_some() || (now.time < self.beats.next && !grown) {
            // One that is under way for longer ends by an event.
            if now.time < self.beats.next {
                self.out.wake(self.beats.next);
            }
            return;
        }
        if self.beats.revision == 0
            && let Some(known) = self.catalog.beat(host.as_str())
        {
            self.beats.revision = known.beat.revision;
            self.beats.counter = known.beat.record.counter;
        }
        self.beats.vetoes = vetoes;
        let (when, then) = beat_txn(config, &mut self.beats, &naming, now.time);
        let reads: Vec<Op> = naming.keys().map(|name| Op::Get(key::master(name))).collect();
        let back = Op::Get(key::beat(host));
        let txn = Txn {
            when: vec![when],
            then: std::iter::once(then).chain(reads).collect(),
            otherwise: vec![back],
        };
        let id = self.out.id(Route::Beat);
        self.beats.busy = Some(id);
        self.beats.hurried(&naming);
        self.beats.naming = naming;
        self.beats.next = now.time + beat_interval(lease);
        self.out.wake(self.beats.next);
        self.out.actions.push(Action::Txn { id, txn, within: beat_within(lease) });
    }

    pub(super) fn beat_done(&mut self, now: Now, outcome: Outcome) {
        self.beats.busy = None;
        let naming = std::mem::take(&mut self.beats.naming);
        let Outcome::Txn(TxnOutcome::Answered { sent, reply }) = outcome else {
            // Unknown: the next beat's comparison tells whether this one was written.
            return;
        };
        let Some(config) = self.config.clone() else { return };
        if reply.succeeded {
            self.beats.revision = reply.revision;
            self.beats.own = true;
            for ((name, term), result) in naming.iter().zip(&reply.results[1..]) {
                let OpResult::Got(found) = result else { continue };
                let Some(entry) = found.first() else { continue };
                // The view has read this revision already, as a rule.
                let view = self.catalog.service(name).and_then(|view| view.master.as_ref());
                let known = view.filter(|at| at.revision == entry.modified);
                let read = match known {
                    Some(at) => Ok(Cow::Borrowed(&at.record)),
                    None => MasterRecord::decode(&entry.value).map(Cow::Owned),
                };
                if let Ok(record) = read
                    && record.term == *term
                    && let Some(lease) = lease_of(&record.promise)
                    && self.services.get(name).is_some_and(|own| own.keeps(&record, &config))
                {
                    let sent = if sabotaged!(DeadlineFromReceipt) { now.time } else { sent };
                    self.beats.extend(name, *term, sent, lease);
                }
            }
        } else {
            self.read_back(now, &config, &reply.results);
        }
    }

    /// A comparison failed: is it a lost answer of our own, or does somebody beat as this host?
    fn read_back(&mut self, now: Now, config: &Config, results: &[OpResult]) {
        let found = match results.first() {
            Some(OpResult::Got(found)) => found.first(),
            Some(OpResult::Put | OpResult::Deleted(_)) | None => None,
        };
        let Some(entry) = found else {
            self.beats.revision = 0;
            return;
        };
        let Ok(beat) = BeatRecord::decode(&entry.value) else { return };
        self.beats.revision = entry.modified;
        self.beats.counter = beat.counter;
        if beat.start == config.start || !self.beats.own {
            self.beats.next = now.time;
            return;
        }
        let host = &config.host;
        self.ended = true;
        // Its picture stands still from now on: nobody is named by it.
        Arc::make_mut(&mut self.catalog).valid_until = Time::ZERO;
        self.out.actions.push(Action::Exit(format!(
            "another agent beats as host `{host}`: two agents share one data_dir or one id; \
             everything held here is fenced; give each host its own data_dir and host name"
        )));
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        for name in &names {
            let (Some(service), Some(settings)) =
                (self.services.get_mut(name), config.services.get(name))
            else {
                continue;
            };
            let view = self.catalog.service(name).cloned().unwrap_or_default();
            let mut cx = Cx {
                now,
                config,
                settings,
                name,
                view: &view,
                catalog: &self.catalog,
                beats: &mut self.beats,
                out: &mut self.out,
                trusted: false,
                remembered: false,
                steady: now.time,
                doubted: self.doubted,
            };
            service.fence_unanswered(&mut cx, false);
        }
    }

    /// A take carried a beat.
    pub(super) fn take_done(&mut self, now: Now, service: &ServiceName, outcome: &Outcome) {
        self.beats.busy = None;
        self.beats.naming.clear();
        let Outcome::Txn(TxnOutcome::Answered { reply, .. }) = outcome else { return };
        self.beats.taking.remove(service);
        if reply.succeeded {
            self.beats.revision = reply.revision;
            self.beats.own = true;
            return;
        }
        let Some(config) = self.config.clone() else { return };
        // The view has the revision of the answer: was it the beat that did not compare? An
        // earlier one may have been written after its outcome counted as unknown.
        let known = self.catalog.get(&key::beat(&config.host)).map(|entry| (**entry).clone());
        if known.as_ref().is_some_and(|entry| entry.modified != self.beats.revision) {
            self.read_back(now, &config, &[OpResult::Got(known.into_iter().collect())]);
        }
    }

    /// Tells the fence thread its deadlines, when they changed.
    pub(super) fn arm(&mut self) {
        let Some(config) = &self.config else { return };
        let Judge::Shared { fence, .. } = config.judge else { return };
        let fence = if sabotaged!(FenceAtTheDeadline) { Duration::ZERO } else { fence };
        // Unknown how it ended: it stands until a record of its term, or a later one, is seen.
        let catalog = &self.catalog;
        self.beats.taking.retain(|name, (_, kept)| {
            let view = catalog.service(name);
            let term = view.and_then(|view| view.master.as_ref()).map(|at| at.record.term);
            term < Some(kept.term)
        });
        let taking = self.beats.taking.iter();
        let taking = taking.map(|(name, (instance, kept))| (name, instance, *kept));
        let kept = self.beats.kept.iter().filter_map(|(name, kept)| {
            let record = &self.catalog.service(name)?.master.as_ref()?.record;
            Some((name, &record.holder.instance, *kept))
        });
        let due = || kept.clone().chain(taking.clone());
        let stands =
            due().map(|(name, instance, kept)| (name, instance, kept.term, kept.deadline - fence));
        let before = self
            .armed
            .iter()
            .map(|it| (&it.instance.service, &it.instance.instance, it.term, it.at));
        if !stands.eq(before) && !sabotaged!(FenceNotArmed) {
            let armed: Vec<Armed> = due()
                .map(|(name, instance, kept)| Armed {
                    instance: InstanceId { service: name.clone(), instance: instance.clone() },
                    term: kept.term,
                    at: kept.deadline - fence,
                })
                .collect();
            self.armed.clone_from(&armed);
            // Before whatever else this step asks for: nothing is opened unarmed.
            self.out.actions.insert(0, Action::Arm(armed));
        }
    }
}

/// A term found at a start has a deadline before its first beat is acknowledged, too: its fence is
/// armed before anything else.
fn expect_fences(
    beats: &mut Beats,
    catalog: &Catalog,
    config: &Config,
    naming: &BTreeMap<ServiceName, Term>,
    now: Time,
) {
    let Judge::Shared { lease: usual, fence } = config.judge else { return };
    let last = catalog.beat(config.host.as_str()).map(|view| &view.beat.record);
    for (name, term) in naming {
        let record = catalog.service(name).and_then(|view| view.master.as_ref());
        // A freeze outlives the agent, which may be started again while the store is away.
        let Some(lease) = record.and_then(|at| lease_of(&at.record.promise)) else { continue };
        let last = last.filter(|beat| beat.keeps.get(name) == Some(term));
        let sent = last.and_then(|beat| beat.sent);
        let lease = if sent.is_some() { lease } else { lease.min(usual) };
        beats.expect(name, *term, first_deadline(now, sent, lease, fence));
    }
}

/// The comparison and the write of the next beat.
fn beat_txn(
    config: &Config,
    beats: &mut Beats,
    naming: &BTreeMap<ServiceName, Term>,
    sent: Time,
) -> (Compare, Op) {
    let key = key::beat(&config.host);
    beats.counter += 1;
    let beat = BeatRecord {
        format: FORMAT,
        counter: beats.counter,
        start: config.start.clone(),
        keeps: naming.clone(),
        vetoes: beats.vetoes.clone(),
        sent: Some(sent),
        unknown: serde_json::Map::new(),
    };
    let revision: Revision = beats.revision;
    (Compare::Modified(Arc::clone(&key), revision), Op::Put { key, value: beat.encode(), lease: 0 })
}

/// The beat that rides on a txn of this service: it names what this host keeps, and this term.
pub(crate) fn carried_beat(cx: &mut Cx<'_>, term: Term) -> (Compare, Op) {
    let mut naming: BTreeMap<_, _> =
        cx.beats.kept.iter().map(|(name, kept)| (name.clone(), kept.term)).collect();
    naming.insert(cx.name.clone(), term);
    if cx.beats.revision == 0
        && let Some(known) = cx.catalog.beat(cx.config.host.as_str())
    {
        cx.beats.revision = known.beat.revision;
        cx.beats.counter = known.beat.record.counter;
    }
    beat_txn(cx.config, cx.beats, &naming, cx.now.time)
}
