//! Reads deeds in the words of scenarios; `deed.rs` prints the same words.

use super::deed::{Back, Data, Deed, Orders, Wish};
use super::fact::{Id, SERVICES};
use super::schedule::{MILLI, Micros, SECOND};

/// Reads one deed.
///
/// # Errors
/// What is wrong with it, and what could stand there.
pub(crate) fn deed(text: &str) -> Result<Deed, String> {
    let text = text.replace(',', " ");
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["store", rest @ ..] => store(rest),
        ["agent", host, rest @ ..] => agent(host_of(host)?, rest),
        ["guest", host, "is", "paused", "for", n, unit] => {
            Ok(Deed::PauseGuest(host_of(host)?, span(n, unit)?))
        }
        ["clock", host, "jumps", by, "ms"] => {
            let by = by.parse().map_err(|_| format!("`{by}` is no number of milliseconds"))?;
            Ok(Deed::JumpClock(host_of(host)?, by))
        }
        ["configuration", "of", id, "is", "taken", "out", "for", n, unit] => {
            Ok(Deed::Forget(id_of(id)?, span(n, unit)?))
        }
        ["configuration", "of", host, "says", "manual", "for", n, unit] => {
            Ok(Deed::Manual(host_of(host)?, span(n, unit)?))
        }
        ["configuration", "of", host, "says", "bounded", "for", n, unit] => {
            Ok(Deed::Bounded(host_of(host)?, span(n, unit)?))
        }
        ["hand", "gives", id, "a", "new", "identity"] => Ok(Deed::Renumber(id_of(id)?)),
        ["hand", "lets", "commits", "of", id, "go", "on", "alone"] => {
            Ok(Deed::StopWaiting(id_of(id)?))
        }
        ["tool", "announces", "a", "move", "for", n, unit] => {
            Ok(Deed::Announce(span(n, unit)?, false))
        }
        ["tool", "announces", "a", "move", "with", "a", "fence", "for", n, unit] => {
            Ok(Deed::Announce(span(n, unit)?, true))
        }
        ["tool", "tells", "of", id] => Ok(Deed::Tell(id_of(id)?)),
        ["tool", "fails", "over", "to", id] => Ok(Deed::Tool(id_of(id)?)),
        ["hand", "opens", id] => Ok(Deed::Open(id_of(id)?)),
        ["hand", "points", id, "to", to] => Ok(Deed::Point(id_of(id)?, id_of(to)?)),
        ["person", "of", service, rest @ ..] => {
            let index = SERVICES.iter().position(|name| name == service);
            let index = index.ok_or_else(|| format!("no service `{service}`: {SERVICES:?}"))?;
            Ok(Deed::Ask(index, wish(rest)?))
        }
        ["person", "begins", "anew", "on", "an", "empty", "store"] => Ok(Deed::Anew),
        ["person", rest @ ..] => Ok(Deed::Ask(0, wish(rest)?)),
        ["all", "is", "mended"] => Ok(Deed::Mend),
        [host, rest @ ..] if host_of(host).is_ok() => at_host(host_of(host)?, rest),
        [id, rest @ ..] if id_of(id).is_ok() => at_database(id_of(id)?, rest),
        _ => Err(format!(
            "`{text}` is no deed: begin with `store`, a host (`h1`), `agent h1`, `guest h1`, \
             `clock h1`, an instance (`r1`), `configuration of r1`, `hand`, `tool` or `person`"
        )),
    }
}

fn unknown(what: &str, words: &[&str], known: &str) -> String {
    format!("{what} does not `{}`: {known}", words.join(" "))
}

fn store(words: &[&str]) -> Result<Deed, String> {
    match words {
        ["elects", "for", n, unit] => Ok(Deed::Election(span(n, unit)?)),
        ["is", "slow", "for", n, unit] => Ok(Deed::SlowStore(span(n, unit)?)),
        ["takes", "up", "to", late, late_unit, "to", "answer", "for", n, unit] => {
            Ok(Deed::LateStore(span(late, late_unit)?, span(n, unit)?))
        }
        ["is", "full", "for", n, unit] => Ok(Deed::FullStore(span(n, unit)?)),
        ["forgets", "its", "past"] => Ok(Deed::Compaction),
        ["member", host, "dies", "for", n, unit] => {
            Ok(Deed::LoseMember(host_of(host)?, span(n, unit)?))
        }
        ["is", "restored", "to", n, unit, "ago"] => Ok(Deed::Restore(span(n, unit)?, false)),
        ["is", "restored", "to", n, unit, "ago", "under", "a", "new", "id"] => {
            Ok(Deed::Restore(span(n, unit)?, true))
        }
        other => Err(unknown(
            "the store",
            other,
            "`elects for 2 s`, `is slow for 5 s`, `takes up to 2 s to answer for 40 s`, `is \
             full for 5 s`, `forgets its past`, `is restored to 10 s ago [under a new id]`, \
             `member h1 dies for 5 s`",
        )),
    }
}

fn agent(host: usize, words: &[&str]) -> Result<Deed, String> {
    match words {
        ["dies", "for", n, unit] => Ok(Deed::KillAgent(host, span(n, unit)?)),
        ["hangs", "for", n, unit] => Ok(Deed::HangAgent(host, span(n, unit)?)),
        ["is", "stopped", "for", n, unit] => Ok(Deed::StopAgent(host, span(n, unit)?)),
        ["is", "upgraded"] => Ok(Deed::Upgrade(host)),
        ["is", "upgraded", "to", "another", "format"] => Ok(Deed::NewFormat(host)),
        ["is", "downgraded"] => Ok(Deed::Downgrade(host)),
        ["has", "a", "double", "for", n, unit] => Ok(Deed::Double(host, span(n, unit)?)),
        other => Err(unknown(
            "an agent",
            other,
            "`dies for 1 s`, `hangs for 3 s`, `is stopped for 3 s`, `is upgraded [to another \
             format]`, `is downgraded`, `has a double for 5 s`",
        )),
    }
}

fn at_host(host: usize, words: &[&str]) -> Result<Deed, String> {
    match words {
        ["loses", "the", "store", "for", n, unit] => Ok(Deed::CutStore(host, span(n, unit)?)),
        ["loses", "its", "watch"] => Ok(Deed::LostWatch(host)),
        ["ends", "no", "look", "for", n, unit] => Ok(Deed::LateLooks(host, span(n, unit)?)),
        ["loses", "power", "for", n, unit] => Ok(Deed::PowerOff(host, span(n, unit)?)),
        ["loses", other, "for", n, unit] => {
            Ok(Deed::CutHosts(host, host_of(other)?, span(n, unit)?))
        }
        ["watches", late, late_unit, "late", "for", n, unit] => {
            Ok(Deed::LateWatch(host, span(late, late_unit)?, span(n, unit)?))
        }
        ["is", "isolated", "for", n, unit] => Ok(Deed::Isolate(host, span(n, unit)?)),
        other => Err(unknown(
            "a host",
            other,
            "`loses the store for 5 s`, `loses h2 for 5 s`, `loses its watch`, `loses power for \
             5 s`, `watches 800 ms late for 5 s`, `ends no look for 5 s`, `is isolated for 5 s`",
        )),
    }
}

fn at_database(id: Id, words: &[&str]) -> Result<Deed, String> {
    match words {
        ["dies", rest @ ..] => Ok(Deed::Kill(id, back(rest)?)),
        ["ends", "within", n, unit, rest @ ..] => Ok(Deed::End(id, span(n, unit)?, back(rest)?)),
        ["is", "stopped", "for", n, unit] => Ok(Deed::Stop(id, span(n, unit)?)),
        ["hangs", "in", "the", "kernel", "for", n, unit] => Ok(Deed::Freeze(id, span(n, unit)?)),
        ["runs", "a", "script", "for", n, unit] => Ok(Deed::Busy(id, span(n, unit)?)),
        ["applies", "nothing", "for", n, unit] => Ok(Deed::StopApplier(id, span(n, unit)?)),
        ["applies", "one", "transaction", "for", n, unit] => {
            Ok(Deed::BusyApplier(id, span(n, unit)?))
        }
        ["has", "an", "open", "transaction", "for", n, unit] => {
            Ok(Deed::Obstruct(id, span(n, unit)?))
        }
        ["has", "an", "account", "above", "read_only", "for", n, unit] => {
            Ok(Deed::Above(id, span(n, unit)?))
        }
        ["has", "a", "prepared", "XA", "branch", "for", n, unit] => {
            Ok(Deed::Branch(id, span(n, unit)?))
        }
        ["cannot", "be", "killed", "for", n, unit] => Ok(Deed::Unkillable(id, span(n, unit)?)),
        ["starts", "open", "from", "now", "on"] => Ok(Deed::Edit(id, false)),
        ["starts", "fenced", "from", "now", "on"] => Ok(Deed::Edit(id, true)),
        ["refuses", "orders", "for", n, unit] => {
            Ok(Deed::Misobey(id, Orders::Refuses, span(n, unit)?))
        }
        ["loses", "orders", "for", n, unit] => Ok(Deed::Misobey(id, Orders::Loses, span(n, unit)?)),
        ["half", "does", "orders", "for", n, unit] => {
            Ok(Deed::Misobey(id, Orders::Halves, span(n, unit)?))
        }
        ["ignores", "orders", "for", n, unit] => {
            Ok(Deed::Misobey(id, Orders::Ignores, span(n, unit)?))
        }
        other => Err(unknown(
            "an instance",
            other,
            "`dies`, `ends within 1 s`, `is stopped for 5 s`, `hangs in the kernel for 5 s`, `runs \
             a script for 5 s`, `applies nothing for 5 s`, `has an open transaction for 5 s`, `has \
             a prepared XA branch for 5 s`, `has an account above read_only for 5 s`, `cannot be \
             killed for 5 s`, `starts \
             open from now on`, `refuses orders for 5 s` (or `loses`, `half does`, `ignores`)",
        )),
    }
}

fn back(words: &[&str]) -> Result<Back, String> {
    match words {
        [] => Ok(Back::Somehow),
        ["for", "good"] => Ok(Back::Never),
        ["comes", "back", "after", n, unit, rest @ ..] => {
            let data = match rest {
                [] => Data::Kept,
                ["emptied"] => Data::Emptied,
                ["without", "its", "last", writes, "writes"] => Data::Without(
                    writes.parse().map_err(|_| format!("`{writes}` is no number of writes"))?,
                ),
                other => {
                    return Err(format!(
                        "`{}` says nothing of its data: `emptied`, or `without its last 5 writes`",
                        other.join(" ")
                    ));
                }
            };
            Ok(Back::After(span(n, unit)?, data))
        }
        other => Err(format!(
            "`{}` does not say how it comes back: `comes back after 1 s`, or `for good`",
            other.join(" ")
        )),
    }
}

fn wish(words: &[&str]) -> Result<Wish, String> {
    match words {
        ["adopts"] => Ok(Wish::Adopt(None)),
        ["adopts", "with", id, "as", "master"] => Ok(Wish::Adopt(Some(id_of(id)?))),
        ["releases"] => Ok(Wish::Release),
        ["switches", "over"] => Ok(Wish::Switchover(None)),
        ["switches", "over", "to", id] => Ok(Wish::Switchover(Some(id_of(id)?))),
        ["fails", "over"] => Ok(Wish::Failover(None, false)),
        ["fails", "over", "accepting", "loss"] => Ok(Wish::Failover(None, true)),
        ["fails", "over", "to", id] => Ok(Wish::Failover(Some(id_of(id)?), false)),
        ["fails", "over", "to", id, "accepting", "loss"] => {
            Ok(Wish::Failover(Some(id_of(id)?), true))
        }
        ["pauses", "for", n, unit] => Ok(Wish::Pause(span(n, unit)?)),
        ["freezes", "for", n, unit] => Ok(Wish::Freeze(span(n, unit)?)),
        ["drains", id, "for", n, unit] => Ok(Wish::Drain(id_of(id)?, span(n, unit)?)),
        other => Err(unknown(
            "a person",
            other,
            "`adopts`, `releases`, `switches over [to r2]`, `fails over [to r2] [accepting loss]`, \
             `pauses for 5 s`, `freezes for 5 s`, `drains r2 for 5 s`, `begins anew on an empty store`",
        )),
    }
}

/// A span: a number and its unit.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn span(number: &str, unit: &str) -> Result<Micros, String> {
    let wrong = || format!("`{number} {unit}` is no span: write `2 s`, `1.5 s` or `300 ms`");
    let scale = match unit {
        "s" => SECOND,
        "ms" => MILLI,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 3).ok_or_else(wrong)?;
    let part: u64 = part.parse().map_err(|_| wrong())?;
    let micros = whole.checked_mul(scale).ok_or_else(wrong)?;
    Ok(micros + part * scale / 10_u64.pow(digits))
}

/// A host's number from its name.
pub(crate) fn host_of(word: &str) -> Result<usize, String> {
    let number = word.strip_prefix('h').and_then(|number| number.parse::<usize>().ok());
    let number = number.and_then(|number| number.checked_sub(1)).filter(|number| *number < 9);
    number.ok_or_else(|| format!("`{word}` is no host: `h1` to `h9`"))
}

/// An instance from its name: `r2`, or `bar/r2` of the second service.
pub(crate) fn id_of(word: &str) -> Result<Id, String> {
    let (service, name) = word.split_once('/').unwrap_or((SERVICES[0], word));
    let service = SERVICES.iter().position(|known| *known == service);
    let number = name.strip_prefix('r').and_then(|number| number.parse::<usize>().ok());
    let number = number.and_then(|number| number.checked_sub(1)).filter(|number| *number < 9);
    match (service, number) {
        (Some(service), Some(number)) => Ok(Id { service, number }),
        _ => Err(format!("`{word}` is no instance: `r1` to `r9`, `bar/r1` of the second service")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(number: usize) -> Id {
        Id { service: 0, number: number - 1 }
    }

    #[test]
    fn every_deed_is_read_as_it_is_printed() {
        let s = SECOND;
        let deeds = [
            Deed::Election(2 * s),
            Deed::SlowStore(s + 500 * MILLI),
            Deed::FullStore(s),
            Deed::Compaction,
            Deed::Restore(10 * s, false),
            Deed::Restore(10 * s, true),
            Deed::Anew,
            Deed::CutStore(0, 300 * MILLI),
            Deed::LateWatch(1, 800 * MILLI, 4 * s),
            Deed::LostWatch(2),
            Deed::LateLooks(0, 8 * s),
            Deed::CutHosts(0, 1, s),
            Deed::Isolate(0, s),
            Deed::Kill(r(1), Back::Never),
            Deed::Kill(r(1), Back::Somehow),
            Deed::Kill(Id { service: 1, number: 2 }, Back::After(s, Data::Emptied)),
            Deed::End(r(1), s, Back::After(s, Data::Without(5))),
            Deed::Stop(r(2), s),
            Deed::Freeze(r(2), s),
            Deed::Busy(r(2), s),
            Deed::Misobey(r(1), Orders::Refuses, s),
            Deed::Misobey(r(1), Orders::Loses, s),
            Deed::Misobey(r(1), Orders::Halves, s),
            Deed::Misobey(r(1), Orders::Ignores, s),
            Deed::StopApplier(r(2), s),
            Deed::BusyApplier(r(2), s),
            Deed::StopWaiting(r(1)),
            Deed::Above(r(1), s),
            Deed::Branch(r(1), s),
            Deed::Renumber(r(1)),
            Deed::Bounded(0, s),
            Deed::Unkillable(r(1), s),
            Deed::Edit(r(1), true),
            Deed::Edit(r(1), false),
            Deed::KillAgent(0, s),
            Deed::HangAgent(0, s),
            Deed::StopAgent(0, s),
            Deed::Upgrade(0),
            Deed::NewFormat(0),
            Deed::Downgrade(0),
            Deed::Double(0, s),
            Deed::Forget(r(1), s),
            Deed::PauseGuest(0, s),
            Deed::PowerOff(0, s),
            Deed::JumpClock(0, -3000),
            Deed::Ask(0, Wish::Adopt(None)),
            Deed::Ask(1, Wish::Adopt(Some(r(2)))),
            Deed::Ask(0, Wish::Release),
            Deed::Ask(0, Wish::Switchover(Some(r(2)))),
            Deed::Ask(0, Wish::Failover(None, true)),
            Deed::Ask(0, Wish::Failover(Some(r(2)), true)),
            Deed::Ask(0, Wish::Pause(s)),
            Deed::Ask(0, Wish::Freeze(s)),
            Deed::Ask(0, Wish::Drain(r(3), s)),
            Deed::Open(r(1)),
            Deed::Point(r(1), r(2)),
            Deed::Announce(s, false),
            Deed::Announce(s, true),
            Deed::Tell(r(2)),
            Deed::Mend,
        ];
        for expected in deeds {
            let text = expected.to_string();
            assert_eq!(deed(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_way_out() {
        for (text, told) in [
            ("r1 explodes", "an instance does not `explodes`: `dies`"),
            ("r1 dies, comes back after 3 minutes", "is no span"),
            ("h1 loses h77 for 1 s", "is no host"),
            ("frobnicate", "is no deed: begin with `store`"),
            ("person wishes", "a person does not `wishes`"),
        ] {
            let error = deed(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
