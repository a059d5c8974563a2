//! One agent of the model: the real machine, and what its shell has under way.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use sengu_core::event::{ActionId, Armed, Command};
use sengu_core::kv::{Revision, Txn, TxnReply};
use sengu_core::machine::Machine;
use sengu_core::name::{BootId, ServiceName, Term};
use sengu_core::time::Time;

/// A txn on its way to the store.
#[derive(Debug, Clone, Hash)]
pub(super) struct Request {
    pub(super) id: ActionId,
    pub(super) txn: Txn,
    pub(super) sent: Time,
    /// Counts as unknown from then on; `None`: its sender has given up.
    pub(super) until: Option<Time>,
}

/// An answer on its way back.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) id: ActionId,
    pub(super) sent: Time,
    pub(super) until: Time,
    /// `None`: it was lost on the way.
    pub(super) reply: Option<TxnReply>,
}

/// A command in an instance's ordered lane.
#[derive(Debug, Clone, Hash)]
pub(super) struct Control {
    /// Which life of the agent waits for its answer.
    pub(super) life: u32,
    pub(super) id: ActionId,
    pub(super) term: Term,
    pub(super) command: Command,
}

/// One host's agent. All but its lives ends with a crash.
#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    pub(super) life: u32,
    pub(super) machine: Option<Machine>,
    /// The revision that the machine has been given; `None`: it has not read the store yet.
    pub(super) view: Option<Revision>,
    pub(super) requests: Vec<Request>,
    pub(super) replies: Vec<Reply>,
    /// Sent to the instance; what was sent by an earlier life stays and runs.
    pub(super) lane: Vec<Control>,
    pub(super) fences: Vec<ActionId>,
    pub(super) looks: Vec<ActionId>,
    pub(super) armed: Vec<Armed>,
    /// The machine wants to be asked again at once.
    pub(super) again: bool,
    /// The instance's exit is not heard of yet: which life.
    pub(super) exit: Option<BootId>,
    /// The machine asked for a look.
    pub(super) asked: bool,
    /// What the last look showed.
    pub(super) seen: u64,
    pub(super) remembered: BTreeSet<ServiceName>,
    /// It cannot reach the store.
    pub(super) cut: bool,
}

impl Agent {
    /// The process ends: what lies in the database's socket and in the store's stays.
    pub(super) fn crash(&mut self) {
        for request in &mut self.requests {
            request.until = None;
        }
        *self = Self {
            life: self.life,
            requests: std::mem::take(&mut self.requests),
            lane: std::mem::take(&mut self.lane),
            remembered: std::mem::take(&mut self.remembered),
            // The guard of a dead agent's fence: when somebody must be there again.
            armed: std::mem::take(&mut self.armed),
            cut: self.cut,
            ..Self::default()
        };
    }
}

impl Hash for Agent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.life, &self.machine, self.view, &self.requests, &self.lane).hash(state);
        (&self.fences, &self.looks, &self.armed, self.again, &self.exit).hash(state);
        (self.asked, self.seen, &self.remembered, self.cut).hash(state);
        for reply in &self.replies {
            let revision = reply.reply.as_ref().map(|reply| reply.revision);
            (reply.id, reply.sent, reply.until, revision).hash(state);
        }
    }
}
