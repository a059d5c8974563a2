//! Does the checker of real servers see agents that break their rules? Each trial runs this program
//! again over `sengu-sabotaged` with one rule broken, and looks for the verdict that it must give.
//! The table is for the page of proofs.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// One rule, and what breaks it.
struct Trial {
    rule: &'static str,
    /// As the simulator's proof names it.
    sabotage: &'static str,
    /// What is played, as this program's arguments.
    play: &'static str,
    /// The rules of verdicts that count as seen.
    seen_as: &'static [&'static str],
}

const fn trial(
    rule: &'static str,
    sabotage: &'static str,
    play: &'static str,
    seen_as: &'static [&'static str],
) -> Trial {
    Trial { rule, sabotage, play, seen_as }
}

/// The simplest play that shows each.
#[rustfmt::skip]
const TRIALS: &[Trial] = &[
    trial("one-giver", "TermReused", "--isolations 1 --databases redis",
        &["one-giver", "w"]),
    trial("fence-in-time", "FenceNotArmed", "--isolations 1 --databases valkey",
        &["w"]),
    trial("starts-fenced", "UnansweredStartGoesOn",
        "--only restart-cut-off --episodes 1 --databases redis",
        &["w", "converges"]),
    trial("starts-fenced", "OpenOnSightLeft",
        "--only open-by-hand --episodes 1 --databases redis",
        &["converges"]),
    trial("named-is-serving", "NamedWhenTaken", "--isolations 2 --databases mysql",
        &["named-is-serving"]),
    trial("proven-before-promoted", "PauseIsFence",
        "--only switchover-while-its-host-is-late --episodes 6 --databases redis",
        &["w", "loss-is-said", "planned-loses-nothing"]),
    trial("detach-then-final", "FollowForgotten",
        "--only kill --episodes 1 --databases redis",
        &["converges"]),
    trial("nothing-older-runs", "TermReused", "--isolations 1 --databases valkey",
        &["one-giver", "w"]),
    trial("no-needless-move", "HungAtOnce",
        "--only blink --episodes 2 --databases redis",
        &["no-needless-move"]),
    trial("emptied-never-wins", "AnotherLifeGoesOn",
        "--only kill-and-empty --episodes 1 --databases redis",
        &["emptied-never-wins"]),
    trial("hook-once", "HookRunAgain",
        "--only kill-agent-in-a-hook --episodes 1 --databases redis",
        &["hook-once"]),
    trial("refusals-are-said", "RefusalDropped",
        "--only kill-all --episodes 1 --databases redis",
        &["refusals-are-said"]),
    trial("all-bounded", "OriginsKept",
        "--only switchover-again-and-again --episodes 1 --databases redis",
        &["all-bounded"]),
    trial("(what is said)", "LossIsNothing", "--isolations 1 --databases redis",
        &["loss-is-said"]),
];

/// Plays all trials and prints the table.
pub(crate) fn all() -> ExitCode {
    let own = std::env::current_exe().expect("a program knows itself");
    let agent = own.with_file_name("sengu-sabotaged");
    if !agent.exists() {
        eprintln!(
            "{} is not built: `cargo build -p integration --features sabotage`",
            agent.display()
        );
        return ExitCode::FAILURE;
    }
    println!("| rule | sabotage | played | seen as | in |\n|---|---|---|---|---|");
    let mut good = true;
    for trial in TRIALS {
        let began = Instant::now();
        let seen = played(&own, &agent, trial);
        let seconds = began.elapsed().as_secs();
        let Trial { rule, sabotage, play, .. } = trial;
        let words = match &seen {
            Ok(seen) => seen.clone(),
            Err(why) => format!("NOT SEEN: {why}"),
        };
        good &= seen.is_ok();
        println!("| {rule} | `{sabotage}` | `{play}` | {words} | {seconds} s |");
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The verdicts that count, with how often each was given.
fn played(own: &Path, agent: &Path, trial: &Trial) -> Result<String, String> {
    let ran = Command::new(own)
        .args(trial.play.split(' '))
        .env("SENGU_PROGRAM", agent)
        .env("SENGU_SABOTAGE", trial.sabotage)
        .stdin(Stdio::null())
        .output();
    let ran = ran.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&ran.stderr);
    if ran.status.success() {
        return Err("it was clean".to_owned());
    }
    let verdicts = |rule: &&&str| text.lines().any(|line| line.starts_with(&format!("  {rule}: ")));
    let seen: Vec<&str> = trial.seen_as.iter().filter(verdicts).copied().collect();
    if seen.is_empty() {
        let end: Vec<&str> = text.lines().take(3).collect();
        return Err(end.join(" / "));
    }
    Ok(seen.join(", "))
}
