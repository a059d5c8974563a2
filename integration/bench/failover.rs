//! `cargo run --release -p integration --bin bench-failover`: how long nobody knows the master.
//!
//! In one run, on the same machine: the master is killed under clients and the time is taken
//! until the name leads to the new one, by sengu and by three Redis Sentinels, with the detection
//! time that Sentinel comes with (30 s) and with 1 s. Then planned moves by sengu: the time
//! without an acknowledgement, and what was lost. Not part of the tests.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use integration::rig::child::Child;
use integration::rig::redis::{Redis, Setup};
use integration::rig::resp::{Reply, Resp};
use integration::rig::trio::{MASTER, PORT};
use integration::rig::writer::{Ack, gap, lost};
use integration::rig::{Place, Settings, Trio, Writer, soon, until};

/// The port of the Sentinels.
const SENTINEL: u16 = 26379;
const LATER: Duration = Duration::from_secs(20);

/// Measure failovers and switchovers.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often the master is killed, and moved.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How often with Sentinel's own detection time, which is 30 s.
    #[arg(long, default_value_t = 3)]
    default_rounds: usize,
}

/// What one way of failing over took.
#[derive(Default)]
struct Times {
    /// Until the name led to the new master.
    named: Vec<Duration>,
    /// Without an acknowledgement, for a client that asks for the name when it must.
    gap: Vec<Duration>,
    lost: usize,
}

fn main() {
    let arguments = Arguments::parse();
    println!(
        "| {:34} | rounds | until named: median | 95 % | write gap: median | 95 % | lost |",
        ""
    );
    println!("|---|---|---|---|---|---|---|");
    row("sengu, failover", &sengu_failovers(arguments.rounds));
    let quick = Duration::from_secs(1);
    row("Sentinel, down-after 1 s", &sentinel_failovers(arguments.rounds, quick));
    let default = Duration::from_secs(30);
    row(
        "Sentinel, down-after 30 s (default)",
        &sentinel_failovers(arguments.default_rounds, default),
    );
    row("sengu, switchover", &sengu_switchovers(arguments.rounds));
}

fn row(what: &str, times: &Times) {
    println!(
        "| {what:34} | {} | {} | {} | {} | {} | {} |",
        times.gap.len(),
        shown(quantile(&times.named, 50)),
        shown(quantile(&times.named, 95)),
        shown(quantile(&times.gap, 50)),
        shown(quantile(&times.gap, 95)),
        times.lost
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

fn settings() -> Settings {
    Settings::service(&format!("failover = \"auto\"\n{}", Settings::NO_COOLDOWN))
}

/// A client of its own for each round, so that its gap is that round's.
fn client(trio: &Trio, round: usize) -> Writer {
    Writer::following(&format!("round{round}"), trio.agent.dns, MASTER, PORT)
}

fn sengu_failovers(rounds: usize) -> Times {
    let trio = Trio::adopted(&settings());
    let mut times = Times::default();
    for round in 0..rounds {
        let old = trio.until_steady(LATER);
        let writer = client(&trio, round);
        writer.until_acked_by(old.address, 50);
        let killed = Instant::now();
        old.kill();
        let new = trio.until_other(old, LATER);
        times.named.push(killed.elapsed());
        writer.until_acked_by(new.address, 20);
        note(&mut times, &writer.key.clone(), &writer.end(), new);
        old.restart();
    }
    times
}

fn sengu_switchovers(rounds: usize) -> Times {
    let trio = Trio::adopted(&settings());
    let mut times = Times::default();
    for round in 0..rounds {
        let old = trio.until_steady(LATER);
        let writer = client(&trio, round);
        writer.until_acked_by(old.address, 50);
        trio.switchover(&[]).good();
        let new = trio.until_other(old, LATER);
        writer.until_acked_by(new.address, 20);
        note(&mut times, &writer.key.clone(), &writer.end(), new);
    }
    times
}

fn note(times: &mut Times, key: &str, acks: &[Ack], master: &Redis) {
    times.gap.push(gap(acks));
    times.lost += lost(acks, &master.list(key)).len();
}

/// Three servers and three Sentinels, as their manual has them.
struct Watched {
    servers: Vec<Redis>,
    sentinels: Vec<SocketAddr>,
    _processes: Vec<Child>,
    _place: Place,
}

impl Watched {
    fn start(detection: Duration) -> Self {
        let place = Place::claim();
        let server = Setup { fenced: false, ..Setup::default() };
        let servers = Trio::servers(&place, &Settings { server, ..Settings::default() });
        let master = servers[0].address;
        for replica in &servers[1..] {
            replica.follow(master);
        }
        let sentinels: Vec<_> = (11..=13).map(|number| place.socket(number, SENTINEL)).collect();
        let processes = sentinels.iter().map(|at| sentinel(&place, *at, master, detection));
        let processes = processes.collect();
        let watched = Self { servers, sentinels, _processes: processes, _place: place };
        watched.until_known();
        watched
    }

    fn until_known(&self) {
        for at in &self.sentinels {
            until("each sentinel knows the others and both copies", LATER, || {
                let fields = master_fields(*at)?;
                let others = fields.get("num-other-sentinels")? == "2";
                (others && fields.get("num-slaves")? == "2").then_some(())
            });
        }
    }

    /// What a client of Sentinel asks.
    fn named(&self, connection: &mut Resp) -> Option<SocketAddr> {
        match connection.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "foo"]).ok()? {
            Reply::List(words) => {
                let [host, port] = &words[..] else { return None };
                format!("{}:{}", host.text(), port.text()).parse().ok()
            }
            _ => None,
        }
    }

    fn server(&self, address: SocketAddr) -> &Redis {
        let found = self.servers.iter().find(|server| server.address == address);
        found.expect("a sentinel names one of the servers")
    }
}

fn master_fields(at: SocketAddr) -> Option<std::collections::BTreeMap<String, String>> {
    let Reply::List(words) =
        integration::rig::resp::ask(at, &["SENTINEL", "MASTER", "foo"]).ok()?
    else {
        return None;
    };
    let words: Vec<String> = words.iter().map(Reply::text).collect();
    Some(words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

fn sentinel(place: &Place, at: SocketAddr, master: SocketAddr, detection: Duration) -> Child {
    let (ip, port) = (at.ip(), at.port());
    let folder = place.path(&format!("sentinel-{ip}"));
    fs::create_dir_all(&folder).expect("the sentinel's folder can be made");
    let file = folder.join("sentinel.conf");
    let text = format!(
        "bind {ip}\nport {port}\nbind-source-addr {ip}\nprotected-mode no\ndir {}\n\
         sentinel monitor foo {} {} 2\nsentinel down-after-milliseconds foo {}\n\
         sentinel failover-timeout foo 1000\n",
        folder.display(),
        master.ip(),
        master.port(),
        detection.as_millis()
    );
    fs::write(&file, text).expect("the sentinel's configuration can be written");
    let words = ["redis-sentinel".to_owned(), file.display().to_string()];
    Child::start(&words, &folder.join("log"), &[]).expect("a sentinel can be started")
}

fn sentinel_failovers(rounds: usize, detection: Duration) -> Times {
    let mut times = Times::default();
    if rounds == 0 {
        return times;
    }
    let watched = Watched::start(detection);
    let mut connection =
        Resp::connect(watched.sentinels[0], Duration::from_secs(5)).expect("a sentinel answers");
    let patience = detection + LATER;
    for round in 0..rounds {
        let old = until("a master is named", LATER, || watched.named(&mut connection));
        let old = watched.server(old);
        let key = format!("round{round}");
        let writer = Writer::sentinel(&key, watched.sentinels[0], "foo");
        writer.until_acked_by(old.address, 50);
        let killed = Instant::now();
        old.kill();
        let new = until("another master is named", patience, || {
            watched.named(&mut connection).filter(|named| *named != old.address)
        });
        times.named.push(killed.elapsed());
        let new = watched.server(new);
        writer.until_acked_by(new.address, 20);
        note(&mut times, &key, &writer.end(), new);
        // By hand, since a sentinel takes its time to do this.
        old.restart();
        for other in watched.servers.iter().filter(|other| other.address != new.address) {
            until("the others follow", patience, || {
                if !other.follows(new.address) && other.address == old.address {
                    let (host, port) = (new.address.ip().to_string(), PORT.to_string());
                    other.ask(&["REPLICAOF", &host, &port]);
                }
                other.follows(new.address).then_some(())
            });
        }
        watched.until_known();
        // One that is slow to agree is part of what is measured: not waited for without end.
        let _agreed = soon(patience, || {
            let well = watched.sentinels.iter().all(|at| {
                master_fields(*at).is_some_and(|fields| {
                    fields.get("flags").is_some_and(|flags| flags == "master")
                        && fields.get("ip").is_some_and(|ip| *ip == new.address.ip().to_string())
                })
            });
            well.then_some(())
        });
    }
    times
}
