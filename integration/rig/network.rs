//! A network of hosts on one machine, with a fault for every directed link.
//!
//! Each host is a network namespace with the addresses of its number in the test's block; all
//! that leaves it goes through a device whose other end is this program, which passes packets on
//! from host to host, or does not: cut, lossy, slow, late, each way for itself. What is started
//! inside [`Network::within`] lives on that host for good, processes and threads alike. It needs
//! root, and ends with the test whatever happens: namespaces belong to a process that ends with
//! it, devices to this one.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::child::Child;
use super::place::Place;
use super::until;

/// The second address of a host is its number and this.
pub const SECOND: u8 = 100;
/// The longest packet.
const MTU: u16 = 9000;
/// Packets that wait at most; more are lost, as in any router.
const QUEUE: usize = 4096;
/// A reader looks for its end so often.
const STEP: Duration = Duration::from_millis(100);
/// The name of the device on each host.
const DEVICE: &str = "rig";

/// How one directed link is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quality {
    /// Nothing passes, and nobody is told.
    pub cut: bool,
    /// Every packet comes so late.
    pub delay: Duration,
    /// So many of a thousand packets are lost.
    pub loss: u16,
    /// So many bytes pass in a second; none: all that come.
    pub rate: Option<u32>,
    /// Nothing of TCP passes that comes from this port or goes to it.
    pub closed: Option<u16>,
}

impl Quality {
    /// Nothing passes.
    pub const CUT: Self =
        Self { cut: true, delay: Duration::ZERO, loss: 0, rate: None, closed: None };
}

#[derive(Debug, Default)]
struct Link {
    quality: Quality,
    // When the last packet has passed, where there is a rate.
    free: Option<Instant>,
}

struct Host {
    namespace: File,
    device: Arc<tun::Device>,
    reader: Option<JoinHandle<()>>,
    // Holds the namespace; the last to go.
    _holder: Child,
}

struct Packet {
    due: Instant,
    // Packets of the same time keep their order.
    order: u64,
    to: u8,
    bytes: Vec<u8>,
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for Packet {}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The heap gives the greatest first, and the earliest is wanted.
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

struct Router {
    devices: BTreeMap<u8, Arc<tun::Device>>,
    links: Mutex<BTreeMap<(u8, u8), Link>>,
    // Hosts from and to which nothing passes by the second address of either.
    bare: Mutex<BTreeSet<u8>>,
    waiting: Mutex<BinaryHeap<Packet>>,
    more: Condvar,
    chance: AtomicU64,
    order: AtomicU64,
    over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed elsewhere does not matter here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All hosts and the links between them.
pub struct Network {
    hosts: BTreeMap<u8, Host>,
    router: Arc<Router>,
    late: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Network").field("hosts", &self.hosts.keys()).finish_non_exhaustive()
    }
}

impl Network {
    /// Makes these hosts, each reached by each other.
    ///
    /// # Panics
    /// If the machine does not allow it: it needs root, `ip`, `unshare` and `/dev/net/tun`.
    #[must_use]
    #[track_caller]
    pub fn start(place: &Place, numbers: &[u8]) -> Self {
        let made = numbers.iter().map(|number| (*number, host(place, *number)));
        let mut hosts: BTreeMap<u8, Host> = made.collect();
        let devices = hosts.iter().map(|(number, host)| (*number, Arc::clone(&host.device)));
        let router = Arc::new(Router {
            devices: devices.collect(),
            links: Mutex::default(),
            bare: Mutex::default(),
            waiting: Mutex::default(),
            more: Condvar::new(),
            chance: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            order: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        for (number, host) in &mut hosts {
            let (router, device, from) = (Arc::clone(&router), Arc::clone(&host.device), *number);
            host.reader = Some(thread::spawn(move || router.read(&device, from)));
        }
        let passing = Arc::clone(&router);
        let late = Some(thread::spawn(move || passing.pass_late()));
        Self { hosts, router, late }
    }

    /// Does something on a host: connections are made from there, and processes and threads that
    /// are started stay there.
    ///
    /// # Panics
    /// If there is no such host.
    #[track_caller]
    pub fn within<T>(&self, number: u8, work: impl FnOnce() -> T) -> T {
        let host = self.hosts.get(&number).expect("the network has this host");
        let _inside = Inside::enter(&host.namespace);
        work()
    }

    /// Sets one directed link.
    pub fn set(&self, from: u8, to: u8, quality: Quality) {
        locked(&self.router.links).entry((from, to)).or_default().quality = quality;
    }

    /// Sets all links between these hosts and all others, both ways.
    pub fn isolate(&self, island: &[u8], quality: Quality) {
        for from in self.hosts.keys() {
            for to in self.hosts.keys() {
                if island.contains(from) != island.contains(to) {
                    self.set(*from, *to, quality);
                }
            }
        }
    }

    /// Cuts a host off from the second addresses of all others, and its own second address off
    /// from all others: first addresses reach each other as before.
    pub fn isolate_second(&self, host: u8) {
        locked(&self.router.bare).insert(host);
    }

    /// All links are as at the beginning.
    pub fn heal(&self) {
        locked(&self.router.links).clear();
        locked(&self.router.bare).clear();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.router.over.store(true, Ordering::SeqCst);
        self.router.more.notify_all();
        let readers = self.hosts.values_mut().filter_map(|host| host.reader.take());
        for thread in readers.chain(self.late.take()) {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

impl Router {
    fn read(&self, device: &tun::Device, from: u8) {
        let mut buffer = vec![0_u8; usize::from(MTU) + 64];
        while !self.over.load(Ordering::SeqCst) {
            if let Ok(length) = device.recv_timeout(&mut buffer, STEP) {
                self.route(from, &buffer[..length]);
            }
        }
    }

    fn route(&self, from: u8, bytes: &[u8]) {
        // Version 4, and the last bytes of the addresses that it comes from and goes to.
        let (Some(0x40), Some(source), Some(last)) =
            (bytes.first().map(|byte| byte & 0xf0), bytes.get(15), bytes.get(19))
        else {
            return;
        };
        let to = if *last > SECOND { last - SECOND } else { *last };
        if (*source > SECOND || *last > SECOND)
            && [from, to].iter().any(|host| locked(&self.bare).contains(host))
        {
            return;
        }
        let now = Instant::now();
        let due = {
            let mut links = locked(&self.links);
            let link = links.entry((from, to)).or_default();
            let Quality { cut, delay, loss, rate, closed } = link.quality;
            let cut = cut || closed.is_some_and(|port| ports(bytes).contains(&Some(port)));
            if cut || (loss > 0 && self.draw() % 1000 < u64::from(loss)) {
                return;
            }
            let sent = rate.filter(|rate| *rate > 0).map_or(now, |rate| {
                let begins = link.free.map_or(now, |free| free.max(now));
                let ends = begins + Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate));
                link.free = Some(ends);
                ends
            });
            sent + delay
        };
        if due <= now {
            self.pass(to, bytes);
            return;
        }
        let mut waiting = locked(&self.waiting);
        if waiting.len() < QUEUE {
            let order = self.order.fetch_add(1, Ordering::Relaxed);
            waiting.push(Packet { due, order, to, bytes: bytes.to_vec() });
            self.more.notify_one();
        }
    }

    fn pass(&self, to: u8, bytes: &[u8]) {
        if let Some(device) = self.devices.get(&to) {
            // A device that does not take it has lost it.
            let _ = device.send(bytes);
        }
    }

    fn pass_late(&self) {
        let mut waiting = locked(&self.waiting);
        while !self.over.load(Ordering::SeqCst) {
            let now = Instant::now();
            while waiting.peek().is_some_and(|packet| packet.due <= now) {
                if let Some(packet) = waiting.pop() {
                    self.pass(packet.to, &packet.bytes);
                }
            }
            let next = waiting.peek().map_or(STEP, |packet| packet.due - now);
            let waited = self.more.wait_timeout(waiting, next.min(STEP));
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next of a row of numbers that is the same in every run.
    fn draw(&self) -> u64 {
        let mut value = self.chance.load(Ordering::Relaxed);
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        self.chance.store(value, Ordering::Relaxed);
        value >> 11
    }
}

/// The ports that a packet of TCP comes from and goes to (RFC 9293, section 3.1; where it begins is
/// in the first byte, RFC 791, section 3.1).
fn ports(packet: &[u8]) -> [Option<u16>; 2] {
    const TCP: u8 = 6;
    let begins = packet.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    let tcp = packet.get(9) == Some(&TCP);
    [begins, begins + 2].map(|at| {
        let port = packet.get(at..at + 2).filter(|_| tcp)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    })
}

/// This thread is on another host until this is dropped.
struct Inside {
    home: File,
}

impl Inside {
    #[track_caller]
    fn enter(namespace: &File) -> Self {
        let home = File::open("/proc/thread-self/ns/net").expect("a thread knows its network");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may go into a network namespace");
        Self { home }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // It was there before.
        let _ = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
    }
}

#[track_caller]
fn host(place: &Place, number: u8) -> Host {
    let words = ["unshare", "--net", "sleep", "infinity"].map(str::to_owned);
    let log = place.path(&format!("network{number}.log"));
    let holder = Child::start(&words, &log, &[]).expect("unshare can be started");
    let pid = holder.pid();
    until("a network namespace is made", Duration::from_secs(10), || {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "sleep").then_some(())
    });
    let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("it has a network");
    let _inside = Inside::enter(&namespace);
    let mut settings = tun::Configuration::default();
    settings.tun_name(DEVICE).mtu(MTU);
    settings.platform_config(|own| {
        // `ip` sets it up.
        own.ensure_root_privileges(false);
    });
    let device = tun::create(&settings).expect("a device can be made: it needs /dev/net/tun");
    let own = place.address(number);
    let block = match own {
        IpAddr::V4(own) => format!("127.{}.{}.0/24", own.octets()[1], own.octets()[2]),
        IpAddr::V6(_) => unreachable!("places have addresses of version 4"),
    };
    for which in ["all", DEVICE] {
        // These addresses may come from outside here.
        fs::write(format!("/proc/sys/net/ipv4/conf/{which}/route_localnet"), "1")
            .expect("the network of a namespace can be set up");
    }
    // The own addresses stay here, and those of the others go out.
    ip(&format!(
        "link set lo up\nlink set {DEVICE} mtu {MTU} up\n\
         route add local {own}/32 dev lo table local src 127.0.0.1\n\
         route add local {}/32 dev lo table local src 127.0.0.1\n\
         route add {block} dev {DEVICE} table local src {own}\n",
        place.address(number + SECOND)
    ));
    Host { namespace, device: Arc::new(device), reader: None, _holder: holder }
}

#[track_caller]
fn ip(batch: &str) {
    let child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("ip can be run");
    let mut input = child.stdin.take().expect("it has an input");
    input.write_all(batch.as_bytes()).expect("it reads");
    drop(input);
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "ip: {}", String::from_utf8_lossy(&done.stderr));
}
