//! From a plan that breaks a rule to a short one that breaks the same rule: deletion.
//!
//! Deeds go in halves, then in ever smaller chunks, as long as the same invariant still fails
//! (delta debugging); then the world is made simpler, one part at a time. What is left is told as
//! a [`Less`]: a few words that, with the seed, replay exactly it. Latencies shift when something
//! is left out, so each try may also draw them from a few other seeds.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::deed::{Deed, Span};
use super::options::{Ending, Options};
use super::plan::Plan;
use super::schedule::{MILLI, Micros};
use super::storm::BEGIN;

/// So many other seeds for latencies are tried before a deletion counts as one too many.
const OTHERS: u64 = 4;

/// How a world can be made simpler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Simpler {
    Mended,
    OneService,
    NoWatchers,
    NoDrift,
    NothingLost,
    NoHooks,
    QuickCopies,
    OneLease,
    AllFenced,
    EqualPriorities,
    FewClients,
    ShortStorm,
}

impl Simpler {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Mended, "mended"),
        (Self::OneService, "one-service"),
        (Self::NoWatchers, "no-watchers"),
        (Self::NoDrift, "no-drift"),
        (Self::NothingLost, "nothing-lost"),
        (Self::NoHooks, "no-hooks"),
        (Self::QuickCopies, "quick-copies"),
        (Self::OneLease, "one-lease"),
        (Self::AllFenced, "all-fenced"),
        (Self::EqualPriorities, "equal-priorities"),
        (Self::FewClients, "few-clients"),
        (Self::ShortStorm, "short-storm"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(it, _)| *it == self).map_or("", |(_, word)| word)
    }

    fn apply(self, plan: &mut Plan) {
        let options = &mut plan.options;
        match self {
            Self::Mended => options.ending = Ending::Mended,
            Self::OneService => options.services = 1,
            Self::NoWatchers => options.watchers = 0,
            Self::NoDrift => options.drift = 0,
            Self::NothingLost => (options.lost_requests, options.lost_replies) = (0, 0),
            Self::NoHooks => options.hooks.clear(),
            Self::QuickCopies => options.slow_copies = false,
            Self::OneLease => options.leases.clear(),
            Self::AllFenced => options.unfenced = None,
            Self::EqualPriorities => options.priorities.fill(10),
            Self::FewClients => options.clients = (1, options.clients.1, 0, 0),
            Self::ShortStorm => {
                let last = plan.deeds.last().map_or(BEGIN, |(at, _)| *at);
                options.life = 0;
                options.storm = options.storm.min(last - BEGIN + 1000 * MILLI);
            }
        }
    }
}

/// What is left of a seed's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Less {
    /// The numbers of the deeds that stay, from 1; `None`: all.
    deeds: Option<Vec<usize>>,
    /// Latencies are drawn from this seed instead.
    salt: Option<u64>,
    hosts: Option<usize>,
    simpler: BTreeSet<Simpler>,
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if let Some(deeds) = &self.deeds {
            let list: Vec<String> = deeds.iter().map(ToString::to_string).collect();
            words.push(format!("deeds={}", list.join("+")));
        }
        words.extend(self.hosts.map(|hosts| format!("hosts={hosts}")));
        words.extend(self.simpler.iter().map(|simpler| simpler.word().to_owned()));
        words.extend(self.salt.map(|salt| format!("latencies={salt}")));
        f.write_str(&words.join(","))
    }
}

impl FromStr for Less {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut less = Self { deeds: None, salt: None, hosts: None, simpler: BTreeSet::new() };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let wrong = |_| format!("`{word}`: not a number");
            if let Some(list) = word.strip_prefix("deeds=") {
                let numbers = list.split('+').filter(|number| !number.is_empty());
                let numbers: Result<Vec<usize>, _> = numbers.map(str::parse).collect();
                less.deeds = Some(numbers.map_err(wrong)?);
            } else if let Some(number) = word.strip_prefix("latencies=") {
                less.salt = Some(number.parse().map_err(wrong)?);
            } else if let Some(number) = word.strip_prefix("hosts=") {
                less.hosts = Some(number.parse().map_err(wrong)?);
            } else if let Some((simpler, _)) = Simpler::ALL.iter().find(|(_, it)| *it == word) {
                less.simpler.insert(*simpler);
            } else {
                let known: Vec<&str> = Simpler::ALL.iter().map(|(_, word)| *word).collect();
                return Err(format!(
                    "`{word}` leaves nothing out: `deeds=3+7`, `hosts=3`, `latencies=9`, {}",
                    known.join(", ")
                ));
            }
        }
        Ok(less)
    }
}

impl Less {
    /// What is left of a plan.
    ///
    /// # Errors
    /// A deed that is not there, or one that names what is left out.
    pub fn of(&self, whole: &Plan) -> Result<Plan, String> {
        let mut plan = whole.clone();
        if let Some(numbers) = &self.deeds {
            let deed = |number: &usize| {
                let deed = number.checked_sub(1).and_then(|index| whole.deeds.get(index)).cloned();
                deed.ok_or_else(|| format!("no deed {number}: there are {}", whole.deeds.len()))
            };
            plan.deeds = numbers.iter().map(deed).collect::<Result<_, _>>()?;
        }
        if let Some(hosts) = self.hosts {
            let options = &mut plan.options;
            if !(2..=options.hosts).contains(&hosts) {
                return Err(format!("{hosts} hosts: from 2 to {} can stay", options.hosts));
            }
            (options.hosts, options.instances, options.clients.1) = (hosts, hosts, hosts);
            options.priorities.truncate(hosts);
            options.unfenced = options.unfenced.filter(|number| *number < hosts);
            options.leases.retain(|host, _| *host < hosts);
        }
        for simpler in &self.simpler {
            simpler.apply(&mut plan);
        }
        if let Some(salt) = self.salt {
            plan.options.seed = salt;
        }
        match plan.deeds.iter().find(|(_, deed)| !fits(deed, &plan.options)) {
            Some((_, deed)) => Err(format!("`{deed}` names what is left out")),
            None => Ok(plan),
        }
    }
}

/// Does everything that a deed names exist?
fn fits(deed: &Deed, options: &Options) -> bool {
    let text = deed.to_string().replace(',', "");
    let hosts = options.hosts + options.watchers;
    text.split([' ', '/']).all(|word| {
        let number = |head: char| word.strip_prefix(head)?.parse::<usize>().ok();
        number('h').is_none_or(|host| host <= hosts)
            && (!matches!(deed, Deed::LoseMember(..)) || options.members > 0)
            && number('r').is_none_or(|number| number <= options.instances)
            && (word != "bar" || options.services > 1)
    })
}

/// What a search for less found.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// What is left.
    pub less: Less,
    /// The same, as a plan.
    pub plan: Plan,
    /// So many runs it took.
    pub runs: u64,
}

impl Shrunk {
    /// The deeds that are left, as a scenario writes them: times from the moment of calm.
    #[must_use]
    pub fn story(&self) -> String {
        let line = |(at, deed): &(Micros, Deed)| {
            format!("at {}: {deed}\n", Span(at.saturating_sub(BEGIN)))
        };
        self.plan.deeds.iter().map(line).collect()
    }
}

/// Leaves out of a plan what the failure does not need; `fails` says whether it is still there.
/// `None`: the whole plan does not fail. At most so many runs.
pub fn shrink(whole: &Plan, most: u64, fails: impl Fn(&Plan) -> bool) -> Option<Shrunk> {
    let all: Vec<usize> = (1..=whole.deeds.len()).collect();
    let less = Less { deeds: Some(all), salt: None, hosts: None, simpler: BTreeSet::new() };
    let plan = less.of(whole).ok().filter(&fails)?;
    let mut search = Search { whole, fails, most, best: Shrunk { less, plan, runs: 1 } };
    search.delete();
    search.simplify();
    // What a simpler world made needless.
    search.delete();
    Some(search.best)
}

struct Search<'a, F> {
    whole: &'a Plan,
    fails: F,
    most: u64,
    best: Shrunk,
}

impl<F: Fn(&Plan) -> bool> Search<'_, F> {
    /// Keeps a candidate if it still fails, with these latencies or others.
    fn keep(&mut self, candidate: &Less) -> bool {
        let seed = self.whole.options.seed;
        let others = (1..=OTHERS).map(|other| Some(seed.wrapping_mul(31).wrapping_add(other)));
        for salt in std::iter::once(candidate.salt).chain(others) {
            if self.best.runs >= self.most {
                return false;
            }
            let less = Less { salt, ..candidate.clone() };
            let Ok(plan) = less.of(self.whole) else { return false };
            self.best.runs += 1;
            if (self.fails)(&plan) {
                (self.best.less, self.best.plan) = (less, plan);
                return true;
            }
        }
        false
    }

    fn kept(&self) -> Vec<usize> {
        self.best.less.deeds.clone().unwrap_or_default()
    }

    fn delete(&mut self) {
        let mut size = self.kept().len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            let mut shorter = false;
            while from < self.kept().len() {
                let mut deeds = self.kept();
                let upto = deeds.len().min(from + size);
                deeds.drain(from..upto);
                let candidate = Less { deeds: Some(deeds), ..self.best.less.clone() };
                if self.keep(&candidate) {
                    shorter = true;
                } else {
                    from += size;
                }
            }
            // Single deeds are tried until none can go.
            size = if size == 1 && shorter { 1 } else { size / 2 };
        }
    }

    fn simplify(&mut self) {
        while let hosts @ 2.. = self.best.plan.options.hosts.saturating_sub(1) {
            let candidate = Less { hosts: Some(hosts), ..self.best.less.clone() };
            if !self.keep(&candidate) {
                break;
            }
        }
        for (simpler, _) in Simpler::ALL {
            let mut candidate = self.best.less.clone();
            candidate.simpler.insert(simpler);
            self.keep(&candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan with many deeds.
    fn whole() -> Plan {
        let plans = (0..).map(|seed| Plan::draw(seed, false));
        plans.take(500).find(|plan| plan.deeds.len() > 40).expect("some storms are long")
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let whole = whole();
        let needed = [whole.deeds[7].clone(), whole.deeds[33].clone()];
        let fails = |plan: &Plan| needed.iter().all(|deed| plan.deeds.contains(deed));
        let shrunk = shrink(&whole, 10_000, fails).expect("the whole plan fails");
        assert_eq!(shrunk.plan.deeds, needed);
        assert_eq!(shrunk.less.deeds, Some(vec![8, 34]));
        assert_eq!(shrunk.plan.options.drift, 0);
        assert!(shrunk.runs < 1000, "{} runs", shrunk.runs);
        assert_eq!(shrunk.story().lines().count(), 2);
    }

    #[test]
    fn what_is_left_can_be_said_and_replayed() {
        let whole = whole();
        let needed = whole.deeds[7].clone();
        let shrunk = shrink(&whole, 10_000, |plan| plan.deeds.contains(&needed));
        let shrunk = shrunk.expect("the whole plan fails");
        let less: Less = shrunk.less.to_string().parse().expect("it reads its own words");
        assert_eq!(less, shrunk.less);
        let again = less.of(&whole).expect("it fits");
        assert_eq!(again.to_string(), shrunk.plan.to_string());
    }

    #[test]
    fn what_does_not_fail_is_not_shrunk() {
        assert!(shrink(&whole(), 100, |_| false).is_none());
    }

    #[test]
    fn wrong_words_are_told_with_the_way_out() {
        let told = "frobnicate".parse::<Less>().expect_err("no such word");
        assert!(told.contains("deeds=3+7"), "{told}");
        let less: Less = "deeds=9999".parse().expect("a number");
        assert!(less.of(&whole()).expect_err("no such deed").contains("no deed 9999"));
    }
}
