//! A queue that is put back to what it was: what has been paid since must not be paid again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use klingd::{domain::JobId, sandbox::Sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::rig::{KEY, Rig, provider};

/// A provider, and a real daemon with a key and patience for nothing.
async fn paying() -> (Sandbox, Rig) {
    let (sandbox, rig) = provider("").await;
    let rig = [
        ("KLINGD_API__KEY", KEY),
        ("KLINGD_POLL__FIRST", "100ms"),
        ("KLINGD_POLL__EVERY", "100ms"),
        ("KLINGD_POLL__SLOWEST", "200ms"),
        ("KLINGD_POLL__MAX_PER_SECOND", "100"),
        ("KLINGD_OUTPUT__MIN_FREE", "0 B"),
        ("KLINGD_INBOX__ENABLED", "false"),
    ]
    .into_iter()
    .fold(rig, |rig, (name, value)| rig.with(name, value));
    (sandbox, rig)
}

fn paid(sandbox: &Sandbox) -> usize {
    sandbox.requests().iter().filter(|request| request.method == "POST").count()
}

/// Runs the real daemon until the provider has been paid so often, then stops it: the last task is in flight.
async fn run_until_paid(sandbox: &Sandbox, rig: &Rig, times: usize) {
    let mut slow = rig.command(&["run"]);
    let mut daemon = slow.env("KLINGD_POLL__FIRST", "2s").stderr(Stdio::null()).spawn().unwrap();
    sandbox.wait_until(|model| model.requests().iter().filter(|r| r.method == "POST").count() == times).await;
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
}

/// Puts `copy` where the database is, as a person would whose daemon is stopped.
fn restore(rig: &Rig, copy: &Path) {
    let database = rig.data_dir().join("klingd.db");
    for beside in ["klingd.db-wal", "klingd.db-shm"] {
        fs::remove_file(rig.data_dir().join(beside)).ok();
    }
    fs::copy(copy, database).unwrap();
}

fn listed(rig: &Rig, id: JobId) -> Value {
    let all = rig.run(&["list", "-a", "--json"]).is(0).json();
    all.into_iter().find(|job| job["id"] == json!(id)).unwrap()
}

/// By the command, whose end is the end of its connection: no file is replaced under one of this process.
fn state(rig: &Rig, id: JobId) -> Value {
    listed(rig, id)["state"].clone()
}

fn holds(rig: &Rig) -> String {
    rig.run(&["status"]).is(0).out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_pays_for_nothing_until_a_person_says_so() {
    let (sandbox, rig) = paying().await;
    let in_flight = rig.enqueue("a fox");
    run_until_paid(&sandbox, &rig, 1).await;
    let queued = rig.enqueue("an owl");
    let backup = rig.dir.path().join("night.db");
    rig.run(&["backup", backup.to_str().unwrap()]).is(0).says("klingd resume --hold restored");

    // Life goes on: both are done, the second one is paid.
    rig.run(&["run", "--until-idle"]).is(0);
    assert_eq!((paid(&sandbox), state(&rig, queued)), (2, json!("done")));
    restore(&rig, &backup);
    let said = rig.run(&["run", "--until-idle"]).is(10);
    said.says("this is a backup of").says("klingd resume --hold restored");
    assert_eq!(paid(&sandbox), 2, "nothing is paid twice");
    assert_eq!(state(&rig, in_flight), json!("done"), "what was in flight is followed");
    let job = listed(&rig, queued);
    assert_eq!((&job["state"], &job["reason"]), (&json!("queued"), &json!("restored")), "{job}");
    let list = rig.run(&["list"]).is(0).out;
    assert!(list.contains("klingd resume --hold restored"), "{list}");
    // Neither a restart nor a bare resume lifts it.
    rig.run(&["run", "--until-idle"]).is(10);
    rig.run(&["resume"]).is(0).says("restored still holds").says("may have been paid");
    rig.run(&["run", "--until-idle"]).is(10);
    assert_eq!(paid(&sandbox), 2);

    rig.run(&["resume", "--hold", "restored"]).is(0).says("restored is lifted");
    for _ in 0..2 {
        rig.run(&["run", "--until-idle"]).is(0);
        assert_eq!((paid(&sandbox), state(&rig, queued)), (3, json!("done")), "a person said so");
        assert!(!holds(&rig).contains("restored"), "and is not asked again");
    }
}

/// A copy that klingd did not make says nothing of itself; the output root knows. Also of one that is older than the first
/// run.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_copy_is_known_by_what_was_sent_since() {
    let (sandbox, rig) = paying().await;
    let copies = [0, 1].map(|n| rig.dir.path().join(format!("copy-{n}.db")));
    for copy in &copies {
        rig.enqueue(&format!("a fox before {}", copy.display()));
        plain_copy(&rig, copy).await;
        rig.run(&["run", "--until-idle"]).is(0);
    }
    assert_eq!(paid(&sandbox), 2);
    for (copy, since) in copies.iter().zip(["2 requests were sent", "a request was sent"]) {
        restore(&rig, copy);
        let said = rig.run(&["run", "--until-idle"]).is(10);
        said.says(&format!("{since} that this database does not know"));
        assert_eq!(paid(&sandbox), 2);
    }
    rig.run(&["resume", "--hold", "restored"]).is(0);
    rig.run(&["run", "--until-idle"]).is(0);
    assert_eq!(paid(&sandbox), 3);
}

/// As other programs make it.
async fn plain_copy(rig: &Rig, to: &Path) {
    let options = SqliteConnectOptions::new().filename(rig.data_dir().join("klingd.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let to = to.to_str().unwrap();
    sqlx::query("VACUUM INTO ?").bind(to).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The tally may be behind: killed between a commit and its tally, nothing was restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_tally_that_is_behind_is_a_crash_and_no_copy() {
    let (_sandbox, rig) = paying().await;
    rig.enqueue("a fox");
    rig.run(&["run", "--until-idle"]).is(0);
    let tally = tally(&rig);
    let text = fs::read_to_string(&tally).unwrap();
    assert!(text.starts_with("1\n"), "{text}");
    rig.file(tally.strip_prefix(rig.dir.path()).unwrap().to_str().unwrap(), "0\n");
    rig.run(&["run", "--until-idle"]).is(0);
    assert_eq!(fs::read_to_string(&tally).unwrap(), text);
    assert!(!holds(&rig).contains("restored"));
}

fn tally(rig: &Rig) -> PathBuf {
    let mut found = fs::read_dir(rig.data_dir().join("videos")).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.extension().is_some_and(|e| e == "sent")).unwrap()
}

/// The same queue in another folder: what is on its way arrives there, and what has arrived is found there.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_may_be_moved() {
    let (sandbox, rig) = paying().await;
    let done = rig.enqueue("a fox");
    rig.run(&["run", "--until-idle"]).is(0);
    let in_flight = rig.enqueue("an owl");
    run_until_paid(&sandbox, &rig, 2).await;
    let was = listed(&rig, done)["outputs"][0]["path"].as_str().unwrap().to_owned();
    assert!(was.starts_with(rig.data_dir().to_str().unwrap()));

    let moved = rig.dir.path().join("elsewhere");
    klingd::disk::rename_no_clobber(&rig.data_dir(), &moved).unwrap();
    let rig = rig.with("KLINGD_DATA_DIR", moved.to_str().unwrap());
    rig.run(&["run", "--until-idle"]).is(0).says("the data directory was moved");
    assert_eq!(paid(&sandbox), 2);
    for id in [done, in_flight] {
        let job = listed(&rig, id);
        let path = Path::new(job["outputs"][0]["path"].as_str().unwrap());
        assert!(path.starts_with(&moved) && path.is_file(), "{job}");
    }
    assert!(!rig.data_dir().exists(), "nothing is made again at the former place");
}
