//! Every way in which a MySQL or MariaDB server does not answer, told apart once.
//!
//! Refused, silent, not let in, full: each says something else about the server, and most prove
//! that it lives. What a server says is passed on cut short and without secrets; whoever knows a
//! secret takes it out ([`Fault::scrubbed`]) before a fault leaves the connection.

use std::fmt;
use std::io;

use mysql_async::{DriverError, Error, IoError};
use sengu_core::observation::Answer;

/// Longest text of a server's error that is passed on: characters.
const MAX_ERROR: usize = 300;

/// Why there is no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens.
    Refused,
    /// No answer in time.
    Silent,
    /// Not let in.
    Denied(String),
    /// No connection left.
    TooManyClients,
    /// The connection ended.
    Broken(String),
    /// An error that the server answered with: it did not do it.
    Server {
        /// Its number (MySQL error reference).
        code: u16,
        /// Its text.
        text: String,
    },
    /// It answered with something that makes no sense here.
    Odd(String),
}

/// Errors by number, as both servers use them.
pub(super) mod code {
    /// A privilege is missing for what was asked.
    pub(in crate::database::mysql) const ACCESS_DENIED: u16 = 1227;
    /// No such session.
    pub(in crate::database::mysql) const NO_SUCH_THREAD: u16 = 1094;
    /// No such variable.
    pub(in crate::database::mysql) const UNKNOWN_VARIABLE: u16 = 1193;
    /// What is kept of a source cannot be read.
    pub(in crate::database::mysql) const NO_MASTER_INFO: u16 = 1201;
    /// A lock was not given in time.
    pub(in crate::database::mysql) const LOCK_WAIT_TIMEOUT: u16 = 1205;
    /// The statement was killed.
    pub(in crate::database::mysql) const QUERY_INTERRUPTED: u16 = 1317;
    /// The session was killed (MariaDB says so; MySQL closes the connection).
    pub(in crate::database::mysql) const CONNECTION_KILLED: u16 = 1927;
}

impl Fault {
    /// Did the server say that it did not do it?
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Denied(_) | Self::TooManyClients | Self::Refused | Self::Server { .. } => true,
            Self::Silent | Self::Broken(_) | Self::Odd(_) => false,
        }
    }

    /// Is it this error of the server?
    pub(super) fn is(&self, number: u16) -> bool {
        matches!(self, Self::Server { code, .. } if *code == number)
    }

    /// As a role probe tells it.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Refused => Answer::Refused,
            Self::Silent => Answer::Silent,
            Self::Denied(text) => Answer::AuthFailed(text),
            // Let in, but not permitted to ask: a grant is missing.
            Self::Server { code: 1044 | 1142 | 1143 | code::ACCESS_DENIED, text } => {
                Answer::AuthFailed(text)
            }
            Self::TooManyClients => Answer::TooManyClients,
            Self::Broken(text) | Self::Server { text, .. } | Self::Odd(text) => Answer::Error(text),
        }
    }

    /// Without these words.
    pub(super) fn scrubbed<'a>(self, secrets: impl Iterator<Item = &'a str> + Clone) -> Self {
        let clean = |text: String| {
            let secrets = secrets.clone().filter(|secret| !secret.is_empty());
            secrets.fold(text, |text, secret| text.replace(secret, "***"))
        };
        match self {
            Self::Denied(text) => Self::Denied(clean(text)),
            Self::Broken(text) => Self::Broken(clean(text)),
            Self::Server { code, text } => Self::Server { code, text: clean(text) },
            Self::Odd(text) => Self::Odd(clean(text)),
            other => other,
        }
    }

    fn of_server(code: u16, text: &str) -> Self {
        let text = format!("{} (error {code})", shortened(text, MAX_ERROR));
        match code {
            // Too many connections: of all, of one user, of one user's share.
            1040 | 1203 | 1226 => Self::TooManyClients,
            // Wrong password, no such database, another way of logging in, host blocked or not
            // permitted, secure transport wanted, password expired, account locked, offline mode.
            1045 | 1129 | 1130 | 1251 | 1275 | 1524 | 1698 | 1820 | 1862 | 3032 | 3118 | 3159
            | 4151 => Self::Denied(text),
            _ => Self::Server { code, text },
        }
    }
}

/// At most so many characters, in one line.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) => Self::of_server(error.code, &error.message),
            Error::Io(IoError::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Self::Refused
            }
            Error::Io(error) => Self::Broken(shortened(&error.to_string(), MAX_ERROR)),
            Error::Driver(DriverError::ConnectionClosed) => {
                Self::Broken("the server closed the connection".to_owned())
            }
            // Their `Debug` may hold data; what they display is fixed or a name.
            Error::Driver(error) => Self::Odd(shortened(&error.to_string(), MAX_ERROR)),
            Error::Other(error) => Self::Odd(shortened(&error.to_string(), MAX_ERROR)),
            Error::Url(_) => Self::Odd("not an address".to_owned()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Silent => f.write_str("no answer in time"),
            Self::TooManyClients => f.write_str("it has no connection left (max_connections)"),
            Self::Denied(text)
            | Self::Broken(text)
            | Self::Server { text, .. }
            | Self::Odd(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> Fault {
        let (message, state) = (message.to_owned(), "HY000".to_owned());
        Error::Server(mysql_async::ServerError { code, message, state }).into()
    }

    #[test]
    fn errors_that_prove_life_are_alive() {
        for code in [1040, 1044, 1045, 1129, 1130, 1203, 1226, 1251, 1275, 3032] {
            let answer = server(code, "no").answer();
            assert!(answer.alive(), "{code}: {answer:?}");
        }
        assert!(!server(1053, "shutdown").answer().alive());
        let gone = Error::Io(IoError::Io(io::ErrorKind::ConnectionReset.into()));
        assert!(matches!(Fault::from(gone).answer(), Answer::Error(_)));
    }

    #[test]
    fn a_text_is_cut_and_has_no_secret() {
        let fault = server(1064, &format!("near 's3cret'\n{}", "x".repeat(1000)));
        let shown = fault.scrubbed(["", "s3cret"].into_iter()).to_string();
        assert!(shown.contains("near '***' xxx") && shown.len() < 400, "{shown}");
    }
}
