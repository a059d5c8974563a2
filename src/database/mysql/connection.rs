//! Connections to one server: how they are opened, and what is known of each.
//!
//! A connection is owned by a task of its own and asked through a [`Session`]. A question whose
//! deadline passes is left where it is: its answer is read and thrown away when it comes, so the
//! connection is never out of step, and the next question waits for its turn. A panic in the
//! client library ends that task and nothing else.
//!
//! Text goes over the wire as it was written here: what stands in it of names and passwords is
//! quoted with [`quoted`], and no secret leaves in a [`Fault`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::fault::Fault;
use super::server::Server;
use super::tls;
use crate::config::{Credentials, TlsConfig};
use crate::process::Process;

/// One row of an answer, by the lower-case name of its column; `None` is NULL. All is text.
pub(super) type Row = BTreeMap<String, Option<String>>;

/// The user that logs in where the credentials name none.
pub(super) const DEFAULT_USER: &str = "sengu";

/// Rows of one answer that are kept; the rest is read and dropped.
const MAX_ROWS: usize = 10_000;

/// Longest answer in one packet: bytes.
const MAX_PACKET: usize = 16 * 1024 * 1024;

/// Seconds after which the server may close a connection on which nothing was asked.
const IDLE_SECONDS: u32 = 28_800;

/// Seconds that a statement of ours waits for a lock at most: the smallest that both servers take.
const LOCK_SECONDS: u32 = 1;

/// Opens connections with one set of credentials.
pub(super) struct Dialer {
    options: OptsBuilder,
    /// Never shown.
    secrets: Arc<[String]>,
}

impl Dialer {
    /// Reads the certificates, if there are any to read.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub(super) fn new(
        credentials: Option<&Credentials>,
        tls: Option<&TlsConfig>,
    ) -> Result<Self, String> {
        if tls.is_some() {
            // Fails if one is installed already, which is as good.
            let _installed = rustls::crypto::ring::default_provider().install_default();
        }
        let user = credentials.and_then(|login| login.user.clone());
        let options = OptsBuilder::default()
            .user(Some(user.unwrap_or_else(|| DEFAULT_USER.to_owned())))
            .pass(credentials.map(|login| login.password.clone()))
            // Or it would leave the address that clients use for the local socket.
            .prefer_socket(false)
            .tcp_nodelay(true)
            .stmt_cache_size(0)
            .max_allowed_packet(Some(MAX_PACKET))
            .wait_timeout(Some(IDLE_SECONDS as usize))
            .ssl_opts(tls.map(tls::options).transpose()?);
        let replication = credentials.and_then(|login| login.replication.as_ref());
        let passwords = credentials
            .map(|login| &login.password)
            .into_iter()
            .chain(replication.map(|login| &login.password));
        let secrets = passwords.flat_map(|password| {
            let escaped = quoted(password);
            [password.clone(), escaped[1..escaped.len() - 1].to_owned()]
        });
        Ok(Self { options, secrets: secrets.collect() })
    }

    /// Opens a connection, logs in, and puts its session into a known state. Bounded by the
    /// deadline.
    pub(super) async fn open(
        &self,
        address: SocketAddr,
        purpose: &str,
        deadline: Instant,
    ) -> Result<Session, Fault> {
        let options: Opts = self
            .options
            .clone()
            .ip_or_hostname(address.ip().to_string())
            .tcp_port(address.port())
            .connect_attribute("program_name", purpose)
            .into();
        let (orders, received) = mpsc::channel(1);
        let (opened, opening) = oneshot::channel();
        let secrets = Arc::clone(&self.secrets);
        let task = tokio::spawn(own(options, secrets, opened, received)).abort_handle();
        let aborting = Task(task);
        let id = match timeout_at(deadline, opening).await {
            Ok(Ok(opened)) => opened?,
            // Its words say nothing more: the library has panicked.
            Ok(Err(_)) => return Err(Fault::Odd("the client library failed".to_owned())),
            Err(_) => return Err(Fault::Silent),
        };
        let wire = Wire { orders, _task: aborting };
        let server = Server::greet(&wire, deadline).await?;
        Ok(Session(Arc::new(Inner { id, server, wire, process: Mutex::default() })))
    }
}

/// Text as a literal of SQL. Sessions are opened with backslash escapes on.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for character in text.chars() {
        match character {
            '\'' => literal.push_str("''"),
            '\\' => literal.push_str("\\\\"),
            '\0' => literal.push_str("\\0"),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

/// Ends the task that owns a connection, and the connection with it.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A question on its way.
struct Order {
    sql: String,
    reply: oneshot::Sender<Result<Vec<Vec<Row>>, Fault>>,
}

/// The way to the task that owns a connection.
pub(super) struct Wire {
    orders: mpsc::Sender<Order>,
    _task: Task,
}

impl Wire {
    /// Sends statements in one go; brings back the rows of each.
    pub(super) async fn ask(&self, sql: &str, deadline: Instant) -> Result<Vec<Vec<Row>>, Fault> {
        let closed = || Fault::Broken("the connection has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        let order = Order { sql: sql.to_owned(), reply };
        let answered = async {
            self.orders.send(order).await.map_err(|_| closed())?;
            answer.await.unwrap_or_else(|_| Err(closed()))
        };
        timeout_at(deadline, answered).await.unwrap_or(Err(Fault::Silent))
    }
}

/// Owns a connection for as long as it is good.
async fn own(
    options: Opts,
    secrets: Arc<[String]>,
    opened: oneshot::Sender<Result<u64, Fault>>,
    mut orders: mpsc::Receiver<Order>,
) {
    let clean = |fault: Fault| fault.scrubbed(secrets.iter().map(String::as_str));
    let mut connection = match Conn::new(options).await {
        Ok(connection) => connection,
        Err(error) => {
            // Whoever asked may have gone.
            let _gone = opened.send(Err(clean(error.into())));
            return;
        }
    };
    if opened.send(Ok(u64::from(connection.id()))).is_err() {
        return;
    }
    while let Some(Order { sql, reply }) = orders.recv().await {
        if reply.is_closed() {
            continue; // It was never sent, and whoever asked has gone.
        }
        let answer = run(&mut connection, sql).await.map_err(|error| {
            let fatal = error.is_fatal();
            (clean(error.into()), fatal)
        });
        let (answer, fatal) = match answer {
            Ok(rows) => (Ok(rows), false),
            Err((fault, fatal)) => (Err(fault), fatal),
        };
        let _gone = reply.send(answer);
        if fatal {
            return;
        }
    }
}

async fn run(connection: &mut Conn, sql: String) -> mysql_async::Result<Vec<Vec<Row>>> {
    let mut result = connection.query_iter(sql).await?;
    let mut sets = Vec::new();
    loop {
        let mut rows = Vec::new();
        // One set of rows at a time; a statement without rows is an empty one.
        while let Some(row) = result.next().await? {
            if rows.len() < MAX_ROWS {
                rows.push(named(row));
            }
        }
        sets.push(rows);
        if result.is_empty() {
            return Ok(sets);
        }
    }
}

fn named(row: mysql_async::Row) -> Row {
    let columns = row.columns();
    let names = columns.iter().map(|column| column.name_str().to_ascii_lowercase());
    let values = row.unwrap_raw().into_iter().map(|value| match value {
        Some(Value::Bytes(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        None | Some(Value::NULL) => None,
        Some(other) => Some(other.as_sql(true)),
    });
    names.zip(values).collect()
}

/// A connection that its server knows by an id.
#[derive(Clone)]
pub(super) struct Session(Arc<Inner>);

struct Inner {
    id: u64,
    server: Server,
    wire: Wire,
    process: Mutex<Option<Arc<Process>>>,
}

impl Session {
    /// The server's id for it (`CONNECTION_ID()`), never used again by the same life of a server.
    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    /// What the server told of itself when it was opened.
    pub(super) fn server(&self) -> &Server {
        &self.0.server
    }

    /// The process that it leads to, once verified.
    pub(super) fn process(&self) -> Option<Arc<Process>> {
        self.0.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the process that it leads to.
    pub(super) fn leads_to(&self, process: Arc<Process>) {
        *self.0.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }

    /// False once it is sure to lead nowhere.
    pub(super) fn may_live(&self) -> bool {
        !self.0.wire.orders.is_closed() && self.process().is_none_or(|process| !process.is_gone())
    }

    /// The same connection?
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends statements in one go, separated by semicolons; brings back the rows of each. The
    /// first error ends it.
    pub(super) async fn ask(&self, sql: &str, deadline: Instant) -> Result<Vec<Vec<Row>>, Fault> {
        self.0.wire.ask(sql, deadline).await
    }

    /// All rows of one statement, 10 000 at most.
    pub(super) async fn rows(&self, sql: &str, deadline: Instant) -> Result<Vec<Row>, Fault> {
        Ok(self.ask(sql, deadline).await?.into_iter().next().unwrap_or_default())
    }

    /// The first row of one statement.
    pub(super) async fn row(&self, sql: &str, deadline: Instant) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, deadline).await?.into_iter().next())
    }

    /// One statement of which no rows are wanted.
    pub(super) async fn exec(&self, sql: &str, deadline: Instant) -> Result<(), Fault> {
        self.ask(sql, deadline).await.map(|_| ())
    }
}

/// What each session is set to before anything is asked over it: escapes as [`quoted`] writes
/// them, no transaction left open, no wait for a lock that outlives a fence, and nothing that is
/// changed here goes into the binary log.
pub(super) fn settings() -> String {
    format!(
        "SET SESSION sql_mode='', SESSION autocommit=1, SESSION lock_wait_timeout={LOCK_SECONDS}, \
         SESSION wait_timeout={IDLE_SECONDS}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_so_that_it_stays_text() {
        assert_eq!(quoted("a'b\\c"), "'a''b\\\\c'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn an_unreadable_certificate_is_named() {
        let tls = TlsConfig { ca: Some("/nowhere/ca.pem".into()), identity: None };
        let error = Dialer::new(None, Some(&tls)).map(|_| ()).expect_err("not there");
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
