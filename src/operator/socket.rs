//! The unix socket's file: made for root alone, and taken over only from an agent that is gone.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Why the socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// An agent runs already.
    #[error("another agent answers on {0}: stop it first, or set another socket for this one")]
    Taken(PathBuf),
    /// Something else stands there.
    #[error("{0} is no socket: remove it, or set another socket")]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("the operator's socket {path} cannot be made: {error}")]
    System {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Listens at a path, with mode 0600; also tells the file's inode.
pub(super) async fn bind(path: &Path) -> Result<(UnixListener, u64), SocketError> {
    let system = |error| SocketError::System { path: path.to_owned(), error };
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(system)?;
    }
    clear(path).await?;
    let listener = UnixListener::bind(path).map_err(system)?;
    // Until this is done others may connect, and are refused by their user id.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(system)?;
    let inode = std::fs::symlink_metadata(path).map_err(system)?.ino();
    Ok((listener, inode))
}

/// Removes a socket that nobody answers on. Anything but a plain refusal counts as an answer.
async fn clear(path: &Path) -> Result<(), SocketError> {
    let system = |error| SocketError::System { path: path.to_owned(), error };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(system)
        }
        Ok(_) => Err(SocketError::Taken(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(system(error)),
        Err(_) => Err(SocketError::Taken(path.to_owned())),
    }
}

/// Removes the socket, unless another agent has put its own there.
pub(super) fn remove(path: &Path, inode: u64) {
    let own = std::fs::symlink_metadata(path).is_ok_and(|found| found.ino() == inode);
    if own && let Err(error) = std::fs::remove_file(path) {
        tracing::warn!("the operator's socket {} was left behind: {error}", path.display());
    }
}
