//! Chance, all of it from one seed.
//!
//! Each purpose has a stream of its own, made from the seed and a label, so that one more draw
//! for one purpose leaves all others as they were. xoshiro256** (Blackman and Vigna, public
//! domain), seeded by splitmix64. Never reads entropy and never a clock.

/// One stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random([u64; 4]);

impl Random {
    /// The stream for one purpose of one seed.
    pub(crate) fn stream(seed: u64, label: &str) -> Self {
        let mut mixed = seed ^ 0x9e37_79b9_7f4a_7c15;
        for byte in label.bytes() {
            mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut next = || {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self([next(), next(), next(), next()])
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// One of `0..bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is below 2^-40 for every bound used here.
        self.any().checked_rem(bound).unwrap_or(0)
    }

    /// One of `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn permille(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    /// An index of a list of that length.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of a list that is not empty.
    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }

    /// Often near `low`, now and then up to `high`: the shape of latencies.
    pub(crate) fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let reach = match self.below(100) {
            0 => high - low,
            1..10 => (high - low) / 8,
            _ => (high - low) / 64,
        };
        low + self.below(reach + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let take = |seed, label| {
            let mut random = Random::stream(seed, label);
            (0..5).map(|_| random.any()).collect::<Vec<_>>()
        };
        assert_eq!(take(7, "store"), take(7, "store"));
        assert_ne!(take(7, "store"), take(7, "client"));
        assert_ne!(take(7, "store"), take(8, "store"));
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut random = Random::stream(1, "bounds");
        for _ in 0..10_000 {
            assert!((3..=9).contains(&random.between(3, 9)));
            assert!((10..=500).contains(&random.skewed(10, 500)));
        }
        assert_eq!(random.below(0), 0);
    }
}
