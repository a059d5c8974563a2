//! `instances/S/I`: what others may know of the instances here, written on change.

use std::time::Duration;

use crate::kv::{Compare, Op, Txn};
use crate::name::InstanceName;
use crate::observation::{InstanceState, SemiSync, Settings};
use crate::position::Position;
use crate::record::{FORMAT, Health, InstanceRecord, Lag, MasterState, key};
use crate::sabotage::sabotaged;
use crate::time::Time;

use super::own::Own;
use super::{Cx, Service, put};

/// How long a record that another rewrites is left alone after this agent wrote it.
const REWRITE_PAUSE: Duration = Duration::from_secs(1);

/// How it was judged when it last answered.
fn judged(last: &InstanceRecord) -> Settings {
    Settings {
        starts_fenced: last.starts_fenced.clone(),
        killable: last.killable.clone(),
        replication: last.replication.clone(),
        lossless: last.lossless.clone(),
        bound: last.bound.clone(),
    }
}

/// How it is judged. An agent that was started again has to judge anew what stands, and is asked
/// for it meanwhile by those who may have to take over.
fn verdicts(own: &Own, last: Option<&InstanceRecord>) -> Settings {
    let before = last.map(judged).unwrap_or_default();
    match own.state() {
        Some(state) if last.is_some_and(|last| last.boot_id == own.boot_id) => {
            state.settings.clone().or(before)
        }
        Some(state) => state.settings.clone(),
        None => before,
    }
}

impl Service {
    /// Writes the records that are not what was last seen.
    pub(super) fn publish(&mut self, cx: &mut Cx<'_>) {
        if self.publishing.is_some() {
            return;
        }
        if cx.now.time < self.publish_after {
            cx.out.wake(self.publish_after);
            return;
        }
        let opening = cx.view.master.as_ref().filter(|at| {
            cx.mine(&at.record.holder) && matches!(at.record.state, MasterState::Taken { .. })
        });
        let mut when = Vec::new();
        let mut then = Vec::new();
        for name in self.own.keys() {
            let serving_next = opening.is_some_and(|at| at.record.holder.instance == *name)
                && self.own[name].writable();
            if serving_next {
                continue; // The txn that publishes the master carries it.
            }
            let Some(record) = self.instance_record(cx, name) else { continue };
            let known = cx.view.instances.get(name).map(|at| &at.record);
            if known == Some(&record) {
                continue;
            }
            if self.rewritten_by_another(cx, name) && cx.now.time < self.published + REWRITE_PAUSE {
                cx.out.wake(self.published + REWRITE_PAUSE);
                continue;
            }
            if let Some(known) = known
                && known.host != record.host
                && known.agent != record.agent
                && known.health != Health::Exited
            {
                let why = format!("instance `{name}` is on host {} already", known.host);
                if !self.refusals.contains(&why) {
                    self.refusals.push(why);
                }
                continue;
            }
            let key = key::instance(cx.name, name);
            if let Some(why) = cx.newer(&key) {
                if !self.refusals.contains(&why) {
                    self.refusals.push(why);
                }
                continue;
            }
            when.push(Compare::Modified(key.clone(), cx.revision(&key)));
            then.push(put(key, &record));
        }
        self.forget_removed(cx, &mut when, &mut then);
        if then.iter().any(|op| matches!(op, Op::Delete(_))) {
            self.forgot = cx.now.time;
        }
        if !then.is_empty() {
            let txn = Txn { when, then, otherwise: Vec::new() };
            self.publishing = Some(cx.out.txn(cx.name, txn, Duration::from_secs(5)));
            self.published = cx.now.time;
        }
    }

    /// Did somebody else write this instance's record after this life of the agent did? A second
    /// agent on one host, say: without a pause the two would overwrite each other at full speed.
    fn rewritten_by_another(&self, cx: &Cx<'_>, name: &InstanceName) -> bool {
        let stands = cx.view.instances.get(name).map_or(0, |at| at.revision);
        let first = self.written.front().copied();
        first.is_some_and(|first| stands > first) && !self.written.contains(&stands)
    }

    /// Records of this agent's instances that are not configured any more go, except the holder's;
    /// while nobody serves they stand, since what such a copy holds still counts against others.
    fn forget_removed(&self, cx: &mut Cx<'_>, when: &mut Vec<Compare>, then: &mut Vec<Op>) {
        let record = cx.view.managed_record();
        if record.is_some_and(|record| record.state != MasterState::Serving) {
            return;
        }
        let holder = record.map(|record| &record.holder.instance);
        for (name, at) in &cx.view.instances {
            if at.record.agent == cx.config.agent
                && !self.own.contains_key(name)
                && holder != Some(name)
            {
                let due = self.forgot + REWRITE_PAUSE;
                if self.forgot > Time::ZERO && cx.now.time < due {
                    cx.out.wake(due);
                    return; // A second agent of this host writes it again each time.
                }
                let key = key::instance(cx.name, name);
                when.push(Compare::Modified(key.clone(), at.revision));
                then.push(Op::Delete(key));
            }
        }
    }

    /// An instance's record as it should stand.
    pub(super) fn instance_record(
        &self,
        cx: &Cx<'_>,
        name: &InstanceName,
    ) -> Option<InstanceRecord> {
        let own = self.own.get(name)?;
        if own.known.is_none() && own.failing.is_none() && own.exited.is_none() {
            return None; // Nothing was seen yet: the record of the agent's last life stays.
        }
        let settings = cx.settings.instances.get(name)?;
        let at = cx.view.instances.get(name);
        let health = own.health();
        let state = own.state().filter(|_| health == Health::Up);
        let last = at.map(|at| &at.record);
        let verdicts = verdicts(own, last);
        Some(InstanceRecord {
            format: FORMAT,
            host: cx.config.host.clone(),
            agent: cx.config.agent.clone(),
            address: settings.address,
            kind: cx.settings.kind,
            zone: settings.zone.clone(),
            priority: own.state().map_or(settings.priority, |s| s.priority.min(settings.priority)),
            policy: cx.settings.policy.clone(),
            boot_id: own.boot_id.clone(),
            version: own
                .state()
                .map(|state| state.version.clone())
                .or_else(|| last.and_then(|last| last.version.clone())),
            role: own.state().map(|state| state.role),
            writable: state.is_some_and(|state| state.writable)
                || (matches!(health, Health::Troubled(_))
                    && last.is_some_and(|last| last.writable)),
            source: own.state().and_then(|state| state.source),
            link_up: state.is_some_and(|state| state.link_up),
            syncing: state.is_some_and(|state| state.syncing || state.never_synced),
            lag: self.lag_class(cx, name, own),
            received: self.received_class(cx, name, own),
            process: match health {
                Health::Up => crate::observation::Process::Unknown,
                Health::Troubled(_) | Health::Silent(_) | Health::Exited => own.process,
            },
            health,
            starts_fenced: verdicts.starts_fenced,
            killable: verdicts.killable,
            replication: verdicts.replication,
            lossless: verdicts.lossless,
            bound: verdicts.bound,
            in_step: own.stepped.clone(),
            trouble: state.and_then(|state| state.trouble.clone()),
            // On a busy master some commit waits in every other look; that they wait for copies
            // that are not there is news.
            semi_sync: state.and_then(|state| state.semi_sync).map(|semi| SemiSync {
                waiting: u32::from(semi.waiting > 0 && semi.clients < semi.awaits),
                ..semi
            }),
            quarantine: own.quarantine.clone(),
            unknown: last
                .filter(|_| !sabotaged!(FieldsDropped))
                .map(|last| last.unknown.clone())
                .unwrap_or_default(),
        })
    }

    /// How far behind its master a copy is, as far as this agent can tell: of a master on another
    /// host it does not know how far that is, but of its own copy what is not applied, since when.
    pub(super) fn lag(&self, cx: &Cx<'_>, name: &InstanceName) -> Option<Duration> {
        let own = self.own.get(name)?;
        self.behind(cx, own, &own.state()?.applied, own.arrears.age(cx.now.wall))
    }

    /// The same for a position of its; `elsewhere`: where the master is not here.
    fn behind(
        &self,
        cx: &Cx<'_>,
        own: &Own,
        position: &Position,
        elsewhere: Duration,
    ) -> Option<Duration> {
        let state = own.state()?;
        if !state.link_up {
            return state.silent_for;
        }
        let holder = &cx.view.managed_record()?.holder;
        let master = self.own.get(&holder.instance);
        Some(master.map_or(elsewhere, |master| master.trail.ahead_of(position, cx.now.wall)))
    }

    fn lag_class(&self, cx: &Cx<'_>, name: &InstanceName, own: &Own) -> Lag {
        let Some(state) = own.state() else { return Lag::Unknown };
        if state.role == crate::observation::Role::Master {
            return Lag::None;
        }
        if state.syncing || state.never_synced {
            return Lag::Far;
        }
        class(cx, state, self.lag(cx, name))
    }

    /// How far behind it is in receiving, where that is another matter than in applying.
    fn received_class(&self, cx: &Cx<'_>, name: &InstanceName, own: &Own) -> Option<Lag> {
        let state = own.state().filter(|state| {
            !matches!(state.applied, Position::Redis(_)) && !state.syncing && !state.never_synced
        })?;
        let received = class(cx, state, self.behind(cx, own, state.held(), Duration::ZERO));
        (received != self.lag_class(cx, name, own)).then_some(received)
    }
}

fn class(cx: &Cx<'_>, state: &InstanceState, lag: Option<Duration>) -> Lag {
    match lag {
        Some(lag) if lag > cx.settings.policy.max_lag => Lag::Far,
        Some(lag) if lag > Duration::from_secs(2) => Lag::Some,
        Some(_) => Lag::None,
        None if state.link_up => Lag::None,
        None => Lag::Unknown,
    }
}
