//! **hook-once**: the hooks of a phase run at most once per service and term.
//!
//! `before-switchover` runs once per request, which may come again in one term; it is left to
//! the tests on real programs.

use std::collections::BTreeSet;

use sengu_core::name::Term;
use sengu_core::record::Phase;

use super::super::fact::Fact;
use super::super::schedule::Micros;
use super::{Breach, Invariant};

/// What has run.
#[derive(Default)]
pub(crate) struct HookOnce {
    ran: BTreeSet<(usize, Term, Phase)>,
}

impl Invariant for HookOnce {
    fn slug(&self) -> &'static str {
        "hook-once"
    }

    fn take(&mut self, _at: Micros, fact: &Fact) -> Result<(), Breach> {
        let Fact::Hook { service, term, phase } = *fact else { return Ok(()) };
        if phase == Phase::BeforeSwitchover || self.ran.insert((service, term, phase)) {
            return Ok(());
        }
        Err(Breach::firm(format!("{} ran a second time for term {term}", phase.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;

    #[test]
    fn a_second_run_of_one_phase_in_one_term_breaks_it() {
        let run = |term, phase| Fact::Hook { service: 0, term: Term(term), phase };
        let good = [
            (1, run(1, Phase::AfterFailover)),
            (2, run(1, Phase::BeforeFailover)),
            (3, run(2, Phase::AfterFailover)),
        ];
        assert_eq!(feed(HookOnce::default(), good), Ok(()));
        let bad = [(1, run(1, Phase::AfterFailover)), (2, run(1, Phase::AfterFailover))];
        assert!(feed(HookOnce::default(), bad).is_err());
    }
}
