//! `sengu top`: one screen of all services and the latest events, drawn again and again.
//!
//! Asks the agent twice for each picture and keeps nothing. An agent that is gone is said on the
//! screen and waited for. The terminal's own screen comes back at the end.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use sengu_core::report::ServiceReport;
use serde::Serialize;

use super::client::{Client, ClientError};
use super::print::{self, Look};
use super::{Exit, Global, events, status};
use crate::journal::Entry;
use crate::template::TemplateStatus;

/// Events that are asked for: more than any screen shows.
const EVENTS: usize = 100;

/// Lines of events where the output has no height.
const LINES: usize = 10;

/// Show all services and the latest events on one screen, live; Ctrl-C ends it
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Between two pictures
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Draw one picture and end
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = crate::duration::parse(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_millis(200)..=Duration::from_secs(3600);
    if bounds.contains(&interval) { Ok(interval) } else { Err("it may be 200ms to 1h".into()) }
}

/// One picture.
#[derive(Debug, Serialize)]
struct Picture {
    services: Vec<ServiceReport>,
    files: Vec<TemplateStatus>,
    events: Vec<Entry>,
}

impl Picture {
    fn take(agent: &Client) -> Result<Self, ClientError> {
        let services = agent.get("/v1/sengu/status")?;
        let files = status::files_of(agent)?;
        let path = format!("/v1/sengu/events?follow=false&limit={EVENTS}");
        Ok(Self { services, files, events: agent.get(&path)? })
    }
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let agent = global.agent()?;
    let live = !options.once && std::io::stdout().is_terminal() && !global.json;
    // The first one: an agent that was never there is an error, not a picture.
    let mut taken = Ok(Picture::take(&agent)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let screen = live.then(Screen::open);
    loop {
        let look = Look::of_stdout();
        match (&taken, global.json) {
            (Ok(picture), true) => print::line(picture),
            (Ok(picture), false) => show(&drawn(picture, &look), live),
            (Err(error), false) => show(&look.alarm(&format!("{error}; waiting for it")), live),
            (Err(_), true) => {}
        }
        if options.once {
            break;
        }
        let interrupted = runtime.block_on(async {
            tokio::time::timeout(options.interval, tokio::signal::ctrl_c()).await.is_ok()
        });
        if interrupted {
            break;
        }
        taken = Picture::take(&agent);
    }
    drop(screen);
    Ok(Exit::Done)
}

fn show(text: &str, live: bool) {
    if live {
        // From the top, each line to its end, then whatever stood below.
        let lines: Vec<String> = text.lines().map(|line| format!("{line}\x1b[K")).collect();
        print::bytes(format!("\x1b[H{}\x1b[J", lines.join("\r\n")).as_bytes());
    } else {
        print::text(text);
    }
}

/// What `status` shows, and the latest events in the room that is left.
fn drawn(picture: &Picture, look: &Look) -> String {
    let above = status::screen(&picture.services, &picture.files, look);
    let used = above.lines().count();
    let room = look.height.map_or(LINES, |rows| usize::from(rows).saturating_sub(used + 3));
    let newest = &picture.events[picture.events.len().saturating_sub(room)..];
    if newest.is_empty() {
        return above;
    }
    let mut text = format!("{above}\n{}\n", look.strong("events"));
    for entry in newest {
        // Cut before it is coloured: a colour that is cut off has no end.
        let line = events::line(entry, &Look { colors: false, ..look.clone() });
        let line: String = line.chars().take(look.width.map_or(usize::MAX, usize::from)).collect();
        text += &if events::alarming(entry) { look.alarm(&line) } else { line };
        text.push('\n');
    }
    text
}

/// The terminal's second screen; the first comes back when this is dropped.
struct Screen;

impl Screen {
    fn open() -> Self {
        print::bytes(b"\x1b[?1049h\x1b[?25l");
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print::bytes(b"\x1b[?25h\x1b[?1049l");
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::name::ServiceName;
    use sengu_core::time::Wall;
    use serde_json::Map;

    use super::*;
    use crate::cli::fixture;
    use crate::cli::print::tests::{NOW, look};
    use crate::journal::Kind;

    fn event(number: i64) -> Entry {
        Entry {
            id: format!("a-{number}"),
            at: Wall(NOW.0 + number),
            kind: Kind::Named,
            service: Some(ServiceName::new("foo").expect("good")),
            text: format!("event {number}"),
            data: Map::new(),
        }
    }

    #[test]
    fn the_picture_is_status_and_the_newest_events_that_fit() {
        let events = (0..50).map(event).collect();
        let picture = Picture { services: vec![fixture::well()], files: vec![], events };
        let mut look = look(None);
        let told = drawn(&picture, &look);
        assert!(told.starts_with("all well: 1 service, 1 master named\n"), "{told}");
        assert!(told.ends_with("event 48\n04:00:00.049  named     foo: event 49\n"), "{told}");
        assert_eq!(told.matches("event ").count(), LINES);
        look.height = Some(12);
        let told = drawn(&picture, &look);
        assert!(told.lines().count() < 12, "{told}");
        assert!(told.contains("event 49"));
        let quiet = Picture { events: vec![], ..picture };
        assert_eq!(drawn(&quiet, &look), status::screen(&quiet.services, &[], &look));
    }

    #[test]
    fn intervals_are_bounded() {
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(interval("0s").is_err() && interval("2h").is_err() && interval("x").is_err());
    }
}
