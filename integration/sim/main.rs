//! `cargo sim -- SEED`, or `cargo sim -- --seeds N [--from S]`: the simulator's command.
//!
//! One seed prints its whole story; many print progress, and the end of the first that breaks a
//! rule. Exit code 1 if one did.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use integration::sim::{
    Coverage, Less, Outcome, Plan, Scenario, Story, crash_everywhere, crash_scenario, play, run,
    shrink, tell, tell_crash, tell_lines,
};

/// Worlds make and drop small things all the time; with it they live a good deal quicker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many runs a shrinking may take.
const SHRINK_RUNS: u64 = 2000;

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
    /// Tell the scenario in this file.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Leave out of this seed, which breaks a rule, what the breach does not need.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Play only so much of this seed, in the words that `--shrink` prints.
    #[arg(long, value_name = "WORDS", requires = "seed")]
    only: Option<Less>,
    /// Crash before and after every action of every story; with `--scenario`: of that one.
    #[arg(long)]
    crashes: bool,
    /// With `--crashes`: in scenarios only before and after each so manieth action.
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.crashes {
        return crashes(&arguments);
    }
    if let Some(path) = &arguments.scenario {
        return scenario(path, arguments.trace);
    }
    let clean = match arguments.seed {
        Some(seed) if arguments.shrink => !shorter(seed, arguments.limits, u64::MAX),
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells one scenario: what a reader wants to see, or with `--trace` everything.
fn scenario(path: &Path, trace: bool) -> ExitCode {
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let told = match read.and_then(|text| Scenario::read(&text)) {
        Ok(scenario) => tell(&scenario),
        Err(error) => {
            println!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    for line in if trace { &told.lines } else { &told.story } {
        println!("{line}");
    }
    for wrong in &told.wrong {
        println!("{}: {wrong}", path.display());
    }
    if told.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what is left of a seed's plan when everything is gone that its breach does not need.
/// `false`: the seed breaks no rule.
fn shorter(seed: u64, limits: bool, most: u64) -> bool {
    let whole = Plan::draw(seed, limits);
    let Some(violation) = play(&whole, false).violation else {
        println!("seed {seed} breaks no rule: nothing to shrink");
        return false;
    };
    let fails =
        |plan: &Plan| play(plan, false).violation.is_some_and(|other| other.slug == violation.slug);
    let Some(shrunk) = shrink(&whole, most.min(SHRINK_RUNS), fails) else { return false };
    println!(
        "\n# {} of {} deeds are left after {} runs; they break {}:",
        shrunk.plan.deeds.len(),
        whole.deeds.len(),
        shrunk.runs,
        violation.slug
    );
    print!("{}\n{}", shrunk.plan.options, shrunk.story());
    if let Some(violation) = play(&shrunk.plan, false).violation {
        println!("# breaks {}: {}", violation.slug, violation.text);
    }
    let limits = if limits { " --limits" } else { "" };
    println!("# replay exactly this with: cargo sim -- {seed}{limits} --only {}", shrunk.less);
    true
}

fn one(seed: u64, arguments: &Arguments) -> bool {
    let (trace, limits) = (arguments.trace, arguments.limits);
    let whole = Plan::draw(seed, limits);
    let plan =
        match arguments.only.as_ref().map_or_else(|| Ok(whole.clone()), |less| less.of(&whole)) {
            Ok(plan) => plan,
            Err(why) => {
                println!("--only: {why}");
                return false;
            }
        };
    print!("{plan}");
    let outcome = play(&plan, true);
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
    let every = (count / 100).max(100);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let done = next.fetch_add(1, Ordering::Relaxed);
                    if done >= count || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if done > 0 && done.is_multiple_of(every) {
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
         {:.1} seeds per second; all that happened: {:016x}",
        runs as f64 / seconds,
        search.print
    );
    let limits = if arguments.limits { " --limits" } else { "" };
    println!(
        "# for docs/proof.md: `cargo sim -- --seeds {count} --from {}{limits} --threads {}`, {}, \
         {}: {runs} seeds, {broken} with a violation, {:.0} hours of cluster life, {:.1} seeds a second",
        arguments.from,
        arguments.threads,
        said("date", &["-u", "+%F"]),
        said("git", &["describe", "--always", "--dirty"]),
        lived as f64 / 3600.0,
        runs as f64 / seconds
    );
    broken == 0
}

/// What a program says, for a line that people keep; `?` if it cannot.
fn said(program: &str, arguments: &[&str]) -> String {
    let ran = std::process::Command::new(program).args(arguments).output();
    let text = ran.ok().filter(|ran| ran.status.success()).map(|ran| ran.stdout);
    let text = text.and_then(|text| String::from_utf8(text).ok());
    text.map_or_else(|| "?".to_owned(), |text| text.trim().to_owned())
}

/// What a search has seen so far.
#[derive(Default)]
struct Search {
    coverage: Coverage,
    limits: BTreeMap<&'static str, u64>,
    runs: u64,
    lived: Duration,
    /// Over all that happened in all runs, in whatever order they ended.
    print: u64,
}

impl Search {
    fn add(&mut self, outcome: &Outcome) {
        self.coverage.add(&outcome.coverage);
        for (limit, count) in &outcome.limits {
            *self.limits.entry(limit).or_insert(0) += count;
        }
        self.runs += 1;
        self.lived += outcome.lasted;
        self.print = self.print.wrapping_add(outcome.hash);
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
    let clean = conclude(seed, &outcome);
    shorter(seed, arguments.limits, SHRINK_RUNS / 4);
    clean
}

/// The scenarios of a file or of the whole folder, by name.
fn scenarios(file: Option<&Path>) -> Result<Vec<(String, Scenario)>, String> {
    let paths = match file {
        Some(path) => vec![path.to_owned()],
        None => {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
            let found = std::fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
            let text = |path: &PathBuf| path.extension().is_some_and(|it| it == "txt");
            let mut paths: Vec<_> =
                found.flatten().map(|entry| entry.path()).filter(text).collect();
            paths.sort();
            paths
        }
    };
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let scenario = text.and_then(|text| Scenario::read(&text));
        scenario.map(|it| (name, it)).map_err(|error| format!("{}: {error}", path.display()))
    };
    paths.into_iter().map(read).collect()
}

/// Crashes in all scenarios, each thread taking the next.
fn scenario_crashes(arguments: &Arguments) -> bool {
    let scenarios = match scenarios(arguments.scenario.as_deref()) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            println!("{error}");
            return false;
        }
    };
    let began = Instant::now();
    let (next, actions, broken) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while let Some((name, scenario)) =
                    scenarios.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let crashes = crash_scenario(scenario, arguments.every);
                    actions.fetch_add(crashes.actions, Ordering::Relaxed);
                    let Some((action, side, violation)) = crashes.violations.first() else {
                        continue;
                    };
                    let count = crashes.violations.len();
                    broken.fetch_add(1, Ordering::Relaxed);
                    let lines = tell_crash(scenario, *action, *side == "after");
                    println!(
                        "{name}: {count} of {} crashes broke a rule, the first {side} action \
                         {action}: {}: {}\n{}",
                        2 * crashes.actions,
                        violation.slug,
                        violation.text,
                        lines[lines.len().saturating_sub(40)..].join("\n")
                    );
                }
            });
        }
    });
    let (actions, broken) = (actions.into_inner(), broken.into_inner());
    println!(
        "# {} scenarios, {actions} actions, a crash before and after each of them (every: {}): \
         {broken} scenarios with a violation ({:.1} s)",
        scenarios.len(),
        arguments.every,
        began.elapsed().as_secs_f64()
    );
    broken == 0
}

fn crashes(arguments: &Arguments) -> ExitCode {
    let mut clean = scenario_crashes(arguments);
    if arguments.scenario.is_some() {
        return if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
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
