//! The vocabulary: every fault by name, what it takes and what it does. The parser and the help read the same tables.

use std::time::Duration;

use super::{
    CutAt, End, ErrorBody, Fault, GenerateFault, HttpFault, Instead, Point, StatusFault, TaskFault, UrlShape,
    VideoFault,
};

/// One fault of the language, for help texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Where it happens.
    pub point: Point,
    /// Its name.
    pub name: &'static str,
    /// What follows the `=`, if anything.
    pub argument: Option<&'static str>,
    /// What it does.
    pub meaning: &'static str,
}

/// Every named fault. Beside these, `generate`, `status` and `video` take any HTTP status from 400 to 599: `503`,
/// `503-html`, `503-empty`, `503-foreign`, `503-number`; `generate` also `-credits`, `-parallel`, `-echo`, `-task-id` and, after
/// any of them, `-charged`. `=ARG` is the `Retry-After` of 429 and 503, and the `code` of the others.
pub fn vocabulary() -> Vec<Word> {
    fn words<F>(point: Point, entries: &'static [Entry<F>]) -> impl Iterator<Item = Word> {
        entries.iter().map(move |entry| Word {
            point,
            name: entry.name,
            argument: entry.make.argument(),
            meaning: entry.meaning,
        })
    }
    let slow = Point::ALL.into_iter().map(|point| Word {
        point,
        name: SLOW,
        argument: Some("MS"),
        meaning: "answers (task: renders) only after so long; goes with any other fault",
    });
    slow.chain(words(Point::Generate, GENERATE))
        .chain(words(Point::Status, STATUS))
        .chain(words(Point::Video, VIDEO))
        .chain(words(Point::Task, TASK))
        .collect()
}

/// Why a fault could not be made of a name and an argument.
pub(super) enum Unfit {
    Unknown,
    /// It wants this as its argument (nothing, if empty).
    Wants(String),
}

/// The name that goes with all points.
const SLOW: &str = "slow";

/// The fault that `name` means at `point`.
pub(super) fn fault(point: Point, name: &str, argument: Option<&str>) -> Result<Fault, Unfit> {
    if name == SLOW {
        let delay = argument.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        return delay.map(|delay| Fault::Slow { point, delay }).ok_or_else(|| Unfit::Wants("MS".to_owned()));
    }
    // An argument may become a header.
    if point != Point::Task && argument.is_some_and(|text| text.contains(char::is_control)) {
        return Err(Unfit::Wants("text without control characters".to_owned()));
    }
    match point {
        Point::Generate => match http(point, name, argument) {
            Some(Http::Fault(fault)) => Ok(Fault::Generate(GenerateFault::Http(fault))),
            Some(Http::Redirect(status)) => Ok(Fault::Generate(GenerateFault::Redirect(status))),
            None => look_up(GENERATE, name, argument).map(Fault::Generate),
        },
        Point::Status => match http(point, name, argument) {
            Some(Http::Fault(fault)) => Ok(Fault::Status(StatusFault::Http(fault))),
            Some(Http::Redirect(_)) => Err(Unfit::Unknown),
            None => look_up(STATUS, name, argument).map(Fault::Status),
        },
        Point::Video => match http(point, name, argument) {
            Some(Http::Fault(fault)) => Ok(Fault::Video(VideoFault::Http(fault))),
            Some(Http::Redirect(_)) => Err(Unfit::Unknown),
            None => look_up(VIDEO, name, argument).map(Fault::Video),
        },
        Point::Task => look_up(TASK, name, argument).map(Fault::Task),
    }
}

enum Http {
    Fault(HttpFault),
    Redirect(u16),
}

/// `503`, `502-html`, `500-task-id`, `504-empty-charged`, … or nothing if `name` is not of that form.
fn http(point: Point, name: &str, argument: Option<&str>) -> Option<Http> {
    let (digits, suffix) = name.split_at_checked(3)?;
    let status: u16 = digits.parse().ok()?;
    if point == Point::Generate && suffix.is_empty() && REDIRECTS.contains(&status) {
        return Some(Http::Redirect(status));
    }
    let (suffix, charged) = match suffix.strip_suffix("-charged") {
        Some(rest) => (rest, true),
        None => (suffix, false),
    };
    let body = match suffix {
        "" => ErrorBody::Own,
        "-number" => ErrorBody::Number,
        "-foreign" => ErrorBody::Foreign,
        "-html" => ErrorBody::Html,
        "-empty" => ErrorBody::Empty,
        "-credits" => ErrorBody::Credits,
        "-parallel" => ErrorBody::Parallel,
        "-echo" => ErrorBody::Echo,
        "-task-id" => ErrorBody::TaskId,
        _ => return None,
    };
    let of_submits =
        matches!(body, ErrorBody::Credits | ErrorBody::Parallel | ErrorBody::Echo | ErrorBody::TaskId);
    if !(400..=599).contains(&status) || (point != Point::Generate && (charged || of_submits)) {
        return None;
    }
    // An answer with a task id means that the task is there.
    let charged = charged || body == ErrorBody::TaskId;
    Some(Http::Fault(HttpFault { status, body, charged, argument: argument.map(str::to_owned) }))
}

/// The statuses of a moved endpoint.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// A name in the tables below.
struct Entry<F: 'static> {
    name: &'static str,
    make: Make<F>,
    meaning: &'static str,
}

/// How a fault is made of its argument.
enum Make<F: 'static> {
    Plain(F),
    Number(&'static str, fn(u64) -> F),
    /// A number that may be left out, with its default.
    NumberOr(&'static str, u64, fn(u64) -> F),
    Text(&'static str, fn(String) -> F),
    TextOr(&'static str, &'static str, fn(String) -> F),
    OneOf(&'static str, &'static [(&'static str, F)]),
}

impl<F> Make<F> {
    fn argument(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) => None,
            Self::Number(argument, _)
            | Self::NumberOr(argument, _, _)
            | Self::Text(argument, _)
            | Self::TextOr(argument, _, _)
            | Self::OneOf(argument, _) => Some(argument),
        }
    }
}

fn look_up<F: Clone>(entries: &[Entry<F>], name: &str, argument: Option<&str>) -> Result<F, Unfit> {
    let entry = entries.iter().find(|entry| entry.name == name).ok_or(Unfit::Unknown)?;
    let made = match (&entry.make, argument) {
        (Make::Plain(fault), None) => Some(fault.clone()),
        (Make::NumberOr(_, default, make), None) => Some(make(*default)),
        (Make::TextOr(_, default, make), None) => Some(make((*default).to_owned())),
        (Make::Number(_, make) | Make::NumberOr(_, _, make), Some(text)) => text.parse().ok().map(make),
        (Make::Text(_, make) | Make::TextOr(_, _, make), Some(text)) => Some(make(text.to_owned())),
        (Make::OneOf(_, choices), Some(text)) => {
            choices.iter().find(|(choice, _)| *choice == text).map(|(_, fault)| fault.clone())
        }
        (Make::Plain(_), Some(_)) | (Make::Number(..) | Make::Text(..) | Make::OneOf(..), None) => None,
    };
    made.ok_or_else(|| Unfit::Wants(entry.make.argument().unwrap_or_default().to_owned()))
}

const fn plain<F>(name: &'static str, fault: F, meaning: &'static str) -> Entry<F> {
    Entry { name, make: Make::Plain(fault), meaning }
}

const GENERATE: &[Entry<GenerateFault>] = {
    use GenerateFault::{
        AlreadyFailed, AlreadySuccess, CodeIn200, CutBody, DuplicateTaskId, NoCreditsField, NoTaskId,
        NotJson, OtherCredits, Redirect, Silence,
    };
    &[
        plain(
            "reset-before",
            Silence { end: End::Reset, charged: false },
            "RST without an answer; not charged",
        ),
        plain(
            "reset-after",
            Silence { end: End::Reset, charged: true },
            "charged, then RST without an answer",
        ),
        plain(
            "close-before",
            Silence { end: End::Eof, charged: false },
            "closed without an answer; not charged",
        ),
        plain(
            "close-after",
            Silence { end: End::Eof, charged: true },
            "charged, then closed without an answer",
        ),
        plain("hang-before", Silence { end: End::Hang, charged: false }, "never answers; not charged"),
        plain("hang-after", Silence { end: End::Hang, charged: true }, "charged, never answers"),
        plain("cut-body", CutBody(CutAt::Before), "charged; the body is cut before the task id"),
        plain("cut-body-inside-id", CutBody(CutAt::Inside), "charged; the body is cut inside the task id"),
        plain(
            "cut-body-after-id",
            CutBody(CutAt::After),
            "charged; the body is cut after the task id's closing quote",
        ),
        plain("no-task-id", NoTaskId, "200 and charged, without a task id"),
        plain("not-json", NotJson, "200 and charged, with a body that is not JSON"),
        Entry {
            name: "code-in-200",
            make: Make::Number("CODE", CodeIn200),
            meaning: "200 with a JSON body whose `code` is this; not charged",
        },
        plain("duplicate-task-id", DuplicateTaskId, "charged, answers with the id of an earlier task"),
        plain("no-credits-field", NoCreditsField, "charged, without `consumed_credits`"),
        Entry {
            name: "other-credits",
            make: Make::Number("CREDITS", |credits| OtherCredits(u32::try_from(credits).unwrap_or(u32::MAX))),
            meaning: "charges and reports this price",
        },
        plain("already-success", AlreadySuccess, "charged, the answer already says SUCCESS"),
        plain("already-failed", AlreadyFailed, "charged and refunded, the answer already says FAILED"),
        Entry {
            name: "redirect",
            make: Make::OneOf(
                "301|302|303|307|308",
                &[
                    ("301", Redirect(301)),
                    ("302", Redirect(302)),
                    ("303", Redirect(303)),
                    ("307", Redirect(307)),
                    ("308", Redirect(308)),
                ],
            ),
            meaning: "redirects to this same endpoint, so that a client that follows pays",
        },
    ]
};

const STATUS: &[Entry<StatusFault>] = {
    use StatusFault::{
        CodeIn200, CutBody, EchoDefaults, FailedOnce, FailedWord, LowerCase, NoEcho, NotJson, OtherTask,
        Silence, StaleInProgress, SuccessNoUrl, SuccessWord, TwoVideos, Urls, Word,
    };
    &[
        plain("reset", Silence(End::Reset), "RST without an answer"),
        plain("close", Silence(End::Eof), "closed without an answer"),
        plain("hang", Silence(End::Hang), "never answers"),
        plain("cut-body", CutBody, "the body is cut in the middle"),
        plain("not-json", NotJson, "200 with a body that is not JSON"),
        Entry {
            name: "code-in-200",
            make: Make::Number("CODE", CodeIn200),
            meaning: "200 with a JSON body whose `code` is this",
        },
        Entry {
            name: "word",
            make: Make::Text("WORD", Word),
            meaning: "says this as the status, whatever the task's true one is, and gives no video",
        },
        Entry {
            name: "success-word",
            make: Make::Text("WORD", SuccessWord),
            meaning: "says this in place of SUCCESS",
        },
        Entry {
            name: "failed-word",
            make: Make::Text("WORD", FailedWord),
            meaning: "says this in place of FAILED",
        },
        Entry {
            name: "COMPLETED",
            make: Make::TextOr("WORD", "COMPLETED", SuccessWord),
            meaning: "says COMPLETED in place of SUCCESS",
        },
        Entry {
            name: "SUCCEEDED",
            make: Make::TextOr("WORD", "SUCCEEDED", SuccessWord),
            meaning: "says SUCCEEDED in place of SUCCESS",
        },
        plain("lower-case", LowerCase, "says the status in lower case"),
        plain("success-no-url", SuccessNoUrl, "SUCCESS without a video"),
        plain("other-task", OtherTask, "answers with another task's id and video"),
        Entry {
            name: "urls",
            make: Make::OneOf(
                "array|objects|resultUrls|json-string|json-objects|json-resultUrls|bare",
                &[
                    ("array", Urls(UrlShape::Array)),
                    ("objects", Urls(UrlShape::Objects)),
                    ("resultUrls", Urls(UrlShape::ResultUrls)),
                    ("json-string", Urls(UrlShape::JsonString)),
                    ("json-objects", Urls(UrlShape::JsonObjects)),
                    ("json-resultUrls", Urls(UrlShape::JsonResultUrls)),
                    ("bare", Urls(UrlShape::Bare)),
                ],
            ),
            meaning: "gives the videos in this shape",
        },
        plain("two-videos", TwoVideos, "the task has two videos from now on"),
        plain("stale-in-progress", StaleInProgress, "says IN_PROGRESS after it has said SUCCESS"),
        plain("failed-once", FailedOnce, "says FAILED, though the task goes on"),
        plain("no-echo", NoEcho, "does not echo the request"),
        plain(
            "echo-defaults",
            EchoDefaults,
            "echoes the request with the page's defaults filled in, `sound` too",
        ),
    ]
};

const VIDEO: &[Entry<VideoFault>] = {
    use VideoFault::{
        ChunkedCut, Drip, EtagChanged, Gzip, IgnoreRange, LieLong, LieShort, Redirect, RedirectLoop,
        RedirectTo, WrongContentRange,
    };
    &[
        Entry {
            name: "cut",
            make: Make::Number("BYTES", |after_bytes| VideoFault::Break { end: End::Eof, after_bytes }),
            meaning: "the true Content-Length, closed after so many bytes",
        },
        Entry {
            name: "reset",
            make: Make::Number("BYTES", |after_bytes| VideoFault::Break { end: End::Reset, after_bytes }),
            meaning: "the true Content-Length, RST after so many bytes",
        },
        Entry {
            name: "stall",
            make: Make::Number("BYTES", |after_bytes| VideoFault::Break { end: End::Hang, after_bytes }),
            meaning: "the true Content-Length, nothing more after so many bytes",
        },
        Entry {
            name: "chunked-cut",
            make: Make::Number("BYTES", ChunkedCut),
            meaning: "chunked, properly ended after so many bytes: looks complete",
        },
        Entry {
            name: "drip",
            make: Make::NumberOr("MS", 10, Drip),
            meaning: "one KiB at a time, with this pause between",
        },
        plain("html", VideoFault::Instead(Instead::Html), "200 with an HTML page"),
        plain("json", VideoFault::Instead(Instead::Json), "200 with JSON"),
        plain("xml", VideoFault::Instead(Instead::Xml), "200 with an XML error"),
        plain("empty", VideoFault::Instead(Instead::Empty), "200 with zero bytes"),
        plain(
            "not-mp4",
            VideoFault::Instead(Instead::NotMp4),
            "200, video/mp4 by its type, noise by its bytes",
        ),
        Entry {
            name: "redirect",
            make: Make::Number("HOPS", Redirect),
            meaning: "the video after so many redirects",
        },
        plain("redirect-loop", RedirectLoop, "redirects for ever"),
        Entry {
            name: "redirect-to",
            make: Make::Text("URL", RedirectTo),
            meaning: "redirects there, verbatim",
        },
        plain("etag-changed", EtagChanged, "the file is another from now on, with another ETag"),
        plain("ignore-range", IgnoreRange, "200 and the whole file, though a range was asked"),
        plain("wrong-content-range", WrongContentRange, "206 with another range than was asked"),
        Entry {
            name: "lie-long",
            make: Make::Number("BYTES", LieLong),
            meaning: "Content-Length says so many bytes too many",
        },
        Entry {
            name: "lie-short",
            make: Make::Number("BYTES", LieShort),
            meaning: "Content-Length says so many bytes too few, and only those come",
        },
        plain("gzip", Gzip, "claims Content-Encoding: gzip; the bytes are the video's"),
    ]
};

const TASK: &[Entry<TaskFault>] = &[
    Entry {
        name: "fail",
        make: Make::TextOr("MESSAGE", FAILURE, |message| TaskFault::Fail { message, refund: true }),
        meaning: "ends FAILED with this message, refunded",
    },
    Entry {
        name: "fail-no-refund",
        make: Make::TextOr("MESSAGE", FAILURE, |message| TaskFault::Fail { message, refund: false }),
        meaning: "ends FAILED with this message, not refunded",
    },
    plain("never", TaskFault::Never, "stays IN_PROGRESS for ever"),
    plain("no-sound", TaskFault::NoSound, "the video has no sound track, though it was asked for"),
];

/// What a failed task says when the rule does not.
const FAILURE: &str = "The video could not be generated. Please try again later.";
