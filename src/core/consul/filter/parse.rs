//! The grammar of filter expressions, by recursive descent.
//!
//! `or` binds weaker than `and`, `and` weaker than `not`. A value is a bare selector, a number, a
//! text in double quotes with escapes, or one in back quotes without. Errors name line, column
//! and byte, and what was expected there. The depth of nesting is bounded.

use super::{Expression, Match, Operator, Written};

/// How deep parentheses and `not` may nest.
const DEPTH_MAX: usize = 64;

/// Holds one comparison against the fields.
type Check<'a> = &'a dyn Fn(Written) -> Result<Match, String>;

/// Reads a whole expression; `check` holds each comparison against the fields.
pub(super) fn parse(text: &str, check: Check<'_>) -> Result<Expression, String> {
    let mut parser = Parser { text, at: 0, depth: 0, check };
    parser.space();
    let expression = parser.any()?;
    parser.space();
    if parser.rest().is_empty() {
        return Ok(expression);
    }
    Err(parser.expected("\"and\", \"or\" or the end"))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    check: Check<'a>,
}

/// One side of a comparison.
enum Side {
    Selector(Vec<String>),
    Value(String),
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> String {
        let before = &self.text[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{line}:{column} ({}): no match found, expected: {what}", self.at)
    }

    /// Passes white space; was there any?
    fn space(&mut self) -> bool {
        let left = self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
        let passed = self.rest().len() - left;
        self.at += passed;
        passed > 0
    }

    fn take(&mut self, token: &str) -> bool {
        let there = self.rest().starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    /// Words with white space between them and a boundary behind; else nothing is taken.
    fn words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        for (count, word) in words.iter().enumerate() {
            let apart = count == 0 || self.space();
            let bounded = |rest: &str| !rest.starts_with(in_name);
            if !apart || !self.take(word) || !bounded(self.rest()) {
                self.at = start;
                return false;
            }
        }
        true
    }

    /// A word that joins two expressions, with the white space around it.
    fn joined(&mut self, word: &str) -> bool {
        let start = self.at;
        let apart = self.space() || self.text[..self.at].ends_with(')');
        if apart && self.words(&[word]) && (self.space() || self.rest().starts_with('(')) {
            return true;
        }
        self.at = start;
        false
    }

    fn any(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.all()?];
        while self.joined("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.not()?];
        while self.joined("and") {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn not(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it nests deeper than {DEPTH_MAX}"));
        }
        let start = self.at;
        let found = if self.words(&["not"]) && (self.space() || self.rest().starts_with('(')) {
            Expression::Not(Box::new(self.not()?))
        } else {
            self.at = start;
            self.grouping()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn grouping(&mut self) -> Result<Expression, String> {
        if !self.take("(") {
            return self.comparison();
        }
        self.space();
        let inner = self.any()?;
        self.space();
        if self.take(")") { Ok(inner) } else { Err(self.expected("\")\"")) }
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let start = self.at;
        let left = self.side()?;
        let end = self.at;
        let Some(operator) = self.operator() else {
            self.at = end;
            return Err(self.expected("an operator"));
        };
        let written = match (operator, left) {
            ((Operator::In | Operator::NotIn, false), left) => {
                let value = match left {
                    Side::Selector(names) => names.join("."),
                    Side::Value(text) => text,
                };
                let at = self.at;
                let Side::Selector(selector) = self.side()? else {
                    self.at = at;
                    return Err(self.expected("a selector"));
                };
                Written { selector, operator: operator.0, value: Some(value) }
            }
            (_, Side::Value(_)) => {
                self.at = start;
                return Err(self.expected("a selector"));
            }
            (
                (operator @ (Operator::IsEmpty | Operator::IsNotEmpty), _),
                Side::Selector(selector),
            ) => Written { selector, operator, value: None },
            ((operator, _), Side::Selector(selector)) => {
                let value = match self.side()? {
                    Side::Selector(names) => names.join("."),
                    Side::Value(text) => text,
                };
                Written { selector, operator, value: Some(value) }
            }
        };
        Ok(Expression::Match((self.check)(written)?))
    }

    /// The operator, and whether the selector stands before it, with the space around it passed.
    fn operator(&mut self) -> Option<(Operator, bool)> {
        let apart = self.space();
        for (sign, operator) in [("==", Operator::Equal), ("!=", Operator::NotEqual)] {
            if self.take(sign) {
                self.space();
                return Some((operator, true));
            }
        }
        if !apart {
            return None;
        }
        for (words, operator) in [
            (&["is", "empty"][..], Operator::IsEmpty),
            (&["is", "not", "empty"], Operator::IsNotEmpty),
        ] {
            if self.words(words) {
                return Some((operator, true));
            }
        }
        let table: [(&[&str], (Operator, bool)); 6] = [
            (&["in"], (Operator::In, false)),
            (&["not", "in"], (Operator::NotIn, false)),
            (&["contains"], (Operator::In, true)),
            (&["not", "contains"], (Operator::NotIn, true)),
            (&["matches"], (Operator::Matches, true)),
            (&["not", "matches"], (Operator::NotMatches, true)),
        ];
        let (_, found) = table.into_iter().find(|(words, _)| self.words(words))?;
        self.space().then_some(found)
    }

    fn side(&mut self) -> Result<Side, String> {
        let rest = self.rest();
        match rest.chars().next() {
            Some('"' | '`') => self.literal().map(Side::Value),
            Some(first) if first.is_ascii_alphabetic() => self.selector().map(Side::Selector),
            Some(first) if first == '-' || first.is_ascii_digit() => self.number().map(Side::Value),
            Some(_) | None => Err(self.expected("a selector or a value")),
        }
    }

    fn number(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let unsigned = rest.strip_prefix('-').unwrap_or(rest);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
        let digits = &unsigned[..end.unwrap_or(unsigned.len())];
        let text = &rest[..rest.len() - unsigned.len() + digits.len()];
        let follows = &rest[text.len()..];
        let bounded = follows.is_empty() || follows.starts_with([' ', '\t', '\r', '\n', ')']);
        let (whole, part) = digits.split_once('.').map_or((digits, "0"), |(w, p)| (w, p));
        let whole_good = whole == "0" || !(whole.is_empty() || whole.starts_with('0'));
        if !bounded || !whole_good || part.is_empty() || part.contains('.') {
            return Err(self.expected("a number"));
        }
        self.at += text.len();
        Ok(text.to_owned())
    }

    fn selector(&mut self) -> Result<Vec<String>, String> {
        let mut names = vec![self.name().ok_or_else(|| self.expected("a selector"))?];
        loop {
            if self.rest().starts_with('.') {
                self.at += 1;
                names.push(self.name().ok_or_else(|| self.expected("a name"))?);
            } else if self.take("[") {
                self.space();
                names.push(self.literal()?);
                self.space();
                if !self.take("]") {
                    return Err(self.expected("\"]\""));
                }
            } else {
                return Ok(names);
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let rest = self.rest();
        rest.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(())?;
        let name = &rest[..rest.find(|c| !in_name(c)).unwrap_or(rest.len())];
        self.at += name.len();
        Some(name.to_owned())
    }

    /// A text in quotes.
    fn literal(&mut self) -> Result<String, String> {
        if self.take("`") {
            let Some(end) = self.rest().find('`') else { return Err(self.expected("\"`\"")) };
            let text = self.rest()[..end].to_owned();
            self.at += end + 1;
            return Ok(text);
        }
        if !self.take("\"") {
            return Err(self.expected("a text in quotes"));
        }
        let mut text = String::new();
        loop {
            let mut characters = self.rest().chars();
            let Some(next) = characters.next() else { return Err(self.expected("\"\\\"\"")) };
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(text),
                '\n' => return Err(self.expected("\"\\\"\"")),
                '\\' => text.push(self.escaped()?),
                other => text.push(other),
            }
        }
    }

    /// What a back slash stands for, as in Go.
    fn escaped(&mut self) -> Result<char, String> {
        let Some(kind) = self.rest().chars().next() else {
            return Err(self.expected("an escape"));
        };
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let number = self.rest().get(1..=digits);
            let found =
                number.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?));
            let Some(found) = found else { return Err(self.expected("an escape")) };
            self.at += 1 + digits;
            return Ok(found);
        }
        let found = match kind {
            '"' | '\\' => kind,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        Ok(found)
    }
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '/'
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}
