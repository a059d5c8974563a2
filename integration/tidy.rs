//! The house rules as tests: what every file of this repository looks like.
//!
//! Each test lists all that is not so, with file and line. Files over 400 lines are told, files
//! over 800 fail. Only files that git knows, or would add, are looked at.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file: told from here on, refused beyond.
const LONG: usize = 400;
const TOO_LONG: usize = 800;
/// Lines of a function.
const FUNCTION: usize = 70;
/// Columns of a line.
const WIDTH: usize = 100;

/// A file of this repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder").to_owned()
}

fn sources() -> Vec<Source> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let listed = match listed {
        Ok(listed) if listed.status.success() => {
            String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
        }
        // An archive without git.
        _ => walk(&root()),
    };
    let read = |path: String| {
        // What is deleted and not committed, and what is no text, is not looked at.
        let text = fs::read_to_string(root().join(&path)).ok()?;
        Some(Source { path, text })
    };
    let sources: Vec<Source> = listed.into_iter().filter_map(read).collect();
    assert!(sources.iter().any(|source| source.path == "Cargo.toml"), "no files were found");
    sources
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || name == ".git" {
            continue;
        }
        if path.is_dir() {
            found.extend(walk(&path));
        } else if let Ok(path) = path.strip_prefix(root()) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Fails with everything that was found.
#[track_caller]
fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// This file names what it forbids.
fn is_here(source: &Source) -> bool {
    source.path == "integration/tidy.rs"
}

#[test]
fn every_source_file_says_what_it_is() {
    let found: Vec<_> = sources()
        .iter()
        .filter(|source| source.is_rust() && !source.text.starts_with("//! "))
        .map(|source| source.path.clone())
        .collect();
    none("these do not begin with a `//!` header", &found);
}

#[test]
fn no_source_file_is_too_long() {
    let mut told = String::new();
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        if lines > TOO_LONG {
            found.push(format!("{}: {lines} lines", source.path));
        } else if lines > LONG {
            let _ = writeln!(told, "  {}: {lines} lines", source.path);
        }
    }
    // Shown with `--nocapture`.
    if let Err(error) = fs::write(root().join("target/long-files"), told) {
        panic!("the list of long files cannot be written: {error}");
    }
    none(&format!("these have more than {TOO_LONG} lines"), &found);
}

#[test]
fn no_function_is_too_long() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let mut begun: Option<(usize, String, usize)> = None;
        for (number, line) in source.lines() {
            let indent = line.len() - line.trim_start().len();
            match &begun {
                Some((_, _, depth)) if *depth == indent && line.trim_start().starts_with('}') => {
                    let (start, name, _) = begun.take().expect("it was just seen");
                    let lines = number - start + 1;
                    if lines > FUNCTION {
                        found.push(format!("{}:{start}: `{name}` has {lines}", source.path));
                    }
                }
                Some(_) => {}
                None => {
                    // A body on one line, and a declaration, end where they begin.
                    let whole = line.ends_with('}') || line.ends_with(';');
                    if let Some(name) = function(line).filter(|_| !whole) {
                        begun = Some((number, name, indent));
                    }
                }
            }
        }
    }
    none(&format!("these functions have more than {FUNCTION} lines"), &found);
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<String> {
    let line = line.trim_start();
    let mut rest = line;
    for word in
        ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe ", "extern \"C\" "]
    {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '#').next()?.to_owned())
}

#[test]
fn nothing_is_left_half_done() {
    let words = ["todo!", "unimplemented!", "dbg!", "FIXME", "XXX", "TO BE CONNECTED"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust() && !is_here(source)) {
        for (number, line) in source.lines() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    none("these are left half done", &found);
}

#[test]
fn no_line_is_too_wide() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        for (number, line) in source.lines() {
            let fixed = line.contains('"') || line.contains("://") || line.contains("r#");
            if line.chars().count() > WIDTH && !fixed {
                found.push(format!("{}:{number}", source.path));
            }
        }
    }
    none(&format!("these lines have more than {WIDTH} columns"), &found);
}

#[test]
fn nothing_points_outside_the_project() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !is_here(source)) {
        if source.path == "Cargo.lock" {
            continue;
        }
        for (number, line) in source.lines() {
            if let Some(what) = points_outside(line) {
                found.push(format!("{}:{number}: {what}", source.path));
            }
        }
    }
    none("these point at something that a reader of the project does not have", &found);
}

fn points_outside(line: &str) -> Option<&'static str> {
    const PLACES: [(&str, &str); 6] = [
        ("../shared", "a folder beside the project"),
        ("/work/", "a path of one machine"),
        ("/root/", "a path of one machine"),
        ("crates.io", "a registry's host"),
        ("deb.debian.org", "a registry's host"),
        ("proxy.golang.org", "a registry's host"),
    ];
    if let Some((_, what)) = PLACES.iter().find(|(place, _)| line.contains(place)) {
        return Some(what);
    }
    let words: Vec<&str> = line
        .split(|c: char| !c.is_alphanumeric() && c != '#')
        .filter(|word| !word.is_empty())
        .collect();
    let number = |word: &str| {
        let digits = word.trim_start_matches('#');
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    for pair in words.windows(2) {
        match pair[0].to_ascii_lowercase().as_str() {
            "rule" if number(pair[1]) => return Some("a rule by its number"),
            "issue" if number(pair[1]) => return Some("an issue by its number"),
            _ => {}
        }
    }
    let comment = line.find("//").map_or("", |at| &line[at..]);
    let scenario = comment.split(|c: char| !c.is_alphanumeric()).any(|word| {
        let (head, digits) = word.split_at(word.len().min(1));
        matches!(head, "M" | "R" | "F") && digits.len() <= 2 && number(digits)
    });
    scenario.then_some("a scenario by its number")
}

#[test]
fn every_module_of_the_core_is_reached() {
    let sources = sources();
    let core: BTreeSet<&str> = sources
        .iter()
        .map(|source| source.path.as_str())
        .filter(|path| path.starts_with("src/core/") && path.ends_with(".rs"))
        // Programs of their own.
        .filter(|path| !path.starts_with("src/core/tests/"))
        .collect();
    let mut found = Vec::new();
    for path in &core {
        let path = Path::new(path);
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if matches!(name, "lib" | "mod") {
            continue;
        }
        let folder = path.parent().expect("it is in a folder");
        let parents = [folder.join("lib.rs"), folder.join("mod.rs"), folder.with_extension("rs")];
        let declared = parents.iter().any(|parent| {
            sources
                .iter()
                .any(|source| Path::new(&source.path) == parent && declares(&source.text, name))
        });
        if !declared {
            found.push(path.display().to_string());
        }
    }
    assert!(core.len() > 10, "the core was not found");
    none("nobody declares these modules", &found);
}

fn declares(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim().trim_end_matches(';');
        line.strip_suffix(name).is_some_and(|before| before.ends_with("mod "))
    })
}

#[test]
fn every_example_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    let mut examples = 0;
    for entry in fs::read_dir(root().join("examples")).into_iter().flatten().flatten() {
        if !entry.path().is_dir() {
            continue;
        }
        examples += 1;
        let run = entry.path().join("run");
        let mode = fs::metadata(&run).map_or(0, |data| data.permissions().mode());
        if mode & 0o111 == 0 {
            found.push(run.display().to_string());
        }
    }
    assert!(examples > 0, "there are no examples");
    none("these are missing or cannot be executed", &found);
}

#[test]
fn every_script_stops_at_the_first_error() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.text.starts_with("#!/")) {
        let strict = source.lines().take(30).any(|(_, line)| line.starts_with("set -"));
        if !strict || !source.text.starts_with("#!/usr/bin/env bash") {
            found.push(source.path.clone());
        }
    }
    none("these scripts do not begin as ours do (`#!/usr/bin/env bash`, `set -…`)", &found);
}
