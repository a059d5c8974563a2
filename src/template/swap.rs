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

use crate::hook::account::Account;

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
         instead, or set `in_place = true` to have it written over", .0.display()
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

/// How a file is put in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Its user and group; none: the old file's.
    pub(crate) owner: Option<Account>,
    /// Its mode; none: the old file's.
    pub(crate) mode: Option<u32>,
    /// Is the file that it replaces kept as `NAME.bak`?
    pub(crate) backup: bool,
    /// Written into the file itself, with a copy at this path meanwhile.
    pub(crate) in_place: Option<PathBuf>,
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
    pub(crate) fn stage(self, bytes: &[u8], manner: &Manner) -> Result<Staged, SwapError> {
        let old = match &self.bytes {
            Some(_) => Some(fs::metadata(&self.path).map_err(failed("look at", &self.path))?),
            None => None,
        };
        let temp = match &manner.in_place {
            Some(copy) => {
                let folder = folder_of(copy);
                fs::create_dir_all(folder).map_err(failed("create", folder))?;
                copy.with_extension("new")
            }
            None => beside(&self.path, ".", ".sengu-new")?,
        };
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
        let staged = Staged { temp, destination: self, manner: manner.clone() };
        staged.fill(file, bytes, old.as_ref())?;
        Ok(staged)
    }
}

/// New bytes on disk beside their destination; removed when dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    temp: PathBuf,
    destination: Destination,
    manner: Manner,
}

impl Staged {
    /// Where they stand.
    pub(crate) fn path(&self) -> &Path {
        &self.temp
    }

    fn fill(&self, mut file: File, bytes: &[u8], old: Option<&Metadata>) -> Result<(), SwapError> {
        file.write_all(bytes).map_err(failed("write", &self.temp))?;
        let new = file.metadata().map_err(failed("look at", &self.temp))?;
        let told = self.manner.owner;
        let user = told.map(|owner| owner.user).or_else(|| old.map(Metadata::uid));
        let group = told.and_then(|owner| owner.group).or_else(|| old.map(Metadata::gid));
        let user = user.filter(|user| *user != new.uid());
        let group = group.filter(|group| *group != new.gid());
        if user.is_some() || group.is_some() {
            fchown(&file, user, group).map_err(failed("set the owner of", &self.temp))?;
        }
        if old.is_some() {
            self.keep_labels(&file);
        }
        let kept = old.map_or(NEW_MODE, |old| old.mode() & 0o7777);
        let mode = self.manner.mode.unwrap_or(kept);
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

    /// Keeps the file that is about to go as `NAME.bak`, whole, with its owner and mode.
    fn back_up(&self) -> Result<(), SwapError> {
        let path = &self.destination.path;
        let (kept, temp) = (beside(path, "", ".bak")?, beside(path, ".", ".sengu-bak")?);
        let old = fs::metadata(path).map_err(failed("look at", path))?;
        fs::copy(path, &temp).map_err(failed("copy to", &temp))?;
        let _ = std::os::unix::fs::chown(&temp, Some(old.uid()), Some(old.gid()));
        fs::rename(&temp, &kept).map_err(failed("keep the old file as", &kept))
    }

    /// A file that was written over keeps its owner and mode, unless others are configured.
    fn set_rights(&self, path: &Path) -> Result<(), SwapError> {
        if let Some(owner) = self.manner.owner {
            std::os::unix::fs::chown(path, Some(owner.user), owner.group)
                .map_err(failed("set the owner of", path))?;
        }
        if let Some(mode) = self.manner.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(failed("set the mode of", path))?;
        }
        Ok(())
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
        if self.manner.backup && now.is_some() {
            self.back_up()?;
        }
        if let Some(copy) = &self.manner.in_place {
            fs::rename(&self.temp, copy).map_err(failed("put aside", copy))?;
            write_over(copy, path)?;
            self.set_rights(path)?;
            return fs::remove_file(copy).map_err(failed("remove", copy));
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

/// Completes what an agent that was killed had begun to write into a file in place.
pub(crate) fn complete(copy: &Path, path: &Path) -> Result<bool, SwapError> {
    if !copy.exists() {
        return Ok(false);
    }
    write_over(copy, path)?;
    fs::remove_file(copy).map_err(failed("remove", copy))?;
    Ok(true)
}

/// Writes a file's bytes into another, never leaving it empty on the way.
fn write_over(copy: &Path, path: &Path) -> Result<(), SwapError> {
    let bytes = bounded(copy)?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(NEW_MODE)
        .open(path)
        .map_err(failed("write over", path))?;
    file.write_all(&bytes).map_err(failed("write over", path))?;
    file.set_len(bytes.len() as u64).map_err(failed("cut", path))?;
    file.sync_all().map_err(failed("force to disk", path))
}

/// A name beside a file.
fn beside(path: &Path, before: &str, after: &str) -> Result<PathBuf, SwapError> {
    let name = path.file_name().ok_or_else(|| SwapError::NotAFile(path.to_owned()))?;
    Ok(folder_of(path).join(format!("{before}{}{after}", name.to_string_lossy())))
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
