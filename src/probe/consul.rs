//! Services and checks in Consul's JSON, from a folder: what `consul.d` holds elsewhere.
//!
//! A file may have `service`, `services`, `check` and `checks`. Each bad file is a problem with
//! its place, and the others go on. Keys of Consul that mean nothing here are said and passed
//! over; what would be run differently is refused. Programs in checks ask for a file that nobody
//! else can write, as in check files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sengu_core::consul::agent::{self, Origin};
use sengu_core::consul::definition::{AgentCheck, AgentService, Way};
use sengu_core::consul::directory::Directory;
use sengu_core::consul::json::decode;
use sengu_core::consul::{Plan, Refusal};
use serde_json::{Map, Value};

use super::folder::{others_write, read};
use super::problem::Problem;
use super::registered::Registered;

/// Files of a folder.
const MOST_FILES: usize = 1024;
/// Definitions of all files.
const MOST_DEFINITIONS: usize = 4096;

/// One service or check of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    /// A service, with its checks.
    Service(Box<AgentService>),
    /// A check of a service or of the host.
    Check(Box<AgentCheck>),
}

impl Wanted {
    /// Its id, unique among those of its kind.
    fn id(&self) -> (&'static str, &str) {
        let (kind, id, name) = match self {
            Self::Service(service) => ("service", &service.id.0, &service.name.0),
            Self::Check(check) => ("check", &check.checkid.0, &check.name.0),
        };
        (kind, if id.is_empty() { name } else { id })
    }

    fn checks(&self) -> Vec<&AgentCheck> {
        match self {
            Self::Service(service) => service.check.iter().chain(&service.checks.0).collect(),
            Self::Check(check) => vec![check],
        }
    }

    fn plan(&self, directory: &Directory<'_>, origin: Origin) -> Result<Plan, Refusal> {
        match self {
            Self::Service(service) => agent::register_service(directory, service, false, origin),
            Self::Check(check) => agent::register_check(directory, check, origin),
        }
    }
}

/// A definition and the file that it stands in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Defined {
    file: String,
    wanted: Wanted,
}

/// Reads all definitions of a folder; a folder that is not there is an empty one.
#[must_use]
pub(super) fn load(folder: &Path, scripts: bool) -> (Vec<Defined>, Vec<Problem>) {
    let (mut defined, mut problems) = (Vec::new(), Vec::new());
    let mut seen: BTreeMap<(&'static str, String), String> = BTreeMap::new();
    for path in files(folder, &mut problems) {
        let file = path.display().to_string();
        let found = match read(&path) {
            Ok((text, metadata)) => {
                let unsafe_file = scripts && (others_write(&metadata) || unsafe_folder(folder));
                parse(&file, &text, unsafe_file, &mut problems)
            }
            Err(error) => {
                problems.push(Problem::whole(&file, format!("cannot be read: {error}"), None));
                continue;
            }
        };
        for wanted in found {
            let (kind, id) = wanted.id();
            if let Some(first) = seen.get(&(kind, id.to_owned())) {
                let message = format!("{kind} {id:?} stands in {first} already");
                problems.push(Problem::whole(&file, message, Some("keep one of them")));
                continue;
            }
            seen.insert((kind, id.to_owned()), file.clone());
            defined.push(Defined { file: file.clone(), wanted });
        }
    }
    if defined.len() > MOST_DEFINITIONS {
        let message = format!("more than {MOST_DEFINITIONS} definitions; the last are left out");
        problems.push(Problem::whole(&folder.display().to_string(), message, None));
        defined.truncate(MOST_DEFINITIONS);
    }
    // Services first: a check may be of one in another file.
    defined.sort_by_key(|one| matches!(one.wanted, Wanted::Check(_)));
    (defined, problems)
}

fn unsafe_folder(folder: &Path) -> bool {
    fs::metadata(folder).as_ref().map_or(true, others_write)
}

fn files(folder: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let shown = folder.display().to_string();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(Problem::whole(&shown, format!("cannot be read: {error}"), None));
            return Vec::new();
        }
    };
    let entries = entries.filter_map(Result::ok).map(|entry| entry.path());
    let visible =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] != b'.');
    let mut files: Vec<PathBuf> = entries.filter(visible).collect();
    files.sort();
    let ending = |path: &Path, ending: &str| path.extension().is_some_and(|have| have == ending);
    for other in files.iter().filter(|path| ending(path, "hcl")) {
        let help = "write it as JSON, with the same keys";
        let message = "HCL is not read";
        problems.push(Problem::whole(&other.display().to_string(), message, Some(help)));
    }
    files.retain(|path| ending(path, "json"));
    if files.len() > MOST_FILES {
        let message = format!("more than {MOST_FILES} files; the last ones are left out");
        problems.push(Problem::whole(&shown, message, None));
        files.truncate(MOST_FILES);
    }
    files
}

/// The definitions of one file; what is wrong with it goes to the problems.
fn parse(file: &str, text: &str, unsafe_file: bool, problems: &mut Vec<Problem>) -> Vec<Wanted> {
    let whole: Map<String, Value> = match serde_json::from_str(text) {
        Ok(whole) => whole,
        Err(error) => {
            problems.push(Problem::json(file, text, &error));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (key, value) in &whole {
        let many = match (key.as_str(), value) {
            ("service" | "check", one) => vec![one],
            ("services" | "checks", Value::Array(many)) => many.iter().collect(),
            ("services" | "checks", _) => {
                problems.push(Problem::near(file, text, key, format!("`{key}` must be a list")));
                continue;
            }
            (other, _) => {
                let message = format!("unknown key `{other}`: passed over");
                problems.push(Problem::near(file, text, other, message));
                continue;
            }
        };
        for (index, one) in many.iter().enumerate() {
            match wanted(key.starts_with("service"), one) {
                Ok(wanted) if unsafe_file && runs_script(&wanted) => {
                    let help = "make it and its folder belong to the agent's user, and \
                                `chmod go-w` them";
                    let message = "others can write it, and it holds checks with programs";
                    problems.push(Problem::whole(file, message, Some(help)));
                }
                Ok(wanted) => found.push(wanted),
                Err(why) => {
                    let place = name_of(one).unwrap_or(key);
                    let which =
                        if many.len() > 1 { format!(" {}", index + 1) } else { String::new() };
                    let message = format!("`{key}`{which}: {why}");
                    problems.push(Problem::near(file, text, place, message));
                }
            }
        }
    }
    found
}

fn name_of(value: &Value) -> Option<&str> {
    let key = |key: &&str| value.get(*key).and_then(Value::as_str);
    ["id", "ID", "name", "Name"].iter().find_map(key)
}

fn runs_script(wanted: &Wanted) -> bool {
    let script = |check: &&AgentCheck| {
        matches!(check.definition().map(|found| found.way), Ok(Way::Script { .. }))
    };
    wanted.checks().iter().any(script)
}

fn wanted(service: bool, value: &Value) -> Result<Wanted, String> {
    let bytes = value.to_string().into_bytes();
    let said = |refusal: Refusal| refusal.to_string().replace("Request decode failed: ", "");
    let wanted = if service {
        Wanted::Service(Box::new(decode(&bytes).map_err(said)?))
    } else {
        Wanted::Check(Box::new(decode(&bytes).map_err(said)?))
    };
    if wanted.id().1.is_empty() {
        return Err("it has no name".to_owned());
    }
    for check in wanted.checks() {
        check.definition().map_err(said)?;
    }
    Ok(wanted)
}

/// What stands registered because of files, so that only changes are carried out.
#[derive(Debug, Default)]
pub(super) struct Files {
    last: Option<Vec<Defined>>,
}

impl Files {
    /// Registers what is new or changed since the last time, removes what is gone. What somebody
    /// deregistered stays away until its definition changes or the agent starts again.
    ///
    /// Tells what could not be done, in words.
    pub(super) async fn apply(
        &mut self,
        registered: &Registered,
        defined: Vec<Defined>,
    ) -> Vec<String> {
        let origin = Origin::File { scripts: registered.scripts().files };
        let (mut problems, mut done) = (Vec::new(), Vec::new());
        let last = self.last.take().unwrap_or_default();
        let mut ids: BTreeSet<(&'static str, String)> = BTreeSet::new();
        for one in defined {
            let (kind, id) = one.wanted.id();
            ids.insert((kind, id.to_owned()));
            if let Wanted::Service(service) = &one.wanted {
                ids.extend(agent::check_ids(service).into_iter().map(|id| ("check", id)));
            }
            let plan = |directory: &Directory<'_>| one.wanted.plan(directory, origin);
            match if last.contains(&one) { Ok(()) } else { registered.carry_out(plan).await } {
                Ok(()) => done.push(one),
                // It is tried again at the next look at the folder.
                Err(why) => problems.push(format!("{}: {kind} {id:?}: {why}", one.file)),
            }
        }
        for (kind, id) in registered.of_files() {
            if ids.contains(&(kind, id.clone())) {
                continue;
            }
            let plan = |directory: &Directory<'_>| match kind {
                "service" => agent::deregister_service(directory, &id),
                _ => agent::deregister_check(directory, &id),
            };
            match registered.carry_out(plan).await {
                Ok(()) => tracing::info!(kind, id, "no file defines it any more: removed"),
                Err(why) => problems.push(format!("{kind} {id:?} was not removed: {why}")),
            }
        }
        self.last = Some(done);
        problems
    }
}

#[cfg(test)]
mod tests;
