//! File descriptors for connections: as many as the system lets this process have, and no more.
//!
//! Probes, fences and files need descriptors, too, and come first: so many are kept from the
//! server, whatever its configuration says.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::HttpLimits;

/// Kept for everything else.
const KEPT: u64 = 512;

/// The limits, with no more connections than there can be. The soft limit of the process is
/// raised for them as far as the hard one goes.
pub(super) fn within(mut limits: HttpLimits) -> HttpLimits {
    let wanted = u64::try_from(limits.connections).unwrap_or(u64::MAX).saturating_add(KEPT);
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(u64::MAX);
    let mut have = now.current.unwrap_or(u64::MAX);
    if have < wanted {
        let current = wanted.min(most);
        let raised = Rlimit { current: Some(current), maximum: now.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => have = current,
            Err(error) => tracing::warn!(%error, "the limit of open files was not raised"),
        }
    }
    let room = usize::try_from(have.saturating_sub(KEPT)).unwrap_or(usize::MAX).max(16);
    if room < limits.connections {
        tracing::warn!(
            connections = room,
            wanted = limits.connections,
            "http takes fewer connections than configured: the limit of open files is {have}"
        );
        limits.connections = room;
        limits.waiting = limits.waiting.min(room / 4 * 3);
        limits.streams = limits.streams.min(room / 8);
    }
    limits
}
