//! `sengu failover`: move mastership from a master that failed.

use clap::Args;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::Ask;

use super::request::{self, Asking, Waiting};
use super::{Exit, Global};

/// Move mastership from a master that failed
///
/// Under the same rules as the automatic one: the old master is proven stopped first, and the
/// copy that has most takes over. What was lost stands in the history.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// To this instance; else to the best
    #[arg(long, value_name = "INSTANCE")]
    to: Option<InstanceName>,
    /// Take a copy that is known to lack something, or whose history cannot be compared
    #[arg(long)]
    lossy: bool,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let ask = Ask::Failover { to: options.to, lossy: options.lossy };
    request::ask(global, &options.service, &ask, &options.asking, &options.waiting)
}
