//! `sengu kv`: keys and values, over Consul's dialect of HTTP.

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::client::{self, Client, ClientError};
use super::print;
use super::{Exit, Global};

/// The longest value, as Consul bounds it, in bytes.
const MAX_VALUE: u64 = 512 << 10;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Read and write keys and values
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The HTTP server; else the first `http.listen` of the configuration
    #[arg(long, env = "SENGU_HTTP", hide_env_values = true, value_name = "URL")]
    http: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print a value as it is; with --json the whole entry
    Get {
        /// The key
        key: String,
    },
    /// Write a value
    Put {
        /// The key
        key: String,
        /// The value; `-` or nothing: read from standard input
        value: Option<String>,
        /// Only if the key was last changed at this index; 0: only if it is absent
        #[arg(long, value_name = "INDEX")]
        cas: Option<u64>,
    },
    /// Remove a key
    Delete {
        /// The key
        key: String,
        /// Remove everything that begins so
        #[arg(long)]
        recurse: bool,
        /// Only if the key was last changed at this index
        #[arg(long, value_name = "INDEX", conflicts_with = "recurse")]
        cas: Option<u64>,
    },
    /// Print keys
    List {
        /// That begin so
        #[arg(default_value = "")]
        prefix: String,
    },
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let client = global.http(options.http.as_ref())?;
    match &options.verb {
        Verb::Get { key } => get(global, &client, key),
        Verb::Put { key, value, cas } => {
            let value = value.as_ref().filter(|value| *value != "-");
            let value = match value {
                Some(value) => value.clone().into_bytes(),
                None => stdin()?,
            };
            let query = cas.map_or_else(String::new, |index| format!("?cas={index}"));
            write(global, &client, Method::PUT, &format!("{}{query}", path(key)), Some(value))
        }
        Verb::Delete { key, recurse, cas } => {
            let query = match (recurse, cas) {
                (true, _) => "?recurse".to_owned(),
                (false, Some(index)) => format!("?cas={index}"),
                (false, None) => String::new(),
            };
            write(global, &client, Method::DELETE, &format!("{}{query}", path(key)), None)
        }
        Verb::List { prefix } => list(global, &client, prefix),
    }
}

fn get(global: &Global, client: &Client, key: &str) -> anyhow::Result<Exit> {
    let query = if global.json { "" } else { "?raw" };
    match client.call(Method::GET, &format!("{}{query}", path(key)), None, WITHIN) {
        Ok(answer) if global.json => {
            let entries: Vec<Value> = serde_json::from_slice(&answer.body)
                .map_err(|error| ClientError::Strange(error.to_string()))?;
            print::json(&entries.into_iter().next());
            Ok(Exit::Done)
        }
        Ok(answer) => {
            print::bytes(&answer.body);
            Ok(Exit::Done)
        }
        Err(ClientError::Absent(_)) => {
            print::note(&format!("there is no key `{key}`"));
            Ok(Exit::Failed)
        }
        Err(error) => Err(error.into()),
    }
}

fn write(
    global: &Global,
    client: &Client,
    method: Method,
    path: &str,
    value: Option<Vec<u8>>,
) -> anyhow::Result<Exit> {
    let answer = client.call(method, path, value, WITHIN)?;
    let done = answer.body.trim_ascii() == b"true";
    if global.json {
        print::json(&done);
    }
    if !done {
        print::note("refused: the key was changed by another, or a session holds it");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn list(global: &Global, client: &Client, prefix: &str) -> anyhow::Result<Exit> {
    let keys: Vec<String> = match client.get_within(&format!("{}?keys", path(prefix)), WITHIN) {
        Err(ClientError::Absent(_)) => Vec::new(),
        answer => answer?,
    };
    if global.json {
        print::json(&keys);
    } else {
        print::text(&keys.join("\n"));
    }
    Ok(Exit::Done)
}

fn stdin() -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    let mut input = std::io::stdin().lock().take(MAX_VALUE + 1);
    input.read_to_end(&mut value).context("cannot read standard input")?;
    anyhow::ensure!(value.len() as u64 <= MAX_VALUE, "a value has at most {MAX_VALUE} bytes");
    Ok(value)
}

/// The path of a key; its slashes stay.
fn path(key: &str) -> String {
    let segments: Vec<_> = key.split('/').map(client::segment).collect();
    format!("/v1/kv/{}", segments.join("/"))
}

#[cfg(test)]
mod tests;
