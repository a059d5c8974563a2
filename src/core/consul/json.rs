//! Request bodies of Consul's dialect, read as its servers read them: keys in any case.
//!
//! py-consul sends lower-case keys, Go's client sends `PascalCase`; both reach the same fields
//! here, because keys of the fields that sengu knows are lowered before they are read. Maps that
//! users fill (`Meta`, `NodeMeta`, `Header`) keep their keys.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Refusal;

/// The body of `catalog/register`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// The datacenter, if it names one.
    pub datacenter: Nullable<String>,
    /// The node's name.
    pub node: Nullable<String>,
    /// Its address.
    pub address: Nullable<String>,
    /// Its id (a UUID), if it has one.
    pub id: Nullable<String>,
    /// Its metadata.
    pub nodemeta: Nullable<Map<String, Value>>,
    /// Do not touch the node.
    pub skipnodeupdate: Nullable<bool>,
    /// A service on it.
    pub service: Option<RegisteredService>,
    /// A check on it.
    pub check: Option<RegisteredCheck>,
    /// More checks.
    pub checks: Nullable<Vec<RegisteredCheck>>,
}

/// A service in a registration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct RegisteredService {
    /// Its id; default: its name.
    pub id: Nullable<String>,
    /// Its name.
    pub service: Nullable<String>,
    /// Its tags.
    pub tags: Nullable<Vec<String>>,
    /// Its address; empty: the node's.
    pub address: Nullable<String>,
    /// Its port.
    pub port: Nullable<u16>,
    /// Its metadata.
    pub meta: Nullable<Map<String, Value>>,
}

/// A check in a registration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct RegisteredCheck {
    /// Its id; default: its name.
    pub checkid: Nullable<String>,
    /// Its name.
    pub name: Nullable<String>,
    /// `passing`, `warning` or `critical` (default).
    pub status: Nullable<String>,
    /// What it last printed.
    pub output: Nullable<String>,
    /// For people.
    pub notes: Nullable<String>,
    /// The service that it is about; empty: the node.
    pub serviceid: Nullable<String>,
}

/// The body of `catalog/deregister`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Deregistration {
    /// The datacenter, if it names one.
    pub datacenter: Nullable<String>,
    /// The node.
    pub node: Nullable<String>,
    /// The service to remove; it counts before the check.
    pub serviceid: Nullable<String>,
    /// The check to remove.
    pub checkid: Nullable<String>,
}

/// A field that may be absent or `null`; both mean its type's empty value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nullable<T>(pub T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Nullable<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(|value| Self(value.unwrap_or_default()))
    }
}

/// Reads a body.
///
/// # Errors
/// [`Refusal::Bad`] with the parser's words.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let bad = |error: serde_json::Error| Refusal::Bad(format!("Request decode failed: {error}"));
    let value: Value = serde_json::from_slice(body).map_err(bad)?;
    if !value.is_object() {
        return Err(Refusal::Bad("Request decode failed: not a JSON object".to_owned()));
    }
    serde_json::from_value(lowered(value)).map_err(bad)
}

/// Lowers keys and drops `_` in them (Consul's `service_id` is `ServiceID`), except in metadata.
pub(super) fn lowered(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let key = key.to_lowercase().replace('_', "");
                    let keep = key == "meta" || key == "nodemeta" || key == "header";
                    let value = if keep { value } else { lowered(value) };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(lowered).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_any_case_and_metadata_keeps_its_own() {
        let body = br#"{"node":"n1","ADDRESS":"10.0.0.1","NodeMeta":{"Env_X":"a"},
            "Service":{"service":"web","TAGS":null,"Port":80},
            "checks":[{"service_id":"web","CheckID":"c"}]}"#;
        let read: Registration = decode(body).expect("a registration");
        assert_eq!(read.node.0, "n1");
        assert_eq!(read.nodemeta.0["Env_X"], "a");
        let service = read.service.expect("a service");
        assert_eq!((service.service.0.as_str(), service.port.0), ("web", 80));
        assert_eq!(read.checks.0[0].serviceid.0, "web");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "{", "{\"Service\":{\"Port\":70000}}"] {
            let refusal = decode::<Registration>(body.as_bytes()).expect_err(body);
            assert_eq!(refusal.status(), 400);
        }
    }
}
