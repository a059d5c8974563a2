//! `[token.NAME]`: who may use the HTTP server, and what for.
//!
//! Only hashes get from here into the configuration. What is wrong is told without the token.

use std::collections::BTreeMap;

use sengu_core::name::HostName;

use super::file::Table;
use super::meant::Setting;
use super::{TokenConfig, keys};
use crate::token::{Hash, Scope};

/// Names of tokens at most: each request is compared with all.
const MOST: usize = 100;

/// All of them, by name.
pub(super) fn read(top: &Table<'_>, setting: &Setting<'_>) -> BTreeMap<String, TokenConfig> {
    let mut tokens: BTreeMap<String, TokenConfig> = BTreeMap::new();
    let mut wrong = false;
    for (name, table) in top.named("token", &keys::TOKEN) {
        if HostName::new(&name.value).is_err() {
            let message = format!("{:?} is no name for a token", short(&name.value));
            let help = "a name is one DNS label: small letters, digits and `-`";
            table.note(&name.at, message, "here", Some(help));
        }
        if tokens.len() == MOST {
            let message = format!("there are more than {MOST} tokens");
            table.note(
                &name.at,
                message,
                "one too many",
                Some("let clients of one kind share one"),
            );
            break;
        }
        let Some(token) = token(&table, setting) else {
            wrong = true;
            continue;
        };
        let same = |hash: &Hash| {
            let other = tokens.iter().find(|(_, other)| other.hashes.contains(hash));
            other.map(|(name, _)| name.clone())
        };
        if let Some(other) = token.hashes.iter().find_map(same) {
            let message = format!("token {} is the same as {other}", name.value);
            let help = "one token has one name and one scope: make another with `sengu token new`";
            table.note(&name.at, message, "here", Some(help));
        }
        tokens.insert(name.value, token);
    }
    if wrong && tokens.is_empty() {
        // There are some, whose mistakes are told: that there are none would be no help.
        let nobody = TokenConfig { scope: Scope::Read, hashes: Vec::new() };
        tokens.insert(String::new(), nobody);
    }
    tokens
}

fn token(table: &Table<'_>, setting: &Setting<'_>) -> Option<TokenConfig> {
    let words = Scope::ALL.map(|scope| (scope.as_str(), scope));
    if !table.has("scope") {
        table.missing("scope");
    }
    let scope = table.word("scope", &words, |_| None);
    let hash = table.parsed("hash", |text| Ok(vec![Hash::parse(text)?]));
    let file = table.parsed("file", |text| {
        let path = setting.folder.join(text);
        let read = setting.machine.tokens(&path);
        // A file that cannot be read names itself already.
        let shown = path.display().to_string();
        read.map_err(|why| if why.contains(&shown) { why } else { format!("{shown}: {why}") })
    });
    match (table.has("hash"), table.has("file")) {
        (true, true) => {
            let message = format!("`hash` and `file` exclude each other in {}", table.shown);
            table.note(&table.at, message, "one too many", Some("keep one of them"));
        }
        (false, false) => table.missing("hash"),
        _ => {}
    }
    table.finish();
    Some(TokenConfig { scope: scope?.value, hashes: hash.or(file)?.value })
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
