//! Hooks through the whole daemon: each event is told once it is true, again when it was not heard, and never at a job's
//! cost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::PathBuf, time::Duration};

use common::{PRICE, Rig, job, now, prices};
use klingd::{
    clock::Clock,
    config::Hook,
    daemon::{self, Ended, Options},
    domain::{HoldName, hook::HookEvent, state::Label},
    store::{World, enqueue::NewBatch},
};
use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};
use tokio_util::sync::CancellationToken;

/// A hook that waits for these, written for a shell that `$TOLD` names the file of the events.
fn hook(rig: &Rig, on: &[HookEvent], script: &str) -> Hook {
    let script = format!("TOLD='{}'; {script}", told_in(rig).display());
    Hook {
        name: "test".to_owned(),
        on: on.to_vec(),
        program: "/bin/sh".to_owned(),
        arguments: vec!["-c".to_owned(), script],
        timeout: Duration::from_secs(60),
    }
}

const WRITE_DOWN: &str = "cat >> \"$TOLD\"";

fn told_in(rig: &Rig) -> PathBuf {
    rig.config.data_dir.join("told")
}

/// What was written down, in order.
fn told(rig: &Rig) -> Vec<Value> {
    let text = fs::read_to_string(told_in(rig)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The words of what was told, with the job where there is one.
fn words(rig: &Rig) -> Vec<(String, Option<i64>)> {
    let word = |event: &Value| (event["event"].as_str().unwrap().to_owned(), event["job"]["id"].as_i64());
    told(rig).iter().map(word).collect()
}

#[tokio::test]
async fn an_end_is_told_with_the_job_and_its_batch() {
    let mut rig = Rig::new("task:fail=No~hen").await;
    rig.config.hooks = vec![hook(&rig, &HookEvent::ALL, WRITE_DOWN)];
    rig.config.submit.workers = 1;
    let jobs = vec![job("a fox"), job("a hen")];
    let batch = NewBatch { name: "farm".into(), source: "test".into(), max_credits: None, jobs };
    rig.store.enqueue(batch, now()).await.unwrap();
    rig.run().await;
    rig.all_fired();
    let mut events = words(&rig);
    let last = events.pop();
    events.sort();
    assert_eq!(events, [("job.done".to_owned(), Some(1)), ("job.failed".to_owned(), Some(2))]);
    assert_eq!(last, Some(("batch.done".to_owned(), None)), "after the end that completes it");
    let batch = &told(&rig)[2];
    assert_eq!(batch["batch"]["name"], "farm");
    assert_eq!((&batch["batch"]["done"], &batch["batch"]["failed"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(batch["sandbox"], true, "nobody is to be woken by a simulated event");
    assert_eq!(told(&rig)[0]["try"], 1);
    rig.check().await;
}

#[tokio::test]
async fn a_doubt_and_a_hold_are_told_when_they_are_set() {
    let mut rig = Rig::new("generate:close-after").await;
    rig.config.hooks = vec![hook(&rig, &[HookEvent::JobInDoubt, HookEvent::HoldSet], WRITE_DOWN)];
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    assert_eq!(words(&rig), [("job.in_doubt".to_owned(), Some(id.0))]);
    rig.hold(HoldName::Paused).await;
    rig.hold(HoldName::Paused).await;
    rig.run().await;
    assert_eq!(words(&rig)[1..], [("hold.set".to_owned(), None)], "one that stands is not set again");
    assert_eq!(told(&rig)[1]["hold"]["name"], "paused");
}

#[tokio::test]
async fn a_budget_that_stops_the_queue_is_told_once() {
    let mut rig = Rig::new("").await;
    rig.config.hooks = vec![hook(&rig, &[HookEvent::BudgetStop], WRITE_DOWN)];
    rig.config.budget.total = Some(prices(1));
    for prompt in ["a fox", "a hen", "a cow"] {
        rig.enqueue(prompt).await;
    }
    rig.run().await;
    rig.run().await;
    assert_eq!(words(&rig), [("budget.stop".to_owned(), None)]);
    let stop = &told(&rig)[0]["budget"];
    assert_eq!((&stop["cap"], &stop["spent_credits"]), (&Value::from("total"), &Value::from(PRICE)));
}

/// The job is done, whatever its hook does; the hook is told again, by the same number.
#[tokio::test]
async fn a_hook_that_fails_is_told_again_and_costs_the_job_nothing() {
    let mut rig = Rig::new("").await;
    let once = "test -e \"$TOLD.failed\" && cat >> \"$TOLD\" || { touch \"$TOLD.failed\"; exit 1; }";
    rig.config.hooks = vec![hook(&rig, &[HookEvent::JobDone], once)];
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    assert_eq!(rig.label(id).await, Label::Done);
    assert!(told(&rig).is_empty());
    let later = now() + Duration::from_secs(3600);
    let call = rig.store.next_hook_call("test", later).await.unwrap().unwrap();
    assert_eq!(call.failures, 1);
    assert!(rig.store.next_hook_call("test", now()).await.unwrap().is_none(), "not at once");
    rig.store.put_off_hook_call(call.id, now()).await.unwrap();
    let stop = CancellationToken::new();
    let wait = async {
        while rig.store.next_hook_call("test", later).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    assert_eq!(tokio::join!(rig.daemon(false, stop.clone()), wait).0, Ended::Stopped);
    let event = &told(&rig)[0];
    assert_eq!((&event["id"], &event["try"]), (&Value::from(call.id), &Value::from(3)));
}

/// Killed in the middle of a call, or stopped: the event is told at the next start.
#[tokio::test]
async fn what_a_stopped_daemon_was_telling_is_told_by_the_next_one() {
    let mut rig = Rig::new("").await;
    rig.config.hooks = vec![hook(&rig, &[HookEvent::JobDone], "touch \"$TOLD.began\"; sleep 1000")];
    rig.enqueue("a fox").await;
    let stop = CancellationToken::new();
    let wait = async {
        while !told_in(&rig).with_extension("began").exists() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    assert_eq!(tokio::join!(rig.daemon(false, stop.clone()), wait).0, Ended::Stopped);
    rig.config.hooks = vec![hook(&rig, &[HookEvent::JobDone], WRITE_DOWN)];
    rig.run().await;
    assert_eq!(words(&rig).len(), 1);
    assert_eq!(told(&rig)[0]["try"], 1, "a stop is no failure");
}

#[tokio::test]
async fn nobody_listens_and_nothing_is_kept() {
    let mut rig = Rig::new("").await;
    rig.config.hooks = vec![hook(&rig, &[HookEvent::JobFailed], WRITE_DOWN)];
    rig.enqueue("a fox").await;
    rig.run().await;
    assert!(told(&rig).is_empty());
    let later = now() + Duration::from_secs(3600);
    assert_eq!(rig.store.next_hook_call("test", later).await.unwrap(), None);
}

/// A restored backup may be older than its hooks: its hold is told all the same.
#[tokio::test]
async fn the_hold_of_a_copy_is_told_to_hooks_that_are_new() {
    let mut rig = Rig::new("").await;
    rig.config.hooks = vec![hook(&rig, &[HookEvent::HoldSet], WRITE_DOWN)];
    sql(&rig, r#"INSERT INTO meta (name, value) VALUES ('copy', '{"made_at":null,"what":"a backup"}')"#)
        .await;
    let options = Options { until_idle: true, world: World::Real, describe: |_, _| Value::Null };
    daemon::run(&rig.config, &rig.key, options, Clock, CancellationToken::new()).await.unwrap();
    assert_eq!(rig.held().await, [HoldName::Restored]);
    assert_eq!(words(&rig), [("hold.set".to_owned(), None)]);
    assert_eq!(told(&rig)[0]["hold"]["name"], "restored");
}

/// The program has run, and that can't be recorded: klingd goes on, and does not run it again and again meanwhile.
#[tokio::test]
async fn a_full_disk_is_no_reason_to_stop_or_to_tell_again_and_again() {
    let mut rig = Rig::new("").await;
    rig.config.hooks = vec![hook(&rig, &[HookEvent::JobDone], WRITE_DOWN)];
    // SQLite says "full" of a table without numbers left, too.
    sql(
        &rig,
        "CREATE TABLE full (id INTEGER PRIMARY KEY AUTOINCREMENT);
         INSERT INTO full VALUES (9223372036854775807);
         CREATE TRIGGER full_disk BEFORE DELETE ON hook_calls BEGIN INSERT INTO full (id) VALUES (NULL); END;",
    )
    .await;
    rig.enqueue("a fox").await;
    let stop = CancellationToken::new();
    let beside = async {
        while told(&rig).is_empty() {
            tokio::task::yield_now().await;
        }
        let second = rig.enqueue("a hen").await;
        while rig.label(second).await != Label::Done {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    assert_eq!(tokio::join!(rig.daemon(false, stop.clone()), beside).0, Ended::Stopped);
    assert_eq!(words(&rig).len(), 1);
    sql(&rig, "DROP TRIGGER full_disk").await;
    rig.run().await;
    let done = |id| ("job.done".to_owned(), Some(id));
    assert_eq!(words(&rig), [done(1), done(1), done(2)], "at least once, and in order");
}

/// On a full disk klingd starts, as long as there is nothing to write.
#[tokio::test]
async fn the_same_hooks_are_not_written_again() {
    let mut rig = Rig::new("").await;
    rig.config.hooks = vec![hook(&rig, &HookEvent::ALL, WRITE_DOWN)];
    rig.run().await;
    let mut other = SqliteConnection::connect(rig.config.database().to_str().unwrap()).await.unwrap();
    let mut changes =
        async || -> i64 { sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut other).await.unwrap() };
    let before = changes().await;
    rig.store.keep_hooks(vec![("test".to_owned(), HookEvent::ALL.to_vec())]).await.unwrap();
    assert_eq!(changes().await, before);
    rig.store.keep_hooks(vec![("test".to_owned(), vec![HookEvent::JobDone])]).await.unwrap();
    assert_ne!(changes().await, before);
}

async fn sql(rig: &Rig, statements: &'static str) {
    let mut database = SqliteConnection::connect(rig.config.database().to_str().unwrap()).await.unwrap();
    sqlx::raw_sql(statements).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}
