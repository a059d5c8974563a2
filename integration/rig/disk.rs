//! Small file systems of their own, to be filled, broken, or made slow; they need root.
//!
//! A medium that hangs goes on when the test ends, however it ends: what keeps it frozen is a
//! program that waits for its input to close.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A mounted file system, unmounted when this is dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    image: Option<PathBuf>,
    trouble: Mutex<Option<Trouble>>,
}

/// What is wrong with a disk until it is mended.
#[derive(Debug)]
enum Trouble {
    Full(PathBuf),
    Slow(Freezer),
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
        Self { path: path.to_owned(), image: None, trouble: Mutex::default() }
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
        Self { path: path.to_owned(), image: Some(image), trouble: Mutex::default() }
    }

    /// Fills it to the last byte; gives back the file to remove for room.
    ///
    /// # Panics
    /// If not even a name can be written.
    pub fn fill(&self) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = File::create(&path).expect("there is room for a name");
        // Room is taken at once where that can be, and nothing of it is written.
        for power in (16..32).rev() {
            let length = file.metadata().map_or(0, |data| data.len());
            let words = ["-o", &length.to_string(), "-l", &(1_u64 << power).to_string()];
            // What there is no room for any more is refused.
            let _ = Command::new("fallocate").args(words).arg(&path).stderr(Stdio::null()).status();
        }
        let _ = file.seek(SeekFrom::End(0));
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
        path
    }

    /// Its medium hangs: whoever writes to it waits, and cannot be ended, until what this gives
    /// back is dropped.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn freeze(&self) -> Freezer {
        Freezer::start(&self.path, HANGS)
    }

    /// It is full until it is mended.
    ///
    /// # Panics
    /// If it cannot be filled.
    pub fn make_full(&self) {
        let full = Trouble::Full(self.fill());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(full);
    }

    /// Its medium hangs until it is mended.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn make_hang(&self) {
        let hanging = Trouble::Slow(self.freeze());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(hanging);
    }

    /// Its medium does something in a fifth of the time only, until it is mended.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn make_slow(&self) {
        let slow = Trouble::Slow(Freezer::start(&self.path, SLOW));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(slow);
    }

    /// Whatever was wrong with it is over.
    pub fn mend(&self) {
        match self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A server that was started with nothing may have taken it along.
            Some(Trouble::Full(filler)) => drop(fs::remove_file(filler)),
            Some(Trouble::Slow(freezer)) => drop(freezer),
            None => {}
        }
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

/// Keeps a file system frozen until its input closes.
const HANGS: &str = r#"fsfreeze --freeze "$1" && echo frozen; read _; fsfreeze --unfreeze "$1""#;
/// Freezes it again and again until then.
const SLOW: &str = r#"echo frozen; while fsfreeze --freeze "$1"; sleep 0.2; fsfreeze --unfreeze "$1"
    do read -t 0.05 _; [ $? -gt 128 ] || break; done"#;

/// A disk whose medium hangs, for as long as this lives.
#[derive(Debug)]
#[must_use = "it goes on when this is dropped"]
pub struct Freezer(Child);

impl Freezer {
    fn start(path: &Path, script: &str) -> Self {
        let child = Command::new("bash")
            .args(["-c", script, "freezer"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("bash can be run");
        let mut said = [0; 6];
        let told = child.stdout.take().map(|mut out| out.read_exact(&mut said));
        assert!(matches!(told, Some(Ok(()))), "{} is not frozen; it needs root", path.display());
        Self(child)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // A failed test is worse than a disk that stays as it is.
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) {
    let done = command.status();
    assert!(done.is_ok_and(|status| status.success()), "{command:?} failed; it needs root");
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.mend();
        // Nothing can be done about one that stays; it is in a folder of the test.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}
