//! Files written once, without an agent that keeps them: by a command, or to take masters out.
//!
//! An agent that is dead cannot keep its files true. What each file was made of is kept beside its
//! memory, so that masters can be taken out with neither agent nor store: the template is rendered
//! from that picture once more, at a time when none of its masters is valid. All other lines stay,
//! and validation, replacement and command are the agent's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sengu_core::catalog::Catalog;
use sengu_core::time::Time;

use super::memory::Memory;
use super::status::TemplateStatus;
use super::swap::{Destination, Manner};
use super::{RENDER_DEADLINE, RenderContext};
use crate::clock;
use crate::config::{Config, TemplateConfig};
use crate::operator::Records;
use crate::view::View;

/// How long these templates may take at most, all side by side.
#[must_use]
pub fn patience(configs: &[TemplateConfig]) -> Duration {
    let longest = configs.iter().map(|one| one.wait_max + one.timeout * 2).max();
    longest.unwrap_or_default() + RENDER_DEADLINE
}

/// Lets each template do its work once, in the agent's own way; none if that takes longer than
/// [`patience`].
pub async fn once(
    configs: Vec<TemplateConfig>,
    context: RenderContext,
) -> Option<Vec<TemplateStatus>> {
    let patience = patience(&configs);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut templates = super::start(configs, context, stopped);
    let settled = tokio::time::timeout(patience, templates.settled()).await;
    let statuses = templates.status();
    // Templates that have ended already need no word.
    let _ = stop.send(true);
    templates.ended().await;
    settled.ok().map(|()| statuses)
}

/// Takes masters out of each file of this configuration that names one, and tells how that ended;
/// other files are not touched and not told.
pub async fn withdraw(config: &Config) -> Vec<TemplateStatus> {
    let mut statuses = Vec::new();
    for template in &config.templates {
        let context = RenderContext::of(config, Arc::new(View::default()));
        let memory = Memory::path(&context.state_dir, &template.destination);
        if Memory::read(&memory, &template.destination).masters.is_empty() {
            continue;
        }
        let failed = |error: String| TemplateStatus {
            source: template.source.clone(),
            destination: template.destination.clone(),
            error: Some(error),
            ..TemplateStatus::default()
        };
        let told = match recalled(&picture(&memory)) {
            Ok(catalog) => {
                context.view.publish(Arc::new(catalog));
                let done = once(vec![template.clone()], context).await;
                let late = || failed("its programs did not end in time".to_owned());
                done.and_then(|mut statuses| statuses.pop()).unwrap_or_else(late)
            }
            Err(error) => failed(error),
        };
        statuses.push(told);
    }
    statuses
}

/// Where the picture stands that a file was made of.
pub(super) fn picture(memory: &Path) -> PathBuf {
    memory.with_extension("picture")
}

/// Keeps what a file was made of; with the key-value store only if the template asks for keys.
pub(super) fn keep(memory: &Path, catalog: &Catalog, keys: bool) -> Result<(), String> {
    let records = if keys { Records::whole } else { Records::of };
    let bytes = serde_json::to_vec(&records(catalog, clock::time())).expect("plain data");
    let manner = Manner { mode: Some(0o600), ..Manner::default() };
    if let Some(folder) = memory.parent() {
        // The first of all comes before the memory itself.
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    }
    Destination::read(&picture(memory))
        .and_then(|old| old.stage(&bytes, &manner)?.swap())
        .map_err(|error| error.to_string())
}

/// The picture again, with no master that would still be valid.
pub(super) fn recalled(path: &Path) -> Result<Catalog, String> {
    let bytes = Destination::read(path).map_err(|error| error.to_string())?.bytes;
    let bytes = bytes.ok_or_else(|| format!("{} is missing", path.display()))?;
    let records: Records = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is damaged: {error}", path.display()))?;
    let mut catalog = records.catalog(clock::time());
    // It was fresh once, which is long ago.
    catalog.valid_until = Time(1);
    Ok(catalog)
}
