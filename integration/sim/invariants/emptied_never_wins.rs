//! **emptied-never-wins**: a process that had no source since it started, and was never open,
//! takes a term only if it holds all that every other copy holds, unless a person decides.

use std::collections::BTreeSet;

use sengu_core::name::Term;

use super::super::fact::Fact;
use super::super::schedule::Micros;
use super::{Breach, Invariant};

/// The terms that a person asked for.
#[derive(Default)]
pub(crate) struct EmptiedNeverWins {
    asked: BTreeSet<(usize, Term)>,
}

impl Invariant for EmptiedNeverWins {
    fn slug(&self) -> &'static str {
        "emptied-never-wins"
    }

    fn take(&mut self, _at: Micros, fact: &Fact) -> Result<(), Breach> {
        match *fact {
            Fact::Asked { service, term } => {
                self.asked.insert((service, term));
                Ok(())
            }
            Fact::Uncovered { instance, term, other, lacks }
                if !self.asked.contains(&(instance.service, term)) =>
            {
                Err(Breach::firm(format!(
                    "{instance} took term {term} in a life in which it followed nobody, and lacks \
                     {lacks} writes that {other} holds"
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{feed, r};
    use super::*;

    #[test]
    fn what_a_person_asked_for_holds_and_nothing_else() {
        let uncovered = || Fact::Uncovered { instance: r(1), term: Term(4), other: r(2), lacks: 7 };
        let asked = |term| Fact::Asked { service: 0, term: Term(term) };
        assert_eq!(feed(EmptiedNeverWins::default(), [(1, asked(4)), (2, uncovered())]), Ok(()));
        assert!(feed(EmptiedNeverWins::default(), [(1, asked(3)), (2, uncovered())]).is_err());
    }
}
