//! What an operator asks for becomes a request record: plans of its writing and removal.
//!
//! Pure: a catalog and an ask become a txn, or a refusal in words. One request of a kind is open
//! at a time; pauses, freezes and drains have fixed ids, so that no two of them can stand.

use std::mem::discriminant;

use sengu_core::catalog::{At, Catalog, ServiceView};
use sengu_core::kv::{Compare, Op, Revision, Txn};
use sengu_core::name::{HostName, InstanceName, ServiceName, Term};
use sengu_core::policy::Failover;
use sengu_core::record::{Ask, FORMAT, Record, RequestRecord, Stand, key};
use sengu_core::service::freeze::LONGEST;
use sengu_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::http::answer::Trouble;

/// The most requests of a service that have not ended.
const OPEN_MAX: usize = 32;
/// So many ended ones are kept.
const ENDED_KEPT: usize = 16;
/// At most so many old ones are removed by one txn.
const REMOVED_MAX: usize = 32;
/// The longest comment and name of an asker, in bytes.
const COMMENT_MAX: usize = 1024;
const BY_MAX: usize = 128;
/// How long a request counts if the asker does not say, in seconds.
const WITHIN_MOVE: u64 = 60;
const WITHIN_PAUSE: u64 = 3600;
const WITHIN_FREEZE: u64 = 1800;
/// A drain stands until somebody ends it; this is the longest of all, ten years.
const WITHIN_MAX: u64 = 10 * 365 * 24 * 3600;

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// What is asked.
    pub ask: Ask,
    /// Why, for the history.
    #[serde(default)]
    pub comment: String,
    /// The person, where several share root; beside the socket's user, not instead.
    #[serde(default)]
    pub by: String,
    /// For how long it counts, in seconds. Default: 60 for what happens once, 3600 for a pause,
    /// 1800 for a freeze (at most a day), ten years (which is also the most) for a drain.
    #[serde(default)]
    pub within_secs: Option<u64>,
    /// Only tell what a switchover would come to; nothing is written.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to a request that was written or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its id.
    pub id: String,
    /// The store's revision after it; wait for changes above this.
    pub revision: Revision,
}

/// What a switchover would come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The service.
    pub service: ServiceName,
    /// Always true.
    pub dry_run: bool,
    /// Whom mastership would move to; none: it would be refused.
    pub to: Option<InstanceName>,
    /// Why it would be refused.
    pub refused: Option<String>,
}

impl Rehearsed {
    pub(super) fn of(service: ServiceName, target: Result<InstanceName, String>) -> Self {
        let (to, refused) = match target {
            Ok(to) => (Some(to), None),
            Err(why) => (None, Some(why)),
        };
        Self { service, dry_run: true, to, refused }
    }
}

/// A request, and the index to wait above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// Its id.
    pub id: String,
    /// The revision of its last change.
    pub index: Revision,
    /// The request.
    pub request: RequestRecord,
}

/// A request about to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) record: RequestRecord,
    pub(super) txn: Txn,
}

/// Who asks, as the agent knows them: `root@db1`. What the client says of itself stands before
/// it, if that is somebody else: `anna (root@db1)`.
pub(super) fn asker(by: &str, user: &str, host: &HostName) -> Result<String, Trouble> {
    if by.len() > BY_MAX || by.chars().any(char::is_control) {
        return Err(Trouble::bad(format!("`by` is at most {BY_MAX} printable bytes")));
    }
    let known = format!("{user}@{host}");
    Ok(if by.is_empty() || by == user || by == known { known } else { format!("{by} ({known})") })
}

/// Fixed for what stands, else one that sorts by time and is never drawn twice.
pub(super) fn id(ask: &Ask, now: Wall) -> String {
    match ask {
        Ask::Pause => "pause".to_owned(),
        Ask::Freeze => "freeze".to_owned(),
        Ask::Drain { instance } => format!("drain-{instance}"),
        Ask::Adopt { .. }
        | Ask::Release
        | Ask::Switchover { .. }
        | Ask::Failover { .. }
        | Ask::Before(_)
        | Ask::After { .. } => {
            let random = getrandom::u32().unwrap_or_default();
            format!("{:013}-{random:08x}", now.0.max(0))
        }
    }
}

/// Plans the writing of a request.
pub(super) fn place(
    catalog: &Catalog,
    service: &ServiceName,
    asking: &Asking,
    by: &str,
    id: String,
    now: Wall,
) -> Result<Draft, Trouble> {
    let Some(view) = catalog.service(service) else {
        return Err(Trouble::new(404, format!("no service {service}")));
    };
    if asking.comment.len() > COMMENT_MAX {
        return Err(Trouble::bad(format!("the comment is longer than {COMMENT_MAX} bytes")));
    }
    if let Some(instance) = named(&asking.ask)
        && !view.instances.contains_key(instance)
    {
        let known: Vec<&str> = view.instances.keys().map(InstanceName::as_str).collect();
        return Err(Trouble::new(
            404,
            format!("{service} has no instance {instance}; known are: {}", known.join(", ")),
        ));
    }
    of_the_mover(view, service, &asking.ask)?;
    refuse_second(view, service, &asking.ask, now)?;
    let request = key::request(service, &id);
    let mut when = vec![Compare::Modified(
        request.clone(),
        view.requests.get(&id).map_or(0, |at| at.revision),
    )];
    let term = term(view, service, &asking.ask)?;
    if !standing(&asking.ask) {
        let master = view.master.as_ref().map_or(0, |at| at.revision);
        when.push(Compare::Modified(key::master(service), master));
    }
    let record = RequestRecord {
        format: FORMAT,
        ask: asking.ask.clone(),
        term,
        by: by.to_owned(),
        comment: asking.comment.clone(),
        at: now,
        until: until(asking, now)?,
        stand: if standing(&asking.ask) { Stand::Standing } else { Stand::Asked },
        hooks: std::collections::BTreeMap::new(),
        warning: None,
        unknown: serde_json::Map::new(),
    };
    let mut then = vec![Op::Put { key: request, value: record.encode(), lease: 0 }];
    for (old, at) in outdated(view, &id, now) {
        let key = key::request(service, old);
        when.push(Compare::Modified(key.clone(), at.revision));
        then.push(Op::Delete(key));
    }
    Ok(Draft { id, record, txn: Txn { when, then, otherwise: vec![] } })
}

/// Plans the removal of a request: the end of a pause, freeze or drain, or one that nobody acted
/// on.
pub(super) fn remove(catalog: &Catalog, service: &ServiceName, id: &str) -> Result<Txn, Trouble> {
    let found = catalog.service(service).and_then(|view| view.requests.get(id));
    let Some(at) = found else {
        let what = match id.strip_prefix("drain-") {
            Some(instance) => format!("{instance} of {service} is not drained"),
            None if id == "pause" => format!("{service} is not paused"),
            None if id == "freeze" => format!("{service} is not frozen"),
            None => format!("{service} has no request {id}"),
        };
        return Err(Trouble::new(404, what));
    };
    match &at.record.stand {
        Stand::Agreed { to } | Stand::Prepared { to } => Err(Trouble::new(
            409,
            format!("request {id} is under way already: {service} moves to {to}"),
        )),
        Stand::Asked | Stand::Standing | Stand::Done(_) | Stand::Refused(_) => {
            let key = key::request(service, id);
            let when = vec![Compare::Modified(key.clone(), at.revision)];
            Ok(Txn { when, then: vec![Op::Delete(key)], otherwise: vec![] })
        }
    }
}

/// The open request that asks the very same, where to ask twice is to ask once: a tool may call
/// its hooks from several hosts, or again.
pub(super) fn same<'a>(
    catalog: &'a Catalog,
    service: &ServiceName,
    ask: &Ask,
    now: Wall,
) -> Option<(&'a str, Revision)> {
    let twice = matches!(ask, Ask::Before(_) | Ask::After { .. });
    let view = catalog.service(service).filter(|_| twice)?;
    let mut found = view.requests.iter().filter(|(_, at)| open(at, now) && at.record.ask == *ask);
    found.next().map(|(id, at)| (id.as_str(), at.revision))
}

/// Sengu's own moves and another tool's exclude each other.
fn of_the_mover(view: &ServiceView, service: &ServiceName, ask: &Ask) -> Result<(), Trouble> {
    let Some(policy) = view.instances.values().next().map(|at| &at.record.policy) else {
        return Ok(());
    };
    match (ask, policy.failover) {
        (Ask::Before(_) | Ask::After { .. }, Failover::Auto | Failover::Manual) => {
            Err(Trouble::new(
                409,
                format!(
                    "sengu itself moves {service}: set `failover = \"external\"` on its hosts to \
                     leave that to another tool"
                ),
            ))
        }
        (Ask::Switchover { .. } | Ask::Failover { .. }, Failover::External) => Err(Trouble::new(
            409,
            format!("another tool moves {service} (`failover = \"external\"`): ask that one"),
        )),
        (Ask::Freeze, Failover::External) => Err(Trouble::new(
            409,
            format!(
                "another tool moves {service} (`failover = \"external\"`): it is never fenced by a \
                 clock; `sengu pause {service}` holds its name where it is"
            ),
        )),
        _ => Ok(()),
    }
}

fn named(ask: &Ask) -> Option<&InstanceName> {
    match ask {
        Ask::Before(announced) => announced.to.as_ref(),
        Ask::After { to, .. } => Some(to),
        Ask::Adopt { master } => master.as_ref(),
        Ask::Switchover { to } | Ask::Failover { to, .. } => to.as_ref(),
        Ask::Drain { instance } => Some(instance),
        Ask::Release | Ask::Pause | Ask::Freeze => None,
    }
}

fn standing(ask: &Ask) -> bool {
    match ask {
        Ask::Pause | Ask::Drain { .. } => true,
        // It stands once the holder has agreed.
        Ask::Freeze
        | Ask::Adopt { .. }
        | Ask::Release
        | Ask::Switchover { .. }
        | Ask::Failover { .. }
        | Ask::Before(_)
        | Ask::After { .. } => false,
    }
}

pub(super) fn word(ask: &Ask) -> &'static str {
    match ask {
        Ask::Adopt { .. } => "adopt",
        Ask::Release => "release",
        Ask::Switchover { .. } => "switchover",
        Ask::Failover { .. } => "failover",
        Ask::Pause => "pause",
        Ask::Freeze => "freeze",
        Ask::Drain { .. } => "drain",
        Ask::Before(_) => "before",
        Ask::After { .. } => "after",
    }
}

/// A request that nobody acted on in time is void; one under way is not, however late.
fn open(at: &At<RequestRecord>, now: Wall) -> bool {
    match at.record.stand {
        // An announced move counts until its deadline, whatever became of its fence.
        Stand::Agreed { .. } if matches!(at.record.ask, Ask::Before(_)) => now < at.record.until,
        Stand::Asked | Stand::Standing => now < at.record.until,
        Stand::Agreed { .. } | Stand::Prepared { .. } => true,
        Stand::Done(_) | Stand::Refused(_) => false,
    }
}

fn refuse_second(
    view: &ServiceView,
    service: &ServiceName,
    ask: &Ask,
    now: Wall,
) -> Result<(), Trouble> {
    let same_kind = |other: &Ask| match (ask, other) {
        (Ask::Drain { instance }, Ask::Drain { instance: other }) => instance == other,
        _ => discriminant(ask) == discriminant(other),
    };
    let open = || view.requests.iter().filter(|(_, at)| open(at, now));
    if let Some((id, at)) = open().find(|(_, at)| same_kind(&at.record.ask)) {
        let record = &at.record;
        return Err(Trouble::new(
            409,
            match &record.ask {
                Ask::Pause => format!("{service} is paused already, by {}", record.by),
                Ask::Freeze => format!("{service} is frozen already, by {}", record.by),
                Ask::Drain { instance } => {
                    format!("{instance} of {service} is drained already, by {}", record.by)
                }
                Ask::Before(_) => {
                    format!("another move of {service} is announced already, by {}", record.by)
                }
                Ask::After { to, .. } => format!(
                    "{} said that {to} is the new master of {service}, which is looked at",
                    record.by
                ),
                Ask::Adopt { .. }
                | Ask::Release
                | Ask::Switchover { .. }
                | Ask::Failover { .. } => {
                    format!("a {} of {service} is open already: {id}, by {}", word(ask), record.by)
                }
            },
        ));
    }
    if open().count() >= OPEN_MAX {
        return Err(Trouble::new(
            409,
            format!("{service} has {OPEN_MAX} open requests, which is the most; end some first"),
        ));
    }
    Ok(())
}

/// The term that a request is for: it is void in any other.
fn term(view: &ServiceView, service: &ServiceName, ask: &Ask) -> Result<Option<Term>, Trouble> {
    let held = view.managed_record();
    match (ask, held) {
        (Ask::Pause | Ask::Drain { .. }, _) | (Ask::Adopt { .. }, None) => Ok(None),
        (Ask::Adopt { .. }, Some(record)) => {
            Err(Trouble::new(409, format!("{service} is adopted already, in term {}", record.term)))
        }
        (Ask::Freeze, Some(_)) => Ok(None),
        // What is told of a move that was made is judged by what is so, not by when it is told.
        (Ask::After { .. }, Some(_)) => Ok(None),
        (
            Ask::Release | Ask::Switchover { .. } | Ask::Failover { .. } | Ask::Before(_),
            Some(record),
        ) => Ok(Some(record.term)),
        (
            Ask::Release
            | Ask::Switchover { .. }
            | Ask::Failover { .. }
            | Ask::Freeze
            | Ask::Before(_)
            | Ask::After { .. },
            None,
        ) => Err(Trouble::new(
            409,
            format!("{service} is not adopted: run `sengu adopt {service}` first"),
        )),
    }
}

fn until(asking: &Asking, now: Wall) -> Result<Wall, Trouble> {
    let default = match asking.ask {
        Ask::Pause => WITHIN_PAUSE,
        Ask::Freeze => WITHIN_FREEZE,
        Ask::Drain { .. } => WITHIN_MAX,
        Ask::Adopt { .. }
        | Ask::Release
        | Ask::Switchover { .. }
        | Ask::Failover { .. }
        | Ask::Before(_)
        | Ask::After { .. } => WITHIN_MOVE,
    };
    let within = asking.within_secs.unwrap_or(default);
    let most = match asking.ask {
        Ask::Freeze => LONGEST.as_secs(),
        _ => WITHIN_MAX,
    };
    if within == 0 || within > most {
        return Err(Trouble::bad(format!("`within_secs` is from 1 to {most}")));
    }
    let millis = i64::try_from(within * 1000).unwrap_or(i64::MAX);
    Ok(Wall(now.0.saturating_add(millis)))
}

/// Ended requests beyond the newest few, oldest first.
fn outdated<'a>(
    view: &'a ServiceView,
    keep: &str,
    now: Wall,
) -> Vec<(&'a str, &'a At<RequestRecord>)> {
    let mut ended: Vec<_> = view
        .requests
        .iter()
        .filter(|(id, at)| id.as_str() != keep && !open(at, now))
        .map(|(id, at)| (id.as_str(), at.as_ref()))
        .collect();
    ended.sort_by_key(|(id, at)| (at.record.at, *id));
    let surplus = ended.len().saturating_sub(ENDED_KEPT);
    ended.truncate(surplus.min(REMOVED_MAX));
    ended
}
