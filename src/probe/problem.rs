//! What is wrong in a check file: the thing, the place and the way out.
//!
//! A [`Problem`] prints as one line, `checks/a.toml:3:1: unknown key …`; with miette it shows the
//! line of the file itself. It never holds more of the file than the file holds itself, and
//! check files hold no secrets.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, SourceCode};

/// One thing wrong with one check file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was found.
    pub file: String,
    /// Line and column, from 1; `None` if the whole file is meant.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// The way out, where there is a short one.
    pub help: Option<String>,
    span: Range<usize>,
    source: Arc<str>,
}

/// A problem before anybody says in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Problem {
    /// About a file as a whole.
    pub(crate) fn whole(file: &str, message: impl Into<String>, help: Option<&str>) -> Self {
        Self {
            file: file.into(),
            place: None,
            message: message.into(),
            help: help.map(Into::into),
            span: 0..0,
            source: "".into(),
        }
    }

    /// What a reader of JSON met, with its place.
    pub(crate) fn json(file: &str, text: &str, error: &serde_json::Error) -> Self {
        let source: Arc<str> = text.into();
        let (line, column) = (error.line().max(1), error.column().max(1));
        let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
        let start = text.floor_char_boundary((start + column - 1).min(text.len()));
        let whole = error.to_string();
        let message = whole.split(" at line ").next().unwrap_or(&whole);
        let message = format!("no JSON: {message}");
        Self::at(file, &source, Trouble { span: start..start, message, help: None })
    }

    /// About the place where a text first stands in quotes; the file's beginning if it does not.
    pub(crate) fn near(file: &str, source: &str, text: &str, message: String) -> Self {
        let start = source.find(&format!("\"{text}\"")).unwrap_or_default();
        let span = start..(start + text.len() + 2).min(source.len());
        Self::at(file, &source.into(), Trouble { span, message, help: None })
    }

    /// About a place in a file.
    pub(crate) fn at(file: &str, source: &Arc<str>, trouble: Trouble) -> Self {
        Self {
            file: file.into(),
            place: Some(place(source, trouble.span.start)),
            message: trouble.message,
            help: trouble.help,
            span: trouble.span,
            source: Arc::clone(source),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.is_some().then_some(&self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.place?;
        Some(Box::new(std::iter::once(LabeledSpan::underline(self.span.clone()))))
    }
}

/// The word among `known` that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 5)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to add, drop, replace or swap with a neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).collect();
    let right: Vec<char> = right.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let other = usize::from(left[i - 1] != right[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + other);
            let swapped =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

/// Line and column of a byte, from 1; columns count characters.
fn place(source: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let before = &source[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_other_words_do_not() {
        let known = ["interval", "timeout", "failures", "role", "max_lag", "dns"];
        for (word, meant) in [
            ("intervall", Some("interval")),
            ("itnerval", Some("interval")),
            ("Timeout", Some("timeout")),
            ("failure", Some("failures")),
            ("rol", Some("role")),
            ("maxlag", Some("max_lag")),
            ("dsn", Some("dns")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn places_count_lines_and_characters() {
        let source = "a = 1\nä = \"ö\" # x\n";
        assert_eq!(place(source, 0), (1, 1));
        assert_eq!(place(source, 6), (2, 1));
        assert_eq!(place(source, 8), (2, 2), "ä is one character of two bytes");
        assert_eq!(place(source, 7), (2, 1), "inside of it");
        assert_eq!(place(source, 999), (3, 1));
    }

    #[test]
    fn miette_shows_the_line() {
        let source: Arc<str> = "about = \"x\"\nintervall = 1\n".into();
        let trouble = Trouble {
            span: 12..21,
            message: "unknown key `intervall`".into(),
            help: Some("did you mean `interval`?".into()),
        };
        let problem = Problem::at("checks/a.toml", &source, trouble);
        assert_eq!(
            problem.to_string(),
            "checks/a.toml:2:1: unknown key `intervall`; did you mean `interval`?"
        );
        let shown = format!("{:?}", miette::Report::new(problem));
        assert!(shown.contains("intervall = 1"), "{shown}");
    }
}
