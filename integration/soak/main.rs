//! Real faults on real servers for as long as asked, judged by the checker.
//!
//! Each database has three hosts, an etcd and a network of its own, all at once. An episode is
//! one or two faults drawn from the seed, then quiet, then the verdict; the first bad one ends
//! that database's run and is told whole; servers begin anew after some episodes. With
//! `--isolations` the master's host is cut off that often on each database instead. Nothing stays
//! behind: what it starts ends with it, and its mounts are in a namespace of its own.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

mod sabotages;
mod table;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use integration::rig::cluster::{Cluster, Timing};
use integration::rig::episode::Pace;
use integration::rig::isolation::{From, Tally, round};
use integration::rig::member::{Member, Sql};
use integration::rig::mysql::{self, Mysql};
use integration::rig::redis::{self, Redis};
use integration::rig::soak::{self, Plan};
use integration::rig::staged::Staged;

/// Real faults on real servers, judged by the checker.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// How long random faults come; the episode that is under way then is ended.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// What faults are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first episode.
    #[arg(long, default_value_t = 0)]
    from: u32,
    /// So many isolations of the master's host instead, on each database.
    #[arg(long)]
    isolations: Option<u32>,
    /// These faults alone, each time.
    #[arg(long, value_enum)]
    only: Option<Staged>,
    /// So many episodes at most.
    #[arg(long)]
    episodes: Option<u32>,
    /// Each fault that has a name once, one database after the other, and the table of what came
    /// of it.
    #[arg(long)]
    table: bool,
    /// Whether the checker sees agents that break their rules, and which it does not: needs
    /// `sengu-sabotaged` beside this program.
    #[arg(long)]
    sabotage: bool,
    /// Which databases, all at once.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "redis,valkey,mariadb,mysql")]
    databases: Vec<Database>,
}

/// So many rounds on the same servers.
const FRESH: usize = 5;

/// A database, and what its service promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Database {
    Redis,
    Valkey,
    Mariadb,
    Mysql,
    /// With `loss = "none"`.
    MariadbLossless,
    /// With `loss = "none"`.
    MysqlLossless,
}

/// Set for the run of itself whose mounts nobody else sees, and which end with it.
const APART: &str = "SENGU_SOAK_APART";

fn main() -> ExitCode {
    let options = Options::parse();
    if std::env::var_os(APART).is_none() {
        let own = std::env::current_exe().expect("a program knows itself");
        let mut apart = Command::new("unshare");
        apart.args(["--mount", "--propagation", "private", "--"]).arg(own);
        let error = apart.args(std::env::args_os().skip(1)).env(APART, "1").exec();
        eprintln!("unshare: {error}; it needs root");
        return ExitCode::FAILURE;
    }
    if options.sabotage {
        return sabotages::all();
    }
    if options.table {
        return table::all(&options.databases, options.seed, options.only);
    }
    let mut running = Vec::new();
    for database in options.databases.clone() {
        let options = options.clone();
        running.push(thread::spawn(move || database.play(&options)));
    }
    // A thread that panics has said why.
    let good: Vec<bool> =
        running.into_iter().map(|thread| thread.join().unwrap_or(false)).collect();
    if good.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is played on one database.
trait Play {
    /// What comes of it.
    type Told;
    fn on<S: Member>(&self, kind: &S::Kind) -> Self::Told;
}

impl Database {
    fn play<P: Play>(self, play: &P) -> P::Told {
        let sql = |flavour, lossless| Sql { flavour, lossless };
        match self {
            Self::Redis => play.on::<Redis>(&redis::Flavour::Redis),
            Self::Valkey => play.on::<Redis>(&redis::Flavour::valkey()),
            Self::Mariadb => play.on::<Mysql>(&sql(mysql::Flavour::MariaDb, false)),
            Self::Mysql => play.on::<Mysql>(&sql(mysql::Flavour::mysql(), false)),
            Self::MariadbLossless => play.on::<Mysql>(&sql(mysql::Flavour::MariaDb, true)),
            Self::MysqlLossless => play.on::<Mysql>(&sql(mysql::Flavour::mysql(), true)),
        }
    }
}

impl Play for Options {
    type Told = bool;

    fn on<S: Member>(&self, kind: &S::Kind) -> bool {
        let title = S::title(kind);
        let outcome = match self.isolations {
            Some(rounds) => isolations::<S>(kind, rounds),
            None => soak::<S>(kind, self),
        };
        match outcome {
            Ok(tally) => {
                println!("{title}: clean: {tally}");
                true
            }
            Err(wrong) => {
                eprintln!("{title}: {wrong}");
                false
            }
        }
    }
}

/// Servers begin anew after some rounds: each one is judged by logs that grow with all before.
fn isolations<S: Member>(kind: &S::Kind, rounds: u32) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let numbers: Vec<u32> = (0..rounds).collect();
    for few in numbers.chunks(FRESH) {
        let mut cluster = Cluster::<S>::adopted(kind.clone(), Timing::SHORT);
        for number in few {
            let began = Instant::now();
            let report = round(&mut cluster, From::All, *number)
                .map_err(|wrong| format!("{wrong}\n{tally}"))?;
            println!("round {number} ({:.1} s): {report}", began.elapsed().as_secs_f64());
            tally.add(&report);
        }
        tally.end();
    }
    Ok(tally)
}

fn soak<S: Member>(kind: &S::Kind, options: &Options) -> Result<Tally, String> {
    let plan = Plan {
        seed: options.seed,
        from: options.from,
        episodes: options.episodes,
        only: options.only,
        pace: if options.databases.len() > 2 { Pace::Seldom } else { Pace::Usual },
        ends: Instant::now() + Duration::from_secs(options.minutes * 60),
    };
    soak::play::<S>(kind, &plan, |told| println!("{told}"))
}
