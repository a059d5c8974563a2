//! What a Redis server answers, and every way in which it does not.
//!
//! The ways of failing are told apart here, once: refused, silent, not let in, loading, busy. No
//! text that leaves this module holds a password.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::str::FromStr;

use redis::{RedisError, ServerError, Value};
use sengu_core::observation::Answer;

/// Longest text of a server's error that is passed on.
const MAX_ERROR: usize = 300;

/// Why there is no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens.
    Refused,
    /// No answer in time.
    Silent,
    /// Wrong or missing password, or a command that the user may not run.
    Denied(String),
    /// No connection left.
    TooManyClients,
    /// It reads its data.
    Loading,
    /// It reads its data, as a read-only copy, which it will still be after.
    LoadingCopy,
    /// It runs a script.
    Busy,
    /// It runs a script that has written and cannot be stopped.
    Unkillable,
    /// The connection ended.
    Broken(String),
    /// Any other error that the server answered with: it did not do it.
    Server(String),
    /// It answered with something that makes no sense here.
    Odd(String),
}

impl Fault {
    /// Did the server say that it did not do it?
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Denied(_)
            | Self::TooManyClients
            | Self::Loading
            | Self::LoadingCopy
            | Self::Busy
            | Self::Unkillable
            | Self::Server(_)
            | Self::Refused => true,
            Self::Silent | Self::Broken(_) | Self::Odd(_) => false,
        }
    }

    /// As a role probe tells it.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Refused => Answer::Refused,
            Self::Silent => Answer::Silent,
            Self::Denied(text) => Answer::AuthFailed(text),
            Self::TooManyClients => Answer::TooManyClients,
            Self::Loading | Self::LoadingCopy => Answer::Loading,
            Self::Busy | Self::Unkillable => Answer::Busy,
            Self::Broken(text) | Self::Server(text) | Self::Odd(text) => Answer::Error(text),
        }
    }

    /// Of an error reply, by its code and text.
    fn of_server(code: &str, detail: &str) -> Self {
        let mut text = format!("{code} {detail}");
        if let Some((end, _)) = text.char_indices().nth(MAX_ERROR) {
            text.truncate(end);
        }
        match code {
            _ if detail.contains("max number of clients") => Self::TooManyClients,
            "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => Self::Denied(text),
            "LOADING" => Self::Loading,
            "BUSY" => Self::Busy,
            "UNKILLABLE" => Self::Unkillable,
            _ if detail.contains("without any password configured") => Self::Denied(text),
            _ => Self::Server(text),
        }
    }
}

impl From<&ServerError> for Fault {
    fn from(error: &ServerError) -> Self {
        Self::of_server(error.code(), error.details().unwrap_or_default())
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        if error.is_connection_refusal() {
            return Self::Refused;
        }
        if error.is_timeout() {
            return Self::Silent;
        }
        let detail = error.detail().unwrap_or_default();
        if let Some(code) = error.code() {
            return Self::of_server(code, detail);
        }
        if error.is_io_error() {
            return Self::Broken(error.to_string());
        }
        Self::Odd(error.to_string())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Silent,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Silent => f.write_str("no answer in time"),
            Self::TooManyClients => f.write_str("no connection left (`maxclients`)"),
            Self::Loading => f.write_str("the server reads its data from disk"),
            Self::LoadingCopy => {
                f.write_str("the server reads its data from disk, as a copy that takes no writes")
            }
            Self::Busy => f.write_str("the server is busy in a script"),
            Self::Unkillable => {
                f.write_str("the server is busy in a script that has written: only a kill ends it")
            }
            Self::Broken(text) => write!(f, "the connection ended: {text}"),
            Self::Denied(text) | Self::Server(text) => write!(f, "the server said `{text}`"),
            Self::Odd(text) => write!(f, "unexpected answer: {text}"),
        }
    }
}

/// An error reply as a fault, anything else as it is.
pub(super) fn checked(value: &Value) -> Result<&Value, Fault> {
    match value {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// A reply as text.
pub(super) fn text(value: &Value) -> Result<String, Fault> {
    match checked(value)? {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.clone()),
        Value::Okay => Ok("OK".to_owned()),
        _ => Err(Fault::Odd("no text".to_owned())),
    }
}

/// A reply as a whole number.
pub(super) fn number(value: &Value) -> Result<u64, Fault> {
    match checked(value)? {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
    .ok_or_else(|| Fault::Odd("no number".to_owned()))
}

/// The value of a `CONFIG GET name`; `None` if the server has none or may not tell.
pub(super) fn setting<T: FromStr>(value: &Value) -> Option<T> {
    match value {
        Value::Array(pair) => text(pair.get(1)?).ok()?.parse().ok(),
        Value::Map(pairs) => text(&pairs.first()?.1).ok()?.parse().ok(),
        _ => None,
    }
}

/// The lines of one or more `INFO` sections.
#[derive(Debug, Default)]
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    /// Adds the lines of one section.
    pub(super) fn add(&mut self, value: &Value) -> Result<(), Fault> {
        for line in text(value)?.lines() {
            if let Some((key, value)) = line.trim_end().split_once(':') {
                self.0.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    /// One line's value.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// One line's value as a number; `None` where it is absent or negative.
    pub(super) fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    /// Is a flag set?
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.text(key) == Some("1")
    }

    /// Does any database hold a key? From the section `keyspace`.
    pub(super) fn has_keys(&self) -> bool {
        self.0.iter().any(|(key, value)| key.starts_with("db") && value.starts_with("keys="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_replies_are_told_apart() {
        let denied = |text: &str| Fault::Denied(text.to_owned());
        for (code, detail, expected) in [
            ("ERR", "max number of clients reached", Fault::TooManyClients),
            ("NOAUTH", "Authentication required.", denied("NOAUTH Authentication required.")),
            ("WRONGPASS", "no", denied("WRONGPASS no")),
            ("NOPERM", "no", denied("NOPERM no")),
            ("LOADING", "Redis is loading", Fault::Loading),
            ("BUSY", "Redis is busy", Fault::Busy),
            ("UNKILLABLE", "Sorry", Fault::Unkillable),
            ("ERR", "unknown command", Fault::Server("ERR unknown command".to_owned())),
        ] {
            assert_eq!(Fault::of_server(code, detail), expected, "{code} {detail}");
        }
        let Fault::Server(cut) = Fault::of_server("ERR", &"é".repeat(1000)) else {
            panic!("another fault");
        };
        assert_eq!(cut.chars().count(), MAX_ERROR);
    }

    #[test]
    fn info_is_read_by_line() {
        let mut info = Info::default();
        let text =
            "# Replication\r\nrole:slave\r\nslave_repl_offset:42\r\nsecond_repl_offset:-1\r\n";
        info.add(&Value::BulkString(text.into())).expect("text");
        assert_eq!(info.text("role"), Some("slave"));
        assert_eq!(info.number::<u64>("slave_repl_offset"), Some(42));
        assert_eq!(info.number::<u64>("second_repl_offset"), None);
        assert!(!info.has_keys());
        info.add(&Value::BulkString("db0:keys=1,expires=0\r\n".into())).expect("text");
        assert!(info.has_keys());
    }
}
