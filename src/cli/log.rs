//! The agent's log: one line an event, to standard error, where the service manager takes it.

use std::io::{IsTerminal, stderr};

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// What holds without `--log`.
pub(super) const DEFAULT_FILTER: &str = "info,hickory_server=warn";

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct LogOptions {
    /// What is logged: a level, or levels by module, as `info,sengu::dns=debug`
    #[arg(long = "log", env = "SENGU_LOG", hide_env_values = true, value_name = "FILTER",
          default_value = DEFAULT_FILTER)]
    filter: String,
    /// How lines look
    #[arg(long = "log-format", value_enum, value_name = "FORMAT", default_value = "text")]
    format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging; to be called once.
pub(super) fn start(options: &LogOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.filter).with_context(|| {
        format!("--log {:?} is no filter; write `info` or `info,sengu::dns=debug`", options.filter)
    })?;
    let colors = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(colors)
        .with_target(false);
    let started = match options.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().with_target(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
