//! TOML into the tree. The grammar is the `toml` crate's; it goes on after a syntax error, so all of them show.

use ::toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{
    diagnostic::{Code, Report, shown},
    rules::Flaw,
    tree::{Entry, MAX_DEPTH, Node, Span, Table, Value, too_deep},
};

/// The root table, or `None` with the errors reported.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Option<Node> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        refuse(text, &errors, report);
        return None;
    }
    let mut reader = Reader { text, report };
    match reader.table(root.get_ref(), 0) {
        Ok(table) => {
            let anchor = table.get("type").or(table.0.first()).map_or(0..0, |entry| entry.key_span.clone());
            Some(Node { span: anchor, value: Value::Table(table) })
        }
        Err((span, flaw)) => {
            reader.report.error(span, "", flaw);
            None
        }
    }
}

fn refuse(text: &str, errors: &[Error], report: &mut Report<'_>) {
    // The parser's own bound on depth: what it says of the rest of such a file is noise.
    if let Some(e) = errors.iter().find(|e| e.message().contains("recurs")) {
        return report.error(inside(text, e.span()), "", too_deep());
    }
    for e in errors {
        let span = inside(text, e.span());
        let at = shown(text.get(span.clone()).unwrap_or_default());
        let message = e.message();
        let flaw = match hint(message) {
            _ if message.contains("duplicate key") => {
                Flaw::new(Code::DuplicateKey, format!("`{at}` is already set in this table"))
            }
            Some(hint) => Flaw::new(Code::Syntax, message).hint(hint),
            None => Flaw::new(Code::Syntax, message),
        };
        report.error(span, "", flaw);
    }
}

/// What people usually meant, by the parser's words; the tests hold them against its next release.
fn hint(message: &str) -> Option<&'static str> {
    let hints = [
        ("must be quoted", r#"text goes in quotes: "…"; over several lines in """…""""#),
        ("visible characters", r"a control character is written \uXXXX"),
        ("basic string", r#"text in quotes ends on its line; over several lines it goes in """…""""#),
        ("unexpected key or value", r#"one `key = value` a line; a quote inside text is written \""#),
    ];
    hints.into_iter().find(|(words, _)| message.contains(words)).map(|(_, hint)| hint)
}

/// The parser's span, kept inside the file: at its end, some errors point behind it, and some have no place at all.
fn inside(text: &str, span: Option<Span>) -> Span {
    let span = span.unwrap_or(0..0);
    let end = text.floor_char_boundary(span.end.min(text.len()));
    text.floor_char_boundary(span.start.min(end))..end
}

struct Reader<'t, 'r, 'f> {
    text: &'t str,
    report: &'r mut Report<'f>,
}

impl Reader<'_, '_, '_> {
    fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Result<Table, (Span, Flaw)> {
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

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, (Span, Flaw)> {
        let span = inside(self.text, Some(value.span()));
        if depth > MAX_DEPTH {
            return Err((span, too_deep()));
        }
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Datetime(_) => Value::Date(self.text.get(span.clone()).unwrap_or_default().to_owned()),
            DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
                .map_or_else(|_| self.too_large(&span), Value::Integer),
            // `inf` and `nan` are TOML; whoever wants a number refuses them. 1e999 is a mistake.
            DeValue::Float(n) => match n.as_str().parse::<f64>() {
                Ok(x) if x.is_finite() || n.as_str().contains(['n', 'N']) => Value::Float(x),
                Ok(_) | Err(_) => self.too_large(&span),
            },
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.table(table, depth)?),
        };
        Ok(Node { span, value })
    }

    /// The rest of the file is looked at all the same.
    fn too_large(&mut self, span: &Span) -> Value {
        let number = shown(self.text.get(span.clone()).unwrap_or_default());
        self.report.unreadable(span.clone(), Flaw::invalid(format!("{number} is too large a number")));
        Value::Null
    }
}
