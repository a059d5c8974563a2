//! Tells templates when their files change, by watching the folders that hold them.
//!
//! A file itself is never watched: editors and configuration tools put a new one in its place.
//! One watcher serves all templates. A change only wakes a template, which then reads and
//! compares; what a watcher misses is found by the template's own check each minute.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A file, and who is woken when it changes.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    folder: PathBuf,
    /// None: every file in the folder.
    name: Option<std::ffi::OsString>,
    wake: Arc<Notify>,
}

impl Watched {
    /// The file at a path, and the one that it links to if it is a link.
    pub(crate) fn both(path: &Path, wake: &Arc<Notify>) -> Vec<Self> {
        let mut paths = vec![path.to_owned()];
        paths.extend(std::fs::canonicalize(path).ok().filter(|real| real != path));
        paths.iter().filter_map(|path| Self::one(path, wake)).collect()
    }

    fn one(path: &Path, wake: &Arc<Notify>) -> Option<Self> {
        let folder = path.parent()?;
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let name = Some(path.file_name()?.to_owned());
        Some(Self { folder: folder.to_owned(), name, wake: Arc::clone(wake) })
    }

    /// Every file in a folder, and the folder itself, which may come later.
    pub(crate) fn folder(folder: &Path, wake: &Arc<Notify>) -> Vec<Self> {
        let all = Self { folder: folder.to_owned(), name: None, wake: Arc::clone(wake) };
        [all].into_iter().chain(Self::one(folder, wake)).collect()
    }

    fn concerns(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        path.parent() == Some(&self.folder)
            // `..data` and the like: a folder whose files are links swapped all at once.
            && (self.name.as_ref().is_none_or(|own| own == name)
                || name.as_encoded_bytes().starts_with(b".."))
    }
}

/// Watches the folders of all templates of an agent.
#[derive(Debug)]
pub(crate) struct FileBell {
    watcher: Mutex<Result<RecommendedWatcher, String>>,
    folders: Vec<PathBuf>,
    failed: Mutex<BTreeMap<PathBuf, String>>,
}

impl FileBell {
    /// Watches as much as can be watched.
    pub(crate) fn new(watched: Vec<Watched>) -> Self {
        let mut folders: Vec<PathBuf> = watched.iter().map(|one| one.folder.clone()).collect();
        folders.sort();
        folders.dedup();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            ring(&watched, event.as_ref().ok());
        });
        let watcher = Mutex::new(watcher.map_err(|error| error.to_string()));
        let bell = Self { watcher, folders, failed: Mutex::default() };
        bell.again();
        bell
    }

    /// Watches what is not watched, or no longer: a folder may have come, or been replaced.
    pub(crate) fn again(&self) {
        let mut watcher = self.watcher.lock().expect("nothing panics while it holds this");
        let failed = self.folders.iter().filter_map(|folder| {
            let done = match watcher.as_mut() {
                Ok(watcher) => watcher
                    .watch(folder, RecursiveMode::NonRecursive)
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.clone()),
            };
            Some((folder.clone(), done.err()?))
        });
        *self.failed.lock().expect("nothing panics while it holds this") = failed.collect();
    }

    /// What cannot be watched, in words; changes there are found within a minute.
    pub(crate) fn failure(&self, path: &Path) -> Option<String> {
        let failed = self.failed.lock().expect("nothing panics while it holds this");
        let (folder, error) = failed.iter().find(|(folder, _)| path.parent() == Some(folder))?;
        Some(format!(
            "cannot watch {} ({error}); changes there are found within a minute",
            folder.display()
        ))
    }
}

/// Wakes those whom an event concerns; everybody if it is not known whom.
fn ring(watched: &[Watched], event: Option<&Event>) {
    let all = event.is_none_or(Event::need_rescan);
    let read = event.is_some_and(|event| match event.kind {
        EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => false,
    });
    // Our own reading must not wake us again.
    if read && !all {
        return;
    }
    let paths = event.map_or(&[][..], |event| &event.paths);
    for one in watched {
        if all || paths.iter().any(|path| one.concerns(path)) {
            one.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn changes_wake_and_reads_and_neighbours_do_not() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("file");
        let wake = Arc::new(Notify::new());
        let bell = FileBell::new(Watched::both(&path, &wake));
        assert_eq!(bell.failure(&path), None);
        let woken = || timeout(Duration::from_secs(10), wake.notified());
        std::fs::write(&path, "new").expect("write");
        woken().await.expect("a new file");
        std::fs::write(folder.path().join("next"), "new").expect("write");
        std::fs::rename(folder.path().join("next"), &path).expect("rename");
        woken().await.expect("a replaced file");
        // Let what belongs to these changes come in.
        while timeout(Duration::from_millis(300), wake.notified()).await.is_ok() {}
        std::fs::read(&path).expect("read");
        std::fs::write(folder.path().join("other"), "new").expect("write");
        assert!(timeout(Duration::from_millis(300), wake.notified()).await.is_err());
        std::fs::remove_file(&path).expect("remove");
        woken().await.expect("a removed file");
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_watched_then() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("later/file");
        let wake = Arc::new(Notify::new());
        let bell = FileBell::new(Watched::both(&path, &wake));
        assert!(bell.failure(&path).expect("said").contains("later"));
        std::fs::create_dir(folder.path().join("later")).expect("folder");
        bell.again();
        assert_eq!(bell.failure(&path), None);
        std::fs::write(&path, "new").expect("write");
        timeout(Duration::from_secs(10), wake.notified()).await.expect("woken");
    }
}
