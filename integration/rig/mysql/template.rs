//! A data folder as it is after the first start, made once and copied for each server: the
//! servers' own initialisation takes seconds.
//!
//! It has the accounts and the table of the tests, and no binary log, so that all copies begin
//! with the same data and an empty history. It is kept below `target/`, under a name that changes
//! with the server's version and with what is put in.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::accounts;
use super::flavour::Flavour;

/// The folder to copy.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn folder(flavour: &Flavour) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let sql = accounts::sql(flavour);
    let mut hasher = DefaultHasher::new();
    (version(flavour), &sql).hash(&mut hasher);
    let name = format!("{}-{:016x}", flavour.name(), hasher.finish());
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/integration/templates");
    let folder = templates.join(name);
    if folder.exists() {
        return folder;
    }
    fs::create_dir_all(&templates).expect("a folder for templates can be made");
    let work = tempfile::Builder::new().prefix("sengu-template-").tempdir_in(flavour.parent());
    let work = work.expect("a folder for the template can be made");
    initialise(flavour, work.path(), &sql);
    // What is half copied has another name; a process that was quicker has made the same.
    let part = tempfile::tempdir_in(&templates).expect("a folder for the template can be made");
    let data = part.path().join("data");
    copy(&work.path().join("data"), &data).expect("the template can be copied");
    // Each server makes its own identity.
    let _ = fs::remove_file(data.join("auto.cnf"));
    if let Err(error) = fs::rename(&data, &folder) {
        assert!(folder.exists(), "{}: {error}", folder.display());
    }
    folder
}

/// Copies a folder with all that is in it.
///
/// # Errors
/// If it cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn version(flavour: &Flavour) -> String {
    run(&flavour.command(&["--version".into()]), &[])
}

fn initialise(flavour: &Flavour, work: &Path, sql: &str) {
    let (file, temporary) = (work.join("accounts.sql"), work.join("tmp"));
    fs::create_dir(&temporary).expect("a folder can be made");
    fs::write(&file, sql).expect("the statements can be written");
    let (data, file) = (flavour.inside(&work.join("data")), flavour.inside(&file));
    let (data, file) = (data.display(), file.display());
    // Servers that share one delete each other's temporary tables when they start.
    let temporary = flavour.inside(&temporary).display().to_string();
    let owner = if rustix::process::geteuid().is_root() { "--user=root" } else { "--verbose" };
    let words = match flavour {
        Flavour::MariaDb => [
            "mariadb-install-db",
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-log-file-size=8M",
            owner,
            &format!("--datadir={data}"),
            &format!("--extra-file={file}"),
        ]
        .map(str::to_owned)
        .to_vec(),
        Flavour::Mysql(_) => flavour.command(
            &[
                "--no-defaults",
                "--initialize-insecure",
                "--secure-file-priv=NULL",
                "--skip-log-bin",
                "--innodb-redo-log-capacity=32M",
                owner,
                &format!("--datadir={data}"),
                &format!("--init-file={file}"),
            ]
            .map(str::to_owned),
        ),
    };
    run(&words, &[("TMPDIR", &temporary)]);
}

fn run(words: &[String], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).envs(environment.iter().copied()).stdin(Stdio::null());
    let command = command.output();
    let output = command.unwrap_or_else(|error| {
        panic!("{} cannot be run ({error}): run integration/servers", words[0])
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} failed:\n{text}\n{errors}");
    text
}
