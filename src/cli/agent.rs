//! `sengu agent`: the agent itself.

use clap::Args;

use super::log::{self, LogOptions};
use super::{Exit, Global};

/// Run the agent of this host
///
/// Watches the databases of the configuration file, publishes who is master, and moves mastership
/// as the policies say. Runs in the foreground until it is told to end.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    log: LogOptions,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let config = global.configuration()?;
    log::start(&options.log)?;
    crate::agent::run(config, global.config.clone())?;
    Ok(Exit::Done)
}
