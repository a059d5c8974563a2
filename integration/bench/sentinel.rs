//! Three Redis servers under three Sentinels, as their manual has them: what users run today.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use integration::rig::child::Child;
use integration::rig::redis::{Redis, Setup};
use integration::rig::resp::{Reply, Resp};
use integration::rig::trio::PORT;
use integration::rig::{Place, Settings, Trio, Writer, soon, until};

use super::{LATER, Times};

/// The port of the Sentinels.
const SENTINEL: u16 = 26379;

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

/// Kills the master again and again, with this detection time.
pub(super) fn failovers(rounds: usize, detection: Duration) -> Times {
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
        times.note(&writer.end(), &new.list(&key));
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
