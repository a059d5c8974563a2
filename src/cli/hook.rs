//! `sengu hook`: what is configured for each phase, a run by hand, and what other failover tools
//! call.

mod generic;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use sengu_core::event::{HookRun, Party};
use sengu_core::name::{HostName, InstanceName, ServiceName, Term};
use sengu_core::record::{HookOutcome, Phase};
use serde_json::{Value, json};

use super::{Exit, Global, print, words};
use crate::config::{Config, HookCall, HookConfig};
use crate::hook::{self, Hooks};

/// Show the hooks of the configuration file, run those of one phase by hand, or be one: what another
/// failover tool calls
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what runs at each phase
    List,
    /// Run the hooks of a phase now, to try them: nothing is moved and nothing is recorded
    Run(Run),
    Generic(generic::Options),
}

#[derive(Debug, Args)]
struct Run {
    /// The phase
    #[arg(value_parser = PossibleValuesParser::new(Phase::every().map(Phase::as_str)))]
    phase: String,
    /// The service; may be left out if the configuration has only one
    service: Option<ServiceName>,
    /// The term they are told
    #[arg(long, default_value_t = 0)]
    term: u64,
    /// The old master they are told, as `cache1@db1=10.0.0.11:6379`; without `@HOST`: this host
    #[arg(long, value_name = "INSTANCE[@HOST]=ADDRESS", value_parser = side)]
    old: Option<Side>,
    /// The new master they are told
    #[arg(long, value_name = "INSTANCE[@HOST]=ADDRESS", value_parser = side)]
    new: Option<Side>,
    /// Only show which would run and what they would be told; fails if one cannot be started
    #[arg(long)]
    dry_run: bool,
}

/// A side of the move, as it was written.
#[derive(Debug, Clone)]
struct Side {
    instance: InstanceName,
    host: Option<HostName>,
    address: SocketAddr,
}

fn side(text: &str) -> Result<Side, String> {
    let (name, address) = text.split_once('=').ok_or("write it as `cache1=10.0.0.11:6379`")?;
    let (name, host) = name.split_once('@').map_or((name, None), |(n, host)| (n, Some(host)));
    let instance = InstanceName::new(name).map_err(|error| error.to_string())?;
    let host = host.map(HostName::new).transpose().map_err(|error| error.to_string())?;
    let address = address.parse().map_err(|_| format!("{address:?} is not `address:port`"))?;
    Ok(Side { instance, host, address })
}

impl Side {
    fn party(&self, here: &HostName) -> Party {
        let host = self.host.clone().unwrap_or_else(|| here.clone());
        Party { instance: self.instance.clone(), host, address: self.address }
    }
}

/// Runs the verb; the exit code of `generic` is the one that its caller understands.
pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<ExitCode> {
    let exit = match &options.verb {
        Verb::List => list(global, &global.configuration()?),
        Verb::Run(options) => by_hand(global, options)?,
        Verb::Generic(options) => return Ok(ExitCode::from(generic::run(global, options))),
    };
    Ok(exit.into())
}

fn by_hand(global: &Global, options: &Run) -> anyhow::Result<Exit> {
    let config = global.configuration()?;
    let service = match (&options.service, config.services.keys().next()) {
        (Some(service), _) => service.clone(),
        (None, Some(only)) if config.services.len() == 1 => only.clone(),
        (None, _) => anyhow::bail!("which service? name it after the phase"),
    };
    anyhow::ensure!(
        config.services.contains_key(&service),
        "there is no service `{service}` in {}",
        global.config.display()
    );
    let phase = Phase::every().find(|phase| phase.as_str() == options.phase);
    let phase = phase.expect("clap lets only phases through");
    let run = HookRun {
        service,
        phase,
        term: Term(options.term),
        old: options.old.as_ref().map(|side| side.party(&config.host)),
        new: options.new.as_ref().map(|side| side.party(&config.host)),
        cause: "by hand".into(),
    };
    let more = if phase == Phase::RoleChanged {
        let side = options.new.as_ref().or(options.old.as_ref());
        let instance = side.map(|side| side.instance.to_string()).unwrap_or_default();
        let role = if options.new.is_some() { "master" } else { "replica" };
        vec![("SENGU_INSTANCE", instance), ("SENGU_ROLE", role.to_owned())]
    } else {
        Vec::new()
    };
    if options.dry_run {
        return Ok(rehearse(global, &config, &run, &more));
    }
    execute(global, &config, &run, &more)
}

/// Shows what would run and what it would be told; fails where it could not even be started.
fn rehearse(
    global: &Global,
    config: &Config,
    run: &HookRun,
    more: &[(&'static str, String)],
) -> Exit {
    let chosen = |hook: &&HookConfig| hook.phase == run.phase && hook.applies(&run.service);
    let found: Vec<&HookConfig> = config.hooks.iter().filter(chosen).collect();
    let told = hooks(config).told(run, more);
    let troubles: Vec<String> = found
        .iter()
        .filter_map(|hook| Some(format!("{} {}", hook::name(hook), hook::trouble(hook)?)))
        .collect();
    if global.json {
        let told: serde_json::Map<_, _> =
            told.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        print::json(&json!({ "hooks": as_data(&found), "told": told, "troubles": troubles }));
    } else {
        print::text(&table(&found));
        let told: String = told.iter().map(|(name, value)| format!("  {name}={value}\n")).collect();
        print::text(&format!("told:\n{}", told.trim_end()));
        troubles.iter().for_each(|trouble| print::note(&format!("would fail: {trouble}")));
    }
    if troubles.is_empty() { Exit::Done } else { Exit::Failed }
}

fn list(global: &Global, config: &Config) -> Exit {
    let hooks: Vec<&HookConfig> = config.hooks.iter().collect();
    if global.json {
        print::json(&as_data(&hooks));
    } else {
        print::text(&table(&hooks));
    }
    Exit::Done
}

fn as_data(hooks: &[&HookConfig]) -> Vec<Value> {
    hooks
        .iter()
        .map(|hook| {
            json!({
                "phase": hook.phase,
                "services": hook.services,
                "command": match &hook.call {
                    HookCall::Program(command) => json!(command),
                    HookCall::Http { .. } => json!(null),
                },
                "url": match &hook.call {
                    HookCall::Program(_) => json!(null),
                    HookCall::Http { .. } => json!(hook::name(hook)),
                },
                "user": hook.user,
                "folder": hook.folder,
                "timeout_ms": hook.timeout.as_millis(),
                "on_error": format!("{:?}", hook.on_error).to_ascii_lowercase(),
            })
        })
        .collect()
}

fn table(hooks: &[&HookConfig]) -> String {
    let mut text = String::new();
    for phase in Phase::every() {
        for hook in hooks.iter().filter(|hook| hook.phase == phase) {
            let services: Vec<_> = hook.services.iter().map(ServiceName::as_str).collect();
            let services = if services.is_empty() { "all".into() } else { services.join(", ") };
            text += &format!(
                "{}  services: {services}  at most {}  on error: {}\n  {}\n",
                phase.as_str(),
                crate::duration::format(hook.timeout),
                format!("{:?}", hook.on_error).to_ascii_lowercase(),
                match &hook.call {
                    HookCall::Program(command) => command.join(" "),
                    HookCall::Http { .. } => format!("POST {}", hook::name(hook)),
                }
            );
        }
    }
    if text.is_empty() { "no hooks".into() } else { text }
}

fn hooks(config: &Config) -> Hooks {
    Hooks::new(config.hooks.clone(), config.host.clone(), config.datacenter.clone())
}

/// Runs them as the agent would; what they print goes to standard output.
fn execute(
    global: &Global,
    config: &Config,
    run: &HookRun,
    more: &[(&'static str, String)],
) -> anyhow::Result<Exit> {
    let hooks = hooks(config);
    let begin = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(hooks.run_with(run, more));
    let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (output, exit) = match &outcome {
        HookOutcome::Done { warnings, output } if warnings.is_empty() => {
            (output.as_str(), Exit::Done)
        }
        HookOutcome::Done { output, .. } | HookOutcome::Abort { output, .. } => {
            (output.as_str(), Exit::Failed)
        }
        HookOutcome::Unknown => ("", Exit::Failed),
    };
    if global.json {
        print::json(&outcome);
        return Ok(exit);
    }
    print::text(output);
    words::outcome(millis, &outcome).iter().for_each(|line| print::note(line));
    Ok(exit)
}

#[cfg(test)]
mod tests;
