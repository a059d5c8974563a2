//! The embedded store's file: a SQLite database of three tables, how it is made, checked and read.
//!
//! A new file is made under another name and moved into place, so there is never half a store.
//! Before anything may write to a file it is read whole over a read-only connection: one of a
//! newer format, of another program, or damaged is refused, and stays byte for byte as it was.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use sengu_core::kv::{KeyValue, LeaseId, Revision};

/// The format that this version writes (`PRAGMA user_version`).
pub(super) const FORMAT: u32 = 1;
/// Marks the file as ours (`PRAGMA application_id`): "sngu".
const APPLICATION: u32 = 0x736e_6775;
/// Its name in the data folder.
const NAME: &str = "store.db";

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE records (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL,
        modified INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL) STRICT;";

/// Why a store could not be opened. Its file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the folder.
    #[error(
        "{} is in use by {}; one agent at a time can use a folder: stop that one, or set another \
         data_dir",
        folder.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
        /// Its process, if known.
        holder: Option<u32>,
    },
    /// A newer sengu wrote it.
    #[error(
        "{} has format {found}, and this sengu knows up to {FORMAT}: run the newer sengu that \
         wrote it; nothing was changed",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is no store of sengu.
    #[error(
        "{} was not written by sengu; move it away, or set another data_dir; nothing was changed",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Its content is not what sengu wrote.
    #[error(
        "{} is damaged ({what}); keep a copy of it, then move it and {NAME}-wal away and bring \
         back the last archive by `sengu store import`; nothing was changed",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// It was imported, and nobody has said yet that it counts.
    #[error(
        "{} was imported and does not count yet: if no agent uses an older copy of it any more, \
         run `sengu store incarnate`",
        path.display()
    )]
    Imported {
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("there is no store in {}", folder.display())]
    Absent {
        /// The data folder.
        folder: PathBuf,
    },
    /// The system or SQLite failed.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What was said.
        error: String,
    },
}

impl OpenError {
    /// Makes an [`OpenError::Io`] of any error.
    pub(super) fn io<E: std::fmt::Display>(what: &'static str, path: &Path) -> impl Fn(E) -> Self {
        move |error| Self::Io { what, path: path.to_owned(), error: error.to_string() }
    }

    /// A log whose file is gone: a new store would take it for its own, or wipe it.
    pub(super) fn lone_log(path: &Path, log: &Path) -> Self {
        damaged(path, format!("it is missing, but {} is there", log.display()))
    }

    /// Tells damage from other failures of SQLite.
    fn sqlite(what: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |error| match &error {
            rusqlite::Error::SqliteFailure(failure, _)
                if !matches!(
                    failure.code,
                    // Unknown: a table or a column is missing.
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
                ) =>
            {
                Self::io(what, path)(error)
            }
            // A column of the wrong type is damage too.
            _ => damaged(path, error),
        }
    }
}

fn damaged(path: &Path, what: impl ToString) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), what: what.to_string() }
}

/// All that a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Random, given once when the store was made.
    pub(super) store_id: String,
    /// Grows each time that a person lets a restored store count.
    pub(super) incarnation: u64,
    /// Imported, and not yet let count.
    pub(super) imported: bool,
    pub(super) revision: Revision,
    /// By key.
    pub(super) entries: Vec<Arc<KeyValue>>,
    /// Leases with their time to live.
    pub(super) leases: Vec<(LeaseId, Duration)>,
}

impl Image {
    /// An empty store's.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let store_id = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        Ok(Self {
            store_id,
            incarnation: 1,
            imported: false,
            revision: 0,
            entries: Vec::new(),
            leases: Vec::new(),
        })
    }
}

/// Where the file stands.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// A file beside it, as `store.db-wal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Writes a whole store and moves it into place; the caller holds the lock.
pub(super) fn create(path: &Path, image: &Image) -> Result<(), OpenError> {
    let new = beside(path, ".new");
    let made = write_whole(&new, image);
    let moved = made.and_then(|()| fs::rename(&new, path).map_err(OpenError::io("make", path)));
    if moved.is_err() {
        // What is left of it is made anew next time, so this may fail too.
        let _ = fs::remove_file(&new);
    }
    moved?;
    let folder = path.parent().expect("it stands in the data folder");
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(OpenError::io("sync", folder))
}

fn write_whole(new: &Path, image: &Image) -> Result<(), OpenError> {
    let emptied = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new);
    emptied.map_err(OpenError::io("make", new))?;
    let write = || {
        let mut connection = Connection::open_with_flags(new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "journal_mode", "MEMORY")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        put_meta(&transaction, "store", &image.store_id)?;
        put_meta(&transaction, "incarnation", image.incarnation)?;
        put_meta(&transaction, "imported", u8::from(image.imported))?;
        put_meta(&transaction, "revision", image.revision)?;
        for entry in &image.entries {
            put_record(&transaction, entry)?;
        }
        for (id, ttl) in &image.leases {
            put_lease(&transaction, *id, *ttl)?;
        }
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    };
    write().map_err(OpenError::io("write", new))
}

pub(super) fn put_meta(
    connection: &Connection,
    name: &str,
    value: impl ToString,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value.to_string()])
        .map(|_| ())
}

pub(super) fn put_record(connection: &Connection, entry: &KeyValue) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO records (key, value, created, modified, version, lease)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (key) DO UPDATE SET value = ?2, created = ?3, modified = ?4,
                 version = ?5, lease = ?6",
        )?
        .execute(params![
            &*entry.key,
            &*entry.value,
            integer(entry.created),
            integer(entry.modified),
            integer(entry.version),
            integer(entry.lease),
        ])
        .map(|_| ())
}

pub(super) fn delete_record(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM records WHERE key = ?1")?.execute([key]).map(|_| ())
}

pub(super) fn put_lease(
    connection: &Connection,
    id: LeaseId,
    ttl: Duration,
) -> rusqlite::Result<()> {
    let ttl = i64::try_from(ttl.as_millis()).expect("leases end within a week");
    connection
        .prepare_cached("INSERT OR REPLACE INTO leases (id, ttl_ms) VALUES (?1, ?2)")?
        .execute([integer(id), ttl])
        .map(|_| ())
}

pub(super) fn delete_lease(connection: &Connection, id: LeaseId) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM leases WHERE id = ?1")?;
    statement.execute([integer(id)]).map(|_| ())
}

/// SQLite's integers are signed; everything that is counted or drawn here fits.
fn integer(number: u64) -> i64 {
    i64::try_from(number).expect("counters grow by one and start below; lease ids have 63 bits")
}

/// Opens for writing a file that was inspected before.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // The writer does it itself, because SQLite would keep quiet about a failed sync.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    };
    open().map_err(OpenError::sqlite("open", path))
}

/// Checks and reads a file that nobody else uses, without changing a byte of it or of its log.
pub(super) fn inspect(path: &Path) -> Result<Image, OpenError> {
    check_header(path)?;
    let log = beside(path, "-wal");
    let lone = fs::metadata(&log).map_or(true, |found| found.len() == 0);
    // Even a reader makes the files beside it, unless told that nobody writes; which is true,
    // but would also hide what a crash left in the log.
    let connection = open_to_read(path, lone)?;
    match check(&connection, path, "quick_check")?.first() {
        Some(problem) => Err(damaged(path, problem)),
        None => read(&connection, path),
    }
}

/// A connection that cannot write. `lone`: nobody writes, and no log is beside it.
pub(super) fn open_to_read(path: &Path, lone: bool) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let bytes = path.as_os_str().as_bytes();
    let escaped = percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC);
    let name = format!("file:{}?immutable={}", escaped, u8::from(lone));
    let open = || {
        let connection = Connection::open_with_flags(&name, flags)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        Ok(connection)
    };
    open().map_err(OpenError::sqlite("read", path))
}

/// Is it ours, and old enough? By its first bytes, before SQLite sees it.
pub(super) fn check_header(path: &Path) -> Result<(), OpenError> {
    let mut header = [0; 100];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, "it is cut short"));
        }
        Err(error) => return Err(OpenError::io("read", path)(error)),
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(damaged(path, "it does not start as a SQLite file"));
    }
    // Offsets of SQLite's file format, section 1.3.
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if number(68) != APPLICATION {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    check_format(path, number(60))
}

fn check_format(path: &Path, found: u32) -> Result<(), OpenError> {
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found });
    }
    Ok(())
}

/// SQLite's own check: `quick_check` or `integrity_check`; what it found, at most 20 lines.
pub(super) fn check(
    connection: &Connection,
    path: &Path,
    pragma: &'static str,
) -> Result<Vec<String>, OpenError> {
    let failed = OpenError::sqlite("check", path);
    let found: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
    check_format(path, found)?;
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}(20)")).map_err(&failed)?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0)).map_err(&failed)?;
    let lines: Vec<_> = lines.collect::<Result<_, _>>().map_err(&failed)?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Everything, as one picture.
pub(super) fn read(connection: &Connection, path: &Path) -> Result<Image, OpenError> {
    let failed = OpenError::sqlite("read", path);
    connection.execute_batch("BEGIN").map_err(&failed)?;
    let image = Image {
        store_id: meta(connection, path, "store")?,
        incarnation: meta(connection, path, "incarnation")?,
        imported: meta::<u8>(connection, path, "imported")? != 0,
        revision: meta(connection, path, "revision")?,
        entries: read_records(connection).map_err(&failed)?,
        leases: read_leases(connection).map_err(&failed)?,
    };
    connection.execute_batch("COMMIT").map_err(&failed)?;
    match problem(&image) {
        Some(problem) => Err(damaged(path, problem)),
        None => Ok(image),
    }
}

/// The first thing that no store of ours would hold.
fn problem(image: &Image) -> Option<String> {
    if i64::try_from(image.revision).is_err() {
        return Some(format!("revision {} is out of range", image.revision));
    }
    let leases = image.leases.iter().map(|(id, _)| *id).collect();
    image.entries.iter().find_map(|entry| entry_problem(entry, image.revision, &leases))
}

/// What no record of ours would say.
pub(super) fn entry_problem(
    entry: &KeyValue,
    revision: Revision,
    leases: &BTreeSet<LeaseId>,
) -> Option<String> {
    let KeyValue { key, created, modified, version, lease, .. } = entry;
    let possible = (1..=*modified).contains(created)
        && *modified <= revision
        && (1..=*modified).contains(version);
    if !possible {
        return Some(format!(
            "{key} was made at revision {created}, changed at {modified}, {version} times, in a \
             store at revision {revision}"
        ));
    }
    let known = *lease == 0 || leases.contains(lease);
    (!known).then(|| format!("{key} hangs on lease {lease}, which is not there"))
}

fn meta<T: std::str::FromStr>(
    connection: &Connection,
    path: &Path,
    name: &str,
) -> Result<T, OpenError> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(OpenError::sqlite("read", path))?;
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| damaged(path, format!("its {name} is missing or no such thing")))
}

fn read_records(connection: &Connection) -> rusqlite::Result<Vec<Arc<KeyValue>>> {
    let mut statement = connection.prepare(
        "SELECT key, value, created, modified, version, lease FROM records ORDER BY key",
    )?;
    let records = statement.query_map([], |row| {
        Ok(Arc::new(KeyValue {
            key: row.get::<_, String>(0)?.into(),
            value: row.get::<_, Vec<u8>>(1)?.into(),
            created: natural(row, 2)?,
            modified: natural(row, 3)?,
            version: natural(row, 4)?,
            lease: natural(row, 5)?,
        }))
    })?;
    records.collect()
}

fn read_leases(connection: &Connection) -> rusqlite::Result<Vec<(LeaseId, Duration)>> {
    let mut statement = connection.prepare("SELECT id, ttl_ms FROM leases ORDER BY id")?;
    let leases = statement
        .query_map([], |row| Ok((natural(row, 0)?, Duration::from_millis(natural(row, 1)?))))?;
    leases.collect()
}

fn natural(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(at)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, number))
}
