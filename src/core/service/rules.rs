//! The safety rules as `sengu explain` tells them: each by its slug, with what it says of one
//! service at this moment and the facts that it says it from.
//!
//! It judges nothing that the decisions do not judge: it reads the same fields and, where a
//! decision has words of its own, uses those. What a rule would say later, in an incident, shows
//! in the rehearsal (`machine/rehearse.rs`), which runs the decisions themselves.

use std::collections::BTreeMap;

use crate::catalog::{At, Catalog, Named, ServiceView};
use crate::explain::{Inputs, InstanceInput, OwnInput, RuleReport, RuleVerdict};
use crate::lease::Beats;
use crate::name::{BootId, InstanceName, ServiceName};
use crate::observation::{InstanceState, Verdict};
use crate::policy::{Config, Failover, Judge};
use crate::record::{HookStand, MasterRecord, MasterState, Promise, Proof, RequestRecord};
use crate::time::{Now, Time};
use crate::transition::{self, TermChange};

use super::Service;
use super::hold::{recent, tried};
use super::own::Own;

use RuleVerdict::{Holds, Idle, Stops};

/// What is known of one service, for telling.
pub(crate) struct Facts<'a> {
    pub(crate) now: Now,
    pub(crate) name: &'a ServiceName,
    pub(crate) config: Option<&'a Config>,
    pub(crate) view: &'a ServiceView,
    pub(crate) catalog: &'a Catalog,
    pub(crate) beats: &'a Beats,
    pub(crate) fresh: Time,
    pub(crate) doubted: Time,
    pub(crate) service: Option<&'a Service>,
}

fn millis(now: Time, then: Time) -> u64 {
    u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

impl Facts<'_> {
    /// All rules, in the order of the architecture's list.
    pub(crate) fn rules(&self) -> Vec<RuleReport> {
        let rules: [(&str, (RuleVerdict, String)); 12] = [
            ("one-giver", self.one_giver()),
            ("fence-in-time", self.fence_in_time()),
            ("starts-fenced", self.starts_fenced()),
            ("named-is-serving", self.named_is_serving()),
            ("proven-before-promoted", self.proven_before_promoted()),
            ("detach-then-final", self.detach_then_final()),
            ("nothing-older-runs", self.nothing_older_runs()),
            ("no-needless-move", self.no_needless_move()),
            ("emptied-never-wins", self.emptied_never_wins()),
            ("hook-once", self.hook_once()),
            ("refusals-are-said", self.refusals_are_said()),
            ("all-bounded", self.all_bounded()),
        ];
        rules
            .into_iter()
            .map(|(rule, (verdict, facts))| RuleReport { rule: rule.to_owned(), verdict, facts })
            .collect()
    }

    fn record(&self) -> Option<&At<MasterRecord>> {
        self.view.master.as_ref()
    }

    fn held(&self) -> Option<&MasterRecord> {
        self.view.managed_record()
    }

    fn one_giver(&self) -> (RuleVerdict, String) {
        let key = crate::record::key::master(self.name);
        if let Some(why) = self.view.unreadable.get(&key) {
            return (Stops, format!("{key} cannot be read: {why}"));
        }
        let record = self.record().map(|at| &at.record);
        let stage = transition::stage(record);
        let next: Vec<&str> = transition::TABLE
            .iter()
            .filter(|row| row.from == stage && row.term == TermChange::Next)
            .map(|row| row.when)
            .collect();
        let next = if next.is_empty() {
            "no new term can begin from here".to_owned()
        } else {
            format!("a new term begins only when: {}", next.join("; or "))
        };
        let standing = match (record, self.record()) {
            (Some(record), Some(at)) => format!(
                "{key} at revision {}: term {}, {}, held by {}",
                at.revision,
                record.term,
                record.state.word(),
                record.holder.instance
            ),
            _ => format!("there is no {key}"),
        };
        (Holds, format!("{standing}; {next}"))
    }

    fn fence_in_time(&self) -> (RuleVerdict, String) {
        let Some(record) = self.held() else { return (Idle, "no term is held".to_owned()) };
        match record.promise {
            Promise::None => {
                (Idle, "the holder promised nothing: its term ends by proof, never by time".into())
            }
            Promise::Fence { lease_ms } => {
                let left = self.beats.deadline(self.name, record.term);
                let left = left.map_or_else(
                    || "its deadline is another host's to keep".to_owned(),
                    |at| format!("{} ms are left", millis(at, self.now.time)),
                );
                (
                    Holds,
                    format!("promised to be fenced within {lease_ms} ms of its last beat; {left}"),
                )
            }
        }
    }

    fn starts_fenced(&self) -> (RuleVerdict, String) {
        let auto =
            self.view.instances.values().any(|at| at.record.policy.failover == Failover::Auto);
        let bad: Vec<String> = self
            .view
            .instances
            .iter()
            .filter_map(|(name, at)| match &at.record.starts_fenced {
                Verdict::Good => None,
                Verdict::Bad(why) => Some(format!("{name}: {why}")),
                Verdict::Unknown => Some(format!("{name}: not looked at yet")),
            })
            .collect();
        if bad.is_empty() {
            let names = list(self.view.instances.keys());
            return (Holds, format!("the files of {names} start them fenced"));
        }
        (if auto { Stops } else { Idle }, bad.join("; "))
    }

    fn named_is_serving(&self) -> (RuleVerdict, String) {
        match self.catalog.master(self.name, self.now.time) {
            Named::Master(instance, record) => {
                (Holds, format!("{instance} at {} is named", record.address))
            }
            Named::Withdrawn(why) => (Stops, format!("nobody is named: {why}")),
        }
    }

    fn proven_before_promoted(&self) -> (RuleVerdict, String) {
        let Some(record) = self.held() else { return (Idle, "no term is held".to_owned()) };
        let unproven = list(record.unproven.iter().map(|holder| &holder.instance));
        match &record.state {
            MasterState::Vacant { proof, .. } => {
                let holder = &record.holder.instance;
                let how = match proof {
                    Proof::Fenced => format!("{holder} acknowledged its fence"),
                    Proof::Exited => format!("the process of {holder} is gone"),
                    Proof::NeverPromoted => format!("{holder} was never opened"),
                };
                (Holds, how)
            }
            MasterState::Lapsed | MasterState::FenceFailed { .. } => {
                (Stops, format!("{} was not proven stopped", record.holder.instance))
            }
            MasterState::Withdrawn { .. } => {
                (Idle, "another tool promotes: nothing is proven here".to_owned())
            }
            MasterState::Taken { .. }
            | MasterState::Serving
            | MasterState::Giving { .. }
            | MasterState::Unmanaged => {
                if unproven.is_empty() {
                    (Holds, "every earlier holder was proven stopped".to_owned())
                } else {
                    (Holds, format!("before a promotion these are looked at: {unproven}"))
                }
            }
        }
    }

    fn detach_then_final(&self) -> (RuleVerdict, String) {
        let Some(record) = self.held() else { return (Idle, "no term is held".to_owned()) };
        let open = matches!(
            record.state,
            MasterState::Vacant { .. } | MasterState::Lapsed | MasterState::Giving { .. }
        );
        if !open {
            return (Idle, format!("term {} is held: copies go on receiving", record.term));
        }
        let finals: Vec<&InstanceName> = self
            .view
            .finals
            .keys()
            .filter(|(term, _)| *term == record.term)
            .map(|(_, name)| name)
            .collect();
        let missing: Vec<&InstanceName> =
            self.view.instances.keys().filter(|name| !finals.contains(name)).collect();
        if missing.is_empty() {
            return (Holds, format!("final positions of {}", list(finals)));
        }
        let written = if finals.is_empty() { "nobody".to_owned() } else { list(finals) };
        (Stops, format!("final positions of {written}; none of {}", list(missing)))
    }

    fn nothing_older_runs(&self) -> (RuleVerdict, String) {
        let under_way: Vec<String> = self
            .service
            .iter()
            .flat_map(|service| &service.own)
            .filter_map(|(name, own)| Some(format!("{name}: {}", under_way(own)?)))
            .collect();
        if under_way.is_empty() {
            return (Idle, "no command is under way".to_owned());
        }
        (Holds, under_way.join("; "))
    }

    fn no_needless_move(&self) -> (RuleVerdict, String) {
        let lease = self.config.map_or_else(Default::default, |config| config.judge.lease());
        if self.now.time >= self.fresh + lease / 4 {
            return (Stops, "the store has not answered lately: nobody is judged".to_owned());
        }
        let silent: Vec<String> = self
            .service
            .iter()
            .flat_map(|service| &service.own)
            .filter_map(|(name, own)| {
                let failing = own.failing.as_ref()?;
                let words = format!("{name}: {} ({} looks)", failing.words, failing.looks);
                Some(words)
            })
            .collect();
        let doubt = if self.doubted > Time::ZERO {
            let ago = millis(self.now.time, self.doubted) / 1000;
            format!("; what was seen {ago} s ago and before counts as old")
        } else {
            String::new()
        };
        if silent.is_empty() {
            return (Idle, format!("every instance here answers{doubt}"));
        }
        (Holds, format!("{}{doubt}", silent.join("; ")))
    }

    fn emptied_never_wins(&self) -> (RuleVerdict, String) {
        let Some(record) = self.held() else { return (Idle, "no term is held".to_owned()) };
        let copies =
            || self.view.instances.iter().filter(|(name, _)| **name != record.holder.instance);
        let out: Vec<&InstanceName> = copies()
            .filter(|(name, at)| {
                let own = self.service.and_then(|service| service.own.get(*name));
                let recorded =
                    at.record.in_step.is_some() && at.record.in_step == at.record.boot_id;
                !own.map_or_else(|| recorded, Own::in_step)
            })
            .map(|(name, _)| name)
            .collect();
        if copies().next().is_none() {
            return (Idle, "there is no other copy".to_owned());
        }
        if out.is_empty() {
            return (Holds, "every copy was in step in this life of its process".to_owned());
        }
        let words = format!(
            "{} was not in step since its process started: it wins only if it holds all",
            list(out)
        );
        (Stops, words)
    }

    fn hook_once(&self) -> (RuleVerdict, String) {
        let Some(record) = self.held() else { return (Idle, "no term is held".to_owned()) };
        let own = self.view.history.get(&record.term).map(|at| &at.record.hooks);
        let asked = self.view.requests.values().map(|at| &at.record.hooks);
        let told: Vec<String> = own
            .into_iter()
            .chain(asked)
            .flatten()
            .map(|(phase, stand)| {
                let word = match stand {
                    HookStand::Started { .. } => "started",
                    HookStand::Ended { .. } => "ended",
                };
                format!("{} {word}", phase.as_str())
            })
            .collect();
        if told.is_empty() {
            return (Idle, format!("no hook ran in term {}", record.term));
        }
        (Holds, format!("in term {}: {}", record.term, told.join(", ")))
    }

    fn refusals_are_said(&self) -> (RuleVerdict, String) {
        match self.service.map_or(0, |service| service.refusals.len()) {
            0 => (Idle, "nothing is refused now".to_owned()),
            1 => (Stops, "1 refusal, under `what sengu does not do`".to_owned()),
            more => (Stops, format!("{more} refusals, under `what sengu does not do`")),
        }
    }

    fn all_bounded(&self) -> (RuleVerdict, String) {
        let Some(record) = self.held() else { return (Idle, "no term is held".to_owned()) };
        let Some(policy) = self.view.instances.values().next().map(|at| &at.record.policy) else {
            return (Idle, "no instance is known".to_owned());
        };
        let window = policy.cooldown_window;
        let spent =
            record.failovers.iter().filter(|at| recent(**at, self.now.wall, window)).count();
        let open = self.view.requests.values().filter(|at| counts(&at.record)).count();
        let words = format!(
            "{spent} of {} failovers in the last {} s; {} of {} attempts spent; {open} open requests",
            policy.cooldown_failovers,
            window.as_secs(),
            tried(record),
            policy.max_attempts
        );
        let most = |count: usize, most: u32| count >= usize::try_from(most).unwrap_or(usize::MAX);
        let full =
            most(spent, policy.cooldown_failovers) || most(tried(record), policy.max_attempts);
        (if full { Stops } else { Holds }, words)
    }

    /// What decisions are made from.
    pub(crate) fn inputs(&self) -> Inputs {
        let now = self.now.time;
        let judge = self.config.map(|config| config.judge);
        let record = self.record().map(|at| (at.revision, at.record.clone()));
        let term = record.as_ref().map(|(_, record)| record.term);
        let own = |name: &InstanceName| {
            self.service.and_then(|service| service.own.get(name)).map(|own| own_input(own, now))
        };
        let instances: BTreeMap<InstanceName, InstanceInput> = self
            .view
            .instances
            .iter()
            .map(|(name, at)| {
                let (record, revision) = (at.record.clone(), at.revision);
                (name.clone(), InstanceInput { record, revision, own: own(name) })
            })
            .collect();
        Inputs {
            revision: self.catalog.revision,
            judge: match judge {
                Some(Judge::Shared { .. }) => "shared",
                Some(Judge::Alone { .. }) | None => "alone",
            }
            .to_owned(),
            lease_ms: judge
                .map_or(0, |judge| u64::try_from(judge.lease().as_millis()).unwrap_or(u64::MAX)),
            store_answered_ms: millis(now, self.fresh),
            doubted_ms: (self.doubted > Time::ZERO).then(|| millis(now, self.doubted)),
            beat_ms: self.view.kept_until().map(|_| millis(now, self.view.beat_received)),
            record,
            sync: self.view.sync.as_deref().map(|at| (at.revision, at.record.clone())),
            instances,
            finals: self
                .view
                .finals
                .iter()
                .filter(|((at, _), _)| Some(*at) == term)
                .map(|((_, name), at)| (name.clone(), at.record.clone()))
                .collect(),
            unreadable: self
                .view
                .unreadable
                .iter()
                .map(|(key, why)| (key.to_string(), why.clone()))
                .collect(),
        }
    }
}

fn counts(request: &RequestRecord) -> bool {
    !request.stand.ended()
}

fn under_way(own: &Own) -> Option<String> {
    if own.fence.is_some() {
        return Some("a fence".to_owned());
    }
    let (_, term, command) = own.lane.as_ref()?;
    let word = format!("{command:?}");
    let word = word.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    Some(format!("{} in term {term}", word.to_lowercase()))
}

fn own_input(own: &Own, now: Time) -> OwnInput {
    OwnInput {
        looked_ms: millis(now, own.observed_at),
        failing: own.failing.as_ref().map(|failing| (failing.looks, failing.words.clone())),
        received: own.state().map(|state| state.received.to_string()),
        applied: own.state().map(|state| state.applied.to_string()),
        in_step: own.in_step(),
        fenced: own.is_fenced(),
        under_way: under_way(own),
    }
}

impl Service {
    /// Nothing is under way any more: for a copy of it that is run on by itself.
    pub(crate) fn come_to_rest(&mut self) {
        (self.writing, self.publishing, self.hook) = (None, None, None);
        self.ranked = None;
        self.looks.values_mut().for_each(|look| look.under_way = None);
        for own in self.own.values_mut() {
            (own.lane, own.fence) = (None, None);
        }
    }

    /// The ranking of an incident, once it stands.
    pub(crate) fn ranked_now(&self) -> Option<&[InstanceName]> {
        self.ranked.as_ref().map(|(order, _)| &**order)
    }

    /// The instances here that were seen alive: their life, what they last told, and whether
    /// they answer.
    pub(crate) fn last_seen(&self) -> Vec<(InstanceName, BootId, InstanceState, bool)> {
        self.own
            .iter()
            .filter_map(|(name, own)| {
                let (boot_id, state) = (own.boot_id.clone()?, own.state()?.clone());
                Some((name.clone(), boot_id, state, own.failing.is_none()))
            })
            .collect()
    }
}
