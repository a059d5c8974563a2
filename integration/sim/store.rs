//! The store as agents meet it: linearizable, and now and then silent.
//!
//! A request may be lost, be held over an election and done after its sender gave up, or be done
//! with its answer lost. Each agent has a watch with a progress of its own: in order, late, and
//! sometimes lost. An answer never overtakes the changes that it made.

use std::rc::Rc;
use std::sync::Arc;

use sengu_core::event::{ActionId, Event, Outcome, TxnOutcome};
use sengu_core::kv::{Change, KeyValue, Kv, Op, Revision, Txn, TxnReply};
use sengu_core::name::{BootId, InstanceName, Term};
use sengu_core::record::{
    BeatRecord, FinalRecord, HistoryRecord, MasterRecord, MasterState, Record,
};
use sengu_core::time::Time;

use super::agent::Waiting;
use super::describe::describe;
use super::fact::{Fact, Id, SERVICES};
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{Happening, Life, World, say};

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Its data.
    pub(crate) kv: Kv,
    /// Answers nobody until then.
    pub(crate) away_until: Micros,
    /// Is slow until then.
    pub(crate) slow_until: Micros,
}

/// What an agent sent.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// A txn, with the action to answer.
    Txn(ActionId, Rc<Txn>),
    /// Everything, to begin (or begin again) a watch.
    Load,
    /// Nothing but a linearizable answer, which proves the view fresh.
    Read,
}

/// What the store answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// To a txn.
    Txn(ActionId, TxnReply, Vec<Kept>),
    /// To a load.
    Load(Revision, Vec<Arc<KeyValue>>),
    /// To a read.
    Read(Revision),
    /// Certainly not done, and why.
    Refused(ActionId, String),
}

/// A term that a committed beat keeps: it still stood in the record when it was committed.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    instance: Id,
    term: Term,
}

impl World {
    /// An agent sends a request.
    pub(crate) fn request(&mut self, life: Life, request: Request) {
        let sent = self.agents[life.host].clock.local(self.now);
        let lost = self.random.store.permille(self.options.lost_requests) && !self.calm;
        if !self.reaches_store(life.host) || lost {
            return;
        }
        let latency = self.store_latency();
        self.plan(latency, Happening::StoreArrive { life, sent, request });
    }

    /// A request reaches the store.
    pub(crate) fn store_arrive(&mut self, life: Life, sent: Time, request: Request) {
        if self.now < self.store.away_until {
            let held = self.store.away_until - self.now + self.store_latency();
            match (self.random.store.below(10), &request) {
                (0..4, _) => self.plan(held, Happening::StoreArrive { life, sent, request }),
                (4, Request::Txn(id, _)) => {
                    let answer = Answer::Refused(*id, "no leader".to_owned());
                    self.plan(MILLI, Happening::StoreAnswer { life, sent, answer });
                }
                _ => {}
            }
            return;
        }
        let answer = match request {
            Request::Read => Answer::Read(self.store.kv.revision()),
            Request::Load => {
                Answer::Load(self.store.kv.revision(), self.store.kv.entries().cloned().collect())
            }
            Request::Txn(id, txn) => match self.commit(&txn, &format!("h{}", life.host + 1)) {
                Ok((reply, kept)) => Answer::Txn(id, reply, kept),
                Err(why) => Answer::Refused(id, why),
            },
        };
        let lost = self.random.store.permille(self.options.lost_replies) && !self.calm;
        if !lost {
            let latency = self.store_latency();
            self.plan(latency, Happening::StoreAnswer { life, sent, answer });
        }
    }

    /// The store does a txn; everyone's watch will hear of it.
    ///
    /// # Errors
    /// Why the store refuses it: it is beyond a bound.
    pub(crate) fn commit(&mut self, txn: &Txn, by: &str) -> Result<(TxnReply, Vec<Kept>), String> {
        let finals: Vec<bool> = txn.then.iter().map(|op| self.final_stands(op)).collect();
        let before = self.store.kv.revision();
        let reply = self.store.kv.apply(txn).map_err(|refused| refused.to_string())?.reply;
        let mut kept = Vec::new();
        if reply.revision > before {
            if self.trace.on && !beat_only(txn) {
                say!(self, "store: {by} {} (revision {})", describe(txn, &reply), reply.revision);
            }
            let ops = if reply.succeeded { &txn.then } else { &txn.otherwise };
            for (index, op) in ops.iter().enumerate() {
                let again = reply.succeeded && finals[index];
                self.committed(op, again, &mut kept);
            }
            self.spread();
        } else if self.trace.on && !reply.succeeded {
            say!(self, "store: {by} failed its conditions: {}", describe(txn, &reply));
        }
        Ok((reply, kept))
    }

    /// Would this write over a final of the same life?
    fn final_stands(&self, op: &Op) -> bool {
        let Op::Put { key, value, .. } = op else { return false };
        let Some(old) = self.store.kv.get(key).filter(|_| key.starts_with("finals/")) else {
            return false;
        };
        let life = |value: &[u8]| FinalRecord::decode(value).map(|record| record.boot_id);
        life(&old.value) == life(value)
    }

    /// Tells the invariants what a write means.
    fn committed(&mut self, op: &Op, again: bool, kept: &mut Vec<Kept>) {
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
                    Rc::new(MasterRecord::decode(value).expect("agents write readable records"))
                });
                self.adopted(service, record.as_deref());
                self.tell(Fact::Master { service, record });
            }
            ("finals", Some(service), Some(value)) => {
                let parts: Vec<&str> = rest.split('/').collect();
                let record = FinalRecord::decode(value).expect("agents write readable records");
                let name = InstanceName::new(parts[2]).expect("agents write good names");
                let term = Term(parts[1].parse().expect("agents write terms as numbers"));
                if let Some(instance) = Id::named(service, &name) {
                    let life = life_of(&record.boot_id);
                    self.tell(Fact::Final { instance, term, life, again });
                }
            }
            ("history", Some(service), Some(value)) => {
                let record = HistoryRecord::decode(value).expect("agents write readable records");
                let term = rest.rsplit('/').next().and_then(|term| term.parse().ok());
                let term = Term(term.expect("agents write terms as numbers"));
                let nothing = record.loss.starts_with("nothing");
                self.tell(Fact::Said { service, term, nothing });
            }
            ("beats", _, Some(value)) => {
                let beat = BeatRecord::decode(value).expect("agents write readable records");
                self.beaten(rest, &beat, kept);
            }
            _ => {}
        }
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
                kept.push(Kept { instance, term: *term });
            }
            self.tell(Fact::Beat { service, term: *term });
        }
    }

    /// `master/S` as it stands in the store.
    pub(crate) fn master(&self, service: usize) -> Option<MasterRecord> {
        let entry = self.store.kv.get(&format!("master/{}", SERVICES[service]))?;
        MasterRecord::decode(&entry.value).ok()
    }

    /// Adoption opens nothing: the term of an instance that takes writes already is the new one.
    fn adopted(&mut self, service: usize, record: Option<&MasterRecord>) {
        let Some(record) = record.filter(|record| record.state == MasterState::Serving) else {
            return;
        };
        let Some(id) = Id::named(service, &record.holder.instance) else { return };
        let adopts = self
            .last_state
            .get(&service)
            .is_none_or(|state| matches!(state, MasterState::Unmanaged));
        let database = self.databases.iter_mut().find(|database| database.id == id);
        if let Some(database) = database
            && adopts
            && database.writable()
        {
            database.opened = record.term;
            let fact = Fact::Writable { instance: id, term: record.term, writable: true };
            self.tell(fact);
        }
    }

    /// Plans the arrival of new changes at every agent.
    fn spread(&mut self) {
        let revision = self.store.kv.revision();
        for host in 0..self.agents.len() {
            let Some(life) = self.agents[host].life.as_ref() else { continue };
            if !life.watching {
                continue;
            }
            let (number, watch) = (life.number, life.watch);
            let late = self.agents[host].watch_late;
            let wait = self.store_latency() + late;
            let life = Life { host, number };
            self.plan(wait, Happening::WatchArrive { life, watch, revision });
        }
    }

    /// Changes arrive over an agent's watch.
    pub(crate) fn watch_arrive(&mut self, life: Life, watch: u64, revision: Revision) {
        if !self.reaches_store(life.host) {
            self.plan(50 * MILLI, Happening::WatchArrive { life, watch, revision });
            return;
        }
        if self.life(life).is_some_and(|life| life.watch == watch && life.watching) {
            self.bring(life, revision);
        }
    }

    /// Brings an agent's view up to a revision.
    fn bring(&mut self, at: Life, revision: Revision) {
        let Some(life) = self.agents[at.host].life.as_mut() else { return };
        if !life.watching || life.view >= revision {
            return;
        }
        let Ok(mut changes) = self.store.kv.changes_since(life.view) else {
            self.lose_watch(at.host);
            return;
        };
        changes.retain(|change: &Change| change.revision <= revision);
        life.view = revision;
        self.push(at, Event::Changed { revision, changes });
        self.answer_waiting(at);
    }

    /// The store's answer arrives.
    pub(crate) fn store_answer(&mut self, at: Life, sent: Time, answer: Answer) {
        if self.life(at).is_none() || !self.reaches_store(at.host) {
            return;
        }
        match answer {
            Answer::Refused(id, why) => {
                let outcome = TxnOutcome::Refused(why);
                self.finish(at, id, Outcome::Txn(outcome));
            }
            Answer::Load(revision, entries) => {
                let life = self.life(at).expect("looked up above");
                if life.watching && life.view >= revision {
                    return;
                }
                life.watching = true;
                life.watch += 1;
                life.view = revision;
                self.push(at, Event::Loaded { sent, revision, entries });
                self.tell(Fact::Loaded { host: at.host });
                self.answer_waiting(at);
                // What came between the read and now is seen by the new watch.
                let newest = self.store.kv.revision();
                let watch = self.life(at).expect("looked up above").watch;
                let wait = self.store_latency();
                self.plan(wait, Happening::WatchArrive { life: at, watch, revision: newest });
            }
            Answer::Read(revision) => self.await_view(at, Waiting { revision, sent, answer: None }),
            Answer::Txn(id, reply, kept) => {
                let revision = reply.revision;
                let answer = Some((id, reply, kept));
                self.await_view(at, Waiting { revision, sent, answer });
            }
        }
    }

    /// An answer never overtakes what it tells of: it waits until the view has its revision. A
    /// shell may fetch the changes at once; with a late watch this one waits for the watch.
    fn await_view(&mut self, at: Life, waiting: Waiting) {
        let fetches = self.agents[at.host].watch_late == 0;
        let Some(life) = self.life(at) else { return };
        let revision = waiting.revision;
        life.waiting.push(waiting);
        if fetches {
            self.bring(at, revision);
        }
        self.answer_waiting(at);
    }

    fn answer_waiting(&mut self, at: Life) {
        let Some(life) = self.life(at) else { return };
        let view = if life.watching { life.view } else { 0 };
        let (ready, waiting) = std::mem::take(&mut life.waiting)
            .into_iter()
            .partition(|waiting| waiting.revision <= view);
        life.waiting = waiting;
        let ready: Vec<Waiting> = ready;
        for Waiting { sent, answer, .. } in ready {
            self.push(at, Event::Fresh { sent });
            let Some((id, reply, kept)) = answer else { continue };
            if self.life(at).is_some_and(|life| life.pending.contains_key(&id)) {
                self.beat_acknowledged(at, sent, &reply, kept);
            }
            self.finish(at, id, Outcome::Txn(TxnOutcome::Answered { sent, reply }));
        }
    }

    fn beat_acknowledged(&mut self, at: Life, sent: Time, reply: &TxnReply, kept: Vec<Kept>) {
        if !reply.succeeded {
            return;
        }
        let deadline = self.agents[at.host].clock.truth(sent + self.options.judge.lease());
        for Kept { instance, term } in kept {
            self.tell(Fact::BeatAcknowledged { instance, term, deadline });
        }
    }

    /// A watch is lost: its agent reads everything again.
    pub(crate) fn lose_watch(&mut self, host: usize) {
        let Some(life) = self.agents[host].life.as_mut() else { return };
        life.watching = false;
        let at = Life { host, number: life.number };
        say!(self, "h{} lost its watch", host + 1);
        self.plan(10 * MILLI, Happening::Load { life: at });
    }

    /// An agent reads everything, until it has.
    pub(crate) fn load(&mut self, at: Life) {
        if self.life(at).is_none_or(|life| life.watching) {
            return;
        }
        self.request(at, Request::Load);
        let wait = if self.options.alone() { SECOND / 10 } else { SECOND / 2 };
        self.plan(wait, Happening::Load { life: at });
    }

    fn store_latency(&mut self) -> Micros {
        let slow = if self.now < self.store.slow_until { 700 * MILLI } else { 20 * MILLI };
        let fast = if self.options.alone() { 100 } else { 500 };
        self.random.store.skewed(fast, slow)
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
