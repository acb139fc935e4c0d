//! Any answer to the paid call: what is kept of it is bounded and free of secrets, and it counts as not charged only where
//! the provider's page and the experience of others say so. Everything else may have been charged.
//!
//! The input is an answer: its status and how it ended (`whole`, `cut`, `lost`, `unsent`, `held`), headers, a blank line,
//! the body. A `{key}` in it stands for the API key.

use serde_json::Value;

use super::parts::{answer, assert_sentence};
use crate::{
    domain::{
        evidence::{Evidence, MAX_BODY_BYTES, Phase, TransportFailure},
        plan::submit::{Deferral, SubmitAnswer},
        state::Charged,
    },
    provider::{classify, kept},
};

const KEY: &str = "sk-live-9f8e7d6c/5b4a39281706abcdef";

pub fn check(bytes: &[u8]) {
    let evidence = seen(bytes);
    bounded_and_free_of_secrets(&evidence);
    let answer = classify::submit(&evidence);
    match &answer {
        SubmitAnswer::Accepted { .. } => {}
        SubmitAnswer::Refused(failure) => {
            assert_sentence(&failure.message);
            assert_sentence(&failure.code);
        }
        SubmitAnswer::Deferred { message: words, .. } | SubmitAnswer::Unknown { why: words } => {
            assert_sentence(words)
        }
    }
    money(&evidence, &answer);
}

/// What klingd keeps of these bytes on the wire.
fn seen(bytes: &[u8]) -> Evidence {
    let with_key = bytes.split(|b| *b == b'{').enumerate().fold(Vec::new(), |mut out: Vec<u8>, (n, part)| {
        match part.strip_prefix(b"key}") {
            Some(rest) if n > 0 => out.extend([KEY.as_bytes(), rest].concat()),
            _ if n > 0 => out.extend([b"{", part].concat()),
            _ => out.extend(part),
        }
        out
    });
    let said = answer(&with_key);
    let word = said.first.get(1).copied().unwrap_or("whole");
    let failure = |phase| Some(TransportFailure { phase, message: "connection reset".to_owned() });
    let transport = match word {
        "held" => failure(Phase::Held),
        "unsent" => failure(Phase::Connect),
        "lost" => failure(Phase::Sent),
        "cut" => failure(Phase::Body),
        _ => None,
    };
    if matches!(word, "held" | "unsent" | "lost") {
        return Evidence { transport, ..Evidence::default() };
    }
    let body = &said.body[..said.body.len().min(MAX_BODY_BYTES)];
    let headers = said.headers.iter().map(|(name, value)| (name.as_str(), *value));
    Evidence {
        transport,
        status: Some(said.first.first().and_then(|status| status.parse().ok()).unwrap_or(200)),
        headers: kept::headers(headers, KEY),
        body: kept::body(body, KEY),
        took_ms: 0,
    }
}

fn bounded_and_free_of_secrets(evidence: &Evidence) {
    assert!(evidence.body.len() <= 64 * 1024);
    // A key that is cut is no key once eight characters are all that is left of it.
    let cut = &KEY[..16];
    let texts = evidence.headers.iter().map(|(_, value)| value).chain([&evidence.body]);
    for text in texts {
        assert!(!text.contains(KEY) && !text.ends_with(cut), "{text}");
        assert!(!text.replace('\\', "").contains(KEY) || !text.contains("\\/"), "{text}");
    }
    for (name, value) in &evidence.headers {
        assert!(
            !name.contains("cookie") && !name.contains("authori") && value.chars().count() <= 1000,
            "{name}"
        );
    }
}

/// The rules of money, from the provider's tables.
fn money(evidence: &Evidence, answer: &SubmitAnswer) {
    let json = serde_json::from_str(evidence.body.trim_start_matches('\u{feff}')).ok();
    let json = json.filter(Value::is_object);
    let not_charged = matches!(answer, SubmitAnswer::Refused(_) | SubmitAnswer::Deferred { .. });
    if names_a_task(&evidence.body, json.as_ref()) {
        assert!(!not_charged, "a task is named, and it is {answer:?}");
    }
    match (evidence.transport.as_ref().map(|failure| failure.phase), evidence.status) {
        (Some(Phase::Held), _) => assert!(deferred(answer, Deferral::Held)),
        (Some(Phase::Connect), _) => assert!(deferred(answer, Deferral::NotSent)),
        (Some(Phase::Sent), _) => assert!(matches!(answer, SubmitAnswer::Unknown { .. })),
        (Some(Phase::Body), Some(http)) => match answer {
            SubmitAnswer::Accepted { salvaged, .. } => {
                assert!(*salvaged);
                accepted(http, evidence, answer, json.as_ref());
            }
            other => assert!(matches!(other, SubmitAnswer::Unknown { .. }), "it was cut, and is {other:?}"),
        },
        (None, Some(http)) => match answer {
            SubmitAnswer::Accepted { .. } => accepted(http, evidence, answer, json.as_ref()),
            SubmitAnswer::Refused(failure) => {
                assert!(matches!(meant(http, json.as_ref()), 400 | 413 | 422), "{http}");
                assert_eq!(failure.charged, Charged::No);
            }
            SubmitAnswer::Deferred { why, .. } => {
                assert!(may_wait(*why, http, evidence, json.as_ref()), "{why:?}")
            }
            SubmitAnswer::Unknown { .. } => {
                assert!(clearly_accepted(http, json.as_ref()).is_none(), "its acceptance is as documented");
            }
        },
        (Some(Phase::Body) | None, None) => assert!(matches!(answer, SubmitAnswer::Unknown { .. })),
    }
}

fn deferred(answer: &SubmitAnswer, wanted: Deferral) -> bool {
    matches!(answer, SubmitAnswer::Deferred { why, .. } if *why == wanted)
}

/// An HTTP 200 may say another status in its body.
fn meant(http: u16, json: Option<&Value>) -> u64 {
    let code = json.and_then(|json| json.get("code"));
    let code = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.trim().parse().ok()));
    code.filter(|code| http == 200 && (400..600).contains(code)).unwrap_or(u64::from(http))
}

/// The answers after which a job may go back into the queue by itself.
fn may_wait(why: Deferral, http: u16, evidence: &Evidence, json: Option<&Value>) -> bool {
    let (status, said) = (meant(http, json), evidence.body.to_lowercase());
    match why {
        Deferral::Held | Deferral::NotSent => false,
        Deferral::RateLimited | Deferral::SlotsFull => status == 429,
        Deferral::Unavailable => status == 503 && json.is_some(),
        Deferral::InternalError => {
            status == 500 && json.is_some() && evidence.body.contains("INTERNAL_ERROR")
        }
        Deferral::KeyRefused => status == 401 || (status == 400 && evidence.body.contains("INVALID_API_KEY")),
        Deferral::Forbidden => status == 403,
        Deferral::Moved => matches!(status, 300..=399 | 404 | 405),
        Deferral::NoCredits => {
            let money = ["credit", "balance", "arrears", "insufficient", "积分", "余额", "欠费"];
            // JSON may hide a word behind escapes.
            let speaks = money.iter().any(|word| said.contains(word)) || said.contains("\\u");
            status == 402
                || (matches!(status, 400..=499) && !matches!(status, 408 | 409) && json.is_some() && speaks)
        }
    }
}

fn accepted(http: u16, evidence: &Evidence, answer: &SubmitAnswer, json: Option<&Value>) {
    let SubmitAnswer::Accepted { task, charged, salvaged } = answer else { return };
    let id = task.as_str();
    assert!(matches!(meant(http, json), 200..=299), "{http}");
    assert!(!id.is_empty() && id.len() <= 200 && id.bytes().all(|b| b.is_ascii_graphic()), "{id:?}");
    assert!(charged.is_none_or(|charged| charged.get() <= 1_000_000_000));
    // An escape can write any character in another way.
    if !evidence.body.contains('\\') {
        assert!(evidence.body.contains(id), "{id} is nowhere");
        if *salvaged && !id.bytes().all(|b| b.is_ascii_digit()) {
            let closed = evidence
                .body
                .match_indices(id)
                .any(|(at, _)| evidence.body[at + id.len()..].trim_start().starts_with('"'));
            assert!(closed, "{id} may go on behind the cut");
        }
    }
    if let Some(documented) = clearly_accepted(http, json) {
        assert_eq!(id, documented);
    }
}

/// The task of an acceptance as the page has it.
fn clearly_accepted(http: u16, json: Option<&Value>) -> Option<&str> {
    let json = json.filter(|json| http == 200 && json.get("code").is_none_or(|code| code == 200))?;
    let id = json.get("data")?.get("task_id")?.as_str()?;
    (id.starts_with("n7") && id.len() < 200 && id.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(id)
}

/// Whether there is a task id for certain: a quoted one behind a quoted key, whatever is around it.
fn names_a_task(body: &str, json: Option<&Value>) -> bool {
    fn id(text: &str) -> bool {
        text.len() >= 3
            && text.bytes().all(|b| b.is_ascii_alphanumeric())
            && !matches!(&*text.to_lowercase(), "null" | "none" | "undefined" | "false")
    }
    fn within(json: &Value) -> bool {
        match json {
            Value::Object(fields) => fields.iter().any(|(key, value)| {
                (matches!(&**key, "task_id" | "taskId") && value.as_str().is_some_and(id)) || within(value)
            }),
            Value::Array(items) => items.iter().any(within),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    let raw = body.match_indices("\"task_id\":\"").any(|(at, key)| {
        // A quote before it that is escaped, or ends something else, makes other text of it.
        let before = !body[..at].ends_with(['"', '\\']);
        let value = body[at + key.len()..].split_once('"').map(|(value, _)| value);
        before && value.is_some_and(id)
    });
    raw || json.is_some_and(within)
}
