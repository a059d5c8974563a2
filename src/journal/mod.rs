//! The last events of this agent: what changed in the store, what it decided, what it did.
//!
//! A ring of bounded length and bytes in memory. Readers hold a number and ask for what came
//! after it; one that was too slow, or whose number is of an earlier life of the agent, is told
//! how much it missed. Nothing waits for a reader. Values of the key-value store and secrets are
//! never in it. Keeping is for people and tools; nothing decides by it.

pub mod witness;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use sengu_core::name::ServiceName;
use sengu_core::time::Wall;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

/// Events that are kept at most.
pub const KEPT: usize = 8192;
/// Bytes of them, as JSON.
pub const KEPT_BYTES: usize = 4 << 20;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// This life of the agent began, or it read the whole store again.
    Loaded,
    /// The master record of a service changed.
    Master,
    /// The name of a service began or ceased to point to a master, here.
    Named,
    /// What is known of an instance changed.
    Instance,
    /// A request was asked, went on or ended.
    Request,
    /// A step of a move was written.
    History,
    /// The agent told a database to do something, or heard how that ended.
    Command,
    /// A hook began or ended.
    Hook,
    /// The process of an instance ended.
    Exited,
    /// The agent said something, or says why it does not act.
    Said,
    /// A key was written or removed, or a node, service or check of the catalog was.
    Catalog,
    /// The agent was late, or its clock jumped.
    Doubt,
    /// Only for readers: events that they can have no more.
    Missed,
}

impl Kind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Loaded,
        Self::Master,
        Self::Named,
        Self::Instance,
        Self::Request,
        Self::History,
        Self::Command,
        Self::Hook,
        Self::Exited,
        Self::Said,
        Self::Catalog,
        Self::Doubt,
        Self::Missed,
    ];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Master => "master",
            Self::Named => "named",
            Self::Instance => "instance",
            Self::Request => "request",
            Self::History => "history",
            Self::Command => "command",
            Self::Hook => "hook",
            Self::Exited => "exited",
            Self::Said => "said",
            Self::Catalog => "catalog",
            Self::Doubt => "doubt",
            Self::Missed => "missed",
        }
    }

    /// What it means, for the documentation.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Loaded => "the agent began, or read the whole store again",
            Self::Master => "the master record of a service changed: term, state, holder",
            Self::Named => "the name of a service began or ceased to point to a master, here",
            Self::Instance => "what is known of an instance changed: role, writable, health, link",
            Self::Request => "a request of a person was asked, went on or ended",
            Self::History => "a step of a move was written",
            Self::Command => "the agent told a database to do something, or heard how that ended",
            Self::Hook => "a hook began or ended",
            Self::Exited => "the process of an instance ended",
            Self::Said => "the agent said something, or says why it does not act",
            Self::Catalog => "a key, node, service or check was written or removed (no values)",
            Self::Doubt => "the agent was late, or its clock jumped: what it saw before is old",
            Self::Missed => "this reader missed events: how many, and why",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `LIFE-NUMBER`: resume after it with `Last-Event-ID`.
    pub id: String,
    /// When, by this host's wall clock, in milliseconds since 1970.
    pub at: Wall,
    /// What it is about.
    pub kind: Kind,
    /// Which service, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// In words.
    pub text: String,
    /// For programs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

/// What a reader gets: what it missed, then what there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// So many are gone before these.
    pub missed: u64,
    /// In order.
    pub entries: Vec<Arc<Entry>>,
    /// Where the reader stands after them.
    pub cursor: Cursor,
}

/// The ring.
#[derive(Debug)]
pub struct Journal {
    life: String,
    ring: Mutex<Ring>,
    bell: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<(Arc<Entry>, usize)>,
    bytes: usize,
    /// The number of the next one; the first is 1.
    next: u64,
}

impl Journal {
    /// An empty one of this life of the agent, which ids begin with.
    #[must_use]
    pub fn new(life: &str) -> Self {
        let life: String = life.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let ring = Mutex::new(Ring { next: 1, ..Ring::default() });
        Self { life, ring, bell: watch::channel(0).0 }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("nothing panics while it holds this")
    }

    /// Keeps one event, and lets the oldest go where there is no room.
    pub fn keep(
        &self,
        at: Wall,
        kind: Kind,
        service: Option<&ServiceName>,
        text: String,
        data: Map<String, Value>,
    ) {
        let mut ring = self.ring();
        let number = ring.next;
        ring.next += 1;
        let id = format!("{}-{number}", self.life);
        let entry = Entry { id, at, kind, service: service.cloned(), text, data };
        let bytes = serde_json::to_vec(&entry).map_or(0, |bytes| bytes.len());
        ring.bytes += bytes;
        ring.entries.push_back((Arc::new(entry), bytes));
        while ring.entries.len() > KEPT || (ring.bytes > KEPT_BYTES && ring.entries.len() > 1) {
            if let Some((_, bytes)) = ring.entries.pop_front() {
                ring.bytes -= bytes;
            }
        }
        drop(ring);
        self.bell.send_replace(number);
    }

    /// Where a reader begins: after the event of that id; without one, at the oldest that is
    /// kept. An id of another life has missed whatever happened since: the flag tells so.
    #[must_use]
    pub fn after(&self, id: Option<&str>) -> (Cursor, bool) {
        let Some(id) = id else { return (self.oldest(), false) };
        let own = id.rsplit_once('-').filter(|(life, _)| *life == self.life);
        match own.and_then(|(_, number)| number.parse().ok()) {
            Some(number) => (Cursor(number), false),
            None => (self.oldest(), true),
        }
    }

    fn oldest(&self) -> Cursor {
        let ring = self.ring();
        Cursor(ring.next - 1 - ring.entries.len() as u64)
    }

    /// Where a reader begins that only wants what comes.
    #[must_use]
    pub fn end(&self) -> Cursor {
        Cursor(self.ring().next - 1)
    }

    /// The next events after a cursor, at most so many.
    #[must_use]
    pub fn read(&self, cursor: Cursor, most: usize) -> Batch {
        let ring = self.ring();
        let oldest = ring.next - ring.entries.len() as u64;
        // A number that was never given out would wait for ever.
        let from = cursor.0.saturating_add(1).min(ring.next);
        let missed = oldest.saturating_sub(from);
        let start = from.max(oldest);
        let skip = usize::try_from(start - oldest).unwrap_or(usize::MAX);
        let entries: Vec<_> =
            ring.entries.iter().skip(skip).take(most).map(|(entry, _)| Arc::clone(entry)).collect();
        let cursor = Cursor(start - 1 + entries.len() as u64);
        Batch { missed, entries, cursor }
    }

    /// The id that a reader at this place resumes after.
    #[must_use]
    pub fn id(&self, cursor: Cursor) -> String {
        format!("{}-{}", self.life, cursor.0)
    }

    /// Rings at each event.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(journal: &Journal, count: u64) {
        for number in 0..count {
            journal.keep(Wall(0), Kind::Said, None, format!("event {number}"), Map::new());
        }
    }

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.entries.iter().map(|entry| entry.text.as_str()).collect()
    }

    #[test]
    fn a_reader_gets_each_event_once_and_in_order() {
        let journal = Journal::new("abc");
        keep(&journal, 5);
        let (start, other) = journal.after(None);
        assert!(!other);
        let first = journal.read(start, 3);
        assert_eq!((first.missed, texts(&first)), (0, vec!["event 0", "event 1", "event 2"]));
        let rest = journal.read(first.cursor, 100);
        assert_eq!(texts(&rest), ["event 3", "event 4"]);
        assert_eq!(rest.entries[1].id, "abc-5");
        assert!(journal.read(rest.cursor, 100).entries.is_empty());
        let (resumed, other) = journal.after(Some("abc-4"));
        assert_eq!((texts(&journal.read(resumed, 9)), other), (vec!["event 4"], false));
    }

    #[test]
    fn what_is_gone_is_counted() {
        let journal = Journal::new("abc");
        keep(&journal, KEPT as u64 + 10);
        let (from, _) = journal.after(Some("abc-3"));
        let batch = journal.read(from, 1);
        assert_eq!((batch.missed, texts(&batch)), (7, vec!["event 10"]));
        let (fresh, _) = journal.after(None);
        assert_eq!(journal.read(fresh, 1).missed, 0, "a new reader has missed nothing");
    }

    #[test]
    fn an_id_of_another_life_begins_at_the_oldest_and_is_told() {
        let journal = Journal::new("abc");
        keep(&journal, 2);
        for id in ["xyz-1", "abc-x", "nonsense", ""] {
            let (from, other) = journal.after(Some(id));
            assert!(other, "{id}");
            assert_eq!(journal.read(from, 9).entries.len(), 2, "{id}");
        }
        let (ahead, other) = journal.after(Some("abc-99"));
        assert!(!other);
        let batch = journal.read(ahead, 9);
        assert_eq!((batch.missed, batch.entries.len()), (0, 0));
        assert_eq!(batch.cursor, journal.end(), "and waits for what comes next");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let journal = Journal::new("abc");
        for _ in 0..100 {
            journal.keep(Wall(0), Kind::Said, None, "x".repeat(1 << 20), Map::new());
        }
        let ring = journal.ring();
        assert!(ring.bytes <= KEPT_BYTES, "{}", ring.bytes);
        assert!(!ring.entries.is_empty());
    }

    #[test]
    fn kinds_are_written_as_they_are_named() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.as_str());
        }
    }
}
