//! One table of a check file, read key by key.
//!
//! Each reading method notes what is wrong with its place and goes on, so that one pass finds
//! everything; [`Keys::end`] then names the keys that nobody asked for. Whoever reads must look
//! at the troubles in the end: a value that was wrong reads like one that was absent.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::problem::{Trouble, nearest};
use crate::duration;

/// One table, and what was found wrong in it so far.
pub(crate) struct Keys<'a> {
    table: &'a DeTable<'a>,
    /// Of the whole table: where a missing key is reported.
    span: Range<usize>,
    asked: Vec<&'static str>,
    troubles: &'a mut Vec<Trouble>,
}

/// A value and where it stands.
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(
        table: &'a DeTable<'a>,
        span: Range<usize>,
        troubles: &'a mut Vec<Trouble>,
    ) -> Self {
        Self { table, span, asked: Vec::new(), troubles }
    }

    /// Notes something wrong.
    pub(crate) fn wrong(&mut self, span: &Range<usize>, message: String, help: Option<String>) {
        self.troubles.push(Trouble { span: span.clone(), message, help });
    }

    /// Where the table stands.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Is the key there, good or bad?
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes that a key is missing.
    pub(crate) fn missing(&mut self, key: &str, example: &str) {
        let span = self.span();
        self.wrong(
            &span,
            format!("`{key}` is missing"),
            Some(format!("write `{key} = {example}`")),
        );
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<Placed<String>> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str().map(str::to_owned);
        self.typed(key, value, text, "a text in quotes")
    }

    /// Yes or no.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<Placed<bool>> {
        let value = self.value(key)?;
        self.typed(key, value, value.get_ref().as_bool(), "`true` or `false`")
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, key: &'static str, bounds: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer().and_then(|number| {
            let number = u32::from_str_radix(number.as_str(), number.radix()).ok()?;
            bounds.contains(&number).then_some(number)
        });
        let wanted = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        self.typed(key, value, number, &wanted).map(|placed| placed.value)
    }

    /// A duration within bounds.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Placed<Duration>> {
        let text = self.text(key)?;
        match duration::parse(&text.value) {
            Ok(value) if bounds.contains(&value) => Some(Placed { value, span: text.span }),
            Ok(_) => {
                let (from, to) =
                    (duration::format(*bounds.start()), duration::format(*bounds.end()));
                let message = format!("`{key}` must be from {from} to {to}, not {}", text.value);
                self.wrong(&text.span, message, None);
                None
            }
            Err(error) => {
                self.wrong(&text.span, format!("`{key}`: {error}"), None);
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<Placed<T>> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(word, _)| *word == text.value);
        if let Some((_, value)) = found {
            return Some(Placed { value: *value, span: text.span });
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = match nearest(&text.value, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("known: {}", words.join(", ")),
        };
        self.wrong(&text.span, format!("`{key}` cannot be {:?}", text.value), Some(help));
        None
    }

    /// A list of at most so many texts.
    pub(crate) fn texts(&mut self, key: &'static str, most: usize) -> Option<Vec<Placed<String>>> {
        let value = self.value(key)?;
        let texts = value.get_ref().as_array().and_then(|array| {
            let text = |item: &Spanned<DeValue<'_>>| {
                let value = item.get_ref().as_str()?.to_owned();
                Some(Placed { value, span: item.span() })
            };
            array.iter().map(text).collect::<Option<Vec<_>>>()
        });
        let texts = texts.filter(|texts| texts.len() <= most);
        let wanted = format!("a list of at most {most} texts, as `[\"a\", \"b\"]`");
        self.typed(key, value, texts, &wanted).map(|placed| placed.value)
    }

    /// A list of at most so many addresses with ports.
    pub(crate) fn addresses(&mut self, key: &'static str, most: usize) -> Vec<SocketAddr> {
        let texts = self.texts(key, most).unwrap_or_default();
        texts.into_iter().filter_map(|text| self.socket(key, &text)).collect()
    }

    /// An address with its port.
    pub(crate) fn address(&mut self, key: &'static str) -> Option<SocketAddr> {
        let text = self.text(key)?;
        self.socket(key, &text)
    }

    /// The tables of a list of tables.
    pub(crate) fn tables(&mut self, key: &'static str) -> Option<Vec<Placed<&'a DeTable<'a>>>> {
        let value = self.value(key)?;
        let tables = value.get_ref().as_array().and_then(|array| {
            let table = |item: &'a Spanned<DeValue<'a>>| {
                Some(Placed { value: item.get_ref().as_table()?, span: item.span() })
            };
            array.iter().map(table).collect::<Option<Vec<_>>>()
        });
        let wanted = format!("a list of tables, each under `[[{key}]]`");
        self.typed(key, value, tables, &wanted).map(|placed| placed.value)
    }

    /// Lets another reader note what is wrong in a table below this one.
    pub(crate) fn below<'b>(&'b mut self, table: &Placed<&'b DeTable<'b>>) -> Keys<'b> {
        Keys::new(table.value, table.span.clone(), self.troubles)
    }

    /// Names the keys that nobody asked for.
    pub(crate) fn end(self) {
        for key in self.table.keys() {
            let word: &DeString<'_> = key.get_ref();
            if self.asked.contains(&word.as_ref()) {
                continue;
            }
            let help = match nearest(word, self.asked.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            let message = format!("unknown key `{word}`");
            self.troubles.push(Trouble { span: key.span(), message, help: Some(help) });
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    fn typed<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: Option<T>,
        wanted: &str,
    ) -> Option<Placed<T>> {
        let span = value.span();
        if read.is_none() {
            self.wrong(&span, format!("`{key}` must be {wanted}"), None);
        }
        read.map(|value| Placed { value, span })
    }

    fn socket(&mut self, key: &str, text: &Placed<String>) -> Option<SocketAddr> {
        let address = text.value.parse().ok();
        if address.is_none() {
            let message = format!("`{key}`: {:?} is not an address with a port", text.value);
            let help = Some("write `10.0.0.1:53` or `[2001:db8::1]:53`".into());
            self.wrong(&text.span, message, help);
        }
        address
    }
}
