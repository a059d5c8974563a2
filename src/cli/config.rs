//! `sengu config`: the documented default configuration, its schema, and all mistakes of a file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::print;
use super::{Exit, Global};
use crate::config::{Config, ConfigError, Elsewhere, Here, Machine, count, page};

/// Print the documented default configuration, or check a file
///
/// The files of the folder beside a file (`sengu.d` beside `sengu.toml`) and variables of the
/// environment (`SENGU_STORE__LEASE` for `lease` in `[store]`) are checked with it.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Check a file instead: tell every mistake, exit with 1 if there is one
    #[arg(long)]
    check: bool,
    /// Check it for another machine, as a build does: addresses, files, secrets are not looked at
    #[arg(long)]
    elsewhere: bool,
    /// Print a JSON Schema of the file instead
    #[arg(long, conflicts_with_all = ["check", "elsewhere", "file"])]
    schema: bool,
    /// The file to check; with `--check` alone, the configuration file
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    if options.schema {
        print::json(&crate::config::schema::schema());
        return Ok(Exit::Done);
    }
    if !options.check && !options.elsewhere && options.file.is_none() {
        if global.json {
            print::json(&keys());
        } else {
            print::text(&page::defaults());
        }
        return Ok(Exit::Done);
    }
    let file = options.file.as_ref().unwrap_or(&global.config);
    let machine: &dyn Machine = if options.elsewhere { &Elsewhere } else { &Here };
    match Config::load_on(file, machine) {
        Ok(config) => {
            let (services, instances) = (config.services.len(), config.instances());
            if global.json {
                print::json(&json!({"good": true, "services": services, "instances": instances}));
            } else {
                let services = count(services, "service");
                let instances = count(instances, "instance");
                print::text(&format!("{} is good: {services}, {instances}", file.display()));
            }
            Ok(Exit::Done)
        }
        Err(ConfigError::Bad { problems, .. }) if global.json => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            print::json(&json!({"good": false, "problems": problems}));
            Ok(Exit::Failed)
        }
        Err(error) => Err(error.into()),
    }
}

/// The table of keys, for programs.
fn keys() -> Vec<serde_json::Value> {
    use crate::config::keys::{Preset, SECTIONS};
    let sections =
        SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
    sections
        .map(|(section, key)| {
            let (preset, required) = match key.preset {
                Preset::Fixed(value) => (Some(value), false),
                Preset::Found(_) => (None, false),
                Preset::Required => (None, true),
            };
            json!({
                "section": section.path,
                "key": key.name,
                "default": preset,
                "required": required,
                "example": key.example,
                "meaning": key.meaning,
            })
        })
        .collect()
}
