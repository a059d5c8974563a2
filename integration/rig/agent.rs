//! The agent as a child process, and the `sengu` command beside it.
//!
//! The program is the one that cargo built last; one that is older than its sources is refused,
//! so that no test passes on yesterday's agent.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use super::child::Child;
use super::place::Place;
use super::wait::{soon, until};
use super::{dns, http};

/// Variable with another program to test, as a release build.
pub const PROGRAM: &str = "SENGU_PROGRAM";

/// The longest that a command may take.
const COMMAND: Duration = Duration::from_secs(90);

/// The address of the agent in its block.
pub const OWN: u8 = 9;

/// The program under test.
///
/// # Panics
/// If it was not built, or is older than its sources.
pub fn program() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(program) = std::env::var_os(PROGRAM) {
            return program.into();
        }
        let test = std::env::current_exe().expect("a test knows its own program");
        let folder = test.ancestors().find(|folder| folder.join("sengu.d").exists());
        let folder = folder.expect("sengu is not built: run `cargo build` first");
        let program = folder.join("sengu");
        let built = changed(&program).expect("sengu is not built: run `cargo build` first");
        let sources = fs::read_to_string(folder.join("sengu.d")).unwrap_or_default();
        for source in sources.split_whitespace().skip(1) {
            let fresh = changed(Path::new(source)).is_none_or(|changed| changed <= built);
            assert!(fresh, "sengu is older than {source}: run `cargo build` first");
        }
        program
    })
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its exit code; none if it was ended by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Told {
    /// Both outputs.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.all()))
    }

    /// Checks that it went well.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.all());
        self
    }

    /// Checks that it was refused, with these words.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn refused(self, words: &str) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.all());
        assert!(self.err.contains(words), "`{words}` is not in: {}", self.all());
        self
    }
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs `sengu` with this configuration file.
///
/// # Panics
/// If it cannot be started, or is not done in time.
#[track_caller]
pub fn sengu(config: &Path, words: &[&str]) -> Told {
    let mut child = Command::new(program());
    child.arg("--config").arg(config).args(words).env("NO_COLOR", "1");
    let child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("sengu can be started");
    let (pid, limit) = (child.id(), COMMAND);
    let waiter = std::thread::spawn(move || child.wait_with_output());
    let done = soon(limit, || waiter.is_finished().then_some(()));
    assert!(done.is_some(), "sengu {words:?} (process {pid}) is not done after {limit:?}");
    let output = waiter.join().expect("the waiting thread does not panic");
    output.expect("its output can be read").into()
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    /// Its configuration file.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Where it answers DNS.
    pub dns: SocketAddr,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// What stands before its command.
    before: Vec<String>,
    child: Child,
}

impl Agent {
    /// The first lines of a configuration in this place: everything but services and outputs.
    #[must_use]
    pub fn head(place: &Place) -> String {
        let folder = place.folder().display();
        format!(
            "host = \"db1\"\naddress = \"{}\"\ndata_dir = \"{folder}/data\"\n\
             socket = \"{folder}/sengu.sock\"\n[dns]\nlisten = [\"{}\"]\n\
             [http]\nlisten = [\"{}\"]\n",
            place.address(OWN),
            place.socket(OWN, 8600),
            place.socket(OWN, 8500),
        )
    }

    /// Starts an agent with this configuration and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn start(place: &Place, config: &str) -> Self {
        let mut agent = Self::launch(place, config);
        agent.wait_answering();
        agent
    }

    /// Starts an agent and waits for nothing.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn launch(place: &Place, config: &str) -> Self {
        let file = place.path("sengu.toml");
        fs::write(&file, config).expect("the configuration can be written");
        let log = place.path("agent.log");
        let before = Vec::new();
        let child = spawn(&before, &file, &log);
        let (dns, http) = (place.socket(OWN, 8600), place.socket(OWN, 8500));
        Self { config: file, log, dns, http, before, child }
    }

    /// The same as one of several hosts in a place: the number of its address, with files of its
    /// own.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn launch_on(place: &Place, number: u8, config: &str) -> Self {
        Self::launch_behind(Vec::new(), place, number, config)
    }

    /// The same behind a command that it replaces.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn launch_behind(before: Vec<String>, place: &Place, number: u8, config: &str) -> Self {
        let file = place.path(&format!("sengu{number}.toml"));
        fs::write(&file, config).expect("the configuration can be written");
        let log = place.path(&format!("agent{number}.log"));
        let child = spawn(&before, &file, &log);
        let (dns, http) = (place.socket(number, 8600), place.socket(number, 8500));
        Self { config: file, log, dns, http, before, child }
    }

    /// Waits until all its outputs answer.
    ///
    /// # Panics
    /// If they do not within 15 s, or it ends.
    #[track_caller]
    pub fn wait_answering(&mut self) {
        let up = soon(Duration::from_secs(15), || {
            if let Some(status) = self.child.exited() {
                return Some(Err(status));
            }
            let socket = sengu(&self.config, &["status"]).code == Some(0);
            (socket && http::get(self.http, "/health").is_ok()).then_some(Ok(()))
        });
        match up {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("the agent ended ({status}):\n{}", self.tail()),
            None => panic!("the agent does not answer:\n{}", self.tail()),
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Any signal.
    pub fn signal(&mut self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Starts it again after its end, and waits for nothing.
    pub fn relaunch(&mut self) {
        self.child.kill();
        self.child = spawn(&self.before, &self.config, &self.log);
    }

    /// Starts it again after its end, and waits until it answers.
    #[track_caller]
    pub fn restart(&mut self) {
        self.relaunch();
        self.wait_answering();
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether and how it ended.
    pub fn wait_ended(&mut self, within: Duration) -> Option<std::process::ExitStatus> {
        self.child.wait(within)
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Runs a command against it.
    #[track_caller]
    pub fn sengu(&self, words: &[&str]) -> Told {
        sengu(&self.config, words)
    }

    /// What `status --json` says of a service.
    #[must_use]
    #[track_caller]
    pub fn status(&self, service: &str) -> Value {
        let told = self.sengu(&["status", "--json"]).good().json();
        let services = told.as_array().cloned().unwrap_or_default();
        let found = services.into_iter().find(|entry| entry["service"] == service);
        found.unwrap_or_default()
    }

    /// Waits until `status` says something of a service.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until_status(
        &self,
        service: &str,
        what: &str,
        within: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Value {
        let found = soon(within, || Some(self.status(service)).filter(&good));
        found.unwrap_or_else(|| {
            panic!(
                "waited {} s in vain until {what}:\n{:#}\n{}",
                within.as_secs_f64(),
                self.status(service),
                self.tail()
            )
        })
    }

    /// Addresses of a name now.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Vec<std::net::IpAddr> {
        dns::addresses(self.dns, name)
    }

    /// Waits until a name has exactly these addresses.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until_name(&self, name: &str, wanted: &[std::net::IpAddr], within: Duration) {
        let named = soon(within, || (self.addresses(name) == wanted).then_some(()));
        assert!(
            named.is_some(),
            "waited {} s in vain until {name} is {wanted:?}; it is {:?}\n{}\n{}",
            within.as_secs_f64(),
            self.addresses(name),
            self.sengu(&["status"]).all(),
            self.tail()
        );
    }

    /// Resident memory, in KiB.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// Waits until its log has a text.
    ///
    /// # Panics
    /// If it has not in time.
    #[track_caller]
    pub fn until_logged(&self, text: &str, within: Duration) {
        until(&format!("the log says `{text}`"), within, || {
            fs::read_to_string(&self.log).ok().filter(|log| log.contains(text))
        });
    }
}

fn spawn(before: &[String], config: &Path, log: &Path) -> Child {
    let words = [program(), Path::new("--config"), config, Path::new("agent")];
    let words = words.map(|word| word.display().to_string());
    Child::start(&[before, &words].concat(), log, &[("NO_COLOR", "1")])
        .expect("the agent can be started")
}
