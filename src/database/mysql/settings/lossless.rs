//! Is a server set up so that `loss = "none"` holds? Semi-synchronous replication that never
//! falls back by itself, and copies that keep what they acknowledged.
//!
//! Pure: judges what was told. sengu turns the sides on and off and sets the waits itself, while
//! it runs; what is asked for here is what it cannot, or what a restart would undo.

use super::super::server::Flavour;
use super::facts::Facts;
use super::mend::{Change, Rule, mend};
use super::options::Options;

/// The sides: what to load, its switch under the names that a server may have for it.
const SOURCE: &[&str] = &["rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled"];
const REPLICA: &[&str] = &["rpl_semi_sync_replica_enabled", "rpl_semi_sync_slave_enabled"];

const RULES: &[Rule] = &[
    Rule {
        names: &["rpl_semi_sync_source_wait_point", "rpl_semi_sync_master_wait_point"],
        wanted: &["AFTER_SYNC"],
        change: Change::Now,
    },
    Rule {
        names: &["rpl_semi_sync_source_wait_no_replica", "rpl_semi_sync_master_wait_no_slave"],
        wanted: &["ON", "1"],
        change: Change::Now,
    },
    Rule { names: &["sync_relay_log"], wanted: &["1"], change: Change::Now },
    Rule { names: &["master_info_repository"], wanted: &["TABLE"], change: Change::Restart },
    Rule { names: &["relay_log_info_repository"], wanted: &["TABLE"], change: Change::Restart },
];

/// Everything that is wrong.
pub(super) fn wrong(facts: &Facts, options: Option<&Options>) -> Vec<String> {
    let mut wrong: Vec<String> = plugins(facts).into_iter().collect();
    wrong.extend(RULES.iter().filter_map(|rule| rule.wrong(facts)));
    let recovery = facts.value(&["relay_log_recovery"]);
    if recovery.is_some_and(|(_, value)| matches!(value, "ON" | "1")) {
        wrong.push(format!(
            "{}: a restart would throw away what it acknowledged and had not applied",
            mend(facts, "relay_log_recovery", "ON", "OFF", Change::Restart)
        ));
    }
    wrong.extend(timeout(facts));
    wrong.extend(options.into_iter().flat_map(|options| at_start(facts, options)));
    wrong
}

/// Both sides on every server, since each may become the master.
fn plugins(facts: &Facts) -> Option<String> {
    let missing: Vec<_> = [("source", SOURCE), ("replica", REPLICA)]
        .into_iter()
        .filter(|(_, names)| facts.value(names).is_none())
        .map(|(side, _)| side)
        .collect();
    if missing.is_empty() {
        return None;
    }
    if facts.flavour == Flavour::Mariadb {
        return Some("it has no semi-synchronous replication: MariaDB 10.3 or later has".into());
    }
    let old = facts.version < (8, 0, 26);
    let name = |side: &str| match (side, old) {
        ("source", true) => "master".to_owned(),
        (_, true) => "slave".to_owned(),
        (side, false) => side.to_owned(),
    };
    let statements: Vec<_> = missing
        .iter()
        .map(|side| {
            let side = name(side);
            format!("INSTALL PLUGIN rpl_semi_sync_{side} SONAME 'semisync_{side}.so';")
        })
        .collect();
    Some(format!(
        "semi-synchronous replication is not loaded ({}): run `{}`",
        missing.join(", "),
        statements.join(" ")
    ))
}

/// sengu sets the longest wait when it opens a server, if it may.
fn timeout(facts: &Facts) -> Option<String> {
    let names = &["rpl_semi_sync_source_timeout", "rpl_semi_sync_master_timeout"];
    let (name, found) = facts.value(names)?;
    let (longest, right) = match facts.flavour {
        Flavour::Mysql => ("4294967295", "SYSTEM_VARIABLES_ADMIN"),
        Flavour::Mariadb => ("18446744073709551615", "REPLICATION MASTER ADMIN"),
    };
    (found != longest && !facts.grants.has(right)).then(|| {
        format!(
            "{}, or let sengu: it lacks {right}",
            mend(facts, name, found, longest, Change::Now)
        )
    })
}

/// What its files turn on at a start, before sengu knows which copies are members.
fn at_start(facts: &Facts, options: &Options) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(set) = options.last(REPLICA).filter(|set| set.on()) {
        let how = if set.persisted {
            format!("run `RESET PERSIST {};`", set.name)
        } else {
            "take it out".to_owned()
        };
        wrong.push(format!(
            "{} says `{}`: {how}; it would acknowledge before it is a member, and sengu turns it \
             on for members",
            set.place,
            set.shown()
        ));
    }
    let role = options.last(&["init_rpl_role"]).and_then(|set| set.value.as_deref());
    if facts.flavour == Flavour::Mariadb
        && role.is_some_and(|role| role.eq_ignore_ascii_case("slave"))
    {
        wrong.push(
            "`init_rpl_role` is SLAVE: take it out; a restart would cut acknowledged transactions \
             off its binary log"
                .into(),
        );
    }
    wrong
}

#[cfg(test)]
mod tests;
