//! What will happen in one world, decided before it begins: its options and its deeds by time.

use std::fmt;

use super::deed::{Deed, Span};
use super::more;
use super::options::Options;
use super::schedule::Micros;
use super::storm;

/// One world and everything that will befall it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The world.
    pub options: Options,
    /// What happens, and when, in microseconds of virtual time.
    pub deeds: Vec<(Micros, Deed)>,
}

impl Plan {
    /// What a seed decides. `limits` adds what the documented limits allow to go wrong.
    #[must_use]
    pub fn draw(seed: u64, limits: bool) -> Self {
        let options = Options::draw(seed);
        let mut deeds = storm::draw(&options, limits);
        deeds.extend(more::draw(&options, limits));
        deeds.sort_by_key(|(at, _)| *at);
        Self { options, deeds }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.options)?;
        for (at, deed) in &self.deeds {
            writeln!(f, "at {}: {deed}", Span(*at))?;
        }
        Ok(())
    }
}
