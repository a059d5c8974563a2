//! `sengu resume`: end a pause.

use clap::Args;
use sengu_core::name::ServiceName;

use super::{Exit, Global, request};

/// End a pause
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let done = format!("{}: sengu decides again", options.service);
    request::withdraw(global, &options.service, "pause", &done)
}
