//! A check as its file has it: which probes, how often, for which instances.
//!
//! Everything in the file must be known and within bounds, else the file is refused as a whole,
//! with all that is wrong in it.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::health::Hysteresis;
use sengu_core::name::ServiceName;
use sengu_core::policy::DatabaseKind;
use toml::de::DeTable;

use super::keys::{Keys, Placed};
use super::problem::{Problem, Trouble, nearest};
use super::{KINDS, Of, Probe, Target, script};

const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
const TIMEOUT: Duration = Duration::from_millis(500);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
/// Results in a row that can be asked for.
const MOST_RESULTS: u32 = 100;
/// Probes of one check.
const MOST_PROBES: usize = 16;
/// Services that one check can name.
const MOST_SERVICES: usize = 256;
/// Bytes of `about`.
const LONGEST_ABOUT: usize = 200;

/// A check: a named rule over probes.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its file's name without `.toml`.
    pub name: String,
    /// What it says when it passes, for people.
    pub about: String,
    /// The database whose instances it is for; `None`: every own instance.
    pub kind: Option<DatabaseKind>,
    /// The services it is for; empty: all.
    pub services: Vec<ServiceName>,
    /// What it asks of a host's instances of one service together. Default: each.
    pub of: Of,
    /// How often it runs, 100 ms to 24 h. Default 1 s.
    pub interval: Duration,
    /// How long each probe may take, 10 ms to 10 min. Default 500 ms.
    pub timeout: Duration,
    /// How many results in a row change the status.
    pub hysteresis: Hysteresis,
    /// The probes; all must pass. At least one.
    pub all: Vec<Arc<dyn Probe>>,
    text: Arc<str>,
}

/// Two are equal if their files are.
impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Definition {
    /// Is it for this instance?
    #[must_use]
    pub fn applies(&self, target: &Target) -> bool {
        self.kind.is_none_or(|kind| kind == target.kind)
            && (self.services.is_empty() || self.services.contains(&target.id.service))
    }

    /// Does it run a program?
    #[must_use]
    pub fn runs_script(&self) -> bool {
        self.all.iter().any(|probe| probe.name() == script::NAME)
    }
}

/// Reads a check from its file's text; `file` is for messages.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn parse(name: &str, file: &str, text: &str) -> Result<Definition, Vec<Problem>> {
    let source: Arc<str> = text.into();
    let told = |trouble: Trouble| Problem::at(file, &source, trouble);
    let document = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        // The parser's own words may go over several lines.
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        vec![told(Trouble { span, message, help: None })]
    })?;
    let mut troubles = Vec::new();
    let table = document.get_ref();
    let definition = read(name, &source, Keys::new(table, 0..0, &mut troubles));
    troubles.sort_by_key(|trouble| (trouble.span.start, trouble.message.clone()));
    match definition {
        Some(definition) if troubles.is_empty() => Ok(definition),
        _ => Err(troubles.into_iter().map(told).collect()),
    }
}

fn read(name: &str, source: &Arc<str>, mut keys: Keys<'_>) -> Option<Definition> {
    let about = keys.text("about");
    match &about {
        Some(about) if about.value.trim().is_empty() || about.value.len() > LONGEST_ABOUT => {
            let message = format!("`about` must have 1 to {LONGEST_ABOUT} bytes");
            keys.wrong(&about.span, message, None);
        }
        None if !keys.has("about") => keys.missing("about", "\"what it says when it passes\""),
        Some(_) | None => {}
    }
    let kinds = [
        ("redis", DatabaseKind::Redis),
        ("mysql", DatabaseKind::Mysql),
        ("mariadb", DatabaseKind::Mysql),
    ];
    let kind = keys.choice("kind", &kinds);
    let services = services(&mut keys);
    let of = keys.choice("of", &[("each", Of::Each), ("one", Of::One), ("others", Of::Others)]);
    let interval = keys.duration("interval", SHORTEST_INTERVAL..=LONGEST_INTERVAL);
    let timeout = keys.duration("timeout", SHORTEST_TIMEOUT..=LONGEST_TIMEOUT);
    let usual = Hysteresis::default();
    let failures = keys.number("failures", 1..=MOST_RESULTS).unwrap_or(usual.failures);
    let successes = keys.number("successes", 1..=MOST_RESULTS).unwrap_or(usual.successes);
    let tables = keys.tables("all");
    if tables.as_ref().map_or_else(|| !keys.has("all"), Vec::is_empty) {
        let message = "no probe: nothing would ever be asked".to_owned();
        let help = "write `[[all]]` and below it `probe = \"…\"`".to_owned();
        keys.wrong(&keys.span(), message, Some(help));
    }
    let tables = tables.unwrap_or_default();
    if let Some(extra) = tables.get(MOST_PROBES) {
        keys.wrong(&extra.span, format!("more than {MOST_PROBES} probes"), None);
    }
    // Each is read, also after a bad one.
    let all: Vec<_> =
        tables.iter().take(MOST_PROBES).map(|table| probe(&mut keys, table)).collect();
    keys.end();
    Some(Definition {
        name: name.to_owned(),
        about: about?.value,
        kind: kind.map(|placed| placed.value),
        services,
        of: of.map_or_else(Of::default, |placed| placed.value),
        interval: interval.map_or(INTERVAL, |placed| placed.value),
        timeout: timeout.map_or(TIMEOUT, |placed| placed.value),
        hysteresis: Hysteresis { failures, successes },
        all: all.into_iter().collect::<Option<_>>()?,
        text: Arc::clone(source),
    })
}

fn services(keys: &mut Keys<'_>) -> Vec<ServiceName> {
    let mut services = Vec::new();
    for text in keys.texts("services", MOST_SERVICES).unwrap_or_default() {
        match ServiceName::new(&text.value) {
            Ok(service) => services.push(service),
            Err(error) => keys.wrong(&text.span, format!("`services`: {error}"), None),
        }
    }
    services
}

fn probe(keys: &mut Keys<'_>, table: &Placed<&DeTable<'_>>) -> Option<Arc<dyn Probe>> {
    let mut keys = keys.below(table);
    let Some(word) = keys.text("probe") else {
        if !keys.has("probe") {
            keys.missing("probe", "\"process\"");
        }
        return None;
    };
    let Some(kind) = KINDS.iter().find(|kind| kind.name == word.value) else {
        let names = || KINDS.iter().map(|kind| kind.name);
        let help = match nearest(&word.value, names()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known: {}", names().collect::<Vec<_>>().join(", ")),
        };
        keys.wrong(&word.span, format!("unknown probe {:?}", word.value), Some(help));
        return None;
    };
    let probe = (kind.read)(&mut keys);
    keys.end();
    probe
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Stage;
    use super::*;

    /// What is said of a text, one problem a line.
    fn said(text: &str) -> String {
        match parse("a", "a.toml", text) {
            Ok(definition) => panic!("it was taken: {definition:?}"),
            Err(problems) => {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// The same for a check that is good but for the keys of its one probe.
    fn said_of(probe: &str) -> String {
        said(&format!("about = \"x\"\n[[all]]\n{probe}"))
    }

    #[test]
    fn everything_has_a_default_but_what_it_is_about_and_its_probes() {
        let check = Stage::check("[[all]]\nprobe = \"process\"");
        assert_eq!((check.name.as_str(), check.about.as_str()), ("test", "a test"));
        assert_eq!((check.interval, check.timeout), (INTERVAL, TIMEOUT));
        assert_eq!(check.hysteresis, Hysteresis { failures: 3, successes: 1 });
        assert_eq!((check.of, check.all.len()), (Of::Each, 1));
        assert!(check.applies(&Stage::target("cache1")));
        assert!(!check.runs_script());
    }

    #[test]
    fn all_keys_are_read() {
        let check = Stage::written(
            "kind = \"redis\"\nservices = [\"foo-redis\"]\nof = \"one\"\ninterval = \"1m30s\"\n\
             timeout = \"2s\"\nfailures = 5\nsuccesses = 0x2",
            "[[all]]\nprobe = \"tcp\"\n[[all]]\nprobe = \"script\"\ncommand = [\"/bin/true\"]",
        );
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs()), (90, 2));
        assert_eq!(check.of, Of::One);
        assert_eq!(check.hysteresis, Hysteresis { failures: 5, successes: 2 });
        assert!(check.applies(&Stage::target("cache1")));
        assert!(check.runs_script());
        let other = Stage::written("services = [\"bar\"]", "[[all]]\nprobe = \"tcp\"");
        assert!(!other.applies(&Stage::target("cache1")));
        assert_ne!(check, other);
        assert_eq!(other, other.clone());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_the_way_out() {
        for (text, expected) in [
            (
                "about = \"x\"\nintervall = \"1s\"\n[[all]]\nprobe = \"process\"",
                "a.toml:2:1: unknown key `intervall`; did you mean `interval`?",
            ),
            (
                "about = \"x\"\ncolour = \"1s\"\n[[all]]\nprobe = \"process\"",
                "a.toml:2:1: unknown key `colour`; known here: about, kind, services, of, \
                 interval, timeout, failures, successes, all",
            ),
            (
                "about = \"x\"\ninterval = 1\n[[all]]\nprobe = \"process\"",
                "a.toml:2:12: `interval` must be a text in quotes",
            ),
            (
                "about = \"x\"\ninterval = \"1\"\n[[all]]\nprobe = \"process\"",
                "a.toml:2:12: `interval`: \"1\" has no unit; write `1s` or `1ms`",
            ),
            (
                "about = \"x\"\ninterval = \"1ms\"\n[[all]]\nprobe = \"process\"",
                "a.toml:2:12: `interval` must be from 100ms to 24h, not 1ms",
            ),
            (
                "about = \"x\"\nfailures = 0\n[[all]]\nprobe = \"process\"",
                "a.toml:2:12: `failures` must be a whole number from 1 to 100",
            ),
            (
                "about = \"x\"\nkind = \"reddis\"\n[[all]]\nprobe = \"process\"",
                "a.toml:2:8: `kind` cannot be \"reddis\"; did you mean `redis`?",
            ),
            (
                "about = \"x\"\nof = \"onee\"\n[[all]]\nprobe = \"process\"",
                "a.toml:2:6: `of` cannot be \"onee\"; did you mean `one`?",
            ),
            (
                "about = \"x\"\nservices = [\"a.b\"]\n[[all]]\nprobe = \"process\"",
                "a.toml:2:13: `services`: \"a.b\" is not a service name: 1 to 63 letters, digits, \
                 `-` or `_`, and a letter or digit first",
            ),
            (
                "about = \"x\"",
                "a.toml:1:1: no probe: nothing would ever be asked; write `[[all]]` and below it \
                 `probe = \"…\"`",
            ),
            (
                "[[all]]\nprobe = \"process\"",
                "a.toml:1:1: `about` is missing; write `about = \"what it says when it passes\"`",
            ),
            (
                "about = \"x\"\n[all]\nprobe = \"process\"",
                "a.toml:2:1: `all` must be a list of tables, each under `[[all]]`",
            ),
        ] {
            assert_eq!(said(text), expected);
        }
    }

    #[test]
    fn probes_say_what_is_wrong_with_their_keys() {
        for (probe, expected) in [
            ("role = \"master\"", "a.toml:2:1: `probe` is missing; write `probe = \"process\"`"),
            ("probe = \"reds\"", "a.toml:3:9: unknown probe \"reds\"; did you mean `redis`?"),
            (
                "probe = \"galera\"",
                "a.toml:3:9: unknown probe \"galera\"; known: alias, dns, http, mysql, mysql-write, \
                 process, redis, script, tcp, ttl",
            ),
            (
                "probe = \"process\"\nrole = \"master\"",
                "a.toml:4:1: unknown key `role`; known here: probe",
            ),
            (
                "probe = \"redis\"\nrole = \"mater\"",
                "a.toml:4:8: `role` cannot be \"mater\"; did you mean `master`?",
            ),
            (
                "probe = \"redis\"\nrole = \"master\"\nlink = true",
                "a.toml:5:8: `link` says nothing about a master; write `role = \"replica\"`, \
                 or drop it",
            ),
            (
                "probe = \"redis\"\nwritable = \"yes\"",
                "a.toml:4:12: `writable` must be `true` or `false`",
            ),
            (
                "probe = \"dns\"\nat_most = \"self\"",
                "a.toml:2:1: `name` is missing; write `name = \"master.{service}.service\"`",
            ),
            (
                "probe = \"dns\"\nname = \"x.service\"",
                "a.toml:2:1: `at_most` is missing; write `at_most = \"self\"`",
            ),
            (
                "probe = \"dns\"\nname = \"{servce}.x\"\nat_most = \"self\"",
                "a.toml:4:8: `name`: unknown placeholder `{servce}`; did you mean `{service}`?",
            ),
            (
                "probe = \"dns\"\nname = \"x\"\nat_most = \"self\"\nservers = [\"10.0.0.1\"]",
                "a.toml:6:12: `servers`: \"10.0.0.1\" is not an address with a port; write \
                 `10.0.0.1:53` or `[2001:db8::1]:53`",
            ),
            (
                "probe = \"script\"\ncommand = \"/bin/true\"",
                "a.toml:4:11: `command` must be a list of at most 64 texts, as `[\"a\", \"b\"]`",
            ),
            (
                "probe = \"script\"\ncommand = [\"true\"]",
                "a.toml:4:12: `command`: \"true\" must be an absolute path; no shell and no \
                 search path is used",
            ),
        ] {
            assert_eq!(said_of(probe), expected);
        }
    }

    #[test]
    fn one_pass_finds_everything_in_the_order_of_the_file() {
        let text = "about = 1\nfailures = -1\n\n[[all]]\nprob = \"tcp\"\n[[all]]\nprobe = \"tcp\"\n\
                    addres = \"x\"\n";
        assert_eq!(
            said(text),
            "a.toml:1:9: `about` must be a text in quotes\n\
             a.toml:2:12: `failures` must be a whole number from 1 to 100\n\
             a.toml:4:1: `probe` is missing; write `probe = \"process\"`\n\
             a.toml:8:1: unknown key `addres`; did you mean `address`?"
        );
    }

    #[test]
    fn broken_syntax_and_too_much_are_refused() {
        let message = said("about = \"x");
        assert!(message.starts_with("a.toml:1:"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        let many = format!("about = \"x\"\n{}", "[[all]]\nprobe = \"tcp\"\n".repeat(17));
        assert_eq!(said(&many), "a.toml:34:1: more than 16 probes");
        let long = format!("about = \"{}\"\n[[all]]\nprobe = \"tcp\"", "x".repeat(201));
        assert_eq!(said(&long), "a.toml:1:9: `about` must have 1 to 200 bytes");
    }
}
