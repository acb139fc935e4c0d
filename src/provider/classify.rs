//! What an answer means: pure, and strict in money.
//!
//! The two tables are provider.md's, row by row. An answer counts as *not charged* only where a row says so;
//! everything else is unknown, and so is every answer that carries a task id without accepting.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{
    retry_after::{retry_after, retry_after_at},
    task_id,
    text::clean,
    wire,
};
use crate::domain::{
    TaskId, Timestamp,
    adopt::Echo,
    evidence::{Evidence, Phase, TransportFailure},
    plan::{
        poll::PollAnswer,
        submit::{Deferral, SubmitAnswer},
    },
    state::{Charged, Failure},
};

/// Characters of an error code that are kept: three times the page's longest.
const MAX_CODE_CHARS: usize = 64;
/// The page's error codes that are no `INVALID_…` or `MISSING_…` of the request itself.
const INVALID_API_KEY: &str = "INVALID_API_KEY";
const INSUFFICIENT_CREDITS: &str = "INSUFFICIENT_CREDITS";
const RATE_LIMITED: &str = "RATE_LIMITED";
const INTERNAL_ERROR: &str = "INTERNAL_ERROR";

/// What the answer to a submit means.
pub fn submit(evidence: &Evidence) -> SubmitAnswer {
    match (&evidence.transport, evidence.status) {
        (Some(failure), status) => broken_off(failure, status, evidence),
        (None, Some(status)) => answered(status, evidence),
        (None, None) => unknown("neither an answer nor a failure was recorded".to_owned()),
    }
}

/// The quiet that the answer to a submit asks for at `now`, whatever else it says and even where its body was cut.
pub fn wish(evidence: &Evidence, now: Timestamp) -> Option<Duration> {
    let now = SystemTime::UNIX_EPOCH + now.since(Timestamp::from_millis(0));
    retry_after_at(|name| evidence.header(name), now)
}

/// What a status answer says of the task that was asked for, and what it repeats of its request.
pub fn status(
    http_status: u16,
    headers: &[(String, String)],
    body: &str,
    asked: &TaskId,
) -> (PollAnswer, Echo) {
    let json = wire::object(body);
    let said = Said::new(http_status, json.as_ref());
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let answer = match (said.status, &json) {
        (200, Some(json)) => return followed(wire::task(json), asked),
        (404 | 422, _) => PollAnswer::NotFound,
        (401, _) => PollAnswer::KeyRefused { message: said.sentence },
        (403, _) => PollAnswer::Forbidden { message: said.sentence },
        (429, _) => PollAnswer::RateLimited { retry_after: retry_after(header) },
        (200, None) => PollAnswer::Unclear { why: "HTTP 200 whose body is no JSON object".to_owned() },
        (_, _) => PollAnswer::Unclear { why: said.sentence },
    };
    (answer, Echo::default())
}

/// Whether the key works, by the answer to a status call for a task that cannot exist. Only the API's own JSON says
/// anything: a firewall's page does not look at keys.
pub(super) fn key_works(http_status: u16, body: &str) -> Option<bool> {
    let json = wire::object(body);
    match (wire::effective_status(http_status, json.as_ref()), json) {
        (401 | 403, _) => Some(false),
        (400, Some(json)) if wire::error_code(&json) == Some(INVALID_API_KEY) => Some(false),
        (200 | 400 | 404 | 422, Some(_)) => Some(true),
        (_, _) => None,
    }
}

/// The transport failed: what arrived before it did may still name the task.
fn broken_off(failure: &TransportFailure, status: Option<u16>, evidence: &Evidence) -> SubmitAnswer {
    match (failure.phase, status) {
        (Phase::Held, None) => later(Deferral::Held, failure.message.clone()),
        (Phase::Connect, None) => later(Deferral::NotSent, failure.message.clone()),
        (Phase::Held | Phase::Connect | Phase::Sent, _) => {
            unknown(format!("the request may have been sent, no answer came: {}", failure.message))
        }
        (Phase::Body, status) => {
            let what = format!("the answer{} was cut: {}", http(status), failure.message);
            salvaged(status, evidence).unwrap_or_else(|| unknown(naming_the_task(what, evidence, None)))
        }
    }
}

/// A task id that is whole in an answer that is not.
fn salvaged(status: Option<u16>, evidence: &Evidence) -> Option<SubmitAnswer> {
    let json = wire::object(&evidence.body).or_else(|| wire::cut_object(&evidence.body))?;
    let accepting = status.is_some_and(|status| is_2xx(wire::effective_status(status, Some(&json))));
    let task = task_id::of_answer(&json).filter(|_| accepting)?;
    Some(SubmitAnswer::Accepted { task, charged: wire::charged(&json), salvaged: true })
}

/// A whole answer.
fn answered(http_status: u16, evidence: &Evidence) -> SubmitAnswer {
    let json = wire::object(&evidence.body);
    let said = Said::new(http_status, json.as_ref());
    if is_2xx(said.status) {
        if let Some(task) = json.as_ref().and_then(task_id::of_answer) {
            return SubmitAnswer::Accepted {
                task,
                charged: json.as_ref().and_then(wire::charged),
                salvaged: false,
            };
        }
        // Cut where nobody could notice: an answer that ends with its connection.
        let cut = if json.is_none() { salvaged(Some(http_status), evidence) } else { None };
        return cut.unwrap_or_else(|| {
            let what = if json.is_none() { "its body is no JSON object" } else { "it names no task" };
            unknown(naming_the_task(format!("{}, but {what}", said.sentence), evidence, json.as_ref()))
        });
    }
    if task_id::mentioned(&evidence.body, json.as_ref()).is_some() {
        return unknown(naming_the_task(said.sentence, evidence, json.as_ref()));
    }
    not_accepted(said)
}

/// The rows of the submit table for an answer that accepts nothing and names no task.
fn not_accepted(said: Said<'_>) -> SubmitAnswer {
    let why = match said.status {
        // Some gateways time out like this after they passed the request on.
        408 | 409 => None,
        429 if speaks_of_slots(&said.words) => Some(Deferral::SlotsFull),
        400..=499 if said.empty_account() => Some(Deferral::NoCredits),
        400 if said.code == Some(INVALID_API_KEY) => Some(Deferral::KeyRefused),
        400 if said.names_a_field() => return refused(said),
        413 | 422 => return refused(said),
        429 => Some(Deferral::RateLimited),
        401 => Some(Deferral::KeyRefused),
        403 => Some(Deferral::Forbidden),
        404 | 405 | 300..=399 => Some(Deferral::Moved),
        // The page's own "try again later". Any other 500 comes from somewhere that may have passed the request on.
        500 if said.code == Some(INTERNAL_ERROR) => Some(Deferral::InternalError),
        503 if said.own => Some(Deferral::Unavailable),
        _ => None,
    };
    match why {
        Some(why) => later(why, said.sentence),
        None => unknown(said.sentence),
    }
}

/// What an answer says, as far as a decision needs it.
struct Said<'a> {
    /// The status that it means.
    status: u16,
    /// The error code, in the API's own spelling.
    code: Option<&'a str>,
    /// The provider's words in lower case, without what they repeat of the request.
    words: String,
    /// Whether it is the API's own error.
    own: bool,
    /// All of it, for people.
    sentence: String,
}

impl<'a> Said<'a> {
    fn new(http_status: u16, json: Option<&'a Value>) -> Self {
        let status = wire::effective_status(http_status, json);
        let code = json.and_then(wire::error_code);
        let message = json.and_then(wire::message);
        // A prompt may speak of money or of parallel lines; only what the provider says of its own counts.
        let mut words = message.unwrap_or_default().to_owned();
        for prompt in json.into_iter().flat_map(wire::echoed_prompts) {
            let said = prompt.to_lowercase();
            if speaks_of_slots(&said) || speaks_of_money(&said) {
                words = words.replace(prompt, "…");
            }
        }
        let mut sentence = format!("HTTP {http_status}");
        if status != http_status {
            sentence.push_str(&format!(" with code {status}"));
        }
        if let Some(code) = code.filter(|code| !message.is_some_and(|said| said.starts_with(code))) {
            sentence.push_str(&format!(" {code}"));
        }
        if let Some(message) = message {
            sentence.push_str(&format!(": {message}"));
        }
        Self {
            status,
            code,
            words: words.to_lowercase(),
            own: json.is_some_and(|json| wire::is_own_error(json, status)),
            sentence: clean(&sentence),
        }
    }

    /// The page's codes for a field of the request, and their kind.
    fn names_a_field(&self) -> bool {
        self.code.is_some_and(|code| code.starts_with("INVALID_") || code.starts_with("MISSING_"))
    }

    /// The account is empty: the page's 402, and the shapes in which gateways hide it. A documented code wins over
    /// the words of the message.
    fn empty_account(&self) -> bool {
        let documented = self.names_a_field() || matches!(self.code, Some(RATE_LIMITED | INTERNAL_ERROR));
        self.status == 402
            || self.code == Some(INSUFFICIENT_CREDITS)
            || (!documented && speaks_of_money(&self.words))
    }
}

/// Whether a sentence in lower case speaks of too many tasks at once.
fn speaks_of_slots(said: &str) -> bool {
    ["parallel", "concurren", "simultaneous", "并发", "并行"].iter().any(|word| said.contains(word))
}

/// Whether a sentence in lower case speaks of an account's money. `insufficient` alone does not: permissions and
/// picture sizes can be that too, and a hold of all submits would follow.
fn speaks_of_money(said: &str) -> bool {
    let has =
        |wanted: &[&str]| said.split(|c: char| !c.is_ascii_alphabetic()).any(|word| wanted.contains(&word));
    has(&["credit", "credits", "balance", "arrears"])
        || (has(&["insufficient"]) && has(&["account", "funds", "points", "quota", "wallet"]))
        || ["积分", "余额", "欠费"].iter().any(|word| said.contains(word))
}

/// A status answer of the API itself.
fn followed(task: wire::Task, asked: &TaskId) -> (PollAnswer, Echo) {
    let unclear = |why: String| (PollAnswer::Unclear { why }, Echo::default());
    if let Some(other) = task.id.filter(|id| id != asked.as_str()) {
        return unclear(clean(&format!("asked for task {asked}, was told of {other}")));
    }
    let Some(word) = task.word else {
        return unclear("the answer has no status word".to_owned());
    };
    let answer = match word.to_ascii_uppercase().as_str() {
        "SUCCESS" | "SUCCEEDED" | "SUCCEED" | "COMPLETED" | "COMPLETE" | "FINISHED" | "DONE" => {
            PollAnswer::Succeeded { urls: task.urls, charged: task.charged }
        }
        "FAILED" | "FAIL" | "FAILURE" | "ERROR" | "EXPIRED" | "CANCELLED" | "CANCELED" | "REJECTED"
        | "TIMEOUT" => {
            let message = task.error.unwrap_or_else(|| format!("the provider says {word} and no more"));
            PollAnswer::Failed { message, charged: task.charged }
        }
        _ => PollAnswer::Running { word },
    };
    (answer, task.echo)
}

fn refused(said: Said<'_>) -> SubmitAnswer {
    let named = |code: &str| code.chars().take(MAX_CODE_CHARS).collect();
    let code = said.code.map_or_else(|| format!("HTTP_{}", said.status), named);
    SubmitAnswer::Refused(Failure { code, message: said.sentence, charged: Charged::No })
}

fn later(why: Deferral, message: String) -> SubmitAnswer {
    SubmitAnswer::Deferred { why, message }
}

fn unknown(why: String) -> SubmitAnswer {
    SubmitAnswer::Unknown { why }
}

/// `what`, with the task id that the answer carries: whoever resolves the doubt needs it first.
fn naming_the_task(what: String, evidence: &Evidence, json: Option<&Value>) -> String {
    match task_id::mentioned(&evidence.body, json) {
        Some(task) => clean(&format!("the answer carries the task id {task}; {what}")),
        None => what,
    }
}

fn http(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (HTTP {status})"))
}

const fn is_2xx(status: u16) -> bool {
    matches!(status, 200..=299)
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
