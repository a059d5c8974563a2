//! One instance of the world: a database as Redis looks from outside, reduced to what is asked.
//!
//! It does at once what it is told, or fails where a story says so. It copies nothing: how far it
//! has come is what the story wrote, and a promotion alone starts a new history.

use std::net::SocketAddr;

use sengu_core::event::Command;
use sengu_core::observation::{Answer, InstanceState, Role, Settings, Verdict};
use sengu_core::position::{Ancestor, Position, RedisPosition};

/// Where an instance listens: the port ends as its name does.
pub(crate) fn address(name: &str) -> SocketAddr {
    let last = name.bytes().last().expect("instances have names");
    SocketAddr::from(([127, 0, 0, 1], 7000 + u16::from(last)))
}

/// Where a fence points an instance to: a local port that is closed.
fn closed() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// So many bytes of one history.
pub(crate) fn position(history: &str, offset: u64) -> RedisPosition {
    RedisPosition { id: history.to_owned(), offset, second: None }
}

/// So many bytes of a history that grew out of another, which it shares up to `until`.
pub(crate) fn grown(history: &str, offset: u64, from: &str, until: u64) -> RedisPosition {
    let second = Some(Ancestor { id: from.to_owned(), until });
    RedisPosition { id: history.to_owned(), offset, second }
}

/// One instance. Its fields are what a story sets.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Which life of its process runs; `None`: none does.
    pub(crate) life: Option<u32>,
    /// Follows nobody and takes writes.
    pub(crate) open: bool,
    /// Whom it follows, if anybody.
    pub(crate) source: Option<SocketAddr>,
    /// In step with its source.
    pub(crate) linked: bool,
    /// How far it has come.
    pub(crate) position: RedisPosition,
    /// Its data came from nobody.
    pub(crate) empty: bool,
    /// Its process lives and answers nothing.
    pub(crate) silent: bool,
    /// A fence does what it should.
    pub(crate) fence_works: bool,
    /// A promotion does what it should.
    pub(crate) promote_works: bool,
}

impl Database {
    /// Started as its own file starts it: fenced.
    pub(crate) fn fenced(life: u32, position: RedisPosition) -> Self {
        Self {
            life: Some(life),
            open: false,
            source: Some(closed()),
            linked: false,
            position,
            empty: false,
            silent: false,
            fence_works: true,
            promote_works: true,
        }
    }

    /// Takes writes and follows nobody.
    pub(crate) fn master(life: u32, position: RedisPosition) -> Self {
        Self { open: true, source: None, ..Self::fenced(life, position) }
    }

    /// Follows another, and is in step with it.
    pub(crate) fn replica(life: u32, of: &str, position: RedisPosition) -> Self {
        Self { source: Some(address(of)), linked: true, ..Self::fenced(life, position) }
    }

    /// Was never started.
    pub(crate) fn down(position: RedisPosition) -> Self {
        Self { life: None, ..Self::fenced(0, position) }
    }

    /// Begins to take writes.
    pub(crate) fn open(&mut self) {
        self.open = true;
        self.source = None;
        self.linked = false;
    }

    /// Refuses writes and receives nothing.
    pub(crate) fn close(&mut self) {
        self.open = false;
        self.source = Some(closed());
        self.linked = false;
    }

    /// Follows another, and is in step with it at once.
    pub(crate) fn follow(&mut self, source: SocketAddr) {
        self.open = false;
        self.source = Some(source);
        self.linked = true;
    }

    fn promote(&mut self) {
        self.open();
        let (from, offset) = (self.position.id.clone(), self.position.offset);
        self.position = grown(&format!("{from}+"), offset, &from, offset + 1);
    }

    /// Does what it is told, or says what went wrong.
    pub(crate) fn run(&mut self, command: &Command) -> Result<(), &'static str> {
        if self.life.is_none() || self.silent {
            return Err("it does not answer");
        }
        match command {
            Command::Fence { .. } if !self.fence_works => return Err("the fence failed"),
            Command::Promote { .. } if !self.promote_works => return Err("the promotion failed"),
            Command::Fence { .. } | Command::Detach => self.close(),
            Command::Promote { .. } => self.promote(),
            Command::Follow { source } => self.follow(*source),
            Command::Acknowledge { .. }
            | Command::Await { .. }
            | Command::Pause { .. }
            | Command::Unpause
            | Command::Read => {}
        }
        Ok(())
    }

    /// What a look brings back.
    pub(crate) fn answer(&self) -> Answer {
        if self.life.is_none() {
            Answer::Refused
        } else if self.silent {
            Answer::Silent
        } else {
            Answer::State(self.state())
        }
    }

    /// Its state, as it tells it.
    pub(crate) fn state(&self) -> InstanceState {
        InstanceState {
            role: if self.open { Role::Master } else { Role::Replica },
            writable: self.open,
            source: self.source,
            link_up: self.linked,
            syncing: false,
            never_synced: self.empty,
            received: Position::Redis(self.position.clone()),
            applied: Position::Redis(self.position.clone()),
            trouble: None,
            applier_stopped: false,
            semi_sync: None,
            obstacles: Vec::new(),
            silent_for: None,
            priority: 100,
            version: "7.0.15".to_owned(),
            settings: Settings {
                starts_fenced: Verdict::Good,
                killable: Verdict::Good,
                replication: Verdict::Good,
                lossless: Verdict::Good,
            },
        }
    }
}
