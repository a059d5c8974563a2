//! `sengu` over a core with one rule broken on purpose, to prove that the checker of real servers
//! would see it. Never shipped: it exists only with the feature `sabotage`.
//!
//! Which one is broken is read once, at the start, from the variable `SENGU_SABOTAGE`, by its name
//! in the table of the simulator's proof; without it nothing is broken.
#![expect(clippy::print_stderr, reason = "it is a command")]

use std::process::ExitCode;

use integration::sim::sabotage::TABLE;
use sengu_core::sabotage::choose;

/// Variable with the name of what is broken.
const WHICH: &str = "SENGU_SABOTAGE";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(WHICH) {
        let Some(entry) = TABLE.iter().find(|entry| entry.name() == name) else {
            eprintln!("{WHICH}: there is no sabotage `{name}`; `sabotage --help` tells of them");
            return ExitCode::FAILURE;
        };
        choose(entry.sabotage);
    }
    sengu::cli::main()
}
