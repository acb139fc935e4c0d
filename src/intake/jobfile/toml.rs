//! TOML into the tree. The grammar is the `toml` crate's; it goes on after a syntax error, so all of them show.

use ::toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostic::{Code, Report},
    rules::Flaw,
    tree::{Entry, MAX_DEPTH, Node, Span, Table, Value},
};

/// The root table, or `None` with the errors reported.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Option<Node> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for e in &errors {
        report.error(inside(text, e.span()), "", syntax_flaw(e.message()));
    }
    let reader = Reader { text };
    match reader.table(root.get_ref(), 0) {
        _ if !errors.is_empty() => None,
        Ok(table) => {
            let first = table.get("type").or(table.0.first()).map_or(0..0, |e| e.key_span.clone());
            Some(Node { span: first, value: Value::Table(table) })
        }
        Err((span, flaw)) => {
            report.error(span, "", flaw);
            None
        }
    }
}

fn syntax_flaw(message: &str) -> Flaw {
    let flaw = Flaw::new(Code::Syntax, message);
    if message.contains("duplicate key") {
        Flaw {
            code: Code::DuplicateKey,
            message: "this key is already set in this table".to_owned(),
            hint: None,
        }
    } else if message.contains("recursion limit") {
        Flaw { code: Code::TooDeep, ..too_deep() }
    } else if message.contains("string values must be quoted") {
        flaw.hint("text goes in quotes: \"…\"; over several lines in \"\"\"…\"\"\"")
    } else {
        flaw
    }
}

pub(super) fn too_deep() -> Flaw {
    Flaw::new(Code::TooDeep, format!("tables and lists more than {MAX_DEPTH} deep inside one another"))
}

/// The parser's span, kept inside the file: at its end, some errors point behind it, and some have no place at all.
fn inside(text: &str, span: Option<Span>) -> Span {
    let span = span.unwrap_or(0..0);
    let end = text.floor_char_boundary(span.end.min(text.len()));
    text.floor_char_boundary(span.start.min(end))..end
}

struct Reader<'t> {
    text: &'t str,
}

impl Reader<'_> {
    fn table(&self, table: &DeTable<'_>, depth: usize) -> Result<Table, (Span, Flaw)> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let node = self.node(value, depth + 1)?;
            entries.push(Entry {
                key: key.get_ref().to_string(),
                key_span: inside(self.text, Some(key.span())),
                node,
            });
        }
        // The parser sorts by name; people read from top to bottom.
        entries.sort_by_key(|entry| entry.key_span.start);
        Ok(Table(entries))
    }

    fn node(&self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, (Span, Flaw)> {
        let span = inside(self.text, Some(value.span()));
        if depth > MAX_DEPTH {
            return Err((span, too_deep()));
        }
        let out_of_range = || {
            let number = self.text.get(span.clone()).unwrap_or_default();
            (span.clone(), Flaw::invalid(format!("{number} is too large a number")))
        };
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Datetime(_) => Value::Date(self.text.get(span.clone()).unwrap_or_default().to_owned()),
            DeValue::Integer(n) => {
                Value::Integer(i64::from_str_radix(n.as_str(), n.radix()).map_err(|_| out_of_range())?)
            }
            // `inf` and `nan` are TOML; whoever wants a number refuses them. 1e999 is a mistake.
            DeValue::Float(n) => match n.as_str().parse::<f64>() {
                Ok(x) if x.is_finite() || n.as_str().contains(['n', 'N']) => Value::Float(x),
                Ok(_) | Err(_) => return Err(out_of_range()),
            },
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.table(table, depth)?),
        };
        Ok(Node { span, value })
    }
}
