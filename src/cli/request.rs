//! Requests to the agents, and the wait until they have ended: what `adopt`, `release`,
//! `switchover` and `failover` share.
//!
//! A request counts for as long as its asker waits, and no longer: nobody is surprised by a move
//! that comes when they have left.

use std::time::{Duration, Instant};

use clap::Args;
use sengu_core::name::ServiceName;
use sengu_core::record::{Ask, RequestRecord, Stand};
use serde::{Deserialize, Serialize};

use super::client::{Client, ClientError, PATIENCE, segment};
use super::{Exit, Global, print, words};
use crate::operator::Rehearsed;

/// How long one look at a request may wait for news.
const LOOK: Duration = Duration::from_secs(10);

/// What everyone says who asks for something.
#[derive(Debug, Clone, Args)]
pub(super) struct Asking {
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) comment: String,
}

/// How long to wait for the end.
#[derive(Debug, Clone, Args)]
pub(super) struct Waiting {
    /// How long to wait, and for how long the request counts: seconds, or as `2m`
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    pub(super) wait: Duration,
}

/// Seconds, or a duration with units; at most a day.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let wait = match text.parse() {
        Ok(number) => Duration::from_secs(number),
        Err(_) => crate::duration::parse(text).map_err(|error| error.to_string())?,
    };
    let bounds = Duration::from_secs(1)..=Duration::from_secs(86_400);
    if bounds.contains(&wait) { Ok(wait) } else { Err("it may be 1s to 24h".into()) }
}

/// What is sent.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    ask: &'a Ask,
    comment: &'a str,
    pub(super) by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    within_secs: Option<u64>,
    dry_run: bool,
}

/// What comes back at once.
#[derive(Debug, Deserialize)]
pub(super) struct Posted {
    pub(super) id: String,
    revision: u64,
}

/// What comes back of a look.
#[derive(Debug, Deserialize)]
pub(super) struct Looked {
    #[serde(alias = "record")]
    pub(super) request: RequestRecord,
    pub(super) index: u64,
}

/// How a request ended, for programs.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    service: &'a ServiceName,
    id: &'a str,
    stand: &'static str,
    message: &'a str,
}

/// The path of a service's requests.
pub(super) fn path(service: &ServiceName) -> String {
    format!("/v1/sengu/request/{}", segment(service.as_str()))
}

pub(super) fn body<'a>(ask: &'a Ask, asking: &'a Asking, within: Option<Duration>) -> Body<'a> {
    let within_secs = within.map(|within| within.as_secs().max(1));
    Body { ask, comment: &asking.comment, by: asker(), within_secs, dry_run: false }
}

/// The person who asks, where several share root; the agent adds the socket's user and its host.
fn asker() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| {
        std::env::var(name).ok().filter(|user| !user.is_empty() && user.len() <= 64)
    });
    user.unwrap_or_default()
}

/// Asks only what would happen.
pub(super) fn rehearse(
    global: &Global,
    service: &ServiceName,
    ask: &Ask,
    asking: &Asking,
) -> anyhow::Result<Exit> {
    let body = Body { dry_run: true, ..body(ask, asking, None) };
    let answer: Rehearsed = global.agent()?.post(&path(service), &body)?;
    if global.json {
        print::json(&answer);
    }
    Ok(match (answer.to, answer.refused) {
        (Some(to), None) => {
            if !global.json {
                print::text(&format!("would move mastership to {to}"));
            }
            Exit::Done
        }
        (_, why) => {
            if !global.json {
                print::note(&format!("refused: {}", why.unwrap_or_default()));
            }
            Exit::Failed
        }
    })
}

/// Writes a standing request, which is in force at once. `done` tells so.
pub(super) fn stand(
    global: &Global,
    service: &ServiceName,
    ask: &Ask,
    asking: &Asking,
    within: Option<Duration>,
    done: &str,
) -> anyhow::Result<Exit> {
    let posted: Posted = global.agent()?.post(&path(service), &body(ask, asking, within))?;
    finish(global, service, &posted.id, "standing", done);
    Ok(Exit::Done)
}

/// Asks for what stands once the master's agent has agreed, and waits for that: how the wait ended,
/// and in which words.
pub(super) fn agreed(
    agent: &Client,
    service: &ServiceName,
    ask: &Ask,
    asking: &Asking,
    within: Duration,
    wait: Duration,
) -> anyhow::Result<(Outcome, String)> {
    let deadline = Instant::now() + wait;
    let posted: Posted = agent.post(&path(service), &body(ask, asking, Some(within)))?;
    let mut index = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(looked) = look(agent, service, &posted, index, left)? else { break };
        index = looked.index.max(1);
        match looked.request.stand {
            Stand::Standing | Stand::Done(_) => return Ok((Outcome::Done, String::new())),
            Stand::Refused(why) => return Ok((Outcome::Refused, why)),
            Stand::Asked | Stand::Agreed { .. } | Stand::Prepared { .. } => {}
        }
    }
    Ok((Outcome::Waiting, words::stand(&Stand::Asked)))
}

/// Ends a standing request.
pub(super) fn withdraw(
    global: &Global,
    service: &ServiceName,
    id: &str,
    done: &str,
) -> anyhow::Result<Exit> {
    let path = format!("{}/{}", path(service), segment(id));
    global.agent()?.call(reqwest::Method::DELETE, &path, None, PATIENCE)?;
    finish(global, service, id, "withdrawn", done);
    Ok(Exit::Done)
}

/// How a wait for a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done as asked.
    Done,
    /// Refused.
    Refused,
    /// Not yet.
    Waiting,
}

/// The same, with the request's id and its last words.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) outcome: Outcome,
    pub(super) message: String,
    id: String,
}

/// Asks for something, waits until it has ended, and tells how.
pub(super) fn ask(
    global: &Global,
    service: &ServiceName,
    ask: &Ask,
    asking: &Asking,
    waiting: &Waiting,
) -> anyhow::Result<Exit> {
    let carried = carry(global, &global.agent()?, service, ask, asking, waiting)?;
    let Carried { outcome, message, id } = &carried;
    Ok(match outcome {
        Outcome::Done => {
            finish(global, service, id, "done", message);
            Exit::Done
        }
        Outcome::Refused => refused(global, service, id, message),
        Outcome::Waiting => {
            if global.json {
                finish(global, service, id, "waiting", message);
            }
            print::note(message);
            Exit::StillWaiting
        }
    })
}

/// Asks for something and waits until it has ended; tells only progress.
pub(super) fn carry(
    global: &Global,
    agent: &Client,
    service: &ServiceName,
    ask: &Ask,
    asking: &Asking,
    waiting: &Waiting,
) -> anyhow::Result<Carried> {
    let deadline = Instant::now() + waiting.wait;
    let posted: Posted = agent.post(&path(service), &body(ask, asking, Some(waiting.wait)))?;
    progress(global, &format!("{service}: asked for {} ({})", words::ask(ask), posted.id));
    let mut index = 0;
    let mut last = None;
    let id = posted.id.clone();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(looked) = look(agent, service, &posted, index, left)? else { break };
        index = looked.index.max(1);
        let stand = looked.request.stand;
        match &stand {
            Stand::Done(message) => {
                return Ok(Carried { outcome: Outcome::Done, message: message.clone(), id });
            }
            Stand::Refused(message) => {
                return Ok(Carried { outcome: Outcome::Refused, message: message.clone(), id });
            }
            Stand::Asked | Stand::Agreed { .. } | Stand::Prepared { .. } | Stand::Standing => {}
        }
        if last.as_ref() != Some(&stand) && stand != Stand::Asked {
            progress(global, &format!("{service}: {}", words::stand(&stand)));
        }
        last = Some(stand);
    }
    let message = format!("{service}: still going on; see `sengu status`");
    Ok(Carried { outcome: Outcome::Waiting, message, id })
}

/// One look at the request, which waits for news; `None` if the time is over.
pub(super) fn look(
    agent: &Client,
    service: &ServiceName,
    posted: &Posted,
    index: u64,
    left: Duration,
) -> Result<Option<Looked>, ClientError> {
    if left.is_zero() {
        return Ok(None);
    }
    let wait = left.min(LOOK);
    let path = format!(
        "{}/{}?index={index}&wait={}ms",
        path(service),
        segment(&posted.id),
        wait.as_millis().max(1)
    );
    match agent.get_within::<Looked>(&path, wait + PATIENCE) {
        Ok(looked) => Ok(Some(looked)),
        Err(ClientError::Absent(words)) => Err(ClientError::Refused(format!(
            "the request of revision {} is gone ({words}); see `sengu history {service}`",
            posted.revision
        ))),
        Err(error) => Err(error),
    }
}

fn progress(global: &Global, line: &str) {
    if !global.json {
        print::note(line);
    }
}

fn refused(global: &Global, service: &ServiceName, id: &str, message: &str) -> Exit {
    if global.json {
        finish(global, service, id, "refused", message);
    }
    print::note(&format!("refused: {message}"));
    Exit::Failed
}

fn finish(global: &Global, service: &ServiceName, id: &str, stand: &'static str, message: &str) {
    if global.json {
        print::json(&Ended { service, id, stand, message });
    } else {
        print::text(message);
    }
}

#[cfg(test)]
mod tests;
