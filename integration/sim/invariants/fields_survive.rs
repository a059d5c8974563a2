//! Fields that an agent does not know survive its writing: old and new versions share a store.

use super::super::fact::Fact;
use super::super::schedule::Micros;
use super::{Breach, Invariant};

/// Nothing to remember: the ledger compares.
#[derive(Default)]
pub(crate) struct FieldsSurvive;

impl Invariant for FieldsSurvive {
    fn slug(&self) -> &'static str {
        "fields-survive"
    }

    fn take(&mut self, _at: Micros, fact: &Fact) -> Result<(), Breach> {
        let Fact::Rewritten { key } = fact else { return Ok(()) };
        Err(Breach::firm(format!(
            "{key} lost a field that the one who wrote it again did not know"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;

    #[test]
    fn a_lost_field_breaks_it() {
        assert_eq!(feed(FieldsSurvive, [(0, Fact::Moment)]), Ok(()));
        let lost = Fact::Rewritten { key: "master/foo".to_owned() };
        assert!(feed(FieldsSurvive, [(1, lost)]).is_err());
    }
}
