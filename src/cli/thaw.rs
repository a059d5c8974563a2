//! `sengu thaw`: end a freeze.

use clap::Args;
use sengu_core::record::Ask;
use sengu_core::report::ServiceReport;

use super::client::{PATIENCE, segment};
use super::freeze::{Which, tell_each};
use super::{Exit, Global, request};

/// End a freeze
///
/// Each master's agent writes its usual promise down again.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let agent = global.agent()?;
    let frozen =
        |report: &ServiceReport| report.requests.iter().any(|told| told.request.ask == Ask::Freeze);
    let chosen = options.which.chosen(&agent, frozen)?;
    tell_each(global, &chosen, |service| {
        let path = format!("{}/{}", request::path(service), segment("freeze"));
        agent.call(reqwest::Method::DELETE, &path, None, PATIENCE)?;
        Ok((Exit::Done, "withdrawn", format!("{service}: thawed; sengu decides again")))
    })
}
