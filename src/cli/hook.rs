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
use serde_json::json;

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
    /// Only show which would run, and what they would be told
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
    if let Verb::Generic(options) = &options.verb {
        return Ok(ExitCode::from(generic::run(global, options)));
    }
    shown_or_run(global, &options.verb).map(ExitCode::from)
}

fn shown_or_run(global: &Global, verb: &Verb) -> anyhow::Result<Exit> {
    let config = global.configuration()?;
    match verb {
        Verb::Generic(_) => Ok(Exit::Usage),
        Verb::List => list(global, config.hooks.iter()),
        Verb::Run(options) => {
            let service = &match (&options.service, config.services.keys().next()) {
                (Some(service), _) => service.clone(),
                (None, Some(only)) if config.services.len() == 1 => only.clone(),
                (None, _) => anyhow::bail!("which service? name it after the phase"),
            };
            anyhow::ensure!(
                config.services.contains_key(service),
                "there is no service `{service}` in {}",
                global.config.display()
            );
            let phase = Phase::every().find(|phase| phase.as_str() == options.phase);
            let phase = phase.expect("clap lets only phases through");
            let chosen = |hook: &&HookConfig| hook.phase == phase && hook.applies(service);
            let run = HookRun {
                service: service.clone(),
                phase,
                term: Term(options.term),
                old: options.old.as_ref().map(|side| side.party(&config.host)),
                new: options.new.as_ref().map(|side| side.party(&config.host)),
                cause: "by hand".into(),
            };
            if options.dry_run {
                list(global, config.hooks.iter().filter(chosen))?;
                if !global.json {
                    let told = hooks(&config).told(&run);
                    let told: String =
                        told.iter().map(|(name, value)| format!("  {name}={value}\n")).collect();
                    print::text(&format!("told:\n{}", told.trim_end()));
                }
                return Ok(Exit::Done);
            }
            execute(global, &config, &run)
        }
    }
}

fn list<'a>(global: &Global, hooks: impl Iterator<Item = &'a HookConfig>) -> anyhow::Result<Exit> {
    let hooks: Vec<_> = hooks.collect();
    if global.json {
        let data: Vec<_> = hooks
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
            .collect();
        print::json(&data);
        return Ok(Exit::Done);
    }
    print::text(&table(&hooks));
    Ok(Exit::Done)
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
fn execute(global: &Global, config: &Config, run: &HookRun) -> anyhow::Result<Exit> {
    let hooks = hooks(config);
    let begin = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(hooks.run(run));
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
