//! The query string, read as Consul reads it: repeated names, bare names, Go durations.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use sengu_core::consul::directory::Wanted;
use sengu_core::consul::duration;
use sengu_core::consul::filter::{Filter, Shape};
use sengu_core::kv::Revision;

use super::answer::Trouble;

/// How long a blocking read waits if it does not say, and at most.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// All pairs of a query string, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Params(Vec<(String, String)>);

/// Which answers a reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// This agent's catalog.
    Default,
    /// The same; the reader said that an older one would do.
    Stale,
    /// This agent's catalog, once it has all that was written before the request.
    Consistent,
}

impl Consistency {
    /// As Consul's header has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Default => "leader",
            Self::Stale => "stale",
            Self::Consistent => "consistent",
        }
    }
}

/// Waiting for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocking {
    /// Answer when the result's index is above this.
    pub(crate) above: Revision,
    /// Answer anyway after this, without the random addition.
    pub(crate) wait: Duration,
}

impl Blocking {
    /// The wait with Consul's random addition of at most a sixteenth, so that many readers do
    /// not come back at once; never above the bound. `random` is any number.
    pub(crate) fn wait(self, random: u32) -> Duration {
        let addition = (self.wait / 16).mul_f64(f64::from(random) / f64::from(u32::MAX));
        (self.wait + addition).min(WAIT_MAX)
    }
}

impl Params {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Trouble> {
        Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| Trouble::bad(format!("Invalid query string: {error}")))
    }

    /// The first value of a name; empty for a bare one.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Is it there, whatever its value?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Every value of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A number; absent and empty are none.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Trouble> {
        match self.first(name) {
            None | Some("") => Ok(None),
            Some(text) => {
                text.parse().map(Some).map_err(|_| Trouble::bad(format!("Invalid {name}")))
            }
        }
    }

    /// Go's `ParseBool`; bare is `true`, absent is `false`.
    pub(crate) fn truth(&self, name: &str) -> Result<bool, Trouble> {
        match self.first(name) {
            None => Ok(false),
            Some("" | "1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(_) => Err(Trouble::bad(format!("Invalid value for ?{name}"))),
        }
    }

    /// Refuses another datacenter, as Consul does where it knows no way there.
    pub(crate) fn datacenter(&self, own: &str) -> Result<(), Trouble> {
        let named = self.first("dc").or_else(|| self.first("datacenter")).unwrap_or_default();
        if named.is_empty() || named.eq_ignore_ascii_case(own) {
            return Ok(());
        }
        Err(Trouble::new(500, "No path to datacenter"))
    }

    pub(crate) fn consistency(&self) -> Result<Consistency, Trouble> {
        match (self.has("stale"), self.has("consistent")) {
            (true, true) => {
                Err(Trouble::bad("Cannot specify ?stale with ?consistent, conflicting semantics."))
            }
            (_, true) => Ok(Consistency::Consistent),
            (true, false) => Ok(Consistency::Stale),
            (false, false) => Ok(Consistency::Default),
        }
    }

    /// `index` and `wait`; no index, or 0, does not wait.
    pub(crate) fn blocking(&self) -> Result<Option<Blocking>, Trouble> {
        let wait = match self.first("wait") {
            None | Some("") => WAIT_DEFAULT,
            Some(text) => duration::parse(text).ok_or_else(|| Trouble::bad("Invalid wait time"))?,
        };
        // Consul takes a wait of nothing as none given.
        let wait = if wait.is_zero() { WAIT_DEFAULT } else { wait.min(WAIT_MAX) };
        let above = match self.first("index") {
            None | Some("") => 0,
            Some(text) => text.parse().map_err(|_| Trouble::bad("Invalid index"))?,
        };
        Ok((above > 0).then_some(Blocking { above, wait }))
    }

    /// The filter expression, read for rows of this shape.
    pub(crate) fn filter(&self, shape: Shape) -> Result<Option<Filter>, Trouble> {
        let text = self.first("filter").map(str::trim).filter(|text| !text.is_empty());
        Ok(text.map(|text| Filter::new(text, shape)).transpose()?)
    }

    /// Tags, metadata and `passing`.
    pub(crate) fn wanted(&self) -> Result<Wanted, Trouble> {
        let pair = |text: &str| {
            let (key, value) = text.split_once(':').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        Ok(Wanted {
            tags: self.all("tag").filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            node_meta: self.all("node-meta").map(pair).collect(),
            passing: self.truth("passing")?,
        })
    }

    /// Refuses names that exclude each other.
    pub(crate) fn exclusive(&self, names: &[&str]) -> Result<(), Trouble> {
        let given: Vec<&str> = names.iter().copied().filter(|name| self.has(name)).collect();
        if given.len() > 1 {
            return Err(Trouble::bad(format!("Conflicting flags: {}", given.join(", "))));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("/x?{query}").parse().expect("a path")).expect("a query")
    }

    #[test]
    fn waits_are_bounded_and_bad_ones_are_named() {
        let blocking = |query: &str| params(query).blocking();
        assert_eq!(blocking("index=0&wait=1s"), Ok(None));
        let seconds = |above, secs| Ok(Some(Blocking { above, wait: Duration::from_secs(secs) }));
        assert_eq!(blocking("index=7"), seconds(7, 300));
        assert_eq!(blocking("index=7&wait=0s"), seconds(7, 300));
        assert_eq!(blocking("index=7&wait=60000ms"), seconds(7, 60));
        assert_eq!(blocking("index=7&wait=1h"), seconds(7, 600));
        assert_eq!(blocking("index=7&wait=10"), Err(Trouble::bad("Invalid wait time")));
        assert_eq!(blocking("index=-1"), Err(Trouble::bad("Invalid index")));
    }

    #[test]
    fn the_random_addition_is_a_sixteenth_at_most() {
        let blocking = Blocking { above: 1, wait: Duration::from_secs(16) };
        assert_eq!(blocking.wait(0), Duration::from_secs(16));
        assert_eq!(blocking.wait(u32::MAX), Duration::from_secs(17));
        let longest = Blocking { above: 1, wait: WAIT_MAX };
        assert_eq!(longest.wait(u32::MAX), WAIT_MAX);
    }

    #[test]
    fn repeated_and_bare_names_are_read() {
        let wanted = params("tag=a&tag=b&passing&node-meta=env:prod&near=_agent&ns=x").wanted();
        let wanted = wanted.expect("good");
        assert_eq!(wanted.tags, ["a", "b"]);
        assert_eq!(wanted.node_meta, [("env".to_owned(), "prod".to_owned())]);
        assert!(wanted.passing);
        assert_eq!(params("passing=maybe").wanted().expect_err("bad").status, 400);
        let filter = |query: &str| params(query).filter(sengu_core::consul::filter::NODE);
        assert_eq!(filter("filter=a%20in%20b").expect_err("bad").status, 400);
        assert!(filter("filter=Node+!=+%22%22").expect("good").is_some());
        assert!(filter("filter=%20").expect("none").is_none());
        assert!(params("stale&consistent").consistency().is_err());
    }
}
