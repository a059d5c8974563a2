//! One bounded file of lines, and the one before it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Deed, Line};

/// The longest line that is read, in bytes.
const LINE: usize = 16 << 10;
/// The longest text within a line, in characters.
const TEXT: usize = 1024;

/// How large a file becomes before it is put aside; two of them are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Lines of one file.
    pub lines: u64,
    /// Bytes of one file.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { lines: 20_000, bytes: 4 << 20 }
    }
}

/// A file that lines are added to.
#[derive(Debug)]
pub(super) struct Shelf {
    path: PathBuf,
    bounds: Bounds,
    file: File,
    lines: u64,
    bytes: u64,
    next: u64,
    lost: u64,
}

/// The file before this one.
fn before(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".1");
    path.with_file_name(name)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Shelf {
    /// Opens a file for adding, and makes its folder; numbers go on.
    pub(super) fn open(path: &Path, bounds: Bounds) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let kept = read(path)?;
        let mut file = append(path)?;
        let bytes = file.metadata()?.len();
        if bytes > 0 && !ends_well(path)? {
            // A crash cut the last line: what comes next begins a new one.
            file.write_all(b"\n")?;
        }
        let next = kept.last().map_or(1, |line| line.number + 1);
        let lines = count(path)?;
        Ok(Self { path: path.to_owned(), bounds, file, lines, bytes, next, lost: 0 })
    }

    /// Adds a line; what cannot be written is counted in the next that can.
    pub(super) fn write(&mut self, deed: Deed) {
        if (self.lines >= self.bounds.lines || self.bytes >= self.bounds.bytes)
            && let Err(error) = self.turn()
        {
            tracing::warn!(%error, file = %self.path.display(), "the audit's file cannot be turned");
        }
        let short = |text: String| -> String { text.chars().take(TEXT).collect() };
        let line = Line {
            number: self.next,
            at: deed.at,
            via: deed.via,
            who: deed.who,
            what: short(deed.what),
            good: deed.good,
            outcome: short(deed.outcome),
            ms: deed.ms,
            lost: self.lost,
        };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => {
                self.next += 1;
                self.lines += 1;
                self.bytes += text.len() as u64;
                self.lost = 0;
            }
            Err(error) => {
                self.lost += 1;
                if self.lost.is_power_of_two() {
                    let file = self.path.display();
                    tracing::warn!(%error, %file, lost = self.lost, "not written to the audit");
                }
            }
        }
    }

    /// This file becomes the one before, which goes.
    fn turn(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        fs::rename(&self.path, before(&self.path))?;
        self.file = append(&self.path)?;
        (self.lines, self.bytes) = (0, 0);
        Ok(())
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // Best effort: the lines are in the kernel's hands already.
        let _ = self.file.sync_data();
    }
}

fn text(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn count(path: &Path) -> io::Result<u64> {
    Ok(text(path)?.lines().count() as u64)
}

fn ends_well(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    // A line that a crash cut short is none.
    text.lines()
        .filter(|line| line.len() <= LINE)
        .filter_map(|line| serde_json::from_str(line).ok())
}

/// The lines of a file and of the one before it, oldest first.
pub(super) fn read(path: &Path) -> io::Result<Vec<Line>> {
    let mut all: Vec<Line> = lines(&text(&before(path))?).collect();
    all.extend(lines(&text(path)?));
    Ok(all)
}

/// Follows a file over its turns: each line once, as it is written.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    last: u64,
    seen: Option<(u64, u64)>,
}

impl Tail {
    /// From the end of what is there now.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let last = read(path)?.last().map_or(0, |line| line.number);
        Ok(Self { path: path.to_owned(), last, seen: None })
    }

    /// What came since, in order.
    ///
    /// # Errors
    /// The system's.
    pub fn news(&mut self) -> io::Result<Vec<Line>> {
        let data = match fs::metadata(&self.path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let now = (data.ino(), data.len());
        if self.seen == Some(now) {
            return Ok(Vec::new());
        }
        let all = read(&self.path)?;
        self.seen = Some(now);
        let later: Vec<Line> = all.into_iter().filter(|line| line.number > self.last).collect();
        self.last = later.last().map_or(self.last, |line| line.number);
        Ok(later)
    }
}
