//! Is a server set up so that mastership can move? GTIDs, its binary log, one plain source, no
//! filters, durable commits, the rights of sengu's account. Beside: the accounts that no fence
//! binds.
//!
//! Pure: judges what was told. Everything that is wrong is listed, each with its remedy.

use super::super::connection::{Row, quoted};
use super::super::server::Flavour;
use super::super::state::is_filter;
use super::Subject;
use super::facts::{Facts, either, text};
use super::mend::{Change, Rule, mend};
use super::options::Options;
use super::version;

const ON: &[&str] = &["ON", "1"];

/// Seconds after which a copy must notice that its source is silent.
const MAX_SILENCE: u32 = 10;

/// Accounts that are named; the others are counted.
const MAX_ACCOUNTS: usize = 5;

const RULES: &[Rule] = &[
    Rule { names: &["enforce_gtid_consistency"], wanted: ON, change: Change::Restart },
    Rule { names: &["gtid_mode"], wanted: &["ON"], change: Change::Restart },
    Rule { names: &["gtid_strict_mode"], wanted: ON, change: Change::Now },
    Rule {
        names: &["log_replica_updates", "log_slave_updates"],
        wanted: ON,
        change: Change::Restart,
    },
    Rule { names: &["sync_binlog"], wanted: &["1"], change: Change::Now },
    Rule { names: &["innodb_flush_log_at_trx_commit"], wanted: &["1"], change: Change::Now },
];

/// Everything that is wrong.
pub(super) fn wrong(
    facts: &Facts,
    options: Option<&Options>,
    subject: &Subject<'_>,
) -> Vec<String> {
    let mut wrong: Vec<String> = version::wrong(facts.flavour, facts.version).into_iter().collect();
    if let Some((_, log)) = facts.value(&["log_bin"]).filter(|(_, log)| !is_on(log)) {
        wrong.push(mend(facts, "log_bin", log, "binlog", Change::Restart));
    }
    wrong.extend(RULES.iter().filter_map(|rule| rule.wrong(facts)));
    wrong.extend(server_id(facts, options));
    let patience = facts.value(&["replica_net_timeout", "slave_net_timeout"]);
    if let Some((name, found)) = patience
        && found.parse::<u32>().is_ok_and(|seconds| seconds > MAX_SILENCE)
    {
        // MySQL's receiver cannot be stopped sooner while it tries to connect.
        let good = if name == "replica_net_timeout" { "1" } else { "4" };
        wrong.push(mend(facts, name, found, good, Change::Now));
    }
    if facts.value(&["wsrep_on"]).is_some_and(|(_, value)| is_on(value)) {
        wrong
            .push("it is a node of a Galera cluster, which elects by itself: not supported".into());
    }
    wrong.extend(channels(facts));
    wrong.extend(filters(facts));
    let missing = facts.grants.missing(facts.flavour, &facts.account);
    if !missing.is_empty() {
        let statements = missing.join(" ");
        wrong.push(format!("the account {} lacks rights: run `{statements}`", facts.account));
    }
    wrong.extend(events(facts));
    if !may_replicate(facts, subject) {
        wrong.push(
            "the credentials have no account for replication: write `replication_user = …` and \
             `replication_password = …` into that file"
                .into(),
        );
    }
    wrong
}

fn is_on(value: &str) -> bool {
    ON.iter().any(|on| value.eq_ignore_ascii_case(on))
}

/// A fence switches it off, which MariaDB lets nobody but `SUPER` do.
fn events(facts: &Facts) -> Option<String> {
    let on = facts.value(&["event_scheduler"]).is_some_and(|(_, value)| is_on(value));
    (facts.flavour == Flavour::Mariadb && on && !facts.grants.has("SUPER")).then(|| {
        format!(
            "`event_scheduler` is ON, and a fence must switch it off: run `GRANT SUPER ON *.* TO \
             {account};`, or, if no events are needed, `SET GLOBAL event_scheduler = OFF;` and \
             take it out of its option file",
            account = facts.account
        )
    })
}

/// Is there an account that copies log in with? The agent's own is one if it has the right.
fn may_replicate(facts: &Facts, subject: &Subject<'_>) -> bool {
    subject.replication_user.is_some_and(|user| {
        let own = facts.account.starts_with(&format!("{}@", quoted(user)));
        !own || facts.grants.has("REPLICATION SLAVE")
    })
}

/// 1 is what a server has that was given none; then every other one has it too.
fn server_id(facts: &Facts, options: Option<&Options>) -> Option<String> {
    let (_, found) = facts.value(&["server_id"])?;
    let given = options.is_none_or(|options| options.last(&["server_id"]).is_some());
    let problem = match found {
        "0" => "0, which replicates nothing",
        "1" if !given => "1, as of every server that was given none",
        _ => return None,
    };
    Some(format!(
        "`server_id` is {problem}: write a `server_id=` of its own into its option file and \
         restart it"
    ))
}

fn channels(facts: &Facts) -> Vec<String> {
    let maria = facts.flavour == Flavour::Mariadb;
    let host = |row: &Row| either(row, &["source_host", "master_host"]).to_owned();
    let named = |row: &Row| either(row, &["channel_name", "connection_name"]).to_owned();
    if facts.channels.iter().any(|row| named(row).starts_with("group_replication")) {
        return vec![
            "it is a member of group replication, which elects by itself: not supported".into(),
        ];
    }
    if let [_, _, ..] = facts.channels.as_slice() {
        let sources: Vec<_> =
            facts.channels.iter().map(|row| format!("`{}` ({})", named(row), host(row))).collect();
        return vec![format!(
            "it follows {} sources, {}: only one can be moved; remove the others \
             with `{}`",
            sources.len(),
            sources.join(", "),
            if maria { "RESET SLAVE 'NAME' ALL;" } else { "RESET REPLICA ALL FOR CHANNEL 'NAME';" }
        )];
    }
    let Some(row) = facts.channels.first() else { return Vec::new() };
    let mut wrong = Vec::new();
    let (change, stop, start) = if maria {
        ("CHANGE MASTER TO", "STOP SLAVE;", "START SLAVE;")
    } else {
        ("CHANGE REPLICATION SOURCE TO", "STOP REPLICA;", "START REPLICA;")
    };
    let delay = either(row, &["sql_delay"]);
    if !matches!(delay, "" | "0") {
        let option = if maria { "MASTER_DELAY = 0" } else { "SOURCE_DELAY = 0" };
        wrong.push(format!(
            "it replicates with a delay of {delay} s, so it is never promoted: run `{stop} \
             {change} {option}; {start}`"
        ));
    }
    if host(row).is_empty() {
        return wrong;
    }
    let gtid = text(row, "using_gtid");
    if maria && gtid.is_some_and(|gtid| !gtid.eq_ignore_ascii_case("slave_pos")) {
        wrong.push(format!(
            "it follows {} with Using_Gtid={}: run `{stop} {change} MASTER_USE_GTID = slave_pos; \
             {start}`",
            host(row),
            gtid.unwrap_or_default()
        ));
    }
    if !maria && either(row, &["auto_position"]) == "0" {
        wrong.push(format!(
            "it follows {} by file and position: run `{stop} {change} SOURCE_AUTO_POSITION = 1; \
             {start}`",
            host(row)
        ));
    }
    wrong
}

/// What is left out of the log or of what is applied makes copies that are none.
fn filters(facts: &Facts) -> Vec<String> {
    let mut found: Vec<String> =
        facts.filters.iter().map(|name| name.to_ascii_lowercase()).collect();
    let variables = facts.variables.iter().map(|(name, value)| (name, value.as_str()));
    let columns = facts.channels.iter().chain([&facts.binlog]).flatten();
    let columns = columns.map(|(name, value)| (name, value.as_deref().unwrap_or_default()));
    for (name, value) in variables.chain(columns) {
        let filter =
            matches!(name.as_str(), "binlog_do_db" | "binlog_ignore_db") || is_filter(name);
        if filter && !value.is_empty() && !found.contains(name) {
            found.push(name.clone());
        }
    }
    found.sort();
    found
        .iter()
        .map(|name| match (facts.flavour, name.starts_with("binlog")) {
            (_, true) => format!("`{name}` leaves out databases: take it out and restart it"),
            (Flavour::Mysql, false) => format!(
                "`{name}` filters what is replicated: take it out of its option file and run \
                 `STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER {} = (); START REPLICA \
                 SQL_THREAD;`",
                name.to_ascii_uppercase()
            ),
            (Flavour::Mariadb, false) => format!(
                "`{name}` filters what is replicated: take it out of its option file and run \
                 `STOP SLAVE; SET GLOBAL {name} = ''; START SLAVE;`"
            ),
        })
        .collect()
}

/// The accounts that `read_only` does not bind; unknown if that could not be asked.
pub(super) fn bound(facts: &Facts) -> Option<Vec<String>> {
    let accounts = facts.above.as_deref()?;
    let mut lines: Vec<String> = accounts
        .iter()
        .take(MAX_ACCOUNTS)
        .map(|one| {
            format!(
                "{} writes in spite of `read_only` ({}): run `{}`",
                one.account, one.why, one.revoke
            )
        })
        .collect();
    if accounts.len() > MAX_ACCOUNTS {
        lines.push(format!("so do {} more accounts", accounts.len() - MAX_ACCOUNTS));
    }
    Some(lines)
}

#[cfg(test)]
pub(super) mod tests;
