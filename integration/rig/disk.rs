//! Small file systems of their own, to be filled or broken; they need root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system, unmounted when this is dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    /// One in memory, of a size as `mount` takes it.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn memory(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).expect("its folder can be made");
        let words = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
        run(Command::new("mount").args(words).arg(path));
        Self { path: path.to_owned(), image: None }
    }

    /// One in a file beside it, of so many MiB, that turns read-only at an error.
    ///
    /// # Panics
    /// If it cannot be made or mounted.
    #[must_use]
    pub fn fragile(path: &Path, megabytes: u64) -> Self {
        fs::create_dir_all(path).expect("its folder can be made");
        let image = path.with_extension("image");
        let file = File::create(&image).expect("the image can be made");
        file.set_len(megabytes << 20).expect("the image has room");
        run(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&image));
        let words = ["-o", "loop,errors=remount-ro"];
        run(Command::new("mount").args(words).arg(&image).arg(path));
        // A data folder has nothing but data.
        let _ = fs::remove_dir(path.join("lost+found"));
        Self { path: path.to_owned(), image: Some(image) }
    }

    /// Fills it to the last byte; gives back the file to remove for room.
    ///
    /// # Panics
    /// If not even a name can be written.
    pub fn fill(&self) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = File::create(&path).expect("there is room for a name");
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
        path
    }

    /// Its medium hangs: whoever writes to it waits, and cannot be ended, until what this gives
    /// back is dropped.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn freeze(&self) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.path));
        Frozen(self)
    }

    /// An error of its medium: it is read-only from here on. Only one that is fragile can.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn fail(&self) {
        let source = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.path).output();
        let source = source.expect("findmnt can be run").stdout;
        let device = String::from_utf8_lossy(&source).trim().to_owned();
        let device = device.rsplit('/').next().unwrap_or_default();
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(&trigger, "test").unwrap_or_else(|error| panic!("{trigger}: {error}"));
    }
}

/// A disk whose medium hangs, for as long as this lives.
#[derive(Debug)]
#[must_use = "it goes on when this is dropped"]
pub struct Frozen<'a>(&'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // A failed test is worse than a disk that stays as it is.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.path).status();
    }
}

fn run(command: &mut Command) {
    let done = command.status();
    assert!(done.is_ok_and(|status| status.success()), "{command:?} failed; it needs root");
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing can be done about one that stays; it is in a folder of the test.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}
