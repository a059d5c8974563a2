//! The order in which a list of servers is written.
//!
//! Who reads a file takes the first line, so the order spreads clients or does not. `per-host`
//! sorts by a hash of host and address (rendezvous): the same on each render of a host, spread
//! evenly over hosts, and without one address only that address's own clients move. `sorted` is
//! by name. There is no random order: it would change the file, and reload its reader, each time.

use std::str::FromStr;

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// By a hash of this host's name and each address.
    #[default]
    PerHost,
    /// By name.
    Sorted,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "per-host" => Ok(Self::PerHost),
            "sorted" => Ok(Self::Sorted),
            "random" | "shuffle" => Err(format!(
                "order {text:?} is refused: the file would change with each render; \
                 \"per-host\" spreads clients and stays the same"
            )),
            _ => Err(format!("order {text:?} is unknown: \"per-host\" or \"sorted\"")),
        }
    }
}

impl Order {
    /// Sorts what has a name and an address.
    pub(crate) fn sort<T>(self, host: &str, list: &mut [T], of: impl Fn(&T) -> (String, String)) {
        match self {
            Self::Sorted => list.sort_by_cached_key(|one| of(one)),
            Self::PerHost => list.sort_by_cached_key(|one| {
                let (name, address) = of(one);
                (hash(&[host.as_bytes(), address.as_bytes()]), name, address)
            }),
        }
    }
}

/// A hash that is the same in every version on every machine: FNV-1a over the length and bytes
/// of each part, then the finalizer of MurmurHash3, so that close texts end far apart. Not
/// against people who choose the texts.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        (part.len() as u64).to_le_bytes().into_iter().for_each(&mut take);
        part.iter().copied().for_each(&mut take);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A hash of a whole content, eight bytes at a time; only ever compared with itself, so another
/// version may have another one.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9fb2_1c65_1e98_df25;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
        hash ^= hash >> 32;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(order: Order, host: &str, addresses: &[&str]) -> Vec<String> {
        let mut list: Vec<String> = addresses.iter().map(|&text| text.to_owned()).collect();
        order.sort(host, &mut list, |address| (String::new(), address.clone()));
        list
    }

    fn hosts() -> impl Iterator<Item = String> {
        (0..300).map(|number| format!("app{number:03}"))
    }

    const THREE: [&str; 3] = ["10.0.0.11:6379", "10.0.0.12:6379", "10.0.0.13:6379"];

    #[test]
    fn first_places_are_spread_over_hosts() {
        let mut firsts = [0_u32; 3];
        for host in hosts() {
            let first = ordered(Order::PerHost, &host, &THREE).remove(0);
            firsts[THREE.iter().position(|&one| one == first).expect("one of them")] += 1;
        }
        // 100 each, give or take three standard deviations (8.2).
        assert!(firsts.iter().all(|count| (75..=125).contains(count)), "{firsts:?}");
    }

    #[test]
    fn a_host_sees_the_same_order_whatever_the_order_given() {
        for host in hosts() {
            let order = ordered(Order::PerHost, &host, &THREE);
            assert_eq!(order, ordered(Order::PerHost, &host, &[THREE[2], THREE[0], THREE[1]]));
        }
    }

    #[test]
    fn without_one_address_only_its_own_clients_move() {
        let (mut moved, mut to) = (0, [0_u32; 3]);
        for host in hosts() {
            let before = ordered(Order::PerHost, &host, &THREE);
            let after = ordered(Order::PerHost, &host, &THREE[..2]);
            let rest: Vec<&String> = before.iter().filter(|one| *one != THREE[2]).collect();
            assert_eq!(rest, after.iter().collect::<Vec<_>>(), "the others keep their order");
            if before[0] == THREE[2] {
                moved += 1;
                to[THREE.iter().position(|one| *one == after[0]).expect("one of them")] += 1;
            } else {
                assert_eq!(before[0], after[0]);
            }
        }
        assert!((75..=125).contains(&moved), "{moved}");
        assert!(to[0] > moved / 4 && to[1] > moved / 4, "they spread over the rest: {to:?}");
    }

    #[test]
    fn the_hash_never_changes() {
        // Fixed: another value would move all clients at an update of sengu.
        assert_eq!(hash(&[b"app001", b"10.0.0.11:6379"]), 8_706_374_261_138_754_699);
        assert_ne!(hash(&[b"a", b"bc"]), hash(&[b"ab", b"c"]));
    }

    #[test]
    fn digests_tell_contents_apart() {
        let texts = ["", "a", "b", "aaaaaaaa", "aaaaaaaaa", "aaaaaaaab", "aaaaaaaa\0"];
        let digests: std::collections::BTreeSet<u64> =
            texts.iter().map(|text| digest(text.as_bytes())).collect();
        assert_eq!(digests.len(), texts.len());
        assert_eq!(digest(b"127.0.0.1 localhost"), digest(b"127.0.0.1 localhost"));
    }

    #[test]
    fn orders_are_named() {
        assert_eq!("sorted".parse(), Ok(Order::Sorted));
        assert_eq!("per-host".parse(), Ok(Order::PerHost));
        let refusal = "random".parse::<Order>().expect_err("refused");
        assert!(refusal.contains("per-host"), "{refusal}");
        assert!("near".parse::<Order>().is_err());
        assert_eq!(ordered(Order::Sorted, "x", &[THREE[1], THREE[0]]), [THREE[0], THREE[1]]);
    }
}
