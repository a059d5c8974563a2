//! What a configuration is read from: the main file, the files beside it in `NAME.d`, and
//! variables of the environment; in this order, each over those before it.
//!
//! The main file `sengu.toml` has its folder `sengu.d`; the files `*.toml` in it are read in the
//! order of their names. A key that stands again replaces the one before, tables are joined, and
//! `[[template]]` and `[[hook]]` add to those before. Each part keeps its name, so that a mistake
//! is shown in the file, or the variable, that it stands in.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::file::MAX_BYTES;
use super::keys::{Key, SECTIONS, Section};
use super::machine::Machine;
use super::problem::ConfigError;
use super::suggest::nearest;

/// Files of a folder at most.
const FILES: usize = 64;

/// One part, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The file, or the variable.
    pub(super) name: String,
    /// Its TOML.
    pub(super) text: String,
    /// What is wrong with it as a whole, and the way out.
    pub(super) wrong: Option<(String, String)>,
}

impl Part {
    /// The text of a file.
    pub(super) fn of(name: String, text: String) -> Self {
        Self { name, text, wrong: None }
    }
}

/// The folder of a file: `sengu.d` of `sengu.toml`.
#[must_use]
pub fn folder(path: &Path) -> PathBuf {
    path.with_extension("d")
}

/// The files of a file's folder, in their order; none if there is no folder.
///
/// # Errors
/// The system's, with the path that it is about.
pub(super) fn beside(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = folder(path);
    let unreadable = |error| ConfigError::Unreadable { path: folder.clone(), error };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension() == Some(OsStr::new("toml")) && !hidden {
            files.push(path);
        }
    }
    if files.len() > FILES {
        let text = format!("it has {} files, more than {FILES}", files.len());
        return Err(unreadable(io::Error::other(text)));
    }
    files.sort();
    Ok(files)
}

/// The main file and those beside it.
///
/// # Errors
/// The first that cannot be read, or is too large together with the others.
pub(super) fn read(path: &Path) -> Result<Vec<Part>, ConfigError> {
    let mut parts = Vec::new();
    let mut size = 0;
    for file in std::iter::once(path.to_owned()).chain(beside(path)?) {
        let unreadable = |error| ConfigError::Unreadable { path: file.clone(), error };
        let bytes = std::fs::metadata(&file).map_err(unreadable)?.len();
        size += usize::try_from(bytes).unwrap_or(usize::MAX);
        if size > MAX_BYTES {
            let text = format!("with it the configuration has more than {MAX_BYTES} bytes");
            return Err(unreadable(io::Error::other(text)));
        }
        let text = std::fs::read_to_string(&file).map_err(unreadable)?;
        parts.push(Part::of(file.display().to_string(), text));
    }
    Ok(parts)
}

/// Keys that a variable may set: those of tables that stand once.
pub(super) fn settable() -> impl Iterator<Item = (String, &'static Section, &'static Key)> {
    let once = SECTIONS.iter().filter(|section| !section.repeats());
    once.flat_map(|section| {
        section.keys.iter().map(move |key| (variable(section.path, key.name), section, key))
    })
}

/// `store.lease` is `SENGU_STORE__LEASE`.
fn variable(path: &str, key: &str) -> String {
    let path = if path.is_empty() { String::new() } else { format!("{path}.") };
    format!("SENGU_{}", format!("{path}{key}").replace('.', "__").to_uppercase())
}

/// Is this key a list? Lists are not set by variables.
pub(super) fn is_list(key: &Key) -> bool {
    key.example.starts_with('[')
}

/// What the environment sets.
pub(super) fn environment(machine: &dyn Machine) -> Vec<Part> {
    let mut parts = Vec::new();
    for (name, section, key) in settable() {
        let Some(value) = machine.variable(&name) else { continue };
        let header =
            if section.path.is_empty() { String::new() } else { format!("[{}]\n", section.path) };
        let shown = format!("environment variable {name}");
        if is_list(key) {
            let message = format!("{name} cannot be set: `{}` is a list", key.name);
            let help = "set it in the file, or in one of the folder beside it".to_owned();
            parts.push(Part {
                name: shown,
                text: format!("# {name}"),
                wrong: Some((message, help)),
            });
            continue;
        }
        let text = format!("{header}{} = {}\n", key.name, literal(key, value.trim()));
        parts.push(Part::of(shown, text));
    }
    // Two underscores mean one of these; others belong to commands and hooks.
    let known: Vec<String> = settable().map(|(name, _, _)| name).collect();
    let lower: Vec<String> = known.iter().map(|name| name.to_lowercase()).collect();
    for name in machine.variables() {
        let ours = name.starts_with("SENGU_") && name.contains("__");
        if ours && !known.contains(&name) {
            let message = format!("{name} sets no key of the configuration");
            let help = nearest(&name, lower.iter().map(String::as_str)).map_or_else(
                || "see `sengu config`; names that begin so are kept for its keys".to_owned(),
                |known| format!("did you mean {}?", known.to_uppercase()),
            );
            let (shown, text) = (format!("environment variable {name}"), format!("# {name}"));
            parts.push(Part { name: shown, text, wrong: Some((message, help)) });
        }
    }
    parts
}

/// A value as TOML: as it is where the key wants a number or a truth and it is one.
fn literal(key: &Key, value: &str) -> String {
    let plain = !key.example.starts_with('"');
    let number = value.parse::<i64>().is_ok();
    if plain && (number || value == "true" || value == "false") {
        return value.to_owned();
    }
    toml::Value::String(value.to_owned()).to_string()
}
