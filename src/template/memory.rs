//! What one template remembers over restarts.
//!
//! It answers three questions: did the command succeed for what is in the file; which masters
//! does the file name; did the catalog hold anything when it was written. Before a file is
//! swapped the command counts as owed, so that a crash in between runs it once too often rather
//! than never, and masters that come count as named, so that they can be taken out. A memory that
//! is lost or damaged costs one more run of the command, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::order::hash;
use super::scene::Masters;
use super::swap::{Destination, Manner};

/// The format that this version writes.
const FORMAT: u32 = 1;

/// What is remembered of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    format: u32,
    /// The file that it is about.
    destination: PathBuf,
    /// A hash of what the template printed last; `None`: nothing yet.
    pub(crate) printed: Option<u64>,
    /// For which of these the command succeeded.
    pub(crate) commanded: Option<u64>,
    /// The masters that the file names, or may name.
    #[serde(default)]
    pub(crate) masters: Masters,
    /// Hosts and services that the catalog held.
    #[serde(default)]
    pub(crate) entries: usize,
}

impl Memory {
    /// Where the memory of a destination stands.
    pub(crate) fn path(folder: &Path, destination: &Path) -> PathBuf {
        let id = hash(&[destination.as_os_str().as_encoded_bytes()]);
        folder.join("templates").join(format!("{id:016x}.json"))
    }

    /// Reads it; anything wrong with it is as if there were none.
    pub(crate) fn read(path: &Path, destination: &Path) -> Self {
        Destination::read(path)
            .ok()
            .and_then(|file| serde_json::from_slice(&file.bytes?).ok())
            .filter(|memory: &Self| memory.format == FORMAT && memory.destination == destination)
            .unwrap_or_else(|| Self {
                format: FORMAT,
                destination: destination.to_owned(),
                ..Self::default()
            })
    }

    /// Writes it, whole.
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let bytes = serde_json::to_vec(self).expect("plain data");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        }
        Destination::read(path)
            .and_then(|old| old.stage(&bytes, &Manner::default())?.swap())
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_nothing() {
        let folder = tempfile::tempdir().expect("temp");
        let destination = Path::new("/etc/hosts");
        let path = Memory::path(folder.path(), destination);
        let mut memory = Memory::read(&path, destination);
        assert_eq!((memory.printed, memory.commanded, memory.entries), (None, None, 0));
        memory.printed = Some(u64::MAX);
        memory.entries = 3;
        let address = "10.0.0.1:6379".parse().expect("address");
        memory.masters =
            [("foo".parse().expect("name"), ("db1".parse().expect("name"), address))].into();
        memory.write(&path).expect("write");
        assert_eq!(Memory::read(&path, destination), memory);
        assert_eq!(Memory::read(&path, Path::new("/etc/other")).printed, None);
        fs::write(&path, "{\"format\":1,").expect("damage");
        assert_eq!(Memory::read(&path, destination).printed, None);
        memory.write(&path).expect("write over damage");
        assert_eq!(Memory::read(&path, destination), memory);
    }
}
