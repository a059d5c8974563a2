//! `cargo exhaustive`: every order of what two hosts and a store can do, up to a depth.
//!
//! Prints the number of states, the depth and the time; exit code 1 if a rule broke, with the way
//! there. In a build with the feature `sabotage`, `--sabotage NAME` breaks a rule first, and it is
//! then expected that one is seen to break.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use integration::sim::model::{Bounds, search};

/// Worlds make and drop small things all the time; with it they live a good deal quicker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Search every order of events, up to a depth.
#[derive(Debug, Parser)]
struct Arguments {
    /// So many choices in a row.
    #[arg(default_value_t = 12)]
    depth: u8,
    /// So many faults among them.
    #[arg(long, default_value_t = 2)]
    faults: u8,
    /// So many writes of a client.
    #[arg(long, default_value_t = 1)]
    writes: u8,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stop after so many seconds, complete or not.
    #[arg(long)]
    seconds: Option<u64>,
    /// Break a rule first, and expect that it is seen.
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    sabotage: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { depth, faults, writes, threads, seconds, .. } = arguments;
    let bounds = Bounds { depth, faults, writes, limit: seconds.map(Duration::from_secs) };
    let began = Instant::now();
    let (report, expected) = match sabotaged(&arguments, bounds, threads) {
        Ok(Some(report)) => (report, true),
        Ok(None) => (search(bounds, threads, |run| run()), false),
        Err(why) => {
            println!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let took = began.elapsed().as_secs_f64();
    if let Some((broken, way)) = &report.violation {
        println!("{}", way.join("\n"));
        println!("broke {broken}, after {} choices", way.len() - 1);
    }
    println!(
        "depth {depth}, {faults} fault(s), {writes} write(s): {} states, {} gone into, terms up \
         to {}, {took:.1} s{}",
        report.states,
        report.steps,
        report.terms,
        if report.complete { "" } else { ", not complete" }
    );
    let good = report.violation.is_some() == expected && (expected || report.complete);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "sabotage")]
fn sabotaged(
    arguments: &Arguments,
    bounds: Bounds,
    threads: usize,
) -> Result<Option<integration::sim::model::Report>, String> {
    use integration::sim::sabotage::TABLE;
    let Some(name) = &arguments.sabotage else { return Ok(None) };
    let entry = TABLE.iter().find(|entry| entry.name() == *name);
    let entry = entry.ok_or_else(|| format!("no sabotage `{name}`"))?;
    let during = |run: &mut dyn FnMut()| sengu_core::sabotage::during(entry.sabotage, run);
    Ok(Some(search(bounds, threads, during)))
}

#[cfg(not(feature = "sabotage"))]
fn sabotaged(
    _arguments: &Arguments,
    _bounds: Bounds,
    _threads: usize,
) -> Result<Option<integration::sim::model::Report>, String> {
    Ok(None)
}
