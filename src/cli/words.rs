//! What records are called when a person reads them.

use sengu_core::policy::{Failover, Loss, Policy, Rejoin};
use sengu_core::record::{Announced, Ask, Cause, HookOutcome, HookStand, Stand};

use crate::duration::format;

/// What was asked for, as in "asked for ...".
pub(super) fn ask(ask: &Ask) -> String {
    match ask {
        Ask::Adopt { master: None } => "adoption".into(),
        Ask::Adopt { master: Some(master) } => format!("adoption with {master} as master"),
        Ask::Release => "release".into(),
        Ask::Switchover { to: None } => "a switchover".into(),
        Ask::Switchover { to: Some(to) } => format!("a switchover to {to}"),
        Ask::Failover { to, lossy } => {
            let to = to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
            format!("a failover{to}{}", if *lossy { ", lossy if need be" } else { "" })
        }
        Ask::Pause => "a pause".into(),
        Ask::Freeze => "a freeze".into(),
        Ask::Drain { instance } => format!("a drain of {instance}"),
        Ask::Before(Announced { to: None, .. }) => "a move that another tool announces".into(),
        Ask::Before(Announced { to: Some(to), .. }) => {
            format!("a move to {to} that another tool announces")
        }
        Ask::After { to, .. } => format!("publishing {to}, which another tool made the master"),
    }
}

/// Where a request stands.
pub(super) fn stand(stand: &Stand) -> String {
    match stand {
        Stand::Asked => "nobody has acted on it yet".into(),
        Stand::Agreed { to } => format!("agreed; {to} is to take over"),
        Stand::Prepared { to } => format!("{to} is prepared; the hand-over begins"),
        Stand::Standing => "in force".into(),
        Stand::Done(words) => format!("done: {words}"),
        Stand::Refused(words) => format!("refused: {words}"),
    }
}

/// Why there was a new term.
pub(super) fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Adopted => "adopted".into(),
        Cause::ProcessExited => "the master's process exited".into(),
        Cause::Hung => "the master hung".into(),
        Cause::Lapsed => "no beat came from the master's host".into(),
        Cause::NotWritable => "the master took no writes".into(),
        Cause::Switchover => "switchover".into(),
        Cause::Requested => "failover on request".into(),
        Cause::SwitchoverUndone(why) => format!("switchover undone: {why}"),
        Cause::PromotionFailed(why) => format!("the candidate before failed: {why}"),
        Cause::HandOverFailed => "nobody had everything after a hand-over".into(),
        Cause::Reopened => "reopened after its fence fired".into(),
        Cause::Announced => "another tool announced a move".into(),
        Cause::Told => "another tool moved it, and said so".into(),
        Cause::Seen => "it alone took writes; no tool said anything".into(),
        Cause::Unanswered => "an announced move was not made; the same one goes on".into(),
        Cause::GivenUp => "another tool gave its move up; the same one goes on".into(),
        Cause::TwoWritable => "two instances took writes".into(),
    }
}

/// How the hooks of one phase ended, in lines.
pub(super) fn hook(stand: &HookStand) -> Vec<String> {
    match stand {
        HookStand::Started { .. } => vec!["started, and no outcome yet".into()],
        HookStand::Ended { ms, outcome: ended, .. } => outcome(*ms, ended),
    }
}

/// How hooks ended, in lines.
pub(super) fn outcome(millis: u64, outcome: &HookOutcome) -> Vec<String> {
    let took = seconds(millis);
    match outcome {
        HookOutcome::Done { warnings, .. } if warnings.is_empty() => {
            vec![format!("done in {took}")]
        }
        HookOutcome::Done { warnings, .. } => {
            let first = format!("done in {took}, with warnings:");
            std::iter::once(first).chain(warnings.iter().map(|w| format!("  {w}"))).collect()
        }
        HookOutcome::Abort { error, .. } => vec![format!("stopped the move after {took}: {error}")],
        HookOutcome::Unknown => vec!["nobody knows how it ended; it is not run again".into()],
    }
}

/// Milliseconds as seconds, with as many digits as say something.
pub(super) fn seconds(millis: u64) -> String {
    if millis < 100 {
        return format!("0.{millis:03} s");
    }
    format!("{}.{:02} s", millis / 1000, millis % 1000 / 10)
}

/// A policy in two lines: what it decides, and its bounds.
pub(super) fn policy(policy: &Policy) -> [String; 2] {
    let loss = match policy.loss {
        Loss::Bounded => "bounded",
        Loss::None => "none",
    };
    let rejoin = match policy.rejoin {
        Rejoin::Resync => "resync",
        Rejoin::Ask => "ask",
    };
    let failover = failover(policy.failover);
    let kill = if policy.kill { "may" } else { "must not" };
    [
        format!("{failover}, loss {loss}, rejoin {rejoin}, {kill} kill"),
        format!(
            "max lag {}, hung after {}, at most {} failovers in {}",
            format(policy.max_lag),
            format(policy.hung_after),
            policy.cooldown_failovers,
            format(policy.cooldown_window)
        ),
    ]
}

/// Who moves mastership.
pub(super) fn failover(failover: Failover) -> &'static str {
    match failover {
        Failover::Auto => "auto",
        Failover::Manual => "manual",
        Failover::External => "external",
    }
}
