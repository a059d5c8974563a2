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

/// What stands under `changes`: a text, or a list of lines.
fn changes(answer: &Value) -> String {
    let text = match answer.get("changes") {
        Some(Value::String(text)) => text.trim_end().to_owned(),
        Some(Value::Array(lines)) => {
            lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    if text.is_empty() { "nothing changed".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_printed_line_by_line() {
        assert_eq!(changes(&json!({"changes": ["+ a = 1", "- b = 2"]})), "+ a = 1\n- b = 2");
        assert_eq!(changes(&json!({"changes": "~ c = 3 (was 4)\n"})), "~ c = 3 (was 4)");
        assert_eq!(changes(&json!({"changes": []})), "nothing changed");
    }
}
