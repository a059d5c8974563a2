//! The releases of etcd with defects that matter here.
//!
//! A release that can lose what it acknowledged, or whose members can come to differ, is no judge
//! of who is master: `failover = "auto"` is refused on it. Others are named and go on. Source:
//! etcd's changelogs and its notices of March and November 2022; mastership never hangs on etcd's
//! leases, so what goes wrong with those concerns sessions only.

use std::fmt;

/// A release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `3.5.16` or `3.6.0-rc.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Self(parts.next()??, parts.next()??, parts.next()??))
    }

    /// What is wrong with it, if anything is known.
    #[must_use]
    pub fn defect(self) -> Option<Defect> {
        let refused = |words| Some(Defect { refused: true, words });
        let named = |words| Some(Defect { refused: false, words });
        match self {
            _ if self < Self(3, 4, 0) => refused("it is older than 3.4, and was never tried"),
            _ if self < Self(3, 4, 22) => {
                refused("members can come to differ (fixed in 3.4.22 and 3.5.6)")
            }
            _ if self < Self(3, 5, 0) => {
                named("3.4 is out of its makers' support, and can end a session's lease early")
            }
            _ if self < Self(3, 5, 3) => {
                refused("it can lose what it acknowledged when it is killed (fixed in 3.5.3)")
            }
            _ if self < Self(3, 5, 6) => {
                refused("members can come to differ (fixed in 3.4.22 and 3.5.6)")
            }
            _ if self < Self(3, 5, 13) => {
                named("it can end a session's lease early (fixed in 3.5.13)")
            }
            _ if self >= Self(3, 6, 0) && self < Self(3, 6, 9) => named(
                "a member that was stopped for a while may answer a read with old records (fixed \
                 in 3.6.9)",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Something wrong with a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defect {
    /// Is `failover = "auto"` refused on it?
    pub refused: bool,
    /// What.
    pub words: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_defects_are_told_from_others() {
        for (text, refused) in [
            ("3.3.27", Some(true)),
            ("3.4.20", Some(true)),
            ("3.4.23", Some(false)),
            ("3.5.1", Some(true)),
            ("3.5.5", Some(true)),
            ("3.5.6", Some(false)),
            ("3.5.16", None),
            ("3.6.5", Some(false)),
            ("3.6.9", None),
            ("3.7.0-rc.1", None),
        ] {
            let version = Version::parse(text).expect("a version");
            assert_eq!(version.defect().map(|defect| defect.refused), refused, "{text}");
        }
        assert_eq!(Version::parse("nonsense"), None);
    }
}
