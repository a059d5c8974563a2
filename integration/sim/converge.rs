//! Liveness: does a world come to rest when it is mended, or while one thing stays broken?
//!
//! At rest: one serving master, named by all, and the others follow it. What `auto` can prove it
//! must do by itself; what it must not guess is left to a person, who forces it here; and where
//! one thing stays broken for ever, the rest must still come to rest within a bound.

use std::collections::BTreeSet;
use std::sync::Arc;

use sengu_core::catalog::Named;
use sengu_core::name::{BootId, InstanceName};
use sengu_core::policy::{Failover, Loss, Rejoin};
use sengu_core::position::Position;
use sengu_core::record::{
    Ask, FinalRecord, InstanceRecord, MasterRecord, MasterState, RequestRecord, Stand, Unfit, key,
};

use super::agent::service_name;
use super::database::Database;
use super::deed::{Back, Deed};
use super::fact::{Fact, Id};
use super::invariants::Violation;
use super::options::Ending;
use super::replication::Link;
use super::schedule::{MILLI, Micros, SECOND};
use super::version::{is_next, read};
use super::world::{World, say};

/// How long the world may take to come to rest after everything was mended.
const REST: Micros = 60 * SECOND;
/// The same while one thing stays broken.
const BROKEN_REST: Micros = 60 * SECOND;
/// How often a person forces a failover, and how long each may take.
const FORCED: usize = 3;
const FORCED_REST: Micros = 40 * SECOND;

/// What stays broken when all else is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForEver {
    /// Nothing.
    Nothing,
    /// A host cannot reach the store.
    StoreCut(usize),
    /// A host has no agent.
    AgentDead(usize),
    /// An instance has no process.
    CopyGone(usize),
}

impl World {
    /// The storm is over: all is mended, and then what the ending asks for.
    pub(crate) fn end(&mut self) {
        self.mend_all();
        self.adopt_what_is_left();
        self.come_to_rest();
        let rested = (0..self.options.services).all(|service| self.resting(service).is_ok());
        if self.judges.violation.is_some() || !rested {
            return;
        }
        match self.options.ending {
            Ending::Mended => self.coverage.ending("mended"),
            Ending::Elections => self.elections(),
            Ending::MasterCut | Ending::AgentDead | Ending::CopyGone => self.stay_broken(),
        }
    }

    /// An election a minute fences nothing and moves nothing.
    fn elections(&mut self) {
        self.coverage.ending("an election a minute");
        let mut terms: Vec<_> = (0..self.options.services).map(|it| self.managed(it)).collect();
        for minute in 0..3 {
            // What a person asked for before is done in the first one.
            let asked = minute == 0 && self.asked();
            let away = self.random.fault.between(SECOND, 2200 * MILLI);
            say!(self, "* the store elects for {} ms", away / MILLI);
            self.store.away_until = self.now + away;
            let until = self.store.away_until;
            self.tell(Fact::Hindered { host: None, instance: None, until });
            let next = self.now + 60 * SECOND;
            self.run_until(next);
            if asked {
                terms = (0..self.options.services).map(|it| self.managed(it)).collect();
            }
        }
        let after: Vec<_> = (0..self.options.services).map(|it| self.managed(it)).collect();
        if terms != after && self.judges.violation.is_none() {
            self.breach(format!(
                "an election a minute changed the terms from {terms:?} to {after:?}"
            ));
        }
    }

    /// Is a move asked for and not done or refused yet?
    fn asked(&self) -> bool {
        self.store.kv.prefixed("requests/").any(|entry| {
            read::<RequestRecord>(&entry.value)
                .is_ok_and(|it| !it.stand.ended() && it.stand != Stand::Standing)
        })
    }

    /// One thing is broken and stays so; then the master's process ends, where another copy can
    /// take over without what is broken.
    fn stay_broken(&mut self) {
        let Some(record) = self.master(0).filter(|_| self.managed(0).is_some()) else { return };
        let Some(holder) = Id::named(0, &record.holder.instance) else { return };
        let master = self.index_of(holder);
        let others: Vec<usize> = self
            .of_service(0)
            .into_iter()
            .filter(|db| *db != master && self.is_candidate(*db, &record))
            .collect();
        let auto = self.options.policy.failover == Failover::Auto;
        if !auto || !self.all_start_fenced() || others.is_empty() {
            return;
        }
        let spared = others[self.random.fault.index(others.len())];
        let host = self.databases[spared].host;
        match self.options.ending {
            Ending::MasterCut => {
                let host = self.databases[master].host;
                self.coverage.ending("the master's host cut from the store");
                say!(self, "* h{} loses the store for ever", host + 1);
                self.for_ever = ForEver::StoreCut(host);
                self.store_cut.insert(host);
                self.tell(Fact::Reach { host, reach: false });
                self.rest_despite("while the master's host cannot reach the store");
            }
            Ending::AgentDead => {
                self.coverage.ending("an agent dead");
                self.for_ever = ForEver::AgentDead(host);
                self.kill_agent(host, "for ever");
                self.rest_despite("while the agent of a host without the term is dead");
            }
            _ => {
                self.coverage.ending("a copy gone");
                self.for_ever = ForEver::CopyGone(spared);
                self.end_process(spared, "for ever");
                self.rest_despite("while one copy is gone");
            }
        }
        if others.len() > 1 && self.options.ending != Ending::MasterCut {
            self.end_process(master, "killed");
            self.plan_restart(master, Back::Somehow);
            self.rest_despite("after the master's process ended while one thing stayed broken");
        }
    }

    fn rest_despite(&mut self, when: &str) {
        if self.judges.violation.is_some() || self.wait(BROKEN_REST).is_ok() {
            return;
        }
        // What was tried and failed is bounded, and for a person.
        if self.must_rest(0) {
            self.unrest(0, when);
        }
    }

    fn breach(&mut self, text: String) {
        say!(self, "VIOLATION of converges: {text}");
        self.judges.breach(Violation { slug: "converges", at: self.now, text });
    }

    /// One serving master, named by all; the others follow it.
    pub(crate) fn come_to_rest(&mut self) {
        let rested = self.wait(REST);
        if rested.is_ok() || self.judges.violation.is_some() {
            return;
        }
        let provable: Vec<usize> = (0..self.options.services)
            .filter(|service| self.resting(*service).is_err() && self.must_rest(*service))
            .collect();
        if let Some(service) = provable.first() {
            self.unrest(*service, "after everything was mended, and there is a candidate");
            return;
        }
        let mut done = BTreeSet::new();
        let forced = (0..FORCED).any(|attempt| {
            self.force(attempt, &mut done);
            self.wait(FORCED_REST).is_ok()
        });
        if !forced && self.judges.violation.is_none() {
            for service in 0..self.options.services {
                let chosen = self.fullest(service, 0).map(|name| (service, name));
                let holds = |db: &Database| {
                    chosen == Some((db.id.service, db.id.name())) && holds_something(db)
                };
                // Where a file does not start its instance fenced, sengu refuses to move at all.
                let ready = self.databases.iter().all(|database| database.starts_fenced);
                if ready && self.databases.iter().any(holds) {
                    self.unrest(service, "even after a person forced a failover");
                }
            }
        }
    }

    /// A person takes what is there, loss or not; the next best after a refusal.
    fn force(&mut self, attempt: usize, done: &mut BTreeSet<(usize, &'static str)>) {
        // Hooks that say no now and then are looked after first, and so are the clocks: a request
        // counts for a while by each host's wall clock, and where those are further apart than
        // that, another host refuses it as late at once.
        self.options.aborting_hooks = 0;
        for host in 0..self.hosts() {
            self.set_clock_right(host);
        }
        for service in 0..self.options.services {
            if self.resting(service).is_err() {
                let mended = self.do_as_told(service, attempt, done);
                let to = mended.or_else(|| self.fullest(service, attempt));
                say!(self, "nobody can be proven to have everything: a person decides for {to:?}");
                self.ask(service, Ask::Failover { to, lossy: true }, false);
            }
        }
    }

    /// As time service does, where a clock is more than a second off.
    fn set_clock_right(&mut self, host: usize) {
        let by = self.agents[host].clock.off(self.now);
        if by.abs() > 1000 {
            self.strike(&Deed::JumpClock(host, by));
        }
    }

    /// Of those that were asked for so far, a copy that was set back is given another number, as
    /// its refusal says, and what one received and cannot apply is dropped; each once, the fullest
    /// first. That one is asked for next.
    fn do_as_told(
        &mut self,
        service: usize,
        attempt: usize,
        done: &mut BTreeSet<(usize, &'static str)>,
    ) -> Option<InstanceName> {
        let told = self.refusals_told(service);
        for db in self.able(service).into_iter().take(attempt + 1) {
            let name = self.databases[db].id.name();
            let mut is_told = |why: &'static str| {
                let refusal = format!("`{name}`: {why}");
                told.iter().any(|told| told.contains(&refusal)) && done.insert((db, why))
            };
            let (set_back, stuck) = (is_told("it was set back"), is_told("its applier is stopped"));
            if set_back {
                self.renumber(db);
            }
            if stuck {
                self.drop_relay(db);
            }
            if set_back || stuck {
                return Some(name);
            }
        }
        None
    }

    /// What agents say now, and what was answered to requests.
    fn refusals_told(&self, service: usize) -> Vec<String> {
        let name = service_name(service);
        let mut told: Vec<String> = Vec::new();
        for agent in &self.agents[..self.hosts()] {
            let now = agent.clock.now(self.now);
            let report = agent.life.as_ref().and_then(|life| life.machine.report(now, &name));
            told.extend(report.into_iter().flat_map(|report| report.refusals));
        }
        let requests = format!("requests/{name}/");
        for entry in self.store.kv.prefixed(&requests) {
            if let Ok(RequestRecord { stand: Stand::Refused(why), .. }) = read(&entry.value) {
                told.push(why);
            }
        }
        told
    }

    /// The copy that a person would choose in this attempt: the one with the most data that may be
    /// promoted, then the one with the next most.
    fn fullest(&self, service: usize, attempt: usize) -> Option<InstanceName> {
        let able = self.able(service);
        let chosen = able.iter().cycle().nth(attempt)?;
        Some(self.databases[*chosen].id.name())
    }

    /// The copies that may be promoted, those with the most data first.
    fn able(&self, service: usize) -> Vec<usize> {
        let Some(record) = self.master(service) else { return Vec::new() };
        let size = |db: &usize| {
            let process = self.databases[*db].process.as_ref();
            process.map_or(0, |process| process.copy.data.len())
        };
        let may = |db: &usize| {
            let database = &self.databases[*db];
            let unfit = self.unfit(database.id, &record);
            database.priority > 0 && !matches!(unfit, Some(Unfit::Syncing | Unfit::NeverSynced))
        };
        let mut able: Vec<usize> = self.of_service(service).into_iter().filter(may).collect();
        able.sort_by_key(size);
        able.reverse();
        able
    }

    fn unrest(&mut self, service: usize, when: &str) {
        if let Err(why) = self.resting(service)
            && self.judges.violation.is_none()
        {
            let text = format!("{} does not come to rest {when}: {why}", service_name(service));
            self.explain(service);
            self.breach(text);
        }
    }

    /// What the agents themselves say of a service, into the trace.
    fn explain(&mut self, service: usize) {
        let name = service_name(service);
        for host in 0..self.hosts() {
            let now = self.agents[host].clock.now(self.now);
            let Some(life) = self.agents[host].life.as_ref() else { continue };
            if let Some(report) = life.machine.report(now, &name) {
                let (doing, refusals) = (report.doing, report.refusals);
                let problems = report.problems;
                say!(
                    self,
                    "h{} explains: doing {doing:?}, refusals {refusals:?}, problems {problems:?}",
                    host + 1
                );
            }
        }
    }

    fn wait(&mut self, span: Micros) -> Result<(), String> {
        let until = self.now + span;
        let mut quiet = 0;
        loop {
            let next = self.now + 250 * MILLI;
            self.run_until(next);
            let rest: Result<(), String> =
                (0..self.options.services).try_for_each(|service| self.resting(service));
            quiet = if rest.is_ok() { quiet + 1 } else { 0 };
            if quiet >= 8 || self.now >= until || self.judges.violation.is_some() {
                return rest;
            }
        }
    }

    /// Is a service where it should be when nothing is broken? If not: what is missing.
    pub(crate) fn resting(&self, service: usize) -> Result<(), String> {
        if self.managed(service).is_none() {
            return Ok(());
        }
        let record = self.master(service).expect("it is managed");
        let holder = Id::named(service, &record.holder.instance).expect("an instance of ours");
        if record.state != MasterState::Serving {
            return Err(format!("term {} of {holder} is {}", record.term, record.state.word()));
        }
        for db in self.of_service(service) {
            self.in_place(db, holder, &record)?;
        }
        let name = service_name(service);
        for agent in &self.agents[..self.hosts()] {
            let broken = [ForEver::StoreCut(agent.host), ForEver::AgentDead(agent.host)];
            if broken.contains(&self.for_ever) {
                continue;
            }
            let Some(life) = &agent.life else { return Err("an agent is down".to_owned()) };
            let now = agent.clock.local(self.now);
            match life.machine.catalog().master(&name, now) {
                Named::Master(named, _) if *named == record.holder.instance => {}
                Named::Master(named, _) => return Err(format!("an agent still names {named}")),
                Named::Withdrawn(why) => return Err(format!("an agent names nobody: {why}")),
            }
        }
        Ok(())
    }

    /// Is it, or its agent, beyond reach for ever?
    fn stays_broken(&self, db: usize) -> bool {
        match self.for_ever {
            ForEver::Nothing => false,
            ForEver::StoreCut(cut) | ForEver::AgentDead(cut) => self.databases[db].host == cut,
            ForEver::CopyGone(gone) => db == gone,
        }
    }

    fn in_place(&self, db: usize, holder: Id, record: &MasterRecord) -> Result<(), String> {
        let database = &self.databases[db];
        let id = database.id;
        if self.stays_broken(db) && id != holder {
            // Nobody can move it; it must only take no writes.
            let open = database.writable();
            return if open { Err(format!("{id} takes writes too")) } else { Ok(()) };
        }
        let Some(process) = &database.process else { return Err(format!("{id} does not run")) };
        if id == holder {
            return if database.writable() { Ok(()) } else { Err(format!("{id} is closed")) };
        }
        let follows = process.source == Some(record.holder.address)
            && matches!(process.link, Link::Up { .. });
        if database.writable() {
            Err(format!("{id} takes writes too"))
        } else if follows || self.options.policy.rejoin == Rejoin::Ask || self.set_apart(id) {
            Ok(())
        } else {
            Err(format!("{id} does not follow {holder}"))
        }
    }

    /// Does every file start its instance fenced, and do the records say so? Where one does not,
    /// sengu refuses to move at all; an agent reads a file now and then, and one that is cut off
    /// cannot tell what it read.
    fn all_start_fenced(&self) -> bool {
        let says = |id| self.record_of(id).is_some_and(|it| it.starts_fenced.is_good());
        self.databases.iter().all(|database| database.starts_fenced && says(database.id))
    }

    /// What the store says of an instance.
    pub(crate) fn record_of(&self, id: Id) -> Option<InstanceRecord> {
        let entry = self.store.kv.get(&key::instance(&service_name(id.service), &id.name()))?;
        read(&entry.value).ok()
    }

    /// Does its record say that it is set apart?
    fn set_apart(&self, id: Id) -> bool {
        self.record_of(id).is_some_and(|record| record.quarantine.is_some())
    }

    /// Must it come to rest without a person? Only if `auto` may act, and somebody runs whose
    /// data is provably of the term that ended.
    fn must_rest(&self, service: usize) -> bool {
        let Some(record) = self.master(service) else { return false };
        if record.state == MasterState::Serving {
            return true;
        }
        // Under `loss = "none"` only those known to have everything may take: often nobody.
        let none = self.options.policy.loss == Loss::None;
        let auto = self.options.policy.failover == Failover::Auto;
        if !auto || none || self.attempts_spent(service) {
            return false;
        }
        if matches!(record.state, MasterState::FenceFailed { .. }) || self.differs_for_ever(service)
        {
            return false;
        }
        // Such a service is not adopted, but by one who cannot know.
        if self.unaware.contains(&service) && !self.all_start_fenced() {
            return false;
        }
        let known: Vec<usize> =
            self.of_service(service).into_iter().filter(|db| self.counts(*db, &record)).collect();
        let position = |db: &usize| self.state_of(*db).map(|(state, _)| state.held().clone());
        let positions: Vec<Position> = known.iter().filter_map(position).collect();
        // Two of which neither holds all that the other holds are for a person, not for a guess.
        let order = |one: &Position, other| one.order_in(other, &record.origins);
        let comparable = |one: &Position| positions.iter().all(|other| order(one, other).is_some());
        let able = |db: &&usize| !self.stays_broken(**db) && self.is_candidate(**db, &record);
        known.iter().any(|db| able(&db)) && positions.iter().all(comparable)
    }

    /// Does the record of an instance whose agent cannot write any more stop `auto` until a person
    /// looks? It does where it tells another policy than the others', which is what that host
    /// promised last, also if the file was mended since and the agent died before it could write
    /// so; and where it is in a newer format than the others read.
    fn differs_for_ever(&self, service: usize) -> bool {
        let entry = |db: &usize| {
            let key = key::instance(&service_name(service), &self.databases[*db].id.name());
            self.store.kv.get(&key).map(|entry| &entry.value)
        };
        let policy =
            |db: &usize| read::<InstanceRecord>(entry(db)?).ok().map(|record| record.policy);
        let (broken, others): (Vec<usize>, Vec<usize>) =
            self.of_service(service).into_iter().partition(|db| self.stays_broken(*db));
        let unread = |value: &Arc<[u8]>| is_next(value);
        if broken.iter().filter_map(entry).any(unread)
            && !others.iter().filter_map(entry).any(unread)
        {
            return true;
        }
        let others: Vec<_> = others.iter().filter_map(policy).collect();
        broken.iter().filter_map(policy).any(|told| others.iter().any(|other| *other != told))
    }

    /// Does an agent say that its attempts are spent? Attempts are bounded by the policy.
    fn attempts_spent(&self, service: usize) -> bool {
        let name = service_name(service);
        self.agents[..self.hosts()].iter().any(|agent| {
            let now = agent.clock.now(self.now);
            let report = agent.life.as_ref().and_then(|life| life.machine.report(now, &name));
            report.is_some_and(|report| {
                report.refusals.iter().any(|refusal| refusal.contains("attempts failed"))
            })
        })
    }

    /// Did its agent see this life of it in step with a master, before anything went wrong?
    fn seen_in_step(&self, id: Id, boot_id: &BootId) -> bool {
        self.record_of(id).is_some_and(|record| {
            record.in_step.as_ref() == Some(boot_id) && record.quarantine.is_none()
        })
    }

    /// Why its own final, if it gave one, says that it must not be promoted.
    fn unfit(&self, id: Id, record: &MasterRecord) -> Option<Unfit> {
        let key = key::r#final(&service_name(id.service), record.term, &id.name());
        read::<FinalRecord>(&self.store.kv.get(&key)?.value).ok()?.unfit
    }

    /// Does it hold something of a history that a term recorded, promotable or not?
    fn counts(&self, db: usize, record: &MasterRecord) -> bool {
        let database = &self.databases[db];
        let Some(process) = &database.process else { return false };
        let Some((state, _)) = self.state_of(db) else { return false };
        let known = state.held().strays(&record.origins).is_none();
        let half = matches!(process.link, Link::Copying { .. });
        let unfit = self.unfit(database.id, record);
        process.copy.provable
            && !half
            && known
            && !matches!(unfit, Some(Unfit::Syncing | Unfit::NeverSynced))
    }

    /// Was it set back behind what another one holds of its own? A person gives it another number.
    fn would_repeat(&self, db: usize) -> bool {
        let held = |db: usize| self.state_of(db).map(|(state, _)| state.held().clone());
        let Some(mine) = held(db) else { return false };
        let others = self.of_service(self.databases[db].id.service);
        others.into_iter().filter_map(held).any(|other| mine.would_repeat(&other).is_some())
    }

    fn is_candidate(&self, db: usize, record: &MasterRecord) -> bool {
        let database = &self.databases[db];
        let Some(process) = &database.process else { return false };
        database.priority > 0
            && !self.would_repeat(db)
            && self.unfit(database.id, record).is_none()
            && self.seen_in_step(database.id, &process.boot_id)
            && !record.failed.contains(&database.id.name())
            && self.counts(db, record)
    }
}

/// What a person forces needs at least one copy that holds something.
fn holds_something(database: &Database) -> bool {
    let process = database.process.as_ref();
    database.priority > 0 && process.is_some_and(|process| !process.copy.data.is_empty())
}
