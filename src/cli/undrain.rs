//! `sengu undrain`: let a drained instance take part again.

use clap::Args;
use sengu_core::name::{InstanceName, ServiceName};

use super::{Exit, Global, request};

/// Let a drained instance take part again
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// The instance
    instance: InstanceName,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let (service, instance) = (&options.service, &options.instance);
    let done = format!("{service}: {instance} takes part again");
    request::withdraw(global, service, &format!("drain-{instance}"), &done)
}
