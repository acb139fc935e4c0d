//! JSON and JSON Lines into the tree: a small reader of our own, since the usual ones tell no spans and keep the last
//! of two equal keys in silence.

use std::{collections::HashSet, ops::Range};

use super::{
    diagnostic::{Code, Report, shown},
    rules::Flaw,
    tree::{Entry, MAX_DEPTH, Node, Span, Table, Value, too_deep},
};

type Parsed<T> = Result<T, (Span, Flaw)>;

/// The one value of a JSON file, or `None` with the error reported.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Option<Node> {
    Reader { text, at: after_mark(text), whole: "file", refused: Vec::new() }.read(report)
}

/// The one value of a line.
pub(super) fn read_line(line: &str, report: &mut Report<'_>) -> Option<Node> {
    let text = line.trim_end();
    Reader { text, at: after_mark(text), whole: "line", refused: Vec::new() }.read(report)
}

/// The lines that hold something, without their ends.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let start = if next == 0 { after_mark(text) } else { next };
        next += line.len();
        let line = &text[start..next];
        (!line.trim().is_empty()).then(|| start..start + line.trim_end().len())
    })
}

/// Where the text begins, behind a byte-order mark.
fn after_mark(text: &str) -> usize {
    if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
}

struct Reader<'t> {
    /// The file up to the end of what is read.
    text: &'t str,
    at: usize,
    /// What ends where the text ends: the file, or a line of it.
    whole: &'static str,
    /// What is wrong, and yet does not hide where the rest begins.
    refused: Vec<(Span, Flaw)>,
}

impl Reader<'_> {
    fn read(mut self, report: &mut Report<'_>) -> Option<Node> {
        let result = self.document();
        for (span, flaw) in self.refused {
            report.unreadable(span, flaw);
        }
        result.map_err(|(span, flaw)| report.error(span, "", flaw)).ok()
    }

    fn document(&mut self) -> Parsed<Node> {
        let node = self.value(0)?;
        self.space();
        match self.peek() {
            None => Ok(node),
            Some(_) => self.fail_with_hint(
                "something follows after the end of the value",
                "several jobs go in {\"job\": [ … ]}, or one a line in a .jsonl file",
            ),
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Node> {
        self.space();
        let start = self.at;
        if depth > MAX_DEPTH {
            return Err((self.here(), too_deep()));
        }
        let value = match self.peek() {
            Some('{') => Value::Table(self.object(depth)?),
            Some('[') => Value::List(self.array(depth)?),
            Some('"') => Value::Text(self.string()?),
            Some('-' | '0'..='9') => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.word()?,
            Some('\'') => return self.fail("text goes in double quotes"),
            Some(']' | '}') => {
                return self.fail("a value is missing here, or the comma before it is one too many");
            }
            Some(_) => return self.fail("a value was expected here"),
            None => return self.fail(&format!("the {} ends where a value was expected", self.whole)),
        };
        Ok(Node { span: start..self.at, value })
    }

    fn object(&mut self, depth: usize) -> Parsed<Table> {
        let mut entries: Vec<Entry> = Vec::new();
        self.at += 1;
        self.space();
        while !self.take('}') {
            if !entries.is_empty() {
                self.expect(',', "`,` or `}`")?;
                self.space();
            }
            let start = self.at;
            match self.peek() {
                Some('"') => {}
                Some('}') => return self.fail("the comma before this brace is one too many"),
                Some(_) => return self.fail("a key in double quotes was expected here"),
                None => {
                    return self.fail(&format!("the {} ends inside a table: a `}}` is missing", self.whole));
                }
            }
            let key = self.string()?;
            let key_span = start..self.at;
            self.space();
            self.expect(':', "`:`")?;
            let node = self.value(depth + 1)?;
            entries.push(Entry { key, key_span, node });
            self.space();
        }
        self.drop_doubled(&mut entries);
        Ok(Table(entries))
    }

    fn array(&mut self, depth: usize) -> Parsed<Vec<Node>> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        while !self.take(']') {
            if !items.is_empty() {
                self.expect(',', "`,` or `]`")?;
            }
            items.push(self.value(depth + 1)?);
            self.space();
        }
        Ok(items)
    }

    /// Of equal keys the first one counts, and the others are errors.
    fn drop_doubled(&mut self, entries: &mut Vec<Entry>) {
        let mut seen = HashSet::new();
        let doubled: Vec<_> = entries.iter().map(|entry| !seen.insert(entry.key.as_str())).collect();
        let mut doubled = doubled.into_iter();
        entries.retain(|Entry { key, key_span, .. }| {
            let is_doubled = doubled.next() == Some(true);
            if is_doubled {
                let message = format!("`{}` is already set in this table", shown(key));
                self.refused.push((key_span.clone(), Flaw::new(Code::DuplicateKey, message)));
            }
            !is_doubled
        });
    }

    fn string(&mut self) -> Parsed<String> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some('\\') => out.push(self.escape()?),
                Some('\n' | '\r') | None => {
                    let flaw = Flaw::new(Code::Syntax, "the quote that ends this text is missing")
                        .hint("a line break inside text is written \\n");
                    return Err((start..self.at, flaw));
                }
                Some(_) => return self.fail("a control character in text must be written as \\t or \\u00XX"),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let start = self.at;
        self.at += 1;
        let c = self.peek();
        self.at += c.map_or(0, char::len_utf8);
        match c {
            Some('"') => Ok('"'),
            Some('\\') => Ok('\\'),
            Some('/') => Ok('/'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => self.unicode_escape(start),
            Some(_) | None => {
                let flaw = Flaw::new(Code::Syntax, "this escape means nothing in JSON")
                    .hint("a backslash is written \\\\");
                Err((start..self.at, flaw))
            }
        }
    }

    fn unicode_escape(&mut self, start: usize) -> Parsed<char> {
        let mut units = vec![self.hex4(start)?];
        let pair = units[0] & 0xfc00 == 0xd800 && self.text[self.at..].starts_with("\\u");
        if pair {
            self.at += 2;
            units.push(self.hex4(start)?);
        }
        match String::from_utf16(&units).ok().and_then(|text| text.chars().next()) {
            Some(c) => Ok(c),
            None => {
                let flaw = Flaw::new(Code::Syntax, "half of a surrogate pair is no character");
                Err((start..self.at, flaw.hint("write the character itself; the file is UTF-8")))
            }
        }
    }

    fn hex4(&mut self, start: usize) -> Parsed<u16> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u16::from_str_radix(d, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err((start..self.at, Flaw::new(Code::Syntax, "\\u needs four hexadecimal digits"))),
        }
    }

    fn number(&mut self) -> Value {
        let start = self.at;
        let rest = &self.text[start..];
        let len = rest.find(|c: char| !c.is_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
        let text = &rest[..len];
        self.at += len;
        let value = if !is_json_number(text) {
            Err(Flaw::new(Code::Syntax, format!("{} is not a number in JSON", shown(text))))
        } else if text.contains(['.', 'e', 'E']) {
            text.parse().ok().filter(|x: &f64| x.is_finite()).map(Value::Float).ok_or_else(|| too_large(text))
        } else {
            text.parse().map(Value::Integer).map_err(|_| too_large(text))
        };
        value.unwrap_or_else(|flaw| self.refuse(start, flaw))
    }

    fn word(&mut self) -> Parsed<Value> {
        let start = self.at;
        let rest = &self.text[start..];
        let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
        self.at += len;
        let flaw = |message: String, hint: &str| Flaw::new(Code::Syntax, message).hint(hint);
        Ok(match &rest[..len] {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            word @ ("True" | "False" | "None") => {
                self.refuse(start, flaw(format!("{word} is Python"), "JSON writes true, false and null"))
            }
            word @ ("NaN" | "Infinity") => {
                self.refuse(start, flaw(format!("JSON has no {word}"), "leave the key out"))
            }
            // Most likely text without its quotes: nobody knows where it ends.
            word => {
                let flaw = flaw(format!("{} is not a value", shown(word)), "text goes in double quotes");
                return Err((start..self.at, flaw));
            }
        })
    }

    /// What began at `start` is wrong, and the next thing begins here.
    fn refuse(&mut self, start: usize, flaw: Flaw) -> Value {
        self.refused.push((start..self.at, flaw));
        Value::Null
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.at += wanted.len_utf8();
        }
        there
    }

    fn expect(&mut self, wanted: char, said: &str) -> Parsed<()> {
        if self.take(wanted) {
            return Ok(());
        }
        match self.peek() {
            Some('/' | '#') => self.fail_with_hint("JSON has no comments", "a .toml file has"),
            Some(_) => self.fail(&format!("{said} was expected here")),
            None => self.fail(&format!("the {} ends where {said} was expected", self.whole)),
        }
    }

    /// A syntax error at the next character.
    fn fail<T>(&self, message: &str) -> Parsed<T> {
        Err((self.here(), Flaw::new(Code::Syntax, message)))
    }

    fn fail_with_hint<T>(&self, message: &str, hint: &str) -> Parsed<T> {
        Err((self.here(), Flaw::new(Code::Syntax, message).hint(hint)))
    }

    /// The next character.
    fn here(&self) -> Span {
        self.at..self.at + self.peek().map_or(0, char::len_utf8)
    }
}

fn too_large(text: &str) -> Flaw {
    Flaw::invalid(format!("{} is too large a number", shown(text)))
}

/// JSON's grammar of numbers: no leading zero, digits on both sides of the point.
fn is_json_number(text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}
