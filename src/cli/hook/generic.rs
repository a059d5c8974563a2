//! `sengu hook generic`: what another failover tool calls before and after it moves a master.
//!
//! For services with `failover = "external"`. It asks the agent of this host over the operator's
//! socket, waits a bounded time, and ends with the exit code that the calling tool understands.
//! It decides nothing and touches no database.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::{Announced, Ask, RequestRecord, Stand};
use sengu_core::report::{InstanceReport, ServiceReport};
use serde_json::json;

use crate::cli::client::{Client, ClientError, segment};
use crate::cli::request::{self, Asking, Posted};
use crate::cli::{Global, print};

/// How soon an agent that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// The refusal of what was not done in time is waited for so long.
const REFUSAL: Duration = Duration::from_secs(3);

/// Tell sengu that another tool is about to move a master, or has moved it
///
/// For services with `failover = "external"`. Sengu withdraws the name, looks at what is so, and
/// publishes what is true; it promotes nobody.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A move begins: name no master until `after`, or until the deadline
    Before(Before),
    /// A move was made: look at the new master, and name it
    After(After),
}

#[derive(Debug, Args)]
struct Before {
    /// The service
    service: ServiceName,
    /// The old master: instance, `address:port` or `host:port`; refused if it is not the master
    #[arg(long, value_name = "INSTANCE")]
    old: Option<String>,
    /// The new master, if the tool knows it yet
    #[arg(long, value_name = "INSTANCE")]
    new: Option<String>,
    /// Also close the old master for writes; opened again if the move does not come. Not with
    /// Sentinel, which takes that for a fault of its own
    #[arg(long)]
    fence: bool,
    /// Without `after` by then, the old master is named again if nothing has changed
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = request::seconds)]
    deadline: Duration,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct After {
    /// The service
    service: ServiceName,
    /// The new master: instance, `address:port` or `host:port`; the old one, if it stays
    #[arg(long, value_name = "INSTANCE")]
    new: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The tool that calls: the exit code is one that it understands
    #[arg(long, value_enum, default_value_t = Tool::Generic)]
    tool: Tool,
    /// The tool's own number of the move (as Sentinel's config epoch): older ones are refused
    #[arg(long, value_name = "NUMBER")]
    epoch: Option<u64>,
    /// How long to wait until it is so, retries included: seconds, or as `2m`
    #[arg(long, value_name = "SECS", default_value = "20", value_parser = request::seconds)]
    wait: Duration,
    #[command(flatten)]
    asking: Asking,
}

/// A tool, by how it takes exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// 0 done, 1 otherwise
    Generic,
    /// As `generic`; 10 if done with a warning
    Mha,
    /// As `generic`; it ignores what is not 0
    Mysqlfailover,
    /// As `generic`
    Orchestrator,
    /// As `generic`
    Patroni,
    /// As `generic`; it ignores what is not 0
    ReplicationManager,
    /// 0 done, 1 for what is worth another try, 2 refused
    Sentinel,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    Warned,
    Refused,
    Later,
}

impl Tool {
    fn code(self, ended: Ended) -> u8 {
        match (self, ended) {
            (_, Ended::Done) => 0,
            (Self::Mha, Ended::Warned) => 10,
            (_, Ended::Warned) => 0,
            (Self::Sentinel, Ended::Refused) => 2,
            (_, Ended::Refused | Ended::Later) => 1,
        }
    }

    fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Asks, waits, and says how it ended.
pub(super) fn run(global: &Global, options: &Options) -> u8 {
    let (tool, ended) = match &options.verb {
        Verb::Before(before) => (before.common.tool, announce(global, before)),
        Verb::After(after) => (after.common.tool, tell(global, after)),
    };
    tool.code(ended.unwrap_or_else(|error| {
        let refused = matches!(
            error.downcast_ref::<ClientError>(),
            Some(ClientError::Refused(_) | ClientError::Absent(_)) | None
        );
        print::note(&format!("{}: {error:#}", if refused { "refused" } else { "error" }));
        if refused { Ended::Refused } else { Ended::Later }
    }))
}

fn announce(global: &Global, before: &Before) -> anyhow::Result<Ended> {
    let call = Call::new(global, &before.service, &before.common)?;
    let known = call.instances()?;
    let ask = Ask::Before(Announced {
        from: before.old.as_deref().map(|text| find(&known, text)).transpose()?.flatten(),
        to: before.new.as_deref().map(|text| find(&known, text)).transpose()?.flatten(),
        fence: before.fence,
        epoch: before.common.epoch,
    });
    let posted = call.post(&ask, before.deadline)?;
    let Some(request) = call.wait(&posted, call.end)? else {
        call.take_back(&posted);
        print::note("the name was not withdrawn in time; the announcement was taken back");
        return Ok(Ended::Later);
    };
    let seconds = before.deadline.as_secs();
    let done = format!(
        "withdrawn: no output names a master of {} until `after`, or for {seconds} s",
        before.service
    );
    // Announced, and asked to close the old one: not closed is not done.
    let ended = call.tell(&posted, &request, &done);
    Ok(if ended == Ended::Warned { Ended::Refused } else { ended })
}

fn tell(global: &Global, after: &After) -> anyhow::Result<Ended> {
    let call = Call::new(global, &after.service, &after.common)?;
    let known = call.instances()?;
    let Some(to) = find(&known, &after.new)? else {
        anyhow::bail!("the new master is not known: {}", list(&known));
    };
    let left = call.end.saturating_duration_since(Instant::now());
    let posted = call.post(&Ask::After { to, epoch: after.common.epoch }, left)?;
    match call.wait(&posted, call.end + REFUSAL)? {
        Some(request) => Ok(call.tell(&posted, &request, "")),
        None => {
            print::note(&format!("{}: still going on; see `sengu status`", after.service));
            Ok(Ended::Later)
        }
    }
}

/// One call of a tool.
struct Call<'a> {
    global: &'a Global,
    agent: Client,
    service: &'a ServiceName,
    common: &'a Common,
    end: Instant,
}

impl<'a> Call<'a> {
    fn new(
        global: &'a Global,
        service: &'a ServiceName,
        common: &'a Common,
    ) -> anyhow::Result<Self> {
        let end = Instant::now() + common.wait;
        Ok(Self { global, agent: global.agent()?, service, common, end })
    }

    /// What cannot be done now is tried again until the wait is over.
    fn patiently<T>(
        &self,
        end: Instant,
        mut ask: impl FnMut() -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        loop {
            match ask() {
                Err(ClientError::Unreachable { .. } | ClientError::Failed(_))
                    if Instant::now() + AGAIN < end =>
                {
                    std::thread::sleep(AGAIN);
                }
                other => return other,
            }
        }
    }

    /// The instances of the service, as the agent knows them.
    fn instances(&self) -> Result<Vec<InstanceReport>, ClientError> {
        let all: Vec<ServiceReport> =
            self.patiently(self.end, || self.agent.get("/v1/sengu/status"))?;
        let found = all.into_iter().find(|report| report.service == *self.service);
        found.map(|report| report.instances).ok_or_else(|| {
            ClientError::Absent(format!("the agent of this host knows no service {}", self.service))
        })
    }

    fn post(&self, ask: &Ask, within: Duration) -> Result<Posted, ClientError> {
        let mut body = request::body(ask, &self.common.asking, Some(within));
        if self.common.tool != Tool::Generic {
            body.by = self.common.tool.word();
        }
        self.patiently(self.end, || self.agent.post(&request::path(self.service), &body))
    }

    /// The request once it is in force or has ended; `None`: not by then.
    fn wait(&self, posted: &Posted, end: Instant) -> Result<Option<RequestRecord>, ClientError> {
        let mut index = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let looked = self
                .patiently(end, || request::look(&self.agent, self.service, posted, index, left))?;
            let Some(looked) = looked else { return Ok(None) };
            index = looked.index.max(1);
            match looked.request.stand {
                Stand::Done(_) | Stand::Refused(_) | Stand::Standing => {
                    return Ok(Some(looked.request));
                }
                Stand::Asked | Stand::Agreed { .. } | Stand::Prepared { .. } => {}
            }
        }
    }

    /// Nobody has acted on it, and nobody shall when the tool has gone.
    fn take_back(&self, posted: &Posted) {
        let path = format!("{}/{}", request::path(self.service), segment(&posted.id));
        let within = Duration::from_secs(5);
        if let Err(error) = self.agent.call(reqwest::Method::DELETE, &path, None, within) {
            print::note(&format!("it could not be taken back: {error}"));
        }
    }

    fn tell(&self, posted: &Posted, request: &RequestRecord, standing: &str) -> Ended {
        let (word, words, ended) = match &request.stand {
            Stand::Refused(words) => ("refused", words.as_str(), Ended::Refused),
            Stand::Done(words) => ("done", words.as_str(), Ended::Done),
            _ => ("standing", standing, Ended::Done),
        };
        let warning = request.warning.as_deref();
        if self.global.json {
            let (service, id) = (self.service, &posted.id);
            print::json(&json!({
                "service": service, "id": id, "stand": word, "message": words, "warning": warning,
            }));
        } else if ended == Ended::Refused {
            print::note(&format!("refused: {words}"));
        } else {
            print::text(words);
        }
        match warning {
            Some(warning) if ended == Ended::Done => {
                print::note(&format!("warning: {warning}"));
                Ended::Warned
            }
            _ => ended,
        }
    }
}

/// The instance that a tool means; `None` where it says that it does not know.
fn find(known: &[InstanceReport], text: &str) -> anyhow::Result<Option<InstanceName>> {
    let text = text.trim();
    if text.is_empty() || text.starts_with("UNKNOWN") {
        return Ok(None);
    }
    let found: Vec<&InstanceReport> = known.iter().filter(|one| means(one, text)).collect();
    match found.as_slice() {
        [one] => Ok(Some(one.instance.clone())),
        [] => anyhow::bail!("no instance is {text:?}: {}", list(known)),
        _ => anyhow::bail!("{text:?} may be several: {}; add the port", list(known)),
    }
}

fn means(one: &InstanceReport, text: &str) -> bool {
    if one.instance.as_str() == text || text.parse::<SocketAddr>() == Ok(one.address) {
        return true;
    }
    let host = |text: &str| {
        let short = text.split('.').next().unwrap_or_default();
        text.eq_ignore_ascii_case(&one.host)
            || (short.eq_ignore_ascii_case(&one.host) && text.parse::<IpAddr>().is_err())
            || text.parse::<IpAddr>() == Ok(one.address.ip())
    };
    match text.rsplit_once(':') {
        Some((name, port)) if text.parse::<IpAddr>().is_err() => {
            host(name) && port.parse() == Ok(one.address.port())
        }
        _ => host(text),
    }
}

fn list(known: &[InstanceReport]) -> String {
    let told = known.iter().map(|one| format!("{} ({}, {})", one.instance, one.host, one.address));
    format!("known are {}", told.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, host: &str, address: &str) -> InstanceReport {
        InstanceReport {
            instance: InstanceName::new(name).expect("good"),
            host: host.to_owned(),
            address: address.parse().expect("an address"),
            role: None,
            writable: false,
            health: "up".to_owned(),
            replication: String::new(),
            position: None,
            unfit: None,
        }
    }

    #[test]
    fn instances_are_found_as_tools_name_them() {
        let known = [
            instance("a", "db1", "10.0.0.1:3306"),
            instance("b", "db2", "10.0.0.2:3306"),
            instance("c", "db2", "10.0.0.2:3307"),
        ];
        let found = |text: &str| find(&known, text).ok().flatten().map(|name| name.to_string());
        for (text, wanted) in [
            ("a", "a"),
            ("10.0.0.1:3306", "a"),
            ("10.0.0.1", "a"),
            ("db1", "a"),
            ("db1.example.org:3306", "a"),
            ("DB2:3307", "c"),
            ("10.0.0.2:3306", "b"),
        ] {
            assert_eq!(found(text).as_deref(), Some(wanted), "{text}");
        }
        for text in ["db2", "10.0.0.2", "db3", "db1:1", "{successorHost}", "10.0.0.9:3306"] {
            assert!(find(&known, text).is_err(), "{text}");
        }
        for text in ["UNKNOWN", "UNKNOWN:3306", ""] {
            assert_eq!(find(&known, text).expect("it does not know"), None, "{text}");
        }
    }

    #[test]
    fn exit_codes_are_those_of_the_tool() {
        let codes = |tool: Tool| {
            [Ended::Done, Ended::Warned, Ended::Refused, Ended::Later].map(|end| tool.code(end))
        };
        assert_eq!(codes(Tool::Generic), [0, 0, 1, 1]);
        assert_eq!(codes(Tool::Mha), [0, 10, 1, 1]);
        assert_eq!(codes(Tool::Sentinel), [0, 0, 2, 1]);
        assert_eq!(codes(Tool::Mysqlfailover), [0, 0, 1, 1]);
    }
}
