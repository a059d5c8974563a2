//! How an agent deals with its databases: probes, and one ordered control lane for each.
//!
//! The lane sends one command at a time; one that was given up may still lie in the database's
//! socket. Fences are beside it, in `fence.rs`.

use std::collections::VecDeque;

use sengu_core::event::{ActionId, Command, ControlOutcome, Event, LookOutcome, Outcome};
use sengu_core::name::{BootId, InstanceId, Term};
use sengu_core::observation::{Answer, Observation, Process, Verdict};
use sengu_core::time::Time;

use super::above::UNBOUND;
use super::agent::{Pending, micros};
use super::database::{Ask, Reply};
use super::fact::Fact;
use super::schedule::{MILLI, Micros};
use super::world::{Happening, Life, World, say};

/// Who waits for an answer.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Probe(Life, usize),
    Lane(Life, usize),
    Fence(Life, u64),
    Look(Life, ActionId),
    Client(usize),
}

/// The ordered lane of one instance.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    queue: VecDeque<Control>,
    /// The call under way, and for which action.
    current: Option<(u64, ActionId)>,
    pub(crate) session: u64,
    pub(crate) newest: Term,
}

#[derive(Debug)]
struct Control {
    id: ActionId,
    term: Term,
    command: Command,
    decided: Micros,
}

/// The probing of one instance.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// The call under way, and when it was sent.
    current: Option<(u64, Time)>,
    again: bool,
    session: u64,
    /// In which life of the process its accounts were last judged, and when; what was found.
    pub(crate) judged: Option<(u64, Micros)>,
    pub(crate) above: bool,
    /// The session that stands ready for a fence, and for which life of the process.
    pub(crate) fence: (u64, u64),
}

impl World {
    /// Sends a command to a database; the answer, if one comes, goes to the caller.
    pub(crate) fn call(
        &mut self,
        from: Option<usize>,
        db: usize,
        session: u64,
        ask: Ask,
        caller: Caller,
    ) -> u64 {
        let call = self.number();
        let host = self.databases[db].host;
        let from = from.map(|agent| self.place(agent));
        let reached = from.map_or_else(|| self.host_up(host), |from| self.reaches(from, host));
        if reached {
            self.calls.insert(call, caller);
            let life = self.databases[db].process.as_ref().map_or(0, |process| process.life);
            let latency = self.latency(from == Some(host));
            // What goes down one connection arrives in order.
            let last = self.arrivals.get(&session).copied().unwrap_or(0);
            let arrives = (self.now + latency).max(last + 1);
            self.arrivals.insert(session, arrives);
            let wait = arrives - self.now;
            self.plan(wait, Happening::Arrive { db, life, session, call, ask });
        }
        call
    }

    /// A database answers.
    pub(crate) fn answer(&mut self, call: u64, reply: Reply) {
        if let Some(caller) = self.calls.get(&call) {
            let local = !matches!(caller, Caller::Client(_) | Caller::Look(..));
            let latency = self.latency(local);
            self.plan(latency, Happening::Answered { call, reply });
        }
    }

    /// An answer arrives.
    pub(crate) fn answered(&mut self, call: u64, reply: Reply) {
        match self.calls.remove(&call) {
            None => {}
            Some(Caller::Probe(life, db)) => self.probe_answered(life, db, call, reply),
            Some(Caller::Lane(life, db)) => self.lane_answered(life, db, call, reply),
            Some(Caller::Fence(life, run)) => self.fence_answered(life, run, reply),
            Some(Caller::Look(life, id)) => {
                let outcome = match reply {
                    Reply::State(state, _) if state.writable => LookOutcome::Writable,
                    Reply::State(..) => LookOutcome::NotWritable,
                    _ => LookOutcome::Unknown,
                };
                self.finish(life, id, Outcome::Look(outcome));
            }
            Some(Caller::Client(client)) => self.client_answered(client, call, &reply),
        }
    }

    // Probes.

    /// The next regular look at an instance.
    pub(crate) fn probe_due(&mut self, at: Life, db: usize) {
        if self.life(at).is_none() {
            return;
        }
        let interval = micros(self.options.probe.0);
        let wait = self.random.agent.between(interval * 9 / 10, interval * 11 / 10);
        self.plan(wait, Happening::ProbeDue { life: at, db });
        self.probe(at, db);
    }

    /// Looks at an instance now, or once more when the look under way is over.
    pub(crate) fn probe(&mut self, at: Life, db: usize) {
        if self.now < self.agents[at.host].looks_end {
            return;
        }
        let sent = self.clock(at.host).local(self.now);
        let session = self.number();
        let Some(life) = self.life(at) else { return };
        let probe = life.probes.entry(db).or_default();
        if probe.current.is_some() {
            probe.again = true;
            return;
        }
        if probe.session == 0 {
            probe.session = session;
        }
        let session = probe.session;
        let call = self.call(Some(at.host), db, session, Ask::State, Caller::Probe(at, db));
        let life = self.life(at).expect("looked up above");
        life.probes.entry(db).or_default().current = Some((call, sent));
        let timeout = micros(self.options.probe.1);
        self.plan(timeout, Happening::ProbeTimeout { life: at, db, call });
    }

    fn probe_answered(&mut self, at: Life, db: usize, call: u64, reply: Reply) {
        let answer = match reply {
            Reply::State(mut state, _) => {
                if self.judge_accounts(at, db) {
                    state.settings.bound = Verdict::Bad(UNBOUND.to_owned());
                }
                Answer::State(*state)
            }
            Reply::Busy => Answer::Busy,
            Reply::Refused => Answer::Refused,
            Reply::Reset => Answer::Error("the connection was closed".to_owned()),
            Reply::Failed => Answer::Error("an error".to_owned()),
            Reply::Acknowledged | Reply::ReadOnly | Reply::OtherLife | Reply::Unbound => return,
        };
        let reset = matches!(answer, Answer::Error(_) | Answer::Refused);
        self.probe_over(at, db, call, answer, reset);
    }

    /// No answer in time.
    pub(crate) fn probe_timeout(&mut self, at: Life, db: usize, call: u64) {
        self.calls.remove(&call);
        self.probe_over(at, db, call, Answer::Silent, true);
    }

    fn probe_over(&mut self, at: Life, db: usize, call: u64, answer: Answer, reset: bool) {
        let next = self.number();
        let Some(life) = self.life(at) else { return };
        let Some(probe) = life.probes.get_mut(&db) else { return };
        let Some((_, sent)) = probe.current.filter(|(current, _)| *current == call) else { return };
        probe.current = None;
        if reset {
            probe.session = next;
        }
        let again = std::mem::take(&mut probe.again);
        let observation = self.observation(at, db, answer);
        let id = self.instance_id(db);
        self.push(at, Event::Observed { instance: id, sent, observation });
        if again {
            self.probe(at, db);
        }
    }

    /// What `/proc` shows beside the answer; a process that was seen is watched, and its fence's
    /// session stands open.
    fn observation(&mut self, at: Life, db: usize, answer: Answer) -> Observation {
        let session = self.number();
        let busy = self.now;
        let Some(process) = self.databases[db].process.as_ref() else {
            return Observation { boot_id: None, answer, process: Process::Gone };
        };
        let (number, boot_id) = (process.life, process.boot_id.clone());
        let running = if process.stopped {
            Process::Stopped
        } else if process.busy_until > busy {
            Process::Running
        } else {
            Process::Sleeping
        };
        let life = self.life(at).expect("it observes");
        life.seen.insert((db, boot_id.clone()));
        let probe = life.probes.entry(db).or_default();
        if probe.fence.1 != number && answer.state().is_some() {
            probe.fence = (session, number);
            self.open_session(db, session);
        }
        Observation { boot_id: Some(boot_id), answer, process: running }
    }

    /// A process ended: agents that hold its pidfd see it.
    pub(crate) fn exit_seen(&mut self, db: usize, boot: BootId) {
        for host in self.slots_of(self.databases[db].host) {
            let wait = self.random.agent.skewed(50, 3 * MILLI);
            if let Some(life) = &self.agents[host].life
                && life.seen.contains(&(db, boot.clone()))
            {
                let life = Life { host, number: life.number };
                self.plan(wait, Happening::ExitSeen { life, db, boot: boot.clone() });
            }
        }
    }

    /// The loop hears of a process's end.
    pub(crate) fn exit_arrives(&mut self, at: Life, db: usize, boot_id: BootId) {
        let Some(life) = self.life(at) else { return };
        life.seen.remove(&(db, boot_id.clone()));
        // That tells it of the end of what it was fencing, too.
        let decided = life.fences.values().filter_map(|fence| fence.over_with(db, &boot_id));
        if let Some(decided) = decided.max() {
            let instance = self.databases[db].id;
            self.tell(Fact::Fenced { instance, decided });
        }
        let instance = self.instance_id(db);
        self.push(at, Event::Exited { instance, boot_id });
        self.probe(at, db);
    }

    /// The core waits for the end of exactly this process.
    pub(crate) fn watch_process(&mut self, at: Life, db: usize, boot: BootId) {
        let alive = self.databases[db].process.as_ref().map(|process| process.boot_id.clone());
        let Some(life) = self.life(at) else { return };
        life.seen.insert((db, boot.clone()));
        if alive.as_ref() != Some(&boot) {
            self.plan(MILLI, Happening::ExitSeen { life: at, db, boot });
        }
    }

    // The control lane.

    /// Puts a command into an instance's lane.
    pub(crate) fn control(
        &mut self,
        at: Life,
        id: ActionId,
        db: usize,
        term: Term,
        command: Command,
    ) {
        let decided = self.now;
        let Some(life) = self.life(at) else { return };
        let lane = life.lanes.entry(db).or_default();
        lane.newest = lane.newest.max(term);
        lane.queue.push_back(Control { id, term, command, decided });
        self.run_lane(at, db);
    }

    fn run_lane(&mut self, at: Life, db: usize) {
        let fresh = self.number();
        let Some(life) = self.life(at) else { return };
        let lane = life.lanes.entry(db).or_default();
        if lane.current.is_some() {
            return;
        }
        let Some(Control { id, term, command, decided }) = lane.queue.pop_front() else { return };
        if lane.session == 0 {
            lane.session = fresh;
        }
        let (session, newest) = (lane.session, lane.newest);
        if term < newest {
            let error = format!("decided in term {term}, which is over");
            let outcome = ControlOutcome::Failed { error, untouched: true };
            self.finish(at, id, Outcome::Control(outcome));
            self.run_lane(at, db);
            return;
        }
        if !life.pending.contains_key(&id) {
            self.run_lane(at, db);
            return;
        }
        life.pending.insert(id, Pending::Control(db, true));
        let ask = match command {
            Command::Fence { .. } => unreachable!("fences have a session of their own"),
            Command::Detach => Ask::Detach,
            Command::Promote { boot_id } => Ask::Promote { boot_id, term, decided },
            Command::Follow { source } => Ask::Follow(source),
            Command::Pause { hold } => Ask::Pause(micros(hold)),
            Command::Unpause => Ask::Unpause,
            Command::Acknowledge { on } => Ask::Acknowledge(on),
            Command::Await { count } => Ask::Await(count),
            Command::Read => Ask::State,
        };
        if self.trace.on && !matches!(ask, Ask::State) {
            let name = self.databases[db].id;
            say!(self, "h{} agent: {ask:?} to {name}, term {term}", at.host + 1);
        }
        let call = self.call(Some(at.host), db, session, ask, Caller::Lane(at, db));
        let life = self.life(at).expect("looked up above");
        life.lanes.entry(db).or_default().current = Some((call, id));
    }

    fn lane_answered(&mut self, at: Life, db: usize, call: u64, reply: Reply) {
        let Some(life) = self.life(at) else { return };
        let lane = life.lanes.entry(db).or_default();
        let Some((_, id)) = lane.current.filter(|(current, _)| *current == call) else { return };
        lane.current = None;
        let failed =
            |error: &str, untouched| ControlOutcome::Failed { error: error.to_owned(), untouched };
        let outcome = match reply {
            Reply::State(state, boot_id) => ControlOutcome::Done { boot_id, state: *state },
            Reply::Busy => failed("a script runs", true),
            Reply::OtherLife => failed("the process is another one", true),
            Reply::Refused => failed("connection refused", true),
            Reply::Failed => failed("it refuses orders", true),
            Reply::Reset => {
                lane.session = 0;
                failed("the connection was closed", false)
            }
            Reply::Acknowledged | Reply::ReadOnly | Reply::Unbound => {
                failed("no answer to this", false)
            }
        };
        self.finish(at, id, Outcome::Control(outcome));
        self.run_lane(at, db);
    }

    /// A command of the lane was given up: the next may go, behind it in the same socket.
    pub(crate) fn give_up(&mut self, at: Life, db: usize, id: ActionId) {
        let Some(life) = self.life(at) else { return };
        let lane = life.lanes.entry(db).or_default();
        lane.queue.retain(|control| control.id != id);
        if lane.current.is_some_and(|(_, current)| current == id) {
            lane.current = None;
            self.run_lane(at, db);
        }
    }

    /// The core's name of a database.
    pub(crate) fn instance_id(&self, db: usize) -> InstanceId {
        self.instance_ids[db].clone()
    }

    /// The database of a core's name.
    pub(crate) fn database_of(&self, instance: &InstanceId) -> usize {
        let found = self.instance_ids.iter().position(|id| id == instance);
        found.expect("the core names only configured instances")
    }
}
