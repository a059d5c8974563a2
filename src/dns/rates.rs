//! How many answers a network gets in a second over UDP, where nobody knows who really asks.
//!
//! Whoever forges a victim's address makes this server send to it. So answers to one network
//! (IPv4 /24, IPv6 /56) are bounded: beyond the bound every second question is answered with
//! nothing but the TC bit, which sends an honest client to TCP, where addresses are not forged;
//! the others are dropped. Clients on this host are not counted.
//!
//! A fixed table of counters without locks: networks that meet in one place share its bound. Who
//! meets whom hangs on a random seed, so that nobody can aim at another.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counters; each is 8 bytes.
const PLACES: usize = 16 * 1024;

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// It is answered.
    Answered,
    /// It is sent to TCP.
    Sent,
    /// It is dropped.
    Dropped,
}

/// Counts answers.
pub(super) struct Rates {
    each: u32,
    began: Instant,
    hasher: RandomState,
    /// The second in the upper half, the questions in it in the lower.
    places: Box<[AtomicU64]>,
}

impl Rates {
    /// So many answers in a second for each network.
    pub(super) fn new(each: u32) -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { each, began: Instant::now(), hasher: RandomState::new(), places }
    }

    /// Counts a question from there.
    pub(super) fn take(&self, client: IpAddr, now: Instant) -> Share {
        let Some(network) = network(client) else { return Share::Answered };
        let second = now.saturating_duration_since(self.began).as_secs() & u64::from(u32::MAX);
        let hash = usize::try_from(self.hasher.hash_one(network)).unwrap_or_default();
        let place = &self.places[hash % PLACES];
        let counted = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            let count = if old >> 32 == second { old & u64::from(u32::MAX) } else { 0 };
            Some(second << 32 | (count + 1).min(u64::from(u32::MAX)))
        });
        let old = counted.unwrap_or_default();
        let before = if old >> 32 == second { old & u64::from(u32::MAX) } else { 0 };
        match before.checked_sub(u64::from(self.each)) {
            None => Share::Answered,
            Some(beyond) if beyond % 2 == 0 => Share::Sent,
            Some(_) => Share::Dropped,
        }
    }
}

/// What is counted as one; `None` for this host itself.
fn network(client: IpAddr) -> Option<u128> {
    match client.to_canonical() {
        client if client.is_loopback() => None,
        IpAddr::V4(client) => Some(u128::from(client.to_bits() >> 8)),
        // Apart from all of IPv4.
        IpAddr::V6(client) => Some(client.to_bits() >> 72 | 1 << 127),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn beyond_the_bound_every_second_is_sent_to_tcp() {
        let rates = Rates::new(3);
        let now = rates.began;
        let taken: Vec<Share> = (0..7).map(|_| rates.take(ip("192.0.2.1"), now)).collect();
        let want = [Share::Answered; 3].into_iter().chain([
            Share::Sent,
            Share::Dropped,
            Share::Sent,
            Share::Dropped,
        ]);
        assert_eq!(taken, want.collect::<Vec<_>>());
        // A neighbour shares, the next second is another.
        assert_ne!(rates.take(ip("192.0.2.200"), now), Share::Answered);
        assert_eq!(rates.take(ip("192.0.2.1"), now + Duration::from_secs(1)), Share::Answered);
    }

    #[test]
    fn networks_are_counted_apart_and_this_host_is_not() {
        assert_eq!(network(ip("192.0.2.1")), network(ip("::ffff:192.0.2.99")));
        assert_ne!(network(ip("192.0.2.1")), network(ip("192.0.3.1")));
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8:0:ff::1")));
        assert_ne!(network(ip("2001:db8::1")), network(ip("2001:db8:0:100::1")));
        let rates = Rates::new(1);
        for client in ["127.0.0.1", "127.9.9.9", "::1"] {
            for _ in 0..5 {
                assert_eq!(rates.take(ip(client), rates.began), Share::Answered);
            }
        }
    }
}
