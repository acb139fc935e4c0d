//! The provider's JSON, in every shape that was met (provider.md).
//!
//! Lenient: fields may be missing, nested elsewhere, or text where a number belongs. What none of the shapes fits is
//! absent, never guessed. What it means is `classify`'s.

use serde_json::{Map, Value};

use super::{task_id, text::clean};
use crate::domain::{Credits, Timestamp, adopt::Echo, plan::poll::MAX_OUTPUTS};

/// How deep result links may be nested, JSON within strings included. The deepest shape met has four levels.
const MAX_LINK_DEPTH: u32 = 8;
/// Keys that hold links to videos, or lead to them. Others (covers, watermarked copies, inputs) are not results.
const LINK_KEYS: [&str; 16] = [
    "response",
    "url",
    "urls",
    "video",
    "videos",
    "video_url",
    "videoUrl",
    "resultUrls",
    "result_urls",
    "resultJson",
    "result",
    "results",
    "output",
    "outputs",
    "works",
    "task_result",
];
/// Where a task's status word stands, by preference.
const WORD_KEYS: [&str; 4] = ["status", "task_status", "taskStatus", "state"];
/// Where a task's results stand, by preference.
const RESULT_KEYS: [&str; 8] =
    ["response", "task_result", "resultJson", "resultUrls", "result", "output", "videos", "video_url"];
/// Where a failed task says why, by preference.
const TASK_ERRORS: [&str; 7] = [
    "/error_message",
    "/errorMessage",
    "/fail_reason",
    "/failMsg",
    "/task_status_msg",
    "/error/message",
    "/error",
];
/// Where an error's code stands, by preference.
const CODES: [&str; 7] =
    ["/code", "/error/code", "/error_code", "/errorCode", "/error", "/message", "/error/message"];
/// Where an error's sentence stands, by preference.
const MESSAGES: [&str; 7] =
    ["/message", "/error/message", "/msg", "/error_message", "/data/error_message", "/error", "/detail"];
/// Where an answer repeats what was asked for.
const ECHOED_PROMPTS: [&str; 8] = [
    "/prompt",
    "/negative_prompt",
    "/request/prompt",
    "/request/negative_prompt",
    "/data/prompt",
    "/data/negative_prompt",
    "/data/request/prompt",
    "/data/request/negative_prompt",
];
/// Where the price stands.
const CHARGES: [&str; 4] =
    ["/data/consumed_credits", "/data/0/consumed_credits", "/consumed_credits", "/data/consumedCredits"];
/// What one render may cost at most to be believed: a million times the dearest of the page. Sums over millions of
/// attempts stay far below what the ledger can hold.
const MOST_CREDITS: u64 = 1_000_000_000;
/// Open brackets of a cut answer that are closed again. The page's answers have two.
const MAX_CUT_DEPTH: usize = 32;

/// What a status answer tells of a task.
#[derive(Debug, PartialEq)]
pub(super) struct Task {
    /// The task that it speaks of, if it says so.
    pub id: Option<String>,
    /// The status word as it came.
    pub word: Option<String>,
    /// The videos, byte for byte.
    pub urls: Vec<String>,
    /// What it charged.
    pub charged: Option<Credits>,
    /// Why it failed, in the provider's words.
    pub error: Option<String>,
    /// What it repeats of the request.
    pub echo: Echo,
}

/// The body as a JSON object; every answer of the API is one.
pub(super) fn object(body: &str) -> Option<Value> {
    serde_json::from_str(body.trim_start_matches('\u{feff}')).ok().filter(Value::is_object)
}

/// Reads a status answer. The task's fields stand under `data`, or at the top where there is no `data`.
pub(super) fn task(answer: &Value) -> Task {
    let data = answer.get("data").map(|data| data.get(0).unwrap_or(data)).filter(|data| data.is_object());
    let data = data.unwrap_or(answer);
    let word = WORD_KEYS.iter().find_map(|key| match data.get(key)? {
        Value::String(word) => Some(clean(word)),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    let mut urls = Vec::new();
    for result in RESULT_KEYS.iter().filter_map(|key| data.get(key)) {
        // What stands beside `response` is asked only where that has no link.
        if urls.is_empty() {
            links(result, MAX_LINK_DEPTH, &mut urls);
        }
    }
    Task {
        id: ["task_id", "taskId"].iter().find_map(|key| task_id::text_of(data.get(key)?)),
        word,
        urls,
        charged: charged(answer),
        error: first_text(data, &TASK_ERRORS).map(clean),
        echo: Echo { request: echoed(data), created_at: data.get("created_at").and_then(time) },
    }
}

/// The HTTP status that an answer means: gateways say 200 and put the real one into `code`.
pub(super) fn effective_status(http: u16, answer: Option<&Value>) -> u16 {
    let code = answer.and_then(|answer| whole_number(answer.get("code")?));
    match code {
        Some(code @ 400..=599) if http == 200 => u16::try_from(code).unwrap_or(http),
        Some(_) | None => http,
    }
}

/// The first word in capitals where error codes stand (`INVALID_PROMPT` …). Only the API's own spelling counts: what
/// follows from a code may be a retry that costs money.
pub(super) fn error_code(answer: &Value) -> Option<&str> {
    CODES.iter().filter_map(|place| answer.pointer(place).and_then(Value::as_str)).find_map(|text| {
        let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let word = text.split_at(end.unwrap_or(text.len())).0;
        (word.contains('_') && word.starts_with(|c: char| c.is_ascii_uppercase())).then_some(word)
    })
}

/// The sentence that an error answer gives, as it came.
pub(super) fn message(answer: &Value) -> Option<&str> {
    first_text(answer, &MESSAGES)
}

/// The prompts that an answer repeats.
pub(super) fn echoed_prompts(answer: &Value) -> impl Iterator<Item = &str> {
    ECHOED_PROMPTS.iter().filter_map(|place| text(answer.pointer(place)?))
}

/// Whether this is the API's own error for `status`: an object with its code and a sentence. What a proxy in between
/// writes has neither the page's words nor the status as `code`.
pub(super) fn is_own_error(answer: &Value, status: u16) -> bool {
    let code = answer.get("code").and_then(whole_number) == Some(u64::from(status));
    (code || error_code(answer).is_some()) && message(answer).is_some()
}

/// What the provider says it charged. Part of a credit counts as a whole one: a budget never looks fuller than it is. A
/// number that no account holds is no price: it is not said.
pub(super) fn charged(answer: &Value) -> Option<Credits> {
    let number = |value: &Value| {
        whole_number(value).or_else(|| {
            let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
            // The cast is exact up to where anything counts, and saturates beyond.
            (number >= 0.0).then(|| number.ceil() as u64)
        })
    };
    let said = CHARGES.iter().filter_map(|place| answer.pointer(place)).find_map(number);
    said.filter(|credits| *credits <= MOST_CREDITS).map(Credits::new)
}

/// What is whole of a JSON object that was cut: everything up to the last complete value, its brackets closed.
pub(super) fn cut_object(body: &str) -> Option<Value> {
    let mut closers = Vec::new();
    let mut ends: Vec<(usize, String)> = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ if in_string => continue,
            '{' => closers.push('}'),
            '[' => closers.push(']'),
            '}' | ']' => drop(closers.pop()),
            _ => {}
        }
        if closers.len() > MAX_CUT_DEPTH {
            return None;
        }
        // A value ends before a comma, with its bracket, or with its quote.
        let end = match c {
            ',' => at,
            '}' | ']' | '"' if !in_string => at + 1,
            _ => continue,
        };
        ends.push((end, closers.iter().rev().collect()));
        // The last mark may follow a key that has lost its value; the one before cannot.
        if ends.len() > 3 {
            ends.remove(0);
        }
    }
    ends.iter().rev().find_map(|(end, closers)| object(&format!("{}{closers}", body.get(..*end)?)))
}

/// The first [`MAX_OUTPUTS`] links in `value`, in order, each once. An answer has room for a hundred thousand, and each is
/// held against those before it.
fn links(value: &Value, depth: u32, found: &mut Vec<String>) {
    let Some(depth) = depth.checked_sub(1).filter(|_| found.len() < MAX_OUTPUTS) else { return };
    match value {
        Value::String(text) if is_link(text) => {
            if !found.contains(text) {
                found.push(text.clone());
            }
        }
        Value::String(text) => {
            if let Ok(inner @ (Value::Array(_) | Value::Object(_) | Value::String(_))) =
                serde_json::from_str(text)
            {
                links(&inner, depth, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| links(item, depth, found)),
        Value::Object(fields) => {
            fields
                .iter()
                .filter(|(key, _)| LINK_KEYS.contains(&key.as_str()))
                .for_each(|(_, v)| links(v, depth, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_link(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

/// What was asked for: an object, or the text of one.
fn echoed(data: &Value) -> Map<String, Value> {
    match data.get("request") {
        Some(Value::Object(fields)) => fields.clone(),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => Map::new(),
    }
}

/// RFC 3339, or seconds or milliseconds since 1970.
fn time(value: &Value) -> Option<Timestamp> {
    /// So many seconds are the year 5138; so many milliseconds are 1973.
    const SECONDS_END: u64 = 100_000_000_000;
    if let Some(number) = whole_number(value) {
        let ms = if number < SECONDS_END { number.saturating_mul(1000) } else { number };
        return i64::try_from(ms).ok().map(Timestamp::from_millis);
    }
    value.as_str()?.trim().parse().ok()
}

/// A whole number, also as text.
fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// The first of these places that says something.
fn first_text<'a>(value: &'a Value, places: &[&str]) -> Option<&'a str> {
    places.iter().find_map(|place| text(value.pointer(place)?))
}

/// Text that says something.
fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.trim().is_empty())
}
