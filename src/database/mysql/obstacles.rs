//! What would hold up or break a planned move now: open transactions, prepared XA branches, locks
//! that somebody holds, statements that run for long.
//!
//! Each is told with its session, its user and its age. Of a statement only the verb is told: the
//! rest may be somebody's data.

use sengu_core::observation::OBSTACLES;

use super::connection::Row;
use super::features::Features;

/// A transaction or a statement younger than this is everyday work: seconds.
const YOUNG: u32 = 2;

/// The statements that ask, for what this account may ask.
pub(super) fn question(features: &Features) -> Vec<String> {
    let most = OBSTACLES + 1;
    let mut statements = vec![format!(
        "SELECT ID AS id, USER AS user, TIME AS age, STATE AS state, \
         UPPER(SUBSTRING_INDEX(LTRIM(LEFT(INFO, 64)), ' ', 1)) AS verb \
         FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query', 'Execute') \
         AND USER NOT IN ('system user', 'event_scheduler') AND TIME >= {YOUNG} \
         AND ID <> CONNECTION_ID() ORDER BY TIME DESC LIMIT {most}"
    )];
    if features.transactions {
        statements.push(format!(
            "SELECT T.trx_mysql_thread_id AS id, P.USER AS user, \
             TIMESTAMPDIFF(SECOND, T.trx_started, NOW()) AS age, \
             T.trx_rows_modified AS changed FROM information_schema.INNODB_TRX T \
             JOIN information_schema.PROCESSLIST P ON P.ID = T.trx_mysql_thread_id \
             WHERE T.trx_started <= NOW() - INTERVAL {YOUNG} SECOND \
             AND P.USER <> 'system user' ORDER BY T.trx_started LIMIT {most}"
        ));
    }
    if features.locks {
        statements.push(format!(
            "SELECT T.PROCESSLIST_ID AS id, T.PROCESSLIST_USER AS user, \
             M.OBJECT_TYPE AS what FROM performance_schema.metadata_locks M \
             JOIN performance_schema.threads T ON T.THREAD_ID = M.OWNER_THREAD_ID \
             WHERE M.LOCK_STATUS = 'GRANTED' AND T.PROCESSLIST_ID <> CONNECTION_ID() AND (\
             (M.OBJECT_TYPE IN ('GLOBAL', 'BACKUP LOCK') AND M.LOCK_TYPE = 'SHARED') OR \
             (M.OBJECT_TYPE = 'TABLE' AND M.LOCK_TYPE IN \
             ('SHARED_READ_ONLY', 'SHARED_NO_READ_WRITE', 'EXCLUSIVE'))) LIMIT {most}"
        ));
    }
    if features.branches {
        statements.push("XA RECOVER".to_owned());
    }
    statements
}

/// Reads the answers to [`question`]: [`OBSTACLES`] at most, the hardest first.
pub(super) fn read(features: &Features, sets: &mut std::vec::IntoIter<Vec<Row>>) -> Vec<String> {
    let mut next = || sets.next().unwrap_or_default();
    let statements = next();
    let transactions = if features.transactions { next() } else { Vec::new() };
    let locks = if features.locks { next() } else { Vec::new() };
    let branches = if features.branches { next() } else { Vec::new() };

    let mut obstacles = Vec::new();
    if !branches.is_empty() {
        let count = branches.len();
        obstacles.push(format!(
            "{count} prepared XA branches: list them with `XA RECOVER`, commit or roll them back"
        ));
    }
    obstacles.extend(locks.iter().map(held));
    obstacles.extend(transactions.iter().map(open));
    obstacles.extend(statements.iter().map(running));
    obstacles.dedup();
    obstacles.truncate(OBSTACLES);
    obstacles
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Option::as_deref).unwrap_or("")
}

fn session(row: &Row) -> String {
    format!("session {} of `{}`", text(row, "id"), text(row, "user"))
}

fn held(row: &Row) -> String {
    let what = match text(row, "what") {
        "GLOBAL" => "a global read lock",
        "BACKUP LOCK" => "a backup lock",
        _ => "a table lock",
    };
    format!("{} holds {what}", session(row))
}

fn open(row: &Row) -> String {
    let changed = match text(row, "changed") {
        "" | "0" => String::new(),
        rows => format!(", {rows} rows changed"),
    };
    format!("{} has a transaction open for {} s{changed}", session(row), text(row, "age"))
}

fn running(row: &Row) -> String {
    let verb = text(row, "verb");
    // Anything else could be a comment or a name.
    let plain =
        !verb.is_empty() && verb.len() <= 12 && verb.bytes().all(|b| b.is_ascii_uppercase());
    let (what, age) = (if plain { verb } else { "a statement" }, text(row, "age"));
    let state = text(row, "state");
    if state.starts_with("Waiting for") && state.contains("lock") {
        return format!("{} waits for a lock for {age} s ({what})", session(row));
    }
    format!("{} runs {what} for {age} s", session(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[(&str, &str)]) -> Row {
        let fields = fields.iter();
        fields.map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
    }

    #[test]
    fn obstacles_tell_who_and_how_long_and_no_data() {
        let features = Features { transactions: true, branches: true, ..Features::default() };
        let statements = vec![
            row(&[("id", "7"), ("user", "app"), ("age", "9"), ("verb", "ALTER")]),
            row(&[("id", "8"), ("user", "app"), ("age", "3"), ("verb", "/*SECRET*/SELECT")]),
            row(&[
                ("id", "9"),
                ("user", "app"),
                ("age", "4"),
                ("state", "Waiting for table metadata lock"),
                ("verb", "INSERT"),
            ]),
        ];
        let transactions =
            vec![row(&[("id", "5"), ("user", "app"), ("age", "60"), ("changed", "3")])];
        let sets = vec![statements, transactions, vec![row(&[("data", "x")])]];
        let told = read(&features, &mut sets.into_iter());
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told[0].starts_with("1 prepared XA"), "{told:?}");
        assert_eq!(told[1], "session 5 of `app` has a transaction open for 60 s, 3 rows changed");
        assert_eq!(told[2], "session 7 of `app` runs ALTER for 9 s");
        assert_eq!(told[3], "session 8 of `app` runs a statement for 3 s");
        assert_eq!(told[4], "session 9 of `app` waits for a lock for 4 s (INSERT)");
    }

    #[test]
    fn no_more_are_told_than_fit() {
        let statements = (0..20).map(|id| {
            row(&[("id", &id.to_string()), ("user", "app"), ("age", "9"), ("verb", "UPDATE")])
        });
        let sets = vec![statements.collect::<Vec<_>>()];
        assert_eq!(read(&Features::default(), &mut sets.into_iter()).len(), OBSTACLES);
    }
}
