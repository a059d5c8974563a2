//! Consul's filter expressions: `?filter=` on lists of nodes, services and checks.
//!
//! An expression is read once, held against the fields of the endpoint, and then keeps or drops
//! rows as they are written in JSON. A selector that the endpoint does not have, an operator that
//! a field does not take and a value that it cannot hold are refused in Consul's words, before
//! any row is looked at. Nothing here is unbounded: the text, its depth and the size of a regular
//! expression have limits. What an operator means over a list of rows (any row will do) and for a
//! name that a map does not have is as Consul's clients know it (library go-bexpr).

mod fields;
mod parse;
#[cfg(test)]
mod tests;

pub use fields::{CHECK, FLAT_ENTRY, MEMBER, NODE, SERVICE, SERVICE_ENTRY, Shape};

use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::Value;

use super::Refusal;

/// The longest expression, in bytes.
pub const LENGTH_MAX: usize = 8 * 1024;

/// How large a compiled regular expression may be, in bytes.
const REGEX_MAX: usize = 1 << 20;

/// An expression that fits its endpoint.
#[derive(Debug, Clone)]
pub struct Filter {
    expression: Expression,
}

/// What is asked of a row.
#[derive(Debug, Clone)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Match(Match),
}

/// One comparison.
#[derive(Debug, Clone)]
struct Match {
    selector: Vec<String>,
    operator: Operator,
    wanted: Wanted,
}

/// What a field is compared with.
#[derive(Debug, Clone)]
enum Wanted {
    Nothing,
    Text(String),
    Number(i64),
    Flag(bool),
    Like(Regex),
}

/// How a field is compared; `contains` is `in` with its sides changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    In,
    NotIn,
    IsEmpty,
    IsNotEmpty,
    Matches,
    NotMatches,
}

impl Operator {
    /// The operator without its `not`, and whether it had one.
    fn plain(self) -> (Self, bool) {
        match self {
            Self::Equal | Self::In | Self::IsEmpty | Self::Matches => (self, false),
            Self::NotEqual => (Self::Equal, true),
            Self::NotIn => (Self::In, true),
            Self::IsNotEmpty => (Self::IsEmpty, true),
            Self::NotMatches => (Self::Matches, true),
        }
    }

    /// What holds of a name that a map does not have: it equals nothing and is empty.
    fn of_nothing(self) -> bool {
        let (plain, not) = self.plain();
        (plain == Self::IsEmpty) != not
    }

    /// As Consul's errors call it.
    fn word(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::NotEqual => "Not Equal",
            Self::In => "In",
            Self::NotIn => "Not In",
            Self::IsEmpty => "Is Empty",
            Self::IsNotEmpty => "Is Not Empty",
            Self::Matches => "Matches",
            Self::NotMatches => "Not Matches",
        }
    }
}

/// A comparison as it was written, before it is held against the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    selector: Vec<String>,
    operator: Operator,
    value: Option<String>,
}

impl Filter {
    /// Reads an expression for rows of this shape.
    ///
    /// # Errors
    /// [`Refusal::Bad`] in Consul's words: bad syntax with its place, an unknown selector, an
    /// operator that the field does not take, a value that it cannot hold.
    pub fn new(text: &str, shape: Shape) -> Result<Self, Refusal> {
        let refused = |why: String| {
            Refusal::Bad(format!("Failed to create boolean expression evaluator: {why}"))
        };
        if text.len() > LENGTH_MAX {
            return Err(refused(format!("the expression is longer than {LENGTH_MAX} bytes")));
        }
        let check = |written: Written| fitted(written, shape);
        Ok(Self { expression: parse::parse(text, &check).map_err(refused)? })
    }

    /// Does a row satisfy it?
    #[must_use]
    pub fn keeps(&self, row: &impl Serialize) -> bool {
        // What cannot be written as JSON is in no answer either.
        serde_json::to_value(row).is_ok_and(|row| self.expression.holds(&row))
    }
}

impl Expression {
    fn holds(&self, row: &Value) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(row)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(row)),
            Self::Not(part) => !part.holds(row),
            Self::Match(one) => one.holds(row, &one.selector),
        }
    }
}

impl Match {
    fn holds(&self, value: &Value, path: &[String]) -> bool {
        let Some((name, rest)) = path.split_first() else {
            let (plain, not) = self.operator.plain();
            return self.is(plain, value) != not;
        };
        match value {
            Value::Object(fields) => match fields.get(name) {
                Some(found) => self.holds(found, rest),
                None => self.operator.of_nothing(),
            },
            Value::Array(rows) => rows.iter().any(|row| self.holds(row, path)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.operator.of_nothing()
            }
        }
    }

    fn is(&self, plain: Operator, value: &Value) -> bool {
        match (plain, value, &self.wanted) {
            (Operator::IsEmpty, Value::Array(list), _) => list.is_empty(),
            (Operator::IsEmpty, Value::Object(map), _) => map.is_empty(),
            (Operator::Equal, Value::String(text), Wanted::Text(wanted)) => text == wanted,
            (Operator::Equal, Value::Number(have), Wanted::Number(wanted)) => {
                have.as_i64() == Some(*wanted)
            }
            (Operator::Equal, Value::Bool(have), Wanted::Flag(wanted)) => have == wanted,
            (Operator::In, Value::String(text), Wanted::Text(part)) => text.contains(part),
            (Operator::In, Value::Array(list), Wanted::Text(one)) => {
                list.iter().any(|have| have.as_str() == Some(one))
            }
            (Operator::In, Value::Object(map), Wanted::Text(key)) => map.contains_key(key),
            (Operator::Matches, Value::String(text), Wanted::Like(regex)) => regex.is_match(text),
            _ => false,
        }
    }
}

/// Holds a comparison against the fields of the endpoint.
fn fitted(written: Written, shape: Shape) -> Result<Match, String> {
    let Written { selector, operator, value } = written;
    let mut shape = shape;
    for (depth, name) in selector.iter().enumerate() {
        shape = shape
            .field(name)
            .ok_or_else(|| format!("Selector {:?} is not valid", selector[..=depth].join(".")))?;
    }
    let told = selector.join(".");
    if !shape.takes(operator) {
        return Err(format!("Invalid match operator {:?} for selector {told:?}", operator.word()));
    }
    let wanted = match value {
        None => Wanted::Nothing,
        Some(text) => wanted(text, operator, shape, &told)?,
    };
    Ok(Match { selector, operator, wanted })
}

fn wanted(text: String, operator: Operator, shape: Shape, told: &str) -> Result<Wanted, String> {
    let unfit =
        |kind: &str| format!("Failed to coerce value {text:?} for selector {told:?}: not {kind}");
    match (operator.plain().0, shape) {
        (Operator::Matches, _) => {
            let regex = RegexBuilder::new(&text).size_limit(REGEX_MAX).build();
            regex
                .map(Wanted::Like)
                .map_err(|error| format!("Failed to compile regular expression {text:?}: {error}"))
        }
        (_, Shape::Number) => text.parse().map(Wanted::Number).map_err(|_| unfit("a number")),
        (_, Shape::Flag) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Wanted::Flag(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Wanted::Flag(false)),
            _ => Err(unfit("true or false")),
        },
        (_, Shape::Text | Shape::Texts | Shape::Map(_) | Shape::Fields(_) | Shape::Rows(_)) => {
            Ok(Wanted::Text(text))
        }
    }
}
