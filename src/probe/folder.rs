//! Where checks come from: those shipped in the binary, and the operator's folder.
//!
//! A file of the same name replaces the shipped one. A bad file is a problem that names it, and
//! the others go on; a bad file in the place of a shipped check leaves that check out, since
//! what its owner wanted instead is not known. A folder that is not there is an empty one.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::definition::{Definition, parse};
use super::problem::Problem;
use crate::config::ChecksConfig;

/// The checks in the binary, by name.
const SHIPPED: &[(&str, &str)] = &[
    ("mysql-master", include_str!("../../checks/mysql-master.toml")),
    ("mysql-replica", include_str!("../../checks/mysql-replica.toml")),
    ("redis-master", include_str!("../../checks/redis-master.toml")),
    ("redis-replica", include_str!("../../checks/redis-replica.toml")),
];

/// Bytes of one file.
const MOST_BYTES: u64 = 64 * 1024;
/// Files of a folder.
const MOST_FILES: usize = 256;

/// What was found under a check's name.
struct Source {
    file: String,
    text: std::io::Result<String>,
    /// Of the very file that was read; none for a shipped one.
    metadata: Option<Metadata>,
}

/// Reads all checks: the shipped ones and those of the configured folder, sorted by name.
#[must_use]
pub fn load(config: &ChecksConfig) -> (Vec<Definition>, Vec<Problem>) {
    let mut sources: BTreeMap<String, Source> = SHIPPED
        .iter()
        .map(|(name, text)| {
            let file = format!("shipped {name}.toml");
            ((*name).to_owned(), Source { file, text: Ok((*text).to_owned()), metadata: None })
        })
        .collect();
    let mut problems = Vec::new();
    for path in files(&config.folder, &mut problems) {
        let file = path.display().to_string();
        match name_of(&path) {
            Some(name) => {
                let source = match read(&path) {
                    Ok((text, metadata)) => {
                        Source { file, text: Ok(text), metadata: Some(metadata) }
                    }
                    Err(error) => Source { file, text: Err(error), metadata: None },
                };
                sources.insert(name, source);
            }
            None => problems.push(Problem::whole(
                &file,
                "its name is no check name",
                Some("use 1 to 63 lower case letters, digits, `-` or `_` before `.toml`"),
            )),
        }
    }
    let mut definitions = Vec::new();
    for (name, Source { file, text, metadata }) in sources {
        let read = text
            .map_err(|error| vec![Problem::whole(&file, format!("cannot be read: {error}"), None)]);
        match read.and_then(|text| parse(&name, &file, &text)) {
            Ok(definition) => match forbidden(&definition, config, &file, metadata.as_ref()) {
                None => definitions.push(definition),
                Some(problem) => problems.push(problem),
            },
            Err(found) => problems.extend(found),
        }
    }
    (definitions, problems)
}

/// The folder's `.toml` files, sorted; dot files are somebody's editor's.
fn files(folder: &Path, problems: &mut Vec<Problem>) -> Vec<std::path::PathBuf> {
    let shown = folder.display().to_string();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(Problem::whole(&shown, format!("cannot be read: {error}"), None));
            return Vec::new();
        }
    };
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] != b'.'))
        .collect();
    files.sort();
    if files.len() > MOST_FILES {
        let message = format!("more than {MOST_FILES} check files; the last ones are left out");
        problems.push(Problem::whole(&shown, message, None));
        files.truncate(MOST_FILES);
    }
    files
}

fn name_of(path: &Path) -> Option<String> {
    let name = path.file_stem()?.to_str()?;
    let good = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    good.then(|| name.to_owned())
}

pub(super) fn read(path: &Path) -> std::io::Result<(String, Metadata)> {
    // Asked before it is opened: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = String::new();
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        let words = format!("it has more than {} KiB", MOST_BYTES / 1024);
        return Err(std::io::Error::other(words));
    }
    Ok((text, metadata))
}

/// Why this check may not run, if so. A script runs as the agent does, so its file and folder
/// must be as safe as the agent's own.
fn forbidden(
    definition: &Definition,
    config: &ChecksConfig,
    file: &str,
    metadata: Option<&Metadata>,
) -> Option<Problem> {
    if !definition.runs_script() {
        return None;
    }
    if !config.scripts {
        return Some(Problem::whole(
            file,
            "`script` probes are off",
            Some("set `scripts = true` under `[checks]` to allow programs in check files"),
        ));
    }
    let unsafe_place = |place: &str| {
        Problem::whole(
            place,
            "others can write it, and it holds `script` probes",
            Some("make it belong to the agent's user, and `chmod go-w` it"),
        )
    };
    let folder = fs::metadata(&config.folder);
    if metadata.is_some_and(others_write) {
        Some(unsafe_place(file))
    } else if folder.as_ref().map_or(true, others_write) {
        Some(unsafe_place(&config.folder.display().to_string()))
    } else {
        None
    }
}

pub(super) fn others_write(metadata: &Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    metadata.mode() & 0o022 != 0 || (metadata.uid() != own && metadata.uid() != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    const GOOD: &str = "about = \"good\"\n[[all]]\nprobe = \"process\"\n";
    const SCRIPT: &str =
        "about = \"a program\"\n[[all]]\nprobe = \"script\"\ncommand = [\"/bin/true\"]\n";

    struct Folder {
        dir: TempDir,
        config: ChecksConfig,
    }

    impl Folder {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let folder = dir.path().join("checks");
            fs::create_dir(&folder).expect("a folder");
            let mode = |mode| fs::Permissions::from_mode(mode);
            fs::set_permissions(&folder, mode(0o755)).expect("a mode");
            for (name, text) in files {
                fs::write(folder.join(name), text).expect("a file");
                fs::set_permissions(folder.join(name), mode(0o644)).expect("a mode");
            }
            let services = dir.path().join("services");
            let config = ChecksConfig { folder, scripts: false, http_scripts: false, services };
            Self { dir, config }
        }

        /// Names of the good checks, and what is said of the others.
        fn load(&self) -> (Vec<String>, Vec<String>) {
            let (definitions, problems) = load(&self.config);
            let folder = self.config.folder.display().to_string();
            let said = problems.iter().map(|problem| problem.to_string().replace(&folder, "F"));
            (definitions.into_iter().map(|definition| definition.name).collect(), said.collect())
        }
    }

    #[test]
    fn the_shipped_checks_are_good() {
        let missing = ChecksConfig {
            folder: "/nowhere/at/all".into(),
            scripts: false,
            http_scripts: false,
            services: "/nowhere/at/all".into(),
        };
        let (definitions, problems) = load(&missing);
        assert_eq!(problems, []);
        let names: Vec<&str> = definitions.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["mysql-master", "mysql-replica", "redis-master", "redis-replica"]);
        assert_eq!(definitions[0].about, "the instance is the one master of its service");
        assert_eq!(definitions[0].all.len(), 3);
    }

    #[test]
    fn a_file_adds_a_check_or_replaces_one_and_a_bad_one_stops_no_other() {
        let folder = Folder::new(&[
            ("redis-master.toml", GOOD),
            ("mine.toml", GOOD),
            ("bad.toml", "about = \"bad\"\n[[all]]\nprobe = \"proces\"\n"),
            ("Bad Name.toml", GOOD),
            (".hidden.toml", "nonsense"),
            ("README.md", "nonsense"),
        ]);
        let (names, said) = folder.load();
        assert_eq!(
            names,
            ["mine", "mysql-master", "mysql-replica", "redis-master", "redis-replica"]
        );
        assert_eq!(
            said,
            [
                "F/Bad Name.toml: its name is no check name; use 1 to 63 lower case letters, \
                 digits, `-` or `_` before `.toml`",
                "F/bad.toml:3:9: unknown probe \"proces\"; did you mean `process`?",
            ]
        );
        let (definitions, _) = load(&folder.config);
        assert_eq!(definitions[3].about, "good", "the operator's own");
    }

    #[test]
    fn a_bad_file_in_the_place_of_a_shipped_check_leaves_it_out() {
        let folder = Folder::new(&[("redis-master.toml", "about = \"x\"\n")]);
        let (names, said) = folder.load();
        assert_eq!(names, ["mysql-master", "mysql-replica", "redis-replica"]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("F/redis-master.toml:1:1: no probe"), "{said:?}");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let huge = "#".repeat(64 * 1024 + 1);
        let folder = Folder::new(&[("huge.toml", &huge)]);
        fs::create_dir(folder.config.folder.join("folder.toml")).expect("a folder");
        fs::write(folder.config.folder.join("bytes.toml"), [0xff, 0xfe]).expect("a file");
        let (_, said) = folder.load();
        assert_eq!(
            said,
            [
                "F/bytes.toml: cannot be read: stream did not contain valid UTF-8",
                "F/folder.toml: cannot be read: it is no file",
                "F/huge.toml: cannot be read: it has more than 64 KiB",
            ]
        );
        let file = folder.dir.path().join("file");
        fs::write(&file, "").expect("a file");
        let (_, problems) = load(&ChecksConfig { folder: file, ..folder.config.clone() });
        assert_eq!(problems.len(), 1, "{problems:?}");
    }

    #[test]
    fn scripts_run_only_if_allowed_and_only_from_safe_files() {
        let mut folder = Folder::new(&[("program.toml", SCRIPT)]);
        let off = "F/program.toml: `script` probes are off; set `scripts = true` under \
                   `[checks]` to allow programs in check files";
        assert_eq!(folder.load().1, [off]);
        folder.config.scripts = true;
        let names = ["mysql-master", "mysql-replica", "program", "redis-master", "redis-replica"];
        let names = names.map(str::to_owned).to_vec();
        assert_eq!(folder.load(), (names, Vec::new()));
        let file = folder.config.folder.join("program.toml");
        for (place, said) in [(&file, "F/program.toml"), (&folder.config.folder, "F")] {
            let before = fs::metadata(place).expect("there").permissions();
            fs::set_permissions(place, fs::Permissions::from_mode(0o777)).expect("a mode");
            let open = format!(
                "{said}: others can write it, and it holds `script` probes; make it belong to \
                 the agent's user, and `chmod go-w` it"
            );
            assert_eq!(folder.load().1, [open]);
            fs::set_permissions(place, before).expect("a mode");
        }
    }
}
