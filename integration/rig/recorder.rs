//! Records what clients, readers and servers of a cluster see, for the checker.
//!
//! Clients write from the host that they are on; a reader on each host looks at what its agent
//! answers by DNS and `/master/S` and at the file that it renders. Looks that say the same are
//! kept as one run, which ends when no answer comes or looks were too far apart. It judges
//! nothing and asks servers only at the end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::agent::sengu;
use super::cluster::{Cluster, Node, Timing};
use super::member::Member;
use super::starved::Starved;
use super::writer::Writer;
use super::{dns, http, soon};
use crate::checker::{
    Bounds, Commit, CutOff, Fault, History, Life, Micros, Refusal, Rest, Sighting, Term, Write,
    WriteId,
};

/// Between two looks at DNS and at a file.
const QUICK: Duration = Duration::from_millis(1);
/// Between two looks at `/master/S`, which takes a connection each.
const SLOW: Duration = Duration::from_millis(10);
/// Between two looks at reasons for not acting, which takes a process each.
const SELDOM: Duration = Duration::from_millis(500);
/// What is looked at on each host.
const OUTPUTS: [&str; 3] = ["dns", "/master", "file"];
/// Looks that are further apart are not of one run.
const APART: Micros = 40_000;

/// A machine that lets nobody work is waited for so many times longer at most.
const STARVED: u32 = 3;

/// The clock of a recording: a monotonic one, counted from 1970.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    since: Micros,
}

impl Clock {
    /// Begins now.
    ///
    /// # Panics
    /// If the machine thinks it is before 1970.
    #[must_use]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let since = Micros::try_from(since.as_micros()).expect("a time of this age");
        Self { began: Instant::now(), since }
    }

    /// A moment since then.
    #[must_use]
    pub fn micros(&self, at: Instant) -> Micros {
        let after = at.saturating_duration_since(self.began).as_micros();
        self.since + Micros::try_from(after).unwrap_or(Micros::MAX / 2)
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.micros(Instant::now())
    }
}

/// A client, by the host that it is on: numbers of nodes from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Follows the name that the agent of its host answers.
    Following(usize),
    /// The same, and keeps an answer for so long.
    Cached(usize, Duration),
    /// Writes to one server only: on this host, to that one.
    Pinned(usize, usize),
}

/// What is promised with this lease.
#[must_use]
pub fn bounds(timing: Timing) -> Bounds {
    let lease = Micros::try_from(timing.lease.as_micros()).unwrap_or(Micros::MAX / 4);
    Bounds {
        // A lease and what a loaded machine adds.
        stale: lease + 1_000_000,
        overlap: 500_000,
        file: 2_000_000,
        standstill: 30_000_000,
        converge: 120_000_000,
        histories: 16,
    }
}

/// Whom an output named, and in which term; none: no answer.
type Look = Option<(Vec<String>, Option<u64>)>;

#[derive(Debug)]
struct Reader<T> {
    seen: Arc<Mutex<Vec<T>>>,
    thread: JoinHandle<()>,
}

/// A recording.
#[derive(Debug)]
pub struct Recorder {
    /// Its clock.
    pub clock: Clock,
    writers: Vec<Writer>,
    outputs: Vec<Reader<Sighting>>,
    refusals: Reader<Refusal>,
    faults: Vec<Fault>,
    cut_off: Vec<CutOff>,
    lives: Vec<Life>,
    emptied: Vec<(String, Micros)>,
    healed: Option<Instant>,
    starved: Starved,
    over: Over,
}

/// Ends the readers with the recording, however that ends.
#[derive(Debug)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn taken<T: Clone>(seen: &Mutex<Vec<T>>) -> Vec<T> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Recorder {
    /// Begins, with these clients; `round` keeps their serials apart from those of others.
    #[must_use]
    pub fn start<S: Member>(cluster: &Cluster<S>, round: &str, clients: &[Client]) -> Self {
        let (clock, over) = (Clock::start(), Arc::<AtomicBool>::default());
        let mut outputs = Vec::new();
        for node in 0..cluster.nodes.len() {
            outputs.extend(readers(cluster, node, clock, &over));
        }
        let refusals = refusals(cluster, clock, &over);
        let writers = clients.iter().map(|client| writer(cluster, round, *client)).collect();
        let over = Over(over);
        let (faults, cut_off, lives, emptied) = (vec![], vec![], vec![], vec![]);
        let starved = Starved::watch(cluster.place().folder());
        let healed = None;
        Self {
            clock,
            writers,
            outputs,
            refusals,
            faults,
            cut_off,
            lives,
            emptied,
            healed,
            starved,
            over,
        }
    }

    /// Notes a fault.
    pub fn fault(&mut self, what: String) {
        self.faults.push(Fault { at: self.clock.now(), what, harmless: false });
    }

    /// Notes something that gives nobody a reason to move mastership.
    pub fn harmless(&mut self, what: String) {
        self.faults.push(Fault { at: self.clock.now(), what, harmless: true });
    }

    /// Notes that the store does not reach a node's agent any more.
    pub fn cut_off<S: Member>(&mut self, node: &Node<S>) {
        let own = node.server.name().to_owned();
        let outputs = format!("host {}: ", node.number);
        self.cut_off.push(CutOff { outputs, own, at: self.clock.now() });
    }

    /// Notes that a process has ended, and that it was started again, if it was.
    pub fn died(&mut self, instance: &str, at: Instant) {
        let until = Some(self.clock.micros(at));
        let alive = self.lives.iter_mut().rev().find(|life| life.instance == instance);
        match alive {
            Some(life) => life.until = until,
            None => {
                let instance = instance.to_owned();
                self.lives.push(Life { instance, from: Micros::MIN / 4, until });
            }
        }
    }

    /// Notes that an instance is away from now on, and will come back with nothing.
    pub fn emptied(&mut self, instance: &str, at: Instant) {
        self.emptied.push((instance.to_owned(), self.clock.micros(at)));
    }

    /// Notes that a process runs from now on.
    pub fn lives(&mut self, instance: &str, from: Instant) {
        let (instance, from) = (instance.to_owned(), self.clock.micros(from));
        self.lives.push(Life { instance, from, until: None });
    }

    /// Waits until one of the clients has that many acknowledgements of one server.
    #[must_use]
    pub fn soon_acked_by(&self, ip: IpAddr, count: usize, within: Duration) -> bool {
        let acked = |writer: &Writer| writer.acked_by_ip(ip) >= count;
        soon(within, || self.writers.iter().any(acked).then_some(())).is_some()
    }

    /// Clients write a tenth as often from now on.
    pub fn write_seldom(&self) {
        self.writers.iter().for_each(Writer::write_seldom);
    }

    /// Notes that the last fault is over.
    pub fn healed(&mut self) {
        self.healed = Some(Instant::now());
    }

    /// Waits until all is steady, at most for so long and as long as the machine let nobody work.
    fn rest<S: Member>(&mut self, cluster: &mut Cluster<S>, within: Duration) -> Rest {
        let since = self.healed.unwrap_or_else(Instant::now);
        let healed = self.clock.micros(since);
        // Copies that do not keep pace with their master come to rest when it has less to do.
        let steady = cluster.soon_mended(within / 4, |done| self.fault(done));
        if steady.is_none() {
            self.fault("clients write less".into());
            self.write_seldom();
        }
        loop {
            let spans = self.spans();
            let starved = spans.iter().filter(|span| span.1 > healed).map(|span| span.1 - span.0);
            let starved =
                Duration::from_micros(u64::try_from(starved.sum::<Micros>()).unwrap_or(0));
            let allowed = within + starved.min(within * STARVED);
            let left = allowed.saturating_sub(since.elapsed());
            let steady = steady.or_else(|| cluster.soon_mended(left, |done| self.fault(done)));
            if steady.is_some() || since.elapsed() >= allowed {
                let steady = steady.map(|_| self.clock.now());
                let missing = cluster.steady().err().unwrap_or_default();
                return Rest { healed, steady, missing };
            }
        }
    }

    fn spans(&self) -> Vec<(Micros, Micros)> {
        let spans = self.starved.spans().into_iter();
        spans.map(|(from, until)| (self.clock.micros(from), self.clock.micros(until))).collect()
    }

    /// Faults are over: waits until all is steady, at most for so long, makes anew what was set
    /// apart meanwhile, and ends the recording.
    ///
    /// # Panics
    /// If the history cannot be read, or all is steady and a server does not answer.
    #[must_use]
    #[track_caller]
    pub fn end<S: Member>(mut self, cluster: &mut Cluster<S>, within: Duration) -> History {
        let rest = self.rest(cluster, within);
        let names: BTreeMap<IpAddr, String> = cluster
            .nodes
            .iter()
            .map(|node| (node.server.address().ip(), node.server.name().to_owned()))
            .collect();
        let mut writes = Vec::new();
        let starved = self.spans();
        let keys: Vec<String> = self.writers.iter().map(|writer| writer.key.clone()).collect();
        for writer in self.writers {
            let key = writer.key.clone();
            writes.extend(writer.end().into_iter().map(|ack| Write {
                id: (key.clone(), ack.serial),
                by: names[&ack.by.ip()].clone(),
                sent: self.clock.micros(ack.sent),
                acked: self.clock.micros(ack.acked),
            }));
        }
        let span = (self.clock.since, self.clock.now());
        drop(self.over);
        let names_of_outputs = cluster
            .nodes
            .iter()
            .flat_map(|node| OUTPUTS.map(|what| format!("host {}: {what}", node.number)));
        let outputs = names_of_outputs.collect();
        let mut sightings = Vec::new();
        for reader in self.outputs {
            reader.thread.join().expect("a reader does not panic");
            sightings.extend(taken(&reader.seen));
        }
        self.refusals.thread.join().expect("it does not panic");
        let terms = cluster.terms();
        // What did not come to rest is rejected for that, and its servers may not answer.
        let asked = rest.steady.is_some();
        let kept = match asked {
            true => kept(cluster, &terms, &keys),
            false => writes.iter().map(|write: &Write| write.id.clone()).collect(),
        };
        History {
            service: format!("{} ({})", S::SERVICE, S::title(&cluster.kind)),
            lossless: S::lossless(&cluster.kind),
            bounds: bounds(cluster.timing),
            span,
            terms,
            writes,
            logs: if asked { logs(cluster, &keys) } else { BTreeMap::new() },
            emptied: self.emptied,
            kept,
            outputs,
            sightings,
            lives: self.lives,
            refusals: taken(&self.refusals.seen),
            hooks: cluster.hooks(),
            histories: cluster.histories(),
            faults: self.faults,
            cut_off: self.cut_off,
            starved,
            rest: Some(rest),
        }
    }
}

fn writer<S: Member>(cluster: &Cluster<S>, round: &str, client: Client) -> Writer {
    let name = Cluster::<S>::master_name();
    let (at, key) = match client {
        Client::Following(at) => (at, format!("{round}-following-{at}")),
        Client::Cached(at, _) => (at, format!("{round}-cached-{at}")),
        Client::Pinned(at, to) => (at, format!("{round}-pinned-{at}-{to}")),
    };
    let node = &cluster.nodes[at];
    cluster.network.within(node.number, || match client {
        Client::Following(_) => S::following(&key, node.agent.dns, &name),
        Client::Cached(_, keep) => S::cached(&key, node.agent.dns, &name, keep),
        Client::Pinned(_, to) => S::pinned(&key, cluster.nodes[to].server.address()),
    })
}

/// The serials of these writers that the last master has.
fn kept<S: Member>(
    cluster: &Cluster<S>,
    terms: &[Term],
    keys: &[String],
) -> std::collections::BTreeSet<WriteId> {
    let holder = terms.last().map(|term| term.holder.clone()).unwrap_or_default();
    let master = cluster.nodes.iter().position(|node| node.server.name() == holder);
    let master = master.expect("the last term is of one of the servers");
    let of = |key: &String| {
        let serials = cluster.on(master, |server| server.serials(key));
        let ids: Vec<WriteId> = serials
            .into_iter()
            .filter_map(|serial| Some((key.clone(), serial.parse().ok()?)))
            .collect();
        ids
    };
    keys.iter().flat_map(of).collect()
}

/// The servers' own logs of these writers' rows, where there are any.
fn logs<S: Member>(cluster: &Cluster<S>, keys: &[String]) -> BTreeMap<String, Vec<Commit>> {
    let name = |number: u32| {
        // One that was made anew has a number that ends in the same digit.
        let number = number % 10;
        let node = cluster.nodes.iter().find(|node| u32::from(node.number) == number);
        node.map_or_else(|| format!("server {number}"), |node| node.server.name().to_owned())
    };
    let mut logs = BTreeMap::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        if let Some(rows) = cluster.on(index, S::log) {
            let own = rows.into_iter().filter(|(_, writer, ..)| keys.contains(writer));
            let commits = own.map(|(origin, writer, serial, began)| Commit {
                id: (writer, serial),
                origin: name(origin),
                began,
            });
            logs.insert(node.server.name().to_owned(), commits.collect());
        }
    }
    logs
}

fn readers<S: Member>(
    cluster: &Cluster<S>,
    node: usize,
    clock: Clock,
    over: &Arc<AtomicBool>,
) -> [Reader<Sighting>; 3] {
    let at = &cluster.nodes[node];
    let known: BTreeMap<String, String> = cluster
        .nodes
        .iter()
        .map(|node| (node.server.address().ip().to_string(), node.server.name().to_owned()))
        .collect();
    let who =
        move |ip: &str| known.get(ip).cloned().unwrap_or_else(|| format!("a stranger at {ip}"));
    let (name, dns_at, http_at) = (Cluster::<S>::master_name(), at.agent.dns, at.agent.http);
    let (asked, known) = (name.clone(), who.clone());
    let by_dns = move || {
        let answer = dns::ask(dns_at, &asked, dns::A).ok()?;
        Some((answer.addresses.iter().map(|ip| known(&ip.to_string())).collect(), None))
    };
    let path = format!("/master/{}", S::SERVICE);
    let by_http = move || {
        let answer = http::get(http_at, &path).ok()?;
        if answer.status == 503 {
            return Some((vec![], None));
        }
        let body: Value = serde_json::from_str(&answer.body).ok()?;
        Some((vec![body["instance"].as_str()?.to_owned()], body["term"].as_u64()))
    };
    let file: PathBuf = at.file.clone();
    let by_file = move || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines = text.lines().filter(|line| line.split_whitespace().any(|word| word == name));
        let ips = lines.filter_map(|line| line.split_whitespace().next());
        Some((ips.map(&who).collect(), None))
    };
    let of = |what: &str| format!("host {}: {what}", at.number);
    cluster.network.within(at.number, || {
        [
            read(of(OUTPUTS[0]), QUICK, clock, over, by_dns),
            read(of(OUTPUTS[1]), SLOW, clock, over, by_http),
            read(of(OUTPUTS[2]), QUICK, clock, over, by_file),
        ]
    })
}

fn read(
    output: String,
    pace: Duration,
    clock: Clock,
    over: &Arc<AtomicBool>,
    mut look: impl FnMut() -> Look + Send + 'static,
) -> Reader<Sighting> {
    let seen = Arc::<Mutex<Vec<Sighting>>>::default();
    let (into, ended) = (Arc::clone(&seen), Arc::clone(over));
    let thread = thread::spawn(move || {
        let mut run: Option<Sighting> = None;
        while !ended.load(Ordering::SeqCst) {
            let asked = clock.now();
            let found = look();
            let answered = clock.now();
            let goes_on = |run: &Sighting, said: &Vec<String>, term: Option<u64>| {
                run.said == *said && run.term == term && asked - run.last <= APART
            };
            run = match (run.take(), found) {
                (Some(mut run), Some((said, term))) if goes_on(&run, &said, term) => {
                    run.last = asked;
                    run.looks += 1;
                    Some(run)
                }
                (before, found) => {
                    let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.extend(before);
                    drop(seen);
                    let output = output.clone();
                    found.map(|(said, term)| Sighting {
                        output,
                        said,
                        term,
                        asked,
                        answered,
                        last: asked,
                        looks: 1,
                    })
                }
            };
            thread::sleep(pace);
        }
        into.lock().unwrap_or_else(PoisonError::into_inner).extend(run);
    });
    Reader { seen, thread }
}

/// Why agents do not act, as they say, in turns. What they say of the state of an instance, or that
/// nobody is named, is no reason.
fn refusals<S: Member>(
    cluster: &Cluster<S>,
    clock: Clock,
    over: &Arc<AtomicBool>,
) -> Reader<Refusal> {
    let seen = Arc::<Mutex<Vec<Refusal>>>::default();
    let (into, ended) = (Arc::clone(&seen), Arc::clone(over));
    let configs: Vec<PathBuf> =
        cluster.nodes.iter().map(|node| node.agent.config.clone()).collect();
    let service = S::SERVICE;
    let names: Vec<String> =
        cluster.nodes.iter().map(|node| node.server.name().to_owned()).collect();
    let state = move |problem: &str| {
        problem.starts_with("no master is named")
            || names.iter().any(|name| problem.starts_with(name.as_str()))
    };
    let thread = thread::spawn(move || {
        for config in configs.iter().cycle() {
            if ended.load(Ordering::SeqCst) {
                break;
            }
            let from = clock.now();
            let told = sengu(config, &["status", "--json"]);
            let told: Value = serde_json::from_str(&told.out).unwrap_or_default();
            let own = told.as_array().into_iter().flatten();
            let problems = own
                .filter(|report| report["service"] == service)
                .filter_map(|report| report["problems"].as_array())
                .flatten()
                .filter_map(Value::as_str);
            let until = clock.now();
            let said = problems.filter(|problem| !state(problem)).map(|problem| Refusal {
                from,
                until,
                words: problem.to_owned(),
            });
            into.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
            thread::sleep(SELDOM);
        }
    });
    Reader { seen, thread }
}
