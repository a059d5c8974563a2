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
    /// For how long; without it until `sengu undrain`
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::duration::parse)]
    length: Option<Duration>,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let (service, instance) = (&options.service, &options.instance);
    let length = options.length.map(|length| format!(" for {}", crate::duration::format(length)));
    let done = format!(
        "{service}: {instance} is drained{}; `sengu undrain {service} {instance}` ends it",
        length.unwrap_or_default()
    );
    let ask = Ask::Drain { instance: instance.clone() };
    request::stand(global, service, &ask, &options.asking, options.length, &done)
}
