//! `cargo sabotage`: breaks each safety rule on purpose and tells which invariant saw it.
//!
//! Exit code 1 if a sabotage went unseen, was seen by an invariant that the table does not name,
//! or if the table in `docs/proof.md` is not this one. With `--without` the named invariant (or
//! each in its turn: `all`) judges nothing; then it is expected that something goes unseen.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use integration::sim::sabotage::{Entry, INVARIANTS, TABLE, markdown};

/// Worlds make and drop small things all the time; with it they live a good deal quicker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many runs a shrinking may take.
const SHRINK_RUNS: u64 = 1000;

/// Break each safety rule on purpose.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only sabotages whose name or rule contains this.
    only: Option<String>,
    /// Switch an invariant off, or each in its turn (`all`), and tell what then goes unseen.
    #[arg(long)]
    without: Option<String>,
    /// Search so many seeds for each, whatever the table says.
    #[arg(long)]
    seeds: Option<u64>,
    /// Begin with this seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Shrink what caught each, and tell it.
    #[arg(long)]
    shrink: bool,
    /// Tell the whole story of the seed `--from`.
    #[arg(long)]
    tell: bool,
    /// Run the worlds without a sabotage, which must hold.
    #[arg(long)]
    unbroken: bool,
    /// Print the table as `docs/proof.md` shows it, and run nothing.
    #[arg(long)]
    table: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.table {
        print!("{}", markdown());
        return ExitCode::SUCCESS;
    }
    // A sabotaged core may panic; the line that tells who caught it is enough.
    std::panic::set_hook(Box::new(|_| {}));
    if arguments.tell {
        for line in chosen(&arguments).flat_map(|entry| entry.tell(arguments.from)) {
            println!("{line}");
        }
        return ExitCode::SUCCESS;
    }
    if arguments.unbroken {
        return if unbroken(&arguments) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let good = match arguments.without.as_deref() {
        None => all(&arguments) & documented(),
        Some("all") => {
            INVARIANTS.iter().fold(true, |good, invariant| without(&arguments, invariant) & good)
        }
        Some(invariant) if INVARIANTS.contains(&invariant) => without(&arguments, invariant),
        Some(other) => {
            println!("no invariant `{other}`; there are {}, all", INVARIANTS.join(", "));
            false
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn chosen(arguments: &Arguments) -> impl Iterator<Item = &'static Entry> {
    let only = arguments.only.clone().unwrap_or_default();
    TABLE.iter().filter(move |entry| entry.name().contains(&only) || entry.rule.contains(&only))
}

fn all(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let mut good = true;
    let mut count = 0;
    for entry in chosen(arguments) {
        let started = Instant::now();
        let seeds = arguments.from..arguments.from + arguments.seeds.unwrap_or(entry.within);
        let caught = entry.search(seeds, None, arguments.threads);
        let took = started.elapsed().as_secs_f64();
        let (slug, name) = (entry.rule, entry.name());
        count += 1;
        match caught {
            None => {
                println!("{slug:<23} {name:<24} UNSEEN ({took:.1} s)");
                good = false;
            }
            Some(caught) => {
                let known = entry.caught_by.contains(&caught.by.as_str());
                let mark = if known { "" } else { " NOT IN THE TABLE" };
                println!(
                    "{slug:<23} {name:<24} {} seed {} ({took:.1} s){mark}: {}",
                    caught.by, caught.seed, caught.text
                );
                good &= known;
                if let Some(shrunk) =
                    arguments.shrink.then(|| entry.shrink(&caught, SHRINK_RUNS)).flatten()
                {
                    println!("# left after {} runs ({}):", shrunk.runs, shrunk.less);
                    println!("{}", shrunk.story());
                }
            }
        }
    }
    println!("# {count} sabotages in {:.1} s", began.elapsed().as_secs_f64());
    good
}

/// Does every scene hold while no rule is broken?
fn unbroken(arguments: &Arguments) -> bool {
    let mut good = true;
    let mut seen = Vec::new();
    for entry in chosen(arguments).filter(|entry| entry.world.is_scene()) {
        if seen.contains(&entry.world) {
            continue;
        }
        seen.push(entry.world);
        let seeds = arguments.from..arguments.from + arguments.seeds.unwrap_or(10);
        let broken = seeds.into_iter().find_map(|seed| entry.holds(seed));
        match &broken {
            None => println!("{}: holds", entry.world.words()),
            Some(caught) => {
                println!(
                    "{}: seed {} broke {}: {}",
                    entry.world.words(),
                    caught.seed,
                    caught.by,
                    caught.text
                );
            }
        }
        good &= broken.is_none();
    }
    good
}

fn without(arguments: &Arguments, invariant: &str) -> bool {
    let mut unseen = Vec::new();
    for entry in chosen(arguments) {
        // One that this invariant never sees is seen by another anyway.
        if !entry.caught_by.contains(&invariant) {
            continue;
        }
        let seeds = arguments.from..arguments.from + arguments.seeds.unwrap_or(entry.within);
        match entry.search(seeds, Some(invariant), arguments.threads) {
            None => unseen.push(entry.name()),
            Some(caught) => println!(
                "  {invariant}: {} is seen by {} too, seed {}",
                entry.name(),
                caught.by,
                caught.seed
            ),
        }
    }
    let list = if unseen.is_empty() { "nothing".to_owned() } else { unseen.join(", ") };
    println!("without {invariant}: unseen is {list}");
    !unseen.is_empty()
}

/// Does the page show this table?
fn documented() -> bool {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/proof.md");
    let good = std::fs::read_to_string(path).is_ok_and(|page| page.contains(&markdown()));
    if !good {
        println!("docs/proof.md does not show this table; put there what `--table` prints");
    }
    good
}
