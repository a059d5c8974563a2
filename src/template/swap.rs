//! Puts new bytes in the place of a file: whole, or not at all.
//!
//! The bytes are written beside the destination under a fixed name, with the owner, mode and
//! labels of what they replace, and forced to disk; the rename is the only step that anybody
//! sees. Whatever fails before it leaves the old file as it was and nothing beside it. A file
//! that was changed since it was read is not replaced. Nothing here writes into a destination in
//! place: where that would be needed (a bind mount), the error says so.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sengu_core::time::Wall;

/// The largest file that is read or written, in bytes.
pub(crate) const FILE_LIMIT: u64 = 16 << 20;

/// Mode of a file that was not there before.
const NEW_MODE: u32 = 0o644;

/// Labels that go with a file: SELinux's, and its access list.
const LABELS: [&str; 2] = ["security.selinux", "system.posix_acl_access"];

/// Why a file was not replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwapError {
    /// A step failed.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
    /// The destination is a mount point.
    #[error(
        "{} is a mount point of its own, so it cannot be replaced whole: mount its folder \
         instead, or render to another file", .0.display()
    )]
    Mount(PathBuf),
    /// The destination is something else.
    #[error("{} is not a plain file", .0.display())]
    NotAFile(PathBuf),
    /// The destination is too large to be kept.
    #[error("{} is larger than {} MiB", .0.display(), FILE_LIMIT >> 20)]
    TooLarge(PathBuf),
    /// Somebody wrote to the destination meanwhile.
    #[error("{} was changed by somebody else meanwhile", .0.display())]
    Changed(PathBuf),
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SwapError {
    let path = path.to_owned();
    move |error| SwapError::Io { what, path, error }
}

/// A destination as it was read.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Where it really stands: links were followed.
    pub(crate) path: PathBuf,
    /// Its bytes; `None`: it is not there.
    pub(crate) bytes: Option<Vec<u8>>,
    /// When somebody last wrote to it.
    pub(crate) modified: Option<Wall>,
}

/// When somebody last wrote to a file.
pub(crate) fn modified(path: &Path) -> Option<Wall> {
    let found = fs::metadata(path).ok()?;
    Some(Wall(found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000)))
}

impl Destination {
    /// Reads it.
    pub(crate) fn read(path: &Path) -> Result<Self, SwapError> {
        let path = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(failed("follow the link", path)(error));
                }
                return Ok(Self { path: path.to_owned(), bytes: None, modified: None });
            }
            Err(error) => return Err(failed("find", path)(error)),
        };
        let bytes = bounded(&path)?;
        let modified = modified(&path);
        Ok(Self { path, bytes: Some(bytes), modified })
    }

    /// Writes new bytes beside it.
    pub(crate) fn stage(self, bytes: &[u8]) -> Result<Staged, SwapError> {
        let old = match &self.bytes {
            Some(_) => Some(fs::metadata(&self.path).map_err(failed("look at", &self.path))?),
            None => None,
        };
        let folder = folder_of(&self.path);
        let name = self.path.file_name().ok_or_else(|| SwapError::NotAFile(self.path.clone()))?;
        let temp = folder.join(format!(".{}.sengu-new", name.to_string_lossy()));
        // What a killed agent left; a fixed name leaves one at most.
        match fs::remove_file(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the leftover", &temp)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temp)
            .map_err(failed("create", &temp))?;
        // From here on dropping it removes the file.
        let staged = Staged { temp, destination: self };
        staged.fill(file, bytes, old.as_ref())?;
        Ok(staged)
    }
}

/// New bytes on disk beside their destination; removed when dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    temp: PathBuf,
    destination: Destination,
}

impl Staged {
    /// Where they stand.
    pub(crate) fn path(&self) -> &Path {
        &self.temp
    }

    fn fill(&self, mut file: File, bytes: &[u8], old: Option<&Metadata>) -> Result<(), SwapError> {
        file.write_all(bytes).map_err(failed("write", &self.temp))?;
        if let Some(old) = old {
            let new = file.metadata().map_err(failed("look at", &self.temp))?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))
                    .map_err(failed("keep the owner of the old file on", &self.temp))?;
            }
            self.keep_labels(&file);
        }
        let mode = old.map_or(NEW_MODE, |old| old.mode() & 0o7777);
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(failed("set the mode of", &self.temp))?;
        file.sync_all().map_err(failed("force to disk", &self.temp))
    }

    /// As far as this process may: where labels matter, the system gives new files theirs anyway.
    fn keep_labels(&self, file: &File) {
        let mut value = vec![0_u8; 64 << 10];
        for label in LABELS {
            let path = &self.destination.path;
            if let Ok(length) = rustix::fs::getxattr(path, label, value.as_mut_slice()) {
                let flags = rustix::fs::XattrFlags::empty();
                let _ = rustix::fs::fsetxattr(file, label, &value[..length], flags);
            }
        }
    }

    /// Puts them in the destination's place.
    pub(crate) fn swap(self) -> Result<(), SwapError> {
        let path = &self.destination.path;
        let now = match bounded(path) {
            Ok(bytes) => Some(bytes),
            Err(SwapError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if now != self.destination.bytes {
            return Err(SwapError::Changed(path.clone()));
        }
        fs::rename(&self.temp, path).map_err(|error| refusal(path, error))?;
        let folder = folder_of(path);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("force to disk the folder", folder))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a swap there is nothing left under this name.
        let _ = fs::remove_file(&self.temp);
    }
}

fn refusal(path: &Path, error: io::Error) -> SwapError {
    match Errno::from_io_error(&error) {
        Some(Errno::BUSY | Errno::XDEV) => SwapError::Mount(path.to_owned()),
        _ => failed("put the new file in place of", path)(error),
    }
}

/// A bare name stands in the working folder.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// A plain file's bytes, if they are few enough.
fn bounded(path: &Path) -> Result<Vec<u8>, SwapError> {
    // Looked at first: opening a named pipe waits for its writer.
    let found = fs::metadata(path).map_err(failed("look at", path))?;
    if !found.is_file() {
        return Err(SwapError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(failed("read", path))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(SwapError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
