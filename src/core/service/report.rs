//! What `status` and `explain` print of a service, made from the same facts as decisions.

use std::time::Duration;

use crate::candidate::{Copy, Refusal, Terms, rank};
use crate::catalog::{At, Catalog, Named, ServiceView};
use crate::name::{InstanceName, ServiceName};
use crate::observation::{Role, Verdict};
use crate::policy::{Failover, Loss, Policy};
use crate::record::{Health, InstanceRecord, Lag, MasterState};
use crate::report::{InstanceReport, RequestReport, ServiceReport, TermReport};
use crate::time::Now;

use super::Service;
use super::own::health_words;
use super::request::unprepared;

/// So long after a move copies without a link are no problem yet, in milliseconds.
const SETTLE: i64 = 10_000;

/// A write without an answer for so long is told.
const UNANSWERED: Duration = Duration::from_secs(1);

/// One service at one moment.
pub(crate) fn report(
    now: Now,
    name: &ServiceName,
    view: &ServiceView,
    catalog: &Catalog,
    service: Option<&Service>,
) -> ServiceReport {
    let master = view.master.as_ref().map(|at| &at.record);
    let named = catalog.master(name, now.time);
    let withdrawn = match &named {
        Named::Master(..) => None,
        Named::Withdrawn(why) => Some((*why).to_owned()),
    };
    let named = match named {
        Named::Master(instance, record) => Some((instance.clone(), record.address)),
        Named::Withdrawn(_) => None,
    };
    let policy = view.instances.values().next().map(|at| at.record.policy.clone());
    let ranking = service.map(|service| would_take(view, service)).unwrap_or_default();
    let mut refusals = service.map(|service| service.refusals.clone()).unwrap_or_default();
    if let Some(policy) = &policy {
        refusals.extend(standing_refusals(view, policy));
    }
    let settling = settling(view, now);
    let mut problems = problems(view, withdrawn.as_deref(), service, settling.is_some());
    problems.extend(alone(view, now));
    problems.extend(view.instances.iter().filter_map(|(name, at)| unbound(name, &at.record)));
    let doing = service.and_then(|service| service.doing.clone()).or(settling);
    let waiting = service.and_then(|service| unanswered(service, now));
    let doing = match (doing, waiting) {
        (Some(doing), Some(waiting)) => Some(format!("{doing}; {waiting}")),
        (doing, waiting) => doing.or(waiting),
    };
    ServiceReport {
        service: name.clone(),
        state: master.map_or("not adopted", |record| record.state.word()).to_owned(),
        term: master.map(|record| record.term).unwrap_or_default(),
        since: master.map(|record| record.since),
        master: named.as_ref().map(|(instance, _)| instance.clone()),
        address: named.map(|(_, address)| address),
        holder: master.map(|record| record.holder.instance.clone()),
        withdrawn,
        policy,
        instances: view
            .instances
            .iter()
            .map(|(instance, at)| instance_report(view, instance, &at.record, service))
            .collect(),
        problems,
        refusals,
        ranking,
        doing,
        requests: view
            .requests
            .iter()
            .filter(|(_, at)| !at.record.stand.ended())
            .map(|(id, at)| RequestReport { id: id.clone(), request: at.record.clone() })
            .collect(),
        last: view
            .history
            .iter()
            .next_back()
            .map(|(term, at)| TermReport::of(view, *term, &at.record)),
    }
}

/// The order in which the copies known here would be tried if the master failed now.
fn would_take(view: &ServiceView, service: &Service) -> Vec<InstanceName> {
    let Some(record) = view.managed_record().filter(|record| record.external.is_none()) else {
        return Vec::new();
    };
    let copies: Vec<Copy> = view
        .instances
        .iter()
        .filter(|(name, _)| **name != record.holder.instance)
        .map(|(name, at)| {
            let own = service.own.get(name);
            let state = own.and_then(super::own::Own::state);
            Copy {
                instance: name.clone(),
                position: state.map(|state| state.held().clone()).ok_or(Refusal::Silent),
                unfit: unfit(view, name, &at.record, own),
                in_step: own.is_some_and(super::own::Own::in_step),
                major: at.record.major(),
                applies: state.is_some_and(|state| !state.applied.is_near(&state.received)),
                priority: at.record.priority,
                near: view.is_near(&record.holder.instance, &at.record),
            }
        })
        .collect();
    let single = view.instances.len() == 1;
    let lossless = view.instances.values().any(|at| at.record.policy.loss == Loss::None);
    let in_sync = lossless.then(|| super::sync::in_sync(view, record));
    let terms =
        Terms { histories: Some(&record.origins), in_sync, live: true, single, ..Terms::default() };
    rank(&copies, &terms).order
}

fn standing_refusals(view: &ServiceView, policy: &Policy) -> Vec<String> {
    let mut refusals = Vec::new();
    if let Some(held) = view.held_back() {
        refusals.push(format!("{}: sengu moves nothing by itself until it ends", held.state));
    }
    if policy.failover == Failover::Manual {
        refusals.push(
            "`failover = \"manual\"`: only a person moves mastership to another instance"
                .to_owned(),
        );
    }
    if policy.failover == Failover::External {
        refusals.push(
            "`failover = \"external\"`: another tool moves mastership; sengu promotes nobody and \
             publishes what it sees and is told"
                .to_owned(),
        );
    }
    if policy.failover == Failover::Auto {
        for (name, at) in &view.instances {
            unprepared(name, &at.record, &mut refusals);
        }
    }
    refusals
}

/// After a move the copies turn to the new master; for a while that needs nobody.
fn settling(view: &ServiceView, now: Now) -> Option<String> {
    let record = view.managed_record()?;
    let moved = now.wall.0.saturating_sub(record.since.0);
    let fresh = record.state == MasterState::Serving && (0..SETTLE).contains(&moved);
    let turning = |at: &At<InstanceRecord>| {
        let record = &at.record;
        record.health == Health::Up
            && record.role == Some(Role::Replica)
            && (record.syncing || !record.link_up)
    };
    let copies: Vec<&str> = view
        .instances
        .iter()
        .filter(|(name, at)| **name != record.holder.instance && turning(at))
        .map(|(name, _)| name.as_str())
        .collect();
    (fresh && !copies.is_empty())
        .then(|| format!("{} turning to {}", copies.join(", "), record.holder.instance))
}

/// What this service wrote has no answer of the store yet: until it has, or the deadline of that
/// write is over, the next thing is not begun.
fn unanswered(service: &Service, now: Now) -> Option<String> {
    let waited = now.time.since(service.writing_since);
    (service.writing.is_some() && waited >= UNANSWERED)
        .then(|| format!("waiting for the store's answer to a write for {} s", waited.as_secs()))
}

/// Accounts that read-only does not bind: a fence ends the process of their server.
fn unbound(name: &InstanceName, record: &InstanceRecord) -> Option<String> {
    match &record.bound {
        Verdict::Bad(why) => Some(format!(
            "{name}: {why}: a fence ends its process, and a switchover from it is refused"
        )),
        Verdict::Good | Verdict::Unknown => None,
    }
}

/// `loss = "none"`, and no copy could take over: after a move that is so for a while.
fn alone(view: &ServiceView, now: Now) -> Option<String> {
    let record = view.managed_record()?;
    let lossless = view.instances.values().any(|at| at.record.policy.loss == Loss::None);
    let fresh = (0..SETTLE).contains(&now.wall.0.saturating_sub(record.since.0));
    let complete = super::sync::of_term(view, record).is_some_and(|sync| sync.record.complete);
    let serves = record.state == MasterState::Serving && view.instances.len() > 1;
    (lossless && serves && !fresh && !complete).then(|| {
        format!(
            "`loss = \"none\"`: only {} is known to have every acknowledged write; no copy could \
             take over without loss",
            record.holder.instance
        )
    })
}

fn problems(
    view: &ServiceView,
    withdrawn: Option<&str>,
    service: Option<&Service>,
    settling: bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    if view.managed()
        && let Some(why) = withdrawn
    {
        problems.push(format!("no master is named: {why}"));
    }
    for (name, at) in &view.instances {
        let record = &at.record;
        if record.health != Health::Up {
            problems.push(format!("{name}: {}", health_words(&record.health)));
        } else if let Some(why) = &record.quarantine {
            problems.push(format!("{name} is quarantined: {why}"));
        } else if settling && (record.syncing || !record.link_up) {
            continue;
        } else if record.syncing {
            problems.push(format!("{name} is being copied to"));
        } else if record.role == Some(Role::Replica) && !record.link_up && view.managed() {
            problems.push(format!("{name} has no link to its master"));
        } else if let Some(why) = &record.trouble {
            problems.push(format!("{name}: {why}"));
        } else if record.lag == Lag::Far {
            problems.push(format!("{name} is far behind"));
        }
        if record.semi_sync.is_some_and(|semi| semi.waiting > 0 && semi.clients < semi.awaits) {
            problems.push(format!("{name}: commits wait for an acknowledgement"));
        }
    }
    problems.extend(view.unreadable.iter().map(|(key, why)| format!("record {key}: {why}")));
    if let Some(service) = service {
        problems.extend(service.refusals.iter().cloned());
    }
    problems
}

fn unfit(
    view: &ServiceView,
    name: &InstanceName,
    record: &InstanceRecord,
    own: Option<&super::own::Own>,
) -> Option<crate::record::Unfit> {
    let half = own.and_then(super::own::Own::half);
    half.or_else(|| super::take::set_apart(view, name, record, record.priority))
}

fn instance_report(
    view: &ServiceView,
    name: &InstanceName,
    record: &InstanceRecord,
    service: Option<&Service>,
) -> InstanceReport {
    let own = service.and_then(|service| service.own.get(name));
    let replication = match (record.role, record.source) {
        (Some(Role::Master), _) => "follows nobody".to_owned(),
        (Some(Role::Replica), _) if record.syncing => "full copy under way".to_owned(),
        (Some(Role::Replica), Some(source)) if record.link_up => match record.lag {
            Lag::None | Lag::Unknown => format!("in step with {source}"),
            Lag::Some => format!("behind {source}"),
            Lag::Far => format!("far behind {source}"),
        },
        (Some(Role::Replica), Some(source)) => format!("no link to {source}"),
        (Some(Role::Replica), None) => "source not known".to_owned(),
        (None, _) => String::new(),
    };
    let unfit = unfit(view, name, record, own);
    InstanceReport {
        instance: name.clone(),
        host: record.host.to_string(),
        address: record.address,
        role: record.role,
        writable: record.writable,
        health: health_words(&record.health),
        replication,
        position: own.and_then(|own| own.state()).map(|state| state.applied.to_string()),
        unfit: unfit.map(|unfit| Refusal::Unfit(unfit).to_string()),
    }
}
