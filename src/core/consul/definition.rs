//! What an agent is asked to look at, in Consul's words: services and checks as clients register
//! them with the agent, and as its definition files hold them.
//!
//! A request is read leniently in its keys' case and strictly in its meaning: a kind of check
//! that sengu does not run is refused by name, never registered and forgotten. What is kept is
//! the [`Definition`], which stands in the check's record, so that it outlives the agent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Refusal;
use super::duration;
use super::json::Nullable;

/// The shortest interval; a shorter one is taken as this, as Consul does.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The shortest time until a critical check's service is removed.
pub const REAP_MIN: Duration = Duration::from_secs(60);
/// The longest of any of these times.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a look may take, unless told: HTTP and TCP, programs.
const TIMEOUT: Duration = Duration::from_secs(10);
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);
/// The most arguments, and header lines.
const WORDS_MAX: usize = 64;
/// The longest URL, body or argument, in bytes.
const WORD_MAX: usize = 4096;
/// The most results in a row that can be asked for.
const ROW_MAX: u32 = 1000;

/// A service, as it is registered with the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AgentService {
    /// Its id; default: its name.
    pub id: Nullable<String>,
    /// Its name.
    pub name: Nullable<String>,
    /// Its tags.
    pub tags: Nullable<Vec<String>>,
    /// Its address; empty: the host's.
    pub address: Nullable<String>,
    /// Its port.
    pub port: Nullable<u16>,
    /// Its metadata.
    pub meta: Nullable<Map<String, Value>>,
    /// A check of it.
    pub check: Option<AgentCheck>,
    /// More checks.
    pub checks: Nullable<Vec<AgentCheck>>,
}

/// A check, as it is registered with the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AgentCheck {
    /// Its id; default: its name.
    #[serde(alias = "id")]
    pub checkid: Nullable<String>,
    /// Its name.
    pub name: Nullable<String>,
    /// For people.
    pub notes: Nullable<String>,
    /// The service that it is about; empty: the host.
    pub serviceid: Nullable<String>,
    /// How it stands until the first result; default critical.
    pub status: Nullable<String>,
    /// Told from outside, at least so often.
    pub ttl: Nullable<Time>,
    /// How often it looks.
    pub interval: Nullable<Time>,
    /// How long a look may take.
    pub timeout: Nullable<Time>,
    /// A URL to ask.
    pub http: Nullable<String>,
    /// How: default GET.
    pub method: Nullable<String>,
    /// Its header lines.
    pub header: Nullable<BTreeMap<String, Vec<String>>>,
    /// Its body.
    pub body: Nullable<String>,
    /// Take any certificate.
    pub tlsskipverify: Nullable<bool>,
    /// Take an answer that leads elsewhere as it is.
    pub disableredirects: Nullable<bool>,
    /// `host:port` to connect to.
    pub tcp: Nullable<String>,
    /// A program and its arguments.
    #[serde(alias = "scriptargs")]
    pub args: Nullable<Vec<String>>,
    /// The service whose checks it repeats.
    pub aliasservice: Nullable<String>,
    /// On which host; default: this one.
    pub aliasnode: Nullable<String>,
    /// Results in a row before it passes.
    pub successbeforepassing: Nullable<u32>,
    /// Failures in a row before it warns.
    pub failuresbeforewarning: Nullable<u32>,
    /// Failures in a row before it is critical.
    pub failuresbeforecritical: Nullable<u32>,
    /// Critical for so long, its service is removed.
    pub deregistercriticalserviceafter: Nullable<Time>,
    /// Everything else that was said.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// A time in Consul's JSON: Go's words, or nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match Value::deserialize(deserializer)? {
            Value::Number(number) => number
                .as_u64()
                .map(|nanos| Self(Duration::from_nanos(nanos)))
                .ok_or_else(|| D::Error::custom(format!("{number} is no duration"))),
            Value::String(text) if text.is_empty() => Ok(Self::default()),
            Value::String(text) => duration::parse(&text).map(Self).ok_or_else(|| {
                D::Error::custom(format!("{text:?} is no duration; write it as \"10s\""))
            }),
            other @ (Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                Err(D::Error::custom(format!("{other} is no duration")))
            }
        }
    }
}

/// What the agent does for a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// How it looks.
    pub way: Way,
    /// How often, in milliseconds; 0 where nothing is asked.
    #[serde(default)]
    pub interval_ms: u64,
    /// How long a look may take, in milliseconds.
    #[serde(default)]
    pub timeout_ms: u64,
    /// Good results in a row before it is told; 0 counts as 1.
    #[serde(default)]
    pub successes: u32,
    /// Failures in a row before it warns; 0: as `failures`.
    #[serde(default)]
    pub failures_warning: u32,
    /// Failures in a row before it is critical; 0 counts as 1.
    #[serde(default)]
    pub failures: u32,
    /// Critical for so long, its service is removed, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reap_ms: Option<u64>,
}

/// How a check looks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// It is told, at least so often.
    Ttl {
        /// In milliseconds.
        ttl_ms: u64,
    },
    /// It asks a URL: 2xx passes, 429 warns.
    Http {
        /// Which.
        url: String,
        /// How.
        method: String,
        /// With these header lines.
        #[serde(default)]
        header: BTreeMap<String, Vec<String>>,
        /// With this body.
        #[serde(default)]
        body: String,
        /// Take any certificate.
        #[serde(default)]
        any_certificate: bool,
        /// Go where the answer leads.
        #[serde(default)]
        follow: bool,
    },
    /// It connects.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// It runs a program: 0 passes, 1 warns.
    Script {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// It repeats what another service's checks say.
    Alias {
        /// On which host; none: this one.
        node: Option<String>,
        /// The id of the service; none: the host.
        service: Option<String>,
    },
}

/// Header lines and arguments may hold secrets.
impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl Way {
    /// The word in Consul's `Type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ttl { .. } => "ttl",
            Self::Http { .. } => "http",
            Self::Tcp { .. } => "tcp",
            Self::Script { .. } => "script",
            Self::Alias { .. } => "alias",
        }
    }
}

impl Definition {
    /// How often it looks.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// How long a look may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Kinds of checks and settings that would mean something else if they were passed over.
const REFUSED: [(&str, &str); 9] = [
    ("grpc", "gRPC checks"),
    ("udp", "UDP checks"),
    ("h2ping", "HTTP/2 checks"),
    ("dockercontainerid", "checks inside containers"),
    ("osservice", "checks of system services"),
    ("tcpusetls", "TLS in TCP checks"),
    ("tlsservername", "another TLS server name"),
    ("script", "`Script` lines for a shell (write `Args`)"),
    ("shell", "checks by a shell (write `Args`)"),
];

impl AgentCheck {
    /// What the agent is to do.
    ///
    /// # Errors
    /// [`Refusal::Bad`]: no kind, several, or one that is not run here; times out of bounds.
    pub fn definition(&self) -> Result<Definition, Refusal> {
        for (key, what) in REFUSED {
            let said = self.others.get(key);
            if said.is_some_and(|value| !empty(value)) {
                return Err(bad(format!("{what} are not supported by this agent")));
            }
        }
        let way = self.way()?;
        let (interval, timeout) = self.times(&way)?;
        let reap = self.deregistercriticalserviceafter.0.0;
        let row = |what: &str, number: u32| {
            if number > ROW_MAX {
                return Err(bad(format!("{what} of {number} is more than {ROW_MAX}")));
            }
            Ok(number)
        };
        Ok(Definition {
            way,
            interval_ms: millis(interval),
            timeout_ms: millis(timeout),
            successes: row("SuccessBeforePassing", self.successbeforepassing.0)?,
            failures_warning: row("FailuresBeforeWarning", self.failuresbeforewarning.0)?,
            failures: row("FailuresBeforeCritical", self.failuresbeforecritical.0)?,
            reap_ms: (!reap.is_zero())
                .then(|| bounded("DeregisterCriticalServiceAfter", reap).map(millis))
                .transpose()?
                .map(|ms| ms.max(millis(REAP_MIN))),
        })
    }

    fn way(&self) -> Result<Way, Refusal> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut ways = Vec::new();
        if !self.ttl.0.0.is_zero() {
            ways.push(Way::Ttl { ttl_ms: millis(bounded("TTL", self.ttl.0.0)?).max(1) });
        }
        if !self.http.0.is_empty() {
            ways.push(self.http()?);
        }
        if !self.tcp.0.is_empty() {
            let address = self.tcp.0.clone();
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) || address.len() > WORD_MAX {
                return Err(bad(format!("TCP {address:?} is not `host:port`")));
            }
            ways.push(Way::Tcp { address });
        }
        if !self.args.0.is_empty() {
            let command = self.args.0.clone();
            if command.len() > WORDS_MAX || command.iter().any(|word| word.len() > WORD_MAX) {
                return Err(bad(format!("Args has more than {WORDS_MAX} words, or too long ones")));
            }
            ways.push(Way::Script { command });
        }
        if !self.aliasservice.0.is_empty() || !self.aliasnode.0.is_empty() {
            let (node, service) = (some(&self.aliasnode.0), some(&self.aliasservice.0));
            ways.push(Way::Alias { node, service });
        }
        match (ways.pop(), ways.pop()) {
            (Some(way), None) => Ok(way),
            (None, _) => {
                Err(bad("Check type is missing: one of TTL, HTTP, TCP, Args, AliasService"))
            }
            (Some(_), Some(_)) => Err(bad(
                "Invalid check: only one of TTL, HTTP, TCP, Args and AliasService may be given",
            )),
        }
    }

    fn http(&self) -> Result<Way, Refusal> {
        let url = self.http.0.clone();
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(bad(format!(
                "HTTP {url:?} is no URL that begins with http:// or https://"
            )));
        }
        let header = self.header.0.clone();
        let lines: usize = header.values().map(Vec::len).sum();
        let long = |text: &String| text.len() > WORD_MAX || text.contains(['\r', '\n']);
        let bad_header = header.iter().any(|(key, all)| long(key) || all.iter().any(long));
        if long(&url) || lines > WORDS_MAX || bad_header || self.body.0.len() > WORD_MAX {
            return Err(bad(format!(
                "HTTP check: URL, body and header lines may have {WORD_MAX} bytes each, and there \
                 may be {WORDS_MAX} lines"
            )));
        }
        let method = self.method.0.to_ascii_uppercase();
        if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || method.len() > 16 {
            return Err(bad(format!("Method {method:?} is none")));
        }
        Ok(Way::Http {
            url,
            method: if method.is_empty() { "GET".to_owned() } else { method },
            header,
            body: self.body.0.clone(),
            any_certificate: self.tlsskipverify.0,
            follow: !self.disableredirects.0,
        })
    }

    fn times(&self, way: &Way) -> Result<(Duration, Duration), Refusal> {
        let usual = match way {
            Way::Ttl { .. } | Way::Alias { .. } => return Ok(Default::default()),
            Way::Script { .. } => SCRIPT_TIMEOUT,
            Way::Http { .. } | Way::Tcp { .. } => TIMEOUT,
        };
        if self.interval.0.0.is_zero() {
            return Err(bad("Interval must be > 0 for Script, HTTP, or TCP checks"));
        }
        let interval = bounded("Interval", self.interval.0.0)?.max(INTERVAL_MIN);
        let timeout = bounded("Timeout", self.timeout.0.0)?;
        Ok((interval, if timeout.is_zero() { usual } else { timeout }))
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn bounded(what: &str, time: Duration) -> Result<Duration, Refusal> {
    if time > LONGEST {
        return Err(bad(format!("{what} is longer than {} days", LONGEST.as_secs() / 86_400)));
    }
    Ok(time)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::Bad(text.into())
}

#[cfg(test)]
mod tests {
    use super::super::json::decode;
    use super::*;

    fn read(text: &str) -> Result<Definition, String> {
        let check: AgentCheck = decode(text.as_bytes()).map_err(|refusal| refusal.to_string())?;
        check.definition().map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn each_kind_is_read_in_any_case() {
        let way = |text: &str| read(text).expect(text).way;
        assert_eq!(way(r#"{"TTL":"15s"}"#), Way::Ttl { ttl_ms: 15_000 });
        assert_eq!(way(r#"{"ttl":15000000000}"#), Way::Ttl { ttl_ms: 15_000 });
        assert_eq!(
            way(r#"{"tcp":"db:1","Interval":"10s"}"#),
            Way::Tcp { address: "db:1".to_owned() }
        );
        let command = vec!["/bin/true".to_owned()];
        assert_eq!(
            way(r#"{"script_args":["/bin/true"],"interval":"1m"}"#),
            Way::Script { command: command.clone() }
        );
        assert_eq!(way(r#"{"Args":["/bin/true"],"interval":"1m"}"#), Way::Script { command });
        let alias = Way::Alias { node: None, service: Some("web".to_owned()) };
        assert_eq!(way(r#"{"AliasService":"web"}"#), alias);
        let http = read(
            r#"{"HTTP":"http://h/","Interval":"5s","Header":{"X_Token":["a"]},"method":"post",
                "DisableRedirects":true,"OutputMaxSize":10}"#,
        );
        let Way::Http { method, header, follow, .. } = http.expect("good").way else {
            panic!("no HTTP check");
        };
        assert_eq!((method.as_str(), follow), ("POST", false));
        assert_eq!(header["X_Token"], ["a"], "keys of header lines are kept");
    }

    #[test]
    fn times_have_defaults_and_floors() {
        let read = |text: &str| read(text).expect(text);
        let tcp = read(r#"{"tcp":"db:1","interval":10}"#);
        assert_eq!((tcp.interval_ms, tcp.timeout_ms), (1000, 10_000), "10 ns become a second");
        assert_eq!(read(r#"{"args":["x"],"interval":"5s"}"#).timeout_ms, 30_000);
        let ttl = read(r#"{"ttl":"1s","DeregisterCriticalServiceAfter":"1s"}"#);
        assert_eq!((ttl.interval_ms, ttl.reap_ms), (0, Some(60_000)));
        assert_eq!(read(r#"{"ttl":"1s","deregister_critical_service_after":""}"#).reap_ms, None);
    }

    #[test]
    fn what_is_not_run_is_refused_by_name() {
        for (text, words) in [
            ("{}", "Check type is missing"),
            (r#"{"ttl":"1s","tcp":"a:1","interval":"1s"}"#, "only one of"),
            (r#"{"tcp":"a:1"}"#, "Interval must be > 0"),
            (r#"{"tcp":"a","interval":"1s"}"#, "is not `host:port`"),
            (r#"{"http":"ftp://x","interval":"1s"}"#, "is no URL"),
            (r#"{"GRPC":"a:1","interval":"1s"}"#, "gRPC checks are not supported"),
            (r#"{"udp":"a:1","interval":"1s"}"#, "UDP checks are not supported"),
            (r#"{"DockerContainerID":"x","args":["y"],"interval":"1s"}"#, "inside containers"),
            (r#"{"ttl":"soon"}"#, "is no duration"),
            (r#"{"ttl":"10000h"}"#, "longer than 7 days"),
            (r#"{"tls_server_name":"x","http":"https://y","interval":"1s"}"#, "server name"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(words), "{text}: {said}");
        }
        assert!(read(r#"{"grpc":"","docker_container_id":null,"ttl":"1s"}"#).is_ok());
    }

    #[test]
    fn nothing_secret_is_shown() {
        let text = r#"{"http":"http://u:hunter2@h","interval":"1s","header":{"A":["hunter2"]}}"#;
        let shown = format!("{:?}", read(text).expect("good"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
