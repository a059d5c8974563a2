//! Fences: over a session of their own, opened before, which ends all others.
//!
//! What is not answered is tried again; without an answer in half its budget a fence kills by
//! pidfd, if it may. The fence thread starts it at its deadline by itself, whatever the loop does.

use std::time::Duration;

use sengu_core::event::{ActionId, Armed, ControlOutcome, Event, Outcome};
use sengu_core::name::{BootId, Term};

use super::above::UNBOUND;
use super::agent::micros;
use super::database::{Ask, Reply};
use super::deed::Back;
use super::driver::Caller;
use super::fact::Fact;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{Happening, Life, World, note};

/// So long a process must have been without trouble to count as well.
const WELL: Micros = 4 * SECOND;
/// What was not answered in its favour is tried again after so long.
const AGAIN: Micros = 20 * MILLI;

/// A fence under way.
#[derive(Debug)]
pub(crate) struct Fence {
    db: usize,
    /// Whom to tell.
    origin: Origin,
    decided: Micros,
    kill: bool,
    call: u64,
    boot_id: Option<BootId>,
    /// Only the end of the process is a fence: read-only does not bind all.
    unbound: bool,
}

impl Fence {
    /// When it was decided, if the end of this process is its end.
    pub(crate) fn over_with(&self, db: usize, boot_id: &BootId) -> Option<Micros> {
        (self.db == db && self.boot_id.as_ref() == Some(boot_id)).then_some(self.decided)
    }
}

#[derive(Debug, Clone, Copy)]
enum Origin {
    /// The loop asked.
    Action(ActionId),
    /// The fence thread's deadline for this term.
    Thread(Term),
}

impl World {
    /// Starts a fence of an instance.
    fn fence(&mut self, at: Life, db: usize, origin: Origin, kill: bool, budget: Duration) {
        let run = self.number();
        let decided = self.now;
        let name = self.databases[db].id;
        let by = match origin {
            Origin::Action(_) => "",
            Origin::Thread(_) => ", at its deadline",
        };
        note!(self, "h{} fences {name}{by}", at.host + 1);
        if let Some(lane) = self.life(at).and_then(|life| life.lanes.get_mut(&db)) {
            lane.session = 0;
        }
        let boot_id = self.databases[db].process.as_ref().map(|process| process.boot_id.clone());
        let life = self.databases[db].process.as_ref().map_or(0, |process| process.life);
        let Some(running) = self.life(at) else { return };
        let known = running.probes.get(&db).map_or((0, 0), |probe| probe.fence);
        let last = running.seen.iter().rfind(|(seen, _)| *seen == db).map(|(_, boot)| boot.clone());
        let gone = boot_id.is_none();
        let boot_id = boot_id.or(last);
        let fence = Fence { db, origin, decided, kill, call: 0, boot_id, unbound: false };
        running.fences.insert(run, fence);
        if gone {
            self.plan(MILLI, Happening::Killed { life: at, run });
            return;
        }
        let session = if known.1 == life { known.0 } else { self.number() };
        self.try_fence(at, run, session);
        self.plan(micros(budget) / 2, Happening::FenceRung { life: at, run });
        self.plan(micros(budget), Happening::FenceSpent { life: at, run });
    }

    fn try_fence(&mut self, at: Life, run: u64, session: u64) {
        let Some(fence) = self.life(at).and_then(|life| life.fences.get(&run)) else { return };
        let db = fence.db;
        let call = self.call(Some(at.host), db, session, Ask::Fence, Caller::Fence(at, run));
        if let Some(fence) = self.life(at).and_then(|life| life.fences.get_mut(&run)) {
            fence.call = call;
        }
    }

    /// The first rung is tried again, over a session of its own.
    pub(crate) fn fence_again(&mut self, at: Life, run: u64) {
        let session = self.number();
        self.try_fence(at, run, session);
    }

    pub(crate) fn fence_answered(&mut self, at: Life, run: u64, reply: Reply) {
        match reply {
            Reply::State(state, boot_id) if !state.writable => {
                let outcome = ControlOutcome::Done { boot_id, state: *state };
                self.fence_over(at, run, outcome);
            }
            Reply::Unbound => self.fence_hopeless(at, run),
            // An error, or a script that cannot be ended: nothing will change by asking again.
            Reply::Busy | Reply::Failed => self.fence_rung(at, run),
            _ => self.plan(AGAIN, Happening::FenceAgain { life: at, run }),
        }
    }

    /// Nothing is asked of a server whose accounts read-only does not bind: the kill, or nothing.
    fn fence_hopeless(&mut self, at: Life, run: u64) {
        let Some(fence) = self.life(at).and_then(|life| life.fences.get_mut(&run)) else { return };
        fence.unbound = true;
        if fence.kill {
            self.fence_rung(at, run);
            return;
        }
        let outcome = ControlOutcome::Failed { error: UNBOUND.to_owned(), untouched: true };
        self.fence_over(at, run, outcome);
    }

    /// The first rung did not help in its share of the time: the kill, if it is allowed.
    pub(crate) fn fence_rung(&mut self, at: Life, run: u64) {
        let now = self.now;
        let Some(fence) = self.life(at).and_then(|life| life.fences.get(&run)) else { return };
        let (db, boot_id, kill) = (fence.db, fence.boot_id.clone(), fence.kill);
        let unbound = fence.unbound;
        let database = &self.databases[db];
        if !kill || now < database.unkillable_until {
            return;
        }
        let alive = database.process.as_ref().filter(|it| Some(&it.boot_id) == boot_id.as_ref());
        if let Some(process) = alive {
            let id = database.id;
            let hindered =
                unbound || process.stopped || process.busy_until > now || !process.listening;
            // What ended a moment ago may have cost the fence its first rung.
            let well = !hindered && now > database.troubled_until + WELL;
            let frozen = process.stopped && process.frozen;
            self.tell(Fact::Killed { instance: id, well });
            let host = self.place(at.host) + 1;
            if frozen {
                // The signal is sent: it runs nothing of its own any more, and is gone on waking.
                self.doom_process(db);
            } else {
                self.end_process(db, &format!("killed by the agent of h{host}"));
                self.plan_restart(db, Back::Somehow);
            }
        }
        let wait = self.random.agent.skewed(50, 5 * MILLI);
        self.plan(wait, Happening::Killed { life: at, run });
    }

    /// The process is gone.
    pub(crate) fn killed(&mut self, at: Life, run: u64) {
        let Some(fence) = self.life(at).and_then(|life| life.fences.get(&run)) else { return };
        let boot_id = fence.boot_id.clone();
        self.fence_over(at, run, ControlOutcome::Exited { boot_id });
    }

    /// Every rung had its time.
    pub(crate) fn fence_spent(&mut self, at: Life, run: u64) {
        let error = "no answer, and killing is not allowed".to_owned();
        self.fence_over(at, run, ControlOutcome::Failed { error, untouched: false });
    }

    fn fence_over(&mut self, at: Life, run: u64, outcome: ControlOutcome) {
        let Some(fence) = self.life(at).and_then(|life| life.fences.remove(&run)) else { return };
        self.calls.remove(&fence.call);
        let instance = self.databases[fence.db].id;
        if !matches!(outcome, ControlOutcome::Failed { .. }) {
            self.tell(Fact::Fenced { instance, decided: fence.decided });
        }
        match fence.origin {
            Origin::Action(id) => self.finish(at, id, Outcome::Control(outcome)),
            Origin::Thread(term) => {
                let instance = self.instance_id(fence.db);
                self.push(at, Event::FenceFired { instance, term, outcome });
            }
        }
    }

    /// The fence thread is told its deadlines anew.
    pub(crate) fn arm(&mut self, at: Life, armed: Vec<Armed>) {
        let clock = self.clock(at.host);
        let Some(life) = self.life(at) else { return };
        life.armed = (life.armed.0 + 1, armed.clone());
        let epoch = life.armed.0;
        for (index, armed) in armed.iter().enumerate() {
            let late = self.random.agent.skewed(10, 5 * MILLI);
            let due = clock.truth(armed.at).max(self.now);
            let wait = due - self.now + late;
            self.plan(wait, Happening::FenceTimer { life: at, epoch, index });
        }
    }

    /// A deadline of the fence thread.
    pub(crate) fn fence_timer(&mut self, at: Life, epoch: u64, index: usize) {
        let now = self.now;
        let kill = self.options.policy.kill;
        let budget = self.options.fence();
        let Some(life) = self.life(at) else { return };
        if life.armed.0 != epoch {
            return;
        }
        if life.stopped_until > now {
            let wait = (life.stopped_until - now + 1).min(100 * MILLI);
            self.plan(wait, Happening::FenceTimer { life: at, epoch, index });
            return;
        }
        let Armed { instance, term, at: due } = life.armed.1[index].clone();
        let clock = self.clock(at.host);
        if clock.local(now) < due {
            // Its guest stood still meanwhile.
            let wait = clock.truth(due).saturating_sub(now).max(MILLI);
            self.plan(wait, Happening::FenceTimer { life: at, epoch, index });
            return;
        }
        let db = self.database_of(&instance);
        self.fence(at, db, Origin::Thread(term), kill, budget);
    }

    /// A fence that the loop asked for: commands of older terms that wait do not run any more.
    pub(crate) fn ordered_fence(
        &mut self,
        at: Life,
        db: usize,
        (id, term): (ActionId, Term),
        kill: bool,
        budget: Duration,
    ) {
        if let Some(life) = self.life(at) {
            let lane = life.lanes.entry(db).or_default();
            lane.newest = lane.newest.max(term);
        }
        self.fence(at, db, Origin::Action(id), kill, budget);
    }
}
