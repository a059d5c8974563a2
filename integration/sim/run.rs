//! One run of one seed: a calm beginning with an adoption, a storm of faults, and then an end in
//! which everything is mended and the world must come to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use sengu_core::catalog::Named;
use sengu_core::name::{BootId, InstanceName};
use sengu_core::policy::{Failover, Rejoin};
use sengu_core::position::Position;
use sengu_core::record::{
    Ask, FinalRecord, InstanceRecord, MasterRecord, MasterState, Record, Unfit, key,
};

use super::agent::service_name;
use super::database::{Database, history_name};
use super::fact::Id;
use super::invariants::Violation;
use super::options::Options;
use super::replication::Link;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{World, say};

/// How long the world may take to come to rest after everything was mended.
const REST: Micros = 60 * SECOND;
/// How often a person forces a failover, and how long each may take.
const FORCED: usize = 3;
const FORCED_REST: Micros = 40 * SECOND;

/// How a run went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The first rule that broke, if one did.
    pub violation: Option<Violation>,
    /// How often each documented limit explained a breach.
    pub limits: BTreeMap<&'static str, u64>,
    /// A hash over all that happened.
    pub hash: u64,
    /// The story, if it was asked for.
    pub lines: Vec<String>,
    /// The terms that the services reached.
    pub terms: u64,
    /// Virtual time that went by.
    pub lasted: Duration,
}

/// Runs one seed. With `trace`, the outcome holds the story in lines; `limits` lets agents die or
/// stop beside their databases for longer than their leases.
#[must_use]
pub fn run(seed: u64, trace: bool, limits: bool) -> Outcome {
    let mut world = World::new(Options::draw(seed, limits), trace);
    say!(world, "seed {seed}");
    world.play();
    world.outcome()
}

/// Runs one seed while an invariant judges nothing.
#[cfg(feature = "sabotage")]
pub(crate) fn run_without(seed: u64, limits: bool, without: Option<&str>) -> Outcome {
    let mut world = World::new(Options::draw(seed, limits), false);
    world.judges.mute(without);
    world.play();
    world.outcome()
}

impl World {
    fn play(&mut self) {
        self.run_until(3 * SECOND);
        self.adopt();
        self.run_until(10 * SECOND);
        self.begin_storm();
        let over = self.now + self.options.storm;
        self.run_until(over);
        self.end_storm();
        self.come_to_rest();
    }

    /// A person puts every service under sengu.
    pub(crate) fn adopt(&mut self) {
        for service in 0..self.options.services {
            self.ask(service, Ask::Adopt { master: None }, false);
        }
    }

    /// What is left to say at the end.
    pub(crate) fn outcome(self) -> Outcome {
        let mut limits = BTreeMap::new();
        for (limit, _) in &self.judges.limits {
            *limits.entry(*limit).or_insert(0) += 1;
        }
        let terms = (0..self.options.services)
            .filter_map(|service| self.master(service))
            .map(|record| record.term.0)
            .sum();
        Outcome {
            violation: self.judges.violation,
            limits,
            hash: self.trace.hash(),
            lines: self.trace.lines,
            terms,
            lasted: Duration::from_micros(self.now),
        }
    }

    /// Liveness: one serving master, named by all; the others follow it.
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
        let forced = (0..FORCED).any(|_| {
            self.force();
            self.wait(FORCED_REST).is_ok()
        });
        if !forced && self.judges.violation.is_none() {
            for service in 0..self.options.services {
                let chosen = self.fullest(service).map(|name| (service, name));
                let holds = |db: &Database| {
                    chosen == Some((db.id.service, db.id.name())) && holds_something(db)
                };
                // Where a file does not start its instance fenced, sengu refuses to move at all.
                let ready = self.options.unfenced.is_none();
                if ready && self.databases.iter().any(holds) {
                    self.unrest(service, "even after a person forced a failover");
                }
            }
        }
    }

    /// A person takes what is there, loss or not.
    fn force(&mut self) {
        for service in 0..self.options.services {
            if self.resting(service).is_err() {
                let to = self.fullest(service);
                say!(self, "nobody can be proven to have everything: a person decides for {to:?}");
                self.ask(service, Ask::Failover { to, lossy: true }, false);
            }
        }
    }

    /// The copy that a person would choose: the one with the most data that may be promoted.
    fn fullest(&self, service: usize) -> Option<InstanceName> {
        let size = |db: &usize| {
            let process = self.databases[*db].process.as_ref();
            process.map_or(0, |process| process.copy.data.len())
        };
        let record = self.master(service)?;
        let may = |db: &usize| {
            let database = &self.databases[*db];
            let unfit = self.unfit(database.id, &record);
            database.priority > 0 && !matches!(unfit, Some(Unfit::Syncing | Unfit::NeverSynced))
        };
        let best = self.of_service(service).into_iter().filter(may).max_by_key(size)?;
        Some(self.databases[best].id.name())
    }

    fn unrest(&mut self, service: usize, when: &str) {
        if let Err(why) = self.resting(service)
            && self.judges.violation.is_none()
        {
            let text = format!("{} does not come to rest {when}: {why}", service_name(service));
            say!(self, "VIOLATION of converges: {text}");
            self.explain(service);
            self.judges.breach(Violation { slug: "converges", at: self.now, text });
        }
    }

    /// What the agents themselves say of a service, into the trace.
    fn explain(&mut self, service: usize) {
        let name = service_name(service);
        for host in 0..self.agents.len() {
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
        for agent in &self.agents {
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

    fn in_place(&self, db: usize, holder: Id, record: &MasterRecord) -> Result<(), String> {
        let database = &self.databases[db];
        let id = database.id;
        let Some(process) = &database.process else { return Err(format!("{id} does not run")) };
        if id == holder {
            return if database.writable() { Ok(()) } else { Err(format!("{id} is closed")) };
        }
        let follows = process.source == Some(record.holder.address)
            && matches!(process.link, Link::Up { .. });
        if database.writable() {
            Err(format!("{id} takes writes too"))
        } else if follows || self.options.policy.rejoin == Rejoin::Ask {
            Ok(())
        } else {
            Err(format!("{id} does not follow {holder}"))
        }
    }

    /// Must it come to rest without a person? Only if `auto` may act, and somebody runs whose
    /// data is provably of the term that ended.
    fn must_rest(&self, service: usize) -> bool {
        let Some(record) = self.master(service) else { return false };
        if record.state == MasterState::Serving {
            return true;
        }
        if self.options.policy.failover != Failover::Auto || self.attempts_spent(service) {
            return false;
        }
        if matches!(record.state, MasterState::FenceFailed { .. }) {
            return false;
        }
        let known: Vec<usize> =
            self.of_service(service).into_iter().filter(|db| self.counts(*db, &record)).collect();
        let position = |db: &usize| self.state_of(*db).map(|(state, _)| state.applied);
        let positions: Vec<Position> = known.iter().filter_map(position).collect();
        // Two of which neither holds all that the other holds are for a person, not for a guess.
        let comparable = |one: &Position| positions.iter().all(|other| one.order(other).is_some());
        known.iter().any(|db| self.is_candidate(*db, &record)) && positions.iter().all(comparable)
    }

    /// Does an agent say that its attempts are spent? Attempts are bounded by the policy.
    fn attempts_spent(&self, service: usize) -> bool {
        let name = service_name(service);
        self.agents.iter().any(|agent| {
            let now = agent.clock.now(self.now);
            let report = agent.life.as_ref().and_then(|life| life.machine.report(now, &name));
            report.is_some_and(|report| {
                report.refusals.iter().any(|refusal| refusal.contains("attempts failed"))
            })
        })
    }

    /// Did its agent see this life of it in step with a master, before anything went wrong?
    fn seen_in_step(&self, id: Id, boot_id: &BootId) -> bool {
        let key = key::instance(&service_name(id.service), &id.name());
        let stands = self.store.kv.get(&key);
        let record = stands.and_then(|entry| InstanceRecord::decode(&entry.value).ok());
        record.is_some_and(|record| {
            record.in_step.as_ref() == Some(boot_id) && record.quarantine.is_none()
        })
    }

    /// Why its own final, if it gave one, says that it must not be promoted.
    fn unfit(&self, id: Id, record: &MasterRecord) -> Option<Unfit> {
        let key = key::r#final(&service_name(id.service), record.term, &id.name());
        FinalRecord::decode(&self.store.kv.get(&key)?.value).ok()?.unfit
    }

    /// Does it hold something of a history that a term recorded, promotable or not?
    fn counts(&self, db: usize, record: &MasterRecord) -> bool {
        let database = &self.databases[db];
        let Some(process) = &database.process else { return false };
        let name = history_name(process.copy.history);
        let known = record.origins.iter().any(|origin| {
            let Position::Redis(origin) = origin;
            origin.id == name || origin.second.as_ref().is_some_and(|second| second.id == name)
        });
        let half = matches!(process.link, Link::Copying { .. });
        let unfit = self.unfit(database.id, record);
        process.copy.provable
            && !half
            && known
            && !matches!(unfit, Some(Unfit::Syncing | Unfit::NeverSynced))
    }

    fn is_candidate(&self, db: usize, record: &MasterRecord) -> bool {
        let database = &self.databases[db];
        let Some(process) = &database.process else { return false };
        database.priority > 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_seeds_hold() {
        let halves = [0..250, 250..500].map(|seeds: std::ops::Range<u64>| {
            std::thread::spawn(move || {
                seeds.map(|seed| (seed, run(seed, false, false))).collect::<Vec<_>>()
            })
        });
        let mut terms = 0;
        for half in halves {
            for (seed, outcome) in half.join().expect("no run panics") {
                assert_eq!(outcome.violation, None, "reproduce with: cargo sim -- {seed}");
                terms += outcome.terms;
            }
        }
        assert!(terms > 1000, "mastership hardly moved: {terms} terms in 500 worlds");
    }

    #[test]
    fn the_same_seed_tells_the_same_story() {
        for seed in [1, 2, 3] {
            let first = run(seed, true, false);
            let again = run(seed, true, false);
            assert_eq!(first.hash, again.hash, "seed {seed}");
            assert_eq!(first.lines, again.lines, "seed {seed}");
            assert!(first.lines.len() > 20, "the story of seed {seed} is empty");
        }
    }
}
