//! Paths as another process sees them: below its root, symbolic links included.
//!
//! An absolute link inside a container or a chroot leads to a place inside of it; opened through
//! `/proc/PID/root` the kernel would take it from this process's own root. So links are followed
//! here, step by step, and `..` never leads above the root.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links followed for one path, as the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Where `path`, absolute as seen below `root`, stands as seen from here.
///
/// # Errors
/// More than 40 links, or one that cannot be read. A path that is not there is no error.
pub(super) fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    // What is still to be walked, the next step last.
    let mut steps: Vec<PathBuf> = reversed(path);
    let mut below = PathBuf::new();
    let mut links = 0;
    while let Some(step) = steps.pop() {
        match step.components().next() {
            Some(Component::Normal(name)) => {
                let at = root.join(&below).join(name);
                if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink()) {
                    below.push(name);
                    continue;
                }
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::other("too many symbolic links"));
                }
                let target = fs::read_link(&at)?;
                if target.is_absolute() {
                    below.clear();
                }
                steps.extend(reversed(&target));
            }
            Some(Component::ParentDir) => drop(below.pop()),
            Some(Component::RootDir | Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    Ok(root.join(below))
}

fn reversed(path: &Path) -> Vec<PathBuf> {
    let mut steps: Vec<_> = path.components().map(|part| PathBuf::from(part.as_os_str())).collect();
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_below_the_root() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("etc/mysql")).expect("made");
        fs::create_dir_all(root.join("opt/real")).expect("made");
        symlink("/opt/real", root.join("etc/alternatives")).expect("linked");
        symlink("/etc/alternatives/my.cnf", root.join("etc/mysql/my.cnf")).expect("linked");
        symlink("../../../../../opt", root.join("etc/up")).expect("linked");
        symlink("loop", root.join("etc/loop")).expect("linked");
        for (path, wanted) in [
            ("/etc/mysql/my.cnf", "opt/real/my.cnf"),
            ("/etc/up/real/x", "opt/real/x"),
            ("/etc/../../../etc/absent/x", "etc/absent/x"),
            ("/", ""),
        ] {
            let found = resolve(root, Path::new(path)).expect("resolved");
            assert_eq!(found, root.join(wanted), "{path}");
        }
        let error = resolve(root, Path::new("/etc/loop/x")).expect_err("a loop");
        assert!(error.to_string().contains("too many"), "{error}");
    }
}
