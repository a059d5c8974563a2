//! Durations as people write them: `500ms`, `1s`, `1m30s`, `1.5h`.
//!
//! A text is one or more numbers, each with a unit, the larger unit first; the syntax of Go's
//! durations, as Consul takes them, with days besides. A bare number is refused (seconds or
//! milliseconds?), except `0`. Negative durations are refused. Nothing is rounded: what a
//! nanosecond cannot hold is an error.
//!
//! [`format`] writes the same syntax and [`parse`] reads it back unchanged. The module serves
//! serde as well: `#[serde(with = "crate::duration")]`.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Units by their nanoseconds, the larger first.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without a unit.
    #[error("{0:?} has no unit; write `{0}s` or `{0}ms`")]
    NoUnit(String),
    /// Longer than 584 years.
    #[error("{0:?} is too long")]
    TooLong(String),
    /// Anything else.
    #[error("{0:?} is not a duration; write `500ms`, `10s`, `1m30s`")]
    Malformed(String),
}

/// Reads a duration.
///
/// # Errors
/// [`DurationError`] with the text, cut to 80 characters, and the way out.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let shown = || text.chars().take(80).collect::<String>();
    let malformed = || DurationError::Malformed(shown());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let number = leading(rest, |byte| byte.is_ascii_digit() || byte == b'.');
        let after = &rest[number.len()..];
        let unit = leading(after, |byte| !byte.is_ascii_digit() && byte != b'.');
        if number.is_empty() {
            return Err(malformed());
        }
        if unit.is_empty() {
            let whole = number.len() == text.len() && number.bytes().all(|b| b.is_ascii_digit());
            return Err(if whole { DurationError::NoUnit(shown()) } else { malformed() });
        }
        // Each unit at most once, the larger first: `1s1m` is a slip more often than a wish.
        let (_, nanos) = units
            .find(|(name, _)| *name == unit || (*name == "us" && unit == "µs"))
            .ok_or_else(malformed)?;
        total = amount(number, *nanos)
            .ok_or_else(malformed)?
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| DurationError::TooLong(shown()))?;
        rest = &after[unit.len()..];
    }
    if text.is_empty() { Err(malformed()) } else { Ok(Duration::from_nanos(total)) }
}

/// Writes a duration, exactly, in the fewest units: `1m30s`, `1h`, `500ms`, `0s`.
/// Days are not written; beyond 584 years it is cut to that.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (name, nanos) in &UNITS[1..] {
        if rest >= *nanos {
            write!(text, "{}{name}", rest / nanos).expect("a string takes everything");
            rest %= nanos;
        }
    }
    text
}

/// For `#[serde(with = "crate::duration")]`.
///
/// # Errors
/// Those of the format.
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*duration))
}

/// For `#[serde(with = "crate::duration")]`.
///
/// # Errors
/// [`DurationError`] in the format's words.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
    parse(&text).map_err(serde::de::Error::custom)
}

fn leading(text: &str, belongs: impl Fn(u8) -> bool) -> &str {
    let end = text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len());
    &text[..end]
}

/// Nanoseconds in so many units; the outer `None` is no number, the inner one too many.
fn amount(number: &str, nanos: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let point = number.len() > whole.len();
    if whole.is_empty() || fraction.contains('.') || (point && fraction.is_empty()) {
        return None;
    }
    let mut part = 0;
    let mut step = nanos;
    for digit in fraction.trim_end_matches('0').bytes() {
        if !step.is_multiple_of(10) {
            return None;
        }
        step /= 10;
        part += u64::from(digit - b'0') * step;
    }
    // Digits only, so the one way to fail is to be too large.
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(nanos));
    Some(whole.and_then(|whole| whole.checked_add(part)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_become_durations() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("1s", 1000),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("0.25h", 900_000),
            ("1m30.5s", 90_500),
            ("2h45m", 9_900_000),
            ("7d", 604_800_000),
            ("1000us", 1),
            ("1000µs", 1),
            ("1000000ns", 1),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_way_out() {
        for (text, message) in [
            ("5", "\"5\" has no unit; write `5s` or `5ms`"),
            ("", "\"\" is not a duration; write `500ms`, `10s`, `1m30s`"),
            ("soon", "\"soon\" is not a duration; write `500ms`, `10s`, `1m30s`"),
            ("9999999d", "\"9999999d\" is too long"),
            ("99999999999999999999s", "\"99999999999999999999s\" is too long"),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), message);
        }
        for text in [
            "-1s", "+1s", "1 s", " 1s", "1s ", "s", "1x", "1s1m", "1s1s", "1.s", ".5s", "1..5s",
            "1.2.3s", "1e3s", "1S", "1min", "1ms5", "0.5ns", "１s", "1.5",
        ] {
            let error = parse(text).expect_err(text);
            assert!(matches!(error, DurationError::Malformed(_)), "{text:?}: {error}");
        }
    }

    #[test]
    fn durations_become_texts() {
        for (millis, text) in
            [(0, "0s"), (500, "500ms"), (1000, "1s"), (90_000, "1m30s"), (86_400_000, "24h")]
        {
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos: u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[0-9.a-zµ -]{0,20}") {
            if let Ok(duration) = parse(&text) {
                prop_assert_eq!(parse(&format(duration)), Ok(duration));
            }
        }
    }
}
