//! What a server lets this account ask: learned by asking once, so that the probe itself is one
//! round trip without errors in it.
//!
//! A plugin can be loaded and a privilege granted at any time: it is learned again for each new
//! connection, when an answer says that something has gone, and every now and then.

use tokio::time::Instant;

use super::connection::Session;
use super::fault::Fault;

/// What can be asked of one server over one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Features {
    /// Semi-synchronous replication: how its sides are called here.
    pub(super) semi_sync: SemiSyncNames,
    /// MySQL counts the source's heartbeats (`performance_schema`).
    pub(super) heartbeats: bool,
    /// Open transactions may be looked at (`PROCESS`).
    pub(super) transactions: bool,
    /// Prepared XA branches may be looked at.
    pub(super) branches: bool,
    /// MySQL tells who holds metadata locks (`performance_schema`).
    pub(super) locks: bool,
    /// MySQL's clone plugin is there.
    pub(super) clone: bool,
}

/// The sides of semi-sync, by the names that this server uses; `None`: that side is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SemiSyncNames {
    /// `source` or `master`.
    pub(super) source: Option<&'static str>,
    /// `replica` or `slave`.
    pub(super) replica: Option<&'static str>,
}

impl SemiSyncNames {
    /// Asks a server.
    ///
    /// # Errors
    /// If it does not answer.
    pub(super) async fn learn(session: &Session, deadline: Instant) -> Result<Self, Fault> {
        let rows = session.rows("SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%_enabled'", deadline);
        let names: Vec<String> = rows
            .await?
            .into_iter()
            .filter_map(|mut row| row.remove("variable_name").flatten())
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let side = |words: [&'static str; 2]| {
            let variable = |word: &str| format!("rpl_semi_sync_{word}_enabled");
            words.into_iter().find(|word| names.contains(&variable(word)))
        };
        Ok(Self { source: side(["source", "master"]), replica: side(["replica", "slave"]) })
    }

    /// The part of a variable's name that says how many acknowledgements are waited for.
    pub(super) fn count_variable(self) -> Option<&'static str> {
        match self.source? {
            "source" => Some("rpl_semi_sync_source_wait_for_replica_count"),
            _ => Some("rpl_semi_sync_master_wait_for_slave_count"),
        }
    }

    /// The part of a variable's name that says whether it waits while no copy is attached.
    pub(super) fn lonely_variable(self) -> Option<&'static str> {
        match self.source? {
            "source" => Some("rpl_semi_sync_source_wait_no_replica"),
            _ => Some("rpl_semi_sync_master_wait_no_slave"),
        }
    }
}

impl Features {
    /// Asks a server.
    ///
    /// # Errors
    /// Only if the server does not answer at all.
    pub(super) async fn learn(session: &Session, deadline: Instant) -> Result<Self, Fault> {
        let semi_sync = SemiSyncNames::learn(session, deadline).await?;
        let mysql = !session.server().is_mariadb();
        let may = async |sql: &str| match session.exec(sql, deadline).await {
            Ok(()) => Ok(true),
            Err(Fault::Server { .. } | Fault::Denied(_)) => Ok(false),
            Err(fault) => Err(fault),
        };
        Ok(Self {
            semi_sync,
            heartbeats: mysql && may(HEARTBEATS).await?,
            transactions: may("SELECT 1 FROM information_schema.innodb_trx LIMIT 0").await?,
            branches: may("XA RECOVER").await?,
            locks: mysql
                && may("SELECT 1 FROM performance_schema.metadata_locks LIMIT 0").await?
                && may("SELECT 1 FROM performance_schema.threads LIMIT 0").await?,
            clone: mysql && may(CLONE).await?,
        })
    }
}

/// How often the source was heard while it had nothing to send.
pub(super) const HEARTBEATS: &str = "SELECT COUNT_RECEIVED_HEARTBEATS AS beats FROM performance_schema.replication_connection_status";

/// Is a clone from another server under way?
pub(super) const CLONE: &str = "SELECT STATE AS state FROM performance_schema.clone_status";
