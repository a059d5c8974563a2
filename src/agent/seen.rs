//! What an agent saw of its etcd, in a file over its restarts: `data_dir/etcd-seen`.
//!
//! An etcd that was restored from a copy would bring back terms that are over. Who runs knows
//! better by what it saw; who starts knows by this file, which is at most a few seconds behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::identity;
use crate::store::etcd::{EtcdStore, Seen};

/// Between two looks whether there is anything new to keep.
const PAUSE: Duration = Duration::from_secs(5);

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("etcd-seen")
}

/// What the last life of this agent saw.
///
/// # Errors
/// The file is there and cannot be read, with what to do.
pub(super) fn recalled(data_dir: &Path) -> io::Result<Option<Seen>> {
    let path = path(data_dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(identity::named(&path, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let path = path.display();
        io::Error::other(format!(
            "{path} is damaged ({error}); remove it if etcd was not restored from a copy"
        ))
    })
}

/// Keeps what is new, again and again; never ends. A file that cannot be written is told once.
pub(super) async fn keep(store: Arc<EtcdStore>, data_dir: PathBuf) {
    let (mut kept, mut told) = (None, false);
    loop {
        tokio::time::sleep(PAUSE).await;
        let seen = store.seen();
        if seen == kept {
            continue;
        }
        let Some(text) = seen.as_ref().and_then(|seen| serde_json::to_vec(seen).ok()) else {
            continue;
        };
        let path = path(&data_dir);
        let written = tokio::task::spawn_blocking(move || identity::replace(&path, &text)).await;
        match written {
            Ok(Ok(())) => (kept, told) = (seen, false),
            Ok(Err(error)) if !told => {
                tracing::warn!(%error, "what was seen of etcd is not kept for the next start");
                told = true;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_comes_back_and_damage_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(recalled(folder.path()).expect("none yet"), None);
        let text = br#"{"prefix":"/sengu","cluster":17283921738,"revision":42}"#;
        identity::replace(&path(folder.path()), text).expect("written");
        let seen = recalled(folder.path()).expect("read").expect("there");
        assert_eq!(serde_json::to_vec(&seen).expect("written"), text);
        fs::write(path(folder.path()), "4").expect("written");
        let error = recalled(folder.path()).expect_err("damaged").to_string();
        assert!(error.contains("etcd-seen is damaged"), "{error}");
    }
}
