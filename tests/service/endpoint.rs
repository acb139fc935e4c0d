//! `metrics.listen`: the pages, as a scraper and a person with curl see them.

use std::net::SocketAddr;

use klingd::domain::{HoldName, hold::Hold};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::rig::{Daemon, KEY, Rig};

/// Where the daemon says that it listens.
async fn address(daemon: &mut Daemon) -> SocketAddr {
    let log = daemon.says("/livez and /readyz").await;
    let after = log.split("served at http://").nth(1).unwrap();
    after.split('/').next().unwrap().parse().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
    let line = line.unwrap_or_else(|| panic!("{series} is not in:\n{page}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_say_what_was_done_and_how_klingd_is() {
    const PROMPT: &str = "an otter nobody may read about";
    let rig = Rig::new("generate:429", "metrics.listen = \"0\"").await;
    let mut daemon = rig.start(&[]);
    let at = address(&mut daemon).await;
    assert!(at.ip().is_loopback(), "a port alone is this machine's alone");
    rig.hears("READY").await;
    assert_eq!(get(at, "/livez").await, (200, "ok\n".into()));
    assert_eq!(get(at, "/readyz").await, (200, "ok\n".into()));
    assert_eq!(get(at, "/").await.0, 404);
    let job = rig.enqueue(PROMPT).await;
    daemon.says(&format!("job {job} is done")).await;

    let (status, page) = get(at, "/metrics").await;
    assert_eq!(status, 200);
    for (series, expected) in [
        ("klingd_submits_total{outcome=\"accepted\"}", 1.0),
        ("klingd_submits_total{outcome=\"deferred\"}", 1.0),
        ("klingd_rate_limited_total{call=\"generate\"}", 1.0),
        ("klingd_downloads_total{result=\"published\"}", 1.0),
        ("klingd_jobs_moved_total{state=\"done\"}", 1.0),
        ("klingd_jobs_moved_total{state=\"submitting\"}", 2.0),
        ("klingd_jobs{state=\"queued\"}", 0.0),
        ("klingd_hold{hold=\"paused\"}", 0.0),
        ("klingd_queue_wait_seconds_count", 1.0),
        ("klingd_render_seconds_count", 1.0),
        ("klingd_api_call_seconds_count{call=\"generate\"}", 2.0),
        ("klingd_credits_charged_total", 120.0),
        ("klingd_credits_spent_today", 120.0),
        ("klingd_on_the_wire", 0.0),
    ] {
        assert!((value(&page, series) - expected).abs() < 0.5, "{series} is not {expected}:\n{page}");
    }
    assert!(value(&page, "klingd_polls_total{answer=\"succeeded\"}") >= 1.0);
    assert!(value(&page, "klingd_downloaded_bytes_total") > 1000.0);
    assert!(value(&page, "klingd_commit_seconds_count") >= 5.0);
    for secret in [PROMPT, "otter", KEY, "http://", "n7"] {
        assert!(!page.contains(secret), "{secret} is on the page:\n{page}");
    }

    let hold = Hold::new(HoldName::Paused, PROMPT.into(), klingd::clock::Clock.now());
    rig.store().await.hold(hold).await.unwrap();
    let (status, why) = get(at, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.starts_with("nothing is submitted: hold paused since "), "{why}");
    assert!(why.ends_with("klingd resume\n") && !why.contains(PROMPT), "{why}");
    assert_eq!(get(at, "/livez").await.0, 200);
    daemon.stop().await;

    // Money survives a restart; what this process did begins anew.
    let mut daemon = rig.start(&[]);
    let at = address(&mut daemon).await;
    rig.hears("READY").await;
    let (_, page) = get(at, "/metrics").await;
    assert!((value(&page, "klingd_credits_charged_total") - 120.0).abs() < 0.5);
    assert!(value(&page, "klingd_submits_total{outcome=\"accepted\"}") < 0.5);
    daemon.stop().await;
}

/// Sixteen who say nothing keep nobody from working, and are sent away.
#[tokio::test(flavor = "multi_thread")]
async fn who_blocks_the_pages_blocks_no_job() {
    let rig = Rig::new("", "metrics.listen = \"0\"").await;
    let mut daemon = rig.start(&[]);
    let at = address(&mut daemon).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let job = rig.enqueue("a fox").await;
    daemon.says(&format!("job {job} is done")).await;
    drop(silent);
    assert_eq!(get(at, "/livez").await.0, 200);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_keeps_no_job_from_its_video() {
    let rig = Rig::new("", "").await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    rig.configure(&format!("metrics.listen = \"{port}\""));
    let mut daemon = rig.start(&[]);
    daemon.says("can't be listened at").await;
    let job = rig.enqueue("a fox").await;
    daemon.says(&format!("job {job} is done")).await;
    daemon.stop().await;
}
