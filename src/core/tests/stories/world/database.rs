//! One instance of the world: a database as it looks from outside, reduced to what is asked.
//!
//! It does at once what it is told, or fails where a story says so. It copies nothing: how far it
//! has come is what the story wrote, and a promotion of Redis alone starts a new history. With a
//! position of MySQL it has semi-synchronous replication too.

use std::net::SocketAddr;

use sengu_core::event::Command;
use sengu_core::observation::{Answer, InstanceState, Role, SemiSync, Settings, Verdict};
use sengu_core::position::{Ancestor, MariadbPosition, MysqlPosition, Position, RedisPosition};

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
pub(crate) fn position(history: &str, offset: u64) -> Position {
    Position::Redis(RedisPosition { id: history.to_owned(), offset, second: None })
}

/// The UUID of an instance's server.
pub(crate) fn uuid(name: &str) -> String {
    let last = name.bytes().last().expect("instances have names");
    format!("{last:08x}-0000-0000-0000-000000000000")
}

/// What an instance's MySQL server holds: for each writer so many transactions.
pub(crate) fn transactions(name: &str, of: &[(&str, u64)]) -> Position {
    let text: Vec<String> =
        of.iter().map(|(writer, count)| format!("{}:1-{count}", uuid(writer))).collect();
    let set = text.join(",").parse().expect("a good set");
    Position::Mysql(MysqlPosition { server: uuid(name), set })
}

/// What a MariaDB server of that number holds.
pub(crate) fn mariadb(server: u32, state: &str) -> Position {
    Position::Mariadb(MariadbPosition { server, state: state.parse().expect("a good state") })
}

/// So many bytes of a history that grew out of another, which it shares up to `until`.
pub(crate) fn grown(history: &str, offset: u64, from: &str, until: u64) -> Position {
    let second = Some(Ancestor { id: from.to_owned(), until });
    Position::Redis(RedisPosition { id: history.to_owned(), offset, second })
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
    /// Its source sends it nothing, because it has more.
    pub(crate) denied: bool,
    /// It leaves out some of what it receives, while it receives it.
    pub(crate) filtered: bool,
    /// How far it has come.
    pub(crate) position: Position,
    /// Its data came from nobody.
    pub(crate) empty: bool,
    /// Its process lives and answers nothing.
    pub(crate) silent: bool,
    /// Semi-synchronous replication: what it waits for and whether it acknowledges.
    pub(crate) semi_sync: SemiSync,
    /// What stands in the way of a planned move.
    pub(crate) obstacles: Vec<String>,
    /// Whether read-only binds every account.
    pub(crate) bound: Verdict,
    /// Its applier is stopped, and so much of what it received is not applied.
    pub(crate) unapplied: Option<Position>,
    /// Its applier runs all the same, far behind.
    pub(crate) applies: bool,
    /// A fence does what it should.
    pub(crate) fence_works: bool,
    /// A promotion does what it should.
    pub(crate) promote_works: bool,
    /// It takes a source that is named to it.
    pub(crate) follow_works: bool,
}

impl Database {
    /// Started as its own file starts it: fenced.
    pub(crate) fn fenced(life: u32, position: Position) -> Self {
        Self {
            life: Some(life),
            open: false,
            source: Some(closed()),
            linked: false,
            denied: false,
            filtered: false,
            position,
            empty: false,
            silent: false,
            semi_sync: SemiSync::default(),
            obstacles: Vec::new(),
            bound: Verdict::Good,
            unapplied: None,
            applies: false,
            fence_works: true,
            promote_works: true,
            follow_works: true,
        }
    }

    /// Takes writes and follows nobody.
    pub(crate) fn master(life: u32, position: Position) -> Self {
        Self { open: true, source: None, ..Self::fenced(life, position) }
    }

    /// Follows another, and is in step with it.
    pub(crate) fn replica(life: u32, of: &str, position: Position) -> Self {
        Self { source: Some(address(of)), linked: true, ..Self::fenced(life, position) }
    }

    /// Was never started.
    pub(crate) fn down(position: Position) -> Self {
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
        // What it was told as a copy stands.
        self.semi_sync.awaits = 0;
        if let Position::Redis(position) = &self.position {
            let (from, offset) = (position.id.clone(), position.offset);
            self.position = grown(&format!("{from}+"), offset, &from, offset + 1);
        }
    }

    /// Does what it is told, or says what went wrong.
    pub(crate) fn run(&mut self, command: &Command) -> Result<(), &'static str> {
        if self.life.is_none() || self.silent {
            return Err("it does not answer");
        }
        match command {
            Command::Fence { .. } if !self.fence_works => return Err("the fence failed"),
            Command::Promote { .. } if !self.promote_works => return Err("the promotion failed"),
            Command::Follow { .. } if !self.follow_works => return Err("it takes no source"),
            Command::Fence { .. } | Command::Detach => self.close(),
            Command::Promote { .. } => self.promote(),
            Command::Follow { source } => self.follow(*source),
            Command::Acknowledge { on } => self.semi_sync.acknowledges = *on,
            Command::Await { count } => self.semi_sync.awaits = *count,
            Command::Pause { .. } | Command::Unpause | Command::Read => {}
        }
        Ok(())
    }

    /// What a look brings back.
    pub(crate) fn answer(&self, clients: u32) -> Answer {
        if self.life.is_none() {
            Answer::Refused
        } else if self.silent {
            Answer::Silent
        } else {
            Answer::State(self.state(clients))
        }
    }

    /// Does this copy acknowledge to that address, as far as its master sees? One that is stopped
    /// seems to.
    pub(crate) fn acknowledges_to(&self, source: SocketAddr) -> bool {
        self.life.is_some()
            && self.semi_sync.acknowledges
            && self.linked
            && self.source == Some(source)
    }

    /// Its state, as it tells it: so many copies acknowledge to it.
    pub(crate) fn state(&self, clients: u32) -> InstanceState {
        let transactions = matches!(self.position, Position::Mysql(_));
        // MySQL forgets the filters of a source with the source.
        let filters = self.filtered && self.linked;
        InstanceState {
            role: if self.open { Role::Master } else { Role::Replica },
            writable: self.open,
            source: self.source,
            link_up: self.linked,
            syncing: false,
            never_synced: self.empty,
            received: self.position.clone(),
            applied: self.unapplied.clone().unwrap_or_else(|| self.position.clone()),
            trouble: filters.then(|| "it leaves out some: `replicate_do_db` is set".to_owned()),
            filtered: filters,
            denied: self.denied,
            applier_stopped: self.unapplied.is_some() && !self.applies,
            semi_sync: transactions.then_some(SemiSync {
                clients,
                acknowledges: self.semi_sync.acknowledges && self.linked,
                ..self.semi_sync
            }),
            obstacles: self.obstacles.clone(),
            silent_for: None,
            priority: 100,
            version: "7.0.15".to_owned(),
            settings: Settings {
                starts_fenced: Verdict::Good,
                killable: Verdict::Good,
                replication: Verdict::Good,
                lossless: Verdict::Good,
                bound: self.bound.clone(),
            },
        }
    }
}
