//! The statement or line that puts a variable right, as each flavour takes it.

use super::super::server::Flavour;
use super::facts::Facts;

/// Whether a running server takes a value at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// At once.
    Now,
    /// At its next start.
    Restart,
}

/// `sync_binlog is 0: run …`.
pub(super) fn mend(facts: &Facts, name: &str, found: &str, wanted: &str, change: Change) -> String {
    let section = match facts.flavour {
        Flavour::Mysql => "[mysqld]",
        Flavour::Mariadb => "[mariadb]",
    };
    let quoted = if wanted.bytes().all(|byte| byte.is_ascii_digit()) || wanted == "ON" {
        wanted.to_owned()
    } else {
        format!("'{wanted}'")
    };
    let how = match (change, facts.flavour) {
        (Change::Now, Flavour::Mysql) => format!("run `SET PERSIST {name} = {quoted};`"),
        (Change::Now, Flavour::Mariadb) => format!(
            "run `SET GLOBAL {name} = {quoted};` and write `{name}={wanted}` under `{section}`"
        ),
        (Change::Restart, _) => format!("write `{name}={wanted}` under `{section}` and restart it"),
    };
    let found = if found.is_empty() { "not set" } else { found };
    format!("`{name}` is {found}: {how}")
}

/// One rule: these names of a variable, of which a server has one, and what it must be.
pub(super) struct Rule {
    pub(super) names: &'static [&'static str],
    /// The first is the one to write.
    pub(super) wanted: &'static [&'static str],
    pub(super) change: Change,
}

impl Rule {
    /// What is wrong, if the server has the variable and it is not so.
    pub(super) fn wrong(&self, facts: &Facts) -> Option<String> {
        let (name, found) = facts.value(self.names)?;
        let good = self.wanted.iter().any(|wanted| found.eq_ignore_ascii_case(wanted));
        (!good).then(|| mend(facts, name, found, self.wanted[0], self.change))
    }
}
