//! The private Debian trees with servers that this machine's Debian does not have.

use std::path::{Path, PathBuf};

/// The tree with one server: in the folder that this variable names, or where
/// `integration/servers` has installed it.
///
/// # Panics
/// If its program is not there: a missing server is a failure, not a reason to skip.
#[must_use]
pub fn find(variable: &str, name: &str, program: &str) -> PathBuf {
    let tree = std::env::var_os(variable).map_or_else(|| cached(name), PathBuf::from);
    assert!(
        tree.join(program).exists(),
        "{program} is missing in {}: run integration/servers, or set {variable}",
        tree.display()
    );
    tree
}

/// A path as a server in that tree sees it.
#[must_use]
pub fn inside(tree: &Path, path: &Path) -> PathBuf {
    Path::new("/").join(path.strip_prefix(tree).unwrap_or(path))
}

/// Where `integration/servers` puts it.
fn cached(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_default().join("sengu-servers").join(name)
}
