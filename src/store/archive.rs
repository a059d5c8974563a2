//! What a person does with a store as a whole: export, import, verify, incarnate.
//!
//! An archive is JSON, one line each: a header, the leases, the records. An import is all or
//! nothing, goes only where nothing is stored, and does not count until a person starts a new
//! incarnation: agents may have seen more than the archive holds, and only a person knows that
//! none of them still acts on it. Nothing here prints; the command line does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sengu_core::kv::{
    KEY_BYTES_MAX, KeyValue, LEASES_MAX, LeaseId, Revision, STORE_BYTES_MAX, TTL_MAX, TTL_MIN,
    VALUE_BYTES_MAX,
};
use sengu_core::record::{
    BeatRecord, FinalRecord, HistoryRecord, InstanceRecord, MasterRecord, NodeRecord, Record,
    RequestRecord, ToldRecord,
};
use sengu_core::sync::SyncRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::file::{self, Image, OpenError};
use super::lock::Lock;

/// The first word of an archive.
const MARK: &str = "sengu store archive";
/// The archive format that this version writes.
const VERSION: u32 = 1;
/// Bytes of a line: a value of control characters only takes six for each.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// Problems that are listed, of more.
const PROBLEMS_MAX: usize = 100;

/// Why a store could not be exported, imported, verified or incarnated.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store itself.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An import goes only where nothing is stored.
    #[error("{folder} already holds {records} records; an import needs an empty data_dir")]
    NotEmpty {
        /// The data folder.
        folder: String,
        /// How many it holds.
        records: usize,
    },
    /// A line of the archive is not what should stand there. Nothing was imported.
    #[error("line {line}: {what}; nothing was imported")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The archive could not be written.
    #[error("cannot write the archive: {0}")]
    Write(std::io::Error),
}

/// What an export wrote, or an import read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The store's random id.
    pub store_id: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its revision.
    pub revision: Revision,
    /// How many records.
    pub records: usize,
    /// How many leases.
    pub leases: usize,
}

/// What a check of a store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it holds.
    pub summary: Summary,
    /// Imported, and not yet incarnated: no agent opens it.
    pub imported: bool,
    /// Bytes of all values.
    pub value_bytes: usize,
    /// Records by kind, the first part of their keys.
    pub kinds: BTreeMap<String, usize>,
    /// What is wrong, in words; the first hundred.
    pub problems: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    mark: String,
    version: u32,
    store: String,
    incarnation: u64,
    revision: Revision,
    leases: usize,
    records: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseLine {
    lease: LeaseId,
    ttl_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine {
    key: String,
    created: Revision,
    modified: Revision,
    version: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    lease: LeaseId,
    /// The value, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// The value, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

fn is_zero(lease: &LeaseId) -> bool {
    *lease == 0
}

/// Writes all that a store holds at one revision; an agent may run meanwhile.
///
/// # Errors
/// [`ArchiveError::Open`] if there is no good store; [`ArchiveError::Write`].
pub fn export(data_dir: &Path, mut writer: impl Write) -> Result<Summary, ArchiveError> {
    let (image, problems) = look(data_dir, "quick_check")?;
    if let Some(what) = problems.into_iter().next() {
        return Err(OpenError::Damaged { path: file::path(data_dir), what }.into());
    }
    let header = Header {
        mark: MARK.to_owned(),
        version: VERSION,
        store: image.store_id.clone(),
        incarnation: image.incarnation,
        revision: image.revision,
        leases: image.leases.len(),
        records: image.entries.len(),
    };
    write_line(&mut writer, &header)?;
    for (lease, ttl) in &image.leases {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        write_line(&mut writer, &LeaseLine { lease: *lease, ttl_ms })?;
    }
    for entry in &image.entries {
        write_line(&mut writer, &record_line(entry))?;
    }
    writer.flush().map_err(ArchiveError::Write)?;
    Ok(summary(&image))
}

/// Makes a store of an archive, where there is none or an empty one. It counts only after
/// [`incarnate`].
///
/// # Errors
/// [`ArchiveError`]; nothing was imported then.
pub fn import(data_dir: &Path, reader: impl BufRead) -> Result<Summary, ArchiveError> {
    let _lock = Lock::take(data_dir)?;
    let path = file::path(data_dir);
    let standing = standing(&path)?;
    if let Some(standing) = &standing
        && !standing.entries.is_empty()
    {
        let folder = data_dir.display().to_string();
        return Err(ArchiveError::NotEmpty { folder, records: standing.entries.len() });
    }
    let mut image = read_archive(reader)?;
    image.imported = true;
    if let Some(standing) = standing {
        image.incarnation = image.incarnation.max(standing.incarnation);
        // Else its log would be taken for the new file's.
        fold(&path)?;
    }
    file::create(&path, &image)?;
    Ok(summary(&image))
}

/// Checks a store without changing it; an agent may run meanwhile.
///
/// # Errors
/// [`ArchiveError::Open`] if it cannot be read at all; what is wrong with what can be read stands
/// in [`Verified::problems`].
pub fn verify(data_dir: &Path) -> Result<Verified, ArchiveError> {
    let (image, mut problems) = look(data_dir, "integrity_check")?;
    let mut kinds = BTreeMap::new();
    for entry in &image.entries {
        let kind = entry.key.split('/').next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_insert(0) += 1;
        if let Err(error) = decode(kind, &entry.value) {
            problems.push(format!("{}: {error}", entry.key));
        }
    }
    problems.truncate(PROBLEMS_MAX);
    Ok(Verified {
        summary: summary(&image),
        imported: image.imported,
        value_bytes: image.entries.iter().map(|entry| entry.value.len()).sum(),
        kinds,
        problems,
    })
}

/// Starts a new incarnation, above the store's own and above `seen`, the highest that any agent
/// has seen (0 if that is not known), and lets an imported store count. Returns it.
///
/// # Errors
/// [`ArchiveError::Open`] if an agent runs, or there is no good store.
pub fn incarnate(data_dir: &Path, seen: u64) -> Result<u64, ArchiveError> {
    if !data_dir.exists() {
        return Err(OpenError::Absent { folder: data_dir.to_owned() }.into());
    }
    let _lock = Lock::take(data_dir)?;
    let path = file::path(data_dir);
    let Some(image) = standing(&path)? else {
        return Err(OpenError::Absent { folder: data_dir.to_owned() }.into());
    };
    let next = image.incarnation.max(seen).saturating_add(1);
    let mut connection = file::open_to_write(&path)?;
    let mut write = || {
        let transaction = connection.transaction()?;
        file::put_meta(&transaction, "incarnation", next)?;
        file::put_meta(&transaction, "imported", 0)?;
        transaction.commit()
    };
    write().map_err(OpenError::io("write", &path))?;
    Ok(next)
}

/// Reads a store that an agent may be writing.
fn look(data_dir: &Path, check: &'static str) -> Result<(Image, Vec<String>), OpenError> {
    let path = file::path(data_dir);
    if !path.try_exists().map_err(OpenError::io("look for", &path))? {
        return Err(OpenError::Absent { folder: data_dir.to_owned() });
    }
    file::check_header(&path)?;
    let connection = file::open_to_read(&path, false)?;
    let problems = file::check(&connection, &path, check)?;
    Ok((file::read(&connection, &path)?, problems))
}

/// The store that is there, if one is; the caller holds the lock.
fn standing(path: &Path) -> Result<Option<Image>, OpenError> {
    if path.try_exists().map_err(OpenError::io("look for", path))? {
        return file::inspect(path).map(Some);
    }
    let log = file::beside(path, "-wal");
    if log.exists() {
        return Err(OpenError::lone_log(path, &log));
    }
    Ok(None)
}

/// Moves what the log holds into the file, and removes the log.
fn fold(path: &Path) -> Result<(), OpenError> {
    let connection = file::open_to_write(path)?;
    connection.close().map_err(|(_, error)| OpenError::io("close", path)(error))?;
    let log = file::beside(path, "-wal");
    if log.exists() {
        let error = "another program has the store open";
        return Err(OpenError::io("remove", &log)(error));
    }
    Ok(())
}

fn summary(image: &Image) -> Summary {
    Summary {
        store_id: image.store_id.clone(),
        incarnation: image.incarnation,
        revision: image.revision,
        records: image.entries.len(),
        leases: image.leases.len(),
    }
}

fn decode(kind: &str, value: &[u8]) -> Result<(), String> {
    match kind {
        "master" => MasterRecord::decode(value).map(|_| ()),
        "beats" => BeatRecord::decode(value).map(|_| ()),
        "instances" => InstanceRecord::decode(value).map(|_| ()),
        "finals" => FinalRecord::decode(value).map(|_| ()),
        "requests" => RequestRecord::decode(value).map(|_| ()),
        "told" => ToldRecord::decode(value).map(|_| ()),
        "sync" => SyncRecord::decode(value).map(|_| ()),
        "history" => HistoryRecord::decode(value).map(|_| ()),
        "nodes" => NodeRecord::decode(value).map(|_| ()),
        // Values of clients, and a record in front of them that is not JSON.
        "kv" => Ok(()),
        // Kinds of a newer version, or of Consul's dialect: JSON all the same.
        _ => serde_json::from_slice::<serde::de::IgnoredAny>(value)
            .map(|_| ())
            .map_err(|error| format!("not JSON: {error}")),
    }
}

fn write_line(writer: &mut impl Write, line: &impl Serialize) -> Result<(), ArchiveError> {
    let mut bytes = serde_json::to_vec(line).expect("lines hold only what JSON can say");
    bytes.push(b'\n');
    writer.write_all(&bytes).map_err(ArchiveError::Write)
}

fn record_line(entry: &KeyValue) -> RecordLine {
    let text = std::str::from_utf8(&entry.value).ok();
    RecordLine {
        key: entry.key.as_ref().to_owned(),
        created: entry.created,
        modified: entry.modified,
        version: entry.version,
        lease: entry.lease,
        value: text.map(str::to_owned),
        base64: text.is_none().then(|| STANDARD.encode(&entry.value)),
    }
}

/// The lines of an archive, counted.
struct Lines<R> {
    reader: R,
    line: u64,
}

impl<R: BufRead> Lines<R> {
    fn wrong(&self, what: impl ToString) -> ArchiveError {
        ArchiveError::Line { line: self.line, what: what.to_string() }
    }

    /// The next line, or nothing at the end.
    fn text(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.line += 1;
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        read.map_err(|error| self.wrong(format!("cannot be read: {error}")))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.pop() != Some(b'\n') {
            let what = "it is cut short, or longer than any line of an archive";
            return Err(self.wrong(what));
        }
        Ok(Some(bytes))
    }

    fn next<T: DeserializeOwned>(&mut self, wanted: &str) -> Result<T, ArchiveError> {
        let Some(bytes) = self.text()? else {
            return Err(self.wrong(format!("the archive ends where {wanted} should stand")));
        };
        serde_json::from_slice(&bytes).map_err(|error| self.wrong(format!("not {wanted}: {error}")))
    }
}

fn read_archive(reader: impl BufRead) -> Result<Image, ArchiveError> {
    let mut lines = Lines { reader, line: 0 };
    let header: Header = lines.next("the header of a store's archive")?;
    if header.mark != MARK {
        return Err(lines.wrong(format!("not an archive: it is marked {:?}", header.mark)));
    }
    if header.version > VERSION {
        return Err(lines.wrong(format!(
            "the archive has format {}, and this sengu knows up to {VERSION}: use the sengu that \
             wrote it",
            header.version
        )));
    }
    let id_good = header.store.len() == 32 && header.store.bytes().all(|b| b.is_ascii_hexdigit());
    if !id_good || header.incarnation == 0 {
        return Err(lines.wrong("the store's id or incarnation is no such thing"));
    }
    if i64::try_from(header.revision).is_err() || header.leases > LEASES_MAX {
        return Err(lines.wrong("the revision or the number of leases is out of range"));
    }
    let mut image = Image {
        store_id: header.store,
        incarnation: header.incarnation,
        imported: false,
        revision: header.revision,
        entries: Vec::new(),
        leases: Vec::new(),
    };
    let leases = read_leases(&mut lines, header.leases, &mut image)?;
    read_records(&mut lines, header.records, &leases, &mut image)?;
    if lines.text()?.is_some() {
        return Err(lines.wrong("there are more lines than the header counts"));
    }
    image.entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(image)
}

fn read_leases(
    lines: &mut Lines<impl BufRead>,
    count: usize,
    image: &mut Image,
) -> Result<BTreeSet<LeaseId>, ArchiveError> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let LeaseLine { lease, ttl_ms } = lines.next("a lease")?;
        let ttl = Duration::from_millis(ttl_ms);
        if lease == 0 || i64::try_from(lease).is_err() || !(TTL_MIN..=TTL_MAX).contains(&ttl) {
            return Err(lines.wrong(format!("lease {lease} of {ttl_ms} ms is out of range")));
        }
        if !ids.insert(lease) {
            return Err(lines.wrong(format!("lease {lease} stands here twice")));
        }
        image.leases.push((lease, ttl));
    }
    Ok(ids)
}

fn read_records(
    lines: &mut Lines<impl BufRead>,
    count: usize,
    leases: &BTreeSet<LeaseId>,
    image: &mut Image,
) -> Result<(), ArchiveError> {
    let mut keys = BTreeSet::new();
    let mut bytes = 0;
    for _ in 0..count {
        let entry = entry(lines.next("a record")?).map_err(|what| lines.wrong(what))?;
        if let Some(problem) = file::entry_problem(&entry, image.revision, leases) {
            return Err(lines.wrong(problem));
        }
        if !keys.insert(entry.key.clone()) {
            return Err(lines.wrong(format!("{} stands here twice", entry.key)));
        }
        bytes += entry.key.len() + entry.value.len();
        if bytes > STORE_BYTES_MAX {
            return Err(lines.wrong(format!("more than {STORE_BYTES_MAX} bytes fit in no store")));
        }
        image.entries.push(Arc::new(entry));
    }
    Ok(())
}

fn entry(line: RecordLine) -> Result<KeyValue, String> {
    let RecordLine { key, created, modified, version, lease, value, base64 } = line;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(format!("a key of {} bytes; 1 to {KEY_BYTES_MAX} are stored", key.len()));
    }
    let value: Vec<u8> = match (value, base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(code)) => STANDARD.decode(code).map_err(|e| format!("{key}: base64: {e}"))?,
        _ => return Err(format!("{key} needs either `value` or `base64`")),
    };
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("the value of {key} has {} bytes, too many", value.len()));
    }
    let value = value.into();
    Ok(KeyValue { key: key.into(), value, created, modified, version, lease })
}

#[cfg(test)]
mod tests;
