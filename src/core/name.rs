//! Names, checked once where they enter: services, instances, hosts.
//!
//! A name is one DNS label as Consul takes it (letters, digits, `-`, `_`; 1 to 63 bytes), kept
//! in lower case, so that it can stand in a DNS name, a record's key and a file without quoting.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a {kind} name: 1 to 63 letters, digits, `-` or `_`, and a letter or digit first"
)]
pub struct NameError {
    text: String,
    kind: &'static str,
}

fn label(text: &str, kind: &'static str) -> Result<Arc<str>, NameError> {
    let good = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && text.as_bytes()[0].is_ascii_alphanumeric();
    if good {
        Ok(text.to_ascii_lowercase().into())
    } else {
        Err(NameError { text: text.chars().take(80).collect(), kind })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and lower-cases a text.
            ///
            /// # Errors
            /// [`NameError`] if it is not one DNS label.
            pub fn new(text: &str) -> Result<Self, NameError> {
                label(text, $kind).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// One replicated database, as `foo-redis`.
    ServiceName,
    "service"
);
name!(
    /// One server of a service; unique in it.
    InstanceName,
    "instance"
);
name!(
    /// The machine that an agent runs on (`node` in Consul's dialect).
    HostName,
    "host"
);

/// One server of one service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its name in that service.
    pub instance: InstanceName,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.instance)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Grows with each new master of a service and is never used again.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One life of an instance's process: the host's boot id, its pid and its start in clock ticks,
/// as `5c1f…:1234:998877`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub Arc<str>);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked_and_lowered() {
        assert_eq!(ServiceName::new("Foo-Redis_1").expect("good").as_str(), "foo-redis_1");
        for bad in ["", "a.b", "-a", "_a", "ä", "a/b", &"x".repeat(64)] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?} passed");
        }
    }
}
