//! The read-only picture of all records at one revision.
//!
//! Every output (DNS, HTTP, files, pages) is a function of one catalog and of the clock at the
//! moment of answering: [`Catalog::master`] compares both [`Catalog::valid_until`] and the age
//! of the holder's last beat with the `now` it is given. A change costs what changed: maps are
//! persistent and each service has its own view. `Unknown` (nothing was ever read) and known but
//! empty are different types: [`Picture`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet};

use crate::consul::registry::Registry;
use crate::consul::touch::Tombs;
use crate::kv::{Change, Key, KeyValue, Revision};
use crate::name::{InstanceName, ServiceName, Term};
use crate::observation::Role;
use crate::record::{
    Ask, BeatRecord, Cause, FinalRecord, Health, HistoryRecord, InstanceRecord, MasterRecord,
    MasterState, Promise, Record, RequestRecord, Stand, ToldRecord,
};
use crate::sabotage::sabotaged;
use crate::sync::SyncRecord;
use crate::time::Time;

/// What outputs are given.
#[derive(Debug, Clone, Default)]
pub enum Picture {
    /// Nothing was read since this agent started.
    #[default]
    Unknown,
    /// This is what the store holds.
    Known(Arc<Catalog>),
}

/// All records at one revision.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The store's revision.
    pub revision: Revision,
    /// Until when it may name masters: the send of the last linearizable answer, plus the lease.
    pub valid_until: Time,
    /// Services whose master this agent does not vouch for: it has not looked at it in this life,
    /// or the store takes no writes about it, or it saw it end and the store may not know.
    pub unvouched: OrdSet<ServiceName>,
    entries: OrdMap<Key, Arc<KeyValue>>,
    registry: Registry,
    tombs: Tombs,
    services: OrdMap<ServiceName, Arc<ServiceView>>,
    beats: OrdMap<String, BeatView>,
    loaded: Revision,
    traces: BTreeMap<String, Trace>,
}

/// When records of one kind (the part of their key before the first `/`) last changed.
#[derive(Debug, Clone, Copy, Default)]
struct Trace {
    changed: Revision,
    removed: Revision,
}

/// One record with the revision it was written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The store's revision of its last change.
    pub revision: Revision,
    /// The record.
    pub record: T,
}

/// A host's last beat, and when this agent received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeatView {
    /// The beat.
    pub beat: At<BeatRecord>,
    /// On this agent's clock.
    pub received: Time,
}

/// Everything about one service that sengu manages. Records stand behind pointers: a view is
/// copied with each change of any of them, and an empty place in a map costs what a full one does.
#[derive(Debug, Clone, Default)]
pub struct ServiceView {
    /// `master/S`.
    pub master: Option<At<MasterRecord>>,
    /// When this agent received that record.
    pub master_received: Time,
    /// `instances/S/*`.
    pub instances: BTreeMap<InstanceName, Arc<At<InstanceRecord>>>,
    /// `finals/S/TERM/*`.
    pub finals: BTreeMap<(Term, InstanceName), Arc<At<FinalRecord>>>,
    /// `sync/S`.
    pub sync: Option<Arc<At<SyncRecord>>>,
    /// `requests/S/*`.
    pub requests: BTreeMap<String, Arc<At<RequestRecord>>>,
    /// `history/S/*`.
    pub history: BTreeMap<Term, Arc<At<HistoryRecord>>>,
    /// `told/S/HOST`.
    pub told: BTreeMap<String, Arc<At<ToldRecord>>>,
    /// Records that this version could not read, with the parser's words.
    pub unreadable: BTreeMap<Key, String>,
    /// When a beat naming the current term last came, on this agent's clock.
    pub beat_received: Time,
    /// When everything was read anew and the holder's host had beaten meanwhile, on this agent's
    /// clock: what its beats said, nobody here knows.
    pub beat_missed: Time,
    /// When its master record, an instance or a request was last written or removed.
    pub changed: Revision,
}

/// A person asked that sengu move nothing by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    /// What the service is then, in one word.
    pub state: &'static str,
    /// The command that ends it.
    pub end: &'static str,
}

/// What an output may say of a service's master.
#[derive(Debug, Clone, PartialEq)]
pub enum Named<'a> {
    /// This one, and no other.
    Master(&'a InstanceName, &'a InstanceRecord),
    /// None now: the reason, in words.
    Withdrawn(&'static str),
}

impl Catalog {
    /// A whole store's content.
    #[must_use]
    pub fn load(&self, now: Time, revision: Revision, entries: Vec<Arc<KeyValue>>) -> Self {
        let mut catalog =
            Self { revision, valid_until: self.valid_until, loaded: revision, ..Self::default() };
        for entry in entries {
            catalog.put(now, entry);
        }
        // What was received before is not received again: a beat's age counts from its first sight.
        for (host, view) in &self.beats {
            if catalog.beats.get(host).is_some_and(|new| new.beat == view.beat) {
                catalog.beats.insert(host.clone(), view.clone());
            }
        }
        for (name, old) in &self.services {
            let Some(new) = catalog.services.get(name) else { continue };
            let mut view = ServiceView::clone(new);
            if new.master == old.master {
                view.master_received = old.master_received;
            }
            view.beat_received = catalog.beat_came(name, new);
            if new.term() == old.term() {
                view.beat_received = view.beat_received.max(old.beat_received);
                let beat = |of: &Self| Some(of.beats.get(new.holder_host()?)?.beat.revision);
                let missed = beat(&catalog) != beat(self);
                view.beat_missed = if missed { now } else { old.beat_missed };
            }
            catalog.services.insert(name.clone(), Arc::new(view));
        }
        catalog
    }

    /// When the last beat of a service's holder came, if it keeps the service's term.
    fn beat_came(&self, name: &ServiceName, view: &ServiceView) -> Time {
        let Some(record) = view.master.as_ref().map(|at| &at.record) else { return Time::ZERO };
        self.beats
            .get(record.holder.host.as_str())
            .filter(|known| known.beat.record.keeps.get(name) == Some(&record.term))
            .map_or(Time::ZERO, |known| known.received)
    }

    /// The picture after some changes.
    pub fn apply(&mut self, now: Time, revision: Revision, changes: &[Change]) {
        for change in changes {
            self.trace(change);
            match &change.now {
                Some(entry) => self.put(now, Arc::clone(entry)),
                None => self.remove(&change.key, change.revision),
            }
        }
        self.revision = revision;
    }

    /// The raw record at a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<KeyValue>> {
        self.entries.get(key)
    }

    /// All raw records whose key starts so, in order.
    pub fn range<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<KeyValue>> + 'a {
        self.entries
            .range(Key::from(prefix)..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry)
    }

    /// The revision of the last whole load: what happened before counts as having happened then.
    #[must_use]
    pub fn loaded(&self) -> Revision {
        self.loaded
    }

    /// A revision not older than the last removal of a KV entry under a prefix.
    #[must_use]
    pub fn removed_under(&self, prefix: &str) -> Revision {
        self.tombs.under(prefix).max(self.loaded)
    }

    /// What clients registered.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The services that have an instance or a master record.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &Arc<ServiceView>)> {
        self.services.iter()
    }

    /// One of them.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceView>> {
        self.services.get(name)
    }

    /// A host other than this whose beat, not older than the lease, says that it sees the master of
    /// this term taking writes; and until when that counts.
    #[must_use]
    pub fn vetoed_by(
        &self,
        now: Time,
        service: &ServiceName,
        term: Term,
        but: &str,
        lease: Duration,
    ) -> Option<(&str, Time)> {
        let said = self.beats.iter().filter(|(host, view)| {
            host.as_str() != but && view.beat.record.vetoes.get(service) == Some(&term)
        });
        said.map(|(host, view)| (host.as_str(), view.received + lease))
            .find(|(_, until)| now < *until)
    }

    /// A host's last beat.
    #[must_use]
    pub fn beat(&self, host: &str) -> Option<&BeatView> {
        self.beats.get(host)
    }

    /// Who is master of a service, as an output may say it at `now`.
    #[must_use]
    pub fn master(&self, service: &ServiceName, now: Time) -> Named<'_> {
        let Some(view) = self.services.get(service) else {
            return Named::Withdrawn("no such service");
        };
        // What the records say comes first: it tells most.
        match view.master(now) {
            Named::Master(..) if self.unvouched.contains(service) => {
                Named::Withdrawn("this agent has no fresh knowledge of the master")
            }
            Named::Master(..) if now >= self.valid_until && !sabotaged!(ValidUntilNotCompared) => {
                Named::Withdrawn("the store has not answered for a lease")
            }
            named @ (Named::Master(..) | Named::Withdrawn(_)) => named,
        }
    }

    /// A revision not older than the last change or removal of any record of a kind. Never goes
    /// back: what happened before the last load counts as having happened at that load.
    #[must_use]
    pub fn changed(&self, kind: &str) -> Revision {
        self.traces.get(kind).map_or(self.loaded, |trace| trace.changed.max(self.loaded))
    }

    /// The same for removals alone.
    #[must_use]
    pub fn removed(&self, kind: &str) -> Revision {
        self.traces.get(kind).map_or(self.loaded, |trace| trace.removed.max(self.loaded))
    }

    fn trace(&mut self, change: &Change) {
        let kind = change.key.split('/').next().unwrap_or_default();
        if !self.traces.contains_key(kind) {
            self.traces.insert(kind.to_owned(), Trace::default());
        }
        if let Some(trace) = self.traces.get_mut(kind) {
            trace.changed = change.revision;
            if change.now.is_none() {
                trace.removed = change.revision;
            }
        }
    }

    fn put(&mut self, now: Time, entry: Arc<KeyValue>) {
        let key = Arc::clone(&entry.key);
        if let Some((kind, rest)) = key.split_once('/') {
            if kind == "beats" {
                self.put_beat(now, rest, &entry);
            } else if let Some(service) = service_of(kind, rest) {
                let before = self.host_of(&service, kind, rest);
                self.change_service(&service, |view| view.put(now, kind, rest, &entry));
                let after = self.host_of(&service, kind, rest);
                self.registry.moved(before.as_deref(), after.as_deref(), entry.modified);
                if kind == "master" {
                    self.match_beats(&service);
                }
            } else {
                if kind == "kv" {
                    self.tombs.rise(&key);
                }
                self.registry.put(kind, &entry);
            }
        }
        self.entries.insert(key, entry);
    }

    /// The host of the instance that a record is about.
    fn host_of(&self, service: &ServiceName, kind: &str, rest: &str) -> Option<String> {
        let instance = rest.split('/').nth(1).filter(|_| kind == "instances")?;
        let view = self.services.get(service)?;
        let at = view.instances.get(&InstanceName::new(instance).ok()?)?;
        Some(at.record.host.to_string())
    }

    fn remove(&mut self, key: &str, revision: Revision) {
        self.entries.remove(key);
        let Some((kind, rest)) = key.split_once('/') else { return };
        if kind == "beats" {
            self.beats.remove(rest);
        } else if let Some(service) = service_of(kind, rest) {
            let before = self.host_of(&service, kind, rest);
            self.registry.moved(before.as_deref(), None, revision);
            self.change_service(&service, |view| view.remove(kind, rest, revision));
            if self.services.get(&service).is_some_and(|view| view.is_empty()) {
                self.services.remove(&service);
            }
        } else {
            if kind == "kv" {
                self.tombs.bury(key.into(), revision);
            }
            self.registry.remove(kind, key, revision);
        }
    }

    fn change_service(&mut self, name: &ServiceName, change: impl FnOnce(&mut ServiceView)) {
        if let Some(view) = self.services.get_mut(name) {
            change(Arc::make_mut(view));
            return;
        }
        let mut view = ServiceView::default();
        change(&mut view);
        self.services.insert(name.clone(), Arc::new(view));
    }

    fn put_beat(&mut self, now: Time, host: &str, entry: &KeyValue) {
        let Ok(record) = BeatRecord::decode(&entry.value) else { return };
        for (service, term) in record.keeps.clone() {
            if let Some(view) = self.services.get(&service)
                && view.kept_by(host, term)
            {
                self.change_service(&service, |view| view.beat_received = now);
            }
        }
        let beat = At { revision: entry.modified, record };
        self.beats.insert(host.to_owned(), BeatView { beat, received: now });
    }

    /// A record may come after the beat that names it, in one txn or by a load's order.
    fn match_beats(&mut self, service: &ServiceName) {
        let Some(view) = self.services.get(service) else { return };
        let Some(master) = &view.master else { return };
        let host = master.record.holder.host.as_str();
        let Some(beat) = self.beats.get(host) else { return };
        if beat.beat.record.keeps.get(service) == Some(&master.record.term) {
            let received = beat.received;
            self.change_service(service, |view| view.beat_received = received);
        }
    }
}

/// Which service a record belongs to.
fn service_of(kind: &str, rest: &str) -> Option<ServiceName> {
    match kind {
        "master" | "instances" | "finals" | "requests" | "history" | "sync" | "told" => {
            ServiceName::new(rest.split('/').next()?).ok()
        }
        _ => None,
    }
}

impl ServiceView {
    fn put(&mut self, now: Time, kind: &str, rest: &str, entry: &KeyValue) {
        self.touch(kind, entry.modified);
        self.unreadable.remove(&entry.key);
        if let Err(error) = self.try_put(now, kind, rest, entry) {
            self.unreadable.insert(Arc::clone(&entry.key), error);
        }
    }

    fn try_put(
        &mut self,
        now: Time,
        kind: &str,
        rest: &str,
        entry: &KeyValue,
    ) -> Result<(), String> {
        fn at<T: Record>(entry: &KeyValue) -> Result<At<T>, String> {
            Ok(At { revision: entry.modified, record: T::decode(&entry.value)? })
        }
        let parts: Vec<&str> = rest.split('/').collect();
        match (kind, parts.as_slice()) {
            ("master", [_]) => {
                let new: At<MasterRecord> = at(entry)?;
                let same_term =
                    self.master.as_ref().map(|old| old.record.term) == Some(new.record.term);
                if !same_term {
                    self.beat_received = Time::ZERO;
                }
                self.master = Some(new);
                self.master_received = now;
            }
            ("instances", [_, instance]) => {
                self.instances.insert(name(instance)?, Arc::new(at(entry)?));
            }
            ("finals", [_, term, instance]) => {
                self.finals.insert((number(term)?, name(instance)?), Arc::new(at(entry)?));
            }
            ("sync", [_]) => self.sync = Some(Arc::new(at(entry)?)),
            ("requests", [_, id]) => {
                self.requests.insert((*id).to_owned(), Arc::new(at(entry)?));
            }
            ("history", [_, term]) => {
                self.history.insert(number(term)?, Arc::new(at(entry)?));
            }
            ("told", [_, host]) => {
                self.told.insert((*host).to_owned(), Arc::new(at(entry)?));
            }
            _ => return Err("no such kind of record".to_owned()),
        }
        Ok(())
    }

    /// Notes a change of what outputs are made of.
    fn touch(&mut self, kind: &str, revision: Revision) {
        if matches!(kind, "master" | "instances" | "requests") {
            self.changed = self.changed.max(revision);
        }
    }

    fn remove(&mut self, kind: &str, rest: &str, revision: Revision) {
        self.touch(kind, revision);
        self.unreadable.remove(format!("{kind}/{rest}").as_str());
        let parts: Vec<&str> = rest.split('/').collect();
        match (kind, parts.as_slice()) {
            ("master", [_]) => self.master = None,
            ("instances", [_, instance]) => {
                self.instances.retain(|name, _| name.as_str() != *instance);
            }
            ("finals", [_, term, instance]) => self
                .finals
                .retain(|(t, name), _| t.0.to_string() != **term || name.as_str() != *instance),
            ("sync", [_]) => self.sync = None,
            ("requests", [_, id]) => {
                self.requests.remove(*id);
            }
            ("told", [_, host]) => {
                self.told.remove(*host);
            }
            ("history", [_, term]) => {
                if let Ok(term) = number(term) {
                    self.history.remove(&term);
                }
            }
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.master.is_none()
            && self.instances.is_empty()
            && self.finals.is_empty()
            && self.sync.is_none()
            && self.requests.is_empty()
            && self.history.is_empty()
            && self.told.is_empty()
            && self.unreadable.is_empty()
    }

    fn term(&self) -> Option<Term> {
        self.master.as_ref().map(|at| at.record.term)
    }

    fn holder_host(&self) -> Option<&str> {
        self.master.as_ref().map(|at| at.record.holder.host.as_str())
    }

    fn kept_by(&self, host: &str, term: Term) -> bool {
        self.master
            .as_ref()
            .is_some_and(|at| at.record.term == term && at.record.holder.host.as_str() == host)
    }

    /// Does sengu hold this service?
    #[must_use]
    pub fn managed(&self) -> bool {
        self.master.as_ref().is_some_and(|at| at.record.state != MasterState::Unmanaged)
    }

    /// The record, if sengu holds the service.
    #[must_use]
    pub fn managed_record(&self) -> Option<&MasterRecord> {
        self.master
            .as_ref()
            .map(|at| &at.record)
            .filter(|record| record.state != MasterState::Unmanaged)
    }

    /// Until when the current term counts as kept, on this agent's clock; `None`: for ever.
    #[must_use]
    pub fn kept_until(&self) -> Option<Time> {
        let record = &self.master.as_ref()?.record;
        match record.promise {
            Promise::None => {
                let lease = record.external.as_ref()?.lease_ms?;
                Some(self.beat_received + Duration::from_millis(lease))
            }
            Promise::Fence { lease_ms } => {
                // A freeze lets nobody be named for longer.
                let usual = record.frozen.as_ref().map_or(lease_ms, |frozen| frozen.lease_ms);
                Some(self.beat_received + Duration::from_millis(usual))
            }
        }
    }

    /// Is the record of this kind at this place one that this version could not read?
    fn is_unreadable(&self, kind: &str, place: &str) -> bool {
        self.unreadable.keys().any(|key| {
            let rest = key.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| place.is_empty() || rest.split('/').nth(1) == Some(place))
        })
    }

    /// What stands in `master/S` now cannot be read: what was read before says nothing any more.
    #[must_use]
    pub fn master_unreadable(&self) -> bool {
        self.is_unreadable("master", "")
    }

    fn master(&self, now: Time) -> Named<'_> {
        if self.master_unreadable() {
            return Named::Withdrawn("the master's record cannot be read");
        }
        let Some(record) = self.managed_record() else {
            return Named::Withdrawn("the service is not adopted");
        };
        match &record.state {
            MasterState::Serving => {}
            MasterState::Taken { .. } if sabotaged!(NamedWhenTaken) => {}
            MasterState::Taken { .. } => return Named::Withdrawn("a new master is being promoted"),
            MasterState::Giving { .. } => {
                return Named::Withdrawn("mastership is being handed over");
            }
            MasterState::Vacant { .. } => return Named::Withdrawn("the master has failed"),
            MasterState::Lapsed => return Named::Withdrawn("the master's lease ran out"),
            MasterState::FenceFailed { .. } => {
                return Named::Withdrawn("the master could not be fenced");
            }
            MasterState::Withdrawn { cause, .. } => return Named::Withdrawn(withdrawn(cause)),
            MasterState::Unmanaged => return Named::Withdrawn("the service is not adopted"),
        }
        let late = self.kept_until().is_some_and(|until| now >= until);
        if late && !sabotaged!(BeatAgeNotCompared) {
            return Named::Withdrawn("no beat of the master's host came for the lease");
        }
        if self.is_unreadable("instances", record.holder.instance.as_str()) {
            return Named::Withdrawn("the record of the master's instance cannot be read");
        }
        match self.instances.get_key_value(&record.holder.instance) {
            Some((name, at)) => match &at.record.health {
                Health::Up | Health::Troubled(_)
                    if record.external.is_some() && at.record.role == Some(Role::Replica) =>
                {
                    Named::Withdrawn("the master follows another instance now")
                }
                Health::Up | Health::Troubled(_)
                    if at.record.writable || sabotaged!(NamedWhenTaken) =>
                {
                    Named::Master(name, &at.record)
                }
                Health::Up | Health::Troubled(_) => Named::Withdrawn("the master takes no writes"),
                Health::Silent(_) => Named::Withdrawn("the master does not answer"),
                Health::Exited => Named::Withdrawn("the master's process has exited"),
            },
            None => Named::Withdrawn("the master's instance is not known"),
        }
    }

    /// The copies that may stand under the `replica` names: up, in step with the master that is
    /// named or was last, whole, not set apart.
    pub fn replicas(&self) -> impl Iterator<Item = (&InstanceName, &InstanceRecord)> {
        self.instances.iter().map(|(name, at)| (name, &at.record)).filter(|(name, record)| {
            record.role == Some(Role::Replica)
                && record.health == Health::Up
                && record.link_up
                && !record.syncing
                && record.trouble.is_none()
                && record.quarantine.is_none()
                && !self.drained(name)
                && self.managed_record().is_none_or(|master| {
                    master.holder.instance != **name && record.source == Some(master.holder.address)
                })
        })
    }

    /// Does a copy stand in the same zone as this instance, where that has one?
    #[must_use]
    pub fn is_near(&self, instance: &InstanceName, copy: &InstanceRecord) -> bool {
        let zone = self.instances.get(instance).and_then(|at| at.record.zone.as_ref());
        zone.is_some() && zone == copy.zone.as_ref()
    }

    /// Did a person drain this instance?
    #[must_use]
    pub fn drained(&self, instance: &InstanceName) -> bool {
        self.standing().any(|ask| *ask == Ask::Drain { instance: instance.clone() })
    }

    /// Did a person ask that sengu move nothing by itself now?
    #[must_use]
    pub fn held_back(&self) -> Option<HeldBack> {
        self.standing().find_map(|ask| match ask {
            Ask::Pause => Some(HeldBack { state: "paused", end: "resume" }),
            Ask::Freeze => Some(HeldBack { state: "frozen", end: "thaw" }),
            Ask::Adopt { .. }
            | Ask::Release
            | Ask::Switchover { .. }
            | Ask::Failover { .. }
            | Ask::Drain { .. }
            | Ask::Before(_)
            | Ask::After { .. } => None,
        })
    }

    /// Requests in force.
    pub fn standing(&self) -> impl Iterator<Item = &Ask> {
        self.requests
            .values()
            .filter(|at| at.record.stand == Stand::Standing)
            .map(|at| &at.record.ask)
    }
}

/// Why nobody is named of a service that another tool moves.
fn withdrawn(cause: &Cause) -> &'static str {
    match cause {
        Cause::Announced => "another tool announced that it moves the master",
        Cause::TwoWritable => "two instances take writes",
        Cause::ProcessExited => "the master's process has exited",
        Cause::Lapsed => "the agent of the master is silent, and another instance takes writes",
        Cause::Adopted
        | Cause::Hung
        | Cause::NotWritable
        | Cause::Switchover
        | Cause::Requested
        | Cause::HandOverFailed
        | Cause::SwitchoverUndone(_)
        | Cause::PromotionFailed(_)
        | Cause::Reopened
        | Cause::Told
        | Cause::Seen
        | Cause::Unanswered
        | Cause::GivenUp => "the master takes no writes",
    }
}

fn name(text: &str) -> Result<InstanceName, String> {
    InstanceName::new(text).map_err(|error| error.to_string())
}

fn number(text: &str) -> Result<Term, String> {
    text.parse().map(Term).map_err(|_| format!("{text:?} is no term"))
}
