//! What sengu's own account may do: reading `SHOW GRANTS`, and what is missing.
//!
//! The account needs what is listed here and nothing else; above all no right to read or write
//! anybody's data. Roles count where the server shows what they bring.

use std::collections::BTreeSet;

use super::super::connection::quoted;
use super::super::server::Flavour;

/// Needed on everything (MySQL).
const MYSQL: &[&str] = &[
    "PROCESS",
    "RELOAD",
    "REPLICATION CLIENT",
    "SYSTEM_VARIABLES_ADMIN",
    "REPLICATION_SLAVE_ADMIN",
    "CONNECTION_ADMIN",
    "XA_RECOVER_ADMIN",
    "SYSTEM_USER",
];

/// Needed on everything (MariaDB).
const MARIADB: &[&str] = &[
    "PROCESS",
    "RELOAD",
    "BINLOG MONITOR",
    "SLAVE MONITOR",
    "REPLICATION SLAVE ADMIN",
    "REPLICATION MASTER ADMIN",
    "READ_ONLY ADMIN",
    "CONNECTION ADMIN",
    "BINLOG ADMIN",
];

/// Tables to read (MySQL).
const MYSQL_TABLES: &[(&str, &str)] = &[("performance_schema", "*")];

/// Tables to read (MariaDB): who has which rights, to find accounts above `read_only`.
const MARIADB_TABLES: &[(&str, &str)] = &[("mysql", "global_priv"), ("mysql", "roles_mapping")];

/// What one account may do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    /// On everything; `ALL PRIVILEGES` as such.
    everywhere: BTreeSet<String>,
    /// `SELECT` on a schema (`*`) or on one of its tables.
    reads: BTreeSet<(String, String)>,
}

impl Grants {
    /// Reads the lines of `SHOW GRANTS`; what is no grant of rights is passed over.
    pub(super) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut grants = Self::default();
        for line in lines {
            let Some((rights, object)) = parts(line) else { continue };
            if object == "*.*" {
                grants.everywhere.extend(rights);
                continue;
            }
            let reads = rights.iter().any(|right| right == "SELECT" || right == "ALL PRIVILEGES");
            if let Some((schema, table)) = reads.then(|| split_object(object)).flatten() {
                grants.reads.insert((schema, table));
            }
        }
        grants
    }

    /// Does it have this right on everything?
    pub(super) fn has(&self, right: &str) -> bool {
        self.everywhere.contains("ALL PRIVILEGES") || self.everywhere.contains(right)
    }

    fn reads(&self, schema: &str, table: &str) -> bool {
        self.has("SELECT")
            || [table, "*"]
                .iter()
                .any(|table| self.reads.contains(&(schema.to_owned(), (*table).to_owned())))
    }

    /// The statements that give `account` what it lacks; none if it lacks nothing.
    pub(super) fn missing(&self, flavour: Flavour, account: &str) -> Vec<String> {
        let (rights, tables) = match flavour {
            Flavour::Mysql => (MYSQL, MYSQL_TABLES),
            Flavour::Mariadb => (MARIADB, MARIADB_TABLES),
        };
        let lacking: Vec<_> = rights.iter().copied().filter(|right| !self.has(right)).collect();
        let mut statements = Vec::new();
        if !lacking.is_empty() {
            statements.push(format!("GRANT {} ON *.* TO {account};", lacking.join(", ")));
        }
        for (schema, table) in tables.iter().filter(|(schema, table)| !self.reads(schema, table)) {
            statements.push(format!("GRANT SELECT ON {schema}.{table} TO {account};"));
        }
        statements
    }
}

/// The rights of a line, in upper case, and what they are on.
fn parts(line: &str) -> Option<(Vec<String>, &str)> {
    let rest = line.strip_prefix("GRANT ")?;
    let mut rights = vec![String::new()];
    let (mut depth, mut quote) = (0_u32, None);
    for (at, letter) in rest.char_indices() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => {}
            ('`' | '"' | '\'', None) => quote = Some(letter),
            ('(', None) => depth += 1,
            (')', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                rights.push(String::new());
                continue;
            }
            (' ', None) if depth == 0 && rest[at..].starts_with(" ON ") => {
                let object = &rest[at + 4..];
                let object = object.rfind(" TO ").map_or(object, |end| &object[..end]);
                // With `WITH GRANT OPTION` the last ` TO ` still ends the object.
                let rights = rights.iter().map(|right| right.trim().to_ascii_uppercase());
                return Some((rights.collect(), object.trim()));
            }
            _ => {}
        }
        if let Some(right) = rights.last_mut() {
            right.push(letter);
        }
    }
    None
}

/// `` `mysql`.`global_priv` `` as its two names.
fn split_object(object: &str) -> Option<(String, String)> {
    let object = object.strip_prefix("TABLE ").unwrap_or(object);
    let (schema, table) = object.split_once('.')?;
    let bare = |name: &str| name.trim_matches(['`', '"']).replace("\\_", "_");
    Some((bare(schema), bare(table)))
}

/// `user@host` as the server tells it, quoted for a statement.
pub(super) fn account(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    format!("{}@{}", quoted(user), quoted(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_comes_as_statements() {
        let all = Grants::read(["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`"]);
        assert!(all.missing(Flavour::Mariadb, "x").is_empty());
        assert!(all.missing(Flavour::Mysql, "x").is_empty());
        let some = Grants::read([
            "GRANT RELOAD, PROCESS, BINLOG MONITOR, REPLICATION SLAVE ADMIN, BINLOG ADMIN, \
             REPLICATION MASTER ADMIN, READ_ONLY ADMIN, SLAVE MONITOR ON *.* TO `sengu`@`%` \
             IDENTIFIED BY PASSWORD '*ON *.* TO'",
            "GRANT SELECT ON `mysql`.`global_priv` TO `sengu`@`%`",
            "SET DEFAULT ROLE `x` FOR `sengu`@`%`",
        ]);
        assert_eq!(
            some.missing(Flavour::Mariadb, "'sengu'@'%'"),
            [
                "GRANT CONNECTION ADMIN ON *.* TO 'sengu'@'%';",
                "GRANT SELECT ON mysql.roles_mapping TO 'sengu'@'%';",
            ]
        );
    }

    #[test]
    fn mysql_splits_its_rights_over_lines_and_roles_bring_theirs() {
        let grants = Grants::read([
            "GRANT PROCESS, RELOAD, REPLICATION CLIENT ON *.* TO `sengu`@`%`",
            "GRANT CONNECTION_ADMIN,REPLICATION_SLAVE_ADMIN,SYSTEM_USER,SYSTEM_VARIABLES_ADMIN,\
             XA_RECOVER_ADMIN ON *.* TO `sengu`@`%` WITH GRANT OPTION",
            "GRANT SELECT ON `performance\\_schema`.* TO `sengu`@`%`",
            "GRANT `ops`@`%` TO `sengu`@`%`",
            "GRANT SELECT (`a`, `b`), INSERT ON `x`.`y ON z` TO `sengu`@`%`",
        ]);
        assert!(grants.missing(Flavour::Mysql, "x").is_empty(), "{grants:?}");
        let none = Grants::read(["GRANT USAGE ON *.* TO `sengu`@`%`"]);
        let missing = none.missing(Flavour::Mysql, "'sengu'@'%'");
        assert!(missing[0].starts_with("GRANT PROCESS, RELOAD, REPLICATION CLIENT, SYSTEM_VAR"));
        assert_eq!(missing[1], "GRANT SELECT ON performance_schema.* TO 'sengu'@'%';");
    }

    #[test]
    fn a_right_on_one_schema_is_none_on_everything() {
        let grants = Grants::read(["GRANT ALL PRIVILEGES ON `mysql`.* TO `a`@`b`"]);
        assert!(!grants.has("PROCESS"));
        assert!(grants.reads("mysql", "global_priv") && !grants.reads("app", "x"));
    }

    #[test]
    fn accounts_are_quoted() {
        assert_eq!(account("sengu@%"), "'sengu'@'%'");
        assert_eq!(account("o'b@x@10.0.0.1"), "'o''b@x'@'10.0.0.1'");
    }
}
