//! `sengu pause`: decide nothing by itself for a while.

use std::time::Duration;

use clap::Args;
use sengu_core::name::ServiceName;
use sengu_core::record::Ask;

use super::request::{self, Asking};
use super::{Exit, Global};

/// Let sengu decide nothing by itself for a service, for a while
///
/// A pause never stops fencing, and a person can still ask for a move. It ends by itself.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The service
    service: ServiceName,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "1h",
          value_parser = length)]
    length: Duration,
    #[command(flatten)]
    asking: Asking,
}

/// At least a second: what is asked for is said in whole ones.
fn length(text: &str) -> Result<Duration, String> {
    let length = crate::duration::parse(text).map_err(|error| error.to_string())?;
    if length < Duration::from_secs(1) {
        return Err("a pause is at least 1s".into());
    }
    Ok(length)
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let service = &options.service;
    let length = crate::duration::format(options.length);
    let done = format!("{service}: paused for {length}; `sengu resume {service}` ends it earlier");
    request::stand(global, service, &Ask::Pause, &options.asking, Some(options.length), &done)
}
