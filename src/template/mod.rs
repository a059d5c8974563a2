//! Templates.
#![allow(dead_code)]
mod block;
mod error;
mod order;
mod render;
mod scene;
#[cfg(test)]
mod stage;
mod swap;

use std::path::PathBuf;
use std::sync::Arc;

use crate::view::View;
use sengu_core::name::HostName;

pub use error::TemplateError;

/// What all templates of a host share.
#[derive(Debug, Clone)]
pub struct RenderContext {
    /// This host's name; `per-host` order hangs on it.
    pub host: HostName,
    /// The datacenter of names.
    pub datacenter: String,
    /// The domains of names, the first being the template value `domain`.
    pub domains: Vec<String>,
    /// The catalog.
    pub view: Arc<View>,
    /// Where what was done is kept over restarts.
    pub state_dir: PathBuf,
}
