//! Prepared XA branches: a transaction in two halves, each in the binary log. A fence ends sessions
//! and not branches, so one outlives it, travels to the copies as any transaction does, and is
//! ended by its own manager wherever it stands on a server that takes writes.
//!
//! Never modelled: the locks that a branch holds against other transactions.

use super::schedule::{Micros, SECOND};
use super::sql::Family;
use super::world::{Happening, World, note, say};

/// The manager tries again so often.
const AGAIN: Micros = SECOND;

/// One branch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Branch {
    service: usize,
    /// The transaction that prepared it, and the one that ended it.
    prepared: u64,
    ended: Option<u64>,
}

impl World {
    /// Somebody prepares a branch, if the server takes writes.
    pub(crate) fn prepare_branch(&mut self, db: usize, span: Micros) {
        let database = &self.databases[db];
        let runs = database.process.as_ref().is_some_and(|it| !it.stopped && it.listening);
        if database.family == Family::Redis || !database.writable() || !runs {
            return;
        }
        let (service, prepared) = (database.id.service, self.number());
        self.log_entry(db, prepared);
        let branch = self.branches.len();
        self.branches.push(Branch { service, prepared, ended: None });
        self.feed(db);
        self.plan(span, Happening::BranchEnds { branch });
    }

    /// Its manager commits it where it stands: not on a server that takes no writes.
    pub(crate) fn end_branch(&mut self, branch: usize) {
        let Branch { service, prepared, ended } = self.branches[branch];
        if ended.is_some() {
            return;
        }
        let open = self.of_service(service).into_iter().find(|db| {
            let database = &self.databases[*db];
            database.writable() && database.process.as_ref().is_some_and(|it| !it.stopped)
        });
        let Some(db) = open else {
            self.plan(AGAIN, Happening::BranchEnds { branch });
            return;
        };
        let id = self.databases[db].id;
        if !self.holds(db, prepared) {
            // Lost with the failover: there is nothing to end.
            say!(self, "{id} knows no such XA branch");
            self.branches[branch].ended = Some(0);
            return;
        }
        let serial = self.number();
        self.log_entry(db, serial);
        self.branches[branch].ended = Some(serial);
        note!(self, "the XA branch is committed on {id}");
        self.feed(db);
    }

    /// Does a prepared branch stand on it?
    pub(crate) fn branch_stands(&self, db: usize) -> bool {
        let service = self.databases[db].id.service;
        self.branches.iter().filter(|branch| branch.service == service).any(|branch| {
            let over = branch.ended.is_some_and(|ended| self.holds(db, ended));
            self.holds(db, branch.prepared) && !over
        })
    }

    fn holds(&self, db: usize, serial: u64) -> bool {
        let process = self.databases[db].process.as_ref();
        process.is_some_and(|it| it.copy.data.iter().rev().any(|held| *held == serial))
    }
}
