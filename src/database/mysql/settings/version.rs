//! Versions that are known to lose data or not to come back. Those that are too old for the
//! driver never get here: it does not speak to them.

use super::super::server::{Flavour, Version};

/// From, before (both of one series), and what is wrong with those between.
const BAD: &[(Flavour, Version, Version, &str)] = &[
    (Flavour::Mysql, (8, 0, 29), (8, 0, 30), "tables with columns added at once become corrupt"),
    (Flavour::Mysql, (8, 0, 38), (8, 0, 39), "it does not start with more than 8000 tables"),
    (Flavour::Mysql, (8, 4, 1), (8, 4, 2), "it does not start with more than 8000 tables"),
    (Flavour::Mysql, (9, 0, 0), (9, 0, 1), "it does not start with more than 8000 tables"),
];

/// What is wrong with a version, with the way out.
pub(super) fn wrong(flavour: Flavour, version: Version) -> Option<String> {
    let bad = BAD
        .iter()
        .find(|(of, from, before, _)| *of == flavour && (*from..*before).contains(&version));
    bad.map(|(_, _, before, why)| {
        let shown = |(major, minor, patch): Version| format!("{flavour} {major}.{minor}.{patch}");
        format!("{} must not be used ({why}): {} mends it", shown(version), shown(*before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_versions_are_named_with_the_next_good_one() {
        let text = |flavour, version| wrong(flavour, version).unwrap_or_default();
        for good in [(8, 0, 28), (8, 0, 30), (8, 4, 2), (9, 7, 4)] {
            assert_eq!(text(Flavour::Mysql, good), "");
        }
        assert_eq!(text(Flavour::Mariadb, (8, 0, 29)), "");
        assert!(text(Flavour::Mysql, (8, 0, 29)).ends_with("mysql 8.0.30 mends it"));
    }
}
