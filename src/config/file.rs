//! What was written: the tables of a configuration file, each value with its place.
//!
//! Reading goes on after a mistake, so that all mistakes are told together; a value that is wrong
//! counts as absent. A key that nobody asked for is unknown. Whatever looks like a secret in the
//! file (there is no key for one) is blotted out before any of it is shown.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use miette::NamedSource;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::blot;
use super::keys::Section;
use super::parts::Part;
use super::problem::Problem;
use super::suggest::nearest;
use crate::duration;

/// The most that is read, all files together, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) at: Range<usize>,
    pub(super) value: T,
}

/// The mistakes found so far. Places count over all parts: each part begins where the one before
/// it ends.
pub(super) struct Problems {
    sources: Vec<(usize, Arc<NamedSource<String>>)>,
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    /// Notes one: what is wrong, the words under the mark, the way out.
    pub(super) fn note(&self, at: &Range<usize>, message: String, label: &str, help: Option<&str>) {
        let found = self.sources.iter().rev().find(|(start, _)| *start <= at.start);
        let Some((start, source)) = found else { return };
        self.found.borrow_mut().push(Problem {
            source: Arc::clone(source),
            part: *start,
            at: at.start - start..at.end.saturating_sub(*start),
            message,
            label: label.to_owned(),
            help: help.map(str::to_owned),
        });
    }

    /// None so far?
    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All of them, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|problem| (problem.part, problem.at.start));
        found
    }
}

/// The texts of all parts, each behind as many line ends as the parts before it have bytes: so a
/// place is the same number wherever it is told.
pub(super) fn padded(parts: &[Part]) -> Vec<String> {
    let mut start = 0;
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        texts.push("\n".repeat(start) + &part.text);
        start += part.text.len() + 1;
    }
    texts
}

/// Parses all parts into one table; syntax errors are noted. What has any is not worth reading
/// further.
pub(super) fn parse<'a>(parts: &[Part], texts: &'a [String]) -> (DeTable<'a>, Problems) {
    let mut problems = Problems { sources: Vec::new(), found: RefCell::default() };
    let mut whole = DeTable::new();
    let mut tables = Vec::new();
    for (part, text) in parts.iter().zip(texts) {
        let start = text.len() - part.text.len();
        let (table, errors) = DeTable::parse_recoverable(text);
        let shown = blot::out(text, table.get_ref());
        let source =
            NamedSource::new(&part.name, shown.get(start..).unwrap_or_default().to_owned());
        problems.sources.push((start, Arc::new(source)));
        for error in &errors {
            let end = text.len();
            let at = error.span().map_or(start..start, |span| {
                span.start.clamp(start, end)..span.end.clamp(start, end)
            });
            let mut lines = error.message().lines();
            let message = lines.next().unwrap_or("not TOML").to_owned();
            let help = "the file is TOML: texts in quotes, as in `key = \"value\"`";
            problems.note(&at, message, "here", Some(help));
        }
        if let Some((message, help)) = &part.wrong {
            problems.note(&(start..text.len()), message.clone(), "here", Some(help));
        }
        tables.push(table.into_inner());
    }
    for table in tables {
        join(&mut whole, table, &problems);
    }
    (whole, problems)
}

/// Puts a later part over what stands: keys replace, tables join, lists of tables add up.
fn join<'a>(into: &mut DeTable<'a>, from: DeTable<'a>, problems: &Problems) {
    for (key, value) in from {
        let name: &str = key.get_ref();
        let Some(standing) = into.get_mut(name) else {
            into.insert(key, value);
            continue;
        };
        let place = value.span();
        match (standing.get_mut(), value.into_inner()) {
            (DeValue::Table(standing), DeValue::Table(later)) => join(standing, later, problems),
            (DeValue::Array(standing), DeValue::Array(later))
                if tables(standing) && tables(&later) =>
            {
                for item in later {
                    standing.push(item);
                }
            }
            (standing, later) if standing.is_table() != later.is_table() => {
                let (was, is) = if standing.is_table() {
                    ("a table", "a value")
                } else {
                    ("a value", "a table")
                };
                let message = format!("`{name}` is {was} in an earlier file, and {is} here");
                problems.note(&place, message, "here", Some("write it as it stands there"));
            }
            (_, later) => {
                into.remove(name);
                into.insert(key, Spanned::new(place, later));
            }
        }
    }
}

fn tables(array: &toml::de::DeArray<'_>) -> bool {
    array.iter().all(|item| item.get_ref().is_table())
}

/// One table of the file.
pub(super) struct Table<'a> {
    problems: &'a Problems,
    section: &'static Section,
    entries: &'a DeTable<'a>,
    asked: RefCell<BTreeSet<&'static str>>,
    /// As messages call it: `[service.foo]`.
    pub(super) shown: String,
    /// Where it begins.
    pub(super) at: Range<usize>,
}

impl<'a> Table<'a> {
    /// The top of the file.
    pub(super) fn top(
        entries: &'a DeTable<'a>,
        section: &'static Section,
        problems: &'a Problems,
    ) -> Self {
        Self::new(problems, section, entries, "the file".into(), 0..0)
    }

    fn new(
        problems: &'a Problems,
        section: &'static Section,
        entries: &'a DeTable<'a>,
        shown: String,
        at: Range<usize>,
    ) -> Self {
        Self { problems, section, entries, asked: RefCell::default(), shown, at }
    }

    fn value(&self, name: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(
            self.section.names().any(|known| known == name),
            "`{name}` is not in the table of keys at `{}`",
            self.section.path,
        );
        self.asked.borrow_mut().insert(name);
        self.entries.get(name)
    }

    /// Notes a mistake at a place.
    pub(super) fn note(&self, at: &Range<usize>, message: String, label: &str, help: Option<&str>) {
        self.problems.note(at, message, label, help);
    }

    fn wrong_form(&self, name: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let message = format!("`{name}` in {} is not {wanted}", self.shown);
        self.note(
            &value.span(),
            message,
            &format!("this is {}", article(value.get_ref().type_str())),
            self.example(name).as_deref(),
        );
    }

    fn example(&self, name: &str) -> Option<String> {
        let key = self.section.keys.iter().find(|key| key.name == name)?;
        Some(format!("for example `{name} = {}`", key.example))
    }

    /// A text.
    pub(super) fn text(&self, name: &'static str) -> Option<Found<String>> {
        let value = self.value(name)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_form(name, value, "a text");
            return None;
        };
        Some(Found { at: value.span(), value: text.to_owned() })
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &'static str) -> Option<Found<String>> {
        if !self.entries.contains_key(name) {
            self.missing(name);
        }
        self.text(name)
    }

    /// Is the key there, right or wrong?
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, name: &str) {
        let message = format!("`{name}` is missing in {}", self.shown);
        self.note(&self.at, message, "it belongs here", self.example(name).as_deref());
    }

    /// A text that becomes something; `what` completes "`name` is no ...".
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Found<T>> {
        let text = self.text(name)?;
        self.convert(name, text, read)
    }

    /// Turns a text into something, or notes why not.
    pub(super) fn convert<T>(
        &self,
        name: &str,
        text: Found<String>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Found<T>> {
        match read(&text.value) {
            Ok(value) => Some(Found { at: text.at, value }),
            Err(message) => {
                self.note(&text.at, message, "here", self.example(name).as_deref());
                None
            }
        }
    }

    /// One of a few words; the others are answered by `refuse`, or by a suggestion.
    pub(super) fn word<T: Copy>(
        &self,
        name: &'static str,
        words: &[(&'static str, T)],
        refuse: impl FnOnce(&str) -> Option<String>,
    ) -> Option<Found<T>> {
        let text = self.text(name)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(Found { at: text.at, value: *value });
        }
        if let Some(message) = refuse(&text.value) {
            self.note(&text.at, message, "here", None);
            return None;
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let help = nearest(&text.value, known.iter().copied()).map_or_else(
            || format!("one of: {}", known.join(", ")),
            |word| format!("did you mean `{word}`?"),
        );
        let message = format!("`{name}` cannot be {:?}", cut(&text.value));
        self.note(&text.at, message, "not known", Some(&help));
        None
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &self,
        name: &'static str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Found<Duration>> {
        let value = self.value(name)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_form(name, value, "a duration");
            return None;
        };
        let text = Found { at: value.span(), value: text.to_owned() };
        let found =
            self.convert(name, text, |text| duration::parse(text).map_err(|e| e.to_string()))?;
        if bounds.contains(&found.value) {
            return Some(found);
        }
        let message = format!("`{name}` in {} is out of bounds", self.shown);
        let help = format!(
            "it may be {} to {}",
            duration::format(*bounds.start()),
            duration::format(*bounds.end())
        );
        self.note(&found.at, message, "here", Some(&help));
        None
    }

    /// A whole number within bounds.
    pub(super) fn whole(
        &self,
        name: &'static str,
        bounds: RangeInclusive<u32>,
    ) -> Option<Found<u32>> {
        let value = self.value(name)?;
        let Some(number) = value.get_ref().as_integer() else {
            self.wrong_form(name, value, "a whole number");
            return None;
        };
        let read = u32::from_str_radix(number.as_str(), number.radix()).ok();
        match read.filter(|number| bounds.contains(number)) {
            Some(number) => Some(Found { at: value.span(), value: number }),
            None => {
                let message = format!("`{name}` in {} is out of bounds", self.shown);
                let help = format!("it may be {} to {}", bounds.start(), bounds.end());
                self.note(&value.span(), message, "here", Some(&help));
                None
            }
        }
    }

    /// True or false.
    pub(super) fn flag(&self, name: &'static str) -> Option<bool> {
        let value = self.value(name)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_form(name, value, "`true` or `false`");
        }
        flag
    }

    /// A list of texts, and the place of the whole list.
    pub(super) fn texts(&self, name: &'static str) -> Option<Found<Vec<Found<String>>>> {
        let value = self.value(name)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_form(name, value, "a list of texts");
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Found { at: item.span(), value: text.to_owned() }),
                None => self.wrong_form(name, item, "a list of texts"),
            }
        }
        Some(Found { at: value.span(), value: texts })
    }

    /// A list of texts that each become something.
    pub(super) fn each<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Found<T>>> {
        let texts = self.texts(name)?.value;
        Some(texts.into_iter().filter_map(|text| self.convert(name, text, &read)).collect())
    }

    /// The table of that name.
    pub(super) fn table(&self, name: &'static str, section: &'static Section) -> Option<Self> {
        let value = self.value(name)?;
        self.below(name, value, section)
    }

    fn below(
        &self,
        name: &str,
        value: &'a Spanned<DeValue<'a>>,
        section: &'static Section,
    ) -> Option<Self> {
        let Some(entries) = value.get_ref().as_table() else {
            let message = format!("`{name}` in {} is not a table", self.shown);
            let label = format!("this is {}", article(value.get_ref().type_str()));
            self.note(&value.span(), message, &label, Some(&format!("write {}", section.header)));
            return None;
        };
        let shown = match self.shown.strip_suffix(']') {
            Some(above) => format!("{above}.{name}]"),
            None => format!("[{name}]"),
        };
        Some(Self::new(self.problems, section, entries, shown, value.span()))
    }

    /// The tables below that name, with the names that the operator gave them.
    pub(super) fn named(
        &self,
        name: &'static str,
        section: &'static Section,
    ) -> Vec<(Found<String>, Self)> {
        let Some(above) = self.table(name, section) else { return Vec::new() };
        let mut tables = Vec::new();
        for (key, value) in above.entries {
            if let Some(table) = above.below(key.get_ref(), value, section) {
                tables.push((Found { at: key.span(), value: key.get_ref().to_string() }, table));
            }
        }
        tables.sort_by_key(|(name, _)| name.at.start);
        tables
    }

    /// The tables `[[name]]`, in order.
    pub(super) fn list(&self, name: &'static str, section: &'static Section) -> Vec<Self> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            let message = format!("`{name}` may stand several times");
            let help = format!("write {} with two brackets", section.header);
            self.note(&value.span(), message, "one bracket is too few", Some(&help));
            return Vec::new();
        };
        let mut tables: Vec<_> =
            items.iter().filter_map(|item| self.below(name, item, section)).collect();
        tables.iter_mut().for_each(|table| table.shown = section.header.to_owned());
        tables
    }

    /// Notes every key that nobody asked for. To be called when all were.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if asked.contains(name) {
                continue;
            }
            let help = if name.contains("password") && self.section.path.starts_with("service") {
                Some("a password never stands in this file; see `credentials`".to_owned())
            } else {
                nearest(name, self.section.names()).map(|known| format!("did you mean `{known}`?"))
            };
            let help = help.unwrap_or_else(|| {
                let known: Vec<_> = self.section.names().collect();
                format!("known here: {}", known.join(", "))
            });
            let message = format!("unknown key `{}` in {}", cut(name), self.shown);
            self.note(&key.span(), message, "not known", Some(&help));
        }
    }
}

fn article(form: &str) -> String {
    match form {
        "string" => "a text".into(),
        "integer" => "a whole number".into(),
        "array" => "a list".into(),
        "boolean" => "true or false".into(),
        other => format!("a {other}"),
    }
}

/// At most so much of what somebody wrote is said back.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
