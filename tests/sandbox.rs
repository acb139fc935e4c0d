//! The provider's double over real sockets, by a client that knows nothing of HTTP libraries: what is promised about
//! bytes, ends of streams and resets is looked at where it happens.

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
    let mut stream = TcpStream::connect(address(sandbox)).await.unwrap();
    let host = address(sandbox);
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
}
