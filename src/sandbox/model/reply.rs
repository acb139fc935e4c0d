//! What the double answers, down to the byte at which the connection breaks: all of it is decided here, so that the HTTP
//! skin has nothing left to choose.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

pub(in crate::sandbox) use crate::sandbox::faults::End;
use crate::sandbox::faults::{ErrorBody, HttpFault};
use crate::sandbox::video::Video;

/// One answer.
#[derive(Debug)]
pub(in crate::sandbox) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload,
    pub delay: Duration,
    pub delivery: Delivery,
}

/// The body.
#[derive(Debug, Clone)]
pub(in crate::sandbox) enum Payload {
    Text(String),
    Video { video: Video, range: Range<u64> },
}

/// How the body reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Delivery {
    /// Whole, with its length announced.
    Whole,
    /// Not a byte, the head included.
    Silence(End),
    /// `announced` is the Content-Length; the connection ends after `sent` bytes.
    Broken { announced: u64, sent: u64, end: End },
    /// No length announced, properly ended after `sent` bytes.
    Chunked { sent: u64 },
    /// Whole, a KiB at a time with this pause between.
    Drip(Duration),
}

impl Payload {
    pub fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Video { range, .. } => range.end - range.start,
        }
    }

    /// The first bytes of this part of it, as many as are at hand in one piece.
    pub fn chunk(&self, part: Range<u64>) -> Bytes {
        match self {
            Self::Text(text) => {
                let index = |at| usize::try_from(at).unwrap_or(usize::MAX);
                Bytes::copy_from_slice(
                    text.as_bytes().get(index(part.start)..index(part.end)).unwrap_or_default(),
                )
            }
            Self::Video { video, range } => video.chunk(range.start + part.start..range.start + part.end),
        }
    }
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", body.to_string())
    }

    pub fn text(status: u16, content_type: &str, body: String) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        let payload = Payload::Text(body);
        Self { status, headers, payload, delay: Duration::ZERO, delivery: Delivery::Whole }
    }

    /// `{"code":200,"message":"success","data":…}`, as on the page.
    pub fn success(data: &Value) -> Self {
        Self::json(200, &json!({"code": 200, "message": "success", "data": data}))
    }

    pub fn silence(end: End) -> Self {
        let mut reply = Self::text(200, "text/plain", String::new());
        reply.delivery = Delivery::Silence(end);
        reply
    }

    pub fn html(status: u16) -> Self {
        let reason = reason(status);
        let page = format!(
            "<!DOCTYPE html>\n<html><head><title>{status} {reason}</title></head>\n\
             <body><center><h1>{status} {reason}</h1></center><hr><center>cloudflare</center></body></html>\n"
        );
        Self::text(status, "text/html; charset=UTF-8", page)
    }

    /// HTTP 200 whose JSON says otherwise.
    pub fn code_in_200(code: u64) -> Self {
        let message = match code {
            401 => "API key is missing or invalid",
            402 => "insufficient credits",
            429 => "too many requests, please try again later",
            500 => "server error, please try again later",
            _ => "error",
        };
        Self::json(200, &json!({"code": code, "message": message, "data": null}))
    }

    pub fn not_json() -> Self {
        Self::text(200, "text/plain; charset=utf-8", "OK {\"code\":200,".to_owned())
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn delayed(mut self, delay: Option<Duration>) -> Self {
        self.delay = delay.unwrap_or_default();
        self
    }

    /// The same answer, its connection ended after `sent` bytes of the body.
    pub fn broken(mut self, sent: u64, end: End) -> Self {
        self.delivery = Delivery::Broken { announced: self.payload.len(), sent, end };
        self
    }

    /// The same answer, and so many spaces behind it, which JSON allows.
    pub fn padded(mut self, bytes: u64) -> Self {
        /// Enough to break a client without a limit, and little enough for the machine that runs the test.
        const MOST: u64 = 256 * 1024 * 1024;
        if let Payload::Text(body) = &mut self.payload {
            body.extend(std::iter::repeat_n(' ', usize::try_from(bytes.min(MOST)).unwrap_or_default()));
        }
        self
    }
}

/// A documented refusal, or one of the few the page does not speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    InvalidPrompt,
    InvalidDuration,
    InvalidType,
    MissingImage,
    MissingVideo,
    InvalidApiKey,
    InsufficientCredits,
    RateLimited {
        retry_after_s: Option<u64>,
    },
    TooManyTasks,
    /// Something that the page rules out without giving it a code.
    Malformed(String),
    NotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
}

impl Refusal {
    pub fn reply(&self) -> Reply {
        let (status, message) = match self {
            Self::InvalidPrompt => (400, "the prompt is invalid or empty"),
            Self::InvalidDuration => (400, "the duration is out of the supported range"),
            Self::InvalidType => (400, "unsupported task type"),
            Self::MissingImage => (400, "image-to-video tasks need an image"),
            Self::MissingVideo => (400, "video edit tasks need a video"),
            Self::InvalidApiKey => (401, "the API key is missing or invalid"),
            Self::InsufficientCredits => (402, "not enough credits"),
            Self::RateLimited { .. } => (429, "too many requests, please try again later"),
            Self::TooManyTasks => (429, PARALLEL),
            Self::Malformed(message) => (400, message.as_str()),
            Self::NotFound => (404, "not found"),
            Self::MethodNotAllowed { .. } => (405, "method not allowed"),
        };
        let reply = own_error(status, self.code(), message);
        match self {
            Self::RateLimited { retry_after_s: Some(seconds) } => {
                reply.with_header("retry-after", seconds.to_string())
            }
            Self::MethodNotAllowed { allow } => reply.with_header("allow", *allow),
            Self::RateLimited { retry_after_s: None }
            | Self::InvalidPrompt
            | Self::InvalidDuration
            | Self::InvalidType
            | Self::MissingImage
            | Self::MissingVideo
            | Self::InvalidApiKey
            | Self::InsufficientCredits
            | Self::TooManyTasks
            | Self::Malformed(_)
            | Self::NotFound => reply,
        }
    }

    /// The documented word.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::InvalidPrompt => Some("INVALID_PROMPT"),
            Self::InvalidDuration => Some("INVALID_DURATION"),
            Self::InvalidType => Some("INVALID_TYPE"),
            Self::MissingImage => Some("MISSING_IMAGE"),
            Self::MissingVideo => Some("MISSING_VIDEO"),
            Self::InvalidApiKey => Some("INVALID_API_KEY"),
            Self::InsufficientCredits => Some("INSUFFICIENT_CREDITS"),
            Self::RateLimited { .. } | Self::TooManyTasks => Some("RATE_LIMITED"),
            Self::Malformed(_) | Self::NotFound | Self::MethodNotAllowed { .. } => None,
        }
    }
}

const PARALLEL: &str = "too many parallel tasks: wait for one of your concurrent tasks to finish";

/// The API's own JSON error. The page shows no example: its table says `code`, its success has a number there.
fn own_error(status: u16, code: Option<&str>, message: &str) -> Reply {
    let code = code.map_or_else(|| json!(status), |word| json!(word));
    Reply::json(status, &json!({"code": code, "message": message, "data": null}))
}

/// What a submit's error may quote.
pub(super) struct Quotes<'a> {
    pub request: Value,
    pub task_id: Option<&'a str>,
}

/// The answer of an HTTP fault of the API.
pub(super) fn api_fault(fault: &HttpFault, quotes: Quotes<'_>) -> Reply {
    let HttpFault { status, body, charged: _, argument } = fault;
    let status = *status;
    let retry_after = argument.as_deref().filter(|_| takes_retry_after(status));
    let code = argument.as_deref().filter(|_| !takes_retry_after(status)).or(documented(status));
    let message = match status {
        500 => "server error, please try again later",
        _ => reason(status),
    };
    let plain = |message: &str, data: Value| {
        Reply::json(status, &json!({"code": status, "message": message, "data": data}))
    };
    let reply = match body {
        ErrorBody::Own => own_error(status, code, message),
        ErrorBody::Number => plain(message, Value::Null),
        ErrorBody::Foreign => {
            Reply::json(status, &json!({"error": {"type": "upstream_error", "message": reason(status)}}))
        }
        ErrorBody::Html => Reply::html(status),
        ErrorBody::Empty => Reply::text(status, "text/plain", String::new()),
        ErrorBody::Credits => plain("Your account balance is not enough, please recharge.", Value::Null),
        ErrorBody::Parallel => own_error(status, code, PARALLEL),
        ErrorBody::Echo => plain("the request was not understood", json!({"request": quotes.request})),
        ErrorBody::TaskId => Reply::json(
            status,
            &json!({"code": code.unwrap_or("ERROR"), "message": message, "data": {"task_id": quotes.task_id}}),
        ),
    };
    match retry_after {
        Some(value) => reply.with_header("retry-after", value),
        None => reply,
    }
}

/// The answer of an HTTP fault of the place where the videos are.
pub(super) fn media_fault(fault: &HttpFault) -> Reply {
    let status = fault.status;
    let reply = match fault.body {
        ErrorBody::Html => Reply::html(status),
        ErrorBody::Empty => Reply::text(status, "text/plain", String::new()),
        ErrorBody::Foreign | ErrorBody::Number => {
            Reply::json(status, &json!({"error": {"code": status, "message": reason(status)}}))
        }
        ErrorBody::Own | ErrorBody::Credits | ErrorBody::Parallel | ErrorBody::Echo | ErrorBody::TaskId => {
            media_error(status, reason(status))
        }
    };
    match fault.argument.as_deref().filter(|_| takes_retry_after(status)) {
        Some(value) => reply.with_header("retry-after", value),
        None => reply,
    }
}

/// An error in the XML of object stores.
pub(super) fn media_error(status: u16, message: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{status}</Code><Message>{message}</Message></Error>"
    );
    Reply::text(status, "application/xml", body)
}

fn takes_retry_after(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// The word that the page has for a status.
fn documented(status: u16) -> Option<&'static str> {
    match status {
        400 => Some("INVALID_PROMPT"),
        401 => Some("INVALID_API_KEY"),
        402 => Some("INSUFFICIENT_CREDITS"),
        429 => Some("RATE_LIMITED"),
        500 => Some("INTERNAL_ERROR"),
        _ => None,
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        520 => "Web Server Returned an Unknown Error",
        522 => "Connection Timed Out",
        524 => "A Timeout Occurred",
        _ => http::StatusCode::from_u16(status)
            .ok()
            .and_then(|code| code.canonical_reason())
            .unwrap_or("Error"),
    }
}
