//! Every row of the two tables of provider.md, in several JSON shapes each.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{Credits, Timestamp};

/// What a submit came to, in short.
#[derive(Debug, PartialEq)]
enum Outcome {
    Accepted,
    Refused,
    Later(Deferral),
    Unknown,
}

fn outcome(answer: &SubmitAnswer) -> Outcome {
    match answer {
        SubmitAnswer::Accepted { .. } => Outcome::Accepted,
        SubmitAnswer::Refused(failure) => {
            assert_eq!(failure.charged, Charged::No);
            Outcome::Refused
        }
        SubmitAnswer::Deferred { why, .. } => Outcome::Later(*why),
        SubmitAnswer::Unknown { why } => {
            assert!(!why.is_empty());
            Outcome::Unknown
        }
    }
}

fn whole(status: u16, body: &str) -> Evidence {
    Evidence { status: Some(status), body: body.to_owned(), ..Evidence::default() }
}

fn cut(phase: Phase, status: Option<u16>, body: &str) -> Evidence {
    let transport = Some(TransportFailure { phase, message: "connection reset".to_owned() });
    Evidence { transport, status, body: body.to_owned(), ..Evidence::default() }
}

fn answer(status: u16, body: &str) -> SubmitAnswer {
    submit(&whole(status, body))
}

/// Each body, under `status`, comes to `expected`; and so it does under 200 with the status as the JSON's `code`.
fn row(status: u16, expected: Outcome, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(outcome(&answer(status, body)), expected, "HTTP {status} {body}");
        let Some(Value::Object(mut fields)) = wire::object(body) else { continue };
        if fields.get("code").is_some_and(Value::is_string) {
            let word = fields.insert("code".to_owned(), json!(status.to_string())).unwrap();
            fields.insert("error_code".to_owned(), word);
        } else {
            fields.insert("code".to_owned(), json!(status));
        }
        let disguised = Value::Object(fields).to_string();
        assert_eq!(outcome(&answer(200, &disguised)), expected, "HTTP 200 {disguised}");
    }
}

#[test]
fn the_pages_own_answer_is_accepted() {
    let page = json!({"code": 200, "message": "success",
        "data": {"task_id": "n75abc123kling3", "status": "IN_PROGRESS", "consumed_credits": 400}});
    let accepted = |charged, salvaged| SubmitAnswer::Accepted {
        task: TaskId::parse("n75abc123kling3").unwrap(),
        charged,
        salvaged,
    };
    assert_eq!(answer(200, &page.to_string()), accepted(Some(Credits::new(400)), false));
    assert_eq!(answer(201, &page.to_string()), accepted(Some(Credits::new(400)), false));
    for (body, charged) in [
        (r#"{"data":{"task_id":"n75abc123kling3"}}"#, None),
        (r#"{"data":{"task_id":"n75abc123kling3","status":"SUCCESS","consumed_credits":"270"}}"#, Some(270)),
        (r#"{"data":{"task_id":"n75abc123kling3","status":"FAILED","consumed_credits":0}}"#, Some(0)),
        (r#"{"code":0,"data":{"task_id":"n75abc123kling3","consumed_credits":269.5}}"#, Some(270)),
        (r#"{"code":"ok","task_id":"n75abc123kling3","consumed_credits":-1}"#, None),
        ("\u{feff}{\"data\":{\"task_id\":\"n75abc123kling3\",\"consumed_credits\":\"many\"}}", None),
        // No account holds so many: it is not said.
        (r#"{"data":{"task_id":"n75abc123kling3","consumed_credits":1000000000}}"#, Some(1_000_000_000)),
        (r#"{"data":{"task_id":"n75abc123kling3","consumed_credits":1000000001}}"#, None),
        (r#"{"data":{"task_id":"n75abc123kling3","consumed_credits":18446744073709551615}}"#, None),
        (r#"{"data":{"task_id":"n75abc123kling3","consumed_credits":"1e300"}}"#, None),
        // The code is no status: the id counts.
        (r#"{"code":1201,"data":{"task_id":"n75abc123kling3"}}"#, None),
    ] {
        assert_eq!(answer(200, body), accepted(charged.map(Credits::new), false), "{body}");
    }
}

#[test]
fn a_200_without_a_task_is_unknown() {
    row(
        200,
        Outcome::Unknown,
        &[
            "",
            "OK",
            "<html>welcome</html>",
            "[]",
            "null",
            r#""n75abc123kling3""#,
            "{}",
            r#"{"code":200,"message":"success"}"#,
            r#"{"code":200,"message":"success","data":{}}"#,
            r#"{"code":200,"data":{"task_id":null}}"#,
            r#"{"code":200,"data":{"task_id":""}}"#,
            r#"{"code":200,"message":"task n75abc123kling3 is known"}"#,
            r#"{"success":false,"error":"RATE_LIMITED"}"#,
            r#"{"message":"INVALID_PROMPT"}"#,
            r#"<pre>{"data":{"task_id":"n75abc123kling3"}}</pre>"#,
        ],
    );
    assert_eq!(outcome(&answer(204, "")), Outcome::Unknown);
    assert_eq!(outcome(&answer(202, r#"{"code":200}"#)), Outcome::Unknown);
}

#[test]
fn a_documented_400_is_refused() {
    row(
        400,
        Outcome::Refused,
        &[
            r#"{"code":"INVALID_PROMPT","message":"the prompt is empty"}"#,
            r#"{"code":"INVALID_DURATION"}"#,
            r#"{"error":"INVALID_TYPE"}"#,
            r#"{"error":{"code":"MISSING_IMAGE","message":"no image"}}"#,
            r#"{"error_code":"MISSING_VIDEO"}"#,
            r#"{"errorCode":"INVALID_ASPECT_RATIO"}"#,
            r#"{"message":"INVALID_PROMPT: 提示词无效或为空"}"#,
            r#"{"error":{"message":"MISSING_IMAGE"}}"#,
            r#"{"code":"INVALID_PROMPT","message":"credits are never mentioned in prompts"}"#,
            r#"{"code":"INVALID_PROMPT","task_id":null,"data":{"task_id":""}}"#,
        ],
    );
    let SubmitAnswer::Refused(failure) = answer(400, r#"{"code":"INVALID_PROMPT","message":"too\nlong"}"#)
    else {
        unreachable!()
    };
    assert_eq!(failure.code, "INVALID_PROMPT");
    assert_eq!(failure.message, "HTTP 400 INVALID_PROMPT: too long");
}

#[test]
fn another_400_is_unknown() {
    row(
        400,
        Outcome::Unknown,
        &[
            "",
            "<html>INVALID_PROMPT</html>",
            "INVALID_PROMPT",
            "{}",
            r#"{"code":"BAD_REQUEST","message":"no"}"#,
            r#"{"code":"RATE_LIMITED"}"#,
            r#"{"message":"invalid prompt"}"#,
            r#"{"message":"the prompt said INVALID_PROMPT"}"#,
            r#"{"request":{"prompt":"INVALID_PROMPT"}}"#,
            r#"{"code":"invalid_prompt"}"#,
            r#"["INVALID_PROMPT"]"#,
        ],
    );
}

#[test]
fn sizes_and_fields_that_are_too_much_are_refused() {
    for status in [413, 422] {
        let bodies =
            ["", "<html>too large</html>", "{}", r#"{"code":"INVALID_PROMPT"}"#, r#"{"message":"no"}"#];
        row(status, Outcome::Refused, &bodies);
    }
    let SubmitAnswer::Refused(failure) = answer(413, "<html>") else { unreachable!() };
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("HTTP_413", "HTTP 413"));
}

#[test]
fn the_key_the_firewall_and_the_endpoint() {
    let any =
        ["", "<html>no</html>", "{}", r#"{"code":"INVALID_API_KEY","message":"no"}"#, r#"{"message":"no"}"#];
    row(401, Outcome::Later(Deferral::KeyRefused), &any);
    row(403, Outcome::Later(Deferral::Forbidden), &any);
    row(404, Outcome::Later(Deferral::Moved), &any);
    row(405, Outcome::Later(Deferral::Moved), &any);
    for status in [300, 301, 302, 303, 304, 307, 308] {
        assert_eq!(outcome(&answer(status, "")), Outcome::Later(Deferral::Moved));
    }
    row(400, Outcome::Later(Deferral::KeyRefused), &[r#"{"code":"INVALID_API_KEY"}"#]);
    row(403, Outcome::Later(Deferral::Forbidden), &[r#"{"message":"insufficient permissions"}"#]);
}

#[test]
fn an_empty_account_in_all_its_disguises() {
    let no_credits = || Outcome::Later(Deferral::NoCredits);
    row(402, no_credits(), &["", "<html>", "{}", r#"{"code":"INSUFFICIENT_CREDITS","message":"积分不足"}"#]);
    let disguises = [
        r#"{"code":"INSUFFICIENT_CREDITS"}"#,
        r#"{"message":"Not enough credits"}"#,
        r#"{"error":{"message":"Your account balance is too low"}}"#,
        r#"{"code":1102,"msg":"account in arrears"}"#,
        r#"{"error":"Insufficient account funds"}"#,
        r#"{"message":"积分不足"}"#,
        r#"{"message":"账户余额不足"}"#,
        r#"{"message":"账户已欠费"}"#,
        r#"{"code":"QUOTA_OVER","message":"insufficient quota"}"#,
    ];
    for status in [400, 401, 403, 404, 418, 422, 429] {
        row(status, no_credits(), &disguises);
    }
    // Not the words of a prompt that the answer repeats, nor of anything but the message.
    row(
        400,
        Outcome::Unknown,
        &[
            r#"{"message":"rejected","request":{"prompt":"credits roll over a balance"}}"#,
            r#"{"message":"rejected: credits roll over a balance","request":{"prompt":"credits roll over a balance"}}"#,
            r#"{"prompt":"no balance","message":"cannot draw no balance"}"#,
            r#"{"message":"the accredited unbalanced picture is insufficient"}"#,
        ],
    );
    row(
        429,
        Outcome::Later(Deferral::RateLimited),
        &[r#"{"code":"RATE_LIMITED","message":"credits are fine"}"#],
    );
    // What may have been passed on stays unknown, whatever it says.
    row(408, Outcome::Unknown, &disguises);
    row(500, Outcome::Unknown, &[r#"{"message":"Not enough credits"}"#]);
}

#[test]
fn a_429_is_about_the_rate_or_about_slots() {
    row(
        429,
        Outcome::Later(Deferral::RateLimited),
        &[
            "",
            "<html>slow down</html>",
            "{}",
            r#"{"code":"RATE_LIMITED","message":"请求过于频繁,请稍后再试"}"#,
            r#"{"message":"too many requests"}"#,
            r#"{"message":"no","request":{"prompt":"two parallel lines"}}"#,
            r#"{"message":"no: Two parallel\nlines","prompt":"Two parallel\nlines"}"#,
        ],
    );
    row(
        429,
        Outcome::Later(Deferral::SlotsFull),
        &[
            r#"{"code":"RATE_LIMITED","message":"too many parallel tasks"}"#,
            r#"{"code":1303,"message":"Parallel task over resource pack limit"}"#,
            r#"{"error":{"message":"Concurrency limit reached"}}"#,
            r#"{"message":"并发任务数已达上限"}"#,
        ],
    );
}

#[test]
fn the_providers_wish_is_passed_on() {
    let headers = vec![("retry-after".to_owned(), "17".to_owned())];
    for (status, body) in [(429, ""), (429, "too many parallel tasks"), (503, "<html>"), (502, ""), (402, "")]
    {
        let whole = Evidence { headers: headers.clone(), ..whole(status, body) };
        let cut = TransportFailure { phase: Phase::Body, message: "reset".to_owned() };
        for evidence in [whole.clone(), Evidence { transport: Some(cut), ..whole }] {
            assert_eq!(wish(&evidence, Timestamp::from_millis(0)), Some(Duration::from_secs(17)), "{status}");
        }
    }
}

#[test]
fn only_the_documented_500_is_for_now() {
    row(
        500,
        Outcome::Later(Deferral::InternalError),
        &[
            r#"{"code":"INTERNAL_ERROR","message":"server error, try again later"}"#,
            r#"{"code":500,"error":"INTERNAL_ERROR"}"#,
            r#"{"error":{"code":"INTERNAL_ERROR"}}"#,
            r#"{"code":500,"message":"INTERNAL_ERROR"}"#,
        ],
    );
    row(
        500,
        Outcome::Unknown,
        &[
            "",
            "INTERNAL_ERROR",
            "<html>INTERNAL_ERROR</html>",
            "{}",
            r#"{"code":500,"message":"server error"}"#,
            r#"{"code":"internal_error"}"#,
            r#"{"code":"UPSTREAM_TIMEOUT","message":"INTERNAL_ERROR"}"#,
            r#"{"message":"Internal Server Error"}"#,
            r#"{"code":"RATE_LIMITED"}"#,
        ],
    );
}

#[test]
fn a_503_is_for_now_only_in_the_apis_own_words() {
    row(
        503,
        Outcome::Later(Deferral::Unavailable),
        &[
            r#"{"code":503,"message":"maintenance"}"#,
            r#"{"code":"SERVICE_UNAVAILABLE","message":"maintenance"}"#,
            r#"{"error":{"code":"OVER_CAPACITY","message":"busy"}}"#,
        ],
    );
    for body in ["", "<html>busy</html>", "{}", r#"{"message":"Service Unavailable"}"#, r#"{"code":503}"#] {
        assert_eq!(outcome(&answer(503, body)), Outcome::Unknown, "{body}");
    }
}

#[test]
fn whatever_else_is_unknown() {
    let bodies = ["", "<html>", "{}", r#"{"code":"INTERNAL_ERROR","message":"try again later"}"#];
    for status in
        [408, 409, 410, 415, 418, 425, 431, 451, 501, 502, 504, 505, 520, 521, 522, 523, 524, 525, 526, 527]
    {
        row(status, Outcome::Unknown, &bodies);
    }
    // A code that contradicts the HTTP status: a gateway's 502 may have passed the request on, whatever it quotes.
    for status in [400, 409, 500, 502] {
        for code in [402, 404, 413, 429, 503] {
            let body = json!({"code": code, "message": "no"}).to_string();
            assert_eq!(outcome(&answer(status, &body)), Outcome::Unknown, "{status} {body}");
        }
    }
    for status in [0, 100, 199, 600, 999] {
        assert_eq!(outcome(&answer(status, "")), Outcome::Unknown, "{status}");
    }
    assert_eq!(outcome(&submit(&Evidence::default())), Outcome::Unknown);
}

#[test]
fn a_failed_transport_is_not_sent_only_when_nothing_left() {
    assert_eq!(outcome(&submit(&cut(Phase::Connect, None, ""))), Outcome::Later(Deferral::NotSent));
    assert_eq!(outcome(&submit(&cut(Phase::Sent, None, ""))), Outcome::Unknown);
    // Evidence that contradicts itself.
    assert_eq!(outcome(&submit(&cut(Phase::Connect, Some(200), ""))), Outcome::Unknown);
    for status in [200, 400, 401, 402, 429, 500, 503] {
        for body in ["", "{", r#"{"code":"INVALID_PROMPT","message":"no"}"#, r#"{"code":"RATE_LIMITED"#] {
            assert_eq!(
                outcome(&submit(&cut(Phase::Body, Some(status), body))),
                Outcome::Unknown,
                "{status} {body}"
            );
        }
    }
}

#[test]
fn a_whole_task_id_in_a_cut_body_is_salvaged() {
    let full =
        r#"{"code":200,"message":"success","data":{"task_id":"n75abc123kling3","consumed_credits":400}}"#;
    let id_ends = full.find(r#"","consumed"#).unwrap() + 1;
    for end in full.char_indices().map(|(at, _)| at) {
        for evidence in [cut(Phase::Body, Some(200), &full[..end]), whole(200, &full[..end])] {
            match submit(&evidence) {
                SubmitAnswer::Accepted { task, salvaged: true, charged } => {
                    assert!(end >= id_ends, "{}", evidence.body);
                    assert_eq!(task.as_str(), "n75abc123kling3");
                    // A number that ends with the text may have lost digits.
                    assert_eq!(charged, (end > full.find("}}").unwrap()).then_some(Credits::new(400)));
                }
                other => {
                    assert!(end < id_ends, "{}", evidence.body);
                    assert_eq!(outcome(&other), Outcome::Unknown);
                }
            }
        }
    }
    for (status, body) in [
        (400, full),
        (500, &full[..id_ends]),
        (200, r#"{"code":500,"data":{"task_id":"n75abc123kling3","#),
        (200, r#"{"request":{"task_id":"n75abc123kling3"},"message":"#),
        (200, r#"{"request":{"prompt":"{\"task_id\":\"n75abc123kling3\","#),
        (200, r#"<pre>{"data":{"task_id":"n75abc123kling3""#),
    ] {
        let evidence = cut(Phase::Body, Some(status), body);
        let SubmitAnswer::Unknown { why } = submit(&evidence) else { unreachable!("{status} {body}") };
        assert!(why.contains("n75abc123kling3"), "named for whoever resolves it: {why}");
    }
}

#[test]
fn a_task_id_in_an_answer_that_refuses_is_unknown_and_named() {
    for status in [302, 400, 401, 402, 403, 404, 413, 422, 429, 500, 503] {
        for body in [
            r#"{"code":"INTERNAL_ERROR","message":"no","data":{"task_id":"n75abc123kling3"}}"#,
            r#"{"code":"INVALID_PROMPT","taskId":"n75abc123kling3"}"#,
            r#"{"code":"INVALID_PROMPT","message":"task n75abc123kling3 failed"}"#,
            r#"<html>"task_id": "n75abc123kling3"</html>"#,
        ] {
            let SubmitAnswer::Unknown { why } = answer(status, body) else { unreachable!("{status} {body}") };
            assert!(why.contains("n75abc123kling3"), "{why}");
        }
    }
}

#[test]
fn sentences_are_short_and_on_one_line() {
    let body = json!({"code": "INVALID_PROMPT", "message": "a\u{1b}[2J\nb".repeat(1000)}).to_string();
    let SubmitAnswer::Refused(failure) = answer(400, &body) else { unreachable!() };
    assert!(failure.message.chars().count() <= 300);
    assert!(!failure.message.chars().any(char::is_control));
}

fn asked() -> TaskId {
    TaskId::parse("n75abc123kling3").unwrap()
}

fn poll(http_status: u16, body: &str) -> PollAnswer {
    status(http_status, &[], body, &asked()).0
}

fn poll_task(data: Value) -> PollAnswer {
    poll(200, &json!({"code": 200, "message": "success", "data": data}).to_string())
}

#[test]
fn the_pages_status_answer() {
    let page = json!({"code": 200, "message": "success", "data": {
        "task_id": "n75abc123kling3", "status": "SUCCESS", "consumed_credits": 400,
        "created_at": "2026-02-05T10:30:00Z",
        "request": {"type": "pro-text-to-video", "prompt": "A majestic eagle", "duration": 5, "aspect_ratio": "16:9"},
        "response": ["https://cdn.example.com/videos/abc123.mp4"], "error_message": null, "type": "pro-text-to-video"}});
    let (answer, echo) = status(200, &[], &page.to_string(), &asked());
    let urls = vec!["https://cdn.example.com/videos/abc123.mp4".to_owned()];
    assert_eq!(answer, PollAnswer::Succeeded { urls, charged: Some(Credits::new(400)) });
    assert_eq!(echo.created_at, Some(Timestamp::from_millis(1_770_287_400_000)));
    assert_eq!(Value::Object(echo.request), page["data"]["request"]);
}

#[test]
fn status_words_in_any_case() {
    let of = |word: &str| poll_task(json!({"task_id": "n75abc123kling3", "status": word}));
    for word in ["IN_PROGRESS", "PENDING", "QUEUED", "processing", "submitted", "successful?", "7"] {
        assert_eq!(of(word), PollAnswer::Running { word: word.to_owned() });
    }
    for word in ["SUCCESS", "success", "Completed", "SUCCEEDED", "succeed", "done", "FINISHED"] {
        assert_eq!(of(word), PollAnswer::Succeeded { urls: vec![], charged: None }, "{word}");
    }
    for word in ["FAILED", "failed", "ERROR", "Expired", "CANCELLED", "canceled", "fail"] {
        assert!(matches!(of(word), PollAnswer::Failed { charged: None, .. }), "{word}");
    }
    assert_eq!(
        poll_task(
            json!({"status": "FAILED", "error_message": "content\nmoderated", "consumed_credits": "0"})
        ),
        PollAnswer::Failed { message: "content moderated".to_owned(), charged: Some(Credits::ZERO) }
    );
    assert_eq!(poll_task(json!({"state": 3})), PollAnswer::Running { word: "3".to_owned() });
    assert_eq!(poll(200, r#"{"status":"QUEUED"}"#), PollAnswer::Running { word: "QUEUED".to_owned() });
}

#[test]
fn results_in_every_shape_byte_for_byte() {
    let a = "https://cdn.example/a%20b/v.mp4?sig=A+B%2f=&x=1,2|3~";
    let b = "HTTP://cdn.example/b.mp4";
    let texts = |value: &Value| value.to_string();
    for (response, expected) in [
        (json!([a]), vec![a]),
        (json!([a, b, a]), vec![a, b]),
        (json!([{"url": a}, {"url": b, "cover_url": "https://cdn.example/cover.jpg"}]), vec![a, b]),
        (json!({"resultUrls": [a, b]}), vec![a, b]),
        (json!(texts(&json!([a, b]))), vec![a, b]),
        (json!(texts(&json!([{"url": a}]))), vec![a]),
        (json!(texts(&json!({"resultUrls": [a]}))), vec![a]),
        (json!(texts(&json!(a))), vec![a]),
        (json!(a), vec![a]),
        (json!({"videos": [{"id": "1", "url": a, "duration": "5.1"}]}), vec![a]),
        (json!({"video": {"url": a}, "image": "https://cdn.example/start.jpg"}), vec![a]),
        (json!([]), vec![]),
        (json!(null), vec![]),
        (json!(""), vec![]),
        (json!("soon"), vec![]),
        (json!(["ftp://cdn.example/a.mp4", "/videos/a.mp4", "javascript://x", 7, null]), vec![]),
    ] {
        let expected =
            PollAnswer::Succeeded { urls: expected.into_iter().map(str::to_owned).collect(), charged: None };
        assert_eq!(poll_task(json!({"status": "SUCCESS", "response": response})), expected, "{response}");
    }
    for data in [
        json!({"task_status": "succeed", "task_result": {"videos": [{"url": a}]}}),
        json!({"state": "success", "response": null, "resultJson": texts(&json!({"resultUrls": [a]}))}),
        json!([{"status": "SUCCESS", "response": [a]}]),
        json!({"status": "SUCCESS", "request": {"image": b}, "video_url": a}),
        json!({"status": "SUCCESS", "video_url": b, "response": [a]}),
    ] {
        let expected = PollAnswer::Succeeded { urls: vec![a.to_owned()], charged: None };
        assert_eq!(poll_task(data.clone()), expected, "{data}");
    }
}

#[test]
fn of_links_without_end_the_first_are_taken() {
    let links: Vec<_> = (0..50_000).map(|n| format!("http://a/{n}")).collect();
    let PollAnswer::Succeeded { urls, .. } =
        poll_task(json!({"task_id": "n75abc123kling3", "status": "SUCCESS", "response": links}))
    else {
        panic!("it succeeded");
    };
    assert_eq!(urls, links[..16]);
}

#[test]
fn a_status_answer_that_says_nothing_of_the_task() {
    let unclear = |status: u16, body: &str| {
        assert!(
            matches!(poll(status, body), PollAnswer::Unclear { .. }),
            "{status} {body}: {:?}",
            poll(status, body)
        )
    };
    for status in [500, 502, 503, 504, 520, 301, 307, 400, 402, 405, 408, 409, 204] {
        unclear(status, "<html>");
        unclear(status, r#"{"code":"INTERNAL_ERROR","message":"try again later"}"#);
    }
    for body in [
        "",
        "<html>SUCCESS</html>",
        r#"{"data":{"status":"SUCC"#,
        "[]",
        "{}",
        r#"{"code":200,"data":null}"#,
        r#"{"code":200,"data":{"task_id":"n75abc123kling3"}}"#,
        r#"{"code":200,"data":{"task_id":"n75other","status":"SUCCESS","response":["https://cdn.example/a.mp4"]}}"#,
        r#"{"code":200,"data":{"task_id":"n75other","status":"FAILED"}}"#,
        r#"{"code":500,"message":"upstream"}"#,
    ] {
        unclear(200, body);
    }
}

#[test]
fn absence_keys_and_rates() {
    for (http, body) in
        [(404, ""), (404, "{}"), (422, "<html>"), (200, r#"{"code":404}"#), (200, r#"{"code":"422"}"#)]
    {
        assert_eq!(poll(http, body), PollAnswer::NotFound, "{http} {body}");
    }
    assert!(matches!(poll(403, "<html>"), PollAnswer::Forbidden { .. }));
    for (http, body) in [(401, ""), (200, r#"{"code":401,"message":"INVALID_API_KEY"}"#)] {
        assert!(matches!(poll(http, body), PollAnswer::KeyRefused { .. }), "{http} {body}");
    }
    let headers = vec![("retry-after".to_owned(), "9".to_owned())];
    for (http, body) in [(429, ""), (200, r#"{"code":429,"message":"slow down"}"#)] {
        let wish = Some(Duration::from_secs(9));
        assert_eq!(status(http, &headers, body, &asked()).0, PollAnswer::RateLimited { retry_after: wish });
        assert_eq!(poll(http, body), PollAnswer::RateLimited { retry_after: None });
    }
}

#[test]
fn echoes_in_other_shapes() {
    let echo = |data: Value| status(200, &[], &json!({"data": data}).to_string(), &asked()).1;
    let e = echo(json!({"status": "X", "request": "{\"prompt\":\"a\"}", "created_at": 1_770_287_400}));
    assert_eq!(Value::Object(e.request), json!({"prompt": "a"}));
    assert_eq!(e.created_at, Some(Timestamp::from_millis(1_770_287_400_000)));
    let e = echo(json!({"status": "X", "request": 5, "created_at": "1770287400123"}));
    assert_eq!((e.request.len(), e.created_at), (0, Some(Timestamp::from_millis(1_770_287_400_123))));
    assert_eq!(echo(json!({"status": "X", "created_at": "yesterday"})), Echo::default());
}

/// Bodies that come close to what the API says, and anything else.
fn body() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "INVALID_PROMPT",
        "INVALID_API_KEY",
        "INSUFFICIENT_CREDITS",
        "RATE_LIMITED",
        "INTERNAL_ERROR",
        "parallel",
        "积分",
    ]);
    let json = (word, 0..1000_u16, ".{0,20}").prop_map(|(word, code, text)| {
        json!({"code": code, "error": word, "message": text, "data": {"status": word}}).to_string()
    });
    prop_oneof![json, ".{0,80}", any::<Vec<u8>>().prop_map(|b| String::from_utf8_lossy(&b).into_owned())]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let phase = prop::sample::select(vec![Phase::Connect, Phase::Sent, Phase::Body]);
    let status = prop_oneof![
        prop::sample::select(vec![200_u16, 302, 400, 401, 402, 403, 404, 413, 422, 429, 500, 503]),
        any::<u16>()
    ];
    (prop::option::of(phase), prop::option::of(status), body()).prop_map(|(phase, status, body)| Evidence {
        transport: phase.map(|phase| TransportFailure { phase, message: "reset".to_owned() }),
        status,
        body,
        ..Evidence::default()
    })
}

proptest! {
    #[test]
    fn nothing_panics_and_nothing_is_accepted_without_its_id(evidence in evidence()) {
        if let SubmitAnswer::Accepted { task, .. } = submit(&evidence) {
            prop_assert!(evidence.body.contains(task.as_str()));
        }
        status(evidence.status.unwrap_or(0), &evidence.headers, &evidence.body, &asked());
        key_works(evidence.status.unwrap_or(0), &evidence.body);
    }

    #[test]
    fn a_body_with_a_task_id_is_never_called_uncharged(
        evidence in evidence(),
        id in "n7[15][a-z0-9]{7,20}|[A-Za-z0-9_-]{10,40}",
        key in "task_id|taskId|TaskID|task-id",
        at in any::<prop::sample::Index>(),
        is_json in any::<bool>(),
    ) {
        let mut evidence = evidence;
        match wire::object(&evidence.body) {
            Some(Value::Object(mut fields)) if is_json => {
                fields.insert("extra".to_owned(), json!([{ key: id }]));
                evidence.body = Value::Object(fields).to_string();
            }
            _ => {
                let places: Vec<usize> =
                    evidence.body.char_indices().map(|(at, _)| at).chain([evidence.body.len()]).collect();
                evidence.body.insert_str(*at.get(&places), &format!("\"{key}\" : \"{id}\""));
            }
        }
        let what = submit(&evidence);
        let sent = evidence.status.is_some()
            || evidence.transport.as_ref().is_some_and(|failure| failure.phase != Phase::Connect);
        if sent {
            prop_assert!(
                matches!(what, SubmitAnswer::Accepted { .. } | SubmitAnswer::Unknown { .. }),
                "{evidence:?}: {what:?}"
            );
        }
    }

    #[test]
    fn cutting_an_answer_anywhere_never_changes_the_task(at in any::<prop::sample::Index>(), text in ".{0,30}") {
        let full = json!({"message": text, "data": {"prompt": text, "task_id": "n75abc123kling3"}, "z": [text]}).to_string();
        let places: Vec<usize> = full.char_indices().map(|(at, _)| at).collect();
        let body = full.get(..*at.get(&places)).unwrap();
        match submit(&cut(Phase::Body, Some(200), body)) {
            SubmitAnswer::Accepted { task, .. } => prop_assert_eq!(task, asked()),
            other => prop_assert_eq!(outcome(&other), Outcome::Unknown),
        }
    }
}

#[test]
fn a_code_without_end_is_cut() {
    let body = format!(r#"{{"code":"INVALID_{}","message":"no"}}"#, "A".repeat(800));
    let SubmitAnswer::Refused(failure) = answer(400, &body) else { panic!("{body}") };
    assert_eq!(failure.code.len(), MAX_CODE_CHARS);
}
