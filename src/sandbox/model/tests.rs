//! The provider's rules, by the page and by the clock, without a socket.

use std::time::Duration;

use http::Method;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use super::*;
use crate::sandbox::{AcceptKeys, Options};

fn noon() -> Timestamp {
    "2026-02-05T12:00:00.75Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    noon() + seconds.seconds()
}

/// A provider that renders in exactly ten seconds.
fn options(faults: &str) -> Options {
    let render_time = Duration::from_secs(10)..=Duration::from_secs(10);
    Options { render_time, faults: faults.parse().unwrap(), ..Options::new(noon) }
}

fn model(faults: &str) -> Model {
    Model::new(&options(faults))
}

fn post(body: &str) -> Call {
    Call {
        method: Method::POST,
        path: "/api/generate".to_owned(),
        authorization: Some("Bearer k".to_owned()),
        body: body.to_owned().into(),
        base: "http://double".to_owned(),
        ..Call::default()
    }
}

fn get(url: &str) -> Call {
    let (path, query) = url.trim_start_matches("http://double").split_once('?').unwrap_or((url, ""));
    Call {
        path: path.to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        base: "http://double".to_owned(),
        ..Call::default()
    }
}

fn ask(id: &str) -> Call {
    Call { authorization: Some("Bearer k".to_owned()), ..get(&format!("/api/status?task_id={id}")) }
}

fn fox() -> Value {
    json!({"type": "pro-text-to-video", "prompt": "a fox", "duration": 5, "aspect_ratio": "16:9", "sound": true})
}

fn body(reply: &Reply) -> Value {
    let Payload::Text(text) = &reply.payload else { panic!("not a text: {reply:?}") };
    serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
}

/// Submits, which must be accepted, and gives the task's id.
fn submit(model: &mut Model, now: Timestamp, request: &Value) -> String {
    let reply = model.handle(now, &post(&request.to_string()));
    body(&reply)["data"]["task_id"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

fn status(model: &mut Model, now: Timestamp, id: &str) -> Value {
    body(&model.handle(now, &ask(id)))
}

fn first_url(model: &mut Model, now: Timestamp, id: &str) -> String {
    status(model, now, id)["data"]["response"][0].as_str().unwrap().to_owned()
}

#[test]
fn prices_are_the_pages() {
    // Type, credits of five silent seconds, of five with sound: reckoned by hand from the page.
    let page = [
        ("pro-text-to-video", 270, 400),
        ("pro-image-to-video", 270, 400),
        ("std-text-to-video", 200, 300),
        ("std-image-to-video", 200, 300),
        ("o3-pro-text-to-video", 240, 240),
        ("o3-pro-image-to-video", 240, 240),
        ("o3-pro-reference-to-video", 360, 360),
        ("o3-pro-video-edit", 435, 435),
        ("o3-std-text-to-video", 180, 180),
        ("o3-std-image-to-video", 180, 180),
        ("o3-std-reference-to-video", 100, 100),
        ("o3-std-video-edit", 360, 360),
    ];
    for (kind, silent, with_sound) in page {
        let mut model = model("");
        let mut request =
            json!({"type": kind, "prompt": "p", "image": "https://a/i.jpg", "video": "https://a/v.mp4"});
        let mut price = |request: &Value| {
            let before = model.balance();
            let reply = body(&model.handle(noon(), &post(&request.to_string())));
            assert_eq!(reply["data"]["consumed_credits"], before - model.balance(), "{request}");
            before - model.balance()
        };
        assert_eq!(price(&request), with_sound, "{kind}: duration and sound by default");
        request["sound"] = json!(false);
        assert_eq!(price(&request), silent, "{kind}");
        request["duration"] = json!(15);
        let per_second = !kind.ends_with("edit");
        assert_eq!(price(&request), if per_second { silent * 3 } else { silent }, "{kind}: 15 s");
    }
}

#[test]
fn what_the_page_rules_out_is_refused_with_its_code_and_not_charged() {
    let changed = |name: &str, value: Value| {
        let mut request = fox();
        request[name] = value;
        request.to_string()
    };
    let cases = [
        (changed("prompt", json!("")), json!("INVALID_PROMPT")),
        (changed("prompt", json!(" \n")), json!("INVALID_PROMPT")),
        (changed("prompt", json!(null)), json!("INVALID_PROMPT")),
        (changed("prompt", json!("ü".repeat(2001))), json!("INVALID_PROMPT")),
        (changed("duration", json!(2)), json!("INVALID_DURATION")),
        (changed("duration", json!(16)), json!("INVALID_DURATION")),
        (changed("duration", json!(5.5)), json!("INVALID_DURATION")),
        (changed("duration", json!("5")), json!("INVALID_DURATION")),
        (changed("type", json!("ultra-text-to-video")), json!("INVALID_TYPE")),
        (changed("type", json!(null)), json!("INVALID_TYPE")),
        (changed("type", json!("std-image-to-video")), json!("MISSING_IMAGE")),
        (changed("type", json!("o3-pro-image-to-video")), json!("MISSING_IMAGE")),
        (changed("type", json!("o3-std-video-edit")), json!("MISSING_VIDEO")),
        // Ruled out by the page, without a code of its own.
        (changed("aspect_ratio", json!("4:3")), json!(400)),
        (changed("sound", json!("yes")), json!(400)),
        (changed("cfg_scale", json!(1.5)), json!(400)),
        (changed("image", json!("fox.jpg")), json!(400)),
        (changed("images", json!(vec!["https://a/i.jpg"; 8])), json!(400)),
        ("[]".to_owned(), json!(400)),
        ("{".to_owned(), json!(400)),
    ];
    let mut model = model("");
    for (request, code) in cases {
        let reply = model.handle(noon(), &post(&request));
        assert_eq!((reply.status, &body(&reply)["code"]), (400, &code), "{request}");
    }
    assert_eq!((model.charges().len(), model.balance()), (0, 1_000_000));
}

#[test]
fn what_the_page_does_not_mention_is_accepted_and_paid() {
    let mut model = model("");
    let mut request = fox();
    request["prompt"] = json!("ü".repeat(2000));
    request["image"] = json!("https://a/ignored.jpg");
    request["seed"] = json!(75);
    submit(&mut model, noon(), &request);
    assert_eq!(model.charges()[0].request, request.to_string());
}

#[test]
fn a_key_is_missing_or_wrong() {
    let mut model = Model::new(&Options { keys: AcceptKeys::Only(vec!["right".to_owned()]), ..options("") });
    let mut call = post(&fox().to_string());
    for (authorization, status) in [
        (None, 401),
        (Some("Bearer wrong"), 401),
        (Some("Bearer "), 401),
        (Some("right"), 401),
        (Some("bearer right"), 200),
        (Some("Bearer right"), 200),
    ] {
        call.authorization = authorization.map(str::to_owned);
        let reply = model.handle(noon(), &call);
        assert_eq!(reply.status, status, "{authorization:?}");
        if status == 401 {
            assert_eq!(body(&reply)["code"], "INVALID_API_KEY");
        }
    }
    let seen: Vec<_> =
        model.requests().iter().map(|request| (request.key_sent, request.authorised)).collect();
    assert_eq!(
        seen,
        [(false, false), (true, false), (true, false), (true, false), (true, true), (true, true)]
    );
    assert_eq!(format!("{:?}", model.keys), "Only(1 keys)");
}

#[test]
fn an_account_cannot_be_overdrawn() {
    let mut model = Model::new(&Options { balance: 799, ..options("") });
    submit(&mut model, noon(), &fox());
    let reply = model.handle(noon(), &post(&fox().to_string()));
    assert_eq!((reply.status, &body(&reply)["code"]), (402, &json!("INSUFFICIENT_CREDITS")));
    assert_eq!((model.balance(), model.charges().len()), (399, 1));

    model.set_balance(400);
    submit(&mut model, noon(), &fox());
    assert_eq!(model.balance(), 0);
}

#[test]
fn too_many_requests_are_refused_until_the_bucket_refills() {
    let limit = Options { requests_per_second: Some((0.5, 2)), retry_after: true, ..options("") };
    let mut model = Model::new(&limit);
    let mut answers = |now| {
        let reply = model.handle(now, &ask("n75nothing"));
        (reply.status, header(&reply, "retry-after").map(str::to_owned))
    };
    assert_eq!([answers(at(0)).0, answers(at(0)).0], [404, 404]);
    assert_eq!(answers(at(0)), (429, Some("2".to_owned())));
    assert_eq!(answers(at(1)), (429, Some("1".to_owned())));
    assert_eq!(answers(at(2)).0, 404);
    assert_eq!(answers(at(-3600)).0, 429, "a clock that jumps back gives nothing");
    assert_eq!(
        [answers(at(60)).0, answers(at(60)).0, answers(at(60)).0],
        [404, 404, 429],
        "no more than the burst"
    );

    let mut silent = Model::new(&Options { retry_after: false, ..limit });
    let replies: Vec<Reply> = (0..3).map(|_| silent.handle(noon(), &ask("n75nothing"))).collect();
    assert_eq!((replies[2].status, header(&replies[2], "retry-after")), (429, None));
    assert_eq!(body(&replies[2])["code"], "RATE_LIMITED");
}

#[test]
fn parallel_tasks_are_limited_and_an_end_frees_a_place() {
    let mut model = Model::new(&Options { parallel_tasks: Some(2), ..options("") });
    submit(&mut model, at(0), &fox());
    submit(&mut model, at(5), &fox());
    let reply = model.handle(at(9), &post(&fox().to_string()));
    assert_eq!(reply.status, 429);
    assert!(body(&reply)["message"].as_str().unwrap().contains("too many parallel tasks"));
    submit(&mut model, at(10), &fox());
    assert_eq!(model.charges().len(), 3);
}

#[test]
fn a_task_renders_and_its_report_reads_like_the_pages() {
    let mut model = model("");
    let id = submit(&mut model, noon(), &fox());
    assert_eq!(status(&mut model, at(9), &id)["data"]["status"], "IN_PROGRESS");

    let report = status(&mut model, at(10), &id);
    let url = report["data"]["response"][0].as_str().unwrap();
    assert!(url.starts_with(&format!("http://double/videos/{id}/1.mp4?sig=")), "{url}");
    let expected = json!({
        "code": 200,
        "message": "success",
        "data": {
            "task_id": id,
            "status": "SUCCESS",
            "consumed_credits": 400,
            "created_at": "2026-02-05T12:00:00Z",
            "request": {"type": "pro-text-to-video", "prompt": "a fox", "duration": 5, "aspect_ratio": "16:9"},
            "response": [url],
            "error_message": null,
            "type": "pro-text-to-video",
        }
    });
    assert_eq!(report, expected);
    assert_eq!(model.handle(at(10), &ask("n75unknown")).status, 404);
    assert_eq!(model.handle(at(10), &Call { query: vec![], ..ask("") }).status, 400);
}

#[test]
fn task_ids_tell_the_model_and_never_repeat() {
    let mut model = model("");
    let o3 = json!({"type": "o3-std-text-to-video", "prompt": "a fox"});
    let ids: Vec<String> = (0..500).map(|n| submit(&mut model, noon(), [&o3, &fox()][n % 2])).collect();
    assert!(ids[0].starts_with("n71") && ids[1].starts_with("n75"), "{ids:?}");
    assert!(ids.iter().all(|id| id.ends_with("kling3")));
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 500);
}

#[test]
fn a_failed_task_is_paid_back_when_it_fails_and_not_before() {
    let mut model = model("task:fail=\"Content, policy\"~fox,task:fail-no-refund=No~owl,task:never~elk");
    let id = submit(&mut model, noon(), &fox());
    assert_eq!(status(&mut model, at(9), &id)["data"]["status"], "IN_PROGRESS");
    assert_eq!((model.balance(), model.charges()[0].refunded), (999_600, false));

    let report = status(&mut model, at(10), &id);
    assert_eq!(report["data"]["status"], "FAILED");
    assert_eq!(report["data"]["error_message"], "Content, policy");
    assert_eq!((model.balance(), model.charges()[0].refunded), (1_000_000, true));
    assert_eq!(model.charges_for("a fox"), 1);

    let owl = submit(&mut model, at(10), &json!({"type": "std-text-to-video", "prompt": "an owl"}));
    let elk = submit(&mut model, at(10), &json!({"type": "std-text-to-video", "prompt": "an elk"}));
    assert_eq!(status(&mut model, at(20), &owl)["data"]["error_message"], "No");
    assert_eq!(status(&mut model, at(99_999_999), &elk)["data"]["status"], "IN_PROGRESS");
    assert_eq!(model.balance(), 999_400);
}

#[test]
fn links_expire_and_the_next_status_call_renews_them() {
    let mut model = Model::new(&Options { link_life: Duration::from_secs(60), ..options("") });
    let id = submit(&mut model, noon(), &fox());
    let early = model.handle(at(5), &get(&format!("/videos/{id}/1.mp4?sig=guess")));
    assert_eq!(early.status, 404, "nothing is there before it is rendered");

    let old = first_url(&mut model, at(10), &id);
    assert_eq!(first_url(&mut model, at(69), &id), old, "a link that works is not changed");
    assert_eq!(model.handle(at(69), &get(&old)).status, 200);
    assert_eq!(model.handle(at(70), &get(&old)).status, 403);

    let new = first_url(&mut model, at(70), &id);
    assert_ne!(new, old);
    assert_eq!(
        [model.handle(at(70), &get(&old)).status, model.handle(at(70), &get(&new)).status],
        [403, 200]
    );
    assert_eq!(model.handle(at(70), &get(&new.replace("/1.mp4", "/2.mp4"))).status, 404);
}

#[test]
fn unknown_paths_and_methods_are_refused_in_json() {
    let mut model = model("");
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/api/generate", 405),
        (Method::POST, "/api/status", 405),
        (Method::POST, "/videos/x/1.mp4", 405),
        (Method::DELETE, "/sandbox/ledger", 405),
    ] {
        let reply = model.handle(noon(), &Call { method, path: path.to_owned(), ..Call::default() });
        assert_eq!((reply.status, &body(&reply)["code"]), (status, &json!(status)), "{path}");
    }
}

#[test]
fn the_ledger_is_there_for_scripts() {
    let mut model = model("generate:close-after,status:500");
    model.handle(noon(), &post(&fox().to_string()));
    let ledger = body(&model.handle(noon(), &get("/sandbox/ledger")));
    let id = &model.tasks()[0].id;
    let expected = json!({
        "balance": 999_600,
        "charges": [{"seq": 1, "at": "2026-02-05T12:00:00.75Z", "task_id": id, "credits": 400, "request": fox(), "refunded": false, "kept": 400}],
        "faults_fired": {"generate:close-after": 1, "status:500": 0},
        "tasks": [{"task_id": id, "status": "IN_PROGRESS", "created_at": "2026-02-05T12:00:00.75Z",
            "type": "pro-text-to-video", "prompt": "a fox", "credits": 400}],
    });
    assert_eq!(ledger, expected);
}

#[test]
fn the_same_seed_gives_the_same_provider() {
    let run = |seed| {
        let mut model = Model::new(&Options { seed, ..options("generate:500%50") });
        for _ in 0..20 {
            model.handle(noon(), &post(&fox().to_string()));
        }
        model.tasks().iter().map(|task| task.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(75), run(75));
    assert_ne!(run(75), run(76));
}

/// One submit under a fault: the answer, and whether it was charged.
fn spoiled_submit(fault: &str) -> (Reply, bool) {
    let mut model = model(&format!("generate:{fault}@2"));
    submit(&mut model, noon(), &json!({"type": "std-text-to-video", "prompt": "an earlier one"}));
    let reply = model.handle(noon(), &post(&fox().to_string()));
    assert_eq!(model.fired().values().sum::<u64>(), 1, "{fault} did not fire");
    (reply, model.charges_for("a fox") == 1)
}

#[test]
fn http_faults_of_a_submit_have_the_body_and_the_bill_that_they_name() {
    // Fault, charged, and what the body must contain.
    let cases = [
        ("500", false, "\"code\":\"INTERNAL_ERROR\""),
        ("500-charged", true, "\"code\":\"INTERNAL_ERROR\""),
        ("500-number", false, "\"code\":500"),
        ("500-html", false, "<html>"),
        ("500-foreign", false, "upstream_error"),
        ("500-task-id", true, "\"task_id\":\"n75"),
        ("502-html-charged", true, "<h1>502 Bad Gateway</h1>"),
        ("503", false, "\"code\":503"),
        ("520-html", false, "<h1>520 "),
        ("400", false, "\"code\":\"INVALID_PROMPT\""),
        ("400=INVALID_DURATION", false, "\"code\":\"INVALID_DURATION\""),
        ("400-credits", false, "\"code\":400,\"message\":\"Your account balance"),
        ("429-credits", false, "\"code\":429,\"message\":\"Your account balance"),
        ("429-parallel", false, "too many parallel tasks"),
        ("403-echo", false, "\"prompt\":\"a fox\""),
        ("401", false, "INVALID_API_KEY"),
        ("402", false, "INSUFFICIENT_CREDITS"),
        ("404", false, "\"code\":404"),
        ("413", false, "\"code\":413"),
    ];
    for (fault, charged, part) in cases {
        let (reply, was_charged) = spoiled_submit(fault);
        let Payload::Text(text) = &reply.payload else { panic!("{reply:?}") };
        assert_eq!(reply.status.to_string(), fault[..3], "{fault}");
        assert!(text.contains(part), "{fault}: {text}");
        assert_eq!(was_charged, charged, "{fault}");
    }
    for fault in ["504-empty", "504-empty-charged"] {
        assert_eq!(spoiled_submit(fault).0.payload.len(), 0);
    }
    for fault in ["429=7", "503=7", "429-html=7", "429-parallel=7"] {
        assert_eq!(header(&spoiled_submit(fault).0, "retry-after"), Some("7"), "{fault}");
    }
}

#[test]
fn odd_acceptances_are_charged_and_odd() {
    let data = |fault: &str| {
        let (reply, charged) = spoiled_submit(fault);
        assert_eq!((reply.status, charged), (200, true), "{fault}");
        body(&reply)["data"].clone()
    };
    assert_eq!(data("no-task-id"), json!({"status": "IN_PROGRESS", "consumed_credits": 400}));
    assert_eq!(data("no-credits-field").as_object().unwrap().len(), 2);
    assert_eq!(data("other-credits=77")["consumed_credits"], 77);
    assert_eq!(data("already-success")["status"], "SUCCESS");
    assert_eq!(data("already-failed")["status"], "FAILED");
    assert_eq!(data("padded=1000")["status"], "IN_PROGRESS");

    let mut model = model("generate:duplicate-task-id,generate:other-credits=77");
    let first = submit(&mut model, noon(), &fox());
    assert_eq!(model.charges()[0].credits, 77, "the duplicate waits for something to repeat");
    assert_eq!(submit(&mut model, noon(), &fox()), first);
    assert_eq!((model.charges().len(), model.balance()), (2, 999_523));
    assert_ne!(model.tasks()[1].id, first);

    let (reply, charged) = spoiled_submit("code-in-200=429");
    assert_eq!((reply.status, &body(&reply)["code"], charged), (200, &json!(429), false));
    let (reply, charged) = spoiled_submit("redirect=308");
    assert_eq!(
        (reply.status, header(&reply, "location"), charged),
        (308, Some("http://double/api/generate"), false)
    );
}

/// One status call of a finished task under a fault.
fn spoiled_status(fault: &str) -> Value {
    let mut model = model(&format!("status:{fault}"));
    let id = submit(&mut model, noon(), &fox());
    let report = status(&mut model, at(10), &id);
    assert_eq!(model.fired().values().sum::<u64>(), 1, "{fault} did not fire");
    assert_eq!(status(&mut model, at(10), &id)["data"]["status"], "SUCCESS", "the truth is untouched");
    report["data"].clone()
}

#[test]
fn status_words_are_replaced() {
    for (fault, word, with_video) in [
        ("word=PENDING", "PENDING", false),
        ("failed-once", "FAILED", false),
        ("COMPLETED", "COMPLETED", true),
        ("SUCCEEDED", "SUCCEEDED", true),
        ("success-word=Finished", "Finished", true),
        ("lower-case", "success", true),
    ] {
        let data = spoiled_status(fault);
        assert_eq!(
            (data["status"].as_str(), data["response"].is_array()),
            (Some(word), with_video),
            "{fault}"
        );
    }
    assert_eq!(spoiled_status("success-no-url")["response"], json!([]));

    let mut model = model("task:fail,status:failed-word=EXPIRED,status:stale-in-progress");
    let id = submit(&mut model, noon(), &fox());
    assert_eq!(status(&mut model, at(9), &id)["data"]["status"], "IN_PROGRESS");
    assert_eq!(status(&mut model, at(10), &id)["data"]["status"], "EXPIRED");
    assert_eq!(status(&mut model, at(10), &id)["data"]["status"], "FAILED");
    let id = submit(&mut model, noon(), &fox());
    let words = [10, 10, 10].map(|s| status(&mut model, at(s), &id)["data"]["status"].clone());
    assert_eq!(words, ["SUCCESS", "IN_PROGRESS", "SUCCESS"]);
}

#[test]
fn videos_come_in_every_shape() {
    let strings = |value: &Value| value.as_str().map(|text| serde_json::from_str::<Value>(text).unwrap());
    let response = |shape: &str| spoiled_status(&format!("urls={shape}"))["response"].clone();
    assert!(response("array")[0].is_string());
    assert!(response("objects")[0]["url"].is_string());
    assert!(response("resultUrls")["resultUrls"][0].is_string());
    assert!(strings(&response("json-string")).unwrap()[0].is_string());
    assert!(strings(&response("json-objects")).unwrap()[0]["url"].is_string());
    assert!(strings(&response("json-resultUrls")).unwrap()["resultUrls"][0].is_string());
    assert!(response("bare").as_str().unwrap().starts_with("http://double/videos/"));
    assert_eq!(
        spoiled_status("url=http://169.254.169.254/x")["response"],
        json!(["http://169.254.169.254/x"])
    );
}

#[test]
fn a_task_may_have_two_videos_which_differ() {
    let mut model = model("status:two-videos");
    let id = submit(&mut model, noon(), &fox());
    let urls = status(&mut model, at(10), &id)["data"]["response"].clone();
    assert_eq!(urls.as_array().unwrap().len(), 2);
    for url in urls.as_array().unwrap() {
        assert_eq!(model.handle(at(10), &get(url.as_str().unwrap())).status, 200);
    }
    assert_ne!(model.video(&id, 1), model.video(&id, 2));
    assert_eq!(model.video(&id, 3), None);
}

#[test]
fn a_report_may_be_anothers_or_lack_the_request() {
    let mut model = model("status:other-task~fox");
    let owl = submit(&mut model, noon(), &json!({"type": "std-text-to-video", "prompt": "an owl"}));
    let id = submit(&mut model, noon(), &fox());
    let other = status(&mut model, at(10), &id);
    assert_eq!(other["data"]["task_id"], json!(owl));
    assert_ne!(spoiled_status("other-task")["task_id"], json!(id), "alone, it invents one");

    assert_eq!(spoiled_status("no-echo")["request"], Value::Null);
    assert_eq!(spoiled_status("echo-defaults")["request"], fox());
}
