//! Is a server set up so that sengu may move its mastership? Four verdicts: it starts fenced by
//! its own files, mastership can move, `loss = "none"` holds, read-only binds everybody.
//!
//! Each lists everything that is wrong, with the line or statement that mends it. Judged in the
//! background of the role probe: it asks a handful of statements that change nothing, and reads
//! the option files aside, so that a hung disk leaves the last verdict and no second reader.
//! What was not read this time is *unknown*, and the caller keeps what it had.

mod accounts;
mod facts;
mod grants;
mod lossless;
mod mend;
mod options;
mod path;
mod replication;
mod start;
#[cfg(test)]
mod tests;
mod version;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sengu_core::name::InstanceName;
use sengu_core::observation::Verdict;
use tokio::time::{Instant, timeout_at};

pub(super) use self::accounts::{Above, above_read_only};
use self::facts::Facts;
use self::options::{Options, Start};
use super::connection::Session;
use super::server::Flavour;
use crate::process::Process;

/// A process that is ending is seen to be gone within this.
const ENDING: Duration = Duration::from_millis(50);

/// Longest text of a verdict: characters.
const MAX_TEXT: usize = 4000;

/// What is known of a server beside what it tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The instance's name, for messages.
    pub(super) name: &'a InstanceName,
    /// The account that copies log in with, if the credentials have one.
    pub(super) replication_user: Option<&'a str>,
}

/// Four verdicts; unknown is what could not be judged this time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Verdicts {
    /// Its own files start it fenced.
    pub(super) starts_fenced: Verdict,
    /// Mastership can move.
    pub(super) replication: Verdict,
    /// `loss = "none"` holds.
    pub(super) lossless: Verdict,
    /// `read_only` binds every account.
    pub(super) bound: Verdict,
    /// The event scheduler is on by its own files; none if they were not read.
    pub(super) events: Option<bool>,
    /// Accounts that it does not bind; none if that could not be asked.
    pub(super) above: Option<Vec<Above>>,
}

/// Judges one server, again and again: one for each instance.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Somebody reads its files; if a disk hangs, for ever.
    reading: Arc<AtomicBool>,
}

/// What the files said.
struct Files {
    options: Options,
    starts_fenced: Verdict,
}

impl Judge {
    /// Judges it now. Over a session of the agent's own account; done by the deadline.
    pub(super) async fn judge(
        &self,
        subject: &Subject<'_>,
        session: &Session,
        process: Option<&Arc<Process>>,
        deadline: Instant,
    ) -> Verdicts {
        let Ok(facts) = Facts::ask(session, deadline).await else { return Verdicts::default() };
        let Some(process) = process else {
            let why = "its process was not found here, so the option files that it reads are not \
                       known: run the agent as root, on the server's own host";
            return Verdicts {
                starts_fenced: Verdict::Bad(why.to_owned()),
                replication: listed(replication::wrong(&facts, None, subject)),
                lossless: Verdict::Bad(why.to_owned()),
                bound: replication::bound(&facts).map(listed).unwrap_or_default(),
                events: None,
                above: facts.above,
            };
        };
        let files = self.files(subject, &facts, process, deadline).await;
        let options = files.as_ref().map(|files| &files.options);
        let events = options
            .map(|options| options.last(&["event_scheduler"]).is_some_and(options::Setting::on));
        let lossless = listed(lossless::wrong(&facts, options));
        Verdicts {
            replication: listed(replication::wrong(&facts, options, subject)),
            // Without the files only what is wrong is known.
            lossless: if options.is_none() && lossless.is_good() {
                Verdict::Unknown
            } else {
                lossless
            },
            starts_fenced: files.map(|files| files.starts_fenced).unwrap_or_default(),
            bound: replication::bound(&facts).map(listed).unwrap_or_default(),
            events,
            above: facts.above,
        }
    }

    /// Reads what the process starts with, aside.
    async fn files(
        &self,
        subject: &Subject<'_>,
        facts: &Facts,
        process: &Arc<Process>,
        deadline: Instant,
    ) -> Option<Files> {
        if self.reading.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (reading, process) = (Arc::clone(&self.reading), Arc::clone(process));
        let (name, flavour, version) = (subject.name.clone(), facts.flavour, facts.version);
        let value = |name: &str| facts.value(&[name]).map(|(_, value)| value.to_owned());
        let (data_folder, init) = (value("datadir"), value("init_file"));
        let read = tokio::task::spawn_blocking(move || {
            let (options, init) =
                read(&process, flavour, version, data_folder.as_deref(), init.as_deref());
            reading.store(false, Ordering::Release);
            let starts_fenced = start::verdict(name.as_str(), flavour, &options, init.as_deref());
            // A process loses its files a moment before it is seen to be gone.
            if !starts_fenced.is_good() {
                std::thread::sleep(ENDING);
            }
            // What was read through a process that is gone may be another's.
            if process.is_gone() {
                return None;
            }
            Some(Files { options, starts_fenced })
        });
        timeout_at(deadline, read).await.ok()?.ok()?
    }
}

/// The options that a process starts with, and the text of its `init_file`.
fn read(
    process: &Process,
    flavour: Flavour,
    (major, minor, _): (u16, u16, u16),
    data_folder: Option<&str>,
    init: Option<&str>,
) -> (Options, Option<String>) {
    let root = PathBuf::from(format!("/proc/{}/root", process.pid()));
    let environment = std::fs::read(format!("/proc/{}/environ", process.pid()));
    let arguments = process.arguments();
    let failed = environment.as_ref().err().or_else(|| arguments.as_ref().err());
    let failed = failed
        .map(|error| format!("how it was started cannot be read ({error}): run the agent as root"));
    let environment = environment.unwrap_or_default();
    let environment = String::from_utf8_lossy(&environment);
    let environment: Vec<String> = environment.split('\0').map(str::to_owned).collect();
    let mut options = options::read(&Start {
        root: &root,
        arguments: &arguments.unwrap_or_default(),
        environment: &environment,
        flavour,
        version: (major, minor),
        data_folder,
    });
    options.unclear.extend(failed);
    let init = init.filter(|path| !path.is_empty()).map(|path| {
        options::other(&root, path).map_err(|error| format!("{path} cannot be read ({error})"))
    });
    let init = match init.transpose() {
        Ok(init) => init,
        Err(why) => {
            options.unclear.push(why);
            None
        }
    };
    (options, init)
}

fn listed(wrong: Vec<String>) -> Verdict {
    if wrong.is_empty() {
        return Verdict::Good;
    }
    let text = wrong.join("; ");
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => Verdict::Bad(format!("{} …", &text[..end])),
        None => Verdict::Bad(text),
    }
}
