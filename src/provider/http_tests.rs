//! The two calls over real sockets, against a server that can misbehave in every way.

use tokio::net::TcpListener;

use super::super::raw_server::{End, RawServer, Reply};
use super::*;
use crate::domain::plan::submit::{Deferral, SubmitAnswer};

const KEY: &str = "sk-very-secret-0123456789";
const REQUEST: &[u8] = br#"{"type":"pro-text-to-video","prompt":"a","duration":5,"sound":true}"#;
const ACCEPTED: &str =
    r#"{"code":200,"message":"success","data":{"task_id":"n75abc123kling3","consumed_credits":400}}"#;

fn settings(base_url: &str) -> Settings {
    Settings {
        base_url: base_url.parse().unwrap(),
        key: SecretString::from(KEY),
        // No test waits for these, so that none depends on the machine's speed.
        connect_timeout: Duration::from_secs(60),
        submit_timeout: Duration::from_secs(60),
        status_timeout: Duration::from_secs(60),
        proxy: None,
    }
}

fn api(base_url: &str) -> Api {
    Api::new(&settings(base_url)).unwrap()
}

fn phase(evidence: &Evidence) -> Option<Phase> {
    evidence.transport.as_ref().map(|failure| failure.phase)
}

/// A port on which nobody listens.
async fn dead_port() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_submit_is_one_plain_post_and_its_answer_is_evidence() {
    let headers = "Set-Cookie: session=1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Echo: Bearer sk-very-secret-0123456789\r\n";
    let server = RawServer::start([Reply::http(200, headers, ACCEPTED)]).await;
    let evidence = api(&server.url("/")).generate(REQUEST.to_vec()).await;
    assert_eq!((evidence.status, evidence.transport.as_ref()), (Some(200), None));
    assert_eq!(evidence.body, ACCEPTED);
    assert_eq!(evidence.header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(evidence.header("set-cookie"), None);
    assert_eq!(evidence.header("x-echo"), Some("Bearer [key]"));
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert_eq!(body.as_bytes(), REQUEST);
    let lines: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
    assert_eq!(lines[0], "post /api/generate http/1.1");
    for line in [
        "authorization: bearer sk-very-secret-0123456789",
        "content-type: application/json",
        "accept: application/json",
        &format!("content-length: {}", REQUEST.len()),
        &format!("user-agent: klingd/{}", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {head}");
    }
    assert!(!head.to_ascii_lowercase().contains("encoding"), "neither chunked nor compressed: {head}");
}

#[tokio::test]
async fn a_body_is_given_out_once() {
    use http_body_util::BodyExt;
    let only = OnlyOnce::default();
    let body = only.body(REQUEST.to_vec());
    assert!(only.take_back());
    assert!(body.collect().await.is_err(), "taken back before a slow connection asks for it");

    let only = OnlyOnce::default();
    assert_eq!(only.body(REQUEST.to_vec()).collect().await.unwrap().to_bytes(), REQUEST);
    assert!(!only.take_back());
    assert!(only.body(REQUEST.to_vec()).collect().await.is_err());
}

#[tokio::test]
async fn what_never_left_is_told_from_what_may_have_left() {
    let refused = api(&format!("http://{}", dead_port().await)).generate(REQUEST.to_vec()).await;
    assert_eq!(phase(&refused), Some(Phase::Connect));
    assert!(refused.transport.unwrap().message.contains("refused"));

    let unknown_name = api("http://no-such-host.invalid").generate(REQUEST.to_vec()).await;
    assert_eq!(phase(&unknown_name), Some(Phase::Connect));

    for end in [End::Reset, End::Close] {
        let server = RawServer::start([Reply::raw("", end)]).await;
        let evidence = api(&server.url("")).generate(REQUEST.to_vec()).await;
        assert_eq!(phase(&evidence), Some(Phase::Sent), "{evidence:?}");
        assert!(matches!(classify::submit(&evidence), SubmitAnswer::Unknown { .. }));
        assert_eq!(server.requests().len(), 1, "never sent again");
    }

    let server = RawServer::start([Reply::raw("HTTP/1.1 200 OK\r\nContent-Le", End::Close)]).await;
    assert_eq!(phase(&api(&server.url("")).generate(REQUEST.to_vec()).await), Some(Phase::Sent));
    let server = RawServer::start([Reply::raw("this is no HTTP\r\n\r\n", End::Close)]).await;
    assert_eq!(phase(&api(&server.url("")).generate(REQUEST.to_vec()).await), Some(Phase::Sent));
}

#[tokio::test]
async fn a_failed_tls_handshake_sends_nothing() {
    // A server that greets a handshake with plain text.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = api(&format!("https://{address}"));
    let greet = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (evidence, _stream) = tokio::join!(api.generate(REQUEST.to_vec()), greet);
    assert_eq!(phase(&evidence), Some(Phase::Connect), "{evidence:?}");
    let SubmitAnswer::Deferred { why, .. } = classify::submit(&evidence) else {
        unreachable!("{evidence:?}")
    };
    assert_eq!(why, Deferral::NotSent);
}

#[tokio::test]
async fn a_proxy_that_refuses_or_hangs_sends_nothing() {
    let refusing = RawServer::start([Reply::http(502, "", "")]).await;
    let hanging = RawServer::start([Reply::raw("", End::Hang), Reply::raw("", End::Hang)]).await;
    let through = |proxy: &RawServer, connect_ms: u64, submit_ms: u64| {
        Api::new(&Settings {
            proxy: Some(proxy.url("").parse().unwrap()),
            connect_timeout: Duration::from_millis(connect_ms),
            submit_timeout: Duration::from_millis(submit_ms),
            ..settings("https://api.example.invalid")
        })
        .unwrap()
    };
    for (api, what) in [
        (through(&refusing, 60_000, 60_000), "CONNECT refused"),
        (through(&hanging, 50, 60_000), "connect timeout"),
        // reqwest calls this one a plain timeout: only the body that was never taken tells.
        (through(&hanging, 60_000, 50), "submit timeout"),
    ] {
        let evidence = api.generate(REQUEST.to_vec()).await;
        assert_eq!(phase(&evidence), Some(Phase::Connect), "{what}: {evidence:?}");
    }
    let asked = [refusing.requests(), hanging.requests()].concat();
    assert!(asked.iter().all(|r| r.starts_with("CONNECT api.example.invalid:443 ")), "{asked:?}");
    assert!(!format!("{asked:?}").contains(KEY), "the proxy never sees the key");
}

#[tokio::test]
async fn an_answer_that_never_comes_is_sent() {
    let server = RawServer::start([Reply::raw("", End::Hang)]).await;
    let settings = Settings { submit_timeout: Duration::from_secs(2), ..settings(&server.url("")) };
    let evidence = Api::new(&settings).unwrap().generate(REQUEST.to_vec()).await;
    assert_eq!(phase(&evidence), Some(Phase::Sent), "{evidence:?}");
    assert!(evidence.transport.unwrap().message.contains("timed out"));
    assert!(evidence.took_ms >= 1_900, "{}", evidence.took_ms);
}

/// The head of a 429 is enough: others stay, although its body never comes.
#[tokio::test]
async fn a_body_that_stalls_keeps_nobody_from_hearing_the_wish() {
    let head = "HTTP/1.1 429 X\r\nRetry-After: 60\r\nContent-Length: 20\r\n\r\n";
    let server = RawServer::start([Reply::raw(head, End::Hang)]).await;
    let api = api(&server.url(""));
    let first = api.generate(REQUEST.to_vec());
    tokio::pin!(first);
    let heard = async {
        while !api.latch().holds() {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! {
            _ = &mut first => panic!("its body never comes"),
            () = heard => {}
        }
    });
    in_time.await.expect("the latch closes while the body is awaited");
    let knew = api.latch().knowledge();
    api.latch().admitted(knew);
    assert_eq!(phase(&api.generate(REQUEST.to_vec()).await), Some(Phase::Held), "not in the gate's row yet");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_cut_body_keeps_what_came() {
    let cut = |length: usize, end| {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{}", &ACCEPTED[..length]);
        Reply::raw(bytes, end)
    };
    let id_ends = ACCEPTED.find("\",\"consumed").unwrap();
    let server = RawServer::start([cut(id_ends + 1, End::Close), cut(id_ends, End::Close)]).await;
    let api = api(&server.url(""));
    let whole = api.generate(REQUEST.to_vec()).await;
    assert_eq!((phase(&whole), whole.status), (Some(Phase::Body), Some(200)));
    assert_eq!(whole.body, ACCEPTED[..id_ends + 1]);
    assert!(matches!(classify::submit(&whole), SubmitAnswer::Accepted { salvaged: true, .. }));
    let half = api.generate(REQUEST.to_vec()).await;
    assert!(matches!(classify::submit(&half), SubmitAnswer::Unknown { .. }), "no closing quote");

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n";
    let server = RawServer::start([Reply::raw(chunked, End::Close)]).await;
    let evidence = self::api(&server.url("")).generate(REQUEST.to_vec()).await;
    assert_eq!((phase(&evidence), evidence.body.as_str()), (Some(Phase::Body), "{}"));
}

#[tokio::test]
async fn an_endless_body_is_read_to_its_bound() {
    let body = "ü".repeat(MAX_BODY_BYTES);
    let latin = body.chars().map(|_| 0xfc_u8).collect::<Vec<_>>();
    let mut raw = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", latin.len()).into_bytes();
    raw.extend(latin);
    let server = RawServer::start([Reply::http(200, "", &body), Reply::raw(raw, End::Close)]).await;
    let api = api(&server.url(""));
    let long = api.generate(REQUEST.to_vec()).await;
    assert_eq!((phase(&long), long.body.len()), (Some(Phase::Body), MAX_BODY_BYTES));
    let no_utf8 = api.generate(REQUEST.to_vec()).await;
    assert_eq!(phase(&no_utf8), None, "just fits");
    assert!(no_utf8.body.len() <= MAX_BODY_BYTES, "also where replacing made it longer");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_post_not_sent_again() {
    for status in [301, 302, 303, 307, 308] {
        let server = RawServer::start([
            Reply::http(status, "Location: /elsewhere\r\n", ""),
            Reply::http(200, "", ACCEPTED),
        ])
        .await;
        let evidence = api(&server.url("")).generate(REQUEST.to_vec()).await;
        assert_eq!(evidence.status, Some(status));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn no_submit_reuses_a_connection_and_status_calls_do() {
    let answers = || (0..3).map(|_| Reply::http(200, "", ACCEPTED));
    let server = RawServer::start(answers()).await;
    let api = api(&server.url(""));
    for _ in 0..3 {
        assert_eq!(api.generate(REQUEST.to_vec()).await.status, Some(200));
    }
    assert_eq!(server.connections(), 3);

    let server = RawServer::start(answers()).await;
    for _ in 0..3 {
        api.status(&server.url("/"), &TaskId::parse("n75abc123kling3").unwrap()).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn status_asks_where_the_task_was_made() {
    let body = r#"{"code":200,"data":{"task_id":"a&b=c#d","status":"SUCCESS","response":["https://cdn.example/v.mp4"]}}"#;
    let server = RawServer::start([
        Reply::http(200, "", body),
        Reply::http(307, "Location: http://127.0.0.1:1/\r\n", ""),
    ])
    .await;
    let api = api("http://127.0.0.1:1");
    let task = TaskId::parse("a&b=c#d").unwrap();
    let base = server.url("/v1/");
    let (answer, _) = api.status(&base, &task).await;
    assert_eq!(
        answer,
        PollAnswer::Succeeded { urls: vec!["https://cdn.example/v.mp4".to_owned()], charged: None }
    );
    let (redirected, _) = api.status(&base, &task).await;
    assert!(matches!(redirected, PollAnswer::Unclear { .. }), "{redirected:?}");
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /v1/api/status?task_id=a%26b%3Dc%23d HTTP/1.1\r\n"),
        "{}",
        requests[0]
    );
    assert!(requests[0].contains(&format!("Bearer {KEY}")));
    assert_eq!(requests.len(), 2);

    for bad in [format!("http://{}", dead_port().await), "nonsense".to_owned(), String::new()] {
        assert!(matches!(api.status(&bad, &task).await.0, PollAnswer::Unclear { .. }), "{bad}");
    }
}

#[tokio::test]
async fn status_bodies_are_bounded() {
    let body = format!(r#"{{"data":{{"status":"SUCCESS","x":"{}"}}}}"#, "x".repeat(MAX_STATUS_BYTES));
    let server = RawServer::start([Reply::http(200, "", &body)]).await;
    let (answer, _) = api("http://127.0.0.1:1").status(&server.url(""), &TaskId::parse("n75").unwrap()).await;
    assert!(matches!(answer, PollAnswer::Unclear { .. }));
}

#[tokio::test]
async fn the_key_is_judged_by_the_apis_own_words_only() {
    for (status, body, expected) in [
        (200, r#"{"code":404,"message":"task not found"}"#, Some(true)),
        (200, r#"{"code":200,"data":null}"#, Some(true)),
        (200, r#"{"code":401,"message":"INVALID_API_KEY"}"#, Some(false)),
        (400, r#"{"code":"INVALID_TASK"}"#, Some(true)),
        (400, r#"{"code":"INVALID_API_KEY"}"#, Some(false)),
        (404, r#"{"code":404}"#, Some(true)),
        (422, "{}", Some(true)),
        (401, "", Some(false)),
        (403, "<html>", Some(false)),
        (404, "<html>", None),
        (200, "<html>", None),
        (200, r#"{"code":429}"#, None),
        (429, "{}", None),
        (500, "{}", None),
        (502, "", None),
    ] {
        let server = RawServer::start([Reply::http(status, "", body)]).await;
        assert_eq!(api(&server.url("")).key_works().await, expected, "{status} {body}");
    }
    assert_eq!(api(&format!("http://{}", dead_port().await)).key_works().await, None);
}

#[tokio::test]
async fn the_key_is_nowhere_in_what_was_seen() {
    let echo = format!(r#"{{"code":401,"message":"no such key: {KEY}"}}"#);
    let server = RawServer::start([
        Reply::http(401, &format!("Location: /?key={KEY}\r\nWWW-Authenticate: {KEY}\r\n"), &echo),
        Reply::raw(format!("HTTP/1.1 401 {KEY}\r\nContent-Length: 900\r\n\r\n{echo}"), End::Close),
        Reply::http(401, "", &echo),
    ])
    .await;
    let api = api(&server.url(""));
    let mut seen = String::new();
    for _ in 0..2 {
        let evidence = api.generate(REQUEST.to_vec()).await;
        seen += &format!("{evidence:?} {:?}", classify::submit(&evidence));
    }
    seen += &format!("{:?}", api.status(&server.url(""), &TaskId::parse("n75").unwrap()).await);
    assert!(seen.contains("[key]") && !seen.contains(KEY), "{seen}");
}

#[test]
fn bad_settings_are_told_in_sentences() {
    let error = |settings: Settings| Api::new(&settings).err().unwrap();
    let with_key = |key: &str| Settings { key: SecretString::from(key), ..settings("https://kling3api.com") };
    for key in ["", " ", "two\nlines", "tab\u{7f}"] {
        assert!(matches!(error(with_key(key)), SetupError::Key), "{key:?}");
    }
    for url in [
        "https://kling3api.com/?a=b",
        "mailto:someone",
        "ftp://kling3api.com",
        "https://kling3api.com/#x",
        "https://me@kling3api.com",
    ] {
        assert!(matches!(error(settings(url)), SetupError::BaseUrl(_)), "{url}");
    }
    let socks = Some("socks5://127.0.0.1:1080".parse().unwrap());
    assert!(matches!(
        error(Settings { proxy: socks, ..settings("https://kling3api.com") }),
        SetupError::Proxy(_)
    ));
}
