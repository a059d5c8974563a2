//! What a server starts with: its option files, its command line, and what it persisted.
//!
//! Read as MySQL 8 and MariaDB 10 read them: the files that this very process uses, in order,
//! with what they include, the sections of its flavour and version, files that everybody may
//! write left out; then the command line; then `mysqld-auto.cnf` (MySQL), which wins. All paths
//! are the server's own, seen below its root. Bounded in size, depth and number.
//!
//! It judges nothing, and it never writes.

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::server::Flavour;
use super::path::resolve;

/// Largest option file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Files read for one look, all included ones together.
const MAX_FILES: usize = 64;

/// Includes within includes, as the servers bound them.
const MAX_DEPTH: usize = 10;

/// Settings kept from all places together.
const MAX_SETTINGS: usize = 20_000;

/// How a server was started.
pub(super) struct Start<'a> {
    /// Where its file system is seen from here (`/proc/PID/root`).
    pub(super) root: &'a Path,
    /// Its arguments, its own name first.
    pub(super) arguments: &'a [String],
    /// Its environment, `NAME=value` each.
    pub(super) environment: &'a [String],
    /// MySQL or MariaDB.
    pub(super) flavour: Flavour,
    /// Major and minor version, for the sections named after them.
    pub(super) version: (u16, u16),
    /// Its data folder, as it names it.
    pub(super) data_folder: Option<&'a str>,
}

/// One setting, where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// With `_` for `-`, without `loose_`, `skip_`, `disable_` and `enable_`.
    pub(super) name: String,
    /// None: named without a value, which means on.
    pub(super) value: Option<String>,
    /// `line 3 of /etc/my.cnf`, `its command line`, `…/mysqld-auto.cnf`.
    pub(super) place: String,
    /// It was persisted at run time (MySQL) and is taken back with `RESET PERSIST`.
    pub(super) persisted: bool,
}

/// Everything that it starts with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    settings: Vec<Setting>,
    /// Why not everything is known, in words.
    pub(super) unclear: Vec<String>,
    /// The option file to mend: the one it was told to use, or the first that it reads.
    pub(super) file: Option<String>,
}

impl Setting {
    /// As a boolean, as the servers read one: what they do not know is off.
    pub(super) fn on(&self) -> bool {
        self.value.as_deref().is_none_or(|value| {
            ["1", "on", "true", "no_lock", "no_lock_no_admin"]
                .iter()
                .any(|word| value.eq_ignore_ascii_case(word))
        })
    }

    /// As somebody would write it.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Options {
    /// The setting that counts: the last of any of these names.
    pub(super) fn last(&self, names: &[&str]) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| names.contains(&setting.name.as_str()))
    }

    /// The last one of a place that is no option file's: what was persisted.
    pub(super) fn persisted(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| setting.persisted && setting.name == name)
    }

    fn put(&mut self, name: &str, value: Option<&str>, place: String, persisted: bool) {
        if self.settings.len() >= MAX_SETTINGS {
            self.doubt(format!("there are more than {MAX_SETTINGS} settings"));
            return;
        }
        let name = name.trim().replace('-', "_");
        let name = name.strip_prefix("loose_").unwrap_or(&name);
        let (name, value) =
            match ["skip_", "disable_"].iter().find_map(|prefix| name.strip_prefix(prefix)) {
                Some(rest) if value.is_none() => (rest, Some("0")),
                _ => (name.strip_prefix("enable_").unwrap_or(name), value),
            };
        self.settings.push(Setting {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            place,
            persisted,
        });
    }

    fn doubt(&mut self, why: String) {
        if self.unclear.len() < 8 && !self.unclear.contains(&why) {
            self.unclear.push(why);
        }
    }
}

/// Reads all of it. For a thread that may wait for a disk.
pub(super) fn read(start: &Start<'_>) -> Options {
    let mut reading =
        Reading { start, options: Options::default(), files: 0, sections: Vec::new() };
    let mut arguments: VecDeque<&str> =
        start.arguments.iter().skip(1).map(String::as_str).collect();
    let choice = reading.choose(&mut arguments);
    reading.sections = sections(start, choice.suffix.as_deref());
    for file in choice.files {
        reading.file(&file, 0);
    }
    reading.command_line(arguments);
    if start.flavour == Flavour::Mysql {
        reading.persisted();
    }
    reading.options
}

/// The sections that a server of this flavour and version reads.
fn sections(start: &Start<'_>, suffix: Option<&str>) -> Vec<String> {
    let (major, minor) = start.version;
    let mut names: Vec<String> = match start.flavour {
        Flavour::Mysql => {
            vec!["mysql_cluster".into(), "mysqld".into(), "server".into()]
        }
        Flavour::Mariadb => ["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"]
            .map(str::to_owned)
            .to_vec(),
    };
    names.push(format!("mysqld-{major}.{minor}"));
    if start.flavour == Flavour::Mariadb {
        names.push(format!("mariadb-{major}.{minor}"));
        names.push(format!("mariadbd-{major}.{minor}"));
    }
    if let Some(suffix) = suffix {
        let with: Vec<_> = names.iter().map(|name| format!("{name}{suffix}")).collect();
        names.extend(with);
    }
    names
}

struct Reading<'a> {
    start: &'a Start<'a>,
    options: Options,
    files: usize,
    sections: Vec<String>,
}

/// The files that it reads, those that need not be there included.
struct Choice {
    files: Vec<Wanted>,
    suffix: Option<String>,
}

struct Wanted {
    path: PathBuf,
    /// It would not have started without it.
    must: bool,
}

impl Reading<'_> {
    /// Takes the leading arguments that choose the files.
    fn choose(&mut self, arguments: &mut VecDeque<&str>) -> Choice {
        let (mut only, mut extra, mut none, mut suffix) = (None, None, false, None);
        while let Some(argument) = arguments.front() {
            if let Some(path) = argument.strip_prefix("--defaults-file=") {
                only = Some(path);
            } else if let Some(path) = argument.strip_prefix("--defaults-extra-file=") {
                extra = Some(path);
            } else if let Some(text) = argument.strip_prefix("--defaults-group-suffix=") {
                suffix = Some(text.to_owned());
            } else if *argument == "--no-defaults" {
                none = true;
            } else if *argument != "--no-login-paths" {
                break;
            }
            arguments.pop_front();
        }
        let variable = |names: &[&str]| {
            names.iter().find_map(|name| {
                let found = self.start.environment.iter();
                found.filter_map(|line| line.split_once('=')).find(|(key, _)| key == name)
            })
        };
        let text = |found: Option<(&str, &str)>| found.map(|(_, value)| value.to_owned());
        let suffix =
            suffix.or_else(|| text(variable(&["MARIADB_GROUP_SUFFIX", "MYSQL_GROUP_SUFFIX"])));
        let may = |path: String| Wanted { path: path.into(), must: false };
        let must = |path: &str| Wanted { path: path.into(), must: true };
        let files = match (only, none) {
            (_, true) => Vec::new(),
            (Some(only), false) => vec![must(only)],
            (None, false) => {
                let mut files = vec![may("/etc/my.cnf".into()), may("/etc/mysql/my.cnf".into())];
                let home = text(variable(&["MARIADB_HOME", "MYSQL_HOME"]));
                files.extend(home.map(|home| may(format!("{home}/my.cnf"))));
                files.extend(extra.map(must));
                files.extend(text(variable(&["HOME"])).map(|home| may(format!("{home}/.my.cnf"))));
                files
            }
        };
        self.options.file = only.map(str::to_owned);
        Choice { files, suffix }
    }

    /// One file, and what it includes.
    fn file(&mut self, wanted: &Wanted, depth: usize) {
        let path = &wanted.path;
        self.files += 1;
        if self.files > MAX_FILES {
            self.options.doubt(format!("more than {MAX_FILES} option files are read"));
            return;
        }
        if path.is_relative() {
            // It was taken from the folder that the server was started in, which nobody knows now.
            let why = format!("its option file is named without its folder ({})", path.display());
            self.options.doubt(why);
            return;
        }
        let text = match resolve(self.start.root, path).and_then(|at| text(&at)) {
            Ok(Some(text)) => text,
            Ok(None) => {
                let why = format!(
                    "everybody may write {}, so the server ignores it: take that right away",
                    path.display()
                );
                return self.options.doubt(why);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !wanted.must => return,
            Err(error) => {
                return self.options.doubt(format!("{} cannot be read ({error})", path.display()));
            }
        };
        if self.options.file.is_none() {
            self.options.file = Some(path.display().to_string());
        }
        let mut counts = false;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
            } else if let Some(directive) = line.strip_prefix('!') {
                self.include(directive, depth);
            } else if let Some(name) = line.strip_prefix('[') {
                let name = name.split(']').next().unwrap_or_default().trim();
                counts = self.sections.iter().any(|section| section == name);
            } else if counts {
                let place = format!("line {} of {}", index + 1, path.display());
                let line = without_comment(line);
                let (name, value) = match line.split_once('=') {
                    Some((name, value)) => (name, Some(unquoted(value.trim()))),
                    None => (line, None),
                };
                self.options.put(name, value.as_deref(), place, false);
            }
        }
    }

    fn include(&mut self, directive: &str, depth: usize) {
        if depth >= MAX_DEPTH {
            return;
        }
        let mut words = directive.splitn(2, char::is_whitespace);
        let (word, path) = (words.next(), words.next().map(str::trim).unwrap_or_default());
        match word {
            Some("include") => self.file(&Wanted { path: path.into(), must: true }, depth + 1),
            Some("includedir") => {
                let folder = Path::new(path);
                let found = resolve(self.start.root, folder).and_then(fs::read_dir);
                let entries = match found {
                    Ok(entries) => entries,
                    Err(error) => {
                        let why = format!("the folder {path} cannot be read ({error})");
                        return self.options.doubt(why);
                    }
                };
                let mut names: Vec<_> = entries
                    .filter_map(Result::ok)
                    .map(|entry| PathBuf::from(entry.file_name()))
                    .filter(|name| name.extension().is_some_and(|extension| extension == "cnf"))
                    .take(MAX_FILES + 1)
                    .collect();
                names.sort();
                for name in names {
                    self.file(&Wanted { path: folder.join(name), must: false }, depth + 1);
                }
            }
            _ => {}
        }
    }

    fn command_line(&mut self, mut arguments: VecDeque<&str>) {
        while let Some(argument) = arguments.pop_front() {
            let Some(argument) = argument.strip_prefix("--").filter(|rest| !rest.is_empty()) else {
                continue;
            };
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            if value.is_none() && arguments.front().is_some_and(|next| !next.starts_with('-')) {
                value = arguments.pop_front();
            }
            self.options.put(name, value, "its command line".to_owned(), false);
        }
    }

    /// What `SET PERSIST` left: JSON in the data folder, taken last of all.
    fn persisted(&mut self) {
        let off = self.options.last(&["persisted_globals_load"]).is_some_and(|set| !set.on());
        let Some(folder) = self.start.data_folder.filter(|_| !off) else { return };
        let path = Path::new(folder).join("mysqld-auto.cnf");
        let read = resolve(self.start.root, &path).and_then(|at| bytes(&at));
        let json = match read {
            Ok(bytes) => serde_json::from_slice::<serde_json::Value>(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                return self.options.doubt(format!("{} cannot be read ({error})", path.display()));
            }
        };
        match json {
            Ok(json) => self.values(&json, &path.display().to_string()),
            Err(_) => self.options.doubt(format!("{} is not what it was", path.display())),
        }
    }

    /// Both layouts have objects with a `Value`, below their names, at some depth.
    fn values(&mut self, json: &serde_json::Value, place: &str) {
        for (name, below) in json.as_object().into_iter().flatten() {
            match below.get("Value").and_then(serde_json::Value::as_str) {
                Some(value) => self.options.put(name, Some(value), place.to_owned(), true),
                None => self.values(below, place),
            }
        }
    }
}

/// A file's text; none if everybody may write it, which makes the servers ignore it.
fn text(path: &Path) -> std::io::Result<Option<String>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o002 != 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes(path)?).into_owned()))
}

fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    // Asked before it is opened: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}

/// Another file that the options name (`init_file`), below the server's root.
pub(super) fn other(root: &Path, path: &str) -> std::io::Result<String> {
    let at = resolve(root, Path::new(path))?;
    Ok(String::from_utf8_lossy(&bytes(&at)?).into_owned())
}

/// A `#` outside quotes ends a line.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in line.char_indices() {
        match (letter, quote) {
            ('#', None) => return line[..at].trim_end(),
            ('\'' | '"', None) if !escaped => quote = Some(letter),
            (letter, Some(open)) if letter == open && !escaped => quote = None,
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    line
}

fn unquoted(value: &str) -> String {
    let bare = ['\'', '"']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    bare.replace("\\s", " ").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests;
