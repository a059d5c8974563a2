//! `sengu render`: what the templates of the configuration give now.
//!
//! Writes no file: a running agent does.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use sengu_core::catalog::Picture;

use super::{Exit, Global, print};
use crate::clock;
use crate::config::{Config, TemplateConfig};
use crate::operator::Records;
use crate::template::{self, RenderContext};
use crate::view::View;

/// Show what the templates of the configuration file give now
///
/// Prints the whole file, or with `--dry-run` what would change in it. Writes nothing: a running
/// agent keeps the files.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only these destinations
    destinations: Vec<PathBuf>,
    /// Print what would change, as a diff
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let config = global.configuration()?;
    let chosen = chosen(&config, &options.destinations)?;
    anyhow::ensure!(!chosen.is_empty(), "there is no [[template]] in {}", global.config.display());
    render(global, &config, &chosen, options.dry_run)
}

fn chosen<'a>(config: &'a Config, wanted: &[PathBuf]) -> anyhow::Result<Vec<&'a TemplateConfig>> {
    let find = |path: &PathBuf| {
        let found = config.templates.iter().find(|template| template.destination == *path);
        found.ok_or_else(|| anyhow::anyhow!("no [[template]] writes {}", path.display()))
    };
    if wanted.is_empty() {
        return Ok(config.templates.iter().collect());
    }
    wanted.iter().map(find).collect()
}

fn render(
    global: &Global,
    config: &Config,
    chosen: &[&TemplateConfig],
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let records: Records = global.agent()?.get("/v1/sengu/records")?;
    let now = clock::time();
    let catalog = Arc::new(records.catalog(now));
    let context = RenderContext {
        host: config.host.clone(),
        datacenter: config.datacenter.clone(),
        domains: config.dns.domains.clone(),
        view: Arc::new(View::default()),
        state_dir: config.data_dir.join("templates"),
    };
    let picture = Picture::Known(catalog);
    for template in chosen {
        let text = template::render_once(template, &context, &picture, now)?;
        if !dry_run {
            print::bytes(text.as_bytes());
            continue;
        }
        let difference = template::difference(template, &text)?;
        if difference.is_empty() {
            print::text(&format!("{} would not change", template.destination.display()));
        } else {
            print::bytes(difference.as_bytes());
        }
    }
    Ok(Exit::Done)
}
