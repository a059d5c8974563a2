//! What a cluster asks of a kind of server, beside what every scene does.

use std::net::SocketAddr;
use std::time::Duration;

use super::mysql::{self, Mysql, PORT as SQL, binlog};
use super::mysql_trio::write_credentials;
use super::place::Place;
use super::redis::{self, Redis, Setup};
use super::resp;
use super::scene::Server;
use super::trio::PORT;
use super::writer::Writer;
use crate::checker::Micros;

/// One row of a server's own log: who committed it first, writer, serial, and when it began there.
pub type Row = (u32, String, u64, Micros);

/// What a cluster asks of a kind of server, beside what a scene does.
pub trait Member: Server + Sized {
    /// Which server, and how its service is set up.
    type Kind: Clone;
    /// Where its data is in its folder.
    const DATA: &'static str;
    /// Does it see at once that its disk has room again? Others look once a minute.
    const SEES_ROOM: bool;
    /// Does it number its writes by an identity that its data holds?
    const NUMBERS: bool;
    /// A disk for one, in MiB.
    const DISK: u64;

    /// The name of the instance with this number, and of its folder.
    fn instance(number: u8) -> String;
    /// Its name, for people.
    fn title(kind: &Self::Kind) -> String;
    /// Where such servers can live.
    fn place(kind: &Self::Kind) -> Place;
    /// Starts the one with this number, and waits until it answers.
    fn launch(kind: &Self::Kind, place: &Place, number: u8) -> Self;
    /// Lines of the service.
    fn lines(kind: &Self::Kind, place: &Place) -> String;
    /// Does its service promise to lose nothing?
    fn lossless(kind: &Self::Kind) -> bool;
    /// Makes it take writes for the first time.
    fn begin(&self);
    /// Makes it take writes, as a person might; it may be down.
    fn open_by_hand(&self);
    /// Makes it replicate.
    fn replicate(&self, from: SocketAddr);
    /// Starts it again with nothing on its disk, as one that can copy all from another one, and
    /// waits until it answers.
    fn make_anew(&self);
    /// Starts it again with what its disk has, and waits until it answers. One that refuses its own
    /// file, as Redis 7.0 did after its disk had been full, begins with nothing, as a person would
    /// have it; whether it did.
    fn restart_or_begin_anew(&self) -> bool;
    /// Clients' rows in its own log, in order; none: it keeps no log.
    fn log(&self) -> Option<Vec<Row>>;
    /// A client that keeps the answer of a name.
    fn cached(key: &str, dns: SocketAddr, name: &str, keep: Duration) -> Writer;
}

impl Member for Redis {
    type Kind = redis::Flavour;
    const DATA: &'static str = "appendonlydir";
    const SEES_ROOM: bool = true;
    const NUMBERS: bool = false;
    const DISK: u64 = 400;

    fn instance(number: u8) -> String {
        format!("cache{number}")
    }

    fn title(kind: &Self::Kind) -> String {
        match kind {
            redis::Flavour::Redis => "redis".into(),
            redis::Flavour::Valkey(_) => "valkey".into(),
        }
    }

    fn place(kind: &Self::Kind) -> Place {
        Place::claim_in(&kind.parent())
    }

    fn launch(kind: &Self::Kind, place: &Place, number: u8) -> Self {
        let setup = Setup { flavour: kind.clone(), durable: true, ..Setup::default() };
        let address = place.socket(number, PORT);
        Self::start(place.folder(), &Self::instance(number), address, &setup)
    }

    fn lines(_: &Self::Kind, _: &Place) -> String {
        "kind = \"redis\"\n".into()
    }

    fn lossless(_: &Self::Kind) -> bool {
        false
    }

    fn begin(&self) {
        self.open();
    }

    fn open_by_hand(&self) {
        // Who is down takes no writes.
        let _ = resp::ask(self.address, &["REPLICAOF", "NO", "ONE"]);
    }

    fn replicate(&self, from: SocketAddr) {
        self.follow(from);
    }

    fn make_anew(&self) {
        self.restart_emptied();
    }

    fn restart_or_begin_anew(&self) -> bool {
        Self::restart_or_begin_anew(self)
    }

    fn log(&self) -> Option<Vec<Row>> {
        None
    }

    fn cached(key: &str, dns: SocketAddr, name: &str, keep: Duration) -> Writer {
        Writer::cached(key, dns, name, PORT, keep)
    }
}

/// MySQL or MariaDB, and whether their service loses nothing.
#[derive(Debug, Clone)]
pub struct Sql {
    /// Which server.
    pub flavour: mysql::Flavour,
    /// `loss = "none"`.
    pub lossless: bool,
}

impl Member for Mysql {
    type Kind = Sql;
    const DATA: &'static str = "data";
    const SEES_ROOM: bool = false;
    const NUMBERS: bool = true;
    const DISK: u64 = 1000;

    fn instance(number: u8) -> String {
        format!("db{number}")
    }

    fn title(kind: &Sql) -> String {
        let loss = if kind.lossless { ", loss = none" } else { "" };
        format!("{}{loss}", kind.flavour.name())
    }

    fn place(kind: &Sql) -> Place {
        Place::claim_in(&kind.flavour.parent())
    }

    fn launch(kind: &Sql, place: &Place, number: u8) -> Self {
        let mut setup = mysql::Setup::new(kind.flavour.clone());
        setup.semisync = kind.lossless;
        let address = place.socket(number, SQL);
        Self::start(place.folder(), &Self::instance(number), number.into(), address, &setup)
    }

    fn lines(kind: &Sql, place: &Place) -> String {
        let file = place.path("credentials");
        write_credentials(&file, mysql::SENGU.password);
        let loss = if kind.lossless { "loss = \"none\"\n" } else { "" };
        format!("kind = \"mysql\"\ncredentials = \"{}\"\ntimeout = \"1s\"\n{loss}", file.display())
    }

    fn lossless(kind: &Sql) -> bool {
        kind.lossless
    }

    fn begin(&self) {
        self.open();
        self.write(0);
    }

    fn open_by_hand(&self) {
        // Who is down takes no writes.
        let _ = self.try_ask("SET GLOBAL read_only = OFF");
    }

    fn replicate(&self, from: SocketAddr) {
        self.follow(from);
    }

    fn make_anew(&self) {
        // What it had written itself comes back to it under a number of its own.
        self.restart_renewed();
    }

    fn restart_or_begin_anew(&self) -> bool {
        self.restart();
        false
    }

    fn log(&self) -> Option<Vec<Row>> {
        let row = |commit: binlog::Commit| {
            let at = Micros::try_from(commit.at).unwrap_or(Micros::MAX);
            (commit.origin, commit.writer, commit.serial, at)
        };
        Some(binlog::commits(self).into_iter().map(row).collect())
    }

    fn cached(key: &str, dns: SocketAddr, name: &str, keep: Duration) -> Writer {
        Writer::sql_cached(key, dns, name, SQL, keep)
    }
}
