//! **all-bounded**: no queue, list or kind of record grows beyond its bound.

use super::super::fact::Fact;
use super::super::schedule::Micros;
use super::{Breach, Invariant, Often};

/// Nothing to remember.
#[derive(Default)]
pub(crate) struct AllBounded;

impl Invariant for AllBounded {
    fn slug(&self) -> &'static str {
        "all-bounded"
    }

    fn minds(&self) -> &'static [Often] {
        &[Often::Size]
    }

    fn take(&mut self, _at: Micros, fact: &Fact) -> Result<(), Breach> {
        let Fact::Size { what, size, bound } = *fact else { return Ok(()) };
        if size <= bound {
            return Ok(());
        }
        Err(Breach::firm(format!("{size} {what}; at most {bound} may stand there")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;

    #[test]
    fn what_is_within_its_bound_holds_and_what_is_not_breaks_it() {
        let size = |size| (1, Fact::Size { what: "finals", size, bound: 3 });
        assert_eq!(feed(AllBounded, [size(3)]), Ok(()));
        assert!(feed(AllBounded, [size(4)]).is_err());
    }
}
