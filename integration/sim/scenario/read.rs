//! Reads a scenario: comments, settings of the world, then lines that begin with a time.

use std::time::Duration;

use sengu_core::policy::{Failover, Judge, Loss, Rejoin};
use sengu_core::record::Phase;

use super::super::options::Options;
use super::super::schedule::{Micros, SECOND};
use super::super::sql::Family;
use super::super::words;
use super::{Check, Line, Scenario, What};

/// How long a story goes on after its last line, if it does not say.
const AFTER: Micros = 10 * SECOND;

/// Reads a whole file.
pub(super) fn read(text: &str) -> Result<Scenario, String> {
    let mut scenario = Scenario {
        about: Vec::new(),
        options: Options::scenario(),
        adopted: true,
        rests: true,
        limits: Vec::new(),
        lines: Vec::new(),
        end: 0,
    };
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        let read = if let Some(comment) = line.strip_prefix('#') {
            if scenario.lines.is_empty() {
                scenario.about.push(comment.trim().to_owned());
            }
            Ok(())
        } else if line.is_empty() {
            Ok(())
        } else if let Some((when, what)) = line.split_once(':') {
            timed(&mut scenario, number, when.trim(), what.trim())
        } else {
            setting(&mut scenario, line)
        };
        if let Err(error) = read {
            wrong.push(format!("line {number}: {error}"));
        }
    }
    if scenario.about.is_empty() {
        wrong.push(
            "line 1: say first, in comments, what used to go wrong and what must happen".into(),
        );
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    scenario.lines.sort_by_key(|line| line.at);
    let last = scenario.lines.last().map_or(0, |line| line.at);
    if scenario.end == 0 {
        scenario.end = last + AFTER;
    }
    let instances = if scenario.options.alone() { 3 } else { scenario.options.hosts };
    scenario.options.instances = instances;
    scenario.options.priorities.resize(instances, 10);
    scenario.options.clients.1 = instances;
    Ok(scenario)
}

/// `at 2 s: …`, `by 2 s: …`, `until 2 s: …`, `end: 20 s`.
fn timed(scenario: &mut Scenario, number: usize, when: &str, what: &str) -> Result<(), String> {
    let words: Vec<&str> = when.split_whitespace().collect();
    let (at, what) = match words.as_slice() {
        ["end"] => {
            let words: Vec<&str> = what.split_whitespace().collect();
            let [n, unit] = words.as_slice() else {
                return Err(format!("`end: {what}`: write `end: 20 s`"));
            };
            scenario.end = words::span(n, unit)?;
            return Ok(());
        }
        ["at", n, unit] => {
            let at = words::span(n, unit)?;
            let what = match what.strip_prefix("expect ") {
                Some(check) => What::Now(Check::read(check)?),
                None => What::Deed(words::deed(what)?),
            };
            (at, what)
        }
        ["by", n, unit] => (words::span(n, unit)?, What::By(Check::read(what)?)),
        ["until", n, unit] => (words::span(n, unit)?, What::Until(Check::read(what)?)),
        _ => {
            return Err(format!(
                "`{when}:` is no time: write `at 2 s:` with a deed or `expect …`, `by 2 s:` or \
                 `until 2 s:` with what must be true, or `end: 20 s`"
            ));
        }
    };
    scenario.lines.push(Line { number, at, what });
    Ok(())
}

fn setting(scenario: &mut Scenario, line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let options = &mut scenario.options;
    match words.as_slice() {
        ["one", "host"] => {
            options.hosts = 1;
            options.judge = Judge::Alone { lease: options.judge.lease() };
        }
        ["hosts", count] => options.hosts = number(count, 2..=5)?,
        ["store", "on", count, "hosts"] => options.members = number(count, 3..=5)?,
        ["watchers", count] => options.watchers = number(count, 0..=3)?,
        ["not", "adopted"] => scenario.adopted = false,
        ["ends", "as", "it", "is"] => scenario.rests = false,
        ["breaks", "by", limit] => scenario.limits.push((*limit).to_owned()),
        ["hooks", "say", "no"] => options.aborting_hooks = 1000,
        ["hooks", phases @ ..] if !phases.is_empty() => {
            for phase in phases {
                let found = Phase::ALL.into_iter().find(|known| known.as_str() == *phase);
                options.hooks.insert(found.ok_or_else(|| format!("no phase `{phase}`"))?);
            }
        }
        ["lease", "of", host, n, unit] => {
            let lease = Duration::from_micros(words::span(n, unit)?);
            options.leases.insert(words::host_of(host)?, lease);
        }
        ["lease", n, unit] => set_lease(options, Duration::from_micros(words::span(n, unit)?)),
        ["fence", n, unit] => {
            let budget = Duration::from_micros(words::span(n, unit)?);
            if let Judge::Shared { fence, .. } = &mut options.judge {
                *fence = budget;
            }
        }
        ["database", family] => {
            options.family = match *family {
                "redis" => Family::Redis,
                "mysql" => Family::Mysql,
                "mariadb" => Family::Mariadb,
                other => return Err(format!("no database `{other}`: redis, mysql or mariadb")),
            };
        }
        ["drift", ppm, "ppm"] => options.drift = number(ppm, 0..=10_000)? as u64,
        ["slow", "copies"] => options.slow_copies = true,
        ["priority", "of", id, value] => {
            let (id, value) = (words::id_of(id)?, number(value, 0..=1000)?);
            let length = options.priorities.len().max(id.number + 1);
            options.priorities.resize(length, 10);
            options.priorities[id.number] = u32::try_from(value).unwrap_or(u32::MAX);
        }
        [id, "starts", "open"] => options.unfenced = Some(words::id_of(id)?.number),
        other => return policy(options, other),
    }
    Ok(())
}

fn policy(options: &mut Options, words: &[&str]) -> Result<(), String> {
    let policy = &mut options.policy;
    match words {
        ["failover", "auto"] => policy.failover = Failover::Auto,
        ["failover", "manual"] => policy.failover = Failover::Manual,
        ["failover", "external"] => policy.failover = Failover::External,
        ["rejoin", "ask"] => policy.rejoin = Rejoin::Ask,
        ["rejoin", "resync"] => policy.rejoin = Rejoin::Resync,
        ["loss", "none"] => policy.loss = Loss::None,
        ["acknowledgements", count] => {
            policy.acks = u32::try_from(number(count, 1..=4)?).unwrap_or(1);
        }
        ["may", "not", "kill"] => policy.kill = false,
        ["hung", "after", n, unit] => {
            policy.hung_after = Duration::from_micros(words::span(n, unit)?);
        }
        ["candidate", "wait", n, unit] => {
            policy.candidate_wait = Duration::from_micros(words::span(n, unit)?);
        }
        ["attempts", count] => {
            policy.max_attempts = u32::try_from(number(count, 1..=20)?).unwrap_or(1);
        }
        ["cooldown", count, "in", n, unit] => {
            policy.cooldown_failovers = u32::try_from(number(count, 1..=20)?).unwrap_or(1);
            policy.cooldown_window = Duration::from_micros(words::span(n, unit)?);
        }
        other => {
            return Err(format!(
                "`{}` is no setting: see integration/scenarios/README.md for all of them; what \
                 happens begins with a time, as `at 2 s: r1 dies`",
                other.join(" ")
            ));
        }
    }
    Ok(())
}

fn set_lease(options: &mut Options, length: Duration) {
    match &mut options.judge {
        Judge::Alone { lease } | Judge::Shared { lease, .. } => *lease = length,
    }
}

fn number(word: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    let number = word.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("`{word}`: a number from {} to {}", range.start(), range.end()))
}
