//! Accounts above read-only: MariaDB's `READ ONLY ADMIN` writes in spite of it, and only the end of
//! the process fences such a server. (MySQL's `super_read_only` binds all but replication.)
//!
//! Agents judge a server's accounts now and then, not at each look; a fence asks for them first.
//! What such an account writes on a copy, or on an old master that was started again, nobody
//! watches: the documented limit. What it could do when a session began, the session keeps.

use super::fact::Fact;
use super::schedule::{MILLI, Micros, SECOND};
use super::world::{Life, World};

/// Between two judgements.
const EVERY: Micros = 5 * SECOND;

/// The words of the verdict.
pub(crate) const UNBOUND: &str = "read_only does not bind 'app'@'%' (READ_ONLY ADMIN)";

impl World {
    /// A look ended well: is it time to judge the accounts again? Gives what is known of them.
    pub(crate) fn judge_accounts(&mut self, at: Life, db: usize) -> bool {
        let now = self.now;
        let above = self.databases[db].is_above(now);
        let current = self.databases[db].process.as_ref().map_or(0, |process| process.life);
        let Some(life) = self.life(at) else { return false };
        let probe = life.probes.entry(db).or_default();
        let due = probe.judged.is_none_or(|(life, then)| life != current || now >= then + EVERY);
        if due {
            probe.judged = Some((current, now));
            probe.above = above;
        }
        probe.above
    }

    /// A fence closed it: what passes by read-only from now on should have been known to it.
    pub(crate) fn note_fenced(&mut self, db: usize) {
        let now = self.now;
        let process = self.databases[db].process.as_mut();
        if let Some(sql) = process.and_then(|process| process.sql.as_mut()) {
            sql.fenced = Some(now);
        }
    }

    /// A write is about to pass by read-only.
    pub(crate) fn tell_above(&mut self, db: usize) {
        let database = &self.databases[db];
        let process = database.process.as_ref();
        let fenced = process.and_then(|it| it.sql.as_ref()).and_then(|sql| sql.fenced);
        let held = database.opened.0 > 0;
        let known = held && fenced.is_some_and(|fenced| database.above.0 < fenced);
        let fact = Fact::Above { instance: database.id, known };
        self.tell(fact);
    }

    /// An account is lifted above read-only for so long.
    pub(crate) fn lift_account(&mut self, db: usize, span: Micros) {
        let (now, standing) = (self.now, self.databases[db].above);
        let since = if now < standing.1 { standing.0 } else { now };
        let until = standing.1.max(now + span);
        self.databases[db].above = (since, until);
        if self.databases[db].family == super::sql::Family::Mariadb {
            let instance = self.databases[db].id;
            self.tell(Fact::Unbound { instance, until });
            if !self.options.policy.kill {
                // Nobody may end it either: nothing is left that could fence it.
                self.tell(Fact::Unkillable { instance, until });
            }
        }
    }

    /// Nobody stands above read-only any more, and whoever did has to connect anew.
    pub(crate) fn bind_accounts(&mut self, db: usize) {
        self.databases[db].above.1 = self.now;
        if self.databases[db].process.as_ref().is_some_and(|process| process.has_above()) {
            self.end_process(db, "a person ends what stands above read-only");
            self.plan(200 * MILLI, super::world::Happening::ProcessStart { db });
        }
    }
}
