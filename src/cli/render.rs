//! `sengu render`: render the templates of the configuration now, or only tell what would change.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Global};
use crate::config::{Config, TemplateConfig};

/// Render the templates of the configuration file once, without waiting for a change
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only these destinations
    destinations: Vec<PathBuf>,
    /// Write nothing; print what would change
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let config = global.configuration()?;
    let chosen = chosen(&config, &options.destinations)?;
    anyhow::ensure!(!chosen.is_empty(), "there is no [[template]] in {}", global.config.display());
    render(&config, &chosen, options.dry_run)
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

// TO BE CONNECTED: the template module and the agent's catalog.
fn render(_config: &Config, _chosen: &[&TemplateConfig], _dry_run: bool) -> anyhow::Result<Exit> {
    anyhow::bail!("this build cannot render")
}
