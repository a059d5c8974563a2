//! Does a master really take a write? One row of a table that the operator named, for the
//! `mysql-write` probe.
//!
//! One connection, and never more than one write on its way: a write that hangs (it waits for an
//! acknowledgement, for a lock, for a disk) is waited for, and nothing new is sent beside it. To a
//! fence this connection is a client like any other. A write is sent with the condition that the
//! server is open, evaluated by the server itself: the agent's account may be above `read_only`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::connection::{Dialer, Session, quoted};
use super::fault::Fault;
use crate::config::{Credentials, TlsConfig};

/// The name of the connection.
const NAME: &str = "sengu-write";

/// A connection is opened within this.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// A write is waited for this long before its connection is given up.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// It is committed.
    Done,
    /// The server takes no writes: nothing was written.
    Closed,
    /// Not answered; sent so long ago.
    Waits(Duration),
    /// In words, without secrets.
    Failed(String),
}

/// Writes one row, again and again.
pub(crate) struct Writer {
    dialer: Dialer,
    address: SocketAddr,
    sql: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    /// What was sent and not answered, and when.
    sent: Option<(Instant, JoinHandle<Result<bool, Fault>>)>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Writer {
    /// For a `table` as `schema.table`, whose names are letters, digits, `_` and `$`; it has the
    /// columns `instance` (its key) and `at`. Connects to nothing yet.
    ///
    /// # Errors
    /// Names the certificate file that cannot be read.
    pub(crate) fn new(
        address: SocketAddr,
        credentials: Option<&Credentials>,
        tls: Option<&TlsConfig>,
        table: &str,
        instance: &str,
    ) -> Result<Self, String> {
        let table = table.replace('.', "`.`");
        let sql = format!(
            "REPLACE INTO `{table}` (instance, at) SELECT {}, UTC_TIMESTAMP(6) FROM DUAL \
             WHERE @@GLOBAL.read_only = 0; SELECT ROW_COUNT() AS written",
            quoted(instance)
        );
        let dialer = Dialer::new(credentials, tls)?;
        Ok(Self { dialer, address, sql, state: Mutex::default() })
    }

    /// Writes, or waits on for what was sent before, for at most `within`.
    pub(crate) async fn write(&self, within: Duration) -> Wrote {
        let began = Instant::now();
        let Ok(mut state) = timeout(within, self.state.lock()).await else {
            return Wrote::Waits(within);
        };
        if state.sent.is_none() {
            let session = match self.session(&mut state, within).await {
                Ok(session) => session,
                Err(fault) => return Wrote::Failed(fault.to_string()),
            };
            let sql = self.sql.clone();
            let writing = tokio::spawn(async move {
                let sets = session.ask(&sql, Instant::now() + LONGEST).await?;
                let written = sets.last().and_then(|rows| rows.first()?.get("written")?.clone());
                Ok(written.is_some_and(|count| count != "0"))
            });
            state.sent = Some((Instant::now(), writing));
        }
        let Some((since, mut writing)) = state.sent.take() else { return Wrote::Closed };
        let Ok(ended) = timeout(within.saturating_sub(began.elapsed()), &mut writing).await else {
            state.sent = Some((since, writing));
            return Wrote::Waits(since.elapsed());
        };
        match ended.unwrap_or_else(|_| Err(Fault::Broken("it was given up".to_owned()))) {
            Ok(true) => Wrote::Done,
            Ok(false) => Wrote::Closed,
            // As MySQL says that it is read-only, whoever asks.
            Err(Fault::Server { code: 1290, .. }) => Wrote::Closed,
            Err(fault) => {
                if !matches!(fault, Fault::Server { .. }) {
                    state.session = None;
                }
                Wrote::Failed(fault.to_string())
            }
        }
    }

    async fn session(&self, state: &mut State, within: Duration) -> Result<Session, Fault> {
        if let Some(session) = state.session.take().filter(Session::may_live) {
            state.session = Some(session.clone());
            return Ok(session);
        }
        let deadline = Instant::now() + within.min(OPEN_WAIT);
        let session = self.dialer.open(self.address, NAME, deadline).await?;
        // Unlike what sengu does else, this is a client's write: logged, acknowledged, replicated.
        session.exec("SET SESSION sql_log_bin=1", deadline).await?;
        state.session = Some(session.clone());
        Ok(session)
    }
}
