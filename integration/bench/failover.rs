//! `cargo run --release -p integration --bin bench-failover`: how long nobody knows the master.
//!
//! In one run, on the same machine: the master is killed under a client and the time is taken
//! until the name leads to the new one. Then planned moves: the time without an acknowledgement,
//! and what was lost. For Redis the same with three Redis Sentinels, with the detection time that
//! Sentinel comes with (30 s) and with 1 s; for MySQL and MariaDB with and without a replica that
//! acknowledges each commit. Not part of the tests.
#![expect(clippy::print_stdout, reason = "a command for people")]

mod sentinel;

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use integration::rig::mysql::Flavour;
use integration::rig::redis::Redis;
use integration::rig::writer::{Ack, gap, lost};
use integration::rig::{Mysql, MysqlSettings, MysqlTrio, Scene, Server, Settings, Trio};

const LATER: Duration = Duration::from_secs(30);

/// Measure failovers and switchovers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Of which database.
    #[arg(long, value_enum, default_value_t = Database::Redis)]
    database: Database,
    /// How often the master is killed, and moved.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How often with Sentinel's own detection time, which is 30 s.
    #[arg(long, default_value_t = 3)]
    default_rounds: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Database {
    Redis,
    Mariadb,
    Mysql,
}

/// What one way of failing over took.
#[derive(Default)]
struct Times {
    /// Until the name led to the new master.
    named: Vec<Duration>,
    /// Without an acknowledgement, for a client that asks for the name when it must.
    gap: Vec<Duration>,
    acked: usize,
    lost: usize,
}

impl Times {
    /// Takes one round down: what its client was told, and what the new master has.
    fn note(&mut self, acks: &[Ack], serials: &[String]) {
        self.gap.push(gap(acks));
        self.acked += acks.len();
        self.lost += lost(acks, serials).len();
    }
}

fn main() {
    let Arguments { database, rounds, default_rounds } = Arguments::parse();
    println!(
        "| {:38} | rounds | until named: median | 95 % | write gap: median | 95 % | \
         lost | of |",
        ""
    );
    println!("|---|---|---|---|---|---|---|---|");
    match database {
        Database::Redis => redis(rounds, default_rounds),
        Database::Mariadb => mysql(&Flavour::MariaDb, rounds),
        Database::Mysql => mysql(&Flavour::mysql(), rounds),
    }
}

fn redis(rounds: usize, default_rounds: usize) {
    let settings = Settings::service(&format!("failover = \"auto\"\n{}", Settings::NO_COOLDOWN));
    row("sengu, failover", &failovers(&Trio::adopted(&settings), rounds));
    let quick = Duration::from_secs(1);
    row("Sentinel, down-after 1 s", &sentinel::failovers(rounds, quick));
    let default = Duration::from_secs(30);
    row("Sentinel, down-after 30 s (default)", &sentinel::failovers(default_rounds, default));
    row("sengu, switchover", &switchovers(&Trio::adopted(&settings), rounds));
}

fn mysql(flavour: &Flavour, rounds: usize) {
    let bounded = MysqlSettings::new(flavour.clone()).with(MysqlSettings::NO_COOLDOWN);
    let none = MysqlSettings::lossless(flavour.clone()).with(MysqlSettings::NO_COOLDOWN);
    for (loss, settings) in [("bounded", &bounded), ("none", &none)] {
        let trio = MysqlTrio::adopted(settings);
        row(&format!("{}, failover, loss = {loss}", flavour.name()), &failovers(&trio, rounds));
        drop(trio);
        let trio = MysqlTrio::adopted(settings);
        row(&format!("{}, switchover, loss = {loss}", flavour.name()), &switchovers(&trio, rounds));
    }
}

fn row(what: &str, times: &Times) {
    println!(
        "| {what:38} | {} | {} | {} | {} | {} | {} | {} |",
        times.gap.len(),
        shown(quantile(&times.named, 50)),
        shown(quantile(&times.named, 95)),
        shown(quantile(&times.gap, 50)),
        shown(quantile(&times.gap, 95)),
        times.lost,
        times.acked
    );
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0))
}

/// The nearest rank.
fn quantile(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.checked_sub(1)?).copied()
}

/// What is done with a server of either kind.
trait Measured: Server {
    /// Waits until its master may be lost.
    fn until_ready(scene: &Scene<Self>)
    where
        Self: Sized,
    {
        scene.until_steady(LATER);
    }

    /// Brings it back as a copy that may take over again.
    fn bring_back(&self);
}

impl Measured for Redis {
    fn bring_back(&self) {
        self.restart();
    }
}

impl Measured for Mysql {
    fn until_ready(scene: &Scene<Self>) {
        scene.until_ready(LATER);
    }

    /// With nothing, since a transaction of its own that it kept would set it apart.
    fn bring_back(&self) {
        self.restart_renewed();
    }
}

fn failovers<S: Measured>(scene: &Scene<S>, rounds: usize) -> Times {
    let mut times = Times::default();
    for round in 0..rounds {
        S::until_ready(scene);
        let old = scene.until_steady(LATER);
        let writer = scene.following(&format!("round{round}"));
        writer.until_acked_by(old.address(), 50);
        let killed = Instant::now();
        old.kill();
        let new = scene.until_other(old, LATER);
        times.named.push(killed.elapsed());
        writer.until_acked_by(new.address(), 20);
        let key = writer.key.clone();
        times.note(&writer.end(), &new.serials(&key));
        old.bring_back();
    }
    times
}

fn switchovers<S: Measured>(scene: &Scene<S>, rounds: usize) -> Times {
    let mut times = Times::default();
    for round in 0..rounds {
        S::until_ready(scene);
        let old = scene.until_steady(LATER);
        let writer = scene.following(&format!("round{round}"));
        writer.until_acked_by(old.address(), 50);
        scene.switchover(&[]).good();
        let new = scene.until_other(old, LATER);
        writer.until_acked_by(new.address(), 20);
        let key = writer.key.clone();
        times.note(&writer.end(), &new.serials(&key));
    }
    times
}
