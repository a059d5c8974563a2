//! Does a server start fenced by its own file? The last `replicaof` line of its configuration
//! must name a closed local port; sengu opens it at run time and never writes to the file.
//!
//! Read anew at each look, bounded in size and depth. What cannot be told for sure is *bad*,
//! with the line to add and where.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sengu_core::observation::Verdict;

/// Largest configuration file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Files read for one verdict, all `include`s together.
const MAX_FILES: usize = 32;

/// The line that makes a server start fenced.
const LINE: &str = "replicaof 127.0.0.1 1";

/// A local connection is accepted or refused within this.
const CONNECT_WAIT: Duration = Duration::from_millis(100);

/// What a server starts with, as far as it is known.
pub(super) struct Start<'a> {
    /// The instance's name, for messages.
    pub(super) name: &'a str,
    /// Its configuration file, as the server names it.
    pub(super) file: Option<&'a str>,
    /// Where its file system is seen from here (`/proc/PID/root`); empty: the same.
    pub(super) root: &'a Path,
    /// Its arguments, where it left them readable; they come after the file.
    pub(super) arguments: &'a [String],
}

/// Whom the last directive makes it follow, and where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Follows {
    Nobody,
    Source { host: String, port: u16, place: String },
    Unclear(String),
}

struct Reading<'a> {
    root: &'a Path,
    files: usize,
    follows: Follows,
    /// Where `replica-read-only no` stands.
    open: Option<String>,
}

/// Judges how the server starts. Reads files and makes one local connection: not for a thread
/// that must not wait for a disk.
pub(super) fn verdict(start: &Start<'_>) -> Verdict {
    let mut reading = Reading { root: start.root, files: 0, follows: Follows::Nobody, open: None };
    if let Some(file) = start.file {
        reading.file(Path::new(file));
    }
    reading.arguments(start.arguments);
    let name = start.name;
    let bad = |text: String| Verdict::Bad(text);
    let place = start.file.unwrap_or("its configuration file");
    if let Some(line) = reading.open {
        return bad(format!(
            "remove `replica-read-only no` from {line}, so that {name} starts fenced"
        ));
    }
    match reading.follows {
        Follows::Nobody if start.file.is_none() => bad(format!(
            "{name} was started without a configuration file: start it with one that holds the \
             line `{LINE}`, so that it starts fenced"
        )),
        Follows::Nobody => {
            bad(format!("add the line `{LINE}` to {place} so that {name} starts fenced"))
        }
        Follows::Unclear(why) => bad(format!(
            "{why}; add the line `{LINE}` at the end of {place} so that {name} starts fenced"
        )),
        Follows::Source { host, port, place } => match local(&host) {
            None => bad(format!(
                "{place} makes {name} follow {host}:{port}: replace it by `{LINE}` so that \
                 {name} starts fenced"
            )),
            Some(ip) if is_open(SocketAddr::new(ip, port)) => bad(format!(
                "something listens on {host}:{port}, which {name} is to follow by {place} so as \
                 to start fenced: name a port that stays closed, as `{LINE}`"
            )),
            Some(_) => Verdict::Good,
        },
    }
}

/// A loopback address, by whatever name.
fn local(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.parse().ok().filter(IpAddr::is_loopback)
}

/// Does anything accept connections there? Only a refusal says no... or no route at all.
fn is_open(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, CONNECT_WAIT) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::TimedOut,
    }
}

impl Reading<'_> {
    fn file(&mut self, path: &Path) {
        self.files += 1;
        if self.files > MAX_FILES {
            self.follows = Follows::Unclear(format!("more than {MAX_FILES} files are included"));
            return;
        }
        let text = match read(&self.seen(path)) {
            Ok(text) => text,
            Err(error) => {
                let why = format!("{} cannot be read ({error})", path.display());
                self.follows = Follows::Unclear(why);
                return;
            }
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.starts_with('#') {
                let place = format!("line {} of {}", index + 1, path.display());
                self.directive(&words(line), &place);
            }
        }
    }

    fn directive(&mut self, words: &[String], place: &str) {
        let [name, values @ ..] = words else { return };
        match (name.to_ascii_lowercase().as_str(), values) {
            ("replicaof" | "slaveof", [host, port]) => self.follow(host, port, place),
            ("replica-read-only" | "slave-read-only", [value]) => {
                self.open = value.eq_ignore_ascii_case("no").then(|| place.to_owned());
            }
            ("include", [path]) => self.include(path, place),
            _ => {}
        }
    }

    fn follow(&mut self, host: &str, port: &str, place: &str) {
        self.follows = if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
            Follows::Nobody
        } else if let Ok(port) = port.parse() {
            Follows::Source { host: host.to_owned(), port, place: place.to_owned() }
        } else {
            Follows::Unclear(format!("{place} names no port"))
        };
    }

    fn include(&mut self, path: &str, place: &str) {
        let path = Path::new(path);
        let pattern = path.to_string_lossy().contains(['*', '?', '[']);
        if pattern || path.is_relative() {
            // Which files these are depends on more than the file says.
            self.follows = Follows::Unclear(format!("{place} includes {}", path.display()));
        } else {
            self.file(path);
        }
    }

    /// `--replicaof "127.0.0.1 1"` or `--replicaof 127.0.0.1 1`.
    fn arguments(&mut self, arguments: &[String]) {
        let mut directive: Vec<String> = Vec::new();
        for argument in arguments.iter().skip(1) {
            if let Some(name) = argument.strip_prefix("--") {
                self.directive(&directive, "its command line");
                directive = vec![name.to_owned()];
            } else if !directive.is_empty() {
                directive.extend(words(argument));
            }
        }
        self.directive(&directive, "its command line");
    }

    /// The path as seen from here.
    fn seen(&self, path: &Path) -> PathBuf {
        path.strip_prefix("/").map_or_else(
            |_| path.to_owned(),
            |below| {
                if self.root.as_os_str().is_empty() {
                    path.to_owned()
                } else {
                    self.root.join(below)
                }
            },
        )
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Splits a line as Redis does: blanks, with `"…"` and `'…'` kept together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match quote {
            Some(end) if letter == end => quote = None,
            Some(_) if letter == '\\' => {
                word.get_or_insert_default().extend(letters.next());
            }
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn judged(files: &[(&str, &str)]) -> Verdict {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let text = text.replace("DIR", &folder.path().display().to_string());
            fs::write(folder.path().join(name), text).expect("written");
        }
        let main = folder.path().join("redis.conf").display().to_string();
        let root = Path::new("");
        verdict(&Start { name: "cache1", file: Some(&main), root, arguments: &[] })
    }

    fn reason(verdict: Verdict) -> String {
        match verdict {
            Verdict::Bad(text) => text,
            other => panic!("not bad: {other:?}"),
        }
    }

    #[test]
    fn the_last_line_wins_wherever_it_stands() {
        for text in [
            "port 1\nreplicaof 127.0.0.1 1\n",
            "slaveof 10.0.0.9 6379\n  REPLICAOF \"localhost\" '1'\n",
            "replicaof no one\nreplicaof ::1 1\n# replicaof no one\n",
            "include DIR/other.conf\nreplicaof 127.0.0.1 1\n",
            "include DIR/*.conf\nreplicaof 127.0.0.1 1\n",
            "replica-read-only no\nreplica-read-only yes\nreplicaof 127.0.0.1 1\n",
        ] {
            let other = ("other.conf", "replicaof 10.0.0.9 6379\n");
            assert_eq!(judged(&[("redis.conf", text), other]), Verdict::Good, "{text}");
        }
    }

    #[test]
    fn what_does_not_fence_is_named_with_the_way_out() {
        for (text, part) in [
            ("port 1\n", "add the line `replicaof 127.0.0.1 1` to"),
            ("replicaof 127.0.0.1 1\nreplicaof no one\n", "add the line"),
            ("replicaof 10.0.0.9 6379\n", "line 1 of"),
            ("replicaof 127.0.0.1 1\ninclude DIR/other.conf\n", "10.0.0.9:6379"),
            ("replicaof 127.0.0.1 1\ninclude DIR/absent.conf\n", "absent.conf cannot be read"),
            ("replicaof 127.0.0.1 1\ninclude *.conf\n", "line 2 of"),
            ("replicaof 127.0.0.1 1\ninclude DIR/redis.conf\n", "more than 32 files"),
            ("replicaof 127.0.0.1 1\nreplica-read-only no\n", "remove `replica-read-only no`"),
        ] {
            let other = ("other.conf", "replicaof 10.0.0.9 6379\n");
            let text = reason(judged(&[("redis.conf", text), other]));
            assert!(text.contains(part) && text.contains("cache1"), "{text}");
        }
    }

    #[test]
    fn a_port_that_is_open_does_not_fence() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let text = reason(judged(&[("redis.conf", &format!("replicaof 127.0.0.1 {port}\n"))]));
        assert!(text.contains("something listens"), "{text}");
    }

    #[test]
    fn arguments_count_after_the_file_where_they_can_be_read() {
        let judge = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
            let root = Path::new("");
            verdict(&Start { name: "cache1", file: None, root, arguments: &arguments })
        };
        assert_eq!(
            judge(&["redis-server", "--port", "1", "--replicaof", "127.0.0.1 1"]),
            Verdict::Good
        );
        assert_eq!(
            judge(&["redis-server", "--slaveof", "127.0.0.1", "1", "--save", ""]),
            Verdict::Good
        );
        assert!(
            reason(judge(&["redis-server 127.0.0.1:6379"]))
                .contains("without a configuration file")
        );
    }
}
