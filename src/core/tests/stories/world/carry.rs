//! How the world carries out what the core asks for: at once, in order, and as a story set it.
//!
//! Each numbered action is answered once; the answers wait in the queue of events. Nothing is
//! decided here.

use std::time::Duration;

use sengu_core::event::{Action, ActionId, Command, ControlOutcome, Event, Outcome, TxnOutcome};
use sengu_core::kv::Txn;
use sengu_core::name::{InstanceId, Term};
use sengu_core::time::Time;

use super::{Store, World, boot_id};

/// After so long a store that was cut off counts as not having answered: microseconds.
const CUT_OFF: u64 = 700_000;
/// An instance is not looked at again, out of turn, for so long: microseconds.
const LOOK_PAUSE: u64 = 5_000;

impl World {
    /// Carries out one action.
    pub(super) fn carry_out(&mut self, action: Action) {
        self.actions += 1;
        match action {
            Action::Txn { id, txn, .. } => self.transact(id, &txn),
            Action::Control { id, instance, command, term, .. } => {
                self.control(id, &instance, command, term);
            }
            Action::Look { id, .. } => {
                let outcome = Outcome::Look(self.look_shows);
                self.after(self.looks_take, Event::Done { id, outcome });
            }
            Action::Hook { id, run } => {
                self.note(&format!("hook {:?} of term {}", run.phase, run.term));
                let outcome = Outcome::Hook(self.hooks_end.clone());
                self.after(self.hooks_take, Event::Done { id, outcome });
            }
            Action::Watch { instance, boot_id: watched } => {
                let life = self.database(instance.instance.as_str()).life;
                let lives = life.is_some_and(|life| boot_id(&instance.instance, life) == watched);
                if !lives && !self.exits_unseen {
                    self.events.push_back(Event::Exited { instance, boot_id: watched });
                }
            }
            Action::Arm(armed) => self.armed = armed,
            Action::Say(saying) => self.note(&format!("say {}", saying.text)),
            Action::Observe(id) => {
                let name = id.instance.as_str();
                if self.clock >= self.looked.get(name).copied().unwrap_or(0) + LOOK_PAUSE {
                    self.observe(name);
                }
            }
            Action::Remember(held) => self.config.remembered = held,
            Action::Wake(_) | Action::Keep { .. } | Action::Exit(_) => {}
        }
    }

    fn transact(&mut self, id: ActionId, txn: &Txn) {
        let unknown = |why: &str| Outcome::Txn(TxnOutcome::Unknown(why.to_owned()));
        match self.store_does {
            Store::Answers if self.txns_take > Duration::ZERO => {
                let takes = u64::try_from(self.txns_take.as_micros()).expect("short");
                self.under_way.push((self.clock + takes, id, txn.clone()));
            }
            Store::Answers => {
                let reply = self.apply(txn);
                let sent = Time(self.clock);
                self.end(id, Outcome::Txn(TxnOutcome::Answered { sent, reply }));
            }
            Store::Mute => {
                // The changes are those that the agent would have been told.
                let waiting = self.events.len();
                self.apply(txn);
                self.events.truncate(waiting);
                self.end(id, unknown("its answer is lost"));
            }
            Store::FailsAtOnce => {
                self.refused.push(txn.clone());
                self.end(id, unknown("it failed"));
            }
            Store::CutOff => {
                let outcome = unknown("no answer in time");
                self.late.push((self.clock + CUT_OFF, Event::Done { id, outcome }));
            }
        }
    }

    /// Txns that were under way for long enough are applied and answered.
    pub(super) fn arrive(&mut self) {
        let now = self.clock;
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, _, _)| *at <= now);
        self.under_way = rest;
        for (_, id, txn) in due {
            let reply = self.apply(&txn);
            self.end(id, Outcome::Txn(TxnOutcome::Answered { sent: Time(now), reply }));
        }
    }

    fn control(&mut self, id: ActionId, instance: &InstanceId, command: Command, term: Term) {
        let name = instance.instance.as_str();
        let ended = self.database_mut(name).run(&command);
        self.note(&format!("term {term}: {name} {command:?}: {ended:?}"));
        self.commands.push((name.to_owned(), command));
        let clients = self.clients(name);
        let database = self.database(name);
        let outcome = match (ended, database.life) {
            (Ok(()), Some(life)) => ControlOutcome::Done {
                boot_id: boot_id(&instance.instance, life),
                state: database.state(clients),
            },
            (Ok(()), None) => panic!("`{name}` did as it was told without a process"),
            (Err(why), _) => ControlOutcome::Failed { error: why.to_owned(), untouched: false },
        };
        self.end(id, Outcome::Control(outcome));
    }

    fn end(&mut self, id: ActionId, outcome: Outcome) {
        self.events.push_back(Event::Done { id, outcome });
    }

    /// An event that comes after some time.
    fn after(&mut self, time: Duration, event: Event) {
        if time.is_zero() {
            self.events.push_back(event);
            return;
        }
        let at = self.clock + u64::try_from(time.as_micros()).expect("short");
        self.late.push((at, event));
    }

    fn note(&mut self, line: &str) {
        let at = self.clock.saturating_sub(super::BEGIN) / 1000;
        self.log.push(format!("{at:>8} ms {line}"));
    }
}
