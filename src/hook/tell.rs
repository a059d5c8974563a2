//! The phases that every host tells itself: `detected`, `fenced`, `role-changed`.
//!
//! They change nothing about a move, so they are read from the catalog like every other output:
//! a master that is found lost, an own instance that was fenced, an own instance that became
//! master or replica. Each is told at most once on a host: what is about to be told is written
//! down in the agent's folder first, and is not told again after a restart. What was never seen
//! before is only remembered: a first start tells nothing. A host that did not look while
//! something came and went does not tell it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sengu_core::catalog::{At, Catalog, ServiceView};
use sengu_core::event::{HookRun, Party};
use sengu_core::kv::{Compare, Op, Txn};
use sengu_core::name::{HostName, InstanceName, ServiceName, Term};
use sengu_core::observation::Role;
use sengu_core::record::{
    Cause, HookOutcome, HookStand, MasterRecord, MasterState, Phase, Proof, Record, TOLD_KEPT,
    ToldEntry, ToldRecord, key,
};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use tokio::sync::mpsc;

use super::Hooks;
use crate::store::Store;
use crate::view::View;

/// The format that this version writes.
const FORMAT: u32 = 1;
/// Hooks that wait at most; more are dropped with a warning.
const WAITING: usize = 64;
/// So many of the last bytes that such hooks print are kept.
const OUTPUT: usize = 512;
/// Writing down how they ended: so often, for so long each time, with this wait between.
const RECORD_TRIES: u32 = 5;
const RECORD_WITHIN: Duration = Duration::from_secs(5);
const RECORD_AGAIN: Duration = Duration::from_millis(200);
/// The view is looked at so often even without a bell.
const LOOK: Duration = Duration::from_secs(5);

/// Tells this host's hooks of what the catalog shows.
pub struct Teller {
    hooks: ArcSwap<Hooks>,
    view: Arc<View>,
    store: Arc<dyn Store>,
    host: HostName,
    file: PathBuf,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What was told, over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Memory {
    format: u32,
    services: BTreeMap<ServiceName, Told>,
}

/// What was told of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Told {
    /// The last term whose master was found lost.
    detected: Term,
    /// The last term in which an own instance was fenced.
    fenced: Term,
    /// The last role of each own instance.
    roles: BTreeMap<InstanceName, String>,
}

/// A hook to run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Telling {
    run: HookRun,
    more: Vec<(&'static str, String)>,
}

impl Teller {
    /// Tells nothing before [`Teller::run`]. `state_dir` holds what was told, the store how it
    /// ended.
    #[must_use]
    pub fn new(
        hooks: Arc<Hooks>,
        (view, store): (Arc<View>, Arc<dyn Store>),
        host: HostName,
        state_dir: &Path,
    ) -> Self {
        let file = state_dir.join("hooks.json");
        Self { hooks: ArcSwap::new(hooks), view, store, host, file }
    }

    /// Other hooks, after a reload.
    pub fn replace(&self, hooks: Arc<Hooks>) {
        self.hooks.store(hooks);
    }

    /// Looks and tells until `shutdown`. Needs a tokio runtime.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        let (send, receive) = mpsc::channel(WAITING);
        tokio::pin!(shutdown);
        tokio::select! {
            () = self.look(&send) => {}
            () = self.tell(receive) => {}
            () = &mut shutdown => {}
        }
    }

    async fn look(&self, send: &mpsc::Sender<Telling>) {
        let mut bell = self.view.bell();
        let mut memory = read(&self.file);
        loop {
            bell.mark_unchanged();
            if let Some(catalog) = self.view.catalog() {
                let (next, tellings) = news(&catalog, &self.host, &memory);
                if next != memory {
                    memory = next;
                    self.remember(&memory).await;
                }
                for telling in tellings {
                    let phase = telling.run.phase.as_str();
                    if !self
                        .hooks
                        .load()
                        .phases_for(&telling.run.service)
                        .contains(&telling.run.phase)
                    {
                        continue;
                    }
                    if send.try_send(telling).is_err() {
                        tracing::warn!(phase, "too many hooks wait: this one is not run");
                    }
                }
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn tell(&self, mut receive: mpsc::Receiver<Telling>) {
        while let Some(Telling { run, more }) = receive.recv().await {
            let hooks = self.hooks.load_full();
            let (at, began) = (crate::clock::now().wall, tokio::time::Instant::now());
            let outcome = shortened(hooks.run_with(&run, &more).await);
            let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let stand = HookStand::Ended { at, ms, outcome };
            let of = |name: &str| more.iter().find(|(known, _)| *known == name);
            let instance = of("SENGU_INSTANCE").and_then(|(_, name)| InstanceName::new(name).ok());
            let role = of("SENGU_ROLE").map(|(_, role)| match role.as_str() {
                "master" => Role::Master,
                _ => Role::Replica,
            });
            let (phase, term) = (run.phase, run.term);
            let entry = ToldEntry { phase, term, instance: instance.zip(role), stand };
            self.record(&run.service, &entry).await;
        }
    }

    /// Puts how hooks ended into this host's record, which nobody else writes.
    async fn record(&self, service: &ServiceName, entry: &ToldEntry) {
        let key = key::told(service, &self.host);
        let mut trouble = "it changes all the time".to_owned();
        for _ in 0..RECORD_TRIES {
            let catalog = self.view.catalog();
            let known = catalog.as_ref().and_then(|catalog| catalog.service(service));
            let known = known.and_then(|view| view.told.get(self.host.as_str()));
            let fresh = || ToldRecord { format: 1, told: Vec::new(), unknown: Map::new() };
            let mut record = known.map_or_else(fresh, |at| at.record.clone());
            record.told.push(entry.clone());
            let extra = record.told.len().saturating_sub(TOLD_KEPT);
            record.told.drain(..extra);
            let revision = known.map_or(0, |at| at.revision);
            let txn = Txn {
                when: vec![Compare::Modified(key.clone(), revision)],
                then: vec![Op::Put { key: key.clone(), value: record.encode(), lease: 0 }],
                otherwise: Vec::new(),
            };
            match tokio::time::timeout(RECORD_WITHIN, self.store.txn(txn)).await {
                Ok(Ok(reply)) if reply.succeeded => return,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => trouble = error.to_string(),
                Err(_) => trouble = "the store did not answer in time".to_owned(),
            }
            tokio::time::sleep(RECORD_AGAIN).await;
        }
        let phase = entry.phase.as_str();
        tracing::warn!(%service, phase, "how hooks ended is not in the history: {trouble}");
    }

    async fn remember(&self, memory: &Memory) {
        let (file, memory) = (self.file.clone(), memory.clone());
        let written = tokio::task::spawn_blocking(move || write(&file, &memory)).await;
        if let Ok(Err(error)) = written {
            let file = self.file.display();
            tracing::warn!(%file, "what hooks were told is not kept: {error}");
        }
    }
}

/// Keeps only the end of what was printed.
fn shortened(mut outcome: HookOutcome) -> HookOutcome {
    if let HookOutcome::Done { output, .. } | HookOutcome::Abort { output, .. } = &mut outcome {
        let mut over = output.len().saturating_sub(OUTPUT);
        while !output.is_char_boundary(over) {
            over += 1;
        }
        output.drain(..over);
    }
    outcome
}

fn read(file: &Path) -> Memory {
    let read = fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let fresh = || Memory { format: FORMAT, ..Memory::default() };
    read.filter(|memory: &Memory| memory.format == FORMAT).unwrap_or_else(fresh)
}

/// Whole or not at all.
fn write(file: &Path, memory: &Memory) -> std::io::Result<()> {
    let new = file.with_extension("new");
    let text = serde_json::to_vec(memory).expect("plain data");
    let mut opened = fs::File::create(&new)?;
    std::io::Write::write_all(&mut opened, &text)?;
    opened.sync_all()?;
    fs::rename(&new, file)
}

/// What a catalog shows that was not told, and what then is.
fn news(catalog: &Catalog, host: &HostName, memory: &Memory) -> (Memory, Vec<Telling>) {
    let (mut next, mut tellings) = (memory.clone(), Vec::new());
    for (name, view) in catalog.services() {
        let Some(at) = &view.master else { continue };
        let own: Vec<&InstanceName> = view
            .instances
            .iter()
            .filter(|(_, at)| at.record.host == *host)
            .map(|(instance, _)| instance)
            .collect();
        if own.is_empty() {
            continue;
        }
        let first = !next.services.contains_key(name);
        let told = next.services.entry(name.clone()).or_default();
        let look = Look { name, view, at, host };
        let found = [look.detected(told), look.fenced(told)].into_iter().flatten();
        let found: Vec<Telling> = found.chain(look.roles(told, &own)).collect();
        if !first {
            tellings.extend(found);
        }
    }
    (next, tellings)
}

/// One service at one moment.
struct Look<'a> {
    name: &'a ServiceName,
    view: &'a ServiceView,
    at: &'a At<MasterRecord>,
    host: &'a HostName,
}

impl Look<'_> {
    /// A master is lost: the record says so, or a newer term says that it was.
    fn detected(&self, told: &mut Told) -> Option<Telling> {
        let record = &self.at.record;
        let now = match &record.state {
            MasterState::Vacant { cause, .. } => moved(cause).then(|| word(cause)),
            MasterState::Lapsed => Some("lapsed".to_owned()),
            MasterState::FenceFailed { .. } => Some("fence-failed".to_owned()),
            MasterState::Withdrawn { cause, .. } => moved(cause).then(|| word(cause)),
            MasterState::Taken { .. }
            | MasterState::Serving
            | MasterState::Giving { .. }
            | MasterState::Unmanaged => None,
        };
        if let Some(cause) = now {
            return (record.term > told.detected).then(|| {
                told.detected = record.term;
                self.telling(Phase::Detected, record.term, Some(self.holder()), None, cause)
            });
        }
        let history = &self.view.history.get(&record.term)?.record;
        let lost = Term(record.term.0.checked_sub(1)?);
        if !moved(&history.cause) || lost <= told.detected {
            return None;
        }
        told.detected = lost;
        let old = history.from.as_ref().and_then(|name| self.party(name));
        Some(self.telling(Phase::Detected, lost, old, None, word(&history.cause)))
    }

    /// The holder is here and was fenced.
    fn fenced(&self, told: &mut Told) -> Option<Telling> {
        let record = &self.at.record;
        let cause = match &record.state {
            MasterState::Vacant { proof: Proof::Fenced, cause, .. } => word(cause),
            MasterState::Giving { .. } => "switchover".to_owned(),
            MasterState::Vacant { .. }
            | MasterState::Taken { .. }
            | MasterState::Serving
            | MasterState::Lapsed
            | MasterState::FenceFailed { .. }
            | MasterState::Withdrawn { .. }
            | MasterState::Unmanaged => return None,
        };
        if record.holder.host != *self.host || record.term <= told.fenced {
            return None;
        }
        told.fenced = record.term;
        Some(self.telling(Phase::Fenced, record.term, Some(self.holder()), None, cause))
    }

    /// Own instances whose role is another than the one told last.
    fn roles(&self, told: &mut Told, own: &[&InstanceName]) -> Vec<Telling> {
        let record = &self.at.record;
        let serving = record.state == MasterState::Serving;
        let replicas: Vec<&InstanceName> = self.view.replicas().map(|(name, _)| name).collect();
        let mut tellings = Vec::new();
        for &instance in own {
            let role = if serving && record.holder.instance == *instance {
                "master"
            } else if serving && replicas.contains(&instance) {
                "replica"
            } else {
                // On its way, or nobody knows.
                continue;
            };
            let before = told.roles.insert(instance.clone(), role.to_owned());
            if before.is_none_or(|before| before == role) {
                continue;
            }
            let history = self.view.history.get(&record.term).map(|at| &at.record);
            let from = history.and_then(|history| history.from.as_ref());
            let old = from.and_then(|name| self.party(name));
            let cause = history.map_or_else(String::new, |history| word(&history.cause));
            let mut telling =
                self.telling(Phase::RoleChanged, record.term, old, Some(self.holder()), cause);
            telling.more =
                vec![("SENGU_INSTANCE", instance.to_string()), ("SENGU_ROLE", role.to_owned())];
            tellings.push(telling);
        }
        told.roles.retain(|name, _| own.contains(&name));
        tellings
    }

    fn telling(
        &self,
        phase: Phase,
        term: Term,
        old: Option<Party>,
        new: Option<Party>,
        cause: String,
    ) -> Telling {
        let run = HookRun { service: self.name.clone(), phase, term, old, new, cause };
        Telling { run, more: Vec::new() }
    }

    fn holder(&self) -> Party {
        let holder = &self.at.record.holder;
        Party {
            instance: holder.instance.clone(),
            host: holder.host.clone(),
            address: holder.address,
        }
    }

    fn party(&self, name: &InstanceName) -> Option<Party> {
        let record = &self.view.instances.get(name)?.record;
        Some(Party { instance: name.clone(), host: record.host.clone(), address: record.address })
    }
}

/// Was a master lost, and not given up by somebody?
fn moved(cause: &Cause) -> bool {
    match cause {
        Cause::ProcessExited
        | Cause::Hung
        | Cause::Lapsed
        | Cause::NotWritable
        | Cause::HandOverFailed
        | Cause::PromotionFailed(_) => true,
        Cause::Adopted
        | Cause::Switchover
        | Cause::Requested
        | Cause::SwitchoverUndone(_)
        | Cause::Reopened
        | Cause::Announced
        | Cause::Told
        | Cause::Seen
        | Cause::Unanswered
        | Cause::TwoWritable => false,
    }
}

/// A cause in a word, as the history spells it.
fn word(cause: &Cause) -> String {
    match serde_json::to_value(cause) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(serde_json::Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::stage::Stage;

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("a name")
    }

    /// `db1` is master, `db2` follows; each instance is on the host of its name.
    fn stage() -> Stage {
        let mut stage = Stage::default();
        stage.instance("foo", "db1", "10.0.0.1:6379", None);
        stage.instance("foo", "db2", "10.0.0.2:6379", Some("10.0.0.1:6379"));
        stage.serving(sengu_core::time::Time(1), "foo", "db1", "10.0.0.1:6379", false);
        stage
    }

    /// What a host is told by one catalog after another, from its second look on.
    fn course(host_name: &str, catalogs: &[&Catalog]) -> Vec<String> {
        let (mut memory, mut told) = (Memory::default(), Vec::new());
        for catalog in catalogs {
            let (next, tellings) = news(catalog, &host(host_name), &memory);
            memory = next;
            told.extend(tellings.into_iter().map(|telling| {
                let run = telling.run;
                let party = |party: Option<Party>| {
                    party.map_or_else(|| "-".to_owned(), |party| party.instance.to_string())
                };
                let more: Vec<String> = telling.more.into_iter().map(|(_, value)| value).collect();
                let (phase, term) = (run.phase.as_str(), run.term);
                let (old, new) = (party(run.old), party(run.new));
                format!("{phase} {term} {old}>{new} {} {}", run.cause, more.join(" "))
                    .trim_end()
                    .to_owned()
            }));
        }
        told
    }

    #[test]
    fn a_lost_master_is_told_once_on_every_host_of_the_service() {
        let mut stage = stage();
        let before = stage.catalog.clone();
        stage.vacant(sengu_core::time::Time(2), "foo", "db1", "10.0.0.1:6379");
        let lost = stage.catalog.clone();
        for name in ["db1", "db2"] {
            let told = course(name, &[&before, &lost, &lost]);
            assert_eq!(told, ["detected 1 db1>- process-exited"], "{name}");
        }
        assert!(course("db3", &[&before, &lost]).is_empty(), "nothing of it is there");
        assert!(course("db1", &[&lost, &lost]).is_empty(), "a first look tells nothing");
    }

    #[test]
    fn who_changes_its_role_is_told_so() {
        let mut stage = stage();
        let before = stage.catalog.clone();
        stage.instance("foo", "db2", "10.0.0.2:6379", None);
        stage.serving(sengu_core::time::Time(3), "foo", "db2", "10.0.0.2:6379", false);
        let taken = stage.catalog.clone();
        stage.instance("foo", "db1", "10.0.0.1:6379", Some("10.0.0.2:6379"));
        let after = stage.catalog.clone();
        assert_eq!(course("db2", &[&before, &taken, &after]), ["role-changed 1 ->db2  db2 master"]);
        assert_eq!(
            course("db1", &[&before, &taken, &after, &after]),
            ["role-changed 1 ->db2  db1 replica"]
        );
    }

    #[test]
    fn what_was_told_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hooks.json");
        assert_eq!(read(&file).format, FORMAT);
        let (memory, _) = news(&stage().catalog, &host("db1"), &read(&file));
        write(&file, &memory).expect("written");
        assert_eq!(read(&file), memory);
        assert_eq!(memory.services.len(), 1);
        fs::write(&file, "{").expect("damaged");
        assert_eq!(read(&file), Memory { format: FORMAT, ..Memory::default() });
    }
}
