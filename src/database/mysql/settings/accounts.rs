//! Accounts that write in spite of `read_only` (MariaDB): whom a fence cannot bind.
//!
//! `READ_ONLY ADMIN`, which `ALL PRIVILEGES` holds and `SUPER` held before 10.11, passes by
//! `read_only`, held by the account or by a role that it may take. MySQL has `super_read_only`,
//! which binds everybody, so there are none there. Exempt are the accounts that only somebody on
//! this machine can use and that no application should: the local `root` (also by the machine's
//! own name), the server's own, Debian's, and the agent's. Never reads a password's hash.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::super::connection::{Row, Session};
use super::super::fault::Fault;
use super::super::server::Flavour;
use super::grants::account as quoted;

/// `READ_ONLY ADMIN` in the column of rights.
const READ_ONLY_ADMIN: u64 = 1 << 33;

/// `SUPER` in the column of rights.
const SUPER: u64 = 1 << 15;

/// The first version whose `SUPER` does not hold `READ_ONLY ADMIN`.
const APART: u64 = 101_100;

/// Roles within roles that are followed.
const MAX_ROLES: usize = 1000;

/// An account that writes in spite of `read_only`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Above {
    /// Quoted, as `'app'@'%'`.
    pub(in super::super) account: String,
    /// By what, in words.
    pub(in super::super) why: String,
    /// The statement that ends it.
    pub(in super::super) revoke: String,
}

const RIGHTS: &str = "SELECT User, Host, JSON_VALUE(Priv, '$.access') AS access, \
     JSON_VALUE(Priv, '$.version_id') AS version, JSON_VALUE(Priv, '$.is_role') AS is_role, \
     JSON_VALUE(Priv, '$.account_locked') AS locked FROM mysql.global_priv";

const ROLES: &str = "SELECT User, Host, Role FROM mysql.roles_mapping";

/// All of them, sorted; none on MySQL.
///
/// # Errors
/// What the server answered, or that it did not in time.
pub(in super::super) async fn above_read_only(
    session: &Session,
    deadline: Instant,
) -> Result<Vec<Above>, Fault> {
    if session.server().flavour == Flavour::Mysql {
        return Ok(Vec::new());
    }
    let own = "SELECT CURRENT_USER() AS account, @@hostname AS host";
    let own = session.row(own, deadline).await?.unwrap_or_default();
    let rights = session.rows(RIGHTS, deadline).await?;
    let roles = session.rows(ROLES, deadline).await?;
    let own = Own {
        account: text(&own, "account").unwrap_or_default(),
        host: text(&own, "host").unwrap_or_default(),
    };
    Ok(found(&rights, &roles, own))
}

fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name)?.as_deref()
}

fn flag(row: &Row, name: &str) -> bool {
    matches!(text(row, name), Some("1" | "true"))
}

/// The right that a row holds by itself.
fn right(row: &Row) -> Option<&'static str> {
    let number = |name| text(row, name).and_then(|text| text.parse::<u64>().ok());
    // Negative numbers are all rights, as 64 bits.
    let all = text(row, "access").is_some_and(|text| text.starts_with('-'));
    let access = if all { u64::MAX } else { number("access").unwrap_or(0) };
    if access & READ_ONLY_ADMIN != 0 {
        return Some("READ_ONLY ADMIN");
    }
    // Rights that were written by an older server, which reads its `SUPER` as all it held.
    let older = number("version").is_none_or(|version| version < APART);
    (older && access & SUPER != 0).then_some("SUPER")
}

/// Who asks, and where.
#[derive(Clone, Copy)]
struct Own<'a> {
    /// The agent's account as `user@host`.
    account: &'a str,
    /// The machine, as the server names it.
    host: &'a str,
}

fn exempt(user: &str, host: &str, own: Own<'_>) -> bool {
    let local = matches!(host, "localhost" | "127.0.0.1" | "::1")
        || (user == "root" && !host.is_empty() && host.eq_ignore_ascii_case(own.host));
    own.account == format!("{user}@{host}")
        || local
            && (matches!(user, "root" | "mysql" | "mariadb.sys" | "debian-sys-maint")
                || user.starts_with("mysql."))
}

fn found(rights: &[Row], roles: &[Row], own: Own<'_>) -> Vec<Above> {
    let name = |row: &Row| {
        (
            text(row, "user").unwrap_or_default().to_owned(),
            text(row, "host").unwrap_or_default().to_owned(),
        )
    };
    let strong: BTreeMap<String, &str> = rights
        .iter()
        .filter(|row| flag(row, "is_role"))
        .filter_map(|row| Some((name(row).0, right(row)?)))
        .collect();
    let mut taken: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for row in roles {
        taken.entry(name(row)).or_default().extend(text(row, "role"));
    }
    let mut above = Vec::new();
    for row in rights.iter().filter(|row| !flag(row, "is_role") && !flag(row, "locked")) {
        let (user, host) = name(row);
        if exempt(&user, &host, own) {
            continue;
        }
        let account = quoted(&format!("{user}@{host}"));
        if let Some(right) = right(row) {
            let revoke = format!("REVOKE {right} ON *.* FROM {account};");
            above.push(Above { account, why: right.to_owned(), revoke });
        } else if let Some((role, right)) = role_above(&(user, host), &taken, &strong) {
            let role = format!("`{}`", role.replace('`', "``"));
            let why = format!("role {role}: {right}");
            above.push(Above {
                revoke: format!("REVOKE {right} ON *.* FROM {role};"),
                account,
                why,
            });
        }
    }
    above.sort_by(|one, other| one.account.cmp(&other.account));
    above
}

/// The role that an account may take, directly or through others, that has the right.
fn role_above<'a>(
    account: &(String, String),
    taken: &BTreeMap<(String, String), Vec<&'a str>>,
    strong: &BTreeMap<String, &'a str>,
) -> Option<(&'a str, &'a str)> {
    let mut seen = BTreeSet::new();
    // What everybody has stands under this name.
    let mut open: Vec<&str> = vec!["PUBLIC"];
    open.extend(taken.get(account).into_iter().flatten());
    while let Some(role) = open.pop().filter(|_| seen.len() < MAX_ROLES) {
        if !seen.insert(role) {
            continue;
        }
        if let Some(right) = strong.get(role) {
            return Some((role, right));
        }
        open.extend(taken.get(&(role.to_owned(), String::new())).into_iter().flatten());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELF: Own<'_> = Own { account: "sengu@%", host: "vm" };

    fn row(columns: &[(&str, &str)]) -> Row {
        let column = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
        columns.iter().map(column).collect()
    }

    fn account(user: &str, host: &str, access: u64, version: &str) -> Row {
        let access = access.to_string();
        row(&[("user", user), ("host", host), ("access", &access), ("version", version)])
    }

    fn role(name: &str, access: u64) -> Row {
        let access = access.to_string();
        row(&[
            ("user", name),
            ("host", ""),
            ("access", &access),
            ("is_role", "1"),
            ("version", "101119"),
        ])
    }

    fn takes(user: &str, host: &str, role: &str) -> Row {
        row(&[("user", user), ("host", host), ("role", role)])
    }

    #[test]
    fn accounts_are_found_by_right_by_age_and_by_role() {
        let rights = [
            account("root", "localhost", u64::MAX >> 24, "101119"),
            account("root", "VM", u64::MAX >> 24, "101119"),
            account("root", "%", READ_ONLY_ADMIN, "101119"),
            account("sengu", "%", READ_ONLY_ADMIN, "101119"),
            account("app", "10.%", 1 | SUPER, "101119"),
            account("old", "%", 1 | SUPER, "100519"),
            account("by", "%", 1, "101119"),
            account("far", "%", 1, "101119"),
            account("no", "%", 1, "101119"),
            role("dba", READ_ONLY_ADMIN),
            role("mid", 0),
        ];
        let roles = [takes("by", "%", "dba"), takes("far", "%", "mid"), takes("mid", "", "dba")];
        let above = found(&rights, &roles, SELF);
        let shown: Vec<_> =
            above.iter().map(|one| (one.account.as_str(), one.why.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("'by'@'%'", "role `dba`: READ_ONLY ADMIN"),
                ("'far'@'%'", "role `dba`: READ_ONLY ADMIN"),
                ("'old'@'%'", "SUPER"),
                ("'root'@'%'", "READ_ONLY ADMIN"),
            ]
        );
        assert_eq!(above[0].revoke, "REVOKE READ_ONLY ADMIN ON *.* FROM `dba`;");
        assert_eq!(above[2].revoke, "REVOKE SUPER ON *.* FROM 'old'@'%';");
    }

    #[test]
    fn what_everybody_has_counts_and_who_cannot_log_in_does_not() {
        let mut locked = account("locked", "%", READ_ONLY_ADMIN, "101119");
        locked.insert("locked".into(), Some("1".into()));
        let rights = [locked, account("any", "%", 0, "101119"), role("PUBLIC", READ_ONLY_ADMIN)];
        let above = found(&rights, &[], SELF);
        assert_eq!(above.len(), 1);
        assert_eq!(above[0].why, "role `PUBLIC`: READ_ONLY ADMIN");
        assert!(found(&rights[..1], &[], SELF).is_empty());
    }
}
