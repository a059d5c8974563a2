//! The lock on a data folder: one agent at a time, whatever ends it.
//!
//! An advisory lock on the file `lock`, let go by the kernel when its holder ends, however it
//! ends. The file also names the holder's process, for the message only.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::file::OpenError;

/// How long a folder that is in use is waited for.
const PATIENCE: Duration = Duration::from_millis(300);

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the folder (0700) if there is none, and takes it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it; [`OpenError::Io`].
    pub(crate) fn take(data_dir: &Path) -> Result<Self, OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        made.map_err(OpenError::io("make the folder", data_dir))?;
        let path = data_dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::io("open", &path))?;
        // A program that the holder is just starting has its open files for a moment, too: what is
        // let go now may be held by it until it runs.
        let deadline = Instant::now() + PATIENCE;
        let mut tried = file.try_lock();
        while matches!(tried, Err(TryLockError::WouldBlock)) && Instant::now() < deadline {
            std::thread::sleep(PATIENCE / 20);
            tried = file.try_lock();
        }
        match tried {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let folder = data_dir.to_owned();
                return Err(OpenError::Locked { folder, holder: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", &path)(error)),
        }
        // For the message only, so a full disk does not matter.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
