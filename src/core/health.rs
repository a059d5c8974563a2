//! What a check says: from single results to a status that does not flicker.
//!
//! A probe brings one [`Judged`]; [`Judged::all`] takes the worst of several; a [`Condition`]
//! changes its [`Status`] only after enough results in a row, and expires by itself when results
//! stop coming. An unknown result never publishes and never withdraws: it is shown, and leaves
//! the status as it was. Only the missing of results ends a status: what nobody looks at is not
//! passing.
//!
//! A result is as old as the look it rests on, so the same look is never counted twice, and a
//! check that runs over an old look does not make it young.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Now, Time, Wall};

/// What a check says of its subject. The later is the worse: a known fault outweighs not knowing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Passing,
    /// Works, and somebody should look.
    Warning,
    /// Nobody knows: nothing was asked yet, or the asking itself failed.
    #[default]
    Unknown,
    /// Not as it should be.
    Critical,
}

impl Status {
    /// The word, as in JSON and in Consul's dialect.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What it says.
    pub status: Status,
    /// Why, in words for an operator.
    pub output: String,
    /// When the look that it rests on began.
    pub seen: Time,
}

impl Judged {
    /// As it should be.
    pub fn passing(seen: Time, output: impl Into<String>) -> Self {
        Self { status: Status::Passing, output: output.into(), seen }
    }

    /// Works, and somebody should look.
    pub fn warning(seen: Time, output: impl Into<String>) -> Self {
        Self { status: Status::Warning, output: output.into(), seen }
    }

    /// Not as it should be.
    pub fn failing(seen: Time, output: impl Into<String>) -> Self {
        Self { status: Status::Critical, output: output.into(), seen }
    }

    /// The asking itself failed.
    pub fn unknown(seen: Time, output: impl Into<String>) -> Self {
        Self { status: Status::Unknown, output: output.into(), seen }
    }

    /// All of them together: the worst status, and the words of those that have it. A fault is
    /// as young as the youngest look that shows it; a pass, or not knowing, as old as the oldest.
    /// None at all: unknown.
    #[must_use]
    pub fn all(results: &[Self]) -> Self {
        let Some(status) = results.iter().map(|result| result.status).max() else {
            return Self::unknown(Time::ZERO, "nothing was asked");
        };
        let deciding = || results.iter().filter(|result| result.status == status);
        let seen = match status {
            Status::Warning | Status::Critical => deciding().map(|result| result.seen).max(),
            Status::Passing | Status::Unknown => deciding().map(|result| result.seen).min(),
        };
        let words: Vec<&str> = deciding().map(|result| result.output.as_str()).collect();
        Self { status, output: words.join("; "), seen: seen.unwrap_or(Time::ZERO) }
    }
}

/// How many results in a row change a status. Zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hysteresis {
    /// Results in a row that are worse than the status, before it becomes worse.
    pub failures: u32,
    /// Results in a row that are better than the status, before it becomes better.
    pub successes: u32,
}

impl Default for Hysteresis {
    fn default() -> Self {
        Self { failures: 3, successes: 1 }
    }
}

/// A status that became another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Status,
    /// Now.
    pub to: Status,
    /// When.
    pub since: Wall,
}

/// A status as it stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is.
    pub status: Status,
    /// Why, in words for an operator.
    pub output: String,
    /// Since when it is so.
    pub since: Wall,
    /// How old the look is that the last result rests on; `None` before the first result.
    pub age: Option<Duration>,
}

/// The status of one check over time. Starts unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    hysteresis: Hysteresis,
    expiry: Duration,
    status: Status,
    since: Wall,
    /// How many results in a row were at least this bad: warning, critical.
    bad: [u32; 2],
    /// How many results in a row were at least this good: passing, warning.
    good: [u32; 2],
    /// When the look began that was counted last.
    counted: Option<Time>,
    last: Option<Judged>,
}

impl Condition {
    /// A check that has no result yet. `expiry` is how long its status outlives its last result.
    #[must_use]
    pub fn new(hysteresis: Hysteresis, expiry: Duration, now: Now) -> Self {
        Self {
            hysteresis,
            expiry,
            status: Status::Unknown,
            since: now.wall,
            bad: [0; 2],
            good: [0; 2],
            counted: None,
            last: None,
        }
    }

    /// Takes a result, and tells whether the status changed by it.
    pub fn add(&mut self, now: Now, result: Judged) -> Option<Change> {
        let Standing { status: from, since, .. } = self.at(now);
        if self.expired(now.time).is_some() {
            // What was counted before the gap says nothing about now.
            *self = Self { since, ..Self::new(self.hysteresis, self.expiry, now) };
        }
        self.count(&result);
        self.last = Some(result);
        let to = self.settled();
        if to != self.status {
            self.status = to;
            self.since = now.wall;
        }
        (from != to).then_some(Change { from, to, since: self.since })
    }

    /// What stands at `now`; an expired status is unknown.
    #[must_use]
    pub fn at(&self, now: Now) -> Standing {
        let Some(last) = &self.last else {
            return Standing {
                status: Status::Unknown,
                output: "not asked yet".into(),
                since: self.since,
                age: None,
            };
        };
        let age = now.time.since(last.seen);
        if let Some(ago) = self.expired(now.time) {
            let since = if self.status == Status::Unknown {
                self.since
            } else {
                let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                Wall(now.wall.0.saturating_sub(ago).max(self.since.0))
            };
            return Standing {
                status: Status::Unknown,
                output: format!(
                    "no result for {:.1} s; the last was {}: {}",
                    age.as_secs_f64(),
                    last.status,
                    last.output
                ),
                since,
                age: Some(age),
            };
        }
        Standing {
            status: self.status,
            output: self.words(last),
            since: self.since,
            age: Some(age),
        }
    }

    /// The last result, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<&Judged> {
        self.last.as_ref()
    }

    /// For how long the status has been expired, if it is.
    fn expired(&self, now: Time) -> Option<Duration> {
        let until = self.last.as_ref()?.seen + self.expiry;
        (now > until).then(|| now.since(until))
    }

    /// Counts a result, unless it says nothing or rests on a look that was counted before.
    fn count(&mut self, result: &Judged) {
        let news = self.counted.is_none_or(|counted| result.seen > counted);
        if result.status == Status::Unknown || !news {
            return;
        }
        self.counted = Some(result.seen);
        let run = |count: &mut u32, goes_on: bool| {
            *count = if goes_on { count.saturating_add(1) } else { 0 };
        };
        run(&mut self.bad[0], result.status >= Status::Warning);
        run(&mut self.bad[1], result.status >= Status::Critical);
        run(&mut self.good[0], result.status <= Status::Passing);
        run(&mut self.good[1], result.status <= Status::Warning);
    }

    /// The status that the counted results ask for.
    fn settled(&self) -> Status {
        let failures = self.hysteresis.failures.max(1);
        let successes = self.hysteresis.successes.max(1);
        if self.status < Status::Critical && self.bad[1] >= failures {
            Status::Critical
        } else if self.status < Status::Warning && self.bad[0] >= failures {
            Status::Warning
        } else if self.status > Status::Passing && self.good[0] >= successes {
            Status::Passing
        } else if self.status > Status::Warning && self.good[1] >= successes {
            Status::Warning
        } else {
            self.status
        }
    }

    /// The last result's words, and why the status is another, if it is.
    fn words(&self, last: &Judged) -> String {
        if last.status == self.status {
            return last.output.clone();
        }
        if last.status == Status::Unknown {
            return format!("still {}, the last result is unknown: {}", self.status, last.output);
        }
        let (have, need) = match last.status {
            Status::Passing => (self.good[0], self.hysteresis.successes),
            Status::Warning if self.status > Status::Warning => {
                (self.good[1], self.hysteresis.successes)
            }
            Status::Warning => (self.bad[0], self.hysteresis.failures),
            Status::Unknown | Status::Critical => (self.bad[1], self.hysteresis.failures),
        };
        format!("{} ({have} of {need} in a row): {}", last.status, last.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Duration = Duration::from_millis(3500);

    fn at(ms: u64) -> Now {
        let wall = 1_000_000 + i64::try_from(ms).expect("tests are short");
        Now { time: Time(ms * 1000 + 1), wall: Wall(wall) }
    }

    fn result(letter: char, ms: u64) -> Judged {
        let seen = at(ms).time;
        match letter {
            'p' => Judged::passing(seen, "good"),
            'w' => Judged::warning(seen, "so so"),
            'f' => Judged::failing(seen, "bad"),
            '?' => Judged::unknown(seen, "who knows"),
            other => panic!("{other:?} is no result"),
        }
    }

    /// One result a second; the status after each, as one letter.
    fn course(failures: u32, successes: u32, results: &str) -> String {
        let mut condition = Condition::new(Hysteresis { failures, successes }, EXPIRY, at(0));
        let mut seconds = 0;
        let mut course = String::new();
        for letter in results.chars() {
            seconds += 1000;
            condition.add(at(seconds), result(letter, seconds));
            course.push(match condition.at(at(seconds)).status {
                Status::Passing => 'P',
                Status::Warning => 'W',
                Status::Unknown => '?',
                Status::Critical => 'C',
            });
        }
        course
    }

    #[test]
    fn the_status_follows_the_results_by_the_table() {
        for (failures, successes, results, expected) in [
            // The defaults: one pass is enough, three faults are needed.
            (3, 1, "p", "P"),
            (3, 1, "fff", "??C"),
            (3, 1, "pffp", "PPPP"),
            (3, 1, "pfff", "PPPC"),
            (3, 1, "pffpff", "PPPPPP"),
            (3, 1, "pfffp", "PPPCP"),
            // Successes count as well.
            (1, 3, "ppp", "??P"),
            (1, 3, "ppfppp", "??CCCP"),
            (2, 2, "fpfpff", "?????C"),
            // Unknown neither counts nor breaks a row.
            (3, 1, "????", "????"),
            (3, 1, "p????", "PPPPP"),
            (3, 1, "fff????", "??CCCCC"),
            (3, 1, "pf?f?f", "PPPPPC"),
            (3, 2, "p?p", "??P"),
            // Warning lies between; worse than the status needs failures, better successes.
            (3, 1, "w", "W"),
            (3, 1, "pwww", "PPPW"),
            (3, 1, "pwfw", "PPPW"),
            (3, 1, "pwfwff", "PPPWWW"),
            (3, 1, "pwfwfff", "PPPWWWC"),
            (3, 1, "pwfff", "PPPWC"),
            (2, 1, "ffw", "?CW"),
            (2, 2, "ffwpp", "?CCWP"),
            // Zero counts as one.
            (0, 0, "pfp", "PCP"),
        ] {
            assert_eq!(course(failures, successes, results), expected, "{failures} {results}");
        }
    }

    #[test]
    fn together_the_worst_decides() {
        let seen = |results: &str| {
            let results: Vec<Judged> = results
                .chars()
                .zip(1..)
                .map(|(letter, second)| result(letter, second * 1000))
                .collect();
            let all = Judged::all(&results);
            (all.status, all.seen.0 / 1_000_000)
        };
        assert_eq!(seen("ppp"), (Status::Passing, 1), "as old as its oldest");
        assert_eq!(seen("pwp"), (Status::Warning, 2));
        assert_eq!(seen("pw?"), (Status::Unknown, 3));
        assert_eq!(seen("??p"), (Status::Unknown, 1));
        assert_eq!(seen("?f?"), (Status::Critical, 2), "a known fault outweighs not knowing");
        assert_eq!(seen("fpf"), (Status::Critical, 3), "as young as its youngest");
        assert_eq!(Judged::all(&[]).status, Status::Unknown);
        let words = Judged::all(&[result('f', 1), result('p', 1), result('f', 2)]).output;
        assert_eq!(words, "bad; bad");
    }

    #[test]
    fn a_change_is_told_once_with_its_time() {
        let mut condition = Condition::new(Hysteresis::default(), EXPIRY, at(0));
        assert_eq!(condition.at(at(0)).output, "not asked yet");
        let change = condition.add(at(1000), result('p', 1000)).expect("left unknown");
        assert_eq!((change.from, change.to), (Status::Unknown, Status::Passing));
        assert_eq!(change.since, at(1000).wall);
        for second in [2000, 3000] {
            assert_eq!(condition.add(at(second), result('f', second)), None);
        }
        assert_eq!(condition.at(at(3000)).output, "critical (2 of 3 in a row): bad");
        let change = condition.add(at(4000), result('f', 4000)).expect("the third");
        assert_eq!((change.to, change.since), (Status::Critical, at(4000).wall));
        assert_eq!(condition.at(at(4500)).since, at(4000).wall);
        assert_eq!(condition.at(at(4500)).age, Some(Duration::from_millis(500)));
        condition.add(at(5000), result('?', 5000));
        let output = condition.at(at(5000)).output;
        assert_eq!(output, "still critical, the last result is unknown: who knows");
    }

    #[test]
    fn a_status_expires_when_results_stop_and_counting_starts_anew() {
        let mut condition = Condition::new(Hysteresis::default(), EXPIRY, at(0));
        condition.add(at(1000), result('p', 1000));
        assert_eq!(condition.at(at(4500)).status, Status::Passing);
        let standing = condition.at(at(5500));
        assert_eq!(standing.status, Status::Unknown);
        assert_eq!(standing.output, "no result for 4.5 s; the last was passing: good");
        assert_eq!(standing.since, at(4500).wall);
        assert_eq!(condition.add(at(9000), result('f', 9000)), None, "one of three");
        assert_eq!(condition.at(at(9000)).status, Status::Unknown);
        let change = condition.add(at(9500), result('p', 9500)).expect("known again");
        assert_eq!((change.from, change.to), (Status::Unknown, Status::Passing));
    }

    #[test]
    fn the_same_look_counts_once_and_does_not_get_younger() {
        let mut condition = Condition::new(Hysteresis::default(), EXPIRY, at(0));
        condition.add(at(1000), result('p', 1000));
        for now in [2000, 2100, 2200, 2300] {
            condition.add(at(now), result('f', 1500));
        }
        assert_eq!(condition.at(at(2300)).status, Status::Passing);
        assert_eq!(condition.at(at(2300)).age, Some(Duration::from_millis(800)));
        condition.add(at(5100), result('f', 1500));
        assert_eq!(condition.at(at(5100)).status, Status::Unknown, "the look is 3.6 s old");
    }

    #[test]
    fn statuses_are_ordered_and_spelled() {
        let order = [Status::Passing, Status::Warning, Status::Unknown, Status::Critical];
        assert!(order.is_sorted());
        for status in order {
            let json = serde_json::to_string(&status).expect("a word");
            assert_eq!(json, format!("\"{status}\""));
        }
    }
}
