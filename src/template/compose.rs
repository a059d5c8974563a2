//! From what a template printed to the bytes of its file, and whether they may go there at all.
//!
//! The agent and `sengu render --dry-run` come through here, so that a dry run shows what the
//! agent would do. Nothing is written here.

use std::sync::Arc;

use sengu_core::catalog::{Catalog, Picture};
use sengu_core::time::Time;
use similar::TextDiff;

use super::RenderContext;
use super::block;
use super::error::TemplateError;
use super::memory::Memory;
use super::render::{RENDER_DEADLINE, Source, within_blocking};
use super::scene::{Said, Scene, entries, lost};
use super::swap::{Destination, Manner};
use crate::config::TemplateConfig;
use crate::hook::account::Account;

/// Did the catalog become empty, where that is not expected?
pub(crate) fn emptied(config: &TemplateConfig, memory: &Memory, catalog: &Catalog) -> bool {
    !config.allow_empty && memory.entries > 0 && entries(catalog) == 0
}

/// Was the template given too little? Then the file stays as it is.
pub(crate) fn too_few(config: &TemplateConfig, said: &Said) -> Option<TemplateError> {
    let (have, want) = (said.records, config.min_records);
    (have < want).then_some(TemplateError::TooFew { have, want })
}

/// How the file is put in place.
pub(crate) fn manner(
    config: &TemplateConfig,
    context: &RenderContext,
) -> Result<Manner, TemplateError> {
    let owner = config.owner.as_deref().map(Account::find).transpose();
    Ok(Manner {
        owner: owner.map_err(|error| TemplateError::Owner(error.to_string()))?,
        mode: config.mode,
        backup: config.backup,
        in_place: config.in_place.then(|| {
            Memory::path(&context.state_dir, &config.destination).with_extension("in-place")
        }),
    })
}

/// The bytes of the file with this text; a refusal if they should not go there.
pub(crate) fn compose(
    config: &TemplateConfig,
    memory: &Memory,
    destination: &Destination,
    text: &str,
    (catalog, now): (&Catalog, Time),
) -> Result<Vec<u8>, TemplateError> {
    // Nothing left because a master was withdrawn is no surprise, and its line must go.
    let expected = config.allow_empty || lost(&memory.masters, catalog, now);
    if text.trim().is_empty() && !expected {
        return Err(TemplateError::Empty);
    }
    if !config.block {
        return Ok(text.as_bytes().to_vec());
    }
    block::put(destination.bytes.as_deref().unwrap_or_default(), text)
        .map_err(|error| TemplateError::block(destination.path.clone(), &error))
}

/// The whole file as the agent would write it now. Blocks the thread, at most for
/// [`RENDER_DEADLINE`], and writes nothing. Bytes of the old file that are not UTF-8 are shown
/// as U+FFFD.
///
/// # Errors
/// [`TemplateError`], as the agent would show it.
pub fn render_once(
    config: &TemplateConfig,
    context: &RenderContext,
    picture: &Picture,
    now: Time,
) -> Result<String, TemplateError> {
    let Picture::Known(catalog) = picture else { return Err(TemplateError::Unknown) };
    let source = Source::read(&config.source)?;
    let destination = Destination::read(&config.destination)?;
    let path = Memory::path(&context.state_dir, &config.destination);
    let memory = Memory::read(&path, &config.destination);
    if emptied(config, &memory, catalog) {
        return Err(TemplateError::EmptyCatalog);
    }
    let scene = Scene::new(Arc::clone(catalog), now, context);
    let rendered = within_blocking(RENDER_DEADLINE, source, scene, context)?;
    if let Some(error) = too_few(config, &rendered.said) {
        return Err(error);
    }
    let bytes = compose(config, &memory, &destination, &rendered.text, (catalog, now))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What would change in the file, as a unified diff; empty if nothing.
///
/// # Errors
/// [`TemplateError::Swap`] if the file is there and cannot be read.
pub fn difference(config: &TemplateConfig, new: &str) -> Result<String, TemplateError> {
    let old = Destination::read(&config.destination)?.bytes.unwrap_or_default();
    let old = String::from_utf8_lossy(&old);
    let name = config.destination.display();
    let diff = TextDiff::from_lines(old.as_ref(), new);
    let (from, to) = (format!("{name}"), format!("{name} (new)"));
    Ok(diff.unified_diff().context_radius(3).header(&from, &to).to_string())
}
