//! Blots out what may be a secret in a file that somebody is about to see: the configuration has
//! no key for one, but people put one there.
//!
//! By line, which works on text that is no TOML, and by table, which knows values of several
//! lines. Nothing moves: each byte becomes a star.

use toml::de::{DeTable, DeValue};

/// The text with stars for everything that a key that sounds like a secret is set to.
pub(super) fn out(text: &str, table: &DeTable<'_>) -> String {
    let mut shown: String = text.split_inclusive('\n').map(blot_line).collect();
    blot(table, &mut shown);
    shown
}

const SECRETS: [&str; 5] = ["password", "passwd", "secret", "token", "auth"];

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|word| name.contains(word))
}

fn stars(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect()
}

/// Replaces what follows such a name on a line, which need not be TOML.
fn blot_line(line: &str) -> String {
    match line.split_once('=') {
        Some((name, value)) if sounds_secret(name) => format!("{name}={}", stars(value)),
        _ => line.to_owned(),
    }
}

/// Replaces values of keys that sound like secrets by stars, in place and in length.
fn blot(table: &DeTable<'_>, shown: &mut String) {
    for (key, value) in table {
        if sounds_secret(key.get_ref()) && !value.get_ref().is_table() {
            let span = value.span();
            if let Some(part) = shown.get(span.clone()) {
                let stars = stars(part);
                shown.replace_range(span, &stars);
            }
            continue;
        }
        match value.get_ref() {
            DeValue::Table(below) => blot(below, shown),
            DeValue::Array(items) => {
                items.iter().filter_map(|item| item.get_ref().as_table()).for_each(|below| {
                    blot(below, shown);
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_stars_and_places_stay() {
        let text = [
            "host = \"a\"",
            "Password = \"hunter2\"",
            "[x]",
            "api_token = \"\"\"",
            "hunter2",
            "\"\"\"",
            "password = hunter2 is no TOML",
            "list = [{ secret = \"hunter2\" }]",
        ]
        .join("\n");
        let (table, _) = DeTable::parse_recoverable(&text);
        let shown = out(&text, table.get_ref());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.len(), text.len());
        assert!(shown.starts_with("host = \"a\"\nPassword =*"), "{shown}");
    }
}
