//! What polling learns and what it may ask: renders are remembered once and bounded, an older database is seeded, a
//! restart with thousands of open tasks keeps to the pace, and no task is asked about twice at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "../benches/poll/optimum.rs"]
mod optimum;
#[path = "../benches/poll/world.rs"]
#[expect(dead_code, reason = "the bench uses all of it")]
mod world;

use std::{collections::HashSet, fs, time::Duration};

use common::{Rig, at, is_poll, ms, provider, seen};
use klingd::{
    daemon,
    domain::{JobType, RenderKind, RenderTime, plan::retry::RetryPlan, state::Label},
    provider::Api,
    sandbox::Options,
    store::{Access, Store},
};
use optimum::Frontier;
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use world::{Draws, Lognormal, Looks, kind, klingd, mean};

/// What the rig's jobs are.
const KIND: RenderKind = RenderKind { job_type: JobType::StdTextToVideo, duration_s: Some(3) };

/// A second writer, for what no command does.
async fn sql(rig: &Rig) -> SqliteConnection {
    SqliteConnectOptions::new().filename(rig.config.database()).connect().await.unwrap()
}

async fn remembered(rig: &Rig) -> Vec<RenderTime> {
    rig.store.render_times(KIND).await.unwrap()
}

#[tokio::test]
async fn a_render_is_remembered_with_the_looks_around_its_end() {
    let rig = Rig::new("status:word=IN_PROGRESS@1-2").await;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    let [run] = remembered(&rig).await[..] else { panic!("one run") };
    let submitted = rig.job(id).await.submitted_at.unwrap();
    let polls = rig.polls();
    let [_, before, done] = &polls[..] else { panic!("three looks: {polls:?}") };
    // A look is dated when its answer is there.
    for (kept, look) in [(run.after, before), (run.by, done)] {
        let asked = at(look).since(submitted);
        assert!(kept >= asked && kept <= asked + ms(500), "{kept:?} for a look at {asked:?}");
    }
    assert!(run.after < run.by);
    rig.check().await;
}

#[tokio::test]
async fn a_task_followed_again_teaches_nothing_twice() {
    let rig = Rig::new("video:500@*").await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, common::is_fetch) == 1).await;
    let once = remembered(&rig).await;
    assert_eq!(once.len(), 1);
    rig.store.cancel(id, true, common::now()).await.unwrap();
    rig.store.retry(id, RetryPlan::Follow, common::now()).await.unwrap();
    let (polls, fetches) = (rig.polls().len(), rig.fetches().len());
    rig.run_until(|model| seen(model, is_poll) > polls && seen(model, common::is_fetch) > fetches).await;
    assert_eq!((rig.label(id).await, remembered(&rig).await), (Label::Downloading, once));
}

#[tokio::test]
async fn only_the_newest_of_a_kind_are_kept() {
    let rig = Rig::new("").await;
    let mut sql = sql(&rig).await;
    for duration in [3, 5] {
        sqlx::query(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100)
             INSERT INTO render_times (type, duration, after_ms, by_ms, at)
             SELECT 'std-text-to-video', ?, 100000 + n, 110000 + n, n FROM n",
        )
        .bind(duration)
        .execute(&mut sql)
        .await
        .unwrap();
    }
    rig.enqueue("a fox").await;
    rig.run().await;
    let kept = remembered(&rig).await;
    assert_eq!((kept.len(), kept[0].after), (64, ms(100_038)), "63 of the old ones, and the new one");
    assert!(kept[63].by < ms(60_000));
    let others = rig.store.render_times(RenderKind { duration_s: Some(5), ..KIND }).await.unwrap();
    assert_eq!(others.len(), 100);
    rig.check().await;
}

#[tokio::test]
async fn an_older_database_is_upgraded_and_tells_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, first) = (dir.path().join("klingd.db"), dir.path().join("first"));
    fs::create_dir(&first).unwrap();
    fs::copy("migrations/0001_jobs.sql", first.join("0001_jobs.sql")).unwrap();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut sql = options.connect().await.unwrap();
    let first = sqlx::migrate::Migrator::new(first).await.unwrap();
    first.run_direct(None, &mut sql, false).await.unwrap();
    let old = include_str!("poll_schedule/older.sql");
    sqlx::raw_sql(old).execute(&mut sql).await.unwrap();
    drop(sql);

    let (store, writer) = Store::open(&path, Access::Migrate).await.unwrap();
    let five = RenderKind { duration_s: Some(5), ..KIND };
    let s = Duration::from_secs;
    let runs = store.render_times(five).await.unwrap();
    assert_eq!(runs, [RenderTime { after: s(79), by: s(90) }, RenderTime { after: s(160), by: s(180) }]);
    let edit = RenderKind { job_type: JobType::O3ProVideoEdit, duration_s: None };
    assert_eq!(store.render_times(edit).await.unwrap().len(), 1);
    assert_eq!(store.render_times(KIND).await.unwrap(), [], "paid twice: nobody knows which task it was");
    drop((store, writer));
}

/// Makes `n` tasks that were submitted an hour ago and are due since, the first one longest.
async fn open_tasks(rig: &Rig, n: u32) {
    rig.enqueue("a fox").await;
    let made = rig.config.api.base_url.as_str().trim_end_matches('/').to_owned();
    let key = rig.key.fingerprint();
    let columns = "name, output, batch_id, tags, priority, take, type, request, estimate, created_at, source";
    let now = common::now().as_millis();
    // Static but for the list of columns that stay as they are.
    let text = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {n})
         INSERT INTO jobs (version, state, data, lane, needs_person, in_flight, due_at, task_id, key, submitted_at, base_url,
            key_fingerprint, {columns})
         SELECT 1, 'generating', json_object('state', 'generating', 'task', 'n75t' || n, 'watch', json_object('watch', 'running')),
            'poll', 0, 1, {now} - 3000000 + n, 'n75t' || n, 'k' || n, {now} - 3600000, '{made}', '{key}', {columns}
         FROM jobs, n WHERE jobs.id = 1"
    );
    let mut sql = sql(rig).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut sql).await.unwrap();
    sqlx::raw_sql("UPDATE jobs SET state = 'cancelled', lane = NULL, due_at = NULL, finished_at = 1, data = '{\"state\":\"cancelled\",\"task\":null}' WHERE id = 1")
        .execute(&mut sql)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_restart_with_thousands_of_open_tasks_keeps_to_the_pace_and_the_order() {
    let mut rig = Rig::new("").await;
    let per_second = 200.0;
    rig.config.poll.max_per_second = per_second;
    (rig.config.poll.first, rig.config.poll.every) = (None, None);
    rig.config.poll.slowest = Duration::from_secs(300);
    open_tasks(&rig, 3_000).await;
    rig.run_until(|model| seen(model, is_poll) >= 150).await;
    let polls = rig.polls();
    // A tenth of a second's worth at once, then the rate; calls are seen a little later than they left.
    let taken = at(&polls[149]).since(at(&polls[0])) + ms(50);
    assert!(per_second * (0.1 + taken.as_secs_f64()) >= 150.0, "150 in {taken:?}");
    let asked: Vec<u32> =
        polls.iter().map(|poll| poll.task_id.as_deref().unwrap()[4..].parse().unwrap()).collect();
    let different: HashSet<_> = asked.iter().collect();
    assert_eq!(different.len(), asked.len(), "none twice before all had a look");
    // Those in hand together are not seen in their order.
    for (n, task) in (1u32..).zip(&asked) {
        assert!(task.abs_diff(n) <= 32, "look {n} was at task {task}: the longest due comes first");
    }
}

#[tokio::test]
async fn no_task_is_asked_about_twice_at_once() {
    let latency = ms(60);
    let rig = Rig::with(Options { latency, ..provider() }).await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| model.charges().len() == 1).await;
    let before = rig.polls().len();
    let (task, base) =
        (rig.task(id).await, rig.config.api.base_url.as_str().trim_end_matches('/').to_owned());
    let api = Api::new(&daemon::api_settings(&rig.config, &rig.key)).unwrap();
    tokio::join!(api.status(&base, &task), api.status(&base, &task), api.status(&base, &task));
    let polls = &rig.polls()[before..];
    assert_eq!(polls.len(), 3);
    for two in polls.windows(2) {
        let pause = at(&two[1]).since(at(&two[0]));
        assert!(pause >= latency - ms(5), "{pause:?} after a call that takes {latency:?}");
    }
}

// The frontier: a slice of `benches/poll`, with the same goals.

#[test]
fn twenty_runs_teach_a_schedule_near_the_optimum() {
    let of = Lognormal { median: 90.0, sigma: 0.4 };
    let frontier = Frontier::of(&[of], 2.0);
    let std = kind(JobType::StdTextToVideo);
    let draws = &mut Draws(7);
    let learned = mean(of, (40, 100), draws, |draws| klingd(std, of, 20, draws));
    let over = learned.lag / frontier.lag(learned.polls).unwrap();
    assert!(over <= 1.1, "seed 7: {over} of the frontier's lag with {} looks", learned.polls);

    let fixed = mean(of, (1, 4_000), draws, |_| Looks::Fixed(10.0));
    let none = mean(of, (1, 4_000), draws, |draws| klingd(std, of, 0, draws));
    let (polls, lag) = (none.polls / fixed.polls, none.lag / fixed.lag);
    assert!(polls <= 0.5 && lag <= 1.5, "seed 7, without history: {polls} of the looks, {lag} of the lag");

    let slow = Lognormal { median: 180.0, ..of };
    let slower = mean(slow, (40, 100), draws, |draws| klingd(std, of, 20, draws));
    assert!(
        slower.lag <= 6.5 && slower.polls <= 16.0,
        "seed 7, twice as slow: {} s, {}",
        slower.lag,
        slower.polls
    );
}
