//! What only a copy set apart holds, in a file for a person: `data_dir/quarantine/S.I.gtids`.
//!
//! The list can be long; `status` shows its beginning and the file has it whole. It goes when the
//! copy holds nothing of its own any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sengu_core::name::InstanceId;

use super::identity::replace;

/// Where an instance's list stands.
fn path(data_dir: &Path, id: &InstanceId) -> PathBuf {
    data_dir.join("quarantine").join(format!("{}.{}.gtids", id.service, id.instance))
}

/// Writes the list, or removes it.
///
/// # Errors
/// The file cannot be written or removed; names it.
pub(super) fn keep(data_dir: &Path, id: &InstanceId, strays: Option<&str>) -> io::Result<()> {
    let path = path(data_dir, id);
    let Some(strays) = strays else {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = format!(
        "# transactions that only {id} has, and its master has not\n{}\n",
        strays.replace(',', ",\n")
    );
    replace(&path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use sengu_core::name::{InstanceName, ServiceName};

    use super::*;

    #[test]
    fn a_list_is_whole_and_goes_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = InstanceId {
            service: ServiceName::new("shop").expect("good"),
            instance: InstanceName::new("db1").expect("good"),
        };
        keep(folder.path(), &id, None).expect("nothing to remove");
        keep(folder.path(), &id, Some("0-1-7,0-2-9")).expect("written");
        let text = fs::read_to_string(path(folder.path(), &id)).expect("there");
        assert!(text.ends_with("0-1-7,\n0-2-9\n") && text.contains("shop"), "{text}");
        keep(folder.path(), &id, None).expect("removed");
        assert!(!path(folder.path(), &id).exists());
    }
}
