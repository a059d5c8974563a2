//! Carries out what the machine asks for, and answers each numbered action exactly once.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use sengu_core::event::{
    Action, ActionId, Command, ControlOutcome, Event, HookRun, LookOutcome, Outcome, TxnOutcome,
};
use sengu_core::record::HookOutcome;

use super::agent::{Pending, micros};
use super::crash::Side;
use super::database::Ask;
use super::driver::Caller;
use super::fact::{Fact, SERVICES};
use super::schedule::MILLI;
use super::store::Request;
use super::world::{Happening, Life, World, note, say};

impl World {
    /// Carries out the actions of one step, in order.
    pub(crate) fn perform(&mut self, at: Life, actions: Vec<Action>) {
        let mut exit = None;
        for action in actions {
            if let Action::Exit(why) = action {
                // The fences of the same step come first.
                exit = Some(why);
                continue;
            }
            let counted = !matches!(action, Action::Say(_) | Action::Wake(_)) && self.lively();
            let point = if counted { self.crash.next() } else { None };
            if point == Some(Side::Before) {
                self.crash_agent(at.host);
                return;
            }
            self.carry_out(at, action);
            if point == Some(Side::After) {
                self.crash_agent(at.host);
            }
            if self.life(at).is_none() {
                return;
            }
        }
        if let Some(why) = exit {
            self.agent_ends(at, why);
        }
    }

    fn carry_out(&mut self, at: Life, action: Action) {
        match action {
            Action::Txn { id, txn, within } => {
                self.begin_action(at, id, Pending::Txn, within);
                self.request(at, Request::Txn(id, Rc::new(txn)));
            }
            Action::Control { id, instance, term, command, within } => {
                self.agents[at.host].commanded += 1;
                let db = self.database_of(&instance);
                if let Command::Fence { kill } = command {
                    self.begin_action(at, id, Pending::Fence, within + Duration::from_millis(5));
                    self.ordered_fence(at, db, (id, term), kill, within);
                } else {
                    self.begin_action(at, id, Pending::Control(db, false), within);
                    self.control(at, id, db, term, command);
                }
            }
            Action::Look { id, address, within, .. } => {
                self.begin_action(at, id, Pending::Look, within);
                self.look(at, id, address);
            }
            Action::Hook { id, run } => self.run_hook(at, id, &run),
            Action::Arm(armed) => self.arm(at, armed),
            Action::Observe(instance) => {
                let db = self.database_of(&instance);
                self.probe(at, db);
            }
            Action::Watch { instance, boot_id } => {
                let db = self.database_of(&instance);
                self.watch_process(at, db, boot_id);
            }
            Action::Wake(when) => {
                self.agents[at.host].ticked += 1;
                let wait = self.clock(at.host).truth(when).saturating_sub(self.now);
                if self.life(at).is_some_and(|life| life.wakes.insert(when)) {
                    self.plan(wait, Happening::Wake { life: at, when });
                }
            }
            Action::Say(saying) => {
                if saying.alarm {
                    note!(self, "h{} warns: {}", at.host + 1, saying.text);
                } else {
                    say!(self, "h{} says: {}", at.host + 1, saying.text);
                }
            }
            Action::Remember(services) => self.agents[at.host].remembered = services,
            // A list for a person; nobody decides by it.
            Action::Keep { .. } | Action::Exit(_) => {}
        }
    }

    fn begin_action(&mut self, at: Life, id: ActionId, kind: Pending, within: Duration) {
        let Some(life) = self.life(at) else { return };
        let before = life.pending.insert(id, kind);
        assert_eq!(before, None, "the core used action number {} twice", id.0);
        self.plan(micros(within), Happening::ActionDeadline { life: at, id });
    }

    /// Answers an action, if nobody has yet.
    pub(crate) fn finish(&mut self, at: Life, id: ActionId, outcome: Outcome) {
        if self.life(at).is_some_and(|life| life.pending.remove(&id).is_some()) {
            self.push(at, Event::Done { id, outcome });
        }
    }

    /// Answers for what never came back.
    pub(crate) fn action_deadline(&mut self, at: Life, id: ActionId) {
        let Some(pending) = self.life(at).and_then(|life| life.pending.get(&id)).copied() else {
            return;
        };
        let late = "no answer in time".to_owned();
        let outcome = match pending {
            Pending::Txn => Outcome::Txn(TxnOutcome::Unknown(late)),
            Pending::Control(_, sent) => {
                Outcome::Control(ControlOutcome::Failed { error: late, untouched: !sent })
            }
            Pending::Fence => {
                Outcome::Control(ControlOutcome::Failed { error: late, untouched: false })
            }
            Pending::Look => Outcome::Look(LookOutcome::Unknown),
            Pending::Hook => Outcome::Hook(HookOutcome::Unknown),
        };
        self.finish(at, id, outcome);
        if let Pending::Control(db, _) = pending {
            self.give_up(at, db, id);
        }
    }

    fn look(&mut self, at: Life, id: ActionId, address: SocketAddr) {
        if let Some(db) = self.addresses.get(&address).copied() {
            let session = self.number();
            self.call(Some(at.host), db, session, Ask::State, Caller::Look(at, id));
        }
    }

    fn run_hook(&mut self, at: Life, id: ActionId, run: &HookRun) {
        self.begin_action(at, id, Pending::Hook, Duration::from_secs(30));
        say!(self, "h{} agent: hook {} term {}", at.host + 1, run.phase.as_str(), run.term);
        if let Some(service) = SERVICES.iter().position(|name| *name == run.service.as_str()) {
            self.tell(Fact::Hook { service, term: run.term, phase: run.phase });
        }
        let wait = self.random.agent.skewed(5 * MILLI, 2000 * MILLI);
        self.plan(wait, Happening::HookEnd { life: at, id });
    }

    /// Hooks have run.
    pub(crate) fn hook_end(&mut self, at: Life, id: ActionId) {
        let abort = self.random.agent.permille(self.options.aborting_hooks);
        let output = String::new();
        let outcome = if abort {
            HookOutcome::Abort { error: "it exited with 1".to_owned(), output }
        } else {
            HookOutcome::Done { warnings: Vec::new(), output }
        };
        self.finish(at, id, Outcome::Hook(outcome));
    }

    /// The crash that a story asked for.
    fn crash_agent(&mut self, host: usize) {
        let wait = self.crash.away;
        self.kill_agent(host, "the story's crash");
        self.plan(wait, Happening::AgentStart { host });
    }
}
