//! `sengu freeze`: planned work on the store, the agents or the network, without a fence.

use std::time::Duration;

use clap::Args;
use sengu_core::name::ServiceName;
use sengu_core::record::Ask;
use sengu_core::report::ServiceReport;
use serde::Serialize;

use super::client::Client;
use super::request::{self, Asking, Outcome};
use super::{Exit, Global, print};

/// Let masters go on through planned work on the store or the agents
///
/// A freeze is a pause in which the store may be away for longer than the lease: each master's
/// agent writes down a promise to fence later, by the length of the freeze, and this command waits
/// until it has. Names are still withdrawn while an agent cannot read the store. It ends by itself;
/// a host that dies meanwhile is replaced once the longer promise has run out.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) which: Which,
    /// For how long, at most 24h
    #[arg(long = "for", value_name = "DURATION", default_value = "30m",
          value_parser = length)]
    length: Duration,
    /// How long to wait for each master's agent: seconds, or as `2m`
    #[arg(long, value_name = "SECS", default_value = "15", value_parser = request::seconds)]
    wait: Duration,
    #[command(flatten)]
    asking: Asking,
}

/// Which services.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The services
    services: Vec<ServiceName>,
    /// Every adopted service that sengu moves
    #[arg(long)]
    all: bool,
}

impl Which {
    /// Those that are named, or all for which this holds.
    pub(super) fn chosen(
        &self,
        agent: &Client,
        holds: impl Fn(&ServiceReport) -> bool,
    ) -> anyhow::Result<Vec<ServiceName>> {
        if !self.all {
            return Ok(self.services.clone());
        }
        let reports: Vec<ServiceReport> = agent.get("/v1/sengu/status")?;
        Ok(reports.into_iter().filter(holds).map(|report| report.service).collect())
    }
}

/// What became of one service, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    pub(super) service: ServiceName,
    pub(super) stand: &'static str,
    pub(super) message: String,
}

/// Between a second and a day, in whole seconds.
fn length(text: &str) -> Result<Duration, String> {
    let length = crate::duration::parse(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_secs(1)..=sengu_core::service::freeze::LONGEST;
    if bounds.contains(&length) { Ok(length) } else { Err("a freeze is 1s to 24h".into()) }
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let agent = global.agent()?;
    let moved = |report: &ServiceReport| {
        let external = report
            .policy
            .as_ref()
            .is_some_and(|policy| policy.failover == sengu_core::policy::Failover::External);
        report.state != "not adopted" && report.state != "unmanaged" && !external
    };
    let chosen = options.which.chosen(&agent, moved)?;
    let length = crate::duration::format(options.length);
    tell_each(global, &chosen, |service| {
        let Options { asking, length: within, wait, .. } = options;
        let (outcome, why) =
            request::agreed(&agent, service, &Ask::Freeze, asking, *within, *wait)?;
        let end = format!("`sengu thaw {service}`");
        Ok(match outcome {
            Outcome::Done => (
                Exit::Done,
                "standing",
                format!("{service}: frozen for {length}; {end} ends it earlier"),
            ),
            Outcome::Refused => (Exit::Failed, "refused", format!("{service}: refused: {why}")),
            Outcome::Waiting => (
                Exit::StillWaiting,
                "waiting",
                format!("{service}: not frozen yet ({why}): do not begin; {end} takes it back"),
            ),
        })
    })
}

/// Does it to each and tells how that ended; the first exit that is not good is the command's.
pub(super) fn tell_each(
    global: &Global,
    chosen: &[ServiceName],
    mut each: impl FnMut(&ServiceName) -> anyhow::Result<(Exit, &'static str, String)>,
) -> anyhow::Result<Exit> {
    let mut told = Vec::new();
    let mut exit = Exit::Done;
    for service in chosen {
        let (ended, stand, message) = match each(service) {
            Ok(ended) => ended,
            // One that is refused does not keep the others from it.
            Err(error) if chosen.len() > 1 => {
                (Exit::Failed, "refused", format!("{service}: {error:#}"))
            }
            Err(error) => return Err(error),
        };
        if !matches!(ended, Exit::Done) && matches!(exit, Exit::Done) {
            exit = ended;
        }
        if !global.json {
            if matches!(ended, Exit::Done) {
                print::text(&message);
            } else {
                print::note(&message);
            }
        }
        told.push(Told { service: service.clone(), stand, message });
    }
    if global.json {
        print::json(&told);
    } else if chosen.is_empty() {
        print::text("no service to do that to");
    }
    Ok(exit)
}
