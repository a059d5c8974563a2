//! Stories that people write: a world, what happens to it and when, and what must be true.
//!
//! The language stands in `integration/scenarios/README.md`; `read.rs` reads it, `check.rs` looks
//! at the world, `tell.rs` plays it. Times count from the moment at which the service is adopted
//! and calm.

mod check;
mod crash;
mod read;
mod tell;

use super::options::Options;
use super::schedule::Micros;

pub(crate) use check::Check;
pub use crash::{crash_scenario, tell_crash};
pub use tell::{Told, tell};

/// One story.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The first lines: what used to go wrong, what must happen.
    pub about: Vec<String>,
    options: Options,
    /// A person adopts the service before the story begins.
    adopted: bool,
    /// The world is mended at the end and must come to rest.
    rests: bool,
    /// The documented limits that break a rule here, by the word for each.
    limits: Vec<String>,
    lines: Vec<Line>,
    end: Micros,
}

/// One line of a story, with its number in the file.
#[derive(Debug, Clone)]
struct Line {
    number: usize,
    at: Micros,
    what: What,
}

/// What a line says.
#[derive(Debug, Clone)]
enum What {
    /// Something happens.
    Deed(super::deed::Deed),
    /// It is true then.
    Now(Check),
    /// It becomes true by then.
    By(Check),
    /// It is true from the beginning to then.
    Until(Check),
}

impl Scenario {
    /// Reads a story.
    ///
    /// # Errors
    /// What is wrong, with the line's number, one a line.
    pub fn read(text: &str) -> Result<Self, String> {
        read::read(text)
    }
}

#[cfg(test)]
mod tests;
