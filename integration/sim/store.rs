//! The store as agents meet it: linearizable, and now and then silent.
//!
//! A request may be lost, be held over an election and done after its sender gave up, or be done
//! with its answer lost. Each agent has a watch with a progress of its own: in order, late, and
//! sometimes lost. An answer never overtakes the changes that it made.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use sengu_core::event::{ActionId, Event, Outcome, TxnOutcome};
use sengu_core::kv::{Change, KeyValue, Kv, Op, Revision, Txn, TxnReply};
use sengu_core::record::{BeatRecord, MasterRecord};
use sengu_core::time::Time;

use super::agent::Waiting;
use super::fact::Fact;
use super::ledger::Kept;
use super::member::Members;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{Happening, Life, World, say};

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Its data.
    pub(crate) kv: Kv,
    /// Its id: a restore may give it another one.
    pub(crate) id: u64,
    /// Answers nobody until then.
    pub(crate) away_until: Micros,
    /// Is slow until then.
    pub(crate) slow_until: Micros,
    /// Takes up to so long for each request, until then.
    pub(crate) late: Micros,
    pub(crate) late_until: Micros,
    /// Takes no writes until then.
    pub(crate) full_until: Micros,
    /// What agents wrote, as read once when it was committed, by revision.
    pub(crate) masters: BTreeMap<(usize, Revision), Rc<MasterRecord>>,
    pub(crate) beats: BTreeMap<Revision, Rc<BeatRecord>>,
    /// The members that it is made of.
    pub(crate) members: Members,
    /// What stood there before, for a restore: taken every few seconds.
    pub(crate) snapshots: VecDeque<(Micros, Kv)>,
}

impl Store {
    /// A master record by the revision that wrote it.
    pub(crate) fn master_at(&self, service: usize, revision: Revision) -> Option<Rc<MasterRecord>> {
        self.masters.get(&(service, revision)).cloned()
    }

    /// A beat by the revision that wrote it.
    pub(crate) fn beat_at(&self, revision: Revision) -> Option<&BeatRecord> {
        self.beats.get(&revision).map(Rc::as_ref)
    }
}

/// When an agent sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// In true time.
    at: Micros,
    /// By its own clock.
    local: Time,
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

impl World {
    /// An agent sends a request.
    pub(crate) fn request(&mut self, life: Life, request: Request) {
        let sent = Sent { at: self.now, local: self.clock(life.host).local(self.now) };
        let request = self.of_version(life, request);
        if matches!(request, Request::Txn(..)) {
            self.agents[life.host].asked += 1;
        }
        let lost = self.random.store.permille(self.options.lost_requests) && !self.calm;
        if !self.reaches_store(self.place(life.host)) || lost {
            return;
        }
        let latency = self.store_latency();
        self.plan(latency, Happening::StoreArrive { life, sent, request });
    }

    /// A request reaches the store.
    pub(crate) fn store_arrive(&mut self, life: Life, sent: Sent, request: Request) {
        if life.number <= self.agents[life.host].forsaken {
            return;
        }
        if self.store.members.silent {
            // Some are held until there is a leader again, long after their sender gave up.
            if self.random.store.permille(300) {
                let held = self.random.store.between(SECOND / 5, 3 * SECOND);
                self.plan(held, Happening::StoreArrive { life, sent, request });
            }
            return;
        }
        if self.now < self.store.away_until {
            let held = self.store.away_until - self.now + self.store_latency();
            match (self.random.store.below(10), &request) {
                (0..4, _) => self.plan(held, Happening::StoreArrive { life, sent, request }),
                (4, Request::Txn(id, _)) => {
                    let answer = Answer::Refused(*id, "no leader".to_owned());
                    self.plan(MILLI, Happening::StoreAnswer { life, sent: sent.local, answer });
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
            Request::Txn(id, txn) if self.now < self.store.full_until && writes(&txn) => {
                Answer::Refused(id, "database space exceeded".to_owned())
            }
            Request::Txn(id, txn) => {
                if txn.then.iter().any(rules) {
                    self.tell(Fact::Sent { at: sent.at });
                }
                match self.commit(&txn, &format!("h{}", life.host + 1)) {
                    Ok((reply, kept)) => Answer::Txn(id, reply, kept),
                    Err(why) => Answer::Refused(id, why),
                }
            }
        };
        let lost = self.random.store.permille(self.options.lost_replies) && !self.calm;
        if !lost {
            let latency = self.store_latency();
            self.plan(latency, Happening::StoreAnswer { life, sent: sent.local, answer });
        }
    }

    /// Plans the arrival of new changes at every agent.
    pub(crate) fn spread(&mut self) {
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
        if !self.reaches_store(self.place(life.host)) {
            self.plan(50 * MILLI, Happening::WatchArrive { life, watch, revision });
            return;
        }
        if self.life(life).is_some_and(|life| life.watch == watch && life.watching) {
            self.bring(life, revision);
        }
    }

    /// Brings an agent's view up to a revision.
    fn bring(&mut self, at: Life, revision: Revision) {
        if self.agents[at.host].believes.is_some_and(|id| id != self.store.id) {
            return;
        }
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
        let changes = self.agents[at.host].version.reads_changes(changes);
        self.push(at, Event::Changed { revision, changes });
        self.answer_waiting(at);
    }

    /// The store's answer arrives.
    pub(crate) fn store_answer(&mut self, at: Life, sent: Time, answer: Answer) {
        if self.life(at).is_none() || !self.reaches_store(self.place(at.host)) {
            return;
        }
        // Another store is not believed, nor is one that was set back, whatever it says.
        let id = self.store.id;
        if *self.agents[at.host].believes.get_or_insert(id) != id {
            return;
        }
        let highest = &mut self.agents[at.host].highest;
        let revision = match &answer {
            Answer::Refused(..) => *highest,
            Answer::Load(revision, _) | Answer::Read(revision) => *revision,
            Answer::Txn(_, reply, _) => reply.revision,
        };
        // A late answer of before is older than what has been seen, too, and says nothing new.
        if revision < *highest && self.restored {
            return;
        }
        *highest = revision.max(*highest);
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
                let entries = self.agents[at.host].version.reads_all(entries);
                self.push(at, Event::Loaded { sent, revision, entries });
                if at.host < self.hosts() {
                    self.tell(Fact::Loaded { host: at.host });
                }
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
            let reply = self.agents[at.host].version.reads_reply(reply);
            self.finish(at, id, Outcome::Txn(TxnOutcome::Answered { sent, reply }));
        }
    }

    fn beat_acknowledged(&mut self, at: Life, sent: Time, reply: &TxnReply, kept: Vec<Kept>) {
        if !reply.succeeded {
            return;
        }
        let usual = self.options.judge_of(self.place(at.host)).lease();
        for Kept { instance, term, lease } in kept {
            let deadline = self.clock(at.host).truth(sent + lease.unwrap_or(usual));
            self.tell(Fact::BeatAcknowledged { instance, term, deadline });
        }
    }

    /// The store forgets its past: a watch that is behind is lost.
    pub(crate) fn compact(&mut self) {
        let revision = self.store.kv.revision();
        self.store.kv.compact(revision);
    }

    /// The store is set back to a snapshot so old, if one is that old.
    ///
    /// Under its old id an agent believes it that hung, or was away, while what is lost was
    /// written, or whose first answer comes when others' beats have brought it beyond what it had
    /// seen: the limit that the operations page tells.
    pub(crate) fn restore_store(&mut self, age: Micros, renamed: bool) {
        let Some(then) = self.now.checked_sub(age) else { return };
        let found = self.store.snapshots.iter().rev().find(|(at, _)| *at <= then);
        if let Some((_, kv)) = found {
            self.store.kv = kv.clone();
            self.restored = true;
            let revision = self.store.kv.revision();
            if renamed {
                self.store.id += 1;
            } else {
                self.tell(Fact::SetBack);
            }
            say!(self, "the store is at revision {revision} again");
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
        if self.now < self.store.late_until {
            return self.random.store.between(fast, self.store.late / 2);
        }
        self.random.store.skewed(fast, slow)
    }
}

/// Does it write at all?
fn writes(txn: &Txn) -> bool {
    txn.then.iter().any(|op| matches!(op, Op::Put { .. }))
}

/// Does it write who is master?
fn rules(op: &Op) -> bool {
    matches!(op, Op::Put { key, .. } if key.starts_with("master/"))
}
