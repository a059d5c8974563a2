//! `cargo sim -- SEED`, or `cargo sim -- --seeds N [--from S]`: the simulator's command.
//!
//! One seed prints its whole story; many print progress, and the end of the first that breaks a
//! rule. Exit code 1 if one did.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use integration::sim::{Coverage, Outcome, Plan, Story, crash_everywhere, run, tell_lines};

/// Run the simulator.
#[derive(Debug, Parser)]
struct Arguments {
    /// Tell the story of this seed.
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<u64>,
    /// Begin with this one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Print the whole story, not only its end.
    #[arg(long)]
    trace: bool,
    /// Let agents die or stop beside their databases for longer than their leases; breaches that
    /// this explains are counted, not failed.
    #[arg(long)]
    limits: bool,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
    /// How many threads.
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Crash before and after every action of every story; with a number: tell that one.
    #[arg(long)]
    crashes: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.crashes {
        return crashes();
    }
    let clean = match arguments.seed {
        Some(seed) => one(seed, arguments.trace, arguments.limits),
        None => many(&arguments),
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, trace: bool, limits: bool) -> bool {
    print!("{}", Plan::draw(seed, limits));
    let outcome = run(seed, true, limits);
    let skip = if trace { 0 } else { outcome.lines.len().saturating_sub(400) };
    for line in &outcome.lines[skip..] {
        println!("{line}");
    }
    println!("# {:?} of virtual time, hash {:016x}", outcome.lasted, outcome.hash);
    conclude(seed, &outcome)
}

fn conclude(seed: u64, outcome: &Outcome) -> bool {
    for (limit, count) in &outcome.limits {
        println!("# {count} breach(es) explained by a limit: {limit}");
    }
    let Some(violation) = &outcome.violation else { return true };
    println!("seed {seed} broke {}: {}", violation.slug, violation.text);
    println!("reproduce with: cargo sim -- {seed}");
    false
}

fn many(arguments: &Arguments) -> bool {
    let count = arguments.seeds.unwrap_or(1000);
    let (next, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let search = Mutex::new(Search::default());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let done = next.fetch_add(1, Ordering::Relaxed);
                    if done >= count || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if done > 0 && done.is_multiple_of(100) {
                        let rate = done as f64 / started.elapsed().as_secs_f64();
                        println!("# {done} of {count} seeds, {rate:.1} per second");
                    }
                    let seed = arguments.from + done;
                    if !quiet(seed, arguments, &search) {
                        broken.fetch_add(1, Ordering::Relaxed);
                        stop.store(!arguments.keep_going, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner();
    let seconds = started.elapsed().as_secs_f64();
    let search = search.into_inner().expect("no thread panicked");
    print!("{}", search.coverage);
    for (limit, count) in &search.limits {
        println!("# {count} breach(es) explained by a limit: {limit}");
    }
    let (runs, lived) = (search.runs, search.lived.as_secs());
    println!(
        "# {broken} of {runs} seeds broke a rule: {lived} s of cluster life in {seconds:.1} s, \
         {:.1} seeds per second",
        runs as f64 / seconds
    );
    broken == 0
}

/// What a search has seen so far.
#[derive(Default)]
struct Search {
    coverage: Coverage,
    limits: BTreeMap<&'static str, u64>,
    runs: u64,
    lived: Duration,
}

impl Search {
    fn add(&mut self, outcome: &Outcome) {
        self.coverage.add(&outcome.coverage);
        for (limit, count) in &outcome.limits {
            *self.limits.entry(limit).or_insert(0) += count;
        }
        self.runs += 1;
        self.lived += outcome.lasted;
    }
}

/// Runs a seed without its story; tells the end of it if a rule broke.
fn quiet(seed: u64, arguments: &Arguments, search: &Mutex<Search>) -> bool {
    let outcome = run(seed, false, arguments.limits);
    search.lock().expect("no thread panicked").add(&outcome);
    if outcome.violation.is_none() {
        return true;
    }
    if arguments.keep_going {
        return conclude(seed, &outcome);
    }
    let told = run(seed, true, arguments.limits);
    let skip = told.lines.len().saturating_sub(60);
    print!("{}", Plan::draw(seed, arguments.limits));
    for line in &told.lines[skip..] {
        println!("{line}");
    }
    conclude(seed, &outcome)
}

fn crashes() -> ExitCode {
    let mut clean = true;
    for story in [Story::Failover, Story::Switchover] {
        for alone in [false, true] {
            let crashes = crash_everywhere(story, alone);
            let (actions, broken) = (crashes.actions, crashes.violations.len());
            println!("# {story:?}, one judge {alone}: {actions} actions, {broken} broke a rule");
            for (action, side, violation) in &crashes.violations {
                println!("{side} action {action}: {}: {}", violation.slug, violation.text);
            }
            if let Some((action, side, _)) = crashes.violations.first() {
                let lines = tell_lines(story, alone, Some((*action, *side == "after")));
                let skip = lines.len().saturating_sub(60);
                println!("{}", lines[skip..].join("\n"));
                clean = false;
            }
        }
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
