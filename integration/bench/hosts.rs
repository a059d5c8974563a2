//! `cargo run --release -p integration --bin bench-hosts`: how long nobody knows the master when
//! several hosts share an etcd, and what a crowd of application hosts costs.
//!
//! `failovers`: three hosts with an agent and a server each; the process of the master is killed,
//! or agent and server of its host stand still at once, until a third host's agent names another.
//! `crowd`: agents of application hosts, which have no databases, beside two database hosts with
//! many services: what etcd is asked, what an agent takes, and when each agent's outputs could
//! name the new master after a move. Not part of the tests.
#![expect(clippy::print_stdout, reason = "a command for people")]

mod crowd;

use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use integration::rig::hosts::{Hosted, Hosts, Settings};
use integration::rig::mysql::{Flavour, Mysql};
use integration::rig::redis::Redis;
use integration::rig::{MysqlSettings, soon, trio};
use rustix::process::Signal;

const LATER: Duration = Duration::from_secs(60);

/// Measure several hosts on one etcd.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Until the name leads to the next master.
    Failovers {
        /// Of which database.
        #[arg(long, value_enum, default_value_t = Database::Redis)]
        database: Database,
        /// How often the process of the master is killed, and its host.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// With a lease of 2 s on an etcd with an election of 250 ms, not with the defaults.
        #[arg(long)]
        tuned: bool,
    },
    /// What a crowd of application hosts costs, and how soon a move reaches all of them.
    Crowd {
        /// How many agents.
        #[arg(long, default_value_t = 100)]
        agents: u8,
        /// How many services.
        #[arg(long, default_value_t = 20)]
        services: u16,
        /// How many moves.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Database {
    Redis,
    Mariadb,
    Mysql,
}

/// What dies.
#[derive(Debug, Clone, Copy)]
enum Death {
    Process,
    Host,
}

fn main() {
    match Arguments::parse().what {
        What::Failovers { database, rounds, tuned } => match database {
            Database::Redis => {
                let lines = format!("failover = \"auto\"\n{}", trio::Settings::NO_COOLDOWN);
                failovers(
                    "redis",
                    &Settings::<Redis>::new(trio::Settings::service(&lines)),
                    rounds,
                    tuned,
                );
            }
            Database::Mariadb => mysql("mariadb", Flavour::MariaDb, rounds, tuned),
            Database::Mysql => mysql("mysql", Flavour::mysql(), rounds, tuned),
        },
        What::Crowd { agents, services, rounds } => crowd::run(agents, services, rounds),
    }
}

fn mysql(name: &str, flavour: Flavour, rounds: usize, tuned: bool) {
    let scene = MysqlSettings::new(flavour).with(MysqlSettings::NO_COOLDOWN);
    failovers(name, &Settings::<Mysql>::new(scene), rounds, tuned);
}

fn failovers<S: Measured>(name: &str, settings: &Settings<S>, rounds: usize, tuned: bool) {
    let mut settings = Settings::<S>::new(settings.scene.clone());
    let lease = if tuned {
        settings.store = "lease = \"2s\"\nfence = \"500ms\"".into();
        settings.election = 250;
        "2 s"
    } else {
        "6 s"
    };
    println!("load average {}", load());
    println!("| {name}, lease {lease} | rounds | until named: median | 95 % | longest |");
    println!("|---|---|---|---|---|");
    let mut hosts = Hosts::adopted(&settings);
    for (what, death) in [("process killed", Death::Process), ("host stands still", Death::Host)] {
        let times: Vec<_> = (0..rounds).map(|_| round(&mut hosts, death)).collect();
        println!(
            "| {what} | {} | {} | {} | {} |",
            times.len(),
            shown(&times, 50),
            shown(&times, 95),
            shown(&times, 100)
        );
    }
    println!("load average {}", load());
}

/// What is measured can come back as a copy.
trait Measured: Hosted<Settings: Clone> {
    /// Brings it back as a copy that may take over again.
    fn bring_back(&self);
}

impl Measured for Redis {
    fn bring_back(&self) {
        self.restart();
    }
}

impl Measured for Mysql {
    /// With nothing, since a transaction of its own that it kept would set it apart.
    fn bring_back(&self) {
        self.restart_renewed();
    }
}

/// One death, timed, and the way back.
fn round<S: Measured>(hosts: &mut Hosts<S>, death: Death) -> Duration {
    let name = Hosts::<S>::master_name();
    let at = |hosts: &Hosts<S>, reader: usize| match hosts.hosts[reader].agent.addresses(&name)[..]
    {
        [one] => hosts.hosts.iter().position(|host| host.server.address().ip() == one),
        _ => None,
    };
    let old = soon(LATER, || at(hosts, 0)).expect("somebody is named");
    let reader = (old + 1) % hosts.hosts.len();
    hosts.until_ready(&hosts.hosts[reader], LATER);
    let died = Instant::now();
    match death {
        Death::Process => hosts.hosts[old].server.kill(),
        Death::Host => {
            hosts.hosts[old].agent.signal(Signal::STOP);
            hosts.hosts[old].server.stop();
        }
    }
    soon(LATER, || at(hosts, reader).filter(|new| *new != old)).expect("another is named");
    let took = died.elapsed();
    if matches!(death, Death::Host) {
        hosts.hosts[old].server.kill();
        hosts.hosts[old].agent.kill();
    }
    hosts.hosts[old].server.bring_back();
    if matches!(death, Death::Host) {
        hosts.hosts[old].agent.restart();
    }
    took
}

/// The nearest rank, in milliseconds.
fn shown(times: &[Duration], percent: usize) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    let found = times.get(rank - 1);
    found.map_or_else(|| "-".to_owned(), |time| format!("{:.0} ms", time.as_secs_f64() * 1000.0))
}

/// What else the machine did.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
