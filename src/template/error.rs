//! Why a file was not rendered, in an operator's words.

use std::path::PathBuf;
use std::time::Duration;

use super::block::BlockError;
use super::swap::SwapError;

/// Why a render did not become a file. The old file stays, whatever it is.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The catalog was never read.
    #[error("nothing was read from the store yet, so there is nothing to render")]
    Unknown,
    /// The template cannot be read.
    #[error("cannot read template {path}: {reason}")]
    Source {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The template is wrong.
    #[error("{file}:{line}:{column}: {message}")]
    Template {
        /// Its path.
        file: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The engine's words.
        message: String,
    },
    /// The template is wrong somewhere.
    #[error("{file}: {message}")]
    Engine {
        /// Its path.
        file: String,
        /// The engine's words.
        message: String,
    },
    /// The output grew too large.
    #[error("{file} printed more than {limit} MiB")]
    TooMuch {
        /// The template's path.
        file: String,
        /// The bound.
        limit: usize,
    },
    /// The template ran too long.
    #[error(
        "{file} did not render within {deadline:?}{}",
        if *given_up { ", again: it is not tried until it changes" } else { "" }
    )]
    Slow {
        /// The template's path.
        file: String,
        /// The bound.
        deadline: Duration,
        /// A host that stands still makes any render slow, once; a second time is the template.
        given_up: bool,
    },
    /// The output holds nothing.
    #[error("the output would be empty; set allow_empty if that is meant")]
    Empty,
    /// The catalog holds nothing, and did before.
    #[error(
        "the catalog became empty, so the last good lines are kept (masters withdrawn); set \
         allow_empty if that is meant"
    )]
    EmptyCatalog,
    /// The template was given less than it should be.
    #[error(
        "the template was given {have} hosts and servers, fewer than min_records ({want}), so the \
         last good lines are kept (masters withdrawn)"
    )]
    TooFew {
        /// How many.
        have: usize,
        /// The least.
        want: usize,
    },
    /// The block does not fit into the file.
    #[error("{}: {error}", path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// How its markers are wrong.
        error: String,
    },
    /// The file could not be replaced.
    #[error("{0}")]
    Swap(String),
    /// The validating program refused it.
    #[error("{program} refused the new file (it {how}); the old one stays{}", said(output))]
    Refused {
        /// Its name.
        program: String,
        /// How it ended.
        how: String,
        /// The last of what it printed.
        output: String,
    },
    /// The configured owner is not known here.
    #[error("`owner`: {0}")]
    Owner(String),
    /// Two templates have one destination.
    #[error("another template renders to {} already", .0.display())]
    Twice(PathBuf),
}

impl TemplateError {
    /// Is it worth trying again although nothing changed?
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Source { .. } | Self::Swap(_) | Self::Slow { given_up: false, .. } => true,
            Self::Unknown
            | Self::Template { .. }
            | Self::Engine { .. }
            | Self::TooMuch { .. }
            | Self::Slow { given_up: true, .. }
            | Self::Empty
            | Self::EmptyCatalog
            | Self::TooFew { .. }
            | Self::Owner(_)
            | Self::Block { .. }
            | Self::Refused { .. }
            | Self::Twice(_) => false,
        }
    }

    pub(crate) fn block(path: PathBuf, error: &BlockError) -> Self {
        Self::Block { path, error: error.to_string() }
    }
}

impl From<SwapError> for TemplateError {
    fn from(error: SwapError) -> Self {
        Self::Swap(error.to_string())
    }
}

/// `: ...` with the last line that a program printed, if it printed any.
fn said(output: &str) -> String {
    match output.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {}", line.trim().chars().take(200).collect::<String>()),
        None => String::new(),
    }
}
