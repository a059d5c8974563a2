//! `sengu release`: end sengu's mastership of a service.

use clap::Args;
use sengu_core::name::ServiceName;
use sengu_core::record::Ask;

use super::request::{self, Asking, Waiting};
use super::{Exit, Global};

/// End sengu's mastership of a service
///
/// Changes nothing on the databases; the name of the master leaves every output. The term is kept.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    request::ask(global, &options.service, &Ask::Release, &options.asking, &options.waiting)
}
