//! What is wrong with a configuration file, and how it is shown: file, line, column, a mark under
//! the place, and the way out. All mistakes of a file are told together.
//!
//! The text that is shown has been through [`super::file`], which blots out what may be a secret.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "cannot read {}: {error}; `sengu config > FILE` writes a documented one", .path.display()
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was read, and something in it is wrong.
    #[error("{file} has {}", count(.problems.len(), "mistake"))]
    Bad {
        /// The file.
        file: String,
        /// Everything that is wrong, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
}

/// One mistake.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(super) source: Arc<NamedSource<String>>,
    /// Where its part begins among all parts.
    pub(super) part: usize,
    pub(super) at: Range<usize>,
    pub(super) message: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some(self.label.clone()), self.at.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

impl ConfigError {
    /// The whole message, for a terminal of so many columns.
    #[must_use]
    pub fn render(&self, colors: bool, width: usize) -> String {
        let Self::Bad { problems, .. } = self else {
            return format!("{self}\n");
        };
        let theme = if colors { GraphicalTheme::ascii() } else { GraphicalTheme::none() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_links(false)
            .with_context_lines(1);
        let mut text = String::new();
        for problem in problems {
            handler.render_report(&mut text, problem).expect("writing to a string does not fail");
            text.push('\n');
        }
        text + &format!("{self}\n")
    }
}

/// `1 mistake`, `2 mistakes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
