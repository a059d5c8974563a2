//! What the loop sees and decides, put into the journal and the counters.
//!
//! It stands beside the loop: told each event before the step, each action after it, and the
//! catalog before it is published. So a name appears here exactly when outputs may show it. It
//! changes nothing and keeps little: what is under way, and who was named last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sengu_core::catalog::{Catalog, Named};
use sengu_core::event::{Action, ActionId, ControlOutcome, Event, Outcome};
use sengu_core::kv::Change;
use sengu_core::name::{InstanceId, InstanceName, ServiceName, Term};
use sengu_core::record::{
    HistoryRecord, HookOutcome, InstanceRecord, MasterRecord, Record, RequestRecord,
};
use sengu_core::time::Now;
use serde_json::{Map, Value, json};

use super::{Journal, Kind};
use crate::metrics;

/// Commands and hooks that are remembered until they end.
const UNDER_WAY: usize = 1024;

/// Beside the loop.
#[derive(Debug)]
pub struct Witness {
    journal: Arc<Journal>,
    named: BTreeMap<ServiceName, Option<(InstanceName, SocketAddr)>>,
    under_way: BTreeMap<ActionId, UnderWay>,
}

#[derive(Debug)]
enum UnderWay {
    Command { instance: InstanceId, term: Term, word: String, since: Instant },
    Hook { service: ServiceName, phase: &'static str, term: Term, since: Instant },
}

fn data(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Witness {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(journal: Arc<Journal>) -> Self {
        Self { journal, named: BTreeMap::new(), under_way: BTreeMap::new() }
    }

    fn keep(&self, now: Now, kind: Kind, service: Option<&ServiceName>, text: String, more: Value) {
        metrics::get().events.get_or_create(&[("kind", kind.as_str())]).inc();
        self.journal.keep(now.wall, kind, service, text, data(more));
    }

    /// An event, before the step that takes it; the catalog is the one before it, too.
    pub fn sees(&mut self, now: Now, event: &Event, before: &Catalog) {
        match event {
            Event::Loaded { revision, entries, .. } => {
                let text = format!("read {} records at revision {revision}", entries.len());
                self.keep(now, Kind::Loaded, None, text, json!({ "revision": revision }));
            }
            Event::Changed { changes, .. } => {
                for change in changes {
                    self.changed(now, change, before);
                }
            }
            Event::Exited { instance, boot_id } => {
                let text = format!("the process of {} ended", instance.instance);
                let more = json!({ "instance": instance.instance, "process": boot_id });
                self.keep(now, Kind::Exited, Some(&instance.service), text, more);
            }
            Event::Done { id, outcome } => self.ended(now, *id, outcome),
            Event::Stalled { late } => {
                metrics::get().stalls.inc();
                let text = format!("the agent was stopped or starved for {} ms", late.as_millis());
                self.keep(now, Kind::Doubt, None, text, json!({}));
            }
            Event::ClockJumped => {
                metrics::get().clock_jumps.inc();
                self.keep(now, Kind::Doubt, None, "the wall clock jumped".to_owned(), json!({}));
            }
            Event::FenceFired { instance, term, .. } => {
                let text = format!("the fence of {} fired in term {term}", instance.instance);
                let more = json!({ "instance": instance.instance, "term": term, "what": "fence" });
                self.keep(now, Kind::Command, Some(&instance.service), text, more);
            }
            Event::Configured(_) | Event::Fresh { .. } | Event::Observed { .. } | Event::Tick => {}
        }
    }

    /// The actions of a step.
    pub fn decides(&mut self, now: Now, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Control { id, instance, term, command, .. } => {
                    let word = format!("{command:?}");
                    let word = word.split(|c: char| !c.is_alphanumeric()).next();
                    let word = word.unwrap_or_default().to_lowercase();
                    let text = format!("{}: {word} (term {term})", instance.instance);
                    let more = json!({ "instance": instance.instance, "term": term, "what": word });
                    self.keep(now, Kind::Command, Some(&instance.service), text, more);
                    let (instance, term) = (instance.clone(), *term);
                    let since = Instant::now();
                    self.begin(*id, UnderWay::Command { instance, term, word, since });
                }
                Action::Hook { id, run } => {
                    let phase = run.phase.as_str();
                    let text = format!("{phase} hooks of term {} begin", run.term);
                    let more = json!({ "phase": phase, "term": run.term, "what": "begin" });
                    self.keep(now, Kind::Hook, Some(&run.service), text, more);
                    let (service, term) = (run.service.clone(), run.term);
                    let since = Instant::now();
                    self.begin(*id, UnderWay::Hook { service, phase, term, since });
                }
                Action::Say(saying) => {
                    let more = json!({ "alarm": saying.alarm });
                    self.keep(now, Kind::Said, saying.service.as_ref(), saying.text.clone(), more);
                }
                Action::Keep { .. }
                | Action::Txn { .. }
                | Action::Look { .. }
                | Action::Arm(_)
                | Action::Observe(_)
                | Action::Watch { .. }
                | Action::Wake(_)
                | Action::Remember(_)
                | Action::Exit(_) => {}
            }
        }
    }

    fn begin(&mut self, id: ActionId, what: UnderWay) {
        while self.under_way.len() >= UNDER_WAY {
            self.under_way.pop_first();
        }
        self.under_way.insert(id, what);
    }

    /// The catalog that outputs are about to be given.
    pub fn shows(&mut self, now: Now, catalog: &Catalog) {
        let mut gone: Vec<ServiceName> = Vec::new();
        for (name, last) in &self.named {
            if last.is_some() && catalog.service(name).is_none() {
                gone.push(name.clone());
            }
        }
        for name in gone {
            let text = "no name points to a master: no such service".to_owned();
            self.keep(now, Kind::Named, Some(&name), text, json!({ "instance": null }));
            self.named.remove(&name);
        }
        for (name, view) in catalog.services() {
            let (named, why) = match catalog.master(name, now.time) {
                Named::Master(instance, record) => (Some((instance, record.address)), ""),
                Named::Withdrawn(why) => (None, why),
            };
            let last = self.named.get(name);
            let same = match (last, &named) {
                (Some(Some((last, at))), Some((now, address))) => last == *now && at == address,
                (Some(None) | None, None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            let term = view.master.as_ref().map(|at| at.record.term);
            let (text, more) = match &named {
                Some((instance, address)) => (
                    format!("the name points to {instance} at {address}"),
                    json!({ "instance": instance, "address": address, "term": term }),
                ),
                None => (
                    format!("no name points to a master: {why}"),
                    json!({ "instance": null, "term": term, "why": why }),
                ),
            };
            let named = named.map(|(instance, address)| (instance.clone(), address));
            self.keep(now, Kind::Named, Some(name), text, more);
            self.named.insert(name.clone(), named);
        }
    }

    fn ended(&mut self, now: Now, id: ActionId, outcome: &Outcome) {
        match (self.under_way.remove(&id), outcome) {
            (
                Some(UnderWay::Command { instance, term, word, since }),
                Outcome::Control(outcome),
            ) => {
                let how = match outcome {
                    ControlOutcome::Done { .. } => "done".to_owned(),
                    ControlOutcome::Exited { .. } => "its process ended".to_owned(),
                    ControlOutcome::Failed { error, .. } => format!("failed: {error}"),
                };
                let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                let text = format!("{}: {word} {how} ({ms} ms)", instance.instance);
                let good = matches!(outcome, ControlOutcome::Done { .. });
                metrics::get().commanded(&word, good, since.elapsed());
                let more = json!({
                    "instance": instance.instance, "term": term, "what": word, "done": good, "ms": ms,
                });
                self.keep(now, Kind::Command, Some(&instance.service), text, more);
            }
            (Some(UnderWay::Hook { service, phase, term, since }), Outcome::Hook(outcome)) => {
                let (word, how) = match outcome {
                    HookOutcome::Done { warnings, .. } if warnings.is_empty() => {
                        ("done", String::new())
                    }
                    HookOutcome::Done { warnings, .. } => {
                        ("warned", format!(": {}", warnings.join("; ")))
                    }
                    HookOutcome::Abort { error, .. } => ("aborted", format!(": {error}")),
                    HookOutcome::Unknown => ("unknown", String::new()),
                };
                metrics::get().hooked(phase, word, since.elapsed());
                let text = format!("{phase} hooks of term {term} {word}{how}");
                let more = json!({ "phase": phase, "term": term, "what": word });
                self.keep(now, Kind::Hook, Some(&service), text, more);
            }
            _ => {}
        }
    }

    fn changed(&mut self, now: Now, change: &Change, before: &Catalog) {
        let Some((kind, rest)) = change.key.split_once('/') else { return };
        let service = rest.split('/').next().and_then(|name| ServiceName::new(name).ok());
        match (kind, service) {
            ("master", Some(service)) => self.master(now, change, &service),
            ("instances", Some(service)) => self.instance(now, change, &service, before),
            ("requests", Some(service)) => self.request(now, change, &service),
            ("history", Some(service)) => self.history(now, change, &service, before),
            ("kv" | "nodes" | "services" | "checks" | "sessions", _) => {
                let what = if change.now.is_some() { "written" } else { "removed" };
                let key: String = change.key.chars().take(512).collect();
                let text = format!("{key} was {what}");
                let more = json!({ "key": key, "index": change.revision, "what": what });
                self.keep(now, Kind::Catalog, None, text, more);
            }
            _ => {}
        }
    }

    fn master(&self, now: Now, change: &Change, service: &ServiceName) {
        let record = change.now.as_ref().map(|entry| MasterRecord::decode(&entry.value));
        let (text, more) = match record {
            None => ("the master record was removed".to_owned(), json!({})),
            Some(Err(error)) => (format!("the master record cannot be read: {error}"), json!({})),
            Some(Ok(record)) => {
                let (state, holder) = (record.state.word(), &record.holder);
                let text = format!("term {}: {state}, held by {}", record.term, holder.instance);
                let more = json!({
                    "term": record.term, "state": state, "holder": holder.instance,
                    "address": holder.address, "index": change.revision,
                });
                (text, more)
            }
        };
        self.keep(now, Kind::Master, Some(service), text, more);
    }

    fn instance(&self, now: Now, change: &Change, service: &ServiceName, before: &Catalog) {
        let name = change.key.rsplit('/').next().unwrap_or_default();
        let Some(entry) = &change.now else {
            let text = format!("{name} is not known any more");
            self.keep(now, Kind::Instance, Some(service), text, json!({ "instance": name }));
            return;
        };
        let Ok(record) = InstanceRecord::decode(&entry.value) else { return };
        let view = before.service(service);
        let old = view.and_then(|view| {
            view.instances.iter().find(|(old, _)| old.as_str() == name).map(|(_, at)| &at.record)
        });
        let shown = |record: &InstanceRecord| {
            let role =
                record.role.map_or_else(|| "role unknown".to_owned(), |role| role.to_string());
            let health = serde_json::to_value(&record.health).unwrap_or_default();
            let health = match health {
                Value::String(word) => word,
                Value::Object(map) => map
                    .iter()
                    .map(|(word, why)| format!("{word} ({})", why.as_str().unwrap_or_default()))
                    .collect(),
                _ => String::new(),
            };
            let writes = if record.writable { "takes writes" } else { "takes no writes" };
            let link = match (record.role, record.syncing, record.link_up) {
                (Some(sengu_core::observation::Role::Replica), true, _) => ", being copied to",
                (Some(sengu_core::observation::Role::Replica), false, true) => ", in step",
                (Some(sengu_core::observation::Role::Replica), false, false) => ", no link",
                _ => "",
            };
            format!("{role}, {writes}, {health}{link}")
        };
        let words = shown(&record);
        if old.is_some_and(|old| shown(old) == words && old.lag == record.lag) {
            return;
        }
        let more = json!({
            "instance": name, "role": record.role, "writable": record.writable,
            "health": record.health, "link_up": record.link_up, "syncing": record.syncing,
            "lag": record.lag, "address": record.address, "index": change.revision,
        });
        self.keep(now, Kind::Instance, Some(service), format!("{name}: {words}"), more);
    }

    fn request(&self, now: Now, change: &Change, service: &ServiceName) {
        let id = change.key.rsplit('/').next().unwrap_or_default();
        let Some(entry) = &change.now else {
            let text = format!("request {id} ended");
            self.keep(now, Kind::Request, Some(service), text, json!({ "id": id, "stand": null }));
            return;
        };
        let Ok(record) = RequestRecord::decode(&entry.value) else { return };
        let word = |value: &Value| match value {
            Value::String(word) => word.clone(),
            Value::Object(map) => map.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        };
        let ask = word(&serde_json::to_value(&record.ask).unwrap_or_default());
        let stand = word(&serde_json::to_value(&record.stand).unwrap_or_default());
        let text = format!("{ask} by {}: {stand}", record.asker());
        let more = json!({
            "id": id, "ask": record.ask, "stand": record.stand, "by": record.by,
            "comment": record.comment, "index": change.revision,
        });
        self.keep(now, Kind::Request, Some(service), text, more);
    }

    fn history(&self, now: Now, change: &Change, service: &ServiceName, before: &Catalog) {
        let Some(entry) = &change.now else { return };
        let Ok(record) = HistoryRecord::decode(&entry.value) else { return };
        let term = change.key.rsplit('/').next().and_then(|term| term.parse().ok()).map(Term);
        let Some(term) = term else { return };
        let old = before.service(service).and_then(|view| view.history.get(&term));
        let steps = old.map_or(0, |old| old.record.steps.len());
        let served = |record: &HistoryRecord| record.steps.iter().any(|s| s.name == "serving");
        if served(&record) && !old.is_some_and(|old| served(&old.record)) {
            metrics::get().moved(service, &record);
        }
        for step in record.steps.iter().skip(steps) {
            let from = record.from.as_ref().map_or("nobody", InstanceName::as_str);
            let text = format!("term {term}, {from} → {}: {}", record.to, step.name);
            let more = json!({
                "term": term, "step": step.name, "at": step.at, "from": record.from,
                "to": record.to, "cause": record.cause, "loss": record.loss,
            });
            self.keep(now, Kind::History, Some(service), text, more);
        }
    }
}
