//! `sengu switchover`: move mastership from a master that works.

use clap::Args;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::Ask;

use super::request::{self, Asking, Waiting};
use super::{Exit, Global};

/// Move mastership from a master that works
///
/// The old master is fenced before the new one opens; no acknowledged write is lost. Refused with
/// the reason where that cannot be promised.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// To this instance; else to the best
    #[arg(long, value_name = "INSTANCE")]
    to: Option<InstanceName>,
    /// Only tell whom it would move to, or why it would be refused
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let ask = Ask::Switchover { to: options.to };
    if options.dry_run {
        return request::rehearse(global, &options.service, &ask, &options.asking);
    }
    request::ask(global, &options.service, &ask, &options.asking, &options.waiting)
}
