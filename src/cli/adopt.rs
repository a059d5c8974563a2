//! `sengu adopt`: put a service under sengu.

use clap::Args;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::Ask;

use super::request::{self, Asking, Waiting};
use super::{Exit, Global};

/// Put a service under sengu's mastership
///
/// Done when every configured instance answers, exactly one takes writes and all others follow
/// it. Nothing is changed on the databases.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// After a cold start, where none takes writes: this one becomes the master
    #[arg(long, value_name = "INSTANCE")]
    master: Option<InstanceName>,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let ask = Ask::Adopt { master: options.master };
    request::ask(global, &options.service, &ask, &options.asking, &options.waiting)
}
