//! `sengu drain`: take an instance out of the replica names and the candidates.

use std::time::Duration;

use clap::Args;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::Ask;

use super::request::{self, Asking};
use super::{Exit, Global};

/// Take an instance out: it leaves the `replica` names and is no candidate
///
/// For maintenance. The database is not changed; a master is moved with `sengu switchover` first.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// The instance
    instance: InstanceName,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "168h",
          value_parser = crate::duration::parse)]
    length: Duration,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let (service, instance) = (&options.service, &options.instance);
    let done = format!(
        "{service}: {instance} is drained for {}; `sengu undrain {service} {instance}` ends it",
        crate::duration::format(options.length)
    );
    let ask = Ask::Drain { instance: instance.clone() };
    request::stand(global, service, &ask, &options.asking, options.length, &done)
}
