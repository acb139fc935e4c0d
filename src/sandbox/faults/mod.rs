//! The fault language: what may go wrong at the double, and when.
//!
//! A rule reads `POINT:FAULT[=ARG][@N|@N-M|@*][%PERCENT][~PROMPT-SUBSTRING]`; rules are separated by commas or newlines.
//!
//! - Without `@` a rule fires once: at the next matching call that no rule before it took. So `generate:500,generate:503`
//!   spoils the first call and the second. With `%` and no `@` it may fire at any call.
//! - `@3`, `@2-5`, `@*` count the matching calls from the moment the rule was added; the first rule that is due wins.
//! - `slow` goes with any other fault: `generate:slow=60000,generate:close-after` is the classic lost answer.
//! - ARG and the prompt may stand in double quotes, with `\"` and `\\` inside, when they contain `@ % ~ ,`.
//!
//! A call *matches* only where the fault can show: a fault of `generate` needs a call that would have been accepted, a
//! fault of `video` that cuts after 5,000 bytes needs an answer longer than that. So what fired was seen by the client.
//!
//! This module is pure. It holds what the words mean as data; `model` acts on it.

mod parse;
mod plan;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use parse::{FaultError, FaultErrorKind};
pub(super) use plan::Plan;
pub use words::{Word, vocabulary};

/// A list of rules, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    /// No faults: the provider on a good day.
    pub fn none() -> Self {
        Self::default()
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// One rule: a fault and the calls it spoils.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `POINT:FAULT[=ARG]`: what [`fired`](super::Sandbox::fired) counts under.
    pub name: String,
    /// Which of the matching calls.
    pub when: When,
    /// The chance that a due call is spoiled, in percent; the seed decides.
    pub percent: u8,
    /// Only calls whose prompt contains this.
    pub prompt: Option<String>,
    pub(super) fault: Fault,
}

/// Which of the matching calls a rule spoils.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// Once: the next one that no earlier rule takes.
    Next,
    /// These, counted from one.
    Calls(RangeInclusive<u64>),
    /// Each.
    Always,
}

/// Where in the provider's work something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The answer to `POST /api/generate`.
    Generate,
    /// The answer to `GET /api/status`.
    Status,
    /// The answer to the download of a video.
    Video,
    /// The rendering itself.
    Task,
}

impl Point {
    /// Every point, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Generate, Self::Status, Self::Video, Self::Task];

    /// The word in a rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Status => "status",
            Self::Video => "video",
            Self::Task => "task",
        }
    }
}

/// What goes wrong. `Slow` stands apart, since it goes with any of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Slow { point: Point, delay: Duration },
    Generate(GenerateFault),
    Status(StatusFault),
    Video(VideoFault),
    Task(TaskFault),
}

/// What may happen to a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GenerateFault {
    Http(HttpFault),
    Redirect(u16),
    Silence {
        end: End,
        charged: bool,
    },
    /// The head announces the whole body; the connection ends so at that place.
    CutBody {
        at: CutAt,
        end: End,
    },
    Padded(u64),
    NoTaskId,
    NotJson,
    CodeIn200(u64),
    DuplicateTaskId,
    NoCreditsField,
    OtherCredits(u32),
    AlreadySuccess,
    AlreadyFailed,
}

/// Where the answer to a submit is cut, seen from the task id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutAt {
    Before,
    Inside,
    After,
}

/// What may happen to a status call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StatusFault {
    Http(HttpFault),
    Silence(End),
    CutBody,
    Padded(u64),
    NotJson,
    CodeIn200(u64),
    /// Any word in place of the true one, nothing finished.
    Word(String),
    SuccessWord(Cow<'static, str>),
    FailedWord(String),
    LowerCase,
    SuccessNoUrl,
    OtherTask,
    Urls(UrlShape),
    /// This URL in place of the video's.
    Url(String),
    TwoVideos,
    StaleInProgress,
    FailedOnce,
    HideRefund,
    NoCreditsField,
    NoEcho,
    EchoDefaults,
}

/// The shapes of `response` met in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlShape {
    Array,
    Objects,
    ResultUrls,
    JsonString,
    JsonObjects,
    JsonResultUrls,
    Bare,
}

/// What may happen to a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VideoFault {
    Http(HttpFault),
    /// The connection ends so after that many bytes of the body.
    Break {
        end: End,
        after_bytes: u64,
    },
    ChunkedCut(u64),
    Drip(u64),
    Instead(Instead),
    Redirect(u64),
    RedirectLoop,
    RedirectTo(String),
    EtagChanged,
    IgnoreRange,
    WrongContentRange,
    LieLong(u64),
    LieShort(u64),
    Gzip,
}

/// What comes with a 200 in place of the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    Html,
    Json,
    Xml,
    Empty,
    NotMp4,
}

/// What may happen to a task while it renders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TaskFault {
    Fail {
        message: String,
        refund: bool,
    },
    /// Fails, and so many credits are not given back.
    FailKeeping(u32),
    /// Succeeds, and costs so many credits in the end.
    Settle(u32),
    Never,
    NoSound,
    OtherLength,
}

/// How a connection ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Closed: the client reads the end of the stream.
    Eof,
    /// RST: the client reads `ECONNRESET`.
    Reset,
    /// Nothing more, and the connection stays until the client leaves.
    Hang,
}

/// An answer with an HTTP status from 400 to 599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpFault {
    pub status: u16,
    pub body: ErrorBody,
    /// The task was created and paid for behind this answer.
    pub charged: bool,
    /// `Retry-After` of 429 and 503, verbatim; the `code` of any other status.
    pub argument: Option<String>,
}

/// The body of such an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorBody {
    /// The API's own JSON error, with its documented word where there is one.
    Own,
    /// The API's own shape with a number as `code`.
    Number,
    /// JSON, but a gateway's.
    Foreign,
    Html,
    Empty,
    /// The API's shape, no documented code, and a message about the account's balance.
    Credits,
    /// The API's shape, and a message about parallel tasks.
    Parallel,
    /// The API's shape, no documented code, and the request echoed.
    Echo,
    /// The API's shape, and the id of a task that was created all the same.
    TaskId,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.rules.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            rule.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.when {
            When::Next => {}
            When::Calls(calls) if calls.start() == calls.end() => write!(f, "@{}", calls.start())?,
            When::Calls(calls) => write!(f, "@{}-{}", calls.start(), calls.end())?,
            When::Always => f.write_str("@*")?,
        }
        if self.percent < 100 {
            write!(f, "%{}", self.percent)?;
        }
        match &self.prompt {
            Some(prompt) => write!(f, "~{}", parse::quoted(prompt)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
