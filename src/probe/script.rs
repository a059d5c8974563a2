//! `probe = "script"`: a program's exit code, as monitoring plugins have it.
//!
//! 0 passing, 1 warning, 2 critical; anything else, a signal, or a program that cannot be
//! started, unknown. The program gets a deadline (critical when it passes), a process group of
//! its own that is killed in the end whatever it left behind, a clean environment, and no shell.
//! 4 KiB of its output are kept, the rest is read and dropped.
//!
//! A check file with a script is as powerful as the agent: scripts are off unless the
//! configuration allows them. A child that leaves its process group escapes the kill.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use sengu_core::health::Judged;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::keys::Keys;
use super::placeholder::fill;
use super::{Kind, Probe, Scene, clip};
use crate::duration;

pub(super) const KIND: Kind = Kind { name: NAME, read };

/// The word in `probe = "script"`.
pub(super) const NAME: &str = "script";

/// Bytes kept of each stream.
const MOST_OUTPUT: usize = 4096;
/// Arguments of a command.
const MOST_ARGUMENTS: usize = 64;
/// How long a pipe may stay open after the program has exited: a child may hold it for ever.
const GRACE: Duration = Duration::from_millis(100);
/// How long the kernel may take to end a killed program.
const REAP: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct ScriptProbe {
    program: String,
    arguments: Vec<String>,
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    let Some(command) = keys.texts("command", MOST_ARGUMENTS) else {
        if !keys.has("command") {
            keys.missing("command", "[\"/usr/lib/nagios/plugins/check_disk\", \"-w\", \"10%\"]");
        }
        return None;
    };
    let mut words = command.into_iter();
    let Some(program) = words.next() else {
        keys.missing("command", "[\"/path/to/program\"]");
        return None;
    };
    if !program.value.starts_with('/') {
        let message = format!("`command`: {:?} must be an absolute path", program.value);
        keys.wrong(&program.span, message, Some("no shell and no search path is used".into()));
    }
    let arguments = words.map(|word| word.value).collect();
    Some(Arc::new(ScriptProbe { program: program.value, arguments }))
}

#[async_trait]
impl Probe for ScriptProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        let unknown = |words: String| Judged::unknown(scene.now, words);
        match execute(self.command(scene), scene.timeout).await {
            Err(error) => unknown(format!("cannot run {}: {error}", self.program)),
            Ok(Ran { in_time: false, output, .. }) => {
                let within = duration::format(scene.timeout);
                let words = format!("slow: {} took longer than {within}", self.program);
                Judged::failing(scene.now, with(&words, &output))
            }
            Ok(Ran { status: Some(status), output, .. }) => {
                judge(scene, &self.program, status, &output)
            }
            Ok(Ran { status: None, .. }) => {
                unknown(format!("{} was killed and does not end", self.program))
            }
        }
    }
}

/// How a program ended.
pub(super) struct Ran {
    /// Did it end by itself in time?
    pub(super) in_time: bool,
    /// Its status; none if it does not even end when it is killed.
    pub(super) status: Option<ExitStatus>,
    /// What it printed, cut.
    pub(super) output: String,
}

/// Runs a program, and ends whatever it leaves behind.
///
/// # Errors
/// It cannot be started.
pub(super) async fn execute(command: Command, within: Duration) -> std::io::Result<Ran> {
    let mut run = Run::start(command)?;
    let in_time = run.wait(within).await;
    let status = run.finish().await;
    Ok(Ran { in_time, status, output: run.output() })
}

/// A program with a clean environment: the agent's own may hold secrets.
pub(super) fn clean(program: &str, arguments: impl IntoIterator<Item = String>) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

fn judge(scene: &Scene<'_>, program: &str, status: ExitStatus, output: &str) -> Judged {
    let code = status.code();
    let said = |status: &str| {
        if output.is_empty() { format!("{program}: {status}") } else { output.to_owned() }
    };
    match code {
        Some(0) => Judged::passing(scene.now, said("passing")),
        Some(1) => Judged::warning(scene.now, said("warning")),
        Some(2) => Judged::failing(scene.now, said("critical")),
        Some(3) => Judged::unknown(scene.now, said("unknown")),
        Some(code) => {
            let words = format!("{program} ended with exit code {code}");
            Judged::unknown(scene.now, with(&words, output))
        }
        None => {
            let signal = status.signal().unwrap_or_default();
            let words = format!("{program} was ended by signal {signal}");
            Judged::unknown(scene.now, with(&words, output))
        }
    }
}

fn with(words: &str, output: &str) -> String {
    if output.is_empty() { words.to_owned() } else { format!("{words}: {output}") }
}

impl ScriptProbe {
    fn command(&self, scene: &Scene<'_>) -> Command {
        let target = scene.target;
        let arguments = self.arguments.iter().map(|argument| fill(argument, scene));
        let mut command = clean(&self.program, arguments);
        command
            .env("SENGU_SERVICE", target.id.service.as_str())
            .env("SENGU_INSTANCE", target.id.instance.as_str())
            .env("SENGU_ADDRESS", target.address.to_string())
            .env("SENGU_HOST", scene.setup.host.as_str());
        command
    }
}

/// A program that runs. Dropped at any moment, it takes its process group with it.
struct Run {
    /// Dropped first: once the child is reaped, the number may be another's.
    group: Group,
    child: Child,
    /// Readable when the program has exited; it stays a zombie until it is waited for.
    exit: AsyncFd<OwnedFd>,
    out: Vec<u8>,
    err: Vec<u8>,
}

/// A process group that is ours as long as its leader was not reaped.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            // Fails only if nobody is left in it.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Run {
    fn start(mut command: Command) -> std::io::Result<Self> {
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| std::io::Error::other("it has no process id"))?;
        let group = Group(Some(pid));
        let exit = watched(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
        Ok(Self { group, child, exit, out: Vec::new(), err: Vec::new() })
    }

    /// Reads until the program has exited and its output has ended; false if it did not exit
    /// in time.
    async fn wait(&mut self, within: Duration) -> bool {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let mut reading =
            std::pin::pin!(join(drain(out, &mut self.out), drain(err, &mut self.err)));
        let mut read = false;
        let exited = timeout(within, async {
            tokio::select! {
                biased;
                _ = self.exit.readable() => {}
                _ = &mut reading => {
                    read = true;
                    // An error here would be one of the runtime: then the deadline decides.
                    let _ = self.exit.readable().await;
                }
            }
        });
        let exited = exited.await.is_ok();
        if exited && !read {
            let _ = timeout(GRACE, reading).await;
        }
        exited
    }

    /// Ends whatever is left of the group, then the program itself.
    async fn finish(&mut self) -> Option<ExitStatus> {
        // Not reaped yet, so the group's number is still its own.
        self.group.kill();
        let status = timeout(REAP, self.child.wait()).await.ok()?.ok()?;
        self.group.0 = None;
        Some(status)
    }

    /// What it printed; its errors if it printed nothing.
    fn output(&self) -> String {
        let text = |bytes: &[u8]| {
            let more = bytes.len() > MOST_OUTPUT;
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST_OUTPUT)]);
            let text = clip(text.trim(), MOST_OUTPUT);
            if more && !text.ends_with('…') { format!("{text} …") } else { text }
        };
        let out = text(&self.out);
        if out.is_empty() { text(&self.err) } else { out }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for descriptors that somebody else may \
                               close; this one is owned by the `AsyncFd` alone"
)]
fn watched(process: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

/// Reads to the end; keeps one byte more than is shown, so that a cut is known.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let room = (MOST_OUTPUT + 1).saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sengu_core::health::Status;

    use super::super::fixture::Stage;
    use super::*;

    fn check(script: &str) -> Arc<dyn Probe> {
        let text =
            format!("[[all]]\nprobe = \"script\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']");
        Arc::clone(&Stage::check(&text).all[0])
    }

    async fn look(script: &str, within: Duration) -> (Status, String) {
        let stage = Stage { timeout: within, ..Stage::default() };
        let judged = check(script).look(&stage.scene(0)).await;
        (judged.status, judged.output)
    }

    const LONG: Duration = Duration::from_secs(20);

    /// Waits until no process of that id runs; a zombie that nobody has reaped yet does not run.
    async fn ended(pid: &str) {
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            state.is_some_and(|state| state != 'Z' && state != 'X')
        };
        let gone = async {
            while runs() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, gone).await.expect("the process was left behind");
    }

    #[tokio::test]
    async fn exit_codes_are_those_of_monitoring_plugins() {
        for (script, status, output) in [
            ("echo all good", Status::Passing, "all good"),
            ("echo soon full; exit 1", Status::Warning, "soon full"),
            ("echo full; exit 2", Status::Critical, "full"),
            ("echo no idea; exit 3", Status::Unknown, "no idea"),
            ("echo x; exit 4", Status::Unknown, "/bin/sh ended with exit code 4: x"),
            ("exit 127", Status::Unknown, "/bin/sh ended with exit code 127"),
            ("kill -TERM $$", Status::Unknown, "/bin/sh was ended by signal 15"),
            ("echo to nobody >&2; exit 2", Status::Critical, "to nobody"),
            ("echo err >&2; echo out", Status::Passing, "out"),
            ("exit 0", Status::Passing, "/bin/sh: passing"),
            ("exec >&- 2>&-; exit 1", Status::Warning, "/bin/sh: warning"),
        ] {
            assert_eq!(look(script, LONG).await, (status, output.into()), "{script}");
        }
    }

    #[tokio::test]
    async fn the_program_knows_its_instance_and_no_secret() {
        let text = "[[all]]\nprobe = \"script\"\ncommand = [\"/usr/bin/env\"]";
        let stage = Stage { timeout: LONG, ..Stage::default() };
        let judged = Stage::check(text).all[0].look(&stage.scene(0)).await;
        let mut names: Vec<&str> =
            judged.output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.sort_unstable();
        let expected =
            ["LC_ALL", "PATH", "SENGU_ADDRESS", "SENGU_HOST", "SENGU_INSTANCE", "SENGU_SERVICE"];
        assert_eq!(names, expected, "nothing of the agent's environment");
        let output = look("echo $SENGU_SERVICE/$SENGU_INSTANCE {ip} {port} { }", LONG).await.1;
        assert_eq!(output, "foo-redis/cache1 127.0.0.11 6379 { }");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let began = Instant::now();
        let (status, output) =
            look("sleep 600 & echo $!; trap '' TERM; wait", Duration::from_millis(500)).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(status, Status::Critical);
        let pid = output.strip_prefix("slow: /bin/sh took longer than 500ms: ");
        ended(pid.expect("it printed its child's id before")).await;
    }

    #[tokio::test]
    async fn a_child_left_behind_holds_nobody_up_and_is_killed() {
        let began = Instant::now();
        // The child inherits the pipe and would hold it for ten minutes.
        let (status, pid) = look("sleep 600 & echo $!; exit 1", LONG).await;
        assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
        assert_eq!(status, Status::Warning);
        ended(&pid).await;
    }

    #[tokio::test]
    async fn a_run_that_is_dropped_takes_its_program_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        let probe = check(&format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 600", file.display()));
        let task = tokio::spawn(async move {
            let stage = Stage { timeout: Duration::from_secs(600), ..Stage::default() };
            probe.look(&stage.scene(0)).await
        });
        let started = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, started).await.expect("it starts");
        task.abort();
        ended(std::fs::read_to_string(&file).expect("written").trim()).await;
    }

    #[tokio::test]
    async fn a_flood_of_output_is_read_and_cut() {
        let flood = "head -c 1000000 /dev/zero | tr '\\0' x; exit 2";
        let (status, output) = look(flood, LONG).await;
        assert_eq!(status, Status::Critical, "it was not blocked by a full pipe");
        assert_eq!(output.len(), MOST_OUTPUT + " …".len());
        assert!(output.ends_with("x …"));
        // Cut inside a character: no panic, no half of it counted.
        let (_, output) = look("yes ä | head -c 5000 | tr -d '\\n'", LONG).await;
        assert!(output.starts_with("ää") && output.len() <= MOST_OUTPUT + 8, "{}", output.len());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_unknown() {
        let text = "[[all]]\nprobe = \"script\"\ncommand = [\"/nowhere/at/all\"]";
        let judged = Stage::check(text).all[0].look(&Stage::default().scene(0)).await;
        assert_eq!(judged.status, Status::Unknown);
        assert!(judged.output.starts_with("cannot run /nowhere/at/all: No such file"));
    }
}
