//! What the store committed, and what it means: the simulator's own reading of every write.
//!
//! Each record is read once, here, in whichever format an agent wrote it. What a newer agent wrote
//! is looked after, too: one that does not know it must keep it.

use std::rc::Rc;
use std::time::Duration;

use sengu_core::kv::{Op, Revision, Txn, TxnReply};
use sengu_core::lease::lease_of;
use sengu_core::name::{BootId, InstanceName, Term};
use sengu_core::observation::Verdict;
use sengu_core::position::Position;
use sengu_core::record::key;
use sengu_core::record::{
    Ask, BeatRecord, FinalRecord, HistoryRecord, InstanceRecord, MasterRecord, MasterState,
    RequestRecord, Stand,
};

use super::agent::service_name;
use super::coverage::word as cause_of;
use super::describe::describe;
use super::fact::{Fact, Id, SERVICES};
use super::schedule::SECOND;
use super::version::read;
use super::world::{World, note, say};

/// How many snapshots are kept for a restore.
const SNAPSHOTS: usize = 120;

/// Where the master records stand.
const MASTERS: [&str; 2] = ["master/foo", "master/bar"];

/// A term that a committed beat keeps: it still stood in the record when it was committed.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Whose.
    pub(crate) instance: Id,
    /// The term.
    pub(crate) term: Term,
    /// The lease that its record promised then; none: nothing was promised.
    pub(crate) lease: Option<Duration>,
}

impl World {
    /// The store does a txn; everyone's watch will hear of it.
    ///
    /// # Errors
    /// Why the store refuses it: it is beyond a bound.
    pub(crate) fn commit(&mut self, txn: &Txn, by: &str) -> Result<(TxnReply, Vec<Kept>), String> {
        let finals: Vec<bool> = txn.then.iter().map(|op| self.final_stands(op)).collect();
        let before = self.store.kv.revision();
        let lost = self.loses_fields(txn);
        let reply = self.store.kv.apply(txn).map_err(|refused| refused.to_string())?.reply;
        let mut kept = Vec::new();
        if reply.revision > before {
            if self.trace.on && !beat_only(txn) {
                say!(self, "store: {by} {} (revision {})", describe(txn, &reply), reply.revision);
            }
            if let Some(key) = lost.into_iter().next().filter(|_| reply.succeeded) {
                self.tell(Fact::Rewritten { key });
            }
            let ops = if reply.succeeded { &txn.then } else { &txn.otherwise };
            for (index, op) in ops.iter().enumerate() {
                let again = reply.succeeded && finals[index];
                self.committed(op, again, reply.revision, &mut kept);
            }
            self.tell_what_all_read(txn);
            self.keep_snapshot();
            self.spread();
        } else if self.trace.on && !reply.succeeded {
            say!(self, "store: {by} failed its conditions: {}", describe(txn, &reply));
        }
        Ok((reply, kept))
    }

    /// Would this write over a final of the same life? Not if a MariaDB copy completes its own:
    /// that said so much received, not all of it applied, and now all is.
    fn final_stands(&self, op: &Op) -> bool {
        let Op::Put { key, value, .. } = op else { return false };
        let Some(old) = self.store.kv.get(key).filter(|_| key.starts_with("finals/")) else {
            return false;
        };
        let [Ok(old), Ok(new)] = [&old.value, value].map(|value| read::<FinalRecord>(value)) else {
            return true;
        };
        let completes = matches!(new.applied, Position::Mariadb(_))
            && !old.applied.has(&old.received)
            && new.applied.has(&old.received);
        old.boot_id == new.boot_id && !completes
    }

    /// Tells the invariants what a write means.
    fn committed(&mut self, op: &Op, again: bool, revision: Revision, kept: &mut Vec<Kept>) {
        let (key, value) = match op {
            Op::Put { key, value, .. } => (key, Some(value)),
            Op::Delete(key) => (key, None),
            Op::DeletePrefix(_) | Op::Get(_) | Op::GetPrefix(_) => return,
        };
        let Some((kind, rest)) = key.split_once('/') else { return };
        let service = SERVICES.iter().position(|name| rest.split('/').next() == Some(name));
        match (kind, service, value) {
            ("master", Some(service), value) => {
                let record = value.map(|value| {
                    Rc::new(read::<MasterRecord>(value).expect("agents write readable records"))
                });
                if let Some(record) = &record {
                    self.store.masters.insert((service, revision), Rc::clone(record));
                }
                self.adopted(service, record.as_deref());
                self.note_master(service, record.as_deref());
                self.tell(Fact::Master { service, record });
                self.part_from_forgotten(service);
            }
            ("finals", Some(service), Some(value)) => {
                let parts: Vec<&str> = rest.split('/').collect();
                let record = read::<FinalRecord>(value).expect("agents write readable records");
                let name = InstanceName::new(parts[2]).expect("agents write good names");
                let term = Term(parts[1].parse().expect("agents write terms as numbers"));
                if let Some(instance) = Id::named(service, &name) {
                    let life = life_of(&record.boot_id);
                    self.tell(Fact::Final { instance, term, life, again });
                }
            }
            // Its agent has told all others of it again.
            ("instances", Some(service), Some(_)) => {
                let name = rest.split('/').nth(1).and_then(|name| InstanceName::new(name).ok());
                if let Some(id) = name.and_then(|name| Id::named(service, &name))
                    && !self.agents.iter().any(|agent| agent.forgotten.contains(&id))
                {
                    self.parted.remove(&id);
                }
            }
            ("history", Some(service), Some(value)) => {
                let record = read::<HistoryRecord>(value).expect("agents write readable records");
                let term = rest.rsplit('/').next().and_then(|term| term.parse().ok());
                let term = Term(term.expect("agents write terms as numbers"));
                let nothing = record.loss.starts_with("nothing");
                self.tell(Fact::Said { service, term, nothing });
                if record.asked_by.is_some() {
                    self.tell(Fact::Asked { service, term });
                }
            }
            ("beats", _, Some(value)) => {
                let beat = read::<BeatRecord>(value).expect("agents write readable records");
                self.beaten(rest, &beat, kept);
                self.store.beats.insert(revision, Rc::new(beat));
            }
            _ => {}
        }
    }

    /// What a person takes out of the configuration is no copy of the service any more, once a
    /// master serves without it. While nobody serves it is: its agent only forgot it.
    pub(crate) fn part_from_forgotten(&mut self, service: usize) {
        let serves = |record: Rc<MasterRecord>| record.state == MasterState::Serving;
        if self.master(service).is_some_and(serves) {
            let forgotten = self.agents.iter().flat_map(|agent| &agent.forgotten);
            self.parted.extend(forgotten.filter(|id| id.service == service));
        }
    }

    /// A line for a story's reader when the record says something else than before.
    fn note_master(&mut self, service: usize, record: Option<&MasterRecord>) {
        let Some(record) = record.filter(|_| self.trace.on) else { return };
        let before = self.last_master.get(&service).map(|old| (old.term, old.state.word()));
        if before == Some((record.term, record.state.word())) {
            return;
        }
        let (term, holder) = (record.term, &record.holder.instance);
        let cause = match &record.state {
            MasterState::Taken { cause } | MasterState::Vacant { cause, .. } => {
                format!(" ({})", cause_of(cause))
            }
            MasterState::Giving { to, .. } => format!(" to {to}"),
            _ => String::new(),
        };
        note!(self, "> term {term} of {holder}: {}{cause}", record.state.word());
    }

    /// Which of the terms that a beat names still stand with that host?
    fn beaten(&mut self, host: &str, beat: &BeatRecord, kept: &mut Vec<Kept>) {
        for (name, term) in &beat.keeps {
            let Some(service) = SERVICES.iter().position(|service| *service == name.as_str())
            else {
                continue;
            };
            let Some(record) = self.master(service) else { continue };
            let stands = record.term == *term
                && record.holder.host.as_str() == host
                && matches!(
                    record.state,
                    MasterState::Taken { .. } | MasterState::Serving | MasterState::Giving { .. }
                );
            if stands && let Some(instance) = Id::named(service, &record.holder.instance) {
                kept.push(Kept { instance, term: *term, lease: lease_of(&record.promise) });
            }
            self.tell(Fact::Beat { service, term: *term });
        }
    }

    /// `master/S` as it stands in the store.
    pub(crate) fn master(&self, service: usize) -> Option<Rc<MasterRecord>> {
        let entry = self.store.kv.get(MASTERS[service])?;
        self.store.master_at(service, entry.modified)
    }

    /// Adoption opens nothing: the term of an instance that takes writes already is the new one.
    fn adopted(&mut self, service: usize, record: Option<&MasterRecord>) {
        let Some(record) = record.filter(|record| record.state == MasterState::Serving) else {
            return;
        };
        let Some(id) = Id::named(service, &record.holder.instance) else { return };
        let adopts = self
            .last_master
            .get(&service)
            .is_none_or(|record| matches!(record.state, MasterState::Unmanaged));
        if adopts {
            if self.open_file_was_told(service) {
                self.unaware.remove(&service);
            } else {
                self.unaware.insert(service);
            }
        }
        let database = self.databases.iter_mut().find(|database| database.id == id);
        if let Some(database) = database
            && adopts
            && database.writable()
        {
            database.opened = record.term;
            database.outside = false;
            let fact = Fact::Writable { instance: id, term: record.term, writable: true };
            self.tell(fact);
        }
    }

    /// Did a record say that a file starts its instance open before the adoption was asked for?
    /// Who adopts has seen the request, and all that was written before it.
    fn open_file_was_told(&self, service: usize) -> bool {
        let requests = format!("requests/{}/", service_name(service));
        let asked = self.store.kv.prefixed(&requests).filter(|entry| {
            read(&entry.value).is_ok_and(|it: RequestRecord| {
                matches!((it.ask, it.stand), (Ask::Adopt { .. }, Stand::Done(_)))
            })
        });
        let asked = asked.map(|entry| entry.created).max();
        self.of_service(service).into_iter().any(|db| {
            let id = self.databases[db].id;
            let key = key::instance(&service_name(service), &id.name());
            let entry = self.store.kv.get(&key).filter(|entry| Some(entry.modified) < asked);
            let record = entry.and_then(|entry| read::<InstanceRecord>(&entry.value).ok());
            record.is_some_and(|record| matches!(record.starts_fenced, Verdict::Bad(_)))
        })
    }

    /// For a restore, if this world will have one.
    fn keep_snapshot(&mut self) {
        let last = self.store.snapshots.back().map_or(0, |(at, _)| *at);
        if self.restores && self.now >= last + SECOND {
            let kv = self.store.kv.clone();
            self.store.snapshots.push_back((self.now, kv));
            if self.store.snapshots.len() > SNAPSHOTS {
                self.store.snapshots.pop_front();
            }
        }
    }
}

/// The life that a boot id tells of, as this world spells them.
pub(crate) fn life_of(boot_id: &BootId) -> u64 {
    boot_id.0.rsplit(':').next().and_then(|life| life.parse().ok()).unwrap_or(0)
}

/// A beat that says nothing new, which would fill the trace.
fn beat_only(txn: &Txn) -> bool {
    let puts = txn.then.iter().filter_map(|op| match op {
        Op::Put { key, .. } | Op::Delete(key) | Op::DeletePrefix(key) => Some(key),
        Op::Get(_) | Op::GetPrefix(_) => None,
    });
    puts.clone().all(|key| key.starts_with("beats/")) && puts.count() > 0
}
