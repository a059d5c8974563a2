//! **refusals-are-said**: where a service that sengu holds has no serving master for long, some
//! agent that could act says what it waits for, or why it does not act.

use std::collections::BTreeMap;

use super::super::fact::Fact;
use super::super::schedule::{Micros, SECOND};
use super::{Breach, Invariant, Often};

/// So long nothing need be said: things are under way.
const PATIENCE: Micros = 12 * SECOND;

/// Since when nothing was said of a service.
#[derive(Default)]
pub(crate) struct RefusalsAreSaid {
    silent: BTreeMap<usize, Micros>,
}

impl Invariant for RefusalsAreSaid {
    fn slug(&self) -> &'static str {
        "refusals-are-said"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Explained]
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        let Fact::Explained { service, said } = *fact else { return Ok(()) };
        if said {
            self.silent.remove(&service);
            return Ok(());
        }
        let since = *self.silent.entry(service).or_insert(at);
        if at < since + PATIENCE {
            return Ok(());
        }
        self.silent.insert(service, at);
        Err(Breach::firm(format!(
            "service {service} has had no master for {} s, and no agent says why",
            (at - since) / SECOND
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;

    fn said(said: bool) -> Fact {
        Fact::Explained { service: 0, said }
    }

    #[test]
    fn silence_may_last_a_while() {
        let history = [(0, said(false)), (11_000, said(false)), (13_000, said(true))];
        assert_eq!(feed(RefusalsAreSaid::default(), history), Ok(()));
    }

    #[test]
    fn silence_for_long_breaks_it() {
        let history = [(0, said(false)), (6000, said(false)), (12_500, said(false))];
        assert!(feed(RefusalsAreSaid::default(), history).is_err());
    }
}
