//! How much one address may take: connections at once, requests in a second.
//!
//! Clients on this host share what there is and are not counted apart, so that nothing here costs
//! them a lock. Others are counted by address, or by the /64 of IPv6, which one host has to
//! itself. Both tables are bounded: that of connections by the connections, that of requests by
//! its size; what does not fit shares one place, which only makes it stricter.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Addresses whose requests are counted apart.
const ADDRESSES: usize = 8192;

/// What is counted as one: an IPv4 address, or the first 64 bits of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    /// `None` for this host itself.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V4(address) => Some(Self(address.into())),
            IpAddr::V6(address) => {
                Some(Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()))
            }
        }
    }
}

/// Open connections, by where they come from.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    open: Mutex<HashMap<Origin, usize>>,
}

/// One connection of an address; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    origin: Option<Origin>,
}

impl Crowd {
    /// A place for one more, if the address has fewer than `most`.
    pub(crate) fn enter(self: &Arc<Self>, origin: Option<Origin>, most: usize) -> Option<Place> {
        if let Some(origin) = origin {
            let mut open = self.open.lock().expect("nothing panics while it holds this");
            let count = open.entry(origin).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Place { crowd: Arc::clone(self), origin })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(origin) = self.origin else { return };
        let mut open = self.crowd.open.lock().expect("nothing panics while it holds this");
        if let Some(count) = open.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                open.remove(&origin);
            }
        }
    }
}

/// Requests in a second, by where they come from.
#[derive(Debug)]
pub(crate) struct Rates {
    /// In a second; and so many more at once.
    each: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    known: HashMap<Origin, Bucket>,
    /// Of all that did not fit.
    rest: Option<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, each: f64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        self.left = (self.left + passed.as_secs_f64() * each).min(2.0 * each);
        self.at = now;
        let good = self.left >= 1.0;
        if good {
            self.left -= 1.0;
        }
        good
    }
}

impl Rates {
    /// So many in a second for each.
    pub(crate) fn new(each: u32) -> Self {
        Self { each: f64::from(each), buckets: Mutex::default() }
    }

    /// Takes one request of an address; `false` if it has had its share.
    pub(crate) fn take(&self, origin: Origin, now: Instant) -> bool {
        let full = Bucket { left: 2.0 * self.each, at: now };
        let mut buckets = self.buckets.lock().expect("nothing panics while it holds this");
        if let Some(bucket) = buckets.known.get_mut(&origin) {
            return bucket.take(self.each, now);
        }
        if buckets.known.len() >= ADDRESSES {
            // One that was silent for two seconds has a full bucket again, as a stranger has.
            let silent = Duration::from_secs(2);
            buckets.known.retain(|_, bucket| now.saturating_duration_since(bucket.at) < silent);
        }
        if buckets.known.len() >= ADDRESSES {
            return buckets.rest.get_or_insert(full).take(self.each, now);
        }
        buckets.known.entry(origin).or_insert(full).take(self.each, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Option<Origin> {
        Origin::of(text.parse().expect("an address"))
    }

    #[test]
    fn this_host_is_not_counted_and_a_network_of_ipv6_is_one() {
        assert_eq!(origin("127.0.0.9"), None);
        assert_eq!(origin("::1"), None);
        assert_eq!(origin("::ffff:127.0.0.1"), None);
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
    }

    #[test]
    fn an_address_has_its_places_and_no_more() {
        let crowd = Arc::new(Crowd::default());
        let (one, other) = (origin("10.0.0.1"), origin("10.0.0.2"));
        let first = crowd.enter(one, 2).expect("room");
        let _second = crowd.enter(one, 2).expect("room");
        assert!(crowd.enter(one, 2).is_none());
        let _own = crowd.enter(other, 2).expect("another has its own");
        let here: Vec<Place> = (0..9).filter_map(|_| crowd.enter(None, 2)).collect();
        assert_eq!(here.len(), 9, "this host is not counted");
        drop(first);
        assert!(crowd.enter(one, 2).is_some());
        assert_eq!(crowd.open.lock().expect("no panic").len(), 2);
    }

    #[test]
    fn requests_flow_at_a_rate() {
        let rates = Rates::new(10);
        let (one, start) = (origin("10.0.0.1").expect("counted"), Instant::now());
        let taken = |now| (0..100).filter(|_| rates.take(one, now)).count();
        assert_eq!(taken(start), 20);
        assert_eq!(taken(start + Duration::from_millis(500)), 5);
        assert_eq!(taken(start + Duration::from_secs(60)), 20);
    }

    #[test]
    fn the_table_of_rates_is_bounded() {
        let rates = Rates::new(1);
        let start = Instant::now();
        let address = |number: u32| Origin(IpAddr::from(number.to_be_bytes()));
        for number in 0..u32::try_from(ADDRESSES).expect("small") {
            assert!(rates.take(address(number), start));
        }
        let strangers = (1 << 24..(1 << 24) + 50).filter(|n| rates.take(address(*n), start));
        assert_eq!(strangers.count(), 2, "they share one place");
        assert!(rates.take(address(1 << 25), start + Duration::from_secs(3)));
        assert_eq!(rates.buckets.lock().expect("no panic").known.len(), 1);
    }
}
