//! A host that has been up for longer than this machine.
//!
//! Clocks that count from a host's start have nothing to do with each other on two hosts; in a time
//! namespace they are so on one machine. Needs root.

/// What stands before a command on a host that has been up for so many seconds more: the command
/// replaces it.
#[must_use]
pub fn before(more: u32) -> Vec<String> {
    // `unshare` alone would put only what the command starts there.
    let script = "exec nsenter --time=/proc/$$/ns/time_for_children -- \"$@\"";
    let more = more.to_string();
    let words = ["unshare", "--time", "--boottime", &more, "--monotonic", &more];
    [&words[..], &["sh", "-c", script, "sh"]].concat().into_iter().map(str::to_owned).collect()
}
