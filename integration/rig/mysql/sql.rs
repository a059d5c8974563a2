//! A blocking client of one MySQL or MariaDB server, with a limit on every answer.
//!
//! Each connection has a small runtime of its own, so that tests and client threads need none.
//! What did not answer in time is never used again.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};
use tokio::runtime::Runtime;

/// Name and password of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// The account's name.
    pub user: &'static str,
    /// Its password; these servers live on loopback for the length of a test.
    pub password: &'static str,
}

/// Why a statement has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server answered with an error.
    Refused {
        /// Its number, as 1290 for a server that is read-only.
        code: u16,
        /// Its text.
        message: String,
    },
    /// No answer: connection lost, refused or out of time.
    Lost(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message } => write!(to, "error {code}: {message}"),
            Self::Lost(why) => write!(to, "no answer: {why}"),
        }
    }
}

impl From<mysql_async::Error> for Trouble {
    fn from(error: mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(error) => {
                Self::Refused { code: error.code, message: error.message }
            }
            other => Self::Lost(other.to_string()),
        }
    }
}

/// One row of a result: column to text; no entry for NULL.
pub type Record = BTreeMap<String, String>;

/// A connection.
#[derive(Debug)]
pub struct Sql {
    // Ends before its runtime does.
    connection: Option<Conn>,
    runtime: Runtime,
    patience: Duration,
    id: u32,
}

impl Sql {
    /// Connects and logs in; this and each statement later may take so long.
    ///
    /// # Errors
    /// If the server refuses or does not answer in time.
    pub fn connect(at: SocketAddr, login: Login, patience: Duration) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let options = OptsBuilder::default()
            .ip_or_hostname(at.ip().to_string())
            .tcp_port(at.port())
            .user(Some(login.user))
            .pass(Some(login.password))
            .prefer_socket(false)
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(28_800))
            .stmt_cache_size(0);
        let connection = limited(&runtime, patience, Conn::new(options))?;
        let id = connection.id();
        Ok(Self { connection: Some(connection), runtime, patience, id })
    }

    /// The number that the server gave it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Runs a statement without result.
    ///
    /// # Errors
    /// If it is refused or not answered in time.
    pub fn run(&mut self, statement: &str) -> Result<(), Trouble> {
        self.rows(statement).map(drop)
    }

    /// Runs a statement and gives back its rows.
    ///
    /// # Errors
    /// If it is refused or not answered in time.
    pub fn rows(&mut self, statement: &str) -> Result<Vec<Record>, Trouble> {
        let gone = || Trouble::Lost("this connection was given up before".into());
        let connection = self.connection.as_mut().ok_or_else(gone)?;
        let answer = limited(&self.runtime, self.patience, connection.query(statement));
        if matches!(answer, Err(Trouble::Lost(_))) {
            self.connection = None;
        }
        let rows: Vec<Row> = answer?;
        Ok(rows.into_iter().map(record).collect())
    }

    /// The first column of the first row; empty for none and for NULL.
    ///
    /// # Errors
    /// If it is refused or not answered in time.
    pub fn value(&mut self, statement: &str) -> Result<String, Trouble> {
        let first = self.rows(statement)?.into_iter().next();
        Ok(first.and_then(|row| row.into_values().next()).unwrap_or_default())
    }
}

fn limited<T>(
    runtime: &Runtime,
    patience: Duration,
    work: impl Future<Output = mysql_async::Result<T>>,
) -> Result<T, Trouble> {
    let limited = runtime.block_on(async { tokio::time::timeout(patience, work).await });
    let late = |_| Trouble::Lost(format!("no answer within {} s", patience.as_secs_f64()));
    limited.map_err(late)?.map_err(Trouble::from)
}

fn record(row: Row) -> Record {
    let columns = row.columns();
    let names = columns.iter().map(|column| column.name_str().into_owned());
    let cells = row.unwrap_raw().into_iter().map(|value| value.and_then(text));
    names.zip(cells).filter_map(|(name, text)| Some((name, text?))).collect()
}

/// Everything is text in this protocol.
fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}
