//! `sengu render`: what the templates of the configuration give now.
//!
//! Writes no file unless it is told to with `--once`: a running agent does.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;

use sengu_core::catalog::{Catalog, Picture};

use super::{Exit, Global, print};
use crate::config::{Config, TemplateConfig};
use crate::operator::Records;
use crate::template::{self, RenderContext, TemplateStatus};
use crate::view::View;
use crate::{clock, duration};

/// Show what the templates of the configuration file give now
///
/// Prints the whole file, or with `--dry-run` what would change in it. Writes nothing, since a
/// running agent keeps the files; `--once` does what the agent would do, once. Exit codes with
/// `--check`: 0 if no file would change, 1 if one would.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only these destinations
    destinations: Vec<PathBuf>,
    /// Print what would change, as a diff
    #[arg(long, conflicts_with_all = ["once"])]
    dry_run: bool,
    /// Only tell by the exit code, and a line for each, which files would change
    #[arg(long, conflicts_with_all = ["once", "dry_run"])]
    check: bool,
    /// Write the files now, with validation and commands, as the agent would
    #[arg(long)]
    once: bool,
    /// Take masters out of the files of an agent that has ended; all other lines stay, and neither
    /// agent nor store is asked
    #[arg(long, conflicts_with_all = ["once", "dry_run", "check", "destinations"])]
    withdrawn: bool,
    /// With `--withdrawn`: do nothing if the service manager is starting this unit again
    #[arg(long, value_name = "UNIT", requires = "withdrawn")]
    unless_restarting: Option<String>,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let config = global.configuration()?;
    if options.withdrawn {
        return withdraw(&config, options.unless_restarting.as_deref());
    }
    let chosen = chosen(&config, &options.destinations)?;
    anyhow::ensure!(!chosen.is_empty(), "there is no [[template]] in {}", global.config.display());
    let records: Records = global.agent()?.get("/v1/sengu/records")?;
    let now = clock::time();
    let catalog = Arc::new(records.catalog(now));
    if options.once {
        return once(&config, &chosen, catalog);
    }
    render(&config, &chosen, catalog, options)
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
    config: &Config,
    chosen: &[&TemplateConfig],
    catalog: Arc<Catalog>,
    options: &Options,
) -> anyhow::Result<Exit> {
    let context = RenderContext::of(config, Arc::new(View::default()));
    let (picture, now) = (Picture::Known(catalog), clock::time());
    let mut exit = Exit::Done;
    for template in chosen {
        let text = template::render_once(template, &context, &picture, now)?;
        if !options.dry_run && !options.check {
            print::bytes(text.as_bytes());
            continue;
        }
        let difference = template::difference(template, &text)?;
        let file = template.destination.display();
        match (difference.is_empty(), options.check) {
            (true, _) => print::text(&format!("{file} would not change")),
            (false, false) => print::bytes(difference.as_bytes()),
            (false, true) => {
                print::text(&format!("{file} would change"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

/// Lets each template do its work once, in the agent's own way.
fn once(
    config: &Config,
    chosen: &[&TemplateConfig],
    catalog: Arc<Catalog>,
) -> anyhow::Result<Exit> {
    let view = Arc::new(View::default());
    view.publish(catalog);
    let context = RenderContext::of(config, view);
    let chosen: Vec<TemplateConfig> = chosen.iter().map(|&one| one.clone()).collect();
    let patience = template::patience(&chosen);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let statuses = runtime.block_on(template::once(chosen, context));
    let late = || anyhow::anyhow!("not done after {}", duration::format(patience));
    Ok(tell(&statuses.ok_or_else(late)?))
}

/// Takes masters out of the files, if the agent is not merely started again.
fn withdraw(config: &Config, unless_restarting: Option<&str>) -> anyhow::Result<Exit> {
    if let Some(unit) = unless_restarting
        && !stops(unit)
    {
        print::text(&format!("{unit} is started again, so the files stay as they are"));
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let statuses = runtime.block_on(template::withdraw(config));
    if statuses.is_empty() {
        print::text("no file names a master");
    }
    Ok(tell(&statuses))
}

/// Does this unit stop for good? The service manager is asked for its job: a restart has one of
/// that name, a stop one of its own, and a unit that ended by itself has none and is started again.
/// If nothing is known it stops: nobody would keep its files true.
fn stops(unit: &str) -> bool {
    let mut asked = Command::new("systemctl");
    asked.args(["list-jobs", "--no-legend", "--no-pager", "--plain", "--full"]).arg(unit);
    let Ok(told) = asked.stdin(Stdio::null()).output() else { return true };
    let jobs = String::from_utf8_lossy(&told.stdout);
    let mut jobs = jobs.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    match jobs.find(|job| job.get(1) == Some(&unit)) {
        Some(job) => job.get(2) == Some(&"stop"),
        None => !told.status.success(),
    }
}

/// How each file stands now.
fn tell(statuses: &[TemplateStatus]) -> Exit {
    let mut exit = Exit::Done;
    for status in statuses {
        let file = status.destination.display();
        let command = status.command.as_ref().and_then(|command| command.error.as_ref());
        let told = match (status.error.as_ref(), command, status.writes) {
            (Some(error), _, _) => format!("{file} not written: {error}"),
            (None, Some(error), _) => format!("{file} written, but its {error}"),
            (None, None, 0) => format!("{file} is as it should be"),
            (None, None, _) => format!("{file} written, {} bytes", status.bytes),
        };
        if status.error.is_some() || command.is_some() {
            exit = Exit::Failed;
        }
        print::text(&told);
    }
    exit
}
