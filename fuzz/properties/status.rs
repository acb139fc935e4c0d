//! Any answer to a status call: only a whole JSON answer about the very task says that it is over, its links are few, and
//! lead to the web.
//!
//! The input is an answer: its status, headers, a blank line, the body.

use std::time::Duration;

use serde_json::Value;

use super::parts::{answer, assert_sentence};
use crate::{
    domain::{plan::poll::PollAnswer, state::TaskId},
    provider::classify,
};

const TASK: &str = "n75abc123kling3";

pub fn check(bytes: &[u8]) {
    let said = answer(bytes);
    let http: u16 = said.first.first().and_then(|status| status.parse().ok()).unwrap_or(200);
    let text = |(name, value): &(String, &[u8])| (name.clone(), String::from_utf8_lossy(value).into_owned());
    let headers: Vec<_> = said.headers.iter().map(text).collect();
    let body = String::from_utf8_lossy(said.body);
    let asked = TaskId::parse(TASK).expect("it is one");
    let (answer, echo) = classify::status(http, &headers, &body, &asked);

    let json: Option<Value> = serde_json::from_str(body.trim_start_matches('\u{feff}')).ok();
    let json = json.filter(Value::is_object);
    let code = json.as_ref().and_then(|json| json.get("code"));
    let code = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.trim().parse().ok()));
    let meant = code.filter(|code| http == 200 && (400..600).contains(code)).unwrap_or(u64::from(http));
    let told = matches!(
        answer,
        PollAnswer::Succeeded { .. } | PollAnswer::Failed { .. } | PollAnswer::Running { .. }
    );
    if told {
        assert!(meant == 200 && json.is_some(), "HTTP {http} tells of the task: {answer:?}");
        let data = json.as_ref().and_then(|json| json.get("data")).filter(|data| data.is_object());
        let id = data.and_then(|data| data.get("task_id")).and_then(Value::as_str);
        assert!(
            id.is_none_or(|id| id.len() < 4
                || id.trim() == TASK
                || id == "null"
                || id == "none"
                || id == "undefined"
                || id == "false"),
            "{id:?}: {answer:?}"
        );
    } else {
        assert!(echo.request.is_empty() && echo.created_at.is_none());
    }
    words(&answer, meant, &body);
    documented(&answer, http, json.as_ref());
}

/// What each answer may hold, and with which status.
fn words(answer: &PollAnswer, meant: u64, body: &str) {
    let upper = body.to_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word)) || body.contains("\\u");
    match answer {
        PollAnswer::Running { word } => {
            assert!(word.chars().count() <= 300 && !word.chars().any(char::is_control))
        }
        PollAnswer::Succeeded { urls, charged } => {
            assert!(has(&["SUCCE", "COMPLETE", "FINISHED", "DONE"]));
            assert!(charged.is_none_or(|charged| charged.get() <= 1_000_000_000));
            // How many of them count is the plan's to say.
            assert!(urls.len() <= 16, "{} videos of one task", urls.len());
            for (n, url) in urls.iter().enumerate() {
                let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_lowercase());
                assert!(matches!(scheme.as_deref(), Some("http" | "https")), "{url:?}");
                assert!(body.contains(&**url) || body.contains('\\'), "{url} is not theirs");
                assert!(!urls[..n].contains(url), "{url} twice");
            }
        }
        PollAnswer::Failed { message, charged } => {
            assert!(has(&["FAIL", "ERROR", "EXPIRED", "CANCEL", "REJECTED", "TIMEOUT"]));
            assert!(charged.is_none_or(|charged| charged.get() <= 1_000_000_000));
            assert_sentence(message);
        }
        PollAnswer::NotFound => assert!(matches!(meant, 404 | 422)),
        PollAnswer::RateLimited { retry_after } => {
            assert!(meant == 429 && retry_after.is_none_or(|wish| wish <= Duration::from_secs(365 * 86_400)));
        }
        PollAnswer::KeyRefused { message } => {
            assert_eq!(meant, 401);
            assert_sentence(message);
        }
        PollAnswer::Forbidden { message } => {
            assert_eq!(meant, 403);
            assert_sentence(message);
        }
        PollAnswer::Unclear { why } => assert_sentence(why),
    }
}

/// What the page documents is understood.
fn documented(answer: &PollAnswer, http: u16, json: Option<&Value>) {
    let Some(json) = json.filter(|json| http == 200 && json.get("code").is_none_or(|code| code == 200))
    else {
        return;
    };
    let Some(data) = json.get("data").filter(|data| data.is_object() && data["task_id"] == TASK) else {
        return;
    };
    match data.get("status").and_then(Value::as_str) {
        Some("IN_PROGRESS") => assert!(matches!(answer, PollAnswer::Running { .. }), "{answer:?}"),
        Some("FAILED") => assert!(matches!(answer, PollAnswer::Failed { .. }), "{answer:?}"),
        Some("SUCCESS") => {
            let PollAnswer::Succeeded { urls, .. } = answer else { panic!("{answer:?}") };
            let link = data["response"][0].as_str().filter(|link| link.starts_with("https://"));
            assert!(
                link.is_none_or(|link| urls.iter().any(|url| url == link)),
                "{link:?} is not among {urls:?}"
            );
        }
        Some(_) | None => {}
    }
}
