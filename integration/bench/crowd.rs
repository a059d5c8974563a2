//! Two database hosts with many services, and a crowd of application hosts that only read.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use integration::rig::etcd::Etcd;
use integration::rig::redis::{Redis, Setup};
use integration::rig::{Agent, Place, Watcher, http, soon};
use serde_json::Value;

use super::{LATER, load, shown};

/// The address of the first application host in its block; the others follow.
const FIRST: u8 = 110;
/// The port of the first service.
const PORT: u16 = 7001;
/// Of how many agents one is asked its DNS all the time: all would keep the machine busy.
const ASKED: usize = 10;
/// How long etcd is watched while nothing happens.
const QUIET: Duration = Duration::from_secs(30);

struct Crowd {
    // Agents end before the servers do.
    readers: Vec<Agent>,
    holders: Vec<Agent>,
    servers: Vec<[Redis; 2]>,
    _etcd: Etcd,
    place: Place,
}

/// Measures, and prints what was found.
pub(super) fn run(agents: u8, services: u16, rounds: usize) {
    let crowd = start(agents, services);
    println!("{agents} agents of application hosts, {services} services, two database hosts");
    println!("load average {}", load());
    idle(&crowd);
    let mut memory: Vec<u64> = crowd.readers.iter().map(Agent::resident).collect();
    memory.sort_unstable();
    let kib = |at: usize| memory[at] / 1024;
    println!(
        "memory of an agent: median {} MiB, most {} MiB",
        kib(memory.len() / 2),
        kib(memory.len() - 1)
    );
    moves(&crowd, rounds);
    println!("load average {}", load());
}

fn name(service: u16) -> String {
    format!("s{service}")
}

fn start(agents: u8, services: u16) -> Crowd {
    let place = Place::claim();
    let etcd = Etcd::start(&place, 1000);
    let server = |service: u16, host: u8| {
        let at = place.socket(host, PORT + service);
        Redis::start(place.folder(), &format!("r{service}-{host}"), at, &Setup::default())
    };
    let servers: Vec<_> = (0..services)
        .map(|service| {
            let pair = [server(service, 1), server(service, 2)];
            pair[0].open();
            pair[1].follow(pair[0].address);
            pair
        })
        .collect();
    let mut launched: Vec<_> = [1, 2]
        .into_iter()
        .chain((0..agents).map(|at| FIRST + at))
        .map(|number| {
            let mut config = head(&place, &etcd, number);
            for (service, pair) in (0..services).zip(&servers).filter(|_| number <= 2) {
                let own = &pair[usize::from(number - 1)];
                let name = name(service);
                config += &format!(
                    "[service.{name}]\nkind = \"redis\"\nfailover = \"auto\"\n\
                     [service.{name}.instance.{}]\naddress = \"{}\"\n",
                    own.name, own.address
                );
            }
            Agent::launch_on(&place, number, &config)
        })
        .collect();
    launched.iter_mut().for_each(Agent::wait_answering);
    let readers = launched.split_off(2);
    let crowd = Crowd { readers, holders: launched, servers, _etcd: etcd, place };
    for service in 0..services {
        let name = name(service);
        crowd.holders[0].until_status(&name, "both are up", LATER, |status| {
            let instances = status["instances"].as_array().map_or(&[][..], Vec::as_slice);
            instances.iter().filter(|instance| instance["health"] == "up").count() == 2
        });
        crowd.holders[0].sengu(&["adopt", &name, "--wait", "30"]).good();
    }
    crowd
}

fn head(place: &Place, etcd: &Etcd, number: u8) -> String {
    let folder = place.folder().display();
    format!(
        "host = \"h{number}\"\naddress = \"{}\"\ndata_dir = \"{folder}/data{number}\"\n\
         socket = \"{folder}/sengu{number}.sock\"\n[dns]\nlisten = [\"{}\"]\n\
         [http]\nlisten = [\"{}\"]\n[store]\nkind = \"etcd\"\nendpoints = {}\n",
        place.address(number),
        place.socket(number, 8600),
        place.socket(number, 8500),
        etcd.endpoints(),
    )
}

/// What all members of etcd were asked so far: requests, bytes in, bytes out, CPU seconds.
fn asked(place: &Place) -> [f64; 4] {
    let mut sums = [0.0; 4];
    for member in 101..=103 {
        let at: SocketAddr = place.socket(member, 2379);
        let page = http::get(at, "/metrics").expect("etcd answers").body;
        for (sum, metric) in sums.iter_mut().zip([
            "grpc_server_started_total{",
            "etcd_network_client_grpc_received_bytes_total ",
            "etcd_network_client_grpc_sent_bytes_total ",
            "process_cpu_seconds_total ",
        ]) {
            let lines = page.lines().filter(|line| line.starts_with(metric));
            *sum +=
                lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
    }
    sums
}

fn idle(crowd: &Crowd) {
    let (before, since) = (asked(&crowd.place), Instant::now());
    // Nothing is waited for: this is what is measured.
    std::thread::sleep(QUIET);
    let seconds = since.elapsed().as_secs_f64();
    let after = asked(&crowd.place);
    let rate = |at: usize| (after[at] - before[at]) / seconds;
    println!(
        "etcd, all members, at rest: {:.0} requests/s, {:.1} KiB/s in, {:.1} KiB/s out, {:.0} % of a core",
        rate(0),
        rate(1) / 1024.0,
        rate(2) / 1024.0,
        rate(3) * 100.0
    );
}

/// Moves one service after the other, and sees when each agent could name the new master and when
/// the DNS of some of them did.
fn moves(crowd: &Crowd, rounds: usize) {
    let (mut named, mut answered, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let at = round % crowd.servers.len();
        let service = name(u16::try_from(at).expect("few services"));
        crowd.holders[0].until_status(
            &service,
            "nothing is under way, and one follows",
            LATER,
            idle_pair,
        );
        let watchers: Vec<_> = crowd
            .readers
            .iter()
            .step_by(ASKED)
            .map(|agent| Watcher::start(agent.dns, &format!("master.{service}.service.sengu")))
            .collect();
        let since = Instant::now();
        crowd.holders[0].sengu(&["switchover", &service, "--wait", "30"]).good();
        let status = crowd.holders[0].status(&service);
        let term = status["term"].as_u64().expect("a term");
        let to = status["master"].as_str().expect("a master");
        let to = crowd.servers[at].iter().find(|server| server.name == to).expect("a server");
        let published = published(&crowd.holders[0], &service, term);
        let after = |at: u64| Duration::from_millis(at.saturating_sub(published));
        let seen = crowd.readers.iter().map(|agent| {
            after(soon(LATER, || self::named(agent, &service, term)).expect("it is named"))
        });
        let seen: Vec<_> = seen.collect();
        whole.extend(seen.iter().max().copied());
        named.extend(seen);
        answered.extend(watchers.iter().map(|watcher| {
            let first = soon(LATER, || watcher.named(to.address.ip(), since));
            after(milliseconds(first.expect("DNS answers it")))
        }));
    }
    let told = |what: &str, times: &[Duration]| {
        let [median, high, longest] = [50, 95, 100].map(|part| shown(times, part));
        println!("{what}: median {median}, 95 % {high}, longest {longest}");
    };
    println!("{rounds} moves, from the decision to publish");
    told("until an agent's outputs name the new master", &named);
    told("until those of all agents do", &whole);
    told("until the DNS of an agent answers it, each tenth asked every 2 ms", &answered);
}

/// Whether a service of two stands: one serves and is followed by the other.
fn idle_pair(status: &Value) -> bool {
    let instances = status["instances"].as_array().map_or(&[][..], Vec::as_slice);
    let follows = |instance: &&Value| {
        instance["replication"].as_str().is_some_and(|what| what.starts_with("in step"))
    };
    status["state"] == "serving"
        && status["doing"].is_null()
        && instances.iter().filter(follows).count() == 1
}

/// Milliseconds since 1970 of a moment of this process.
fn milliseconds(moment: Instant) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let then = now.saturating_sub(moment.elapsed());
    u64::try_from(then.as_millis()).expect("a time")
}

/// When the new master was written down as serving: the same machine, the same clock.
fn published(agent: &Agent, service: &str, term: u64) -> u64 {
    let serving = || {
        let told = agent.sengu(&["history", service, "--json"]).good().json();
        let terms = told.as_array().cloned().unwrap_or_default();
        let own = terms.into_iter().find(|entry| entry["term"] == term)?;
        let steps = own["steps"].as_array().cloned().unwrap_or_default();
        steps.iter().find(|step| step["name"] == "serving")?["at"].as_u64()
    };
    soon(LATER, serving).expect("it serves")
}

/// When this agent's outputs could first name the master of a term.
fn named(agent: &Agent, service: &str, term: u64) -> Option<u64> {
    let path = format!("/v1/sengu/events?service={service}&kind=named&follow=false");
    let events: Value = serde_json::from_str(&http::get(agent.http, &path).ok()?.body).ok()?;
    let found = events
        .as_array()?
        .iter()
        .find(|event| event["data"]["term"] == term && !event["data"]["instance"].is_null())?;
    found["at"].as_u64()
}
