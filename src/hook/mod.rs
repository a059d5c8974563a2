//! Hooks: the operator's programs and URLs at the steps of a move.
//!
//! The core decides when a phase runs, and that it runs once (`tell` does for the three phases
//! that every host tells itself); here all hooks of that phase and service are called, one after
//! the other in the order of the configuration, each with its deadline. A hook's failure is a
//! warning in the history, or stops the move if it is `on_error = "abort"` at a `before-` phase;
//! then the hooks after it are not run. Nothing here is retried, and nothing of argv is ever shown
//! but the program's name.

pub(crate) mod account;
pub(crate) mod program;
mod tell;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use sengu_core::event::{HookRun, Party};
use sengu_core::health::Status;
use sengu_core::name::{HostName, ServiceName};
use sengu_core::record::{HookOutcome, Phase};
use serde_json::{Value, json};

use crate::config::{HookCall, HookConfig, OnError};
use crate::probe::http::{Asking, shown};
use program::{Ended, GRACE, Program, Run};

pub use tell::Teller;

/// So many of the last bytes that the hooks of one phase print are kept for the history.
pub const OUTPUT_KEPT: usize = 4096;

/// What is said of either side of a move.
const OLD: [&str; 5] =
    ["SENGU_OLD_INSTANCE", "SENGU_OLD_HOST", "SENGU_OLD_ADDRESS", "SENGU_OLD_IP", "SENGU_OLD_PORT"];
const NEW: [&str; 5] =
    ["SENGU_NEW_INSTANCE", "SENGU_NEW_HOST", "SENGU_NEW_ADDRESS", "SENGU_NEW_IP", "SENGU_NEW_PORT"];

/// The configured hooks of this host.
#[derive(Debug, Clone)]
pub struct Hooks {
    configs: Vec<HookConfig>,
    host: HostName,
    datacenter: String,
}

impl Hooks {
    /// The hooks of this host, in the order in which they run.
    #[must_use]
    pub fn new(configs: Vec<HookConfig>, host: HostName, datacenter: String) -> Self {
        Self { configs, host, datacenter }
    }

    /// The phases of a service for which something runs here.
    #[must_use]
    pub fn phases_for(&self, service: &ServiceName) -> BTreeSet<Phase> {
        self.configs
            .iter()
            .filter(|config| concerns(config, service))
            .map(|config| config.phase)
            .collect()
    }

    /// The longest that [`Hooks::run`] may take for a phase: who waits for it waits this long.
    #[must_use]
    pub fn longest(&self, service: &ServiceName, phase: Phase) -> Duration {
        // At its deadline a group has its grace, and a kill is waited for as long.
        self.of(service, phase)
            .map(|config| config.timeout + GRACE * 2 + Duration::from_secs(1))
            .sum()
    }

    /// Runs all hooks of a phase and service, in order. It never fails: what went wrong is the
    /// outcome. Dropping the future kills the program that runs.
    pub async fn run(&self, run: &HookRun) -> HookOutcome {
        self.run_with(run, &[]).await
    }

    /// The same, with more that they are told.
    pub(crate) async fn run_with(
        &self,
        run: &HookRun,
        more: &[(&'static str, String)],
    ) -> HookOutcome {
        let environment = self.told(run, more);
        let several = self.of(&run.service, run.phase).count() > 1;
        let mut warnings = Vec::new();
        let mut output = String::new();
        for config in self.of(&run.service, run.phase) {
            let (name, phase, service) = (name(config), run.phase.as_str(), &run.service);
            let ran = self.call(config, &environment, run, more).await;
            if several {
                append(&mut output, &format!("[{name}]\n"));
            }
            append(&mut output, &ran.output);
            let Ended::Badly(how) = ran.ended else {
                tracing::info!(%service, phase, hook = name, "hook done");
                continue;
            };
            let error = format!("hook {name} ({phase} of {service}) {how}");
            if aborts(config) {
                tracing::error!(%service, phase, hook = name, "{error}; the move is stopped");
                return HookOutcome::Abort { error, output };
            }
            tracing::warn!(%service, phase, hook = name, "{error}; going on");
            warnings.push(error);
        }
        HookOutcome::Done { warnings, output }
    }

    async fn call(
        &self,
        config: &HookConfig,
        environment: &[(&'static str, String)],
        run: &HookRun,
        more: &[(&'static str, String)],
    ) -> Run {
        match &config.call {
            HookCall::Program(argv) => {
                let program = Program {
                    argv: argv.clone(),
                    environment: environment.to_vec(),
                    deadline: config.timeout,
                    keep: OUTPUT_KEPT,
                    user: config.user.clone(),
                    folder: config.folder.clone(),
                };
                program.run().await
            }
            HookCall::Http { url, token } => {
                let body = self.body(run, more);
                post(url, token.as_deref(), &body, config.timeout).await
            }
        }
    }

    /// What a URL is told: the same facts as a program, as JSON.
    fn body(&self, run: &HookRun, more: &[(&'static str, String)]) -> Value {
        let side = |party: &Option<Party>| {
            party.as_ref().map(|party| {
                json!({
                    "instance": party.instance, "host": party.host, "address": party.address,
                    "ip": party.address.ip(), "port": party.address.port(),
                })
            })
        };
        let mut body = json!({
            "service": run.service, "phase": run.phase.as_str(), "term": run.term,
            "cause": run.cause, "host": self.host, "datacenter": self.datacenter,
            "old": side(&run.old), "new": side(&run.new),
        });
        for (name, value) in more {
            let name = name.strip_prefix("SENGU_").unwrap_or(name).to_ascii_lowercase();
            body[name] = json!(value);
        }
        body
    }

    /// What the programs of a phase would be told, with this beside it.
    #[must_use]
    pub fn told(
        &self,
        run: &HookRun,
        more: &[(&'static str, String)],
    ) -> Vec<(&'static str, String)> {
        let mut told = self.environment(run);
        told.extend_from_slice(more);
        told
    }

    fn of(&self, service: &ServiceName, phase: Phase) -> impl Iterator<Item = &HookConfig> {
        self.configs.iter().filter(move |config| config.phase == phase && concerns(config, service))
    }

    fn environment(&self, run: &HookRun) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("SENGU_SERVICE", run.service.to_string()),
            ("SENGU_PHASE", run.phase.as_str().to_owned()),
            ("SENGU_TERM", run.term.to_string()),
            ("SENGU_CAUSE", run.cause.clone()),
            ("SENGU_HOST", self.host.to_string()),
            ("SENGU_DATACENTER", self.datacenter.clone()),
        ];
        environment.extend(OLD.into_iter().zip(told(run.old.as_ref())));
        environment.extend(NEW.into_iter().zip(told(run.new.as_ref())));
        environment
    }
}

/// What a hook is called in messages: never more than its program, or where its URL leads.
#[must_use]
pub fn name(config: &HookConfig) -> String {
    match &config.call {
        HookCall::Program(argv) => argv.first().cloned().unwrap_or_else(|| "(none)".to_owned()),
        HookCall::Http { url, .. } => shown(url),
    }
}

/// Why a hook could not even be started, as far as that can be seen without starting it.
#[must_use]
pub fn trouble(config: &HookConfig) -> Option<String> {
    let HookCall::Program(argv) = &config.call else {
        let HookCall::Http { token: Some(file), .. } = &config.call else { return None };
        let error = std::fs::read(file).err()?;
        return Some(format!("cannot be called: token {}: {error}", file.display()));
    };
    if let Some(user) = &config.user
        && let Err(unknown) = account::Account::find(user)
    {
        return Some(format!("cannot be started: {unknown}"));
    }
    if !config.folder.is_dir() {
        let folder = config.folder.display();
        return Some(format!("cannot run in {folder}: there is no such folder"));
    }
    program::found(argv.first()?).err()
}

/// Calls a URL.
async fn post(url: &str, token: Option<&Path>, body: &Value, within: Duration) -> Run {
    let badly = |how: String| Run { ended: Ended::Badly(how), output: String::new() };
    let mut header = vec![("content-type".to_owned(), "application/json".to_owned())];
    if let Some(file) = token {
        match tokio::fs::read_to_string(file).await {
            Ok(token) => {
                header.push(("authorization".to_owned(), format!("Bearer {}", token.trim())))
            }
            Err(error) => {
                return badly(format!("cannot be called: token {}: {error}", file.display()));
            }
        }
    }
    let asking = match Asking::new("POST", &header, &body.to_string(), (false, false)) {
        Ok(asking) => asking,
        Err(why) => return badly(format!("cannot be called: {why}")),
    };
    match asking.ask(url, within).await {
        Ok(answer) => {
            let mut output = String::new();
            append(&mut output, &answer.body);
            let ended = match answer.status {
                Status::Passing => Ended::Well,
                _ => Ended::Badly(format!("answered {}", answer.line)),
            };
            Run { ended, output }
        }
        Err(why) => badly(format!("was not reached: {why}")),
    }
}

fn concerns(config: &HookConfig, service: &ServiceName) -> bool {
    config.services.is_empty() || config.services.contains(service)
}

/// Only what runs before the move can stop it.
fn aborts(config: &HookConfig) -> bool {
    config.on_error == OnError::Abort
        && matches!(config.phase, Phase::BeforeFailover | Phase::BeforeSwitchover)
}

/// All set, but empty if there is no such party, for scripts with `set -u`.
fn told(party: Option<&Party>) -> [String; 5] {
    party.map_or_else(Default::default, |party| {
        [
            party.instance.to_string(),
            party.host.to_string(),
            party.address.to_string(),
            party.address.ip().to_string(),
            party.address.port().to_string(),
        ]
    })
}

/// Appends, and keeps the last [`OUTPUT_KEPT`] bytes.
fn append(output: &mut String, more: &str) {
    output.push_str(more);
    let mut over = output.len().saturating_sub(OUTPUT_KEPT);
    while !output.is_char_boundary(over) {
        over += 1;
    }
    output.drain(..over);
}

#[cfg(test)]
mod tests;
