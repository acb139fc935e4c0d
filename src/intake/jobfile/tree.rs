//! The tree that every format is read into: values, and where each stands in the file.

use std::ops::Range;

use super::{diagnostic::Code, rules::Flaw};

/// Tables and lists inside one another. Real files need four; every later recursion (checking, dropping, JSON of
/// `extra` read back from a row) relies on this bound.
pub(super) const MAX_DEPTH: usize = 64;

/// Bytes of the file, a byte-order mark included.
pub(super) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// JSON's, and what stands for a value that can't be read: its error is in the report.
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A TOML date or time, as it was written.
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys and values in the order of the file; no key twice.
#[derive(Debug, Default)]
pub(super) struct Table(pub Vec<Entry>);

#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

pub(super) fn too_deep() -> Flaw {
    Flaw::new(Code::TooDeep, format!("tables and lists more than {MAX_DEPTH} deep inside one another"))
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }
}

impl Node {
    pub fn text(&self) -> Result<&str, Flaw> {
        if let Value::Text(text) = &self.value {
            return Ok(text);
        }
        let flaw = self.not("text");
        Err(if self.is_scalar() { flaw.hint("put it in quotes") } else { flaw })
    }

    /// A TOML date, or text that holds one.
    pub fn date(&self) -> Result<&str, Flaw> {
        if let Value::Date(text) | Value::Text(text) = &self.value {
            Ok(text)
        } else {
            Err(self.not("a date and time"))
        }
    }

    /// Also `5.0`, which many programs write for 5.
    pub fn integer(&self) -> Result<i64, Flaw> {
        if let Value::Integer(n) = self.value {
            return Ok(n);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a whole number that is far from the bounds")]
        if let Value::Float(n) = self.value
            && n.fract() == 0.0
            && n.abs() < 1e15
        {
            return Ok(n as i64);
        }
        Err(self.not("a whole number"))
    }

    pub fn number(&self) -> Result<f64, Flaw> {
        if let Value::Float(n) = self.value {
            return Ok(n);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "only 0 and 1 are in range for the one field that asks"
        )]
        if let Value::Integer(n) = self.value { Ok(n as f64) } else { Err(self.not("a number")) }
    }

    pub fn boolean(&self) -> Result<bool, Flaw> {
        if let Value::Bool(b) = self.value { Ok(b) } else { Err(self.not("true or false")) }
    }

    pub fn list(&self) -> Result<&[Node], Flaw> {
        if let Value::List(items) = &self.value {
            return Ok(items);
        }
        let flaw = self.not("a list");
        Err(if self.is_scalar() { flaw.hint("put it in [ ]") } else { flaw })
    }

    pub fn table(&self) -> Result<&Table, Flaw> {
        if let Value::Table(table) = &self.value { Ok(table) } else { Err(self.not("a table")) }
    }

    fn is_scalar(&self) -> bool {
        match self.value {
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Date(_) => true,
            Value::Null | Value::List(_) | Value::Table(_) => false,
        }
    }

    /// The flaw of a value that should be `wanted`.
    pub fn not(&self, wanted: &str) -> Flaw {
        let (kind, hint) = match &self.value {
            Value::Null => ("null", Some("leave the key out for its default".to_owned())),
            Value::Bool(_) => ("true or false", None),
            Value::Integer(_) => ("a whole number", None),
            Value::Float(_) => ("a number with a fraction", None),
            Value::Text(text) if text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok() => {
                ("text", Some(format!("write {text} without quotes")))
            }
            Value::Text(_) => ("text", None),
            Value::Date(_) => ("a date", None),
            Value::List(_) => ("a list", None),
            Value::Table(_) => ("a table", None),
        };
        let flaw = Flaw::wrong_type(format!("must be {wanted}, not {kind}"));
        Flaw { hint, ..flaw }
    }

    /// As it is sent, for `extra`. What JSON can't carry is a flaw at its own place.
    pub fn to_json(&self) -> Result<serde_json::Value, (Span, Flaw)> {
        let refuse = |why: &str| Err((self.span.clone(), Flaw::wrong_type(why)));
        match &self.value {
            Value::Null => Ok(serde_json::Value::Null),
            Value::Bool(b) => Ok((*b).into()),
            Value::Integer(n) => Ok((*n).into()),
            Value::Float(n) => match serde_json::Number::from_f64(*n) {
                Some(number) => Ok(number.into()),
                None => refuse("JSON, in which it is sent, has no such number"),
            },
            Value::Text(text) => Ok(text.as_str().into()),
            Value::Date(_) => refuse("JSON, in which it is sent, has no dates; put it in quotes"),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Table(table) => table.0.iter().map(|e| Ok((e.key.clone(), e.node.to_json()?))).collect(),
        }
    }
}
