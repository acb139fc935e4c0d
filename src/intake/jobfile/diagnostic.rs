//! Diagnostics as data: what is wrong, where, and what to write instead.

use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher as _, RandomState},
};

use serde::Serialize;

use super::{rules::Flaw, tree::Span};
use crate::domain::credits::Credits;

/// Errors shown of one file; all are counted. Nobody mends more in one go, and a broken file of a million lines must
/// not become a million texts.
pub const MAX_ERRORS: usize = 100;

/// One thing wrong with a job file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether it stops the file.
    pub severity: Severity,
    /// Its kind, for programs.
    pub code: Code,
    /// A sentence that says what is wrong and why.
    pub message: String,
    /// What to write instead, when that is known.
    pub hint: Option<String>,
    /// The file as it was named.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The key it is about, as `jq` would name it: `job[2].duration`, jobs counted from 0; empty for the file itself.
    pub key: String,
    /// Bytes of the file.
    pub span: Span,
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: error: message (hint)`, as compilers write and editors read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, severity, .. } = self;
        write!(f, "{}:{line}:{column}: {severity}: {}", visible(&self.file), visible(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", visible(hint)),
            None => Ok(()),
        }
    }
}

/// Whether a diagnostic stops the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the two usual words")]
pub enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// The kinds of diagnostics. Their words are stable: programs may match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not UTF-8.
    Encoding,
    /// Not TOML or JSON.
    Syntax,
    /// Tables and lists too deep inside one another.
    TooDeep,
    /// The same key twice in one table.
    DuplicateKey,
    /// A key that means nothing there.
    UnknownKey,
    /// Text where a number belongs, and the like.
    WrongType,
    /// The right type, a value that is not allowed.
    InvalidValue,
    /// Something every such job needs is not there.
    Missing,
    /// A field the job's type does not take.
    NotTaken,
    /// The keys of a single job and those of a batch in one file, or a field both in the job and its matrix.
    Mixed,
    /// No job at all.
    Empty,
    /// Two jobs with one name.
    DuplicateName,
    /// Two equal jobs, or two with one key.
    DuplicateJob,
    /// More jobs than one file may hold.
    TooManyJobs,
    /// Costs more than a `max_credits` allows.
    OverMaxCredits,
    /// A line that has no effect.
    NoEffect,
    /// More errors than are shown.
    More,
}

impl Code {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Encoding => "encoding",
            Code::Syntax => "syntax",
            Code::TooDeep => "too_deep",
            Code::DuplicateKey => "duplicate_key",
            Code::UnknownKey => "unknown_key",
            Code::WrongType => "wrong_type",
            Code::InvalidValue => "invalid_value",
            Code::Missing => "missing",
            Code::NotTaken => "not_taken",
            Code::Mixed => "mixed",
            Code::Empty => "empty",
            Code::DuplicateName => "duplicate_name",
            Code::DuplicateJob => "duplicate_job",
            Code::TooManyJobs => "too_many_jobs",
            Code::OverMaxCredits => "over_max_credits",
            Code::NoEffect => "no_effect",
            Code::More => "more",
        }
    }
}

/// What is wrong with a file, or with one line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The first hundred errors, and the warnings, sorted as they stand there.
    pub shown: Vec<Diagnostic>,
    /// How many errors there are in all.
    pub errors: usize,
}

impl Faults {
    /// Adds those of a later part; what is beyond the bound is only counted.
    pub(super) fn add(&mut self, later: Faults) {
        let room = MAX_ERRORS.saturating_sub(self.shown.len());
        self.shown.extend(later.shown.into_iter().take(room));
        self.errors += later.errors;
    }

    /// What is shown, and a last word on what is not.
    pub fn into_shown(mut self) -> Vec<Diagnostic> {
        if self.errors > MAX_ERRORS
            && let Some(last) = self.shown.last().cloned()
        {
            let all = Credits::new(self.errors as u64);
            let message = format!("these are the first {MAX_ERRORS} of {all} errors");
            let (severity, key, hint, code) = (Severity::Error, String::new(), None, Code::More);
            self.shown.push(Diagnostic { severity, code, message, hint, key, ..last });
        }
        self.shown
    }
}

/// Collects the diagnostics of one file, or of one line of it. The same complaint at the same place is kept once: many
/// jobs may share one wrong default.
pub(super) struct Report<'t> {
    file: &'t str,
    lines: Lines<'t>,
    /// Where the text begins in the file: bytes and lines before it.
    before: (usize, usize),
    found: Vec<Diagnostic>,
    /// By hash: every error of the file is counted, however many there are.
    seen: HashSet<u64>,
    /// Values that could not be read: they have no type and no range to be wrong as well.
    unread: HashSet<Span>,
    hasher: RandomState,
    errors: usize,
}

impl<'t> Report<'t> {
    pub fn new(bytes: &'t [u8], file: &'t str) -> Self {
        Self::of_part(bytes, file, (0, 0))
    }

    /// Of a part of the file, behind so many bytes and lines of it.
    pub fn of_part(bytes: &'t [u8], file: &'t str, before: (usize, usize)) -> Self {
        Self {
            file,
            lines: Lines::new(bytes),
            before,
            found: Vec::new(),
            seen: HashSet::new(),
            unread: HashSet::new(),
            hasher: RandomState::new(),
            errors: 0,
        }
    }

    pub fn error(&mut self, span: Span, key: impl Into<String>, flaw: Flaw) {
        self.push(Severity::Error, span, key.into(), flaw);
    }

    /// A value that can't be read; nothing else is said of it.
    pub fn unreadable(&mut self, span: Span, flaw: Flaw) {
        self.error(span.clone(), "", flaw);
        self.unread.insert(span);
    }

    pub fn warn(&mut self, span: Span, key: impl Into<String>, flaw: Flaw) {
        self.push(Severity::Warning, span, key.into(), flaw);
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The line of the file on which this byte of the part stands.
    pub fn line_of(&self, offset: usize) -> usize {
        self.before.1 + self.lines.position(offset).0
    }

    /// All of it, sorted as it stands in the file.
    pub fn finish(mut self) -> Faults {
        self.found.sort_by_key(|d| (d.span.start, d.severity));
        Faults { shown: self.found, errors: self.errors }
    }

    fn push(&mut self, severity: Severity, span: Span, key: String, flaw: Flaw) {
        if self.unread.contains(&span) || !self.seen.insert(self.hasher.hash_one((&span, &flaw.message))) {
            return;
        }
        self.errors += usize::from(severity == Severity::Error);
        // Warnings share the bound: both are one text each.
        let full = match severity {
            Severity::Error => self.errors > MAX_ERRORS,
            Severity::Warning => self.found.len() >= 2 * MAX_ERRORS,
        };
        if !full {
            self.found.push(self.diagnostic(severity, span, key, flaw));
        }
    }

    fn diagnostic(&self, severity: Severity, span: Span, key: String, flaw: Flaw) -> Diagnostic {
        let Flaw { code, message, hint } = flaw;
        let (line, column) = self.lines.position(span.start);
        let (bytes, lines) = self.before;
        let span = span.start + bytes..span.end + bytes;
        let file = self.file.to_owned();
        Diagnostic { severity, code, message, hint, file, line: lines + line, column, key, span }
    }
}

/// `text` without anything a terminal would obey: control characters, and those that turn the direction of writing.
pub(in crate::intake) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if steers(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

/// Whether a terminal would obey it: a control character, or one that turns the direction of writing.
pub(super) fn steers(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// Foreign text as it may stand in a message: visible and bounded.
pub(super) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => visible(&text[..end]) + "…",
        None => visible(text),
    }
}

/// Where the lines of a file begin.
pub(super) struct Lines<'t> {
    bytes: &'t [u8],
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub fn new(bytes: &'t [u8]) -> Self {
        let breaks = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1);
        Self { bytes, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// Line and column, both from 1; a tab is one character, a byte-order mark none.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.bytes.get(start..offset.min(self.bytes.len())).unwrap_or_default();
        let text = String::from_utf8_lossy(before);
        (line, text.trim_start_matches('\u{feff}').chars().count() + 1)
    }

    /// The bytes of the line in which `offset` stands, without its line break.
    pub fn line(&self, offset: usize) -> Span {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let end = self.starts.get(line).map_or(self.bytes.len(), |next| next - 1);
        let end = if end > start && self.bytes.get(end - 1) == Some(&b'\r') { end - 1 } else { end };
        start..end
    }
}
