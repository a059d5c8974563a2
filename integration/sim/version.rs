//! Agents of several versions on one store: a newer one writes a field that others do not know, or
//! a whole newer format, which others must neither act on nor write over.
//!
//! All run the same core. What a newer agent writes is changed on its way to the store, and what
//! it reads on its way back: its own version knows both.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use sengu_core::kv::{Change, KeyValue, Op, OpResult, Txn, TxnReply};
use sengu_core::record::Record;

use super::fact::Fact;
use super::store::Request;
use super::world::{Life, World};

/// A field of a newer version.
const NEWER: &[u8] = b",\"newer\":true}";
/// The head of a record in the format that this version writes, and in the next.
const KNOWN: &[u8] = b"{\"format\":1,";
const NEXT: &[u8] = b"{\"format\":2,";

/// Which version an agent is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Version {
    /// This one.
    #[default]
    This,
    /// One whose records have one field more.
    Fields,
    /// One that writes another format.
    Format,
}

/// Reads a record in whichever format it stands, as the newest version does.
///
/// # Errors
/// The parser's words.
pub(crate) fn read<T: Record>(value: &[u8]) -> Result<T, String> {
    T::decode(&known(value))
}

/// The record in the format that this version writes.
fn known(value: &[u8]) -> Cow<'_, [u8]> {
    match value.strip_prefix(NEXT) {
        Some(rest) => Cow::Owned([KNOWN, rest].concat()),
        None => Cow::Borrowed(value),
    }
}

/// Is it written in a newer format?
pub(crate) fn is_next(value: &[u8]) -> bool {
    value.starts_with(NEXT)
}

fn has_newer(value: &Arc<[u8]>) -> bool {
    value.windows(8).any(|window| window == b"\"newer\":")
}

impl Version {
    /// What an agent of this version writes.
    fn written(self, value: &Arc<[u8]>) -> Option<Arc<[u8]>> {
        match self {
            Self::This => None,
            Self::Fields => (value.ends_with(b"}") && !has_newer(value)).then(|| {
                let whole = value[..value.len() - 1].iter().chain(NEWER).copied();
                whole.collect::<Vec<u8>>().into()
            }),
            Self::Format => value.strip_prefix(KNOWN).map(|rest| Arc::from([NEXT, rest].concat())),
        }
    }

    /// What it reads.
    fn reads(entry: &KeyValue) -> KeyValue {
        KeyValue { value: known(&entry.value).into(), ..entry.clone() }
    }

    /// A whole store's content as it reads it.
    pub(crate) fn reads_all(self, entries: Vec<Arc<KeyValue>>) -> Vec<Arc<KeyValue>> {
        if self != Self::Format {
            return entries;
        }
        entries.iter().map(|entry| Arc::new(Self::reads(entry))).collect()
    }

    /// Changes as it reads them.
    pub(crate) fn reads_changes(self, mut changes: Vec<Change>) -> Vec<Change> {
        if self == Self::Format {
            for entry in changes.iter_mut().filter_map(|change| change.now.as_mut()) {
                *entry = Arc::new(Self::reads(entry));
            }
        }
        changes
    }

    /// The answer to a txn as it reads it.
    pub(crate) fn reads_reply(self, mut reply: TxnReply) -> TxnReply {
        if self == Self::Format {
            for result in &mut reply.results {
                if let OpResult::Got(found) = result {
                    *found = found.iter().map(Self::reads).collect();
                }
            }
        }
        reply
    }
}

impl World {
    /// A request as the version of its agent sends it.
    pub(crate) fn of_version(&self, life: Life, request: Request) -> Request {
        let version = self.agents[life.host].version;
        let Request::Txn(id, txn) = &request else { return request };
        if version == Version::This {
            return request;
        }
        let mut txn = Txn::clone(txn);
        for op in txn.then.iter_mut().chain(txn.otherwise.iter_mut()) {
            if let Op::Put { value, .. } = op
                && let Some(written) = version.written(value)
            {
                *value = written;
            }
        }
        Request::Txn(*id, Rc::new(txn))
    }

    /// Can the agent of a host read its own beat, and who is master? Else it keeps no term.
    pub(crate) fn tell_what_it_reads(&mut self, host: usize) {
        let masters = self.store.kv.prefixed("master/");
        let beat = self.store.kv.get(&format!("beats/h{}", host + 1));
        let newer = masters.chain(beat).any(|entry| is_next(&entry.value));
        let reads = !newer || self.agents[host].version == Version::Format;
        self.tell(Fact::Reads { host, reads });
    }

    /// After a txn that may have written who is master in a newer format.
    pub(crate) fn tell_what_all_read(&mut self, txn: &Txn) {
        let newer = txn.then.iter().any(|op| {
            matches!(op, Op::Put { key, value, .. } if key.starts_with("master/") && is_next(value))
        });
        if newer {
            (0..self.hosts()).for_each(|host| self.tell_what_it_reads(host));
        }
    }

    /// The keys whose newer fields this txn would lose, or whose newer format; told if it is done.
    pub(crate) fn loses_fields(&self, txn: &Txn) -> Vec<String> {
        if !self.versions {
            return Vec::new();
        }
        let mut lost = Vec::new();
        for op in &txn.then {
            let Op::Put { key, value, .. } = op else { continue };
            let Some(old) = self.store.kv.get(key) else { continue };
            let kept = ["master/", "instances/", "requests/", "history/"];
            let kept = kept.iter().any(|kind| key.starts_with(kind));
            let fields = has_newer(&old.value) && kept && !has_newer(value);
            if fields || (is_next(&old.value) && !is_next(value)) {
                lost.push(key.to_string());
            }
        }
        lost
    }
}
