//! Text → rules, with errors that say where, and what may have been meant.

use std::borrow::Cow;
use std::str::FromStr;

use super::words::{self, Unfit};
use super::{Faults, Point, Rule, When, vocabulary};

/// Why a text is not a list of faults.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("faults, character {at}: {kind}")]
pub struct FaultError {
    /// The character where the trouble begins, counted from one.
    pub at: usize,
    /// What is wrong there.
    pub kind: FaultErrorKind,
}

/// What is wrong with a list of faults.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultErrorKind {
    /// The part before the colon is none of the four points.
    #[error(
        "`{found}` is not a point; write `generate:`, `status:`, `video:` or `task:` before the fault{}",
        hint(suggestion)
    )]
    UnknownPoint {
        /// What stands there.
        found: String,
        /// What was perhaps meant.
        suggestion: Option<String>,
    },
    /// The point has no fault of this name.
    #[error("`{point}` has no fault `{found}`{}", hint(suggestion))]
    UnknownFault {
        /// The point named.
        point: &'static str,
        /// What stands there.
        found: String,
        /// What was perhaps meant.
        suggestion: Option<String>,
    },
    /// The argument is missing, superfluous or of the wrong kind.
    #[error("`{fault}` {wants}")]
    Argument {
        /// The fault.
        fault: String,
        /// What it takes.
        wants: String,
    },
    /// What follows `@` is not a call, a range of calls or `*`.
    #[error("`@{found}` is not `@N`, `@N-M` or `@*` (calls count from 1)")]
    When {
        /// What stands there.
        found: String,
    },
    /// What follows `%` is not a percentage.
    #[error("`%{found}` is not a whole percentage from 0 to 100")]
    Percent {
        /// What stands there.
        found: String,
    },
    /// A selector stands twice.
    #[error("`{found}` stands twice in this rule")]
    Twice {
        /// The selector.
        found: char,
    },
    /// A quote is not closed.
    #[error("this quote is not closed")]
    OpenQuote,
    /// Something follows where the rule should have ended.
    #[error("a rule ends here, with a comma or a new line; text with `@ % ~ ,` in it goes in double quotes")]
    Trailing,
    /// The text holds too many rules.
    #[error("more than {MAX_RULES} rules")]
    TooMany,
}

/// More rules than anybody types; each is asked at each call.
const MAX_RULES: usize = 1000;

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|text| format!("; did you mean `{text}`?")).unwrap_or_default()
}

impl FromStr for Faults {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut cursor = Cursor { text, at: 0 };
        let mut rules = Vec::new();
        loop {
            cursor.skip(|c| c.is_whitespace() || c == ',');
            if cursor.rest().is_empty() {
                return Ok(Self { rules });
            }
            if rules.len() == MAX_RULES {
                return Err(cursor.error(FaultErrorKind::TooMany));
            }
            rules.push(rule(&mut cursor)?);
        }
    }
}

fn rule(cursor: &mut Cursor<'_>) -> Result<Rule, FaultError> {
    let point = point(cursor)?;
    let (name, fault) = named_fault(cursor, point)?;
    let mut when = None;
    let mut percent = None;
    let mut prompt = None;
    loop {
        cursor.skip(|c| c == ' ');
        let start = *cursor;
        let selector = cursor.rest().chars().next();
        let repeated = match selector {
            Some('@') => when.is_some(),
            Some('%') => percent.is_some(),
            Some('~') => prompt.is_some(),
            None | Some(',' | '\n' | '\r') => break,
            Some(_) => return Err(start.error(FaultErrorKind::Trailing)),
        };
        if let (Some(found), true) = (selector, repeated) {
            return Err(start.error(FaultErrorKind::Twice { found }));
        }
        cursor.at += 1;
        match selector {
            Some('@') => when = Some(calls(cursor)?),
            Some('%') => percent = Some(percentage(cursor)?),
            _ => prompt = Some(cursor.text_until(&[',', '\n'])?),
        }
    }
    // `%20` alone means each call with that chance: a chance of the next call only is written `@1%20`.
    let when = when.unwrap_or(if percent.is_some() { When::Always } else { When::Next });
    Ok(Rule { name, when, percent: percent.unwrap_or(100), prompt, fault })
}

fn point(cursor: &mut Cursor<'_>) -> Result<Point, FaultError> {
    let start = *cursor;
    let found = cursor.plain_until(&[':', '=', '@', '%', '~', ',', '\n']);
    let colon = cursor.rest().starts_with(':');
    match Point::ALL.into_iter().find(|point| colon && point.name() == found) {
        Some(point) => {
            cursor.at += 1;
            Ok(point)
        }
        None => {
            let suggestion =
                nearest(found, Point::ALL.into_iter().map(Point::name)).map(|name| format!("{name}:"));
            Err(start.error(FaultErrorKind::UnknownPoint { found: found.to_owned(), suggestion }))
        }
    }
}

/// `FAULT[=ARG]`, and the name under which it is counted.
fn named_fault(cursor: &mut Cursor<'_>, point: Point) -> Result<(String, super::Fault), FaultError> {
    cursor.skip(|c| c == ' ');
    let start = *cursor;
    let name = cursor.plain_until(&['=', '@', '%', '~', ',', '\n']);
    let argument = if cursor.rest().starts_with('=') {
        cursor.at += 1;
        Some(cursor.text_until(&['@', '%', '~', ',', '\n'])?)
    } else {
        None
    };
    match words::fault(point, name, argument.as_deref()) {
        Ok(fault) => {
            let argument = argument.map(|text| format!("={}", quoted(&text))).unwrap_or_default();
            Ok((format!("{point}:{name}{argument}"), fault))
        }
        Err(Unfit::Wants(what)) if what.is_empty() => Err(start.error(FaultErrorKind::Argument {
            fault: format!("{point}:{name}"),
            wants: "takes no argument".to_owned(),
        })),
        Err(Unfit::Wants(what)) => Err(start.error(FaultErrorKind::Argument {
            fault: format!("{point}:{name}"),
            wants: format!("is written `{point}:{name}={what}`"),
        })),
        Err(Unfit::Unknown) => Err(start.error(FaultErrorKind::UnknownFault {
            point: point.name(),
            found: name.to_owned(),
            suggestion: suggest(point, name),
        })),
    }
}

fn calls(cursor: &mut Cursor<'_>) -> Result<When, FaultError> {
    let start = *cursor;
    let text = cursor.plain_until(&['@', '%', '~', ',', '\n']);
    let wrong = || start.error(FaultErrorKind::When { found: text.to_owned() });
    if text == "*" {
        return Ok(When::Always);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok(When::Calls(first..=last)),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(wrong()),
    }
}

fn percentage(cursor: &mut Cursor<'_>) -> Result<u8, FaultError> {
    let start = *cursor;
    let text = cursor.plain_until(&['@', '%', '~', ',', '\n']);
    text.parse()
        .ok()
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| start.error(FaultErrorKind::Percent { found: text.to_owned() }))
}

/// The fault that was perhaps meant: a similar name at this point, else the same name at another.
fn suggest(point: Point, found: &str) -> Option<String> {
    let words = vocabulary();
    let here = words.iter().filter(|word| word.point == point).map(|word| word.name);
    let common =
        ["429", "500", "500-html", "503", "503-html", "502-html", "504-html", "429-parallel", "429-credits"];
    nearest(found, here.chain(common)).map(str::to_owned).or_else(|| {
        words.iter().find(|word| word.name == found).map(|word| format!("{}:{}", word.point, word.name))
    })
}

fn nearest<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this two words only share letters.
    const SIMILAR: f64 = 0.8;
    candidates
        .map(|candidate| (strsim::jaro_winkler(&found.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The text as it may stand in a rule: in quotes if it would be read differently without.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, '@' | '%' | '~' | ',' | '"' | '\\') || c.is_control();
    if text.is_empty() || text.contains(special) || text.trim() != text {
        Cow::Owned(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
    } else {
        Cow::Borrowed(text)
    }
}

#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, kind: FaultErrorKind) -> FaultError {
        let before = self.text.get(..self.at).unwrap_or_default();
        FaultError { at: before.chars().count() + 1, kind }
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.at = self.text.len() - self.rest().trim_start_matches(what).len();
    }

    /// Everything before the first of `stops`, trimmed.
    fn plain_until(&mut self, stops: &[char]) -> &'a str {
        let rest = self.rest();
        let end = rest.find(stops).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default().trim()
    }

    /// The same, or a quoted text, in which the stops are ordinary characters.
    fn text_until(&mut self, stops: &[char]) -> Result<String, FaultError> {
        let start = *self;
        if !self.rest().starts_with('"') {
            return Ok(self.plain_until(stops).to_owned());
        }
        self.at += 1;
        let mut text = String::new();
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices() {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => {
                    self.at += offset + 1;
                    return Ok(text);
                }
                c => {
                    text.push(c);
                    escaped = false;
                }
            }
        }
        Err(start.error(FaultErrorKind::OpenQuote))
    }
}
