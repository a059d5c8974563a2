//! The table of keys as a JSON Schema, for editors and for checks of generated files.

use serde_json::{Map, Value, json};

use super::keys::{Key, Preset, SECTIONS, Section};

/// The whole schema (draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut top = object("");
    top["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    top["title"] = json!("Configuration of sengu");
    top
}

/// The tables right below a path, each by its last name.
fn below(path: &str) -> impl Iterator<Item = (&'static str, String)> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for section in SECTIONS {
        let Some(rest) = section.path.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else {
            continue;
        };
        let name = rest.split('.').next().unwrap_or_default();
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, format!("{prefix}{name}")));
        }
    }
    found.into_iter()
}

fn section(path: &str) -> Option<Section> {
    SECTIONS.into_iter().find(|section| section.path == path)
}

/// A table, with all that may stand in it.
fn object(path: &str) -> Value {
    let own = section(path);
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in own.iter().flat_map(|section| section.keys) {
        properties.insert(key.name.to_owned(), property(key));
        if key.preset == Preset::Required {
            required.push(key.name);
        }
    }
    let mut named = None;
    for (name, path) in below(path) {
        let table = object(&path);
        if name == "NAME" {
            named = Some(table);
        } else if section(&path).is_some_and(|section| section.header.starts_with("[[")) {
            properties.insert(name.to_owned(), json!({ "type": "array", "items": table }));
        } else {
            properties.insert(name.to_owned(), table);
        }
    }
    let mut schema =
        json!({ "type": "object", "additionalProperties": named.unwrap_or(json!(false)) });
    if let Some(section) = own {
        schema["description"] = json!(section.about);
    }
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&literal(key.example));
    schema["description"] = json!(key.meaning);
    if let Preset::Fixed(value) = key.preset {
        schema["default"] = literal(value);
    } else {
        schema["examples"] = json!([literal(key.example)]);
    }
    schema
}

/// A value of the table of keys, which is TOML.
fn literal(text: &str) -> Value {
    let table: Result<toml::Table, _> = format!("x = {text}").parse();
    let value = table.ok().and_then(|table| serde_json::to_value(&table["x"]).ok());
    value.unwrap_or(Value::Null)
}

fn kind(example: &Value) -> Value {
    match example {
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(_) => json!({ "type": "integer" }),
        Value::Array(_) => json!({ "type": "array", "items": { "type": "string" } }),
        Value::String(_) | Value::Null | Value::Object(_) => json!({ "type": "string" }),
    }
}
