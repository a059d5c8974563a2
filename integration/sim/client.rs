//! Clients of the databases: one that follows the name, one pinned to an address for ever, one
//! that keeps an address for up to a minute.
//!
//! The pinned ones decide every split brain: when a name is withdrawn, nobody who follows it
//! writes to the old master, and nothing would be seen.

use super::database::{Ask, Reply};
use super::driver::Caller;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{Happening, World};

/// How long a client waits for an answer.
const PATIENCE: Micros = SECOND;
/// Between two writes of a client while nothing happens.
const QUIET: (Micros, Micros) = (2 * SECOND, 6 * SECOND);
/// When something happens, all write again within so long.
const AWAKE: Micros = 150 * MILLI;

/// How a client finds its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Asks an agent each time.
    Following,
    /// Never asks.
    Pinned(usize),
    /// Asks again when so much time has passed.
    Cached(Micros),
    /// Reads its host's hosts file each time.
    ByFile,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    service: usize,
    manner: Manner,
    /// The agent it asks.
    host: usize,
    /// Where it writes, and since when it knows.
    target: Option<(usize, Micros)>,
    session: u64,
    call: u64,
    /// When it gives up waiting for that, and whether something is planned to look then.
    patience: (Micros, bool),
    /// Counts what it plans to do next: only the newest of it counts.
    turn: u64,
}

impl World {
    /// Brings the clients into the world.
    pub(crate) fn lay_clients(&mut self) {
        let (following, pinned, cached, by_file) = self.options.clients;
        for service in 0..self.options.services {
            let instances = self.of_service(service);
            for index in 0..following {
                self.lay_client(service, Manner::Following, index);
            }
            for index in 0..pinned {
                let db = instances[index % instances.len()];
                self.lay_client(service, Manner::Pinned(db), index);
            }
            for index in 0..cached {
                let keep = self.random.client.between(SECOND / 2, 60 * SECOND);
                self.lay_client(service, Manner::Cached(keep), index);
            }
            for index in 0..by_file {
                self.lay_client(service, Manner::ByFile, index);
            }
        }
    }

    fn lay_client(&mut self, service: usize, manner: Manner, index: usize) {
        let host = index % self.hosts();
        let session = self.number();
        let client = self.clients.len();
        self.clients.push(Client {
            service,
            manner,
            host,
            target: None,
            session,
            call: 0,
            patience: (0, false),
            turn: 0,
        });
        let wait = self.random.client.between(SECOND, 2 * SECOND);
        self.plan_client(wait, client);
    }

    fn plan_client(&mut self, wait: Micros, client: usize) {
        self.clients[client].turn += 1;
        let turn = self.clients[client].turn;
        self.plan(wait, Happening::ClientActs { client, turn });
    }

    /// Something happened: who waits for nothing writes soon.
    pub(crate) fn wake_clients(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].call == 0 {
                let wait = self.random.client.between(MILLI, AWAKE);
                self.plan_client(wait, client);
            }
        }
    }

    /// A client writes, if it knows where.
    pub(crate) fn client_acts(&mut self, client: usize, turn: u64) {
        if self.clients[client].turn != turn || self.clients[client].call != 0 {
            return;
        }
        let Some(db) = self.find(client) else {
            let (low, high) = if self.lively() { (50 * MILLI, 200 * MILLI) } else { QUIET };
            let wait = self.random.client.between(low, high);
            self.plan_client(wait, client);
            return;
        };
        let serial = self.number();
        let session = self.clients[client].session;
        let call = self.call(None, db, session, Ask::Write(serial), Caller::Client(client));
        let until = self.now + PATIENCE;
        let state = &mut self.clients[client];
        state.call = call;
        if !std::mem::replace(&mut state.patience, (until, true)).1 {
            self.plan(PATIENCE, Happening::ClientTimeout { client });
        }
    }

    fn find(&mut self, client: usize) -> Option<usize> {
        let now = self.now;
        let Client { service, manner, host, target, .. } = self.clients[client];
        let known = match (manner, target) {
            (Manner::Pinned(db), _) => Some(db),
            (Manner::Cached(keep), Some((db, since))) if now < since + keep => Some(db),
            _ => None,
        };
        if known.is_some() {
            return known;
        }
        let found = match manner {
            Manner::ByFile => self.read_file(host, service),
            _ => self.read_output(host, service),
        };
        let session = self.number();
        let state = &mut self.clients[client];
        if let Some(db) = found {
            if target.map(|(db, _)| db) != Some(db) {
                state.session = session;
            }
            state.target = Some((db, now));
        }
        found
    }

    /// An answer for a client.
    pub(crate) fn client_answered(&mut self, client: usize, call: u64, reply: &Reply) {
        if self.clients[client].call != call {
            return;
        }
        self.clients[client].call = 0;
        let (low, high) = match (reply, self.lively()) {
            (Reply::Acknowledged, true) => self.options.pace,
            (Reply::ReadOnly, true) => (100 * MILLI, 600 * MILLI),
            (_, true) => (20 * MILLI, 200 * MILLI),
            (_, false) => QUIET,
        };
        if matches!(reply, Reply::Reset | Reply::Refused) {
            self.clients[client].session = self.number();
        }
        let wait = self.random.client.between(low, high);
        self.plan_client(wait, client);
    }

    /// No answer: it connects anew and tries again.
    pub(crate) fn client_timeout(&mut self, client: usize) {
        let Client { call, patience: (until, _), .. } = self.clients[client];
        if call == 0 {
            self.clients[client].patience.1 = false;
            return;
        }
        if until > self.now {
            // It has written again since.
            self.plan(until - self.now, Happening::ClientTimeout { client });
            return;
        }
        self.clients[client].patience.1 = false;
        self.calls.remove(&call);
        self.clients[client].call = 0;
        self.clients[client].session = self.number();
        self.plan_client(MILLI, client);
    }
}
