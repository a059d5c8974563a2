//! `/v1/sengu/events`: the journal as a stream of server-sent events, or what is kept as JSON.
//!
//! A reader resumes with `Last-Event-ID` (or `?after=`). One that missed events, because it was
//! too slow or too long away, or because the agent was started again, is sent one `missed` event
//! that says so. A slow reader holds up nobody: it is given what is kept when it comes to read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sengu_core::name::ServiceName;
use serde_json::{Map, json};
use tokio::sync::watch;

use super::Shell;
use super::answer::{Trouble, json as json_answer};
use super::query::Params;
use super::server::{refused, stopped};
use crate::clock;
use crate::journal::{Cursor, Entry, Journal, Kind};
use crate::metrics;

/// Events sent in one piece.
const PIECE: usize = 128;
/// A silent stream says so often that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many kept events are answered without a stream, at most and by default.
const LIMIT: u64 = 1000;

/// Which events a reader wants; empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    services: Vec<ServiceName>,
    kinds: Vec<Kind>,
}

impl Wanted {
    fn of(params: &Params) -> Result<Self, Trouble> {
        let services = params
            .all("service")
            .map(|name| ServiceName::new(name).map_err(|error| Trouble::bad(error.to_string())));
        let kind = |word: &str| {
            let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
            known.ok_or_else(|| {
                let words: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
                Trouble::bad(format!("no kind {word:?} of events; there are {}", words.join(", ")))
            })
        };
        Ok(Self {
            services: services.collect::<Result<_, _>>()?,
            kinds: params.all("kind").map(kind).collect::<Result<_, _>>()?,
        })
    }

    fn wants(&self, entry: &Entry) -> bool {
        let service = self.services.is_empty()
            || entry.service.as_ref().is_some_and(|service| self.services.contains(service));
        service && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
    }
}

/// One reader's seat; the number of readers goes down when it is dropped.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(readers: &Arc<AtomicUsize>, most: usize) -> Result<Self, Trouble> {
        let taken = readers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            (count < most).then_some(count + 1)
        });
        if taken.is_err() {
            refused("streams");
            return Err(Trouble::new(
                429,
                format!("{most} readers follow the events already; end one of them first"),
            ));
        }
        metrics::get().event_readers.inc();
        Ok(Self(Arc::clone(readers)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        metrics::get().event_readers.dec();
    }
}

/// Where a stream stands.
struct Reader {
    journal: Arc<Journal>,
    wanted: Wanted,
    cursor: Cursor,
    bell: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// To be sent before anything else.
    first: VecDeque<String>,
    _seat: Seat,
}

/// The stream, or with `?follow=false` what is kept.
pub(crate) async fn events(shell: &Shell, headers: &HeaderMap, params: &Params) -> Reply {
    let wanted = Wanted::of(params)?;
    let follow = params.first("follow").is_none() || params.truth("follow")?;
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let id = params.first("after").or(header).filter(|id| !id.is_empty());
    let journal = &shell.context.journal;
    let (cursor, other_life) = match id {
        // `now`: nothing of what was.
        Some("now") => (journal.end(), false),
        id => journal.after(id),
    };
    if !follow {
        let limit = params.number("limit")?.unwrap_or(LIMIT).min(LIMIT);
        return Ok(kept(journal, &wanted, cursor, usize::try_from(limit).unwrap_or(0)));
    }
    let seat = Seat::take(&shell.readers, shell.streams)?;
    let mut first = VecDeque::from(["retry: 1000\n\n".to_owned()]);
    if other_life {
        let text = "the agent was started again since, or does not know that id; here is all that \
                    is kept";
        first.push_back(missed(journal, cursor, None, text));
    }
    let reader = Reader {
        journal: Arc::clone(journal),
        wanted,
        cursor,
        bell: journal.bell(),
        stopping: shell.stopping.clone(),
        first,
        _seat: seat,
    };
    let pieces = stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(Bytes::from(piece)), reader))
    });
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::OK, head, Body::from_stream(pieces)).into_response())
}

type Reply = Result<Response, Trouble>;

/// The newest kept events that are wanted, oldest first.
fn kept(journal: &Journal, wanted: &Wanted, mut cursor: Cursor, limit: usize) -> Response {
    let mut found: VecDeque<Arc<Entry>> = VecDeque::new();
    loop {
        let batch = journal.read(cursor, PIECE);
        if batch.entries.is_empty() {
            break;
        }
        cursor = batch.cursor;
        found.extend(batch.entries.into_iter().filter(|entry| wanted.wants(entry)));
        while found.len() > limit {
            found.pop_front();
        }
    }
    json_answer(StatusCode::OK, &found, false)
}

impl Reader {
    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.pop_front() {
            return Some(first);
        }
        loop {
            if *self.stopping.borrow() {
                return None;
            }
            self.bell.mark_unchanged();
            let batch = self.journal.read(self.cursor, PIECE);
            let read = !batch.entries.is_empty();
            self.cursor = batch.cursor;
            let mut text = String::new();
            if batch.missed > 0 {
                let words = format!("{} events were not kept for this reader", batch.missed);
                text += &missed(&self.journal, self.cursor, Some(batch.missed), &words);
            }
            for entry in batch.entries.iter().filter(|entry| self.wanted.wants(entry)) {
                text += &frame(entry);
            }
            if !text.is_empty() {
                return Some(text);
            }
            if read {
                continue;
            }
            tokio::select! {
                // The journal lives in self.
                _ = self.bell.changed() => {}
                () = stopped(&mut self.stopping) => return None,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(":\n\n".to_owned()),
            }
        }
    }
}

fn frame(entry: &Entry) -> String {
    let data = serde_json::to_string(entry).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", entry.id, entry.kind.as_str())
}

/// Tells a reader that it missed something; its id resumes where the stream goes on.
fn missed(journal: &Journal, cursor: Cursor, count: Option<u64>, text: &str) -> String {
    let mut data = Map::new();
    data.insert("missed".to_owned(), json!(count));
    let entry = Entry {
        id: journal.id(cursor),
        at: clock::wall(),
        kind: Kind::Missed,
        service: None,
        text: text.to_owned(),
        data,
    };
    frame(&entry)
}
