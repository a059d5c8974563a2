//! The command line: one command per file. Each asks the agent, the store's files or the
//! configuration, makes a text or JSON of the answer, and ends with a written-down exit code.
//!
//! Commands decide nothing about databases: they ask, and the agents act.

mod access;
mod adopt;
mod agent;
mod audit;
#[cfg(test)]
pub(crate) mod bless;
mod check;
mod client;
mod completions;
mod config;
mod dns;
mod doctor;
mod drain;
mod drill;
mod events;
mod exit;
mod explain;
mod failover;
#[cfg(test)]
mod fixture;
mod freeze;
mod guard;
mod history;
mod hook;
mod kv;
mod log;
mod man;
#[cfg(test)]
mod page;
mod pause;
mod print;
mod release;
mod reload;
mod render;
mod request;
mod resume;
mod services;
mod status;
mod store;
mod switchover;
mod thaw;
mod token;
mod top;
mod undrain;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, ConfigError, DEFAULT_PATH};
use access::Access;
use client::{Client, ClientError};
pub use exit::{Exit, PluginExit};

/// Where the agent's HTTP server listens by default.
const HTTP_PORT: u16 = 8500;

/// Publishes who is master of each replicated database, once, and moves mastership safely
#[derive(Debug, Parser)]
#[command(
    name = "sengu",
    version,
    max_term_width = 100,
    propagate_version = false,
    arg_required_else_help = true
)]
struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The configuration file
    #[arg(long, global = true, env = "SENGU_CONFIG", hide_env_values = true, value_name = "FILE",
          default_value = DEFAULT_PATH, help_heading = "Everywhere")]
    config: PathBuf,
    /// The agent's socket, if not the one in the configuration file
    #[arg(
        long,
        global = true,
        env = "SENGU_SOCKET",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Everywhere"
    )]
    socket: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Global {
    /// The agent of this host, or the one that was named.
    fn agent(&self) -> anyhow::Result<Client> {
        match &self.access.agent {
            Some(url) => Client::http(url, &self.access),
            None => Client::agent(&client::socket(self.socket.clone(), &self.config)),
        }
    }

    /// The HTTP server: the one that was named, else the first that the configuration has.
    fn http(&self, told: Option<&String>) -> anyhow::Result<Client> {
        let url = told.or(self.access.agent.as_ref()).cloned().unwrap_or_else(|| {
            let http = self.configuration().map(|config| config.http).ok();
            let listen = http.as_ref().and_then(|http| http.listen.first().copied());
            let encrypted = http.is_some_and(|http| {
                let beyond = listen.is_some_and(|at| !crate::config::is_loopback(&at));
                http.tls.is_some_and(|tls| tls.loopback || beyond)
            });
            let scheme = if encrypted { "https" } else { "http" };
            format!("{scheme}://{}", client::reachable(listen, HTTP_PORT))
        });
        Client::http(&url, &self.access)
    }

    /// The configuration file, read and checked.
    fn configuration(&self) -> Result<Config, ConfigError> {
        Config::load(&self.config)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::Options),
    Guard(guard::Options),
    Status(status::Options),
    Explain(explain::Options),
    History(history::Options),
    Events(events::Options),
    Audit(audit::Options),
    Services(services::Options),
    Top(top::Options),
    Doctor(doctor::Options),
    Adopt(adopt::Options),
    Release(release::Options),
    Switchover(switchover::Options),
    Failover(failover::Options),
    Drill(drill::Options),
    Pause(pause::Options),
    Resume(resume::Options),
    Freeze(freeze::Options),
    Thaw(thaw::Options),
    Drain(drain::Options),
    Undrain(undrain::Options),
    Kv(kv::Options),
    Dns(dns::Options),
    Check(check::Options),
    Render(render::Options),
    Hook(hook::Options),
    Config(config::Options),
    Reload(reload::Options),
    Store(store::Options),
    Token(token::Options),
    Completions(completions::Options),
    Man(man::Options),
}

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs a command line; the first argument is the program's name.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            let usage = error.use_stderr();
            // Nobody is left to be told if this fails.
            let _ = error.print();
            return if usage { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let global = &line.global;
    let ended = match line.command {
        // Plugins have exit codes of their own.
        Command::Check(options) => return check::run(global, &options).into(),
        // So have the tools that call a hook.
        Command::Hook(options) => {
            return hook::run(global, &options).unwrap_or_else(|error| fail(&error).into());
        }
        Command::Agent(options) => agent::run(global, &options),
        Command::Guard(options) => guard::run(global, &options),
        Command::Status(options) => status::run(global, &options),
        Command::Explain(options) => explain::run(global, &options),
        Command::History(options) => history::run(global, &options),
        Command::Events(options) => events::run(global, &options),
        Command::Audit(options) => audit::run(global, &options),
        Command::Services(options) => services::run(global, &options),
        Command::Top(options) => top::run(global, &options),
        Command::Doctor(options) => doctor::run(global, &options),
        Command::Drill(options) => drill::run(global, &options),
        Command::Adopt(options) => adopt::run(global, options),
        Command::Release(options) => release::run(global, options),
        Command::Switchover(options) => switchover::run(global, options),
        Command::Failover(options) => failover::run(global, options),
        Command::Pause(options) => pause::run(global, options),
        Command::Resume(options) => resume::run(global, &options),
        Command::Freeze(options) => freeze::run(global, &options),
        Command::Thaw(options) => thaw::run(global, &options),
        Command::Drain(options) => drain::run(global, options),
        Command::Undrain(options) => undrain::run(global, &options),
        Command::Kv(options) => kv::run(global, &options),
        Command::Dns(options) => dns::run(global, &options),
        Command::Render(options) => render::run(global, &options),
        Command::Config(options) => config::run(global, &options),
        Command::Reload(options) => reload::run(global, &options),
        Command::Store(options) => store::run(global, &options),
        Command::Token(options) => token::run(global, &options),
        Command::Completions(options) => completions::run(&options),
        Command::Man(options) => man::run(&options),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error).into(),
    }
}

/// Says why a command failed.
fn fail(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        let (colors, width) = print::stderr_look();
        print::note(&error.render(colors, width));
        return Exit::Failed;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. }) => {
            print::note(&format!("error: {error}"));
            Exit::Unreachable
        }
        Some(ClientError::Refused(words)) => {
            print::note(&format!("refused: {words}"));
            Exit::Failed
        }
        _ => {
            print::note(&format!("error: {error:#}"));
            Exit::Failed
        }
    }
}

/// The whole command tree, for help pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// The story of a failover, for tests of what is made of one.
#[cfg(test)]
pub(crate) fn failover_fixture() -> sengu_core::record::HistoryRecord {
    fixture::failover()
}

#[cfg(test)]
mod tests;
