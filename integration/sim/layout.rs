//! How a world stands at its beginning: databases on hosts, one master for each service and the
//! others following it, as before sengu came; and what of that never changes.

use std::net::SocketAddr;
use std::time::Duration;

use super::agent::micros;
use super::database::Database;
use super::fact::{Id, Layout};
use super::options::Options;
use super::schedule::{MILLI, SECOND};
use super::world::{Happening, World};

impl World {
    /// Processes start, agents soon after, clients when something can answer.
    pub(crate) fn begin(&mut self) {
        for service in 0..self.options.services {
            let all = self.of_service(service);
            let drawn = self.random.database.index(all.len());
            let master = all[self.options.first_master.unwrap_or(drawn)];
            let history = self.random.database.any();
            for db in all {
                self.place_database(db, master, history);
            }
        }
        for host in 0..self.hosts() {
            let wait = self.random.agent.between(0, SECOND / 2);
            self.plan(wait, Happening::AgentStart { host });
        }
        self.lay_clients();
        self.plan_sample();
        self.plan(SECOND, Happening::Audit);
    }

    /// A database as it stands before sengu comes: one master, the others follow it.
    fn place_database(&mut self, db: usize, master: usize, history: u64) {
        self.start_process(db);
        let source = self.databases[master].address;
        if db != master {
            self.databases[db].saved_source = Some(source);
        }
        let process = self.databases[db].process.as_mut().expect("it was just started");
        process.copy.history = history;
        process.copy.provable = true;
        process.source = (db != master).then_some(source);
        if let Some(sql) = &mut process.sql {
            sql.read_only = db != master;
        }
        let life = process.life;
        self.tell_writable(db);
        if db != master {
            self.plan(5 * MILLI, Happening::Connect { db, life });
        }
    }
}

/// The databases of a world that is drawn so.
pub(crate) fn lay_databases(options: &Options) -> Vec<Database> {
    let mut databases = Vec::new();
    for service in 0..options.services {
        for number in 0..options.instances {
            let host = if options.hosts == 1 { 0 } else { number };
            let octet = u8::try_from(host + 1).unwrap_or(u8::MAX);
            let port = 6379 + 100 * service + if options.hosts == 1 { number } else { 0 };
            let address =
                SocketAddr::from(([10, 0, 0, octet], u16::try_from(port).unwrap_or(u16::MAX)));
            let id = Id { service, number };
            let fenced = !options.stays_open(id);
            let priority = options.priorities[number];
            databases.push(Database::new(id, host, address, options.family, fenced, priority));
        }
    }
    databases
}

/// What does not change in it.
pub(crate) fn lay_out(options: &Options, databases: &[Database]) -> Layout {
    let longest = options.leases.values().copied().fold(options.judge.lease(), Duration::max);
    let patience = 2 * micros(options.probe.0 + options.probe.1)
        + micros(options.fence())
        + micros(options.policy.hung_after)
        + 3 * SECOND;
    Layout {
        hosts: databases.iter().map(|database| (database.id, database.host)).collect(),
        lease: micros(longest),
        files: databases.iter().filter(|it| !it.starts_fenced).map(|it| it.id).collect(),
        quiet: options.lost_requests == 0 && options.lost_replies == 0,
        fence: micros(options.fence()),
        look: micros(options.probe.0 + options.probe.1),
        patience,
    }
}
