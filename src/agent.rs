//! The agent's loop.

use std::path::PathBuf;

use crate::config::Config;

/// Runs the agent until it is told to end.
///
/// # Errors
/// Why it could not start, or had to end.
pub fn run(_config: Config, _file: PathBuf) -> anyhow::Result<()> {
    anyhow::bail!("this build has no agent")
}
