//! What an agent keeps of itself: the id of this life of it, and which services it held.
//!
//! The agent's own id is its store's; two processes on one store differ by the id of their life.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use sengu_core::name::ServiceName;

/// 128 random bits as hex.
///
/// # Errors
/// The system has no randomness to give.
pub fn random() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The services held when the agent last ran.
///
/// # Errors
/// The file is there and cannot be read.
pub fn remembered(data_dir: &Path) -> io::Result<BTreeSet<ServiceName>> {
    let path = data_dir.join("held-services");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| ServiceName::new(line).ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(named(&path, &error)),
    }
}

/// Keeps them.
///
/// # Errors
/// The file cannot be written.
pub fn remember(data_dir: &Path, services: &BTreeSet<ServiceName>) -> io::Result<()> {
    let text: String = services.iter().map(|service| format!("{service}\n")).collect();
    replace(&data_dir.join("held-services"), text.as_bytes())
}

/// Replaces a small file whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        // The name too must outlive a power cut: another id would be another agent.
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(|error| named(path, &error))
}

/// The same error with the file's name.
pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lives_are_alike() {
        let (first, second) = (random().expect("made"), random().expect("made"));
        assert_ne!(first, second);
        assert_eq!(first.len(), 32);
    }

    #[test]
    fn held_services_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(remembered(folder.path()).expect("none yet").is_empty());
        let held = BTreeSet::from([ServiceName::new("foo").expect("good")]);
        remember(folder.path(), &held).expect("written");
        assert_eq!(remembered(folder.path()).expect("read"), held);
    }
}
