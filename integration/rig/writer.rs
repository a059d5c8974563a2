//! Clients that write without a break and keep every acknowledgement with its time.
//!
//! A *pinned* one never looks at a name again; a *following* one asks DNS before each connection,
//! and asks again when its server closes, errs or refuses writes; a *cached* one does so only when
//! what it knows of the name is too old. Each write is a serial that is
//! never used twice, pushed to a list or put in a row, so that what was lost or came twice can be
//! told from the databases alone.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::dns;
use super::mysql::{CLIENT, Sql, Trouble};
use super::resp::{self, Reply, Resp};

/// How long an answer may take before the client connects again.
const PATIENCE: Duration = Duration::from_millis(1000);
/// After a write or a connection that was refused.
const REFUSED: Duration = Duration::from_millis(3);

/// One acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// What was written.
    pub serial: u64,
    /// Who acknowledged it.
    pub by: SocketAddr,
    /// Sent.
    pub sent: Instant,
    /// Acknowledged.
    pub acked: Instant,
}

/// What became of a write.
enum Answer {
    Acknowledged,
    Refused,
}

/// A client's connection to a database.
trait Session: Sized {
    /// Between two writes.
    const PACE: Duration;

    fn open(address: SocketAddr) -> io::Result<Self>;

    /// Writes one serial; an error if no answer came, and the connection is of no more use.
    fn write(&mut self, key: &str, serial: u64) -> io::Result<Answer>;
}

impl Session for Resp {
    const PACE: Duration = Duration::from_millis(1);

    fn open(address: SocketAddr) -> io::Result<Self> {
        Self::connect(address, PATIENCE)
    }

    fn write(&mut self, key: &str, serial: u64) -> io::Result<Answer> {
        let reply = self.ask(&["RPUSH", key, &serial.to_string()])?;
        let good = matches!(reply, Reply::Number(_));
        Ok(if good { Answer::Acknowledged } else { Answer::Refused })
    }
}

impl Session for Sql {
    // Every commit is on three disks, and a copy applies one after the other.
    const PACE: Duration = Duration::from_millis(10);

    fn open(address: SocketAddr) -> io::Result<Self> {
        let lost = |trouble: Trouble| io::Error::other(trouble.to_string());
        Self::connect(address, CLIENT, PATIENCE).map_err(lost)
    }

    fn write(&mut self, key: &str, serial: u64) -> io::Result<Answer> {
        // The server says itself who it is and when this began.
        let values = format!("'{key}', {serial}, @@server_id, NOW(6)");
        match self.run(&format!("INSERT INTO app.writes VALUES ({values})")) {
            Ok(()) => Ok(Answer::Acknowledged),
            Err(Trouble::Refused { .. }) => Ok(Answer::Refused),
            Err(Trouble::Lost(why)) => Err(io::Error::other(why)),
        }
    }
}

/// Whom it writes to.
#[derive(Debug, Clone)]
enum Whom {
    Pinned(SocketAddr),
    Following { dns: SocketAddr, name: String, port: u16 },
    Cached { dns: SocketAddr, name: String, port: u16, keep: Duration, known: Known },
    Sentinel { at: SocketAddr, name: String },
}

/// What a client remembers of a name, and until when.
type Known = Arc<Mutex<Option<(SocketAddr, Instant)>>>;

impl Whom {
    fn resolve(&self) -> Option<SocketAddr> {
        match self {
            Self::Pinned(address) => Some(*address),
            Self::Cached { dns, name, port, keep, known } => {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((address, until)) = *known
                    && Instant::now() < until
                {
                    return Some(address);
                }
                let answer = dns::ask(*dns, name, dns::A).ok()?;
                let address = SocketAddr::new(*answer.addresses.first()?, *port);
                let ttl = Duration::from_secs(answer.ttl.unwrap_or_default().into());
                *known = Some((address, Instant::now() + ttl.max(*keep)));
                Some(address)
            }
            Self::Following { dns, name, port } => {
                let first: Option<IpAddr> = dns::addresses(*dns, name).first().copied();
                Some(SocketAddr::new(first?, *port))
            }
            Self::Sentinel { at, name } => {
                let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name];
                let Reply::List(words) = resp::ask(*at, &words).ok()? else { return None };
                let [host, port] = &words[..] else { return None };
                format!("{}:{}", host.text(), port.text()).parse().ok()
            }
        }
    }
}

/// A client.
#[derive(Debug)]
pub struct Writer {
    /// The list that it pushes to, or the name in its rows.
    pub key: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    acks: Mutex<Vec<Ack>>,
    seldom: AtomicBool,
    over: AtomicBool,
}

/// So many times longer are the pauses of one that writes seldom.
const SELDOM: u32 = 10;

impl Writer {
    /// One that always writes to the same address.
    #[must_use]
    pub fn pinned(key: &str, address: SocketAddr) -> Self {
        Self::start::<Resp>(key, Whom::Pinned(address))
    }

    /// One that follows a name.
    #[must_use]
    pub fn following(key: &str, dns: SocketAddr, name: &str, port: u16) -> Self {
        Self::start::<Resp>(key, Whom::Following { dns, name: name.to_owned(), port })
    }

    /// One that keeps the answer of a name for its TTL and at least for so long, whatever happens.
    #[must_use]
    pub fn cached(key: &str, dns: SocketAddr, name: &str, port: u16, keep: Duration) -> Self {
        let (name, known) = (name.to_owned(), Known::default());
        Self::start::<Resp>(key, Whom::Cached { dns, name, port, keep, known })
    }

    /// The same of MySQL or MariaDB.
    #[must_use]
    pub fn sql_cached(key: &str, dns: SocketAddr, name: &str, port: u16, keep: Duration) -> Self {
        let (name, known) = (name.to_owned(), Known::default());
        Self::start::<Sql>(key, Whom::Cached { dns, name, port, keep, known })
    }

    /// One that asks a Redis Sentinel for the address.
    #[must_use]
    pub fn sentinel(key: &str, at: SocketAddr, name: &str) -> Self {
        Self::start::<Resp>(key, Whom::Sentinel { at, name: name.to_owned() })
    }

    /// One of MySQL or MariaDB that always writes to the same address.
    #[must_use]
    pub fn sql_pinned(key: &str, address: SocketAddr) -> Self {
        Self::start::<Sql>(key, Whom::Pinned(address))
    }

    /// One of MySQL or MariaDB that follows a name.
    #[must_use]
    pub fn sql_following(key: &str, dns: SocketAddr, name: &str, port: u16) -> Self {
        Self::start::<Sql>(key, Whom::Following { dns, name: name.to_owned(), port })
    }

    fn start<S: Session>(key: &str, whom: Whom) -> Self {
        let shared = Arc::new(Shared::default());
        let (mine, list) = (Arc::clone(&shared), key.to_owned());
        let thread = thread::spawn(move || {
            let mut serial = 0;
            while !mine.over.load(Ordering::SeqCst) {
                // Whatever ends a connection, the next one is tried.
                let _ = write::<S>(&mine, &list, &whom, &mut serial);
                thread::sleep(REFUSED);
            }
        });
        Self { key: key.to_owned(), shared, thread: Some(thread) }
    }

    /// Writes much less from now on: what copies take from a master that other clients keep busy
    /// is little on a machine that all of them share.
    pub fn write_seldom(&self) {
        self.shared.seldom.store(true, Ordering::SeqCst);
    }

    /// All acknowledgements so far, in order.
    #[must_use]
    pub fn acks(&self) -> Vec<Ack> {
        self.shared.acks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Acknowledgements by one address so far.
    #[must_use]
    pub fn acked_by(&self, address: SocketAddr) -> usize {
        self.count(|ack| ack.by == address)
    }

    /// The same whatever the port.
    #[must_use]
    pub fn acked_by_ip(&self, ip: IpAddr) -> usize {
        self.count(|ack| ack.by.ip() == ip)
    }

    fn count(&self, which: impl Fn(&Ack) -> bool) -> usize {
        let acks = self.shared.acks.lock().unwrap_or_else(PoisonError::into_inner);
        acks.iter().filter(|ack| which(ack)).count()
    }

    /// Waits until one address has acknowledged so many writes.
    ///
    /// # Panics
    /// If it has not within 10 s.
    #[track_caller]
    pub fn until_acked_by(&self, address: SocketAddr, count: usize) {
        let what = format!("{address} has acknowledged {count} writes of {}", self.key);
        super::until(&what, Duration::from_secs(10), || {
            (self.acked_by(address) >= count).then_some(())
        });
    }

    /// Ends it and gives back what was acknowledged.
    #[must_use]
    pub fn end(mut self) -> Vec<Ack> {
        self.finish();
        self.acks()
    }

    fn finish(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn write<S: Session>(shared: &Shared, key: &str, whom: &Whom, serial: &mut u64) -> io::Result<()> {
    let Some(address) = whom.resolve() else { return Ok(()) };
    let mut session = S::open(address)?;
    while !shared.over.load(Ordering::SeqCst) {
        *serial += 1;
        let sent = Instant::now();
        let answer = session.write(key, *serial)?;
        let acked = Instant::now();
        if matches!(answer, Answer::Refused) {
            thread::sleep(REFUSED);
            match whom {
                Whom::Pinned(_) => continue,
                Whom::Following { .. } | Whom::Cached { .. } | Whom::Sentinel { .. } => {
                    return Ok(());
                }
            }
        }
        let ack = Ack { serial: *serial, by: address, sent, acked };
        shared.acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
        let seldom = shared.seldom.load(Ordering::SeqCst);
        thread::sleep(if seldom { S::PACE * SELDOM } else { S::PACE });
    }
    Ok(())
}

/// The invariant above all: once a later master has acknowledged a write, no earlier one does.
/// `order` is the order in which they were masters.
///
/// A write counts against it that was *sent* after the later one's first acknowledgement came, so
/// that no scheduling of the clients can make a false alarm.
///
/// # Panics
/// With the two acknowledgements that break it.
#[track_caller]
pub fn assert_one_master_at_a_time(order: &[SocketAddr], acks: &[Ack]) {
    for (index, earlier) in order.iter().enumerate() {
        for later in &order[index + 1..] {
            if earlier == later {
                continue;
            }
            let by = |address: &SocketAddr| {
                let address = *address;
                acks.iter().filter(move |ack| ack.by == address)
            };
            let Some(first) = by(later).min_by_key(|ack| ack.acked) else { continue };
            let late = by(earlier).find(|ack| ack.sent > first.acked);
            assert!(
                late.is_none(),
                "{earlier} acknowledged {late:?} after {later} had acknowledged {first:?}"
            );
        }
    }
}

/// Who acknowledged writes, in the order in which it became so. An acknowledgement that may have
/// been given before the one in charge began is nobody's change, so that a client that was held
/// up makes no false alarm.
#[must_use]
pub fn reigns(acks: &[Ack]) -> Vec<SocketAddr> {
    let mut acks = acks.to_vec();
    acks.sort_unstable_by_key(|ack| ack.acked);
    let mut order: Vec<SocketAddr> = Vec::new();
    let mut since: Option<Instant> = None;
    for ack in acks {
        let after = since.is_none_or(|since| ack.sent > since);
        if order.last() != Some(&ack.by) && after {
            order.push(ack.by);
            since = Some(ack.acked);
        }
    }
    order
}

/// Each address in turn is found in the other list, in its order.
#[must_use]
pub fn is_within(part: &[SocketAddr], whole: &[SocketAddr]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|one| rest.any(|other| other == one))
}

/// Serials that were acknowledged and are not in the list.
#[must_use]
pub fn lost(acks: &[Ack], list: &[String]) -> Vec<u64> {
    let there: BTreeSet<u64> = list.iter().filter_map(|item| item.parse().ok()).collect();
    acks.iter().map(|ack| ack.serial).filter(|serial| !there.contains(serial)).collect()
}

/// The longest time without any acknowledgement.
#[must_use]
pub fn gap(acks: &[Ack]) -> Duration {
    let mut times: Vec<Instant> = acks.iter().map(|ack| ack.acked).collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
