//! `sengu reload`: let the agent read its configuration file again.

use clap::Args;
use serde_json::{Value, json};

use super::print;
use super::{Exit, Global};

/// Let the agent read its configuration file again, and print what changed
///
/// A file with mistakes changes nothing.
#[derive(Debug, Args)]
pub(super) struct Options {}

pub(super) fn run(global: &Global, _options: &Options) -> anyhow::Result<Exit> {
    let answer: Value = global.agent()?.post("/v1/sengu/reload", &json!({}))?;
    if global.json {
        print::json(&answer);
    } else {
        print::text(&changes(&answer));
    }
    Ok(Exit::Done)
}

/// The lines of an answer: a list, or a list under `changes`.
fn changes(answer: &Value) -> String {
    let lines = answer.get("changes").unwrap_or(answer).as_array();
    let lines: Vec<_> = lines.into_iter().flatten().filter_map(Value::as_str).collect();
    if lines.is_empty() { "nothing changed".into() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_printed_line_by_line() {
        assert_eq!(changes(&json!({"changes": ["+ a = 1", "- b = 2"]})), "+ a = 1\n- b = 2");
        assert_eq!(changes(&json!(["~ c = 3 (was 4)"])), "~ c = 3 (was 4)");
        assert_eq!(changes(&json!({"changes": []})), "nothing changed");
    }
}
