//! What a server tells of how it is set up: variables, channels, filters, rights. One look.
//!
//! Asks a handful of statements that read and change nothing, each bounded by one deadline. A
//! statement that the account may not run leaves its part out; which right is missing is said
//! by the part about grants.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::super::connection::{Row, Session};
use super::super::fault::Fault;
use super::super::server::{Flavour, Version};
use super::accounts::{Above, above_read_only};
use super::grants::{self, Grants};

/// The variables that are judged; a server has some of them.
const VARIABLES: &[&str] = &[
    "binlog_do_db",
    "binlog_ignore_db",
    "datadir",
    "enforce_gtid_consistency",
    "event_scheduler",
    "gtid_mode",
    "gtid_strict_mode",
    "init_file",
    "init_rpl_role",
    "innodb_flush_log_at_trx_commit",
    "log_bin",
    "log_replica_updates",
    "log_slave_updates",
    "master_info_repository",
    "relay_log_info_repository",
    "relay_log_recovery",
    "replica_net_timeout",
    "server_id",
    "slave_net_timeout",
    "sync_binlog",
    "sync_relay_log",
    "wsrep_on",
];

/// More of them, by pattern.
const PATTERNS: &[&str] = &["replicate\\_%", "rpl\\_semi\\_sync\\_%"];

/// What one server told.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) flavour: Flavour,
    pub(super) version: Version,
    /// By name.
    pub(super) variables: BTreeMap<String, String>,
    /// One row for each source that it follows or followed.
    pub(super) channels: Vec<Row>,
    /// Names of filters that are set (MySQL), of the whole server.
    pub(super) filters: BTreeSet<String>,
    /// Databases that its binary log leaves out or is confined to, by column.
    pub(super) binlog: Row,
    /// The agent's own account, quoted.
    pub(super) account: String,
    pub(super) grants: Grants,
    /// Accounts that `read_only` does not bind; none if that could not be asked.
    pub(super) above: Option<Vec<Above>>,
}

impl Facts {
    /// Asks for everything.
    ///
    /// # Errors
    /// That it did not answer, or not in time.
    pub(super) async fn ask(session: &Session, deadline: Instant) -> Result<Self, Fault> {
        let server = session.server();
        let (flavour, version) = (server.flavour, server.version);
        let variables = session.rows(&variables(), deadline).await?;
        let variables = variables.iter().filter_map(|row| {
            let name = text(row, "variable_name")?.to_ascii_lowercase();
            Some((name, text(row, "value").unwrap_or_default().to_owned()))
        });
        let own = session.row("SELECT CURRENT_USER() AS account", deadline).await?;
        let account = own.as_ref().and_then(|row| text(row, "account")).unwrap_or_default();
        let lines = session.rows("SHOW GRANTS", deadline).await?;
        let lines = lines.iter().flat_map(|row| row.values().flatten());
        let filters = match flavour {
            Flavour::Mysql => {
                let sql = "SELECT FILTER_NAME AS name FROM \
                           performance_schema.replication_applier_global_filters \
                           WHERE FILTER_RULE <> ''";
                permitted(session.rows(sql, deadline).await)?
            }
            Flavour::Mariadb => Vec::new(),
        };
        Ok(Self {
            flavour,
            version,
            variables: variables.collect(),
            channels: permitted(session.rows(server.show_sources(), deadline).await)?,
            filters: filters
                .iter()
                .filter_map(|row| text(row, "name"))
                .map(str::to_owned)
                .collect(),
            binlog: permitted(session.rows(show_log(flavour, version), deadline).await)?
                .pop()
                .unwrap_or_default(),
            account: grants::account(account),
            grants: Grants::read(lines.map(String::as_str)),
            above: permitted(above_read_only(session, deadline).await.map(Some))?,
        })
    }

    /// The value of the first of these variables that it has.
    pub(super) fn value(&self, names: &[&str]) -> Option<(&str, &str)> {
        names.iter().find_map(|name| {
            let (name, value) = self.variables.get_key_value(*name)?;
            Some((name.as_str(), value.as_str()))
        })
    }
}

fn variables() -> String {
    let names: Vec<_> = VARIABLES.iter().map(|name| format!("'{name}'")).collect();
    let patterns: String =
        PATTERNS.iter().map(|pattern| format!(" OR Variable_name LIKE '{pattern}'")).collect();
    format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({}){patterns}", names.join(", "))
}

/// How the server wants to be asked for its own log.
fn show_log(flavour: Flavour, version: Version) -> &'static str {
    match flavour {
        Flavour::Mysql if version >= (8, 2, 0) => "SHOW BINARY LOG STATUS",
        Flavour::Mysql | Flavour::Mariadb => "SHOW MASTER STATUS",
    }
}

/// A refusal for want of a right, or a statement that the server does not have, tells nothing;
/// a wait that ended does.
fn permitted<T: Default>(asked: Result<T, Fault>) -> Result<T, Fault> {
    match asked {
        Err(Fault::Server { .. }) => Ok(T::default()),
        other => other,
    }
}

pub(super) fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name)?.as_deref()
}

/// A column of a source's row, under its name now or before.
pub(super) fn either<'a>(row: &'a Row, names: &[&str]) -> &'a str {
    names.iter().find_map(|name| text(row, name)).unwrap_or_default()
}
