//! `sengu guard`: fences this host's masters when their agent is gone.

use clap::Args;

use super::log::{self, LogOptions};
use super::{Exit, Global};

/// Fence this host's masters when their agent dies or stands still
///
/// Runs beside the agent, as a process of its own, in the foreground until it is told to end. Needs
/// `guard = true` in the configuration file. An agent that is started again within its lease is not
/// fenced; with the embedded store nothing is ever fenced, and only the rendered files are kept
/// from naming masters that nobody vouches for.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    log: LogOptions,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let config = global.configuration()?;
    log::start(&options.log)?;
    if !config.guard {
        // Good for the service manager, too: it has nothing to start again.
        tracing::warn!(
            "no guard is wanted: write `guard = true` in {} and start agent and guard again",
            global.config.display()
        );
        return Ok(Exit::Done);
    }
    crate::guard::run(config, global.config.clone())?;
    Ok(Exit::Done)
}
