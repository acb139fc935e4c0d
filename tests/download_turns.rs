//! What a file store does between two tries of one video, which no try sees alone: another version in between, a beginning
//! without a validator, an announced length that another answer leaves out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    sync::{Arc, Mutex},
};

use common::{Rig, draft, ms, new_job, provider};
use klingd::{
    daemon::Ended,
    domain::{job::NewJob, plan::download::Verify, request::Draft},
    sandbox::Options,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

/// The video's size, and where its first and second answer are cut.
const SIZE: usize = 200_000;
const CUT: usize = 70_000;
const LATER: usize = 120_000;

/// The double's video, whatever its task: what a store hands out here.
fn whole() -> Vec<u8> {
    let mut video = include_bytes!("../src/sandbox/videos/16x9-5-silent.mp4").to_vec();
    // A box of free space, as long as there is room.
    let free = SIZE - video.len();
    video.extend(u32::try_from(free).unwrap().to_be_bytes());
    video.extend(b"free");
    video.resize(SIZE, 0);
    video
}

/// The same length and structure, and other bytes.
fn other() -> Vec<u8> {
    let mut video = whole();
    let media = video.windows(4).position(|w| w == b"mdat").unwrap() + 8;
    video[media..media + 1000].iter_mut().for_each(|byte| *byte ^= 0x55);
    video
}

/// One answer: its head without the length of its body, and what is sent of it before the connection ends.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn whole(headers: &str, video: &[u8], sent: usize) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n", video.len());
        Self { head, body: video[..sent].to_vec() }
    }

    fn part(headers: &str, content_range: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\n{headers}Content-Range: bytes {content_range}\r\nContent-Length: {length}\r\n"
        );
        Self { head, body: body.to_vec() }
    }
}

/// A file store that answers each request as `answer` says, and hangs up.
struct Store {
    address: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
    _running: JoinSet<()>,
}

impl Store {
    /// `answer` gets the request's number, and the first byte it asks for, if it asks for a part.
    async fn new(answer: impl Fn(usize, Option<usize>) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut running = JoinSet::new();
        let seen = asked.clone();
        running.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
                let from = request.split("\r\nrange: bytes=").nth(1);
                let from = from.map(|rest| rest.split('-').next().unwrap().parse().unwrap());
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(from);
                    seen.len()
                };
                let Answer { head, body } = answer(number, from);
                let head = format!("{head}Content-Type: video/mp4\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&body).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self { address, asked, _running: running }
    }

    fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }

    /// A rig whose tasks have their video here.
    async fn rig(&self) -> Rig {
        let faults = format!("status:url=http://{}/v.mp4@*", self.address).parse().unwrap();
        let mut rig = Rig::with(Options { faults, ..provider() }).await;
        rig.config.download.idle_timeout = ms(2000);
        rig
    }
}

fn five_seconds() -> NewJob {
    new_job(&Draft { duration: Some(5), ..draft("a fox") })
}

const A: &str = "ETag: \"a\"\r\n";
const B: &str = "ETag: \"b\"\r\n";

#[tokio::test]
async fn the_rest_of_one_version_is_never_put_behind_the_start_of_another() {
    // A, cut; another version without a validator, or with its own, cut before any of it is on record; then A again.
    for (between, sent) in [("", LATER), (B, 0)] {
        let store = Store::new(move |number, from| match (number, from) {
            (1, _) => Answer::whole(A, &whole(), CUT),
            (2, _) => Answer::whole(between, &other(), sent),
            (_, Some(from)) => {
                let range = format!("{from}-{}/{SIZE}", SIZE - 1);
                Answer::part(A, &range, &whole()[from..])
            }
            (_, None) => Answer::whole(A, &whole(), SIZE),
        })
        .await;
        let rig = store.rig().await;
        let id = rig.enqueue_job(five_seconds()).await;
        assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
        assert!(fs::read(&rig.videos(id).await[0]).unwrap() == whole(), "{:?}: torn", store.asked());
        assert_eq!(store.asked(), [None, Some(CUT), None], "{between}");
    }
}

#[tokio::test]
async fn a_length_that_was_announced_is_not_forgotten() {
    // A piece of the rest that does not say how much there is: by its own length it is whole.
    let store = Store::new(|number, from| match (number, from) {
        (2, Some(from)) => Answer::part(A, &format!("{from}-{}/*", LATER - 1), &whole()[from..LATER]),
        (_, Some(from)) => Answer::part(A, &format!("{from}-{}/{SIZE}", SIZE - 1), &whole()[from..]),
        (_, None) => Answer::whole(A, &whole(), CUT),
    })
    .await;
    let mut rig = store.rig().await;
    rig.config.output.verify = Verify::Size;
    let id = rig.enqueue_job(five_seconds()).await;
    rig.run().await;
    assert!(fs::read(&rig.videos(id).await[0]).unwrap() == whole(), "cut");
    assert_eq!(store.asked(), [None, Some(CUT), Some(LATER)]);
}
