//! The tables of the vocabulary: every fault by name, what it takes and what it does.

use std::borrow::Cow;

use super::{CutAt, End, GenerateFault, Instead, StatusFault, TaskFault, UrlShape, VideoFault};

/// A name in the tables below.
pub(super) struct Entry<F: 'static> {
    pub name: &'static str,
    pub make: Make<F>,
    pub meaning: &'static str,
}

/// How a fault is made of its argument.
pub(super) enum Make<F: 'static> {
    Plain(F),
    Number(&'static str, fn(u64) -> F),
    /// A number that may be left out, with its default.
    NumberOr(&'static str, u64, fn(u64) -> F),
    Text(&'static str, fn(String) -> F),
    TextOr(&'static str, &'static str, fn(String) -> F),
    OneOf(&'static str, &'static [(&'static str, F)]),
}

impl<F> Make<F> {
    /// What follows the `=`, if anything.
    pub fn argument(&self) -> Option<&'static str> {
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

const fn plain<F>(name: &'static str, fault: F, meaning: &'static str) -> Entry<F> {
    Entry { name, make: Make::Plain(fault), meaning }
}

const fn number<F>(
    name: &'static str,
    argument: &'static str,
    make: fn(u64) -> F,
    meaning: &'static str,
) -> Entry<F> {
    Entry { name, make: Make::Number(argument, make), meaning }
}

const fn text<F>(
    name: &'static str,
    argument: &'static str,
    make: fn(String) -> F,
    meaning: &'static str,
) -> Entry<F> {
    Entry { name, make: Make::Text(argument, make), meaning }
}

/// A price as far as the double can count.
fn price(credits: u64) -> u32 {
    u32::try_from(credits).unwrap_or(u32::MAX)
}

/// An answer to a submit that never comes.
const fn silence(end: End, charged: bool) -> GenerateFault {
    GenerateFault::Silence { end, charged }
}

/// An answer to a submit that breaks off.
const fn cut(at: CutAt, end: End) -> GenerateFault {
    GenerateFault::CutBody { at, end }
}

pub(super) const GENERATE: &[Entry<GenerateFault>] = {
    use GenerateFault as G;
    &[
        plain("reset-before", silence(End::Reset, false), "RST without an answer; not charged"),
        plain("reset-after", silence(End::Reset, true), "charged, then RST without an answer"),
        plain("close-before", silence(End::Eof, false), "closed without an answer; not charged"),
        plain("close-after", silence(End::Eof, true), "charged, then closed without an answer"),
        plain("hang-before", silence(End::Hang, false), "never answers; not charged"),
        plain("hang-after", silence(End::Hang, true), "charged, never answers"),
        plain("cut-body", cut(CutAt::Before, End::Eof), "charged; the body ends before the task id"),
        plain(
            "cut-body-inside-id",
            cut(CutAt::Inside, End::Eof),
            "charged; the body ends inside the task id",
        ),
        plain(
            "cut-body-after-id",
            cut(CutAt::After, End::Eof),
            "charged; it ends behind the task id's quote",
        ),
        plain("reset-body", cut(CutAt::Before, End::Reset), "charged; RST before the task id"),
        plain(
            "reset-body-after-id",
            cut(CutAt::After, End::Reset),
            "charged; RST behind the task id's quote",
        ),
        plain("stall-body", cut(CutAt::Before, End::Hang), "charged; it stops before the task id"),
        plain(
            "stall-body-after-id",
            cut(CutAt::After, End::Hang),
            "charged; it stops behind the task id's quote",
        ),
        number("padded", "BYTES", G::Padded, "charged; so many spaces follow the answer"),
        plain("no-task-id", G::NoTaskId, "200 and charged, without a task id"),
        plain("not-json", G::NotJson, "200 and charged, with a body that is not JSON"),
        number("code-in-200", "CODE", G::CodeIn200, "200 with a JSON body whose `code` is this; not charged"),
        plain("duplicate-task-id", G::DuplicateTaskId, "charged, answers with the id of an earlier task"),
        plain("no-credits-field", G::NoCreditsField, "charged, without `consumed_credits`"),
        number(
            "other-credits",
            "CREDITS",
            |credits| G::OtherCredits(price(credits)),
            "charges and reports this price",
        ),
        plain("already-success", G::AlreadySuccess, "charged, the answer already says SUCCESS"),
        plain("already-failed", G::AlreadyFailed, "charged and refunded, the answer already says FAILED"),
        Entry {
            name: "redirect",
            make: Make::OneOf(
                "301|302|303|307|308",
                &[
                    ("301", G::Redirect(301)),
                    ("302", G::Redirect(302)),
                    ("303", G::Redirect(303)),
                    ("307", G::Redirect(307)),
                    ("308", G::Redirect(308)),
                ],
            ),
            meaning: "redirects to this same endpoint, so that a client that follows pays",
        },
    ]
};

pub(super) const STATUS: &[Entry<StatusFault>] = {
    use StatusFault as S;
    &[
        plain("reset", S::Silence(End::Reset), "RST without an answer"),
        plain("close", S::Silence(End::Eof), "closed without an answer"),
        plain("hang", S::Silence(End::Hang), "never answers"),
        plain("cut-body", S::CutBody, "the body is cut in the middle"),
        number("padded", "BYTES", S::Padded, "so many spaces follow the answer"),
        plain("not-json", S::NotJson, "200 with a body that is not JSON"),
        number("code-in-200", "CODE", S::CodeIn200, "200 with a JSON body whose `code` is this"),
        text("word", "WORD", S::Word, "says this as the status whatever the true one is, and gives no video"),
        text("success-word", "WORD", |word| S::SuccessWord(word.into()), "says this in place of SUCCESS"),
        text("failed-word", "WORD", S::FailedWord, "says this in place of FAILED"),
        plain("COMPLETED", S::SuccessWord(Cow::Borrowed("COMPLETED")), "says COMPLETED in place of SUCCESS"),
        plain("SUCCEEDED", S::SuccessWord(Cow::Borrowed("SUCCEEDED")), "says SUCCEEDED in place of SUCCESS"),
        plain("lower-case", S::LowerCase, "says the status in lower case"),
        plain("success-no-url", S::SuccessNoUrl, "SUCCESS without a video"),
        plain("other-task", S::OtherTask, "answers with another task's id and video"),
        Entry {
            name: "urls",
            make: Make::OneOf(
                "array|objects|resultUrls|json-string|json-objects|json-resultUrls|bare",
                &[
                    ("array", S::Urls(UrlShape::Array)),
                    ("objects", S::Urls(UrlShape::Objects)),
                    ("resultUrls", S::Urls(UrlShape::ResultUrls)),
                    ("json-string", S::Urls(UrlShape::JsonString)),
                    ("json-objects", S::Urls(UrlShape::JsonObjects)),
                    ("json-resultUrls", S::Urls(UrlShape::JsonResultUrls)),
                    ("bare", S::Urls(UrlShape::Bare)),
                ],
            ),
            meaning: "gives the videos in this shape",
        },
        text("url", "URL", S::Url, "gives this URL in place of the video's"),
        plain("two-videos", S::TwoVideos, "the task has two videos from now on"),
        plain("stale-in-progress", S::StaleInProgress, "says IN_PROGRESS after it has said SUCCESS"),
        plain("failed-once", S::FailedOnce, "says FAILED, though the task goes on"),
        plain(
            "hide-refund",
            S::HideRefund,
            "names what was charged at first, though some of it was given back",
        ),
        plain("no-credits-field", S::NoCreditsField, "does not say what the task costs"),
        plain("no-echo", S::NoEcho, "does not echo the request"),
        plain(
            "echo-defaults",
            S::EchoDefaults,
            "echoes the request with the page's defaults filled in, and `sound`",
        ),
    ]
};

pub(super) const VIDEO: &[Entry<VideoFault>] = {
    use VideoFault as V;
    &[
        number(
            "cut",
            "BYTES",
            |after_bytes| V::Break { end: End::Eof, after_bytes },
            "the true Content-Length, closed after so many bytes",
        ),
        number(
            "reset",
            "BYTES",
            |after_bytes| V::Break { end: End::Reset, after_bytes },
            "the true Content-Length, RST behind so many bytes; it takes with it those still on their way",
        ),
        number(
            "stall",
            "BYTES",
            |after_bytes| V::Break { end: End::Hang, after_bytes },
            "the true Content-Length, nothing more after so many bytes",
        ),
        number(
            "chunked-cut",
            "BYTES",
            V::ChunkedCut,
            "chunked, properly ended after so many bytes: looks complete",
        ),
        Entry {
            name: "drip",
            make: Make::NumberOr("MS", 10, V::Drip),
            meaning: "one KiB at a time, with this pause between (10 by itself)",
        },
        plain("html", V::Instead(Instead::Html), "200 with an HTML page"),
        plain("json", V::Instead(Instead::Json), "200 with JSON"),
        plain("xml", V::Instead(Instead::Xml), "200 with an XML error"),
        plain("empty", V::Instead(Instead::Empty), "200 with zero bytes"),
        plain("not-mp4", V::Instead(Instead::NotMp4), "200, video/mp4 by its type, prose by its bytes"),
        number("redirect", "HOPS", V::Redirect, "the video after so many redirects"),
        plain("redirect-loop", V::RedirectLoop, "redirects for ever"),
        text("redirect-to", "URL", V::RedirectTo, "redirects there, verbatim"),
        plain("etag-changed", V::EtagChanged, "the file is another from now on, with another ETag"),
        plain("ignore-range", V::IgnoreRange, "200 and the whole file, though a range was asked"),
        plain("wrong-content-range", V::WrongContentRange, "206 with another range than was asked"),
        number("lie-long", "BYTES", V::LieLong, "Content-Length says so many bytes too many"),
        number(
            "lie-short",
            "BYTES",
            V::LieShort,
            "Content-Length says so many bytes too few; only those come",
        ),
        plain("gzip", V::Gzip, "claims Content-Encoding: gzip; the bytes are the video's"),
    ]
};

pub(super) const TASK: &[Entry<TaskFault>] = &[
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
    number(
        "fail-keep",
        "CREDITS",
        |credits| TaskFault::FailKeeping(price(credits)),
        "ends FAILED; all but so many credits go back",
    ),
    number(
        "settle",
        "CREDITS",
        |credits| TaskFault::Settle(price(credits)),
        "ends SUCCESS and costs so many credits in the end",
    ),
    plain("never", TaskFault::Never, "stays IN_PROGRESS for ever"),
    plain("no-sound", TaskFault::NoSound, "the video has no sound track, though it was asked for"),
    plain("other-length", TaskFault::OtherLength, "the video is a second shorter or longer than was asked"),
];

/// What a failed task says when the rule does not.
const FAILURE: &str = "The video could not be generated. Please try again later.";
