//! Runs what lies in sessions' queues: one command at a time, one session picked by chance where
//! several wait; and what can go wrong with an order.

use super::super::deed::Orders;
use super::super::fact::Fact;
use super::super::sql::Family;
use super::super::world::{Happening, World};
use super::{Ask, Queued, Reply, closed};

impl World {
    /// A command reaches the database's host.
    pub(crate) fn arrive(&mut self, db: usize, life: u64, session: u64, call: u64, ask: Ask) {
        if matches!(ask, Ask::Write(_)) {
            self.note_privilege(db, session);
        }
        let reply = match self.databases[db].process.as_mut() {
            None => Some(Reply::Refused),
            Some(process) if process.life != life || process.killed.contains(&session) => {
                Some(Reply::Reset)
            }
            Some(process) if !process.listening && !process.sessions.contains_key(&session) => {
                Some(Reply::Refused)
            }
            // Nothing else waits: it runs at once.
            Some(process) if !process.stopped && !process.working && process.queued == 0 => {
                process.sessions.entry(session).or_default();
                self.execute(db, session, call, ask);
                return;
            }
            Some(process) => {
                let queue = process.sessions.entry(session).or_default();
                queue.push_back(Queued { call, ask });
                process.queued += 1;
                None
            }
        };
        match reply {
            Some(reply) => self.answer(call, reply),
            None => self.plan_work(db),
        }
    }

    /// A client's session begins with what its account may do at that moment.
    fn note_privilege(&mut self, db: usize, session: u64) {
        let above = self.databases[db].is_above(self.now);
        let Some(process) = self.databases[db].process.as_mut() else { return };
        if above && process.listening && !process.sessions.contains_key(&session) {
            process.above.insert(session);
        }
    }

    /// Something may be waiting in a queue.
    pub(crate) fn plan_work(&mut self, db: usize) {
        let service_time = self.random.database.between(10, 60);
        let Some(process) = self.databases[db].process.as_mut() else { return };
        if process.working || process.stopped || process.queued == 0 {
            return;
        }
        process.working = true;
        let life = process.life;
        self.plan(service_time, Happening::Work { db, life });
    }

    /// One command of one session runs.
    pub(crate) fn work(&mut self, db: usize, life: u64) {
        let Some(process) = self.databases[db].life(life) else { return };
        process.working = false;
        if process.stopped {
            return;
        }
        let waiting: Vec<u64> = process
            .sessions
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|(session, _)| *session)
            .collect();
        if waiting.is_empty() {
            return;
        }
        let session = waiting[self.random.database.index(waiting.len())];
        let process = self.databases[db].life(life).expect("looked up above");
        let queue = process.sessions.get_mut(&session).expect("it is waiting");
        let Queued { call, ask } = queue.pop_front().expect("it is not empty");
        process.queued -= 1;
        self.execute(db, session, call, ask);
        self.plan_work(db);
    }

    fn execute(&mut self, db: usize, session: u64, call: u64, ask: Ask) {
        let now = self.now;
        let process = self.databases[db].process.as_ref().expect("a process runs the command");
        let stream = matches!(ask, Ask::Feed { .. } | Ask::Ship { .. });
        if process.busy_until > now && !stream {
            self.answer(call, Reply::Busy);
            return;
        }
        if let Some(orders) = self.databases[db].misobeys(now)
            && ask.changes()
        {
            self.misobey(db, call, &ask, orders);
            return;
        }
        if matches!(ask, Ask::Fence) && self.databases[db].is_above(now) {
            // It is asked first who may write in spite of it.
            self.answer(call, Reply::Unbound);
            return;
        }
        let process = self.databases[db].process.as_mut().expect("a process runs the command");
        match ask {
            Ask::State => self.answer_state(db, call),
            Ask::Fence => {
                self.end_sessions(db, session);
                self.close(db);
                self.note_fenced(db);
                self.answer_state(db, call);
            }
            Ask::Detach => {
                self.detach(db);
                self.answer_state(db, call);
            }
            Ask::Acknowledge(_) | Ask::Await(_) => {
                self.set_semi_sync(db, &ask);
                self.answer_state(db, call);
            }
            Ask::Ship { epoch, entries, from, upto } => {
                self.take_shipment(db, epoch, &entries, (from, upto));
            }
            Ask::Follow(source) => {
                self.point_to(db, source);
                self.answer_state(db, call);
            }
            Ask::Promote { boot_id, term, decided } => {
                if process.boot_id == boot_id {
                    self.promote(db, term, decided);
                    self.answer_state(db, call);
                } else {
                    self.answer(call, Reply::OtherLife);
                }
            }
            Ask::Pause(hold) => {
                process.paused_until = now + hold;
                let life = process.life;
                self.plan(hold, Happening::PauseOver { db, life });
                self.answer_state(db, call);
            }
            Ask::Unpause => {
                process.paused_until = 0;
                self.pause_over(db);
                self.answer_state(db, call);
            }
            Ask::Write(serial) => self.write(db, session, call, serial),
            Ask::Feed { epoch, after, entries } => self.take_feed(db, epoch, after, &entries),
        }
    }

    /// Semi-synchronous replication is set up, where there is any.
    fn set_semi_sync(&mut self, db: usize, ask: &Ask) {
        if self.databases[db].family == Family::Redis {
            return;
        }
        match ask {
            Ask::Acknowledge(on) => self.set_acknowledges(db, *on),
            Ask::Await(count) => self.set_awaits(db, *count),
            _ => {}
        }
    }

    /// A changing command goes wrong.
    fn misobey(&mut self, db: usize, call: u64, ask: &Ask, orders: Orders) {
        match (orders, ask) {
            (Orders::Refuses, _) => self.answer(call, Reply::Failed),
            (Orders::Ignores, _) => self.answer_state(db, call),
            (Orders::Halves, Ask::Fence) => self.close(db),
            (Orders::Halves, Ask::Detach) => self.detach(db),
            (Orders::Halves, Ask::Follow(source)) => self.point_to(db, *source),
            (Orders::Halves | Orders::Loses, _) => {}
        }
    }

    fn answer_state(&mut self, db: usize, call: u64) {
        if let Some((state, boot_id)) = self.state_of(db) {
            self.answer(call, Reply::State(Box::new(state), boot_id));
        }
    }

    fn write(&mut self, db: usize, session: u64, call: u64, serial: u64) {
        let now = self.now;
        let database = &mut self.databases[db];
        let process = database.process.as_mut().expect("a process runs the command");
        if process.paused_until > now {
            process.held.push((session, Queued { call, ask: Ask::Write(serial) }));
            return;
        }
        if process.sql.is_some() {
            self.commit_write(db, session, call, serial);
            return;
        }
        if process.source.is_some() {
            self.answer(call, Reply::ReadOnly);
            return;
        }
        process.copy.append(Some(serial));
        database.disk.push(serial);
        if database.outside {
            self.outside.insert(serial);
        }
        let database = &self.databases[db];
        let fact = Fact::Acknowledged { instance: database.id, term: database.opened, serial };
        self.tell(fact);
        self.answer(call, Reply::Acknowledged);
        self.feed(db);
    }

    /// A pause ran out: what was held back runs now.
    pub(crate) fn pause_over(&mut self, db: usize) {
        let now = self.now;
        let Some(process) = self.databases[db].process.as_mut() else { return };
        if process.paused_until > now || process.stopped {
            return;
        }
        for (session, queued) in std::mem::take(&mut process.held) {
            if !process.killed.contains(&session) {
                process.sessions.entry(session).or_default().push_back(queued);
                process.queued += 1;
            }
        }
        self.plan_work(db);
    }

    /// Ends all sessions but one: their queued commands never run.
    fn end_sessions(&mut self, db: usize, except: u64) {
        let process = self.databases[db].process.as_mut().expect("a process runs the command");
        let link = process.link.session();
        let ended: Vec<u64> = process
            .sessions
            .keys()
            .copied()
            .filter(|session| *session != except && Some(*session) != link)
            .collect();
        let mut calls = Vec::new();
        for session in ended {
            process.killed.insert(session);
            let queue = process.sessions.remove(&session).unwrap_or_default();
            process.queued -= queue.len();
            calls.extend(queue.into_iter().map(|queued| queued.call));
        }
        let held = std::mem::take(&mut process.held);
        calls.extend(held.into_iter().map(|(_, queued)| queued.call));
        for call in calls {
            self.answer(call, Reply::Reset);
        }
        self.drop_waiters(db, except);
    }

    /// Refuses writes for good.
    fn close(&mut self, db: usize) {
        if self.databases[db].family == Family::Redis {
            self.point_to(db, closed());
        } else {
            self.set_read_only(db, true);
        }
    }

    /// Stops receiving.
    fn detach(&mut self, db: usize) {
        if self.databases[db].family == Family::Redis {
            self.point_to(db, closed());
        } else {
            self.drop_link(db);
            let process = self.databases[db].process.as_mut().expect("a process runs the command");
            process.source = None;
        }
    }

    /// Opens a session ahead of its use, as an agent does for its fence.
    pub(crate) fn open_session(&mut self, db: usize, session: u64) {
        if let Some(process) = self.databases[db].process.as_mut()
            && process.listening
        {
            process.sessions.entry(session).or_default();
        }
    }

    /// A session that carries a replication stream.
    pub(crate) fn drop_session(&mut self, db: usize, session: u64) {
        if let Some(process) = self.databases[db].process.as_mut() {
            let queue = process.sessions.remove(&session).unwrap_or_default();
            process.queued -= queue.len();
            process.killed.insert(session);
        }
    }
}
