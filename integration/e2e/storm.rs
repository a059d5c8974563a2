//! A storm of failovers under clients of every output: none of them ever contradicts the others
//! for longer than a stated bound.
//!
//! `SENGU_STORM` sets how many failovers there are. What clients saw is judged by the checker of
//! the rig, which has tests of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use integration::checker::story::{Era, Output, Sighting, Told, check};
use integration::rig::trio::{MASTER, SERVICE};
use integration::rig::{Place, Settings, Trio, dns, http};
use serde_json::Value;

use crate::LATER;

/// Failovers without `SENGU_STORM`.
const FAILOVERS: u32 = 5;
/// How long an output that is made when it is asked may say what was: milliseconds.
const LIVE: i64 = 500;
/// How long a file may: it waits for quiet before it is written.
const FILE: i64 = 2000;
/// Between two looks.
const STEP: Duration = Duration::from_millis(5);

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a time of this age")
}

/// Looks at one output without a break, in a thread of its own.
struct Looker {
    name: &'static str,
    bound: i64,
    seen: Arc<Mutex<Vec<Sighting>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Whom an output named, and in which term; none: no answer, which says nothing.
type Look = Option<(Vec<String>, Option<u64>)>;

impl Looker {
    fn start(
        name: &'static str,
        bound: i64,
        mut look: impl FnMut() -> Look + Send + 'static,
    ) -> Self {
        let (seen, over) = (Arc::<Mutex<Vec<Sighting>>>::default(), Arc::<AtomicBool>::default());
        let (into, ended) = (Arc::clone(&seen), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let asked = now();
                if let Some((said, term)) = look() {
                    let sighting = Sighting { asked, answered: now(), said, term };
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(sighting);
                }
                thread::sleep(STEP);
            }
        });
        Self { name, bound, seen, over, thread: Some(thread) }
    }

    fn end(mut self) -> Output {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
        let sightings = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Output { name: self.name.to_owned(), bound: self.bound, sightings }
    }
}

/// The name of the server at an address.
fn who(servers: &[(String, SocketAddr)], ip: &str) -> String {
    let found = servers.iter().find(|(_, address)| address.ip().to_string() == ip);
    found.map_or_else(|| format!("a stranger at {ip}"), |(name, _)| name.clone())
}

fn lookers(trio: &Trio, file: PathBuf) -> Vec<Looker> {
    let servers: Vec<(String, SocketAddr)> =
        trio.servers.iter().map(|server| (server.name.clone(), server.address)).collect();
    let (dns_at, http_at) = (trio.agent.dns, trio.agent.http);
    let known = servers.clone();
    let by_dns = move || {
        let answer = dns::ask(dns_at, MASTER, dns::A).ok()?;
        let said = answer.addresses.iter().map(|ip| who(&known, &ip.to_string()));
        Some((said.collect(), None))
    };
    let by_http = move || {
        let answer = http::get(http_at, &format!("/master/{SERVICE}")).ok()?;
        if answer.status == 503 {
            return Some((vec![], None));
        }
        let body: Value = serde_json::from_str(&answer.body).ok()?;
        Some((vec![body["instance"].as_str()?.to_owned()], body["term"].as_u64()))
    };
    let known = servers.clone();
    let by_kv = move || {
        let answer = http::get(http_at, &format!("/v1/kv/sengu/{SERVICE}/master?raw")).ok()?;
        if answer.status == 404 {
            return Some((vec![], None));
        }
        let (ip, _) = answer.body.rsplit_once(':')?;
        Some((vec![who(&known, ip)], None))
    };
    let by_catalog = move || {
        let path = format!("/v1/health/service/{SERVICE}?tag=master");
        let body: Value = serde_json::from_str(&http::get(http_at, &path).ok()?.body).ok()?;
        let ids = body.as_array()?.iter().filter_map(|entry| entry["Service"]["ID"].as_str());
        let name = |id: &str| id.trim_start_matches(&format!("{SERVICE}-")).to_owned();
        Some((ids.map(name).collect(), None))
    };
    let by_file = move || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines = text.lines().filter(|line| line.split_whitespace().any(|w| w == MASTER));
        let ips = lines.filter_map(|line| line.split_whitespace().next());
        Some((ips.map(|ip| who(&servers, ip)).collect(), None))
    };
    vec![
        Looker::start("dns", LIVE, by_dns),
        Looker::start("/master", LIVE, by_http),
        Looker::start("kv", LIVE, by_kv),
        Looker::start("catalog", LIVE, by_catalog),
        Looker::start("hosts file", FILE, by_file),
    ]
}

/// Reads the stream of events until the agent ends it.
fn follow(at: SocketAddr) -> Arc<Mutex<Vec<Value>>> {
    let seen = Arc::<Mutex<Vec<Value>>>::default();
    let into = Arc::clone(&seen);
    let mut stream = TcpStream::connect(at).expect("the agent answers");
    stream
        .write_all(b"GET /v1/sengu/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("the request is sent");
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(data) = line.strip_prefix("data: ")
                && let Ok(event) = serde_json::from_str(data)
            {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        }
    });
    seen
}

fn eras(events: &[Value]) -> Vec<Era> {
    let named = events.iter().filter(|event| event["kind"] == "named");
    let era = |event: &Value| {
        let who = event["data"]["instance"].as_str().map(str::to_owned);
        let named = who.zip(event["data"]["term"].as_u64());
        Era { from: event["at"].as_i64().expect("a time"), named }
    };
    let eras: Vec<Era> = named.map(era).collect();
    // What was before the first event was nobody.
    std::iter::once(Era { from: i64::MIN / 2, named: None }).chain(eras).collect()
}

fn history(trio: &Trio) -> Vec<Told> {
    let told = trio.agent.sengu(&["history", SERVICE, "--json", "--limit", "1000"]).good().json();
    let mut terms: Vec<Told> = told
        .as_array()
        .expect("a list")
        .iter()
        .map(|term| {
            let steps = term["steps"].as_array().expect("steps");
            let served = steps.iter().find(|step| step["name"] == "serving");
            Told {
                term: term["term"].as_u64().expect("a term"),
                to: term["to"].as_str().expect("a name").to_owned(),
                served: served.and_then(|step| step["at"].as_i64()),
            }
        })
        .collect();
    terms.sort_by_key(|told| told.term);
    terms
}

#[test]
fn in_a_storm_of_failovers_no_output_contradicts_another() {
    let count = std::env::var("SENGU_STORM").ok().and_then(|text| text.parse().ok());
    let count: u32 = count.unwrap_or(FAILOVERS);
    let place = Place::claim();
    let file = place.path("hosts");
    std::fs::write(&file, "127.0.0.1 localhost\n").expect("writable");
    let outputs =
        format!("[[template]]\nsource = \"hosts.tera\"\ndestination = \"{}\"\n", file.display());
    let service = format!("failover = \"auto\"\n{}", Settings::NO_COOLDOWN);
    let trio = Trio::adopted(&Settings { outputs, service, ..Settings::default() });
    let events = follow(trio.agent.http);
    let lookers = lookers(&trio, file);
    for _ in 0..count {
        let old = trio.until_steady(LATER);
        old.kill();
        let new = trio.until_other(old, LATER);
        old.restart();
        trio.until_followed(new, LATER);
    }
    let master = trio.until_steady(LATER).name.clone();
    // Every output has its bound to come to rest, and is then seen at rest.
    thread::sleep(Duration::from_millis(u64::try_from(FILE).expect("positive") + 200));
    let outputs: Vec<Output> = lookers.into_iter().map(Looker::end).collect();
    let events = events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(!events.iter().any(|event| event["kind"] == "missed"), "events were missed");
    for output in &outputs {
        let last = output.sightings.last().expect("it was looked at");
        assert_eq!(last.said, std::slice::from_ref(&master), "{} at the end", output.name);
    }
    let (eras, history) = (eras(&events), history(&trio));
    assert!(history.len() > usize::try_from(count).expect("small"), "{history:?}");
    match check(&eras, &history, &outputs) {
        Ok(summary) => println!("{count} failovers, late by at most (ms): {:?}", summary.latest),
        Err(wrong) => panic!("{wrong}\n{eras:#?}\n{}", trio.agent.tail()),
    }
}
