//! `sengu man`: manual pages, one for each command.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Exit, print};

/// Write the manual pages to a folder
///
/// For example `sengu man /usr/local/share/man/man1`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The folder
    folder: PathBuf,
}

pub(super) fn run(options: &Options) -> anyhow::Result<Exit> {
    write(&options.folder)
        .with_context(|| format!("cannot write manual pages to {}", options.folder.display()))?;
    print::note(&format!("manual pages are in {}", options.folder.display()));
    Ok(Exit::Done)
}

fn write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(super::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path()).expect("written");
        for page in ["sengu.1", "sengu-switchover.1", "sengu-kv-put.1"] {
            assert!(folder.path().join(page).is_file(), "{page} is missing");
        }
    }
}
