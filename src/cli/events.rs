//! `sengu events`: what changes, what the agent decides and what it does, as it happens.

use std::time::Duration;

use clap::Args;
use sengu_core::name::ServiceName;

use super::client::{Client, ClientError, segment};
use super::print::{self, Look};
use super::{Exit, Global};
use crate::journal::{Entry, Kind};

/// Between two tries to reach an agent that is gone.
const AGAIN: Duration = Duration::from_secs(1);

/// Show what changed, and what the agent decided and did
///
/// Without --follow: what the agent has kept since its start, oldest first. With it: that, and then
/// everything as it happens; an agent that is started again is waited for, and what was missed
/// meanwhile is told.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only these services
    services: Vec<ServiceName>,
    /// Go on as events happen
    #[arg(long, short)]
    follow: bool,
    /// Only these kinds; may stand several times
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Vec<Kind>,
    /// Only what came after the event of this id; `now`: nothing of what was
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// The newest so many; with --follow all that is kept is shown first
    #[arg(long, value_name = "NUMBER", default_value_t = 100, conflicts_with = "follow",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

fn kind(word: &str) -> Result<Kind, String> {
    let words: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
    let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    known.ok_or_else(|| format!("there are {}", words.join(", ")))
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let agent = global.agent()?;
    if options.follow {
        return follow(global, options, &agent);
    }
    let path = format!("{}&follow=false&limit={}", path(options), options.limit);
    let path = match &options.after {
        Some(id) => format!("{path}&after={}", segment(id)),
        None => path,
    };
    let entries: Vec<Entry> = agent.get(&path)?;
    if global.json {
        print::json(&entries);
    } else {
        let look = Look::of_stdout();
        let lines: Vec<String> = entries.iter().map(|entry| line(entry, &look)).collect();
        print::text(&lines.join("\n"));
    }
    Ok(Exit::Done)
}

fn path(options: &Options) -> String {
    let services =
        options.services.iter().map(|name| format!("&service={}", segment(name.as_str())));
    let kinds = options.kind.iter().map(|kind| format!("&kind={}", kind.as_str()));
    let wanted: String = services.chain(kinds).collect();
    format!("/v1/sengu/events?{}", wanted.trim_start_matches('&'))
}

/// For ever: until it is ended, or its reader is gone.
fn follow(global: &Global, options: &Options, agent: &Client) -> anyhow::Result<Exit> {
    let look = Look::of_stdout();
    let path = path(options);
    let mut last = options.after.clone();
    let mut reached = false;
    loop {
        let from = match &last {
            Some(id) => format!("{path}&after={}", segment(id)),
            None => path.clone(),
        };
        let shown = |text: &str| {
            let Ok(entry) = serde_json::from_str::<Entry>(text) else { return };
            last = Some(entry.id.clone());
            if global.json {
                print::line(&entry);
            } else {
                print::text(&line(&entry, &look));
            }
        };
        match agent.stream(&from, shown) {
            Ok(()) => reached = true,
            Err(ClientError::Unreachable { .. }) if reached => {}
            Err(error) => return Err(error.into()),
        }
        print::note("the agent has ended the stream; waiting for it");
        std::thread::sleep(AGAIN);
    }
}

/// Does it want somebody's eye?
pub(super) fn alarming(entry: &Entry) -> bool {
    entry.data.get("alarm").and_then(serde_json::Value::as_bool) == Some(true)
        || entry.kind == Kind::Missed
}

/// One event in one line.
pub(super) fn line(entry: &Entry, look: &Look) -> String {
    let millis = entry.at.0.rem_euclid(1000);
    let service = entry.service.as_ref().map_or("-", ServiceName::as_str);
    let text = if alarming(entry) { look.alarm(&entry.text) } else { entry.text.clone() };
    format!("{}.{millis:03}  {:8}  {service}: {text}", look.time(entry.at), entry.kind.as_str())
}

#[cfg(test)]
mod tests {
    use sengu_core::time::Wall;
    use serde_json::Map;

    use super::*;
    use crate::cli::print::tests::{NOW, look};

    #[test]
    fn an_event_is_one_line() {
        let entry = Entry {
            id: "a-1".into(),
            at: Wall(NOW.0 + 7),
            kind: Kind::Named,
            service: Some(ServiceName::new("foo").expect("good")),
            text: "the name points to cache2 at 10.0.0.2:6379".into(),
            data: Map::new(),
        };
        assert_eq!(
            line(&entry, &look(None)),
            "04:00:00.007  named     foo: the name points to cache2 at 10.0.0.2:6379"
        );
    }
}
