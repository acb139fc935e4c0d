//! The rules of klingd's own keys, the same for files and flags. What a request may hold is the domain's.

use jiff::civil;

use super::{Context, diagnostic::Code};
use crate::domain::{credits::Credits, request::is_blank, time::Timestamp};

/// Characters of a `name` or `key`: they stand in file names (255 bytes on most filesystems, with room for the
/// template) and in one column of a table.
pub(crate) const MAX_LABEL_CHARS: usize = 200;
/// Characters of one tag: a word for filters, not a text.
pub(super) const MAX_TAG_CHARS: usize = 60;
/// Tags of one job.
pub(super) const MAX_TAGS: usize = 20;
pub(super) const PRIORITY: std::ops::RangeInclusive<i64> = -100..=100;
pub(super) const TAKES: std::ops::RangeInclusive<i64> = 1..=20;

/// What is wrong with one value, before it is known where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
}

impl Flaw {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub fn wrong_type(message: impl Into<String>) -> Self {
        Self::new(Code::WrongType, message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidValue, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, said of `key`.
    pub fn about(mut self, key: &str) -> Self {
        self.message = format!("`{key}`: {}", self.message);
        self
    }
}

pub(crate) fn priority(n: i64) -> Result<i8, Flaw> {
    let (low, high) = (PRIORITY.start(), PRIORITY.end());
    i8::try_from(n)
        .ok()
        .filter(|_| PRIORITY.contains(&n))
        .ok_or_else(|| Flaw::invalid(format!("{n} is out of range: {low} to {high}, higher first")))
}

pub(crate) fn takes(n: i64) -> Result<u32, Flaw> {
    let (low, high) = (TAKES.start(), TAKES.end());
    u32::try_from(n)
        .ok()
        .filter(|_| TAKES.contains(&n))
        .ok_or_else(|| Flaw::invalid(format!("{n} is out of range: {low} to {high} renders of one request")))
}

pub(crate) fn max_credits(n: i64) -> Result<Credits, Flaw> {
    match u64::try_from(n) {
        Ok(n) if n > 0 => Ok(Credits::new(n)),
        Ok(_) | Err(_) => {
            Err(Flaw::invalid(format!("{n} would allow nothing")).hint("leave it out for no limit"))
        }
    }
}

/// A `name` or a `key`.
pub(crate) fn label(text: &str) -> Result<String, Flaw> {
    short("it", text, MAX_LABEL_CHARS)?;
    Ok(text.to_owned())
}

/// An output template. What its braces may hold is known to who writes the files.
pub(crate) fn template(text: &str, context: &Context<'_>) -> Result<String, Flaw> {
    if text.chars().all(is_blank) {
        return Err(Flaw::invalid("it is empty").hint("leave it out for the default"));
    }
    (context.check_template)(text).map_err(Flaw::invalid)?;
    Ok(text.to_owned())
}

/// Each tag once, in the order in which they were named.
pub(crate) fn tags(all: Vec<String>) -> Result<Vec<String>, Flaw> {
    let mut tags: Vec<String> = Vec::new();
    if all.len() > MAX_TAGS {
        return Err(Flaw::invalid(format!("more than {MAX_TAGS} tags")));
    }
    for tag in all {
        short("a tag", &tag, MAX_TAG_CHARS)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn short(what: &str, text: &str, max: usize) -> Result<(), Flaw> {
    let chars = text.chars().count();
    if text.chars().all(is_blank) {
        Err(Flaw::invalid(format!("{what} is empty")).hint("leave it out"))
    } else if chars > max {
        Err(Flaw::invalid(format!("{what} has {chars} characters; at most {max}")))
    } else if text.chars().any(char::is_control) {
        Err(Flaw::invalid(format!("{what} has a control character or a line break in it")))
    } else {
        Ok(())
    }
}

/// A time that is the same wherever the file is read: RFC 3339 with an offset.
pub(crate) fn not_before(text: &str) -> Result<Timestamp, Flaw> {
    // jiff reads much more than that, and reads over a `[Europe/Berlin]` behind the offset, whatever it says.
    if has_the_shape(text)
        && let Ok(time) = text.parse::<Timestamp>()
    {
        return Ok(time);
    }
    if !text.contains('[')
        && let Ok(local) = text.parse::<civil::DateTime>()
    {
        let local = local.strftime("%Y-%m-%dT%H:%M:%S");
        return Err(Flaw::invalid(format!(
            "{text} has no offset, so it is another moment in every time zone"
        ))
        .hint(format!("write {local}+01:00 with your own offset, or {local}Z for UTC")));
    }
    Err(Flaw::invalid(format!("{text:?} is not a date and time with an offset"))
        .hint("like 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z"))
}

/// `2026-12-24T18:00:00.5+01:00`: with or without seconds, with a space for the T, with or without the last colon.
fn has_the_shape(text: &str) -> bool {
    /// Takes what is like `like`: a digit is any digit.
    fn take<'t>(text: &'t str, like: &str) -> Option<&'t str> {
        let (head, rest) = text.split_at_checked(like.len())?;
        let alike = |(a, b): (u8, u8)| if b == b'0' { a.is_ascii_digit() } else { a == b };
        head.bytes().zip(like.bytes()).all(alike).then_some(rest)
    }
    let whole = || {
        let time = take(text, "0000-00-00")?.strip_prefix(['T', 't', ' '])?;
        let mut rest = take(time, "00:00")?;
        if let Some(behind) = take(rest, ":00") {
            let fraction =
                behind.strip_prefix('.').map(|f| f.trim_start_matches(|c: char| c.is_ascii_digit()));
            rest = fraction.unwrap_or(behind);
        }
        let offset = rest.strip_prefix(['+', '-']);
        let zone = offset.and_then(|zone| take(zone, "00:00").or_else(|| take(zone, "0000")));
        zone.or_else(|| rest.strip_prefix(['Z', 'z']))
    };
    whole() == Some("")
}
