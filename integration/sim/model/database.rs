//! A database of the model: Redis with one client and no clock.
//!
//! It knows one life at a time, starts fenced by its own file, keeps its data over a restart
//! under a history that nobody knows, and continues a link by history and offset or copies all.

use sengu_core::name::BootId;
use sengu_core::observation::{InstanceState, Role, Settings, Verdict};
use sengu_core::position::{Ancestor, Position, RedisPosition};

use super::setting::address;

/// Whom it replicates from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// Nobody: it takes writes.
    Nobody,
    /// A closed local port.
    Closed,
    /// The instance of that host.
    Other(usize),
}

/// One instance.
#[derive(Debug, Clone, Hash)]
pub(super) struct Database {
    host: usize,
    /// Which process; even when none runs.
    pub(super) life: u32,
    pub(super) runs: bool,
    pub(super) source: Source,
    pub(super) linked: bool,
    /// The term under which it was last opened.
    pub(super) opened: u64,
    history: String,
    second: Option<(String, u64)>,
    pub(super) offset: u64,
    provable: bool,
    /// The writes it holds, by number.
    pub(super) data: Vec<u32>,
}

impl Database {
    pub(super) fn new(host: usize, master: usize) -> Self {
        Self {
            host,
            life: 1,
            runs: true,
            source: if host == master { Source::Nobody } else { Source::Other(master) },
            linked: host != master,
            opened: 0,
            history: "first".to_owned(),
            second: None,
            offset: 100,
            provable: true,
            data: Vec::new(),
        }
    }

    /// Takes writes.
    pub(super) fn open(&self) -> bool {
        self.runs && self.source == Source::Nobody
    }

    pub(super) fn boot_id(&self) -> BootId {
        BootId(format!("boot-{}:{}", self.host + 1, self.life).into())
    }

    pub(super) fn exit(&mut self) {
        self.runs = false;
        self.linked = false;
    }

    /// The supervisor starts it again: fenced, with its data, under an unknown history.
    pub(super) fn start(&mut self) {
        self.life += 1;
        self.runs = true;
        self.source = Source::Closed;
        self.history = format!("restart-{}:{}", self.host + 1, self.life);
        self.second = None;
        self.offset = 0;
        self.provable = false;
    }

    pub(super) fn point(&mut self, source: Source) {
        self.source = source;
        self.linked = false;
    }

    /// Opens it under a term: a new history begins.
    pub(super) fn promote(&mut self, term: u64) {
        if self.source != Source::Nobody {
            let grown = format!("term-{term}:{}", self.host + 1);
            self.second = Some((std::mem::replace(&mut self.history, grown), self.offset + 1));
        }
        self.point(Source::Nobody);
        self.provable = true;
        self.opened = term;
    }

    /// A client writes.
    pub(super) fn write(&mut self, number: u32) {
        self.offset += 1;
        self.data.push(number);
    }

    /// Could it link to, or take more from, this source now?
    pub(super) fn lacks(&self, from: &Self) -> bool {
        self.runs
            && from.runs
            && self.source == Source::Other(from.host)
            && (from.open() || from.linked)
            && (!self.linked || self.offset < from.offset || self.history != from.history)
    }

    /// Links, and takes all that the source has: from where it stands, or a full copy.
    pub(super) fn receive(&mut self, from: &Self) {
        let continues = self.history == from.history && self.offset <= from.offset
            || from
                .second
                .as_ref()
                .is_some_and(|(id, until)| *id == self.history && self.offset < *until);
        self.second = if continues && self.history != from.history {
            Some((self.history.clone(), self.offset + 1))
        } else {
            self.second.take().filter(|_| continues)
        };
        self.history.clone_from(&from.history);
        self.offset = from.offset;
        self.data.clone_from(&from.data);
        self.linked = true;
        self.provable = true;
    }

    /// As it tells it.
    pub(super) fn state(&self) -> InstanceState {
        let position = Position::Redis(RedisPosition {
            id: self.history.clone(),
            offset: self.offset,
            second: self.second.clone().map(|(id, until)| Ancestor { id, until }),
        });
        let replica = self.source != Source::Nobody;
        InstanceState {
            role: if replica { Role::Replica } else { Role::Master },
            writable: !replica,
            source: match self.source {
                Source::Nobody => None,
                Source::Closed => Some(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
                Source::Other(host) => Some(address(host)),
            },
            link_up: self.linked,
            syncing: false,
            never_synced: replica && !self.linked && !self.provable && self.data.is_empty(),
            received: position.clone(),
            applied: position,
            trouble: None,
            filtered: false,
            denied: false,
            applier_stopped: false,
            semi_sync: None,
            obstacles: Vec::new(),
            silent_for: None,
            priority: 10,
            version: "7.0.15".to_owned(),
            settings: Settings {
                starts_fenced: Verdict::Good,
                killable: Verdict::Good,
                replication: Verdict::Good,
                lossless: Verdict::Good,
                bound: Verdict::Good,
            },
        }
    }
}
