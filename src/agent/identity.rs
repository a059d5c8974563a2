//! Who this agent is: a random id kept in `data_dir`, and a random id of this life of it.
//!
//! Two hosts that share a name (a cloned guest, a restored backup) differ by the first, two
//! processes of one host by the second.

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

/// The agent's id: read from `data_dir/agent-id`, or made there.
///
/// # Errors
/// The file cannot be read or made; the message names it.
pub fn agent_id(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join("agent-id");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => make(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
        Err(error) => Err(named(&path, &error)),
    }
}

fn make(path: &Path) -> io::Result<String> {
    let id = random()?;
    replace(path, format!("{id}\n").as_bytes())?;
    Ok(id)
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
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = agent_id(folder.path()).expect("made");
        assert_eq!(agent_id(folder.path()).expect("read"), first);
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
