//! MySQL and MariaDB: what is shown for one is shown for the other, unless only one can do it.
//!
//! Every test ends with the judge: no two servers took writes in turns across a move, by their
//! own binary logs and by what every client was told.

mod comeback;
mod failover;
mod obstacles;
mod semisync;
mod switchover;
mod trouble;

use std::net::SocketAddr;

use integration::rig::hosts::{Hosted, Told};
use integration::rig::mysql::Mysql;
use integration::rig::writer::lost;
use integration::rig::{Ack, MysqlTrio, Writer};

use crate::LATER;

/// A test for MariaDB and one for MySQL.
macro_rules! for_both {
    ($run:path: $(#[$first:meta])* $mariadb:ident, $(#[$second:meta])* $mysql:ident) => {
        #[test]
        $(#[$first])*
        fn $mariadb() {
            $run(integration::rig::mysql::Flavour::MariaDb);
        }

        #[test]
        $(#[$second])*
        fn $mysql() {
            $run(integration::rig::mysql::Flavour::mysql());
        }
    };
}
use for_both;

/// A client pinned to each server, and one that follows the name of the master.
struct Clients {
    pinned: Vec<Writer>,
    following: Writer,
}

impl Clients {
    fn start(trio: &MysqlTrio) -> Self {
        let pin = |server: &Mysql| trio.pinned(&server.name, server.address);
        let pinned = trio.servers.iter().map(pin).collect();
        Self { pinned, following: trio.following("following") }
    }

    /// Starts clients and waits until they have written something.
    #[track_caller]
    fn writing(trio: &MysqlTrio) -> Self {
        trio.until_ready(LATER * 2);
        let clients = Self::start(trio);
        let master = &trio.servers[0];
        clients.pinned[0].until_acked_by(master.address, 30);
        clients.following.until_acked_by(master.address, 30);
        clients
    }

    /// Ends them: what each was told.
    fn end(self) -> Vec<Told> {
        let all = self.pinned.into_iter().chain([self.following]);
        all.map(|writer| (writer.key.clone(), writer.end())).collect()
    }

    /// Ends them and judges; whoever is down comes back first, so that its log can be read.
    #[track_caller]
    fn judge(self, trio: &MysqlTrio, masters: &[SocketAddr]) -> Vec<Told> {
        let told = self.end();
        judge(trio, masters, &told);
        told
    }
}

/// Everything that clients were told.
fn all(told: &[Told]) -> Vec<Ack> {
    told.iter().flat_map(|(_, acks)| acks.iter().copied()).collect()
}

/// W, by what the clients were told and by the servers' binary logs.
#[track_caller]
pub(crate) fn judge(trio: &MysqlTrio, masters: &[SocketAddr], told: &[Told]) {
    for server in trio.servers.iter().filter(|server| server.exited()) {
        server.restart();
    }
    let servers: Vec<&Mysql> = trio.servers.iter().collect();
    Mysql::judge(&servers, masters, told);
}

/// Nothing that any client was told is missing there.
#[track_caller]
fn assert_nothing_lost(told: &[Told], on: &Mysql) {
    for (name, acks) in told {
        assert_eq!(lost(acks, &on.serials(name)), [0_u64; 0], "of {name}, on {}", on.name);
    }
}
