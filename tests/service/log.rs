//! What a run at the noisiest level leaves behind, and what may not be in it.

use std::{fs, path::Path};

use crate::rig::{KEY, Rig};

const PROMPT: &str = "an otter that nobody may read about";

/// Every file below, as text.
fn files(below: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            into.push((path.display().to_string(), text));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_has_the_key_a_signature_or_a_prompt() {
    // Every way that something of them might get into an error: an answer that echoes, a link that dies, a cut video.
    let faults = "generate:400-echo~refused,status:500,video:403,video:cut=1000";
    let mut rig =
        Rig::new(faults, "defaults.prompt = \"an otter that nobody may read about, by default\"").await;
    // Nobody reads the manager's socket here.
    rig.variables.retain(|(name, _)| *name != "NOTIFY_SOCKET");
    rig.variables.push(("KLINGD_DOWNLOAD__RETRY_BASE", "1s".into()));
    rig.variables.push(("KLINGD_POLL__CONFIRM_FAILED", "100ms".into()));
    let mut logs = String::new();
    for format in ["text", "json"] {
        rig.variables.retain(|(name, _)| *name != "KLINGD_LOG__FORMAT");
        rig.variables.push(("KLINGD_LOG__FORMAT", format.into()));
        let mut daemon = rig.start(&["-vv"]);
        daemon.says("klingd is running").await;
        rig.enqueue(&format!("{PROMPT}, refused, {format}")).await;
        let job = rig.enqueue(&format!("{PROMPT}, {format}")).await;
        daemon.says(&format!("job {job} is done")).await;
        rig.configure("defaults.prompt = 17");
        daemon.signal(rustix::process::Signal::HUP);
        daemon.says("the one before holds").await;
        rig.configure(&format!("defaults.prompt = \"another otter, {format}\""));
        daemon.signal(rustix::process::Signal::HUP);
        daemon.says("changed: defaults.prompt").await;
        let log = daemon.stop().await;
        let moved = |state: &str| {
            log.contains(&format!("state.to\":\"{state}")) || log.contains(&format!("state.to=\"{state}"))
        };
        for state in ["submitting", "generating", "downloading", "done"] {
            assert!(moved(state), "no line says that the job is {state}:\n{log}");
        }
        for secret in [KEY, "otter", "sig=", "?sig", "Bearer"] {
            assert!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
        }
        logs.push_str(&log);
    }
    assert!(logs.contains("DEBUG"), "it is the noisiest level: {logs}");
    let mut left = Vec::new();
    files(&rig.path("data"), &mut left);
    assert!(left.iter().any(|(path, _)| path.ends_with(".mp4")));
    for (path, text) in &left {
        assert!(!text.contains(KEY), "the key is in {path}");
        // The links stand in the database, which needs them, and nowhere else.
        assert!(path.contains("klingd.db") || !text.contains("sig="), "a signed link is in {path}");
    }
}

/// One line for each step of a job, at the level that everybody sees.
#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_job_is_one_line() {
    let rig = Rig::new("", "").await;
    let mut daemon = rig.start(&[]);
    rig.hears("READY").await;
    let job = rig.enqueue("a fox").await;
    daemon.says(&format!("job {job} is done")).await;
    let log = daemon.stop().await;
    let states: Vec<_> = log
        .lines()
        .filter(|line| line.contains(&format!("job.id={job} ")) || line.ends_with(&format!("job.id={job}")))
        .filter_map(|line| line.split("state.to=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(states, ["submitting", "generating", "downloading", "done"], "{log}");
}
