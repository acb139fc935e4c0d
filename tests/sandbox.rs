//! The provider's double over real sockets, by a client that knows nothing of HTTP libraries: what is promised about
//! bytes, ends of streams and resets is looked at where it happens.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use klingd::sandbox::{AcceptKeys, Model, Options, Sandbox, TaskState};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

fn noon() -> Timestamp {
    "2026-02-05T12:00:00Z".parse().unwrap()
}

/// Renders take no time, so that nothing here waits.
fn options(faults: &str) -> Options {
    Options {
        render_time: Duration::ZERO..=Duration::ZERO,
        faults: faults.parse().unwrap(),
        ..Options::new(noon)
    }
}

async fn start(options: Options) -> Sandbox {
    let (sandbox, server) = Sandbox::bind(options).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
    tokio::spawn(server.serve(CancellationToken::new()));
    sandbox
}

/// What came back, and how it ended: `Ok` is the end of the stream.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    end: Result<(), ErrorKind>,
}

impl Answer {
    fn split(&self) -> (&str, &[u8]) {
        let at = self.bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        (std::str::from_utf8(&self.bytes[..at]).unwrap(), &self.bytes[at + 4..])
    }

    fn status(&self) -> u16 {
        self.split().0.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.split().0.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn length(&self) -> usize {
        self.header("content-length").unwrap().parse().unwrap()
    }

    fn body(&self) -> &[u8] {
        self.split().1
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.body()).unwrap()
    }
}

fn address(sandbox: &Sandbox) -> SocketAddr {
    sandbox.base_url().strip_prefix("http://").unwrap().parse().unwrap()
}

async fn send(sandbox: &Sandbox, head: &str, body: &str) -> TcpStream {
    let host = address(sandbox);
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "{head}\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn exchange(sandbox: &Sandbox, head: &str, body: &str) -> Answer {
    let mut stream = send(sandbox, head, body).await;
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).await.map(drop).map_err(|error| error.kind());
    Answer { bytes, end }
}

const GENERATE: &str =
    "POST /api/generate HTTP/1.1\r\nAuthorization: Bearer k\r\nContent-Type: application/json";

fn request(prompt: &str) -> String {
    json!({"type": "pro-text-to-video", "prompt": prompt, "duration": 5, "aspect_ratio": "16:9", "sound": true}).to_string()
}

async fn generate(sandbox: &Sandbox, prompt: &str) -> Answer {
    exchange(sandbox, GENERATE, &request(prompt)).await
}

async fn status(sandbox: &Sandbox, task_id: &str) -> Answer {
    let head = format!("GET /api/status?task_id={task_id} HTTP/1.1\r\nAuthorization: Bearer k");
    exchange(sandbox, &head, "").await
}

/// Generates, and gives the task's id and the path of its video.
async fn ready_video(sandbox: &Sandbox) -> (String, String) {
    let id = generate(sandbox, "a fox").await.json()["data"]["task_id"].as_str().unwrap().to_owned();
    let url = status(sandbox, &id).await.json()["data"]["response"][0].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&sandbox.base_url()).unwrap().to_owned();
    (id, path)
}

async fn get(sandbox: &Sandbox, path: &str, headers: &str) -> Answer {
    exchange(sandbox, &format!("GET {path} HTTP/1.1{headers}"), "").await
}

#[tokio::test]
async fn a_job_goes_from_generate_to_its_video() {
    let sandbox = start(options("")).await;

    let accepted = generate(&sandbox, "a fox").await;
    assert_eq!(accepted.status(), 200);
    let id = accepted.json()["data"]["task_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("n75") && id.ends_with("kling3"), "{id}");
    let expected = json!({"code": 200, "message": "success",
        "data": {"task_id": id, "status": "IN_PROGRESS", "consumed_credits": 400}});
    assert_eq!(accepted.json(), expected);

    let report = status(&sandbox, &id).await.json();
    let url = report["data"]["response"][0].as_str().unwrap();
    assert!(url.starts_with(&sandbox.base_url()), "{url}");
    let (_, path) = url.split_at(sandbox.base_url().len());
    let video = get(&sandbox, path, "").await;
    assert_eq!((video.status(), video.header("content-type")), (200, Some("video/mp4")));
    assert_eq!(video.body(), sandbox.video(&id, 1).unwrap());
    assert_eq!(video.length(), video.body().len());
    assert_eq!((sandbox.charges_for("a fox"), sandbox.balance()), (1, 999_600));

    let seen: Vec<_> =
        sandbox.requests().into_iter().map(|seen| (seen.method, seen.task_id, seen.key_sent)).collect();
    let expected = [("POST", None, true), ("GET", Some(&id), true), ("GET", Some(&id), false)];
    assert_eq!(seen, expected.map(|(method, task, key)| (method.to_owned(), task.cloned(), key)));
}

/// Nothing more comes, and the connection is still there.
fn is_silent(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test]
async fn a_submit_without_an_answer_ends_as_its_fault_says_and_is_charged_as_it_says() {
    for (fault, end, charged) in [
        ("reset-before", Err(ErrorKind::ConnectionReset), 0),
        ("reset-after", Err(ErrorKind::ConnectionReset), 1),
        ("close-before", Ok(()), 0),
        ("close-after", Ok(()), 1),
    ] {
        let name = format!("generate:{fault}");
        let sandbox = start(options(&name)).await;
        let answer = generate(&sandbox, "a fox").await;
        assert_eq!((answer.bytes.len(), answer.end), (0, end), "{fault}");
        assert_eq!((sandbox.charges_for("a fox"), sandbox.fired()[&name]), (charged, 1), "{fault}");
        assert_eq!(sandbox.requests()[0].status, None, "{fault}");
        assert_eq!(generate(&sandbox, "a fox").await.status(), 200, "only once");
    }
}

#[tokio::test]
async fn a_hanging_submit_is_seen_by_the_model_and_nothing_comes_back() {
    for (fault, charged) in [("hang-before", 0), ("hang-after", 1)] {
        let sandbox = start(options(&format!("generate:{fault}"))).await;
        let stream = send(&sandbox, GENERATE, &request("a fox")).await;
        sandbox.wait_until(|model| model.requests().len() == 1).await;
        assert!(is_silent(&stream), "{fault}");
        assert_eq!(sandbox.charges_for("a fox"), charged, "{fault}");
        drop(stream);
        assert_eq!(generate(&sandbox, "a fox").await.status(), 200);
    }
}

#[tokio::test]
async fn a_cut_acceptance_ends_at_the_byte_that_its_fault_names() {
    for (fault, part, end) in [
        ("cut-body", "before", Ok(())),
        ("cut-body-inside-id", "inside", Ok(())),
        ("cut-body-after-id", "after", Ok(())),
        ("reset-body", "before", Err(ErrorKind::ConnectionReset)),
        ("reset-body-after-id", "after", Err(ErrorKind::ConnectionReset)),
    ] {
        let sandbox = start(options(&format!("generate:{fault}"))).await;
        let answer = generate(&sandbox, "a fox").await;
        let body = String::from_utf8(answer.body().to_vec()).unwrap();
        assert!(answer.length() > body.len(), "{fault}: {body}");
        assert_eq!(answer.end, end, "{fault}");

        let id = sandbox.tasks()[0].id.clone();
        let begin = "{\"code\":200,\"message\":\"success\",\"data\":{\"task_id\":\"";
        let expected = match part {
            "before" => begin.to_owned(),
            "inside" => format!("{begin}{}", &id[..id.len() / 2]),
            _ => format!("{begin}{id}\""),
        };
        assert_eq!(body, expected, "{fault}");
        assert_eq!(sandbox.charges_for("a fox"), 1, "{fault}");
    }
}

#[tokio::test]
async fn a_stalled_acceptance_stays_open() {
    let sandbox = start(options("generate:stall-body-after-id")).await;
    let mut stream = send(&sandbox, GENERATE, &request("a fox")).await;
    let mut received = Vec::new();
    while !received.ends_with(b"kling3\"") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
    }
    assert!(is_silent(&stream));
}

#[tokio::test]
async fn answers_of_http_faults_arrive_as_they_are() {
    let faults = "generate:429=\"Wed, 21 Oct 2015 07:28:00 GMT\",generate:502-html,generate:504-empty-charged,generate:307";
    let sandbox = start(options(faults)).await;

    let refused = generate(&sandbox, "a fox").await;
    assert_eq!(
        (refused.status(), refused.header("retry-after")),
        (429, Some("Wed, 21 Oct 2015 07:28:00 GMT"))
    );
    assert_eq!(refused.json()["code"], "RATE_LIMITED");
    let html = generate(&sandbox, "a fox").await;
    assert_eq!((html.status(), html.header("content-type")), (502, Some("text/html; charset=UTF-8")));
    assert_eq!(sandbox.charges_for("a fox"), 0);
    let empty = generate(&sandbox, "a fox").await;
    assert_eq!((empty.status(), empty.length(), empty.body()), (504, 0, &b""[..]));
    assert_eq!(sandbox.charges_for("a fox"), 1);
    let moved = generate(&sandbox, "a fox").await;
    let here = format!("{}/api/generate", sandbox.base_url());
    assert_eq!((moved.status(), moved.header("location")), (307, Some(here.as_str())));
    let statuses: Vec<_> = sandbox.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(429), Some(502), Some(504), Some(307)]);
}

#[tokio::test]
async fn a_padded_answer_is_as_long_as_it_says() {
    let sandbox = start(options("generate:padded=3000000,status:padded=3000000")).await;
    let answer = generate(&sandbox, "a fox").await;
    assert_eq!((answer.length(), answer.json()["code"].as_u64()), (answer.body().len(), Some(200)));
    assert!(answer.length() > 3_000_000);
    let id = sandbox.tasks()[0].id.clone();
    assert!(status(&sandbox, &id).await.length() > 3_000_000);
}

#[tokio::test]
async fn a_status_call_breaks_as_its_fault_says() {
    let sandbox =
        start(options("status:reset,status:close,status:cut-body,status:not-json,status:hang")).await;
    generate(&sandbox, "a fox").await;
    let id = sandbox.tasks()[0].id.clone();
    let reset = status(&sandbox, &id).await;
    assert_eq!((reset.bytes.len(), reset.end), (0, Err(ErrorKind::ConnectionReset)));
    let closed = status(&sandbox, &id).await;
    assert_eq!((closed.bytes.len(), closed.end), (0, Ok(())));
    let cut = status(&sandbox, &id).await;
    assert_eq!((cut.body().len(), cut.end), (cut.length() / 2, Ok(())));
    let garbled = status(&sandbox, &id).await;
    assert!(garbled.status() == 200 && serde_json::from_slice::<Value>(garbled.body()).is_err());

    let head = format!("GET /api/status?task_id={id} HTTP/1.1\r\nAuthorization: Bearer k");
    let hanging = send(&sandbox, &head, "").await;
    sandbox.wait_until(|model| model.requests().len() == 6).await;
    assert!(is_silent(&hanging));
    assert_eq!(status(&sandbox, &id).await.json()["data"]["status"], "SUCCESS");
}

#[tokio::test]
async fn a_video_is_served_in_parts() {
    let sandbox = start(Options { video_bytes: Some(100_000), ..options("") }).await;
    let (id, path) = ready_video(&sandbox).await;
    let file = sandbox.video(&id, 1).unwrap();

    let whole = get(&sandbox, &path, "").await;
    let etag = whole.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"'), "a strong one: {etag}");
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.body(), file);

    let part = get(&sandbox, &path, &format!("\r\nRange: bytes=60000-\r\nIf-Range: {etag}")).await;
    assert_eq!((part.status(), part.header("content-range")), (206, Some("bytes 60000-99999/100000")));
    assert_eq!((part.body(), part.header("etag")), (&file[60_000..], Some(etag.as_str())));
    assert_eq!(get(&sandbox, &path, "\r\nRange: bytes=0-9").await.body(), &file[..10]);

    let stale = get(&sandbox, &path, "\r\nRange: bytes=60000-\r\nIf-Range: \"another\"").await;
    assert_eq!((stale.status(), stale.body()), (200, &file[..]));
    let outside = get(&sandbox, &path, "\r\nRange: bytes=100000-").await;
    assert_eq!((outside.status(), outside.header("content-range")), (416, Some("bytes */100000")));

    let head = exchange(&sandbox, &format!("HEAD {path} HTTP/1.1"), "").await;
    assert_eq!((head.status(), head.length(), head.body()), (200, 100_000, &b""[..]));
    assert_eq!(get(&sandbox, &path.replace("sig=", "sig=x"), "").await.status(), 403);
}

#[tokio::test]
async fn a_download_breaks_after_so_many_bytes() {
    for (bytes, size) in [(0, 100_000), (1, 100_000), (99_999, 100_000), (6_000_000, 8_000_000)] {
        let faults = format!("video:cut={bytes},video:stall={bytes},video:reset={bytes}");
        let sandbox = start(Options { video_bytes: Some(size), ..options(&faults) }).await;
        let (id, path) = ready_video(&sandbox).await;
        let file = sandbox.video(&id, 1).unwrap();

        let cut = get(&sandbox, &path, "").await;
        assert_eq!((cut.length() as u64, cut.end), (size, Ok(())));
        assert!(cut.body() == &file[..bytes], "{} of {bytes}", cut.body().len());

        let mut stalled = send(&sandbox, &format!("GET {path} HTTP/1.1"), "").await;
        let mut received = Answer { bytes: Vec::new(), end: Ok(()) };
        while !received.bytes.windows(4).any(|window| window == b"\r\n\r\n") || received.body().len() < bytes
        {
            assert_ne!(stalled.read_buf(&mut received.bytes).await.unwrap(), 0);
        }
        assert!(received.body() == &file[..bytes] && is_silent(&stalled), "{}", received.body().len());

        let reset = get(&sandbox, &path, "").await;
        assert_eq!(reset.end, Err(ErrorKind::ConnectionReset));
        // An RST takes with it what is still on its way; a byte or none is there at once.
        assert!(file[..bytes].starts_with(reset.body()));
        assert!(bytes > 1 || reset.body().len() == bytes, "{} of {bytes}", reset.body().len());
    }
}

#[tokio::test]
async fn a_download_lies_about_its_length() {
    let faults = "video:lie-long=10,video:lie-short=10,video:chunked-cut=20000,video:gzip,video:drip=1";
    let sandbox = start(Options { video_bytes: Some(30_000), ..options(faults) }).await;
    let (id, path) = ready_video(&sandbox).await;
    let file = sandbox.video(&id, 1).unwrap();

    let long = get(&sandbox, &path, "").await;
    assert_eq!((long.length(), long.body().len(), long.end), (30_010, 30_000, Ok(())));
    let short = get(&sandbox, &path, "").await;
    assert_eq!((short.length(), short.body()), (29_990, &file[..29_990]));
    let chunked = get(&sandbox, &path, "").await;
    assert_eq!(
        (chunked.header("transfer-encoding"), chunked.header("content-length")),
        (Some("chunked"), None)
    );
    assert!(chunked.body().ends_with(b"\r\n0\r\n\r\n"), "properly ended");
    assert!((20_000..20_100).contains(&chunked.body().len()), "{}", chunked.body().len());
    let gzip = get(&sandbox, &path, "").await;
    assert_eq!((gzip.header("content-encoding"), gzip.body()), (Some("gzip"), &file[..]));
    assert_eq!(get(&sandbox, &path, "").await.body(), file, "drop by drop");
    assert!(sandbox.fired().values().all(|fired| *fired == 1), "{:?}", sandbox.fired());
}

#[tokio::test]
async fn something_else_comes_in_place_of_the_video() {
    let words = ["html", "json", "xml", "empty", "not-mp4", "403", "404", "410", "429=9", "500", "503-html"];
    let faults = words.map(|word| format!("video:{word}")).join(",");
    let sandbox = start(options(&faults)).await;
    let (_, path) = ready_video(&sandbox).await;
    let mut seen = Vec::new();
    for _ in words {
        let answer = get(&sandbox, &path, "").await;
        assert!(!answer.body().windows(4).any(|window| window == b"ftyp"));
        seen.push((
            answer.status(),
            answer.header("content-type").unwrap().split(';').next().unwrap().to_owned(),
        ));
    }
    let expected = [
        (200, "text/html"),
        (200, "application/json"),
        (200, "application/xml"),
        (200, "video/mp4"),
        (200, "video/mp4"),
        (403, "application/xml"),
        (404, "application/xml"),
        (410, "application/xml"),
        (429, "application/xml"),
        (500, "application/xml"),
        (503, "text/html"),
    ];
    assert_eq!(seen, expected.map(|(status, kind)| (status, kind.to_owned())));
    assert!(sandbox.fired().values().all(|fired| *fired == 1), "{:?}", sandbox.fired());
    assert_eq!(get(&sandbox, &path, "").await.status(), 200);
}

#[tokio::test]
async fn redirects_lead_to_the_video_or_nowhere() {
    let sandbox =
        start(options("video:redirect=3,video:redirect-loop,video:redirect-to=http://10.0.0.1/x")).await;
    let (id, path) = ready_video(&sandbox).await;
    let follow = async |answer: &Answer| {
        assert_eq!(answer.status(), 302);
        let url = answer.header("location").unwrap();
        get(&sandbox, url.strip_prefix(&sandbox.base_url()).unwrap(), "").await
    };
    let mut answer = get(&sandbox, &path, "").await;
    for _ in 0..3 {
        answer = follow(&answer).await;
    }
    assert_eq!(answer.body(), sandbox.video(&id, 1).unwrap());

    let mut answer = get(&sandbox, &path, "").await;
    for _ in 0..20 {
        answer = follow(&answer).await;
    }
    assert_eq!(answer.status(), 302);
    assert_eq!(get(&sandbox, &path, "").await.header("location"), Some("http://10.0.0.1/x"));
    assert!(sandbox.fired().values().all(|fired| *fired == 1), "{:?}", sandbox.fired());
}

#[tokio::test]
async fn resuming_meets_a_server_that_does_not_play_along() {
    let faults = "video:ignore-range,video:wrong-content-range,video:416,video:etag-changed";
    let sandbox = start(Options { video_bytes: Some(50_000), ..options(faults) }).await;
    let (id, path) = ready_video(&sandbox).await;
    let file = sandbox.video(&id, 1).unwrap();
    let resume = "\r\nRange: bytes=20000-";

    let ignored = get(&sandbox, &path, resume).await;
    assert_eq!((ignored.status(), ignored.body()), (200, &file[..]));
    let wrong = get(&sandbox, &path, resume).await;
    assert_eq!((wrong.status(), wrong.header("content-range")), (206, Some("bytes 0-29999/50000")));
    assert_eq!(wrong.body(), &file[..30_000]);
    assert_eq!(get(&sandbox, &path, resume).await.status(), 416);

    let if_range = format!("{resume}\r\nIf-Range: {}", wrong.header("etag").unwrap());
    let changed = get(&sandbox, &path, &if_range).await;
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.header("etag"), wrong.header("etag"));
    assert_ne!(changed.body(), file);
    assert_eq!(changed.body(), sandbox.video(&id, 1).unwrap());
    assert!(sandbox.fired().values().all(|fired| *fired == 1), "{:?}", sandbox.fired());
}

#[tokio::test]
async fn one_connection_carries_many_requests_until_a_fault_ends_it() {
    let sandbox = start(options("generate:close-after@3")).await;
    let mut stream = TcpStream::connect(address(&sandbox)).await.unwrap();
    let body = request("a fox");
    let one = format!("{GENERATE}\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for n in 1..=2 {
        stream.write_all(one.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"}}") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        assert_eq!(sandbox.charges_for("a fox"), n);
    }
    stream.write_all(one.as_bytes()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(sandbox.charges_for("a fox"), 3);
}

#[tokio::test]
async fn the_handle_changes_the_provider_while_it_runs() {
    let sandbox = start(options("")).await;
    sandbox.set_balance(0);
    assert_eq!(generate(&sandbox, "a fox").await.status(), 402);
    sandbox.set_keys(AcceptKeys::Only(vec!["a secret".to_owned()]));
    assert_eq!(generate(&sandbox, "a fox").await.status(), 401);
    sandbox.set_keys(AcceptKeys::Any);
    sandbox.set_balance(400);
    sandbox.add_faults("task:fail=Sorry").unwrap();
    assert!(sandbox.add_faults("task:fial").is_err());
    generate(&sandbox, "a fox").await;
    assert_eq!(sandbox.tasks()[0].state, TaskState::Failed { message: "Sorry".to_owned() });
    assert_eq!((sandbox.balance(), sandbox.ledger()[0].refunded), (400, true));

    let seen: Vec<_> =
        sandbox.requests().into_iter().map(|request| (request.status, request.authorised)).collect();
    assert_eq!(seen, [(Some(402), true), (Some(401), false), (Some(200), true)]);
    let ledger = get(&sandbox, "/sandbox/ledger", "").await.json();
    assert_eq!((&ledger["balance"], &ledger["faults_fired"]["task:fail=Sorry"]), (&json!(400), &json!(1)));
}

#[tokio::test]
async fn waiting_ends_with_the_call_that_makes_it_true() {
    let sandbox = start(options("")).await;
    let charged = |model: &Model| model.charges_for("a fox") == 2;
    let calls = async {
        generate(&sandbox, "a fox").await;
        generate(&sandbox, "an owl").await;
        generate(&sandbox, "a fox").await;
    };
    tokio::join!(sandbox.wait_until(charged), calls);
    assert_eq!(sandbox.ledger().len(), 3);
}

#[tokio::test]
async fn stopping_ends_hanging_connections() {
    let (sandbox, server) = Sandbox::bind(options("generate:hang-after")).await.unwrap();
    let stop = CancellationToken::new();
    let client = async {
        let mut stream = send(&sandbox, GENERATE, &request("a fox")).await;
        sandbox.wait_until(|model| model.charges().len() == 1).await;
        stop.cancel();
        stream.read(&mut [0; 1]).await
    };
    let (served, read) = tokio::join!(server.serve(stop.clone()), client);
    served.unwrap();
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test]
async fn an_address_that_is_taken_is_said() {
    let (sandbox, _server) = Sandbox::bind(options("")).await.unwrap();
    let error = Sandbox::bind(Options { listen: address(&sandbox), ..options("") }).await.unwrap_err();
    assert!(error.to_string().contains(&address(&sandbox).to_string()), "{error}");
}

#[tokio::test]
async fn no_key_is_kept_where_it_could_be_printed() {
    let sandbox = start(options("")).await;
    let head = GENERATE.replace("Bearer k", "Bearer top-secret-key");
    exchange(&sandbox, &head, &request("a fox")).await;
    sandbox.set_keys(AcceptKeys::Only(vec!["top-secret-key".to_owned()]));
    let ledger = get(&sandbox, "/sandbox/ledger", "").await.bytes;
    assert!(!format!("{sandbox:?}").contains("top-secret-key"));
    assert!(!String::from_utf8(ledger).unwrap().contains("top-secret-key"));
}
