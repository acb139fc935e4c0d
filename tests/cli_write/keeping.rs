//! `backup`, `prune` and `doctor`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use klingd::{clock::Clock, domain::AttemptNo, sandbox::AcceptKeys, store::person::Resolution};
use serde_json::{Value, json};

use crate::rig::{Daemon, KEY, Rig, TWO_JOBS, provider};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_the_whole_queue_whoever_uses_it() {
    let (_sandbox, rig) = provider("generate:402").await;
    rig.run(&["backup", "none.db"]).is(2).says("there is no queue in");
    let file = rig.file("two.toml", TWO_JOBS);
    rig.run(&["enqueue", &file]).is(0);
    let said = rig.run(&["backup", "still.db", "--json"]).is(0);
    assert_eq!(said.json()[0]["path"], json!("still.db"));
    let copy = rig.dir.path().join("still.db");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    said.says("videos").says("inbox").says("remove the -wal and -shm");

    let daemon = Daemon::start(&rig).await;
    rig.run(&["backup", "busy.db"]).is(0);
    let before = fs::read(rig.dir.path().join("busy.db")).unwrap();
    rig.run(&["backup", "busy.db"]).is(2).says("nothing is overwritten");
    assert_eq!(fs::read(rig.dir.path().join("busy.db")).unwrap(), before);
    daemon.end().await;
    rig.run(&["backup", "gone/copy.db"]).is(1).says("gone/copy.db");
    let left: Vec<_> =
        fs::read_dir(rig.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");

    for copy in ["still.db", "busy.db"] {
        let there = Rig::new();
        fs::create_dir(there.data_dir()).unwrap();
        fs::copy(rig.dir.path().join(copy), there.data_dir().join("klingd.db")).unwrap();
        assert_eq!(there.jobs().await.len(), 2, "{copy}");
        assert_eq!(there.store().await.check().await.unwrap(), [""; 0]);
    }
}

/// SQLite would play the log of one database into the other.
#[test]
fn a_backup_beside_the_log_of_another_database_is_refused() {
    let rig = Rig::new().with("KLINGD_API__KEY", KEY);
    rig.enqueue("a fox");
    rig.run(&["backup", "copy.db"]).is(0);
    fs::copy(rig.dir.path().join("copy.db"), rig.data_dir().join("klingd.db")).unwrap();
    rig.file("data/klingd.db-wal", "what a killed daemon left");
    rig.run(&["run"]).is(78).says("klingd.db-wal belongs to the database that was here before");
    rig.run(&["list"]).is(1).says("klingd.db-wal belongs to");
    fs::remove_file(rig.data_dir().join("klingd.db-wal")).unwrap();
    assert_eq!(rig.run(&["list", "--json"]).is(0).json().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_forgets_what_is_over_and_keeps_what_is_open() {
    let (_sandbox, rig) = provider("").await;
    let file = rig.file("two.toml", TWO_JOBS);
    rig.run(&["enqueue", &file]).is(0);
    let daemon = Daemon::start(&rig).await;
    rig.run(&["wait", "--all", "--timeout", "60s"]).is(0);
    daemon.end().await;
    let dropped = rig.enqueue("dropped");
    rig.run(&["cancel", &dropped.to_string()]).is(0);
    let store = rig.store().await;
    let now = Clock.now();
    // One that went on after a doubt and was given up: an attempt of it may still be charged.
    let doubtful = rig.enqueue("doubtful");
    let attempt = rig.on_the_wire(doubtful).await;
    store.orphan(store.job(doubtful).await.unwrap(), now).await.unwrap();
    store.resolve(doubtful, attempt, Resolution::Resubmit, None, now).await.unwrap();
    rig.run(&["cancel", &doubtful.to_string()]).is(0);
    let in_doubt = rig.enqueue("in doubt");
    rig.on_the_wire(in_doubt).await;
    store.orphan(store.job(in_doubt).await.unwrap(), now).await.unwrap();

    let spend = || rig.run(&["spend", "--json"]).is(0).out;
    let (spent, all) = (spend(), rig.jobs().await.len());
    let attempts = store.attempts(klingd::domain::JobId(1)).await.unwrap();
    assert_eq!(rig.run(&["prune", "--json"]).is(0).json()[0]["pruned"], json!(0), "nothing is that old");
    rig.run(&["prune", "--older-than", "0s"]).is(2).says("Forget 3 jobs").says("--yes");
    let dry = rig.run(&["prune", "--older-than", "0s", "--dry-run", "--json"]).is(0);
    assert_eq!((&dry.json()[0]["pruned"], &dry.json()[0]["kept"]), (&json!(3), &json!(1)), "{dry:?}");
    assert_eq!(rig.jobs().await.len(), all);

    let told = rig.run(&["prune", "--older-than", "0s", "-y", "--json"]).is(0);
    assert_eq!(told.json()[0]["pruned"], json!(3), "{told:?}");
    told.says("1 job stays");
    let left: Vec<_> = rig.jobs().await.iter().map(|job| job.id).collect();
    assert_eq!(left, [doubtful, in_doubt]);
    assert_eq!(spend(), spent, "what was paid was paid");
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    assert_eq!(
        fs::read_dir(rig.data_dir().join("videos")).unwrap().filter(is_folder).count(),
        1,
        "files stay"
    );
    // The key is there, and so is the task: neither is paid for or adopted again.
    let again = rig.run(&["enqueue", &file]).is(0);
    assert_eq!(again.out.matches("there already: pruned").count(), 2, "{again:?}");
    let json = rig.run(&["enqueue", &file, "--json"]).is(0).json();
    assert!(json.iter().all(|job| job["existing"] == json!(true)), "{json:?}");
    let task = attempts[0].task_id.clone().unwrap();
    let id = in_doubt.to_string();
    let said = rig.run(&["resolve", &id, "--task-id", &task, "--force"]);
    assert!(said.code != 0 && said.err.contains("already belongs to job 1"), "{said:?}");
    rig.run(&["show", "1"]).is(7);
    assert_eq!(store.attempts(doubtful).await.unwrap()[0].n, AttemptNo(1), "its answer is kept");
}

fn is_folder(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().path().is_dir()
}

fn check<'a>(report: &'a [Value], name: &str) -> &'a Value {
    report.iter().find(|check| check["check"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_whether_klingd_can_work() {
    let (_sandbox, rig) = provider("").await;
    let report = rig.run(&["doctor", "--json"]).is(1).json();
    assert!(report[0]["klingd"].is_string() && report[0]["sqlite"].is_string(), "{}", report[0]);
    assert_eq!(check(&report, "key")["verdict"], json!("problem"));
    assert!(!rig.data_dir().exists(), "it changes nothing");

    let rig = rig.with("KLINGD_API__KEY", KEY).with("KLINGD_OUTPUT__MIN_FREE", "0 B");
    rig.enqueue("a secret fox");
    let daemon = Daemon::start(&rig).await;
    rig.run(&["wait", "--all", "--timeout", "60s"]).is(0);
    let said = rig.run(&["doctor", "--online", "--json"]).is(0);
    assert!(!said.out.contains(KEY) && !said.out.contains("secret fox") && !said.err.contains(KEY));
    let report = said.json();
    for (name, verdict) in [("provider", "ok"), ("clock", "ok"), ("database", "ok"), ("daemon", "ok")] {
        assert_eq!(check(&report, name)["verdict"], json!(verdict), "{report:?}");
    }
    daemon.end().await;
    let report = rig.run(&["doctor", "--json"]).is(0).json();
    assert_eq!(check(&report, "daemon")["verdict"], json!("warning"));
    assert!(report.iter().all(|check| check["check"] != json!("provider")), "nobody asked for it");
    let nobody = rig.with("KLINGD_API__BASE_URL", "http://127.0.0.1:1");
    let report = nobody.run(&["doctor", "--online", "--json"]).is(1).json();
    assert!(check(&report, "provider")["found"].as_str().unwrap().contains("does not answer"), "{report:?}");
    let broken = nobody.with("KLINGD_SUBMIT__WORKERS", "many");
    let report = broken.run(&["doctor", "--json"]).is(1).json();
    assert_eq!((report.len(), &report[1]["check"]), (2, &json!("config")));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_for_a_key_that_is_accepted() {
    let (sandbox, rig) = provider("").await;
    sandbox.set_keys(AcceptKeys::Only(vec!["another".to_owned()]));
    let rig = rig.with("KLINGD_API__KEY", KEY);
    let report = rig.run(&["doctor", "--online", "--json"]).is(1).json();
    let found = check(&report, "provider")["found"].as_str().unwrap();
    assert!(found.contains("refuses the key (HTTP 401)"), "{found}");
}
