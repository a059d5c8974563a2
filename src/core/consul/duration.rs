//! Durations as Go writes them (`time.ParseDuration`), which all of Consul's clients send.
//!
//! Numbers with an optional fraction, each with its unit: `300ms`, `9.99s`, `1h15m`. A bare
//! number is none, except `0`. Negative ones are refused: nothing here waits backwards.

use std::time::Duration;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a Go duration of at most 292 years; `None` if it is not one.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: u64 = 0;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (whole, tail) = rest.split_at(digits);
        let (fraction, tail) = fraction(tail);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(scale)?)?.checked_add(part(fraction, scale))?;
        if tail.is_empty() {
            break;
        }
        rest = tail;
    }
    i64::try_from(nanos).ok().map(|_| Duration::from_nanos(nanos))
}

fn fraction(text: &str) -> (&str, &str) {
    let Some(after) = text.strip_prefix('.') else { return ("", text) };
    let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    after.split_at(digits)
}

/// The nanoseconds of a decimal fraction of a unit; digits beyond a nanosecond are dropped.
fn part(digits: &str, scale: u64) -> u64 {
    // Eighteen digits times an hour of nanoseconds still fit.
    let (sum, base) = digits.bytes().take(18).fold((0_u128, 1_u128), |(sum, base), digit| {
        (sum * 10 + u128::from(digit - b'0'), base * 10)
    });
    u64::try_from(u128::from(scale) * sum / base).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("9.99s", 9_990),
            ("60000ms", 60_000),
            ("1h15m", 4_500_000),
            ("1m30.5s", 90_500),
            (".5s", 500),
            ("5.s", 5_000),
            ("0.3h", 1_080_000),
            ("+2s", 2_000),
            ("1500us", 1),
        ] {
            assert_eq!(parse(text).map(|d| d.as_millis()), Some(millis), "{text}");
        }
        assert_eq!(parse("7ns"), Some(Duration::from_nanos(7)));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in
            ["", "10", "s", ".s", "-1s", "1x", "1s2", "1 s", "99999999999999h", "1.2.3s", "abc"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
