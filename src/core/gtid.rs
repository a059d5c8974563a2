//! Sets of transactions, as MySQL and MariaDB name them, with the set arithmetic that decisions
//! need.
//!
//! A [`GtidSet`] is MySQL's: for each source (a server's UUID, with a tag where one was used) the
//! intervals of transaction numbers. A [`GtidState`] is MariaDB's: the last sequence number of each
//! (domain, server), as `gtid_binlog_state` tells it, which says more than `gtid_slave_pos`: two
//! servers of one domain can both have written number 12. Both are read from and written as the
//! text that the servers use, and stand so in records. Neither ever guesses: bad text is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text longer than this is refused: bytes. A set this large is a sign of something else.
const LONGEST: usize = 256 * 1024;

/// A text that is no set of transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct NoGtid {
    what: &'static str,
    text: String,
}

impl NoGtid {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(80).collect() }
    }
}

/// MySQL's set of global transaction identifiers (manual: "GTID Sets").
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet {
    /// By source: intervals, both ends included, ascending, with a gap between any two.
    sources: BTreeMap<String, Vec<(u64, u64)>>,
}

impl GtidSet {
    /// No transaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many transactions.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.sources.values().flatten().map(|(from, to)| (to - from).saturating_add(1)).sum()
    }

    /// Does it hold every transaction of the other?
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.count_beyond(self) == 0
    }

    /// How many transactions the other does not have.
    #[must_use]
    pub fn count_beyond(&self, other: &Self) -> u64 {
        let counts = self.sources.iter().map(|(source, intervals)| {
            let taken = other.sources.get(source).map_or(&[][..], Vec::as_slice);
            if taken == intervals {
                return 0;
            }
            let left = intervals.iter().flat_map(|interval| cut(*interval, taken));
            left.map(|(from, to)| (to - from).saturating_add(1)).sum()
        });
        counts.sum()
    }

    /// All transactions of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (source, intervals) in &other.sources {
            let mine = all.sources.entry(source.clone()).or_default();
            mine.extend(intervals);
            normalize(mine);
        }
        all
    }

    /// What the other does not have.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (source, intervals) in &self.sources {
            let taken = other.sources.get(source).map_or(&[][..], Vec::as_slice);
            let left: Vec<(u64, u64)> =
                intervals.iter().flat_map(|interval| cut(*interval, taken)).collect();
            if !left.is_empty() {
                rest.sources.insert(source.clone(), left);
            }
        }
        rest
    }

    /// Without the transactions that this server wrote, whatever their tag.
    #[must_use]
    pub fn without_server(&self, uuid: &str) -> Self {
        self.of_sources(|source| server_of(source) != uuid)
    }

    /// The transactions that this server wrote, whatever their tag.
    #[must_use]
    pub fn of_server(&self, uuid: &str) -> Self {
        self.of_sources(|source| server_of(source) == uuid)
    }

    fn of_sources(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let sources = self.sources.iter().filter(|(source, _)| wanted(source));
        Self { sources: sources.map(|(source, list)| (source.clone(), list.clone())).collect() }
    }
}

fn server_of(source: &str) -> &str {
    source.split_once(':').map_or(source, |(uuid, _)| uuid)
}

/// Sorts and joins what touches.
fn normalize(intervals: &mut Vec<(u64, u64)>) {
    intervals.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for (from, to) in intervals.drain(..) {
        match joined.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => joined.push((from, to)),
        }
    }
    *intervals = joined;
}

/// One interval without those of a normal list.
fn cut((mut from, to): (u64, u64), taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for (begin, end) in taken {
        if *end < from || *begin > to {
            continue;
        }
        if *begin > from {
            left.push((from, begin - 1));
        }
        if *end >= to {
            return left;
        }
        from = end + 1;
    }
    left.push((from, to));
    left
}

/// From intervals by source, both ends included.
impl FromIterator<(String, (u64, u64))> for GtidSet {
    fn from_iter<I: IntoIterator<Item = (String, (u64, u64))>>(intervals: I) -> Self {
        let mut set = Self::default();
        for (source, interval) in intervals {
            set.sources.entry(source).or_default().push(interval);
        }
        set.sources.values_mut().for_each(normalize);
        set
    }
}

impl FromStr for GtidSet {
    type Err = NoGtid;

    /// Reads `UUID:1-5:7[:TAG:1-3], …`, with line breaks as servers put them.
    fn from_str(text: &str) -> Result<Self, NoGtid> {
        let wrong = || NoGtid::new("GTID set", text);
        if text.len() > LONGEST {
            return Err(wrong());
        }
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().unwrap_or_default().to_ascii_lowercase();
            let mut source = uuid.clone();
            if !is_uuid(&uuid) {
                return Err(wrong());
            }
            let mut intervals = 0;
            for field in fields {
                if is_tag(field) {
                    source = format!("{uuid}:{}", field.to_ascii_lowercase());
                    continue;
                }
                let (from, to) = field.split_once('-').unwrap_or((field, field));
                let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
                let (from, to) = (number(from)?, number(to)?);
                if from == 0 || to < from {
                    return Err(wrong());
                }
                set.sources.entry(source.clone()).or_default().push((from, to));
                intervals += 1;
            }
            if intervals == 0 {
                return Err(wrong());
            }
        }
        set.sources.values_mut().for_each(normalize);
        Ok(set)
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A tag starts with a letter or an underscore, so that it is no interval.
fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && text.len() <= 32
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (source, intervals)) in self.sources.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(source)?;
            for (from, to) in intervals {
                if from == to {
                    write!(f, ":{from}")?;
                } else {
                    write!(f, ":{from}-{to}")?;
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for GtidSet {
    type Error = NoGtid;

    fn try_from(text: String) -> Result<Self, NoGtid> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

/// The last sequence number of one (domain, server).
type Entry = ((u32, u32), u64);

/// MariaDB's binlog state: the last sequence number of each (domain, server)
/// (knowledge base: `gtid_binlog_state`).
///
/// Only with `gtid_strict_mode` does a number say that all lower ones of its domain came before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidState {
    last: BTreeMap<(u32, u32), u64>,
}

impl GtidState {
    /// No transaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Does it hold every transaction of the other?
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.lacked(self).next().is_none()
    }

    /// The later of both, for each (domain, server).
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (writer, number) in &other.last {
            let mine = all.last.entry(*writer).or_default();
            *mine = (*mine).max(*number);
        }
        all
    }

    /// The entries that go beyond the other's, with the number they reach: for each (domain,
    /// server) the other must tell at least as much itself.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.beyond(|writer, number| other.last.get(&writer).is_none_or(|known| *known < number))
    }

    /// Those of them that the other does not have.
    ///
    /// The binary log of a copy that was made from a backup begins with the backup: it does not
    /// tell of writers that wrote only before. In strict mode a later transaction that both have
    /// says that it has theirs, too.
    #[must_use]
    pub fn lacked_by(&self, other: &Self) -> Self {
        Self { last: self.lacked(other).collect() }
    }

    fn lacked<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Entry> + 'a {
        self.entries().filter(|(writer, number)| match other.last.get(writer) {
            Some(known) => known < number,
            None => {
                !other.begins_after(writer.0, *number)
                    || !self.shares_after(other, writer.0, *number)
            }
        })
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.last.iter().map(|(writer, number)| (*writer, *number))
    }

    /// With those entries of an earlier state that this one has, though it does not tell: strict
    /// mode says so where it tells of a later transaction of the server that went on from there, or
    /// of one that stands in the earlier state.
    #[must_use]
    pub fn grown_from(&self, earlier: &Self, went_on: u32) -> Self {
        let has = |(domain, _): (u32, u32), number: u64| {
            self.last.iter().any(|(writer, mine)| {
                let later = earlier.last.get(writer).is_some_and(|known| *known > number);
                writer.0 == domain && *mine > number && (writer.1 == went_on || later)
            })
        };
        let untold = earlier
            .beyond(|writer, number| !self.last.contains_key(&writer) && has(writer, number));
        self.union(&untold)
    }

    fn beyond(&self, is_beyond: impl Fn((u32, u32), u64) -> bool) -> Self {
        self.entries().filter(|(writer, number)| is_beyond(*writer, *number)).collect()
    }

    /// Does it tell of nothing as early as this number?
    fn begins_after(&self, domain: u32, number: u64) -> bool {
        self.last.iter().all(|(writer, mine)| writer.0 != domain || *mine > number)
    }

    /// Do both have a transaction of one writer after this number? Strict mode: then both have what
    /// came before it.
    fn shares_after(&self, other: &Self, domain: u32, number: u64) -> bool {
        other.last.iter().any(|(writer, theirs)| {
            writer.0 == domain
                && self.last.get(writer).is_some_and(|mine| (*mine).min(*theirs) > number)
        })
    }

    /// Of what the other has this server wrote these, and they lie beyond all that is known here:
    /// it would use their numbers again.
    #[must_use]
    pub fn would_repeat(&self, other: &Self, server: u32) -> Self {
        other.beyond(|writer, number| writer.1 == server && number > self.reached(writer.0))
    }

    /// Without the transactions that this server wrote, in any domain.
    #[must_use]
    pub fn without_server(&self, server: u32) -> Self {
        self.entries().filter(|((_, writer), _)| *writer != server).collect()
    }

    /// How many transactions this holds beyond the other, as the numbers of each domain tell it:
    /// at least one wherever an entry goes beyond.
    #[must_use]
    pub fn count_beyond(&self, other: &Self) -> u64 {
        let (mut counted, mut last) = (0, None);
        for ((domain, _), _) in self.lacked(other) {
            // In the order of domains: each is counted once.
            if last != Some(domain) {
                let ahead = self.reached(domain).saturating_sub(other.reached(domain));
                counted += ahead.max(1);
                last = Some(domain);
            }
        }
        counted
    }

    /// The highest number of a domain, whoever wrote it; 0: none.
    fn reached(&self, domain: u32) -> u64 {
        let of_domain = self.last.range((domain, 0)..=(domain, u32::MAX));
        of_domain.map(|(_, number)| *number).max().unwrap_or(0)
    }
}

impl FromIterator<Entry> for GtidState {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self { last: entries.into_iter().collect() }
    }
}

impl FromStr for GtidState {
    type Err = NoGtid;

    /// Reads `DOMAIN-SERVER-NUMBER, …`.
    fn from_str(text: &str) -> Result<Self, NoGtid> {
        let wrong = || NoGtid::new("GTID position", text);
        if text.len() > LONGEST {
            return Err(wrong());
        }
        let mut state = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split('-');
            let mut field = || fields.next().ok_or_else(wrong);
            let domain: u32 = field()?.parse().map_err(|_| wrong())?;
            let server: u32 = field()?.parse().map_err(|_| wrong())?;
            let number: u64 = field()?.parse().map_err(|_| wrong())?;
            if fields.next().is_some() {
                return Err(wrong());
            }
            let last = state.last.entry((domain, server)).or_default();
            *last = (*last).max(number);
        }
        Ok(state)
    }
}

impl fmt::Display for GtidState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ((domain, server), number)) in self.last.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{domain}-{server}-{number}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for GtidState {
    type Error = NoGtid;

    fn try_from(text: String) -> Result<Self, NoGtid> {
        text.parse()
    }
}

impl From<GtidState> for String {
    fn from(state: GtidState) -> Self {
        state.to_string()
    }
}

#[cfg(test)]
mod tests;
